"""Membership: halves that balance, a calibration that helps, and members of an overfitted model that are found."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

import numpy as np
import pytest

import client.audit.membership
from client.audit.membership import calibrated, membership_scores, paired_halves
from client.audit.pairs import matched_margins, patient_means
from client.audit.site import AuditedSite, patients_of
from more_model.errors import ConfigError
from more_model.training.examples import Examples
from privacy.audit.membership import auc

if TYPE_CHECKING:
    from more_model.model.more import More


def test_every_patient_is_in_half_of_the_halves() -> None:
    inside = paired_halves(11, 6, seed=1)
    assert inside.shape == (6, 11)
    assert np.array_equal(inside.sum(axis=0), np.full(11, 3))
    assert np.array_equal(inside[0], ~inside[1])
    assert not np.array_equal(inside[0], inside[2])
    assert np.array_equal(inside, paired_halves(11, 6, seed=1))


def test_calibration_takes_away_what_a_patient_scores_by_nature() -> None:
    draws = np.random.default_rng(0)
    member = draws.random(400) < 0.5
    nature, gain, noise = draws.normal(0, 1, 400), 0.5, 0.2
    inside = paired_halves(400, 8, seed=2)
    scores = nature + gain * inside + draws.normal(0, noise, inside.shape)
    found = 3.0 + nature + gain * member + draws.normal(0, noise, 400)
    above = calibrated(found, scores, inside)
    assert auc(found[member], found[~member]) < 0.7
    assert auc(above[member], above[~member]) > 0.9
    # In standard deviations of a score: with and without are gain / noise apart.
    assert above[member].mean() - above[~member].mean() == pytest.approx(gain / noise, rel=0.15)


def test_two_references_are_enough_to_calibrate() -> None:
    inside = paired_halves(6, 2, seed=0)
    assert np.isfinite(calibrated(np.arange(6.0), np.ones((2, 6)), inside)).all()


@pytest.mark.parametrize("references", [0, 1, 3])
def test_references_that_do_not_pair_are_refused(open_run: AuditedSite, references: int) -> None:
    with pytest.raises(ConfigError, match="must be even and at least 2"):
        membership_scores(open_run, references)


def test_one_score_a_patient_of_the_released_model(open_run: AuditedSite) -> None:
    done: list[tuple[int, int]] = []
    found = membership_scores(open_run, 2, lambda *progress: done.append(progress))
    assert found.members.shape == (len(patients_of(open_run.members)),)
    assert found.outsiders.shape == (len(patients_of(open_run.outsiders)),)
    assert found.references == 2
    assert done == [(1, 2), (2, 2)]
    again = membership_scores(open_run, 2)
    assert np.array_equal(found.members, again.members)


def test_each_reference_is_trained_on_its_half_and_members_are_told_apart(
    open_run: AuditedSite, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In place of a model stands the set of its patients, and the score of whoever is in it is higher by two."""
    halves: list[frozenset[str]] = []

    def learn_by_heart(_start: Any, examples: Examples, *_: Any, **__: Any) -> frozenset[str]:
        halves.append(frozenset(patients_of(examples)))
        return halves[-1]

    def remembered(model: Any, examples: Examples, *_: Any) -> Any:
        nature = {patient: float(len(patient) + sum(patient.encode()) % 7) for patient in patients_of(examples)}
        return np.array([nature[t.patient_id] + 2 * (t.patient_id in model) for t in examples.triplets])

    monkeypatch.setattr(client.audit.membership, "retrained", learn_by_heart)
    monkeypatch.setattr(client.audit.membership, "matched_margins", remembered)
    members = frozenset(patients_of(open_run.members))
    found = membership_scores(open_run, 4, target=cast("More", members))
    everybody = members | frozenset(patients_of(open_run.outsiders))
    assert halves[0] | halves[1] == halves[2] | halves[3] == everybody
    assert not halves[0] & halves[1]
    assert found.members.min() > found.outsiders.max()
    assert found.members.max() - found.outsiders.min() == pytest.approx(2)  # no spread: scores stay as they are


def test_a_margin_is_high_where_study_and_words_are_joined(open_run: AuditedSite) -> None:
    margins = matched_margins(open_run.released.model, open_run.members, open_run.words, 1)
    assert margins.shape == (len(open_run.members),)
    assert np.isfinite(margins).all()
    means = patient_means(open_run.members, margins)
    assert list(means) == patients_of(open_run.members)
    first = [m for t, m in zip(open_run.members.triplets, margins, strict=True) if t.patient_id == next(iter(means))]
    assert next(iter(means.values())) == pytest.approx(np.mean(first))
