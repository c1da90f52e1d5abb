"""The levels of an audit, and one audit from its first test to its verdicts."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import TypeVar

from more_model.errors import ConfigError, MoreError
from privacy.audit.leaks import HeadLeakResult, TokenLeakResult, head_leak, token_leak
from privacy.audit.mechanism import DELTA, DRAWS, MechanismResult, audit_mechanism, mechanisms
from privacy.audit.membership import MembershipResult, membership
from privacy.audit.one_run import MIN_CANARIES, OneRunBound, fair_coins, one_run_bound
from privacy.audit.reidentify import Reidentification, reidentification
from privacy.audit.subject import AuditSubject, Claimed
from privacy.audit.verdicts import (
    Verdict,
    head_verdict,
    mechanism_verdicts,
    membership_verdict,
    one_run_verdict,
    reidentification_verdict,
    token_verdict,
)

Found = TypeVar("Found")

#: What each level asks, as the report prints it.
LEVELS: Mapping[int, str] = MappingProxyType(
    {
        1: "Does the code add the noise that is claimed, and does one patient move the sum no further than declared?",
        2: "Does one training run give away which canaries took part?",
        3: "Does the trained model give away who was in its training?",
        4: "What does an update give away by itself?",
        5: "Do embeddings give away which X-ray and which ECG are of the same patient?",
    }
)
DEFAULT_CANARIES, DEFAULT_REFERENCES = 1_000, 16


@dataclass(frozen=True)
class Request:
    """Which levels to run, and how thoroughly. draws: noisy outputs a side of level 1; canaries: of level 2, about a
    thousand for a bound that can be read; references: further trainings of level 3."""

    levels: tuple[int, ...]
    canaries: int = DEFAULT_CANARIES
    references: int = DEFAULT_REFERENCES
    draws: int = DRAWS


@dataclass(frozen=True)
class NotRun:
    """A level, or a part of one, that the subject could not answer."""

    level: int
    why: str


@dataclass(frozen=True)
class Audit:
    """Everything that one audit found. ``subject`` and ``claimed`` are None where only the mechanism was tried."""

    request: Request
    subject: str | None = None
    claimed: Claimed | None = None
    mechanisms: tuple[MechanismResult, ...] = ()
    one_run: OneRunBound | None = None
    membership: MembershipResult | None = None
    heads: tuple[HeadLeakResult, ...] = ()
    tokens: tuple[TokenLeakResult, ...] = ()
    reidentification: Reidentification | None = None
    not_run: tuple[NotRun, ...] = ()

    def verdicts(self) -> tuple[Verdict, ...]:
        """In the order of the levels."""
        made = [*mechanism_verdicts(self.mechanisms)]
        if self.claimed is not None:
            if self.one_run is not None:
                made.append(one_run_verdict(self.one_run, self.claimed))
            if self.membership is not None:
                made.append(membership_verdict(self.membership, self.claimed))
            made += [head_verdict(result, self.claimed) for result in self.heads]
        made += [token_verdict(result) for result in self.tokens]
        if self.reidentification is not None:
            made.append(reidentification_verdict(self.reidentification))
        made += [Verdict(missing.level, "not run", "says nothing", missing.why) for missing in self.not_run]
        return tuple(sorted(made, key=lambda verdict: verdict.level))

    def broken(self) -> tuple[Verdict, ...]:
        """The verdicts that refute a claim."""
        return tuple(verdict for verdict in self.verdicts() if verdict.outcome == "broken")


def check_request(request: Request, *, has_subject: bool) -> None:
    """Refuse what cannot be run.

    Raises:
        ConfigError: all faults at once.
    """
    faults = [f"level {level}: there are levels 1 to {max(LEVELS)}" for level in request.levels if level not in LEVELS]
    if not request.levels:
        faults.append("no level")
    if not has_subject:
        faults += [f"level {level}: needs a run to audit" for level in sorted({2, 3, 4, 5} & set(request.levels))]
    if request.canaries < MIN_CANARIES:
        faults.append(f"canaries {request.canaries}: fewer than {MIN_CANARIES} certify nothing")
    if request.references < 1:
        faults.append(f"references {request.references}: must be at least 1")
    if faults:
        raise ConfigError("privacy audit", faults, remedy="give the directory of a run, or ask for level 1 alone")


def run_audit(
    request: Request, subject: AuditSubject | None = None, *, on_step: Callable[[str], None] = lambda words: None
) -> Audit:
    """Run the levels of ``request``. What the subject refuses to answer is recorded, and the rest goes on.

    on_step: told in a few words what begins.

    Raises:
        ConfigError: see `check_request`.
    """
    check_request(request, has_subject=subject is not None)
    results: tuple[MechanismResult, ...] = ()
    if 1 in request.levels:
        on_step("Level 1: noisy outputs of the mechanisms")
        results = tuple(audit_mechanism(mechanism, draws=request.draws) for mechanism in mechanisms())
    if subject is None:
        return Audit(request, mechanisms=results)
    return _with_subject(Audit(request, subject.name(), subject.claimed(), results), subject, on_step)


def _with_subject(audit: Audit, subject: AuditSubject, on_step: Callable[[str], None]) -> Audit:
    request, refused = audit.request, list[NotRun]()
    delta = _delta(subject.claimed())

    def tried(level: int, words: str, answer: Callable[[], Found]) -> Found | None:
        if level not in request.levels:
            return None
        on_step(f"Level {level}: {words}")
        try:
            return answer()
        except MoreError as error:
            refused.append(NotRun(level, f"{words}: {error.cause}"))
            return None

    found = replace(
        audit,
        one_run=tried(2, "one training run with canaries", lambda: _one_run(subject, request.canaries, delta)),
        membership=tried(3, "reference trainings", lambda: membership(subject.membership_scores(request.references))),
        heads=tried(4, "updates of the heads", lambda: _heads(subject)) or (),
        tokens=tried(4, "words of the reports", lambda: _tokens(subject)) or (),
        reidentification=tried(5, "embeddings", lambda: reidentification(subject.embeddings())),
    )
    return replace(found, not_run=tuple(refused))


def _one_run(subject: AuditSubject, canaries: int, delta: float) -> OneRunBound:
    return one_run_bound(subject.canary_scores(canaries, fair_coins(canaries)), delta)


def _heads(subject: AuditSubject) -> tuple[HeadLeakResult, ...]:
    return tuple(head_leak(update, leak) for update, leak in subject.head_leaks().items())


def _tokens(subject: AuditSubject) -> tuple[TokenLeakResult, ...]:
    found: Sequence[tuple[TokenLeakResult, ...]] = [
        token_leak(update, leak) for update, leak in subject.token_leaks().items()
    ]
    return tuple(result for results in found for result in results)


def _delta(claimed: Claimed) -> float:
    """Of the claim; the customary one of this audit where nothing is claimed."""
    return DELTA if math.isinf(claimed.epsilon) else claimed.delta
