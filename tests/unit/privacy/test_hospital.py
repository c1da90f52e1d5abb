"""Hospital mode: whole updates clipped, public weights, one noise for the largest possible share."""

from __future__ import annotations

import numpy as np
import pytest

from more_model.errors import ConfigError, ExchangeError
from more_model.exchange import ExchangeSpec, TensorDict, TensorSpec
from privacy.hospital import clipped_update, private_sum, update_norm, weighted_sum
from privacy.sensitivity import sensitivity

SPEC = ExchangeSpec((TensorSpec("xray.head", (60, 50), "xray"), TensorSpec("ecg.head", (60, 50), "ecg")))
WEIGHTS = {"north": 0.6, "south": 0.4}
NORMS = {"north": 2.0, "south": 2.0}


def update(seed: int, scale: float = 1.0) -> TensorDict:
    draws = np.random.default_rng(seed)
    return {tensor.name: (scale * draws.normal(size=tensor.shape)).astype(np.float32) for tensor in SPEC.tensors}


def distance(one: dict[str, np.ndarray], other: dict[str, np.ndarray]) -> float:
    return float(np.sqrt(sum(np.square(one[name] - other[name]).sum() for name in one)))


@pytest.mark.parametrize("scale", [1e-4, 1.0, 1e6])
def test_zeroing_a_hospital_moves_the_sum_by_at_most_s_and_nearly_so(scale: float) -> None:
    # Correlated hospitals: nearly the same update everywhere, as after a warm start.
    shared, declared = update(0, scale), sensitivity("hospital", 0.6 * 2.0)
    updates = {
        site: {name: tensor + np.float32(0.01 * scale) * update(seed)[name] for name, tensor in shared.items()}
        for seed, site in enumerate(WEIGHTS, start=1)
    }
    full = weighted_sum(updates, WEIGHTS, NORMS, SPEC)
    moved = {
        site: distance(full, weighted_sum({s: u for s, u in updates.items() if s != site}, WEIGHTS, NORMS, SPEC))
        for site in WEIGHTS
    }
    assert max(moved.values()) <= declared * (1 + 1e-5)
    if scale >= 1:
        assert moved["north"] >= 0.7 * declared
        # Weighting the noise by the mean weight would be false.
        assert moved["north"] > 1.1 * np.mean(list(WEIGHTS.values())) * 2.0


def test_the_largest_weight_sets_the_noise() -> None:
    stds = []
    for weights in ({"a": 0.6, "b": 0.4}, {"a": 0.3, "b": 0.3, "c": 0.2, "d": 0.2}):
        released = private_sum({}, weights, dict.fromkeys(weights, 2.0), 1.5, SPEC)
        values = np.concatenate([tensor.ravel() for tensor in released.values()])
        assert values.std() == pytest.approx(1.5 * max(weights.values()) * 2.0, rel=0.05)
        stds.append(values.std())
    assert stds[0] / stds[1] == pytest.approx(2.0, rel=0.1)


def test_noise_is_on_every_tensor_and_differs_between_runs_and_shapes() -> None:
    updates = {"north": {"xray.head": update(1)["xray.head"]}}  # a site without ECGs
    released = [private_sum(updates, WEIGHTS, NORMS, 1.0, SPEC) for _ in range(2)]
    for tensors in released:
        assert set(tensors) == {"xray.head", "ecg.head"}
        assert all(tensor.dtype == np.float32 for tensor in tensors.values())
        assert float(tensors["ecg.head"].std()) == pytest.approx(1.2, rel=0.1)
    assert not (released[0]["ecg.head"] == released[1]["ecg.head"]).any()
    assert not (released[0]["xray.head"] == released[0]["ecg.head"]).any()


def test_absent_hospitals_do_not_raise_the_weight_of_the_others() -> None:
    alone = weighted_sum({"north": update(1, 1e-3)}, WEIGHTS, NORMS, SPEC)
    np.testing.assert_allclose(alone["xray.head"], 0.6 * update(1, 1e-3)["xray.head"], rtol=1e-6)


def test_the_update_is_clipped_as_a_whole_by_one_factor() -> None:
    given = update(2)
    clipped = clipped_update(given, 2.0)
    assert update_norm(clipped) == pytest.approx(2.0, rel=1e-6)
    factor = 2.0 / update_norm(given)
    for name, tensor in clipped.items():
        np.testing.assert_allclose(tensor, factor * given[name], rtol=1e-5)


def test_a_small_update_and_one_of_zeros_stay_as_they_are() -> None:
    for given in (update(3, 1e-6), update(3, 0.0)):
        for name, tensor in clipped_update(given, 2.0).items():
            np.testing.assert_array_equal(tensor, given[name])


def test_a_huge_update_is_clipped() -> None:
    huge = {name: np.full(tensor.shape, 3e38, np.float32) for name, tensor in update(0).items()}
    assert update_norm(clipped_update(huge, 2.0)) == pytest.approx(2.0, rel=1e-6)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_an_update_that_is_not_finite_is_refused(bad: float) -> None:
    given = update(4)
    given["ecg.head"][3, 3] = bad
    with pytest.raises(ExchangeError, match=r"NaN or infinite values \(1 tensors, first ecg.head\)"):
        private_sum({"north": given}, WEIGHTS, NORMS, 1.0, SPEC)


def test_a_site_without_a_public_weight_is_refused() -> None:
    with pytest.raises(ConfigError, match="'east': sent an update, but has no public weight"):
        weighted_sum({"east": update(1)}, WEIGHTS, NORMS, SPEC)
