"""The report of an evaluation says what summary.json says: all of its reasons, and no figure besides."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import replace
from html import unescape
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from more_model.evaluation.modes import Outcome
from more_model.evaluation.results import comparisons, fewer_labels, grouped, result_entry
from more_model.evaluation.results_page import write_results_page
from more_model.evaluation.settings import EvaluationSettings

SETTINGS = EvaluationSettings.model_validate(
    {"protocol": "cohort", "data": "d", "checkpoint": "c", "replicates": 30}
)  # fmt: skip
NASTY = "<script>alert(1)</script> & so"


@pytest.fixture
def summary(make_scored: Callable[..., Any]) -> dict[str, Any]:
    """Two modes, draws, a baseline, subgroups, a label without a figure, one without calibration, one too perfect."""

    def outcome(mode: str, model: str, fraction: float | None, draw: int = 0, seed: int | None = None) -> Outcome:
        generator = np.random.default_rng([draw, len(mode), len(model)])
        test, validation = [], []
        for place, label in enumerate((NASTY, "Rare", "Perfect")):
            y = np.array([float(row % 2) for row in range(40)])
            score = y if label == "Perfect" else y + generator.normal(size=40)
            reason = None
            if label == "Rare":
                reason = f"linear probe: in training {draw} positives, at least 2 of either are needed"
                score = np.full(40, np.nan)
            attributes = {"sex": ["F" if row % 3 else "M" for row in range(40)], "age": ["50"] * 32 + ["20"] * 8}
            scored = make_scored(y, score, label=label, reason=reason)
            test.append(replace(scored, attributes=attributes))
            if place == 0:
                held = make_scored(y, score, label=label, patient=[f"v{row}" for row in range(40)])
                validation.append(held)
        return Outcome(mode, model, "", fraction, draw, test, validation, seed)  # type: ignore[arg-type]

    groups = grouped(
        [
            outcome("zero-shot", "checkpoint", None),
            *(outcome("zero-shot", "random encoder", None, n, n) for n in range(2)),
            *(outcome("linear-probe", "checkpoint", 0.1, n) for n in range(2)),
            outcome("linear-probe", "checkpoint", 1.0),
        ]
    )
    return {
        "protocol": {
            "name": "mimic-4",
            "title": "MIMIC",
            "subset": "test",
            "labels": [NASTY, "Rare", "Perfect"],
            "notes": ["A note of the protocol."],
            "facts": {"protocol": {"test images": 1234}, "refused": {"test": {"truncated-pixels": 3}}},
        },
        "synthetic": False,
        "uncertainty": "zero",
        "blank": "absent",
        "checkpoint": {"file": "c", "digest": "d" * 64, "origin": "Seeded.", "architecture": "tiny", "adapted": True},
        "cohort": {part: {"patients": 40, "studies": 40, "cases": 40} for part in ("train", "validation", "test")},
        "seed": 0,
        "replicates": 30,
        "results": [result_entry(group, SETTINGS) for group in groups],
        "fractions": list(fewer_labels(groups)),
        "comparisons": list(comparisons(groups, SETTINGS)),
        "prompts": {
            "set": "mine",
            "single_wordings": {"per_label": {NASTY: {"min": 0.401, "mean": 0.502, "max": 0.603}}, "flips": [NASTY]},
        },
    }


@pytest.fixture
def page(summary: dict[str, Any], tmp_path: Path) -> str:
    return write_results_page(tmp_path, summary).read_text(encoding="utf-8")


def floats(content: Any) -> Iterator[float]:
    if isinstance(content, dict):
        content = list(content.values())
    if isinstance(content, list):
        for part in content:
            yield from floats(part)
    elif isinstance(content, float):
        yield content


def test_no_figure_is_shown_that_is_not_in_the_summary(page: str, summary: dict[str, Any]) -> None:
    known = {f"{abs(value):.3f}" for value in floats(summary)}
    body = re.sub(r"<style>.*?</style>", "", page, flags=re.DOTALL)
    shown = set(re.findall(r"\d\.\d{3}\b", body))
    assert len(shown) > 30
    assert shown <= known


def test_everything_shown_is_escaped(page: str) -> None:
    assert "<script" not in page
    assert "&lt;script&gt;alert(1)&lt;/script&gt; &amp; so" in page


def test_every_reason_is_there(page: str, summary: dict[str, Any]) -> None:
    words = unescape(page)
    reasons = {
        entry.get(name)
        for result in summary["results"]
        for entry in result["metrics"]["per_label"].values()
        for name in ("reason", "interval_reason")
    }
    assert "linear probe: in training 0 positives, at least 2 of either are needed" in reasons
    assert all(reason in words for reason in reasons - {None})
    assert "no validation patients to calibrate on" in words
    assert "every resample gives the same figure: with few cases that is no certainty" in words
    assert "age: <40: 8 patients, at least 10 are needed" in words


def test_policies_notes_and_what_a_random_encoder_is_are_said(page: str) -> None:
    assert "Uncertain labels: an uncertain label counts as absent." in page
    assert "A note of the protocol." in page
    assert "3 studies could not be read" in page
    assert "patients are resampled, weights are not" in page
    assert "mode fine-tune adds it" in page
    assert re.search(r"Labels that are not mentioned</dt>\s*<dd>absent", page)
    assert "1,234" in page


def test_rows_over_different_numbers_of_labels_are_pointed_out(summary: dict[str, Any], tmp_path: Path) -> None:
    assert "do not compare" not in write_results_page(tmp_path, summary).read_text()
    summary["results"][0]["metrics"]["macro"]["labels"] = 1
    assert "means over 1 to 2 labels" in write_results_page(tmp_path, summary).read_text()


def test_a_summary_without_any_figure_still_has_a_page(summary: dict[str, Any], tmp_path: Path) -> None:
    for result in summary["results"]:
        result["metrics"]["macro"] |= {"auroc": None, "ci95": None, "labels": 0}
        for entry in result["metrics"]["per_label"].values():
            entry |= {"auroc": None, "ci95": None, "reason": "nothing there"}
    bare = summary | {"fractions": [], "comparisons": [], "prompts": None}
    page = write_results_page(tmp_path, bare).read_text()
    assert "nothing there" in page
    assert "How much the wording matters" not in page


@pytest.mark.parametrize(("kept", "loss", "said"), [(20, 0.6, True), (10, 0.6, False), (20, None, False)])
def test_a_training_that_ran_out_of_epochs_is_pointed_out(
    summary: dict[str, Any], tmp_path: Path, kept: int, loss: float | None, said: bool
) -> None:
    towers = {"ecg": {"kept_epoch": kept, "epochs": [{"training_loss": 0.7, "validation_loss": loss}]}}
    summary["results"][0]["training"] = {"recipe": {"epochs": 20}, "towers": towers}
    page = write_results_page(tmp_path, summary).read_text()
    assert ("still falling when the last epoch ended" in page) is said
