"""Listeners in the middle: every byte goes on to where it was going, and is counted or kept."""

from __future__ import annotations

import socket
import threading
from contextlib import suppress
from pathlib import Path

_CHUNK_BYTES = 2**16


class Tap:
    """Between whoever connects to it and ``to``, a TCP address or a Unix socket. ``kept``: what came back over each
    connection, in the order in which they were opened."""

    def __init__(self, listening: socket.socket, to: tuple[str, int] | Path) -> None:
        self._listening, self._to = listening, to
        self._counting = threading.Lock()
        self.up_bytes = self.down_bytes = self.connections = 0
        self.kept: list[bytearray] = []
        threading.Thread(target=self._accept, daemon=True).start()

    def close(self) -> None:
        with suppress(OSError):
            self._listening.shutdown(socket.SHUT_RDWR)
        self._listening.close()

    def _accept(self) -> None:
        while True:
            try:
                near, _ = self._listening.accept()
            except OSError:
                return
            far = socket.socket(socket.AF_UNIX if isinstance(self._to, Path) else socket.AF_INET, socket.SOCK_STREAM)
            try:
                far.connect(str(self._to) if isinstance(self._to, Path) else self._to)
            except OSError:
                near.close()
                far.close()
                continue
            back = bytearray()
            with self._counting:
                self.connections += 1
                self.kept.append(back)
            threading.Thread(target=self._pump, args=(near, far, None), daemon=True).start()
            threading.Thread(target=self._pump, args=(far, near, back), daemon=True).start()

    def _pump(self, source: socket.socket, sink: socket.socket, back: bytearray | None) -> None:
        """One direction; ``back``: where that of the answers is kept."""
        with suppress(OSError):
            while piece := source.recv(_CHUNK_BYTES):
                with self._counting:
                    if back is None:
                        self.up_bytes += len(piece)
                    else:
                        self.down_bytes += len(piece)
                        back += piece
                sink.sendall(piece)
        for end in (source, sink):
            with suppress(OSError):
                end.shutdown(socket.SHUT_RDWR if back is not None else socket.SHUT_WR)


def tcp_tap(port: int) -> tuple[Tap, int]:
    """A tap before a port of this machine, and its own port."""
    listening = socket.create_server(("127.0.0.1", 0))
    return Tap(listening, ("127.0.0.1", port)), int(listening.getsockname()[1])


def unix_tap(path: Path, to: Path) -> Tap:
    """A tap at ``path`` before the Unix socket ``to``."""
    listening = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    listening.bind(str(path))
    listening.listen()
    return Tap(listening, to)
