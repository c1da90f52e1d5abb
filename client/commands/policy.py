"""`more-client policy init|check|show`."""

from __future__ import annotations

import json
import os
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
