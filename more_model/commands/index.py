"""`more-model index`."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from more_model.cli_errors import exit_on_error
from more_model.commands.options import (
    AsJson,
    BaseFolder,
    Checkpoint,
    Device,
    Out,
    Overwrite,
    Seed,
    Threads,
)
from more_model.data.study import Split
from more_model.progress import shown_progress

if TYPE_CHECKING:
    from rich.table import Table

    from more_model.search.index_file import Index

#: Figure -> what heads its column.
_SHOWN = {
    "recall@1": "R@1",
    "recall@5": "R@5",
    "recall@10": "R@10",
    "chance@10": "chance",
    "mrr": "MRR",
    "median_rank": "median rank",
    "candidates": "among",
}


def index(
    checkpoint: Checkpoint,
    data: Annotated[
        list[Path], typer.Option("--data", help="Run directory, cohort file or site store; may be given several times.")
    ],
    out: Out,
    base: BaseFolder = None,
    split: Annotated[
        list[Split] | None, typer.Option("--split", help="Only patients of this split; may be given several times.")
    ] = None,
    batch_size: Annotated[int, typer.Option("--batch-size", min=1, help="Studies embedded at once.")] = 128,
    replicates: Annotated[int, typer.Option(min=0, help="Bootstrap resamples of patients; 0: no intervals.")] = 200,
    seed: Seed = 0,
    overwrite: Overwrite = False,
    device: Device = "auto",
    threads: Threads = 2,
    as_json: AsJson = False,
) -> None:
    """Embed all studies and reports of a cohort for `more-model search`, and measure what the model finds.

    The directory holds patient data and is made readable by its owner alone.

    Example: more-model index --checkpoint runs/demo/checkpoints/federated.safetensors --data runs/demo --out index
    """
    with exit_on_error():
        from more_model.checkpoint import load_checkpoint
        from more_model.cohort_file import load_cohort
        from more_model.search.build import build_index, read_figures
        from more_model.training.loop import resolve_device

        with shown_progress() as progress:
            made = build_index(
                load_checkpoint(checkpoint, base=base, device=resolve_device(device)),
                [load_cohort(path) for path in data],
                out,
                splits=tuple(split) if split else tuple(Split),
                batch_size=batch_size,
                threads=threads,
                replicates=replicates,
                seed=seed,
                overwrite=overwrite,
                progress=progress,
            )
        figures = read_figures(out)
    if as_json:
        typer.echo(json.dumps({"out": str(out), "index": made.header.model_dump(mode="json"), "figures": figures}))
    else:
        _show(made, figures["splits"], out)


def _show(made: Index, figures: Mapping[str, Any], out: Path) -> None:
    from rich.console import Console

    console = Console()
    console.print(f"{'SYNTHETIC. ' if made.header.synthetic else ''}Index written: {out}", markup=False)
    for shelf, count in made.header.shelves.items():
        console.print(f"  {shelf.heading}: {count.items} ({count.vectors} distinct)", markup=False)
    for split, found in figures.items():
        console.print(_table(f"What is found for patients of the {split} split", _rows(found)))
    if not figures:
        console.print("Nothing was measured: only patients that a model was not trained on say how well it finds.")


def _rows(found: Mapping[str, Any]) -> list[tuple[str, Mapping[str, Any]]]:
    consistent = found["consistency"]
    ways = [(way, figures) for way, figures in consistent.items() if isinstance(figures, dict)]
    return [*found["directions"].items(), *((f"{way}, same patient", figures) for way, figures in ways)]


def _table(title: str, rows: Sequence[tuple[str, Mapping[str, Any]]]) -> Table:
    from rich.box import SIMPLE
    from rich.table import Table

    table = Table("", title=title, title_justify="left", box=SIMPLE, caption="R@k: recall@k; chance: R@10 by chance")
    for heading in _SHOWN.values():
        table.add_column(heading, justify="right", no_wrap=True)
    for name, figures in rows:
        table.add_row(name, *(_number(figures.get(key)) for key in _SHOWN))
    return table


def _number(value: float | None) -> str:
    if value is None:
        return "-"
    return str(value) if isinstance(value, int) else f"{value:.3f}".removesuffix(".000")
