"""The relay alone: what it loads, and what it makes of strange daemons."""

from __future__ import annotations

import socket
import struct
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from flwr.app import ConfigRecord, Message, RecordDict

from client.flower_messages import tensors_record
from client.flower_relay import Patience, build_relay
from client.wire import BUNDLE_FACT, Frame, Limits, receive, send
from more_model.exchange import FACTS_RECORD, SUM_ACTION
from simulation.flower_inprocess import InProcessGrid

Reply = Callable[[socket.socket], None]
BUNDLE = "b0" * 32
LOADED = """
import sys, client.flower_relay
heavy = {"torch", "transformers", "timm", "peft", "pandas", "scipy", "sklearn"}
print(*sorted(heavy & {name.split(".")[0] for name in sys.modules}))
print(*sorted(name for name in sys.modules if name.split(".")[0] in ("client", "more_model", "privacy")))
"""


def test_the_relay_loads_neither_torch_nor_the_model_nor_anything_that_reads_data() -> None:
    done = subprocess.run([sys.executable, "-P", "-c", LOADED], capture_output=True, text=True, check=True)
    heavy, ours = done.stdout.split("\n")[:2]
    assert heavy == ""
    expected = {
        "client.flower_messages",
        "client.flower_relay",
        "client.wire",
        "more_model.errors",
        "more_model.packed",
    }
    assert set(ours.split()) == {"client", "more_model", "more_model.exchange"} | expected


@pytest.fixture
def standing_in(tmp_path: Path) -> Iterator[Callable[..., list[Frame]]]:
    """``standing_in(reply, ...)``: a daemon that treats its first connections like this; what it was asked."""
    listening = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    listening.bind(str(tmp_path / "d.sock"))
    listening.listen()
    threads: list[threading.Thread] = []

    def start(*replies: Reply) -> list[Frame]:
        asked: list[Frame] = []

        def serve() -> None:
            for reply in replies:
                connection, _ = listening.accept()
                with connection:
                    asked.append(receive(connection, Limits()))
                    reply(connection)

        threads.append(threading.Thread(target=serve, daemon=True))
        threads[-1].start()
        return asked

    yield start
    for thread in threads:
        thread.join(10)
    listening.close()


def asked_through_the_relay(path: Path, kind: str, content: RecordDict) -> dict[str, object]:
    quick = Patience(gone_s=5.0, who_s=5.0, pause_s=0.01)
    grid = InProcessGrid(build_relay(lambda _context: path / "d.sock", BUNDLE, quick), 1)
    (node,) = grid.get_node_ids()
    (reply,) = grid.send_and_receive([Message(content, dst_node_id=node, message_type=kind, ttl=30.0)])
    assert not reply.has_error()
    return dict(reply.content[FACTS_RECORD])


def gone(connection: socket.socket) -> None:
    """It ends without a word, as a killed one does."""


def answered(frame: Frame) -> Reply:
    return lambda connection: send(connection, frame)


def test_a_daemon_that_ends_without_a_word_is_asked_the_same_again(
    tmp_path: Path, standing_in: Callable[..., list[Frame]]
) -> None:
    asked = standing_in(gone, gone, answered(Frame("refusal", {"refusal": "paused", "site": "north"})))
    content = tensors_record({"0": np.arange(4, dtype=np.float32)}, {"round": 2})
    assert asked_through_the_relay(tmp_path, "train", content) == {"refusal": "paused", "site": "north"}
    assert [frame.kind for frame in asked] == ["train"] * 3
    assert all(frame.facts == {"round": 2, BUNDLE_FACT: BUNDLE} for frame in asked)
    assert all(np.array_equal(frame.arrays["0"], np.arange(4)) for frame in asked)


@pytest.mark.parametrize(
    ("reply", "code"),
    [
        (answered(Frame("malformed")), "daemon-did-not-understand"),
        (lambda connection: connection.sendall(struct.pack(">4sHIQ", b"MORE", 9, 0, 0)), "wire-versions-differ"),
        (lambda connection: connection.sendall(b"HTTP/1.1 400 Bad Request\r\n"), "daemon-did-not-understand"),
    ],
)
def test_a_daemon_that_cannot_be_understood_is_not_asked_again(
    tmp_path: Path, standing_in: Callable[..., list[Frame]], reply: Reply, code: str
) -> None:
    asked = standing_in(reply)
    assert asked_through_the_relay(tmp_path, "query", RecordDict()) == {"refusal": code}
    assert [frame.kind for frame in asked] == ["who"]


def test_stages_of_secure_sums_pass_through(tmp_path: Path, standing_in: Callable[..., list[Frame]]) -> None:
    words = {"text": np.arange(3, dtype=np.uint32)}
    asked = standing_in(answered(Frame("sum-stage", {"stage": "mask", "session": "5e"}, words)))
    content = RecordDict({FACTS_RECORD: ConfigRecord({"stage": "mask", "run": "trial"})})
    found = asked_through_the_relay(tmp_path, f"query.{SUM_ACTION}", content)
    assert found == {"stage": "mask", "session": "5e"}
    expected = {"stage": "mask", "run": "trial", BUNDLE_FACT: BUNDLE}
    assert [(frame.kind, dict(frame.facts)) for frame in asked] == [("sum-stage", expected)]


def test_facts_that_do_not_travel_reach_no_daemon(tmp_path: Path) -> None:
    content = RecordDict({FACTS_RECORD: ConfigRecord({"stage": [1, 2]})})
    found = asked_through_the_relay(tmp_path, f"query.{SUM_ACTION}", content)
    assert found == {"refusal": "daemon-did-not-understand"}
