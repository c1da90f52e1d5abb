"""The resources in FHIR files: JSON (one resource, or a Bundle) and NDJSON (one resource a line, as bulk exports are).

Damaged files and lines are counted and passed over; what they hold is never quoted.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

from more_model.errors import DataError

Resource = dict[str, Any]

_LINES: Final = frozenset({".ndjson", ".jsonl"})
_SUFFIXES: Final = frozenset({".json", *_LINES})
_MAX_FILE_BYTES: Final = 512 * 2**20
_MAX_LINE_BYTES: Final = 32 * 2**20


def fhir_files(path: Path) -> list[Path]:
    """The file, or all ``.json``, ``.ndjson`` and ``.jsonl`` files below the folder, in order of their names.

    Raises:
        DataError: there is no such file, or none below the folder.
    """
    files = [path] if path.is_file() else sorted(file for file in path.rglob("*") if file.suffix.lower() in _SUFFIXES)
    if not files:
        raise DataError(
            f"{path} is neither a FHIR file nor a folder with any.",
            remedy="Point path at a .json or .ndjson file, or at the folder of an export.",
        )
    return files


def read_resources(file: Path, counts: Counter[str]) -> Iterator[tuple[Resource, str]]:
    """Each resource with the full URL that its Bundle gives it, or "". Adds to ``counts``: damaged-file, damaged-line,
    too-large."""
    if file.suffix.lower() in _LINES:
        yield from ((resource, "") for resource in _lines(file, counts))
        return
    if file.stat().st_size > _MAX_FILE_BYTES:
        counts["too-large"] += 1
        return
    content = parsed(file.read_bytes())
    if content is None:
        counts["damaged-file"] += 1
    elif content.get("resourceType") != "Bundle":
        yield content, ""
    else:
        for entry in dictionaries(content.get("entry")):
            resource = entry.get("resource")
            if isinstance(resource, dict):
                yield resource, str(entry.get("fullUrl") or "")


def dictionaries(value: Any) -> list[Resource]:
    """The objects in a JSON value that should be a list of objects, or one."""
    return [item for item in (value if isinstance(value, list) else [value]) if isinstance(item, dict)]


def _lines(file: Path, counts: Counter[str]) -> Iterator[Resource]:
    with file.open("rb") as stream:
        while line := stream.readline(_MAX_LINE_BYTES):
            if len(line) == _MAX_LINE_BYTES and not line.endswith(b"\n"):
                counts["too-large"] += 1
                _skip_line(stream)
            elif line.strip():
                resource = parsed(line)
                counts["damaged-line"] += resource is None
                if resource is not None:
                    yield resource


def _skip_line(stream: Any) -> None:
    while (rest := stream.readline(_MAX_LINE_BYTES)) and not rest.endswith(b"\n"):
        pass


def parsed(data: bytes) -> Resource | None:
    """A JSON object, or None where the bytes are none."""
    try:
        content = json.loads(data)
    except (ValueError, RecursionError):
        return None
    return content if isinstance(content, dict) else None
