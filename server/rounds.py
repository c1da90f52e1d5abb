"""The round loop: ask, wait (bounded), admit, aggregate, record. It knows nothing of how messages travel."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from pydantic import BaseModel, ConfigDict, Field

from more_model.errors import RoundError
from more_model.exchange import ExchangeSpec, Fingerprint, Instruction, Refusal, TensorDict, Tensors, Update
from server.admission import fault_of
from server.aggregate import LoraAggregation
from server.journal import Journal, Participation, RoundRecord


class Transport(Protocol):
    """Carries instructions to sites and brings back what arrived in time; a site that did not answer is not a key."""

    def exchange(
        self, instructions: Mapping[str, Instruction], *, timeout_s: float
    ) -> Mapping[str, Update | Refusal]: ...


class RoundSettings(BaseModel):
    """How many rounds, and what a round needs."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    rounds: int = Field(default=8, ge=1)
    #: A round with fewer accepted updates is void and ends the run. None: every site.
    minimum_sites: int | None = Field(default=None, ge=1)
    round_timeout_s: float = Field(default=3600, gt=0)
    #: Updates with a larger Euclidean norm are quarantined; a public constant, never derived from the updates.
    max_update_norm: float | None = Field(default=None, gt=0)


@dataclass(frozen=True, slots=True)
class Federation:
    """What stays the same over all rounds."""

    sites: tuple[str, ...]
    spec: ExchangeSpec
    fingerprint: Fingerprint
    method: LoraAggregation
    settings: RoundSettings
    training: str
    seed: int


def run_rounds(
    federation: Federation,
    transport: Transport,
    journal: Journal,
    initial: Tensors,
    *,
    on_round: Callable[[int, Tensors], float | None] | None = None,
) -> TensorDict:
    """Run the rounds that the journal does not hold yet and return the last global tensors.

    ``on_round`` is called with each new aggregate before the round is closed and may return a validation metric.

    Raises:
        RoundError: a round had fewer accepted updates than ``minimum_sites``; what was closed before stays closed.
        ExchangeError: an aggregate that is not finite (updates without ``max_update_norm`` may be huge); not recorded.
    """
    federation.method.check(federation.spec)
    federation.spec.check(initial)
    held = journal.last_checkpoint()
    done, tensors = held if held is not None else (0, dict(initial))
    for number in range(done + 1, federation.settings.rounds + 1):
        started = time.monotonic()
        answers = transport.exchange(
            {site: _instruction(federation, number, tensors) for site in federation.sites},
            timeout_s=federation.settings.round_timeout_s,
        )
        accepted, participation = _admit(federation, number, answers)
        _require_quorum(federation, number, accepted, participation)
        tensors = dict(federation.method.combine(tensors, accepted, federation.spec))
        federation.spec.check(tensors)
        metric = on_round(number, tensors) if on_round is not None else None
        bytes_up = sum(delta.nbytes for update in accepted for delta in update.deltas.values())
        seconds = time.monotonic() - started
        record = RoundRecord(number, tuple(participation), _mean_loss(accepted), metric, bytes_up, seconds)
        journal.close_round(record, tensors)
    return tensors


def _instruction(federation: Federation, number: int, tensors: Tensors) -> Instruction:
    return Instruction(
        round=number,
        rounds=federation.settings.rounds,
        tensors=tensors,
        training=federation.training,
        seed=federation.seed,
        spec_digest=federation.spec.digest(),
        fingerprint=federation.fingerprint,
    )


def _admit(
    federation: Federation, number: int, answers: Mapping[str, Update | Refusal]
) -> tuple[list[Update], list[Participation]]:
    accepted, participation = [], []
    for site in sorted(federation.sites):
        answer = answers.get(site)
        if answer is None:
            participation.append(Participation(site, "absent", "no answer within the round's time"))
        elif isinstance(answer, Refusal):
            participation.append(Participation(site, "refused", answer.code))
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
