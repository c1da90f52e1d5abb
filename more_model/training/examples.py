"""Triplets with their arrays, of one site or of several, and the batches that are made of them."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor

from more_model.data.study import Split, Triplet
from more_model.tokenizer import encode
from more_model.training.views import TextView


class Arrays(Protocol):
    """Where arrays come from: a site store, or anything with the same two fields."""

    @property
    def xrays(self) -> np.ndarray[Any, Any]:
        """uint8 [rows, size, size]."""
        ...

    @property
    def ecgs(self) -> np.ndarray[Any, Any]:
        """float16 [rows, 12, samples], millivolts."""
        ...


@dataclass(frozen=True, slots=True)
class Examples:
    """Triplets, each with the number of the source that its row numbers refer to."""

    triplets: tuple[Triplet, ...]
    source_of: tuple[int, ...]
    sources: tuple[Arrays, ...]

    @classmethod
    def of(cls, triplets: Sequence[Triplet], source: Arrays) -> Examples:
        """The triplets of one source."""
        return cls(tuple(triplets), (0,) * len(triplets), (source,))

    @classmethod
    def merged(cls, parts: Sequence[Examples]) -> Examples:
        """All examples of several sites, in the order given."""
        triplets: list[Triplet] = []
        source_of: list[int] = []
        sources: list[Arrays] = []
        for part in parts:
            triplets += part.triplets
            source_of += [number + len(sources) for number in part.source_of]
            sources += part.sources
        return cls(tuple(triplets), tuple(source_of), tuple(sources))

    def where(self, keep: Callable[[Triplet], bool]) -> Examples:
        """Only the examples whose triplet ``keep`` accepts."""
        kept = [row for row, triplet in enumerate(self.triplets) if keep(triplet)]
        return Examples(tuple(self.triplets[r] for r in kept), tuple(self.source_of[r] for r in kept), self.sources)

    def of_split(self, split: Split) -> Examples:
        """Only the examples of ``split``."""
        return self.where(lambda triplet: triplet.split is split)

    def trainable(self) -> Examples:
        """Only examples with at least one pair: a study and the words about it."""
        return self.where(_has_pair)

    def digest(self) -> str:
        """Hex SHA-256 over who is in it, with which studies and words; the arrays themselves are checksummed by the
        store."""
        facts = [(t.patient_id, t.site, t.split, t.xray, t.ecg, t.xray_report, t.ecg_report) for t in self.triplets]
        return hashlib.sha256(json.dumps(facts).encode()).hexdigest()

    def __len__(self) -> int:
        return len(self.triplets)

    def xrays(self, rows: Sequence[int]) -> Tensor:
        """uint8 [n, size, size]; every row must have an X-ray."""
        arrays = [source.xrays for source in self.sources]  # once: a store opens its file each time it is asked
        return torch.from_numpy(np.stack([arrays[self.source_of[r]][self.triplets[r].xray] for r in rows]))

    def ecgs(self, rows: Sequence[int]) -> Tensor:
        """float32 [n, 12, samples] in millivolts; every row must have an ECG."""
        arrays = [source.ecgs for source in self.sources]
        stacked = np.stack([arrays[self.source_of[r]][self.triplets[r].ecg] for r in rows])
        return torch.from_numpy(stacked.astype(np.float32))


def _has_pair(triplet: Triplet) -> bool:
    return (triplet.xray is not None and triplet.xray_report is not None) or (
        triplet.ecg is not None and triplet.ecg_report is not None
    )


@dataclass(frozen=True, slots=True)
class Batch:
    """One step's input. ``xray_rows`` and ``ecg_rows`` say which text each picture and tracing belongs to; see
    `more_model.model.loss.contrastive_terms` for the other fields."""

    ids: Tensor
    mask: Tensor
    xrays: Tensor | None
    ecgs: Tensor | None
    xray_rows: Tensor
    ecg_rows: Tensor
    patients: Tensor
    words: Tensor


def make_batch(
    examples: Examples, rows: Sequence[int], views: Sequence[Sequence[TextView]], *, tokenizer: Any, max_tokens: int
) -> Batch:
    """The batch of ``rows``, each with its texts (`more_model.training.views`)."""
    texts: list[str] = []
    patients: list[str] = []
    xray_from, xray_text, ecg_from, ecg_text = [], [], [], []
    for row, of_row in zip(rows, views, strict=True):
        for view in of_row:
            if view.xray:
                xray_from.append(row)
                xray_text.append(len(texts))
            if view.ecg:
                ecg_from.append(row)
                ecg_text.append(len(texts))
            texts.append(view.words)
            patients.append(examples.triplets[row].patient_id)
    ids, mask = encode(tokenizer, texts, max_tokens)
    return Batch(
        ids=ids,
        mask=mask,
        xrays=examples.xrays(xray_from) if xray_from else None,
        ecgs=examples.ecgs(ecg_from) if ecg_from else None,
        xray_rows=torch.tensor(xray_text, dtype=torch.int64),
        ecg_rows=torch.tensor(ecg_text, dtype=torch.int64),
        patients=_numbered(patients),
        words=_numbered(texts),
    )


def _numbered(values: Sequence[str]) -> Tensor:
    numbers: dict[str, int] = {}
    return torch.tensor([numbers.setdefault(value, len(numbers)) for value in values], dtype=torch.int64)


def epoch_batches(examples: Examples, batch_size: int, seed: int) -> list[list[int]]:
    """Every example once, in batches of nearly equal size with at most one triplet of a patient each.

    A patient with more triplets than there are batches contributes as many of them as there are batches, drawn anew
    every epoch.
    """
    if len(examples) == 0:
        return []
    generator = np.random.default_rng(seed)
    of_patient: dict[str, list[int]] = {}
    for row in generator.permutation(len(examples)):
        of_patient.setdefault(examples.triplets[row].patient_id, []).append(int(row))
    count = max(1, -(-len(examples) // batch_size))
    batches: list[list[int]] = [[] for _ in range(count)]
    for rows in sorted(of_patient.values(), key=len, reverse=True):
        emptiest = sorted(range(count), key=lambda number: (len(batches[number]), number))
        for row, number in zip(rows, emptiest, strict=False):
            batches[number].append(row)
    return [batch for batch in batches if batch]
