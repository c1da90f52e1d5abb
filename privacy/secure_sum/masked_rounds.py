"""Which rounds a site has already given a masked input to; survives a restart.

Were one update masked in two sessions with different participants, both sums might come out, and their difference
would be the update of whoever was in one of them only.
"""

from __future__ import annotations

import hashlib
import os
from pathlib import Path
from typing import Protocol

from privacy.secure_sum.errors import SumRefused


class MaskedRounds(Protocol):
    """The memory that a site consults before anything masked leaves it."""

    def claim(self, run: str, number: int) -> None:
        """Note round ``number`` of ``run``, durably; raise SumRefused with reason ``round-already-masked`` if it was
        noted before."""

    def claimed(self, run: str, number: int) -> bool:
        """Whether it was noted before."""


class MaskedRoundsFolder:
    """One empty file a round, in a folder that outlives the installation. Safe among processes."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._folder = folder

    def claim(self, run: str, number: int) -> None:
        """See `MaskedRounds`. Returns after the note is on the disk; OSError if it cannot be written."""
        try:
            with self._note(run, number).open("xb") as note:
                os.fsync(note.fileno())
        except FileExistsError:
            raise SumRefused(
                "round-already-masked",
                f"this site already gave a masked input to round {number}",
                remedy="go on with the next round; a round that failed after masking is lost",
            ) from None
        folder = os.open(self._folder, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)

    def claimed(self, run: str, number: int) -> bool:
        """See `MaskedRounds`."""
        return self._note(run, number).exists()

    def _note(self, run: str, number: int) -> Path:
        # A run's name is the coordinator's choice: hashed, it cannot leave the folder.
        return self._folder / f"{hashlib.sha256(run.encode()).hexdigest()}-{number}"
