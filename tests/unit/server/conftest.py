"""A small exchange specification, and updates for it, without torch and without messages."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
import pytest

from more_model.exchange import ExchangeSpec, Fingerprint, TensorDict, TensorSpec, Update

MakeUpdate = Callable[..., Update]


@pytest.fixture
def spec() -> ExchangeSpec:
    """Two tensors of the ECG tower, one of each other group; no A factor, so every method takes it."""
    return ExchangeSpec(
        (
            TensorSpec("xray.qkv.lora_B.default.weight", (3, 2), "xray"),
            TensorSpec("ecg.qkv.lora_B.default.weight", (4, 2), "ecg"),
            TensorSpec("ecg.head.0.weight", (2, 3), "ecg"),
            TensorSpec("text.query.lora_B.default.weight", (2, 2), "text"),
            TensorSpec("log_temperature", (1,), "shared"),
        )
    )


@pytest.fixture
def fingerprint() -> Fingerprint:
    """Any base."""
    return Fingerprint({"architecture": "a1", "base weights": "b2"})


@pytest.fixture
def current(spec: ExchangeSpec) -> TensorDict:
    """Global tensors that are not zero anywhere."""
    generator = np.random.default_rng(99)
    return {t.name: generator.normal(size=t.shape).astype(np.float32) for t in spec.tensors}


@pytest.fixture
def make_update(spec: ExchangeSpec, fingerprint: Fingerprint) -> MakeUpdate:
    """``make_update(site, weights, seed=..., **changes)``: an admissible update of round 1, then changed."""

    def make(site: str, weights: Mapping[str, float] | None = None, *, seed: int = 0, **changes: object) -> Update:
        given = {"xray": 5.0, "ecg": 3.0, "text": 6.0, "shared": 6.0} if weights is None else dict(weights)
        generator = np.random.default_rng(seed)
        trained = spec.of_towers([tower for tower, weight in given.items() if weight > 0])
        parts: dict[str, object] = {
            "site": site,
            "round": 1,
            "deltas": {t.name: generator.normal(size=t.shape).astype(np.float32) for t in trained},
            "weights": given,
            "spec_digest": spec.digest(),
            "fingerprint_digest": fingerprint.digest(),
            "counts": {"loss": 1.5, "steps": 4.0},
        }
        return Update(**{**parts, **changes})  # type: ignore[arg-type]

    return make
