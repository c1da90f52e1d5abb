"""``more-client preflight``: can this site take part, and what is in the way?"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from more_model.cli_errors import exit_on_error
from more_model.commands.options import AsJson

if TYPE_CHECKING:
    from client.preflight.finding import Finding

_MARKS = {"ok": "ok  ", "warn": "WARN", "fail": "FAIL"}


def preflight(
    config: Annotated[Path, typer.Argument(metavar="SITE.toml", help="The site file.", show_default=False)],
    offline: Annotated[bool, typer.Option("--offline", help="Do not connect to the coordinator.")] = False,
    as_json: AsJson = False,
) -> None:
    """Check data, store, disk, memory, GPU, files, versions, base, certificates, proxy, clock and the coordinator.

    Nothing is changed. The exit code is that of the first failure, 0 where there are only warnings.

    Example: more-client preflight /etc/more-fed/site.toml
    """
    with exit_on_error():
        from client.preflight.finding import exit_code
        from client.preflight.run import run_preflight
        from client.site_file import load_site_file
        from more_model.progress import shown_progress

        site = load_site_file(config)
        with shown_progress() as progress:
            findings = run_preflight(site, config, offline=offline, progress=progress)
        code = exit_code(findings)
        facts = {"site": site.site, "exit_code": code, "findings": [finding.as_dict() for finding in findings]}
        typer.echo(json.dumps(facts) if as_json else _text(site.site, findings))
        if code:
            raise typer.Exit(code)


def _text(site: str, findings: Sequence[Finding]) -> str:
    lines = []
    for finding in findings:
        cause = finding.cause.replace("\n", "\n        ")
        lines.append(f"{_MARKS[finding.level]}  {finding.name:<26}{cause}")
        lines += [f"        What to do: {finding.remedy}"] if finding.remedy else []
        lines += [f"        Do not: {finding.avoid}"] if finding.avoid else []
    levels = [finding.level for finding in findings]
    lines.append(f"Site {site}: {levels.count('fail')} failures, {levels.count('warn')} warnings")
    return "\n".join(lines)
