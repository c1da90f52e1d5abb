"""Protocols on CheXpert v1.0: the radiologist-labelled valid and test sets, never mixed, and the set "5x200".

In valid and test an examination is one case: its films are averaged. Validation patients, for hyper-parameters, always
come out of train.csv, so that neither evaluation set is ever looked at before it is reported.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from more_model.data.mimic_cxr import CHEXPERT_LABELS
from more_model.data.study import Split, Study
from more_model.errors import ConfigError, DataError
from more_model.evaluation.protocols.chexpert_tables import Part, Release, find_release
from more_model.evaluation.protocols.protocol import EvaluationCohort, Protocol, ProtocolChoice
from more_model.evaluation.protocols.xray_cohort import (
    CHEXPERT_5,
    FRONTAL,
    blank_note,
    by_hash,
    different_count,
    held_back,
    other_patients,
    refuse_foreign_choices,
    xray_cohort,
    xray_tasks,
)

_SUBSETS: tuple[Part, ...] = ("valid", "test")
_STUDIES: dict[Part, int] = {"valid": 200, "test": 500}
_HELD_BACK_SHARE = 0.02
_PER_CLASS = 200
_PER_CLASS_LEAST = 2
#: All labels but the one that only says that there is no other.
_FINDINGS = tuple(label for label in CHEXPERT_LABELS if label != "No Finding")

_CASE_NOTE = "The films of an examination are scored as one: the mean of their scores."
_NO_TRAIN_NOTE = "There is no train.csv here: nothing can be trained, only zero-shot can run."


def _protocol(name: str, title: str, labels: Sequence[str]) -> Protocol:
    def read(root: Path, choice: ProtocolChoice) -> EvaluationCohort:
        return _read(made, root, choice)

    made = Protocol(
        name, title, xray_tasks(labels), prompts="chexpert14", subsets=_SUBSETS, read=read, leaves_blanks=True
    )
    return made


def _read(protocol: Protocol, root: Path, choice: ProtocolChoice) -> EvaluationCohort:
    """Raises ConfigError for a choice without meaning here, DataError for what is missing in the tables."""
    refuse_foreign_choices(protocol.name, choice)
    subset: Part = "test" if protocol.subset_of(choice) == "test" else "valid"
    release = find_release(root, subset)
    evaluated = release.films(subset, choice.views)
    train, notes = _train_films(release, choice)
    split, note = _with_validation(train, choice.seed)
    split |= {film.study_id: Split.TEST for film in evaluated}
    examinations = len({film.group_id for film in evaluated})
    notes += [_CASE_NOTE, *note, *different_count(f"{subset} studies", examinations, _STUDIES[subset])]
    films = [*train, *evaluated]
    return xray_cohort(
        f"{protocol.name} ({subset})",
        films,
        split,
        protocol.tasks,
        case={film.study_id: film.group_id for film in films if split[film.study_id] is not Split.TRAIN},
        blank=choice.blank,
        notes=notes,
    )


def _train_films(release: Release, choice: ProtocolChoice) -> tuple[list[Study], list[str]]:
    if "train" not in release.tables:
        return [], [_NO_TRAIN_NOTE]
    return release.films("train", choice.views), [blank_note(choice)]


def _with_validation(train: Sequence[Study], seed: int) -> tuple[dict[str, Split], list[str]]:
    """Training films with their splits, and what to say about it."""
    if not train:
        return {}, []
    kept = held_back((film.patient_id for film in train), _HELD_BACK_SHARE, f"chexpert-validation-{seed}")
    split = {film.study_id: Split.VALIDATION if film.patient_id in kept else Split.TRAIN for film in train}
    return split, [f"Validation is {len(kept):,} patients of train.csv (seed {seed}), who are not trained on."]


def _read_5x200(root: Path, choice: ProtocolChoice) -> EvaluationCohort:
    """Raises ConfigError for views other than frontal ones, DataError where a class has fewer than two films."""
    refuse_foreign_choices("chexpert-5x200", choice)
    CHEXPERT_5X200.subset_of(choice)
    if set(choice.views) != set(FRONTAL):
        raise ConfigError("protocol chexpert-5x200", ["the set is of frontal films: views must be PA and AP"])
    release = find_release(root, "train")
    films, notes = _train_films(release, choice)
    chosen = _draw(films, choice.seed)
    drawn = {film_id for ids in chosen.values() for film_id in ids}
    patients = {film.patient_id for film in films if film.study_id in drawn}
    others = other_patients(films, patients)
    split, note = _with_validation(others, choice.seed)
    split |= dict.fromkeys(drawn, Split.TEST)
    sizes = {label: len(ids) for label, ids in chosen.items()}
    return xray_cohort(
        "chexpert-5x200",
        [*(_five_only(film, chosen) for film in films if film.study_id in drawn), *others],
        split,
        CHEXPERT_5X200.tasks,
        blank=choice.blank,
        facts={
            **{f"films drawn for {label}": size for label, size in sizes.items()},
            "patients of the set removed from training": len(patients),
        },
        notes=[*notes, *note, *_drawing_notes(sizes, choice.seed)],
    )


def _draw(films: Sequence[Study], seed: int) -> dict[str, list[str]]:
    """Label -> ids of up to 200 frontal films on which it is present and no other finding is.

    The recipe of GLoRIA and MGCA: blank counts as absent, uncertain does not, No Finding is not looked at. Drawn by a
    hash of the path within the release, so the set is the same for the full and the small release and on any machine.
    """
    available: dict[str, list[str]] = {label: [] for label in CHEXPERT_5}
    for film in films:
        stated = [label for label in _FINDINGS if film.labels.get(label, 0.0) != 0.0]
        if len(stated) == 1 and stated[0] in available and film.labels[stated[0]] == 1.0:
            available[stated[0]].append(film.study_id)
    short = [f"{label} has {len(ids)}" for label, ids in available.items() if len(ids) < _PER_CLASS_LEAST]
    if short:
        raise DataError(
            f"chexpert-5x200: too few frontal films with one finding and no other: {', '.join(short)} "
            f"({_PER_CLASS_LEAST} of each class are needed, the set as published has {_PER_CLASS})",
            remedy="take the whole train.csv of the release",
        )
    return {label: by_hash(ids, f"chexpert-5x200-{seed}-{label}")[:_PER_CLASS] for label, ids in available.items()}


def _five_only(film: Study, chosen: Mapping[str, Sequence[str]]) -> Study:
    present = {label for label, ids in chosen.items() if film.study_id in ids}
    return replace(film, labels={label: float(label in present) for label in CHEXPERT_5})


def _drawing_notes(sizes: Mapping[str, int], seed: int) -> list[str]:
    notes = [
        f"Drawn from train.csv with seed {seed}; other implementations draw other films by the same recipe, so figures "
        "on this set compare only where the set is the same, and never with those on valid or test.",
        "Labels are the labeller's, from reports; each film is scored by itself.",
    ]
    if Counter(sizes.values()) != Counter({_PER_CLASS: len(sizes)}):
        listing = ", ".join(f"{label} {size}" for label, size in sizes.items())
        notes.append(f"Not a 5x200: there are too few films with one finding only. Drawn were {listing}.")
    return notes


CHEXPERT_5X200 = Protocol(
    name="chexpert-5x200",
    title="CheXpert 5x200: single-finding films of train.csv",
    tasks=xray_tasks(CHEXPERT_5),
    prompts="chexpert14",
    subsets=("5x200",),
    read=_read_5x200,
    leaves_blanks=True,
)
CHEXPERT_PROTOCOLS = (
    _protocol("chexpert-5", "CheXpert, the five labels of the competition", CHEXPERT_5),
    _protocol("chexpert-14", "CheXpert, all fourteen labels", CHEXPERT_LABELS),
    CHEXPERT_5X200,
)
