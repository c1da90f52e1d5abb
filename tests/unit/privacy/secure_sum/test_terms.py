"""Terms under which a sum could overflow, stay masked, or reveal a single site are refused at once."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from more_model.errors import ConfigError
from privacy.secure_sum.terms import MAX_SITES, Terms, check_terms, usual_threshold

NAMES = [f"s{number}" for number in range(6)]


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"sites": ("b", "a", "c", "d")}, "in alphabetical order"),
        ({"sites": ("a", "a", "b", "c")}, "named once each"),
        ({"sites": tuple(sorted(f"s{n}" for n in range(51))), "threshold": 30}, "at most 50"),
        ({"threshold": 3}, "threshold 3: must be at least 4 for 6 sites of which 1 may collude"),
        ({"threshold": 7}, "and at most 6"),
        ({"colluders": 2}, "minimum_contributors 3: must be at least 4"),
        ({"colluders": -1}, "must not be negative"),
        ({"minimum_contributors": 2, "colluders": 0}, "minimum_contributors 2: must be at least 3"),
        ({"minimum_contributors": 7}, "at most the 6 invited"),
        ({"words": {}}, "there must be a group"),
        ({"words": {"text": 0}}, "at least one number"),
        ({"round": 0}, "round 0"),
        ({"largest": 0}, "must be at least 1"),
        ({"word_bits": 16}, "word_bits 16: must be 32 or 64"),
    ],
)
def test_faults_are_named(terms_for: Callable[..., Terms], change: dict[str, Any], sentence: str) -> None:
    with pytest.raises(ConfigError, match=sentence):
        check_terms(replace(terms_for(NAMES, {"text": 7}), **change))


def test_all_faults_at_once(terms_for: Callable[..., Terms]) -> None:
    with pytest.raises(ConfigError) as caught:
        check_terms(terms_for(NAMES, {"text": 7}, round=0, threshold=1, word_bits=8))
    assert len(caught.value.faults) == 3


def test_overflow_is_refused_at_the_exact_bound(terms_for: Callable[..., Terms]) -> None:
    # 6 x 7 x largest: 2^31 = 42 x 51130563 + 2.
    check_terms(terms_for(NAMES, {"text": 7}, max_weight=7, largest=51_130_563))
    with pytest.raises(ConfigError, match="the sum could overflow: 6 sites x weight 7 x 51130564"):
        check_terms(terms_for(NAMES, {"text": 7}, max_weight=7, largest=51_130_564))
    check_terms(terms_for(NAMES, {"text": 7}, max_weight=7, largest=51_130_564, word_bits=64))


def test_the_usual_threshold_leaves_no_room_for_two_lists() -> None:
    for sites in range(3, MAX_SITES + 1):
        for colluders in range(sites - 1):
            threshold = usual_threshold(sites, colluders)
            # Honest sites sign one list each, colluders both: two full lists must not be possible, and would be below.
            assert 2 * threshold > sites + colluders
            assert 2 * (threshold - 1) <= sites + colluders
