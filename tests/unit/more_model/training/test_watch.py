"""What a segment reports of itself: terms against their chance level, gradients by tower, entropy of attention."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch

from more_model.exchange import WATCHED
from more_model.model.config import ModelConfig
from more_model.model.loss import contrastive_terms
from more_model.model.more import More, build_more
from more_model.training.examples import Examples, make_batch
from more_model.training.loop import Segment, SegmentReport, batch_terms, build_optimiser, train_segment
from more_model.training.settings import TrainingSettings
from more_model.training.views import whole_views
from more_model.training.watch import StepWatch, chance_level, mean_entropy

Toy = Callable[..., Examples]


@pytest.fixture
def model(tiny_config: Callable[..., ModelConfig]) -> More:
    return build_more(tiny_config(dropkey={"schedule": "off"}), seed=1)


def test_chance_by_hand() -> None:
    rows = torch.tensor([0, 1, 2, 3])
    patients, apart = torch.arange(4), torch.arange(4)
    assert chance_level(rows, patients, apart) == pytest.approx(math.log(4))
    # Texts 0 and 1 are the same words: each has three candidates, the others four.
    same = torch.tensor([5, 5, 2, 3])
    assert chance_level(rows, patients, same) == pytest.approx((2 * math.log(3) + 2 * math.log(4)) / 4)
    # Only rows that have the modality count.
    assert chance_level(rows[1:], patients, same) == pytest.approx(math.log(3))
    # One patient with the same words throughout: nothing to choose from.
    assert chance_level(rows, torch.zeros(4, dtype=torch.int64), apart) == 0.0


@pytest.mark.parametrize("rows", [[], [2]])
def test_without_two_pairs_there_is_no_chance(rows: list[int]) -> None:
    index = torch.tensor(rows, dtype=torch.int64)
    assert chance_level(index, torch.arange(4), torch.arange(4)) is None


def test_equal_scores_cost_exactly_the_chance_level() -> None:
    generator = torch.Generator().manual_seed(2)
    patients = torch.randint(0, 6, (12,), generator=generator)
    words = torch.randint(0, 6, (12,), generator=generator)
    xray_rows, ecg_rows = torch.arange(12), torch.arange(1, 12, 2)
    one = torch.nn.functional.normalize(torch.ones(12, 5), dim=1)
    terms = contrastive_terms(
        one, one, one[:6], xray_rows=xray_rows, ecg_rows=ecg_rows, patients=patients, words=words,
        temperature=torch.tensor([0.1]),
    )  # fmt: skip
    assert float(terms.xray) == pytest.approx(chance_level(xray_rows, patients, words), rel=1e-6)
    assert float(terms.ecg) == pytest.approx(chance_level(ecg_rows, patients, words), rel=1e-6)


def test_gradients_by_tower(model: More, toy_examples: Toy, tokenizer: Any) -> None:
    model.ecg.requires_grad_(False)
    examples = toy_examples(8, partial=False)
    views = [whole_views(triplet, together=False) for triplet in examples.triplets]
    batch = make_batch(examples, range(8), views, tokenizer=tokenizer, max_tokens=64)
    watch = StepWatch(model)
    for _ in range(2):
        terms = batch_terms(model, batch, augment=False)
        model.zero_grad()
        terms.total.backward()  # type: ignore[no-untyped-call]
        watch.add(batch, terms)
    means = watch.means()
    squares = sum(float((p.grad**2).sum()) for p in model.xray.parameters() if p.grad is not None)
    assert means["gradient_xray"] == pytest.approx(math.sqrt(squares), rel=1e-5) and squares > 0
    assert means["gradient_text"] > 0
    assert means["gradient_ecg"] == 0.0
    assert means["loss_ecg"] == pytest.approx(float(terms.ecg.detach()), rel=1e-6)


def trained(model: More, examples: Examples, tokenizer: Any, **changes: Any) -> SegmentReport:
    settings = TrainingSettings(batch_size=8, threads=1, device="cpu").model_copy(update=changes)
    return train_segment(
        model, build_optimiser(model, settings), examples, settings, Segment(0, 1, 2),
        tokenizer=tokenizer, max_tokens=64, seed=0,
    )  # fmt: skip


def test_a_segment_reports_names_that_may_travel(model: More, toy_examples: Toy, tokenizer: Any) -> None:
    report = trained(model, toy_examples(16, partial=False), tokenizer)
    assert set(report.watched) == WATCHED
    # Every step has both terms here, so their means add up to the loss.
    assert report.watched["loss_xray"] + report.watched["loss_ecg"] == pytest.approx(report.loss, rel=1e-6)
    # Apart or joint, a batch of eight patients has at most sixteen texts and never more than eight pictures.
    assert 1.0 < report.watched["chance_xray"] <= math.log(8)


def test_a_site_without_a_modality_reports_no_term_of_it(model: More, toy_examples: Toy, tokenizer: Any) -> None:
    no_xray = toy_examples(12).where(lambda triplet: triplet.xray is None)
    report = trained(model, no_xray, tokenizer)
    assert not {"loss_xray", "chance_xray"} & set(report.watched)
    assert report.watched["gradient_xray"] == 0.0
    assert report.watched["loss_ecg"] > 0 and report.watched["gradient_ecg"] > 0


def test_gradients_are_those_before_clipping_and_without_the_proximal_pull(
    tiny_config: Callable[..., ModelConfig], toy_examples: Toy, tokenizer: Any
) -> None:
    def first_step(**changes: Any) -> dict[str, float]:
        fresh = build_more(tiny_config(dropkey={"schedule": "off"}), seed=1)
        return dict(
            trained(fresh, toy_examples(8), tokenizer, warmup_fraction=0.0, learning_rate=1e-12, **changes).watched
        )

    plain = first_step()
    assert first_step(max_gradient_norm=1e-3, proximal_mu=10.0) == pytest.approx(plain, rel=1e-4)


def test_entropy_of_attention() -> None:
    assert mean_entropy(torch.full((2, 3, 5, 5), 0.2)) == pytest.approx(1.0)
    assert mean_entropy(torch.eye(5).expand(2, 3, 5, 5)) == 0.0
    half = torch.tensor([[0.5, 0.5, 0.0, 0.0]]).expand(4, 4)
    assert mean_entropy(half) == pytest.approx(0.5)
    # A causal row i can look at i tokens; the first has no choice and does not count.
    causal = torch.tril(torch.ones(4, 4))
    assert mean_entropy(causal / causal.sum(dim=1, keepdim=True), causal=True) == pytest.approx(1.0)
    assert math.isnan(mean_entropy(torch.ones(1, 1)))
