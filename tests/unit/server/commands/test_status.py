"""`more-server status` and `status-token`, and the service as a process of its own."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest
import typer
from trees.watched_federation import write_federation
from typer.testing import CliRunner

from server.commands.status import status
from server.commands.status_token import status_token

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


def test_the_terminal_says_what_the_page_says(run: Run, tmp_path: Path) -> None:
    folder = write_federation(tmp_path / "fed")
    code, output = run(status, folder)
    assert code == 0, output
    lines = output.splitlines()
    assert lines[0].startswith(
        "chest-consortium: Round 4 of 8 waits for north, south, west. It has waited for 4 minutes"
    )
    assert "! The update of west for round 3 was quarantined." in lines
    assert lines[-1] == (
        "3 rounds closed, 1 of them without some site; loss 4.7000, macro AUROC 0.760, 12.00 MB received"
    )


def test_json_is_one_object(run: Run, tmp_path: Path) -> None:
    folder = write_federation(tmp_path / "fed")
    code, output = run(status, folder, "--json")
    assert (code, json.loads(output)["awaited"]) == (0, ["north", "south", "west"])
    code, output = run(status, folder / "state", "--federation", folder, "--json")
    assert (code, json.loads(output)["federation"]) == (0, "chest-consortium")


def test_a_folder_of_nothing_is_refused(run: Run, tmp_path: Path) -> None:
    code, output = run(status, tmp_path)
    assert code == 2
    assert "give the folder of a federation or of a run" in output


def test_a_token_is_shown_once_and_withdrawn(run: Run, tmp_path: Path) -> None:
    folder = write_federation(tmp_path / "fed")
    code, output = run(status_token, "--federation", folder, "--site", "north", "--json")
    assert code == 0, output
    made = json.loads(output)
    assert (made["site"], len(made["token"])) == ("north", 43)
    assert made["token"] not in (folder / "state" / "status_tokens.json").read_text()
    code, output = run(status_token, "--federation", folder, "--site", "north", "--withdraw")
    assert (code, output) == (0, "Tokens of north that ended: 1\n")


def test_it_serves_until_it_is_asked_to_end_and_tracks_meanwhile(run: Run, tmp_path: Path) -> None:
    folder = write_federation(tmp_path / "fed", privacy={"mode": "none"})
    _, output = run(status_token, "--federation", folder, "--json")
    program = "import typer; from server.commands.status import status; typer.run(status)"
    environment = {key: value for key, value in os.environ.items() if key != "MLFLOW_TRACKING_URI"}
    with subprocess.Popen(
        [sys.executable, "-c", program, str(folder), "--serve", "--port", "0", "--json"],
        stdout=subprocess.PIPE,
        text=True,
        env=environment,
        cwd=Path(__file__).parents[4],
    ) as process:
        try:
            assert process.stdout is not None
            up = json.loads(process.stdout.readline())
            headers = {"authorization": f"Bearer {json.loads(output)['token']}"}
            answer = httpx.get(f"{up['address']}status.json", headers=headers, trust_env=False, timeout=20)
            assert answer.json()["federation"] == "chest-consortium"
            process.send_signal(signal.SIGTERM)
            assert process.wait(20) == 0
        finally:
            process.kill()
    assert (folder / "state" / "run" / "tracking" / "events.out.tfevents.more-fed").stat().st_size > 100
    assert "certificate:server.pem" in json.loads((folder / "state" / "alerts.json").read_text())
