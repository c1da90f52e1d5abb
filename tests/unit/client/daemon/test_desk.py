"""What a daemon answers: policy, orders, the gate and the log, over its real sockets."""

from __future__ import annotations

import errno
import json
import logging
import os
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import typer
from typer.testing import CliRunner

from client.commands.pause import pause
from client.commands.status import status
from client.daemon.by_hand import order
from client.daemon.control import ask
from client.hospital import Hospital
from client.records.audit_log import AuditLog
from client.records.verify import verify
from client.site_file import load_site_file
from more_model.errors import EnvironmentFault, StoreError
from more_model.exchange import Instruction, Update
from more_model.training.settings import TrainingSettings

if TYPE_CHECKING:
    from simulation.workbench import Workbench

Instruct = Callable[..., Instruction]
NewSite = Callable[..., Any]
NewHere = Callable[[Any], Any]


def same(one: Mapping[str, Any], other: Mapping[str, Any]) -> bool:
    return one.keys() == other.keys() and all(np.array_equal(one[name], other[name]) for name in one)


def hospital(bench: Workbench, name: str, without: frozenset[str] = frozenset()) -> Hospital:
    examples = bench.training_examples(name).where(lambda triplet: triplet.patient_id not in without)
    return Hospital(name, examples, bench.assembled(), bench.scorer.tokenizer, bench.scorer.max_tokens, 1)


def deltas(answer: Any) -> Mapping[str, Any]:
    assert isinstance(answer, Update), answer
    return answer.deltas


def refusal(found: Any) -> str:
    assert found.kind == "refusal", found
    return str(found.facts["refusal"])


def test_an_answer_is_the_hospitals_and_a_repeated_question_gets_it_again(
    miniature_bench: Workbench, new_site: NewSite, here: NewHere, instruct: Instruct
) -> None:
    site = new_site("site-1")
    with here(site) as daemon:
        assert daemon.ask("who").facts == {"site": "site-1"}
        first = daemon.train(instruct())
        assert first.kind == "update"
        assert same(first.arrays, deltas(hospital(miniature_bench, "site-1").answer(instruct())))
        assert same(daemon.train(instruct()).arrays, first.arrays)
        assert daemon.daemon.status()["rounds_answered"] == 1
    repeated = [e.content["repeated"] for e in site.audit("released") if e.content["message"] == "update"]
    assert repeated == [False, True]
    assert [e.content["run"] for e in site.audit("agreed")] == ["federated"]
    report = verify(site.folder / "records" / "audit.jsonl")
    assert report.whole


def test_a_pause_refuses_new_rounds_and_outlasts_a_restart(
    new_site: NewSite, here: NewHere, instruct: Instruct
) -> None:
    site = new_site("site-1")
    with here(site) as daemon:
        assert order(load_site_file(site.site_file), "pause")["daemon"] is True
        assert refusal(daemon.train(instruct())) == "paused"
        assert daemon.ask("who").kind == "site-name", "a paused site still says who it is"
    with here(site) as daemon:
        assert daemon.daemon.status()["state"] == "paused"
        assert refusal(daemon.train(instruct())) == "paused"
    file = load_site_file(site.site_file)
    assert order(file, "resume")["daemon"] is False, "ordered while no daemon runs"
    with here(site) as daemon:
        assert daemon.train(instruct()).kind == "update"


def test_a_withdrawn_patient_is_not_used_and_not_named(
    miniature_bench: Workbench, new_site: NewSite, here: NewHere, instruct: Instruct
) -> None:
    site, patient = new_site("site-2"), miniature_bench.training_examples("site-2").triplets[0].patient_id
    expected = deltas(hospital(miniature_bench, "site-2", frozenset({patient})).answer(instruct(2)))
    with here(site) as daemon:
        first = daemon.train(instruct(1))
        before = daemon.daemon.status()["patients"]
        assert ask(site.socket, "withdraw", patient=patient) == {"new": True, "in_store": True, "withdrawn": 1}
        assert ask(site.socket, "withdraw", patient=patient) == {"new": False, "in_store": True, "withdrawn": 1}
        assert ask(site.socket, "withdraw", patient="nobody") == {"new": True, "in_store": False, "withdrawn": 2}
        assert daemon.daemon.status()["patients"] == before - 1
        assert same(daemon.train(instruct(1)).arrays, first.arrays), "what has left is not made anew"
        assert same(daemon.train(instruct(2)).arrays, expected)
    with here(site) as daemon:
        assert same(daemon.train(instruct(2)).arrays, expected)
        assert daemon.daemon.status()["withdrawn"] == 2
    everything = b"".join(path.read_bytes() for path in site.folder.rglob("*") if path.is_file())
    assert patient.encode() not in everything


def test_withdrawals_under_another_key_stop_the_daemon(new_site: NewSite, here: NewHere) -> None:
    site = new_site("site-1")
    with here(site):
        ask(site.socket, "withdraw", patient="p")
    (site.folder / "keys" / "site").write_bytes(os.urandom(32))
    with pytest.raises(StoreError, match="under another site key"), here(site):
        pass


def test_the_policy_of_the_moment_holds_and_a_faulty_one_allows_nothing(
    new_site: NewSite, here: NewHere, instruct: Instruct
) -> None:
    site = new_site("site-1")
    path = site.folder / "policy.toml"
    with here(site) as daemon:
        assert daemon.ask("who").kind == "site-name"
        path.write_text("[exchange")
        assert refusal(daemon.ask("who")) == "no-policy"
        assert refusal(daemon.train(instruct())) == "no-policy"
        assert "not well formed" in daemon.daemon.status()["policy"]["fault"]
        path.unlink()
        assert refusal(daemon.train(instruct())) == "no-policy"
        site.write_policy({"schedule": {"windows": []}, "resources": {"minimum_patients": 10**6}})
        assert refusal(daemon.train(instruct())) == "outside-hours, cohort-below-policy"
        site.write_policy()
        assert daemon.train(instruct()).kind == "update"
    assert [entry.content["holds"] for entry in site.audit("policy")] == [True, False, False, True, True]


def test_a_policy_that_is_tightened_while_the_site_trains_holds_for_the_answer(
    new_site: NewSite, here: NewHere, instruct: Instruct, monkeypatch: pytest.MonkeyPatch
) -> None:
    site, train = new_site("site-1"), Hospital.answer

    def tightened(self: Hospital, asked: Instruction) -> Any:
        answer = train(self, asked)
        site.write_policy({"exchange": {"groups": ["text"]}})
        return answer

    monkeypatch.setattr(Hospital, "answer", tightened)
    with here(site) as daemon:
        assert refusal(daemon.train(instruct())) == "EgressRefused"
    assert [entry.content["rules"] for entry in site.audit("withheld")] == [["tensors-not-allowed"]]


def test_the_site_decides_on_its_machine(
    new_site: NewSite, here: NewHere, instruct: Instruct, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[TrainingSettings] = []

    def noted(self: Hospital, asked: Instruction) -> Any:
        seen.append(TrainingSettings.model_validate_json(asked.training))
        raise RuntimeError("the text of a bug may name a patient")

    monkeypatch.setattr(Hospital, "answer", noted)
    site = new_site("site-1", threads=2)
    with here(site) as daemon:
        asked = TrainingSettings(device="cuda", threads=64, batch_size=4).model_dump_json()
        assert refusal(daemon.train(instruct(training=asked))) == "unexpected-error"
        assert daemon.train(instruct(training='{"batch_size": "many"}')).kind == "malformed"
    assert [(each.device, each.threads, each.batch_size) for each in seen] == [("cpu", 2, 4)]


@pytest.mark.parametrize("brought", [None, "", "0a" * 32, 7])
def test_a_run_whose_bundle_the_policy_does_not_name_is_not_answered(
    new_site: NewSite, here: NewHere, instruct: Instruct, brought: Any
) -> None:
    asked, stage = instruct(), {"run": "federated", "stage": "share"}
    site = new_site("site-1")
    with here(site) as daemon:
        for kind, facts, tensors in (("train", asked.facts(), asked.tensors), ("sum-stage", stage, {})):
            assert refusal(daemon.ask(kind, facts, tensors, bundle=brought)) == "bundle-not-allowed"
        assert daemon.ask("who", bundle=brought).kind == "site-name"
        assert daemon.train(asked).kind == "update"
        site.write_policy({"code": {"bundles": []}})
        assert refusal(daemon.train(asked)) == "bundle-not-allowed"
    assert [entry.content["message"] for entry in site.audit("released")].count("update") == 1


def test_malformed_questions_end_their_own_connection_only(
    new_site: NewSite, here: NewHere, instruct: Instruct
) -> None:
    site = new_site("site-1")
    with here(site) as daemon:
        whole = instruct()
        assert daemon.ask("train", {"round": 1}).kind == "malformed"
        assert daemon.ask("delete-everything").kind == "malformed"
        twice = {**whole.tensors, **{f"{name} again": tensor for name, tensor in whole.tensors.items()}}
        assert daemon.ask("train", whole.facts(), twice).kind == "malformed", "larger than its tensors"
        assert daemon.train(replace(whole, run="x" * 10_000)).kind == "malformed"
        assert daemon.train(replace(whole, run="a\nINFO all is well")).kind == "malformed"
        deep = {**whole.facts(), "fingerprint": "[" * 100_000}
        assert daemon.ask("train", deep, whole.tensors).kind == "malformed"
        other = replace(whole, spec_digest="0" * 64)
        assert refusal(daemon.train(other)) == "tensors-not-allowed"
        stranger = {next(iter(whole.tensors)): np.zeros(3, np.float32)}
        assert refusal(daemon.ask("train", whole.facts(), stranger)) == "ExchangeError"
        assert refusal(daemon.ask("sum-stage", {"run": "federated", "stage": "mask"})) == "ExchangeError"
        assert daemon.train(whole).kind == "update"
    assert len(site.audit("not-understood")) == 6
    assert max(len(entry.content["why"]) for entry in site.audit("not-understood")) <= 300


def test_what_the_coordinator_says_of_an_answer_is_told_to_the_sites_people(
    new_site: NewSite, here: NewHere, instruct: Instruct, caplog: pytest.LogCaptureFixture
) -> None:
    site, asked = new_site("site-1"), instruct(2)
    said = "round 1: quarantined (its norm 9 exceeds\nINFO all is well)"
    with here(site) as daemon:
        first = daemon.train(asked)
        for _ in range(2):
            again = daemon.ask("train", {**asked.facts(), "verdict": said}, asked.tensors)
            assert same(again.arrays, first.arrays), "it is the same question"
        assert daemon.daemon.status()["last_verdict"] == said.replace("\n", "?")
        daemon.ask("train", {**asked.facts(), "verdict": "x" * 9999}, asked.tensors)
    assert "says of an answer of this site: round 1: quarantined" in caplog.text
    assert [len(entry.content["said"]) for entry in site.audit("verdict")] == [len(said), 300]
    assert [e.content["repeated"] for e in site.audit("released")].count(True) == 3


def test_a_full_disk_lets_nothing_out_and_the_question_is_answered_when_there_is_space(
    new_site: NewSite, here: NewHere, instruct: Instruct, monkeypatch: pytest.MonkeyPatch
) -> None:
    site, put = new_site("site-1"), AuditLog._put
    with here(site) as daemon:
        first = daemon.train(instruct(1))

        def full(self: AuditLog, data: bytes) -> None:
            raise EnvironmentFault(os.strerror(errno.ENOSPC), remedy="make room")

        monkeypatch.setattr(AuditLog, "_put", full)
        for asked in (instruct(1), instruct(2)):
            with pytest.raises(EOFError):
                daemon.train(asked)
        with pytest.raises(EnvironmentFault, match="No space left"):
            ask(site.socket, "pause")
        assert daemon.daemon.status()["state"] == "running", "an order that was not written down is not in force"
        app = typer.Typer()
        app.command()(status)
        told = CliRunner().invoke(app, [str(site.site_file)]).stdout
        assert f"cannot answer     {os.strerror(errno.ENOSPC)}, since " in told and "What to do: make room" in told
        monkeypatch.setattr(AuditLog, "_put", put)
        assert same(daemon.train(instruct(1)).arrays, first.arrays)
        assert daemon.daemon.status()["obstacle"] is None
        assert daemon.train(instruct(2)).kind == "update"


def test_a_drained_daemon_finishes_what_has_begun_and_begins_nothing(
    new_site: NewSite, here: NewHere, instruct: Instruct, monkeypatch: pytest.MonkeyPatch, wait_for: Callable[..., None]
) -> None:
    import threading

    go_on, train, answers = threading.Event(), Hospital.answer, list[Any]()

    def slow(self: Hospital, asked: Instruction) -> Any:
        assert go_on.wait(30)
        return train(self, asked)

    monkeypatch.setattr(Hospital, "answer", slow)
    site = new_site("site-1")
    with here(site) as daemon:
        asking = threading.Thread(target=lambda: answers.append(daemon.train(instruct(1))))
        asking.start()
        wait_for(lambda: daemon.daemon.status()["activity"] is not None, "a round that has begun")
        status = order(load_site_file(site.site_file), "drain", within_s="30")
        assert (status["state"], status["activity"]["round"]) == ("draining", 1)
        assert daemon.ask("who").kind == "site-name", "answered beside the training"
        later = threading.Thread(target=lambda: answers.append(daemon.train(instruct(2))))
        later.start()
        assert daemon.thread.is_alive()
        go_on.set()
        for thread in (asking, later, daemon.thread):
            thread.join(30)
        assert [answers[0].kind, refusal(answers[1])] == ["update", "draining"]
        assert daemon.ended == [True]
    assert [entry.content for entry in site.audit("stopped")] == [{"finished": True}]


PRIVATE = {
    "mode": "hospital", "delta": 0.01, "target_epsilon": 8.0, "clip_norm": 0.5,
    "public_weights": {"site-1": 0.5, "site-2": 0.5},
}  # fmt: skip


def test_privacy_is_agreed_on_once_paid_for_once_and_kept_over_a_restart(
    new_site: NewSite, here: NewHere, instruct: Instruct, caplog: pytest.LogCaptureFixture
) -> None:
    from client.site_keys import make_keys
    from privacy.ledger.ledger import Ledger

    site, private = new_site("site-1"), {"privacy": json.dumps(PRIVATE)}
    make_keys(site.folder, "site-1", patients=100, modalities=("xray", "ecg", "report"))
    site.policy["privacy"] = {"modes": ["hospital"], "epsilon": 8.0, "delta": 0.01, "secure_sums": "allowed"}
    ledger = Ledger(site.folder / "records" / "ledger.sqlite", site.folder / "witness" / "ledger")

    def charged() -> int:
        return sum(len(account.charges) for account in ledger.state().accounts.values())

    with here(site) as daemon:
        assert refusal(daemon.train(instruct(1))) == "privacy-not-allowed", "in the clear"
        first = daemon.train(instruct(1, **private))
        assert first.kind == "update" and first.facts["counts"] == "{}"
        norm = np.sqrt(sum(float((array**2).sum()) for array in first.arrays.values()))
        assert norm <= 0.5 * (1 + 1e-5)
        assert same(daemon.train(instruct(1, **private)).arrays, first.arrays) and charged() == 1
    with here(site) as daemon:
        assert same(daemon.train(instruct(1, **private)).arrays, first.arrays) and charged() == 1
        with caplog.at_level(logging.WARNING):
            other = json.dumps({**PRIVATE, "clip_norm": 5.0})
            assert refusal(daemon.train(instruct(2, privacy=other))) == "ExchangeError"
        assert "clip_norm differ" in caplog.text and charged() == 1
        ask(site.socket, "withdraw", patient="somebody who was never here")
        assert daemon.train(instruct(2, **private)).kind == "update" and charged() == 2
    assert len(site.audit("agreed")) == 1


def test_nobody_is_told_where_no_daemon_runs(new_site: NewSite) -> None:
    import typer

    site = new_site("site-1")
    site.write_site_file()
    with pytest.raises(EnvironmentFault, match="No daemon of site site-1 is running"):
        order(load_site_file(site.site_file), "drain")
    app = typer.Typer()
    app.command()(pause)
    result = CliRunner().invoke(app, [str(site.site_file), "--json"])
    assert result.exit_code == 0 and json.loads(result.stdout)["paused_since"]
    assert [entry.kind for entry in site.audit("paused")] == ["paused"]
