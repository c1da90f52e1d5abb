"""The answers to one question, as a program or a person reads them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from more_model.search.index_file import Index
from more_model.search.query import Filters, Hit, Query, search
from more_model.search.shelf import Item, Shelf

_PRESENT, _UNCERTAIN = 1.0, -1.0


@dataclass(frozen=True, slots=True)
class Answers:
    """``question`` in words, without identifiers; ``of_site`` maps a site (or "", all sites together) to its answers
    on each shelf."""

    question: str
    of_site: Mapping[str, Mapping[Shelf, Sequence[Hit]]]


def ask(index: Index, query: Query, question: str, *, k: int, filters: Filters, per_site: bool) -> Answers:
    """Search once over all sites, or in each site that ``filters`` lets pass. Raises as `search` does."""
    if not per_site:
        return Answers(question, {"": search(index, query, k=k, filters=filters)})
    names = [entry.name for entry in index.header.sites]
    chosen = filters.sites if filters.sites is not None else names
    return Answers(
        question, {site: search(index, query, k=k, filters=replace(filters, sites=[site])) for site in chosen}
    )


def as_json(answers: Answers, index: Index, *, show_ids: bool) -> dict[str, Any]:
    """The answers as JSON types; with ``show_ids`` also patients and studies as their site store knows them."""
    found = {
        site: {shelf.value: [_hit_entry(hit, show_ids=show_ids) for hit in hits] for shelf, hits in shelves.items()}
        for site, shelves in answers.of_site.items()
    }
    results: dict[str, Any] = {"results": found[""]} if "" in found else {"sites": found}
    return {
        "question": answers.question,
        "model_digest": index.header.model_digest,
        "synthetic": index.header.synthetic,
        **results,
    }


def findings(item: Item) -> list[str]:
    """The labels that are present; a question mark follows the uncertain ones."""
    marks = {_PRESENT: "", _UNCERTAIN: "?"}
    return [f"{label}{marks[value]}" for label, value in item.labels.items() if value in marks]


def readable(words: str | None) -> str:
    """Words on one line, without characters that would command a terminal."""
    printable = "".join(character if character.isprintable() else " " for character in words or "")
    return " ".join(printable.split())


def _hit_entry(hit: Hit, *, show_ids: bool) -> dict[str, Any]:
    entry: dict[str, Any] = {
        "rank": hit.rank,
        "item": hit.name,
        "modality": hit.item.shelf.modality.value,
        "site": hit.item.site,
        "split": hit.item.split.value,
        "score": hit.score,
        "labels": dict(hit.item.labels),
        "words": hit.item.words,
        "same_words": hit.same_words,
    }
    if hit.same_patient is not None:
        entry["same_patient"] = hit.same_patient
    if show_ids:
        entry |= {"patient": hit.item.patient, "study_id": hit.item.study_id}
    return entry
