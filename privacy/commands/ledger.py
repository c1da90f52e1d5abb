"""`more-privacy ledger show|verify|export`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from more_model.cli_errors import exit_on_error
from more_model.errors import ConfigError

if TYPE_CHECKING:
    from privacy.ledger.chain import Anchor
    from privacy.ledger.state import State

ledger = typer.Typer(
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    help="What the patients of each data set have spent of their privacy budget, and whether the record is whole.",
)

LedgerFile = Annotated[Path, typer.Option("--ledger", envvar="MORE_FED_LEDGER", help="The site's ledger file.")]
WitnessFile = Annotated[
    Path, typer.Option("--witness", envvar="MORE_FED_LEDGER_WITNESS", help="Its witness file, in another folder.")
]
Anchors = Annotated[
    list[str] | None, typer.Option("--anchor", help="COUNT:HEAD from the audit log that the ledger must go through.")
]
AsJson = Annotated[bool, typer.Option("--json", help="One JSON object instead of text.")]


@ledger.command()
def show(path: LedgerFile, witness: WitnessFile, as_json: AsJson = False) -> None:
    """Show every data set: its budget, the epsilon spent, and what remains.

    Example: more-privacy ledger show --ledger /var/lib/more-fed/ledger.sqlite --witness /srv/witness/ledger.json
    """
    with exit_on_error():
        from privacy.ledger.shown import account_facts
        from privacy.ledger.verify import checked_state

        state = checked_state(path, witness)
        facts = [account_facts(state, account) for account in state.accounts.values()]
        content = {"site": state.site, "anchor": str(state.anchor), "data_sets": facts}
        typer.echo(json.dumps(content) if as_json else _shown(state, facts))


@ledger.command()
def verify(
    path: LedgerFile,
    witness: WitnessFile,
    anchor: Anchors = None,
    write_witness: Annotated[
        bool, typer.Option("--write-witness", help="Write a lost witness again; needs one --anchor.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Check every entry, the witness, and anchors that were kept elsewhere; ends with 5 if the ledger was changed.

    Example: more-privacy ledger verify --ledger ledger.sqlite --witness /srv/witness/ledger.json --anchor 12:9f0c...
    """
    with exit_on_error():
        from privacy.ledger.chain import parse_anchor
        from privacy.ledger.verify import checked_state, renew_witness

        anchors = [parse_anchor(text) for text in anchor or ()]
        if write_witness:
            renew_witness(path, witness, _newest(anchors))
        state = checked_state(path, witness, anchors)
        content = {"whole": True, "entries": state.anchor.count, "anchor": str(state.anchor), "anchors": len(anchors)}
        typer.echo(
            json.dumps(content)
            if as_json
            else f"The ledger is whole: {state.anchor.count} entries, as its witness says"
            + (f", and through {len(anchors)} given anchor(s)" if anchors else "")
            + f".\nanchor  {state.anchor}"
        )


@ledger.command()
def export(
    path: LedgerFile,
    witness: WitnessFile,
    out: Annotated[Path | None, typer.Option("--out", help="File to write (JSON lines) instead of the screen.")] = None,
    as_json: AsJson = False,
) -> None:
    """Export all entries as JSON lines, one entry a line with its head, for an auditor; lists of patients stay here.

    With --json, one JSON object that says what was exported, or holds the entries where no --out is given.

    Example: more-privacy ledger export --ledger ledger.sqlite --witness /srv/witness/ledger.json --out entries.jsonl
    """
    with exit_on_error():
        from privacy.ledger.verify import checked_state, stored_rows

        anchor = checked_state(path, witness).anchor
        rows = stored_rows(path)[: anchor.count]
        lines = [f'{{"entry":{text},"head":"{head}"}}' for _, text, head in rows]
        if out is not None:
            out.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
        listed = {} if out is not None else {"lines": [json.loads(line) for line in lines]}
        if as_json:
            typer.echo(json.dumps({"entries": len(lines), "anchor": str(anchor), **listed}))
        else:
            typer.echo("\n".join(lines) if out is None else f"{len(lines)} entries, up to {anchor}")


def _newest(anchors: list[Anchor]) -> Anchor:
    if not anchors:
        raise ConfigError("more-privacy ledger verify", ["--write-witness needs --anchor"])
    return max(anchors, key=lambda anchor: anchor.count)


def _shown(state: State, facts: list[dict[str, Any]]) -> str:
    from privacy.ledger.shown import account_lines

    lines = [
        f"site    {state.site}",
        f"anchor  {state.anchor}",
        *(line for fact in facts for line in account_lines(fact)),
    ]
    return "\n".join(lines if facts else [*lines, "no data set is registered"])
