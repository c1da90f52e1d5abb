"""TensorBoard's event files, as far as curves need them, without TensorBoard.

A file is a series of records (TFRecord): the length of the data (8 bytes, little-endian), a masked CRC-32C of those 8
bytes, the data, a masked CRC-32C of the data. The data is one protocol buffer `tensorflow.Event`:

    1 wall_time (double)   2 step (int64)   3 file_version (string)   5 summary { 1 value { 1 tag, 2 simple_value } }

Formats: tensorflow/core/lib/io/record_writer.h and core/util/event.proto, summary.proto; CRC-32C: RFC 3720, B.4.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

_VERSION = "brain.Event:2"
_POLYNOMIAL = 0x82F63B78
_MASK = 0xA282EAD8
_HEAD = 12


@dataclass(frozen=True, slots=True)
class Scalars:
    """The values of one step, by tag; ``time_s`` in seconds since 1970."""

    step: int
    time_s: float
    values: Mapping[str, float]


def append_scalars(path: Path, steps: Sequence[Scalars]) -> int:
    """Append the steps that are later than any in the file, and say how many they were. Called again after a crash with
    the same steps it gives the same file: half a record at the end is cut off first."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("ab+") as file:
        file.seek(0)
        whole, last = _read(file.read())
        file.truncate(whole)
        new = [each for each in steps if last is None or each.step > last]
        if whole == 0:
            first = new[0].time_s if new else 0.0
            file.write(_record(_event(first, None, _text(3, _VERSION))))
        for each in new:
            file.write(_record(_event(each.time_s, each.step, _summary(each.values))))
        file.flush()
        os.fsync(file.fileno())
    return len(new)


def crc32c(data: bytes) -> int:
    """CRC-32C (Castagnoli)."""
    value = 0xFFFFFFFF
    for byte in data:
        value = _TABLE[(value ^ byte) & 0xFF] ^ (value >> 8)
    return value ^ 0xFFFFFFFF


def _entry(value: int) -> int:
    for _ in range(8):
        value = (value >> 1) ^ (_POLYNOMIAL if value & 1 else 0)
    return value


_TABLE = tuple(_entry(byte) for byte in range(256))


def _masked(data: bytes) -> bytes:
    value = crc32c(data)
    return struct.pack("<I", (((value >> 15) | (value << 17)) + _MASK) & 0xFFFFFFFF)


def _record(data: bytes) -> bytes:
    length = struct.pack("<Q", len(data))
    return length + _masked(length) + data + _masked(data)


def _event(time_s: float, step: int | None, what: bytes) -> bytes:
    moment = b"\x09" + struct.pack("<d", time_s)
    return moment + (b"" if step is None else b"\x10" + _varint(step)) + what


def _summary(values: Mapping[str, float]) -> bytes:
    each = (_part(1, _text(1, tag) + b"\x15" + struct.pack("<f", value)) for tag, value in values.items())
    return _part(5, b"".join(each))


def _text(field: int, text: str) -> bytes:
    return _part(field, text.encode())


def _part(field: int, content: bytes) -> bytes:
    """A field of wire type 2: its length, then its content."""
    return _varint(field << 3 | 2) + _varint(len(content)) + content


def _varint(value: int) -> bytes:
    parts = bytearray()
    while value > 0x7F:
        parts.append(value & 0x7F | 0x80)
        value >>= 7
    parts.append(value)
    return bytes(parts)


def _read(content: bytes) -> tuple[int, int | None]:
    """Length of the whole records at the start, and the step of the last that has one."""
    place, last = 0, None
    while len(content) - place >= _HEAD:
        length = int.from_bytes(content[place : place + 8], "little")
        end = place + _HEAD + length
        data = content[place + _HEAD : end]
        if content[place + 8 : place + _HEAD] != _masked(content[place : place + 8]) or len(content) < end + 4:
            break
        if content[end : end + 4] != _masked(data):
            break
        # What follows the nine bytes of the time is the step, where there is one.
        if data[9:10] == b"\x10":
            last = _number(data[10:20])
        place = end + 4
    return place, last


def _number(data: bytes) -> int:
    value = 0
    for place, byte in enumerate(data):
        value |= (byte & 0x7F) << (7 * place)
        if byte < 0x80:
            break
    return value
