"""What stands in the place of a hospital's daemon at a hostile site: it says what a script tells it to."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from client.daemon.companion import programs
from client.site_file import load_site_file
from client.wire import Frame, Limits, receive
from more_model.supervision import Backoff, Supervised

_ANY_LENGTH = Limits(facts=2**26, arrays=2**31)


class ScriptedDaemon:
    """Listens where the daemon would. ``answer`` gives the bytes that go back, whatever they are, or None: then the
    connection is held, and nothing is said, for ``silence_s``."""

    def __init__(self, path: Path, answer: Callable[[Frame], bytes | None], silence_s: float = 60.0) -> None:
        self._answer, self._silence_s = answer, silence_s
        self._closing = threading.Event()
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._socket.bind(str(path))
        self._socket.listen()
        self.faults: list[BaseException] = []
        threading.Thread(target=self._accept, daemon=True).start()

    def close(self) -> None:
        self._closing.set()
        self._socket.close()

    def _accept(self) -> None:
        while not self._closing.is_set():
            try:
                connection, _ = self._socket.accept()
            except OSError:
                return
            threading.Thread(target=self._serve, args=(connection,), daemon=True).start()

    def _serve(self, connection: socket.socket) -> None:
        with connection, suppress(OSError, EOFError):
            asked = receive(connection, _ANY_LENGTH)
            try:
                said = self._answer(asked)
            except Exception as error:
                # Shown by the test: a thread's own traceback would be lost.
                self.faults.append(error)
                raise
            if said is None:
                self._closing.wait(self._silence_s)
            else:
                connection.sendall(said)


def connect(site_file: Path, runtime_port: int) -> list[Supervised]:
    """The SuperNode of a site, with its real keys, and its relay to whatever listens at the site's socket."""
    started = [
        Supervised(program, Backoff(first_s=2.0, longest_s=10.0, jitter=0.0))
        for program in programs(load_site_file(site_file), runtime_port=runtime_port, relay=True)
    ]
    for child in started:
        child.start()
    return started
