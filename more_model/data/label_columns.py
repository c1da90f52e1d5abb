"""Label cells to numbers: 1.0 present, 0.0 absent, -1.0 uncertain; a blank cell is a label that is not stated."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from more_model.errors import DataError

_NUMBERS = {"1": 1.0, "1.0": 1.0, "0": 0.0, "0.0": 0.0, "-1": -1.0, "-1.0": -1.0, "-0.0": 0.0}
_WORDS = {"true": 1.0, "false": 0.0}


def named(labels: Sequence[str] | Mapping[str, str]) -> dict[str, str]:
    """Column -> label, from a mapping or from a list of columns that already bear the labels' names."""
    return dict(labels) if isinstance(labels, Mapping) else {column: column for column in labels}


def label_rows(
    path: Path,
    columns: Mapping[str, Sequence[str]],
    names: Mapping[str, str],
    *,
    words: Mapping[str, float] | None = None,
    blank_is_absent: bool = False,
) -> list[dict[str, float]]:
    """One mapping label -> value a row. Equal rows share one mapping, so it must not be changed.

    ``names`` maps column to label, ``words`` adds spellings such as ``{"yes": 1.0}``. Raises `DataError` naming every
    column with a cell that is no label value, and how many such cells it has.
    """
    known = {**_NUMBERS, **_WORDS, **{word.casefold(): value for word, value in (words or {}).items()}}
    _refuse_strangers(path, {column: columns[column] for column in names}, known)
    labels = tuple(names.values())
    cache: dict[tuple[str, ...], dict[str, float]] = {}
    rows: list[dict[str, float]] = []
    for cells in zip(*(columns[column] for column in names), strict=True):
        row = cache.get(cells)
        if row is None:
            row = _row(labels, cells, known, blank_is_absent)
            cache[cells] = row
        rows.append(row)
    return rows


def _row(
    labels: tuple[str, ...], cells: tuple[str, ...], known: Mapping[str, float], blank_is_absent: bool
) -> dict[str, float]:
    values = ((label, cell.strip().casefold()) for label, cell in zip(labels, cells, strict=True))
    return {label: known[cell] if cell else 0.0 for label, cell in values if cell or blank_is_absent}


def _refuse_strangers(path: Path, columns: Mapping[str, Sequence[str]], known: Mapping[str, float]) -> None:
    faults = []
    for column, cells in columns.items():
        strange = {cell for cell in set(cells) if cell.strip() and cell.strip().casefold() not in known}
        if strange:
            count = sum(cell in strange for cell in cells)
            faults.append(f"column {column!r} has {count} such cells in {len(strange)} spellings")
    if faults:
        raise DataError(
            f"The table {path} has label cells other than 1, 0, -1 and blank: {'; '.join(faults)}.",
            remedy="Name the right columns, or say what its words mean with label_words, for example "
            '{ "yes" = 1, "no" = 0, "possible" = -1 }.',
            avoid="guess: a wrong word trains the wrong label.",
        )
