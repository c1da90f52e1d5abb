"""`more-model inspect`."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer

from more_model.cli_errors import exit_on_error
from more_model.data.inspect import DEFAULT_TIMEOUT_S, Inspection, inspect_files
from more_model.errors import InputRefused


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


def _as_text(inspection: Inspection) -> str:
    verdict = "accepted" if inspection.accepted else f"refused ({inspection.reason}): {inspection.message}"
    lines = [f"{inspection.name}: {inspection.kind}, {verdict}"]
    lines += [f"  {name.replace('_', ' ')}: {_shown(value)}" for name, value in _present(inspection.facts).items()]
    return "\n".join(lines)


def _present(facts: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in facts.items() if value not in ("", [], None)}


def _shown(value: object) -> str:
    return ", ".join(str(item) for item in value) if isinstance(value, list) else str(value)
