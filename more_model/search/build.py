"""`more-model index`: embeds every study and report of a cohort once, and writes what a search compares with."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from more_model.checkpoint import TrainedModel
from more_model.cohort_file import Cohort
from more_model.data.index_file import encode_line
from more_model.data.study import Modality, Split
from more_model.evaluation.embedded import Float32
from more_model.search.figures import measure
from more_model.search.gather import Gathered, gather
from more_model.search.index_file import (
    FIGURES,
    HEADER,
    ITEM_ROW,
    LINES,
    SPLITS,
    Index,
    IndexedSite,
    IndexHeader,
    ShelfCount,
    items_name,
    vectors_name,
    write_header,
)
from more_model.search.shelf import Shelf, item_entry
from more_model.search.words import embed_in_batches, require_finite
from more_model.training.embed import embed
from more_model.training.examples import Examples
from more_model.training.words import about
from more_model.whole_folder import whole_folder

#: A stage, how many of it are done, how many there are.
OnProgress = Callable[[str, int, int], None]

_CHUNK_BATCHES = 8


def build_index(
    trained: TrainedModel,
    cohorts: Sequence[Cohort],
    folder: Path,
    *,
    splits: Sequence[Split] = SPLITS,
    batch_size: int = 128,
    threads: int = 2,
    replicates: int = 200,
    seed: int = 0,
    overwrite: bool = False,
    progress: OnProgress = lambda _stage, _done, _total: None,
) -> Index:
    """Write an index of the studies of ``splits`` to ``folder``, whole or not at all, and open it.

    ``replicates`` and ``seed`` are those of the bootstrap intervals in ``retrieval.json``; 0 leaves them out.

    Raises:
        ConfigError: ``folder`` holds something already (an index: without ``overwrite``).
        DataError: there is nothing to index, a site is given twice, or the model answers with NaN.
        StoreError: a store was written with another preprocessing than the model's.
    """
    gathered = gather(cohorts, splits, trained.config.preprocessing)
    with whole_folder(folder, kind="index", header=HEADER, overwrite=overwrite) as draft:
        vectors = {}
        for shelf in Shelf:
            vectors[shelf] = _vectors(trained, gathered, shelf, batch_size, threads, progress)
            np.save(draft / vectors_name(shelf), vectors[shelf], allow_pickle=False)
        _write_items(draft, gathered)
        progress("Measuring", 0, 1)
        figures = measure(
            trained,
            gathered,
            vectors,
            splits,
            batch_size=batch_size,
            threads=threads,
            replicates=replicates,
            seed=seed,
        )
        content = {"schema": 1, "replicates": replicates, "seed": seed, "splits": figures}
        (draft / FIGURES).write_text(json.dumps(content, indent=2, allow_nan=False) + "\n", encoding="utf-8")
        write_header(draft, _header(trained, gathered, splits, folder))
        progress("Measuring", 1, 1)
    return Index.open(folder)


def read_figures(folder: Path) -> dict[str, Any]:
    """The content of ``retrieval.json`` of an index that was opened."""
    figures: dict[str, Any] = json.loads((folder / FIGURES).read_text(encoding="utf-8"))
    return figures


def _vectors(
    trained: TrainedModel, gathered: Gathered, shelf: Shelf, batch_size: int, threads: int, progress: OnProgress
) -> Float32:
    if shelf.modality is Modality.REPORT:
        texts = [about(shelf.about, words) for words in gathered.distinct[shelf]]
        return embed_in_batches(
            trained,
            texts,
            batch_size=batch_size,
            threads=threads,
            after=lambda done: progress(shelf.heading, done, len(texts)),
        )
    studies = gathered.studies(shelf)
    vectors = np.empty((len(studies), trained.model.text.embedding), dtype=np.float32)
    # In parts, because features are computed too, and of a whole cohort they would not fit into memory.
    for start, part in _parts(studies, batch_size * _CHUNK_BATCHES):
        answer = embed(
            trained.model,
            part,
            tokenizer=trained.tokenizer,
            max_tokens=trained.max_tokens,
            batch_size=batch_size,
            threads=threads,
        )
        vectors[start : start + len(part)] = answer.xray if shelf is Shelf.XRAY else answer.ecg
        progress(shelf.heading, start + len(part), len(studies))
    return require_finite(vectors, shelf.heading)


def _parts(examples: Examples, size: int) -> Iterator[tuple[int, Examples]]:
    for start in range(0, len(examples), size):
        rows = slice(start, start + size)
        yield start, Examples(examples.triplets[rows], examples.source_of[rows], examples.sources)


def _write_items(draft: Path, gathered: Gathered) -> None:
    site_number = {site.name: number for number, site in enumerate(gathered.sites)}
    start = 0
    with (draft / LINES).open("wb") as stream:
        for shelf in Shelf:
            items = gathered.items[shelf]
            rows: NDArray[np.void] = np.zeros(len(items), dtype=ITEM_ROW)
            rows["vector"] = gathered.text_of.get(shelf, np.arange(len(items)))
            for place, item in enumerate(items):
                rows[place]["site"], rows[place]["split"] = site_number[item.site], SPLITS.index(item.split)
                rows[place]["start"] = start
                start += stream.write(encode_line(item_entry(item)))
            np.save(draft / items_name(shelf), rows, allow_pickle=False)


def _header(trained: TrainedModel, gathered: Gathered, splits: Sequence[Split], folder: Path) -> IndexHeader:
    base = folder.resolve()
    return IndexHeader(
        model_digest=trained.digest,
        model_origin=trained.origin,
        width=trained.model.text.embedding,
        cohort_digest=gathered.digest,
        synthetic=gathered.synthetic,
        splits=tuple(split for split in SPLITS if split in splits),
        sites=tuple(
            IndexedSite(name=site.name, store=Path(os.path.relpath(site.store.folder.resolve(), base)))
            for site in gathered.sites
        ),
        shelves={
            shelf: ShelfCount(items=len(items), vectors=len(gathered.distinct.get(shelf, items)))
            for shelf, items in gathered.items.items()
        },
    )
