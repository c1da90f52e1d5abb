"""Canaries: made of real studies and random words, trained on exactly where the coin says so, and found again."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

import client.audit.canaries
from client.audit.canaries import beyond, canary_scores, make_canaries, whole_words
from client.audit.site import AuditedSite, patients_of
from privacy.audit.membership import auc


def test_a_canary_is_a_patient_of_its_own_with_one_study(open_run: AuditedSite) -> None:
    made = make_canaries(open_run, 12)
    own = {*patients_of(open_run.members), *patients_of(open_run.outsiders)}
    assert len(set(patients_of(made)) - own) == 12
    for triplet in made.triplets:
        assert (triplet.xray is None) != (triplet.ecg is None)
        assert (triplet.xray is None) == (triplet.xray_report is None)
        assert not triplet.labels and not triplet.attributes
    assert {triplet.xray is None for triplet in made.triplets} == {True, False}


def test_canaries_are_the_same_each_time_and_differ_from_one_another(open_run: AuditedSite) -> None:
    made = make_canaries(open_run, 12)
    assert made.digest() == make_canaries(open_run, 12).digest()
    reports = {triplet.xray_report or triplet.ecg_report for triplet in made.triplets}
    assert len(reports) == 12


def test_studies_that_no_training_saw_come_first(open_run: AuditedSite) -> None:
    unseen = {triplet.xray for triplet in open_run.outsiders.triplets}
    first = make_canaries(open_run, 4)
    assert {triplet.xray for triplet in first.triplets if triplet.xray is not None} <= unseen
    assert len(make_canaries(open_run, 200)) == 200


def test_words_are_whole_ones_of_the_vocabulary(open_run: AuditedSite) -> None:
    words = whole_words(open_run.released.tokenizer)
    assert all(word.isalpha() and len(word) >= 3 for word in words)


def test_exactly_the_canaries_of_the_coins_take_part(open_run: AuditedSite, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[Any] = []

    def noted(start: Any, examples: Any, recipe: Any, **keywords: Any) -> Any:
        seen.append((examples, keywords["expected_extra"]))
        return start

    monkeypatch.setattr(client.audit.canaries, "retrained", noted)
    included = np.array([True, False, False, True, True, False])
    scores = canary_scores(open_run, 6, included)
    (examples, expected_extra) = seen[0]
    expected = [*patients_of(open_run.members), "canary-0", "canary-3", "canary-4"]
    assert patients_of(examples) == expected
    assert sum(triplet.patient_id == "canary-3" for triplet in examples.triplets) == 4
    assert expected_extra == 3.0
    assert np.array_equal(scores.included, included)
    assert np.allclose(scores.scores, 0, atol=1e-6)


def test_canaries_that_took_part_are_found(open_run: AuditedSite) -> None:
    """Without privacy, and with epochs enough to learn them by heart."""
    curve = open_run.recipe.training.model_copy(
        update={"augment": False, "learning_rate": 1e-2, "joint_probability": 0.0, "sentence_probability": 0.0}
    )
    thorough = replace(open_run, recipe=replace(open_run.recipe, training=curve, local_epochs=8))
    included = np.arange(16) // 2 % 2 == 0
    found = canary_scores(thorough, 16, included)
    assert auc(found.scores[included], found.scores[~included]) > 0.8


def test_a_score_is_what_the_start_does_not_explain() -> None:
    draws = np.random.default_rng(0)
    before, learned = draws.normal(0, 1, 500), draws.random(500) < 0.5
    for kept in (0.0, 1.0):  # a training that forgets the start, and one that hardly moves
        scores = beyond(5 + kept * before + 0.3 * learned, before)
        assert scores[learned].mean() - scores[~learned].mean() == pytest.approx(0.3, abs=0.02)
        assert abs(np.corrcoef(scores, before)[0, 1]) < 1e-6
    assert np.array_equal(beyond(before, np.zeros(500)), before - before.mean())


def test_private_training_scores_every_canary(private_site: AuditedSite) -> None:
    done: list[tuple[int, int]] = []
    included = np.arange(6) % 2 == 0
    found = canary_scores(private_site, 6, included, lambda *progress: done.append(progress))
    assert found.scores.shape == (6,)
    assert np.isfinite(found.scores).all()
    assert done == [(1, 2), (2, 2)]


def test_coins_that_do_not_fit_are_refused(open_run: AuditedSite) -> None:
    with pytest.raises(ValueError, match="3 coins for 4 canaries"):
        canary_scores(open_run, 4, np.array([True, False, True]))
