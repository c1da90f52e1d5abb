"""`report.html` of an evaluation: the result, every label, what the baselines say, and how far to trust it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from more_model.evaluation.results_privacy import privacy_section
from more_model.evaluation.results_tables import (
    comparisons_section,
    fractions_section,
    macro_table,
    mode_section,
    name_of,
    subgroups_section,
    wording_section,
)
from more_model.evaluation.settings import RANDOM
from more_model.report.blocks import Cell, Facts, Section, Table, Words, section
from more_model.report.page import Page, write_page

_POLICIES = {
    "ignore": "a study whose label is uncertain is left out of that label",
    "zero": "an uncertain label counts as absent",
    "one": "an uncertain label counts as present",
    "published": "as in the published code: a label that is not stated counts as absent, and a study with any "
    "uncertain label is left out of all",
}
_EXPLAINED = (
    "AUROC is the chance that a case with the finding is ranked above one without it; 0.5 is a coin. Macro figures are "
    "the mean over the labels that have one. Intervals (95 %) come from resampling patients. Brier score and ECE judge "
    "probabilities that were calibrated on validation patients."
)
_DRAWN = (
    "Where labels or random encoders were drawn several times, the first draw is shown; mean and standard deviation "
    "over all draws stand beside it, over the labels that have a figure in every draw."
)
_ONE_ENCODER = (
    "The interval of a random encoder is that of one set of random weights: patients are resampled, weights are not, "
    "so it may well exclude 0.5."
)
_ENCODERS_DRAWN = " How far random encoders differ is the standard deviation over draws."
_FEW_LABELS = (
    "Rows of this table are means over {low} to {high} labels: rows with different numbers of labels do not compare."
)


def write_results_page(folder: Path, summary: Mapping[str, Any]) -> Path:
    """Writes ``folder/report.html`` from the content of ``summary.json`` alone."""
    protocol, results = summary["protocol"], summary["results"]
    modes = list(dict.fromkeys(result["mode"] for result in results))
    sections = [
        _results(summary),
        privacy_section(summary.get("privacy")),
        fractions_section(summary["fractions"]),
        comparisons_section(summary["comparisons"]),
        *(mode_section(mode, [result for result in results if result["mode"] == mode]) for mode in modes),
        *(subgroups_section(result) for result in results),
        None if summary["prompts"] is None else wording_section(summary["prompts"]),
        _provenance(summary),
    ]
    page = Page(
        kind="Evaluation report",
        title=f"{protocol['title']} ({protocol['subset']})",
        sections=[part for part in sections if part is not None],
        subtitle=f"{summary['checkpoint']['architecture']} · checkpoint {summary['checkpoint']['digest'][:12]}",
        cautions=_cautions(summary),
        synthetic=summary["synthetic"],
        footer="Every figure is taken from summary.json in the same folder.",
    )
    return write_page(folder / "report.html", page)


def _cautions(summary: Mapping[str, Any]) -> list[str]:
    cautions = [f"Uncertain labels: {_POLICIES[summary['uncertainty']]}.", *summary["protocol"]["notes"]]
    low = sorted({label for result in summary["results"] for label in result["metrics"]["low_support"]})
    if low:
        cautions.append(f"Fewer than ten cases with, or without, the finding: {', '.join(low)}.")
    unfinished = [name_of(result) for result in summary["results"] if _was_still_learning(result)]
    if unfinished:
        cautions.append(
            "The validation loss was still falling when the last epoch ended, so that the recipe is too short for so "
            f"little data and the figure says little about it: {'; '.join(unfinished)}."
        )
    refused = sum(sum(reasons.values()) for reasons in summary["protocol"]["facts"].get("refused", {}).values())
    if refused:
        cautions.append(f"{refused} studies could not be read; they are counted in summary.json by split and reason.")
    return cautions


def _was_still_learning(result: Mapping[str, Any]) -> bool:
    training = result.get("training")
    if training is None or "towers" not in training:  # a private training has no course that could be looked at
        return False
    last = training["recipe"]["epochs"]
    return any(
        tower["kept_epoch"] == last and tower["epochs"][-1]["validation_loss"] is not None
        for tower in training["towers"].values()
    )


def _results(summary: Mapping[str, Any]) -> Section | None:
    results = summary["results"]
    counts = [result["metrics"]["macro"]["labels"] for result in results]
    drawn = [result["draws"] for result in results if "draws" in result]
    encoders = _ENCODERS_DRAWN if any("encoders" in draws["of"] for draws in drawn) else ""
    return section(
        "results",
        "Results",
        [
            Words(_EXPLAINED),
            Words(_DRAWN) if drawn else None,
            Words(_ONE_ENCODER + encoders) if any(result["model"] == RANDOM for result in results) else None,
            Words(_FEW_LABELS.format(low=min(counts), high=max(counts)), "note") if len(set(counts)) > 1 else None,
            macro_table(results),
        ],
    )


def _provenance(summary: Mapping[str, Any]) -> Section | None:
    protocol = summary["protocol"]
    cohort: list[list[Cell | str]] = [
        [split, str(counts["patients"]), str(counts["studies"]), str(counts["cases"])]
        for split, counts in summary["cohort"].items()
    ]
    facts = [
        ("Checkpoint", f"{summary['checkpoint']['file']}, {summary['checkpoint']['digest']}"),
        ("Origin", summary["checkpoint"]["origin"]),
        ("Protocol", protocol["name"]),
        ("Uncertain labels", summary["uncertainty"]),
        *([] if summary["blank"] is None else [("Labels that are not mentioned", summary["blank"])]),
        *([] if summary["prompts"] is None else [("Prompts", summary["prompts"]["set"])]),
        ("Seed", str(summary["seed"])),
        ("Bootstrap resamples", str(summary["replicates"])),
    ]
    counts = [(name, f"{value:,}") for name, value in protocol["facts"].get("protocol", {}).items()]
    head = ["Split", "Patients", "Studies", "Cases"]
    return section("provenance", "What was evaluated", [Table("Cohort", head, cohort), Facts([*facts, *counts])])
