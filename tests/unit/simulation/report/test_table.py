"""The terminal shows the same numbers in 80 columns."""

from __future__ import annotations

import io
from typing import Any

import pytest
from rich.console import Console

from simulation.report import print_table

Summary = dict[str, Any]


def _printed(summary: Summary, width: int = 80) -> str:
    screen = io.StringIO()
    print_table(summary, Console(file=screen, width=width, color_system=None))
    return screen.getvalue()


def test_arms_gaps_bytes_and_status(summary: Summary) -> None:
    words = " ".join(_printed(summary).split())
    assert "Centralised 0.862 (0.84–0.88) 0.882 (0.86–0.90) 29.0 % 29.0 %" in words
    assert "north 0.760 (0.74–0.78) 0.780 (0.76–0.80)" in words
    assert (
        "Federated − centralised: −0.014 (−0.031 to +0.004); the interval includes zero: no difference shown" in words
    )
    assert "Federated − local mean: +0.067 (+0.048 to +0.087); federated above" in words
    assert "Gain by joining: north +0.088, river +0.073, coast +0.058, valley +0.043" in words
    assert "Sent per site and round: 412.3 kB (3.0 % of a full model)" in words
    assert words.endswith("Status: complete")
    assert "SYNTHETIC" not in words


def test_an_alarm_of_a_trained_arm_has_its_line(summary: Summary) -> None:
    assert "Health of training" not in _printed(summary)  # the random encoder alone has one
    finding = summary["arms"]["local"]["north"]["health"]["findings"][0]
    finding["verdict"] = "alarm"
    words = " ".join(_printed(summary).split())
    assert "Health of training: ALARM in north alone (Training loss against chance: X-ray)." in words


def test_fits_eighty_columns(summary: Summary) -> None:
    assert max(len(line.rstrip()) for line in _printed(summary).splitlines()) <= 80


def test_synthetic_and_partial_are_said(summary: Summary) -> None:
    summary["synthetic"], summary["status"] = True, "partial"
    printed = _printed(summary)
    assert printed.startswith("SYNTHETIC DATA")
    assert "Status: partial" in printed


def test_names_are_never_read_as_markup(summary: Summary) -> None:
    summary["joining"] = {"[red]north[/nonsense]": {"gain": 0.1}}
    summary["arms"]["local"]["[bold]x"] = summary["arms"]["local"].pop("north")
    printed = _printed(summary, width=120)
    assert "[red]north[/nonsense] +0.100" in printed
    assert "[bold]x" in printed


@pytest.mark.parametrize("missing", ["arms", "gap", "joining", "exchange", "status"])
def test_any_part_may_be_absent(summary: Summary, missing: str) -> None:
    del summary[missing]
    printed = _printed(summary)
    assert "Status:" in printed
    assert "None" not in printed


def test_no_probe_and_no_retrieval_leave_no_empty_columns(summary: Summary) -> None:
    for values in (*summary["arms"].values(), *summary["arms"]["local"].values()):
        values.pop("linear_probe", None)
        values.pop("retrieval", None)
    printed = _printed(summary)
    assert "probe" not in printed
    assert "R@5" not in printed
    assert "0.862 (0.84–0.88)" in printed
