"""Messages between the relay and the hospital's daemon over a Unix socket: one question a connection, one answer.

A frame is a header (magic, version, bytes of the facts, bytes of the arrays), then the facts as JSON
``{"kind": KIND, "facts": {NAME: number or text}}``, then the arrays as safetensors. Lengths are checked against a limit
before anything is read or reserved. Needs only numpy and safetensors: the relay loads no model.
"""

from __future__ import annotations

import json
import math
import socket
import struct
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, NoReturn

import numpy as np
import numpy.typing as npt
from safetensors import SafetensorError
from safetensors.numpy import load, save

from more_model.errors import ExchangeError
from more_model.exchange import ExchangeSpec, Fact

VERSION = 1
#: Added by the relay to every question but `WHO`: hex SHA-256 of the app bundle that the run came with.
BUNDLE_FACT = "bundle-sha256"
_MAGIC = b"MORE"
_HEADER = struct.Struct(">4sHIQ")
_CHUNK_BYTES = 2**20
#: Tensors (float32), and the words of secure sums.
_TYPES = frozenset({"float32", "uint32", "uint64"})

#: What the relay asks.
WHO, TRAIN, SUM_STAGE, EVALUATE = "who", "train", "sum-stage", "evaluate"
#: An answer to what was no question; the connection ends with it.
MALFORMED = "malformed"


class WireError(ExchangeError):
    """A frame that is none: too long, cut off, or of another form."""


class OtherVersion(WireError):
    """The other end speaks another version of this protocol."""


@dataclass(frozen=True, slots=True)
class Limits:
    """The most that one frame may bring, in bytes."""

    facts: int = 4 * 2**20
    arrays: int = 2**31


@dataclass(frozen=True, slots=True)
class Frame:
    """One message: ``facts`` are flat scalars, ``arrays`` by name."""

    kind: str
    facts: Mapping[str, Fact] = field(default_factory=dict)
    arrays: Mapping[str, npt.NDArray[Any]] = field(default_factory=dict)


def limits_for(spec: ExchangeSpec) -> Limits:
    """What a question about the tensors of ``spec`` may bring: the tensors, and their names in a safetensors header."""
    names = sum(len(tensor.name.encode()) + 256 for tensor in spec.tensors)
    return Limits(arrays=spec.nbytes + names + 4096)


def encoded(frame: Frame) -> bytes:
    """A whole frame.

    Raises:
        WireError: facts that are no numbers or text, or arrays of another type.
    """
    facts = _encoded_facts(frame)
    arrays = save({name: np.asarray(array, order="C") for name, array in frame.arrays.items()}) if frame.arrays else b""
    return b"".join((_HEADER.pack(_MAGIC, VERSION, len(facts), len(arrays)), facts, arrays))


def send(connection: socket.socket, frame: Frame) -> None:
    """Write one frame; raises WireError as `encoded`, and OSError if the other end is gone or takes too long."""
    connection.sendall(encoded(frame))


def receive(connection: socket.socket, limits: Limits) -> Frame:
    """Read one frame.

    Raises:
        WireError: it is malformed or longer than ``limits``; nothing was reserved for it.
        OtherVersion: see there.
        EOFError: the connection ended before the frame did.
        OSError: the connection broke, or nothing came in its timeout.
    """
    magic, version, facts_bytes, arrays_bytes = _HEADER.unpack(_exactly(connection, _HEADER.size))
    if magic != _MAGIC:
        raise WireError("what came over the socket is no frame")
    if version != VERSION:
        raise OtherVersion(
            f"the other end speaks version {version}, this one version {VERSION}",
            remedy="install the same version of more-fed for relay and daemon, and start both again",
        )
    if facts_bytes > limits.facts or arrays_bytes > limits.arrays:
        raise WireError(f"a frame of {facts_bytes} + {arrays_bytes} bytes; {limits.facts} + {limits.arrays} may come")
    kind, facts = _decoded(_exactly(connection, facts_bytes))
    return Frame(kind, facts, _arrays(_exactly(connection, arrays_bytes)) if arrays_bytes else {})


def _exactly(connection: socket.socket, length: int) -> bytes:
    # Grows with what arrives: who announces much and sends little costs nothing.
    found = bytearray()
    while len(found) < length:
        piece = connection.recv(min(_CHUNK_BYTES, length - len(found)))
        if not piece:
            raise EOFError("the connection ended in the middle of a frame")
        found += piece
    return bytes(found)


def _encoded_facts(frame: Frame) -> bytes:
    strange = [name for name, value in frame.facts.items() if not _is_fact(name, value)]
    strange += [name for name, array in frame.arrays.items() if array.dtype.name not in _TYPES]
    if strange:
        raise WireError(f"{len(strange)} parts of a message are of a type that does not travel")
    return json.dumps({"kind": frame.kind, "facts": dict(frame.facts)}, allow_nan=False).encode()


def _decoded(text: bytes) -> tuple[str, dict[str, Fact]]:
    try:
        content = json.loads(text, parse_constant=_no_number)
        kind, facts = content["kind"], content["facts"]
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise WireError(f"the facts of a frame cannot be read ({type(error).__name__})") from error
    if not isinstance(kind, str) or not isinstance(facts, dict):
        raise WireError("the facts of a frame are of another form")
    if not all(_is_fact(name, value) for name, value in facts.items()):
        raise WireError("a fact of a frame is neither a number nor a text")
    return kind, facts


def _is_fact(name: object, value: object) -> bool:
    if not isinstance(name, str) or isinstance(value, bool):
        return False
    return isinstance(value, int | str) or (isinstance(value, float) and math.isfinite(value))


def _no_number(word: str) -> NoReturn:
    raise ValueError(f"{word} is no number")


def _arrays(content: bytes) -> dict[str, npt.NDArray[Any]]:
    try:
        found = load(content)
    except (SafetensorError, KeyError, ValueError, TypeError, AttributeError) as error:
        raise WireError(f"the arrays of a frame cannot be read ({type(error).__name__})") from error
    if not all(array.dtype.name in _TYPES for array in found.values()):
        raise WireError("an array of a frame is of a type that does not travel")
    return found
