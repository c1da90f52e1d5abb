"""init, enroll, sites and revoke from the command line, with the hospital's init on the other side."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import typer
from typer.testing import CliRunner

from client.commands.init import init as client_init
from more_model.enrolment import Enrolment
from server.authority import fingerprint
from server.commands.enroll import enroll
from server.commands.init import init
from server.commands.revoke import revoke
from server.commands.sites import sites

Run = Callable[..., tuple[int, str]]


@pytest.fixture
def run() -> Run:
    """Run one command; its exit code, and its output with errors."""

    def invoke(command: Callable[..., Any], *arguments: str | Path) -> tuple[int, str]:
        app = typer.Typer()
        app.command()(command)
        result = CliRunner().invoke(app, [str(argument) for argument in arguments])
        return result.exit_code, result.output

    return invoke


@pytest.fixture
def federation(run: Run, tmp_path: Path) -> Path:
    code, output = run(init, tmp_path / "fed", "--name", "demo", "--address", "localhost:8443")
    assert code == 0, output
    return tmp_path / "fed"


def new_site(run: Run, folder: Path, name: str) -> Path:
    kinds = ("--modality", "xray", "--modality", "report")
    code, output = run(client_init, name, "--out", folder, "--patients", "1200", *kinds)
    assert code == 0, output
    return folder / "enrolment.json"


def test_a_site_from_its_keys_to_its_revocation(run: Run, federation: Path, tmp_path: Path) -> None:
    key = new_site(run, tmp_path / "north", "north")
    code, output = run(enroll, "north", "--key", key, "--federation", federation, "--by", "Dr A")
    assert code == 0, output
    assert Enrolment.read(key.read_bytes(), "key").fingerprint in output
    assert "[sites.north]" in output, "it is told that federation.toml does not name the site yet"

    code, output = run(revoke, "north", "--reason", "left", "--federation", federation, "--json")
    assert (code, json.loads(output)["reason"]) == (0, "left")

    code, output = run(sites, "--federation", federation, "--json")
    (row,) = json.loads(output)["sites"]
    assert (row["site"], row["state"], row["enrolled_by"], row["connection"]) == ("north", "revoked", "Dr A", None)
    code, output = run(sites, "--federation", federation)
    assert "revoked because: left" in output


def test_what_the_file_of_the_federation_says_otherwise_is_shown(run: Run, federation: Path, tmp_path: Path) -> None:
    run(enroll, "north", "--key", new_site(run, tmp_path / "north", "north"), "--federation", federation)
    with (federation / "federation.toml").open("a", encoding="utf-8") as file:
        for name in ("north", "south"):
            file.write(f'[sites.{name}]\npatients = 9\nmodalities = ["xray", "report"]\n')
    _, output = run(sites, "--federation", federation)
    assert "other patients or modalities than the site declared" in output
    assert "south                named in federation.toml, not enrolled" in output


def test_an_enrolment_under_another_name_is_refused(run: Run, federation: Path, tmp_path: Path) -> None:
    key = new_site(run, tmp_path / "north", "north")
    code, output = run(enroll, "south", "--key", key, "--federation", federation)
    assert (code, "the enrolment of 'north', not of 'south'" in output) == (2, True)


def test_init_overwrites_nothing_and_renewal_keeps_the_root(run: Run, federation: Path) -> None:
    root, server = fingerprint(federation / "authority/root.pem"), fingerprint(federation / "authority/server.pem")
    code, output = run(init, federation, "--name", "demo", "--address", "localhost:8443")
    assert (code, "there is a federation.toml already" in output) == (2, True)
    assert fingerprint(federation / "authority/server.pem") == server

    code, output = run(init, federation, "--renew", "--json")
    assert (code, "server.key" in json.loads(output)["replaced"]) == (0, True)
    assert fingerprint(federation / "authority/root.pem") == root
    assert fingerprint(federation / "authority/server.pem") != server


def test_with_the_hospitals_own_authority_there_is_a_request_and_no_authority(run: Run, tmp_path: Path) -> None:
    code, output = run(init, tmp_path / "fed", "--name", "demo", "--address", "localhost:8443", "--csr")
    assert code == 0, output
    made = {path.name for path in (tmp_path / "fed" / "authority").iterdir()}
    assert made == {"server.key", "server.csr"}


def test_both_sides_name_every_fault_at_once(run: Run, tmp_path: Path) -> None:
    code, output = run(init, tmp_path / "fed", "--name", "a b", "--address", "https://x")
    assert (code, "2 faults" in output) == (2, True)
    code, output = run(client_init, "a b", "--out", tmp_path / "s", "--patients", "5", "--modality", "xray")
    assert (code, "2 faults" in output) == (2, True)
    assert not (tmp_path / "fed").exists() and not (tmp_path / "s").exists()


def test_keys_of_a_site_are_made_once(run: Run, tmp_path: Path) -> None:
    key = new_site(run, tmp_path / "north", "north")
    before = {path: path.read_bytes() for path in (tmp_path / "north" / "keys").iterdir()}
    assert {path.name for path in before} == {"node", "identity", "site"}
    assert all(path.stat().st_mode & 0o077 == 0 for path in before)
    key.unlink()
    code, output = run(
        client_init,
        "north",
        "--out",
        tmp_path / "north",
        "--patients",
        "5",
        "--modality",
        "ecg",
        "--modality",
        "report",
    )
    assert (code, "keys/site is there already" in output) == (2, True)
    assert {path: path.read_bytes() for path in before} == before
