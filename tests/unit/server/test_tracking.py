"""The curves of a run as TensorBoard and MLflow get them."""

from __future__ import annotations

import math
import struct
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory
from trees.watched_federation import write_federation

from server.event_file import Scalars, append_scalars, crc32c
from server.status.model import Status, build_status
from server.status.sources import read_sources, watched
from server.tracking import EVENTS, mlflow, scalars, tensorboard, trackers

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
WEEK = timedelta(days=7)


def event_class() -> Any:
    """`tensorflow.Event` with the fields that curves need, as protoc would make it from event.proto."""
    file = descriptor_pb2.FileDescriptorProto(name="event.proto", package="t", syntax="proto3")
    kinds = descriptor_pb2.FieldDescriptorProto
    value = file.message_type.add(name="Value")
    value.field.add(name="tag", number=1, type=kinds.TYPE_STRING, label=1)
    value.field.add(name="simple_value", number=2, type=kinds.TYPE_FLOAT, label=1)
    summary = file.message_type.add(name="Summary")
    summary.field.add(name="value", number=1, type=kinds.TYPE_MESSAGE, label=3, type_name=".t.Value")
    event = file.message_type.add(name="Event")
    event.field.add(name="wall_time", number=1, type=kinds.TYPE_DOUBLE, label=1)
    event.field.add(name="step", number=2, type=kinds.TYPE_INT64, label=1)
    event.field.add(name="file_version", number=3, type=kinds.TYPE_STRING, label=1)
    event.field.add(name="summary", number=5, type=kinds.TYPE_MESSAGE, label=1, type_name=".t.Summary")
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return message_factory.GetMessageClass(pool.FindMessageTypeByName("t.Event"))


def records(path: Path) -> Iterator[bytes]:
    content = path.read_bytes()
    while content:
        (length,) = struct.unpack_from("<Q", content)
        yield content[12 : 12 + length]
        content = content[16 + length :]


def events(path: Path) -> list[Any]:
    kind = event_class()
    return [kind.FromString(record) for record in records(path)]


@pytest.fixture
def status(tmp_path: Path) -> Status:
    return build_status(read_sources(watched(write_federation(tmp_path / "fed", now=NOW))), NOW)


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (b"123456789", 0xE3069283),
        (bytes(32), 0x8A9136AA),
        (b"\xff" * 32, 0x62A8AB43),
        (bytes(range(32)), 0x46DD794E),
        (b"", 0),
    ],
)
def test_checksums_are_those_of_rfc_3720(data: bytes, expected: int) -> None:
    assert crc32c(data) == expected


def test_the_events_are_protocol_buffers_with_every_round(status: Status, tmp_path: Path) -> None:
    tensorboard(tmp_path / "events")(status)
    first, *rounds = events(tmp_path / "events")
    assert first.file_version == "brain.Event:2"
    assert [event.step for event in rounds] == [1, 2, 3]
    assert rounds[0].wall_time == status.closed[0].closed_at.timestamp()
    values = {value.tag: value.simple_value for value in rounds[2].summary.value}
    assert values["loss"] == pytest.approx(4.7)
    assert values["macro_auroc/ci_low"] == pytest.approx(0.68)
    assert (values["sites"], values["bytes_up"]) == (3, 4_000_000)


def test_steps_of_any_size_are_read_back(tmp_path: Path) -> None:
    path = tmp_path / "events"
    steps = [Scalars(step, 1.5, {"a": math.pi}) for step in (0, 1, 127, 128, 20_000, 2**40)]
    assert append_scalars(path, steps[:4]) == 4
    assert append_scalars(path, steps) == 2
    assert [event.step for event in events(path)] == [0, *(each.step for each in steps)]


def test_a_file_that_was_cut_anywhere_is_gone_on_with_to_the_same_bytes(status: Status, tmp_path: Path) -> None:
    steps = list(scalars(status))
    append_scalars(tmp_path / "whole", steps)
    whole = (tmp_path / "whole").read_bytes()
    assert append_scalars(tmp_path / "whole", steps) == 0
    for length in range(0, len(whole) + 1, 7):
        (tmp_path / "cut").write_bytes(whole[:length])
        append_scalars(tmp_path / "cut", steps)
        assert (tmp_path / "cut").read_bytes() == whole, length


class MlflowClient:
    """As much of `mlflow.MlflowClient` as is called, in memory."""

    def __init__(self) -> None:
        self.experiments: list[str] = []
        self.runs: dict[str, dict[str, str]] = {}
        self.metrics: list[tuple[str, str, float, int, int]] = []

    def get_experiment_by_name(self, name: str) -> Any:
        found = name in self.experiments
        return SimpleNamespace(experiment_id=str(self.experiments.index(name))) if found else None

    def create_experiment(self, name: str) -> str:
        self.experiments.append(name)
        return str(len(self.experiments) - 1)

    def search_runs(self, numbers: list[str], filter_string: str) -> list[Any]:
        name = filter_string.split("'")[1]
        assert filter_string == f"tags.`more_fed.run` = '{name}'"
        found = [run for run, tags in self.runs.items() if tags["more_fed.run"] == name]
        return [SimpleNamespace(info=SimpleNamespace(run_id=run)) for run in found]

    def create_run(self, number: str, tags: dict[str, str], run_name: str) -> Any:
        self.runs[f"run-{len(self.runs)}"] = tags
        return SimpleNamespace(info=SimpleNamespace(run_id=f"run-{len(self.runs) - 1}"))

    def get_metric_history(self, run: str, key: str) -> list[Any]:
        return [SimpleNamespace(step=step) for r, k, _, _, step in self.metrics if (r, k) == (run, key)]

    def log_metric(self, run: str, key: str, value: float, timestamp: int, step: int) -> None:
        self.metrics.append((run, key, value, timestamp, step))


def test_mlflow_gets_each_round_once_over_restarts(status: Status) -> None:
    client = MlflowClient()
    later = replace(status, closed=tuple(replace(each, closed_at=each.closed_at + WEEK) for each in status.closed))
    track = mlflow(client, "consortium")
    track(replace(status, closed=()))
    assert client.experiments == []
    track(status)
    track(status)
    mlflow(client, "consortium")(status)
    mlflow(client, "consortium")(later)
    assert client.experiments == ["consortium"]
    assert len(client.runs) == 2
    losses = [(run, step, value) for run, key, value, _, step in client.metrics if key == "loss"]
    assert losses == [(f"run-{n}", step, 5.0 - step / 10) for n in (0, 1) for step in (1, 2, 3)]
    assert client.metrics[0][3] == int(status.closed[0].closed_at.timestamp() * 1000)


def test_nothing_is_sent_anywhere_unless_a_server_is_named(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    assert len(trackers(tmp_path, "x", {})) == 1
    assert caplog.text == ""
    (tmp_path / "a").mkdir()
    status = build_status(read_sources(watched(write_federation(tmp_path / "fed", now=NOW))), NOW + timedelta(days=1))
    (track,) = trackers(tmp_path / "a", "x", {})
    track(status)
    assert [event.step for event in events(tmp_path / "a" / EVENTS)] == [0, 1, 2, 3]
