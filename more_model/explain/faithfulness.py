"""Deletion and insertion (Petsiuk et al., BMVC 2018; Samek et al. 2017): is what a map marks what the score rests on?

Cells of the input (patches, or time steps of all leads) are replaced, most relevant first, by what stands there in
studies without the finding, and the area under the score is compared with that of random orders of the same cells. A
gradient beats random order on any function that it was taken from, a random network included, so that alone shows
little. Asked besides is whether the gain is larger in patients who have the finding than in patients who have not, for
the same target: only a map of evidence can do that.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from more_model.evaluation.embedded import Float64

#: Studies [n, ...], some cells of which are replaced, to their scores [n].
Score = Callable[[Tensor], Tensor]


@dataclass(frozen=True, slots=True, eq=False)
class Removal:
    """``deletion`` and ``insertion`` [n]: area between the curves in order of relevance and in random order, positive
    where relevance is better. ``deletion_curves`` and ``random_curves`` [n, steps + 1]: the scores while cells go."""

    deletion: Float64
    insertion: Float64
    deletion_curves: Float64
    random_curves: Float64


def curve_area(scores: Tensor) -> Tensor:
    """[..., steps + 1] scores at equal steps from nothing to everything -> mean height (trapezoids)."""
    return (scores[..., 1:] + scores[..., :-1]).mean(dim=-1) / 2


def removal_curves(
    score: Score, inputs: Tensor, baseline: Tensor, cell_of: Tensor, order: Tensor, steps: int
) -> tuple[Tensor, Tensor]:
    """Scores [n, steps + 1] while cells go (deletion) and while they come (insertion), in ``order`` [n, cells].

    ``inputs`` and ``baseline`` [n, ...]; ``cell_of`` [...] says to which cell each element belongs.
    """
    rank = torch.empty_like(order).scatter_(1, order, torch.arange(order.shape[1]).expand_as(order))
    rank_of = rank[:, cell_of.flatten()].reshape(inputs.shape)
    deleted, inserted = [], []
    for step in range(steps + 1):
        gone = rank_of < round(order.shape[1] * step / steps)
        deleted.append(score(torch.where(gone, baseline, inputs)))
        inserted.append(score(torch.where(gone, inputs, baseline)))
    return torch.stack(deleted, dim=1), torch.stack(inserted, dim=1)


def removal(
    score: Score,
    inputs: Tensor,
    baseline: Tensor,
    cell_of: Tensor,
    relevance: Tensor,
    *,
    steps: int,
    orders: int,
    seed: int,
) -> Removal:
    """Order of ``relevance`` [n, cells] against the mean of ``orders`` random ones."""
    deleted, inserted = removal_curves(
        score, inputs, baseline, cell_of, relevance.argsort(dim=1, descending=True, stable=True), steps
    )
    generator = torch.Generator().manual_seed(seed)
    random_deleted, random_inserted = torch.zeros_like(deleted), torch.zeros_like(inserted)
    for _ in range(orders):
        order = torch.rand(relevance.shape, generator=generator).argsort(dim=1)
        gone, come = removal_curves(score, inputs, baseline, cell_of, order, steps)
        random_deleted += gone / orders
        random_inserted += come / orders
    return Removal(
        deletion=_float64(curve_area(random_deleted) - curve_area(deleted)),
        insertion=_float64(curve_area(inserted) - curve_area(random_inserted)),
        deletion_curves=_float64(deleted),
        random_curves=_float64(random_deleted),
    )


def _float64(tensor: Tensor) -> Float64:
    return np.asarray(tensor.double().cpu().numpy())
