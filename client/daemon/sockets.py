"""Unix sockets of the daemon: who may come through them, and a thread for each who did."""

from __future__ import annotations

import grp
import logging
import os
import pwd
import select
import socket
import stat
import struct
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from client.wire import MALFORMED, Frame, Limits, WireError, receive, send
from more_model.errors import ConfigError, EnvironmentFault, MoreError

_LOG = logging.getLogger(__name__)
#: struct ucred of unix(7): process, user, group.
_PEER = struct.Struct("iII")
_MOST_CONNECTIONS = 4
#: A frame has to come, and an answer has to be taken, without a pause of this length.
_STALL_S = 60.0
#: A reason may quote what was brought.
_LONGEST_REASON = 300

Handler = Callable[[Frame, Callable[[], bool]], Frame]


@dataclass(frozen=True, slots=True)
class Door:
    """A socket in the file system: its mode, the group that it belongs to (None: the process's own), and the users who
    may come, whatever the mode says."""

    path: Path
    mode: int
    users: frozenset[int]
    group: int | None = None


def door_for(path: Path, users: Sequence[str]) -> Door:
    """The door of the relay: mode 0660, for this user and the ``users`` by name, of the first one's group.

    Raises:
        ConfigError: there is no such user.
    """
    try:
        found = [pwd.getpwnam(user) for user in users]
    except KeyError as error:
        raise ConfigError("--relay-user", [str(error.args[0])], remedy="make that user, or name another") from error
    group = found[0].pw_gid if found else None
    return Door(path, 0o660, frozenset({os.geteuid(), *(user.pw_uid for user in found)}), group)


class Listener:
    """Answers whoever comes through a door, one frame a connection, at most four at a time. ``limits``: of what they
    may bring. Whoever brings something malformed, or is somebody else, loses this connection and nothing more.
    ``note``: writes down, before it is answered, that something could not be understood, and why."""

    def __init__(
        self, door: Door, limits: Limits, handle: Handler, note: Callable[[str], None] = lambda _why: None
    ) -> None:
        self._door, self._limits, self._handle, self._note = door, limits, handle, note
        self._free = threading.BoundedSemaphore(_MOST_CONNECTIONS)
        self._closing = threading.Event()
        self._counting, self._answering = threading.Lock(), 0
        self._socket = _listening(door)
        self._thread = threading.Thread(target=self._accept, name=f"listens at {door.path.name}", daemon=True)
        self._thread.start()

    @property
    def alive(self) -> bool:
        """Whether it still listens."""
        return self._thread.is_alive()

    @property
    def answering(self) -> bool:
        """Whether somebody has asked and has not got the whole answer yet."""
        return self._answering > 0

    def close(self) -> None:
        """Listen no more; who is being answered keeps the connection."""
        self._closing.set()
        # Closing alone would leave the thread in accept(2).
        self._socket.shutdown(socket.SHUT_RDWR)
        self._thread.join(5.0)
        self._socket.close()
        self._door.path.unlink(missing_ok=True)

    def _accept(self) -> None:
        while not self._closing.is_set():
            self._free.acquire()
            try:
                connection, _ = self._socket.accept()
            except OSError as error:
                self._free.release()
                if not self._closing.is_set():
                    _LOG.error("%s: %s", self._door.path, error)
                    self._closing.wait(1.0)
                continue
            threading.Thread(target=self._serve, args=(connection,), daemon=True).start()

    def _serve(self, connection: socket.socket) -> None:
        try:
            with connection:
                connection.settimeout(_STALL_S)
                if self._known(connection):
                    self._converse(connection)
        except (OSError, EOFError) as error:
            _LOG.info("%s: a connection ended early (%s)", self._door.path.name, type(error).__name__)
        finally:
            self._free.release()

    def _known(self, connection: socket.socket) -> bool:
        user = peer_user(connection)
        if user not in self._door.users:
            _LOG.warning("%s: user %d may not come through this socket", self._door.path.name, user)
        return user in self._door.users

    def _converse(self, connection: socket.socket) -> None:
        try:
            asked = receive(connection, self._limits)
        except WireError as error:
            # Whatever version the other end speaks, the header of this says which one is spoken here.
            if (answer := self._not_understood(error.cause)) is not None:
                send(connection, answer)
            return
        self._count(1)
        try:
            answer = self._answer(asked, connection)
            if answer is not None:
                send(connection, answer)
        finally:
            self._count(-1)

    def _answer(self, asked: Frame, connection: socket.socket) -> Frame | None:
        try:
            return self._handle(asked, lambda: _still_there(connection))
        except WireError as error:
            return self._not_understood(error.cause)
        except MoreError as error:
            # Nothing is said: whoever asked asks again.
            _LOG.error("%s: no answer: %s", self._door.path.name, error)
            return None
        except Exception:  # noqa: BLE001 - what one brings ends that connection, never the daemon
            _LOG.exception("%s: unexpected error", self._door.path.name)
            return self._not_understood("unexpected error")

    def _not_understood(self, why: str) -> Frame | None:
        why = why[:_LONGEST_REASON]
        _LOG.warning("%s: %s", self._door.path.name, why)
        try:
            self._note(why)
        except MoreError as error:
            _LOG.error("%s: no answer: %s", self._door.path.name, error)
            return None
        return Frame(MALFORMED)

    def _count(self, change: int) -> None:
        with self._counting:
            self._answering += change


def peer_user(connection: socket.socket) -> int:
    """The user at the other end, as the kernel knows it."""
    content = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _PEER.size)
    return int(_PEER.unpack(content)[1])


def _still_there(connection: socket.socket) -> bool:
    # Asked first: a socket with a timeout would wait in recv(2), whatever its flags say.
    readable, _, _ = select.select([connection], [], [], 0)
    return not readable or connection.recv(1, socket.MSG_PEEK) != b""


def _listening(door: Door) -> socket.socket:
    folder = door.path.parent
    made = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        if not folder.exists():
            folder.mkdir(mode=0o750, parents=True)
            os.chown(folder, -1, -1 if door.group is None else door.group)
        _remove_former(door.path)
        made.bind(str(door.path))
        if door.group is not None:
            os.chown(door.path, -1, door.group)
        door.path.chmod(door.mode)
        made.listen(_MOST_CONNECTIONS)
    except OSError as error:
        made.close()
        raise _not_listening(door, error) from error
    except ConfigError:
        made.close()
        raise
    return made


def _remove_former(path: Path) -> None:
    """What a killed daemon left; a living one would hold the audit log, which is opened before."""
    if not path.exists():
        return
    if not stat.S_ISSOCK(path.stat().st_mode):
        raise ConfigError(
            str(path), ["there is something that is no socket"], remedy="name another path for the socket"
        )
    path.unlink()


def _not_listening(door: Door, error: OSError) -> EnvironmentFault:
    group = ""
    if door.group is not None:
        group = f" (group {grp.getgrgid(door.group).gr_name}: this user has to be a member of it)"
    return EnvironmentFault(
        f"The socket {door.path} cannot be made: {error.strerror or error}{group}.",
        remedy="give its folder to this user, choose a shorter path, or add this user to the relay's group",
    )
