"""One progress bar with remaining time on a terminal; one line per stage elsewhere."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from simulation.workbench import OnProgress


@contextmanager
def shown_progress(console: Console) -> Iterator[OnProgress]:
    """Yields a function to call with a stage, the steps done and the steps in all."""
    columns = (TextColumn("{task.description:<28}"), BarColumn(), TimeElapsedColumn(), TimeRemainingColumn())
    tasks: dict[str, int] = {}
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as progress:

        def report(stage: str, done: int, total: int) -> None:
            if stage not in tasks:
                tasks[stage] = progress.add_task(stage, total=total)
                if not console.is_terminal:
                    console.print(f"{stage} ...", highlight=False)
            progress.update(tasks[stage], completed=done, total=total, visible=done < total)  # type: ignore[arg-type]

        yield report
