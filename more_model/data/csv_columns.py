"""Columns of a CSV or CSV.GZ file as plain lists of text, in seconds at MIMIC size; errors name what was found.

Cells are never interpreted here: ids such as ``00012`` and blanks survive as they stand in the file.
"""

from __future__ import annotations

import csv
import gzip
import io
import re
import zlib
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import TextIO

from more_model.data.packages import load_package
from more_model.errors import DataError

_FLOAT_ID = re.compile(r"\d+\.0+")
_HEADER_CHARACTERS_MAX = 1 << 20
_SURPLUS_COLUMNS = 4
_OTHER_SEPARATORS = {";": "semicolons", "\t": "tabs"}


def find_csv(folder: Path, stem: str) -> Path | None:
    """``folder/stem.csv``, else ``folder/stem.csv.gz``, else None."""
    for suffix in (".csv", ".csv.gz"):
        candidate = folder / f"{stem}{suffix}"
        if candidate.is_file():
            return candidate
    return None


def require_csv(folder: Path, stems: Sequence[str], dataset: str) -> dict[str, Path]:
    """The files for all stems, or one `DataError` that lists every file and folder missing."""
    if not folder.is_dir():
        raise DataError(
            f"{dataset}: the folder {folder} does not exist.",
            remedy="Correct the path in the sources file, or mount the disk that holds the data set.",
        )
    found = {stem: find_csv(folder, stem) for stem in stems}
    missing = [f"{stem}.csv or {stem}.csv.gz" for stem, path in found.items() if path is None]
    if missing:
        present = sorted(entry.name for entry in folder.iterdir())[:20]
        raise DataError(
            f"{dataset}: {folder} lacks {'; '.join(missing)}. It holds: {', '.join(present) or 'nothing'}.",
            remedy="Point the source at the root of the release (the folder that holds files/ and the CSV files), or "
            "download the missing files.",
            avoid="rename a file of another release; its columns may differ.",
        )
    return {stem: path for stem, path in found.items() if path is not None}


def read_header(path: Path, *, separator: str = ",", encoding: str = "utf-8") -> list[str]:
    """Column names in file order, outer blanks removed; an unnamed column is the empty string.

    Raises `DataError` where the file is missing, unreadable, empty, of another encoding or of another separator.
    """
    if not path.is_file():
        raise DataError(
            f"The table {path} does not exist.",
            remedy="Correct its path; a relative path counts from the file that names it.",
        )
    try:
        with _opened(path, encoding) as stream:
            first = stream.readline(_HEADER_CHARACTERS_MAX)
    except (OSError, EOFError, UnicodeError, zlib.error) as error:
        raise _unreadable(path, error, encoding) from error
    header = next(csv.reader([first], delimiter=separator), [])
    if not header:
        raise DataError(f"The table {path} is empty.", remedy="Export or download it again.")
    if len(header) == 1:
        _refuse_other_separator(path, header[0], separator)
    return [name.strip() for name in header]


def read_columns(
    path: Path,
    required: Iterable[str],
    optional: Iterable[str] = (),
    *,
    separator: str = ",",
    encoding: str = "utf-8",
) -> dict[str, list[str]]:
    """The named columns as lists of text, one entry a row, blank where the cell is blank.

    Optional columns that the file lacks are left out. Raises `DataError` naming the file, every missing column and the
    columns found; and where rows have more cells than the header (blank cells at the end of a row do not count).
    """
    header = read_header(path, separator=separator, encoding=encoding)
    needed = list(dict.fromkeys(required))
    missing = [name for name in needed if name not in header]
    if missing:
        raise missing_columns(path, missing, header)
    names = [*needed, *(name for name in dict.fromkeys(optional) if name in header and name not in needed)]
    positions = {name: header.index(name) for name in names}
    return _read(path, positions, len(header), separator, encoding)


def missing_columns(path: Path, missing: Sequence[str], header: Sequence[str]) -> DataError:
    """The error for columns that a table should have and has not."""
    plural = "s" if len(missing) > 1 else ""
    return DataError(
        f"The table {path} has no column{plural} {', '.join(map(repr, missing))}. "
        f"It has: {', '.join(map(repr, header))}.",
        remedy="Check that this is the right file and release, and that names match letter by letter.",
    )


def clean_ids(cells: Iterable[str]) -> list[str]:
    """Ids without outer blanks and without the ``.0`` that a detour through floating point leaves (``15709.0``)."""
    return [
        cell[: cell.index(".")] if cell.endswith("0") and _FLOAT_ID.fullmatch(cell) else cell
        for cell in (raw.strip() for raw in cells)
    ]


def parse_times(cells: Sequence[str], time_format: str | None = None) -> list[datetime | None]:
    """Times without zone (a zone, where given, is converted to UTC first); None where a cell is blank or unreadable.

    ``time_format`` is a strptime format; without it ISO 8601 is expected.
    """
    pandas = load_package("pandas", "read tables")
    stamps = pandas.to_datetime(
        pandas.Series(list(cells), dtype=object), format=time_format or "ISO8601", errors="coerce", utc=True
    )
    naive = stamps.dt.tz_localize(None)
    return [None if stamp is pandas.NaT else stamp.to_pydatetime() for stamp in naive]


def _read(path: Path, positions: Mapping[str, int], width: int, separator: str, encoding: str) -> dict[str, list[str]]:
    pandas = load_package("pandas", "read tables")
    order = sorted(set(positions.values()))
    # pandas cuts cells past the header off without a word, and an unquoted comma would cut a report short: a header
    # with a few surplus columns makes such rows visible at the price of reading those columns.
    surplus = range(width, width + _SURPLUS_COLUMNS)
    try:
        with _opened(path, encoding) as stream:
            frame = pandas.read_csv(
                _Renamed(stream, separator.join(map(str, range(width + _SURPLUS_COLUMNS)))),
                sep=separator,
                usecols=[*order, *surplus],
                dtype=object,
                # A blank cell must stay a blank text: "NA", "None" or "null" may be real words of a site's export.
                na_filter=False,
                index_col=False,
                low_memory=False,
            )
    except (OSError, EOFError, ValueError, zlib.error) as error:
        raise _unreadable(path, error, encoding) from error
    if any(cell.strip() for position in surplus for cell in frame[str(position)].unique()):
        raise _too_many_cells(path, width, separator, encoding)
    by_position = {position: frame.iloc[:, place].tolist() for place, position in enumerate(order)}
    return {name: by_position[position] for name, position in positions.items()}


class _Renamed(io.TextIOBase):
    """A table's text with another header line."""

    def __init__(self, stream: TextIO, header: str) -> None:
        stream.readline(_HEADER_CHARACTERS_MAX)
        self._stream = stream
        self._header = f"{header}\n"

    def readable(self) -> bool:
        return True

    def read(self, size: int | None = -1, /) -> str:
        header, self._header = self._header, ""
        return header or self._stream.read(-1 if size is None else size)


def _codec(encoding: str) -> str:
    """The encoding that also takes the byte order mark which spreadsheets write."""
    return "utf-8-sig" if encoding.lower().replace("_", "-") in ("utf-8", "utf8") else encoding


def _opened(path: Path, encoding: str) -> TextIO:
    if path.suffix == ".gz":
        return gzip.open(path, "rt", encoding=_codec(encoding), newline="")
    return path.open(encoding=_codec(encoding), newline="")


def _refuse_other_separator(path: Path, cell: str, separator: str) -> None:
    for other, name in _OTHER_SEPARATORS.items():
        if other in cell and other != separator:
            spelled = other.replace("\t", "\\t")
            raise DataError(
                f"The table {path} is separated by {name}, not by {separator!r}: its header is a single cell.",
                remedy="Export the file with commas, or, where a table mapping names it, add "
                f'separator = "{spelled}" there.',
            )


def _too_many_cells(path: Path, width: int, separator: str, encoding: str) -> DataError:
    count, first, line = 0, 0, 1
    with _opened(path, encoding) as stream:
        rows = csv.reader(stream, delimiter=separator)
        for row in rows:
            if any(cell.strip() for cell in row[width:]):
                count += 1
                first = first or line
            line = rows.line_num + 1
    return DataError(
        f"The table {path} has {count} rows with more cells than its header names ({width}); the first stands at "
        f"line {first}.",
        remedy=f'Quote cells that hold {"commas" if separator == "," else repr(separator)} ("like, this"), or '
        "export the table again with quotes.",
    )


def _unreadable(path: Path, error: Exception, encoding: str) -> DataError:
    if isinstance(error, UnicodeError):
        return DataError(
            f"The table {path} is not {encoding} text.",
            remedy='Export the file as UTF-8, or, where a table mapping names it, add encoding = "latin-1" there (or '
            'what the export used, such as "cp1252").',
        )
    # pandas quotes cells in some messages, and cells may identify a patient: only the kind of failure is passed on.
    return DataError(
        f"The table {path} cannot be read ({type(error).__name__}).",
        remedy="It must be UTF-8 text with comma-separated cells, whole and not cut off; download or export it again.",
    )
