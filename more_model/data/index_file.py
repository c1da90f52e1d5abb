"""Append-only files of one JSON object a line; each line carries its CRC-32, so a torn tail is told from damage."""

from __future__ import annotations

import json
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from more_model.errors import StoreError

_MARK = b',"line_crc32":'


@dataclass(frozen=True, slots=True)
class IndexFile:
    """The objects of the whole lines, and how many bytes these lines take."""

    entries: list[dict[str, Any]]
    good_bytes: int


def encode_line(entry: Mapping[str, Any]) -> bytes:
    """The line for a non-empty object, newline included."""
    text = json.dumps(entry, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    body = text.encode("utf-8", "surrogatepass")
    return b"%b%b%d}\n" % (body[:-1], _MARK, zlib.crc32(body))


def decode_line(line: bytes) -> dict[str, Any] | None:
    """The object of a line without its newline, or None where the line is torn or damaged."""
    head, mark, tail = line.rpartition(_MARK)
    if not mark or not tail.endswith(b"}") or not tail[:-1].isdigit():
        return None
    body = head + b"}"
    if zlib.crc32(body) != int(tail[:-1]):
        return None
    entry = json.loads(body)
    return entry if isinstance(entry, dict) else None


def read_index(path: Path) -> IndexFile:
    """All whole lines; what a crash left behind after them is ignored. A missing file is an empty one.

    Raises `StoreError` where a bad line stands before a good one: that is damage, not a crash.
    """
    if not path.exists():
        return IndexFile([], 0)
    entries: list[dict[str, Any]] = []
    good_bytes = position = number = 0
    first_bad = 0
    with path.open("rb") as stream:
        for number, line in enumerate(stream, start=1):
            position += len(line)
            entry = decode_line(line[:-1]) if line.endswith(b"\n") else None
            if entry is None:
                first_bad = first_bad or number
                continue
            if first_bad:
                raise StoreError(
                    f"{path} is damaged: line {first_bad} does not match its checksum, but later lines do.",
                    remedy="Restore the store from a backup, or delete its folder and ingest again.",
                    avoid="edit the file by hand.",
                )
            entries.append(entry)
            good_bytes = position
    return IndexFile(entries, good_bytes)
