"""`more-model make-base`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from more_model.cli_errors import exit_on_error
from more_model.commands.options import AsJson, Seed


def make_base(
    config: Annotated[Path, typer.Option(help="Model configuration (TOML or JSON).")],
    out: Annotated[Path, typer.Option(help="Base folder to write; every command takes it as a checkpoint.")],
    tokenizer: Annotated[
        Path | None, typer.Option(help="Folder of the tokenizer; left out, the one in text.path serves.")
    ] = None,
    seed: Seed = 0,
    as_json: AsJson = False,
) -> None:
    """Build a base folder from local weights: timm vision transformers in xray.weights and ecg.weights (safetensors or
    PyTorch), a Hugging Face model in text.path. What has no weights is drawn from the seed.

    Example: more-model make-base --config model.toml --tokenizer roberta-base --out base
    """
    with exit_on_error():
        from rich.console import Console

        with Console(stderr=True).status("Building the base"):
            facts = _made(config, tokenizer, out, seed)
    typer.echo(json.dumps(facts, indent=2) if as_json else f"{facts['origin']}\nbase folder: {facts['base']}")


def _made(path: Path, tokenizer_folder: Path | None, out: Path, seed: int) -> dict[str, str]:
    from more_model.base import require_empty, require_room_for_words, save_base
    from more_model.errors import ConfigError
    from more_model.importing.local import local_base
    from more_model.model.config import load_config
    from more_model.tokenizer import load_tokenizer

    require_empty(out)
    config = load_config(path)
    folder = tokenizer_folder or config.text.path
    if folder is None:
        raise ConfigError("more-model make-base", ["without text.path a --tokenizer is needed"])
    base = local_base(config, load_tokenizer(folder), seed)
    require_room_for_words(base)
    save_base(base, out)
    return {"base": str(out), "origin": base.origin, "architecture": config.digest()}
