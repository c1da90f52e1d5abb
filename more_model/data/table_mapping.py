"""Which column of a site's CSV means what: read from TOML, checked whole before any data is touched."""

from __future__ import annotations

import codecs
from collections.abc import Mapping
from pathlib import Path
from typing import Literal, Self

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from more_model.data.label_columns import named
from more_model.data.study import Modality
from more_model.settings import load_settings

Blank = Literal["not-stated", "absent"]


class _Strict(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", populate_by_name=True)


class RowFilter(_Strict):
    """Keeps rows whose cell is one of ``in``, or none of ``not_in``; cells are compared as text (``2.0`` as ``2``)."""

    column: str
    within: tuple[str, ...] | None = Field(default=None, alias="in")
    not_in: tuple[str, ...] | None = None

    @model_validator(mode="after")
    def _one_rule(self) -> Self:
        if (self.within is None) == (self.not_in is None):
            raise ValueError("a where filter takes exactly one of in and not_in")
        return self


class CodeBook(_Strict):
    """A second CSV that turns the codes of a cell into classes, such as PTB-XL's ``scp_statements.csv``.

    ``key`` is the column with the codes ("" is an unnamed column), ``value`` the column with the class.
    """

    path: Path
    key: str = ""
    value: str
    where: tuple[RowFilter, ...] = ()


class MultiLabel(_Strict):
    """One column that lists several labels, made into one 1/0 label for each of ``values``.

    ``values`` maps a word of the cell to the label it sets (or lists words that are the labels). Cells are words
    between ``separator``, or with ``cell = "dict"`` a Python dictionary literal whose keys are the words.
    ``when_empty`` says what a cell without any word (after ``codes``, without any known class) means: "not-stated", or
    all "absent".
    """

    column: str
    values: tuple[str, ...] | dict[str, str]
    cell: Literal["separated", "dict"] = "separated"
    separator: str = Field(default=" ", min_length=1)
    when_empty: Blank = "not-stated"
    codes: CodeBook | None = None

    @property
    def labels(self) -> dict[str, str]:
        """Word -> label."""
        return named(self.values)


class SplitColumn(_Strict):
    """A column that names each row's split, and what its words mean."""

    column: str
    words: dict[str, Literal["train", "validation", "test"]] = Field(
        default={"train": "train", "validation": "validation", "test": "test"}
    )


class TableMapping(_Strict):
    """One CSV. Every field that says "column" is a column name; what is not given is not read.

    ``path``: the CSV, relative to the mapping file. ``separator``: the one character between its cells. ``encoding``:
    Python's name of its text encoding (``utf-8``, ``latin-1``). ``root``: folder that the files named in the cells are
    relative to (default: the CSV's own folder). ``patient``, ``study``, ``group``, ``time``, ``site``: columns;
    ``study`` defaults to the text of the file cell and ``group`` to the study. ``site_name`` is a fixed site,
    ``site_names`` renames the words of the ``site`` column. ``patient_prefix`` and ``study_prefix`` keep ids of several
    tables apart. ``xray``, ``ecg``: columns with files (ECG: WFDB record, extension optional). ``report_text`` or
    ``report_file``: column with the words or with a file of them; ``report_describes`` says what about, and may be left
    out where the table has only X-rays or only ECGs. ``language`` is fixed, ``language_column`` a column. ``labels``,
    ``attributes``: columns, or column -> name. ``labels_blank``: what an empty label cell means. ``split`` becomes the
    attribute ``split``.
    """

    path: Path
    separator: str = Field(default=",", min_length=1, max_length=1)
    encoding: str = "utf-8"
    root: Path | None = None
    patient: str
    patient_prefix: str = ""
    study: str | None = None
    study_prefix: str = ""
    group: str | None = None
    time: str | None = None
    time_format: str | None = None
    site: str | None = None
    site_name: str = ""
    site_names: dict[str, str] = Field(default={})
    xray: str | None = None
    ecg: str | None = None
    report_text: str | None = None
    report_file: str | None = None
    report_describes: Literal["xray", "ecg"] | None = None
    language: str = ""
    language_column: str | None = None
    labels: tuple[str, ...] | dict[str, str] = ()
    labels_blank: Blank = "not-stated"
    label_words: dict[str, float] = Field(default={})
    multi_label: tuple[MultiLabel, ...] = ()
    attributes: tuple[str, ...] | dict[str, str] = ()
    where: tuple[RowFilter, ...] = ()
    split: SplitColumn | None = None

    @field_validator("encoding")
    @classmethod
    def _known_encoding(cls, encoding: str) -> str:
        try:
            codecs.lookup(encoding)
        except LookupError as error:
            raise ValueError('there is no such encoding; common ones are "utf-8", "latin-1" and "cp1252"') from error
        return encoding

    @model_validator(mode="before")
    @classmethod
    def _lists(cls, data: object) -> object:
        if isinstance(data, Mapping):
            return {**data, **{key: (data[key],) for key in ("multi_label",) if isinstance(data.get(key), Mapping)}}
        return data

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        faults = list(self._contradictions())
        if faults:
            raise ValueError("; ".join(faults))
        return self

    def _contradictions(self) -> list[str]:
        checks = {
            "name at least one of xray, ecg, report_text, report_file": not (
                self.xray or self.ecg or self.report_text or self.report_file
            ),
            "give report_text or report_file, not both": bool(self.report_text and self.report_file),
            "give site or site_name, not both": bool(self.site and self.site_name),
            "site_names renames the words of a site column: give site": bool(self.site_names and not self.site),
            "time_format needs time": bool(self.time_format and not self.time),
            "give language or language_column, not both": bool(self.language and self.language_column),
            "say with report_describes whether the report is about the xray or the ecg": bool(
                (self.report_text or self.report_file) and self.described is None
            ),
            "a table without xray and ecg needs study (or group) to identify its reports": not (
                self.xray or self.ecg or self.study or self.group
            ),
            "label_words may only mean 1, 0 or -1": any(
                value not in (1.0, 0.0, -1.0) for value in self.label_words.values()
            ),
        }
        return [fault for fault, broken in checks.items() if broken]

    @property
    def described(self) -> Modality | None:
        """What the reports are about."""
        if self.report_describes is not None:
            return Modality(self.report_describes)
        if bool(self.xray) != bool(self.ecg):
            return Modality.XRAY if self.xray else Modality.ECG
        return None

    @property
    def attribute_names(self) -> dict[str, str]:
        """Column -> attribute."""
        return named(self.attributes)

    @property
    def columns(self) -> list[str]:
        """Every column of the CSV that the mapping names."""
        single = (self.patient, self.study, self.group, self.time, self.site, self.xray, self.ecg)
        words = (self.report_text, self.report_file, self.language_column, self.split and self.split.column)
        many = [*named(self.labels), *self.attribute_names]
        many += [entry.column for entry in self.multi_label] + [entry.column for entry in self.where]
        return list(dict.fromkeys(name for name in (*single, *words, *many) if name))


def load_mapping(path: Path) -> TableMapping:
    """The mapping in a TOML file, its paths made absolute (relative ones count from the file).

    Raises `ConfigError` with every fault.
    """
    mapping = load_settings(TableMapping, path)
    return anchored(mapping, path.parent)


def anchored(mapping: TableMapping, base: Path) -> TableMapping:
    """The mapping with relative paths taken from ``base``."""

    def absolute(path: Path) -> Path:
        return base / path.expanduser()

    multi = tuple(
        entry.model_copy(update={"codes": entry.codes.model_copy(update={"path": absolute(entry.codes.path)})})
        if entry.codes
        else entry
        for entry in mapping.multi_label
    )
    path = absolute(mapping.path)
    root = path.parent if mapping.root is None else absolute(mapping.root)
    return mapping.model_copy(update={"path": path, "root": root, "multi_label": multi})
