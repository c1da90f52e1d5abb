"""Any hospital's CSV to studies, through a column mapping (see `more_model.data.table_mapping`)."""

from __future__ import annotations

import ast
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from more_model.data.csv_columns import (
    clean_ids,
    missing_columns,
    parse_times,
    read_columns,
    read_header,
)
from more_model.data.label_columns import label_rows, named
from more_model.data.reading import Reading
from more_model.data.study import Modality, Study
from more_model.data.table_mapping import MultiLabel, RowFilter, TableMapping
from more_model.errors import DataError


@dataclass(frozen=True, slots=True)
class _Row:
    """What the studies of one row have in common."""

    patient: str
    study: str
    group: str
    site: str
    time: datetime | None
    labels: Mapping[str, float]
    attributes: Mapping[str, str]


def read_table(mapping: TableMapping) -> Reading:
    """The studies of one CSV: for each row its X-ray, its ECG and its report, as far as the cells are filled.

    Paths in ``mapping`` are taken as they are: see `more_model.data.table_mapping.anchored`. Labels go to the X-ray and
    the ECG of the row. Raises `DataError` for a missing file or column, for
    label and split cells that mean nothing, and for two different reports of one group.
    """
    form = {"separator": mapping.separator, "encoding": mapping.encoding}
    header = read_header(mapping.path, **form)
    missing = [name for name in mapping.columns if name not in header]
    if missing:
        raise missing_columns(mapping.path, missing, header)
    table = read_columns(mapping.path, mapping.columns, **form)
    counts: Counter[str] = Counter()
    kept = _kept_rows(table, mapping.where)
    counts["rows"], counts["rows-filtered-out"] = len(kept), len(table[mapping.patient]) - len(kept)
    columns = {name: [cells[place] for place in kept] for name, cells in table.items()}
    rows = _rows(mapping, columns, counts)
    return Reading(_studies(mapping, columns, rows, counts), dict(counts))


def _kept_rows(table: Mapping[str, Sequence[str]], filters: Sequence[RowFilter]) -> list[int]:
    total = len(next(iter(table.values()), []))
    kept = list(range(total))
    for rule in filters:
        words = set(clean_ids(rule.within if rule.within is not None else rule.not_in or ()))
        cells, wanted = clean_ids(table[rule.column]), rule.within is not None
        kept = [place for place in kept if (cells[place] in words) is wanted]
    return kept


def _rows(mapping: TableMapping, columns: Mapping[str, list[str]], counts: Counter[str]) -> list[_Row | None]:
    """One entry a row; None for a row that belongs to no patient."""
    patients = clean_ids(columns[mapping.patient])
    files = columns.get(mapping.xray or mapping.ecg or "", [""] * len(patients))
    own = clean_ids(columns[mapping.study]) if mapping.study else None
    groups = clean_ids(columns[mapping.group]) if mapping.group else None
    studies = own or ([cell.strip() for cell in files] if mapping.xray or mapping.ecg else groups) or []
    rows: list[_Row | None] = []
    facts = zip(
        patients,
        studies,
        groups or studies,
        _sites(mapping, columns, len(patients)),
        _times(mapping, columns, len(patients), counts),
        _labels(mapping, columns, len(patients)),
        _attributes(mapping, columns, len(patients)),
        strict=True,
    )
    for patient, study, group, site, time, labels, attributes in facts:
        if not patient or not (study or group):
            counts["row-without-patient" if not patient else "row-without-study"] += 1
            rows.append(None)
            continue
        study_id = f"{mapping.study_prefix}{study or group}"
        group_id = f"{mapping.study_prefix}{group}" if group else study_id
        rows.append(_Row(f"{mapping.patient_prefix}{patient}", study_id, group_id, site, time, labels, attributes))
    return rows


def _sites(mapping: TableMapping, columns: Mapping[str, list[str]], count: int) -> list[str]:
    if mapping.site is None:
        return [mapping.site_name] * count
    return [mapping.site_names.get(cell, cell) for cell in clean_ids(columns[mapping.site])]


def _times(
    mapping: TableMapping, columns: Mapping[str, list[str]], count: int, counts: Counter[str]
) -> Sequence[datetime | None]:
    if mapping.time is None:
        return [None] * count
    cells = columns[mapping.time]
    times = parse_times(cells, mapping.time_format)
    unreadable = sum(time is None and bool(cell.strip()) for time, cell in zip(times, cells, strict=True))
    if unreadable and unreadable == sum(bool(cell.strip()) for cell in cells):
        raise DataError(
            f"The table {mapping.path} has no readable time in column {mapping.time!r} ({unreadable} cells).",
            remedy='Give time_format, for example "%d.%m.%Y %H:%M"; without it ISO 8601 is expected.',
        )
    counts["time-unreadable"] += unreadable
    return times


def _labels(mapping: TableMapping, columns: Mapping[str, list[str]], count: int) -> Sequence[Mapping[str, float]]:
    parts: list[Sequence[Mapping[str, float]]] = []
    if names := named(mapping.labels):
        blank_is_absent = mapping.labels_blank == "absent"
        parts.append(
            label_rows(mapping.path, columns, names, words=mapping.label_words, blank_is_absent=blank_is_absent)
        )
    parts += [_multi_labels(mapping.path, entry, columns[entry.column]) for entry in mapping.multi_label]
    if not parts:
        return [{}] * count
    if len(parts) == 1:
        return parts[0]
    return [{label: value for part in row for label, value in part.items()} for row in zip(*parts, strict=True)]


def _multi_labels(path: Path, rule: MultiLabel, cells: Sequence[str]) -> list[Mapping[str, float]]:
    split = _dict_words if rule.cell == "dict" else _separated_words(rule.separator)
    classes = _code_classes(rule)
    labels = rule.labels
    read: dict[str, Mapping[str, float]] = {}
    broken = 0
    for cell in set(cells):
        try:
            words = split(cell)
        except (ValueError, SyntaxError):
            broken += 1
            continue
        if classes is not None:
            words = {classes[word] for word in words if word in classes}
        absent_too = bool(words) or rule.when_empty == "absent"
        read[cell] = {label: float(word in words) for word, label in labels.items()} if absent_too else {}
    if broken:
        raise DataError(
            f"The table {path} has cells in column {rule.column!r} that are no dictionary ({broken} spellings).",
            remedy='Use cell = "separated" with the right separator, or name the right column.',
        )
    return [read[cell] for cell in cells]


def _separated_words(separator: str) -> Callable[[str], set[str]]:
    return lambda cell: {word.strip() for word in cell.split(separator)} - {""}


def _dict_words(cell: str) -> set[str]:
    if not cell.strip():
        return set()
    value = ast.literal_eval(cell.strip())
    if not isinstance(value, dict):
        raise ValueError("not a dictionary")
    return {str(key) for key in value}


def _code_classes(rule: MultiLabel) -> dict[str, str] | None:
    if rule.codes is None:
        return None
    book = rule.codes
    columns = read_columns(book.path, (book.key, book.value, *(entry.column for entry in book.where)))
    kept = _kept_rows(columns, book.where)
    pairs = ((columns[book.key][place].strip(), columns[book.value][place].strip()) for place in kept)
    return {code: name for code, name in pairs if code and name}


def _attributes(mapping: TableMapping, columns: Mapping[str, list[str]], count: int) -> Sequence[Mapping[str, str]]:
    names = mapping.attribute_names
    sources = [columns[column] for column in names]
    targets = list(names.values())
    if mapping.split is not None:
        sources.append(_split_cells(mapping, columns[mapping.split.column]))
        targets.append("split")
    if not sources:
        return [{}] * count
    cache: dict[tuple[str, ...], dict[str, str]] = {}
    rows = []
    for cells in zip(*sources, strict=True):
        row = cache.get(cells)
        if row is None:
            stated = ((name, cell.strip()) for name, cell in zip(targets, cells, strict=True))
            row = cache[cells] = {name: cell for name, cell in stated if cell}
        rows.append(row)
    return rows


def _split_cells(mapping: TableMapping, cells: Sequence[str]) -> list[str]:
    words = mapping.split.words if mapping.split else {}
    cleaned = clean_ids(cells)
    strange = sorted(set(cleaned) - set(words) - {""})
    if strange:
        raise DataError(
            f"The table {mapping.path} has split words without a meaning: {', '.join(strange[:8])}.",
            remedy='Say what they mean in split.words, for example { "val" = "validation" }.',
        )
    return [words.get(cell, "") for cell in cleaned]


def _studies(
    mapping: TableMapping, columns: Mapping[str, list[str]], rows: Sequence[_Row | None], counts: Counter[str]
) -> list[Study]:
    root = mapping.root or mapping.path.parent
    modalities = [(Modality.XRAY, mapping.xray), (Modality.ECG, mapping.ecg)]
    files = [(modality, columns[column]) for modality, column in modalities if column is not None]
    reports = _reports(mapping, columns, rows, root)
    studies: list[Study] = []
    for place, row in enumerate(rows):
        if row is None:
            continue
        for modality, cells in files:
            if cell := cells[place].strip():
                studies.append(_file_study(modality, row, root / cell))
                counts[modality.value] += 1
            else:
                counts[f"{modality.value}-blank"] += 1
        if reports:
            report = reports[place]
            counts["report" if report else "report-blank-or-repeated"] += 1
            studies += [report] if report else []
    return studies


def _file_study(modality: Modality, row: _Row, source: Path) -> Study:
    return Study(
        modality=modality,
        study_id=row.study,
        patient_id=row.patient,
        group_id=row.group,
        site=row.site,
        time=row.time,
        source=source,
        labels=row.labels,
        attributes=row.attributes,
    )


def _reports(
    mapping: TableMapping, columns: Mapping[str, list[str]], rows: Sequence[_Row | None], root: Path
) -> list[Study | None]:
    """One entry a row, or nothing where the table has no reports; a report repeated in its group appears once."""
    column = mapping.report_text or mapping.report_file
    if column is None or mapping.described is None:
        return []
    languages = columns[mapping.language_column] if mapping.language_column else [mapping.language] * len(rows)
    seen: dict[tuple[str, str], str] = {}
    conflicts: set[tuple[str, str]] = set()
    reports: list[Study | None] = []
    for row, cell, language in zip(rows, (cell.strip() for cell in columns[column]), languages, strict=True):
        if row is None or not cell or (row.patient, row.group) in seen:
            if row is not None and cell and seen[row.patient, row.group] != cell:
                conflicts.add((row.patient, row.group))
            reports.append(None)
            continue
        seen[row.patient, row.group] = cell
        reports.append(_report(mapping, mapping.described, row, cell, language.strip(), root))
    if conflicts:
        raise DataError(
            f"The table {mapping.path} gives {len(conflicts)} groups more than one report.",
            remedy="Name with group the column that identifies one report, or leave group out.",
        )
    return reports


def _report(mapping: TableMapping, described: Modality, row: _Row, cell: str, language: str, root: Path) -> Study:
    return Study(
        modality=Modality.REPORT,
        study_id=f"{described.value}-{row.group}",
        patient_id=row.patient,
        group_id=row.group,
        site=row.site,
        time=row.time,
        source=root / cell if mapping.report_file else None,
        text=None if mapping.report_file else cell,
        describes=described,
        attributes={**row.attributes, "language": language} if language else row.attributes,
    )
