"""The table of LoRA aggregation methods: what each computes, and what is true of it.

method    exact  linear  privacy (DP)  what the coordinator does
ffa       yes    yes     allowed       mean B; A is public and frozen (Sun et al. 2024, arXiv 2403.12313)
fedsvd    yes    yes     allowed       mean B, then B A split anew by SVD (Lee et al. 2025, arXiv 2505.12805)
rolora    yes    yes     allowed       mean B in odd rounds, mean A in even ones (Chen et al. 2025, arXiv 2502.01755)
fedit     no     yes     warned        mean A and mean B (Zhang et al. 2024, arXiv 2305.05644)
flexlora  no     no      refused       mean of B A, cut to the rank (Bai et al. 2024, arXiv 2402.11505)
fedex     yes    no      refused       mean A, mean B, the rest as a residual (Singhal et al. 2024, arXiv 2410.09432)

What is not linear cannot be used with secure sums either: `privacy.secure_sum.compatibility` refuses it. Not offered:
`flora` (downloads grow with the number of sites) and `fed-sb` (needs a public first gradient to choose its subspace).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Literal

from more_model.errors import ConfigError
from more_model.exchange import ExchangeSpec, TensorDict, Tensors, Update
from more_model.lora_method import factor_rounds, fault_of_round_count, up_rounds
from server.aggregation.low_rank import factor_pairs, refactored_mean, truncated_mean, with_residual
from server.aggregation.mean import weighted_mean

Combine = Callable[[Tensors, Sequence[Update], ExchangeSpec], TensorDict]


@dataclass(frozen=True, slots=True)
class LoraAggregation:
    """A way to aggregate LoRA factors.

    ``exact``: the average of the sites' effective weight changes equals the effective change of the result, up to
    float32 rounding. ``linear``: the result depends on the weighted mean of the updates alone, so ``combine`` may be
    given that mean as the one update, and secure sums can be used. ``under_dp``: whether it may run with differential
    privacy, in any of the modes; ``dp_note`` says why not, or what to expect.
    """

    name: str
    exact: bool
    linear: bool
    combine: Combine
    under_dp: Literal["allowed", "warned", "refused"] = "allowed"
    dp_note: str = ""

    def check(self, spec: ExchangeSpec, rounds: int) -> None:
        """Refuse a specification or a number of rounds that the method cannot work with: ConfigError."""
        faults = _faults_of_spec(self.name, spec)
        if (fault := fault_of_round_count(self.name, rounds)) is not None:
            faults.append(fault)
        if faults:
            raise ConfigError(f"aggregation {self.name}", faults)


def _faults_of_spec(name: str, spec: ExchangeSpec) -> list[str]:
    wanted = {tensor.name: up_rounds(tensor.name, name) for tensor in spec.tensors}
    faults = [
        f"{tensor.name} goes up in rounds {tensor.up!r}, not {wanted[tensor.name]!r}"
        for tensor in spec.tensors
        if wanted[tensor.name] not in (None, tensor.up)
    ]
    if stray := [tensor for tensor, up in wanted.items() if up is None]:
        faults.append(f"{len(stray)} tensors must not travel with this method ({stray[0]}, ...)")
    rounds = factor_rounds(name)
    for pair in factor_pairs(spec):
        needed = [pair.a] * (rounds.a is not None) + [pair.residual] * rounds.residual
        faults += [f"{tensor} is missing" for tensor in needed if tensor not in wanted]
    return faults


_PRODUCT_NOISE = (
    "noise on both factors multiplies: B A carries a term of the noise of B times that of A, which grows with the "
    "fourth power of its size; ffa, fedsvd and rolora have no such term"
)
_SINGLE_FACTORS = (
    "it multiplies each site's own B and A, so the noise of both multiplies, and no bound on the sum of the updates "
    "bounds the result"
)

_METHODS = (
    LoraAggregation("ffa", exact=True, linear=True, combine=weighted_mean),
    LoraAggregation("fedsvd", exact=True, linear=True, combine=refactored_mean),
    LoraAggregation("rolora", exact=True, linear=True, combine=weighted_mean),
    # mean(B) mean(A) is not mean(B A).
    LoraAggregation("fedit", False, True, weighted_mean, under_dp="warned", dp_note=_PRODUCT_NOISE),
    LoraAggregation("flexlora", False, False, truncated_mean, under_dp="refused", dp_note=_SINGLE_FACTORS),
    LoraAggregation("fedex", True, False, with_residual, under_dp="refused", dp_note=_SINGLE_FACTORS),
)
#: By name; `more_model.lora_method.LoraMethod` lists the same names.
AGGREGATIONS: Mapping[str, LoraAggregation] = MappingProxyType({method.name: method for method in _METHODS})


def aggregation(name: str) -> LoraAggregation:
    """The aggregation called ``name``; ConfigError lists the known ones."""
    if name not in AGGREGATIONS:
        raise ConfigError("aggregation", [f"{name!r} is unknown; there are {', '.join(sorted(AGGREGATIONS))}"])
    return AGGREGATIONS[name]
