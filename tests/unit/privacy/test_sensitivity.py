"""How far one unit really moves the sum, measured: never beyond what is declared, and close to it somewhere.

Every mode is tried with random neighbours, with correlated cohorts and with neighbours found by gradient search; a
mechanism that is known to be wrong is tried in the same way, so that the method itself is seen to have teeth.
"""

from __future__ import annotations

from typing import Any

import pytest
import torch

from more_model.errors import ConfigError
from privacy.sampling import group_of
from privacy.sensitivity import MODES, equalised_clip_norms, event_of, hospital_bound, sensitivity
from privacy.unit_gradients import clipped_sum

# Smaller than most gradients of the toy, so that nearly every unit is clipped, as in training.
C, TOLERANCE, TEETH = 0.05, 1 + 1e-5, 0.7
KEY = b"a public test key, 32 bytes long"
Record = dict[str, torch.Tensor]


def as_patients(cohort: Record) -> Record:
    """Every record a patient with one study."""
    studies = {name: rows[:, None] for name, rows in cohort.items()}
    return {**studies, "present": torch.ones(len(cohort["image"]), 1, dtype=torch.bool)}


def as_groups(cohort: Record, size: int = 4) -> Record:
    """Fixed slots: record i in group i // size."""
    groups = {name: rows.unflatten(0, (-1, size)) for name, rows in cohort.items()}
    count = len(groups["image"])
    return {
        **groups,
        "present": torch.ones(count, size, dtype=torch.bool),
        "patients": torch.arange(count * size).unflatten(0, (-1, size)),
    }


def with_last(cohort: Record, image: torch.Tensor, text: torch.Tensor) -> Record:
    """The cohort with its last record exchanged; differentiable."""
    return {
        "image": torch.cat([cohort["image"][:-1], image[None]]),
        "text": torch.cat([cohort["text"][:-1], text[None]]),
    }


def moved(loss: Any, parameters: Any, before: Record, after: Record) -> float:
    """Norm of the difference of two clipped sums, as training computes them."""
    sums = [clipped_sum(loss, parameters, [units], C).sums for units in (before, after)]
    return float(torch.cat([(sums[0][name] - sums[1][name]).flatten() for name in sums[0]]).double().norm())


@pytest.fixture(params=["random", "correlated"])
def cohort(request: pytest.FixtureRequest, random_cohort: Any, correlated_cohort: Any) -> Record:
    made: Record = (random_cohort if request.param == "random" else correlated_cohort)(16, 4)
    return made


def last_unit(units: Record) -> Record:
    return {name: rows[-1:] for name, rows in units.items()}


def searched(toy: Any, cohort: Record, loss: Any, units: Any, contribution: Any, adam_search: Any) -> tuple[Any, Any]:
    """Two cohorts that differ in the last record, far apart by gradient search over both of its versions."""

    def share(image: torch.Tensor, text: torch.Tensor) -> Any:
        return contribution(loss, toy.parameters, last_unit(units(with_last(cohort, image, text))), C)

    def distance(*records: torch.Tensor) -> Any:
        return (share(*records[:2]) - share(*records[2:])).norm()

    start = [cohort["image"][-1], cohort["text"][-1], cohort["image"][0] + 0.5, cohort["text"][1]]
    best = adam_search(distance, start, steps=30)
    return with_last(cohort, *best[:2]), with_last(cohort, *best[2:])


def test_decoupled_patient_removed_moves_the_sum_by_at_most_c(toy: Any, cohort: Record) -> None:
    declared = sensitivity("patient-decoupled", C)
    everyone = as_patients(cohort)
    distances = []
    for row in range(16):
        others = torch.arange(16) != row
        distances.append(
            moved(toy.patient_loss, toy.parameters, everyone, {name: rows[others] for name, rows in everyone.items()})
        )
    assert max(distances) <= declared * TOLERANCE
    assert max(distances) >= TEETH * declared


def test_decoupled_patient_exchanged_moves_the_sum_by_at_most_2c(
    toy: Any, cohort: Record, contribution: Any, adam_search: Any
) -> None:
    before, after = searched(toy, cohort, toy.patient_loss, as_patients, contribution, adam_search)
    distance = moved(toy.patient_loss, toy.parameters, as_patients(before), as_patients(after))
    assert TEETH * 2 * C <= distance <= 2 * C * TOLERANCE


def test_group_member_exchanged_moves_the_sum_by_at_most_2c(
    toy: Any, cohort: Record, random_cohort: Any, contribution: Any, adam_search: Any
) -> None:
    declared = sensitivity("patient-groups", C)
    for seed in range(5):
        other = random_cohort(1, 90 + seed)
        after = with_last(cohort, other["image"][0], other["text"][0])
        assert moved(toy.group_loss, toy.parameters, as_groups(cohort), as_groups(after)) <= declared * TOLERANCE
    before, after = searched(toy, cohort, toy.group_loss, as_groups, contribution, adam_search)
    distance = moved(toy.group_loss, toy.parameters, as_groups(before), as_groups(after))
    assert TEETH * declared <= distance <= declared * TOLERANCE
    # Accounting groups as add-remove (sensitivity C) would be false.
    assert distance > 1.4 * C


def test_group_member_left_out_moves_the_sum_by_at_most_2c(
    toy: Any, cohort: Record, contribution: Any, adam_search: Any
) -> None:
    def absent(groups: Record) -> Record:
        present = groups["present"].clone()
        present[-1, -1] = False
        return {**groups, "present": present}

    def distance(image: torch.Tensor, text: torch.Tensor) -> Any:
        group = last_unit(as_groups({"image": image, "text": text}))
        one = contribution(toy.group_loss, toy.parameters, group, C)
        return (one - contribution(toy.group_loss, toy.parameters, absent(group), C)).norm()

    before = as_groups(cohort)
    assert moved(toy.group_loss, toy.parameters, before, absent(before)) <= 2 * C * TOLERANCE
    image, text = adam_search(distance, [cohort["image"][-4:], cohort["text"][-4:]], steps=30)
    worst = as_groups(
        {"image": torch.cat([cohort["image"][:-4], image]), "text": torch.cat([cohort["text"][:-4], text])}
    )
    distance_found = moved(toy.group_loss, toy.parameters, worst, absent(worst))
    # The bound C, which holds for leaving out a decoupled patient, would be false here.
    assert TEETH * 2 * C <= distance_found <= 2 * C * TOLERANCE


def rows_as_units(toy: Any, batch: Record) -> tuple[Any, torch.Tensor]:
    """The invalid way: the gradient of each record's term of an in-batch loss is taken for the record's own."""

    def loss(parameters: Any, selection: torch.Tensor) -> torch.Tensor:
        terms: torch.Tensor = toy.row_losses(parameters, batch) * selection
        return terms.sum()

    return loss, torch.eye(len(batch["image"]))


def test_naive_infonce_breaks_its_bound_tenfold_but_not_on_a_random_batch(
    toy: Any, random_cohort: Any, correlated_cohort: Any, contribution: Any, adam_search: Any
) -> None:
    claimed = 2 * C

    def clipped_rows(batch: Record) -> torch.Tensor:
        loss, rows = rows_as_units(toy, batch)
        total: torch.Tensor = contribution(loss, toy.parameters, rows, C)
        return total

    harmless, other = random_cohort(16, 1), random_cohort(1, 101)
    after = with_last(harmless, other["image"][0], other["text"][0])
    assert float((clipped_rows(harmless) - clipped_rows(after)).norm()) < claimed

    cohort = correlated_cohort(16, 1)

    def distance(*records: torch.Tensor) -> torch.Tensor:
        return (clipped_rows(with_last(cohort, *records[:2])) - clipped_rows(with_last(cohort, *records[2:]))).norm()

    start = [other["image"][0], other["text"][0], cohort["image"][-1], cohort["text"][-1]]
    assert float(distance(*adam_search(distance, start, steps=60))) > 10 * claimed


def test_cutting_groups_by_position_breaks_the_bound(toy: Any, random_cohort: Any) -> None:
    cohort = random_cohort(128, 2)
    shifted = {name: torch.cat([rows[1:], rows[:1]]) for name, rows in cohort.items()}
    full, after = as_groups(cohort), as_groups(shifted)
    after["present"][-1, -1] = False  # record 0 is gone, and everybody moved up by one
    assert moved(toy.group_loss, toy.parameters, full, after) > 2 * C * 1.5


def test_keyed_groups_keep_the_bound_when_a_patient_leaves(toy: Any, correlated_cohort: Any) -> None:
    cohort, slots, groups = correlated_cohort(32, 2), 16, 8

    def grouped(rows: list[int]) -> Record:
        units = {name: torch.zeros(groups, slots, values.shape[1]) for name, values in cohort.items()}
        present = torch.zeros(groups, slots, dtype=torch.bool)
        for row in rows:
            group = group_of(KEY, f"p{row}", groups)
            slot = int(present[group].sum())
            present[group, slot] = True
            for name in units:
                units[name][group, slot] = cohort[name][row]
        return {**units, "present": present, "patients": torch.arange(slots).expand(groups, slots).clone()}

    everyone = list(range(32))
    for row in (0, 7, 31):
        left = [other for other in everyone if other != row]
        assert moved(toy.group_loss, toy.parameters, grouped(everyone), grouped(left)) <= 2 * C * TOLERANCE


def test_contracts_of_the_modes() -> None:
    assert {mode: (m.unit, m.clipped, m.adjacency, m.sampled) for mode, m in MODES.items()} == {
        "patient-decoupled": ("patient", "patient", "add-remove", True),
        "patient-groups": ("patient", "group", "replace", True),
        "patient-shuffled": ("patient", "group", "replace", False),
        "hospital": ("hospital", "update", "add-remove", False),
    }
    assert [sensitivity(mode, 3.0) for mode in MODES] == [3.0, 6.0, 6.0, 3.0]


@pytest.mark.parametrize("mode", ["patient-shuffled", "hospital"])
def test_no_amplification_where_nothing_is_secret(mode: Any) -> None:
    assert event_of(mode, 2.0, 1.0, 1, 5).sampling_rate == 1
    with pytest.raises(ConfigError, match="counts on no sampling"):
        event_of(mode, 2.0, 1.0, 0.5, 5)


def test_hospital_bound_is_the_largest_weighted_norm() -> None:
    assert hospital_bound({"a": 0.6, "b": 0.4}, {"a": 1.0, "b": 2.0}) == pytest.approx(0.8)
    weights = {"a": 0.6, "b": 0.3, "c": 0.1}
    norms = equalised_clip_norms(weights, 2.0)
    assert [weights[site] * norms[site] for site in weights] == pytest.approx([0.6] * 3)
    assert norms["b"] == pytest.approx(2.0)
    assert equalised_clip_norms({"a": 0.6, "b": 0.4}, 1.0)["a"] == pytest.approx(0.5 / 0.6)


def test_hospital_bound_names_every_fault() -> None:
    with pytest.raises(ConfigError, match="4 faults") as caught:
        hospital_bound({"a": 0.0, "b": 0.5}, {"a": float("nan"), "c": 1.0})
    for words in ("'b': has no clipping norm", "'c': has no public weight", "weight 0", "norm nan"):
        assert words in str(caught.value)
