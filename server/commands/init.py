"""`more-server init`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from more_model.cli_errors import exit_on_error
from more_model.errors import ConfigError
from server.commands.options import AsJson

if TYPE_CHECKING:
    from server.federation_file import FederationFile


def init(
    folder: Annotated[Path, typer.Argument(help="Folder of the federation.", show_default=False)],
    name: Annotated[str | None, typer.Option(help="Name of the federation.", show_default=False)] = None,
    address: Annotated[str | None, typer.Option(help="host:port that hospitals dial.", show_default=False)] = None,
    host: Annotated[
        list[str] | None, typer.Option(help="Another host name or IP address of the certificate.", show_default=False)
    ] = None,
    csr: Annotated[
        bool, typer.Option("--csr", help="Write a signing request for your own authority instead of making one.")
    ] = False,
    renew: Annotated[
        bool, typer.Option("--renew", help="Only replace the server certificate, signed by the authority made before.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Make a federation's folder: authority and server certificate (or a signing request), and federation.toml.

    Nothing that is there is overwritten, except the server key and certificate with --renew. Keys are for this user
    alone. Read the fingerprint of root.pem to every hospital by telephone.

    Example: more-server init /srv/federation --name chest-consortium --address coordinator.example.org:8443
    """
    with exit_on_error():
        if renew:
            if name is not None or address is not None or csr:
                raise ConfigError("more-server init", ["--renew takes no --name, --address or --csr"])
            facts = _renew(folder, host or [])
        else:
            if name is None or address is None:
                raise ConfigError("more-server init", ["--name and --address are needed"])
            facts = _make(folder, name, address, host or [], csr=csr)
        typer.echo(json.dumps(facts) if as_json else "\n".join(f"{key}: {value}" for key, value in facts.items()))


def _make(folder: Path, name: str, address: str, hosts: list[str], *, csr: bool) -> dict[str, str]:
    from more_model.private_file import write_new
    from more_model.settings import validated
    from server.authority import fingerprint, make_authority, make_request, make_server_certificate
    from server.federation_file import NAME, FederationFile

    content = {"name": name, "public_address": address, "base": "base"}
    federation = validated(FederationFile, content, "more-server init", context={"folder": folder.resolve()})
    if (folder / NAME).exists():
        raise ConfigError(
            str(folder), [f"there is a {NAME} already"], remedy="give another folder, or --renew for a new certificate"
        )
    files, names = federation.certificates, _hosts(federation, hosts)
    facts = {"federation file": str(folder / NAME)}
    if csr:
        make_request(files, names)
        facts |= {
            "signing request": str(files.request),
            "next": f"have it signed, then put the certificate to {files.server_certificate} and your authority's to "
            f"{files.root}",
        }
    else:
        make_authority(files, name)
        make_server_certificate(files, names)
        facts |= {
            "root certificate": str(files.root),
            "fingerprint": fingerprint(files.root),
            "server certificate": str(files.server_certificate),
        }
    # Last: its presence says that the rest is complete.
    write_new(folder / NAME, _template(name, address).encode(), mode=0o644)
    return facts


def _renew(folder: Path, hosts: list[str]) -> dict[str, str]:
    from server.authority import days_left, load_certificate, make_server_certificate
    from server.certificates import hosts_of
    from server.federation_file import read_federation

    federation = read_federation(folder)
    files = federation.certificates
    before = hosts_of(load_certificate(files.server_certificate))
    replaced = make_server_certificate(files, _hosts(federation, [*before, *hosts]), renew=True)
    return {
        "replaced": ", ".join(str(path) for path in replaced) or "nothing",
        "server certificate": str(files.server_certificate),
        "days left": f"{days_left(files.server_certificate):.0f}",
    }


def _hosts(federation: FederationFile, more: list[str]) -> list[str]:
    return list(dict.fromkeys([federation.public_host, *more]))


def _template(name: str, address: str) -> str:
    port = address.rpartition(":")[2]
    return f"""\
# The federation {name}. `more-server start` refuses it with every fault at once until it is complete.
name = "{name}"
public_address = "{address}"    # what hospitals dial
base = "base"                   # a base folder (more-model make-base), the same at every site
method = "ffa"
seed = 7

[listen]
fleet_port = {port}

[rounds]
rounds = 8
round_timeout_s = 3600

# One table for each site that may be asked, with what it declares publicly.
# [sites.north]
# patients = 1200
# modalities = ["xray", "ecg", "report"]
"""
