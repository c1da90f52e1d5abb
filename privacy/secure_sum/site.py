"""A site's end of the secure sum: five answers, each given once, in order, or none at all."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field

from more_model.errors import ConfigError
from privacy.quantise import Encoded, Words, word_type
from privacy.secure_sum.errors import SumRefused
from privacy.secure_sum.identity import Identity, Roster
from privacy.secure_sum.keystream import add_mask
from privacy.secure_sum.lists import check_advertisement, check_participants, contributors, places, require_session
from privacy.secure_sum.masked_rounds import MaskedRounds
from privacy.secure_sum.masks import Bundle, Secrets, commitment, pair_mask_key, seal, unseal
from privacy.secure_sum.messages import (
    Advertisement,
    Confirmation,
    Delivery,
    MaskedInput,
    Participants,
    Proposal,
    Revealed,
    RevealRequest,
    SealedShares,
    advertised_content,
    confirmed_content,
)
from privacy.secure_sum.shamir import split
from privacy.secure_sum.terms import MINIMUM_CONTRIBUTORS, Terms, check_terms


@dataclass(frozen=True, slots=True)
class Conditions:
    """What a site demands of the terms, whatever the coordinator proposes: the same ``agreement``, and at least as
    many contributors and colluders reckoned with."""

    agreement: str
    minimum_contributors: int = MINIMUM_CONTRIBUTORS
    colluders: int = 1

    def require(self, terms: Terms) -> None:
        """Raises SumRefused with reason ``terms`` unless ``terms`` are sound and meet these conditions."""
        try:
            check_terms(terms)
        except ConfigError as error:
            raise SumRefused("terms", error.explain()) from error
        if terms.agreement != self.agreement:
            raise SumRefused(
                "terms", "the federation's agreement (specification, base, grids, noise) is not this site's"
            )
        if terms.minimum_contributors < self.minimum_contributors or terms.colluders < self.colluders:
            raise SumRefused(
                "terms",
                f"this site wants sums over at least {self.minimum_contributors} contributors, of which "
                f"{self.colluders} may collude; proposed are {terms.minimum_contributors} and {terms.colluders}",
            )


@dataclass(slots=True)
class _Session:
    """What one session has brought so far; dropped as a whole when it ends."""

    terms: Terms
    secrets: Secrets
    own: Advertisement
    advertised: Mapping[str, Advertisement] = field(default_factory=dict)
    participants: str = ""
    bundles: dict[str, Bundle] = field(default_factory=dict)
    sharers: tuple[str, ...] = ()
    survivors: tuple[str, ...] = ()

    def weights(self) -> dict[str, Mapping[str, int]]:
        return {name: advertisement.weights for name, advertisement in self.advertised.items()}


_STAGES = ("advertise", "share", "mask", "confirm", "reveal", "over")


class Site:
    """One site in one session; make a new one for every round.

    The methods answer the coordinator's messages of the five stages. Each can be answered once; a message out of order,
    of another session or against the rules raises SumRefused and ends the session: its secrets are dropped, and every
    further request is refused. Whoever wants to repeat an answer that was lost on the way keeps the answer's bytes.
    """

    def __init__(
        self, name: str, identity: Identity, roster: Roster, conditions: Conditions, masked_rounds: MaskedRounds
    ) -> None:
        self.name = name
        self._identity = identity
        self._roster = roster
        self._conditions = conditions
        self._masked_rounds = masked_rounds
        self._stage = "advertise"
        self._held: _Session | None = None

    def advertise(self, terms: Terms, weights: Mapping[str, int]) -> Advertisement:
        """Fresh keys for this session, signed. ``weights``: the public integer weight of each group that was trained.

        Raises:
            SumRefused: unacceptable terms or weights, or keys were already advertised.
        """
        with self._once("advertise"):
            self._conditions.require(terms)
            secrets = Secrets.fresh(weights)
            session, sealing = terms.digest(), secrets.sealing.public_key().public_bytes_raw()
            masking = secrets.masking.public_key().public_bytes_raw()
            signature = self._identity.sign(advertised_content(session, self.name, sealing, masking, weights))
            own = Advertisement(session, self.name, sealing, masking, dict(weights), signature)
            check_advertisement(terms, self._roster, own)
            self._held = _Session(terms, secrets, own)
            return own

    def share(self, participants: Participants) -> SealedShares:
        """Shares of this site's secrets, one sealed box for each other participant.

        Raises:
            SumRefused: a list that is too short, not authentic, of another session, or without this site's own entry.
        """
        with self._once("share"):
            session = self._session()
            check_participants(session.terms, self._roster, participants)
            session.advertised = {entry.site: entry for entry in participants.advertisements}
            session.participants = participants.digest()
            if session.advertised.get(self.name) != session.own:
                raise SumRefused(
                    "list-changed", "this site's own entry in the list of participants is not what it sent"
                )
            bundles = _shares_of_own_secrets(session)
            session.bundles[self.name] = bundles.pop(self.name)
            boxes = {name: self._sealed(session, name, bundle) for name, bundle in bundles.items()}
            commitments = {group: commitment(seed) for group, seed in session.secrets.seeds.items()}
            return SealedShares(session.own.session, self.name, boxes, commitments)

    def mask(self, delivery: Delivery, encoded: Encoded) -> MaskedInput:
        """This site's integers under masks; groups with too few contributors are not sent.

        The round is noted in `MaskedRounds` before this returns, so that nothing else of it is ever masked.

        Raises:
            SumRefused: a box that cannot be opened, fewer sharers than the threshold, integers that are not what was
                announced, or a round that was already masked.
        """
        with self._once("mask"):
            session = self._session()
            require_session(session.own.session, delivery.session)
            self._open_boxes(session, delivery)
            self._require_announced(session, encoded)
            self._masked_rounds.claim(session.terms.run, session.terms.round)
            groups = contributors(session.terms, session.weights(), session.sharers)
            words = {
                group: self._masked(session, group, sites, encoded.words[group])
                for group, sites in groups.items()
                if self.name in sites
            }
            return MaskedInput(session.own.session, self.name, words)

    def confirm(self, proposal: Proposal) -> Confirmation:
        """A signature over the list of survivors: the only one for which this site will reveal shares.

        Raises:
            SumRefused: a list that is too short, that names strangers, or that lacks this site.
        """
        with self._once("confirm"):
            session = self._session()
            require_session(session.own.session, proposal.session)
            survivors = proposal.survivors
            if list(survivors) != sorted(set(survivors)) or not set(survivors) <= set(session.sharers):
                raise SumRefused("list-changed", "the survivors are not some of the sites that shared their secrets")
            if self.name not in survivors:
                raise SumRefused("list-changed", "this site gave its masked input, but is not among the survivors")
            if len(survivors) < session.terms.threshold:
                raise SumRefused("too-few-sites", f"{len(survivors)} survivors, {session.terms.threshold} are needed")
            session.survivors = survivors
            signature = self._identity.sign(confirmed_content(session.participants, session.sharers, survivors))
            return Confirmation(session.own.session, self.name, signature)

    def reveal(self, request: RevealRequest) -> Revealed:
        """Shares of the survivors' own masks and of the masking keys of those who dropped out, and the end.

        Raises:
            SumRefused: both secrets of one site are asked for, the lists are not the confirmed ones, or fewer sites
                than the threshold confirmed the same list.
        """
        with self._once("reveal"):
            session = self._session()
            require_session(session.own.session, request.session)
            self._require_confirmed(session, request)
            groups = contributors(session.terms, session.weights(), session.survivors)
            seeds = {
                name: {group: session.bundles[name].seeds[group] for group, sites in groups.items() if name in sites}
                for name in request.survivors
            }
            keys = {name: session.bundles[name].key for name in request.dropped}
            return Revealed(session.own.session, self.name, seeds, keys)

    @contextmanager
    def _once(self, stage: str) -> Iterator[None]:
        """One stage: refused out of order; whatever goes wrong in it ends the session."""
        try:
            if self._stage != stage:
                raise SumRefused(
                    "out-of-order",
                    f"asked to {stage}, but this session's next stage is: {self._stage}",
                    remedy="start the next round, with new keys; keys and answers of a session are used once",
                )
            yield
        except BaseException:
            self._end()
            raise
        self._stage = _STAGES[_STAGES.index(stage) + 1]
        if self._stage == "over":
            self._end()

    def _end(self) -> None:
        self._stage, self._held = "over", None

    def _session(self) -> _Session:
        assert self._held is not None, "a stage after the first has a session"
        return self._held

    def _sealed(self, session: _Session, recipient: str, bundle: Bundle) -> bytes:
        key = session.advertised[recipient].sealing_key
        return seal(session.secrets.sealing, key, self.name, recipient, session.participants, bundle.to_bytes())

    def _open_boxes(self, session: _Session, delivery: Delivery) -> None:
        if not delivery.boxes.keys() <= session.advertised.keys() - {self.name}:
            raise SumRefused("list-changed", "shares arrived from sites that are not other participants")
        for sender, box in sorted(delivery.boxes.items()):
            advertisement = session.advertised[sender]
            key = advertisement.sealing_key
            packed = unseal(session.secrets.sealing, key, sender, self.name, session.participants, box)
            session.bundles[sender] = Bundle.from_bytes(packed, advertisement.weights)
        session.sharers = tuple(sorted(session.bundles))
        if len(session.sharers) < session.terms.threshold:
            raise SumRefused("too-few-sites", f"{len(session.sharers)} sharers, {session.terms.threshold} are needed")

    def _require_announced(self, session: _Session, encoded: Encoded) -> None:
        terms = session.terms
        if encoded.weights != session.own.weights:
            raise SumRefused("weights", "the integers were made with other weights than those announced")
        if encoded.words.keys() != encoded.weights.keys():
            raise SumRefused("terms", "the integers are not exactly those of the groups that have a weight")
        if encoded.largest > terms.largest:
            raise SumRefused("terms", f"integers up to {encoded.largest}, the terms allow {terms.largest}")
        for group, words in encoded.words.items():
            if words.shape != (terms.words[group],) or words.dtype != word_type(terms.word_bits):
                raise SumRefused("terms", f"the integers of {group!r} have another number or type than the terms say")

    def _masked(self, session: _Session, group: str, sites: tuple[str, ...], words: Words) -> Words:
        masked = words.copy()
        add_mask(masked, session.secrets.seeds[group])
        for other in sites:
            if other != self.name:
                public = session.advertised[other].masking_key
                key = pair_mask_key(session.secrets.masking, public, (self.name, other), group, session.participants)
                add_mask(masked, key, subtract=self.name > other)
        return masked

    def _require_confirmed(self, session: _Session, request: RevealRequest) -> None:
        both = set(request.survivors) & set(request.dropped)
        if both:
            raise SumRefused(
                "both-secrets",
                f"asked for the own mask and for the masking key of {len(both)} site(s): that would unmask them",
                avoid="answer such a request in any form",
            )
        missing = tuple(name for name in session.sharers if name not in session.survivors)
        if request.survivors != session.survivors or request.dropped != missing:
            raise SumRefused("list-changed", "the lists are not the ones that this site confirmed")
        content = confirmed_content(session.participants, session.sharers, session.survivors)
        valid = [
            name
            for name, signature in request.signatures.items()
            if name in session.survivors and self._roster.signed(name, content, signature)
        ]
        if len(valid) < session.terms.threshold:
            raise SumRefused(
                "unconfirmed",
                f"{len(valid)} sites confirmed this list of survivors, {session.terms.threshold} are needed",
            )


def _shares_of_own_secrets(session: _Session) -> dict[str, Bundle]:
    """For every participant, this site included, its shares of this site's masking key and seeds."""
    names, threshold = tuple(session.advertised), session.terms.threshold
    keys = split(session.secrets.masking.private_bytes_raw(), threshold, len(names))
    seeds = {group: split(seed, threshold, len(names)) for group, seed in session.secrets.seeds.items()}
    return {
        name: Bundle(keys[place - 1], {group: shares[place - 1] for group, shares in seeds.items()})
        for name, place in places(names).items()
    }
