"""The round loop: ask, wait (bounded), admit, aggregate, record. It knows nothing of how messages travel."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from pydantic import BaseModel, ConfigDict, Field

from more_model.errors import RoundError
from more_model.exchange import (
    ExchangeSpec,
    Fingerprint,
    Instruction,
    Joined,
    Refusal,
    SumStage,
    TensorDict,
    Tensors,
    Update,
)
from server.admission import fault_of
from server.aggregation.methods import LoraAggregation
from server.journal import Journal, Participation, RoundRecord, is_void
from server.protection import UNPROTECTED, Protection, check_protection, noised, single
from server.secure_rounds import SumRound, set_up, sum_round


class Transport(Protocol):
    """Carries instructions to sites and brings back what arrived in time; a site that did not answer is not a key."""

    def exchange(
        self, instructions: Mapping[str, Instruction], *, timeout_s: float
    ) -> Mapping[str, Update | Joined | Refusal]: ...

    def ask(
        self, messages: Mapping[str, SumStage], *, run: str, timeout_s: float
    ) -> Mapping[str, SumStage | Refusal]: ...


class Observer(Protocol):
    """Is told how far the rounds have come. ``stop``: whether to end after the last closed round, asked before each."""

    def opened(self, number: int) -> None: ...

    def admitted(self, participation: Sequence[Participation]) -> None: ...

    def closed(self, record: RoundRecord) -> None: ...

    def stop(self) -> bool: ...


class _Nobody:
    """An `Observer` that does not look."""

    def opened(self, number: int) -> None: ...

    def admitted(self, participation: Sequence[Participation]) -> None: ...

    def closed(self, record: RoundRecord) -> None: ...

    def stop(self) -> bool:
        return False


class RoundSettings(BaseModel):
    """How many rounds, and what a round needs."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    rounds: int = Field(default=8, ge=1)
    #: A round with fewer accepted updates is void and ends the run. None: every site.
    minimum_sites: int | None = Field(default=None, ge=1)
    round_timeout_s: float = Field(default=3600, gt=0)
    #: Updates with a larger Euclidean norm are quarantined; a public constant, never derived from the updates.
    max_update_norm: float | None = Field(default=None, gt=0)
    #: With secure sums: so many rounds of a run may come to nothing (their tensors stay) before it ends in an error.
    max_void_rounds: int = Field(default=2, ge=0)


@dataclass(frozen=True, slots=True)
class Federation:
    """What stays the same over all rounds.

    protection: differential privacy and secure sums, as far as the coordinator has a part in them.
    """

    sites: tuple[str, ...]
    spec: ExchangeSpec
    fingerprint: Fingerprint
    method: LoraAggregation
    settings: RoundSettings
    training: str
    seed: int
    run: str = "run"
    protection: Protection = UNPROTECTED

    def check(self) -> None:
        """Refuse (ConfigError) what cannot work together, before any site is asked."""
        self.method.check(self.spec, self.settings.rounds)
        check_protection(self.protection, self.method, self.sites, max_update_norm=self.settings.max_update_norm)


@dataclass(frozen=True, slots=True)
class _Result:
    """What one round gave: the new global tensors (the old ones where it is void), and how it went."""

    tensors: TensorDict
    participation: tuple[Participation, ...]
    loss: float | None
    bytes_up: int


def run_rounds(
    federation: Federation,
    transport: Transport,
    journal: Journal,
    initial: Tensors,
    *,
    on_round: Callable[[int, Tensors], float | None] | None = None,
    observer: Observer | None = None,
) -> TensorDict:
    """Run the rounds that the journal does not hold yet and return the last global tensors.

    ``on_round`` is called with each new aggregate once the round is closed, and may return a validation metric. Not
    before: what anybody has seen of an aggregate must be what a resumed run goes on with, its noise included.

    Raises:
        ConfigError: settings that cannot be combined.
        RoundError: a round had fewer accepted updates than ``minimum_sites``, or too many secure sums came to nothing;
            what was closed before stays closed.
        ExchangeError: an aggregate that is not finite (updates without ``max_update_norm`` may be huge); not recorded.
    """
    watching = observer if observer is not None else _Nobody()
    federation.check()
    federation.spec.check(initial)
    held = journal.last_checkpoint()
    done, tensors = held if held is not None else (0, dict(initial))
    if on_round is not None and done and journal.rounds()[-1].macro_auroc is None:
        # The last start may have ended between the closing and the measuring.
        journal.measure(done, on_round(done, tensors))
    for number in range(done + 1, federation.settings.rounds + 1):
        if watching.stop():
            break
        started = time.monotonic()
        watching.opened(number)
        result = _one_round(federation, number, tensors, transport, watching)
        tensors = result.tensors
        federation.spec.check(tensors)
        seconds = time.monotonic() - started
        record = RoundRecord(number, result.participation, result.loss, None, result.bytes_up, seconds)
        journal.close_round(record, tensors)
        watching.closed(record)
        if on_round is not None:
            journal.measure(number, on_round(number, tensors))
        if federation.protection.sums is not None:
            _require_not_too_many_void(federation, journal)
    return tensors


def _one_round(
    federation: Federation, number: int, tensors: TensorDict, transport: Transport, observer: Observer
) -> _Result:
    protection, settings, spec = federation.protection, federation.settings, federation.spec
    set_up_sum = _set_up_sum(federation, number)
    instruction = _instruction(federation, number, tensors, set_up_sum)
    answers = transport.exchange(dict.fromkeys(federation.sites, instruction), timeout_s=settings.round_timeout_s)
    needed = settings.minimum_sites or len(federation.sites)
    if set_up_sum is not None:
        outcome = sum_round(set_up_sum, answers, transport, timeout_s=settings.round_timeout_s, needed=needed)
        observer.admitted(outcome.participation)
        if outcome.mean is None:
            return _Result(dict(tensors), outcome.participation, None, outcome.bytes_up)
        combined = federation.method.combine(tensors, [single(outcome.mean, spec)], spec)
        return _Result(dict(combined), outcome.participation, None, outcome.bytes_up)
    accepted, participation = _admit(federation, number, answers)
    observer.admitted(participation)
    _require_quorum(federation, number, accepted, participation)
    updates = [noised(protection, accepted, spec.upward(number))] if protection.noise_here else accepted
    combined = federation.method.combine(tensors, updates, spec)
    bytes_up = sum(delta.nbytes for update in accepted for delta in update.deltas.values())
    return _Result(dict(combined), tuple(participation), _mean_loss(accepted), bytes_up)


def _set_up_sum(federation: Federation, number: int) -> SumRound | None:
    sums = federation.protection.sums
    if sums is None:
        return None
    return set_up(
        sums,
        federation.spec.upward(number),
        federation.fingerprint,
        federation.protection.privacy,
        run=federation.run,
        number=number,
    )


def _require_not_too_many_void(federation: Federation, journal: Journal) -> None:
    void = [record for record in journal.rounds() if is_void(record)]
    if len(void) > federation.settings.max_void_rounds:
        last = void[-1]
        reasons = "; ".join(sorted({f"{part.site}: {part.state} ({part.why})" for part in last.sites}))
        raise RoundError(
            f"{len(void)} rounds came to nothing, {federation.settings.max_void_rounds} may; "
            f"round {last.round}: {reasons}",
            remedy="mend the sites named and resume: the next round begins with the last good tensors",
            avoid="ask the sites for their updates in the clear",
        )


def _instruction(federation: Federation, number: int, tensors: Tensors, sum_: SumRound | None) -> Instruction:
    privacy = federation.protection.privacy
    return Instruction(
        round=number,
        rounds=federation.settings.rounds,
        tensors=tensors,
        training=federation.training,
        seed=federation.seed,
        spec_digest=federation.spec.digest(),
        fingerprint=federation.fingerprint,
        run=federation.run,
        privacy=privacy.model_dump_json() if privacy.on else "",
        secure_sum="" if sum_ is None else sum_.invitation.to_json(),
    )


def _admit(
    federation: Federation, number: int, answers: Mapping[str, Update | Joined | Refusal]
) -> tuple[list[Update], list[Participation]]:
    accepted, participation = [], []
    for site in sorted(federation.sites):
        answer = answers.get(site)
        if answer is None:
            participation.append(Participation(site, "absent", "no answer within the round's time"))
        elif isinstance(answer, Refusal):
            participation.append(Participation(site, "refused", answer.code))
        elif isinstance(answer, Joined):
            participation.append(Participation(site, "quarantined", "it answered as if asked for a secure sum"))
        else:
            fault = fault_of(
                answer,
                site=site,
                round_number=number,
                spec=federation.spec,
                fingerprint=federation.fingerprint,
                max_norm=federation.settings.max_update_norm,
            )
            if fault is None:
                accepted.append(answer)
            # The counts of a refused update are as little to be trusted as its tensors: they are not recorded.
            counts = answer.counts if fault is None else None
            participation.append(Participation(site, "accepted" if fault is None else "quarantined", fault, counts))
    return accepted, participation


def _require_quorum(
    federation: Federation, number: int, accepted: Sequence[Update], participation: Sequence[Participation]
) -> None:
    needed = federation.settings.minimum_sites or len(federation.sites)
    if len(accepted) < needed:
        reasons = "; ".join(f"{p.site}: {p.state} ({p.why})" for p in participation if p.state != "accepted")
        raise RoundError(
            f"round {number} has {len(accepted)} usable updates, {needed} are needed. {reasons}",
            remedy="mend the sites named and resume, or lower minimum_sites if the federation agreed to that",
            avoid="count a run on fewer sites as the federation's result",
        )


def _mean_loss(accepted: Sequence[Update]) -> float | None:
    weighted = [
        (update.counts["loss"], update.weights.get("text", 0.0)) for update in accepted if "loss" in update.counts
    ]
    total = sum(weight for _, weight in weighted)
    return sum(loss * weight for loss, weight in weighted) / total if total else None
