"""Protocols on MIMIC-CXR-JPG: the official test split with CheXpert labels, and the studies one radiologist labelled.

Labels are those of a report and so of an examination; in ``test`` and ``validate`` each film is scored by itself with
them, as published, in ``radiologist`` the films of an examination are averaged.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from more_model.data.csv_columns import clean_ids, missing_columns, read_columns, read_header, require_csv
from more_model.data.label_columns import label_rows
from more_model.data.mimic_cxr import CHEXPERT_LABELS, read_mimic_cxr_jpg
from more_model.data.study import Split, Study
from more_model.evaluation.protocols.protocol import EvaluationCohort, Protocol, ProtocolChoice
from more_model.evaluation.protocols.xray_cohort import (
    FRONTAL,
    blank_note,
    different_count,
    held_back,
    refuse_foreign_choices,
    xray_cohort,
    xray_tasks,
)

#: The four labels of the published evaluation.
MIMIC_4 = ("Atelectasis", "Cardiomegaly", "Edema", "Pleural Effusion")

_SUBSETS = ("test", "validate", "radiologist")
_TABLES = ("mimic-cxr-2.0.0-metadata", "mimic-cxr-2.0.0-split", "mimic-cxr-2.0.0-chexpert")
_RADIOLOGIST = "mimic-cxr-2.1.0-test-set-labeled"
#: Other names that the radiologist's table has for a label.
_OTHER_NAMES = {"Lung Opacity": ("Airspace Opacity",), "No Finding": ("No Findings",)}
_HELD_BACK_SHARE = 0.02
_FRONTAL_TEST_IMAGES = 3_653
_FRONTAL_VALIDATE_IMAGES = 2_041
_RADIOLOGIST_STUDIES = 687

_ATTRIBUTES_NOTE = "MIMIC-CXR-JPG states neither sex nor age: there are no subgroups by them."
_PER_FILM_NOTE = "Each film is scored by itself, with the labels of its examination."


@dataclass(frozen=True, slots=True)
class _Part:
    """The studies of one evaluation set with their splits."""

    studies: Sequence[Study]
    split: Mapping[str, Split]
    case: Mapping[str, str]
    facts: Mapping[str, int]
    notes: Sequence[str]


def _protocol(name: str, title: str, labels: Sequence[str]) -> Protocol:
    def read(root: Path, choice: ProtocolChoice) -> EvaluationCohort:
        return _read(made, root, choice)

    made = Protocol(
        name, title, xray_tasks(labels), prompts="chexpert14", subsets=_SUBSETS, read=read, leaves_blanks=True
    )
    return made


def _read(protocol: Protocol, root: Path, choice: ProtocolChoice) -> EvaluationCohort:
    """Raises ConfigError for a choice without meaning here, DataError for missing tables and columns, all at once."""
    refuse_foreign_choices(protocol.name, choice)
    subset = protocol.subset_of(choice)
    tables = require_csv(root, (*_TABLES, *([_RADIOLOGIST] if subset == "radiologist" else [])), "MIMIC-CXR-JPG")
    marked = _marked(tables[_RADIOLOGIST]) if subset == "radiologist" else {}
    reading = read_mimic_cxr_jpg(root, views=choice.views)
    if subset == "radiologist":
        part = _radiologist(reading.studies, marked)
    else:
        part = _official(reading.studies, subset, choice.seed)
    notes = [blank_note(choice), _ATTRIBUTES_NOTE, *part.notes]
    if tuple(choice.views) == FRONTAL:
        notes += _unlike_release(subset, part)
    return xray_cohort(
        f"{protocol.name} ({subset})",
        part.studies,
        part.split,
        protocol.tasks,
        case=part.case,
        blank=choice.blank,
        facts={"images of other views left out": reading.counts.get("xray-other-view", 0), **part.facts},
        notes=notes,
    )


def _official(studies: Sequence[Study], subset: str, seed: int) -> _Part:
    """``test``: the official three splits. ``validate``: the validate studies are the test set, so validation patients
    come out of train, and the official test studies are left out."""
    stated = _stated_splits(studies)
    facts = {"images without an official split, left out": len(studies) - len(stated)}
    if subset == "test":
        return _Part(studies, stated, {}, facts, [_PER_FILM_NOTE])
    train = {study.patient_id for study in studies if stated.get(study.study_id) is Split.TRAIN}
    kept = held_back(train, _HELD_BACK_SHARE, f"mimic-validation-{seed}")
    split = {}
    for study in studies:
        match stated.get(study.study_id):
            case Split.VALIDATION:
                split[study.study_id] = Split.TEST
            case Split.TRAIN:
                split[study.study_id] = Split.VALIDATION if study.patient_id in kept else Split.TRAIN
    note = f"The validate studies are the test set; {len(kept):,} train patients (seed {seed}) serve as validation."
    return _Part(studies, split, {}, facts, [_PER_FILM_NOTE, note])


def _radiologist(studies: Sequence[Study], marked: Mapping[str, Mapping[str, float]]) -> _Part:
    """The labelled studies are the test set, whatever split they are in: a patient who is trained on as well must show
    up in the check of the cohort. The other official test studies are left out."""
    relabelled = [
        replace(study, labels=marked[study.group_id]) if study.group_id in marked else study for study in studies
    ]
    stated = _stated_splits(studies)
    split: dict[str, Split] = {study: part for study, part in stated.items() if part is not Split.TEST}
    split |= {study.study_id: Split.TEST for study in studies if study.group_id in marked}
    # Validation too: what calibrates the means over an examination's films has to see such means.
    case = {s.study_id: s.group_id for s in studies if split.get(s.study_id, Split.TRAIN) is not Split.TRAIN}
    imaged = {study.group_id for study in studies if study.group_id in marked}
    facts = {
        "studies the radiologist labelled": len(marked),
        "labelled studies without an image of the views chosen": len(marked) - len(imaged),
        "images without an official split, left out": sum(study.study_id not in stated for study in studies),
    }
    note = "Test labels are one radiologist's, read from the reports; training labels are those of the labeller."
    return _Part(relabelled, split, case, facts, [note, "The films of an examination are scored as one: their mean."])


def _stated_splits(studies: Sequence[Study]) -> dict[str, Split]:
    words = {study.study_id: study.attributes.get("official_split", "") for study in studies}
    return {study: Split(word) for study, word in words.items() if word}


def _marked(table: Path) -> dict[str, dict[str, float]]:
    """Study id -> labels of the radiologist's table, whichever of its names it has for a label."""
    header = read_header(table)
    names = {label: _column(label, header) for label in CHEXPERT_LABELS}
    missing = [label for label in ("study_id", *CHEXPERT_LABELS) if names.get(label, label) not in header]
    if missing:
        raise missing_columns(table, missing, header)
    columns = read_columns(table, ("study_id", *names.values()))
    rows = label_rows(table, columns, {column: label for label, column in names.items()})
    return dict(zip(clean_ids(columns["study_id"]), rows, strict=True))


def _column(label: str, header: Sequence[str]) -> str:
    return next((name for name in (label, *_OTHER_NAMES.get(label, ())) if name in header), label)


def _unlike_release(subset: str, part: _Part) -> list[str]:
    if subset == "radiologist":
        labelled = part.facts["studies the radiologist labelled"]
        return different_count("studies in the radiologist's table", labelled, _RADIOLOGIST_STUDIES)
    known = _FRONTAL_TEST_IMAGES if subset == "test" else _FRONTAL_VALIDATE_IMAGES
    here = sum(split is Split.TEST for split in part.split.values())
    return different_count(f"frontal {subset} images", here, known)


MIMIC_PROTOCOLS = (
    _protocol("mimic-4", "MIMIC-CXR, the four labels of the published evaluation", MIMIC_4),
    _protocol("mimic-14", "MIMIC-CXR, all fourteen CheXpert labels", CHEXPERT_LABELS),
)
