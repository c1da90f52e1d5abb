"""The relay as a process behind a real SuperNode: a run that came with a hostile bundle is passed on, and not run."""

from __future__ import annotations

import hashlib
import runpy
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import tomli_w
from flwr.app import Message
from flwr.cli.build import build_fab_from_files

from client.daemon.sockets import Listener, door_for
from client.flower_messages import tensors_of, tensors_record
from client.flower_supernode import relay_program
from client.wire import BUNDLE_FACT, Frame, Limits
from more_model.supervision import Backoff, Supervised
from server import flower_session
from server.superlink_service import superlink_folder

if TYPE_CHECKING:
    Coordinator = Any

pytestmark = pytest.mark.timeout(240)


@pytest.fixture
def socket_path() -> Iterator[Path]:
    """Short enough for a socket."""
    with tempfile.TemporaryDirectory(prefix="more-") as name:
        yield Path(name) / "d.sock"


@pytest.fixture
def hostile(tmp_path: Path) -> tuple[bytes, Path, Path]:
    """A bundle whose modules leave a marker wherever they are imported, its client module, and the marker."""
    marker, module = tmp_path / "imported", tmp_path / "hospital.py"
    code = f"from pathlib import Path\nPath({str(marker)!r}).write_text('imported')\n"
    module.write_text(code)
    components = {"serverapp": "made_up.coordinator:app", "clientapp": "made_up.hospital:app"}
    project = {
        "project": {"name": "made-up", "version": "1.0.0", "license": "MIT"},
        "tool": {"flwr": {"app": {"publisher": "somebody", "components": components}}},
    }
    names = ("made_up/__init__.py", "made_up/hospital.py", "client/__init__.py", "privacy/__init__.py")
    files = {"pyproject.toml": tomli_w.dumps(project).encode(), **dict.fromkeys(names, code.encode())}
    return build_fab_from_files(dict(files))[0], module, marker


def test_a_question_reaches_the_daemon_with_the_bundles_digest_and_nothing_of_the_bundle_runs(
    coordinator: Coordinator,
    socket_path: Path,
    hostile: tuple[bytes, Path, Path],
    wait_for: Callable[..., None],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    content, module, marker = hostile
    digest = hashlib.sha256(content).hexdigest()
    monkeypatch.setattr(flower_session, "build_bundle", lambda: content)
    monkeypatch.setattr(flower_session, "bundle_digest", lambda: digest)
    asked: list[Frame] = []

    def answer(frame: Frame, _still_wanted: Callable[[], bool]) -> Frame:
        asked.append(frame)
        return Frame("update", {"site": "north"}, {"a": frame.arrays["a"] + 1})

    listener = Listener(door_for(socket_path, ()), Limits(), answer)
    coordinator.node(coordinator.new_site("north"))
    connection = coordinator.connections[-1]
    relay = Supervised(relay_program(connection, socket_path), Backoff(first_s=0.2))
    relay.start()
    session: flower_session.Session | None = None
    try:
        wait_for(lambda: coordinator.status("north") == "online", "north is online")
        federation = coordinator.federation
        session = flower_session.open_session(superlink_folder(federation), federation.listen.superlink_port)
        (node,) = session.grid.get_node_ids()
        for number in (1, 2):
            facts = {"round": number, BUNDLE_FACT: "00" * 32}
            question = tensors_record({"a": np.full(3, number, np.float32)}, facts)
            message = Message(question, dst_node_id=node, message_type="train", ttl=60.0)
            (reply,) = session.grid.send_and_receive([message], timeout=60.0)
            assert not reply.has_error(), relay.last_lines
            assert np.array_equal(tensors_of(reply.content)["a"], np.full(3, number + 1.0))
        threads = Path(f"/proc/{relay.pid}/task").iterdir()
        assert [(thread / "children").read_text() for thread in threads if (thread / "children").read_text()] == []
    finally:
        if session is not None:
            session.close(True)
        relay.stop()
        listener.close()
    assert [(frame.facts["round"], frame.facts[BUNDLE_FACT]) for frame in asked] == [(1, digest), (2, digest)]
    assert relay.starts == 1
    assert not marker.exists() and not list(connection.folder.rglob("*made*up*")), "neither imported nor unpacked"
    runpy.run_path(str(module))
    assert marker.exists(), "it would have been seen"
