"""Labels and attributes from any CSV, joined to studies that have already been read."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from more_model.data.csv_columns import clean_ids, read_columns
from more_model.data.label_columns import label_rows, named
from more_model.data.reading import Reading
from more_model.data.study import Modality, Study
from more_model.errors import DataError

Key = Literal["patient_id", "study_id", "group_id"]


class LabelTable(BaseModel):
    """A CSV with one row a patient, a study or a group (for MIMIC-CXR the group is the radiograph's ``study_id``).

    ``labels`` and ``attributes`` are columns, or column -> name. ``site`` names a column whose cell becomes the study's
    site. ``modality`` limits the join to X-rays or ECGs; without it labels go to both. Attributes and site also go to
    reports, except by ``study_id``, which is the image's or record's own. Stated cells replace what the study had;
    blank cells change nothing.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    path: Path
    key: Key
    key_column: str
    key_prefix: str = ""
    modality: Literal["xray", "ecg"] | None = None
    labels: tuple[str, ...] | dict[str, str] = ()
    label_words: dict[str, float] = Field(default={})
    attributes: tuple[str, ...] | dict[str, str] = ()
    site: str | None = None

    @model_validator(mode="after")
    def _says_something(self) -> Self:
        if not (self.labels or self.attributes or self.site):
            raise ValueError("name at least one of labels, attributes, site")
        return self


@dataclass(frozen=True, slots=True)
class _Entry:
    labels: Mapping[str, float]
    attributes: Mapping[str, str]
    site: str


def join_labels(studies: Sequence[Study], table: LabelTable) -> Reading:
    """The studies in the same order with the table's facts added, and counts of matched and unmatched studies.

    Raises `DataError` for a missing file or column, contradicting rows, and a table that matches nothing.
    """
    entries = _entries(table)
    counts: Counter[str] = Counter()
    joined: list[Study] = []
    for study in studies:
        if not _concerns(table, study):
            joined.append(study)
            continue
        entry = entries.get(getattr(study, table.key))
        counts["unmatched" if entry is None else "matched"] += 1
        joined.append(study if entry is None else _merged(study, entry))
    if entries and not counts["matched"]:
        raise DataError(
            f"The label table {table.path} matches none of the {len(studies)} studies by {table.key}.",
            remedy="Check key, key_column, key_prefix and modality: MIMIC radiographs are keyed by group_id (their "
            "study_id column), MIMIC ECGs by study_id.",
        )
    return Reading(joined, dict(counts))


def _concerns(table: LabelTable, study: Study) -> bool:
    if study.modality is Modality.REPORT and table.key == "study_id":
        return False
    return table.modality is None or table.modality in (study.modality.value, study.describes)


def _merged(study: Study, entry: _Entry) -> Study:
    labelled = study.modality is not Modality.REPORT and entry.labels
    return Study(
        modality=study.modality,
        study_id=study.study_id,
        patient_id=study.patient_id,
        group_id=study.group_id,
        site=entry.site or study.site,
        time=study.time,
        source=study.source,
        text=study.text,
        describes=study.describes,
        labels={**study.labels, **entry.labels} if labelled else study.labels,
        attributes={**study.attributes, **entry.attributes} if entry.attributes else study.attributes,
    )


def _entries(table: LabelTable) -> dict[str, _Entry]:
    names, facts = named(table.labels), named(table.attributes)
    sites = [] if table.site is None else [table.site]
    columns = read_columns(table.path, (table.key_column, *names, *facts, *sites))
    keys = clean_ids(columns[table.key_column])
    labels = label_rows(table.path, columns, names, words=table.label_words) if names else [{}] * len(keys)
    site_cells = columns[table.site] if table.site is not None else [""] * len(keys)
    entries: dict[str, _Entry] = {}
    contradicting: set[str] = set()
    for place, (key, row_labels, site) in enumerate(zip(keys, labels, site_cells, strict=True)):
        stated = ((name, columns[column][place].strip()) for column, name in facts.items())
        entry = _Entry(row_labels, {name: cell for name, cell in stated if cell}, site.strip())
        if not key:
            continue
        full = f"{table.key_prefix}{key}"
        if entries.setdefault(full, entry) != entry:
            contradicting.add(full)
    if contradicting:
        raise DataError(
            f"The label table {table.path} has contradicting rows for {len(contradicting)} values of "
            f"{table.key_column!r}.",
            remedy=f"One row per {table.key} is expected: choose a finer key, or remove the rows that are out of date.",
        )
    return entries
