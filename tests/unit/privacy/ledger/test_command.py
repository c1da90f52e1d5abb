"""`more-privacy ledger` through its command line."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import Result
from typer.testing import CliRunner

from privacy.accounting import epsilon
from privacy.commands.ledger import ledger


def invoke(site: Any, command: str, *more: str) -> Result:
    files = ["--ledger", str(site.path), "--witness", str(site.witness)]
    return CliRunner().invoke(ledger, [command, *files, *more])


def test_show_tells_what_was_spent_of_what(site: Any) -> None:
    site.ledger.charge(site.data.digest, site.charge(10), "round 1")
    content = json.loads(invoke(site, "show", "--json").stdout)
    (fact,) = content["data_sets"]
    assert fact["epsilon"] == epsilon(20.0, 1, 10, 1e-5, "replace").epsilon
    assert (fact["budget"], fact["delta"], fact["patients"], fact["unit"]) == (8.0, 1e-5, 30, "patient")
    assert fact["charges"][0]["adjacency"] == "replace"
    text = invoke(site, "show").stdout
    printed = float(text.split("epsilon per patient")[1].split()[0])
    assert fact["epsilon"] <= printed <= fact["epsilon"] + 0.001
    assert "of 8 at delta 1e-05" in text and "Adjacency replace" in text


def test_verify_accepts_kept_anchors_and_ends_with_5_after_a_rollback(site: Any, tmp_path: Path) -> None:
    old = site.path.read_bytes()
    anchor = site.ledger.charge(site.data.digest, site.charge(), "round 1").anchor
    good = invoke(site, "verify", "--anchor", str(anchor), "--json")
    assert json.loads(good.stdout) == {"whole": True, "entries": 3, "anchor": str(anchor), "anchors": 1}
    site.path.write_bytes(old)
    bad = invoke(site, "verify")
    assert (bad.exit_code, bad.stdout) == (5, "")
    assert "rolled back" in bad.stderr and "treat the budget of every data set in it as spent" in bad.stderr


def test_verify_writes_a_lost_witness_again(site: Any) -> None:
    anchor = site.ledger.state().anchor
    site.witness.unlink()
    assert invoke(site, "verify").exit_code == 5
    assert invoke(site, "verify", "--write-witness").exit_code == 2
    assert invoke(site, "verify", "--write-witness", "--anchor", str(anchor)).exit_code == 0
    assert invoke(site, "verify").exit_code == 0


def test_export_is_a_chain_that_anyone_can_check_and_names_no_patient(site: Any, tmp_path: Path) -> None:
    import hashlib

    site.ledger.charge(site.data.digest, site.charge(), "round 1")
    out = tmp_path / "entries.jsonl"
    assert json.loads(invoke(site, "export", "--out", str(out), "--json").stdout)["entries"] == 3
    head = "0" * 64
    for line in out.read_text(encoding="utf-8").splitlines():
        text, stored = line.removeprefix('{"entry":').removesuffix('"}').split(',"head":"')
        head = hashlib.sha256((head + text).encode()).hexdigest()
        assert head == stored
    assert head == site.ledger.state().anchor.head
    assert site.data.members[:16].hex() not in out.read_text(encoding="utf-8")
    assert invoke(site, "export").stdout == out.read_text(encoding="utf-8")


@pytest.mark.parametrize("command", ["show", "verify", "export"])
def test_where_there_is_no_ledger_the_commands_say_so_and_make_none(tmp_path: Path, command: str) -> None:
    arguments = [command, "--ledger", str(tmp_path / "l"), "--witness", str(tmp_path / "w" / "w")]
    assert CliRunner().invoke(ledger, arguments).exit_code == 5
    assert list(tmp_path.iterdir()) == []
