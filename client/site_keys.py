"""The secrets of a site, made at the site: for its connection, for secure sums, and for hashing patients."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

from client.site_file import KeysPart
from more_model.enrolment import Enrolment
from more_model.errors import ConfigError
from more_model.private_file import write_new
from privacy.secure_sum.identity import Identity

ENROLMENT = "enrolment.json"
_SECRET_BYTES = 32


@dataclass(frozen=True, slots=True)
class MadeKeys:
    """What goes to the coordinator, and the file that holds it."""

    enrolment: Enrolment
    file: Path


def make_keys(folder: Path, site: str, *, patients: int, modalities: tuple[str, ...]) -> MadeKeys:
    """Make all keys where `client.site_file` looks for them, and the signed enrolment beside them.

    Raises:
        ConfigError: one of the files is there already; nothing is written then.
    """
    keys = {name: folder / path for name, path in KeysPart().all.items()}
    file = folder / ENROLMENT
    if there := [str(path) for path in (*keys.values(), file) if path.exists()]:
        raise ConfigError(
            str(folder),
            [f"{path} is there already" for path in there],
            remedy="give another folder; to bring new keys to a coordinator, have the earlier ones revoked first",
            avoid="delete keys that are in use: the ledger and the withdrawals hang on keys/site",
        )
    node, identity = ec.generate_private_key(ec.SECP384R1()), Identity.generate()
    enrolment = Enrolment(site, _public_line(node), identity.public(), patients, modalities)
    write_new(keys["node"], _private(node))
    write_new(keys["identity"], identity.to_bytes())
    write_new(keys["site"], os.urandom(_SECRET_BYTES))
    write_new(file, enrolment.signed(node, identity.key), mode=0o644)
    return MadeKeys(enrolment, file)


def _public_line(key: ec.EllipticCurvePrivateKey) -> str:
    form = serialization.PublicFormat.OpenSSH
    return key.public_key().public_bytes(serialization.Encoding.OpenSSH, form).decode()


def _private(key: ec.EllipticCurvePrivateKey) -> bytes:
    form = serialization.PrivateFormat.OpenSSH
    return key.private_bytes(serialization.Encoding.PEM, form, serialization.NoEncryption())
