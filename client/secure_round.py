"""A site's end of the secure sums of a run: its update goes in, and only masked integers come out."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from client.private_site import trained_groups
from more_model.errors import ExchangeError
from more_model.exchange import ExchangeSpec, Fact, Instruction, Joined, SumStage, Update
from privacy.hospital import update_norm
from privacy.secure_sum.identity import Identity, Roster
from privacy.secure_sum.masked_rounds import MaskedRounds
from privacy.secure_sum.messages import Delivery, Participants, Proposal, RevealRequest
from privacy.secure_sum.plan import Plan
from privacy.secure_sum.prepare import prepare
from privacy.secure_sum.settings import PublicWeights, SumInvitation, SumSettings, make_plan
from privacy.secure_sum.site import Conditions, Site
from privacy.secure_sum.terms import Terms
from privacy.settings import PrivacySettings

_LOG = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class SumAgreement:
    """What a site agreed to: settings, the public weights of all sites, the privacy of the run and its noise."""

    settings: SumSettings
    weights: PublicWeights
    privacy: PrivacySettings
    noise_multiplier: float


@dataclass(slots=True)
class _Open:
    site: Site
    update: Update
    plan: Plan
    terms: Terms
    weights: Mapping[str, int]
    joined: Joined


class SumParticipant:
    """One site in all secure sums of a run. Holds one open session; a new round drops the one before.

    A question that is asked again gets the same answer: the first one was lost on the way.
    """

    def __init__(
        self, name: str, identity: Identity, roster: Roster, agreement: SumAgreement, masked_rounds: MaskedRounds
    ) -> None:
        self.agreement = agreement
        self._name, self._identity, self._roster = name, identity, roster
        self._masked_rounds = masked_rounds
        self._open: _Open | None = None
        self._answered: dict[str, tuple[dict[str, Fact], SumStage]] = {}

    def join(self, instruction: Instruction, update: Update, spec: ExchangeSpec) -> Joined:
        """Keep ``update`` back and advertise this site's keys for the round: new ones, unless the same was asked before
        and nothing has come of it yet.

        Raises:
            ExchangeError: terms that are not what this site agreed to (SumRefused).
        """
        agreed, plan = self.agreement, self.plan(spec)
        terms = SumInvitation.from_json(instruction.secure_sum).terms
        if (before := self._open) is not None and not self._answered and _is_for(before, terms, update):
            return before.joined
        own = agreed.weights.integers(agreed.settings.max_weight)[self._name]
        weights = dict.fromkeys((g for g in trained_groups(update.weights) if g in terms.words), own)
        conditions = self.conditions(instruction, plan)
        site = Site(self._name, self._identity, self._roster, conditions, self._masked_rounds)
        advertisement = site.advertise(terms, weights)
        joined = Joined(self._name, instruction.round, advertisement.facts())
        self._open, self._answered = _Open(site, update, plan, terms, weights, joined), {}
        return joined

    def require_acceptable(self, instruction: Instruction, terms: Terms, spec: ExchangeSpec) -> None:
        """Refuse terms before anything is trained or paid for under them.

        Raises:
            ExchangeError: of another round, with other settings, or for a round that was masked before (SumRefused).
        """
        if terms.round != instruction.round or terms.run != instruction.run:
            raise ExchangeError("the terms of the secure sum are of another round than the instruction")
        self.conditions(instruction, self.plan(spec)).require(terms)
        if self._masked_rounds.claimed(terms.run, terms.round):
            raise ExchangeError("this site already gave a masked input to this round", remedy="begin the next round")

    def plan(self, spec: ExchangeSpec) -> Plan:
        """What this site does to an update before it is masked."""
        agreed = self.agreement
        return make_plan(agreed.settings, spec, agreed.privacy, agreed.weights, agreed.noise_multiplier)

    def conditions(self, instruction: Instruction, plan: Plan) -> Conditions:
        """What this site demands of the terms."""
        settings = self.agreement.settings
        agreement = plan.agreement(instruction.fingerprint.digest())
        return Conditions(agreement, settings.minimum_contributors, settings.colluders)

    def answer(self, message: SumStage) -> SumStage:
        """The answer to a later stage.

        Raises:
            ExchangeError: no session is open (a restart ends it), an unknown stage, or SumRefused.
        """
        if (before := self._answered.get(message.stage)) is not None and before[0] == dict(message.facts):
            return before[1]
        session = self._open
        if session is None:
            raise ExchangeError("no secure sum is open at this site", remedy="go on with the next round")
        stages: dict[str, Callable[[_Open, SumStage], Any]] = {
            "share": lambda own, asked: own.site.share(Participants.from_parts(asked.facts, asked.arrays)),
            "mask": _masked,
            "confirm": lambda own, asked: own.site.confirm(Proposal.from_parts(asked.facts, asked.arrays)),
            "reveal": lambda own, asked: own.site.reveal(RevealRequest.from_parts(asked.facts, asked.arrays)),
        }
        if message.stage not in stages:
            raise ExchangeError("a secure sum has no such stage")
        # Whatever goes wrong in a stage ends the session.
        self._open = None
        reply = stages[message.stage](session, message)
        if message.stage != "reveal":
            self._open = session
        arrays = reply.arrays() if message.stage == "mask" else {}
        answer = SumStage(message.stage, reply.facts(), arrays)
        self._answered[message.stage] = dict(message.facts), answer
        return answer


def require_invited(instruction: Instruction, participant: SumParticipant | None, spec: ExchangeSpec) -> None:
    """Refuse an update in the clear where sums were agreed, a sum where none were, and sums with other settings. spec:
    what goes up in this round.

    Raises:
        ExchangeError: says which.
    """
    if participant is None:
        if instruction.secure_sum:
            raise ExchangeError("the coordinator asks for a secure sum that this site did not agree to")
        return
    if not instruction.secure_sum:
        raise ExchangeError(
            "the coordinator asks for this site's update in the clear, but secure sums were agreed",
            avoid="answer such a request: the update alone is what the masks protect",
        )
    asked, agreed = SumInvitation.from_json(instruction.secure_sum), participant.agreement
    same = (asked.settings, dict(asked.weights.of_site), asked.noise_multiplier) == (
        agreed.settings,
        dict(agreed.weights.of_site),
        agreed.noise_multiplier,
    )
    if not same:
        raise ExchangeError("the settings, weights or noise of the secure sum are not those that this site agreed to")
    participant.require_acceptable(instruction, asked.terms, spec)


def _is_for(session: _Open, terms: Terms, update: Update) -> bool:
    kept, deltas = session.update.deltas, update.deltas
    same = kept.keys() == deltas.keys() and all(np.array_equal(kept[name], deltas[name]) for name in kept)
    return session.terms == terms and same


def _masked(own: _Open, asked: SumStage) -> Any:
    delivery = Delivery.from_parts(asked.facts, asked.arrays)
    deltas = {tensor.name: own.update.deltas[tensor.name] for tensor in own.plan.spec.of_towers(tuple(own.weights))}
    if (norm := update_norm(deltas)) > own.plan.clip_norm:
        # For this site only. Under a patient mode the norm is mostly noise, and the signal shrinks with it.
        _LOG.warning("the update of norm %.3g is scaled down to %.3g before the sum", norm, own.plan.clip_norm)
    return own.site.mask(delivery, prepare(deltas, own.weights, own.plan, own.terms).encoded)
