"""The pulmonary edema severity protocol (Liao et al.): three ordinal questions, on films of MIMIC-CXR-JPG.

Grades: 0 none, 1 vascular congestion, 2 interstitial, 3 alveolar edema. The questions are 0 against 1-3, 0-1 against
2-3, and 0-2 against 3. The consensus table grades films, the expert and regex tables grade reports (all frontal films
of the examination belong to one). The split file of MICCAI 2020 spells its grade column "edeme_severity".
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from more_model.data.csv_columns import clean_ids, find_csv, missing_columns, read_columns, read_header, require_csv
from more_model.data.mimic_cxr import read_mimic_cxr_jpg
from more_model.data.study import Split, Study
from more_model.errors import DataError
from more_model.evaluation.protocols.protocol import EvaluationCohort, Protocol, ProtocolChoice
from more_model.evaluation.protocols.xray_cohort import (
    different_count,
    folders_of,
    held_back,
    other_patients,
    refuse_foreign_choices,
    xray_cohort,
    xray_tasks,
)

_CONSENSUS = "consensus_image_edema_severity"
_EXPERT = "expert_report_edema_severity"
_REGEX = "regex_report_edema_severity"
_GRADE_COLUMNS = ("edema_severity", "edeme_severity")
_THRESHOLDS = {"severity>=1": 1, "severity>=2": 2, "severity>=3": 3}
_HELD_BACK_SHARE = 0.1
#: Rows of each grade in the tables as published.
_KNOWN = {_CONSENSUS: (61, 44, 20, 16), _EXPERT: (216, 98, 105, 66), _REGEX: (2_801, 1_497, 1_736, 676)}
_TEST_FOLD_IMAGES = 531
_UNGRADED = "-1"
_GRADES = {"0", "1", "2", "3", _UNGRADED}
_METADATA = "mimic-cxr-2.0.0-metadata"


@dataclass(frozen=True, slots=True)
class _Table:
    """Grades by image or by examination (``by_image``), the patients concerned, and how often each grade occurs."""

    grades: Mapping[str, int]
    by_image: bool
    patients: frozenset[str]
    counts: tuple[int, int, int, int]


@dataclass(frozen=True, slots=True)
class _Chosen:
    """The table evaluated on, the one trained on, and what is to be said about them."""

    evaluated: _Table
    trained: _Table
    facts: Mapping[str, int]
    notes: Sequence[str]


def _read(root: Path, choice: ProtocolChoice) -> EvaluationCohort:
    """Raises ConfigError for a choice without meaning here, DataError for tables and columns missing, grades other than
    0 to 3, and where no MIMIC-CXR-JPG is to be found."""
    refuse_foreign_choices(EDEMA_PROTOCOL.name, choice, leaves_blanks=False)
    subset = EDEMA_PROTOCOL.subset_of(choice)
    root = root.absolute()
    chosen = _folds(root) if subset == "test" else _tables(root, subset)
    films = read_mimic_cxr_jpg(images_root(root), views=()).studies
    test = _graded(films, chosen.evaluated, choice.views)
    trainable = _graded(films, chosen.trained, choice.views)
    train = other_patients(trainable, _evaluation_patients(root))
    kept = held_back((film.patient_id for film in train), _HELD_BACK_SHARE, f"edema-validation-{choice.seed}")
    split = {film.study_id: Split.VALIDATION if film.patient_id in kept else Split.TRAIN for film in train}
    split |= {film.study_id: Split.TEST for film in test}
    return xray_cohort(
        f"{EDEMA_PROTOCOL.name} ({subset})",
        [*train, *test],
        split,
        EDEMA_PROTOCOL.tasks,
        # Validation too: what calibrates the means over an examination's films has to see such means.
        case={}
        if chosen.evaluated.by_image
        else {film.study_id: film.group_id for film in [*train, *test] if split[film.study_id] is not Split.TRAIN},
        facts={**chosen.facts, "training images of evaluation patients, left out": len(trainable) - len(train)},
        notes=[
            *chosen.notes,
            *_lost(chosen.evaluated, test),
            "Patients of the consensus, expert and test tables are never trained on.",
            f"Validation is {len(kept):,} patients of the training table (seed {choice.seed}), who are not trained on.",
        ],
    )


def _tables(root: Path, subset: str) -> _Chosen:
    stem = _CONSENSUS if subset == "consensus" else _EXPERT
    paths = require_csv(root, (stem, _REGEX), "Pulmonary edema severity")
    evaluated, trained = _grades(paths[stem]), _grades(paths[_REGEX])
    graded = (
        "Graded are films, by consensus of experts; each is scored by itself."
        if subset == "consensus"
        else "Graded are reports, by experts; the films of an examination are scored as one: their mean."
    )
    notes = ["Training grades were found in reports by regular expressions.", *_unlike_known(stem, evaluated)]
    facts = _grade_facts(subset, evaluated) | _grade_facts("regex", trained)
    return _Chosen(evaluated, trained, facts, [graded, *notes, *_unlike_known(_REGEX, trained)])


def _folds(root: Path) -> _Chosen:
    """The split file: its fold TEST and its other folds; rows that nobody graded are counted."""
    path = _find_split_file(root)
    if path is None:
        raise DataError(
            f"Pulmonary edema severity: {root} holds no split file of MICCAI 2020 "
            "(a CSV with the columns dicom_id, edeme_severity and fold)",
            remedy="put mimic-cxr-sub-img-edema-split-manualtest.csv there, or take the subset consensus or expert",
        )
    tested = [fold.strip().upper() == "TEST" for fold in read_columns(path, ("fold",))["fold"]]
    if not any(tested):
        raise DataError(f"Pulmonary edema severity: no row of {path} is of the fold TEST", remedy="take the file whole")
    test = _grades(path, keep=tested.__getitem__)
    train = _grades(path, keep=lambda row: not tested[row])
    ungraded = len(tested) - sum(test.counts) - sum(train.counts)
    notes = [
        "Test and training are the folds of the MICCAI 2020 split file; each film is scored by itself.",
        *different_count("graded images in the fold TEST", len(test.grades), _TEST_FOLD_IMAGES),
    ]
    facts = {**_grade_facts("test", test), **_grade_facts("train", train), "rows nobody graded, left out": ungraded}
    return _Chosen(test, train, facts, notes)


def _find_split_file(root: Path) -> Path | None:
    for path in sorted((*root.glob("*.csv"), *root.glob("*.csv.gz"))):
        header = read_header(path)
        if {"dicom_id", "fold"} <= set(header) and set(_GRADE_COLUMNS) & set(header):
            return path
    return None


def _grades(path: Path, *, keep: Callable[[int], bool] = lambda _row: True) -> _Table:
    """The rows of one table that ``keep`` accepts. The split file says -1 for "nobody graded this": left out."""
    header = read_header(path)
    column = next((name for name in _GRADE_COLUMNS if name in header), _GRADE_COLUMNS[0])
    missing = [name for name in ("subject_id", "study_id", column) if name not in header]
    if missing:
        raise missing_columns(path, missing, header)
    columns = read_columns(path, ("subject_id", "study_id", column), ("dicom_id",))
    by_image = "dicom_id" in columns
    keys = columns["dicom_id"] if by_image else clean_ids(columns["study_id"])
    cells, subjects = clean_ids(columns[column]), clean_ids(columns["subject_id"])
    if strange := sum(cell not in _GRADES for cell in cells):
        raise DataError(f"{path}: {strange} cells of {column!r} are no grade from 0 to 3", remedy="mend the table")
    rows = [row for row, cell in enumerate(cells) if cell != _UNGRADED and keep(row)]
    grades = {keys[row].strip(): int(cells[row]) for row in rows}
    if torn := len({(keys[row].strip(), cells[row]) for row in rows}) - len(grades):
        raise DataError(f"{path}: {torn} entries have two different grades", remedy="keep one row for each")
    found = Counter(int(cells[row]) for row in rows)
    return _Table(
        grades=grades,
        by_image=by_image,
        patients=frozenset(subjects[row] for row in rows),
        counts=(found[0], found[1], found[2], found[3]),
    )


def _evaluation_patients(root: Path) -> frozenset[str]:
    """Everyone in one of the evaluation tables that are there."""
    paths = [path for stem in (_CONSENSUS, _EXPERT) if (path := find_csv(root, stem)) is not None]
    patients = frozenset(patient for path in paths for patient in _grades(path).patients)
    return patients if _find_split_file(root) is None else patients | _folds(root).evaluated.patients


def images_root(root: Path) -> Path:
    """The MIMIC-CXR-JPG release at, in, or beside ``root``."""
    around = [root, *folders_of(root), root.parent, *folders_of(root.parent)]
    for folder in around:
        if (folder / "files").is_dir() and find_csv(folder, _METADATA) is not None:
            return folder
    raise DataError(
        f"Pulmonary edema severity: no MIMIC-CXR-JPG (a folder with files/ and {_METADATA}.csv.gz) is at, in or beside "
        f"{root}",
        remedy="put the tables into the root of MIMIC-CXR-JPG, or both into one folder (a link will do)",
    )


def _graded(films: Sequence[Study], table: _Table, views: Sequence[str]) -> list[Study]:
    """The films that a table grades; named images are taken in any view, examinations in the views chosen."""
    wanted = {view.upper() for view in views}
    if table.by_image:
        found = [(film, table.grades[film.study_id]) for film in films if film.study_id in table.grades]
    else:
        found = [
            (film, table.grades[film.group_id])
            for film in films
            if film.group_id in table.grades and (not wanted or film.attributes.get("view", "").upper() in wanted)
        ]
    return [
        replace(film, labels={label: float(grade >= least) for label, least in _THRESHOLDS.items()})
        for film, grade in found
    ]


def _grade_facts(name: str, table: _Table) -> dict[str, int]:
    return {f"{name} rows of grade {grade}": count for grade, count in enumerate(table.counts)}


def _unlike_known(stem: str, table: _Table) -> list[str]:
    known = _KNOWN[stem]
    if table.counts == known:
        return []
    published, here = (" / ".join(f"{count:,}" for count in counts) for counts in (known, table.counts))
    return [f"{stem}.csv as published has {published} rows of grade 0 / 1 / 2 / 3; here it has {here}."]


def _lost(table: _Table, films: Sequence[Study]) -> list[str]:
    kind = "images" if table.by_image else "examinations"
    found = {film.study_id if table.by_image else film.group_id for film in films}
    lost = len(table.grades) - len(found)
    return [f"{lost:,} of {len(table.grades):,} graded {kind} have no image of the views chosen here."] if lost else []


EDEMA_PROTOCOL = Protocol(
    name="edema-severity",
    title="Pulmonary edema severity: 0 against 1-3, 0-1 against 2-3, 0-2 against 3",
    tasks=xray_tasks(_THRESHOLDS),
    prompts="edema_severity",
    subsets=("consensus", "expert", "test"),
    read=_read,
)
