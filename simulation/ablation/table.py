"""The table of an ablation on the terminal."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table
from rich.text import Text

from simulation.report.reading import interval, number, part
from simulation.report.wording import MISSING, arm_name, auroc, signed


def print_ablation(summary: Mapping[str, Any], console: Console) -> None:
    """Prints every variant with its macro AUROC, the reference's on the same patients and labels, and the difference.

    Names come from data and are printed as they are, never read as console markup.
    """
    if summary["synthetic"]:
        console.print(Text("SYNTHETIC DATA: every patient was generated", style="bold"))
    reference = summary["reference"]["zero_shot"]["variant"]
    seeds = len(summary["seeds"])
    over = f", mean of {seeds} seeds" if seeds > 1 else ""
    ends = interval(reference)
    spoken = auroc(number(reference, "macro_auroc")) + (f" ({auroc(ends[0])} to {auroc(ends[1])})" if ends else "")
    console.print(Text(f"Reference, {arm_name(summary['arm']).lower()}{over}: zero-shot macro AUROC {spoken}"))
    console.print(_table(summary))
    for row in summary["variants"]:
        if row["state"] == "failed":
            console.print(Text(f"{row['name']} failed: {row['reason']}", style="bold red"))
    if summary["not_run"]:
        console.print(Text(f"Not run: {', '.join(summary['not_run'])}"))
    status = summary["status"]
    console.print(Text(f"Status: {status}", style="bold" if status == "complete" else "bold red"))


def _table(summary: Mapping[str, Any]) -> Table:
    probed = any("linear_probe" in row for row in summary["variants"])
    table = Table(
        box=SIMPLE_HEAD,
        title="Macro AUROC beside the reference, on the same patients and labels",
        title_justify="left",
        caption="Differences with 95 % intervals; * does not include zero; = the reference's own value"
        + ("; probe: a linear probe's difference" if probed else ""),
        caption_justify="left",
        pad_edge=False,
    )
    table.add_column("Variant", overflow="fold")
    table.add_column("AUROC", justify="right", no_wrap=True)
    table.add_column("Ref.", justify="right", no_wrap=True)
    table.add_column("Difference", justify="right", no_wrap=True)
    if probed:
        table.add_column("Probe", justify="right", no_wrap=True)
    table.add_column("Time", justify="right", no_wrap=True)
    group = None
    for row in summary["variants"]:
        if group is not None and row["group"] != group:
            table.add_section()
        group = row["group"]
        table.add_row(*(Text(cell) for cell in _cells(row, probed=probed)), style="dim" if row["is_reference"] else "")
    return table


def _cells(row: Mapping[str, Any], *, probed: bool) -> list[str]:
    zero_shot, seconds = part(row, "zero_shot"), mean_seconds(row)
    cells = [
        row["name"],
        auroc(number(part(zero_shot, "variant"), "macro_auroc")),
        auroc(number(part(zero_shot, "reference"), "macro_auroc")),
        _short(row, "zero_shot"),
    ]
    if probed:
        cells.append(_short(row, "linear_probe", ends=False))
    return [*cells, MISSING if seconds is None else f"{seconds:,.0f} s"]


def _short(row: Mapping[str, Any], measure: str, *, ends: bool = True) -> str:
    """A difference in few letters: the table has to fit 80 columns."""
    if row["state"] == "failed":
        return "failed"
    if row["is_reference"]:
        return "="
    found = part(row, measure, "difference")
    bounds = interval(found) if ends else None
    text = signed(number(found, "macro_auroc"))
    text += f" ({signed(bounds[0])}, {signed(bounds[1])})" if bounds else ""
    return text + (" *" if excludes_zero(found) else "")


def excludes_zero(found: Mapping[str, Any]) -> bool:
    """Whether an interval lies on one side of zero."""
    ends = interval(found)
    return ends is not None and (ends[0] > 0 or ends[1] < 0)


def mean_seconds(row: Mapping[str, Any]) -> float | None:
    """Seconds of training per seed, or None where any was interrupted in between."""
    seconds = row.get("seconds") or [None]
    return None if None in seconds else sum(seconds) / len(seconds)
