"""The data sets a site names in its configuration, and one call that reads them all."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field, field_validator

from more_model.data.fhir import FhirRule, read_fhir
from more_model.data.label_table import LabelTable, join_labels
from more_model.data.mimic_cxr import read_mimic_cxr, read_mimic_cxr_jpg
from more_model.data.mimic_ecg import MIN_REPORT_WORDS, read_mimic_ecg
from more_model.data.preprocessing import Preprocessing
from more_model.data.reading import Reading, collector_at_rest
from more_model.data.study import Modality, Study
from more_model.data.table import read_table
from more_model.data.table_mapping import TableMapping, anchored, load_mapping
from more_model.errors import DataError
from more_model.settings import load_settings

__all__ = [
    "FhirReports",
    "LabelTable",
    "MimicCxr",
    "MimicCxrJpg",
    "MimicEcg",
    "Source",
    "SourcesFile",
    "Table",
    "load_sources",
    "read_cohort",
    "read_source",
    "read_sources",
    "resolve",
]


class _Strict(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class MimicCxrJpg(_Strict):
    """MIMIC-CXR-JPG; ``reports_root`` is a MIMIC-CXR tree with the report texts, empty ``views`` keeps every view."""

    kind: Literal["mimic-cxr-jpg"] = "mimic-cxr-jpg"
    root: Path
    reports_root: Path | None = None
    views: tuple[str, ...] = ("PA", "AP")
    labeller: Literal["chexpert", "negbio"] = "chexpert"


class MimicCxr(_Strict):
    """MIMIC-CXR, DICOM and reports; ``labels_root`` holds the CSV files of MIMIC-CXR-JPG."""

    kind: Literal["mimic-cxr"] = "mimic-cxr"
    root: Path
    labels_root: Path | None = None
    views: tuple[str, ...] = ("PA", "AP")


class MimicEcg(_Strict):
    """MIMIC-IV-ECG; machine reports with fewer than ``min_report_words`` words are left out and counted."""

    kind: Literal["mimic-iv-ecg"] = "mimic-iv-ecg"
    root: Path
    min_report_words: int = Field(default=MIN_REPORT_WORDS, ge=1)


class Table(_Strict):
    """Any CSV through a mapping: the path of its TOML file, or the mapping itself."""

    kind: Literal["table"] = "table"
    mapping: Path | TableMapping


class FhirReports(FhirRule):
    """DiagnosticReport resources, JSON or NDJSON: a file, or a folder of them."""

    kind: Literal["fhir"] = "fhir"


_Entry = TypeVar("_Entry", bound=BaseModel)
Source = Annotated[MimicCxrJpg | MimicCxr | MimicEcg | Table | FhirReports, Field(discriminator="kind")]


class SourcesFile(_Strict):
    """What a site's SOURCES.toml may hold."""

    sources: tuple[Source, ...]
    label_tables: tuple[LabelTable, ...] = ()
    preprocessing: Preprocessing = Preprocessing()

    @field_validator("sources")
    @classmethod
    def _not_empty(cls, sources: tuple[Source, ...]) -> tuple[Source, ...]:
        # Field(min_length=1) would count only the valid entries and so report a fault that is none.
        if not sources:
            raise ValueError("name at least one source")
        return sources


def load_sources(path: Path) -> SourcesFile:
    """The sources file, relative paths taken from its own folder. Raises `ConfigError` with every fault."""
    file = load_settings(SourcesFile, path)
    return file.model_copy(
        update={
            "sources": tuple(resolve(source, path.parent) for source in file.sources),
            "label_tables": tuple(resolve(table, path.parent) for table in file.label_tables),
        }
    )


def resolve(entry: _Entry, base: Path) -> _Entry:
    """The same entry with relative paths taken from ``base`` and ``~`` expanded."""
    changes: dict[str, Any] = {}
    for name in type(entry).model_fields:
        value = getattr(entry, name)
        if isinstance(value, Path):
            changes[name] = base / value.expanduser()
        elif isinstance(value, TableMapping):
            changes[name] = anchored(value, base)
    return entry.model_copy(update=changes)


def read_source(source: MimicCxrJpg | MimicCxr | MimicEcg | Table | FhirReports) -> Reading:
    """The studies of one source, and counts of what was left out."""
    match source:
        case MimicCxrJpg():
            return read_mimic_cxr_jpg(
                source.root, reports_root=source.reports_root, views=source.views, labeller=source.labeller
            )
        case MimicCxr():
            return read_mimic_cxr(source.root, labels_root=source.labels_root, views=source.views)
        case MimicEcg():
            return read_mimic_ecg(source.root, min_report_words=source.min_report_words)
        case Table(mapping=Path() as path):
            return read_table(load_mapping(path))
        case Table(mapping=TableMapping() as mapping):
            return read_table(anchored(mapping, Path()))
        case FhirReports():
            return read_fhir(source)
        case _:
            raise TypeError(f"not a source: {type(source).__name__}")


def read_cohort(sources: Sequence[Source], label_tables: Sequence[LabelTable] = ()) -> Reading:
    """All sources, one after another, with the label tables joined.

    Counts are named ``<number of the source>:<kind>:<code>``, those of label tables ``label-table <number>:<code>``.
    Raises `DataError`, also where a source yields no study and where an id occurs twice within a modality.
    """
    studies: list[Study] = []
    counts: dict[str, int] = {}
    with collector_at_rest():
        for number, source in enumerate(sources, start=1):
            reading = read_source(source)
            studies += reading.studies
            counts |= {f"{number}:{source.kind}:{code}": count for code, count in reading.counts.items()}
            _refuse_empty(number, source, reading)
        _refuse_repeated_ids(studies)
        for number, table in enumerate(label_tables, start=1):
            joined = join_labels(studies, table)
            studies = joined.studies
            counts |= {f"label-table {number}:{code}": count for code, count in joined.counts.items()}
    return Reading(studies, counts)


def read_sources(sources: Sequence[Source], label_tables: Sequence[LabelTable] = ()) -> list[Study]:
    """The studies of `read_cohort` without its counts."""
    return read_cohort(sources, label_tables).studies


def _refuse_empty(number: int, source: Source, reading: Reading) -> None:
    if reading.studies:
        return
    counts = ", ".join(f"{code} {count}" for code, count in reading.counts.items() if count) or "nothing"
    raise DataError(
        f"Source {number} ({source.kind}) yields no study at all. It counted: {counts}.",
        remedy="Check the columns, filters and views that the source names against the file; take a source that is "
        "meant to be empty out of the sources file.",
    )


def _refuse_repeated_ids(studies: Sequence[Study]) -> None:
    seen = Counter((study.modality, study.study_id) for study in studies)
    repeated: Counter[Modality] = Counter()
    for (modality, _), count in seen.items():
        repeated[modality] += count > 1
    if faults := [f"{count} {modality.value} ids" for modality, count in sorted(repeated.items()) if count]:
        raise DataError(
            f"Study ids must be unique within a modality, but {' and '.join(faults)} occur more than once.",
            remedy="Name the column that identifies one file or record as study, give each table its own "
            "study_prefix, and do not list the same source twice.",
        )
