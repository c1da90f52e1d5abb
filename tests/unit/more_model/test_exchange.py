"""What may travel: the specification refuses everything else, and messages survive the way through flat facts."""

from __future__ import annotations

import json
import math
from typing import Any

import numpy as np
import pytest

from more_model.errors import ExchangeError
from more_model.exchange import ExchangeSpec, Fingerprint, Instruction, TensorDict, TensorSpec, Update

SPEC = ExchangeSpec(
    (
        TensorSpec("xray.b", (2, 3), "xray"),
        TensorSpec("ecg.b", (4,), "ecg"),
        TensorSpec("text.b", (1, 2), "text"),
        TensorSpec("log_temperature", (1,), "shared"),
    )
)


def fitting() -> TensorDict:
    return {tensor.name: np.ones(tensor.shape, np.float32) for tensor in SPEC.tensors}


def instruction() -> Instruction:
    parts = Fingerprint({"base weights": "aa", "tokenizer": "bb"})
    return Instruction(3, 10, fitting(), '{"batch_size": 8}', 2**62, SPEC.digest(), parts)


def update() -> Update:
    return Update(
        site="Klinik Süd",
        round=3,
        deltas=fitting(),
        weights={"xray": 12.0, "text": 30.5},
        spec_digest=SPEC.digest(),
        fingerprint_digest="cc",
        counts={"steps": 4, "loss": 0.1 + 0.2},
    )


def test_exactly_the_listed_tensors_pass() -> None:
    SPEC.check(fitting())
    SPEC.check(dict(reversed(fitting().items())))


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        ({"xray.pixels": np.zeros(3, np.float32)}, "xray.pixels may not travel"),
        ({"ecg.b": None}, "ecg.b is missing"),
        ({"xray.b": np.zeros((3, 2), np.float32)}, r"xray.b has shape \[3, 2\], not \[2, 3\]"),
        ({"ecg.b": np.array([1, math.nan, 1, 1], np.float32)}, "ecg.b holds NaN or infinite values"),
        ({"ecg.b": np.array([1, 1, math.inf, 1], np.float32)}, "ecg.b holds NaN or infinite values"),
        ({"ecg.b": np.ones(4, np.float64)}, "ecg.b is float64, not float32"),
        ({"ecg.b": np.ones(4, ">f4")}, "ecg.b is >f4, not float32"),
        ({"ecg.b": [1.0, 1.0, 1.0, 1.0]}, "ecg.b is list, not float32"),
        ({"log_temperature": np.float32(1)}, "log_temperature is float32, not float32|has shape"),
    ],
    ids=["extra", "missing", "shape", "nan", "infinite", "float64", "byte order", "list", "scalar"],
)
def test_anything_else_is_refused(change: dict[str, Any], complaint: str) -> None:
    tensors: dict[str, Any] = {**fitting(), **change}
    with pytest.raises(ExchangeError, match=complaint):
        SPEC.check({name: array for name, array in tensors.items() if array is not None})


def test_several_faults_are_told_together_and_a_flood_is_counted() -> None:
    with pytest.raises(ExchangeError) as caught:
        SPEC.check({**fitting(), "extra": np.zeros(1, np.float32), "ecg.b": np.ones(4, np.float64)})
    assert "extra may not travel; ecg.b is float64" in caught.value.cause
    flood = {f"extra{number:02d}": np.zeros(1, np.float32) for number in range(30)}
    with pytest.raises(ExchangeError, match="extra04 may not travel; and 25 more"):
        SPEC.check({**fitting(), **flood})


def test_a_site_sends_only_the_groups_that_it_trained() -> None:
    tensors = fitting()
    only = {name: tensors[name] for name in ("xray.b", "text.b")}
    SPEC.check(only, ["xray", "text"])
    with pytest.raises(ExchangeError, match=r"ecg\.b is missing; log_temperature is missing"):
        SPEC.check(only)
    with pytest.raises(ExchangeError, match=r"text\.b may not travel"):
        SPEC.check(only, ["xray"])


def test_bytes() -> None:
    assert [tensor.nbytes for tensor in SPEC.tensors] == [24, 16, 8, 4]
    assert SPEC.nbytes == 52
    assert ExchangeSpec(()).nbytes == 0


@pytest.mark.parametrize(
    "other",
    [
        (TensorSpec("xray.c", (2, 3), "xray"), *SPEC.tensors[1:]),
        (TensorSpec("xray.b", (3, 2), "xray"), *SPEC.tensors[1:]),
        (TensorSpec("xray.b", (2, 3), "shared"), *SPEC.tensors[1:]),
        SPEC.tensors[1:],
        SPEC.tensors[::-1],
        (TensorSpec("xray.b", (2, 3), "xray", up="odd"), *SPEC.tensors[1:]),
    ],
    ids=["name", "shape", "group", "fewer", "order", "rounds"],
)
def test_digest_sees_every_change(other: tuple[TensorSpec, ...]) -> None:
    assert ExchangeSpec(SPEC.tensors).digest() == SPEC.digest()
    assert ExchangeSpec(other).digest() != SPEC.digest()


def test_what_goes_up_follows_from_the_number_of_the_round_and_nothing_else_is_accepted() -> None:
    rounds = ("every", "odd", "even", "none")
    spec = ExchangeSpec(tuple(TensorSpec(f"xray.{up}", (2,), "xray", up=up) for up in rounds))
    for number, turn in {1: "odd", 2: "even", 3: "odd", 10: "even"}.items():
        upward = spec.upward(number)
        assert [tensor.name for tensor in upward.tensors] == ["xray.every", f"xray.{turn}"]
        assert upward.nbytes == 16
    everything = {tensor.name: np.zeros(2, np.float32) for tensor in spec.tensors}
    spec.check(everything)
    with pytest.raises(ExchangeError, match=r"xray\.even may not travel; xray\.none may not travel"):
        spec.upward(1).check(everything)
    with pytest.raises(ExchangeError, match=r"xray\.even is missing"):
        spec.upward(2).check({"xray.every": everything["xray.every"]})
    assert spec.upward(1).digest() == spec.upward(3).digest() != spec.upward(2).digest()


def test_fingerprint_names_the_part_that_differs() -> None:
    here = Fingerprint({"base weights": "aa", "tokenizer": "bb", "LoRA method": "ffa"})
    here.require_same(Fingerprint(dict(reversed(list(here.parts.items())))))
    assert here.digest() == Fingerprint(dict(reversed(list(here.parts.items())))).digest()
    with pytest.raises(ExchangeError, match="federation's: tokenizer differ"):
        here.require_same(Fingerprint({**here.parts, "tokenizer": "xx"}))
    with pytest.raises(ExchangeError, match="federation's: LoRA method, base weights, preprocessing differ"):
        here.require_same(Fingerprint({"base weights": "xx", "tokenizer": "bb", "preprocessing": "pp"}))
    assert here.digest() != Fingerprint({**here.parts, "tokenizer": "xx"}).digest()


def test_instruction_through_flat_facts() -> None:
    sent = instruction()
    facts = sent.facts()
    assert all(type(value) in (int, float, str) for value in facts.values())
    received = Instruction.from_parts(json.loads(json.dumps(facts)), sent.tensors)
    assert received == sent
    assert received.fingerprint.digest() == sent.fingerprint.digest()


def test_update_through_flat_facts() -> None:
    sent = update()
    facts = sent.facts()
    assert all(type(value) in (int, float, str) for value in facts.values())
    assert Update.from_parts(json.loads(json.dumps(facts)), sent.deltas) == sent


@pytest.mark.parametrize(
    "change",
    [
        {"round": None},
        {"round": "third"},
        {"round": math.inf},
        {"seed": [1]},
        {"fingerprint": "not json"},
        {"fingerprint": "[1, 2]"},
        {"fingerprint": None},
    ],
    ids=str,
)
def test_malformed_instruction(change: dict[str, Any]) -> None:
    facts: dict[str, Any] = {**instruction().facts(), **change}
    with pytest.raises(ExchangeError, match="malformed instruction"):
        Instruction.from_parts({key: value for key, value in facts.items() if value is not None}, fitting())


@pytest.mark.parametrize(
    "change",
    [
        {"site": None},
        {"round": -math.inf},
        {"weights": "[3]"},
        {"weights": '{"xray": "many"}'},
        {"weights": '{"xray": null}'},
        {"counts": "{"},
        {"counts": "7"},
    ],
    ids=str,
)
def test_malformed_update(change: dict[str, Any]) -> None:
    facts: dict[str, Any] = {**update().facts(), **change}
    with pytest.raises(ExchangeError, match="malformed update"):
        Update.from_parts({key: value for key, value in facts.items() if value is not None}, fitting())
