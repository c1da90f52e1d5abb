"""What left the building, as the audit log tells it: what, when, how much, and what was held back."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from client.daemon.orders import WITHDRAWN
from client.data_report import Shown, visible
from client.egress import WITHHELD
from client.records.lines import RELEASED, Entry, walk
from client.records.verify import verify
from more_model.errors import ConfigError
from privacy.ledger.chain import Anchor, parse_anchor

#: So many of the newest messages are listed; all are counted.
SHOWN = 50


@dataclass(frozen=True, slots=True)
class Message:
    """One message. ``at``: UTC, ISO 8601. ``groups``: of tensors that it held. ``said``: a refusal's code. ``rules``:
    those that a message which was held back breaks; it has neither bytes nor a digest. ``repeated``: the same had left
    before."""

    at: str
    left: bool
    kind: str
    run: str
    round: int
    size_bytes: int
    groups: tuple[str, ...]
    said: str
    rules: tuple[str, ...]
    sha256: str
    repeated: bool


@dataclass(frozen=True, slots=True)
class Left:
    """``messages``: the newest first. ``kinds``: how many of each kind left. ``anchored``: whether the log was compared
    with the head that is kept elsewhere; without that, entries cut off at its end go unnoticed. ``withdrawn``: patients
    who are never trained on again, a number below the site's threshold hidden."""

    entries: int
    whole: bool
    faults: tuple[str, ...]
    anchored: bool
    first_at: str
    size_bytes: int
    kinds: Mapping[str, int]
    held_back: int
    withdrawn: Shown
    messages: tuple[Message, ...]


def left_building(log: Path, anchor_file: Path, minimum_count: int) -> Left | None:
    """From the whole log, checked entry by entry; None where there is none and none is known of. The daemon may be
    writing.

    Raises:
        AuditDamaged: the log is gone, and its anchor file is not.
    """
    # The anchor first: entries that come in between only make the log longer than it knows.
    anchor = _kept(anchor_file)
    if not log.exists() and anchor is None:
        return None
    report = verify(log, anchor)
    newest: deque[Message] = deque(maxlen=SHOWN)
    kinds: Counter[str] = Counter()
    with log.open("rb") as stream:
        for entry in walk(stream):
            if isinstance(entry, Entry) and entry.kind in (RELEASED, WITHHELD):
                newest.append(_message(entry))
                kinds[newest[-1].kind] += entry.kind == RELEASED
    return Left(
        entries=report.entries,
        whole=report.whole,
        faults=report.faults,
        anchored=anchor is not None,
        first_at=report.first_at,
        size_bytes=report.released_bytes,
        kinds=dict(sorted((+kinds).items())),
        held_back=report.kinds.get(WITHHELD, 0),
        withdrawn=visible(report.kinds.get(WITHDRAWN, 0), minimum_count),
        messages=tuple(reversed(newest)),
    )


def _message(entry: Entry) -> Message:
    content = entry.content
    told = content.get("told")
    said = told.get("refusal", "") if isinstance(told, Mapping) else ""
    return Message(
        at=entry.at,
        left=entry.kind == RELEASED,
        kind=str(content.get("message", "")),
        run=str(content.get("run", "")),
        round=_number(content.get("round")),
        size_bytes=_number(content.get("bytes")),
        groups=_groups(content.get("tensors")),
        said=str(said),
        rules=tuple(map(str, content.get("rules") or ())),
        sha256=str(content.get("sha256", "")),
        repeated=content.get("repeated") is True,
    )


def _groups(tensors: Any) -> tuple[str, ...]:
    """The first part of a tensor's name is its group; of a secure sum the whole name is."""
    return tuple(sorted({str(tensor[0]).partition(".")[0] for tensor in tensors or ()}))


def _number(value: Any) -> int:
    return value if isinstance(value, int) else 0


def _kept(anchor_file: Path) -> Anchor | None:
    try:
        return parse_anchor(anchor_file.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    except (ConfigError, UnicodeDecodeError):
        # `more-client audit verify` and the daemon refuse it with a remedy; here it counts as none.
        return None
