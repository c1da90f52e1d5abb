"""A hospital set up from the coordinator's card alone: from no file at all to a preflight without a failure."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import typer
from typer.testing import CliRunner

from client.commands.init import init
from client.commands.policy import policy
from client.commands.preflight import preflight
from client.daemon.opening import open_site
from client.site_file import load_site_file
from more_model.federation_card import load_card
from server.commands.card import card
from server.commands.enroll import enroll
from server.commands.init import init as server_init

# The fixtures `ready` and `small_base_folder` stand in conftest.py.
KINDS = ("--modality", "xray", "--modality", "report")


def run(command: Callable[..., Any] | typer.Typer, *arguments: object) -> str:
    """The output of a command that ends well."""
    app = command
    if not isinstance(app, typer.Typer):
        app = typer.Typer()
        app.command()(command)
    result = CliRunner().invoke(app, [str(argument) for argument in arguments], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result.stdout


@pytest.fixture
def federation(tmp_path: Path, small_base_folder: Path) -> Path:
    """A federation's folder that names the site north, which nobody has enrolled yet."""
    folder = tmp_path / "federation"
    run(server_init, folder, "--name", "chest", "--address", "localhost:8443")
    file = folder / "federation.toml"
    text = file.read_text().replace('base = "base" ', f'base = "{small_base_folder}" ')
    file.write_text(text + '[evaluation]\n[sites.north]\npatients = 4\nmodalities = ["xray", "report"]\n')
    return folder


def found(site: Path) -> dict[str, tuple[str, str]]:
    findings = json.loads(run(preflight, site, "--offline", "--json"))["findings"]
    return {finding["name"]: (finding["level"], finding["cause"]) for finding in findings}


def test_from_the_card_to_a_site_that_may_start(
    federation: Path, ready: Any, small_base_folder: Path, tmp_path: Path
) -> None:
    from more_model.data.ingest import ingest
    from more_model.data.sources import load_sources, read_cohort

    told = json.loads(run(card, "--federation", federation, "--json"))
    assert told["open_points"] == ["north is named in federation.toml and not enrolled"]
    folder = tmp_path / "north"
    handed = ("--card", federation / "card", "--ca-fingerprint", told["authority"])
    made = json.loads(run(init, "north", "--out", folder, "--patients", 4, *KINDS, *handed, "--json"))
    assert (made["card_digest"], made["in_card"]) == (told["digest"], False)
    (folder / "base").symlink_to(small_base_folder)
    (folder / "SOURCES.toml").write_text(
        (ready.folder / "SOURCES.toml").read_text().replace("films.csv", str(ready.folder / "films.csv"))
    )
    sources = load_sources(folder / "SOURCES.toml")
    ingest(read_cohort(sources.sources).studies, folder / "store", "north", sources.preprocessing)
    before = found(folder / "site.toml")
    assert before["policy"][0] == "warn" and before["card"][0] == "warn"
    assert f"code.bundles does not name the app bundle {told['bundle']}" in before["card"][1]

    run(policy, "allow", folder / "site.toml", "--minimum-patients", 2, "--unprotected")
    after = found(folder / "site.toml")
    assert "fail" not in {level for level, _ in after.values()}
    assert after["policy"][0] == after["card"][0] == after["base"][0] == after["root certificate"][0] == "ok"

    opened = open_site(load_site_file(folder / "site.toml"))
    assert opened.assembled.spec.digest() == told["specification"]
    assert opened.declaration is not None and opened.declaration.patients == 4


def test_the_card_of_later_names_the_enrolled_site(federation: Path, tmp_path: Path) -> None:
    run(init, "north", "--out", tmp_path / "north", "--patients", 4, *KINDS)
    run(enroll, "north", "--key", tmp_path / "north" / "enrolment.json", "--federation", federation)
    shown = run(card, "--federation", federation, "--out", tmp_path / "handed out")
    made = load_card(tmp_path / "handed out")
    assert made.digest() in shown and "Sites: north" in shown and "Still open" not in shown
    assert made.sites["north"].patients == 4
