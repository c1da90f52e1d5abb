"""The card of the model behind an assessment: what it is, what it was trained on, and how good it is."""

from __future__ import annotations

from more_model.assess.domain import Measure
from more_model.assess.parts import SELECTIONS, Selection, in_words, key
from more_model.assess.reference import Finding, Header
from more_model.report.blocks import Block, Cell, Facts, Section, Table


def model_card(header: Header, used: Selection) -> Section:
    """Facts of the model and its cohort, what it is worth from each selection of inputs, and its domain's limits."""
    blocks: list[Block] = [Facts(_facts(header)), _worth(header, used), _limits(header), Facts(_digests(header))]
    return Section("model", "The model", blocks)


def _facts(header: Header) -> list[tuple[str, str]]:
    cohort = header.cohort
    counts = [
        f"{cohort.total(split, 'patients')} {words} patients ({cohort.total(split, 'triplets')} triplets)"
        for split, words in (("train", "training"), ("validation", "validation"), ("test", "test"))
    ]
    kind = "synthetic: every patient was generated" if cohort.synthetic else "not marked as synthetic"
    return [
        ("Model", f"{header.model.preset}. {header.model.origin}"),
        ("Cohort", f"{', '.join(counts)} at {len(cohort.sites)} sites ({', '.join(cohort.sites)}); {kind}"),
        (
            "Fitted on",
            "training patients; calibrated and limited on validation patients; test patients were not looked at",
        ),
        ("Findings", f"{len(header.findings)}, worded by the prompt set {header.prompts}"),
        (
            "Labels",
            "where labels were read from reports, a probability that rests on the report mostly repeats what it says",
        ),
    ]


def _worth(header: Header, used: Selection) -> Table:
    rows: list[list[Cell | str]] = []
    for chosen in SELECTIONS:
        facts = header.selections.get(key(chosen))
        name = in_words(chosen)
        if facts is None or facts.macro_auroc is None:
            rows.append([name, "-", "0", "-"])
            continue
        interval = "" if facts.ci95 is None else f" ({facts.ci95[0]:.3f} to {facts.ci95[1]:.3f})"
        shown = f"{name} (this page)" if chosen == used else name
        rows.append(
            [shown, f"{facts.macro_auroc:.3f}{interval}", str(facts.labels), _calibration(header.findings, chosen)]
        )
    return Table(
        "On validation patients, from each selection of inputs",
        ("Inputs", "Macro AUROC (95 %)", "Findings", "Calibration error (by chance)"),
        rows,
        note="Calibration error: ECE over ten bins of equal size, mean over the findings that have a curve; in "
        "brackets what perfect probabilities would show of it. The curves were fitted on these very patients.",
    )


def _calibration(findings: tuple[Finding, ...], chosen: Selection) -> str:
    curves = [one.calibrations.curves[key(chosen)] for one in findings if key(chosen) in one.calibrations.curves]
    if not curves:
        return "-"
    error = sum(curve.calibration_error for curve in curves) / len(curves)
    chance = sum(curve.calibration_error_by_chance for curve in curves) / len(curves)
    return f"{error:.3f} ({chance:.3f})"


def _limits(header: Header) -> Table:
    rows = [
        [measure.words, f"{limit.value:.2f}", f"{100 * limit.false_refusals:.1f} %", str(limit.items)]
        for measure, limit in ((one, header.limits[one]) for one in Measure if one in header.limits)
    ]
    return Table(
        "From where on an input is refused as too far from the training cohort",
        ("Measured on", "Limit", "Good inputs refused, at most", "Validation items"),
        [list(row) for row in rows],
        note="At most: expected over validation sets of this size, for inputs of the training cohort's own kind.",
    )


def _digests(header: Header) -> list[tuple[str, str]]:
    model = header.model
    base = [(f"Base: {name}", value) for name, value in sorted(model.base.items())]
    return [
        ("Model digest", model.digest),
        ("Architecture", model.architecture),
        ("Preprocessing", model.preprocessing),
        *base,
        ("Cohort digest", header.cohort.digest),
    ]
