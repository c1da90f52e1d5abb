"""Free text: reports, ECG statements, header comments.

Rules and two lists of names, no language model: those need model files from the network, and a gate must give the same
answer on every machine. What rules cannot see: a surname alone ("Smith was told"), a name that is in no list and has no
title, label or degree, names in lower case without a title, places, and rare stories that identify by themselves.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import UTC, datetime

from privacy.deidentify import rules
from privacy.deidentify.finding import Finding, Kind
from privacy.deidentify.names import GIVEN_NAMES, NOT_NAMES, SURNAMES

_DIGITS = re.compile(r"\d+")
#: Spaces and hyphens of word processors, which would hide a phone number.
_PLAIN = {0xA0: " ", 0x202F: " ", 0x2009: " ", **dict.fromkeys(range(0x2010, 0x2016), "-")}
_SPACE = re.compile(r"\s|$")
_FOUR_DIGITS = re.compile(r"(?:19|20|21)\d\d")
_FARTHEST_APPOINTMENT_YEARS = 5
_MAX_CHARACTERS = 2_000_000


def check_report(text: str) -> list[Finding]:
    """What may name somebody in ``text``, in reading order; what is already removed (``___`` and the like) is not it.

    Text over two million characters is not read and counts as unreadable.
    """
    if len(text) > _MAX_CHARACTERS:
        return [Finding("unreadable", "the whole text")]
    spans = sorted(_spans(_without_removed(text)))
    return [Finding(kind, f"characters {start}-{end}") for start, end, kind in spans]


def _without_removed(text: str) -> str:
    """Text of the same length: plain spaces and hyphens, and underscores where something was removed already."""
    if not text.isascii():
        text = text.translate(_PLAIN)
    if not any(mark in text for mark in ("[", "<", "XXX")):
        return text
    return rules.REMOVED.sub(lambda match: "_" * (match.end() - match.start()), text)


def _spans(text: str) -> list[tuple[int, int, Kind]]:
    """Stretches that do not overlap: the rule that comes first keeps what it found."""
    kept: list[tuple[int, int, Kind]] = []
    for start, end, kind in _candidates(text):
        if all(end <= other or start >= last for other, last, _ in kept):
            kept.append((start, end, kind))
    return kept


def _candidates(text: str) -> Iterator[tuple[int, int, Kind]]:
    if "@" in text:
        yield from ((*match.span(), "email") for match in rules.EMAIL.finditer(text))
    lowered = text.lower()
    if "://" in text or "www." in lowered:
        yield from ((*match.span(), "web-address") for match in rules.WEB_ADDRESS.finditer(text))
    windows = list(_near_digits(text))
    for kind, pattern in rules.WITH_DIGITS:
        for start, end in windows:
            for match in pattern.finditer(text, start, end):
                if kind != "date" or not _is_shifted(match[0]):
                    yield (*match.span(), kind)
    yield from ((start, end, "name") for start, end in _names(text, lowered))


def _is_shifted(date: str) -> bool:
    """A year too far ahead for any appointment: de-identified cohorts such as MIMIC live in the next century."""
    year = _FOUR_DIGITS.search(date)
    return year is not None and int(year[0]) > datetime.now(UTC).year + _FARTHEST_APPOINTMENT_YEARS


def _near_digits(text: str) -> Iterator[tuple[int, int]]:
    """Stretches round digits, apart from each other; each ends before white space, so that no number is cut."""
    start = end = -1
    for match in _DIGITS.finditer(text):
        if match.start() - rules.WITHIN > end:
            if end >= 0:
                yield start, end
            start = max(0, match.start() - rules.WITHIN)
        if match.end() + rules.WITHIN > end:
            space = _SPACE.search(text, min(len(text), match.end() + rules.WITHIN))
            end = space.start() if space else len(text)
    if end >= 0:
        yield start, end


def _names(text: str, lowered: str) -> Iterator[tuple[int, int]]:
    for match in rules.TITLED.finditer(text):
        if _may_be_name(match["name"], shortest_capitals=2):
            yield match.span("name")
    if any(title in lowered for title in ("dr.", "prof.", "mrs.", "hr.")):
        for match in rules.LOWER_TITLED.finditer(text):
            if match["name"] not in NOT_NAMES:
                yield match.span("name")
    for match in rules.AFTER_LABEL.finditer(text):
        start = match.start("name")
        if rules.LABEL.search(text, max(0, start - rules.LABEL_WITHIN), start) and _may_be_name(match["name"]):
            yield match.span("name")
    for degree in rules.DEGREE.finditer(text):
        for match in rules.CREDENTIALED.finditer(text, max(0, degree.start() - rules.DEGREE_WITHIN), degree.end()):
            if _may_be_name(match["name"]):
                yield match.span("name")
    yield from _listed(text)


def _listed(text: str) -> Iterator[tuple[int, int]]:
    """Given names of the list with a surname after, or before and a comma between; the same in capitals."""
    before = 0
    for word in rules.CAPITALISED.finditer(text):
        if word[0].lower() in GIVEN_NAMES:
            for start in {before, word.start()}:
                match = rules.PAIR.match(text, start)
                if match and _is_listed(match):
                    yield match.span()
        before = word.start()


def _may_be_name(found: str, *, shortest_capitals: int = 4) -> bool:
    """Not an ordinary word, and not an abbreviation such as CT, unless more follows."""
    words = re.findall(r"[^\W\d_]{2,}", found)
    if not words or words[0].lower() in NOT_NAMES:
        return False
    return not (len(words) == 1 and words[0].isupper() and len(words[0]) < shortest_capitals)


def _is_listed(match: re.Match[str]) -> bool:
    """A given name and a word that can be a surname; in capitals, where every word looks like a name, both listed."""
    first, second = match["first"], match["second"]
    given, family = (second, first) if match["comma"] else (first, second)
    if given.lower() not in GIVEN_NAMES or family.lower() in NOT_NAMES:
        return False
    return family.lower() in SURNAMES if family.isupper() or match["comma"] else len(family) > 2
