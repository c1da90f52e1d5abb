"""A small federation around the secure sum, and a driver that carries every message as scalars and arrays."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest

from privacy.quantise import Encoded
from privacy.secure_sum.coordinator import Coordinator, SecureSum
from privacy.secure_sum.errors import SumRefused
from privacy.secure_sum.identity import Identity, Roster
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
)  # fmt: skip
from privacy.secure_sum.site import Conditions, Site
from privacy.secure_sum.terms import Terms, usual_threshold

LARGEST, MAX_WEIGHT = 1000, 50


class MaskedRoundsInMemory:
    def __init__(self) -> None:
        self.claimed: set[tuple[str, int]] = set()

    def claim(self, run: str, number: int) -> None:
        if (run, number) in self.claimed:
            raise SumRefused("round-already-masked", "this round was already masked")
        self.claimed.add((run, number))


def carry(message: Any) -> Any:
    """What the other side makes of a message that travelled."""
    arrays = {name: array.copy() for name, array in message.arrays().items()} if hasattr(message, "arrays") else {}
    return type(message).from_parts(dict(message.facts()), arrays)


@dataclass
class Room:
    """All sites and the coordinator of one round. ``weights``: by site and group; ``encoded``: what each would mask."""

    terms: Terms
    identities: dict[str, Identity]
    roster: Roster
    weights: dict[str, dict[str, int]]
    encoded: dict[str, Encoded]
    sites: dict[str, Site]
    coordinator: Coordinator

    def plain(self, group: str, names: Collection[str]) -> np.ndarray:
        """The sum without masks, in Python integers, modulo 2^word_bits."""
        total = sum(self.encoded[name].words[group].astype(object) for name in names)
        return (total % 2**self.terms.word_bits).astype(f"u{self.terms.word_bits // 8}")

    def advertise(self, lost: Collection[str] = ()) -> Participants:
        for name, site in self.sites.items():
            if name not in lost:
                message: Advertisement = carry(site.advertise(self.terms, self.weights[name]))
                self.coordinator.receive_advertisement(message)
        return carry(self.coordinator.close_advertising())

    def share(self, participants: Participants, lost: Collection[str] = ()) -> dict[str, Delivery]:
        for entry in participants.advertisements:
            if entry.site not in lost:
                message: SealedShares = carry(self.sites[entry.site].share(participants))
                self.coordinator.receive_shares(message)
        return {name: carry(delivery) for name, delivery in self.coordinator.close_sharing().items()}

    def mask(self, deliveries: Mapping[str, Delivery], lost: Collection[str] = ()) -> Proposal:
        for name, delivery in deliveries.items():
            message: MaskedInput = carry(self.sites[name].mask(delivery, self.encoded[name]))
            if name not in lost:
                self.coordinator.receive_masked(message)
        return carry(self.coordinator.close_masking())

    def confirm(self, proposal: Proposal, lost: Collection[str] = ()) -> RevealRequest:
        for name in proposal.survivors:
            if name not in lost:
                message: Confirmation = carry(self.sites[name].confirm(proposal))
                self.coordinator.receive_confirmation(message)
        return carry(self.coordinator.close_confirming())

    def reveal(self, request: RevealRequest, lost: Collection[str] = ()) -> SecureSum:
        for name in request.signatures:
            if name not in lost:
                message: Revealed = carry(self.sites[name].reveal(request))
                self.coordinator.receive_revealed(message)
        return self.coordinator.finish()

    def play(self, lost: Mapping[str, Collection[str]] | None = None) -> SecureSum:
        """A whole round; ``lost`` names, by stage, the sites whose answer does not arrive."""
        at = dict(lost or {})
        deliveries = self.share(self.advertise(at.get("advertise", ())), at.get("share", ()))
        request = self.confirm(self.mask(deliveries, at.get("mask", ())), at.get("confirm", ()))
        return self.reveal(request, at.get("reveal", ()))


def make_terms(names: Sequence[str], words: Mapping[str, int], **changes: Any) -> Terms:
    colluders = changes.get("colluders", 1)
    settings: dict[str, Any] = {
        "run": "trial", "round": 1, "agreement": "agreed", "sites": tuple(names),
        "threshold": usual_threshold(len(names), colluders), "words": dict(words), "word_bits": 32,
        "largest": LARGEST, "max_weight": MAX_WEIGHT,
    }  # fmt: skip
    return Terms(**(settings | changes))


@pytest.fixture
def room() -> Callable[..., Room]:
    """A federation of ``count`` sites; site names s00, s01, ... ``groups`` maps a site to its weights by group."""

    def build(
        count: int = 10,
        words: Mapping[str, int] | None = None,
        groups: Mapping[str, Mapping[str, int]] | None = None,
        **changes: Any,
    ) -> Room:
        names = [f"s{number:02d}" for number in range(count)]
        terms = make_terms(names, words or {"text": 7, "xray": 5}, **changes)
        identities = {name: Identity.generate() for name in names}
        roster = Roster({name: identity.public() for name, identity in identities.items()})
        generator = np.random.default_rng(count)
        everything = {name: dict.fromkeys(terms.words, 1 + place % MAX_WEIGHT) for place, name in enumerate(names)}
        weights = {name: dict((groups or everything)[name]) for name in names}
        encoded = {}
        for name in names:
            integers = {
                group: generator.integers(-terms.largest, terms.largest, terms.words[group], endpoint=True) * weight
                for group, weight in weights[name].items()
            }
            kind = f"u{terms.word_bits // 8}"
            encoded[name] = Encoded({g: v.astype(kind) for g, v in integers.items()}, weights[name], terms.largest)
        sites = {
            name: Site(name, identities[name], roster, Conditions(terms.agreement), MaskedRoundsInMemory())
            for name in names
        }
        return Room(terms, identities, roster, weights, encoded, sites, Coordinator(terms, roster))

    return build


@pytest.fixture
def terms_for() -> Callable[..., Terms]:
    return make_terms
