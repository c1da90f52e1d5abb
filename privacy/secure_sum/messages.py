"""What goes between the sites and the coordinator in a secure sum, as flat scalars and arrays.

Every message names the session (the digest of the terms). Byte strings travel as hexadecimal text, collections as
JSON. ``from_parts`` raises ExchangeError on anything malformed; whether a well-formed message is acceptable at this
moment is decided by `site` and `coordinator`.

Signed are the two messages that other sites must be able to check. That an answer comes from the site that it names is
otherwise for the transport to see to; a forged one can spoil a sum, not reveal anything.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from more_model.errors import ExchangeError
from privacy.quantise import Words
from privacy.secure_sum.identity import canonical

Fact = int | float | str
Arrays = Mapping[str, Words]

_NONE: Arrays = {}


@dataclass(frozen=True, slots=True)
class Advertisement:
    """Site to coordinator, stage advertise: keys for this session only, and the public weight per exchange group.

    ``sealing_key`` encrypts shares, ``masking_key`` makes pairwise masks (X25519, 32 bytes). A group that the site did
    not train is absent from ``weights``. ``signature`` is the site's long-term key's over all of it.
    """

    session: str
    site: str
    sealing_key: bytes
    masking_key: bytes
    weights: Mapping[str, int]
    signature: bytes

    def signed_content(self) -> bytes:
        """What the signature covers."""
        return advertised_content(self.session, self.site, self.sealing_key, self.masking_key, self.weights)

    def facts(self) -> dict[str, Fact]:
        """All of it, as flat scalars."""
        return {
            "session": self.session,
            "site": self.site,
            "sealing_key": self.sealing_key.hex(),
            "masking_key": self.masking_key.hex(),
            "weights": json.dumps(dict(self.weights), sort_keys=True),
            "signature": self.signature.hex(),
        }

    @classmethod
    def from_parts(cls, facts: Mapping[str, Any], arrays: Arrays = _NONE) -> Advertisement:
        """The inverse of `facts`; raises ExchangeError."""
        with _well_formed("advertisement", arrays):
            return cls(
                session=str(facts["session"]),
                site=str(facts["site"]),
                sealing_key=bytes.fromhex(facts["sealing_key"]),
                masking_key=bytes.fromhex(facts["masking_key"]),
                weights={str(group): _whole(weight) for group, weight in json.loads(facts["weights"]).items()},
                signature=bytes.fromhex(facts["signature"]),
            )


def advertised_content(
    session: str, site: str, sealing_key: bytes, masking_key: bytes, weights: Mapping[str, int]
) -> bytes:
    """The bytes under the signature of an advertisement."""
    return canonical(["advertisement", session, site, sealing_key.hex(), masking_key.hex(), dict(weights)])


@dataclass(frozen=True, slots=True)
class Participants:
    """Coordinator to every participant, stage share: the advertisements of all of them, in order of their names."""

    session: str
    advertisements: tuple[Advertisement, ...]

    def digest(self) -> str:
        """Hex SHA-256; every secret of the session is bound to it, so sites shown different lists cannot work
        together."""
        content = [advertisement.facts() for advertisement in self.advertisements]
        return hashlib.sha256(canonical(["participants", self.session, content])).hexdigest()

    def facts(self) -> dict[str, Fact]:
        """All of it, as flat scalars."""
        return {
            "session": self.session,
            "advertisements": json.dumps([advertisement.facts() for advertisement in self.advertisements]),
        }

    @classmethod
    def from_parts(cls, facts: Mapping[str, Any], arrays: Arrays = _NONE) -> Participants:
        """The inverse of `facts`; raises ExchangeError."""
        with _well_formed("list of participants", arrays):
            entries = json.loads(facts["advertisements"])
            return cls(str(facts["session"]), tuple(Advertisement.from_parts(entry) for entry in entries))


@dataclass(frozen=True, slots=True)
class SealedShares:
    """Site to coordinator, stage share: the shares of its secrets, one sealed box a participant.

    ``commitments`` holds the SHA-256 of the seed of each group's own mask: a seed put together from a false share is
    noticed.
    """

    session: str
    site: str
    boxes: Mapping[str, bytes]
    commitments: Mapping[str, bytes]

    def facts(self) -> dict[str, Fact]:
        """All of it, as flat scalars."""
        return {
            "session": self.session,
            "site": self.site,
            "boxes": _hexadecimal(self.boxes),
            "commitments": _hexadecimal(self.commitments),
        }

    @classmethod
    def from_parts(cls, facts: Mapping[str, Any], arrays: Arrays = _NONE) -> SealedShares:
        """The inverse of `facts`; raises ExchangeError."""
        with _well_formed("sealed shares", arrays):
            boxes, commitments = _byte_strings(facts["boxes"]), _byte_strings(facts["commitments"])
            return cls(str(facts["session"]), str(facts["site"]), boxes, commitments)


@dataclass(frozen=True, slots=True)
class Delivery:
    """Coordinator to one sharer, stage mask: the boxes that the other sharers sealed for it, by sender."""

    session: str
    boxes: Mapping[str, bytes]

    def facts(self) -> dict[str, Fact]:
        """All of it, as flat scalars."""
        return {"session": self.session, "boxes": _hexadecimal(self.boxes)}

    @classmethod
    def from_parts(cls, facts: Mapping[str, Any], arrays: Arrays = _NONE) -> Delivery:
        """The inverse of `facts`; raises ExchangeError."""
        with _well_formed("delivery of shares", arrays):
            return cls(str(facts["session"]), _byte_strings(facts["boxes"]))


@dataclass(frozen=True, slots=True)
class MaskedInput:
    """Site to coordinator, stage mask: its weighted integers under masks, one array [words] a group it trained."""

    session: str
    site: str
    words: Arrays

    def facts(self) -> dict[str, Fact]:
        """All but the arrays, as flat scalars."""
        return {"session": self.session, "site": self.site}

    def arrays(self) -> dict[str, Words]:
        """The masked integers by group, uint32 or uint64."""
        return dict(self.words)

    @classmethod
    def from_parts(cls, facts: Mapping[str, Any], arrays: Arrays) -> MaskedInput:
        """The inverse of `facts` and `arrays`; raises ExchangeError."""
        with _well_formed("masked input", _NONE):
            return cls(str(facts["session"]), str(facts["site"]), dict(arrays))


@dataclass(frozen=True, slots=True)
class Proposal:
    """Coordinator to every survivor, stage confirm: from whom a masked input arrived, in order of their names."""

    session: str
    survivors: tuple[str, ...]

    def facts(self) -> dict[str, Fact]:
        """All of it, as flat scalars."""
        return {"session": self.session, "survivors": json.dumps(list(self.survivors))}

    @classmethod
    def from_parts(cls, facts: Mapping[str, Any], arrays: Arrays = _NONE) -> Proposal:
        """The inverse of `facts`; raises ExchangeError."""
        with _well_formed("proposal", arrays):
            return cls(str(facts["session"]), _names(facts["survivors"]))


@dataclass(frozen=True, slots=True)
class Confirmation:
    """Site to coordinator, stage confirm: the one list of survivors for which this site will reveal anything."""

    session: str
    site: str
    signature: bytes

    def facts(self) -> dict[str, Fact]:
        """All of it, as flat scalars."""
        return {"session": self.session, "site": self.site, "signature": self.signature.hex()}

    @classmethod
    def from_parts(cls, facts: Mapping[str, Any], arrays: Arrays = _NONE) -> Confirmation:
        """The inverse of `facts`; raises ExchangeError."""
        with _well_formed("confirmation", arrays):
            return cls(str(facts["session"]), str(facts["site"]), bytes.fromhex(facts["signature"]))


def confirmed_content(participants: str, sharers: Sequence[str], survivors: Sequence[str]) -> bytes:
    """The bytes under the signature of a confirmation: all three lists as this site saw them (the first by digest)."""
    return canonical(["confirmation", participants, list(sharers), list(survivors)])


@dataclass(frozen=True, slots=True)
class RevealRequest:
    """Coordinator to every survivor, stage reveal: the confirmed list, who is missing from it, and the signatures.

    Asked for: shares of the own masks of ``survivors``, shares of the masking keys of the ``dropped``. Never both of
    one site.
    """

    session: str
    survivors: tuple[str, ...]
    dropped: tuple[str, ...]
    signatures: Mapping[str, bytes]

    def facts(self) -> dict[str, Fact]:
        """All of it, as flat scalars."""
        return {
            "session": self.session,
            "survivors": json.dumps(list(self.survivors)),
            "dropped": json.dumps(list(self.dropped)),
            "signatures": _hexadecimal(self.signatures),
        }

    @classmethod
    def from_parts(cls, facts: Mapping[str, Any], arrays: Arrays = _NONE) -> RevealRequest:
        """The inverse of `facts`; raises ExchangeError."""
        with _well_formed("request to reveal shares", arrays):
            survivors, dropped = _names(facts["survivors"]), _names(facts["dropped"])
            return cls(str(facts["session"]), survivors, dropped, _byte_strings(facts["signatures"]))


@dataclass(frozen=True, slots=True)
class Revealed:
    """Site to coordinator, stage reveal: the shares it holds, of seeds by survivor and group, of keys by dropped site.

    A group with too few survivors is left out by every honest site, so its sum stays hidden.
    """

    session: str
    site: str
    seeds: Mapping[str, Mapping[str, bytes]]
    keys: Mapping[str, bytes]

    def facts(self) -> dict[str, Fact]:
        """All of it, as flat scalars."""
        seeds = {site: {group: share.hex() for group, share in shares.items()} for site, shares in self.seeds.items()}
        return {
            "session": self.session,
            "site": self.site,
            "seeds": json.dumps(seeds, sort_keys=True),
            "keys": _hexadecimal(self.keys),
        }

    @classmethod
    def from_parts(cls, facts: Mapping[str, Any], arrays: Arrays = _NONE) -> Revealed:
        """The inverse of `facts`; raises ExchangeError."""
        with _well_formed("revealed shares", arrays):
            seeds = {
                str(site): {str(group): bytes.fromhex(share) for group, share in shares.items()}
                for site, shares in json.loads(facts["seeds"]).items()
            }
            return cls(str(facts["session"]), str(facts["site"]), seeds, _byte_strings(facts["keys"]))


@contextmanager
def _well_formed(kind: str, arrays: Arrays) -> Iterator[None]:
    """Turns what parsing hostile text can raise into one error, and refuses arrays where none belong."""
    if arrays:
        raise ExchangeError(f"a {kind} brings no arrays, {len(arrays)} came")
    try:
        yield
    except (KeyError, ValueError, TypeError, AttributeError, OverflowError, RecursionError) as error:
        raise ExchangeError(f"malformed {kind} ({type(error).__name__})") from error


def _hexadecimal(parts: Mapping[str, bytes]) -> str:
    return json.dumps({name: part.hex() for name, part in parts.items()}, sort_keys=True)


def _byte_strings(text: Any) -> dict[str, bytes]:
    return {str(name): bytes.fromhex(part) for name, part in json.loads(text).items()}


def _names(text: Any) -> tuple[str, ...]:
    names = json.loads(text)
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise TypeError("not a list of names")
    return tuple(names)


def _whole(value: Any) -> int:
    if isinstance(value, bool) or not isinstance(value, int):
        raise TypeError("not a whole number")
    return value
