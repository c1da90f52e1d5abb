"""`report.html`: one file that a clinician can open, print and forward; nothing is fetched and no script runs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from more_model.report.blocks import Section
from more_model.report.canvas import look
from more_model.report.page import page_environment, write_whole
from simulation.report import examples, verdict
from simulation.report.details import ReportDetails
from simulation.report.privacy_words import short_claim
from simulation.report.reading import arms, number, part
from simulation.report.sections_cohort import cohort_section, modalities_present, trained_section
from simulation.report.sections_exchange import environment_section, exchange_section, limits
from simulation.report.sections_explained import explained_section
from simulation.report.sections_health import health_section
from simulation.report.sections_privacy import privacy_section
from simulation.report.sections_results import auroc_section, curves_sections, joining_section, retrieval_section
from simulation.report.wording import arm_name, auroc, estimate, listing, percent, plural, size, words_kind


def write_report(out: Path, summary: dict[str, Any], details: ReportDetails) -> Path:
    """Writes ``out/report.html`` and ``out/figures/*.png``; returns the path of the page.

    ``summary`` is the content of ``summary.json``; any optional part may be absent. The page is written beside its
    final name and then renamed, so a reader never finds half a page. Raises OSError where the folder is not writable.
    """
    folder = out / "figures"
    folder.mkdir(parents=True, exist_ok=True)
    with look():
        sections = _sections(summary, details, folder)
    template = page_environment("simulation.report").get_template("report.html.j2")
    return write_whole(out / "report.html", template.render(**_context(summary, details, sections)))


def _sections(summary: Mapping[str, Any], details: ReportDetails, folder: Path) -> list[Section]:
    ordered = [
        trained_section(summary),
        cohort_section(summary),
        auroc_section(summary, folder),
        *curves_sections(summary, details, folder),
        joining_section(summary, folder),
        retrieval_section(summary),
        explained_section(details.explained, folder),
        health_section(summary, folder),
        exchange_section(summary),
        privacy_section(summary, folder),
        environment_section(summary),
    ]
    return [section for section in ordered if section is not None]


def _context(summary: Mapping[str, Any], details: ReportDetails, sections: list[Section]) -> dict[str, Any]:
    return {
        "name": str(summary.get("name") or "run"),
        "status": str(summary.get("status") or "not stated"),
        "synthetic": bool(summary.get("synthetic")),
        "subtitle": _subtitle(summary),
        "verdicts": [verdict.against_everyone(summary), verdict.against_alone(summary), verdict.promised(summary)],
        "cautions": verdict.cautions(summary),
        "highlights": _highlights(summary),
        "sections": sections,
        "examples": [examples.draw(example, place) for place, example in enumerate(details.examples, start=1)],
        "limits": limits(summary, details),
    }


def _subtitle(summary: Mapping[str, Any]) -> str:
    sites = part(summary, "cohort", "sites")
    patients = sum(
        number(part(sites, site, "patients"), split) or 0 for site in sites for split in ("train", "validation", "test")
    )
    pieces = [plural(len(sites), "site")] if sites else []
    if patients:
        pieces.append(plural(round(patients), "patient"))
    if modalities_present(summary):
        pieces.append(f"{listing(modalities_present(summary))} with {words_kind(summary.get('text_kind'))}")
    if summary.get("rounds"):
        pieces.append(plural(len(summary["rounds"]), "round"))
    return " · ".join(pieces)


@dataclass(frozen=True, slots=True)
class Highlight:
    """One of the few numbers shown first; ``arm`` is empty where it is not about an arm."""

    arm: str
    term: str
    figure: str
    small: tuple[str, ...]


def _highlights(summary: Mapping[str, Any]) -> list[Highlight]:
    found = []
    for arm in ("centralized", "federated", "local"):
        values = part(arms(summary), arm)
        if number(values, "macro_auroc") is not None:
            ends = estimate(values).partition(" (")[2].removesuffix(")")
            small = ("macro AUROC", f"95 %: {ends}") if ends else ("macro AUROC",)
            small = (*small, short_claim(summary)) if arm == "federated" else small
            found.append(Highlight(arm, arm_name(arm), auroc(number(values, "macro_auroc")), small))
    exchange = part(summary, "exchange")
    up, share = number(exchange, "bytes_up_per_site_round"), number(exchange, "share_of_full_model")
    if up is not None:
        of_full = (f"{percent(share)} of a full model",) if share is not None else ()
        found.append(Highlight("", "Sent per site and round", size(up), of_full))
    return found
