"""`report.html` of an evaluation: the result, every label, what the baselines say, and how far to trust it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from more_model.report.blocks import Cell, Facts, Section, Table, Words, section
from more_model.report.page import Page, write_page

_NONE = "–"
_MODES = {
    "zero-shot": "Zero-shot",
    "linear-probe": "Linear probe",
    "fine-tune": "Fine-tuned",
    "fusion": "Late fusion",
}
_POLICIES = {
    "ignore": "a study whose label is uncertain is left out of that label",
    "zero": "an uncertain label counts as absent",
    "one": "an uncertain label counts as present",
    "published": "as in the published code: a label that is not stated counts as absent, and a study with any "
    "uncertain label is left out of all",
}


def write_results_page(folder: Path, summary: Mapping[str, Any]) -> Path:
    """Writes ``folder/report.html`` from the content of ``summary.json`` alone."""
    protocol = summary["protocol"]
    sections = [
        _results(summary),
        *(_labels(result) for result in summary["results"]),
        _comparisons(summary),
        *(_subgroups(result) for result in summary["results"]),
        _wording(summary),
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
    refused = sum(sum(reasons.values()) for reasons in summary["protocol"]["facts"].get("refused", {}).values())
    if refused:
        cautions.append(f"{refused} studies could not be read; they are counted in summary.json by split and reason.")
    return cautions


def _results(summary: Mapping[str, Any]) -> Section | None:
    rows: list[list[Cell | str]] = []
    for result in summary["results"]:
        macro = result["metrics"]["macro"]
        drawn = result.get("draws")
        rows.append(
            [
                name_of(result),
                estimate(macro, "auroc"),
                estimate(macro, "auprc"),
                figure(result["metrics"]["micro"].get("auroc")),
                figure(macro.get("brier")),
                figure(macro.get("ece")),
                str(macro["labels"]),
                _NONE if drawn is None else f"{figure(drawn['mean'])} ± {figure(drawn['sd'])}",
            ]
        )
    head = ["Model and mode", "Macro AUROC", "Macro AUPRC", "Micro AUROC", "Brier", "ECE", "Labels", "Over draws"]
    return section(
        "results",
        "Results",
        [
            Words(
                "AUROC is the chance that a case with the finding is ranked above one without it. Intervals (95 %) "
                "come from resampling patients. Brier score and ECE judge probabilities that were calibrated on "
                "validation patients. Where labels were drawn several times, the first draw is shown; the mean and "
                "standard deviation of the macro AUROC over draws stand at the end."
            ),
            Table("Macro and micro figures", head, rows),
        ],
    )


def _labels(result: Mapping[str, Any]) -> Section | None:
    rows: list[list[Cell | str]] = []
    for label, entry in result["metrics"]["per_label"].items():
        rows.append(
            [
                label,
                Cell(entry.get("reason") or "", tone="quiet") if entry["auroc"] is None else estimate(entry, "auroc"),
                interval(entry.get("delong_ci95")),
                estimate(entry, "auprc"),
                _sensitivity(entry),
                figure(entry.get("ece")),
                str(entry["positives"]),
                str(entry["negatives"]),
            ]
        )
    head = ["Label", "AUROC", "DeLong 95 %", "AUPRC", "Sensitivity at specificity 0.9", "ECE", "Positives", "Negatives"]
    note = "DeLong's interval takes cases as independent; it is a cross-check of the one by patients."
    return section(f"labels-{anchor(result)}", name_of(result), [Table("Every label", head, rows, note)])


def _sensitivity(entry: Mapping[str, Any]) -> str:
    point = entry["operating_points"].get("sensitivity at specificity 0.9")
    return _NONE if point is None else f"{figure(point['value'])} {interval(point['ci95'])}"


def _comparisons(summary: Mapping[str, Any]) -> Section | None:
    rows: list[list[Cell | str]] = [
        [entry["a"], entry["b"], f"{signed(entry['macro_auroc'])} {interval(entry['ci95'])}", str(len(entry["labels"]))]
        for entry in summary["comparisons"]
    ]
    if not rows:
        return None
    table = Table("Paired differences of macro AUROC", ["Model", "Minus", "Difference", "Labels"], rows)
    words = Words(
        "A randomly initialised encoder with the same probe, and a model of the same size trained on the labels alone: "
        "what the training on reports adds is what lies above them. An interval that includes zero shows no difference."
    )
    return section("comparisons", "Against the baselines", [words, table])


def _subgroups(result: Mapping[str, Any]) -> Section | None:
    tables = result.get("subgroups")
    if tables is None:
        return None
    rows: list[list[Cell | str]] = []
    for division, parts in tables["divisions"].items():
        for part, table in parts.items():
            against = table.get("difference") or {}
            rows.append(
                [
                    f"{division}: {part}",
                    str(table["patients"]),
                    Cell(table["reason"], tone="quiet") if table.get("reason") else estimate(table, "macro_auroc"),
                    f"{signed(against.get('macro_auroc'))} {interval(against.get('ci95'))}",
                ]
            )
    largest = tables.get("largest_gap")
    return section(
        f"subgroups-{anchor(result)}",
        f"Subgroups: {name_of(result)}",
        [
            Words(largest["sentence"]) if largest else None,
            Table("Macro AUROC by part", ["Part", "Patients", "Macro AUROC", "Minus all others"], rows),
        ],
    )


def _wording(summary: Mapping[str, Any]) -> Section | None:
    prompts = summary.get("prompts")
    if prompts is None:
        return None
    rows: list[list[Cell | str]] = [
        [label, figure(entry["min"]), figure(entry["mean"]), figure(entry["max"])]
        for label, entry in prompts["single_wordings"]["per_label"].items()
    ]
    flips = prompts["single_wordings"]["flips"]
    sentence = (
        f"With single wordings the result of {', '.join(flips)} falls on both sides of chance: no zero-shot figure of "
        "these labels can be relied on."
        if flips
        else "No label falls on both sides of chance when it is asked with one wording instead of all."
    )
    table = Table("AUROC with one wording a side, over draws", ["Label", "Lowest", "Mean", "Highest"], rows)
    return section("wording", "How much the wording matters", [Words(sentence), table])


def _provenance(summary: Mapping[str, Any]) -> Section | None:
    cohort: list[list[Cell | str]] = [
        [split, str(counts["patients"]), str(counts["studies"]), str(counts["cases"])]
        for split, counts in summary["cohort"].items()
    ]
    facts = [
        ("Checkpoint", f"{summary['checkpoint']['file']}, {summary['checkpoint']['digest']}"),
        ("Origin", summary["checkpoint"]["origin"]),
        ("Protocol", summary["protocol"]["name"]),
        ("Seed", str(summary["seed"])),
        ("Bootstrap resamples", str(summary["replicates"])),
    ]
    counts = [(name, str(value)) for name, value in summary["protocol"]["facts"].get("protocol", {}).items()]
    head = ["Split", "Patients", "Studies", "Cases"]
    return section("provenance", "What was evaluated", [Table("Cohort", head, cohort), Facts([*facts, *counts])])


def name_of(result: Mapping[str, Any]) -> str:
    """One outcome in words."""
    parts = [_MODES[result["mode"]], result["model"], result["variant"]]
    return ", ".join(part for part in parts if part)


def anchor(result: Mapping[str, Any]) -> str:
    """An address inside the page, unique per outcome."""
    raw = "-".join((result["mode"], result["model"], result["variant"]))
    return "".join(letter if letter.isalnum() else "-" for letter in raw.lower()).strip("-")


def estimate(entry: Mapping[str, Any], name: str) -> str:
    """A figure with its interval."""
    bounds = entry.get("ci95" if name in ("auroc", "macro_auroc") else f"{name}_ci95")
    return f"{figure(entry.get(name))} {interval(bounds)}".strip()


def figure(value: float | None) -> str:
    """Three decimals, or a dash."""
    return _NONE if value is None else f"{value:.3f}"


def signed(value: float | None) -> str:
    """Three decimals with the sign, or a dash."""
    return _NONE if value is None else f"{value:+.3f}"


def interval(bounds: Sequence[float] | None) -> str:
    """An interval in brackets, or nothing."""
    return "" if bounds is None else f"({bounds[0]:.3f} to {bounds[1]:.3f})"
