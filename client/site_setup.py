"""How a hospital sets itself up: its keys, and a site file made from a federation's card."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

import tomli_w

from client.card_folder import AgreedCard, read_card, root_certificate
from client.installed_code import installed_code_digest
from client.policy_draft import card_values, drafted
from client.site_file import ControlsPart, KeysPart
from client.site_keys import ENROLMENT, MadeKeys, make_keys
from more_model.enrolment import Enrolment
from more_model.errors import ConfigError
from more_model.federation_card import NAME as CARD_NAME
from more_model.private_file import write_new
from privacy.rounds import is_patient_mode

SITE_FILE = "site.toml"
_ROOT = "pki/root.pem"

_CLOSED = """\
# What this site allows. Whatever is not allowed here is refused: as it stands, this file allows nothing.
# The values are what the federation asks for. Remove the # of what this site allows, then `more-client policy check`;
# or have `more-client policy allow` write a policy for exactly this federation. A changed policy holds at once.
"""
_SITE = """\
# Who this site is, and whom it talks to; relative paths count from this folder. Check it: more-client preflight FILE
"""
_BANK = """
# The public records that private patients are contrasted with, the same at every site; ask the coordinator for them.
# [public_bank]
# cohort = "public/cohort.toml"
"""


@dataclass(frozen=True, slots=True)
class Declared:
    """What the site says publicly of itself."""

    site: str
    patients: int
    modalities: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class SetUp:
    """keys: made now, or found where ``keys_kept``. policy_kept: a policy was there already."""

    site_file: Path
    keys: MadeKeys
    keys_kept: bool
    policy_kept: bool
    agreed: AgreedCard


def set_up(folder: Path, declared: Declared, card_folder: Path, told: str) -> SetUp:
    """Make what a daemon needs beside data and base: keys, root certificate, card, site file, and a policy that allows
    nothing. Keys of the same declaration, and a policy, may be there already and stay. ``told``: the fingerprint of the
    authority as heard from the coordinator.

    Raises:
        ConfigError: another authority, a card with faults or with other keys of this site, or a site file that is
            there already; nothing is written then.
    """
    agreed = read_card(card_folder)
    root = root_certificate(card_folder, agreed.card, told)
    files = {folder / _ROOT: root, folder / CARD_NAME: agreed.card.to_json().encode()}
    kept = _kept_keys(folder, declared)
    _refuse_overwriting(folder, files)
    require_own_key(agreed, declared.site, None if kept is None else kept.enrolment)
    made = kept or make_keys(folder, declared.site, patients=declared.patients, modalities=declared.modalities)
    for path, content in files.items():
        if not path.exists():
            write_new(path, content, mode=0o644)
    policy = folder / ControlsPart().policy
    policy_kept = policy.exists()
    if not policy_kept:
        text = drafted(card_values(agreed, installed_code_digest()), in_force=False, heading=_CLOSED)
        write_new(policy, text.encode(), mode=0o644)
    # Last: its presence says that the rest is complete.
    write_new(folder / SITE_FILE, site_text(declared.site, agreed).encode(), mode=0o644)
    return SetUp(folder / SITE_FILE, made, kept is not None, policy_kept, agreed)


def site_text(site: str, agreed: AgreedCard) -> str:
    """The site file of ``site`` in the federation of a card."""
    card = agreed.card
    federation = {
        "name": card.name,
        "address": card.address,
        "root_certificate": _ROOT,
        "ca_fingerprint": card.ca_fingerprint,
        "card": CARD_NAME,
        "method": card.method,
        "public_seed": card.public_seed,
        "local_epochs": card.local_epochs,
        "fingerprint": card.fingerprint,
    }
    own = {"site": site, "store": "store", "sources": "SOURCES.toml", "base": "base", "federation": federation}
    return _SITE + tomli_w.dumps(own) + (_BANK if is_patient_mode(agreed.privacy) else "")


def require_own_key(agreed: AgreedCard, site: str, own: Enrolment | None) -> None:
    """Refuse a card that gives another key for this site than its own, or one where it has made none yet (None)."""
    listed = agreed.card.sites.get(site)
    if listed is not None and (own is None or listed.identity_key != own.identity.hex()):
        raise ConfigError(
            CARD_NAME,
            [f"the card gives a key for {site} that is not the key in this folder"],
            remedy="name the folder in which this site's keys were made; if they are lost, have them revoked first",
            avoid="go on: others would take somebody else for this site",
        )


def read_enrolment(folder: Path) -> Enrolment | None:
    """What this site signed of itself, None before it has. Raises ConfigError where it cannot be read."""
    path = folder / ENROLMENT
    return Enrolment.read(path.read_bytes(), str(path)) if path.is_file() else None


def _kept_keys(folder: Path, declared: Declared) -> MadeKeys | None:
    """The keys that are there, if all are; where only some are, making them says so."""
    found = read_enrolment(folder)
    if found is None or not all((folder / path).is_file() for path in KeysPart().all.values()):
        return None
    if (found.site, found.patients, found.modalities) != (declared.site, declared.patients, declared.modalities):
        words = f"{found.site} with {found.patients} patients and {', '.join(found.modalities)}"
        raise ConfigError(
            str(folder),
            [f"the keys here were made for {words}"],
            remedy="say the same again, or give another folder for a new declaration with new keys",
        )
    return MadeKeys(found, folder / ENROLMENT)


def _refuse_overwriting(folder: Path, files: dict[Path, bytes]) -> None:
    faults = [
        f"{path} is there already, with another content" for path, content in files.items() if _other(path, content)
    ]
    if os.path.lexists(folder / SITE_FILE):
        faults.append(f"{folder / SITE_FILE} is there already")
    if faults:
        raise ConfigError(
            str(folder),
            faults,
            remedy="take over a new card of the same federation with more-client card; give another folder for another",
        )


def _other(path: Path, content: bytes) -> bool:
    return path.exists() and path.read_bytes() != content
