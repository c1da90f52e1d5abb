"""The words of a report that are worth training on.

Radiology reports follow MIMIC-CXR: upper-case headers with a colon, ``___`` where something was removed, addenda first,
each closed by a line of underscores. The rules are those of MIT-LCP's section script, in our own words: the last
impression of the report, its last findings, otherwise its last paragraph. Text without any header is taken whole,
whatever its language.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

from more_model.errors import InputRefused

Origin = Literal["findings+impression", "findings", "impression", "last-paragraph", "whole"]

_COMBINED = r"FINDINGS?\s*(?:AND|/|&)\s*IMPRESSIONS?|IMPRESSIONS?\s*(?:AND|/|&)\s*FINDINGS?"
_KNOWN = rf"{_COMBINED}|FINDINGS?|IMPRESSIONS?|CONCLUSIONS?"
# A known header counts in any case at the start of a line, in capitals anywhere (exports often lose their line breaks).
# Any other words in capitals with a colon end a section only at the start of a line.
_HEADER = re.compile(
    rf"(?P<known>^[ \t]*(?i:{_KNOWN})[ \t]*:|(?<=\s)(?:{_KNOWN})[ \t]*:)"
    r"|(?P<other>^[ \t]*[A-Z][A-Z0-9 ,./()&'-]{2,70}:)",
    re.MULTILINE,
)
# Sections that never hold findings.
_ADMINISTRATIVE = re.compile(
    r"EXAM|INDICATION|HISTORY|CLINICAL|REASON|TECHNIQUE|COMPARISON|NOTIFICATION|RECOMMENDATION|WET READ|PROCEDURE|STUDY"
    r"|DATE|ACCESSION|ADDENDUM|CONTRAST|DOSE|ATTENDING|DICTATED|SIGNED"
)
_TITLE = re.compile(r"^[ \t]*(?:FINAL REPORT|WET READ|PRELIMINARY REPORT|(?:FINAL )?ADDENDUM)[ \t]*$", re.MULTILINE)
_ADDENDUM_LINE = re.compile(r"^[ \t]*_{10,}[ \t]*$", re.MULTILINE)
_REDACTED = re.compile(r"_{2,}")


@dataclass(frozen=True, slots=True)
class ReportText:
    """Training text in one line, where it came from, and what was done to the raw text."""

    text: str
    origin: Origin
    corrections: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class _Section:
    name: str
    body: str


def training_text(raw: str) -> ReportText:
    """Findings and impression of a report, or the official fallbacks.

    White space is collapsed and every run of underscores becomes ``___``. Raises `InputRefused` ("empty-report") where
    no words are left, or only an indication, a technique and the like.
    """
    corrections: list[str] = []
    text = raw.replace("\r\n", "\n").replace("\r", "\n").replace("\x00", "").removeprefix("\ufeff")
    parts = [part for part in _ADDENDUM_LINE.split(text) if _words(part)]
    if len(parts) > 1:
        corrections.append("addendum-skipped")
    sections = _sections(parts[-1]) if parts else []
    structured = any(section.name not in {"", "other"} for section in sections)
    if parts and not structured and not _TITLE.search(parts[-1]):
        return ReportText(_one_line(parts[-1]), "whole", tuple(corrections))
    combined = _last(sections, "combined")
    findings, impression = _last(sections, "findings"), _last(sections, "impression")
    if combined:
        kept = [combined] if not impression else [combined, impression]
        return ReportText(" ".join(kept), "findings+impression", tuple(corrections))
    if findings and impression:
        return ReportText(f"{findings} {impression}", "findings+impression", tuple(corrections))
    if findings:
        return ReportText(findings, "findings", tuple(corrections))
    if impression:
        return ReportText(impression, "impression", tuple(corrections))
    paragraph = _last_paragraph(parts[-1]) if parts else ""
    if paragraph:
        return ReportText(paragraph, "last-paragraph", tuple(corrections))
    raise InputRefused(
        "empty-report",
        "The report has no text that describes a finding.",
        remedy="check the export: the field may be blank or hold only headers, indication or technique",
    )


def ecg_text(statements: Iterable[str]) -> str:
    """Machine statements of an ECG (such as MIMIC's report_0 .. report_17) in one line, blank ones left out.

    Empty where every statement is blank; the caller decides whether such a record is of use.
    """
    cleaned = (_one_line(statement).rstrip(" .") for statement in statements)
    kept = [statement for statement in cleaned if statement]
    return ". ".join(kept) + "." if kept else ""


def _one_line(text: str) -> str:
    return " ".join(_REDACTED.sub("___", text).split())


def _words(text: str) -> bool:
    return any(character.isalnum() for character in text)


def _sections(text: str) -> list[_Section]:
    found = list(_HEADER.finditer(text))
    sections = [_Section("", text[: found[0].start()] if found else text)]
    ends = [*(match.start() for match in found[1:]), len(text)]
    for match, end in zip(found, ends, strict=False):
        sections.append(_Section(_section_name(match), text[match.end() : end]))
    return [section for section in sections if section.name or _words(section.body)]


def _section_name(match: re.Match[str]) -> str:
    if match["other"]:
        return "administrative" if _ADMINISTRATIVE.search(match["other"]) else "other"
    header = match["known"].upper()
    if "FINDING" in header and "IMPRESSION" in header:
        return "combined"
    return "findings" if "FINDING" in header else "impression"


def _last(sections: list[_Section], name: str) -> str:
    bodies = [_one_line(section.body) for section in sections if section.name == name and _words(section.body)]
    return bodies[-1] if bodies else ""


def _last_paragraph(text: str) -> str:
    """The last paragraph that does not belong to an administrative header of its own; other headers are cut off."""
    kept = []
    for paragraph in re.split(r"\n[ \t]*\n", _TITLE.sub("", text)):
        header = _HEADER.match(paragraph.strip("\n"))
        if header and _section_name(header) == "administrative":
            continue
        body = paragraph.strip("\n")[header.end() :] if header else paragraph
        if _words(body):
            kept.append(_one_line(body))
    return kept[-1] if kept else ""
