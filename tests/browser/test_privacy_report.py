"""The report of a private run in a real browser: its figure and tables are named, and the keyboard reaches them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from browser.accessibility import faults, tab_stops
from browser.devtools import Page

from simulation.report import ReportDetails, write_report


def _point(epsilon: float | None, value: float) -> dict[str, Any]:
    return {"epsilon": epsilon, "arm": "federated", "macro_auroc": value, "ci95": [value - 0.02, value + 0.02]}


@pytest.fixture
def report(tmp_path: Path) -> Path:
    """A page with everything that privacy adds to it."""
    site = {"epsilon": 3.0, "noise_multiplier": 1.3, "sampling_rate": 0.03, "steps": 100}
    privacy = {
        "mechanism": "patient-decoupled", "statement": "Noise at each hospital.", "unit": "patient", "delta": 1e-5,
        "neighbours": "one patient more or less", "epsilon": 3.0, "warnings": ["Holds at each hospital."],
        "assumptions": ["Noise: in every step."], "not_covered": ["The AUROC."], "sites": {"north": site},
        "curve": [_point(0, 0.7), _point(3.0, 0.8), _point(None, 0.82)],
        "secure_sum": {
            "statement": "Sums only.", "sites": 4, "threshold": 3, "colluders": 1, "word_bits": 32,
            "rounds": [{"round": 1, "lost": {"north": "before masking"}, "withheld": []}],
        },
    }  # fmt: skip
    return write_report(tmp_path / "run", {"name": "private", "privacy": privacy}, ReportDetails())


def test_nothing_is_missing_for_a_screen_reader(page: Page, report: Path) -> None:
    page.goto(report)
    assert faults(page) == []
    heading = page.evaluate("document.querySelector('#privacy h2').textContent")
    spoken = page.evaluate("document.querySelector('#privacy [role=img]').getAttribute('aria-label')")
    assert heading == "Privacy"
    assert "epsilon 3.00 0.800 (0.780 to 0.820)" in spoken


def test_every_wide_part_is_reached_by_keyboard_and_seen(page: Page, report: Path) -> None:
    page.goto(report)
    stops, unseen = tab_stops(page)
    assert unseen == []
    scrolling = page.evaluate("document.querySelectorAll('#privacy .scroll').length")
    assert scrolling == 4  # sites, figure, curve, rounds
    assert len(stops) >= scrolling


def test_nothing_overflows_a_narrow_page(page: Page, report: Path) -> None:
    page.goto(report)
    page.call("Emulation.setDeviceMetricsOverride", width=360, height=740, deviceScaleFactor=1, mobile=False)
    assert page.evaluate("document.documentElement.scrollWidth") <= 360
