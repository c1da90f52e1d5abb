"""`more-client ledger`: what the patients of a site have spent, run by run."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import tomli_w
import typer
from typer.testing import CliRunner, Result

from client.commands.ledger import ledger
from client.purpose import purpose_of, run_of
from client.site_file import SiteFile, load_site_file
from privacy.ledger.dataset import data_set
from privacy.ledger.ledger import open_ledger
from privacy.ledger.spending import Budget, Charge, composed

KEY = b"0123456789abcdef"


@pytest.fixture
def site(tmp_path: Path) -> SiteFile:
    federation = {"name": "f", "address": "localhost:1", "root_certificate": "ca.pem", "ca_fingerprint": "ab" * 32}
    (tmp_path / "site.toml").write_text(tomli_w.dumps({"site": "north", "federation": federation}))
    return load_site_file(tmp_path / "site.toml")


@pytest.fixture
def show(tmp_path: Path) -> Callable[..., Result]:
    app = typer.Typer()
    app.command()(ledger)
    return lambda *options: CliRunner().invoke(app, [str(tmp_path / "site.toml"), *options])


def charge(steps: int) -> Charge:
    # Without sampling, which needs no slow accountant.
    return Charge("patient-shuffled", 20.0, 1.0, steps, 1e-5)


def spend(site: SiteFile) -> None:
    data = data_set("north, training patients", [f"patient {n}" for n in range(30)], KEY)
    places = site.controls
    opened = open_ledger(places.ledger, places.witness, site="north", key_digest=data.key_digest)
    opened.register(data, Budget(8.0, 1e-5))
    for run, number, steps in (("spring", 1, 2), ("spring", 2, 2), ("autumn", 1, 3)):
        opened.charge(data.digest, charge(steps), purpose_of(run, number, 4))


def test_every_run_by_itself_and_all_of_them_against_the_budget(site: SiteFile, show: Callable[..., Result]) -> None:
    spend(site)
    done = show("--json")
    assert done.exit_code == 0, done.output
    (fact,) = json.loads(done.stdout)["data_sets"]
    assert (fact["budget"], fact["patients"], len(fact["charges"])) == (8.0, 30, 3)
    runs = {run["run"]: run for run in fact["runs"]}
    assert {name: (run["charges"], run["steps"]) for name, run in runs.items()} == {"spring": (2, 4), "autumn": (1, 3)}
    assert runs["autumn"]["epsilon"] == composed([charge(3)], 1e-5).epsilon
    assert fact["epsilon"] == composed([charge(2), charge(2), charge(3)], 1e-5).epsilon
    assert runs["autumn"]["epsilon"] < runs["spring"]["epsilon"] < fact["epsilon"]
    text = show().output
    assert "of 8 at delta 1e-05" in text and "run spring: epsilon" in text and "2 charges, 4 steps" in text


def test_before_the_first_private_run_there_is_nothing(show: Callable[..., Result], site: SiteFile) -> None:
    done = show()
    assert (done.exit_code, "no private run has begun" in done.output) == (0, True)
    assert json.loads(show("--json").stdout)["data_sets"] == []


@pytest.mark.parametrize("lost", ["ledger", "witness"])
def test_a_ledger_of_which_half_is_gone_is_damaged(site: SiteFile, show: Callable[..., Result], lost: str) -> None:
    spend(site)
    getattr(site.controls, lost).unlink()
    assert show().exit_code == 5


def test_the_run_of_a_purpose() -> None:
    assert run_of(purpose_of("a, round b", 3, 8)) == "a, round b"
    assert run_of(purpose_of("", 3, 8)) == "run"
    assert run_of("by hand") == "by hand"
