"""What the chest X-ray protocols are built with: tasks, patients held back for validation, and the cohort with its
labels and counts.
"""

from __future__ import annotations

import hmac
import os
from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from more_model.data.study import Split, Study
from more_model.errors import ConfigError, DataError
from more_model.evaluation.embedded import LabelTask
from more_model.evaluation.protocols.protocol import Blank, EvaluationCohort, ProtocolChoice

FRONTAL = ("PA", "AP")
#: The five labels of the CheXpert competition.
CHEXPERT_5 = ("Atelectasis", "Cardiomegaly", "Consolidation", "Edema", "Pleural Effusion")

_BLANK_NOTES: dict[Blank, str] = {
    "unstated": "A finding that a report does not mention is not stated: neither present nor absent. Policy published "
    "counts it as absent; under every other policy such a film is left out for that label.",
    "absent": "A finding that a report does not mention counts as absent, as in most published figures: nobody stated "
    "that it is.",
}
_NO_FINDING_NOTE = (
    "No Finding is written by the labeller as 1 or not at all; it counts as absent where another finding than Support "
    "Devices is present."
)

_HELD_BACK_LEAST = 10
_HELD_BACK_MOST = 0.2


def xray_tasks(labels: Iterable[str]) -> tuple[LabelTask, ...]:
    """One question per label, judged from the X-ray."""
    return tuple(LabelTask(label, "xray") for label in labels)


def blank_note(choice: ProtocolChoice) -> str:
    """One sentence on what becomes of findings that a report does not mention."""
    return _BLANK_NOTES[choice.blank]


def refuse_foreign_choices(name: str, choice: ProtocolChoice, *, leaves_blanks: bool = True) -> None:
    """Raises ConfigError, with every fault, for choices that mean something to other protocols only."""
    faults = []
    if choice.rate_hz != ProtocolChoice().rate_hz:
        faults.append(f"rate_hz is {choice.rate_hz}, but there is no ECG in it")
    if choice.mapping is not None:
        faults.append("it takes no table mapping")
    if choice.blank != ProtocolChoice().blank and not leaves_blanks:
        faults.append("blank: every study states every label of it")
    if faults:
        raise ConfigError(f"protocol {name}", faults)


def held_back(patients: Iterable[str], share: float, key: str) -> frozenset[str]:
    """Training patients to keep for validation: a ``share`` of them, chosen by a hash under ``key``.

    At least ten where that is no more than a fifth of them, and at least one, so that small trees have some too.
    """
    ranked = by_hash(patients, key)
    least = min(_HELD_BACK_LEAST, int(_HELD_BACK_MOST * len(ranked)))
    return frozenset(ranked[: max(round(share * len(ranked)), least, 1)])


def by_hash(names: Iterable[str], key: str) -> list[str]:
    """The distinct names in an order that depends on nothing but themselves and ``key`` (HMAC-SHA256)."""
    return sorted(set(names), key=lambda name: hmac.digest(key.encode(), name.encode(), "sha256"))


def xray_cohort(
    where: str,
    studies: Sequence[Study],
    split: Mapping[str, Split],
    tasks: Sequence[LabelTask],
    *,
    case: Mapping[str, str] | None = None,
    blank: Blank = "unstated",
    facts: Mapping[str, int] | None = None,
    notes: Sequence[str] = (),
) -> EvaluationCohort:
    """The cohort of the studies that have a split, their labels cut down to those of the tasks.

    The CheXpert labeller (Irvin et al. 2019) writes No Finding only where nothing but support devices is present or
    uncertain, and never writes 0: the label would have no negatives. It becomes 0 where some finding is present. With
    ``blank`` absent every label that a study leaves open becomes 0, save where it states none at all.

    Raises DataError where films of one case state different labels: a case has one answer.
    """
    names = [task.label for task in tasks]
    kept = tuple(
        replace(study, labels=_labels_asked(study.labels, names, blank)) for study in studies if study.study_id in split
    )
    derived = (
        blank == "unstated" and "No Finding" in names and any("No Finding" not in study.labels for study in studies)
    )
    cases = {study.study_id: case[study.study_id] for study in kept if study.study_id in case} if case else {}
    _refuse_torn_cases(where, kept, cases)
    return EvaluationCohort(
        studies=kept,
        split={study.study_id: split[study.study_id] for study in kept},
        tasks=tuple(tasks),
        case=cases,
        facts={**_counts(kept, split, cases), **_positives(kept, split, names), **(facts or {})},
        notes=(*notes, _NO_FINDING_NOTE) if derived else tuple(notes),
    )


def different_count(what: str, here: int, known: int) -> list[str]:
    """One sentence where a count is not the published one, otherwise none."""
    return [] if here == known else [f"The release has {known:,} {what}; here there are {here:,}."]


def other_patients(studies: Iterable[Study], patients: Collection[str]) -> list[Study]:
    """The studies of everyone who is not among ``patients``."""
    return [study for study in studies if study.patient_id not in patients]


def folders_of(folder: Path) -> list[Path]:
    """The folders in ``folder`` that this user may look into, by name; none where ``folder`` itself is closed."""
    if not os.access(folder, os.R_OK | os.X_OK):
        return []
    return sorted(entry for entry in folder.iterdir() if entry.is_dir() and os.access(entry, os.R_OK | os.X_OK))


def _labels_asked(labels: Mapping[str, float], names: Sequence[str], blank: Blank) -> dict[str, float]:
    if blank == "absent" and labels:
        return {name: labels.get(name, 0.0) for name in names}
    asked = {name: labels[name] for name in names if name in labels}
    if "No Finding" in names and "No Finding" not in labels:
        found = any(value == 1.0 and label != "Support Devices" for label, value in labels.items())
        return {**asked, "No Finding": 0.0} if found else asked
    return asked


def _refuse_torn_cases(where: str, studies: Sequence[Study], cases: Mapping[str, str]) -> None:
    stated: dict[str, Mapping[str, float]] = {}
    torn = {
        name
        for study in studies
        if (name := cases.get(study.study_id)) is not None and stated.setdefault(name, study.labels) != study.labels
    }
    if torn:
        raise DataError(
            f"{where}: the films of {len(torn)} of {len(stated)} examinations state different labels",
            remedy="take the label table as it was published: its labels belong to the examination, not to the film",
        )


def _counts(studies: Sequence[Study], split: Mapping[str, Split], cases: Mapping[str, str]) -> dict[str, int]:
    facts: dict[str, int] = {}
    for part in Split:
        of_part = [study for study in studies if split[study.study_id] is part]
        facts[f"{part} images"] = len(of_part)
        facts[f"{part} examinations"] = len({(study.patient_id, study.group_id) for study in of_part})
        facts[f"{part} patients"] = len({study.patient_id for study in of_part})
        if part is Split.TEST:
            facts["test cases"] = len({cases.get(study.study_id, study.study_id) for study in of_part})
    return facts


def _positives(studies: Sequence[Study], split: Mapping[str, Split], names: Sequence[str]) -> dict[str, int]:
    present: Counter[str] = Counter()
    for study in studies:
        if split[study.study_id] is Split.TEST:
            present.update(name for name in names if study.labels.get(name) == 1.0)
    return {f"test images with {name}": present[name] for name in names}
