"""What a reader yields (`Study`) and what training consumes (`Triplet`)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from pathlib import Path


class Modality(StrEnum):
    """The three kinds of study; the values are the names used on disk, in configurations and on the wire."""

    XRAY = "xray"
    ECG = "ecg"
    REPORT = "report"


class Split(StrEnum):
    """Where a patient belongs, for all of their studies."""

    TRAIN = "train"
    VALIDATION = "validation"
    TEST = "test"


@dataclass(frozen=True, slots=True)
class Study:
    """One X-ray image, one ECG record or one report, as found in a data set; nothing is decoded yet.

    ``study_id`` is unique within its modality. ``group_id`` ties items that were made together: the images of one
    examination and their report share it, an ECG and its (machine) report share it. ``describes`` is set on reports
    only and says which modality the words are about. ``source`` is the file to read (for WFDB: the path without
    extension); a report may carry its ``text`` instead. ``labels`` are 1.0 present, 0.0 absent, -1.0 uncertain; a label
    that is not stated is not a key. ``attributes`` are plain facts such as view, scanner, device, sex, age, language.
    """

    modality: Modality
    study_id: str
    patient_id: str
    group_id: str
    site: str = ""
    time: datetime | None = None
    source: Path | None = None
    text: str | None = None
    describes: Modality | None = None
    labels: Mapping[str, float] = field(default_factory=dict)
    attributes: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Triplet:
    """One training example: an X-ray and/or an ECG of one patient and the words that belong to them.

    ``xray`` and ``ecg`` are row numbers in the site store, or None where the modality is missing. ``labels`` merges the
    labels of the parts present.
    """

    patient_id: str
    site: str
    split: Split
    xray: int | None
    ecg: int | None
    xray_report: str | None
    ecg_report: str | None
    labels: Mapping[str, float] = field(default_factory=dict)
    attributes: Mapping[str, str] = field(default_factory=dict)
