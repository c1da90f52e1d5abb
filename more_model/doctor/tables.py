"""Are the tables of a data set there, whole, and those of the release? Every table is read once, no file of data."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from more_model.data.csv_columns import find_csv, read_columns, read_header
from more_model.doctor.finding import Finding, Severity, error, note, warning
from more_model.errors import DataError

_GZIP, _ZIP = b"\x1f\x8b", b"PK"

Columns = Mapping[str, list[str]]


@dataclass(frozen=True, slots=True)
class TableSpec:
    """One table of a release.

    ``stem`` is the file name without .csv or .csv.gz, ``published`` the name it is published under. ``columns`` have to
    be there; ``read`` are those whose cells are needed (all ``columns`` must exist, few are read); ``rows`` is the
    known count. ``gives`` completes "it gives ..."; ``severity`` is what its absence means. ``header_only`` tables are
    too large to be read through.
    """

    stem: str
    published: str
    columns: tuple[str, ...]
    gives: str
    read: tuple[str, ...] = ()
    rows: int | None = None
    severity: Severity = Severity.ERROR
    header_only: bool = False


@dataclass(slots=True)
class TablesRead:
    """The columns of the tables that could be read (by stem), their row counts, and what was found on the way."""

    columns: dict[str, Columns] = field(default_factory=dict)
    counts: dict[str, int] = field(default_factory=dict)
    findings: list[Finding] = field(default_factory=list)


def read_tables(folder: Path, specs: Sequence[TableSpec], source: str, *, synthetic: bool = False) -> TablesRead:
    """Reads the tables of one folder; ``source`` says where they can be had. ``synthetic`` skips the known counts."""
    result = TablesRead()
    for spec in specs:
        path = find_csv(folder, spec.stem)
        if path is None:
            result.findings.append(_missing(folder, spec, source))
            continue
        twin = folder / f"{spec.stem}.csv.gz"
        if path != twin and twin.is_file():
            result.findings.append(
                note(f"{path.name} and {twin.name} both lie there; {path.name} is read.", "Keep one of them.")
            )
        fault = not_a_table(path)
        if fault is not None:
            result.findings.append(fault)
            continue
        try:
            _read_one(path, spec, result, synthetic=synthetic)
        except DataError as caught:
            result.findings.append(error(caught.cause, caught.remedy or f"Download {spec.published} again {source}"))
    return result


def not_a_table(path: Path) -> Finding | None:
    """Why a file cannot be a CSV or CSV.GZ table, judged by rights, size and its first bytes; None where it may be."""
    if not path.is_file():
        return error(f"{path.name} is not a file.")
    if not os.access(path, os.R_OK):
        return error(f"{path.name} may not be read by this user.", f"Give yourself the right: chmod u+r {path.name}.")
    with path.open("rb") as stream:
        start = stream.read(256)
    if not start:
        return error(f"{path.name} is empty.", "Download it again.")
    if start.lstrip().lower().startswith((b"<!doctype", b"<html")):
        return error(
            f"{path.name} is a web page, not a table: the server answered with a page instead of the file.",
            "Sign in, accept the data use agreement on the project page, and download the file again.",
        )
    compressed = start.startswith(_GZIP)
    if path.suffix == ".gz" and not compressed:
        return error(
            f"{path.name} is not compressed, although its name ends in .gz (a browser may have unpacked it).",
            f"Rename it to {path.stem}.",
        )
    if path.suffix != ".gz" and (compressed or start.startswith(_ZIP)):
        tool = "gzip" if compressed else "zip"
        remedy = f"Rename it to {path.name}.gz." if compressed else f"Unpack it: unzip {path.name}."
        return error(f"{path.name} is compressed ({tool}), although its name ends in .csv.", remedy)
    return None


def count_finding(what: str, here: int, known: int) -> list[Finding]:
    """A warning where a count is not the published one, otherwise nothing."""
    if here == known:
        return []
    if here > known:
        return [
            warning(
                f"{what}: {here:,}, more than the {known:,} of the release.",
                "Check that rows of two releases were not joined.",
            )
        ]
    return [
        warning(
            f"{what}: {here:,} of the {known:,} of the release ({here / known:.1%}).",
            "Figures are not those of the whole release; download the table again if it should be whole.",
        )
    ]


def _missing(folder: Path, spec: TableSpec, source: str) -> Finding:
    elsewhere = [entry.name for entry in _near_names(folder, spec)]
    hint = f" ({', '.join(elsewhere[:3])} lies there; the name has to match)" if elsewhere else ""
    return Finding(
        spec.severity,
        f"{spec.published} is missing{hint}; it gives {spec.gives}.",
        f"Download {spec.published} {source}",
    )


def _near_names(folder: Path, spec: TableSpec) -> list[Path]:
    """Files whose names differ from the table's by a version number or an ending only."""
    word = spec.stem.rpartition("-")[2]
    return sorted(
        entry
        for entry in folder.iterdir()
        if entry.is_file() and word in entry.name and entry.name.startswith(spec.stem[:5]) and "csv" in entry.name
    )


def _read_one(path: Path, spec: TableSpec, result: TablesRead, *, synthetic: bool) -> None:
    header = read_header(path)
    absent = [name for name in spec.columns if name not in header]
    if absent:
        plural = "s" if len(absent) > 1 else ""
        result.findings.append(
            Finding(
                spec.severity,
                f"{path.name} has no column{plural} {', '.join(absent)}; it has {', '.join(header[:40])}.",
                "Take the table of the release as it was published.",
            )
        )
    if spec.header_only:
        return
    wanted = [name for name in (spec.read or spec.columns[:1]) if name in header]
    columns = read_columns(path, wanted or header[:1])
    rows = len(next(iter(columns.values())))
    result.counts[f"rows of {path.name}"] = rows
    if synthetic:
        pass
    elif rows == 0:
        result.findings.append(Finding(spec.severity, f"{path.name} has a header and no rows.", "Download it again."))
    elif spec.rows is not None:
        result.findings += count_finding(f"Rows of {path.name}", rows, spec.rows)
    if not absent:
        result.columns[spec.stem] = columns
