"""The AUROC table on the terminal."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table
from rich.text import Text

from simulation.report.health import alarm_line
from simulation.report.privacy_words import terminal_lines
from simulation.report.reading import arms, interval, local_models, number, part
from simulation.report.verdict import outcome_of
from simulation.report.wording import MISSING, arm_name, auroc, difference, modality_name, percent, signed, size

_GAPS = (
    ("federated_minus_centralized", "Federated − centralised"),
    ("federated_minus_local_mean", "Federated − local mean"),
)
_READINGS = {
    "better": "federated above",
    "worse": "federated below",
    "undecided": "the interval includes zero: no difference shown",
    "unknown": "not known",
}


def print_table(summary: Mapping[str, Any], console: Console) -> None:
    """Prints the arms with macro AUROC (zero-shot, linear probe) and recall@5, the gaps, what is
    promised about privacy, bytes and status.

    Names come from data and are printed as they are, never read as console markup.
    """
    if summary.get("synthetic"):
        console.print(Text("SYNTHETIC DATA: every patient was generated", style="bold"))
    console.print(_arms_table(summary))
    for key, name in _GAPS:
        values = part(summary, "gap", key)
        if values:
            console.print(Text(f"{name}: {difference(values)}; {_READINGS[outcome_of(values)]}"))
    for line in _sites_lines(summary):
        console.print(Text(line))
    for line in terminal_lines(summary):
        console.print(Text(line))
    health = alarm_line(summary)
    if health:
        console.print(Text(health, style="bold red"))
    exchange = part(summary, "exchange")
    if number(exchange, "bytes_up_per_site_round") is not None:
        console.print(Text(_sent(exchange)))
    status = str(summary.get("status") or "not stated")
    console.print(Text(f"Status: {status}", style="bold" if status == "complete" else "bold red"))


def _arms_table(summary: Mapping[str, Any]) -> Table:
    directions = [
        way for way in ("xray->text", "ecg->text") if any(part(v, "retrieval", way) for v in arms(summary).values())
    ]
    probed = any(part(values, "linear_probe") for values in arms(summary).values())
    table = Table(
        box=SIMPLE_HEAD,
        title="Macro AUROC on held-out patients (95 % interval)",
        title_justify="left",
        caption_justify="left",
        pad_edge=False,
    )
    table.add_column("Arm")
    if directions:
        table.caption = "R@5: its own report is among the first five found"
    table.add_column("Zero-shot", justify="right", no_wrap=True)
    if probed:
        table.add_column("Linear probe", justify="right", no_wrap=True)
    for way in directions:
        table.add_column(f"R@5 {modality_name(way.partition('->')[0])}", justify="right", no_wrap=True)
    for arm, values in arms(summary).items():
        table.add_row(*_row(arm_name(arm), values, directions, probed=probed))
        if arm == "local":
            for site, local in local_models(summary).items():
                table.add_row(*_row(f"  {site}", local, directions, probed=probed), style="dim")
    return table


def _row(name: str, values: Mapping[str, Any], directions: list[str], *, probed: bool) -> list[Text]:
    cells = [name, _estimate(values)]
    if probed:
        cells.append(_estimate(part(values, "linear_probe")))
    cells += [percent(number(part(values, "retrieval", way), "recall@5")) for way in directions]
    return [Text(cell) for cell in cells]


def _estimate(values: Mapping[str, Any]) -> str:
    """Short form, so that the table fits 80 columns."""
    value, ends = number(values, "macro_auroc"), interval(values)
    if value is None:
        return MISSING
    return auroc(value) if ends is None else f"{auroc(value)} ({ends[0]:.2f}–{ends[1]:.2f})"


def _sites_lines(summary: Mapping[str, Any]) -> list[str]:
    joining = part(summary, "joining")
    gains = [
        f"{site} {signed(number(part(joining, site), 'gain'))}"
        for site in joining
        if number(part(joining, site), "gain") is not None
    ]
    return [f"Gain by joining: {', '.join(gains)}"] if gains else []


def _sent(exchange: Mapping[str, Any]) -> str:
    words = f"Sent per site and round: {size(number(exchange, 'bytes_up_per_site_round'))}"
    share = number(exchange, "share_of_full_model")
    return f"{words} ({percent(share)} of a full model)" if share is not None else words
