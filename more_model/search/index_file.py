"""An index on disk: unit vectors to compare with, and what stands behind each of them.

index.json              schema, digest and origin of the model, width, counts, sites and their stores, splits, cohort
<shelf>.vectors.npy     float32 [vectors, width], memory-mapped; reports that are equal in words share one vector
<shelf>.items.npy       one row an item, memory-mapped: its vector, site, split, and where its line stands
items.jsonl             one line an item, in the order of the shelves
retrieval.json          how well the model finds what belongs together (`more_model.search.figures`)

The folder and its files are for their owner alone: vectors of patients are as private as the studies themselves.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, ValidationError

from more_model.data.index_file import decode_line
from more_model.data.study import Split
from more_model.errors import ConfigError, DataError, ExchangeError, StoreError
from more_model.evaluation.embedded import Float32
from more_model.search.shelf import Item, Shelf, item_of_entry

SCHEMA = 1
HEADER, LINES, FIGURES = "index.json", "items.jsonl", "retrieval.json"
#: A row of ``<shelf>.items.npy``; ``start`` is the byte where the item's line begins.
ITEM_ROW = np.dtype([("vector", "<i4"), ("site", "<u2"), ("split", "u1"), ("start", "<i8")])
SPLITS = tuple(Split)


class ShelfCount(BaseModel):
    """Items on a shelf, and the vectors they share."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    items: int
    vectors: int


class IndexedSite(BaseModel):
    """A site and the folder of its store, relative to the index."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    store: Path


class IndexHeader(BaseModel):
    """The content of ``index.json``. ``model_digest`` is `more_model.checkpoint.TrainedModel.digest`."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    model_digest: str
    model_origin: str
    width: int
    cohort_digest: str
    synthetic: bool
    splits: tuple[Split, ...]
    sites: tuple[IndexedSite, ...]
    shelves: dict[Shelf, ShelfCount]


@dataclass(frozen=True, slots=True, eq=False)
class ShelfArrays:
    """``vectors`` float32 [v, width] of unit rows; ``items`` [n] of `ITEM_ROW`, ordered by vector."""

    vectors: Float32
    items: NDArray[np.void]


@dataclass(frozen=True, slots=True, eq=False)
class Index:
    """An index opened for search: only what a query touches is read from disk."""

    folder: Path
    header: IndexHeader
    shelves: Mapping[Shelf, ShelfArrays]

    @classmethod
    def open(cls, folder: Path) -> Self:
        """Raises `DataError` where there is no index, `StoreError` where it is damaged or of another schema."""
        header = _read_header(folder)
        try:
            shelves = {shelf: _arrays(folder, shelf, count, header.width) for shelf, count in header.shelves.items()}
        except (OSError, ValueError) as error:
            raise _damaged(folder) from error
        return cls(folder, header, shelves)

    def require_model(self, digest: str) -> None:
        """Raises `ExchangeError` where the vectors were made by another model than that of ``digest``."""
        if digest != self.header.model_digest:
            raise ExchangeError(
                f"the index {self.folder.name} was made with the model {self.header.model_digest}, "
                f"the query would be made with the model {digest}",
                remedy="give the checkpoint that the index was made with, or make an index with this one",
                avoid="compare vectors of two models: every score would be meaningless",
            )

    def item(self, shelf: Shelf, number: int) -> Item:
        """The item at place ``number`` of a shelf. Raises `ConfigError` where the shelf has no such place."""
        arrays = self.shelves.get(shelf)
        count = 0 if arrays is None else len(arrays.items)
        if arrays is None or not 0 <= number < count:
            raise ConfigError(
                f"item {shelf.value}:{number}",
                [f"the index has {count} items on the shelf {shelf.value}, counted from 0"],
                remedy="take the name of an item from the result of a search",
            )
        with (self.folder / LINES).open("rb") as stream:
            stream.seek(int(arrays.items["start"][number]))
            entry = decode_line(stream.readline().rstrip(b"\n"))
        if entry is None:
            raise _damaged(self.folder)
        return item_of_entry(entry)

    def vector(self, shelf: Shelf, number: int) -> Float32:
        """The unit vector [width] of an item that is there."""
        arrays = self.shelves[shelf]
        return np.array(arrays.vectors[int(arrays.items["vector"][number])], dtype=np.float32)

    def store_folder(self, site: str) -> Path:
        """Where the site store lay when the index was made; it may be gone."""
        return next(self.folder / entry.store for entry in self.header.sites if entry.name == site)


def write_header(folder: Path, header: IndexHeader) -> None:
    """Writes ``index.json``; the last file of an index to be written."""
    content = {"schema": SCHEMA, **header.model_dump(mode="json")}
    (folder / HEADER).write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")


def vectors_name(shelf: Shelf) -> str:
    """The file of a shelf's vectors."""
    return f"{shelf.value}.vectors.npy"


def items_name(shelf: Shelf) -> str:
    """The file of a shelf's item rows."""
    return f"{shelf.value}.items.npy"


def _read_header(folder: Path) -> IndexHeader:
    path = folder / HEADER
    if not path.is_file():
        raise DataError(f"{folder} holds no index", remedy="make one with `more-model index`")
    try:
        content: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        schema = content.pop("schema")
        if schema != SCHEMA:
            raise StoreError(f"{path} has schema {schema}, this version reads {SCHEMA}.", remedy="Make it again.")
        return IndexHeader.model_validate(content)
    except (ValidationError, ValueError, KeyError, AttributeError) as error:
        raise _damaged(folder) from error


def _arrays(folder: Path, shelf: Shelf, count: ShelfCount, width: int) -> ShelfArrays:
    vectors = _mapped(folder / vectors_name(shelf), (count.vectors, width), np.dtype("<f4"))
    return ShelfArrays(vectors, _mapped(folder / items_name(shelf), (count.items,), ITEM_ROW))


def _mapped(path: Path, shape: tuple[int, ...], dtype: np.dtype[Any]) -> NDArray[Any]:
    # A file without rows cannot be mapped.
    array: NDArray[Any] = np.load(path, mmap_mode="r" if shape[0] else None, allow_pickle=False)
    if array.shape != shape or array.dtype != dtype:
        raise ValueError(f"{path.name} has shape {array.shape} and type {array.dtype}")
    return array


def _damaged(folder: Path) -> StoreError:
    return StoreError(f"The index {folder} is damaged.", remedy="Make it again with `more-model index --overwrite`.")
