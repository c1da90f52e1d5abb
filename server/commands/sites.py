"""`more-server sites`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from more_model.cli_errors import exit_on_error
from server.commands.options import AsJson, Federation

if TYPE_CHECKING:
    from server.federation_file import FederationFile
    from server.sites import SiteEntry


def sites(federation: Federation = Path(), as_json: AsJson = False) -> None:
    """Show every site that was ever enrolled: whether it may connect, does, and is asked; since when and by whom.

    Example: more-server sites --federation /srv/federation
    """
    with exit_on_error():
        from server.federation_file import read_federation
        from server.sites import NAME, SiteRegister

        settings = read_federation(federation)
        entries = SiteRegister(settings.state / NAME).entries()
        connections = _connections(settings)
        rows = [_row(entry, settings, connections) for entry in entries]
        missing = sorted(settings.sites.keys() - {entry.name for entry in entries if entry.state == "enrolled"})
        if as_json:
            typer.echo(json.dumps({"sites": rows, "not_enrolled": missing}))
        else:
            typer.echo(_text(rows, missing))


def _connections(settings: FederationFile) -> dict[bytes, str] | None:
    """PEM of a key -> what the SuperLink says of it; None where it does not run."""
    from more_model.errors import RoundError
    from server.flower_superlink import SuperLinkControl, SuperLinkFolder

    root = SuperLinkFolder(settings.state / "superlink").loopback_root
    if not root.exists():
        return None
    try:
        with SuperLinkControl(settings.listen.superlink_port, root, timeout_s=2.0) as control:
            return {node.key_pem: node.status for node in control.nodes()}
    except RoundError:
        return None


def _row(entry: SiteEntry, settings: FederationFile, connections: dict[bytes, str] | None) -> dict[str, Any]:
    declared = settings.sites.get(entry.name)
    differs = declared is not None and (declared.patients, declared.modalities) != (entry.patients, entry.modalities)
    connection = None if connections is None else connections.get(entry.enrolment.node_key_pem, "none")
    return {
        **entry.as_dict(),
        "connection": connection,
        "in_federation_file": declared is not None,
        "declared_otherwise_there": differs,
    }


def _text(rows: list[dict[str, Any]], missing: list[str]) -> str:
    lines = (
        [f"{'site':<20} {'state':<9} {'connection':<11} {'patients':>8}  {'modalities':<16} {'since':<25} by"]
        if rows
        else ["No site has been enrolled yet."]
    )
    for row in rows:
        since = row["revoked_at"] or row["enrolled_at"]
        by = row["revoked_by"] or row["enrolled_by"]
        kinds = "+".join(row["modalities"])
        lines.append(
            f"{row['site']:<20} {row['state']:<9} {row['connection'] or '-':<11} {row['patients']:>8}  {kinds:<16} "
            f"{since:<25} {by}"
        )
        lines.append(f"{'':<20} {row['fingerprint']}")
        if row["reason"]:
            lines.append(f"{'':<20} revoked because: {row['reason']}")
        elif not row["in_federation_file"]:
            lines.append(f"{'':<20} asked in no round: federation.toml has no table for it")
        elif row["declared_otherwise_there"]:
            lines.append(f"{'':<20} federation.toml names other patients or modalities than the site declared")
    lines += [f"{name:<20} named in federation.toml, not enrolled" for name in missing]
    return "\n".join(lines)
