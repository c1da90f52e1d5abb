"""`more-client ledger`."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from more_model.cli_errors import exit_on_error
from more_model.commands.options import AsJson

if TYPE_CHECKING:
    from client.run_spending import RunSpending
    from privacy.ledger.state import State


def ledger(
    config: Annotated[Path, typer.Argument(metavar="SITE.toml", help="The site file.", show_default=False)],
    as_json: AsJson = False,
) -> None:
    """Show what this site's patients have spent of their privacy budget: each data set, and each run by itself.

    Checks the whole ledger against its witness first and ends with 5 if it was changed. Runs without differential
    privacy are not in it; the audit log has those.

    Example: more-client ledger /etc/more-fed/site.toml
    """
    with exit_on_error():
        from rich.console import Console

        from client.run_spending import spending_by_run
        from client.site_file import load_site_file
        from privacy.ledger.shown import account_facts
        from privacy.ledger.verify import checked_state

        site = load_site_file(config)
        places = site.controls
        if not places.ledger.exists() and not places.witness.exists():
            words = f"Site {site.site}: there is no ledger yet, since no private run has begun here."
            typer.echo(json.dumps({"site": site.site, "anchor": None, "data_sets": []}) if as_json else words)
            return
        with Console(stderr=True).status("Adding up"):
            state = checked_state(places.ledger, places.witness)
            facts = [
                {**account_facts(state, account), "runs": [_run_facts(run) for run in spending_by_run(account)]}
                for account in state.accounts.values()
            ]
        if as_json:
            typer.echo(json.dumps({"site": state.site, "anchor": str(state.anchor), "data_sets": facts}))
        else:
            typer.echo(_words(state, facts))


def _run_facts(spending: RunSpending) -> dict[str, Any]:
    return {**asdict(spending), "without_noise": spending.epsilon is None}


def _words(state: State, facts: list[dict[str, Any]]) -> str:
    from privacy.ledger.shown import account_lines, epsilon_words

    lines = [f"site    {state.site}", f"anchor  {state.anchor}"]
    for fact in facts:
        lines += account_lines(fact)
        lines += [
            f"  run {run['run']}: epsilon {epsilon_words(run)} by itself, {run['charges']} charges, "
            f"{run['steps']} steps, last {run['last_at']}"
            for run in fact["runs"]
        ]
    return "\n".join(lines if facts else [*lines, "no data set is registered"])
