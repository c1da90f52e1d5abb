"""`more-model doctor`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from more_model.cli_errors import exit_on_error
from more_model.commands.options import AsJson
from more_model.errors import DataError

if TYPE_CHECKING:
    from rich.console import Console

    from more_model.doctor.examine import Examination
    from more_model.doctor.finding import Diagnosis

_STYLES = {"ready": "green", "usable": "yellow", "unusable": "red", "error": "red", "warning": "yellow", "note": "dim"}


def doctor(
    data: Annotated[Path, typer.Option("--data", help="A data set, or a folder that holds several.")],
    as_json: AsJson = False,
) -> None:
    """Say which data sets lie in a folder, whether they are whole, and what is missing and how to get it.

    Ends with exit code 4 where nothing is recognised or nothing recognised can be used.

    Example: more-model doctor --data /data/physionet --json
    """
    with exit_on_error():
        examination = _examined(data)
        if as_json:
            typer.echo(json.dumps(examination.as_dict(), indent=2))
        else:
            _print(examination)
        if examination.verdict.value == "unusable":
            raise DataError(f"nothing in {data} can be used as it lies there", remedy="see the errors above")


def _examined(root: Path) -> Examination:
    from rich.console import Console

    with Console(stderr=True).status("Looking around") as status:
        from more_model.doctor.examine import examine

        return examine(root, progress=lambda what: status.update(f"Examining {what}"))


def _print(examination: Examination) -> None:
    from rich.console import Console

    console = Console(soft_wrap=True, highlight=False)
    for diagnosis in examination.diagnoses:
        _print_one(console, diagnosis)
    runnable = sorted({a.name for d in examination.diagnoses for a in d.protocols if a.can_run})
    console.print(f"Protocols that can run: {', '.join(runnable) or 'none'}.", markup=False)


def _print_one(console: Console, diagnosis: Diagnosis) -> None:
    from rich.text import Text

    verdict = diagnosis.verdict.value
    console.print(Text.assemble((f"{diagnosis.release}: ", "bold"), (verdict, _STYLES[verdict])))
    console.print(f"  {diagnosis.folder}", markup=False)
    if diagnosis.counts:
        counts = ", ".join(f"{name} {count:,}" for name, count in diagnosis.counts.items())
        console.print(f"  {counts}", markup=False)
    for finding in diagnosis.findings:
        console.print(Text.assemble("  ", (f"{finding.severity.value}: ", _STYLES[finding.severity]), finding.sentence))
        if finding.remedy:
            console.print(f"    What to do: {finding.remedy}", markup=False)
    for answer in diagnosis.protocols:
        state = "can run" if answer.can_run else "cannot run"
        console.print(f"  {answer.name} {state}{f': {answer.reason}' if answer.reason else ''}", markup=False)
    console.print()
