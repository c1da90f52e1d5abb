"""`more-client policy init|allow|check|show`."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from more_model.cli_errors import exit_on_error
from more_model.commands.options import AsJson
from more_model.errors import ConfigError

if TYPE_CHECKING:
    from client.policy import SitePolicy

policy = typer.Typer(
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    help="What this site allows a federation to do; whatever its policy does not name is refused.",
)

PolicyFile = Annotated[Path, typer.Argument(metavar="FILE", help="The site's policy (TOML).", show_default=False)]

_FILE_MODE = 0o644


@policy.command()
def init(path: PolicyFile, as_json: AsJson = False) -> None:
    """Write a policy that allows nothing, with a comment on every setting; never over an existing file.

    Example: more-client policy init /etc/more-fed/policy.toml
    """
    with exit_on_error():
        template = Path(__file__).parents[1] / "policy_template.toml"
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, _FILE_MODE)
        except FileExistsError as error:
            raise ConfigError(str(path), ["there is a file already"], remedy="edit it, or name another file") from error
        with os.fdopen(descriptor, "wb") as stream:
            stream.write(template.read_bytes())
        typer.echo(
            json.dumps({"written": str(path)})
            if as_json
            else f"{path} written. It allows nothing yet: remove the # of what this site allows."
        )


@policy.command()
def allow(
    config: Annotated[Path, typer.Argument(metavar="SITE.toml", help="The site file.", show_default=False)],
    minimum_patients: Annotated[
        int, typer.Option(min=1, help="Fewest patients with whom this site takes part.", show_default=False)
    ],
    mode: Annotated[
        str | None, typer.Option(help="The privacy mode that is asked for, and allowed.", show_default=False)
    ] = None,
    epsilon: Annotated[
        float | None,
        typer.Option(
            help="What a run may cost each patient; the first private run makes it their budget for life. With --mode.",
            show_default=False,
        ),
    ] = None,
    unprotected: Annotated[
        bool, typer.Option("--unprotected", help="Updates may leave without differential privacy.")
    ] = False,
    counts_are_public: Annotated[
        bool,
        typer.Option("--counts-are-public", help="Counts of held-out patients may leave though updates are protected."),
    ] = False,
    gpu_share: Annotated[
        float, typer.Option(min=0.0, max=1.0, help="Share of a GPU that training may take; 0 is the CPU alone.")
    ] = 0.0,
    max_rounds: Annotated[
        int | None, typer.Option(min=1, help="Rounds in the site's life; without it, those of one run.")
    ] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace a policy that allows something.")] = False,
    as_json: AsJson = False,
) -> None:
    """Write a policy in force for the federation of the site's card: its code, tensors, privacy and evaluation.

    For people who have read what it asks for. The code that is installed now is approved with it; it holds all hours
    of the week. A running daemon takes it at once.

    Example: more-client policy allow /etc/more-fed/site.toml --minimum-patients 200 --unprotected
    """
    with exit_on_error():
        from client.card_change import card_path, refused_by
        from client.card_folder import read_card
        from client.installed_code import installed_code_digest
        from client.policy_allow import Decision, allow
        from client.site_file import load_site_file

        site = load_site_file(config)
        agreed = read_card(card_path(site))
        decision = Decision(minimum_patients, mode, epsilon, unprotected, counts_are_public, gpu_share, max_rounds)
        written = allow(site, agreed, decision, installed_code_digest(), overwrite=overwrite)
        _print_allowed(site.controls.policy, written, refused_by(written, agreed), as_json)


@policy.command()
def check(path: PolicyFile, as_json: AsJson = False) -> None:
    """Check a policy: all its faults at once (exit code 2), or what in it still refuses every instruction.

    Example: more-client policy check /etc/more-fed/policy.toml
    """
    with exit_on_error():
        from client.installed_code import installed_code_digest
        from client.policy_words import closed

        refusing = closed(_loaded(path), installed_code_digest())
        if as_json:
            typer.echo(json.dumps({"valid": True, "open": not refusing, "refuses_because": list(refusing)}))
        elif refusing:
            typer.echo("The policy is well formed, and refuses every instruction:")
            typer.echo("\n".join(f"  - {words}" for words in refusing))
        else:
            typer.echo("The policy is well formed, and allows the instructions that it describes.")


@policy.command()
def show(path: PolicyFile, as_json: AsJson = False) -> None:
    """Show a policy in words, beside the digest of the code that is installed here.

    Example: more-client policy show /etc/more-fed/policy.toml
    """
    with exit_on_error():
        from client.installed_code import installed_code_digest
        from client.policy_words import described

        loaded, digest = _loaded(path), installed_code_digest()
        known = digest in loaded.code.installed
        if as_json:
            content = {
                "policy": loaded.model_dump(mode="json"),
                "installed_code": digest,
                "installed_code_allowed": known,
            }
            typer.echo(json.dumps(content))
            return
        lines = [f"{what:<18}{how}" for what, how in described(loaded)]
        typer.echo("\n".join([*lines, "", f"Installed here    {digest} ({'allowed' if known else 'not allowed'})"]))


def _print_allowed(path: Path, written: SitePolicy, left: Sequence[str], as_json: bool) -> None:
    from client.policy_words import described

    if as_json:
        typer.echo(json.dumps({"written": str(path), "still_refused": left}))
        return
    lines = [f"{what:<18}{how}" for what, how in described(written)]
    refused = [f"Still refused: {words}" for words in left]
    typer.echo("\n".join([f"{path} written; it is in force.", *lines, *refused]))


def _loaded(path: Path) -> SitePolicy:
    from client.policy import load_policy

    loaded = load_policy(path)
    if loaded is None:
        raise ConfigError(
            str(path),
            ["there is no policy file, so this site refuses everything"],
            remedy=f"write one that allows nothing with `more-client policy init {path}`, then allow what you want",
        )
    return loaded
