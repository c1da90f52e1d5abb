"""``more-client status``: what the daemon does, and what is in its way."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from more_model.cli_errors import exit_on_error
from more_model.commands.options import AsJson


def status(
    config: Annotated[Path, typer.Argument(metavar="SITE.toml", help="The site file.", show_default=False)],
    as_json: AsJson = False,
) -> None:
    """Show what the site's daemon does now, also while it trains; ends with 8 if no daemon runs.

    Example: more-client status /etc/more-fed/site.toml
    """
    with exit_on_error():
        from client.daemon.by_hand import order
        from client.daemon.control import STATUS
        from client.site_file import load_site_file

        found = order(load_site_file(config), STATUS)
        typer.echo(json.dumps(found) if as_json else "\n".join(_lines(found)))


def _lines(found: Mapping[str, Any]) -> Iterator[str]:
    yield f"Site {found['site']}: {found['state']}, since {found['started']} (process {found['pid']})"
    activity, policy = found["activity"], found["policy"]
    yield f"now               {_doing(activity) if activity else 'nothing'}"
    if found["paused_since"]:
        yield f"paused since      {found['paused_since']}; more-client resume ends it"
    if found["obstacle"]:
        yield f"cannot answer     {found['obstacle']['cause']}, since {found['obstacle']['since']}"
        yield f"  What to do: {found['obstacle']['remedy']}"
    yield f"rounds answered   {found['rounds_answered']}"
    if found["last_refusal"]:
        yield f"last refusal      {found['last_refusal']}"
    if found["last_verdict"]:
        yield f"not in a round    {found['last_verdict']}"
    yield f"training patients {found['patients']}, withdrawn {found['withdrawn']}"
    yield f"policy            {_policy(policy)}"
    yield f"audit log         {found['audit_anchor']}"
    for companion in found["companions"]:
        hindrance = companion["hindrance"]
        running = "running" if companion["pid"] else "not running"
        yield f"{companion['name']:<18}{running}, started {companion['starts']} times"
        if hindrance:
            yield f"  {hindrance['cause']}"
            yield f"  What to do: {hindrance['remedy']}"


def _doing(activity: Mapping[str, Any]) -> str:
    return f"{activity['kind']}, run {activity['run']}, round {activity['round']}, since {activity['since']}"


def _policy(policy: Mapping[str, Any]) -> str:
    if policy["fault"]:
        return f"cannot be used, so everything is refused: {policy['fault']}"
    return f"in force ({policy['sha256'][:12]})" if policy["in_force"] else "there is none, so everything is refused"
