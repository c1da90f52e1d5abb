"""Work on files that may crash, hang or exhaust their reader: a child process with a time and a memory limit.

One child serves many requests, so its imports are paid once; after a timeout or a crash the next request gets a fresh
one. Nothing of the child's own output reaches the screen, because decoders print header values there.
"""

from __future__ import annotations

import json
import os
import selectors
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Final, Literal

_START_TIMEOUT_S: Final = 60.0
_MAX_ANSWER_BYTES: Final = 2**20
_READY: Final = b"ready"


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of one request; ``answer`` is the child's text where it answered."""

    status: Literal["answered", "timed-out", "crashed", "out-of-memory"]
    answer: str = ""


@contextmanager
def bounded_worker(module: str, *, timeout_s: float, max_memory_bytes: int) -> Iterator[Callable[[str], Outcome]]:
    """A function that sends one request to ``python -m module`` and waits at most ``timeout_s`` for its answer.

    ``module`` calls `serve`. The limit on memory is one on address space, where the system knows such a limit. The
    function never raises for what the child does. Leaving the context ends the child.
    """
    child: subprocess.Popen[bytes] | None = None

    def ask(request: str) -> Outcome:
        nonlocal child
        if child is None:
            child = _start(module, max_memory_bytes)
            if _read_line(child, _START_TIMEOUT_S) != _READY:
                _end(child)
                child = None
                return Outcome("crashed")
        line = _exchange(child, {"request": request, "timeout_s": timeout_s}, timeout_s)
        if line is None:
            timed_out = child.poll() is None
            _end(child)
            child = None
            return Outcome("timed-out" if timed_out else "crashed")
        answer = json.loads(line)
        if answer["status"] == "out-of-memory":
            # Fragments of a failed allocation would count against the next file.
            _end(child)
            child = None
        return Outcome(answer["status"], answer["answer"])

    try:
        yield ask
    finally:
        if child is not None:
            _end(child)


def serve(handle: Callable[[str], str]) -> None:
    """The child's side: answers requests from standard input until it is closed."""
    max_memory_bytes = int(sys.argv[1])
    _limit_memory(max_memory_bytes)
    channel = os.fdopen(os.dup(1), "wb", buffering=0)
    sink = os.open(os.devnull, os.O_WRONLY)
    os.dup2(sink, 1)
    os.dup2(sink, 2)
    channel.write(_READY + b"\n")
    for line in sys.stdin.buffer:
        message = json.loads(line)
        # Should the parent be killed meanwhile, the default action of this signal ends a reader stuck in C code.
        signal.setitimer(signal.ITIMER_REAL, float(message["timeout_s"]) + 5.0)
        try:
            answer = {"status": "answered", "answer": handle(str(message["request"]))}
        except MemoryError:
            answer = {"status": "out-of-memory", "answer": ""}
        signal.setitimer(signal.ITIMER_REAL, 0.0)
        channel.write(json.dumps(answer).encode() + b"\n")


def _limit_memory(max_memory_bytes: int) -> None:
    try:
        import resource

        resource.setrlimit(resource.RLIMIT_AS, (max_memory_bytes, max_memory_bytes))
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    except (ImportError, ValueError, OSError):
        # Not every system limits address space; the time limit still holds.
        return


def _start(module: str, max_memory_bytes: int) -> subprocess.Popen[bytes]:
    packages = str(Path(__file__).resolve().parents[2])
    one_thread = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")
    return subprocess.Popen(
        [sys.executable, "-P", "-m", module, str(max_memory_bytes)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        env=os.environ | one_thread | {"PYTHONPATH": packages},
        start_new_session=True,
    )


def _exchange(child: subprocess.Popen[bytes], message: dict[str, object], timeout_s: float) -> bytes | None:
    assert child.stdin is not None
    try:
        child.stdin.write(json.dumps(message).encode() + b"\n")
        child.stdin.flush()
    except OSError:
        child.wait()
        return None
    return _read_line(child, timeout_s)


def _read_line(child: subprocess.Popen[bytes], timeout_s: float) -> bytes | None:
    """One line of the child, or None when time is up (it then still runs) or it is gone (it is then reaped)."""
    assert child.stdout is not None
    deadline = time.monotonic() + timeout_s
    received = b""
    with selectors.DefaultSelector() as selector:
        selector.register(child.stdout, selectors.EVENT_READ)
        while len(received) <= _MAX_ANSWER_BYTES:
            remaining_s = deadline - time.monotonic()
            if remaining_s <= 0 or not selector.select(remaining_s):
                return None
            chunk = os.read(child.stdout.fileno(), 2**16)
            if not chunk:
                child.wait()
                return None
            received += chunk
            if received.endswith(b"\n"):
                return received[:-1]
    return None


def _end(child: subprocess.Popen[bytes]) -> None:
    if child.poll() is None:
        child.kill()
    child.wait()
    streams: tuple[IO[bytes] | None, ...] = (child.stdin, child.stdout)
    for stream in streams:
        if stream is not None:
            try:
                stream.close()
            except BrokenPipeError:
                # Closing flushes what the dead child never read.
                continue
