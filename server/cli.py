"""Console script `more-server`: what the coordinator runs."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from more_model.cli_errors import exit_on_error
from more_model.cli_version import VersionOption
from more_model.errors import ConfigError
from server.commands.backup import backup
from server.commands.card import card
from server.commands.enroll import enroll
from server.commands.export import export
from server.commands.init import init
from server.commands.restore import restore
from server.commands.revoke import revoke
from server.commands.run import run
from server.commands.sites import sites
from server.commands.start import start
from server.commands.status import status
from server.commands.status_token import status_token

if TYPE_CHECKING:
    from server.journal import RoundRecord

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    help="The coordinator's side of a federation: its keys and sites, the server they reach, and what happened in each "
    "round of a run.",
)
app.command()(init)
app.command()(enroll)
app.command()(sites)
app.command()(revoke)
app.command()(card)
app.command()(start)
app.command()(run)
app.command()(status)
app.command("status-token")(status_token)
app.command()(export)
app.command()(backup)
app.command()(restore)

# A coordinator's run holds its journal itself; a simulation holds one for its federated arm.
_JOURNALS = ("journal.sqlite", "state/run/journal.sqlite", "arms/federated/journal.sqlite")


@app.callback()
def main(version: VersionOption = False) -> None:
    """Keeps `rounds` a command of its own even while it is the only one."""


@app.command()
def rounds(
    run_dir: Annotated[
        Path,
        typer.Argument(help="Folder of a federation, of a run, or of one arm of a simulation.", show_default=False),
    ],
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object instead of text.")] = False,
) -> None:
    """Show the closed rounds of a run: which sites took part, which did not and why, loss, bytes. Only reads.

    Example: more-server rounds runs/demo
    """
    # Imported here: the journal brings the numerical libraries along, and a --help must not wait for them.
    from server import journal

    with exit_on_error():
        records = _closed_rounds(run_dir)
        typer.echo(json.dumps({"rounds": journal.as_json(records)}) if as_json else _text(records))


def _closed_rounds(run_dir: Path) -> list[RoundRecord]:
    from server import journal

    path = next((found for place in _JOURNALS if (found := run_dir / place).is_file()), None)
    if path is None:
        fault = f"there is no {' and no '.join(_JOURNALS)} in this folder"
        raise ConfigError(str(run_dir), [fault], remedy="give the folder of a run, or of one arm of a simulation")
    with journal.open_to_read(path) as database:
        return journal.read_rounds(database)


def _text(records: Sequence[RoundRecord]) -> str:
    if not records:
        return "No round has been closed yet."
    lines = [f"{'round':>5}  {'sites':>7}  {'loss':>8}  {'AUROC':>6}  {'MB up':>8}  {'seconds':>8}"]
    for record in records:
        accepted = sum(site.state == "accepted" for site in record.sites)
        lines.append(
            f"{record.round:>5}  {f'{accepted}/{len(record.sites)}':>7}  {_number(record.loss, 4):>8}  "
            f"{_number(record.macro_auroc, 3):>6}  {record.bytes_up / 1e6:>8.2f}  {record.seconds:>8.1f}"
        )
        lines += [
            f"       {site.site}: {site.state}" + (f" ({site.why})" if site.why else "")
            for site in record.sites
            if site.state != "accepted"
        ]
    return "\n".join(lines)


def _number(value: float | None, digits: int) -> str:
    return "-" if value is None else f"{value:.{digits}f}"


if __name__ == "__main__":
    app()
