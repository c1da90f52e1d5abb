"""The four shelves of an index, and one item on a shelf."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from more_model.data.study import Modality, Split


class Shelf(StrEnum):
    """What an index is divided into.

    Reports about X-rays and about ECGs stand apart, because a query in words is worded differently for the two
    (`more_model.training.words.about`).
    """

    XRAY = "xray"
    ECG = "ecg"
    XRAY_REPORT = "xray-report"
    ECG_REPORT = "ecg-report"

    @property
    def modality(self) -> Modality:
        """X-ray, ECG or report."""
        return Modality.REPORT if self in (Shelf.XRAY_REPORT, Shelf.ECG_REPORT) else Modality(self.value)

    @property
    def about(self) -> Modality:
        """X-ray or ECG: what is on this shelf, or what the reports on it describe."""
        return Modality.XRAY if self in (Shelf.XRAY, Shelf.XRAY_REPORT) else Modality.ECG

    @property
    def heading(self) -> str:
        """The shelf in words."""
        return _HEADINGS[self]


_HEADINGS = {
    Shelf.XRAY: "X-rays",
    Shelf.ECG: "ECGs",
    Shelf.XRAY_REPORT: "Reports about X-rays",
    Shelf.ECG_REPORT: "Reports about ECGs",
}


def report_shelf(about: Modality) -> Shelf:
    """The shelf of the reports about X-rays or about ECGs."""
    return Shelf.XRAY_REPORT if about is Modality.XRAY else Shelf.ECG_REPORT


@dataclass(frozen=True, slots=True)
class Item:
    """One study in an index. ``patient`` and ``study_id`` are those of the site store, ``row`` is the study's row there
    (for a report: that of the study it describes, as are ``study_id`` and ``labels``). ``words`` is the report."""

    shelf: Shelf
    site: str
    split: Split
    patient: str
    study_id: str
    row: int
    labels: Mapping[str, float] = field(default_factory=dict)
    words: str | None = None


def item_entry(item: Item) -> dict[str, Any]:
    """The item as the JSON object of its line."""
    return {
        "modality": item.shelf.modality.value,
        "describes": item.shelf.about.value if item.shelf.modality is Modality.REPORT else None,
        "site": item.site,
        "split": item.split.value,
        "patient": item.patient,
        "study_id": item.study_id,
        "row": item.row,
        "labels": dict(item.labels),
        "words": item.words,
    }


def item_of_entry(entry: Mapping[str, Any]) -> Item:
    """The inverse of `item_entry`."""
    modality, about = Modality(entry["modality"]), entry["describes"]
    return Item(
        shelf=Shelf(modality.value) if about is None else report_shelf(Modality(about)),
        site=entry["site"],
        split=Split(entry["split"]),
        patient=entry["patient"],
        study_id=entry["study_id"],
        row=entry["row"],
        labels=entry["labels"],
        words=entry["words"],
    )
