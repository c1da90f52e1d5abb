"""The updates that a site has given, so that a repeated question gets the same answer: a second training on the same
question would be a second release, and with noise another one."""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path

from safetensors import SafetensorError, safe_open
from safetensors.numpy import load_file, save

from more_model.errors import EnvironmentFault, StoreError
from more_model.exchange import Instruction, Update
from privacy.ledger.files import sync_folder

#: The question of the round before may still come again while a new round begins.
_KEPT = 2
#: Of an answer beside its tensors: names, weights, counts, digests.
_FACTS_BYTES = 256 * 2**10


class StoredAnswers:
    """One file an answer in ``folder``, named by the whole question; only the newest are kept. Under secure sums they
    are what the masks hide, so nobody else may read them."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        folder.chmod(0o700)
        self._folder = folder

    def find(self, instruction: Instruction) -> Update | None:
        """The answer that was given to exactly this instruction, or None.

        Raises:
            StoreError: the file of that answer is damaged.
        """
        path = self._path(instruction)
        if not path.is_file():
            return None
        try:
            with safe_open(path, framework="np") as file:
                facts = json.loads((file.metadata() or {})["facts"])
            return Update.from_parts(facts, load_file(path))
        except (SafetensorError, KeyError, ValueError) as error:
            raise StoreError(
                "a stored answer of this site cannot be read",
                remedy="let the round go on without this site; the next one is not affected",
                avoid="delete it to train the round again: that would be a second release under the same charge",
            ) from error

    def reserve(self, instruction: Instruction, nbytes: int) -> None:
        """Take the room for an answer of so many bytes before it is paid for: on a full disk a round would be charged,
        trained, and asked again, until the budget is spent on answers that never left.

        Raises:
            EnvironmentFault: there is no room.
        """
        draft = self._path(instruction).with_suffix(".part")
        draft.unlink(missing_ok=True)
        try:
            descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
            try:
                os.posix_fallocate(descriptor, 0, nbytes + _FACTS_BYTES)
            finally:
                os.close(descriptor)
        except OSError as error:
            draft.unlink(missing_ok=True)
            raise EnvironmentFault(
                f"there is no room for this round's answer ({error.strerror}): {self._folder}",
                remedy="make room on the disk of work; the question is asked again, nothing was charged",
                avoid="delete stored answers: the round would be trained and paid for again",
            ) from error

    def keep(self, instruction: Instruction, update: Update) -> None:
        """Write the answer, durably, before it is sent."""
        path = self._path(instruction)
        draft = path.with_suffix(".part")
        # Over what `reserve` took, so that the room is still there.
        with os.fdopen(os.open(draft, os.O_WRONLY | os.O_CREAT, 0o600), "wb") as file:
            file.write(save(dict(update.deltas), metadata={"facts": json.dumps(update.facts())}))
            file.truncate()
            file.flush()
            os.fsync(file.fileno())
        draft.replace(path)
        sync_folder(self._folder)
        others = [found for found in self._folder.glob("*.safetensors") if found != path]
        for old in sorted(others, key=lambda found: found.stat().st_mtime_ns)[: 1 - _KEPT]:
            old.unlink()

    def _path(self, instruction: Instruction) -> Path:
        return self._folder / f"{instruction.round:05d}-{_digest(instruction)}.safetensors"


def _digest(instruction: Instruction) -> str:
    whole = hashlib.sha256(json.dumps(instruction.facts(), sort_keys=True).encode())
    for name, tensor in sorted(instruction.tensors.items()):
        whole.update(name.encode() + b"\n" + tensor.tobytes())
    return whole.hexdigest()
