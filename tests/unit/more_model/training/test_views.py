"""Texts of a triplet: joint or apart, whole or a few sentences, and never words that nobody wrote."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from more_model.data.study import Split, Triplet
from more_model.training.settings import TrainingSettings
from more_model.training.views import TextView, drawn_views, some_sentences, whole_views

FULL = Triplet("a", "north", Split.TRAIN, 0, 0, "One. Two. Three. Four.", "Sinus rhythm; normal axis.")
JOINT = "chest x-ray report: One. Two. Three. Four. ecg report: Sinus rhythm; normal axis."


def test_whole_views() -> None:
    xray = TextView("chest x-ray report: One. Two. Three. Four.", xray=True, ecg=False)
    ecg = TextView("ecg report: Sinus rhythm; normal axis.", xray=False, ecg=True)
    assert whole_views(FULL, together=True) == [TextView(JOINT, xray=True, ecg=True)]
    assert whole_views(FULL, together=False) == [xray, ecg]
    for together in (True, False):
        assert whole_views(replace(FULL, ecg=None), together=together) == [xray]
        assert whole_views(replace(FULL, xray_report=None), together=together) == [ecg]
        assert whole_views(replace(FULL, xray=None, ecg=None), together=together) == []


def test_some_sentences_are_one_to_three_of_them_in_order() -> None:
    drawn = {some_sentences("One. Two; Three. ___. Four.", seed) for seed in range(300)}
    order = ["One.", "Two;", "Three.", "Four."]
    for text in drawn:
        places = [order.index(sentence) for sentence in text.split()]
        assert places == sorted(set(places)) and 1 <= len(places) <= 3
    # Every choice of one, two or three of four.
    assert len(drawn) == 4 + 6 + 4


@pytest.mark.parametrize("words", ["no full stop at all", "One.", "___", ""])
def test_short_words_stay_as_they_are(words: str) -> None:
    assert {some_sentences(words, seed) for seed in range(20)} == {words}


def test_shares_are_the_configured_ones() -> None:
    settings = TrainingSettings(joint_probability=0.3, sentence_probability=0.6)
    generator = np.random.default_rng(0)
    drawn = [drawn_views(FULL, settings, generator) for _ in range(2000)]
    apart = [views for views in drawn if len(views) == 2]
    assert 1 - len(apart) / 2000 == pytest.approx(0.3, abs=0.04)
    whole = sum(views[0].words == "chest x-ray report: One. Two. Three. Four." for views in apart)
    assert 1 - whole / len(apart) == pytest.approx(0.6, abs=0.05)
    assert all(views == [TextView(JOINT, xray=True, ecg=True)] for views in drawn if len(views) == 1)


@pytest.mark.parametrize("probability", [0.0, 1.0])
def test_extremes_draw_no_exceptions(probability: float) -> None:
    settings = TrainingSettings(joint_probability=probability, sentence_probability=0.0)
    generator = np.random.default_rng(0)
    for _ in range(50):
        assert drawn_views(FULL, settings, generator) == whole_views(FULL, together=probability == 1.0)


def test_what_one_triplet_draws_does_not_move_the_next() -> None:
    """Else a report that one site lacks would change all of its later batches."""
    settings = TrainingSettings()
    following = []
    for first in (FULL, replace(FULL, ecg=None), replace(FULL, xray_report="Other words.")):
        generator = np.random.default_rng(7)
        drawn_views(first, settings, generator)
        following.append([drawn_views(FULL, settings, generator) for _ in range(5)])
    assert following[0] == following[1] == following[2]
