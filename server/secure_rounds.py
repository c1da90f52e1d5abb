"""A round as a secure sum: five stages over the same transport, and a mean at the end that nobody's update is seen in.

A sum can be asked of the sites once. So a round that fails after the first stage is void, not repeated: the global
tensors stay as they were, and the next round begins.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from more_model.errors import ExchangeError
from more_model.exchange import ExchangeSpec, Fingerprint, Joined, Refusal, SumStage, TensorDict, Update
from privacy.quantise import decode
from privacy.secure_sum.coordinator import Coordinator, SecureSum
from privacy.secure_sum.errors import SumVoid
from privacy.secure_sum.identity import Roster
from privacy.secure_sum.messages import Advertisement, Arrays, Confirmation, MaskedInput, Revealed, SealedShares
from privacy.secure_sum.plan import Plan
from privacy.secure_sum.settings import PublicWeights, SumInvitation, SumSettings, make_plan, make_terms
from privacy.settings import PrivacySettings
from server.journal import Participation


class SumTransport(Protocol):
    """Carries the later stages; a site that did not answer in time is not a key of the result."""

    def ask(
        self, messages: Mapping[str, SumStage], *, run: str, timeout_s: float
    ) -> Mapping[str, SumStage | Refusal]: ...


@dataclass(frozen=True, slots=True)
class SumFederation:
    """What is agreed on for all secure sums of a run. ``noise_multiplier``: of the distributed noise (`hospital`)."""

    settings: SumSettings
    weights: PublicWeights
    roster: Roster
    noise_multiplier: float = 0.0


@dataclass(frozen=True, slots=True)
class SumRound:
    """The public set-up of one round."""

    plan: Plan
    invitation: SumInvitation
    roster: Roster


@dataclass(frozen=True, slots=True)
class SumOutcome:
    """``mean``: the weighted mean change of every group that has one; None where the round is void. ``participation``
    of every site, in order of the names. ``bytes_up``: of masked integers."""

    mean: TensorDict | None
    participation: tuple[Participation, ...]
    bytes_up: int


@dataclass(slots=True)
class _Session:
    """One round at the coordinator: its end of the sum, the way to the sites, and what went wrong at which of them."""

    coordinator: Coordinator
    transport: SumTransport
    run: str
    timeout_s: float
    faults: dict[str, Participation] = field(default_factory=dict)
    bytes_up: int = 0

    def note(self, site: str, state: str, why: str) -> None:
        """The first fault of a site stands."""
        self.faults.setdefault(site, Participation(site, state, why))

    def receive(
        self, site: str, take: Callable[[Any], None], parse: Callable[[Mapping[str, Any], Arrays], Any], sent: SumStage
    ) -> None:
        """Hand one message to the coordinator; what cannot be used counts against its site only."""
        try:
            message = parse(sent.facts, sent.arrays)
            if message.site != site:
                raise ExchangeError(f"it calls itself {message.site[:40]!r}")
            take(message)
            self.bytes_up += sum(array.nbytes for array in sent.arrays.values())
        except ExchangeError as error:
            self.note(site, "quarantined", error.cause)

    def ask(
        self,
        stage: str,
        messages: Mapping[str, Any],
        take: Callable[[Any], None],
        parse: Callable[[Mapping[str, Any], Arrays], Any],
    ) -> None:
        """One later stage: send ``messages`` and receive what comes back in time."""
        sent = {site: SumStage(stage, message.facts()) for site, message in messages.items()}
        for site, reply in sorted(self.transport.ask(sent, run=self.run, timeout_s=self.timeout_s).items()):
            if isinstance(reply, Refusal):
                self.note(site, "refused", f"{reply.code} at stage {stage}")
            elif reply.stage != stage:
                self.note(site, "quarantined", f"it answered another stage than {stage}")
            else:
                self.receive(site, take, parse, reply)


def set_up(
    sums: SumFederation,
    spec: ExchangeSpec,
    fingerprint: Fingerprint,
    privacy: PrivacySettings,
    *,
    run: str,
    number: int,
) -> SumRound:
    """The round's plan and invitation; ConfigError for settings under which a sum would not be safe."""
    plan = make_plan(sums.settings, spec, privacy, sums.weights, sums.noise_multiplier)
    terms = make_terms(
        sums.settings,
        plan,
        run=run,
        number=number,
        sites=tuple(sums.weights.of_site),
        fingerprint_digest=fingerprint.digest(),
    )
    return SumRound(plan, SumInvitation(sums.settings, sums.weights, sums.noise_multiplier, terms), sums.roster)


def sum_round(
    round_: SumRound,
    answers: Mapping[str, Update | Joined | Refusal],
    transport: SumTransport,
    *,
    timeout_s: float,
    needed: int,
) -> SumOutcome:
    """From the answers to the instruction to the mean, or to a void round with the reason at every site.

    needed: with fewer contributing sites the round is void.
    """
    terms = round_.invitation.terms
    session = _Session(Coordinator(terms, round_.roster), transport, terms.run, timeout_s)
    try:
        result = _all_stages(session, answers, needed)
    except SumVoid as void:
        return SumOutcome(None, _void(terms.sites, session, void.cause), session.bytes_up)
    gone = {site: stage for site, stage in result.lost.items() if stage in ("advertise", "share", "mask")}
    totals = {group: sum(weights.values()) for group, weights in result.weights.items()}
    mean = decode(result.sums, totals, round_.plan.spec, round_.plan.grids)
    parts = tuple(_part(site, result.lost.get(site), site in gone, session) for site in terms.sites)
    return SumOutcome(mean, parts, session.bytes_up)


def _all_stages(session: _Session, answers: Mapping[str, Update | Joined | Refusal], needed: int) -> SecureSum:
    coordinator = session.coordinator
    for site, answer in sorted(answers.items()):
        if isinstance(answer, Refusal):
            session.note(site, "refused", answer.code)
        elif isinstance(answer, Update):
            session.note(site, "quarantined", "it sent its update in the clear, which was dropped unread")
        else:
            sent = SumStage("advertise", answer.keys)
            session.receive(site, coordinator.receive_advertisement, Advertisement.from_parts, sent)
    listed = coordinator.close_advertising()
    invited = {entry.site: listed for entry in listed.advertisements}
    session.ask("share", invited, coordinator.receive_shares, SealedShares.from_parts)
    session.ask("mask", coordinator.close_sharing(), coordinator.receive_masked, MaskedInput.from_parts)
    proposal = coordinator.close_masking()
    if len(proposal.survivors) < needed:
        # Before anything is unmasked: of a sum that is known and thrown away, the next round with the same tensors and
        # one site more would tell that site's update.
        raise SumVoid("too-few-sites", f"{len(proposal.survivors)} sites are in the sum, {needed} are needed")
    survivors = dict.fromkeys(proposal.survivors, proposal)
    session.ask("confirm", survivors, coordinator.receive_confirmation, Confirmation.from_parts)
    request = coordinator.close_confirming()
    session.ask("reveal", dict.fromkeys(request.survivors, request), coordinator.receive_revealed, Revealed.from_parts)
    return coordinator.finish()


def _void(sites: Sequence[str], session: _Session, reason: str) -> tuple[Participation, ...]:
    return tuple(session.faults.get(site, Participation(site, "void", reason)) for site in sorted(sites))


def _part(site: str, lost_at: str | None, gone: bool, session: _Session) -> Participation:
    if lost_at is None:
        return Participation(site, "accepted")
    if not gone:
        return Participation(site, "accepted", f"its input counts; it was lost afterwards, at stage {lost_at}")
    return session.faults.get(site, Participation(site, "absent", f"no answer in time at stage {lost_at}"))
