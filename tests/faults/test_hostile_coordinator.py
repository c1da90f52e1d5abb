"""A coordinator that a hospital should not trust: what its daemon does not do, asked over a real SuperLink, SuperNode
and relay. Each refusal is a code at the coordinator, words in the daemon's log, and an entry of the audit log."""

from __future__ import annotations

import hashlib
import json
import shutil
import tempfile
import tomllib
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tomli_w
from flwr.app import Message, RecordDict
from flwr.cli.build import build_fab_from_files
from trees.deployment import Deployment, Hospital, eventually
from trees.small_federation import SmallFederation, small_federation

from client.flower_messages import parts, tensors_record
from more_model.evaluation.federated_terms import evaluation_terms
from more_model.exchange import FACTS_RECORD, Fingerprint, Instruction, Tensors, Update
from more_model.score_exchange import Evaluation, Question
from server import flower_session
from server.admission import fault_of
from server.federation_file import load_federation
from server.flower_session import Session, open_session
from server.superlink_service import superlink_folder

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]
SITE, RUN, WAIT_S = "site-1", "trial", 240.0
#: What the relay says where the daemon found no sense in a question.
SENSELESS = "daemon-did-not-understand"
Asked = tuple[str, Tensors, Mapping[str, Any]]


@dataclass(frozen=True)
class Under:
    """The hospital that is asked, and what its coordinator may ask."""

    federation: SmallFederation
    deployment: Deployment

    @property
    def hospital(self) -> Hospital:
        return self.deployment.hospitals[SITE]

    def instruction(self, number: int = 1, **changes: Any) -> Instruction:
        return replace(self.federation.instruction(number, RUN), **changes)

    def question(self, **changes: Any) -> Question:
        asked, terms = self.instruction(), evaluation_terms("chexpert_ecg")
        made = Question(RUN, 0, "test", asked.tensors, terms.digest(), asked.spec_digest, asked.fingerprint)
        return replace(made, **changes)

    def refusals(self) -> list[str]:
        """The codes that the audit log says were sent."""
        sent = [entry for entry in self.hospital.audit("released") if entry["message"] == "refusal"]
        return [entry["told"]["refusal"] for entry in sent]

    @contextmanager
    def session(self) -> Iterator[Session]:
        folder = superlink_folder(load_federation(self.deployment.coordinator))
        session = open_session(folder, self.deployment.ports["superlink"])
        try:
            yield session
        finally:
            session.close(True)

    @contextmanager
    def policy(self, **parts_: Mapping[str, Any]) -> Iterator[None]:
        """Another policy for as long as the block runs; the daemon reads it with the next question."""
        path = self.hospital.folder / "policy.toml"
        before = path.read_bytes()
        content = tomllib.loads(before.decode())
        path.write_text(tomli_w.dumps({**content, **{part: {**content[part], **new} for part, new in parts_.items()}}))
        try:
            yield
        finally:
            path.write_bytes(before)


def ask(session: Session, asked: Mapping[str, Asked]) -> dict[str, RecordDict]:
    """All questions at once; the answers by the questions' names."""
    (node,) = session.grid.get_node_ids()
    messages = {
        name: Message(tensors_record(tensors, facts), dst_node_id=node, message_type=kind, ttl=WAIT_S)
        for name, (kind, tensors, facts) in asked.items()
    }
    replies = session.grid.send_and_receive(list(messages.values()), timeout=WAIT_S)
    found = {reply.metadata.reply_to_message_id: reply for reply in replies}
    answers = {name: found[message.metadata.message_id] for name, message in messages.items()}
    assert not any(reply.has_error() for reply in answers.values())
    return {name: reply.content for name, reply in answers.items()}


def train(asked: Instruction) -> Asked:
    return "train", asked.tensors, asked.facts()


def evaluate(asked: Question) -> Asked:
    return "evaluate", asked.tensors, asked.facts()


def code(answer: RecordDict) -> str:
    return str(answer[FACTS_RECORD].get("refusal", ""))


def update(answer: RecordDict) -> Update:
    assert not code(answer), code(answer)
    message = type("Answer", (), {"content": answer})()
    tensors, facts = parts(message)
    return Update.from_parts(facts, tensors)


@pytest.fixture(scope="module")
def under(write_miniature: Callable[..., Path], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Under]:
    made = tmp_path_factory.mktemp("hostile")
    federation = small_federation(
        made / "prepared",
        write_miniature(made),
        4,
        names=(SITE,),
        settings={"evaluation": {"split": "test"}},
        allowance=("--unprotected", "--max-rounds", "9"),
    )
    folder = Path(tempfile.mkdtemp(prefix="more-"))
    with Deployment(folder / "f", federation.plan) as deployment:
        deployment.start_all()
        found = Under(federation, deployment)
        eventually(lambda: "SuperNode ID" in found.hospital.daemon.text(), "the hospital's node is online", 120)
        yield found
    shutil.rmtree(folder)


def _one_wrong(tensors: Tensors, value: Any, name: str | None = None) -> dict[str, Any]:
    first = next(iter(tensors))
    kept = {other: tensor for other, tensor in tensors.items() if other != first}
    return {**kept, name or first: value if name else np.full_like(tensors[first], value)}


#: Name -> what is asked, the code that comes back, and words of the daemon's log.
REFUSED: dict[str, tuple[Callable[[Under], Asked], str, str]] = {
    "another specification": (
        lambda u: train(u.instruction(spec_digest="0" * 64)),
        "tensors-not-allowed",
        "the coordinator's exchange specification is not this site's",
    ),
    "another base": (
        lambda u: train(u.instruction(fingerprint=Fingerprint({"weights": "0" * 64}))),
        "ExchangeError",
        "the base of this site is not the federation's",
    ),
    "more rounds": (
        lambda u: train(u.instruction(rounds=100)),
        "rounds-above-policy",
        "the policy allows 9 rounds",
    ),
    "another privacy mode": (
        lambda u: train(u.instruction(privacy=json.dumps(PRIVATE))),
        "privacy-not-allowed, delta-above-policy, epsilon-above-policy",
        "the policy does not name the privacy mode hospital",
    ),
    "a secure sum": (
        lambda u: train(u.instruction(secure_sum="{}")),
        "secure-sum-not-allowed",
        "the policy refuses secure sums",
    ),
    "NaN in the model": (
        lambda u: train(u.instruction(tensors=_one_wrong(u.instruction().tensors, np.nan))),
        "ExchangeError",
        "holds NaN or infinite values",
    ),
    "infinity in the model": (
        lambda u: train(u.instruction(tensors=_one_wrong(u.instruction().tensors, np.inf))),
        "ExchangeError",
        "holds NaN or infinite values",
    ),
    "numbers that make NaN": (
        lambda u: train(u.instruction(tensors=_one_wrong(u.instruction().tensors, 3e38))),
        "RoundError",
        "the loss is not finite",
    ),
    "a tensor of its own": (
        lambda u: train(u.instruction(tensors=_one_wrong(u.instruction().tensors, np.zeros(3, np.float32), "x"))),
        "ExchangeError",
        "x may not travel",
    ),
    "NaN in a model to measure": (
        lambda u: evaluate(u.question(tensors=_one_wrong(u.instruction().tensors, np.nan))),
        "ExchangeError",
        "holds NaN or infinite values",
    ),
    "other terms of evaluation": (
        lambda u: evaluate(u.question(terms_digest="0" * 64)),
        "evaluation-not-allowed",
        "the policy does not name these terms of evaluation",
    ),
    "training patients to measure on": (
        lambda u: evaluate(u.question(split="train")),
        "ExchangeError",
        "only validation and test patients are for measuring",
    ),
    "too large": (
        lambda u: train(u.instruction(tensors={**u.instruction().tensors, "x": np.zeros(2**21, np.float32)})),
        SENSELESS,
        "may come",
    ),
    "settings that are none": (
        lambda u: train(u.instruction(training='{"batch_size": "many"}')),
        SENSELESS,
        "the training settings of an instruction cannot be read",
    ),
    "a run that forges the log": (
        lambda u: train(u.instruction(run="a\nINFO all is well")),
        SENSELESS,
        "the name of a run has at most",
    ),
    "half an instruction": (
        lambda u: ("train", u.instruction().tensors, {"round": 1}),
        SENSELESS,
        "malformed instruction",
    ),
}
PRIVATE = {
    "mode": "hospital", "delta": 0.01, "target_epsilon": 8.0, "clip_norm": 0.5, "public_weights": {SITE: 1.0},
}  # fmt: skip


def test_a_bundle_with_another_hash_and_its_own_privacy_is_refused_and_nothing_of_it_runs(
    under: Under, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    marker = tmp_path / "imported"
    leaves = f"from pathlib import Path\nPath({str(marker)!r}).write_text('imported')\n".encode()
    components = {"serverapp": "more_fed_run.coordinator:app", "clientapp": "more_fed_run.hospital:app"}
    project = {
        "project": {"name": "more-fed-run", "version": "1.0.0", "license": "MIT"},
        "tool": {"flwr": {"app": {"publisher": "more-fed", "components": components}}},
    }
    names = ("more_fed_run/__init__.py", "more_fed_run/hospital.py", "privacy/__init__.py", "client/__init__.py")
    files = {"pyproject.toml": tomli_w.dumps(project).encode(), **dict.fromkeys(names, leaves)}
    content = build_fab_from_files(dict(files))[0]
    digest = hashlib.sha256(content).hexdigest()
    monkeypatch.setattr(flower_session, "build_bundle", lambda: content)
    monkeypatch.setattr(flower_session, "bundle_digest", lambda: digest)
    with under.session() as session:
        answers = ask(session, {"train": train(under.instruction()), "evaluate": evaluate(under.question())})
    assert {name: code(answer) for name, answer in answers.items()} == dict.fromkeys(answers, "bundle-not-allowed")
    assert f"the app bundle {digest} is not among code.bundles" in under.hospital.daemon.text()
    assert under.refusals()[-2:] == ["bundle-not-allowed"] * 2
    assert not marker.exists()
    work = under.hospital.folder
    assert not [path for path in work.rglob("*") if "more_fed_run" in path.name], "nor was it unpacked"


def test_every_question_that_was_not_agreed_to_is_refused_and_the_next_good_one_is_answered(under: Under) -> None:
    before = len(under.refusals())
    with under.session() as session:
        asked = {name: made(under) for name, (made, _, _) in REFUSED.items()}
        answers = ask(session, {**asked, "good": train(under.instruction())})
    found = {name: code(answers[name]) for name in REFUSED}
    wanted = {name: said for name, (_, said, _) in REFUSED.items()}
    assert found == wanted
    log = under.hospital.daemon.text()
    assert {name: words for name, (_, _, words) in REFUSED.items() if words not in log} == {}
    assert under.refusals()[before:] == [said for said in wanted.values() if said != SENSELESS]
    unclear = [entry["why"] for entry in under.hospital.audit("not-understood")]
    assert len(unclear) == list(wanted.values()).count(SENSELESS)
    good, spec = update(answers["good"]), under.federation.bench.assembled().spec
    fingerprint = under.instruction().fingerprint
    assert fault_of(good, site=SITE, round_number=1, spec=spec, fingerprint=fingerprint, max_norm=None) is None
    expected = under.federation.hospital(SITE).answer(under.instruction())
    assert isinstance(expected, Update)
    assert all(np.array_equal(good.deltas[name], expected.deltas[name]) for name in expected.deltas)


def test_tensors_that_the_policy_does_not_name_are_refused(under: Under) -> None:
    with under.policy(exchange={"specifications": [], "groups": ["text"]}), under.session() as session:
        assert code(ask(session, {"all": train(under.instruction())})["all"]) == "tensors-not-allowed"
    assert "and the policy does not name these" in under.hospital.daemon.text()
    assert under.refusals()[-1] == "tensors-not-allowed"


def test_a_round_that_is_asked_again_gets_the_stored_answer_and_another_question_of_it_is_bounded(
    under: Under,
) -> None:
    asked = under.instruction(2)
    kept = under.hospital.folder / "work" / "answers"
    with under.session() as session:
        first = update(ask(session, {"first": train(asked)})["first"])
        files = {path.name: path.stat().st_mtime_ns for path in kept.iterdir()}
        again = update(ask(session, {"again": train(asked)})["again"])
        assert {path.name: path.stat().st_mtime_ns for path in kept.iterdir()} == files, "nothing was trained"
        assert again.facts() == first.facts()
        assert all(np.array_equal(again.deltas[name], first.deltas[name]) for name in first.deltas)
        sent = [entry for entry in under.hospital.audit("released") if entry["message"] == "update"]
        assert [entry["repeated"] for entry in sent[-2:]] == [False, True]
        size = under.federation.bench.assembled().spec.upward(2).nbytes + 16 * 1024
        more = size // sent[-1]["bytes"]
        with under.policy(exchange={"max_bytes_per_round": size}):
            probing = {f"{n}": train(replace(asked, seed=asked.seed + n)) for n in range(1, more + 1)}
            codes = [code(answer) for answer in ask(session, probing).values()]
    assert codes == [""] * (more - 1) + ["EgressRefused"]
    assert "bytes in one round, of which the policy lets" in under.hospital.daemon.text()
    assert [entry["rules"] for entry in under.hospital.audit("withheld")][-1] == ["bytes-above-policy"]


def test_a_measured_model_brings_counts_only(under: Under) -> None:
    with under.session() as session:
        answer = ask(session, {"measure": evaluate(under.question())})["measure"]
    told = Evaluation.from_parts(dict(answer[FACTS_RECORD]))
    assert told.site == SITE and told.counts.keys() == evaluation_terms("chexpert_ecg").names.keys()
    assert set(answer) == {FACTS_RECORD}
