"""Figures pick their content by support, not by result, and leave the caller's settings alone."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import matplotlib
import pytest

from more_model.report.canvas import inline_svg, look
from simulation.report import LearningPoint, ReportDetails
from simulation.report.figures import arms_figure, joining_figure, labels_figure, learning_figure, roc_figure

Summary = dict[str, Any]


def test_roc_panels_are_chosen_by_positives_not_by_result(
    tmp_path: Path, summary: Summary, details: ReportDetails
) -> None:
    figure = roc_figure(summary, details.rocs, tmp_path)
    assert figure is not None
    assert "Pneumothorax" not in figure.alt
    assert "Atelectasis" in figure.alt
    assert "12 of 13 labels with the most positives" in figure.caption
    assert (tmp_path / "roc.png").read_bytes().startswith(b"\x89PNG")


def test_learning_curve_alt_text_and_loss_only(tmp_path: Path) -> None:
    learning = {
        "federated": [LearningPoint(0.5, "round 1", 2.0, 0.6), LearningPoint(1.0, "round 2", 1.0, 0.7)],
        "centralized": [LearningPoint(1.0, "epoch 1", 1.5, None)],
        "local": [],
    }
    figure = learning_figure(learning, tmp_path)
    assert figure is not None
    assert "Federated: macro AUROC from 0.600 (round 1) to 0.700 (round 2)." in figure.alt
    assert "Centralised: loss only." in figure.alt
    assert "Local" not in figure.alt
    assert "100 %" in figure.svg


def test_nothing_to_draw_gives_no_figure(tmp_path: Path) -> None:
    assert arms_figure({}, tmp_path) is None
    assert labels_figure({}, tmp_path) is None
    assert joining_figure({}, tmp_path) is None
    assert roc_figure({}, {}, tmp_path) is None
    assert learning_figure({"federated": []}, tmp_path) is None
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("value", [None, float("nan")])
def test_refused_values_are_left_out(tmp_path: Path, summary: Summary, value: float | None) -> None:
    summary["arms"]["federated"]["macro_auroc"] = value
    figure = arms_figure(summary, tmp_path)
    assert figure is not None
    assert "Federated" not in figure.alt


def test_many_local_models_keep_only_their_mean(tmp_path: Path, summary: Summary) -> None:
    local = summary["arms"]["local"]
    summary["arms"]["local"] = {**{f"site {n}": local["north"] for n in range(13)}, "mean": local["mean"]}
    figure = arms_figure(summary, tmp_path)
    assert figure is not None
    assert "Local only (mean) 0.781" in figure.alt
    assert "site 3" not in figure.alt


def test_style_is_given_back() -> None:
    before = matplotlib.rcParams["svg.fonttype"], matplotlib.rcParams["axes.grid"]
    with look():
        assert matplotlib.rcParams["svg.fonttype"] == "none"
    assert (matplotlib.rcParams["svg.fonttype"], matplotlib.rcParams["axes.grid"]) == before


def test_inlined_svg_refers_only_to_itself() -> None:
    document = (
        '<?xml version="1.0"?><!DOCTYPE svg><svg xmlns="http://www.w3.org/2000/svg" width="9pt" height="8pt" '
        'viewBox="0 0 9 8"><metadata>http://x</metadata><path id="a" clip-path="url(#b)"/><use xlink:href="#a"/></svg>'
    )
    inlined = inline_svg(document, "fig")
    assert inlined == (
        '<svg viewBox="0 0 9 8" aria-hidden="true" focusable="false"><path id="fig-a" clip-path="url(#fig-b)"/>'
        '<use href="#fig-a"/></svg>'
    )
