"""What a site store says about each study, and how that is written as one JSON object."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from more_model.data.study import Modality

Key = tuple[Modality, str]


@dataclass(frozen=True, slots=True)
class StoredStudy:
    """One line of the index.

    ``row`` is the place in the array of its modality (None for a report, which has ``text``). ``corrections`` are the
    codes of what the reader mended. ``crc32`` is that of the array's bytes or of the text in UTF-8.
    """

    modality: Modality
    study_id: str
    patient_id: str
    group_id: str
    time: datetime | None = None
    labels: Mapping[str, float] = field(default_factory=dict)
    attributes: Mapping[str, str] = field(default_factory=dict)
    describes: Modality | None = None
    text: str | None = None
    row: int | None = None
    corrections: tuple[str, ...] = ()
    crc32: int = 0


@dataclass(frozen=True, slots=True)
class QuarantinedStudy:
    """A study that could not be used, why, and the state of its file then (a changed file is tried again).

    Of a study that a gate withheld: how many findings of which kind, and which gate it was (under another one it is
    tried again).
    """

    modality: Modality
    study_id: str
    reason: str
    message: str
    source: str
    source_state: str
    found: Mapping[str, int] = field(default_factory=dict)
    gate: str = ""


def study_entry(study: StoredStudy) -> dict[str, Any]:
    """The study as the JSON object of its index line."""
    return {
        "modality": study.modality.value,
        "study_id": study.study_id,
        "patient_id": study.patient_id,
        "group_id": study.group_id,
        "time": None if study.time is None else study.time.isoformat(),
        "labels": dict(study.labels),
        "attributes": dict(study.attributes),
        "describes": None if study.describes is None else study.describes.value,
        "text": study.text,
        "row": study.row,
        "corrections": list(study.corrections),
        "crc32": study.crc32,
    }


def study_of_entry(entry: Mapping[str, Any]) -> StoredStudy:
    """The inverse of `study_entry`."""
    return StoredStudy(
        modality=Modality(entry["modality"]),
        study_id=entry["study_id"],
        patient_id=entry["patient_id"],
        group_id=entry["group_id"],
        time=None if entry["time"] is None else datetime.fromisoformat(entry["time"]),
        labels=entry["labels"],
        attributes=entry["attributes"],
        describes=None if entry["describes"] is None else Modality(entry["describes"]),
        text=entry["text"],
        row=entry["row"],
        corrections=tuple(entry["corrections"]),
        crc32=entry["crc32"],
    )


def refusal_entry(entry: QuarantinedStudy) -> dict[str, Any]:
    """The refusal as the JSON object of its quarantine line."""
    return {name: getattr(entry, name) for name in QuarantinedStudy.__dataclass_fields__}


def refusal_of_entry(entry: Mapping[str, Any]) -> QuarantinedStudy:
    """The inverse of `refusal_entry`."""
    return QuarantinedStudy(**{**entry, "modality": Modality(entry["modality"])})


def text_bytes(text: str) -> bytes:
    """The bytes that a text's checksum is taken over."""
    # File names from broken encodings carry lone surrogates into texts; they must not stop an ingest.
    return text.encode("utf-8", "surrogatepass")
