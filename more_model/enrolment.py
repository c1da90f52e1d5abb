"""What a site hands to its coordinator: its public keys and declared numbers, signed with the private keys.

The signatures prove that whoever made the file holds both private keys. That it is the hospital who made it they do not
prove: for that the two sides compare `Enrolment.fingerprint` by telephone.
"""

from __future__ import annotations

import hashlib
import json
import re
from dataclasses import dataclass
from typing import Any, Self

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from more_model.data.study import Modality
from more_model.errors import ConfigError

_SCHEMA = 1
_PREFIX = b"more-fed enrolment 1\n"
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
_MAX_BYTES = 16_384


@dataclass(frozen=True, slots=True)
class Enrolment:
    """node_key: public key of the connection, one line in OpenSSH's form (ECDSA P-384). identity: public Ed25519 key of
    secure sums, 32 bytes. patients, modalities: what the site declares publicly; it may round the number."""

    site: str
    node_key: str
    identity: bytes
    patients: int
    modalities: tuple[str, ...]

    @property
    def fingerprint(self) -> str:
        """What both sides read to each other: 32 hexadecimal digits in groups of four."""
        digest = hashlib.sha256(_signed_text(self)).hexdigest()[:32]
        return " ".join(digest[start : start + 4] for start in range(0, 32, 4))

    @property
    def node_key_pem(self) -> bytes:
        """The connection's public key as Flower keeps it: PEM, SubjectPublicKeyInfo."""
        return _node_key(self.node_key).public_bytes(
            serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
        )

    def signed(self, node: ec.EllipticCurvePrivateKey, identity: Ed25519PrivateKey) -> bytes:
        """The file to hand over, JSON."""
        text = _signed_text(self)
        proofs = {"node": node.sign(text, ec.ECDSA(hashes.SHA256())).hex(), "identity": identity.sign(text).hex()}
        return (json.dumps({**_content(self), "proofs": proofs}, indent=2) + "\n").encode()

    @classmethod
    def read(cls, file: bytes, where: str) -> Self:
        """The inverse of `signed`.

        Raises:
            ConfigError: it is none, it says something impossible, or a signature is wrong; all faults at once.
        """
        content = _parsed(file, where)
        faults = _faults(content)
        if not faults:
            found = cls(
                content["site"],
                content["node_key"],
                bytes.fromhex(content["identity"]),
                content["patients"],
                tuple(content["modalities"]),
            )
            faults = _proof_faults(found, content["proofs"])
        if faults:
            raise ConfigError(
                where,
                faults,
                remedy="ask the site for the file that more-client init wrote, by another way than before",
                avoid="edit it: its signatures cover every word",
            )
        return found


def site_name_fault(name: object) -> str | None:
    """Why ``name`` cannot name a site; None where it can."""
    if isinstance(name, str) and _NAME.fullmatch(name):
        return None
    return "a site's name has 1 to 64 letters, digits, dots, dashes and underscores, and starts with one of the first"


def _content(enrolment: Enrolment) -> dict[str, Any]:
    return {
        "schema": _SCHEMA,
        "site": enrolment.site,
        "node_key": enrolment.node_key,
        "identity": enrolment.identity.hex(),
        "patients": enrolment.patients,
        "modalities": list(enrolment.modalities),
    }


def _signed_text(enrolment: Enrolment) -> bytes:
    return _PREFIX + json.dumps(_content(enrolment), sort_keys=True, separators=(",", ":")).encode()


def _parsed(file: bytes, where: str) -> dict[str, Any]:
    try:
        content = json.loads(file) if len(file) <= _MAX_BYTES else None
    except (ValueError, RecursionError):
        content = None
    if not isinstance(content, dict) or content.get("schema") != _SCHEMA:
        raise ConfigError(
            where,
            ["this is no enrolment"],
            remedy="give the file enrolment.json that more-client init wrote at the site",
        )
    return content


def _faults(content: dict[str, Any]) -> list[str]:
    faults = []
    if (fault := site_name_fault(content.get("site"))) is not None:
        faults.append(f"site: {fault}")
    try:
        _node_key(str(content.get("node_key")))
    except ValueError as error:
        faults.append(f"node_key: {error}")
    if not re.fullmatch(r"[0-9a-f]{64}", str(content.get("identity"))):
        faults.append("identity: give the 32 bytes of an Ed25519 public key as hexadecimal digits")
    patients = content.get("patients")
    if not isinstance(patients, int) or isinstance(patients, bool) or patients < 1:
        faults.append("patients: give a whole number above 0")
    known, given = [modality.value for modality in Modality], content.get("modalities")
    if not isinstance(given, list) or not given or [name for name in known if name in given] != given:
        faults.append(f"modalities: give one or more of {', '.join(known)}, in this order")
    if not isinstance(content.get("proofs"), dict):
        faults.append("proofs: the signatures are missing")
    return faults


def _node_key(line: str) -> ec.EllipticCurvePublicKey:
    try:
        key = serialization.load_ssh_public_key(line.encode())
    except (ValueError, UnsupportedAlgorithm) as error:
        raise ValueError("this is no public key in OpenSSH's form") from error
    if not isinstance(key, ec.EllipticCurvePublicKey) or not isinstance(key.curve, ec.SECP384R1):
        raise ValueError("connections are authenticated with ECDSA on P-384, and this is another kind of key")
    return key


def _proof_faults(enrolment: Enrolment, proofs: dict[str, Any]) -> list[str]:
    text, faults = _signed_text(enrolment), []
    for name in ("node", "identity"):
        try:
            signature = bytes.fromhex(str(proofs.get(name)))
            if name == "node":
                _node_key(enrolment.node_key).verify(signature, text, ec.ECDSA(hashes.SHA256()))
            else:
                Ed25519PublicKey.from_public_bytes(enrolment.identity).verify(signature, text)
        except (InvalidSignature, ValueError):
            faults.append(f"proofs.{name}: the signature is not that of the key in this file")
    return faults
