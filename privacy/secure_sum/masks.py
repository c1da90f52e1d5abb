"""The secrets of one site in one session, and what is derived from them: boxes for shares, keys of masks.

All are bound to the digest of the list of participants: sites that were shown different lists derive different keys,
and cannot even open each other's boxes.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305

from privacy.secure_sum.errors import SumRefused
from privacy.secure_sum.identity import canonical
from privacy.secure_sum.keystream import KEY_BYTES, derived_key
from privacy.secure_sum.shamir import SHARE_BYTES

_BOX_NONCE_BYTES = 12


@dataclass(frozen=True, slots=True)
class Secrets:
    """Of one site, for one session. ``seeds`` [32 bytes] are the keys of its own masks, one a group it trained."""

    sealing: X25519PrivateKey
    masking: X25519PrivateKey
    seeds: Mapping[str, bytes]

    @classmethod
    def fresh(cls, groups: Iterable[str]) -> Secrets:
        """New ones, from the operating system's entropy."""
        seeds = {group: os.urandom(KEY_BYTES) for group in sorted(groups)}
        return cls(X25519PrivateKey.generate(), X25519PrivateKey.generate(), seeds)


@dataclass(frozen=True, slots=True)
class Bundle:
    """One holder's shares of the secrets of one site: of its masking key and of each seed, 66 bytes each."""

    key: bytes
    seeds: Mapping[str, bytes]

    def to_bytes(self) -> bytes:
        """The shares one after the other, seeds in order of their groups."""
        return b"".join([self.key, *(self.seeds[group] for group in sorted(self.seeds))])

    @classmethod
    def from_bytes(cls, packed: bytes, groups: Iterable[str]) -> Bundle:
        """The inverse of `to_bytes` for a site that trained ``groups``; SumRefused if the length is another."""
        names = sorted(groups)
        if len(packed) != SHARE_BYTES * (1 + len(names)):
            raise SumRefused("malformed-shares", f"{len(packed)} bytes are not one key share and {len(names)} seeds'")
        parts = [packed[start : start + SHARE_BYTES] for start in range(0, len(packed), SHARE_BYTES)]
        return cls(parts[0], dict(zip(names, parts[1:], strict=True)))


def pair_mask_key(mine: X25519PrivateKey, other: bytes, names: Iterable[str], group: str, participants: str) -> bytes:
    """The key, 32 bytes, of the mask of one group that two sites share; ``names`` are the two, in any order.

    mine, other: a masking key of one of them and the public key of the other. participants: digest of the list.
    """
    return derived_key(_agreed(mine, other), canonical(["pair mask", sorted(names), group, participants]))


def seal(mine: X25519PrivateKey, other: bytes, sender: str, recipient: str, participants: str, text: bytes) -> bytes:
    """``text`` in a box that only ``recipient`` can open and only ``sender`` can have made (ChaCha20-Poly1305)."""
    purpose = canonical(["box", sender, recipient, participants])
    nonce = os.urandom(_BOX_NONCE_BYTES)
    return nonce + ChaCha20Poly1305(derived_key(_agreed(mine, other), purpose)).encrypt(nonce, text, purpose)


def unseal(mine: X25519PrivateKey, other: bytes, sender: str, recipient: str, participants: str, box: bytes) -> bytes:
    """What `seal` put into ``box``.

    Raises:
        SumRefused: reason ``tampered-shares``; the box is damaged, was made by or for someone else, or its maker was
            shown another list of participants.
    """
    purpose = canonical(["box", sender, recipient, participants])
    try:
        cipher = ChaCha20Poly1305(derived_key(_agreed(mine, other), purpose))
        return cipher.decrypt(box[:_BOX_NONCE_BYTES], box[_BOX_NONCE_BYTES:], purpose)
    except (InvalidTag, ValueError) as error:
        raise SumRefused(
            "tampered-shares",
            f"the shares of {sender!r} for {recipient!r} cannot be opened: damaged, exchanged, or made for other lists",
        ) from error


def _agreed(mine: X25519PrivateKey, other: bytes) -> bytes:
    try:
        return mine.exchange(X25519PublicKey.from_public_bytes(other))
    except ValueError as error:  # a point of small order, chosen so that the result is known
        raise SumRefused("unauthenticated-key", "a site advertised a key with which no secret can be agreed") from error


def commitment(seed: bytes) -> bytes:
    """SHA-256 of a seed: hides it (32 random bytes) and fixes it."""
    return hashlib.sha256(canonical(["seed", seed.hex()])).digest()
