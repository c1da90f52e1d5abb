"""The weighted mean of the sites' changes: sums in float64, in the order of the sites' names."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt

from more_model.exchange import ExchangeSpec, TensorDict, Tensors, TensorSpec, Update


def weighted_mean(current: Tensors, updates: Sequence[Update], spec: ExchangeSpec) -> TensorDict:
    """``current`` plus the mean of the deltas, per exchange group over the sites that trained that group.

    FedAvg (McMahan et al. 2017) per tower: weights are the sites' public pair counts of that tower. A tensor that no
    site trained, or that does not go up in this round, stays as it is. Keeps one running sum a tensor, whatever the
    number of sites; the updates themselves are the caller's.
    """
    totals: dict[str, float] = {}
    sums: dict[str, npt.NDArray[np.float64]] = {}
    for update in in_order(updates):
        for tensor in spec.tensors:
            weight = update.weights.get(tensor.tower, 0.0)
            if tensor.name in update.deltas and weight > 0:
                term = weight * update.deltas[tensor.name].astype(np.float64)
                sums[tensor.name] = sums[tensor.name] + term if tensor.name in sums else term
                totals[tensor.name] = totals.get(tensor.name, 0.0) + weight
    return {tensor.name: _moved(current, tensor, sums, totals) for tensor in spec.tensors}


def in_order(updates: Sequence[Update]) -> list[Update]:
    """By the names of the sites, so that the order of arrival cannot change a bit of a sum."""
    return sorted(updates, key=lambda update: update.site)


def _moved(
    current: Tensors,
    tensor: TensorSpec,
    sums: Mapping[str, npt.NDArray[np.float64]],
    totals: Mapping[str, float],
) -> npt.NDArray[np.float32]:
    before = current[tensor.name]
    if tensor.name not in sums:
        return before.copy()
    return (before.astype(np.float64) + sums[tensor.name] / totals[tensor.name]).astype(np.float32)
