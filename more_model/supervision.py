"""A program that is to run for ever: its log is passed on, and when it ends it is started again, ever less often."""

from __future__ import annotations

import contextlib
import logging
import os
import random
import re
import signal
import subprocess
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from more_model.errors import EnvironmentFault

_LOG = logging.getLogger(__name__)
#: Colours and other escape sequences of a terminal (ECMA-48, control sequences).
_ESCAPES = re.compile(r"\x1b\[[0-?]*[ -/]*[@-~]")
#: How Flower and uvicorn begin a line of their logs, with or without a time before it.
_LEVEL = re.compile(r"(?:\S+ )?(DEBUG|INFO|WARN|ERROR|CRITICAL)")
_KEPT_LINES = 40


@dataclass(frozen=True, slots=True)
class Backoff:
    """Waits of ``first_s``, twice that, and so on up to ``longest_s``, each shortened by up to the share ``jitter`` so
    that the sites of a federation do not all come back at one moment. A program that ran for ``settled_s`` starts over
    at ``first_s``."""

    first_s: float = 1.0
    longest_s: float = 60.0
    settled_s: float = 60.0
    jitter: float = 0.5

    def wait_s(self, failures: int, draw: float) -> float:
        """The wait after the given number of quick ends in a row (from 1); ``draw`` lies in [0, 1)."""
        # Bounded before the power is taken: a site may be refused for months.
        doubled = self.first_s * 2.0 ** min(failures - 1, 32)
        return min(doubled, self.longest_s) * (1.0 - self.jitter * draw)


@dataclass(frozen=True, slots=True)
class Program:
    """What is to run. ``environment`` is laid over this process's own; ``folder`` is where it runs. ``broken`` says of
    a line of its log that the program only seems to run and must be started again. ``before``: called before each
    start, within seconds and without raising."""

    name: str
    command: Sequence[str]
    folder: Path
    environment: Mapping[str, str] = field(default_factory=dict)
    broken: Callable[[str], bool] = lambda _line: False
    before: Callable[[], None] = lambda: None


class Supervised:
    """One program and the thread that keeps it running. It ends when this process does, however that ends."""

    def __init__(
        self, program: Program, backoff: Backoff | None = None, *, draw: Callable[[], float] = random.random
    ) -> None:
        self._program = program
        self._backoff = backoff if backoff is not None else Backoff()
        self._draw = draw
        self._stopping = threading.Event()
        self._lock = threading.Lock()
        self._process: subprocess.Popen[str] | None = None
        self._starts = 0
        self._lines: deque[str] = deque(maxlen=_KEPT_LINES)
        self._thread = threading.Thread(target=self._keep_running, name=f"keeps {program.name} running", daemon=True)

    def start(self) -> None:
        """Start it; returns at once. Once only."""
        self._thread.start()

    def stop(self, timeout_s: float = 15.0) -> None:
        """Ask it to end, wait so long, then kill it with everything that it started."""
        self._stopping.set()
        if self._thread.ident is None:
            return
        with self._lock:
            process = self._process
        if process is not None and process.poll() is None:
            process.terminate()
        self._thread.join(timeout_s)
        # A start that was under way when this was called ends what it started itself, on request at first.
        if self._thread.is_alive() and (pid := self.pid) is not None:
            _LOG.warning("%s did not end within %g s and is killed", self._program.name, timeout_s)
            _kill_group(pid)
            self._thread.join(timeout_s)

    @property
    def pid(self) -> int | None:
        """Its process id while it runs."""
        with self._lock:
            return self._process.pid if self._process is not None and self._process.poll() is None else None

    @property
    def starts(self) -> int:
        """How often it has been started."""
        with self._lock:
            return self._starts

    @property
    def last_lines(self) -> tuple[str, ...]:
        """The newest lines of its log over all its starts, oldest first."""
        with self._lock:
            return tuple(self._lines)

    def _keep_running(self) -> None:
        failures = 0
        while not self._stopping.is_set():
            began = time.monotonic()
            code = self._run_once()
            if self._stopping.is_set():
                return
            seconds = time.monotonic() - began
            failures = 1 if seconds >= self._backoff.settled_s else failures + 1
            wait_s = self._backoff.wait_s(failures, self._draw())
            _LOG.warning(
                "%s ended after %.0f s (exit code %s) and is started again in %.1f s",
                self._program.name,
                seconds,
                code,
                wait_s,
            )
            self._stopping.wait(wait_s)

    def _run_once(self) -> int | None:
        self._program.before()
        try:
            process = self._launch()
        except OSError as error:
            # Out of memory or of process ids: as passing as any other end.
            self._keep(f"could not be started: {error.strerror}")
            return None
        with self._lock:
            self._process, self._starts = process, self._starts + 1
        reader = threading.Thread(target=self._read, args=(process,), daemon=True)
        reader.start()
        if self._stopping.is_set():
            process.terminate()
        code = process.wait()
        # What it started and left behind would hold its ports and its database.
        _kill_group(process.pid)
        reader.join(timeout=5.0)
        return code

    def _launch(self) -> subprocess.Popen[str]:
        program = self._program
        program.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        wrapped = [sys.executable, "-P", "-m", "more_model.dies_with_parent", str(os.getpid()), *program.command]
        return subprocess.Popen(
            wrapped,
            cwd=program.folder,
            env={**os.environ, **program.environment},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            encoding="utf-8",
            errors="replace",
            # A group of its own: Ctrl-C at the terminal is for the supervisor, which then stops it in order.
            start_new_session=True,
            umask=0o077,
        )

    def _read(self, process: subprocess.Popen[str]) -> None:
        assert process.stdout is not None
        with process.stdout:
            for line in process.stdout:
                text = _ESCAPES.sub("", line).rstrip()
                if text:
                    self._keep(text)
                if self._program.broken(text):
                    _LOG.warning("%s says that it no longer works; it is ended", self._program.name)
                    process.terminate()

    def _keep(self, line: str) -> None:
        with self._lock:
            self._lines.append(line)
        # The list of single requests is long, and of interest to nobody but a developer.
        known = None if "[uvicorn.access]" in line else _LEVEL.match(line)
        level = logging.getLevelNamesMapping()[known.group(1)] if known is not None else logging.DEBUG
        logging.getLogger(f"{__name__}.{self._program.name}").log(level, "%s", line)


def _kill_group(group: int) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(group, signal.SIGKILL)


def console_script(name: str) -> str:
    """The path of a program that was installed beside this Python.

    Raises:
        EnvironmentFault: it is not there.
    """
    path = Path(sys.executable).parent / name
    if not path.is_file():
        raise EnvironmentFault(
            f"{name} is not installed beside {sys.executable}", remedy="install the package into this environment anew"
        )
    return str(path)
