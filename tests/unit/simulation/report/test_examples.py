"""An example on the page: which of the reports found is the true one, and what is missing."""

from __future__ import annotations

from collections.abc import Callable

from simulation.report import Example
from simulation.report.examples import draw


def test_true_report_is_recognised_despite_spacing(make_example: Callable[..., Example]) -> None:
    drawn = draw(make_example(report=" No  effusion.\n", retrieved=[("Effusion.", 0.913), ("No effusion.", 0.9)]), 1)
    assert drawn.retrieved == [("Effusion.", "0.91", False), ("No effusion.", "0.90", True)]
    assert drawn.title == "Example 1: X-ray to report"


def test_missing_modalities_are_left_out(make_example: Callable[..., Example]) -> None:
    drawn = draw(make_example(xray=None, ecg=None, report="", retrieved=[]), 2)
    assert (drawn.xray, drawn.ecg, drawn.report, drawn.retrieved) == ("", "", "", [])
