"""What the site's people type, against a daemon that runs, and what the daemon starts beside itself."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import pytest
import typer
from typer.testing import CliRunner, Result

from client.commands.drain import drain
from client.commands.pause import pause
from client.commands.resume import resume
from client.commands.start import start
from client.commands.status import status
from client.commands.withdraw import withdraw
from client.daemon.companion import programs
from client.site_file import load_site_file
from more_model.evaluation.federated_terms import evaluation_terms
from more_model.exchange import Instruction
from more_model.score_exchange import Evaluation, Question

if TYPE_CHECKING:
    from simulation.workbench import Workbench

app = typer.Typer()
for command in (start, status, pause, resume, drain, withdraw):
    app.command()(command)


def run(*arguments: object, typed: str = "") -> Result:
    return CliRunner().invoke(app, [str(argument) for argument in arguments], input=typed)


def test_orders_and_what_status_says_of_them(
    miniature_bench: Workbench, new_site: Callable[..., Any], here: Callable[..., Any]
) -> None:
    site = new_site("site-1")
    patient = miniature_bench.training_examples("site-1").triplets[0].patient_id
    with here(site) as daemon:
        file = site.site_file
        patients = json.loads(run("status", file, "--json").stdout)["patients"]
        assert "more-client resume ends it" in run("pause", file).stdout
        typed = run("withdraw", file, "-", typed=f"{patient}\n")
        assert typed.stdout == "Withdrawn, from the next round on.\n"
        assert "holds no patient of that id" in run("withdraw", file, "nobody").stdout
        said = run("status", file).stdout
        assert "Site site-1: paused, since" in said and "paused since" in said
        assert f"training patients {patients - 1}, withdrawn 2" in said
        assert "now               nothing" in said and "in force" in said
        assert "as the policy allows" in run("resume", file).stdout
        (site.folder / "policy.toml").write_text("nonsense")
        assert "everything is refused" in run("status", file).stdout
        assert run("drain", file, "--within", "5").stdout == "The daemon of site site-1 stops now.\n"
        daemon.thread.join(10)
        assert daemon.ended == [True]
    stopped = run("status", file)
    assert stopped.exit_code == 8 and "No daemon of site site-1 is running" in stopped.stderr


def test_an_empty_id_withdraws_nobody(new_site: Callable[..., Any], here: Callable[..., Any]) -> None:
    site = new_site("site-1")
    with here(site):
        refused = run("withdraw", site.site_file, typed="\n")
        assert refused.exit_code == 8 and "id is empty" in refused.stderr
    assert site.audit("patient-withdrawn") == []


@pytest.mark.parametrize("name", ["start", "status", "pause", "resume", "drain", "withdraw"])
def test_every_command_shows_an_example(name: str) -> None:
    assert f"Example: more-client {name} " in run(name, "--help").stdout


def test_the_relay_is_told_of_the_socket_and_the_connection_of_the_key(new_site: Callable[..., Any]) -> None:
    site = new_site("site-1")
    site.write_site_file()
    file = load_site_file(site.site_file)
    (node,) = programs(file, runtime_port=9094, relay=False)
    assert str(file.keys.node) in node.command and "127.0.0.1:9" in node.command
    _, relay = programs(file, runtime_port=9094, relay=True)
    assert relay.command[-1] == str(file.socket)


def test_held_out_patients_are_measured_on_the_terms_of_the_policy(
    miniature_bench: Workbench, new_site: Callable[..., Any], here: Callable[..., Any], instruct: Callable[..., Any]
) -> None:
    asked: Instruction = instruct()
    terms = evaluation_terms("chexpert_ecg")
    question = Question("federated", 0, "test", asked.tensors, terms.digest(), asked.spec_digest, asked.fingerprint)
    site = new_site("site-1", evaluation_threshold=3)
    with here(site) as daemon:
        refused = daemon.ask("evaluate", question.facts(), question.tensors)
        assert refused.facts["refusal"] == "evaluation-not-allowed"
        rule = {"terms": [terms.digest()], "minimum_count": 2, "counts_are_public": True}
        site.write_policy({"evaluation": rule})
        answer = daemon.ask("evaluate", question.facts(), question.tensors)
        assert answer.kind == "evaluation" and answer.arrays == {}
    found = Evaluation.from_parts(answer.facts)
    assert found.minimum_count == 3, "the larger of the site's own threshold and the policy's"
    assert found.counts.keys() == set(terms.names)
