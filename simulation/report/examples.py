"""Examples ready for the page: the study drawn, its own words, and what the model found for it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from more_model.report.studies import ecg_paper, png_data_uri
from simulation.report.details import Example


@dataclass(frozen=True, slots=True)
class DrawnExample:
    """An example ready for the page; ``retrieved`` adds whether the words equal the true report."""

    title: str
    site: str
    xray: str
    xray_alt: str
    ecg: str
    ecg_alt: str
    report: str
    retrieved: Sequence[tuple[str, str, bool]]


def draw(example: Example, number: int) -> DrawnExample:
    """Draws one example; ``number`` counts from 1 and keeps identifiers on the page apart."""
    report = example.report.strip()
    return DrawnExample(
        title=f"Example {number}: {example.what}",
        site=example.site,
        xray="" if example.xray is None else png_data_uri(example.xray),
        xray_alt=f"Chest X-ray of example {number} from {example.site}; the true report beside it describes it.",
        ecg="" if example.ecg is None else ecg_paper(example.ecg, example.rate_hz, f"ecg{number}"),
        ecg_alt=f"Twelve-lead ECG of example {number} from {example.site} on millimetre paper, 25 mm/s, 10 mm/mV.",
        report=report,
        retrieved=[(text.strip(), f"{score:.2f}", _same(text, report)) for text, score in example.retrieved],
    )


def _same(first: str, second: str) -> bool:
    return first.split() == second.split()
