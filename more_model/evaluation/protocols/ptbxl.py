"""PTB-XL: the five standard tasks of its code book on its standard folds, and the published single-label rule.

A record is labelled with every statement it bears, whatever its likelihood (0 means unknown and still counts), as
multi-hot: folds 1 to 8 are training, 9 validation, 10 test; a record without any label of the task is left out. Source
of the rules and sizes: the PTB-XL paper (Wagner et al., Scientific Data 2020) and its published benchmark.

`ptbxl-single` is what the released MoRE code does instead: one label a record, the first present of NORM, STTC, MI,
HYP, CD. On fold 10 of release 1.0.3 that keeps 83 of 262 HYP, 184 of 496 CD, 411 of 550 MI and 517 of 521 STTC records
as positives, so its figures are not those of `ptbxl-super`.
"""

from __future__ import annotations

import ast
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TypeAlias

from more_model.data.csv_columns import clean_ids, parse_times, read_columns
from more_model.data.study import Modality, Split, Study
from more_model.errors import ConfigError, DataError
from more_model.evaluation.embedded import LabelTask
from more_model.evaluation.protocols.protocol import EvaluationCohort, Protocol, ProtocolChoice

DATABASE = "ptbxl_database.csv"
STATEMENTS = "scp_statements.csv"
SUPERCLASSES = ("NORM", "MI", "STTC", "CD", "HYP")
#: The order in which the released MoRE code looks for the one label of a record.
SINGLE_LABEL_PRIORITY = ("NORM", "STTC", "MI", "HYP", "CD")

_SUBCLASSES = (
    "NORM AMI IMI LMI PMI STTC NST_ ISC_ ISCA ISCI LAFB/LPFB IRBBB ILBBB CLBBB CRBBB _AVB IVCD WPW LVH RVH LAO/LAE "
    "RAO/RAE SEHYP"
)
_DIAGNOSTIC = (
    "NORM AMI ASMI ALMI IMI ILMI IPMI IPLMI LMI PMI INJAS INJAL INJIN INJIL INJLA NDT NST_ DIG LNGQT ANEUR EL ISC_ "
    "ISCAL ISCAS ISCAN ISCLA ISCIN ISCIL LAFB LPFB IRBBB ILBBB CLBBB CRBBB 1AVB 2AVB 3AVB IVCD WPW LVH RVH LAO/LAE "
    "RAO/RAE SEHYP"
)
_FORM = "NDT NST_ DIG LNGQT ABQRS PVC STD_ VCLVH QWAVE LOWT NT_ PAC LPR INVT LVOLT HVOLT TAB_ STE_ PRC(S)"
_RHYTHM = "SR AFIB STACH SARRH SBRAD PACE SVARR BIGU AFLT SVTAC PSVT TRIGU"

_SPLITS = {**{str(fold): Split.TRAIN for fold in range(1, 9)}, "9": Split.VALIDATION, "10": Split.TEST}
_SEXES = {"0": "male", "1": "female"}
#: Ages above 89 are masked (release 1.0.3 writes 300); they belong to the highest age band.
_AGE_MASKED_FROM, _MASKED_AGE = 120, 90
_COLUMNS = ("ecg_id", "patient_id", "age", "sex", "site", "device", "recording_date", "scp_codes", "strat_fold")
_RECORDS = {100: "filename_lr", 500: "filename_hr"}

#: Statement -> label of the task.
_CodeBook: TypeAlias = Mapping[str, str]


@dataclass(frozen=True, slots=True)
class _Task:
    """What tells the tasks apart: which statements count, as which label, and how many records 1.0.3 has of each split.

    ``kind`` is a column of the code book that must be 1, ``label`` the column that names the label ("" is the
    statement itself).
    """

    name: str
    title: str
    labels: tuple[str, ...]
    kind: str
    label: str
    known: tuple[int, int, int]
    prompts: str
    single: bool = False


_DIAGNOSTIC_SIZES = (17_084, 2_146, 2_158)
_TASKS = (
    _Task(
        "ptbxl-super",
        "PTB-XL, five diagnostic superclasses",
        SUPERCLASSES,
        "diagnostic",
        "diagnostic_class",
        _DIAGNOSTIC_SIZES,
        "ptbxl_super",
    ),
    _Task(
        "ptbxl-sub",
        "PTB-XL, 23 diagnostic subclasses",
        tuple(_SUBCLASSES.split()),
        "diagnostic",
        "diagnostic_subclass",
        _DIAGNOSTIC_SIZES,
        "ptbxl_sub",
    ),
    _Task(
        "ptbxl-diag",
        "PTB-XL, 44 diagnostic statements",
        tuple(_DIAGNOSTIC.split()),
        "diagnostic",
        "",
        _DIAGNOSTIC_SIZES,
        "ptbxl_diag",
    ),
    _Task(
        "ptbxl-form", "PTB-XL, 19 form statements", tuple(_FORM.split()), "form", "", (7_197, 901, 880), "ptbxl_form"
    ),
    _Task(
        "ptbxl-rhythm",
        "PTB-XL, 12 rhythm statements",
        tuple(_RHYTHM.split()),
        "rhythm",
        "",
        (16_832, 2_100, 2_098),
        "ptbxl_rhythm",
    ),
    _Task(
        "ptbxl-single",
        "PTB-XL, one superclass a record by the published priority",
        SUPERCLASSES,
        "diagnostic",
        "diagnostic_class",
        _DIAGNOSTIC_SIZES,
        "ptbxl_single",
        single=True,
    ),
)


def _read(task: _Task, root: Path, choice: ProtocolChoice) -> EvaluationCohort:
    """The records of one task; ``root`` holds the tables and records100/ or records500/.

    Raises:
        ConfigError: a choice that PTB-XL does not know.
        DataError: a missing table or column, another code book, a fold other than 1 to 10, an unreadable cell.
    """
    _refuse_foreign(task.name, choice)
    book = _code_book(root / STATEMENTS, task)
    columns = read_columns(root / DATABASE, (*_COLUMNS, _RECORDS[choice.rate_hz]))
    labels_of = _labeller(task, book)
    rows = _labelled_rows(root / DATABASE, columns["scp_codes"], labels_of)
    splits = _folds(root / DATABASE, columns["strat_fold"])
    kept = [place for place, labels in enumerate(rows) if labels]
    studies = _studies(root, columns, rows, kept, choice.rate_hz)
    split = {study.study_id: splits[place] for study, place in zip(studies, kept, strict=True)}
    counts = Counter(split.values())
    facts = {
        "records": len(rows),
        "records without a label of the task": len(rows) - len(kept),
        **{f"{name.value} records": counts[name] for name in Split},
    }
    return EvaluationCohort(
        studies=tuple(studies),
        split=split,
        tasks=tuple(LabelTask(label, "ecg") for label in task.labels),
        facts=facts,
        notes=_notes(task, tuple(counts[name] for name in Split)),
    )


def _refuse_foreign(name: str, choice: ProtocolChoice) -> None:
    faults = []
    if choice.mapping is not None:
        faults.append("a mapping belongs to protocol table")
    if choice.views != ProtocolChoice().views:
        faults.append("views are chosen for X-rays; PTB-XL has none")
    if choice.blank != ProtocolChoice().blank:
        faults.append("blank: every record states every label of it")
    if choice.subset not in (None, "test"):
        faults.append(f"there is no subset {choice.subset!r}; there is test")
    if faults:
        raise ConfigError(f"protocol {name}", faults)


def _code_book(path: Path, task: _Task) -> _CodeBook:
    names = [task.kind] if not task.label else [task.kind, task.label]
    columns = read_columns(path, ("", *names))
    values = columns[task.label]
    marked = [place for place, cell in enumerate(columns[task.kind]) if cell.strip() in ("1", "1.0")]
    book = {columns[""][place].strip(): values[place].strip() for place in marked}
    found = set(book.values())
    if found != set(task.labels):
        missing, strange = sorted(set(task.labels) - found), sorted(found - set(task.labels))
        raise DataError(
            f"{path} is not the code book of PTB-XL: for {task.name} it lacks {', '.join(missing) or 'nothing'} "
            f"and has {', '.join(strange) or 'nothing'} besides.",
            remedy="Download scp_statements.csv of PTB-XL 1.0.3 again.",
        )
    return book


def _labeller(task: _Task, book: _CodeBook) -> Callable[[str], Mapping[str, float]]:
    """A cell of ``scp_codes`` to 1/0 for every label; nothing where the record bears none. Equal cells share a result.

    The mapping raises ValueError or SyntaxError for a cell that is no dictionary.
    """
    cache: dict[str, Mapping[str, float]] = {}

    def labels_of(cell: str) -> Mapping[str, float]:
        if cell not in cache:
            codes = ast.literal_eval(cell)
            if not isinstance(codes, dict):
                raise ValueError("not a dictionary")
            present = {book[code] for code in codes if code in book}
            if task.single:
                present = set([label for label in SINGLE_LABEL_PRIORITY if label in present][:1])
            cache[cell] = {label: float(label in present) for label in task.labels} if present else {}
        return cache[cell]

    return labels_of


def _labelled_rows(
    path: Path, cells: Sequence[str], labels_of: Callable[[str], Mapping[str, float]]
) -> list[Mapping[str, float]]:
    rows: list[Mapping[str, float]] = []
    broken = 0
    for cell in cells:
        try:
            rows.append(labels_of(cell))
        except (ValueError, SyntaxError):
            broken += 1
    if broken:
        raise DataError(
            f"{path}: {broken} cells of scp_codes are not dictionaries of statements.",
            remedy="Download the table again; do not save it from a spreadsheet.",
        )
    return rows


def _folds(path: Path, cells: Sequence[str]) -> list[Split]:
    folds = clean_ids(cells)
    strange = sorted(set(folds) - set(_SPLITS))
    if strange:
        count = sum(fold not in _SPLITS for fold in folds)
        raise DataError(
            f"{path}: {count} cells of strat_fold are none of 1 to 10 (such as {strange[0]!r}).",
            remedy="Download the table again.",
        )
    return [_SPLITS[fold] for fold in folds]


def _studies(
    root: Path,
    columns: Mapping[str, Sequence[str]],
    rows: Sequence[Mapping[str, float]],
    kept: Sequence[int],
    rate_hz: int,
) -> list[Study]:
    ids, patients = clean_ids(columns["ecg_id"]), clean_ids(columns["patient_id"])
    sites, times = clean_ids(columns["site"]), parse_times(columns["recording_date"])
    files = columns[_RECORDS[rate_hz]]
    return [
        Study(
            modality=Modality.ECG,
            study_id=ids[place],
            patient_id=patients[place],
            group_id=ids[place],
            time=times[place],
            source=root / files[place].strip(),
            labels=rows[place],
            attributes=_attributes(
                columns["sex"][place], columns["age"][place], sites[place], columns["device"][place]
            ),
        )
        for place in kept
    ]


def _attributes(sex: str, age: str, site: str, device: str) -> dict[str, str]:
    facts = {
        "sex": _SEXES.get(sex.strip().removesuffix(".0"), ""),
        "age": _whole_years(age),
        "site": site,
        "device": " ".join(device.split()),
    }
    return {name: value for name, value in facts.items() if value}


def _whole_years(cell: str) -> str:
    try:
        years = int(float(cell))
    except ValueError:
        return ""
    return str(_MASKED_AGE if years >= _AGE_MASKED_FROM else years)


def _notes(task: _Task, sizes: Sequence[int]) -> tuple[str, ...]:
    notes = []
    if tuple(sizes) != task.known:
        found, known = ("/".join(f"{size:,}" for size in row) for row in (sizes, task.known))
        notes.append(
            f"An excerpt or another release: train/validation/test are {found} records where PTB-XL 1.0.3 gives "
            f"{known}. Figures are not comparable with those of the whole release."
        )
    if task.single:
        notes.append(
            "One label a record, the first present of " + ", ".join(SINGLE_LABEL_PRIORITY) + ": every other superclass "
            "that a record also has counts as absent. Figures are not comparable with ptbxl-super."
        )
    return tuple(notes)


PTBXL_PROTOCOLS: tuple[Protocol, ...] = tuple(
    Protocol(
        name=task.name,
        title=task.title,
        tasks=tuple(LabelTask(label, "ecg") for label in task.labels),
        prompts=task.prompts,
        subsets=("test",),
        read=partial(_read, task),
    )
    for task in _TASKS
)
