"""The hours of the week in which a site lets its data be trained on, as people write them: `mon-fri 19:00-06:00`."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import datetime, timedelta

DAYS = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")

_WINDOW = re.compile(r"([a-z]{3})(?:-([a-z]{3}))? (\d\d):(\d\d)-(\d\d):(\d\d)")
_DAY_MINUTES = 24 * 60


@dataclass(frozen=True, slots=True)
class Window:
    """From ``start`` to before ``end`` (minutes after midnight) on days that begin as ``days`` (0 is Monday). Where
    ``end`` is not after ``start``, the window ends on the next day."""

    days: frozenset[int]
    start: int
    end: int

    def holds(self, local: datetime) -> bool:
        """Whether a wall-clock time lies within."""
        minute, today = 60 * local.hour + local.minute, local.weekday()
        if self.start < self.end:
            return today in self.days and self.start <= minute < self.end
        yesterday = (local - timedelta(days=1)).weekday()
        return (today in self.days and minute >= self.start) or (yesterday in self.days and minute < self.end)


def parsed_window(text: str) -> Window:
    """The window of ``DAY[-DAY] HH:MM-HH:MM``; 24:00 ends a day, and `fri-mon` runs over the weekend.

    Raises:
        ValueError: says what is wrong.
    """
    match = _WINDOW.fullmatch(text.strip().lower())
    if match is None:
        raise ValueError(f"{text!r} is not of the form `mon-fri 19:00-06:00`")
    first, last = match[1], match[2] or match[1]
    unknown = [day for day in (first, last) if day not in DAYS]
    if unknown:
        raise ValueError(f"{text!r}: {unknown[0]!r} is no day; they are {', '.join(DAYS)}")
    start, end = _minutes(text, match[3], match[4]), _minutes(text, match[5], match[6])
    if start in (_DAY_MINUTES, end):
        raise ValueError(f"{text!r} holds no time; a whole day is 00:00-24:00")
    begin = DAYS.index(first)
    count = (DAYS.index(last) - begin) % len(DAYS) + 1
    return Window(frozenset((begin + step) % len(DAYS) for step in range(count)), start, end)


def _minutes(text: str, hours: str, minutes: str) -> int:
    total = 60 * int(hours) + int(minutes)
    if total > _DAY_MINUTES or int(minutes) >= 60:
        raise ValueError(f"{text!r}: there is no {hours}:{minutes}")
    return total
