"""Clip, noise, quantise, weight: in this order, with the noise that the sum was promised."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from more_model.errors import ConfigError, ExchangeError
from more_model.exchange import ExchangeSpec, TensorDict, TensorSpec
from privacy.hospital import update_norm
from privacy.quantise import decode, row_grid, tensor_grid
from privacy.secure_sum.distributed_noise import DistributedNoise, check_distributed_noise, guarantee
from privacy.secure_sum.plan import Plan, check_plan, terms_of
from privacy.secure_sum.prepare import Clipped, Noised, add_noise, clip, prepare, quantise_all
from privacy.secure_sum.terms import Terms

SPEC = ExchangeSpec((TensorSpec("text.a", (30, 400), "text"), TensorSpec("xray.b", (8000,), "xray")))
NAMES = ("a", "b", "c", "d", "e")


def make_plan(bits: int = 24, bound: float = 1.0, **changes: Any) -> Plan:
    grids = {"text.a": row_grid(np.full(30, bound), bits, dimensions=2), "xray.b": tensor_grid(bound, bits)}
    return replace(Plan(SPEC, grids, clip_norm=1.0, rounding="nearest"), **changes)


def make_terms(plan: Plan, **changes: Any) -> Terms:
    settings: dict[str, Any] = {"word_bits": 64, "max_weight": 4, "fingerprint_digest": "f", "run": "r", "number": 1}
    return terms_of(plan, sites=NAMES, **(settings | changes))


def update(seed: int, norm: float) -> TensorDict:
    generator = np.random.default_rng(seed)
    deltas = {t.name: generator.normal(size=t.shape).astype(np.float32) for t in SPEC.tensors}
    scale = norm / update_norm(deltas)
    return {name: (delta * scale).astype(np.float32) for name, delta in deltas.items()}


def test_the_sum_decodes_to_the_weighted_mean_of_the_clipped_updates() -> None:
    plan = make_plan()
    terms = make_terms(plan)
    weights = {"a": 1, "b": 2, "c": 4}
    updates = {name: update(place, norm) for place, (name, norm) in enumerate({"a": 0.2, "b": 5.0, "c": 0.9}.items())}
    encoded = {n: prepare(updates[n], {"text": w, "xray": w}, plan, terms).encoded for n, w in weights.items()}
    sums = {group: sum(e.words[group] for e in encoded.values()) for group in ("text", "xray")}
    means = decode(sums, {"text": 7, "xray": 7}, SPEC, plan.grids)
    for name, mean in means.items():
        wanted = (
            sum(w * updates[n][name].astype(float) * min(1, 1 / update_norm(updates[n])) for n, w in weights.items())
            / 7
        )
        # Half a step a site, the float32 of the clipped update, and the float32 of the mean.
        assert np.abs(mean - wanted).max() < 0.5 / (2**23 - 1) + 1e-8


def test_clipping_bounds_the_whole_update_and_keeps_small_and_zero_ones() -> None:
    assert update_norm(clip(update(1, 50.0), 1.0).deltas) == pytest.approx(1.0, rel=1e-6)
    small = update(1, 0.5)
    assert {n: d.tobytes() for n, d in clip(small, 1.0).deltas.items()} == {n: d.tobytes() for n, d in small.items()}
    zero = {t.name: np.zeros(t.shape, np.float32) for t in SPEC.tensors}
    assert update_norm(clip(zero, 1.0).deltas) == 0.0


def test_the_order_is_enforced() -> None:
    plan = make_plan()
    terms, deltas = make_terms(plan), update(1, 0.5)
    with pytest.raises(ExchangeError, match="noise comes after clipping: expected Clipped, not dict"):
        add_noise(deltas, {"text": 1, "xray": 1}, plan, terms)  # type: ignore[arg-type]
    for early in (deltas, Clipped(deltas)):
        with pytest.raises(ExchangeError, match="quantising comes after noise: expected Noised"):
            quantise_all(early, plan)  # type: ignore[arg-type]
    with pytest.raises(ExchangeError, match="noise comes after clipping"):
        add_noise(Noised(deltas), {"text": 1, "xray": 1}, plan, terms)  # type: ignore[arg-type]


@pytest.mark.parametrize("poison", [np.nan, np.inf])
def test_values_that_are_not_finite_are_refused(poison: float) -> None:
    deltas = update(1, 0.5)
    deltas["xray.b"][7] = poison
    with pytest.raises(ExchangeError, match="NaN or infinite"):
        prepare(deltas, {"text": 1, "xray": 1}, make_plan(), make_terms(make_plan()))


def test_weights_and_tensors_must_belong_together() -> None:
    plan = make_plan()
    terms = make_terms(plan)
    with pytest.raises(ExchangeError, match=r"xray\.b may not travel"):
        prepare(update(1, 0.5), {"text": 1}, plan, terms)
    for weights in ({"text": 0, "xray": 1}, {"text": 5, "xray": 1}):
        with pytest.raises(ExchangeError, match="weights must be 1 to 4"):
            prepare(update(1, 0.5), weights, plan, terms)


def noisy_plan(**changes: Any) -> Plan:
    # z S = 0.5 x 4 x 1 = 2 on the weighted sum; 5 sites, 1 drop-out, 1 colluder: three shares are counted on.
    return make_plan(24, bound=100.0, noise=DistributedNoise(0.5, 4.0, 5, 1, 1), **changes)


def test_three_honest_shares_give_the_sum_its_whole_noise_whatever_the_weights() -> None:
    plan = noisy_plan()
    terms = make_terms(plan, minimum_contributors=4)
    zero = {t.name: np.zeros(t.shape, np.float32) for t in SPEC.tensors}
    shares = [prepare(zero, {"text": w, "xray": w}, plan, terms).encoded for w in (1, 2, 4)]
    sums = {group: sum(share.words[group] for share in shares) for group in ("text", "xray")}
    for name, values in decode(sums, {"text": 1, "xray": 1}, SPEC, plan.grids).items():
        # The standard deviation of 8,000 and 12,000 numbers is known to 0.8 %; five times that.
        assert values.astype(float).std() == pytest.approx(2.0, rel=0.04), name
        assert abs(values.astype(float).mean()) < 5 * 2.0 / values.size**0.5
    # One share alone has a third of the variance, and no two sites or tensors the same noise.
    one = decode(shares[0].words, {"text": 1, "xray": 1}, SPEC, plan.grids)
    assert one["xray.b"].astype(float).std() == pytest.approx(2.0 / 3**0.5, rel=0.04)
    again = prepare(zero, {"text": 1, "xray": 1}, plan, terms).encoded
    assert np.count_nonzero(again.words["text"] == shares[0].words["text"]) < 10


def test_noise_that_the_grid_cannot_carry_is_refused() -> None:
    zero = {t.name: np.zeros(t.shape, np.float32) for t in SPEC.tensors}
    for bits, bound, sentence in ((24, 5.0, "the grid ends at 5"), (8, 100.0, "spans less than 4 steps")):
        plan = make_plan(bits, bound=bound, noise=DistributedNoise(0.5, 4.0, 5, 1, 1))
        with pytest.raises(ConfigError, match=sentence):
            prepare(zero, {"text": 1, "xray": 1}, plan, make_terms(plan, minimum_contributors=4))


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"minimum_contributors": 3}, "minimum_contributors 3: the noise counts on 4"),
        ({"minimum_contributors": 4, "colluders": 2}, "colluders 2: the noise reckons with 1"),
        ({"minimum_contributors": 4, "max_weight": 5}, "moves the sum by up to 5"),
    ],
)
def test_terms_under_which_the_sum_could_lack_noise_are_refused(change: dict[str, Any], sentence: str) -> None:
    with pytest.raises(ConfigError, match=sentence):
        make_terms(noisy_plan(), **change)
    # A site checks the terms itself, too.
    plan = noisy_plan()
    terms = replace(make_terms(make_plan()), **change)
    with pytest.raises(ConfigError, match=sentence):
        prepare(update(1, 0.5), {"text": 1, "xray": 1}, plan, terms)


def test_share_of_the_noise() -> None:
    noise = DistributedNoise(noise_multiplier=2.0, sensitivity=3.0, sites=10, dropouts=2, colluders=4)
    assert (noise.honest, noise.minimum_contributors) == (4, 8)
    assert noise.share_std == pytest.approx(2.0 * 3.0 / 2.0)
    text = guarantee(noise)
    assert "multiplier 2" in text
    assert "8 of 10 sites" in text
    assert "Not a guarantee for patients" in text
    assert "epsilon" not in text


@pytest.mark.parametrize(
    ("noise", "sentence"),
    [
        (DistributedNoise(0.0, 1.0, 5, 1), "noise_multiplier 0"),
        (DistributedNoise(1.0, float("inf"), 5, 1), "sensitivity inf"),
        (DistributedNoise(1.0, 1.0, 5, -1), "must not be negative"),
        (DistributedNoise(1.0, 1.0, 5, 3, 2), "nobody is left"),
    ],
)
def test_noise_without_a_guarantee_is_refused(noise: DistributedNoise, sentence: str) -> None:
    with pytest.raises(ConfigError, match=sentence):
        check_distributed_noise(noise)
    with pytest.raises(ConfigError, match=sentence):
        make_terms(make_plan(noise=noise))


def test_plans_without_grids_or_norm_are_refused() -> None:
    with pytest.raises(ConfigError, match="0 grids for the 2 tensors"):
        check_plan(make_plan(grids={}))
    with pytest.raises(ConfigError, match="clip_norm 0"):
        check_plan(make_plan(clip_norm=0.0))


def test_the_agreement_covers_all_public_settings() -> None:
    plans = [
        make_plan(), make_plan(bits=16), make_plan(clip_norm=2.0), noisy_plan(),
        make_plan(24, bound=100.0), make_plan(24, bound=100.0, noise=DistributedNoise(0.6, 4.0, 5, 1, 1)),
    ]  # fmt: skip
    assert len({plan.agreement("f") for plan in plans} | {make_plan().agreement("g")}) == 7
    assert make_plan().agreement("f") == make_plan().agreement("f")


def test_terms_follow_from_the_plan() -> None:
    terms = make_terms(make_plan(bits=16))
    assert (terms.words, terms.largest, terms.threshold) == ({"text": 12_000, "xray": 8_000}, 32_767, 4)
    with pytest.raises(ConfigError, match="could overflow"):
        make_terms(make_plan(bits=32), word_bits=32)
