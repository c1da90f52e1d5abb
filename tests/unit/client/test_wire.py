"""Frames between relay and daemon: what goes in comes out, and nothing else is believed or reserved."""

from __future__ import annotations

import json
import socket
import struct
import threading
import tracemalloc
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import save

from client.wire import VERSION, Frame, Limits, OtherVersion, WireError, limits_for, receive, send
from more_model.exchange import ExchangeSpec, TensorSpec

SMALL = Limits(facts=10_000, arrays=100_000)
Pair = tuple[socket.socket, socket.socket]


@pytest.fixture
def pair() -> Iterator[Pair]:
    near, far = socket.socketpair()
    for end in (near, far):
        end.settimeout(10.0)
    with near, far:
        yield near, far


def header(facts: int, arrays: int = 0, *, version: int = VERSION, magic: bytes = b"MORE") -> bytes:
    return struct.pack(">4sHIQ", magic, version, facts, arrays)


def test_a_frame_arrives_as_it_was_sent(pair: Pair) -> None:
    arrays: dict[str, np.ndarray[Any, Any]] = {
        "a": np.linspace(-1, 1, 30_000, dtype=np.float32).reshape(3, 10_000),
        "scalar": np.array(2.5, dtype=np.float32),
        "words": np.arange(5, dtype=np.uint32),
        "long": np.array([2**63], dtype=np.uint64),
        "every second": np.arange(10, dtype=np.float32)[::2],
    }
    sent = Frame("train", {"round": 3, "loss": 0.1 + 0.2, "run": "Übung\n", "big": 2**70}, arrays)
    sender = threading.Thread(target=send, args=(pair[0], sent))
    sender.start()
    found = receive(pair[1], Limits())
    sender.join()
    assert (found.kind, dict(found.facts)) == (sent.kind, dict(sent.facts))
    assert found.arrays.keys() == arrays.keys()
    for name, array in arrays.items():
        assert found.arrays[name].dtype == array.dtype and np.array_equal(found.arrays[name], array)
        assert found.arrays[name].shape == array.shape


@pytest.mark.parametrize("lengths", [(100, 2**30), (2**30, 0), (0xFFFFFFFF, 2**64 - 1)])
def test_an_announced_gigabyte_is_refused_before_anything_is_reserved(pair: Pair, lengths: tuple[int, int]) -> None:
    pair[0].sendall(header(*lengths))
    tracemalloc.start()
    try:
        with pytest.raises(WireError, match=str(max(lengths))):
            receive(pair[1], SMALL)
        assert tracemalloc.get_traced_memory()[1] < 100_000
    finally:
        tracemalloc.stop()


def test_what_is_announced_and_does_not_come_costs_nothing(pair: Pair) -> None:
    pair[0].sendall(header(2**30) + b"{}")
    pair[0].close()
    tracemalloc.start()
    try:
        with pytest.raises(EOFError, match="middle of a frame"):
            receive(pair[1], Limits(facts=2**31))
        assert tracemalloc.get_traced_memory()[1] < 4 * 2**20
    finally:
        tracemalloc.stop()


def facts(content: str) -> bytes:
    return header(len(content.encode())) + content.encode()


@pytest.mark.parametrize(
    ("sent", "match"),
    [
        (header(2, magic=b"HTTP") + b"{}", "is no frame"),
        (facts("{"), "cannot be read"),
        (facts("[" * 9000), "cannot be read"),
        (facts("[]"), "cannot be read"),
        (facts('{"kind": 1, "facts": {}}'), "another form"),
        (facts('{"kind": "train", "facts": []}'), "another form"),
        (facts('{"kind": "train", "facts": {"round": true}}'), "neither a number nor a text"),
        (facts('{"kind": "train", "facts": {"round": {"a": 1}}}'), "neither a number nor a text"),
        (facts('{"kind": "train", "facts": {"loss": NaN}}'), "cannot be read"),
        (facts('{"kind": "train", "facts": {"loss": 1e999}}'), "neither a number nor a text"),
        (header(27, 9) + b'{"kind": "who", "facts": {}}'[:27] + b"x" * 9, "cannot be read"),
    ],
)
def test_malformed_frames_are_refused(pair: Pair, sent: bytes, match: str) -> None:
    pair[0].sendall(sent)
    with pytest.raises(WireError, match=match):
        receive(pair[1], SMALL)


@pytest.mark.parametrize("array", [np.zeros(3), np.zeros(3, dtype=np.int64), np.zeros(3, dtype=np.float16)])
def test_only_tensors_and_words_travel(pair: Pair, array: np.ndarray[Any, Any]) -> None:
    with pytest.raises(WireError, match="does not travel"):
        send(pair[0], Frame("train", {}, {"a": array}))
    text, arrays = json.dumps({"kind": "train", "facts": {}}).encode(), save({"a": array})
    pair[0].sendall(header(len(text), len(arrays)) + text + arrays)
    with pytest.raises(WireError, match="does not travel"):
        receive(pair[1], SMALL)


def test_arrays_that_are_no_safetensors(pair: Pair) -> None:
    text = json.dumps({"kind": "train", "facts": {}}).encode()
    pair[0].sendall(header(len(text), 12) + text + b"\x80\x04pickle....")
    with pytest.raises(WireError, match="arrays of a frame cannot be read"):
        receive(pair[1], SMALL)


@pytest.mark.parametrize("value", [True, None, [1], float("nan"), b"bytes"])
def test_facts_that_do_not_travel_are_not_sent(pair: Pair, value: Any) -> None:
    with pytest.raises(WireError, match="does not travel"):
        send(pair[0], Frame("train", {"a": value}))


def test_another_version_says_what_to_do(pair: Pair) -> None:
    pair[0].sendall(header(2, version=VERSION + 1) + b"{}")
    with pytest.raises(OtherVersion, match="start both again"):
        receive(pair[1], SMALL)


def test_a_question_fits_its_limits_exactly_as_its_tensors_do() -> None:
    spec = ExchangeSpec(tuple(TensorSpec(f"text.layer.{n}", (50, 4), "text") for n in range(40)))
    tensors = {tensor.name: np.ones(tensor.shape, np.float32) for tensor in spec.tensors}
    limit = limits_for(spec).arrays
    assert len(save(tensors)) <= limit
    assert len(save({**tensors, "patients": np.ones(8000, np.float32)})) > limit
