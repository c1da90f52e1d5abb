"""Entries that are bound to each other: each one's head is the hash of its text and of the head before it.

    head_0 = 64 zeros
    head_n = SHA-256(head_(n-1) || text_n), in hex

The text is canonical JSON and repeats its own number, so an entry that was edited, removed, moved or put in between
changes every head after it. A hash chain holds no secret: somebody who may write the file can compute a new chain.
What exposes that is an older head kept elsewhere (the witness, the site's audit log, the coordinator's journal).
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, get_args

from more_model.errors import ConfigError
from privacy.ledger.errors import LedgerDamaged

Kind = Literal["created", "registered", "budget", "charge", "settled"]

START = "0" * 64
_HEAD_DIGITS = 64


@dataclass(frozen=True, slots=True)
class Anchor:
    """How many entries a ledger has, and the head of the last one. Whoever keeps one can later prove a rollback."""

    count: int
    head: str

    def __str__(self) -> str:
        return f"{self.count}:{self.head}"


@dataclass(frozen=True, slots=True)
class Entry:
    """One entry. ``at`` (UTC, ISO 8601) is what the clock said, for people: nothing is decided by it."""

    number: int
    at: str
    kind: Kind
    content: Mapping[str, Any]
    head: str


def parse_anchor(text: str) -> Anchor:
    """The anchor that ``str(anchor)`` wrote.

    Raises:
        ConfigError: it is not COUNT:HEAD.
    """
    count, _, head = text.strip().partition(":")
    if not (count.isdecimal() and len(head) == _HEAD_DIGITS and set(head) <= set("0123456789abcdef")):
        raise ConfigError("ledger anchor", ["an anchor is COUNT:HEAD, a number and 64 hexadecimal digits"])
    return Anchor(int(count), head)


def sealed(previous: Anchor, kind: Kind, content: Mapping[str, Any], at: str) -> tuple[str, Entry]:
    """The entry after ``previous`` and its text, as it is stored."""
    body = {"number": previous.count + 1, "at": at, "kind": kind, "content": dict(content)}
    text = json.dumps(body, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return text, Entry(previous.count + 1, at, kind, content, _head(previous.head, text))


def checked_chain(rows: Iterable[tuple[int, str, str]]) -> tuple[Entry, ...]:
    """The entries of (number, text, head) rows, in the order of their numbers.

    Raises:
        LedgerDamaged: the first row that does not follow from the one before.
    """
    entries: list[Entry] = []
    head = START
    for number, text, stored in rows:
        expected = len(entries) + 1
        if number != expected:
            raise _broken(expected, "is missing")
        head = _head(head, text)
        if head != stored:
            raise _broken(number, "is not what was written")
        entries.append(_parsed(number, text, head))
    return tuple(entries)


def anchor_of(entries: Sequence[Entry]) -> Anchor:
    """The anchor after the last entry."""
    return Anchor(len(entries), entries[-1].head if entries else START)


def require_contains(entries: Sequence[Entry], anchor: Anchor, where: str) -> None:
    """Refuses a chain that does not go through ``anchor``; ``where`` says who kept the anchor.

    Raises:
        LedgerDamaged: the chain is shorter (rolled back), or has another head at that place (forked or rewritten).
    """
    if anchor.count > len(entries):
        raise LedgerDamaged(
            f"The ledger was rolled back: it has {len(entries)} entries, and {where} knows {anchor.count}.",
            remedy="put the newest copy of the ledger file back; if there is none, treat the budget of every data set "
            "in it as spent",
            avoid="delete the witness: charges that ran would be forgotten",
        )
    head = entries[anchor.count - 1].head if anchor.count else START
    if head != anchor.head:
        raise LedgerDamaged(
            f"The ledger was forked or rewritten: its entry {anchor.count} is not the one that {where} knows.",
            remedy="find the copy that was in use and put it back; if there is none, treat the budget of every data "
            "set in it as spent",
            avoid="go on with this copy: it lacks charges that ran",
        )


def _head(previous: str, text: str) -> str:
    return hashlib.sha256(previous.encode() + text.encode()).hexdigest()


def _parsed(number: int, text: str, head: str) -> Entry:
    try:
        body = json.loads(text)
        entry = Entry(body["number"], body["at"], body["kind"], body["content"], head)
    except (ValueError, KeyError, TypeError) as error:
        raise _broken(number, "cannot be read") from error
    if entry.number != number or entry.kind not in get_args(Kind):
        raise _broken(number, "is not an entry of this ledger")
    return entry


def _broken(number: int, what: str) -> LedgerDamaged:
    return LedgerDamaged(
        f"The ledger was changed: entry {number} {what}.",
        remedy="put the newest undamaged copy of the ledger file back and find out who can write to its folder",
        avoid="repair the file by hand or start a new ledger: what was spent would be forgotten",
    )
