"""The aggregate against a slow, obvious loop; exactness of the LoRA methods."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from typing import get_args

import numpy as np
import pytest

from more_model.errors import ConfigError
from more_model.exchange import ExchangeSpec, TensorDict, Tensors, TensorSpec, Update
from more_model.model.lora import LoraMethod
from server.aggregate import AGGREGATIONS, aggregation, weighted_mean

ONE = ExchangeSpec((TensorSpec("text.w", (3,), "text"),))


def slow_mean(current: Tensors, updates: Sequence[Update], spec: ExchangeSpec) -> TensorDict:
    """Element by element in Python floats (IEEE doubles), sites in alphabetical order."""
    result = {}
    for tensor in spec.tensors:
        flat = []
        for place, before in enumerate(current[tensor.name].ravel().tolist()):
            above, below = 0.0, 0.0
            for update in sorted(updates, key=lambda update: update.site):
                weight = update.weights.get(tensor.tower, 0.0)
                if weight > 0:
                    above += weight * float(update.deltas[tensor.name].ravel()[place])
                    below += weight
            flat.append(before + above / below if below > 0 else before)
        result[tensor.name] = np.array(flat, dtype=np.float64).astype(np.float32).reshape(tensor.shape)
    return result


def bits(tensors: Tensors) -> dict[str, bytes]:
    return {name: array.tobytes() for name, array in tensors.items()}


@pytest.fixture
def uneven(make_update: Callable[..., Update]) -> list[Update]:
    """Four sites; one has no ECG, one no X-ray, and nobody trained the shared group."""
    return [
        make_update("north", {"xray": 11, "ecg": 7, "text": 13}, seed=1),
        make_update("south", {"xray": 120, "ecg": 0, "text": 120}, seed=2),
        make_update("east", {"ecg": 64, "text": 64}, seed=3),
        make_update("west", {"xray": 1, "ecg": 1, "text": 1}, seed=4),
    ]


def test_equals_a_slow_loop_over_the_sites_that_trained_each_tower(
    spec: ExchangeSpec, current: TensorDict, uneven: list[Update]
) -> None:
    assert bits(weighted_mean(current, uneven, spec)) == bits(slow_mean(current, uneven, spec))


def test_order_of_arrival_does_not_change_a_bit() -> None:
    # Values for which even sums in float64 depend on their order.
    deltas = {"a": 1e30, "b": 3.0, "c": -1e30, "d": 5.0}
    updates = [
        Update(site, 1, {"text.w": np.full(3, value, np.float32)}, {"text": 1.0}, "", "")
        for site, value in deltas.items()
    ]
    start = {"text.w": np.zeros(3, np.float32)}
    results = [bits(weighted_mean(start, list(order), ONE)) for order in itertools.permutations(updates)]
    assert len(results) == 24
    assert all(result == results[0] for result in results)


def test_a_group_that_nobody_trained_stays_bit_identical_and_is_a_copy(
    spec: ExchangeSpec, current: TensorDict, uneven: list[Update]
) -> None:
    current["log_temperature"] = np.array([-0.0], dtype=np.float32)
    without_ecg = [update for update in uneven if update.weights.get("ecg", 0) == 0]
    result = weighted_mean(current, without_ecg, spec)
    for name in ("log_temperature", "ecg.head.0.weight", "ecg.qkv.lora_B.default.weight"):
        assert result[name].tobytes() == current[name].tobytes()
        assert result[name] is not current[name]
    assert result["text.query.lora_B.default.weight"].tobytes() != current["text.query.lora_B.default.weight"].tobytes()


def test_inputs_are_not_written_to(spec: ExchangeSpec, current: TensorDict, uneven: list[Update]) -> None:
    before = bits(current), [bits(update.deltas) for update in uneven]
    weighted_mean(current, uneven, spec)
    assert (bits(current), [bits(update.deltas) for update in uneven]) == before


def test_sums_are_kept_in_float64() -> None:
    # In float32, 1e8 + 1 is 1e8, and the one site in the middle would vanish.
    deltas = {"a": 1e8, "b": 3.0, "c": -1e8}
    updates = [
        Update(site, 1, {"text.w": np.full(3, value, np.float32)}, {"text": 1.0}, "", "")
        for site, value in deltas.items()
    ]
    result = weighted_mean({"text.w": np.zeros(3, np.float32)}, updates, ONE)["text.w"]
    assert result.tolist() == [1.0, 1.0, 1.0]
    assert result.dtype == np.float32


def test_one_site_alone_is_taken_over_whole() -> None:
    delta = np.array([0.5, -2.0, 8.0], np.float32)
    result = weighted_mean(
        {"text.w": np.ones(3, np.float32)}, [Update("a", 1, {"text.w": delta}, {"text": 9}, "", "")], ONE
    )
    assert result["text.w"].tolist() == [1.5, -1.0, 9.0]


def lora_spec(rank: int, width: int, *, with_a: bool) -> ExchangeSpec:
    b = TensorSpec("text.q.lora_B.default.weight", (width, rank), "text")
    a = TensorSpec("text.q.lora_A.default.weight", (rank, width), "text")
    return ExchangeSpec((a, b) if with_a else (b,))


def trained_sites(
    spec: ExchangeSpec, start: Tensors, weights: Sequence[float], size: float
) -> tuple[list[Update], list[TensorDict]]:
    """Sites that moved every tensor of ``spec`` by ``size``, and where each of them ended."""
    generator = np.random.default_rng(5)
    updates, ends = [], []
    for number, weight in enumerate(weights):
        deltas = {t.name: (size * generator.normal(size=t.shape)).astype(np.float32) for t in spec.tensors}
        updates.append(Update(f"s{number}", 1, deltas, {"text": weight}, "", ""))
        ends.append({name: start[name].astype(np.float64) + delta for name, delta in deltas.items()})
    return updates, ends


def effective_gap(method: str) -> float:
    """Largest difference between the mean of the sites' B A and the B A of the aggregate."""
    rank, width, weights = 2, 6, [3.0, 5.0, 2.0]
    generator = np.random.default_rng(6)
    spec = lora_spec(rank, width, with_a=method == "fedit")
    frozen_a = generator.normal(size=(rank, width)).astype(np.float32)
    start = {t.name: (frozen_a if ".lora_A." in t.name else np.zeros(t.shape, np.float32)) for t in spec.tensors}
    updates, ends = trained_sites(spec, start, weights, 0.3)
    merged = aggregation(method).combine(start, updates, spec)

    def effective(tensors: Tensors) -> np.ndarray:
        b = tensors["text.q.lora_B.default.weight"].astype(np.float64)
        return b @ tensors.get("text.q.lora_A.default.weight", frozen_a).astype(np.float64)

    wanted = sum(w * effective(end) for w, end in zip(weights, ends, strict=True)) / sum(weights)
    return float(np.abs(wanted - effective(merged)).max())


def test_ffa_is_exact_in_effective_weights_and_says_so() -> None:
    assert effective_gap("ffa") < 1e-6
    assert aggregation("ffa").exact


def test_fedit_is_not_exact_and_says_so() -> None:
    assert effective_gap("fedit") > 1e-3
    assert not aggregation("fedit").exact


def test_ffa_refuses_a_factors_that_would_travel_and_fedit_takes_them() -> None:
    spec = lora_spec(2, 6, with_a=True)
    with pytest.raises(ConfigError, match=r"A factors must be frozen, but 1 would travel"):
        aggregation("ffa").check(spec)
    aggregation("ffa").check(lora_spec(2, 6, with_a=False))
    aggregation("fedit").check(spec)


def test_every_method_of_the_model_can_be_aggregated() -> None:
    assert set(AGGREGATIONS) == set(get_args(LoraMethod))
    assert all(name == method.name for name, method in AGGREGATIONS.items())


def test_unknown_method_lists_the_known_ones() -> None:
    with pytest.raises(ConfigError, match=r"'flora' is unknown; there are fedit, ffa"):
        aggregation("flora")
