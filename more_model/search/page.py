"""The answers as one page that can be opened, printed and forwarded: X-rays as thumbnails, ECGs as strips."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from more_model.data.store import SiteStore
from more_model.data.study import Modality
from more_model.errors import StoreError
from more_model.report.page import page_environment, write_whole
from more_model.report.studies import ecg_strip, png_data_uri
from more_model.search.answers import Answers, findings, readable
from more_model.search.index_file import Index
from more_model.search.query import Hit
from more_model.search.shelf import Item, Shelf


@dataclass(frozen=True, slots=True)
class Card:
    """One answer ready for the page; ``xray`` is a data address, ``ecg`` SVG markup, either may be empty."""

    heading: str
    notes: Sequence[str]
    xray: str
    ecg: str
    alt: str
    words: str


@dataclass(frozen=True, slots=True)
class Group:
    """The answers on one shelf, of one site or of all."""

    anchor: str
    heading: str
    cards: Sequence[Card]


def write_answers(path: Path, answers: Answers, index: Index, *, show_ids: bool) -> Path:
    """Writes the page whole or not at all, readable by its owner alone.

    A study whose site store is no longer where it was, or no longer holds it, is shown without its picture. Raises
    OSError where the folder is not writable.
    """
    stores = _Stores(index, {})
    found = [(site, shelf, hits) for site, of_shelf in answers.of_site.items() for shelf, hits in of_shelf.items()]
    groups = []
    for number, (site, shelf, hits) in enumerate(found, start=1):
        anchor = f"group{number}"
        cards = [_card(hit, f"{anchor}-{hit.rank}", stores, show_ids=show_ids) for hit in hits]
        groups.append(Group(anchor, f"{shelf.heading} at {site}" if site else shelf.heading, cards))
    # Made before it is filled, because it is going to hold pictures of patients.
    draft = path.with_name(f"{path.name}.part")
    draft.unlink(missing_ok=True)
    draft.touch(mode=0o600)
    template = page_environment("more_model.search").get_template("search.html.j2")
    return write_whole(path, template.render(answers=answers, header=index.header, groups=groups))


@dataclass(frozen=True, slots=True)
class _Stores:
    """Site stores, each opened when its first picture is asked for."""

    index: Index
    opened: dict[str, tuple[SiteStore, dict[tuple[Modality, int | None], str]] | None]

    def holding(self, item: Item) -> SiteStore | None:
        """The store that holds the item's study in its row, or None."""
        if item.site not in self.opened:
            self.opened[item.site] = _open(self.index.store_folder(item.site))
        found = self.opened[item.site]
        if found is None or found[1].get((item.shelf.modality, item.row)) != item.study_id:
            return None
        return found[0]


def _open(folder: Path) -> tuple[SiteStore, dict[tuple[Modality, int | None], str]] | None:
    try:
        store = SiteStore.open_read(folder)
    except StoreError:
        # Gone or damaged: the answers stand without pictures.
        return None
    return store, {(record.modality, record.row): record.study_id for record in store.records}


def _card(hit: Hit, prefix: str, stores: _Stores, *, show_ids: bool) -> Card:
    item, xray, ecg = hit.item, "", ""
    store = stores.holding(item) if item.shelf.modality is not Modality.REPORT else None
    if store is not None and item.shelf is Shelf.XRAY:
        xray = png_data_uri(store.xrays[item.row])
    if store is not None and item.shelf is Shelf.ECG:
        ecg = ecg_strip(store.ecgs[item.row], store.preprocessing.ecg_rate_hz, prefix)
    scaled = bool(ecg) and store is not None and store.preprocessing.ecg_scaling == "minmax"
    return Card(
        heading=f"{hit.rank}. {', '.join(findings(item)) or 'no label present'}",
        notes=[*_notes(hit, show_ids=show_ids), *(["each lead scaled to its own range"] if scaled else [])],
        xray=xray,
        ecg=ecg,
        alt=f"{item.shelf.heading.removesuffix('s')} of rank {hit.rank} from {item.site}",
        words=readable(item.words),
    )


def _notes(hit: Hit, *, show_ids: bool) -> list[str]:
    notes = [f"score {hit.score:.4f}", hit.item.site, hit.item.split.value, hit.name]
    if hit.same_words > 1:
        notes.append(f"{hit.same_words} studies have these words")
    if hit.same_patient:
        notes.append("same patient")
    if show_ids:
        notes += [f"patient {hit.item.patient}", f"study {hit.item.study_id}"]
    return notes
