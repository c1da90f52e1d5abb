"""The federated LoRA methods, and the rounds in which each factor trains and travels. The coordinator needs no torch
for this.

What a factor does between sites and coordinator is said here once; `more_model.model.lora` freezes by it,
`ExchangeSpec` is made by it, and `server.aggregation.methods` refuses a specification that differs from it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Literal

from more_model.errors import ConfigError
from more_model.exchange import ExchangeSpec, TensorSpec, UpRounds

LoraMethod = Literal["fedit", "ffa", "rolora", "fedsvd", "flexlora", "fedex"]

#: Ends the name of what `fedex` adds to an adapted weight, in the place of ``.lora_A.default.weight``.
RESIDUAL = ".lora_residual"


@dataclass(frozen=True, slots=True)
class FactorRounds:
    """The rounds in which A and B train at the sites and go up. ``a`` None: it stays at its public start for ever and
    does not travel either way. ``residual``: a dense correction of every adapted weight travels down."""

    a: UpRounds | None
    b: UpRounds
    residual: bool = False


#: Where there are no rounds (all data in one place, one hospital alone), whatever is not frozen for ever trains.
FACTOR_ROUNDS: Mapping[str, FactorRounds] = MappingProxyType(
    {
        "fedit": FactorRounds("every", "every"),
        "ffa": FactorRounds(None, "every"),
        # B first: it starts at zero, and as long as it is zero A has no gradient.
        "rolora": FactorRounds("even", "odd"),
        # The coordinator turns A, the sites do not.
        "fedsvd": FactorRounds("none", "every"),
        "flexlora": FactorRounds("every", "every"),
        "fedex": FactorRounds("every", "every", residual=True),
    }
)


def factor_rounds(method: str) -> FactorRounds:
    """The rounds of ``method``; ConfigError where there is no such method."""
    if method not in FACTOR_ROUNDS:
        raise ConfigError("LoRA method", [f"{method!r} is unknown; there are {', '.join(sorted(FACTOR_ROUNDS))}"])
    return FACTOR_ROUNDS[method]


def factor_of(name: str) -> Literal["A", "B"] | None:
    """Which factor a tensor is, by its name; None for everything else."""
    if ".lora_A." in name:
        return "A"
    return "B" if ".lora_B." in name else None


def up_rounds(name: str, method: str) -> UpRounds | None:
    """The rounds in which ``method`` sends a tensor up; None where the tensor must not travel at all."""
    rounds = factor_rounds(method)
    if name.endswith(RESIDUAL):
        return "none" if rounds.residual else None
    return {"A": rounds.a, "B": rounds.b, None: "every"}[factor_of(name)]


def scheduled(spec: ExchangeSpec, method: str) -> ExchangeSpec:
    """``spec`` with the rounds of ``method``. ConfigError where it holds a tensor that must not travel."""
    return ExchangeSpec(tuple(_scheduled(tensor, method) for tensor in spec.tensors))


def _scheduled(tensor: TensorSpec, method: str) -> TensorSpec:
    up = up_rounds(tensor.name, method)
    if up is None:
        raise ConfigError(f"LoRA method {method}", [f"{tensor.name} must not travel"])
    return replace(tensor, up=up)


def fault_of_round_count(method: str, rounds: int) -> str | None:
    """Why a federation of so many rounds is none for ``method``; None where it is."""
    travel = factor_rounds(method)
    if {travel.a, travel.b} & {"odd", "even"} and rounds % 2:
        return f"{method} trains B in odd rounds and A in even ones: {rounds} rounds are not an even number"
    return None
