"""A site's part in secure sums, from the federation card: whose sums, with which weights and which noise.

The coordinator proposes the same in every instruction. What counts is the card, which came to the site's people by
another way: keys that the coordinator hands out with a round would let it stand between any two sites.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from hashlib import sha256

from client.card_folder import AgreedCard
from client.daemon.opening import OpenSite
from client.secure_round import SumAgreement, SumParticipant
from more_model.errors import ConfigError, ExchangeError
from more_model.exchange import Instruction
from more_model.private_file import secret
from privacy.secure_sum.identity import Identity, Roster
from privacy.secure_sum.masked_rounds import MaskedRoundsFolder
from privacy.secure_sum.settings import SumSettings, public_weights
from privacy.settings import PrivacySettings

_NEW_CARD = "ask the coordinator for the card of this run, compare its digest by telephone, and read it"


@dataclass(frozen=True, slots=True)
class CardSums:
    """What the card says of the secure sums of a run; all of it is public. ``keys``: the identity of every site."""

    settings: SumSettings
    privacy: PrivacySettings
    patients: Mapping[str, int]
    keys: Mapping[str, bytes]

    def digest(self) -> str:
        """Hex SHA-256 over all of it: the same as long as nothing of the card changes that sums depend on."""
        content = {
            "settings": self.settings.model_dump(mode="json"),
            "privacy": self.privacy.model_dump(mode="json"),
            "patients": dict(self.patients),
            "keys": {site: key.hex() for site, key in self.keys.items()},
        }
        return sha256(json.dumps(content, sort_keys=True, separators=(",", ":")).encode()).hexdigest()


def require_as_on_card(instruction: Instruction, privacy: PrivacySettings, card: AgreedCard | None) -> None:
    """Refuse a run that begins otherwise than the card says; ``privacy``: what it asks for.

    Raises:
        ExchangeError: other privacy, or sums on one side only.
        ConfigError: sums, but no card.
    """
    if card is None:
        if instruction.secure_sum:
            raise _no_card()
        return
    if privacy != card.privacy:
        raise ExchangeError(
            "the coordinator asks for other privacy than the federation card promises",
            remedy=_NEW_CARD,
            avoid="allow in the policy whatever is asked for",
        )
    if bool(instruction.secure_sum) != (card.sums is not None):
        says, asks = ("secure sums", "updates in the clear") if card.sums else ("none", "secure sums")
        raise ExchangeError(f"the federation card promises {says}, the coordinator asks for {asks}", remedy=_NEW_CARD)


def card_sums(card: AgreedCard | None) -> CardSums:
    """The secure sums of a federation.

    Raises:
        ConfigError: there is no card, or it promises none.
    """
    if card is None or card.sums is None:
        raise _no_card()
    sites = card.card.sites
    patients = {name: site.patients for name, site in sites.items()}
    return CardSums(
        card.sums, card.privacy, patients, {name: bytes.fromhex(site.identity_key) for name, site in sites.items()}
    )


def participant(site: OpenSite, sums: CardSums, noise_multiplier: float) -> SumParticipant:
    """This site's end of the sums of a run. ``noise_multiplier``: z of mode `hospital`, else 0.

    Raises:
        ConfigError: the card says otherwise of this site than its own keys and enrolment.
        StoreError: the identity key cannot be used.
    """
    name, identity = site.file.site, _identity(site)
    _require_us(site, sums, identity)
    weights = public_weights(sums.privacy, sums.patients)
    if weights.of_site.keys() != sums.keys.keys():
        raise ConfigError(
            "federation card", ["privacy.public_weights are not those of the sites of the card"], remedy=_NEW_CARD
        )
    agreement = SumAgreement(sums.settings, weights, sums.privacy, noise_multiplier)
    # With the ledger, not in `work`: without this memory one update could be masked twice.
    masked = MaskedRoundsFolder(site.file.controls.ledger.parent / "masked")
    return SumParticipant(name, identity, Roster(sums.keys), agreement, masked)


def _identity(site: OpenSite) -> Identity:
    path = site.file.keys.identity
    if not path.is_file():
        raise ConfigError(
            "keys.identity", [f"there is no {path}"], remedy="restore the key that more-client init made, mode 0600"
        )
    return Identity.from_bytes(secret(path))


def _require_us(site: OpenSite, sums: CardSums, identity: Identity) -> None:
    name, declaration = site.file.site, site.declaration
    if name not in sums.keys:
        faults = [f"it does not name this site, {name}"]
    else:
        faults = [] if sums.keys[name] == identity.public() else ["its key of this site is not that of keys.identity"]
        if declaration is None or sums.patients[name] != declaration.patients:
            faults.append("its number of patients of this site is not the one that this site declared (enrolment.json)")
    if faults:
        raise ConfigError(
            "federation card",
            faults,
            remedy="enroll this site's own enrolment.json, and have the coordinator make the card again",
            avoid="edit the card: the other sites go by theirs",
        )


def _no_card() -> ConfigError:
    return ConfigError(
        "federation.card",
        ["a secure sum is asked for, and this site has no federation card that promises one"],
        remedy='put the coordinator\'s card beside site.toml, name it there ([federation] card = "..."), start again',
        avoid="take the other sites' keys from an instruction: whoever sends it could read this site's update",
    )
