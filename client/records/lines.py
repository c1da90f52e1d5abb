"""The lines of an audit log, each bound to the one before it.

    {"entry":TEXT,"head":"HEAD"}        HEAD_0 = 64 zeros,  HEAD_n = SHA-256(HEAD_(n-1) || TEXT_n), in hex

TEXT is canonical JSON that repeats the entry's number (the chain of `privacy.ledger.chain`, one entry a line). The
chain holds no secret: whoever may write the file can compute a new one. What exposes that is an older head, COUNT:HEAD,
kept where this file cannot be written from.

A crash can leave the beginning of a line. It stays where it is, closed by ``#``, and the next line is an entry of the
kind ``recovered`` with its length and SHA-256: the file only ever grows (`chattr +a` fits), and the broken line is
bound as well. What such a line speaks of never happened, since an entry is on the disk first.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

from more_model.errors import StoreError
from privacy.ledger.chain import START, Anchor

#: An update of several thousand tensors is described in less.
MAX_LINE_BYTES = 4 * 2**20
CREATED = "created"
RECOVERED = "recovered"
#: The kind of entry that stands for something that left.
RELEASED = "released"

#: Ends a line that a crash cut: no entry ends so.
CUT = b"#\n"

_BEFORE, _BETWEEN, _AFTER = b'{"entry":', b',"head":"', b'"}\n'
_HEAD_DIGITS = 64


class AuditDamaged(StoreError):
    """An audit log that is not the one that was last written: edited, truncated, reordered, replaced, or gone."""


@dataclass(frozen=True, slots=True)
class Entry:
    """One entry. ``at`` (UTC, ISO 8601) is what the clock said, for people: nothing is decided by it."""

    number: int
    at: str
    kind: str
    content: Mapping[str, Any]
    head: str

    @property
    def anchor(self) -> Anchor:
        """Where the chain stands after this entry."""
        return Anchor(self.number, self.head)


@dataclass(frozen=True, slots=True)
class Fault:
    """A place at which the file is not what was written; ``line`` counts from 1."""

    line: int
    words: str


@dataclass(frozen=True, slots=True)
class Unfinished:
    """What follows the last entry: the beginning of one that is being written now, or that a crash cut, after earlier
    ones whose recovery was cut as well."""

    data: bytes


def sealed_line(previous: Anchor, at: str, kind: str, content: Mapping[str, Any]) -> tuple[bytes, Anchor]:
    """The line of the entry after ``previous``, and the anchor after it.

    Raises:
        ValueError: content that JSON cannot hold (NaN among it), or too much of it.
    """
    body = {"number": previous.count + 1, "at": at, "kind": kind, "content": dict(content)}
    text = json.dumps(body, sort_keys=True, separators=(",", ":"), allow_nan=False).encode()
    head = _head(previous.head, text)
    line = _BEFORE + text + _BETWEEN + head.encode() + _AFTER
    if len(line) > MAX_LINE_BYTES:
        raise ValueError(f"an audit entry of {len(line)} bytes; {MAX_LINE_BYTES} fit")
    return line, Anchor(previous.count + 1, head)


def recovery(data: bytes) -> dict[str, Any]:
    """The content of the entry that follows what a crash cut."""
    return {"bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()}


def walk(stream: BinaryIO) -> Iterator[Entry | Fault | Unfinished]:
    """Every entry in the order of the file, and every place where the chain breaks; goes on behind a break with the
    head that stands there, so that one edit is one fault. Memory does not grow with the file."""
    previous, cut = Anchor(0, START), b""
    for number, line in enumerate(iter(lambda: stream.readline(MAX_LINE_BYTES + 1), b""), start=1):
        if len(cut) + len(line) > 2 * MAX_LINE_BYTES or len(line) > MAX_LINE_BYTES:
            yield Fault(number, f"line {number} is longer than any entry; what follows was not read")
            return
        if line.endswith(CUT) or not line.endswith(b"\n"):
            cut += line
            continue
        entry = parsed_line(line)
        if entry is None:
            yield Fault(number, f"line {number} is not an entry")
        else:
            if words := _break(previous, entry, line, cut):
                yield Fault(number, words)
            yield entry
            previous, cut = entry.anchor, b""
    if cut:
        yield Unfinished(cut)


def parsed_line(line: bytes) -> Entry | None:
    """The entry of a whole line, as it says; None where it is none. The head is not checked."""
    text, head = _parts(line)
    try:
        body = json.loads(text)
        number, at, kind, content = body["number"], body["at"], body["kind"], body["content"]
    except (ValueError, KeyError, TypeError, RecursionError):
        return None
    fits = isinstance(number, int) and number > 0 and isinstance(at, str) and isinstance(kind, str)
    return Entry(number, at, kind, content, head) if fits and isinstance(content, dict) else None


def entries(path: Path) -> Iterator[Entry]:
    """The entries of a log, read as a stream; the beginning of a line at its end is left out.

    Raises:
        AuditDamaged: at the first place where the chain breaks, or where there is no file.
    """
    if not path.is_file():
        raise missing(path)
    with path.open("rb") as stream:
        for found in walk(stream):
            if isinstance(found, Fault):
                raise damaged(f"The audit log was changed: {found.words}.")
            if isinstance(found, Entry):
                yield found


def damaged(cause: str) -> AuditDamaged:
    """The error of a log that was changed."""
    return AuditDamaged(
        cause,
        remedy="keep the file as evidence, find out who can write to its folder, then put the newest whole copy back",
        avoid="repair the file by hand or start a new one in its place: what left the site would be forgotten",
    )


def missing(path: Path) -> AuditDamaged:
    """The error of a log that is not there."""
    return AuditDamaged(
        f"There is no audit log at {path}.",
        remedy="give the path that site.toml names; if it is this one, the log was deleted: put its newest copy back",
        avoid="start a new one where there was one: what left the site would be forgotten",
    )


def _parts(line: bytes) -> tuple[bytes, str]:
    head = line[-len(_AFTER) - _HEAD_DIGITS : -len(_AFTER)]
    text = line[len(_BEFORE) : -len(_BETWEEN) - _HEAD_DIGITS - len(_AFTER)]
    whole = _BEFORE + text + _BETWEEN + head + _AFTER == line
    return (text, head.decode("ascii", "replace")) if whole else (b"", "")


def _head(previous: str, text: bytes) -> str:
    return hashlib.sha256(previous.encode() + text).hexdigest()


def _break(previous: Anchor, entry: Entry, line: bytes, cut: bytes) -> str:
    """Why ``entry`` cannot stand after ``previous`` and what was ``cut`` in between; empty where it can."""
    expected = previous.count + 1
    if entry.number != expected:
        return f"entry {entry.number} stands where entry {expected} belongs"
    if _head(previous.head, _parts(line)[0]) != entry.head:
        return f"entry {entry.number} is not what was written"
    if entry.kind == RECOVERED:
        fits = cut.endswith(CUT) and dict(entry.content) == recovery(cut.removesuffix(CUT))
        return "" if fits else f"what stands before entry {entry.number} is not what it recovered"
    return f"what stands before entry {entry.number} was never written" if cut else ""
