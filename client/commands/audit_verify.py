"""`more-client audit verify`."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from more_model.cli_errors import exit_on_error
from more_model.commands.options import AsJson
from more_model.errors import ConfigError

if TYPE_CHECKING:
    from client.records.verify import AuditReport


def audit_verify(
    log: Annotated[Path, typer.Argument(metavar="LOG", help="The site's audit log.", show_default=False)],
    anchor: Annotated[
        str | None, typer.Option("--anchor", help="COUNT:HEAD noted earlier, that the log must go through.")
    ] = None,
    write_anchor: Annotated[
        Path | None,
        typer.Option("--write-anchor", help="Write a lost anchor file again; needs --anchor and a whole log."),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Check every entry of an audit log, and an anchor that was kept elsewhere; ends with 5 if the log was changed.

    Works without the network, and while the daemon writes. Without an anchor, entries cut off at the end go unnoticed.

    Example: more-client audit verify /var/lib/more-fed/audit.jsonl --anchor 120:9f0c...
    """
    with exit_on_error():
        from rich.console import Console

        from client.records.lines import damaged
        from client.records.verify import verify
        from privacy.ledger.chain import parse_anchor
        from privacy.ledger.files import write_whole

        if write_anchor is not None and anchor is None:
            raise ConfigError("more-client audit verify", ["--write-anchor needs --anchor"])
        known = parse_anchor(anchor) if anchor is not None else None
        with Console(stderr=True).status("Verifying"):
            report = verify(log, known)
        content = {**asdict(report), "anchor": str(report.anchor), "whole": report.whole, "against": anchor}
        typer.echo(json.dumps(content) if as_json else _words(report, anchor))
        if not report.whole:
            raise damaged(f"The audit log was changed: {report.fault_count} fault(s).")
        if write_anchor is not None:
            write_whole(write_anchor, f"{report.anchor}\n".encode())


def _words(report: AuditReport, anchor: str | None) -> str:
    state = "whole" if report.whole else "NOT whole"
    lines = [
        f"The audit log of site {report.site or 'unknown'} is {state}: {report.entries} entries, {report.first_at} to "
        f"{report.last_at}",
        *(f"  - {fault}" for fault in report.faults),
        *(
            [f"  - and {report.fault_count - len(report.faults)} more"]
            if report.fault_count > len(report.faults)
            else []
        ),
        *(f"  {kind:<20} {count:>9}" for kind, count in report.kinds.items()),
        f"payload that left      {report.released_bytes} bytes",
    ]
    if report.unfinished_bytes:
        lines.append(
            f"{report.unfinished_bytes} bytes at the end are an entry being written now, or one that a crash cut: "
            "the next start of the daemon recovers it"
        )
    if anchor is None:
        lines.append("Entries cut off at the end can only be seen against an anchor: note this one elsewhere.")
    return "\n".join([*lines, f"anchor  {report.anchor}"])
