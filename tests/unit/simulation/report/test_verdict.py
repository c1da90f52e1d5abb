"""The headline never says more than the interval allows."""

from __future__ import annotations

from typing import Any

import pytest

from simulation.report.verdict import against_alone, against_everyone, cautions, outcome_of

Summary = dict[str, Any]


def _gap(value: float | None, low: float | None = None, high: float | None = None) -> dict[str, Any]:
    return {"macro_auroc": value, "ci95": None if low is None else [low, high], "paired": True}


@pytest.mark.parametrize(
    ("gap", "outcome"),
    [
        (_gap(0.02, 0.01, 0.03), "better"),
        (_gap(-0.02, -0.03, -0.01), "worse"),
        (_gap(0.02, -0.01, 0.05), "undecided"),
        (_gap(0.02, 0.0, 0.05), "undecided"),
        (_gap(-0.02, -0.04, 0.0), "undecided"),
        (_gap(0.0, 0.0, 0.0), "undecided"),
        (_gap(0.02), "unknown"),
        (_gap(None, 0.01, 0.02), "unknown"),
        (_gap(float("nan"), 0.01, 0.02), "unknown"),
        (_gap(0.02, float("nan"), 0.05), "unknown"),
        ({}, "unknown"),
    ],
)
def test_outcome_follows_the_interval_not_the_value(gap: dict[str, Any], outcome: str) -> None:
    assert outcome_of(gap) == outcome


def test_interval_across_zero_is_said_in_words(summary: Summary) -> None:
    verdict = against_everyone(summary)
    assert verdict.answer == "No difference was shown; being up to 0.031 worse is not ruled out."
    assert verdict.evidence.startswith("Macro AUROC: federated 0.848, trained on everyone’s data 0.862. ")
    assert "Difference −0.014 (paired, 95 % interval −0.031 to +0.004)." in verdict.evidence
    assert "The interval includes zero" in verdict.evidence
    assert "up to 0.031 worse or up to 0.004 better" in verdict.evidence


def test_clear_loss_is_called_a_loss_with_its_size(summary: Summary) -> None:
    summary["gap"]["federated_minus_centralized"] = _gap(-0.05, -0.07, -0.03)
    verdict = against_everyone(summary)
    assert verdict.answer == "No: it scored 0.050 lower, and the interval excludes zero."
    assert "includes zero" not in verdict.evidence


def test_identical_models(summary: Summary) -> None:
    summary["gap"]["federated_minus_centralized"] = _gap(0.0, 0.0, 0.0)
    assert against_everyone(summary).answer == "The two scored the same on these test patients."


def test_gain_over_local_counts_sites(summary: Summary) -> None:
    verdict = against_alone(summary)
    assert verdict.answer == (
        "Yes: it scored 0.067 above the mean of the models that the sites trained alone,"
        " on the test patients of all sites."
    )
    assert "for 2 of 4 sites the gain is clear of zero; no site did clearly better alone." in verdict.evidence


def test_site_that_loses_is_named(summary: Summary) -> None:
    summary["joining"]["coast"] = {"local": 0.9, "federated": 0.8, "gain": -0.1, "ci95": [-0.15, -0.05]}
    assert "coast did clearly better alone." in against_alone(summary).evidence


def test_gains_without_intervals_are_not_counted(summary: Summary) -> None:
    for values in summary["joining"].values():
        values["ci95"] = None
    assert "By site" not in against_alone(summary).evidence


def test_no_advantage_shown(summary: Summary) -> None:
    summary["gap"]["federated_minus_local_mean"] = _gap(0.01, -0.02, 0.04)
    verdict = against_alone(summary)
    assert verdict.answer == "An advantage over training alone was not shown."
    assert "up to 0.020 worse or up to 0.040 better" in verdict.evidence


def test_missing_arm_is_named(summary: Summary) -> None:
    del summary["arms"]["centralized"], summary["gap"]["federated_minus_centralized"]
    verdict = against_everyone(summary)
    assert verdict.outcome == "unknown"
    assert verdict.evidence == "No AUROC for the model trained on everyone’s data."


def test_difference_without_interval_shows_nothing(summary: Summary) -> None:
    summary["gap"]["federated_minus_local_mean"] = _gap(0.3)
    verdict = against_alone(summary)
    assert verdict.answer == "This run cannot answer that."
    assert "Difference +0.300, without an interval." in verdict.evidence


def test_model_at_chance_is_flagged_first(summary: Summary) -> None:
    summary["arms"]["federated"]["ci95"] = [0.47, 0.61]
    summary["status"] = "partial"
    found = cautions(summary)
    assert found[0].startswith("The federated model itself is not shown to be better than chance (0.5)")
    assert found[1].startswith("This run is PARTIAL")


def test_no_cautions_where_nothing_is_wrong(summary: Summary) -> None:
    for arm in ("centralized", "federated", "random_encoder"):
        for protocol in (summary["arms"][arm], summary["arms"][arm]["linear_probe"]):
            del protocol["per_label"]["Fracture"], protocol["per_label"]["Pneumothorax"]
    del summary["arms"]["local"]["mean"]["per_label"]
    assert cautions(summary) == []
