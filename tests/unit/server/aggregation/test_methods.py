"""The table of methods: what each refuses, and which may run with differential privacy."""

from __future__ import annotations

from typing import get_args

import pytest

from more_model.errors import ConfigError
from more_model.exchange import ExchangeSpec, TensorSpec
from more_model.lora_method import FACTOR_ROUNDS, LoraMethod, scheduled
from privacy.secure_sum.compatibility import AGGREGATIONS as JUDGED
from server.aggregation.methods import AGGREGATIONS, aggregation

A = TensorSpec("text.q.lora_A.default.weight", (2, 6), "text")
B = TensorSpec("text.q.lora_B.default.weight", (6, 2), "text")
RESIDUAL = TensorSpec("text.q.lora_residual", (6, 6), "text", up="none")


def spec_for(method: str) -> ExchangeSpec:
    rounds = FACTOR_ROUNDS[method]
    tensors = [A] * (rounds.a is not None) + [B] + [RESIDUAL] * rounds.residual
    return scheduled(ExchangeSpec(tuple(tensors)), method)


@pytest.mark.parametrize("method", sorted(AGGREGATIONS))
def test_every_method_takes_its_own_specification_and_one_without_adapters(method: str) -> None:
    aggregation(method).check(spec_for(method), 4)
    aggregation(method).check(ExchangeSpec((TensorSpec("text.head.0.weight", (2, 2), "text"),)), 4)


def test_ffa_refuses_a_factors_that_would_travel() -> None:
    with pytest.raises(ConfigError, match=r"1 tensors must not travel with this method \(text\.q\.lora_A"):
        aggregation("ffa").check(ExchangeSpec((A, B)), 2)


@pytest.mark.parametrize(
    ("method", "spec", "fault"),
    [
        ("fedsvd", ExchangeSpec((A, B)), r"lora_A\.default\.weight goes up in rounds 'every', not 'none'"),
        ("rolora", spec_for("fedsvd"), r"lora_A\.default\.weight goes up in rounds 'none', not 'even'"),
        ("rolora", spec_for("fedit"), r"lora_B\.default\.weight goes up in rounds 'every', not 'odd'"),
        ("fedit", spec_for("rolora"), r"lora_B\.default\.weight goes up in rounds 'odd', not 'every'"),
        ("fedsvd", ExchangeSpec((B,)), r"lora_A\.default\.weight is missing"),
        ("flexlora", ExchangeSpec((B,)), r"lora_A\.default\.weight is missing"),
        ("fedex", spec_for("fedit"), r"text\.q\.lora_residual is missing"),
        ("fedit", spec_for("fedex"), r"1 tensors must not travel with this method \(text\.q\.lora_residual"),
    ],
)
def test_the_rounds_of_another_method_are_refused(method: str, spec: ExchangeSpec, fault: str) -> None:
    with pytest.raises(ConfigError, match=fault):
        aggregation(method).check(spec, 4)


def test_rolora_needs_whole_turns() -> None:
    with pytest.raises(ConfigError, match=r"A in even ones: 3 rounds are not an even number"):
        aggregation("rolora").check(spec_for("rolora"), 3)
    aggregation("fedsvd").check(spec_for("fedsvd"), 3)


def test_every_method_of_the_model_can_be_aggregated_and_no_other() -> None:
    assert set(AGGREGATIONS) == set(get_args(LoraMethod)) == set(FACTOR_ROUNDS)
    assert all(name == method.name for name, method in AGGREGATIONS.items())


@pytest.mark.parametrize("name", [*sorted(JUDGED.keys() - AGGREGATIONS.keys()), "surplus"])
def test_a_method_that_is_only_spoken_of_is_unknown(name: str) -> None:
    with pytest.raises(ConfigError, match=rf"'{name}' is unknown; there are fedex, fedit, fedsvd, ffa,"):
        aggregation(name)


def test_differential_privacy_is_allowed_warned_of_or_refused() -> None:
    standing = {name: method.under_dp for name, method in AGGREGATIONS.items()}
    assert standing == {
        "ffa": "allowed", "fedsvd": "allowed", "rolora": "allowed", "fedit": "warned",
        "flexlora": "refused", "fedex": "refused",
    }  # fmt: skip
    assert "the noise of B times that of A" in aggregation("fedit").dp_note
    assert all(bool(method.dp_note) == (method.under_dp != "allowed") for method in AGGREGATIONS.values())
    assert all(method.under_dp == "refused" for method in AGGREGATIONS.values() if not method.linear)
