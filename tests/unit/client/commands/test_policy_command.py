"""`more-client policy` and `more-client audit verify`."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner, Result

from client.commands.audit_verify import audit_verify
from client.commands.policy import policy
from client.installed_code import installed_code_digest
from client.policy import SitePolicy, load_policy
from client.records.audit_log import open_log

app = typer.Typer()
app.add_typer(policy, name="policy")
audit = typer.Typer()
app.add_typer(audit, name="audit")
audit.command("verify")(audit_verify)


def run(*arguments: object) -> Result:
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


@pytest.fixture
def log(tmp_path: Path) -> Path:
    path = tmp_path / "records" / "audit.jsonl"
    with open_log(path, site="north") as opened:
        opened.append("released", {"bytes": 12})
    return path


def test_init_writes_a_policy_that_allows_nothing(tmp_path: Path) -> None:
    path = tmp_path / "etc" / "policy.toml"
    assert run("policy", "init", path).exit_code == 0
    assert load_policy(path) == SitePolicy()
    assert path.stat().st_mode & 0o022 == 0
    again = run("policy", "init", path)
    assert again.exit_code == 2 and "there is a file already" in again.stderr


def test_the_template_shows_every_setting_and_each_can_be_switched_on(tmp_path: Path) -> None:
    """What a person gets who removes the # before every setting, with digests in the places of the dots."""
    path = tmp_path / "policy.toml"
    run("policy", "init", path)
    lines = [
        line[2:] if line.startswith("# ") and " = " in line and line.split(" = ")[0][2:].isidentifier() else line
        for line in path.read_text().splitlines()
    ]
    path.write_text("\n".join(lines).replace('"..."', f'"{installed_code_digest()}"').replace("AB:CD:...", "ab" * 32))
    loaded = load_policy(path)
    assert loaded is not None
    named = loaded.model_dump(exclude_unset=True)
    assert {part: set(content) for part, content in named.items()} == {
        part: set(content) for part, content in SitePolicy().model_dump().items()
    }
    assert json.loads(run("policy", "check", path, "--json").stdout)["open"] is True
    assert "allows the instructions" in run("policy", "check", path).stdout


def test_check_says_what_refuses_everything(tmp_path: Path) -> None:
    path = tmp_path / "policy.toml"
    run("policy", "init", path)
    done = run("policy", "check", path)
    assert done.exit_code == 0 and "refuses every instruction" in done.stdout
    assert installed_code_digest() in done.stdout


def test_check_lists_all_faults(tmp_path: Path) -> None:
    path = tmp_path / "policy.toml"
    path.write_text('[schedule]\nwindows = ["always"]\n[exchange]\nmax_rounds = "many"\n')
    done = run("policy", "check", path)
    assert done.exit_code == 2
    assert "schedule.windows.0" in done.stderr and "exchange.max_rounds" in done.stderr


@pytest.mark.parametrize("command", ["check", "show"])
def test_no_policy_file(tmp_path: Path, command: str) -> None:
    done = run("policy", command, tmp_path / "policy.toml")
    assert done.exit_code == 2 and "more-client policy init" in done.stderr


def test_show(tmp_path: Path) -> None:
    path = tmp_path / "policy.toml"
    path.write_text(f'[code]\ninstalled = ["{installed_code_digest()}"]\n[schedule]\nwindows = ["sat 08:00-09:00"]\n')
    done = run("policy", "show", path)
    assert done.exit_code == 0
    assert "sat 08:00-09:00 (UTC)" in done.stdout and "(allowed)" in done.stdout
    content = json.loads(run("policy", "show", path, "--json").stdout)
    assert content["installed_code_allowed"] is True and content["policy"]["exchange"]["max_rounds"] == 0


def test_a_whole_log(log: Path) -> None:
    done = run("audit", "verify", log)
    assert done.exit_code == 0 and "site north is whole: 2 entries" in done.stdout and "12 bytes" in done.stdout
    content = json.loads(run("audit", "verify", log, "--json").stdout)
    assert content["whole"] is True and content["faults"] == []
    assert run("audit", "verify", log, "--anchor", content["anchor"]).exit_code == 0


def test_a_changed_log_ends_with_5(log: Path) -> None:
    log.write_bytes(log.read_bytes().replace(b'"bytes":12', b'"bytes":13'))
    done = run("audit", "verify", log)
    assert done.exit_code == 5 and "entry 2 is not what was written" in done.stdout
    as_json = run("audit", "verify", log, "--json")
    assert as_json.exit_code == 5 and json.loads(as_json.stdout)["whole"] is False


def test_a_log_that_lost_entries_ends_with_5(log: Path) -> None:
    anchor = json.loads(run("audit", "verify", log, "--json").stdout)["anchor"]
    log.write_bytes(log.read_bytes().splitlines(keepends=True)[0])
    assert run("audit", "verify", log).exit_code == 0
    done = run("audit", "verify", log, "--anchor", anchor)
    assert done.exit_code == 5 and "the given anchor knows 2" in done.stdout


def test_a_lost_anchor_file_is_written_again_only_against_an_anchor(log: Path, tmp_path: Path) -> None:
    kept = tmp_path / "elsewhere" / "audit"
    assert run("audit", "verify", log, "--write-anchor", kept).exit_code == 2
    anchor = json.loads(run("audit", "verify", log, "--json").stdout)["anchor"]
    assert run("audit", "verify", log, "--anchor", "2:" + "0" * 64, "--write-anchor", kept).exit_code == 5
    assert not kept.exists()
    assert run("audit", "verify", log, "--anchor", anchor, "--write-anchor", kept).exit_code == 0
    with open_log(log, site="north", anchor_file=kept) as opened:
        assert str(opened.anchor) == anchor


def test_no_log_and_no_anchor(tmp_path: Path, log: Path) -> None:
    assert run("audit", "verify", tmp_path / "none").exit_code == 5
    assert run("audit", "verify", log, "--anchor", "x").exit_code == 2
