"""Every reason to keep an update out, one at a time."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from more_model.exchange import ExchangeSpec, Fingerprint, TensorDict, Update
from server.admission import fault_of, towers_of, update_norm

Admit = Callable[..., str | None]


@pytest.fixture
def fault(spec: ExchangeSpec, fingerprint: Fingerprint) -> Admit:
    def admit(update: Update, *, site: str = "north", max_norm: float | None = None) -> str | None:
        return fault_of(update, site=site, round_number=1, spec=spec, fingerprint=fingerprint, max_norm=max_norm)

    return admit


def changed(update: Update, name: str, value: Any) -> TensorDict:
    return {**update.deltas, name: value}


def test_a_good_update_is_admitted(fault: Admit, make_update: Callable[..., Update]) -> None:
    assert fault(make_update("north")) is None


def test_only_what_goes_up_in_the_round_is_admitted(
    spec: ExchangeSpec, fingerprint: Fingerprint, make_update: Callable[..., Update]
) -> None:
    first, *others = spec.tensors
    later = ExchangeSpec((replace(first, up="even"), *others))

    def fault(update: Update, number: int) -> str | None:
        own = replace(update, round=number, spec_digest=later.digest())
        return fault_of(own, site="north", round_number=number, spec=later, fingerprint=fingerprint, max_norm=None)

    whole = make_update("north")
    less = replace(whole, deltas={name: delta for name, delta in whole.deltas.items() if name != first.name})
    assert (fault(less, 1), fault(whole, 2)) == (None, None)
    assert f"{first.name} may not travel" in str(fault(whole, 1))
    assert f"{first.name} is missing" in str(fault(less, 2))


def test_a_site_without_ecg_is_admitted_with_the_other_towers(fault: Admit, make_update: Callable[..., Update]) -> None:
    update = make_update("north", {"xray": 4, "ecg": 0, "text": 4, "shared": 4})
    assert towers_of(update) == ["shared", "text", "xray"]
    assert not any(name.startswith("ecg.") for name in update.deltas)
    assert fault(update) is None


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"round": 2}, "it belongs to round 2, not 1"),
        ({"site": "south"}, "it calls itself 'south', but the question went to 'north'"),
        ({"spec_digest": "0" * 64}, "it was made with another exchange specification"),
        ({"fingerprint_digest": "0" * 64}, "it was trained on another base"),
        ({"weights": {}}, "its weights are not positive numbers"),
        ({"weights": {"text": 0.0, "ecg": 0.0}}, "its weights are not positive numbers"),
        ({"weights": {"text": 5.0, "ecg": -1.0}}, "its weights are not positive numbers"),
        ({"weights": {"text": float("nan")}}, "its weights are not positive numbers"),
        ({"weights": {"text": float("inf")}}, "its weights are not positive numbers"),
        ({"weights": {"text": 1e300}}, "its weights are larger than 1e+09"),
        ({"weights": {"surplus": 5.0}, "deltas": {}}, "it has weights of unknown groups"),
        ({"counts": {"loss": float("nan")}}, "its counts are not finite numbers of a plausible size"),
        ({"counts": {"loss": 1e300}}, "its counts are not finite numbers of a plausible size"),
        ({"counts": {"state": 7.0}}, "it reports counts that nobody asked for"),
        ({"counts": {"loss_text": 7.0}}, "it reports counts that nobody asked for"),
        ({"counts": {"loss_xray": float("inf")}}, "its counts are not finite numbers of a plausible size"),
    ],
)
def test_facts_that_keep_an_update_out(
    fault: Admit, make_update: Callable[..., Update], changes: dict[str, Any], reason: str
) -> None:
    assert fault(replace(make_update("north"), **changes)) == reason


@pytest.mark.parametrize(
    ("name", "value", "reason"),
    [
        ("ecg.head.0.weight", np.full((2, 3), np.nan, np.float32), "ecg.head.0.weight holds NaN or infinite values"),
        ("ecg.head.0.weight", np.full((2, 3), -np.inf, np.float32), "ecg.head.0.weight holds NaN or infinite values"),
        ("ecg.head.0.weight", np.zeros((3, 2), np.float32), r"ecg.head.0.weight has shape [3, 2], not [2, 3]"),
        ("ecg.head.0.weight", np.zeros((2, 3), np.float64), "ecg.head.0.weight is float64, not float32"),
        ("patients.embedding", np.zeros((4, 4), np.float32), "patients.embedding may not travel"),
    ],
)
def test_tensors_that_keep_an_update_out(
    fault: Admit, make_update: Callable[..., Update], name: str, value: Any, reason: str
) -> None:
    good = make_update("north")
    assert reason in str(fault(make_update("north", deltas=changed(good, name, value))))


def test_a_missing_tensor_keeps_an_update_out(fault: Admit, make_update: Callable[..., Update]) -> None:
    deltas = dict(make_update("north").deltas)
    del deltas["text.query.lora_B.default.weight"]
    assert "text.query.lora_B.default.weight is missing" in str(fault(make_update("north", deltas=deltas)))


def test_tensors_of_a_tower_that_it_claims_not_to_have_trained_keep_it_out(
    fault: Admit, make_update: Callable[..., Update]
) -> None:
    deltas = make_update("north").deltas
    update = make_update("north", {"xray": 4, "ecg": 0, "text": 4, "shared": 4}, deltas=deltas)
    assert "ecg.head.0.weight may not travel" in str(fault(update))


def test_the_norm_limit_is_over_all_tensors_together(fault: Admit, make_update: Callable[..., Update]) -> None:
    update = make_update("north")
    by_hand = float(np.sqrt(sum((delta.astype(np.float64) ** 2).sum() for delta in update.deltas.values())))
    assert update_norm(update) == pytest.approx(by_hand, rel=1e-12)
    assert fault(update, max_norm=by_hand * 1.001) is None
    assert "exceeds the federation's limit" in str(fault(update, max_norm=by_hand * 0.999))


def test_the_norm_of_huge_values_does_not_overflow(make_update: Callable[..., Update]) -> None:
    update = make_update("north", deltas={"text.w": np.full(4, 3e38, np.float32)})
    assert update_norm(update) == pytest.approx(6e38, rel=1e-6)
