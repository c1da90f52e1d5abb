"""One audit as JSON, as text for the terminal, and as one page that needs nothing else."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from dataclasses import asdict
from html import escape
from pathlib import Path
from typing import Any

from privacy.audit.figure import drawn
from privacy.audit.levels import LEVELS, Audit
from privacy.audit.verdicts import Outcome, Verdict
from privacy.claims import rounded_up

SCHEMA = 1
HEADLINES: dict[Outcome, str] = {
    "holds": "claim holds, as far as this test sees",
    "broken": "claim broken",
    "says nothing": "says nothing about the claim",
}
CONTROL = "control, not a claim"
HOW_TO_READ = (
    "An audit attacks the system as somebody outside would. Where an attack does better than the claim allows, the "
    "claim is broken. Where it does not, the claim may still be false: no attack proves privacy; the accounting does, "
    "if its assumptions are true.",
    "A bound says which claims an attack refutes. It is never an epsilon of the system, and a sound private training "
    "shows bounds well below its claim, often at a third of it or less.",
    "Tests that say nothing about the claim still show what is revealed to whoever has what the attacker had.",
)


def as_json(audit: Audit) -> dict[str, Any]:
    """Plain dictionaries and lists; what is infinite or absent is null."""
    return {
        "schema": SCHEMA,
        "subject": audit.subject,
        "claimed": None if audit.claimed is None else _finite(asdict(audit.claimed)),
        "request": asdict(audit.request),
        "broken": len(audit.broken()),
        "verdicts": [asdict(verdict) for verdict in audit.verdicts()],
        "mechanisms": [asdict(result) for result in audit.mechanisms],
        "one_run": None if audit.one_run is None else asdict(audit.one_run),
        "membership": None if audit.membership is None else asdict(audit.membership),
        "heads": [asdict(result) for result in audit.heads],
        "tokens": [asdict(result) for result in audit.tokens],
        "reidentification": None if audit.reidentification is None else asdict(audit.reidentification),
    }


def as_text(audit: Audit) -> str:
    """For the terminal: the claim, then each level with its verdicts."""
    lines = [_about(audit)]
    for level, verdicts in _by_level(audit):
        lines += ["", f"Level {level}. {LEVELS[level]}"]
        for verdict in verdicts:
            lines += [f"  {verdict.test}: {headline(verdict).upper()}", f"    {verdict.words}"]
    return "\n".join([*lines, "", *HOW_TO_READ])


def as_page(audit: Audit) -> str:
    """A whole HTML page: no script, no address, nothing to load."""
    sections = "\n".join(_section(level, verdicts) for level, verdicts in _by_level(audit))
    figure = drawn(audit)
    return _PAGE.format(
        style=_STYLE,
        about=escape(_about(audit)),
        headline=escape(_headline(audit)),
        reading="\n".join(f"<p>{escape(words)}</p>" for words in HOW_TO_READ),
        figure=f"<figure>{figure}<figcaption>{escape(_CAPTION)}</figcaption></figure>" if figure else "",
        sections=sections,
    )


def headline(verdict: Verdict) -> str:
    """The outcome in a few words; a control has no claim to hold or break."""
    return CONTROL if verdict.control else HEADLINES[verdict.outcome]


def write_report(audit: Audit, folder: Path) -> tuple[Path, Path]:
    """Write audit.json and audit.html into ``folder``, which is made if it is not there; an earlier report is replaced.

    Raises:
        OSError: the folder cannot be written.
    """
    folder.mkdir(parents=True, exist_ok=True)
    content, page = folder / "audit.json", folder / "audit.html"
    content.write_text(json.dumps(as_json(audit), indent=2, allow_nan=False) + "\n", encoding="utf-8")
    page.write_text(as_page(audit), encoding="utf-8")
    return content, page


def _finite(values: dict[str, Any]) -> dict[str, Any]:
    return {
        name: None if isinstance(value, float) and not math.isfinite(value) else value for name, value in values.items()
    }


def _by_level(audit: Audit) -> Iterator[tuple[int, list[Verdict]]]:
    verdicts = audit.verdicts()
    for level in sorted({verdict.level for verdict in verdicts}):
        yield level, [verdict for verdict in verdicts if verdict.level == level]


def _about(audit: Audit) -> str:
    if audit.claimed is None:
        return "Mechanisms of this installation, without a run."
    if math.isinf(audit.claimed.epsilon):
        return f"{audit.subject}. No guarantee is claimed (mode {audit.claimed.mode})."
    return (
        f"{audit.subject}. Claimed per {audit.claimed.unit}: epsilon {rounded_up(audit.claimed.epsilon)} at delta "
        f"{audit.claimed.delta:g} (mode {audit.claimed.mode})."
    )


def _headline(audit: Audit) -> str:
    counts = dict.fromkeys(HEADLINES, 0)
    for verdict in audit.verdicts():
        if not verdict.control:
            counts[verdict.outcome] += 1
    return "; ".join(f"{count} x {HEADLINES[outcome]}" for outcome, count in counts.items() if count)


def _section(level: int, verdicts: list[Verdict]) -> str:
    rows = "\n".join(
        f'<tr><td>{escape(verdict.test)}</td><td class="{verdict.outcome.replace(" ", "-")}">'
        f"{escape(headline(verdict))}</td><td>{escape(verdict.words)}</td></tr>"
        for verdict in verdicts
    )
    head = "<tr><th>test</th><th>verdict</th><th>what was seen</th></tr>"
    return f"<h2>Level {level}. {escape(LEVELS[level])}</h2>\n<table>{head}\n{rows}\n</table>"


_CAPTION = (
    "Bars: claims that an attack refuted. Diamonds: what is claimed. A bar that passes its diamond breaks the claim; "
    "the control is known to be wrong and has to."
)
_STYLE = """
body { font: 16px/1.5 system-ui, sans-serif; color: #1b2430; max-width: 62rem; margin: 2rem auto; padding: 0 1rem; }
h1 { font-size: 1.6rem; } h2 { font-size: 1.15rem; margin-top: 2rem; }
table { border-collapse: collapse; width: 100%; } th, td { text-align: left; vertical-align: top;
padding: .4rem .6rem; border-bottom: 1px solid #d5dae1; } td:first-child { width: 22%; } td:nth-child(2) { width: 16%;
font-weight: 600; } .broken { color: #a11212; } .holds { color: #11643b; } .says-nothing { color: #55606e; }
figure { margin: 1.5rem 0; } figure svg { width: 100%; height: auto; } figcaption { color: #55606e; font-size: .9rem; }
"""
_PAGE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width">
<title>Privacy audit</title><style>{style}</style></head><body>
<h1>Privacy audit</h1>
<p>{about}</p>
<p><strong>{headline}</strong></p>
{reading}
{figure}
{sections}
</body></html>
"""
