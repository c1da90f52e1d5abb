"""AUROC of all arms, per label and per site, what joining brings, and retrieval."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from more_model.report.blocks import Cell, Facts, Section, Table, Words, section
from simulation.report import figures
from simulation.report.details import ReportDetails
from simulation.report.privacy_words import short_claim
from simulation.report.reading import arms, few_cases, label_facts, labels, local_models, number, part
from simulation.report.wording import (
    MISSING,
    arm_explanation,
    arm_name,
    auroc,
    count,
    difference,
    direction_name,
    duration,
    estimate,
    modality_name,
    percent,
)

_RECALLS = ("recall@1", "recall@5", "recall@10")


def auroc_section(summary: Mapping[str, Any], folder: Path) -> Section | None:
    """All arms side by side."""
    explained = [(arm_name(arm), _explained(arm, summary)) for arm in arms(summary) if arm_explanation(arm)]
    return section(
        "auroc",
        "How well each model does",
        [
            Words(
                "AUROC is the chance that the model ranks a patient with a finding above one without it: 1 is perfect, "
                "0.5 is a coin toss. The macro AUROC is the plain mean over the findings. Zero-shot: the model is "
                "asked in words, and no classifier is trained. Linear probe: a simple classifier is trained on what "
                "the encoder makes of a study. All figures are from patients that no arm was trained on; intervals "
                "(95 %) come from resampling those patients."
            ),
            Facts(explained) if explained else None,
            figures.arms_figure(summary, folder),
            _arms_table(summary),
            _gap_table(summary),
            figures.labels_figure(summary, folder),
            _labels_table(summary, ""),
            _labels_table(summary, "linear_probe"),
            _sites_table(summary),
        ],
    )


def _explained(arm: str, summary: Mapping[str, Any]) -> str:
    return f"{arm_explanation(arm)}; {short_claim(summary)}" if arm == "federated" else arm_explanation(arm)


def _arms_table(summary: Mapping[str, Any]) -> Table | None:
    rows: list[list[Cell | str]] = []
    for arm, values in arms(summary).items():
        timed = MISSING if arm == "local" else duration(number(values, "seconds"))
        probe = estimate(part(values, "linear_probe"))
        rows.append([Cell(arm_name(arm), arm=arm), _or_reason(values, "macro_auroc"), probe, timed])
        if arm == "local":
            rows += [_single(site, local) for site, local in local_models(summary).items()]
    if not rows:
        return None
    return Table(
        "Macro AUROC of every arm on held-out patients, with 95 % interval",
        ("Arm", "Zero-shot", "Linear probe", "Training time"),
        rows,
    )


def _single(site: str, local: Mapping[str, Any]) -> list[Cell | str]:
    probe = estimate(part(local, "linear_probe"))
    return [
        Cell(f"{site} alone", arm="local", tone="quiet"),
        _or_reason(local, "macro_auroc"),
        probe,
        duration(number(local, "seconds")),
    ]


def _or_reason(values: Mapping[str, Any], key: str) -> Cell | str:
    """The estimate, or why there is none."""
    if number(values, key) is not None:
        return estimate(values, key)
    return Cell(f"none: {values['reason']}", tone="quiet") if values.get("reason") else MISSING


def _gap_table(summary: Mapping[str, Any]) -> Table | None:
    named = {
        "federated_minus_centralized": "Federated minus centralised",
        "federated_minus_local_mean": "Federated minus local mean",
    }
    gaps = part(summary, "gap")
    rows: list[list[Cell | str]] = []
    for key in gaps:
        values = part(gaps, key)
        if values:
            paired = {True: "yes", False: "no"}.get(values.get("paired"), MISSING)  # type: ignore[arg-type]
            rows.append([named.get(key, key.replace("_", " ").capitalize()), difference(values), paired])
    if not rows:
        return None
    return Table(
        "Differences in macro AUROC (zero-shot), with 95 % interval",
        ("Comparison", "Difference", "Paired"),
        rows,
        note="Paired: both models were scored on the same resampled patients. Where an interval includes zero, no "
        "difference was shown.",
    )


def _labels_table(summary: Mapping[str, Any], protocol: str) -> Table | None:
    """One row per label; ``protocol`` is empty for zero-shot or the key of another protocol inside an arm."""
    compared = {arm: part(values, protocol) if protocol else values for arm, values in arms(summary).items()}
    compared = {arm: values for arm, values in compared.items() if part(values, "per_label")}
    names = [
        label for label in labels(summary) if any(part(values, "per_label", label) for values in compared.values())
    ]
    if not names:
        return None
    rows = [_label_row(summary, label, compared) for label in names]
    flagged = any(few_cases(label_facts(summary, label)) for label in names)
    return Table(
        caption=f"AUROC per label ({'linear probe' if protocol else 'zero-shot'}), all sites pooled, with 95 % "
        "interval",
        head=("Label", "Judged from", "Positives", "Negatives", *(arm_name(arm) for arm in compared)),
        rows=rows,
        note="† fewer than 10 positives or negatives: too few to rank models by." if flagged else "",
        words=frozenset({1}),
    )


def _label_row(summary: Mapping[str, Any], label: str, compared: Mapping[str, Mapping[str, Any]]) -> list[Cell | str]:
    facts = label_facts(summary, label)
    dagger = "\u00a0†" if few_cases(facts) else ""
    cells = [_or_reason(part(values, "per_label", label), "auroc") for values in compared.values()]
    head: list[Cell | str] = [label + dagger, modality_name(facts.get("modality"))]
    return [*head, count(facts.get("positives")), count(facts.get("negatives")), *cells]


def _sites_table(summary: Mapping[str, Any]) -> Table | None:
    compared = {arm: part(values, "per_site") for arm, values in arms(summary).items()}
    compared = {arm: sites for arm, sites in compared.items() if sites}
    names = list(dict.fromkeys(site for sites in compared.values() for site in sites))
    if not names:
        return None
    rows: list[list[Cell | str]] = []
    for site in names:
        tested = next((part(sites, site).get("labels") for sites in compared.values() if part(sites, site)), None)
        rows.append(
            [site, count(tested), *(_or_reason(part(sites, site), "macro_auroc") for sites in compared.values())]
        )
    return Table(
        caption="Macro AUROC at each site’s own held-out patients (zero-shot), with 95 % interval",
        head=("Site", "Labels tested", *(arm_name(arm) for arm in compared)),
        rows=rows,
        note="Read along the rows. Sites are not to be ranked against each other: they differ in which labels they "
        "could be tested on, and "
        "in how hard their patients are.",
    )


def curves_sections(summary: Mapping[str, Any], details: ReportDetails, folder: Path) -> list[Section | None]:
    """ROC curves and learning curves."""
    return [
        section("roc", "ROC curves", [figures.roc_figure(summary, details.rocs, folder)]),
        section(
            "learning", "Learning curves", [figures.learning_figure(details.learning, folder), _learning_table(details)]
        ),
    ]


def _learning_table(details: ReportDetails) -> Table | None:
    """Where each curve starts and ends, for those who cannot see the figure."""
    rows: list[list[Cell | str]] = []
    for arm, points in details.learning.items():
        measured = [point for point in points if point.macro_auroc is not None]
        if measured:
            first, last = measured[0], measured[-1]
            highest = max(measured, key=lambda point: point.macro_auroc or 0.0)
            ends = [f"{auroc(point.macro_auroc)} ({point.label})" for point in (first, highest, last)]
            rows.append([Cell(arm_name(arm), arm=arm), *ends])
    return Table("Macro AUROC along the way", ("Arm", "First", "Highest", "Last"), rows) if rows else None


def joining_section(summary: Mapping[str, Any], folder: Path) -> Section | None:
    """What each site gains by joining."""
    joining = part(summary, "joining")
    rows: list[list[Cell | str]] = []
    for site in joining:
        values = part(joining, site)
        rows.append([site, auroc(number(values, "local")), auroc(number(values, "federated")), _or_gain_reason(values)])
    table = Table(
        caption="AUROC with a site’s own model and with the federated one, on the same held-out patients",
        head=("Site", "Alone", "Federated", "Gain (95 % interval)"),
        rows=rows,
        note="An interval that includes zero shows neither gain nor loss.",
    )
    return section(
        "joining", "What each site gains by joining", [figures.joining_figure(summary, folder), table if rows else None]
    )


def _or_gain_reason(values: Mapping[str, Any]) -> Cell | str:
    if number(values, "gain") is None and values.get("reason"):
        return Cell(f"none: {values['reason']}", tone="quiet")
    return difference(values, "gain")


def retrieval_section(summary: Mapping[str, Any]) -> Section | None:
    """How often the right report (or study) is among the first found."""
    rows: list[list[Cell | str]] = []
    directions = list(dict.fromkeys(way for values in arms(summary).values() for way in part(values, "retrieval")))
    for direction in directions:
        for arm, values in arms(summary).items():
            found = part(values, "retrieval", direction)
            if found:
                rows.append(_retrieval_row(direction, arm, found))
    if not rows:
        return None
    table = Table(
        caption="Retrieval on held-out patients",
        head=(
            "Search",
            "Arm",
            "First hit right",
            "Right in first 5",
            "Right in first 10",
            "Median rank",
            "Candidates",
            "By chance first",
        ),
        rows=rows,
        words=frozenset({1}),
        note="The model sees one study and orders all candidates. Reports with the same words, and studies of the same "
        "patient, count as right.",
    )
    return section("retrieval", "Finding the report that belongs to a study", [table])


def _retrieval_row(direction: str, arm: str, found: Mapping[str, Any]) -> list[Cell | str]:
    recalls = [percent(number(found, key)) for key in _RECALLS]
    rest = [count(number(found, "median_rank")), count(found.get("candidates")), percent(number(found, "chance@1"))]
    return [direction_name(direction), Cell(arm_name(arm), arm=arm), *recalls, *rest]
