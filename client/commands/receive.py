"""``more-client receive``: take studies from the hospital's PACS until told to stop."""

from __future__ import annotations

import json
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from more_model.cli_errors import exit_on_error
from more_model.commands.options import AsJson

if TYPE_CHECKING:
    from client.dicom_receiver import Receiver
    from client.site_file import ReceiverPart

_TABLE_EVERY_S = 5.0


def receive(
    config: Annotated[Path, typer.Argument(metavar="SITE.toml", help="The site file.", show_default=False)],
    as_json: AsJson = False,
) -> None:
    """Receive X-rays and ECGs from the PACS (DICOM C-STORE) into the site's spool, a source for more-client ingest.

    Only the callers that the site file lists may send. Ends with SIGTERM or Ctrl-C; what was received stays. The
    receiver does not de-identify: let the sender do that, and more-client ingest withholds what it left.

    Example: more-client receive /etc/more-fed/site.toml
    """
    with exit_on_error():
        from client.site_file import load_site_file
        from more_model.data.packages import load_package
        from more_model.errors import ConfigError

        part = load_site_file(config).receiver
        if part is None:
            raise ConfigError(
                str(config), ["receiver: there is no such table"], remedy="add one that names who may send"
            )
        load_package("pynetdicom", "receive studies from a PACS")
        with _until_told_to_stop() as stop, _running(part) as receiver:
            host, port = receiver.address
            typer.echo(f"{part.ae_title} listens at {host}:{port}; studies go to {part.spool}", err=True)
            while not stop.wait(_TABLE_EVERY_S):
                _renew_table(receiver)
        facts = {"received": dict(receiver.counts), "instances": len(receiver.spool.rows), "spool": str(part.spool)}
        typer.echo(json.dumps(facts) if as_json else _text(receiver))


def _renew_table(receiver: Receiver) -> None:
    from more_model.errors import EnvironmentFault

    if receiver.spool.table_is_old:
        try:
            receiver.spool.write_table()
        except EnvironmentFault as error:
            # A full disk ends nothing: the sender is told, and space may return.
            typer.echo(error.explain(), err=True)


@contextmanager
def _running(part: ReceiverPart) -> Iterator[Receiver]:
    from client.dicom_receiver import receiving
    from client.dicom_spool import open_spool

    with open_spool(part.spool, int(part.keep_free_gib * 2**30)) as spool, receiving(part, spool) as receiver:
        yield receiver


@contextmanager
def _until_told_to_stop() -> Iterator[threading.Event]:
    stop = threading.Event()
    before = {number: signal.signal(number, lambda *_: stop.set()) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _text(receiver: Receiver) -> str:
    counts = ", ".join(f"{what} {count}" for what, count in sorted(receiver.counts.items())) or "nothing"
    return f"Received: {counts}. The spool holds {len(receiver.spool.rows)} instances."
