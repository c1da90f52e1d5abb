"""From cohorts to the items of an index: every study once, and every report of one."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from more_model.cohort_file import Cohort, SiteExamples
from more_model.data.preprocessing import Preprocessing
from more_model.data.store_files import read_manifest
from more_model.data.stored_study import StoredStudy
from more_model.data.study import Modality, Split, Triplet
from more_model.errors import DataError
from more_model.search.shelf import Item, Shelf, report_shelf
from more_model.training.examples import Examples

_STUDIES = (Modality.XRAY, Modality.ECG)


@dataclass(frozen=True, slots=True)
class Gathered:
    """What an index is made from. ``distinct`` holds the words of each report shelf, each once; ``text_of`` is the
    place of each item's words there. Items of a report shelf are ordered by it."""

    sites: tuple[SiteExamples, ...]
    synthetic: bool
    items: Mapping[Shelf, Sequence[Item]]
    distinct: Mapping[Shelf, Sequence[str]]
    text_of: Mapping[Shelf, Sequence[int]]

    @property
    def digest(self) -> str:
        """Hex SHA-256 over the triplets of all sites."""
        return hashlib.sha256("".join(site.examples.digest() for site in self.sites).encode()).hexdigest()

    def studies(self, shelf: Shelf) -> Examples:
        """The items of the X-ray or of the ECG shelf as examples of one study each, in their order."""
        number = {site.name: place for place, site in enumerate(self.sites)}
        items = self.items[shelf]
        return Examples(
            triplets=tuple(_alone(item) for item in items),
            source_of=tuple(number[item.site] for item in items),
            sources=tuple(site.store for site in self.sites),
        )

    def triplets(self, split: Split) -> list[Triplet]:
        """The triplets of one split, of all sites."""
        return [triplet for site in self.sites for triplet in site.examples.triplets if triplet.split is split]


def gather(cohorts: Sequence[Cohort], splits: Sequence[Split], preprocessing: Preprocessing) -> Gathered:
    """Every study of the triplets of ``splits``, whatever number of triplets it is in.

    Raises:
        DataError: there is no such study, or two cohorts hold a site of the same name.
        StoreError: a store was written with another preprocessing than the model's.
    """
    sites = tuple(site for cohort in cohorts for site in cohort.sites)
    names = [site.name for site in sites]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise DataError(f"the site {', '.join(twice)} is in the cohorts twice", remedy="give every site once")
    items: dict[Shelf, list[Item]] = {shelf: [] for shelf in Shelf}
    for site in sites:
        read_manifest(site.store.folder, preprocessing)
        for item in _items_of(site, splits):
            items[item.shelf].append(item)
    if not any(items.values()):
        raise DataError(
            f"the cohort has no study in the split {', '.join(split.value for split in splits)}",
            remedy="choose another --split",
        )
    return _with_distinct_words(sites, all(cohort.synthetic for cohort in cohorts), items)


def _alone(item: Item) -> Triplet:
    xray, ecg = (item.row, None) if item.shelf is Shelf.XRAY else (None, item.row)
    return Triplet(item.patient, item.site, item.split, xray, ecg, None, None)


def _items_of(site: SiteExamples, splits: Sequence[Split]) -> list[Item]:
    records = {(record.modality, record.row): record for record in site.store.records if record.modality in _STUDIES}
    found: dict[tuple[Shelf, int], Item] = {}
    for triplet in site.examples.triplets:
        if triplet.split not in splits:
            continue
        for about, row, words in (
            (Modality.XRAY, triplet.xray, triplet.xray_report),
            (Modality.ECG, triplet.ecg, triplet.ecg_report),
        ):
            if row is None:
                continue
            for shelf in (Shelf(about.value), report_shelf(about)):
                if shelf.modality is not Modality.REPORT or words is not None:
                    found.setdefault((shelf, row), _item(shelf, triplet, records[about, row], row, words))
    return list(found.values())


def _item(shelf: Shelf, triplet: Triplet, record: StoredStudy, row: int, words: str | None) -> Item:
    return Item(
        shelf=shelf,
        site=triplet.site,
        split=triplet.split,
        patient=triplet.patient_id,
        study_id=record.study_id,
        row=row,
        labels=record.labels,
        words=words,
    )


def _with_distinct_words(sites: tuple[SiteExamples, ...], synthetic: bool, items: dict[Shelf, list[Item]]) -> Gathered:
    distinct: dict[Shelf, list[str]] = {}
    text_of: dict[Shelf, list[int]] = {}
    for shelf in (Shelf.XRAY_REPORT, Shelf.ECG_REPORT):
        place: dict[str, int] = {}
        for item in items[shelf]:
            place.setdefault(item.words or "", len(place))
        items[shelf].sort(key=lambda item, place=place: place[item.words or ""])  # type: ignore[misc]
        distinct[shelf], text_of[shelf] = list(place), [place[item.words or ""] for item in items[shelf]]
    return Gathered(sites, synthetic, items, distinct, text_of)
