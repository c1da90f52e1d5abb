"""The folder that a coordinator hands out: its card, and the certificate of its authority."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from more_model.errors import ConfigError
from more_model.federation_card import NAME, ROOT_NAME, FederationCard, load_card
from more_model.settings import validated
from privacy.secure_sum.settings import SumSettings
from privacy.settings import PrivacySettings


@dataclass(frozen=True, slots=True)
class AgreedCard:
    """A card whose settings of privacy and secure sums (None: none) are understood here."""

    card: FederationCard
    privacy: PrivacySettings
    sums: SumSettings | None


def read_card(path: Path) -> AgreedCard:
    """The card in a file, or in the folder that holds it.

    Raises:
        ConfigError: every fault of the card, or else of its settings, at once.
    """
    card = load_card(path)
    sums = card.secure_sum
    return AgreedCard(
        card,
        validated(PrivacySettings, card.privacy, f"{path}: privacy"),
        None if sums is None else validated(SumSettings, sums, f"{path}: secure_sum"),
    )


def root_certificate(folder: Path, card: FederationCard, told: str) -> bytes:
    """The authority's certificate (PEM) that lies beside the card. ``told``: its SHA-256 fingerprint as heard by
    another way than the folder came, hexadecimal, with or without colons and blanks.

    Raises:
        ConfigError: there is none, or certificate, card and fingerprint are not of one authority.
    """
    path, heard = folder / ROOT_NAME, told.replace(":", "").replace(" ", "").lower()
    try:
        content = path.read_bytes()
        der = x509.load_pem_x509_certificate(content).public_bytes(Encoding.DER)
    except (OSError, ValueError) as error:
        raise ConfigError(
            str(path), ["there is no certificate (PEM) here"], remedy="ask the coordinator for the whole folder"
        ) from error
    found, faults = hashlib.sha256(der).hexdigest(), []
    if found != heard:
        faults.append(f"{ROOT_NAME} has the fingerprint {found}, and {heard or 'nothing'} was told")
    if card.ca_fingerprint != found:
        faults.append(f"{NAME} is of another authority: {card.ca_fingerprint}")
    if faults:
        raise ConfigError(
            str(folder),
            faults,
            remedy="call the coordinator, have the fingerprint read out again, and ask for the folder again",
            avoid="copy the fingerprint from the folder: it would vouch for whatever came",
        )
    return content
