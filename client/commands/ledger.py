"""`more-client ledger`."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from more_model.cli_errors import exit_on_error
from more_model.commands.options import AsJson

if TYPE_CHECKING:
    from privacy.ledger.state import Account, State


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
            facts = [{**account_facts(state, account), "runs": _runs(account)} for account in state.accounts.values()]
        if as_json:
            typer.echo(json.dumps({"site": state.site, "anchor": str(state.anchor), "data_sets": facts}))
        else:
            typer.echo(_words(state, facts))


def _runs(account: Account) -> list[dict[str, Any]]:
    """What each run cost the data set by itself; runs together cost less than their sum."""
    from client.purpose import run_of
    from privacy.ledger.shown import finite
    from privacy.ledger.spending import composed

    by_run: dict[str, list[Any]] = {}
    for charged in account.charges.values():
        by_run.setdefault(run_of(charged.purpose), []).append(charged)
    found = []
    for run, charges in by_run.items():
        epsilon = composed([each.charge for each in charges], account.budget.delta).epsilon
        found.append(
            {
                "run": run,
                "charges": len(charges),
                "steps": sum(each.charge.steps for each in charges),
                "last_at": charges[-1].at,
                "epsilon": finite(epsilon),
                "without_noise": math.isinf(epsilon),
            }
        )
    return found


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
