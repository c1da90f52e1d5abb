"""Who may come through a socket of the daemon, and what becomes of the others."""

from __future__ import annotations

import os
import pwd
import socket
import stat
import tempfile
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from client.daemon.companion import hand_over
from client.daemon.notify import notify, watchdog_period_s
from client.daemon.sockets import Door, Listener, door_for
from client.wire import Frame, Limits, receive, send
from more_model.errors import ConfigError, EnvironmentFault
from more_model.private_file import secret

NOBODY = 65534
LIMITS = Limits(facts=1000, arrays=0)


@pytest.fixture
def folder() -> Iterator[Path]:
    """Short enough for the path of a socket, and open to other users."""
    with tempfile.TemporaryDirectory(prefix="more-") as name:
        Path(name).chmod(0o755)
        yield Path(name)


@contextmanager
def listening(door: Door, handle: Callable[[Frame], Frame] = lambda asked: asked) -> Iterator[Listener]:
    listener = Listener(door, LIMITS, lambda asked, _still_wanted: handle(asked))
    try:
        yield listener
    finally:
        listener.close()


def ask(path: Path, frame: Frame) -> Frame:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
        connection.settimeout(10)
        connection.connect(str(path))
        send(connection, frame)
        return receive(connection, LIMITS)


def test_only_the_users_of_the_door_come_through_whatever_its_mode(folder: Path) -> None:
    others = Door(folder / "d.sock", 0o666, frozenset({os.geteuid() + 1}))
    with listening(others), pytest.raises((EOFError, OSError)):
        ask(others.path, Frame("who"))
    ours = Door(folder / "d.sock", 0o660, frozenset({os.geteuid()}))
    with listening(ours):
        assert ask(ours.path, Frame("who")).kind == "who"
        assert stat.S_IMODE(ours.path.stat().st_mode) == 0o660


@contextmanager
def as_nobody() -> Iterator[None]:
    """This whole process, for a moment: the kernel notes who connects by the user of that moment."""
    groups = os.getgroups()
    os.setgroups([])
    os.setegid(NOBODY)
    os.seteuid(NOBODY)
    try:
        yield
    finally:
        os.seteuid(0)
        os.setegid(0)
        os.setgroups(groups)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user; the test above needs none")
def test_another_user_is_turned_away(folder: Path) -> None:
    door = Door(folder / "d.sock", 0o666, frozenset({0}))
    with listening(door), socket.socket(socket.AF_UNIX) as stranger:
        with as_nobody():
            stranger.connect(str(door.path))
        assert stranger.recv(10) == b""
        door.path.chmod(0o660)
        with as_nobody(), socket.socket(socket.AF_UNIX) as other, pytest.raises(PermissionError):
            other.connect(str(door.path))


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may give a socket to a group that it is not in")
def test_the_relays_user_comes_through_by_the_group_of_the_socket(folder: Path) -> None:
    door = door_for(folder / "d.sock", ["nobody"])
    assert door.users == {0, NOBODY} and door.mode == 0o660
    with listening(door), socket.socket(socket.AF_UNIX) as relay:
        with as_nobody():
            relay.connect(str(door.path))
        send(relay, Frame("who"))
        assert receive(relay, LIMITS).kind == "who"


def test_a_relay_user_that_there_is_not() -> None:
    with pytest.raises(ConfigError, match="no-such-user"):
        door_for(Path("d.sock"), ["no-such-user"])


def test_strangers_and_silent_ones_do_not_keep_others_out(folder: Path) -> None:
    door = Door(folder / "d.sock", 0o660, frozenset({os.geteuid()}))
    with listening(door):
        with socket.socket(socket.AF_UNIX) as silent, socket.socket(socket.AF_UNIX) as rude:
            silent.connect(str(door.path))
            rude.connect(str(door.path))
            rude.sendall(b"GET / HTTP/1.1\r\n\r\n")
            assert ask(door.path, Frame("who")).kind == "who"
            assert receive(rude, LIMITS).kind == "malformed"
        assert ask(door.path, Frame("who", {"a": "x" * 2000})).kind == "malformed", "longer than its limit"
        assert ask(door.path, Frame("who")).kind == "who"


def test_one_who_has_gone_is_noticed_before_anything_long_begins(folder: Path) -> None:
    door, seen, go = Door(folder / "d.sock", 0o660, frozenset({os.geteuid()})), list[bool](), threading.Event()

    def handle(asked: Frame, still_wanted: Callable[[], bool]) -> Frame:
        seen.append(still_wanted())
        assert go.wait(10)
        seen.append(still_wanted())
        go.clear()
        return asked

    listener = Listener(door, LIMITS, handle)
    with socket.socket(socket.AF_UNIX) as leaving:
        leaving.connect(str(door.path))
        send(leaving, Frame("who"))
        while not seen:
            pass
    go.set()
    while go.is_set():
        pass
    listener.close()
    assert seen == [True, False]


def test_what_a_killed_daemon_left_makes_way_and_other_files_do_not(folder: Path) -> None:
    door = Door(folder / "d.sock", 0o660, frozenset({os.geteuid()}))
    left = socket.socket(socket.AF_UNIX)
    left.bind(str(door.path))
    left.close()
    with listening(door):
        assert ask(door.path, Frame("who")).kind == "who"
    assert not door.path.exists()
    door.path.write_text("precious")
    with pytest.raises(ConfigError, match="is no socket"):
        Listener(door, LIMITS, lambda asked, _still_wanted: asked)
    assert door.path.read_text() == "precious"


def test_a_path_that_is_too_long(folder: Path) -> None:
    door = Door(folder / ("d" * 120), 0o660, frozenset())
    with pytest.raises(EnvironmentFault, match="choose a shorter path"):
        Listener(door, LIMITS, lambda asked, _still_wanted: asked)


def test_systemd_hears_and_its_absence_is_no_error(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NOTIFY_SOCKET", raising=False)
    assert not notify("READY=1")
    monkeypatch.setenv("NOTIFY_SOCKET", str(folder / "nobody"))
    assert not notify("READY=1")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind("\0more-fed-test")
        manager.settimeout(5)
        monkeypatch.setenv("NOTIFY_SOCKET", "@more-fed-test")
        assert notify("READY=1", "STATUS=trains")
        assert manager.recv(100) == b"READY=1\nSTATUS=trains"
    monkeypatch.setenv("WATCHDOG_USEC", "3000000")
    assert watchdog_period_s() == 3.0
    monkeypatch.setenv("WATCHDOG_PID", "1")
    assert watchdog_period_s() is None


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may give a file to another user's group")
def test_the_relays_user_finds_the_secret_beside_the_socket_and_nobody_else_does(folder: Path) -> None:
    made = secret(folder / "supernode" / "superexec.secret")
    nobody = pwd.getpwuid(NOBODY)
    for _restart in range(2):
        copy = hand_over(folder / "supernode" / "superexec.secret", door_for(folder / "d.sock", [nobody.pw_name]))
        assert (copy.name, copy.read_bytes()) == ("relay.secret", made)
        found = copy.stat()
        assert (stat.S_IMODE(found.st_mode), found.st_uid, found.st_gid) == (0o640, 0, nobody.pw_gid)


def test_without_users_of_its_own_the_relay_has_no_wider_secret(folder: Path) -> None:
    secret(folder / "superexec.secret")
    copy = hand_over(folder / "superexec.secret", door_for(folder / "d.sock", ()))
    assert stat.S_IMODE(copy.stat().st_mode) == 0o600
