"""Options that several commands share, each with one meaning."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

Checkpoint = Annotated[
    Path, typer.Option("--checkpoint", help="A file that a run wrote to checkpoints/, or a base folder.")
]
BaseFolder = Annotated[
    Path | None, typer.Option("--base", help="Base folder of the checkpoint, where it is no longer where it was.")
]
Out = Annotated[Path, typer.Option("--out", help="Directory for everything that is written.")]
Overwrite = Annotated[bool, typer.Option("--overwrite", help="Replace what an earlier run wrote there.")]
AsJson = Annotated[bool, typer.Option("--json", help="One JSON object instead of text.")]
Threads = Annotated[int, typer.Option("--threads", min=1, help="CPU threads.")]
Device = Annotated[str, typer.Option("--device", help="cpu, cuda, or auto (a GPU where there is one).")]
Workers = Annotated[int, typer.Option("--workers", min=1, help="Processes that read files.")]
Seed = Annotated[int, typer.Option("--seed", help="Seed of everything that is drawn.")]
Replicates = Annotated[int, typer.Option("--replicates", min=1, help="Bootstrap resamples of patients.")]
