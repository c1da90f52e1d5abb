"""Each outcome is reached by what should reach it, and the words never turn a bound into an epsilon of the system."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest

from privacy.audit.bounds import ThresholdBound
from privacy.audit.leaks import HeadLeakResult, TokenLeakResult
from privacy.audit.mechanism import MechanismResult
from privacy.audit.membership import Interval, MembershipResult, RateAt
from privacy.audit.one_run import OneRunBound
from privacy.audit.reidentify import Reidentification
from privacy.audit.subject import Claimed
from privacy.audit.verdicts import (
    head_verdict,
    mechanism_verdicts,
    membership_verdict,
    one_run_verdict,
    reidentification_verdict,
    token_verdict,
)

CLAIM = Claimed("patient-decoupled", 2.0, 1e-5, "patient")
NOTHING = Claimed("none", math.inf, 0.0, "patient")
HOSPITAL = Claimed("hospital", 0.1, 1e-5, "hospital")


def mechanism(bound: float, *, moved: float = 1.0, control: bool = False) -> MechanismResult:
    found = ThresholdBound(bound, 1e-5, 0.95, 0.0, 10, 10, 10_000)
    return MechanismResult("step", "patient-decoupled", "one leaves", control, 2.0, 1.99, moved, 1.0, found)


def test_a_mechanism_holds_breaks_by_its_outputs_or_by_its_sum() -> None:
    sound, told_apart, moved = mechanism_verdicts([mechanism(0.9), mechanism(3.0), mechanism(0.9, moved=1.2)])
    assert (sound.outcome, told_apart.outcome, moved.outcome) == ("holds", "broken", "broken")
    assert "not a proof" in sound.words
    assert "noise hides less than is claimed" in told_apart.words
    assert "sum moves further than declared" in moved.words


def test_a_control_that_is_not_found_takes_the_weight_from_all_that_holds_but_not_from_what_is_broken() -> None:
    blind = mechanism_verdicts([mechanism(0.9), mechanism(3.0), mechanism(0.1, control=True)])
    assert [verdict.outcome for verdict in blind] == ["says nothing", "broken", "says nothing"]
    assert blind[2].control and "no teeth" in blind[2].words
    seeing = mechanism_verdicts([mechanism(0.9), mechanism(6.0, moved=15.0, control=True)])
    assert [verdict.outcome for verdict in seeing] == ["holds", "says nothing"]


@pytest.mark.parametrize(
    ("bound", "most", "claimed", "outcome", "words"),
    [
        (2.5, 4.0, CLAIM, "broken", "The claim, epsilon 2.00, is false"),
        (0.5, 4.0, CLAIM, "holds", "not a proof"),
        (0.0, 4.0, CLAIM, "says nothing", "refutes no claim, and proves none"),
        (0.5, 1.5, CLAIM, "says nothing", "could refute no claim above 1.50"),
        (3.0, 4.0, NOTHING, "says nothing", "Nothing is claimed"),
        (3.0, 4.0, HOSPITAL, "says nothing", "protects a whole hospital"),
        (0.04, 4.0, replace(CLAIM, epsilon=0.01), "broken", "epsilon 0.01, is false"),
    ],
)
def test_one_run(bound: float, most: float, claimed: Claimed, outcome: str, words: str) -> None:
    verdict = one_run_verdict(OneRunBound(bound, 1e-5, 0.95, 1000, 100, 80, most), claimed)
    assert (verdict.level, verdict.outcome) == (2, outcome)
    assert words in verdict.words
    if bound >= 0.05:
        assert f"every claim below {bound:.2f}" in verdict.words


def members(low: float, *rates: RateAt) -> MembershipResult:
    return MembershipResult(500, 500, 16, 0.95, Interval(low + 0.02, low, low + 0.04), rates)


def test_membership_is_held_against_what_the_claim_allows() -> None:
    assert membership_verdict(members(0.6), CLAIM).outcome == "holds"
    assert membership_verdict(members(0.95), CLAIM).outcome == "broken"
    assert membership_verdict(members(0.48), CLAIM).outcome == "says nothing"
    assert membership_verdict(members(0.95), NOTHING).outcome == "says nothing"
    found = RateAt(0.01, Interval(0.3, 0.2, 0.4))
    verdict = membership_verdict(members(0.6, found, RateAt(0.001, None, "too few")), CLAIM)
    assert verdict.outcome == "broken"  # e^2 x 1 % is 7.4 %
    assert "30.0% (20.0% to 40.0%) of members are found" in verdict.words
    assert "0.1%" not in verdict.words


def head(value: float, *, covered: bool) -> HeadLeakResult:
    weak = Interval(0.5, 0.4, 0.6)
    return HeadLeakResult("as sent", 10, 10, 10, 96, covered, weak, Interval(value, value - 0.02, 1.0))


def test_a_head_breaks_only_a_claim_that_covers_it() -> None:
    assert head_verdict(head(1.0, covered=True), CLAIM).outcome == "broken"
    assert head_verdict(head(0.6, covered=True), CLAIM).outcome == "holds"
    assert head_verdict(head(0.51, covered=True), CLAIM).outcome == "says nothing"
    bare = head_verdict(head(1.0, covered=False), CLAIM)
    assert bare.outcome == "says nothing"
    assert "Whoever sees it learns who was in it." in bare.words
    assert "Whoever" not in head_verdict(head(0.6, covered=False), CLAIM).words


def test_words_and_embeddings_never_judge_the_claim() -> None:
    found = TokenLeakResult("one step", "full", 64, 1000, 64, 768, False, 64, 0)
    assert "64 of the 64 different words of the reports are recovered" in token_verdict(found).words
    assert "none is singled out" in token_verdict(replace(found, full=True)).words
    every = replace(found, mistaken=found.candidates - found.true)
    assert "Nearly every word of the vocabulary fits" in token_verdict(every).words
    assert "Not tested" in token_verdict(replace(found, found=None, mistaken=None)).words
    linked = Reidentification(100, 0.95, Interval(0.5, 0.4, 0.6), Interval(0.8, 0.7, 0.9), Interval(1, 1, 2))
    chance = replace(linked, top_1=Interval(0.01, 0.0, 0.05), top_5=Interval(0.05, 0.02, 0.1))
    assert "treat them as identifying" in reidentification_verdict(linked).words
    assert "not told apart from chance" in reidentification_verdict(chance).words
    outcomes = {token_verdict(found).outcome, reidentification_verdict(linked).outcome}
    assert outcomes == {"says nothing"}
