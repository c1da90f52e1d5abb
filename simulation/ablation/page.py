"""`ablation.html`: the figure, the table, the unseen conditions label by label, and how far to trust them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from more_model.report.blocks import Cell, Facts, Section, Table, Words, section
from more_model.report.page import Page, write_page
from simulation.ablation.figure import forest
from simulation.ablation.table import excludes_zero, mean_seconds
from simulation.report.reading import number, part
from simulation.report.wording import MISSING, arm_name, auroc, difference, duration, estimate, plural, signed, size


def write_ablation_page(folder: Path, summary: Mapping[str, Any]) -> Path:
    """Writes ``folder/ablation.html`` and ``folder/figures/ablation.png`` from the content of ``ablation.json``."""
    (folder / "figures").mkdir(exist_ok=True)
    words = Words(
        "Every variant is the reference with one thing changed, trained with the same seeds and as many passes over "
        "its own patients, and asked about the same test patients. Its difference is over the labels that it can have "
        "learnt; the reference's figure beside it is over the same labels and patients."
    )
    sections = [
        section("differences", "Differences", [words, forest(summary, folder / "figures"), _table(summary)]),
        _unseen(summary),
        _failed(summary),
        _provenance(summary),
    ]
    page = Page(
        kind="Ablation report",
        title=summary["name"],
        sections=[part for part in sections if part is not None],
        subtitle=f"{arm_name(summary['arm'])} training · {plural(len(summary['seeds']), 'seed')} · {summary['status']}",
        cautions=cautions(summary),
        synthetic=summary["synthetic"],
        footer="Every figure is taken from ablation.json in the same folder.",
    )
    return write_page(folder / "ablation.html", page)


def cautions(summary: Mapping[str, Any]) -> list[str]:
    """What the intervals do not say."""
    told = [row for row in summary["variants"] if row["state"] == "complete" and not row["same_as_reference"]]
    seeds = len(summary["seeds"])
    found = [
        "The intervals come from resampling the test patients. "
        + (
            "Every model was trained once: what another seed would change is not in them."
            if seeds == 1
            else f"Figures are means over {seeds} seeds; what other seeds would change is not in the intervals."
        ),
        f"Of {plural(len(told), 'interval')} at 95 %, about {max(1, round(0.05 * len(told)))} would miss zero by "
        "chance alone, were there no difference at all.",
        "Seconds were measured while the variants ran, on whatever else the machine did: context, no benchmark.",
    ]
    if summary["not_run"]:
        found.append(f"Not run: {', '.join(summary['not_run'])}.")
    return found


def _table(summary: Mapping[str, Any]) -> Table:
    probed = any("linear_probe" in row for row in summary["variants"])
    several = len(summary["seeds"]) > 1
    rows: list[list[Cell | str]] = []
    for row in [summary["reference"], *summary["variants"]]:
        zero_shot = part(row, "zero_shot")
        cells: list[Cell | str] = [
            Cell(row["what"], tone="quiet" if row["is_reference"] else ""),
            estimate(part(zero_shot, "variant")),
            auroc(number(part(zero_shot, "reference"), "macro_auroc")),
            Cell(_change(row, "zero_shot"), tone="warn" if row["state"] == "failed" else ""),
            str(len(part(zero_shot, "difference").get("labels", []))),
        ]
        cells += [_by_seed(row)] if several else []
        cells += [_change(row, "linear_probe") if "linear_probe" in row else MISSING] if probed else []
        rows.append([*cells, size(number(row, "exchanged_bytes")), duration(mean_seconds(row))])
    head = ["Variant", "Macro AUROC", "Reference", "Difference", "Labels"]
    head += (["By seed"] if several else []) + (["Linear probe, difference"] if probed else [])
    notes = [f"{row['what']}: {note}" for row in summary["variants"] for note in row.get("notes", [])]
    note = " ".join(["A star: the interval does not include zero.", *notes])
    return Table("Every variant", [*head, "Travels per round", "Training"], rows, note)


def _change(row: Mapping[str, Any], measure: str) -> str:
    if row["state"] == "failed":
        return "failed"
    if row["is_reference"]:
        return "= reference"
    found = part(row, measure, "difference")
    return difference(found) + (" *" if excludes_zero(found) else "")


def _by_seed(row: Mapping[str, Any]) -> str:
    values = part(row, "zero_shot", "difference").get("over_seeds") or []
    return ", ".join(signed(value) for value in values) or MISSING


def _unseen(summary: Mapping[str, Any]) -> Section | None:
    row = next((row for row in summary["variants"] if row["name"] == "unseen" and row["state"] == "complete"), None)
    if row is None:
        return None
    tables = {name: part(row, "zero_shot", name, "per_label") for name in ("variant", "reference", "difference")}
    rows: list[list[Cell | str]] = []
    for label, found in tables["variant"].items():
        cells = [label, estimate(found, "auroc"), estimate(part(tables["reference"], label), "auroc")]
        cells += [difference(part(tables["difference"], label), "auroc")]
        rows.append([*cells, str(found["positives"]), str(found["negatives"])])
    words = Words(
        "No training text of this variant mentions these conditions, neither stated nor doubted nor denied; prompts "
        "that word them through other findings or through normality keep their meaning."
    )
    head = ["Label", "Never worded", "Reference", "Difference", "Positives", "Negatives"]
    return section("unseen", "Unseen conditions, zero-shot", [words, Table("Label by label", head, rows)])


def _failed(summary: Mapping[str, Any]) -> Section | None:
    rows: list[Sequence[Cell | str]] = [
        [row["name"], row["reason"]] for row in summary["variants"] if row["state"] == "failed"
    ]
    if not rows:
        return None
    table = Table("Variants that failed", ["Variant", "Reason"], rows, words=frozenset({1}))
    return section("failed", "What failed", [table])


def _provenance(summary: Mapping[str, Any]) -> Section | None:
    sites = summary["cohort"]["sites"]
    facts = [
        ("Training", arm_name(summary["arm"])),
        ("Hospitals", ", ".join(f"{name} ({counts['patients']['train']} patients)" for name, counts in sites.items())),
        ("Test patients", str(sum(counts["patients"]["test"] for counts in sites.values()))),
        ("Base", summary["base"]),
        ("Prompts", summary["evaluation"]["prompts"]),
        ("Seeds", ", ".join(map(str, summary["seeds"]))),
        ("Bootstrap resamples", str(summary["evaluation"]["replicates"])),
        ("Machine", f"{summary['environment']['platform']}, {summary['environment']['cpus']} CPUs"),
    ]
    return section("provenance", "What was compared", [Facts(facts)])
