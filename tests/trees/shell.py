"""A person at a shell: one bash that lives on between the blocks it is given, as another user if need be."""

from __future__ import annotations

import os
import select
import signal
import subprocess
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

#: Each line of descriptor {ask} names a file to be run here; its end is told on {say}. Any failure ends the shell.
_LOOP = 'while IFS= read -r -u {ask} file; do . "$file"; echo >&{say}; done'


class Shell:
    """``home``: its folder, and where it stands. ``user``: number of another user (for root only). What is typed to a
    ``read`` is given with each block. Use it in a ``with`` block: everything that it has started ends with it."""

    def __init__(self, home: Path, environment: Mapping[str, str], *, user: int | None = None) -> None:
        self.home, self.log = home, home.parent / f"{home.name}.log"
        self._blocks = 0
        asked, self._ask = os.pipe()
        self._said, say = os.pipe()
        as_user = {} if user is None else {"user": user, "group": user, "extra_groups": []}
        with self.log.open("ab") as log:
            self._bash = subprocess.Popen(
                ["bash", "--noprofile", "--norc", "-euo", "pipefail", "-c", _LOOP.format(ask=asked, say=say)],
                cwd=home, env={"HOME": str(home), **environment}, pass_fds=(asked, say), start_new_session=True,
                stdin=subprocess.PIPE, stdout=log, stderr=log, **as_user,
            )  # fmt: skip
        os.close(asked)
        os.close(say)

    def __enter__(self) -> Shell:
        return self

    def __exit__(self, *_: object) -> None:
        for number in (signal.SIGTERM, signal.SIGKILL):
            try:
                os.killpg(self._bash.pid, number)
            except ProcessLookupError:
                break
            _wait_for_group(self._bash, 30.0)
        self._bash.wait(30)
        for descriptor in (self._ask, self._said):
            os.close(descriptor)

    def run(self, block: str, *, typed: Sequence[str] = (), timeout_s: float = 300.0) -> str:
        """Run a block to its end and return what was printed meanwhile; AssertionError, with that, where it fails."""
        self._blocks += 1
        file, before = self.home.parent / f"{self.home.name}-{self._blocks:02}.sh", self.log.stat().st_size
        file.write_text(block, encoding="utf-8")
        file.chmod(0o644)
        assert self._bash.stdin is not None
        self._bash.stdin.write("".join(f"{line}\n" for line in typed).encode())
        self._bash.stdin.flush()
        os.write(self._ask, f"{file}\n".encode())
        ended = self._ends_within(timeout_s)
        printed = self.log.read_bytes()[before:].decode(errors="replace")
        assert ended, f"{self.home.name}, within {timeout_s:g} s:\n{block}\n--- printed\n{printed[-6000:]}"
        return printed

    def _ends_within(self, timeout_s: float) -> bool:
        deadline = time.monotonic() + timeout_s
        while time.monotonic() < deadline and self._bash.poll() is None:
            if select.select([self._said], [], [], 0.2)[0]:
                return bool(os.read(self._said, 1))
        return False


def _wait_for_group(leader: subprocess.Popen[bytes], wait_s: float) -> None:
    deadline = time.monotonic() + wait_s
    while time.monotonic() < deadline:
        leader.poll()
        try:
            os.killpg(leader.pid, 0)
        except ProcessLookupError:
            return
        time.sleep(0.1)
