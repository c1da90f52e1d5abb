"""The labelled studies of some examples, one modality at a time, as training reads them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from torch import Tensor

from more_model.evaluation.bootstrap import Unit
from more_model.evaluation.embedded import (
    Float64,
    ImageOrTrace,
    Indices,
    LabelTask,
    Mask,
    UncertaintyPolicy,
    settle_labels,
)
from more_model.evaluation.embedding import label_column
from more_model.training.examples import Examples


@dataclass(frozen=True, slots=True, eq=False)
class LabelledStudies:
    """The studies of one modality that state at least one label of ``tasks``, still in their store.

    ``rows`` [n] are row numbers of ``examples``; ``target`` [n, tasks] holds 0, 1 and NaN.
    """

    examples: Examples
    modality: ImageOrTrace
    tasks: tuple[LabelTask, ...]
    rows: Indices
    target: Float64

    def __len__(self) -> int:
        return len(self.rows)

    def studies(self, places: Sequence[int]) -> Tensor:
        """The arrays of the n-th, m-th, ... study: uint8 [k, size, size], or float32 [k, 12, samples]."""
        rows = self.rows[places].tolist()
        return self.examples.xrays(rows) if self.modality == "xray" else self.examples.ecgs(rows)

    def units(self) -> list[Unit]:
        """The patient of each study."""
        triplets = [self.examples.triplets[row] for row in self.rows.tolist()]
        return [(triplet.site, triplet.patient_id) for triplet in triplets]

    def where(self, keep: Mask) -> LabelledStudies:
        """The studies where a bool mask [n] is true."""
        return replace(self, rows=self.rows[keep], target=self.target[keep])

    def about(self, tasks: Sequence[LabelTask]) -> LabelledStudies:
        """Some of the tasks, and the studies that state a label of those."""
        target = self.target[:, [self.tasks.index(task) for task in tasks]]
        stated: Mask = np.logical_not(np.isnan(target).all(axis=1), dtype=np.bool_)
        return replace(self, tasks=tuple(tasks), target=target).where(stated)


def labelled_studies(
    examples: Examples, modality: ImageOrTrace, tasks: Sequence[LabelTask], policy: UncertaintyPolicy
) -> LabelledStudies:
    """The studies of ``modality`` that state a label of ``tasks`` (all about it), in the order of ``examples``."""
    settled = settled_targets(examples, tasks, policy)
    target = np.stack([settled[task] for task in tasks], axis=1) if tasks else np.empty((len(examples), 0))
    rows = np.flatnonzero(_present(examples, modality) & ~np.isnan(target).all(axis=1))
    return LabelledStudies(examples, modality, tuple(tasks), rows, target[rows])


def settled_targets(
    examples: Examples, tasks: Sequence[LabelTask], policy: UncertaintyPolicy
) -> dict[LabelTask, Float64]:
    """Float64 [n] of 0, 1 and NaN for each task, as `more_model.evaluation.uncertainty.settled` gives them for the
    embedding of the same examples: policy ``published`` looks only at rows that have the modality asked about."""
    targets: dict[LabelTask, Float64] = {}
    for modality in dict.fromkeys(task.modality for task in tasks):
        asked = [task for task in tasks if task.modality == modality]
        rows = _present(examples, modality) if policy == "published" else np.ones(len(examples), dtype=np.bool_)
        columns = settle_labels({task.label: label_column(examples, task.label)[rows] for task in asked}, policy)
        for task in asked:
            targets[task] = np.full(len(examples), np.nan)
            targets[task][rows] = columns[task.label]
    return targets


def _present(examples: Examples, modality: ImageOrTrace) -> Mask:
    studies = [triplet.xray if modality == "xray" else triplet.ecg for triplet in examples.triplets]
    return np.array([study is not None for study in studies], dtype=np.bool_)


def units_of(examples: Examples) -> list[Unit]:
    """The patient of each example."""
    return [(triplet.site, triplet.patient_id) for triplet in examples.triplets]
