"""Daemons as processes, reached as in a hospital: by the relay over Flower's messages, and by a service manager."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from client.daemon.serve import serve
from client.flower_relay import Patience, build_relay
from client.hospital import Hospital
from client.records.verify import verify
from client.site_file import load_site_file
from more_model.errors import StoreError
from more_model.exchange import Instruction, Refusal, Update
from server.flower_grid import GridTransport, sent_once
from simulation.flower_federation import client_app, train_over_grid
from simulation.flower_inprocess import InProcessGrid, partition_of

if TYPE_CHECKING:
    from simulation.workbench import Workbench

#: As many as take seconds.
EPOCHS = 60


def test_three_daemons_train_to_the_same_bits_as_hospitals_in_one_process(
    miniature_bench: Workbench, new_site: Callable[..., Any], bundle: str, tmp_path: Path
) -> None:
    sites = [new_site(name) for name in miniature_bench.sites]
    for site in sites:
        site.launch()
    for site in sites:
        site.up()
    relay = build_relay(lambda context: sites[partition_of(context)].socket, bundle)
    over_sockets = replace(miniature_bench, folder=tmp_path / "sockets")
    seed = miniature_bench.config.seed
    trained, records = train_over_grid(over_sockets, InProcessGrid(relay, 3), "federated", seed)
    assert {part.state for record in records for part in record.sites} == {"accepted"}, [site.log for site in sites]

    alone = replace(miniature_bench, folder=tmp_path / "alone")
    expected, _ = train_over_grid(alone, InProcessGrid(client_app(alone), 3), "federated", seed)
    found, wanted = trained.model.state_dict(), expected.model.state_dict()
    assert all(bool((found[name] == wanted[name]).all()) for name in wanted)
    for site in sites:
        assert [e.content["message"] for e in site.audit("released")] == ["site-name", "update", "update"]
        assert site.stop() == 0
        assert site.audit("stopped")[-1].content == {"finished": True}


def same(one: Mapping[str, Any], other: Mapping[str, Any]) -> bool:
    return one.keys() == other.keys() and all(np.array_equal(one[name], other[name]) for name in one)


def told(channel: socket.socket) -> list[str]:
    """What a service manager has heard so far."""
    lines = []
    while True:
        try:
            lines += channel.recv(4096).decode().split("\n")
        except BlockingIOError:
            return lines


def test_a_daemon_that_is_killed_while_it_trains_gives_the_same_update_when_it_is_back(
    miniature_bench: Workbench,
    new_site: Callable[..., Any],
    instruct: Callable[..., Instruction],
    wait_for: Callable[..., None],
    bundle: str,
    tmp_path: Path,
) -> None:
    site = new_site("site-1", local_epochs=EPOCHS)
    manager = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    manager.bind(str(site.folder / "notify"))
    manager.setblocking(False)
    site.environment = {"NOTIFY_SOCKET": str(site.folder / "notify"), "WATCHDOG_USEC": "300000"}
    site.start()
    wait_for(lambda: "READY=1" in told(manager), "word to the service manager that the daemon is ready")
    grid = InProcessGrid(build_relay(lambda _context: site.socket, bundle), 1)
    transport = GridTransport(sent_once(grid, {"site-1": next(iter(grid.get_node_ids()))}))
    answers: list[Mapping[str, Any]] = []
    asking = threading.Thread(
        target=lambda: answers.append(transport.exchange({"site-1": instruct()}, timeout_s=120.0))
    )
    asking.start()
    wait_for(lambda: site.status()["activity"] is not None, "training that has begun")
    told(manager)
    time.sleep(1.0)
    status = site.status()
    assert status["activity"]["kind"] == "train", "it should still train; raise EPOCHS"
    assert status["heartbeat_age_s"] < 1.0 and told(manager).count("WATCHDOG=1") >= 3
    site.kill()
    assert site.audit("agreed") and not site.audit("released")
    site.start()
    asking.join(120)
    (answer,) = answers
    bench, parts = miniature_bench, miniature_bench.assembled()
    examples, words = bench.training_examples("site-1"), bench.scorer
    expected = Hospital("site-1", examples, parts, words.tokenizer, words.max_tokens, EPOCHS).answer(instruct())
    found = answer["site-1"]
    assert isinstance(found, Update) and isinstance(expected, Update), (found, site.log)
    assert same(found.deltas, expected.deltas) and found.counts == expected.counts
    # Its queue is short: what it does not fetch in time, it does not hear.
    told(manager)
    assert site.stop() == 0
    assert told(manager)[-1] == "STOPPING=1"
    manager.close()
    assert verify(site.folder / "records" / "audit.jsonl").whole


def test_a_second_daemon_of_a_site_ends_before_it_touches_a_socket(
    new_site: Callable[..., Any], here: Callable[..., Any]
) -> None:
    site = new_site("site-1")
    with here(site) as daemon:
        with pytest.raises(StoreError, match="Another process is writing to the audit log"):
            serve(load_site_file(site.site_file))
        assert daemon.ask("who").kind == "site-name"


def test_a_relay_without_a_daemon_says_so(tmp_path: Path, bundle: str, instruct: Callable[..., Instruction]) -> None:
    quick = Patience(gone_s=0.3, who_s=0.3, pause_s=0.05)
    grid = InProcessGrid(build_relay(lambda _context: tmp_path / "nothing.sock", bundle, quick), 1)
    transport = GridTransport(sent_once(grid, {"site-1": next(iter(grid.get_node_ids()))}))
    assert transport.exchange({"site-1": instruct(2)}, timeout_s=30.0) == {
        "site-1": Refusal("site-1", 2, "daemon-unreachable")
    }
