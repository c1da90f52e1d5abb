"""The gradient of each unit by itself, clipped, and summed: the only place where private data become numbers to share.

A unit is whatever is clipped as a whole: one patient (`patient-decoupled`) or one group of patients (`patient-groups`,
`patient-shuffled`). Its loss is a pure function of the parameters and that unit, so no other unit can enter its
gradient; hooks that split a batch's gradient into rows give no such assurance (see `privacy.validity`).

Abadi et al. 2016, arXiv 1607.00133, algorithm 1, with units in place of examples.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.utils import _pytree as pytree

Tensors = Mapping[str, Tensor]
#: A tensor, or a mapping or sequence of tensors, of one unit; stacked units have one more dimension in front.
Unit = Any
#: ``(parameters, unit) -> scalar``: pure. It usually calls `torch.func.functional_call` with ``parameters`` laid over a
#: model in evaluation mode (dropout drawn by position in the batch would couple the units).
LossOfUnit = Callable[[Tensors, Unit], Tensor]
#: `unit_gradients` or `gradients_one_by_one`.
GradientsOfUnits = Callable[[LossOfUnit, Tensors, Unit], dict[str, Tensor]]

#: Against division by zero for a unit without gradient; far below any norm that matters.
_TINY = 1e-12


@dataclass(frozen=True)
class ClippedSum:
    """Sum of the clipped gradients of some units, float32, not yet private.

    units: how many were drawn. refused: those whose gradient was not finite; they count as zero. clipped: those whose
    norm exceeded C. The counts are private as well: they serve the site's own screen and never leave it.
    """

    sums: dict[str, Tensor]
    units: int
    refused: int
    clipped: int


def unit_gradients(loss_of_unit: LossOfUnit, parameters: Tensors, units: Unit) -> dict[str, Tensor]:
    """Gradients of ``n`` stacked units, ``[n, *shape]`` by parameter name, all units in one vectorised pass.

    The units must have equal shapes; pad and mask. A parameter that a unit's loss does not reach gets zeros.
    """
    fixed = {name: tensor.detach() for name, tensor in parameters.items()}
    # Randomness inside the loss is an error: drawn by position, it would tie a unit to the units before it.
    gradients = torch.func.vmap(torch.func.grad(loss_of_unit), in_dims=(None, 0), randomness="error")(fixed, units)
    return dict(gradients)


def gradients_one_by_one(loss_of_unit: LossOfUnit, parameters: Tensors, units: Unit) -> dict[str, Tensor]:
    """The same as `unit_gradients`, one unit after the other: for losses that vectorisation cannot express, such as
    those that look at lengths or masks to decide what to compute. With units of many rows it is hardly slower."""
    leaves = {name: tensor.detach().requires_grad_(True) for name, tensor in parameters.items()}
    rows = []
    for row in range(count_units(units)):
        with torch.enable_grad():
            loss = loss_of_unit(leaves, unit_of(units, row))
        rows.append(torch.autograd.grad(loss, list(leaves.values()), allow_unused=True, materialize_grads=True))
    return {name: torch.stack([row[place] for row in rows]) for place, name in enumerate(leaves)}


def clip_factors(gradients: Tensors, clip_norm: float) -> tuple[Tensor, Tensor]:
    """min(1, C / norm) for each of ``n`` units, ``[n]`` float32, and which of them are finite, ``[n]`` bool.

    The norm is over all tensors together, summed in float64: in float32 a huge but finite gradient would overflow, and
    its square would count as infinite. Units that are not finite get the factor 0.
    """
    squares = [
        torch.linalg.vector_norm(gradient.flatten(1), dim=1, dtype=torch.float64).square()
        for gradient in gradients.values()
    ]
    norms = torch.stack(squares).sum(dim=0).sqrt()
    finite = torch.isfinite(norms)
    factors = torch.where(finite, (clip_norm / (norms + _TINY)).clamp(max=1.0), 0.0)
    return factors.float(), finite


def clipped_sum(
    loss_of_unit: LossOfUnit,
    parameters: Tensors,
    chunks: Iterable[Unit],
    clip_norm: float,
    *,
    gradients: GradientsOfUnits = unit_gradients,
) -> ClippedSum:
    """Sum over all units of all ``chunks`` of the unit's gradient, scaled down to norm at most ``clip_norm``.

    chunks: stacked units; memory grows with the largest chunk (its size times the number of parameters), not with
    their number. See `in_chunks`. No chunk, or an empty one, is fine: the sum is then zero, and noise must still be
    added. Sums are kept in float32 whatever the type of the parameters.
    """
    sums = {name: torch.zeros_like(tensor, dtype=torch.float32) for name, tensor in parameters.items()}
    units = refused = clipped = 0
    for chunk in chunks:
        if count_units(chunk) == 0:
            continue
        found = gradients(loss_of_unit, parameters, chunk)
        factors, finite = clip_factors(found, clip_norm)
        for name, gradient in found.items():
            # Rows that are not finite are left out: zero times infinity is not zero.
            sums[name] += torch.tensordot(factors[finite], gradient[finite].float(), dims=1)
        units += len(finite)
        refused += int((~finite).sum())
        clipped += int(((factors < 1) & finite).sum())
    return ClippedSum(sums, units, refused, clipped)


def in_chunks(units: Unit, units_at_once: int) -> Iterator[Unit]:
    """Stacked units in slices of at most ``units_at_once``; nothing for no units."""
    total = count_units(units)
    for start in range(0, total, units_at_once):
        yield pytree.tree_map(lambda leaf, start=start: leaf[start : start + units_at_once], units)


def count_units(units: Unit) -> int:
    """Length of the leading dimension that all tensors of stacked units share.

    Raises:
        ValueError: no tensor at all, or tensors of different lengths.
    """
    lengths = {len(leaf) for leaf in pytree.tree_leaves(units)}
    if len(lengths) != 1:
        raise ValueError(f"stacked units must share one leading dimension, but have {sorted(lengths)}")
    return int(lengths.pop())


def unit_of(units: Unit, row: int) -> Unit:
    """One of stacked units, without the leading dimension."""
    return pytree.tree_map(lambda leaf: leaf[row], units)
