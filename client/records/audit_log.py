"""The audit log of a site: an entry is on the disk before what it speaks of may happen.

One process writes (a lock of the kernel on the file itself, which ends with the process), any number read. Contents
hold no patient identifiers: whoever appends sees to that.
"""

from __future__ import annotations

import fcntl
import os
import re
import threading
import uuid
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from client.records.lines import (
    CREATED,
    CUT,
    RECOVERED,
    AuditDamaged,
    Entry,
    Fault,
    damaged,
    recovery,
    sealed_line,
    walk,
)
from more_model.errors import ConfigError, EnvironmentFault, StoreError
from privacy.ledger.chain import START, Anchor, parse_anchor
from privacy.ledger.files import sync_folder, write_whole

_FOLDER_MODE = 0o700
_FILE_MODE = 0o600
_KIND = re.compile(r"[a-z]+(-[a-z]+)*")


def _utc_now() -> datetime:
    return datetime.now(UTC)


def open_log(
    path: Path, *, site: str, anchor_file: Path | None = None, now: Callable[[], datetime] = _utc_now
) -> AuditLog:
    """The log of ``site`` at ``path`` for writing; a new one begins with an entry ``created``. The whole file is read
    and checked first, and a line that a crash cut is recovered.

    ``anchor_file``, in another folder, best on another disk, gets the newest COUNT:HEAD after every entry: an old copy
    of the log that was put back, or one that lost its last entries, is then refused here.

    Raises:
        StoreError: another process writes to the log, or it is another site's.
        AuditDamaged: it is not the one that was last written.
        ConfigError: the anchor file lies in the log's folder.
        EnvironmentFault: it cannot be written.
    """
    if anchor_file is not None and path.resolve().parent in anchor_file.resolve().parents:
        raise ConfigError(
            "audit log",
            ["the anchor file lies in the log's folder, so an old copy of that folder would bring both back"],
            remedy="choose another folder for it, best on another disk and not in the same backup",
        )
    path.parent.mkdir(parents=True, exist_ok=True, mode=_FOLDER_MODE)
    descriptor = os.open(path, os.O_RDWR | os.O_APPEND | os.O_CREAT, _FILE_MODE)
    try:
        _lock(descriptor)
        sync_folder(path.parent)
        return AuditLog(path, descriptor, site, anchor_file, now)
    except BaseException:
        os.close(descriptor)
        raise


def _lock(descriptor: int) -> None:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        raise StoreError(
            "Another process is writing to the audit log.",
            remedy="find the other daemon of this site and stop one of the two",
            avoid="copy the log to write beside it: two logs of one site prove nothing",
        ) from error


class AuditLog:
    """An open log; made by `open_log`. Threads of one process may share it."""

    def __init__(
        self, path: Path, descriptor: int, site: str, anchor_file: Path | None, now: Callable[[], datetime]
    ) -> None:
        self.path, self.site = path, site
        self._descriptor, self._anchor_file, self._now = descriptor, anchor_file, now
        self._one_at_a_time = threading.Lock()
        self._anchor = Anchor(0, START)
        self._size = 0
        self._know()

    @property
    def anchor(self) -> Anchor:
        """Where the chain stands; whoever keeps ``str(anchor)`` elsewhere can later prove a truncation."""
        return self._anchor

    def append(self, kind: str, content: Mapping[str, Any]) -> Anchor:
        """Write one entry and sync it; returns once it is on the disk.

        After a failure (a full disk) the next call recovers what was left half written.

        Raises:
            EnvironmentFault: it could not be written; what the entry speaks of must not happen.
            AuditDamaged: somebody changed the file meanwhile, or put another one in its place.
            ValueError: a kind that is not a lower-case word, one that only the log itself writes, content that is no
                JSON, or a closed log.
        """
        if not _KIND.fullmatch(kind) or kind in (CREATED, RECOVERED):
            raise ValueError(f"{kind!r} is no kind of entry that may be appended")
        with self._one_at_a_time:
            if self._descriptor < 0:
                raise ValueError("this audit log is closed")
            if not self._known or not self._in_place():
                self._know()
            return self._write(kind, content)

    def close(self) -> None:
        """Give the lock up."""
        with self._one_at_a_time:
            if self._descriptor >= 0:
                os.close(self._descriptor)
            self._descriptor, self._known = -1, False

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _in_place(self) -> bool:
        """Whether the file is as this log left it; cheap, and enough to notice a file that was cut or replaced."""
        try:
            there, ours = self.path.stat(), os.fstat(self._descriptor)
        except OSError:
            return False
        return (there.st_dev, there.st_ino, there.st_size) == (ours.st_dev, ours.st_ino, self._size)

    def _know(self) -> None:
        """Read the whole file, and bring it to the end of a line."""
        self._known = False
        kept, last, kinds, cut = self._kept_anchor(), Anchor(0, START), set(), b""
        if not self.path.exists() or not os.path.samestat(self.path.stat(), os.fstat(self._descriptor)):
            raise damaged("The audit log was moved away or replaced while this site was writing to it.")
        with self.path.open("rb") as stream:
            for found in walk(stream):
                if isinstance(found, Fault):
                    raise damaged(f"The audit log was changed: {found.words}.")
                if isinstance(found, Entry):
                    self._check(found, kept)
                    last = found.anchor
                    kinds.add(found.kind)
                else:
                    cut = found.data
            self._size = stream.tell()
        if kept is None and kinds - {CREATED, RECOVERED}:
            raise _unusable_anchor_file("is gone")
        known = max(self._anchor.count, kept.count if kept is not None else 0)
        if last.count < known:
            raise damaged(f"The audit log lost entries: it has {last.count}, and {known} were written.")
        self._anchor = last
        if cut:
            self._write(RECOVERED, recovery(cut), before=CUT)
        if CREATED not in kinds:
            self._write(CREATED, {"site": self.site, "log": uuid.uuid4().hex})
        self._known = True

    def _check(self, entry: Entry, kept: Anchor | None) -> None:
        for anchor in (kept, self._anchor):
            if anchor is not None and entry.number == anchor.count and entry.head != anchor.head:
                raise damaged(f"The audit log was rewritten: entry {entry.number} is not the one that was written.")
        if entry.kind == CREATED and entry.content.get("site") != self.site:
            raise StoreError(
                "This audit log belongs to another site.", remedy="give every site a log of its own in site.toml"
            )

    def _write(self, kind: str, content: Mapping[str, Any], *, before: bytes = b"") -> Anchor:
        line, anchor = sealed_line(self._anchor, self._time(), kind, content)
        self._known = False
        self._put(before + line)
        self._size += len(before) + len(line)
        self._anchor, self._known = anchor, True
        self._keep_anchor()
        return anchor

    def _put(self, data: bytes) -> None:
        try:
            while data:
                data = data[os.write(self._descriptor, data) :]
            os.fsync(self._descriptor)
        except OSError as error:
            raise _unwritable(self.path, error) from error

    def _keep_anchor(self) -> None:
        if self._anchor_file is not None:
            try:
                write_whole(self._anchor_file, f"{self._anchor}\n".encode())
            except OSError as error:
                raise _unwritable(self._anchor_file, error) from error

    def _kept_anchor(self) -> Anchor | None:
        """What the anchor file knows: the beginning where none is wanted, None where it is missing."""
        if self._anchor_file is None:
            return Anchor(0, START)
        if not self._anchor_file.exists():
            return None
        try:
            return parse_anchor(self._anchor_file.read_text(encoding="utf-8"))
        except (ConfigError, UnicodeDecodeError) as error:
            raise _unusable_anchor_file("cannot be read") from error

    def _time(self) -> str:
        return self._now().astimezone(UTC).isoformat(timespec="milliseconds")


def _unusable_anchor_file(what: str) -> AuditDamaged:
    return AuditDamaged(
        f"The anchor file of the audit log {what}.",
        remedy="put it back; or, with the last COUNT:HEAD that you noted elsewhere, write a new one: "
        "more-client audit verify LOG --anchor COUNT:HEAD --write-anchor FILE",
        avoid="write a new one without such a head: nobody could tell whether the log lost entries",
    )


def _unwritable(path: Path, error: OSError) -> EnvironmentFault:
    return EnvironmentFault(
        f"The audit log cannot be written: {path}: {error.strerror}.",
        remedy="free some space and check the disk; nothing was sent, and the site goes on by itself",
        avoid="delete the log or move it away: what left the site would be forgotten",
    )
