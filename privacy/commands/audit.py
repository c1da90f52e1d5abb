"""`more-privacy audit`."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from more_model.cli_errors import exit_on_error

if TYPE_CHECKING:
    from privacy.audit.levels import Audit, Request
    from privacy.audit.subject import OnProgress


def audit(
    run: Annotated[
        Path | None, typer.Argument(help="Directory of a finished run; without one, the mechanisms alone.")
    ] = None,
    site: Annotated[
        str | None, typer.Option("--site", help="Hospital to attack; by default the run's smallest.")
    ] = None,
    level: Annotated[
        list[int] | None,
        typer.Option(
            "--level",
            min=1,
            max=5,
            help="1 mechanisms, 2 one run with canaries, 3 membership, 4 updates, 5 embeddings; may be repeated. By "
            "default all (2 and 3 train), or 1 without a run.",
        ),
    ] = None,
    canaries: Annotated[int, typer.Option("--canaries", help="Of level 2: about a thousand to see anything.")] = 1_000,
    references: Annotated[int, typer.Option("--references", help="Of level 3: further trainings, 16 to 64.")] = 16,
    out: Annotated[
        Path | None, typer.Option("--out", help="Folder for audit.json and audit.html; by default audit/ in the run.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object instead of text.")] = False,
) -> None:
    """Attack the system's own privacy and compare what is found with what is claimed.

    Ends with 9 if a claim is broken. Without a run, tries the noise of every mechanism (seconds).

    Example: more-privacy audit runs/demo --level 1 --level 4 --level 5
    """
    with exit_on_error():
        from more_model.errors import ClaimBroken
        from privacy.audit.levels import LEVELS, Request
        from privacy.audit.report import as_json as json_of
        from privacy.audit.report import as_text, write_report

        levels = tuple(sorted(set(level or ([1] if run is None else LEVELS))))
        made = _audited(run, site, Request(levels, canaries, references))
        folder = out if out is not None or run is None else run / "audit"
        if folder is not None:
            write_report(made, folder)
        typer.echo(json.dumps(json_of(made), allow_nan=False) if as_json else as_text(made))
        if folder is not None and not as_json:
            typer.echo(f"\nReport: {folder / 'audit.html'}")
        if broken := made.broken():
            raise ClaimBroken(
                f"the claim is broken by: {', '.join(verdict.test for verdict in broken)}",
                remedy="stop training under this claim, and look for what differs from the accounting's assumptions",
                avoid="repeat the audit until it passes: each test may err, but not this often",
            )


def _audited(run: Path | None, site: str | None, request: Request) -> Audit:
    from more_model.errors import ConfigError
    from privacy.audit.levels import check_request, run_audit
    from privacy.audit.opening import open_run

    check_request(request, has_subject=run is not None)
    if run is None and site is not None:
        raise ConfigError("privacy audit", ["--site without a run"])
    with _progress() as (on_step, on_progress):
        subject = None if run is None else open_run(run, site, on_progress)
        return run_audit(request, subject, on_step=on_step)


@contextmanager
def _progress() -> Iterator[tuple[Callable[[str], None], OnProgress]]:
    """One bar for the level that runs, and one for each stage that counts its steps."""
    from rich.console import Console
    from rich.progress import Progress, TaskID

    with Progress(console=Console(stderr=True), transient=True) as bar:
        current = bar.add_task("Opening", total=None)
        stages: dict[str, TaskID] = {}

        def on_progress(stage: str, done: int, total: int) -> None:
            if stage not in stages:
                stages[stage] = bar.add_task(stage, total=total)
            bar.update(stages[stage], completed=done, total=total)

        yield lambda words: bar.update(current, description=words), on_progress
