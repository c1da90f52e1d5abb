"""A file system of a few MiB over a folder, for processes that are started in it; mounted without being root."""

from __future__ import annotations

import shutil
import subprocess
import time
from pathlib import Path
from types import TracebackType
from typing import Self

_UNSHARE = ("unshare", "--user", "--map-root-user", "--mount")


def why_not() -> str | None:
    """Why there can be none on this machine; None where there can."""
    if shutil.which("unshare") is None or shutil.which("nsenter") is None:
        return "no unshare and nsenter here, so no small disk can be mounted"
    tried = subprocess.run([*_UNSHARE, "mount", "-t", "tmpfs", "none", "/mnt"], capture_output=True, check=False)
    return None if tried.returncode == 0 else "no file system can be mounted here"


class SmallDisk:
    """``around``: put before a command, that command sees the disk at ``folder``. ``path``: the same from outside.
    It is gone at the end of the ``with`` block."""

    def __init__(self, folder: Path, size_kib: int) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        mount = f"mount -t tmpfs -o size={size_kib}k,mode=0700 none {folder} && echo mounted && exec sleep 36000"
        self._keeper = subprocess.Popen([*_UNSHARE, "sh", "-c", mount], stdout=subprocess.PIPE, text=True)
        assert self._keeper.stdout is not None and self._keeper.stdout.readline() == "mounted\n"
        pid = self._keeper.pid
        self.around = ("nsenter", "--target", str(pid), "--user", "--mount", "--preserve-credentials")
        self.path = Path(f"/proc/{pid}/root{folder.resolve()}")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._keeper.kill()
        self._keeper.wait(30)

    def fill(self) -> None:
        """Until not a byte is left, also of what ends meanwhile."""
        with (self.path / "filler").open("ab", buffering=0) as file:
            for size in (65536, 4096, 1):
                try:
                    while file.write(bytes(size)):
                        pass
                except OSError:
                    continue

    def keep_full(self, seconds: float) -> None:
        """Full for so long, whatever is freed meanwhile."""
        ends = time.monotonic() + seconds
        while time.monotonic() < ends:
            self.fill()
            time.sleep(0.2)

    def clear(self) -> None:
        """Space returns."""
        (self.path / "filler").unlink()
