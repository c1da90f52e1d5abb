"""One progress bar with remaining time on a terminal; one line per stage elsewhere."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.console import Console

#: Called with a word for what is being done, the steps done and the steps in all.
OnProgress = Callable[[str, int, int], None]


@contextmanager
def shown_progress(console: Console | None = None) -> Iterator[OnProgress]:
    """Yields a function to call with a stage, the steps done and the steps in all; it writes to stderr by default."""
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

    console = console or Console(stderr=True)
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
