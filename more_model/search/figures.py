"""How well a model finds what belongs together among the studies of an index: the content of ``retrieval.json``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from more_model.checkpoint import TrainedModel
from more_model.data.study import Split, Triplet
from more_model.evaluation.consistency import Studies, consistency, consistency_by_site
from more_model.evaluation.embedded import EmbeddedSet, Float32
from more_model.evaluation.retrieval import retrieval, retrieval_by_site
from more_model.search.gather import Gathered
from more_model.search.shelf import Shelf
from more_model.search.words import embed_in_batches
from more_model.training.embed import words_of

#: Splits that the model was not trained on.
HELD_OUT = (Split.VALIDATION, Split.TEST)


def measure(
    trained: TrainedModel,
    gathered: Gathered,
    vectors: Mapping[Shelf, Float32],
    splits: Sequence[Split],
    *,
    batch_size: int,
    threads: int,
    replicates: int,
    seed: int,
) -> dict[str, Any]:
    """``{"<split>": {"directions": ..., "by_site": ..., "consistency": ..., "consistency_by_site": ...}}`` for each
    held-out split that is indexed.

    Training patients are left out: the model has seen which of their studies belong together.
    """
    figures: dict[str, Any] = {}
    for split in (split for split in HELD_OUT if split in splits):
        triplets = gathered.triplets(split)
        embedded = _embedded(trained, gathered, vectors, triplets, batch_size=batch_size, threads=threads)
        xrays, ecgs = (_studies(gathered, vectors, shelf, split) for shelf in (Shelf.XRAY, Shelf.ECG))
        figures[split.value] = {
            "directions": retrieval(embedded, replicates=replicates, seed=seed),
            "by_site": retrieval_by_site(embedded, replicates=replicates, seed=seed),
            "consistency": consistency(xrays, ecgs, replicates=replicates, seed=seed),
            "consistency_by_site": consistency_by_site(xrays, ecgs, replicates=replicates, seed=seed),
        }
    return figures


def _studies(gathered: Gathered, vectors: Mapping[Shelf, Float32], shelf: Shelf, split: Split) -> Studies:
    rows = np.array([row for row, item in enumerate(gathered.items[shelf]) if item.split is split], dtype=np.intp)
    items = [gathered.items[shelf][row] for row in rows.tolist()]
    return Studies(vectors[shelf][rows], [item.patient for item in items], [item.site for item in items])


def _embedded(
    trained: TrainedModel,
    gathered: Gathered,
    vectors: Mapping[Shelf, Float32],
    triplets: Sequence[Triplet],
    *,
    batch_size: int,
    threads: int,
) -> EmbeddedSet:
    """Triplet by triplet, its text whole: what every other retrieval figure of the project is taken from."""
    width = trained.model.text.embedding
    words = [words_of(triplet) for triplet in triplets]
    distinct = list(dict.fromkeys(text for text in words if text is not None))
    place = {text: number for number, text in enumerate(distinct)}
    texts = embed_in_batches(trained, distinct, batch_size=batch_size, threads=threads)
    nothing = np.empty((len(triplets), 0), dtype=np.float32)
    return EmbeddedSet(
        patient=[triplet.patient_id for triplet in triplets],
        site=[triplet.site for triplet in triplets],
        xray=_rows(vectors[Shelf.XRAY], _places(gathered, Shelf.XRAY, [(t.site, t.xray) for t in triplets]), width),
        ecg=_rows(vectors[Shelf.ECG], _places(gathered, Shelf.ECG, [(t.site, t.ecg) for t in triplets]), width),
        text=_rows(texts, [None if text is None else place[text] for text in words], width),
        report=words,
        xray_features=nothing,
        ecg_features=nothing,
        labels={},
    )


def _places(gathered: Gathered, shelf: Shelf, studies: Sequence[tuple[str, int | None]]) -> list[int | None]:
    place = {(item.site, item.row): number for number, item in enumerate(gathered.items[shelf])}
    return [None if row is None else place[site, row] for site, row in studies]


def _rows(vectors: Float32, places: Sequence[int | None], width: int) -> Float32:
    rows = np.full((len(places), width), np.nan, dtype=np.float32)
    present = [row for row, place in enumerate(places) if place is not None]
    rows[present] = vectors[[place for place in places if place is not None]]
    return rows
