"""The mean against a slow, obvious loop."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence

import numpy as np
import pytest

from more_model.exchange import ExchangeSpec, TensorDict, Tensors, TensorSpec, Update
from server.aggregation.mean import weighted_mean

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
