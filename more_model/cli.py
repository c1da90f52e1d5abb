"""The command line `more-model`: what the model and its readers can tell without training anything."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from more_model.cli_errors import exit_on_error
from more_model.cli_version import VersionOption
from more_model.data.inspect import DEFAULT_TIMEOUT_S, Inspection, inspect_files
from more_model.errors import ConfigError, InputRefused

if TYPE_CHECKING:
    from more_model.describe import Description

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    # Typer would print local variables, which here are studies with patient ids and report texts.
    pretty_exceptions_enable=False,
    help="The MoRE model and the readers of its input files.",
)


class Method(StrEnum):
    """Which LoRA factors train and travel."""

    FFA = "ffa"
    FEDIT = "fedit"


@app.callback()
def main(version: VersionOption = False) -> None:
    """The MoRE model and the readers of its input files."""


@app.command()
def inspect(
    files: Annotated[list[Path], typer.Argument(metavar="FILE...", help="DICOM, JPEG, PNG, WFDB or report text.")],
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object per file and line.")] = False,
    timeout_s: Annotated[float, typer.Option(min=0.1, help="Seconds that one file may take.")] = DEFAULT_TIMEOUT_S,
) -> None:
    """Show what training would make of each file, or why it refuses it (exit code 3).

    Example: more-model inspect image.dcm records/00001_lr report.txt --json
    """
    with exit_on_error():
        refused = 0
        for inspection in inspect_files(files, timeout_s=timeout_s):
            refused += not inspection.accepted
            typer.echo(json.dumps(asdict(inspection)) if as_json else _as_text(inspection))
        if refused:
            raise typer.Exit(InputRefused.exit_code)


@app.command()
def describe(
    preset: Annotated[str | None, typer.Option(help="Built-in model: tiny, small or more-base (the default).")] = None,
    config: Annotated[Path | None, typer.Option(help="Model configuration (TOML or JSON) instead of a preset.")] = None,
    method: Annotated[
        Method, typer.Option(help="ffa: A is frozen, B travels. fedit: both factors train and travel.")
    ] = Method.FFA,
    training_step: Annotated[
        bool, typer.Option("--training-step", help="Also take one optimiser step on the CPU with random triplets.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object instead of lines.")] = False,
) -> None:
    """Count a model's parameters, what of them trains, and what travels between a site and the coordinator.

    Example: more-model describe --preset more-base --method ffa --training-step
    """
    with exit_on_error():
        if preset is not None and config is not None:
            raise ConfigError("more-model describe", ["--preset and --config exclude each other"])
        description = _described(preset or "more-base", config, method, training_step=training_step)
    from more_model.describe import as_text

    typer.echo(json.dumps(asdict(description), indent=2) if as_json else as_text(description))


def _described(preset_name: str, path: Path | None, method: Method, *, training_step: bool) -> Description:
    from rich.console import Console

    with Console(stderr=True).status("Building the model"):
        from more_model.describe import describe as describe_model
        from more_model.model.config import load_config, preset

        config = preset(preset_name) if path is None else load_config(path)
        return describe_model(config, method.value, training_step=training_step)


def _as_text(inspection: Inspection) -> str:
    verdict = "accepted" if inspection.accepted else f"refused ({inspection.reason}): {inspection.message}"
    lines = [f"{inspection.name}: {inspection.kind}, {verdict}"]
    lines += [f"  {name.replace('_', ' ')}: {_shown(value)}" for name, value in _present(inspection.facts).items()]
    return "\n".join(lines)


def _present(facts: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in facts.items() if value not in ("", [], None)}


def _shown(value: object) -> str:
    return ", ".join(str(item) for item in value) if isinstance(value, list) else str(value)
