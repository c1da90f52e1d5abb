"""Specifications with LoRA factors, and sites that moved them, for every method."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest

from more_model.exchange import ExchangeSpec, TensorDict, Tensors, TensorSpec, Update
from more_model.lora_method import RESIDUAL, factor_rounds, scheduled

A, B, RANK = ".lora_A.default.weight", ".lora_B.default.weight", 2
#: Adapted maps: outputs and inputs. The last one has fewer outputs than the rank.
MAPS = {"text.query": (6, 5), "xray.qkv": (9, 4), "text.value": (1, 5)}
Build = Callable[..., "Trained"]


@dataclass(frozen=True)
class Trained:
    """A specification, the global tensors before a round, what the sites sent, and where each of them ended.

    ``public_a``: A where it does not travel.
    """

    spec: ExchangeSpec
    start: TensorDict
    updates: list[Update]
    ends: list[TensorDict]
    public_a: TensorDict

    def effective(self, tensors: Tensors, adapted: str) -> np.ndarray[Any, Any]:
        """Residual + B A of one adapted map, float64."""
        a = tensors.get(adapted + A, self.public_a[adapted + A]).astype(np.float64)
        product = tensors[adapted + B].astype(np.float64) @ a
        return product + tensors[adapted + RESIDUAL] if adapted + RESIDUAL in tensors else product

    def wanted(self, adapted: str) -> np.ndarray[Any, Any]:
        """The mean of the sites' effective weights, over the sites that trained the map."""
        tower = adapted.partition(".")[0]
        weights = [update.weights.get(tower, 0.0) for update in self.updates]
        total = sum(w * self.effective(end, adapted) for w, end in zip(weights, self.ends, strict=True))
        return np.asarray(total) / sum(weights)

    def gap(self, combined: Tensors) -> float:
        """Largest difference between what is wanted and the effective weights of ``combined``."""
        return max(float(np.abs(self.wanted(m) - self.effective(combined, m)).max()) for m in MAPS)


def spec_of(method: str) -> ExchangeSpec:
    tensors = []
    for name, (out, inputs) in MAPS.items():
        tower, rounds = name.partition(".")[0], factor_rounds(method)
        if rounds.a is not None:
            tensors.append(TensorSpec(name + A, (RANK, inputs), tower))
        tensors.append(TensorSpec(name + B, (out, RANK), tower))
        if rounds.residual:
            tensors.append(TensorSpec(name + RESIDUAL, (out, inputs), tower))
    return scheduled(ExchangeSpec((*tensors, TensorSpec("text.head.0.weight", (3, 2), "text"))), method)


@pytest.fixture
def trained() -> Build:
    """``trained(method, round_number=1, weights=...)``: sites that moved by 0.3 everything that goes up in the round.

    ``weights``: of the text tower by site; the second site has no X-rays.
    """

    def build(method: str, round_number: int = 1, weights: Sequence[float] = (3.0, 5.0, 2.0)) -> Trained:
        generator, spec = np.random.default_rng(6), spec_of(method)
        public_a = {m + A: _orthonormal(generator, (RANK, inputs)) for m, (_, inputs) in MAPS.items()}
        start = {t.name: (0.4 * generator.normal(size=t.shape)).astype(np.float32) for t in spec.tensors}
        start |= {name: a for name, a in public_a.items() if name in start}
        updates, ends = [], []
        for number, weight in enumerate(weights):
            of_tower = {"text": weight, "xray": 0.0 if number == 1 else weight + 1}
            upward = spec.upward(round_number).of_towers([tower for tower, w in of_tower.items() if w > 0])
            deltas = {t.name: (0.3 * generator.normal(size=t.shape)).astype(np.float32) for t in upward}
            updates.append(Update(f"s{number}", round_number, deltas, of_tower, spec.digest(), ""))
            ends.append({**start, **{name: start[name].astype(np.float64) + delta for name, delta in deltas.items()}})
        return Trained(spec, start, updates, ends, public_a)

    return build


def _orthonormal(generator: np.random.Generator, shape: tuple[int, int]) -> np.ndarray[Any, Any]:
    return np.linalg.qr(generator.normal(size=shape[::-1]))[0].T.astype(np.float32)
