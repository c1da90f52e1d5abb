"""Becomes another program that ends when its parent does: ``python -m more_model.dies_with_parent PARENT PROGRAM ...``.

A supervisor that is killed cannot stop its children any more; one that lived on would hold the port that the next
supervisor's child needs.
"""

from __future__ import annotations

import ctypes
import os
import signal
import sys

#: prctl(2): the signal that the kernel sends this process when the thread that started it ends.
_PR_SET_PDEATHSIG = 1


def main(arguments: list[str]) -> None:
    """Never returns. ``arguments``: the parent's process id, then the program and its arguments."""
    parent, program = int(arguments[0]), arguments[1:]
    if sys.platform == "linux":
        ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM, 0, 0, 0)
    # The parent may have ended before the request above.
    if os.getppid() != parent:
        sys.exit(f"{program[0]}: the process that wanted it is gone")
    os.execvp(program[0], program)


if __name__ == "__main__":
    main(sys.argv[1:])
