"""`more-model import-more`."""

from __future__ import annotations

import json
from dataclasses import asdict
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from more_model.cli_errors import exit_on_error
from more_model.commands.options import AsJson

_DEFAULT = Path("default")


class EcgLeadOrder(StrEnum):
    """Lead order that a checkpoint was trained on."""

    MIMIC = "mimic"
    STANDARD = "standard"


def import_more(
    checkpoint: Annotated[Path, typer.Argument(help="State dict of the released code: PyTorch or .safetensors.")],
    out: Annotated[Path, typer.Option(help="Base folder to write; every command takes it as a checkpoint.")],
    tokenizer: Annotated[
        Path | None, typer.Option(help="Folder with the tokenizer of roberta-base (needed; none is downloaded).")
    ] = None,
    text_config: Annotated[
        Path, typer.Option(help="default (RoBERTa-base), or the folder of another RoBERTa's config.json.")
    ] = _DEFAULT,
    ecg_leads: Annotated[
        EcgLeadOrder,
        typer.Option(help="Lead order of training: mimic (the released code: aVR, aVF, aVL) or standard."),
    ] = EcgLeadOrder.MIMIC,
    as_json: AsJson = False,
) -> None:
    """Turn a checkpoint of the released MoRE code into a base folder with the same embeddings, or refuse it.

    Tensors that are missing, unknown, of another shape or not finite are counted and named (exit code 6); nothing is
    loaded in part.

    Example: more-model import-more more.pth --tokenizer roberta-base --out more-released
    """
    with exit_on_error():
        from rich.console import Console

        with Console(stderr=True).status("Importing the checkpoint"):
            from more_model.importing.released import import_released
            from more_model.importing.released_config import released_config

            config = released_config(None if text_config == _DEFAULT else text_config)
            report = import_released(
                checkpoint, out, config=config, tokenizer_folder=tokenizer, ecg_leads=ecg_leads.value
            )
    typer.echo(json.dumps(asdict(report), indent=2) if as_json else report.as_text())
