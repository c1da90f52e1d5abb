"""`more-model search`."""

from __future__ import annotations

import json
from collections.abc import Sequence
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from more_model.cli_errors import exit_on_error
from more_model.commands.options import AsJson, BaseFolder, Device, Threads
from more_model.data.study import Modality, Split

if TYPE_CHECKING:
    from rich.table import Table

    from more_model.checkpoint import TrainedModel
    from more_model.search.answers import Answers
    from more_model.search.query import Hit

_WORDS_SHOWN = 60


class About(StrEnum):
    """What the words of a query are about."""

    XRAY = "xray"
    ECG = "ecg"


def search(
    index: Annotated[Path, typer.Option("--index", help="Directory that `more-model index` wrote.")],
    text: Annotated[str | None, typer.Argument(metavar="[TEXT]", help="Words to look for.")] = None,
    xray: Annotated[Path | None, typer.Option(help="Ask with an X-ray: DICOM, JPEG or PNG.")] = None,
    ecg: Annotated[Path | None, typer.Option(help="Ask with an ECG: WFDB record or DICOM.")] = None,
    report: Annotated[Path | None, typer.Option(help="Ask with a report: a text file.")] = None,
    item: Annotated[str | None, typer.Option(help="Ask with an item of the index, such as xray:17.")] = None,
    checkpoint: Annotated[
        Path | None, typer.Option("--checkpoint", help="The model that the index was made with; not needed for --item.")
    ] = None,
    base: BaseFolder = None,
    about: Annotated[
        About | None, typer.Option(help="What the words are about. Otherwise: about X-rays, then about ECGs.")
    ] = None,
    k: Annotated[int, typer.Option("-k", min=1, help="Answers of each kind.")] = 5,
    modality: Annotated[
        list[Modality] | None, typer.Option(help="Only answers of this kind; may be given several times.")
    ] = None,
    site: Annotated[list[str] | None, typer.Option(help="Only this site; may be given several times.")] = None,
    split: Annotated[list[Split] | None, typer.Option(help="Only this split; may be given several times.")] = None,
    per_site: Annotated[bool, typer.Option("--per-site", help="The best of each site, instead of all.")] = False,
    html: Annotated[Path | None, typer.Option(help="Also write one page with pictures of the answers.")] = None,
    show_ids: Annotated[
        bool, typer.Option("--show-ids", help="Also patient and study ids as stored; for use inside the hospital.")
    ] = False,
    device: Device = "auto",
    threads: Threads = 2,
    as_json: AsJson = False,
) -> None:
    """Find the X-rays, ECGs and reports that the model places nearest to words, a file, or an item of the index.

    Words are asked as words about an X-ray among X-rays and their reports, as words about an ECG among ECGs and theirs.

    Example: more-model search "pleural effusion" --index index --checkpoint runs/demo/checkpoints/federated.safetensors
    """
    with exit_on_error():
        from rich.console import Console

        with Console(stderr=True).status("Searching"):
            from more_model.search.answers import as_json as answers_json
            from more_model.search.answers import ask
            from more_model.search.asked import Asked
            from more_model.search.index_file import Index
            from more_model.search.query import Filters

            asked = Asked(text, xray, ecg, report, item, None if about is None else Modality(about.value))
            opened = Index.open(index)
            trained = None if checkpoint is None else _loaded(checkpoint, base, device)
            query = asked.query(opened, trained, threads=threads)
            filters = Filters(site or None, split or None, modality or None)
            answers = ask(opened, query, asked.question, k=k, filters=filters, per_site=per_site)
            if html is not None:
                from more_model.search.page import write_answers

                write_answers(html, answers, opened, show_ids=show_ids)
    if as_json:
        typer.echo(json.dumps(answers_json(answers, opened, show_ids=show_ids), indent=2))
    else:
        _show(answers, show_ids=show_ids, synthetic=opened.header.synthetic)


def _loaded(checkpoint: Path, base: Path | None, device: str) -> TrainedModel:
    from more_model.checkpoint import load_checkpoint
    from more_model.training.loop import resolve_device

    return load_checkpoint(checkpoint, base=base, device=resolve_device(device))


def _show(answers: Answers, *, show_ids: bool, synthetic: bool) -> None:
    from rich.console import Console

    from more_model.search.answers import readable

    console = Console()
    console.print(
        f"{'SYNTHETIC DATA. ' if synthetic else ''}{readable(answers.question)}", markup=False, highlight=False
    )
    for site, of_shelf in answers.of_site.items():
        for shelf, hits in of_shelf.items():
            title = f"{shelf.heading} at {site}" if site else shelf.heading
            console.print(_table(title, hits, show_ids=show_ids))


def _table(title: str, hits: Sequence[Hit], *, show_ids: bool) -> Table:
    from rich.box import SIMPLE
    from rich.table import Table
    from rich.text import Text

    table = Table(title=Text(title), title_justify="left", box=SIMPLE, padding=(0, 1, 0, 0))
    for name in ("rank", "item", "site", "split", "score"):
        table.add_column(name, justify="right" if name in ("rank", "score") else "left", no_wrap=True)
    table.add_column("labels and words", overflow="fold")
    for hit in hits:
        cells = [str(hit.rank), hit.name, hit.item.site, hit.item.split.value, f"{hit.score:.4f}"]
        # As Text: square brackets in a report are no markup.
        table.add_row(*map(Text, cells), Text("\n".join(_lines(hit, show_ids=show_ids))))
    return table


def _lines(hit: Hit, *, show_ids: bool) -> list[str]:
    from more_model.search.answers import findings, readable

    words = readable(hit.item.words)
    shown = words if len(words) <= _WORDS_SHOWN else f"{words[:_WORDS_SHOWN].rstrip()} ..."
    notes = [f"({hit.same_words} studies)"] if hit.same_words > 1 else []
    notes += ["(same patient)"] if hit.same_patient else []
    ids = f"patient {hit.item.patient}, study {hit.item.study_id}" if show_ids else ""
    return [line for line in (", ".join(findings(hit.item)), " ".join([shown, *notes]).strip(), ids) if line]
