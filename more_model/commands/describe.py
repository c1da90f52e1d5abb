"""`more-model describe`."""

from __future__ import annotations

import json
from dataclasses import asdict
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from more_model.cli_errors import exit_on_error
from more_model.errors import ConfigError

if TYPE_CHECKING:
    from more_model.describe import Description


class Method(StrEnum):
    """How the LoRA factors train and travel; `more_model.lora_method.LoraMethod` for the command line."""

    FFA = "ffa"
    FEDIT = "fedit"
    ROLORA = "rolora"
    FEDSVD = "fedsvd"
    FLEXLORA = "flexlora"
    FEDEX = "fedex"


def describe(
    preset: Annotated[str | None, typer.Option(help="Built-in model: tiny, small or more-base (the default).")] = None,
    config: Annotated[Path | None, typer.Option(help="Model configuration (TOML or JSON) instead of a preset.")] = None,
    method: Annotated[
        Method,
        typer.Option(
            help="ffa: A is frozen, B travels. fedit: both factors train and travel. rolora: B in odd rounds, A in "
            "even ones. fedsvd: A travels down only. flexlora: as fedit. fedex: as fedit, and a dense residual down."
        ),
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
