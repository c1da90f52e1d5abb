"""What training would make of a file, safely: bounded in time and memory, without crashing and without identifiers."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, Literal

from more_model.data.bounded import Outcome, bounded_worker

DEFAULT_TIMEOUT_S: Final = 20.0
DEFAULT_MAX_MEMORY_BYTES: Final = 2 * 2**30

_FAILURES: Final = {
    "timed-out": ("timeout", "Reading the file took longer than the time limit."),
    "crashed": ("reader-crashed", "The reader ended abnormally on this file."),
    "out-of-memory": ("too-much-memory", "Reading the file needs more memory than the limit."),
}


@dataclass(frozen=True, slots=True)
class Inspection:
    """The verdict on one file; ``name`` is its file name without folders.

    ``accepted`` says whether training would use it; if not, ``reason`` is the code of the refusal and ``message`` one
    sentence. ``facts`` hold shape, unit, value range, sampling rate, leads, corrections and the like, as JSON types.
    """

    name: str
    kind: Literal["xray", "ecg", "report", "unknown"]
    accepted: bool
    reason: str = ""
    message: str = ""
    facts: Mapping[str, Any] = field(default_factory=dict)


def inspect_file(
    path: Path, *, timeout_s: float = DEFAULT_TIMEOUT_S, max_memory_bytes: int = DEFAULT_MAX_MEMORY_BYTES
) -> Inspection:
    """The verdict on one file; see `inspect_files`."""
    return next(inspect_files([path], timeout_s=timeout_s, max_memory_bytes=max_memory_bytes))


def inspect_files(
    paths: Iterable[Path], *, timeout_s: float = DEFAULT_TIMEOUT_S, max_memory_bytes: int = DEFAULT_MAX_MEMORY_BYTES
) -> Iterator[Inspection]:
    """One verdict per file, in order, each read within ``timeout_s`` seconds and ``max_memory_bytes`` of address space.

    Nothing a file contains makes this raise. The first file also pays for the start of the reading process.
    """
    with bounded_worker("more_model.data.examine", timeout_s=timeout_s, max_memory_bytes=max_memory_bytes) as ask:
        for path in paths:
            yield _verdict(path, ask(str(path.absolute())))


def _verdict(path: Path, outcome: Outcome) -> Inspection:
    # A file name may hold control characters that would command the terminal.
    name = "".join(character if character.isprintable() else "?" for character in path.name)
    if outcome.status != "answered":
        reason, message = _FAILURES[outcome.status]
        return Inspection(name, "unknown", False, reason, message)
    answer = json.loads(outcome.answer)
    return Inspection(name, answer["kind"], answer["accepted"], answer["reason"], answer["message"], answer["facts"])
