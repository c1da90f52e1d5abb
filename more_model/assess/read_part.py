"""Reading the files of a patient as at ingest, within a time and a memory limit, in a process of its own."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from more_model.data.bounded import Outcome, bounded_worker, serve
from more_model.data.convert import Converted, Refused, convert
from more_model.data.preprocessing import Preprocessing
from more_model.data.study import Modality, Study
from more_model.errors import InputRefused

_FAILURES = {
    "timed-out": ("reader-timeout", "Reading the file took longer than the time limit."),
    "crashed": ("reader-crashed", "The reader ended abnormally on this file."),
    "out-of-memory": ("out-of-memory", "Reading the file needs more memory than the limit."),
}


@dataclass(frozen=True, slots=True)
class Bounds:
    """What one file may cost its reader."""

    timeout_s: float = 20.0
    max_memory_bytes: int = 2 * 2**30


#: Reads one file as one kind of study; for a report also what it describes. Raises InputRefused.
ReadPart = Callable[[Path, Modality, Modality | None], Converted]


@contextmanager
def bounded_reader(preprocessing: Preprocessing, bounds: Bounds) -> Iterator[ReadPart]:
    """A function that reads files; whatever a file does, it raises nothing but `InputRefused`.

    Arrays and texts come back through a private folder, which is gone afterwards.
    """
    with (
        tempfile.TemporaryDirectory(prefix="more-fed-") as folder,
        bounded_worker(__name__, timeout_s=bounds.timeout_s, max_memory_bytes=bounds.max_memory_bytes) as ask,
    ):

        def read(path: Path, modality: Modality, describes: Modality | None) -> Converted:
            request = {
                "path": str(path.absolute()),
                "modality": modality,
                "describes": describes,
                "preprocessing": preprocessing.model_dump(mode="json"),
                "timeout_s": bounds.timeout_s,
                "folder": folder,
            }
            return _converted(ask(json.dumps(request)), Path(folder))

        yield read


def _converted(outcome: Outcome, folder: Path) -> Converted:
    if outcome.status != "answered":
        raise InputRefused(*_FAILURES[outcome.status])
    answer = json.loads(outcome.answer)
    if "reason" in answer:
        raise InputRefused(answer["reason"], answer["message"])
    array = np.load(folder / "array.npy", allow_pickle=False) if answer["has_array"] else None
    text = (folder / "text.txt").read_text(encoding="utf-8") if answer["has_text"] else None
    return Converted(array, text, tuple(answer["corrections"]), answer["attributes"], answer["nan_samples"])


def _handle(request: str) -> str:
    """The child's side: converts, leaves what is large in the folder, and answers with the rest."""
    asked: dict[str, Any] = json.loads(request)
    describes = None if asked["describes"] is None else Modality(asked["describes"])
    study = Study(Modality(asked["modality"]), "", "", "", source=Path(asked["path"]), describes=describes)
    chosen = Preprocessing.model_validate(asked["preprocessing"])
    result = convert(study, chosen, timeout_s=asked["timeout_s"])
    if isinstance(result, Refused):
        return json.dumps({"reason": result.reason, "message": result.message})
    folder = Path(asked["folder"])
    if result.array is not None:
        np.save(folder / "array.npy", result.array, allow_pickle=False)
    if result.text is not None:
        (folder / "text.txt").write_text(result.text, encoding="utf-8")
    return json.dumps(
        {
            "has_array": result.array is not None,
            "has_text": result.text is not None,
            "corrections": result.corrections,
            "attributes": dict(result.attributes),
            "nan_samples": result.nan_samples,
        }
    )


if __name__ == "__main__":
    serve(_handle)
