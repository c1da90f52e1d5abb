"""The rounds of the LoRA factors, by name of the tensor."""

from __future__ import annotations

import pytest

from more_model.errors import ConfigError
from more_model.exchange import ExchangeSpec, TensorSpec
from more_model.lora_method import FACTOR_ROUNDS, factor_of, fault_of_round_count, scheduled, up_rounds

A, B = "text.layer.0.query.lora_A.default.weight", "text.layer.0.query.lora_B.default.weight"


def test_factors_are_known_by_name() -> None:
    assert [factor_of(name) for name in (A, B, "text.head.0.weight", "text.q.lora_residual")] == ["A", "B", None, None]


@pytest.mark.parametrize(
    ("method", "a", "b"),
    [
        ("fedit", "every", "every"),
        ("ffa", None, "every"),
        ("rolora", "even", "odd"),
        ("fedsvd", "none", "every"),
        ("flexlora", "every", "every"),
        ("fedex", "every", "every"),
    ],
)
def test_rounds_of_every_method(method: str, a: str | None, b: str) -> None:
    assert (up_rounds(A, method), up_rounds(B, method)) == (a, b)
    assert up_rounds("text.head.0.weight", method) == "every"
    assert up_rounds("text.q.lora_residual", method) == ("none" if method == "fedex" else None)


def test_a_schedule_changes_nothing_but_the_rounds_and_refuses_what_must_not_travel() -> None:
    spec = ExchangeSpec((TensorSpec(A, (2, 6), "text"), TensorSpec(B, (6, 2), "text")))
    assert [(t.name, t.shape, t.tower, t.up) for t in scheduled(spec, "rolora").tensors] == [
        (A, (2, 6), "text", "even"),
        (B, (6, 2), "text", "odd"),
    ]
    assert scheduled(spec, "fedit").digest() == spec.digest()
    assert len({scheduled(spec, method).digest() for method in ("fedit", "rolora", "fedsvd")}) == 3
    with pytest.raises(ConfigError, match=r"lora_A\.default\.weight must not travel"):
        scheduled(spec, "ffa")


def test_rolora_needs_an_even_number_of_rounds_and_the_others_do_not() -> None:
    assert "3 rounds are not an even number" in str(fault_of_round_count("rolora", 3))
    assert fault_of_round_count("rolora", 4) is None
    assert all(fault_of_round_count(method, 3) is None for method in FACTOR_ROUNDS if method != "rolora")


def test_unknown_methods_are_refused() -> None:
    with pytest.raises(ConfigError, match="'flora' is unknown"):
        fault_of_round_count("flora", 2)
