"""WFDB headers: the date of the recording, descriptions of the signals, comments."""

from __future__ import annotations

import re
from typing import Final

from privacy.deidentify.finding import Finding
from privacy.deidentify.reports import check_report

#: Diagnoses, treatments and the like as codes: numbers that name no person.
_CODED_COMMENT: Final = re.compile(r"(?i)\s*(?:dx|rx|hx|sx)\s*:[\d\s,]*")
_LABEL: Final = re.compile(r"\s*(\w+)\s*:")
#: The format's own name for the date of the recording.
DATE: Final = "base_date"


def check_wfdb_header(text: str, accepted: frozenset[str] = frozenset()) -> list[Finding]:
    """What may name somebody in a header; the record's own name is not checked.

    ``accepted``: labels of comments, such as subject_id in ``# <subject_id>: 100``, that the site has looked at and
    lets pass, or "base_date" for the date in the first line. A header without a line is unreadable.
    """
    lines = [(number, line) for number, line in enumerate(text.splitlines(), start=1) if line.strip()]
    comments = [(number, line.strip()[1:]) for number, line in lines if line.strip().startswith("#")]
    content = [(number, line) for number, line in lines if not line.strip().startswith("#")]
    if not content:
        return [Finding("unreadable", "a header without a line")]
    (first, record), *signals = content
    # name, number of signals, rate, length, time of day, date; further words belong to nothing.
    stamp = record.split()[4:]
    parts = [(first, " ".join(stamp if DATE not in accepted else stamp[2:]))]
    parts += [(number, " ".join(line.split()[8:])) for number, line in signals]
    for number, comment in comments:
        # "<age>: 93" would pass for a place where an age was removed.
        plain = comment.replace("<", " ").replace(">", " ")
        label = _LABEL.match(plain)
        if not _CODED_COMMENT.fullmatch(plain) and not (label and label[1] in accepted):
            parts.append((number, plain))
    return [
        Finding(found.kind, f"line {number}, {found.place}") for number, part in parts for found in check_report(part)
    ]
