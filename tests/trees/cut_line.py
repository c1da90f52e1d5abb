"""A TCP line that can be cut as a network is: nothing comes through, and nobody is told."""

from __future__ import annotations

import socket
import threading
from contextlib import suppress

_CHUNK_BYTES = 2**16


class Line:
    """From a port of this machine, ``port``, to another. While it is cut, connections stay open and silent; when it is
    mended those are gone, as after a firewall that has forgotten them, and new ones work."""

    def __init__(self, to_port: int) -> None:
        self._to = ("127.0.0.1", to_port)
        self._listening = socket.create_server(("127.0.0.1", 0))
        self.port = int(self._listening.getsockname()[1])
        self._whole = threading.Event()
        self._whole.set()
        self._open: list[socket.socket] = []
        threading.Thread(target=self._accept, daemon=True).start()

    def cut(self) -> None:
        """Nothing comes through from now on."""
        self._whole.clear()

    def mend(self) -> None:
        """Whatever was open is gone; new connections come through."""
        for end in self._open:
            with suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
        self._open.clear()
        self._whole.set()

    def close(self) -> None:
        """For good."""
        self.mend()
        with suppress(OSError):
            self._listening.shutdown(socket.SHUT_RDWR)
        self._listening.close()

    def _accept(self) -> None:
        while True:
            try:
                near, _ = self._listening.accept()
            except OSError:
                return
            self._open.append(near)
            threading.Thread(target=self._join, args=(near,), daemon=True).start()

    def _join(self, near: socket.socket) -> None:
        self._whole.wait()
        far = socket.socket()
        try:
            far.connect(self._to)
        except OSError:
            near.close()
            return
        self._open.append(far)
        threading.Thread(target=self._pump, args=(near, far), daemon=True).start()
        self._pump(far, near)

    def _pump(self, source: socket.socket, sink: socket.socket) -> None:
        with suppress(OSError):
            while piece := source.recv(_CHUNK_BYTES):
                self._whole.wait()
                sink.sendall(piece)
        for end in (source, sink):
            with suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
