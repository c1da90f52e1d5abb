"""From the updates of the sites to the next global tensors: sums in float64, in the order of the sites' names."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from more_model.errors import ConfigError
from more_model.exchange import ExchangeSpec, TensorDict, Tensors, TensorSpec, Update


@dataclass(frozen=True, slots=True)
class LoraAggregation:
    """A way to aggregate LoRA factors.

    ``exact``: the average of the sites' effective weight changes equals the effective change of the average.
    ``linear``: only a weighted sum of updates is needed, so secure aggregation can be used. ``check`` refuses a
    specification that the method cannot work with (ConfigError).
    """

    name: str
    exact: bool
    linear: bool
    check: Callable[[ExchangeSpec], None]
    combine: Callable[[Tensors, Sequence[Update], ExchangeSpec], TensorDict]


def weighted_mean(current: Tensors, updates: Sequence[Update], spec: ExchangeSpec) -> TensorDict:
    """``current`` plus the mean of the deltas, per exchange group over the sites that trained that group.

    FedAvg (McMahan et al. 2017) per tower: weights are the sites' public pair counts of that tower. A tensor that no
    site trained stays as it is. Keeps one running sum a tensor, whatever the number of
    sites; the updates themselves are the caller's.
    """
    ordered = sorted(updates, key=lambda update: update.site)
    totals: dict[str, float] = {}
    sums: dict[str, npt.NDArray[np.float64]] = {}
    for update in ordered:
        for tensor in spec.tensors:
            weight = update.weights.get(tensor.tower, 0.0)
            if tensor.name in update.deltas and weight > 0:
                term = weight * update.deltas[tensor.name].astype(np.float64)
                sums[tensor.name] = sums[tensor.name] + term if tensor.name in sums else term
                totals[tensor.name] = totals.get(tensor.name, 0.0) + weight
    return {tensor.name: _moved(current, tensor, sums, totals) for tensor in spec.tensors}


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


def _anything(_spec: ExchangeSpec) -> None:
    return None


def _no_a_factors(spec: ExchangeSpec) -> None:
    offending = [tensor.name for tensor in spec.tensors if ".lora_A." in tensor.name]
    if offending:
        raise ConfigError(
            "aggregation ffa", [f"A factors must be frozen, but {len(offending)} would travel ({offending[0]}, ...)"]
        )


#: The registry that further methods plug into; `more_model.model.lora.LoraMethod` lists the same names.
AGGREGATIONS: Mapping[str, LoraAggregation] = {
    # Average A and average B: simple, but mean(B) mean(A) is not mean(B A).
    "fedit": LoraAggregation("fedit", exact=False, linear=True, check=_anything, combine=weighted_mean),
    # A frozen and shared: the average is exact, linear, and half as large (FFA-LoRA, Sun et al. 2024).
    "ffa": LoraAggregation("ffa", exact=True, linear=True, check=_no_a_factors, combine=weighted_mean),
}


def aggregation(name: str) -> LoraAggregation:
    """The aggregation called ``name``; ConfigError lists the known ones."""
    if name not in AGGREGATIONS:
        raise ConfigError("aggregation", [f"{name!r} is unknown; there are {', '.join(sorted(AGGREGATIONS))}"])
    return AGGREGATIONS[name]
