"""The training loop: learns, repeats itself bit by bit, and stops where going on would be wrong."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from more_model.base import tensor_digest
from more_model.errors import RoundError
from more_model.model.config import ModelConfig
from more_model.model.lora import adapt
from more_model.model.more import More, build_more
from more_model.training.examples import Examples, make_batch
from more_model.training.loop import (
    Segment,
    SegmentReport,
    batch_terms,
    build_optimiser,
    learning_rate,
    train_segment,
)
from more_model.training.seeds import derived_seed
from more_model.training.settings import TrainingSettings
from more_model.training.views import whole_views

Toy = Callable[..., Examples]
Train = Callable[..., SegmentReport]
SETTINGS = TrainingSettings(batch_size=8, learning_rate=3e-3, threads=1, device="cpu")
ONE_EPOCH = Segment(0, 1, 1)


@pytest.fixture
def model(tiny_config: Callable[..., ModelConfig]) -> More:
    """Everything trains, as in a warm-up."""
    return build_more(tiny_config(), seed=1)


@pytest.fixture
def train(tokenizer: Any, toy_examples: Toy) -> Train:
    def run(
        model: More,
        settings: TrainingSettings = SETTINGS,
        examples: Examples | None = None,
        segment: Segment = ONE_EPOCH,
        seed: int = 0,
    ) -> SegmentReport:
        chosen = toy_examples(16) if examples is None else examples
        return train_segment(
            model, build_optimiser(model, settings), chosen, settings, segment,
            tokenizer=tokenizer, max_tokens=64, seed=seed,
        )  # fmt: skip

    return run


def weights(model: More) -> str:
    return tensor_digest(model.state_dict().items())


def test_learning_rate_rises_then_falls_along_a_cosine() -> None:
    settings = TrainingSettings(learning_rate=2.0, warmup_fraction=0.2, final_rate_fraction=0.1)
    expected = {0.0: 0.0, 0.1: 1.0, 0.2: 2.0, 0.6: 1.1, 1.0: 0.2}
    for progress, rate in expected.items():
        assert learning_rate(progress, settings) == pytest.approx(rate, abs=1e-9)
    falling = [learning_rate(progress, settings) for progress in np.linspace(0.2, 1, 30)]
    assert falling == sorted(falling, reverse=True)
    assert learning_rate(0.0, settings.model_copy(update={"warmup_fraction": 0.0})) == 2.0


def test_the_schedule_spans_all_segments(model: More, toy_examples: Toy, tokenizer: Any) -> None:
    settings = SETTINGS.model_copy(update={"warmup_fraction": 0.25})
    rates: list[float] = []
    progress: list[tuple[int, int]] = []
    for index in range(4):
        optimiser = build_optimiser(model, settings)

        def noted(done: int, steps: int, optimiser: torch.optim.Optimizer = optimiser) -> None:
            progress.append((done, steps))
            rates.append(float(optimiser.param_groups[0]["lr"]))

        train_segment(
            model, optimiser, toy_examples(16), settings, Segment(index, 4, 1),
            tokenizer=tokenizer, max_tokens=64, seed=0, on_step=noted,
        )  # fmt: skip
    assert progress == [(1, 2), (2, 2)] * 4
    assert rates == pytest.approx([learning_rate(step / 8, settings) for step in range(1, 9)])


def test_training_lowers_both_terms_on_patients_it_has_not_seen(
    model: More, train: Train, toy_examples: Toy, tokenizer: Any
) -> None:
    # Apart, all texts of one kind are the same words, so that no text has a twin among its negatives.
    settings = SETTINGS.model_copy(update={"learning_rate": 1e-3, "joint_probability": 0.0})
    others = toy_examples(8, partial=False, seed=9, site="south")
    views = [whole_views(triplet, together=False) for triplet in others.triplets]
    batch = make_batch(others, range(8), views, tokenizer=tokenizer, max_tokens=64)

    def losses() -> tuple[float, float]:
        with torch.inference_mode():
            terms = batch_terms(model.eval(), batch, augment=False)
        return terms.xray.item(), terms.ecg.item()

    before = losses()
    report = train(model, settings, toy_examples(32, partial=False), Segment(0, 1, 30))
    after = losses()
    # Chance is a little below ln 8: of each kind there are two, who are not each other's negatives.
    assert min(before) > 1.5
    assert max(after) < 0.75
    assert max(after) < report.loss < sum(before)


def test_report_counts_steps_pairs_and_triplets(model: More, train: Train, toy_examples: Toy) -> None:
    report = train(model, examples=toy_examples(16), segment=Segment(0, 1, 3))
    # Sixteen triplets: five lack the X-ray, five the ECG.
    assert (report.steps, report.triplets) == (6, 48)
    assert (report.xray_pairs, report.ecg_pairs) == (33, 33)


def test_same_seed_same_bits_and_another_seed_others(tiny_config: Callable[..., ModelConfig], train: Train) -> None:
    config = tiny_config(text={"dropout": 0.1}, lora={"dropout": 0.1})

    def trained(seed: int, global_seed: int) -> tuple[str, float]:
        torch.manual_seed(global_seed)
        np.random.seed(global_seed)
        fresh = build_more(config, seed=1)
        adapt(fresh, config, "fedit", 3)
        report = train(fresh, seed=seed)
        return weights(fresh), report.loss

    first = trained(5, 1)
    assert trained(5, 2) == first
    other = trained(6, 1)
    assert other[0] != first[0] and other[1] != first[1]


def test_the_seed_decides_the_order_too(tiny_config: Callable[..., ModelConfig], train: Train) -> None:
    """Nothing is drawn here but the order of the patients."""
    settings = SETTINGS.model_copy(update={"augment": False, "joint_probability": 1.0, "sentence_probability": 0.0})
    results = set()
    for seed in (0, 0, 1, 2):
        fresh = build_more(tiny_config(dropkey={"schedule": "off"}), seed=1)
        train(fresh, settings, seed=seed)
        results.add(weights(fresh))
    assert len(results) == 3


def test_global_state_is_left_as_it_was(model: More, train: Train, toy_examples: Toy) -> None:
    torch.manual_seed(4)
    state, threads = torch.random.get_rng_state(), torch.get_num_threads()
    numpy_state = np.random.get_state()[1].copy()  # type: ignore[index]
    train(model, SETTINGS.model_copy(update={"threads": threads + 1}), toy_examples(4))
    assert torch.equal(torch.random.get_rng_state(), state)
    assert torch.get_num_threads() == threads
    assert np.array_equal(np.random.get_state()[1], numpy_state)  # type: ignore[index]


def test_augmentation_acts(tiny_config: Callable[..., ModelConfig], train: Train) -> None:
    results = set()
    for augment in (True, False):
        fresh = build_more(tiny_config(), seed=1)
        train(fresh, SETTINGS.model_copy(update={"augment": augment}))
        results.add(weights(fresh))
    assert len(results) == 2


def test_fedprox_stays_nearer_to_the_start(tiny_config: Callable[..., ModelConfig], train: Train) -> None:
    def moved(mu: float) -> float:
        fresh = build_more(tiny_config(), seed=1)
        start = [parameter.detach().clone() for parameter in fresh.parameters()]
        settings = SETTINGS.model_copy(update={"proximal_mu": mu, "weight_decay": 0.0, "max_gradient_norm": 100.0})
        train(fresh, settings, segment=Segment(0, 1, 4))
        ends = zip(fresh.parameters(), start, strict=True)
        return math.sqrt(sum(float(((p.detach() - a) ** 2).sum()) for p, a in ends))

    distances = [moved(mu) for mu in (0.0, 1.0, 30.0)]
    assert distances[0] > distances[1] > distances[2]
    assert distances[2] < 0.8 * distances[0]


def test_fedprox_leaves_a_tower_that_saw_nothing_exactly_as_it_was(
    model: More, train: Train, toy_examples: Toy
) -> None:
    full = toy_examples(16, partial=False)
    ecg_only = replace(full, triplets=tuple(replace(t, xray=None, xray_report=None) for t in full.triplets))
    before = tensor_digest(model.xray.named_parameters())
    train(model, SETTINGS.model_copy(update={"proximal_mu": 0.1}), ecg_only, Segment(0, 1, 2))
    assert tensor_digest(model.xray.named_parameters()) == before


def test_weight_decay_on_matrices_only(tiny_config: Callable[..., ModelConfig]) -> None:
    config = tiny_config(temperature={"learned": True})
    model = build_more(config, seed=1)
    decayed = {id(p): group["weight_decay"] for group in build_optimiser(model, SETTINGS).param_groups
               for p in group["params"]}  # fmt: skip
    for name, parameter in model.named_parameters():
        assert decayed[id(parameter)] == (0.0 if parameter.ndim < 2 else SETTINGS.weight_decay), name


def test_gradients_are_clipped(model: More, train: Train, monkeypatch: pytest.MonkeyPatch) -> None:
    norms: list[float] = []
    original = torch.optim.AdamW.step

    def noted(self: torch.optim.AdamW, *given: Any, **named: Any) -> Any:
        gradients = [p.grad for group in self.param_groups for p in group["params"] if p.grad is not None]
        norms.append(math.sqrt(sum(float((g**2).sum()) for g in gradients)))
        return original(self, *given, **named)

    monkeypatch.setattr(torch.optim.AdamW, "step", noted)
    train(model, SETTINGS.model_copy(update={"max_gradient_norm": 0.01}))
    assert norms and max(norms) == pytest.approx(0.01, rel=1e-3)


def only(toy_examples: Toy, modality: str) -> Examples:
    """A site that has one modality."""
    return toy_examples(12).where(lambda triplet: getattr(triplet, modality) is None)


@pytest.mark.parametrize(("missing", "untouched"), [("xray", "xray."), ("ecg", "ecg.")])
def test_a_missing_modality_trains_the_others_alone(
    model: More, train: Train, toy_examples: Toy, missing: str, untouched: str
) -> None:
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    report = train(model, examples=only(toy_examples, missing))
    pairs = {"xray": report.xray_pairs, "ecg": report.ecg_pairs}
    assert pairs.pop(missing) == 0 and min(pairs.values()) > 0
    changed = {name for name, tensor in model.state_dict().items() if not torch.equal(tensor, before[name])}
    assert changed and not [name for name in changed if name.startswith(untouched)]
    assert [name for name in changed if name.startswith("text.")]


@pytest.fixture
def poisoned(toy_examples: Toy) -> Examples:
    examples = toy_examples(8, partial=False)
    examples.sources[0].ecgs[3, 0, :] = np.nan
    return examples


def test_a_loss_that_is_not_finite_is_an_error(model: More, train: Train, poisoned: Examples) -> None:
    with pytest.raises(RoundError, match="the loss is not finite"):
        train(model, examples=poisoned)


def test_nothing_to_contrast_is_an_error(model: More, train: Train, toy_examples: Toy) -> None:
    examples = toy_examples(8, partial=False)
    silent = [replace(triplet, xray_report=None, ecg_report=None) for triplet in examples.triplets]
    one_patient = [replace(triplet, patient_id="a") for triplet in examples.triplets]
    for triplets in ([], examples.triplets[:1], silent, one_patient):
        with pytest.raises(RoundError, match="there are not two studies"):
            train(model, examples=Examples.of(triplets, examples.sources[0]))


def test_bf16_trains(model: More, train: Train) -> None:
    report = train(model, SETTINGS.model_copy(update={"precision": "bf16"}))
    assert math.isfinite(report.loss)
    assert {parameter.dtype for parameter in model.parameters()} == {torch.float32}


def test_derived_seeds() -> None:
    assert derived_seed(1, "order", 2) == derived_seed(1, "order", 2)
    parts: list[tuple[int | str, ...]] = [
        (1, "order", 2),
        (1, "order", 3),
        (12, "order"),
        (1, "2order"),
        ("1", 23),
        (12, 3),
    ]
    assert len({derived_seed(*part) for part in parts}) == len(parts)
    assert all(0 <= derived_seed(*part) < 2**63 for part in parts)
