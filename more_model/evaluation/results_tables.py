"""The tables of an evaluation's report: from ``summary.json`` to rows, with a reason wherever a figure is missing."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from more_model.evaluation.settings import SUPERVISED
from more_model.report.blocks import Cell, Section, Table, Words, section

NONE = "–"
_MODES = {
    "zero-shot": "Zero-shot",
    "linear-probe": "Linear probe",
    "fine-tune": "Fine-tuned",
    "fusion": "Late fusion",
}
_Row = list[Cell | str]
_ALL_ALIKE = (
    "every case with the finding is on one side of all others, so every resample gives the same figure: with few cases "
    "that is no certainty"
)
_SENSITIVITY = "sensitivity at specificity 0.9"


def macro_table(results: Sequence[Mapping[str, Any]]) -> Table:
    """One row for every outcome."""
    rows: list[_Row] = []
    for result in results:
        macro = result["metrics"]["macro"]
        rows.append(
            [
                name_of(result),
                estimate(macro, "auroc"),
                str(macro["labels"]),
                spread(result.get("draws")),
                estimate(macro, "auprc"),
                figure(result["metrics"]["micro"].get("auroc")),
                figure(macro.get("brier")),
                figure(macro.get("ece")),
            ]
        )
    head = ["Model and mode", "Macro AUROC", "Labels", "Over draws", "Macro AUPRC", "Micro AUROC", "Brier", "ECE"]
    return Table("Macro and micro figures", head, rows)


def fractions_section(fractions: Sequence[Mapping[str, Any]]) -> Section | None:
    """What fewer training labels cost, on the labels that have a figure either way."""
    if not fractions:
        return None
    rows: list[_Row] = [
        [name_of(entry), str(entry["labels"]), spread(entry), figure(entry["whole"])] for entry in fractions
    ]
    words = Words(
        "With few labels to train on, rare findings have no figure. Each row compares like with like: the labels that "
        "have a figure in every draw of this share and with all training labels."
    )
    head = ["Model and mode", "Labels", "Mean over draws", "Same labels, all of them trained on"]
    return section("fractions", "With fewer training labels", [words, Table("Macro AUROC", head, rows)])


def mode_section(mode: str, results: Sequence[Mapping[str, Any]]) -> Section | None:
    """Every label of one mode: in full where the checkpoint used all it could, else side by side."""
    full = [result for result in results if "subgroups" in result]
    rest = [result for result in results if "subgroups" not in result]
    blocks = [
        *(_full_table(result) for result in full),
        *(
            _side_by_side(model, [result for result in rest if result["model"] == model])
            for model in dict.fromkeys(result["model"] for result in rest)
        ),
        _missing_table(full, rest),
    ]
    return section(f"labels-{mode}", f"{_MODES[mode]}: every label", blocks)


def comparisons_section(comparisons: Sequence[Mapping[str, Any]]) -> Section | None:
    """Paired differences to what the checkpoint has to be better than."""
    if not comparisons:
        return None
    rows: list[_Row] = [
        [entry["a"], entry["b"], _difference(entry), str(len(entry["labels"]))] for entry in comparisons
    ]
    table = Table(
        "Paired differences of macro AUROC", ["Model", "Minus", "Difference", "Labels"], rows, words=frozenset({1})
    )
    supervised = any(SUPERVISED in entry["b"] for entry in comparisons)
    return section(
        "comparisons",
        "Against the baselines",
        [
            Words(
                "What the training on reports adds is what lies above a random encoder with the same probe, and above "
                "a model of the same size trained on the labels alone. Intervals come from resampling patients, not "
                "encoders; one that includes zero shows no difference."
            ),
            None if supervised else Words("No model was trained on the labels alone: mode fine-tune adds it."),
            table,
        ],
    )


def subgroups_section(result: Mapping[str, Any]) -> Section | None:
    """Parts of the patients, each against all others."""
    tables = result.get("subgroups")
    if tables is None:
        return None
    rows: list[_Row] = []
    why: list[str] = []
    for division, parts in tables["divisions"].items():
        for part, table in parts.items():
            against = table.get("difference") or {}
            name = f"{division}: {part}"
            rows.append([name, str(table["patients"]), estimate(table, "macro_auroc"), _difference(against)])
            if reason := table.get("reason") or against.get("reason"):
                why.append(f"{name}: {reason}.")
    largest = tables.get("largest_gap")
    head = ["Part", "Patients", "Macro AUROC", "Minus all others"]
    return section(
        f"subgroups-{anchor(result)}",
        f"Subgroups: {name_of(result)}",
        [Words(largest["sentence"]) if largest else None, Table("Macro AUROC by part", head, rows, " ".join(why))],
    )


def wording_section(prompts: Mapping[str, Any]) -> Section | None:
    """How far single wordings disagree."""
    rows: list[_Row] = [
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
    return section("wording", "How much the wording matters", [Words(sentence), table if rows else None])


def _full_table(result: Mapping[str, Any]) -> Table:
    rows: list[_Row] = [
        [
            label,
            estimate(entry, "auroc"),
            interval(entry.get("delong_ci95")) or NONE,
            estimate(entry, "auprc"),
            _sensitivity(entry),
            figure(entry.get("ece")),
            str(entry["positives"]),
            str(entry["negatives"]),
        ]
        for label, entry in result["metrics"]["per_label"].items()
    ]
    head = ["Label", "AUROC", "DeLong 95 %", "AUPRC", "Sensitivity at specificity 0.9", "ECE", "Positives", "Negatives"]
    note = "DeLong's interval takes cases as independent; it is a cross-check of the one by patients."
    return Table(name_of(result), head, rows, note)


def _side_by_side(model: str, results: Sequence[Mapping[str, Any]]) -> Table:
    labels = list(dict.fromkeys(label for result in results for label in result["metrics"]["per_label"]))
    rows: list[_Row] = [
        [label, *(estimate(result["metrics"]["per_label"].get(label, {}), "auroc") for result in results)]
        for label in labels
    ]
    return Table(f"AUROC, {model}", ["Label", *(result["variant"] or "AUROC" for result in results)], rows)


def _missing_table(full: Sequence[Mapping[str, Any]], rest: Sequence[Mapping[str, Any]]) -> Table | None:
    """Everything that the tables above lack, grouped by the reason."""
    found: dict[tuple[str, str, str], list[str]] = {}
    for result in [*full, *rest]:
        for label, what, reason in _missing(result, with_calibration=result in full):
            found.setdefault((name_of(result), what, reason), []).append(label)
    if not found:
        return None
    rows: list[_Row] = [[name, what, reason, ", ".join(labels)] for (name, what, reason), labels in found.items()]
    head = ["Model and mode", "What is missing", "Why", "Labels"]
    return Table("Why some figures are missing", head, rows, words=frozenset({1, 2, 3}))


def _missing(result: Mapping[str, Any], *, with_calibration: bool) -> Iterator[tuple[str, str, str]]:
    for label, entry in result["metrics"]["per_label"].items():
        if entry["auroc"] is None:
            yield label, "AUROC", str(entry.get("reason") or "no score")
            continue
        if entry.get("interval_reason"):
            yield label, "interval", entry["interval_reason"]
        elif entry["ci95"] is not None and entry["ci95"][0] == entry["ci95"][1]:
            yield label, "width of the interval", _ALL_ALIKE
        if with_calibration and entry.get("calibration_reason"):
            yield label, "calibration", entry["calibration_reason"]


def _sensitivity(entry: Mapping[str, Any]) -> str:
    point = entry["operating_points"].get(_SENSITIVITY)
    return NONE if point is None else f"{figure(point['value'])} {interval(point['ci95'])}".strip()


def _difference(entry: Mapping[str, Any]) -> str:
    value = entry.get("macro_auroc")
    return NONE if value is None else f"{value:+.3f} {interval(entry.get('ci95'))}".strip()


def spread(drawn: Mapping[str, Any] | None) -> str:
    """Mean over draws with its standard deviation and the number of draws."""
    if drawn is None or drawn["mean"] is None:
        return NONE
    count = len(drawn["macro_auroc"])
    return f"{figure(drawn['mean'])} (sd {figure(drawn['sd'])}, n {count})" if count > 1 else figure(drawn["mean"])


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
    return NONE if value is None else f"{value:.3f}"


def interval(bounds: Sequence[float] | None) -> str:
    """An interval in brackets, or nothing."""
    return "" if bounds is None else f"({bounds[0]:.3f} to {bounds[1]:.3f})"
