"""Whether an audit log is the one that was written; needs nothing but the file, and best an anchor kept elsewhere."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from client.records.lines import CREATED, RELEASED, Entry, Fault, Unfinished, missing, walk
from privacy.ledger.chain import START, Anchor

_SHOWN = 20


@dataclass(frozen=True, slots=True)
class AuditReport:
    """What a log holds and what is wrong with it.

    faults: the first of ``fault_count``. unfinished_bytes: of a line at the end that is being written, or was cut by a
    crash and not yet recovered. released_bytes: payload of everything that left, as the entries say.
    """

    site: str
    entries: int
    anchor: Anchor
    kinds: Mapping[str, int]
    first_at: str
    last_at: str
    released_bytes: int
    unfinished_bytes: int
    fault_count: int
    faults: tuple[str, ...]

    @property
    def whole(self) -> bool:
        """Whether nothing is wrong with it."""
        return not self.fault_count


@dataclass(slots=True)
class _Tally:
    site: str = ""
    first_at: str = ""
    last: Entry | None = None
    kinds: Counter[str] = field(default_factory=Counter)
    released_bytes: int = 0
    unfinished_bytes: int = 0
    fault_count: int = 0
    faults: list[str] = field(default_factory=list)

    def fault(self, words: str) -> None:
        self.fault_count += 1
        if len(self.faults) < _SHOWN:
            self.faults.append(words)

    def add(self, found: Entry | Fault | Unfinished) -> None:
        if isinstance(found, Fault):
            self.fault(found.words)
        elif isinstance(found, Unfinished):
            self.unfinished_bytes = len(found.data)
        else:
            self.first_at = self.first_at or found.at
            if found.kind == CREATED:
                self.site = str(found.content.get("site", ""))
            self.last = found
            self.kinds[found.kind] += 1
            size = found.content.get("bytes", 0)
            if found.kind == RELEASED and isinstance(size, int):
                self.released_bytes += size

    def report(self) -> AuditReport:
        last = self.last
        return AuditReport(
            site=self.site,
            entries=last.number if last is not None else 0,
            anchor=last.anchor if last is not None else Anchor(0, START),
            kinds=dict(sorted(self.kinds.items())),
            first_at=self.first_at,
            last_at=last.at if last is not None else "",
            released_bytes=self.released_bytes,
            unfinished_bytes=self.unfinished_bytes,
            fault_count=self.fault_count,
            faults=tuple(self.faults),
        )


def verify(path: Path, anchor: Anchor | None = None) -> AuditReport:
    """Read a log as a stream and report all that is wrong with it. May run while the daemon writes.

    Found out: an entry that was edited, deleted, moved or put in between, or cut off at the front; with an ``anchor``
    also entries cut off at the end, and a chain that was computed anew. Without one, a log whose last entries were cut
    off looks like a younger log.

    Raises:
        AuditDamaged: there is no file.
    """
    if not path.is_file():
        raise missing(path)
    tally, head = _Tally(), START
    with path.open("rb") as stream:
        for found in walk(stream):
            tally.add(found)
            if anchor is not None and isinstance(found, Entry) and found.number == anchor.count:
                head = found.head
    if anchor is not None:
        entries = tally.last.number if tally.last is not None else 0
        if entries < anchor.count:
            tally.fault(f"the log has {entries} entries, and the given anchor knows {anchor.count}")
        elif head != anchor.head:
            tally.fault(f"entry {anchor.count} is not the one that the given anchor knows")
    return tally.report()
