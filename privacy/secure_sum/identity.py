"""Who is who: long-term Ed25519 keys of the sites, and the roster that says which key is whose.

The roster reaches every site outside this protocol (on paper, by phone, in the installation kit). Were it taken from
the coordinator, the coordinator could stand between any two sites and read everything.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

_PREFIX = b"more-fed secure sum 1\n"


def canonical(content: Any) -> bytes:
    """The one byte string that stands for ``content`` (JSON values) when it is signed or hashed."""
    return _PREFIX + json.dumps(content, sort_keys=True, separators=(",", ":"), allow_nan=False).encode()


@dataclass(frozen=True, slots=True)
class Identity:
    """The long-term signing key of one site; it never leaves the site."""

    key: Ed25519PrivateKey

    @classmethod
    def generate(cls) -> Identity:
        """A new one, from the operating system's entropy."""
        return cls(Ed25519PrivateKey.generate())

    @classmethod
    def from_bytes(cls, secret: bytes) -> Identity:
        """The inverse of `to_bytes`; ValueError unless 32 bytes."""
        return cls(Ed25519PrivateKey.from_private_bytes(secret))

    def to_bytes(self) -> bytes:
        """The secret key, 32 bytes, to be kept where only this site can read it."""
        return self.key.private_bytes_raw()

    def public(self) -> bytes:
        """The public key, 32 bytes, for the roster."""
        return self.key.public_key().public_bytes_raw()

    def sign(self, message: bytes) -> bytes:
        """Signature of 64 bytes."""
        return self.key.sign(message)


@dataclass(frozen=True, slots=True)
class Roster:
    """The public key, 32 bytes, of every site that may ever take part, by name."""

    keys: Mapping[str, bytes]

    def signed(self, site: str, message: bytes, signature: bytes) -> bool:
        """Whether ``signature`` is that of the site called ``site`` under ``message``; False for an unknown site."""
        key = self.keys.get(site)
        if key is None:
            return False
        try:
            Ed25519PublicKey.from_public_bytes(key).verify(signature, message)
        except (InvalidSignature, ValueError):
            return False
        return True
