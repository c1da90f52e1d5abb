"""``more-sim``: synthetic cohorts, and whole federations on one machine."""

from __future__ import annotations

import json
import os
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from more_model.cli_errors import exit_on_error
from more_model.cli_version import VersionOption
from more_model.errors import RoundError
from simulation.quiet import keep_quiet

if TYPE_CHECKING:
    from simulation.synthetic.config import SynthConfig
    from simulation.synthetic.tree import SynthReport

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    # Typer would print local variables, which here are studies with patient ids and report texts.
    pretty_exceptions_enable=False,
    help="Synthetic cohorts and simulated federations.",
)


class Engine(StrEnum):
    """How the federated arm's messages are carried."""

    INPROCESS = "inprocess"
    RAY = "ray"


@app.callback()
def main(version: VersionOption = False) -> None:
    """Synthetic cohorts and simulated federations on one machine."""


@app.command()
def synth(
    out: Annotated[Path, typer.Option(help="Folder to write; empty or absent, or the same cohort (then it is kept).")],
    patients: Annotated[int, typer.Option(help="Number of patients.")] = 200,
    hospitals: Annotated[int, typer.Option(help="Number of hospitals; eight differ, then they repeat.")] = 4,
    seed: Annotated[int, typer.Option(help="Same seed and settings, same bytes.")] = 0,
    first_subject_id: Annotated[
        int, typer.Option(help="First patient id; separate ranges share no patient.")
    ] = 10_000_000,
    image_px: Annotated[int, typer.Option(help="Longer side of a picture in pixels.")] = 256,
    dicom: Annotated[bool, typer.Option(help="Also write DICOM files.")] = False,
    workers: Annotated[int, typer.Option(help="Processes; 0 means one per core.")] = 0,
    as_json: Annotated[bool, typer.Option("--json", help="Print the report as JSON.")] = False,
) -> None:
    """Write a synthetic, MIMIC-shaped cohort: X-rays, ECGs, reports, labels.

    Example: more-sim synth --out runs/cohort --patients 500 --hospitals 4 --seed 7
    """
    settings = {
        "patients": patients,
        "hospitals": hospitals,
        "seed": seed,
        "first_subject_id": first_subject_id,
        "image_px": image_px,
        "dicom": dicom,
    }
    with exit_on_error():
        report = _write(_config(settings), out, workers or os.cpu_count() or 1, quiet=as_json)
    if as_json:
        typer.echo(json.dumps({"out": str(out), **report.model_dump(mode="json")}, indent=2))
    else:
        _show(report, out)


def _config(settings: dict[str, int | bool]) -> SynthConfig:
    from more_model.settings import validated
    from simulation.synthetic.config import SynthConfig

    return validated(SynthConfig, settings, "more-sim synth")


def _write(config: SynthConfig, out: Path, workers: int, *, quiet: bool) -> SynthReport:
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    from simulation.synthetic.tree import write_cohort

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True), disable=quiet) as bar:
        task = bar.add_task("Synthetic patients", total=config.patients)
        return write_cohort(
            config, out, workers=workers, progress=lambda done, total: bar.update(task, completed=done, total=total)
        )


def _show(report: SynthReport, out: Path) -> None:
    from rich.console import Console
    from rich.table import Table

    console = Console()
    state = "already there, kept" if report.kept else "written"
    console.print(f"SYNTHETIC cohort of {report.patients} patients {state}: {out}")
    table = Table("", *report.hospitals, title="Synthetic hospitals", show_lines=False)
    for kind in ("patients", "films", "reports", "ecgs"):
        table.add_row(kind, *(str(getattr(counts, kind)) for counts in report.hospitals.values()))
    table.add_section()
    names = list(dict.fromkeys(name for counts in report.hospitals.values() for name in counts.labels))
    for name in names:
        table.add_row(name, *(_share(counts.labels.get(name, (0, 0))) for counts in report.hospitals.values()))
    console.print(table)


def _share(counts: tuple[int, int]) -> str:
    positive, negative = counts
    stated = positive + negative
    return f"{positive} ({100.0 * positive / stated:.0f} %)" if stated else "-"


@app.command()
def run(
    config: Annotated[Path, typer.Argument(help="Run configuration, TOML or JSON; see simulation/configs.")],
    out: Annotated[Path, typer.Option(help="Run directory to write.")],
    resume: Annotated[bool, typer.Option("--resume", help="Go on with the interrupted run in --out.")] = False,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace the run in --out.")] = False,
    engine: Annotated[
        Engine | None, typer.Option(help="inprocess: one process. ray: Flower's simulation runtime.")
    ] = None,
    base: Annotated[Path | None, typer.Option(help="Base folder to use instead of the configured base.")] = None,
    seed: Annotated[int | None, typer.Option(help="Instead of the configured seed.")] = None,
    seeds: Annotated[int | None, typer.Option(help="Train every arm with so many seeds and report the spread.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print summary.json instead of the table.")] = False,
) -> None:
    """Train every arm of a simulated federation and compare their AUROC. Exit code 7 if a site was missing in a round.

    Example: more-sim run simulation/configs/demo.toml --out runs/demo
    """
    keep_quiet()
    with exit_on_error():
        from rich.console import Console

        from simulation.run import run as run_arms
        from simulation.settings import load_run_config, with_options

        loaded = load_run_config(config)
        chosen = with_options(loaded, engine=engine.value if engine else None, base=base, seed=seed, seeds=seeds)
        console = Console(stderr=as_json)
        summary = run_arms(chosen, out, resume=resume, overwrite=overwrite, console=console)
    if as_json:
        typer.echo(json.dumps(summary, indent=2))
    if summary["status"] != "complete":
        raise typer.Exit(RoundError.exit_code)


@app.command()
def ablate(
    config: Annotated[Path, typer.Argument(help="A run's configuration with a table 'ablation', TOML or JSON.")],
    out: Annotated[Path, typer.Option(help="Run directory to write.")],
    only: Annotated[list[str] | None, typer.Option(help="Train this variant only; may be given several times.")] = None,
    seeds: Annotated[int | None, typer.Option(help="Train the reference and every variant so often.")] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on in --out: what is missing or failed.")] = False,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace the run in --out.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print ablation.json instead of the table.")] = False,
) -> None:
    """Change one thing at a time and measure the difference in AUROC. Exit code 7 if a variant failed.

    Example: more-sim ablate simulation/configs/ablate.toml --out runs/ablation --only lora-none --only dropkey-off
    """
    keep_quiet()
    with exit_on_error():
        from rich.console import Console

        from simulation.ablation.run import ablate as run_ablation
        from simulation.ablation.settings import load_ablation

        chosen = load_ablation(config, seeds=seeds)
        console = Console(stderr=as_json)
        summary = run_ablation(chosen, out, only=only or (), resume=resume, overwrite=overwrite, console=console)
    if as_json:
        typer.echo(json.dumps(summary, indent=2))
    if summary["failed"]:
        raise typer.Exit(RoundError.exit_code)
