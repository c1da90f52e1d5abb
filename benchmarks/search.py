"""How long one exact query takes over an index of random unit vectors: `python benchmarks/search.py --items 1000000`.

Writes an index of X-rays alone to a temporary folder, opens it as `more-model search` does, and times queries over it:
the first after opening (the files, just written, are still in memory), then those that all items may answer, then those
that only the items of one of four sites and of one split may answer.
"""

from __future__ import annotations

import argparse
import os
import platform
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

from more_model.data.index_file import encode_line
from more_model.data.study import Split
from more_model.search.index_file import (
    ITEM_ROW,
    LINES,
    SPLITS,
    Index,
    IndexedSite,
    IndexHeader,
    ShelfCount,
    items_name,
    vectors_name,
    whole_or_nothing,
    write_header,
)
from more_model.search.query import Filters, Query, search
from more_model.search.shelf import Item, Shelf, item_entry

SITES = ("north", "south", "east", "west")
K = 10


def main() -> None:
    """Writes, times and prints."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--items", type=int, default=1_000_000)
    parser.add_argument("--width", type=int, default=128)
    parser.add_argument("--queries", type=int, default=20)
    parser.add_argument("--collapsed", action="store_true", help="the worst case: all vectors are the same")
    parser.add_argument("--folder", type=Path, help="where the temporary folder is made")
    asked = parser.parse_args()
    generator = np.random.default_rng(0)
    with tempfile.TemporaryDirectory(dir=asked.folder) as scratch:
        folder = Path(scratch) / "index"
        write_index(folder, asked.items, asked.width, generator, collapsed=asked.collapsed)
        started = time.perf_counter()
        index = Index.open(folder)
        opened_s = time.perf_counter() - started
        queries = [unit(generator, 1, asked.width)[0] for _ in range(asked.queries)]
        first_s = timed(lambda: search(index, Query({Shelf.XRAY: queries[0]}), k=K))
        all_s = [timed(lambda q=q: search(index, Query({Shelf.XRAY: q}), k=K)) for q in queries]  # type: ignore[misc]
        some = Filters(sites=["south"], splits=[Split.TEST])
        some_s = [
            timed(lambda q=q: search(index, Query({Shelf.XRAY: q}), k=K, filters=some))  # type: ignore[misc]
            for q in queries
        ]
    threads = os.environ.get("OMP_NUM_THREADS", "unset")
    print(f"{processor()}, {os.cpu_count()} CPUs, OMP_NUM_THREADS {threads}, numpy {np.__version__}")
    print(f"{asked.items} items x {asked.width}, k = {K}: opened in {opened_s:.3f} s, first query {first_s:.3f} s")
    for name, seconds in (("all items", all_s), ("one site, one split", some_s)):
        print(f"{name}: median {statistics.median(seconds):.3f} s, slowest {max(seconds):.3f} s of {len(seconds)}")


def unit(generator: np.random.Generator, count: int, width: int) -> np.ndarray[tuple[int, int], np.dtype[np.float32]]:
    """Random unit vectors, float32 [count, width]."""
    rows = generator.standard_normal((count, width), dtype=np.float32)
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    return rows


def write_index(folder: Path, count: int, width: int, generator: np.random.Generator, *, collapsed: bool) -> None:
    """An index of ``count`` X-rays, a quarter of them at each site, spread over the splits."""
    rows = np.zeros(count, dtype=ITEM_ROW)
    rows["vector"] = np.arange(count)
    rows["site"] = np.arange(count) % len(SITES)
    rows["split"] = np.arange(count) // len(SITES) % len(SPLITS)
    counts = {shelf: ShelfCount(items=0, vectors=0) for shelf in Shelf}
    counts[Shelf.XRAY] = ShelfCount(items=count, vectors=count)
    with whole_or_nothing(folder, overwrite=False) as draft:
        with (draft / LINES).open("wb") as stream:
            for place, (site, split) in enumerate(zip(rows["site"].tolist(), rows["split"].tolist(), strict=True)):
                item = Item(Shelf.XRAY, SITES[site], SPLITS[split], f"p{place}", f"s{place}", place, {}, "Clear lungs.")
                rows["start"][place] = stream.tell()
                stream.write(encode_line(item_entry(item)))
        for shelf, held in counts.items():
            vectors = unit(generator, held.vectors, width)
            if collapsed:
                vectors[:] = vectors[:1]
            np.save(draft / vectors_name(shelf), vectors, allow_pickle=False)
            np.save(draft / items_name(shelf), rows[: held.items], allow_pickle=False)
        header = IndexHeader(
            model_digest="none",
            model_origin="Random vectors.",
            width=width,
            cohort_digest="none",
            synthetic=True,
            splits=SPLITS,
            sites=tuple(IndexedSite(name=site, store=Path(site)) for site in SITES),
            shelves=counts,
        )
        write_header(draft, header)


def timed(call: Callable[[], object]) -> float:
    """Seconds that one call takes."""
    started = time.perf_counter()
    call()
    return time.perf_counter() - started


def processor() -> str:
    """The processor's name where the system tells it."""
    facts = Path("/proc/cpuinfo")
    lines = facts.read_text(encoding="utf-8").splitlines() if facts.is_file() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()


if __name__ == "__main__":
    main()
