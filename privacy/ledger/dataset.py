"""Which patients a data set is made of, as the ledger may know it: keyed hashes, no identifiers.

A budget belongs to people, not to a name. So a data set carries the keyed hash of each of its patients: one patient
more, or another name, makes another data set, but one that is seen to overlap with the first and shares what was spent.
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Iterable
from dataclasses import dataclass

from more_model.errors import ConfigError

MIN_KEY_BYTES = 16
_HASH_BYTES = 16
_DOMAIN = b"more-fed ledger "


@dataclass(frozen=True, slots=True)
class DataSet:
    """``members``: the patients' keyed hashes, 16 bytes each, sorted and distinct. ``digest`` (hex) covers the name and
    the members; ``key_digest`` tells whether two data sets were hashed with the same key, and nothing else of it."""

    name: str
    members: bytes
    key_digest: str

    @property
    def digest(self) -> str:
        """The identity of the data set: SHA-256 over name and members."""
        return members_digest(self.name, self.members)

    @property
    def patients(self) -> int:
        """How many patients there are."""
        return len(self.members) // _HASH_BYTES


def data_set(name: str, patient_ids: Iterable[str], key: bytes) -> DataSet:
    """The data set of these patients (repeated ids count once).

    ``key`` is the site's secret; the same one for the whole life of a ledger, or overlaps could not be seen.

    Raises:
        ConfigError: an empty name, no patients, or a key under 16 bytes.
    """
    hashes = sorted({_keyed(key, b"patient " + patient.encode())[:_HASH_BYTES] for patient in patient_ids})
    faults = []
    if not name.strip():
        faults.append("the data set has no name")
    if not hashes:
        faults.append("the data set has no patients")
    if len(key) < MIN_KEY_BYTES:
        faults.append(f"the site key has {len(key)} bytes; it needs at least {MIN_KEY_BYTES} random ones")
    if faults:
        raise ConfigError("ledger data set", faults, remedy="name the data set and use the key of the site")
    return DataSet(name, b"".join(hashes), _keyed(key, b"which key")[:_HASH_BYTES].hex())


def members_digest(name: str, members: bytes) -> str:
    """SHA-256 (hex) over a data set's name and its patients' keyed hashes."""
    return hashlib.sha256(_DOMAIN + b"data set " + name.encode() + b"\0" + members).hexdigest()


def overlap(one: bytes, other: bytes) -> bool:
    """Whether two data sets have a patient in common."""
    return not _hashes(one).isdisjoint(_hashes(other))


def _hashes(members: bytes) -> frozenset[bytes]:
    return frozenset(members[start : start + _HASH_BYTES] for start in range(0, len(members), _HASH_BYTES))


def _keyed(key: bytes, message: bytes) -> bytes:
    return hmac.digest(key, _DOMAIN + message, "sha256")
