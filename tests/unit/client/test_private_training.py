"""Private training with the real towers: what a patient can do to the model, and what is charged before."""

from __future__ import annotations

import itertools
import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from client.private_bank import PublicBank, draw_bank, embed_bank, embedded, tensors_of_bank
from client.private_loss import UnitModel, decoupled, gradients_in_passes, in_group
from client.private_units import rows_of_patients, rows_of_units, unit_tensors
from more_model.data.study import Modality
from more_model.errors import ConfigError, RoundError
from more_model.training.embed import embed
from more_model.training.loop import Segment, train_segment
from more_model.training.settings import TrainingSettings
from more_model.training.threads import using_threads
from privacy.private_step import private_parameters, private_step
from privacy.settings import PrivacySettings, Schedule, schedule
from privacy.unit_gradients import ClippedSum, clipped_sum, unit_of

KEY = b"a key of one site, for tests only"
#: Nothing is drawn of the texts, so that two trainings can be compared.
PLAIN = TrainingSettings(joint_probability=1.0, sentence_probability=0.0, threads=1)


def private(mode: str = "patient-decoupled", **more: Any) -> PrivacySettings:
    usual = {"noise_multiplier": 1.0, "delta": 1e-3, "sampling_rate": 1.0, "clip_norm": 0.5}
    return PrivacySettings(mode=mode, **{**usual, **more})


def trained_vector(model: Any) -> torch.Tensor:
    return torch.cat([p.detach().flatten().double() for p in model.parameters() if p.requires_grad])


@pytest.fixture
def released(monkeypatch: pytest.MonkeyPatch) -> list[torch.Tensor]:
    """What each step releases, before it is carried on: the private sum over patients, all tensors in one vector."""
    import client.private_training

    sums: list[torch.Tensor] = []

    def noted(*arguments: Any, expected_units: float, **keywords: Any) -> Any:
        private = private_step(*arguments, expected_units=expected_units, **keywords)
        sums.append(torch.cat([t.flatten().double() for t in private.gradient.values()]) * expected_units)
        return private

    monkeypatch.setattr(client.private_training, "private_step", noted)
    return sums


def matched_margin(model: Any, examples: Any, tokenizer: Any) -> float:
    """How much nearer words are to the pictures of their own finding than to those of the others."""
    found = embed(model, examples, tokenizer=tokenizer, max_tokens=64, threads=1)
    similar = found.text @ found.xray.T
    own = np.equal.outer(found.words, found.words)
    return float(similar[own].mean() - similar[~own].mean())


@pytest.fixture
def warm_model(small_model: Any, small_tokenizer: Any, bank: PublicBank) -> Any:
    """A model that has seen the public bank for a moment, as every model should before private steps."""
    model = small_model()
    optimiser = torch.optim.Adam([parameter for parameter in model.parameters() if parameter.requires_grad])
    settings = PLAIN.model_copy(update={"batch_size": 8, "augment": False, "learning_rate": 1e-2})
    train_segment(
        model, optimiser, bank.examples, settings, Segment(0, 1, 12), tokenizer=small_tokenizer, max_tokens=64, seed=1
    )
    return model


@pytest.mark.parametrize("mode", ["patient-decoupled", "patient-groups"])
def test_learns_where_there_is_hardly_noise(
    train: Any, warm_model: Any, toy_site: Any, small_tokenizer: Any, mode: str
) -> None:
    held_out = toy_site([1] * 12, site="south")
    before = matched_margin(warm_model, held_out, small_tokenizer)
    _, report = train(
        toy_site([1] * 8),
        private(mode),
        model=warm_model,
        steps=12,
        optimiser=lambda parameters: torch.optim.Adam(parameters, lr=1e-2),
    )
    assert matched_margin(warm_model, held_out, small_tokenizer) > before + 0.2
    assert report.steps == 12
    assert not warm_model.training


def test_a_step_follows_the_gradient_through_the_patients_and_through_the_bank(
    train: Any, small_model: Any, small_tokenizer: Any, toy_site: Any, bank: PublicBank
) -> None:
    examples, start = toy_site([1] * 3), trained_vector(small_model())
    # The norm is never reached, and what noise is left is a thousandth of the step.
    moved, _ = train(examples, private(clip_norm=100.0), planned=Schedule(3, 1.0, 3.0), noise_multiplier=1e-8)
    model = small_model().eval()
    words: dict[str, Any] = {"tokenizer": small_tokenizer, "max_tokens": 64}
    drawn = draw_bank(bank, PLAIN, device=torch.device("cpu"), **words)
    loss = decoupled(UnitModel(model), embedded(model, drawn))
    unit = unit_tensors(
        examples, [[0], [1], [2]], PLAIN, b"any key, nothing is drawn", device=torch.device("cpu"), **words
    )
    own = {name: parameter for name, parameter in UnitModel(model).named_parameters() if parameter.requires_grad}
    in_graph = {**own, **tensors_of_bank(embedded(model, drawn))}
    total = sum(loss(in_graph, unit_of(unit, number)) for number in range(3)) / 3
    assert isinstance(total, torch.Tensor)
    expected = torch.cat([g.flatten().double() for g in torch.autograd.grad(total, list(own.values()))])
    step = start - trained_vector(moved)
    assert float((step - expected).norm()) < 0.01 * float(expected.norm())
    frozen = {**own, **{name: tensor.detach() for name, tensor in tensors_of_bank(embedded(model, drawn)).items()}}
    alone = sum(loss(frozen, unit_of(unit, number)) for number in range(3)) / 3
    assert isinstance(alone, torch.Tensor)
    without = torch.cat([g.flatten().double() for g in torch.autograd.grad(alone, list(own.values()))])
    assert float((without - expected).norm()) > 0.1 * float(expected.norm())


def test_a_patient_with_five_studies_moves_the_sum_by_at_most_c(train: Any, toy_site: Any, released: Any) -> None:
    settings = private(clip_norm=0.05, max_studies_per_patient=5)
    _, report = train(toy_site([5]), settings, planned=Schedule(1, 1.0, 1.0))
    assert float(released[0].norm()) == pytest.approx(0.05, rel=1e-3)
    assert (report.counts.units, report.counts.clipped) == (1, 1)


@pytest.mark.parametrize("mode", ["patient-decoupled", "patient-groups", "patient-shuffled"])
def test_one_patient_less_moves_the_sum_by_no_more_than_declared(
    train: Any, toy_site: Any, released: list[torch.Tensor], mode: str
) -> None:
    everyone = {"sampling_rate": None, "expected_patients": 8} if mode == "patient-shuffled" else {}
    settings = private(mode, clip_norm=0.05, **everyone)
    planned = schedule(settings, 8)
    train(toy_site([1] * 8), settings, planned=planned)
    for left_out in (0, 5):
        train(toy_site({patient: 1 for patient in range(8) if patient != left_out}), settings, planned=planned)
        moved = float((released[0] - released[-1]).norm())
        if mode == "patient-decoupled":
            assert moved == pytest.approx(0.05, rel=1e-3)  # this patient's gradient, clipped, is all that is missing
        else:
            assert 0.1 * 0.05 < moved <= 2 * 0.05 * (1 + 1e-3)


def test_what_a_site_has_does_not_decide_which_public_records_it_is_contrasted_with(
    train: Any, small_model: Any, toy_site: Any, bank: PublicBank, monkeypatch: pytest.MonkeyPatch
) -> None:
    import client.private_contrast

    asked: list[Any] = []

    def noted(*arguments: Any, **keywords: Any) -> Any:
        asked.append(keywords["modalities"])
        return draw_bank(*arguments, **keywords)

    monkeypatch.setattr(client.private_contrast, "draw_bank", noted)
    everything = toy_site([1] * 4)
    pictures = replace(everything, triplets=tuple(replace(t, ecg=None, ecg_report=None) for t in everything.triplets))
    for examples in (everything, pictures):
        model = small_model()
        model.ecg.requires_grad_(False)
        train(examples, model=model)
    assert asked == [[Modality.XRAY], [Modality.XRAY]]


def clipped(model: Any, loss: Any, examples: Any, rows: list[int], tokenizer: Any) -> ClippedSum:
    unit = unit_tensors(
        examples, [rows], TrainingSettings(), b"secret of a step", tokenizer=tokenizer, max_tokens=64,
        device=torch.device("cpu"),
    )  # fmt: skip
    with using_threads(1):
        return clipped_sum(loss, private_parameters(model), [unit], 0.5, gradients=gradients_in_passes)


@pytest.mark.parametrize("mode", ["patient-decoupled", "patient-groups"])
def test_changing_one_patient_leaves_the_bits_of_the_other_units(
    small_model: Any, toy_site: Any, small_tokenizer: Any, bank: PublicBank, mode: str
) -> None:
    model = UnitModel(small_model().eval())
    embedded = embed_bank(model.model, bank, PLAIN, tokenizer=small_tokenizer, max_tokens=64)
    loss = decoupled(model, embedded) if mode == "patient-decoupled" else in_group(model)
    settings = private(mode, max_studies_per_patient=2)
    planned = schedule(settings, 12)

    def of_units(examples: Any) -> dict[frozenset[str], ClippedSum]:
        return {
            frozenset(examples.triplets[row].patient_id for row in rows): clipped(
                model, loss, examples, rows, small_tokenizer
            )
            for rows in rows_of_units(examples, settings, planned, KEY)
            if rows
        }

    before = of_units(toy_site([3] * 12))
    after = of_units(toy_site({**dict.fromkeys(range(12), 3), 0: 1, 12: 2}))
    kept = [unit for unit in before if unit in after and "north-0" not in unit]
    assert len(kept) >= len(before) - 2
    for unit in kept:
        assert all(torch.equal(before[unit].sums[name], total) for name, total in after[unit].sums.items())
    was, now = (next(found[unit] for unit in found if "north-0" in unit) for found in (before, after))
    assert any(not torch.equal(was.sums[name], total) for name, total in now.sums.items())


def test_chosen_studies_do_not_depend_on_others(toy_site: Any) -> None:
    alone = toy_site({3: 6})
    among_others = toy_site({0: 2, 1: 5, 3: 6})
    chosen = rows_of_patients(alone, KEY, 2)["north-3"]
    assert [row + 7 for row in chosen] == rows_of_patients(among_others, KEY, 2)["north-3"]
    assert {len(rows) for rows in rows_of_patients(among_others, KEY, 2).values()} == {2}
    several = {tuple(rows_of_patients(alone, bytes([number]) * 32, 2)["north-3"]) for number in range(8)}
    assert len(several) > 1


def test_texts_of_a_patient_are_drawn_by_patient_and_step(toy_site: Any, small_tokenizer: Any) -> None:
    examples = toy_site([1] * 10)

    def drawn(rows: list[int], step_key: bytes) -> list[list[int]]:
        common = {"tokenizer": small_tokenizer, "max_tokens": 64, "device": torch.device("cpu")}
        units = [unit_tensors(examples, [[row]], TrainingSettings(), step_key, **common) for row in rows]
        return [unit["words"][0].tolist() for unit in units]

    assert drawn([2, 7], b"one") == [drawn([2], b"one")[0], drawn([7], b"one")[0]]
    assert drawn(list(range(10)), b"one") != drawn(list(range(10)), b"two")


def test_a_step_without_anybody_is_noise_alone(
    train: Any, small_model: Any, toy_site: Any, released: list[torch.Tensor]
) -> None:
    start = trained_vector(small_model())
    nobody = Schedule(units=6, sampling_rate=1e-12, expected_units=4.0)
    model, report = train(toy_site([1] * 6), planned=nobody, noise_multiplier=2.0)
    assert float(released[0].std()) == pytest.approx(2.0 * 0.5, rel=0.1)
    assert (trained_vector(model) != start).all()
    assert (report.counts.units, report.counts.empty_steps) == (0, 1)


def test_charge_comes_before_anybody_is_drawn(train: Any, toy_site: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    import client.private_training

    events: list[str] = []
    draw = client.private_training.poisson_draw

    def noted(units: int, rate: float) -> Any:
        events.append("draw")
        return draw(units, rate)

    monkeypatch.setattr(client.private_training, "poisson_draw", noted)
    train(
        toy_site([1] * 4),
        steps=2,
        charge=lambda step: events.append(f"charge {step}"),
        on_step=lambda done, steps: events.append(f"done {done} of {steps}"),
    )
    assert events == ["charge 1", "draw", "done 1 of 2", "charge 2", "draw", "done 2 of 2"]


@pytest.mark.parametrize("paid", [0, 2])
def test_a_refused_charge_stops_before_the_step(
    train: Any, small_model: Any, toy_site: Any, monkeypatch: pytest.MonkeyPatch, paid: int
) -> None:
    model, seen = small_model(), []

    def charge(step: int) -> None:
        seen.append(trained_vector(model))
        if step > paid:
            raise RoundError("the budget is used up")

    with pytest.raises(RoundError, match="used up"):
        train(toy_site([1] * 4), model=model, steps=5, charge=charge)
    assert len(seen) == paid + 1
    assert torch.equal(seen[-1], trained_vector(model))
    assert all(not torch.equal(one, other) for one, other in itertools.pairwise(seen))
    assert all(parameter.grad is None for parameter in model.parameters())


def test_what_does_not_train_stays_as_it_is(train: Any, small_model: Any, toy_site: Any) -> None:
    model = small_model()
    model.ecg.requires_grad_(False)
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    train(toy_site([1] * 4), model=model, steps=2, noise_multiplier=1.0)
    trains = {name for name, parameter in model.named_parameters() if parameter.requires_grad}
    changed = {name for name, tensor in model.state_dict().items() if not torch.equal(tensor, before[name])}
    assert changed == trains
    assert not any(name.startswith("ecg.") for name in changed)


def test_a_patient_that_is_not_finite_counts_as_nothing(train: Any, toy_site: Any) -> None:
    examples = toy_site([1] * 4)
    examples.sources[0].ecgs[2, 0, 0] = np.nan
    model, report = train(examples)
    assert torch.isfinite(trained_vector(model)).all()
    assert (report.counts.units, report.counts.refused) == (4, 1)


def test_a_learned_temperature_is_part_of_the_private_gradient(train: Any, small_model: Any, toy_site: Any) -> None:
    model = small_model(temperature={"initial": 0.2, "learned": True})
    train(toy_site([1] * 4), model=model)
    assert float(model.log_temperature.detach()) != pytest.approx(math.log(0.2), abs=1e-6)


def test_patients_of_the_same_words_are_no_negatives(small_model: Any, toy_site: Any, small_tokenizer: Any) -> None:
    model = UnitModel(small_model().eval())
    examples = toy_site({0: 1, 4: 1, 1: 1})  # 0 and 4 have the same finding
    loss = in_group(model)

    def length(rows: list[int]) -> float:
        found = clipped(model, loss, examples, rows, small_tokenizer)
        return float(sum(total.norm() for total in found.sums.values()))

    assert length([0, 1]) == 0
    assert length([0, 2]) > 0
    assert length([0]) == 0


def test_the_bank_is_drawn_anew_as_often_as_asked(
    train: Any, toy_site: Any, bank: PublicBank, monkeypatch: pytest.MonkeyPatch
) -> None:
    import client.private_contrast

    calls: list[int] = []

    def noted(*arguments: Any, **keywords: Any) -> Any:
        calls.append(1)
        return draw_bank(*arguments, **keywords)

    monkeypatch.setattr(client.private_contrast, "draw_bank", noted)
    train(toy_site([1] * 2), bank=replace(bank, refresh_every=2, negatives=4), steps=5)
    assert len(calls) == 3


def test_report_says_what_was_public(train: Any, toy_site: Any, bank: PublicBank) -> None:
    _, report = train(toy_site([1] * 4), private("patient-groups"), noise_multiplier=0.7)
    assert (report.mode, report.clip_norm, report.noise_multiplier) == ("patient-groups", 0.5, 0.7)
    assert (report.sampling_rate, report.expected_units) == (1.0, 1.0)
    assert report.bank_digest == bank.examples.digest()


def test_batch_norm_is_refused_with_the_reason(train: Any, small_model: Any, toy_site: Any) -> None:
    model = small_model(normalisation="batch").eval()
    before = trained_vector(model)
    with pytest.raises(ConfigError, match=r"running statistics of private[\s\S]*normalisation = \"layer\""):
        train(toy_site([1] * 4), model=model)
    assert torch.equal(before, trained_vector(model))


def test_a_mode_without_patients_is_refused(train: Any, toy_site: Any) -> None:
    with pytest.raises(ConfigError, match='mode "none"'):
        train(toy_site([1] * 4), PrivacySettings(), planned=Schedule(4, 1.0, 4.0))


def test_a_bank_that_is_not_public_or_too_small_is_refused(train: Any, toy_site: Any) -> None:
    site = toy_site([1] * 4)
    with pytest.raises(ConfigError, match="patients of this site"):
        train(site, bank=PublicBank(site))
    with pytest.raises(ConfigError, match="fewer than 4 patients with a pair of words and ecg"):
        train(site, bank=PublicBank(toy_site([2] * 3, site="public")))
    with pytest.raises(ValueError, match="at least 1"):
        PublicBank(site, refresh_every=0)


def test_a_site_without_a_pair_is_refused(train: Any, toy_site: Any) -> None:
    nobody = toy_site([1] * 4).where(lambda _: False)
    with pytest.raises(RoundError, match="no study with words"):
        train(nobody, planned=Schedule(4, 1.0, 4.0))
