"""Hedged and missing labels, settled for a whole set at once.

``ignore``, ``zero`` and ``one`` look at one cell at a time and leave a label that is not stated unstated.
``published`` is what the released MoRE code does before it trains and tests: a missing label becomes 0, and a row with
*any* uncertain label among those asked for is dropped, from every one of them. The hardest rows are then gone, and a
blank counts as a negative that nobody stated: figures under it compare with the published ones only.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np

from more_model.errors import DataError
from more_model.evaluation.embedded import (
    EmbeddedSet,
    Float64,
    ImageOrTrace,
    LabelTask,
    Mask,
    UncertaintyPolicy,
    apply_published,
    settle_labels,
)

__all__ = ["apply_published", "settle_labels", "settled"]


def settled(
    embedded: EmbeddedSet,
    tasks: Sequence[LabelTask],
    policy: UncertaintyPolicy,
    *,
    present: Mapping[ImageOrTrace, Mask] | None = None,
) -> EmbeddedSet:
    """``embedded`` with the labels of ``tasks`` alone, each 1, 0 or NaN; score the result with policy ``ignore``.

    ``published`` works modality by modality, on the rows that have it: ``present`` (bool [n] by modality) says which,
    by default those with an embedding. A label that the set does not know stays unknown. Raises DataError for values
    other than 1, 0, -1 and NaN, and under ``published`` for one label asked of two modalities.
    """
    labels = {task.label: embedded.labels[task.label] for task in tasks if task.label in embedded.labels}
    if policy != "published":
        return replace(embedded, labels=settle_labels(labels, policy))
    modality: dict[str, ImageOrTrace] = {task.label: task.modality for task in tasks}
    twice = [label for label, count in Counter(task.label for task in set(tasks)).items() if count > 1]
    if twice:
        raise DataError(
            f"under the published policy one label cannot be asked of two modalities: {', '.join(sorted(twice))}"
        )
    result: dict[str, Float64] = {}
    for name in dict.fromkeys(modality.values()):
        rows = embedded.has(name) if present is None else present[name]
        of_modality = {label: values[rows] for label, values in labels.items() if modality[label] == name}
        for label, values in apply_published(of_modality).items():
            result[label] = np.full(len(embedded), np.nan)
            result[label][rows] = values
    return replace(embedded, labels=result)
