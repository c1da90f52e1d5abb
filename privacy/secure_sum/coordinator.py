"""The coordinator's end of the secure sum: collects, forwards, adds masked inputs up, and takes the masks off the sum.

It never holds a single site's integers without a mask: inputs are added to one running sum as they arrive.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass

import numpy as np
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

from more_model.errors import ExchangeError
from privacy.quantise import Words, word_type
from privacy.secure_sum.errors import SumRefused, SumVoid
from privacy.secure_sum.identity import Roster
from privacy.secure_sum.keystream import add_mask
from privacy.secure_sum.lists import check_advertisement, contributors, places, require_session
from privacy.secure_sum.masks import commitment, pair_mask_key
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
    confirmed_content,
)
from privacy.secure_sum.shamir import combine
from privacy.secure_sum.terms import Terms, check_terms


@dataclass(frozen=True, slots=True)
class SecureSum:
    """What a round gave.

    ``sums``: by exchange group, the sum [words] of the contributors' weighted integers modulo 2^word_bits, unsigned;
    `privacy.quantise.decode` makes a mean of it. ``weights``: the contributors' public weights, by group and site.
    ``withheld``: groups without a sum, because fewer than the minimum of sites contributed. ``lost``: sites that were
    invited but did not go through to the end, and the first stage that each did not finish.
    """

    sums: Mapping[str, Words]
    weights: Mapping[str, Mapping[str, int]]
    withheld: tuple[str, ...]
    lost: Mapping[str, str]


class Coordinator:
    """One round: for each stage ``receive_*`` for what arrives, then ``close_*``, which gives what to send next.

    ``receive_*`` raises SumRefused for a message that cannot be used (the site then counts as lost), ``close_*``
    raises SumVoid with the reason when too few sites are left. A site's late answer is refused like a false one.
    """

    def __init__(self, terms: Terms, roster: Roster) -> None:
        check_terms(terms)
        self.terms = terms
        self._session = terms.digest()
        self._roster = roster
        self._stage = "advertise"
        self._advertised: dict[str, Advertisement] = {}
        self._shared: dict[str, SealedShares] = {}
        self._masked: set[str] = set()
        self._sums: dict[str, Words] = {}
        self._signatures: dict[str, bytes] = {}
        self._revealed: dict[str, Revealed] = {}
        self._participants = ""

    def receive_advertisement(self, message: Advertisement) -> None:
        """Stage advertise."""
        self._expect("advertise", message.session, message.site, self.terms.sites, self._advertised)
        check_advertisement(self.terms, self._roster, message)
        self._advertised[message.site] = message

    def close_advertising(self) -> Participants:
        """The list for every site that is on it."""
        self._close("advertise", "share", self._advertised)
        self._advertised = dict(sorted(self._advertised.items()))
        participants = Participants(self._session, tuple(self._advertised.values()))
        self._participants = participants.digest()
        return participants

    def receive_shares(self, message: SealedShares) -> None:
        """Stage share."""
        self._expect("share", message.session, message.site, self._advertised, self._shared)
        if message.boxes.keys() != self._advertised.keys() - {message.site}:
            raise SumRefused("malformed-shares", f"{message.site!r} did not seal one box for each other participant")
        if message.commitments.keys() != self._advertised[message.site].weights.keys():
            raise SumRefused("malformed-shares", f"{message.site!r} did not commit to one seed for each of its groups")
        self._shared[message.site] = message

    def close_sharing(self) -> dict[str, Delivery]:
        """For each sharer, what the other sharers sealed for it."""
        self._close("share", "mask", self._shared)
        return {
            recipient: Delivery(
                self._session,
                {sender: sent.boxes[recipient] for sender, sent in self._shared.items() if sender != recipient},
            )
            for recipient in sorted(self._shared)
        }

    def receive_masked(self, message: MaskedInput) -> None:
        """Stage mask; the input is added to the running sums and not kept."""
        self._expect("mask", message.session, message.site, self._shared, self._masked)
        self._require_usable(message)
        for group, words in message.words.items():
            if group not in self._sums:
                self._sums[group] = np.zeros(self.terms.words[group], word_type(self.terms.word_bits))
            self._sums[group] += words
        self._masked.add(message.site)

    def close_masking(self) -> Proposal:
        """The list of survivors, for all of them."""
        self._close("mask", "confirm", self._masked)
        return Proposal(self._session, self._survivors())

    def receive_confirmation(self, message: Confirmation) -> None:
        """Stage confirm."""
        self._expect("confirm", message.session, message.site, self._masked, self._signatures)
        content = confirmed_content(self._participants, sorted(self._shared), self._survivors())
        if not self._roster.signed(message.site, content, message.signature):
            raise SumRefused("unconfirmed", f"{message.site!r} signed another list than the one proposed to it")
        self._signatures[message.site] = message.signature

    def close_confirming(self) -> RevealRequest:
        """The request for all survivors; one that did not confirm will refuse it."""
        self._close("confirm", "reveal", self._signatures)
        return RevealRequest(self._session, self._survivors(), self._dropped(), dict(self._signatures))

    def receive_revealed(self, message: Revealed) -> None:
        """Stage reveal."""
        self._expect("reveal", message.session, message.site, self._masked, self._revealed)
        seeds = {(site, group) for group, sites in self._groups(self._survivors()).items() for site in sites}
        if {(site, group) for site, shares in message.seeds.items() for group in shares} != seeds:
            raise SumRefused("malformed-shares", f"{message.site!r} did not reveal one share for each mask in the sum")
        if message.keys.keys() != set(self._dropped()):
            raise SumRefused(
                "malformed-shares", f"{message.site!r} did not reveal one share for each site that dropped"
            )
        self._revealed[message.site] = message

    def finish(self) -> SecureSum:
        """Take the masks off.

        Raises:
            SumVoid: too few sites revealed their shares, or a secret put together from them is not the one promised.
        """
        self._close("reveal", "over", self._revealed)
        groups = self._groups(self._survivors())
        for name in self._dropped():
            self._remove_pair_masks(name, groups)
        for group, sites in groups.items():
            for name in sites:
                add_mask(self._sums[group], self._seed(name, group), subtract=True)
        return SecureSum(
            sums={group: self._sums[group] for group in groups},
            weights={
                group: {name: self._advertised[name].weights[group] for name in sites}
                for group, sites in groups.items()
            },
            withheld=tuple(group for group in sorted(self.terms.words) if group not in groups),
            lost=self._lost("reveal"),
        )

    def _expect(self, stage: str, session: str, site: str, allowed: Iterable[str], received: Iterable[str]) -> None:
        if self._stage != stage:
            raise SumRefused("out-of-order", f"{site!r} answered stage {stage}, but the round is at: {self._stage}")
        require_session(self._session, session)
        if site not in allowed:
            raise SumRefused("unknown-site", f"{site!r} is not among the sites that this stage asked")
        if site in received:
            raise SumRefused("replay", f"{site!r} already answered this stage")

    def _close(self, stage: str, following: str, received: Collection[str]) -> None:
        if self._stage != stage:
            raise SumRefused("out-of-order", f"stage {stage} cannot be closed, the round is at: {self._stage}")
        if len(received) < self.terms.threshold:
            self._stage = "over"
            raise SumVoid(
                "too-few-sites",
                f"round {self.terms.round} is void: {len(received)} sites finished stage {stage}, "
                f"{self.terms.threshold} are needed; lost: {', '.join(self._lost(stage)) or 'none'}",
                remedy="look at the sites named and go on with the next round",
                avoid="ask the remaining sites for anything more of this round",
            )
        self._stage = following

    def _survivors(self) -> tuple[str, ...]:
        return tuple(sorted(self._masked))

    def _dropped(self) -> tuple[str, ...]:
        return tuple(sorted(self._shared.keys() - self._masked))

    def _groups(self, present: Iterable[str]) -> dict[str, tuple[str, ...]]:
        weights = {name: advertisement.weights for name, advertisement in self._advertised.items()}
        return contributors(self.terms, weights, tuple(present))

    def _lost(self, last: str) -> dict[str, str]:
        """By site, in order of the names, the first stage up to ``last`` that it did not finish."""
        reached: dict[str, Collection[str]] = {
            "advertise": self._advertised,
            "share": self._shared,
            "mask": self._masked,
            "confirm": self._signatures,
            "reveal": self._revealed,
        }
        stages = list(reached)[: list(reached).index(last) + 1]
        missed = {site: [stage for stage in stages if site not in reached[stage]] for site in self.terms.sites}
        return {site: missing[0] for site, missing in missed.items() if missing}

    def _require_usable(self, message: MaskedInput) -> None:
        wanted = {group for group, sites in self._groups(self._shared).items() if message.site in sites}
        if message.words.keys() != wanted:
            raise SumRefused("malformed-input", f"{message.site!r} did not send exactly the groups that it announced")
        kind = word_type(self.terms.word_bits)
        for group, words in message.words.items():
            if not isinstance(words, np.ndarray) or words.dtype != kind or words.shape != (self.terms.words[group],):
                raise SumRefused("malformed-input", f"{message.site!r} sent {group!r} with another size or type")

    def _remove_pair_masks(self, dropped: str, groups: Mapping[str, tuple[str, ...]]) -> None:
        masking = X25519PrivateKey.from_private_bytes(
            self._secret(dropped, {name: revealed.keys[dropped] for name, revealed in self._revealed.items()})
        )
        if masking.public_key().public_bytes_raw() != self._advertised[dropped].masking_key:
            raise self._false_shares(dropped)
        for group in self._advertised[dropped].weights.keys() & groups.keys():
            for name in groups[group]:
                other = self._advertised[name].masking_key
                key = pair_mask_key(masking, other, (dropped, name), group, self._participants)
                # What the survivor did, undone: it added where its name comes first.
                add_mask(self._sums[group], key, subtract=name < dropped)

    def _seed(self, site: str, group: str) -> bytes:
        seed = self._secret(site, {name: revealed.seeds[site][group] for name, revealed in self._revealed.items()})
        if commitment(seed) != self._shared[site].commitments[group]:
            raise self._false_shares(site)
        return seed

    def _secret(self, site: str, shares: Mapping[str, bytes]) -> bytes:
        numbers = places(tuple(self._advertised))
        chosen = sorted(shares)[: self.terms.threshold]
        try:
            return combine({numbers[name]: shares[name] for name in chosen})
        except ExchangeError as error:
            raise self._false_shares(site) from error

    def _false_shares(self, site: str) -> SumVoid:
        return SumVoid(
            "false-share",
            f"round {self.terms.round} is void: the revealed shares do not give the secret that {site!r} committed to",
            remedy="go on with the next round; if it happens again, compare the installations of the sites",
        )
