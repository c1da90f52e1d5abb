"""What each finding means for the claim, in words for a privacy officer.

Three outcomes. *Broken*: the attack did better than the claim allows, so the claim is false. *Holds*: the attack was
able to refute the claim and did not; that is no proof. *Says nothing*: there is no claim that the test speaks of, the
attack found nothing at all, or it could not have refuted the claim whatever it found. What an attack finds is a lower
limit of what is revealed, and never an epsilon of the system.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from privacy.audit.bounds import rate_ceiling
from privacy.audit.leaks import HeadLeakResult, TokenLeakResult
from privacy.audit.mechanism import MechanismResult
from privacy.audit.membership import Interval, MembershipResult, auc_ceiling
from privacy.audit.one_run import OneRunBound
from privacy.audit.reidentify import Reidentification
from privacy.audit.subject import Claimed
from privacy.claims import rounded_up

Outcome = Literal["holds", "broken", "says nothing"]

#: Certified bounds below this are not told apart from none.
NEAR_ZERO = 0.05
#: From such an AUC on, an attacker's answer is taken for knowledge.
_CERTAIN = 0.9
#: Where more than this share of absent words fits as well, a fitting word tells nothing.
_MOST = 0.9
_NO_PROOF = "The claim holds as far as this test sees; that is not a proof."


@dataclass(frozen=True)
class Verdict:
    """``outcome`` of one ``test`` of one ``level``, explained by ``words``. control: of something known to be wrong."""

    level: int
    test: str
    outcome: Outcome
    words: str
    control: bool = False


def mechanism_verdicts(results: Sequence[MechanismResult]) -> tuple[Verdict, ...]:
    """One for each mechanism and control. Where a control is not found, no other result counts as holding."""
    blind = any(result.control and not result.refuted for result in results)
    return tuple(_of_control(result) if result.control else _of_mechanism(result, blind) for result in results)


def _of_control(result: MechanismResult) -> Verdict:
    if not result.refuted:
        words = "This mechanism is known to be wrong, and the test did not find it: the test has no teeth."
    else:
        words = (
            f"This mechanism is known to be wrong, and the test finds it: {_claimed(result.claimed)} is claimed, every "
            f"claim below {result.bound.epsilon:.2f} is refuted, and one patient moves the sum by "
            f"{result.moved / result.declared:.1f} times what is declared."
        )
    return Verdict(1, result.name, "says nothing", words, control=True)


def _of_mechanism(result: MechanismResult, blind: bool) -> Verdict:
    share = result.moved / result.declared
    seen = (
        f"Two data sets were tried ({result.change}). The sum moved by {share:.1%} of the declared sensitivity. From "
        f"{2 * result.bound.draws} noisy outputs every claim below {result.bound.epsilon:.2f} is refuted; "
        f"{_claimed(result.claimed)} is claimed for one release with noise multiplier {result.noise_multiplier:g}."
    )
    if result.refuted:
        what = "Its noise hides less than is claimed" if result.told_apart else "The sum moves further than declared"
        return Verdict(1, result.name, "broken", f"{seen} {what}: the code does not keep the claim.")
    if blind:
        return Verdict(1, result.name, "says nothing", f"{seen} But the control was not found, so this means nothing.")
    return Verdict(1, result.name, "holds", f"{seen} {_NO_PROOF}")


def one_run_verdict(bound: OneRunBound, claimed: Claimed) -> Verdict:
    """The certified bound of level 2 against the claim."""
    test = "one training run with canaries"
    seen = (
        f"{bound.canaries} canaries took part or not by the toss of a coin; of {bound.guesses} guesses at the coins "
        f"{bound.correct} were right (chance: {bound.guesses // 2})."
    )
    refutes = (
        f"That refutes, with {bound.confidence:.0%} confidence, every claim below {bound.epsilon:.2f} at delta "
        f"{bound.delta:g} for this training."
    )
    why = _no_claim(claimed)
    if not why and bound.epsilon > claimed.epsilon:
        return Verdict(2, test, "broken", f"{seen} {refutes} The claim, {_claimed(claimed.epsilon)}, is false.")
    if bound.epsilon < NEAR_ZERO:
        return Verdict(2, test, "says nothing", f"{seen} That refutes no claim, and proves none.")
    if why:
        return Verdict(2, test, "says nothing", f"{seen} {refutes} {why}")
    if bound.most <= claimed.epsilon:
        few = (
            f"The claim is {_claimed(claimed.epsilon)}; so few canaries could refute no claim above {bound.most:.2f}, "
            "even with all guesses right. Use more."
        )
        return Verdict(2, test, "says nothing", f"{seen} {refutes} {few}")
    return Verdict(2, test, "holds", f"{seen} {refutes} The claim is {_claimed(claimed.epsilon)}. {_NO_PROOF}")


def membership_verdict(result: MembershipResult, claimed: Claimed) -> Verdict:
    """The attack of level 3 against what the claim allows any attack."""
    test = "membership in the training data"
    seen = (
        f"An attacker with {result.references} reference models who is shown a member and an outsider names the member "
        f"in {_interval(result.auc)} of cases (chance: 50 %)."
    )
    for rate in result.rates:
        if rate.found is not None:
            wrong = f"Wrong about {rate.false_positive_rate:.1%} of outsiders"
            seen += f" {wrong}, {_interval(rate.found)} of members are found."
    if why := _no_claim(claimed):
        return Verdict(3, test, "says nothing", f"{seen} {why}")
    ceiling = auc_ceiling(claimed.epsilon, claimed.delta)
    allowed = f"Under the claim no attack would exceed {ceiling:.2%}."
    above = [
        rate
        for rate in result.rates
        if rate.found is not None
        and rate.found.low > rate_ceiling(claimed.epsilon, claimed.delta, rate.false_positive_rate)
    ]
    if result.auc.low > ceiling or above:
        return Verdict(3, test, "broken", f"{seen} {allowed} This one does, or does so at the rates above.")
    if result.auc.low <= 0.5:
        return Verdict(3, test, "says nothing", f"{seen} That is no better than chance; a better attack may exist.")
    return Verdict(3, test, "holds", f"{seen} {allowed} {_NO_PROOF}")


def head_verdict(result: HeadLeakResult, claimed: Claimed) -> Verdict:
    """Membership by one update of a projection head."""
    test = f"projection head, {result.update}"
    found = result.strongest
    seen = (
        f"From this update alone, whether a record was behind it is told in {_interval(found)} of pairs of a record "
        "that was and one that was not (chance: 50 %)."
    )
    why = _no_claim(claimed) or ("" if result.covered_by_claim else "The claim does not speak of this update.")
    if why:
        revealed = " Whoever sees it learns who was in it." if found.low > _CERTAIN else ""
        return Verdict(4, test, "says nothing", f"{seen}{revealed} {why}")
    ceiling = auc_ceiling(claimed.epsilon, claimed.delta)
    allowed = f"Under the claim no attack would exceed {ceiling:.2%}."
    if found.low > ceiling:
        return Verdict(4, test, "broken", f"{seen} {allowed} This one does.")
    if found.low <= 0.5:
        return Verdict(4, test, "says nothing", f"{seen} That is no better than chance; a better attack may exist.")
    return Verdict(4, test, "holds", f"{seen} {allowed} {_NO_PROOF}")


def token_verdict(result: TokenLeakResult) -> Verdict:
    """Words of the reports that one gradient gives away; no claim is stated in words."""
    test = f"words of the reports by {result.gradient}, {result.update}"
    if result.full:
        words = f"Its rows fill all {result.width} dimensions: every word of the vocabulary fits, none is singled out."
    elif result.found is None or result.mistaken is None:
        words = "Not tested: a gradient of B speaks of A x, and A was not given."
    elif result.mistaken > _MOST * (result.candidates - result.true):
        words = (
            f"Nearly every word of the vocabulary fits ({result.mistaken} of {result.candidates - result.true} that "
            "were not in the reports), so none is singled out."
        )
    else:
        words = (
            f"{result.found} of the {result.true} different words of the reports are recovered, with {result.mistaken} "
            f"of {result.candidates - result.true} other words mistaken for one."
        )
    return Verdict(4, test, "says nothing", words)


def reidentification_verdict(result: Reidentification) -> Verdict:
    """What embeddings reveal; training guarantees do not speak of it."""
    better = result.top_1.low > result.chance_top_1 or result.top_5.low > result.chance_top_5
    words = (
        f"Given one patient's X-ray, that patient's ECG among those of {result.patients} patients is first in "
        f"{_interval(result.top_1)} of cases (chance {result.chance_top_1:.1%}) and among the first five in "
        f"{_interval(result.top_5)} (chance {result.chance_top_5:.1%}); the median rank is "
        f"{result.median_rank.value:g} (chance {result.chance_median_rank:g}). "
    )
    words += (
        "Embeddings of both modalities link a patient's records: treat them as identifying. "
        if better
        else "That is not told apart from chance here. "
    )
    return Verdict(5, "re-identification across modalities", "says nothing", f"{words}{_EMBEDDINGS}")


_EMBEDDINGS = "No guarantee of training limits this; embeddings should not leave the hospital."


def _no_claim(claimed: Claimed) -> str:
    """Why no claim is compared with; empty where one is."""
    if math.isinf(claimed.epsilon):
        return "Nothing is claimed for this training, so there is nothing to break."
    if claimed.unit == "hospital":
        return "What is claimed protects a whole hospital, not single patients, so it is not compared with this."
    return ""


def _claimed(epsilon: float) -> str:
    return f"epsilon {rounded_up(epsilon)}"


def _interval(found: Interval) -> str:
    return f"{found.value:.1%} ({found.low:.1%} to {found.high:.1%})"
