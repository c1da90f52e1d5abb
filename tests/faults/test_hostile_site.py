"""One of three hospitals is hostile: real keys, a real SuperNode, and behind it a program that answers by a script, one
misbehaviour a round. Every round closes with the other two, and the model is theirs to the bit."""

from __future__ import annotations

import json
import shutil
import ssl
import struct
import tempfile
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from trees.deployment import Deployment, command, eventually, free_ports
from trees.scripted_daemon import ScriptedDaemon, connect
from trees.small_federation import SmallFederation, small_federation

from client.flower_supernode import hindrance
from client.wire import EVALUATE, TRAIN, Frame, encoded
from more_model.evaluation.federated_terms import evaluation_terms
from more_model.exchange import VERDICT_FACT, ExchangeSpec, Instruction, Update
from more_model.score_exchange import Evaluation, Question, ScoreCounts
from more_model.supervision import Supervised
from server.status.evaluations import NAME, read_evaluations

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1200)]
HOSTILE, HONEST = "site-3", ("site-1", "site-2")
TERMS = evaluation_terms("chexpert_ecg")
TIMEOUT_S = 60.0
LIMIT_OF_NORM = 50.0

#: What the hostile site does in each round, and what the journal says of it. Round 1 is the only one it may be in.
EXPECTED: dict[int, tuple[str, str]] = {
    1: ("accepted", ""),
    2: ("quarantined", "holds NaN or infinite values"),
    3: ("quarantined", "has shape"),
    4: ("quarantined", "may not travel"),
    5: ("quarantined", "it belongs to round 1, not 5"),
    6: ("quarantined", "it belongs to round 8, not 6"),
    7: ("quarantined", "it calls itself 'site-1'"),
    8: ("quarantined", "exceeds the federation's limit"),
    9: ("quarantined", "its weights are larger than"),
    10: ("quarantined", "it was trained on another base"),
    11: ("refused", "daemon-did-not-understand"),
    12: ("refused", "daemon-did-not-understand"),
    13: ("refused", "malformed answer (too large)"),
    14: ("absent", "no answer within the round's time"),
    15: ("absent", "no answer within the round's time"),
}
ROUNDS = max(EXPECTED)
SILENT, REVOKED = 14, 15


@dataclass
class Hostile:
    """The script. ``on_revoked``: done when that round's question comes. ``first``: the update of round 1, which is
    sound. ``told``: what came with the question of a round."""

    spec: ExchangeSpec
    on_revoked: Callable[[], None]
    first: list[Update] = field(default_factory=list)
    evaluated: list[int] = field(default_factory=list)
    told: dict[int, str] = field(default_factory=dict)

    def answer(self, asked: Frame) -> bytes | None:
        if asked.kind == TRAIN:
            instruction = Instruction.from_parts(asked.facts, asked.arrays)
            self.told[instruction.round] = str(asked.facts.get(VERDICT_FACT, ""))
            return self._train(instruction)
        if asked.kind == EVALUATE:
            return encoded(self._evaluation(Question.from_parts(asked.facts, asked.arrays)))
        raise AssertionError(asked.kind)

    def _train(self, asked: Instruction) -> bytes | None:
        sound = _sound(asked, self.spec)
        if asked.round == 1:
            self.first[:] = [sound]
        if asked.round == 11:
            return b"GET / HTTP/1.1\r\nHost: daemon\r\n\r\n"
        if asked.round == 12:
            return struct.pack(">4sHIQ", b"MORE", 1, 20, 2**40) + b"x" * 4096
        if asked.round == SILENT:
            return None
        if asked.round == REVOKED:
            self.on_revoked()
        wrong = {5: self.first[0], **_wrong(asked.round, sound)}.get(asked.round, sound)
        return encoded(Frame("update", wrong.facts(), wrong.deltas))

    def _evaluation(self, asked: Question) -> Frame:
        self.evaluated.append(asked.round)
        return Frame("evaluation", _figures(asked).facts())


def _sound(asked: Instruction, spec: ExchangeSpec) -> Update:
    """An update that nothing is wrong with, made of nobody's data."""
    up = {tensor.name: np.full(tensor.shape, 1e-4, np.float32) for tensor in spec.upward(asked.round).tensors}
    groups = {"xray": 9.0, "ecg": 9.0, "text": 9.0, "shared": 9.0}
    return Update(HOSTILE, asked.round, up, groups, asked.spec_digest, asked.fingerprint.digest(), {"loss": 1.0})


def _wrong(number: int, sound: Update) -> dict[int, Update]:
    name, tensor = next(iter(sound.deltas.items()))

    def with_(value: Any, called: str = name) -> Update:
        return replace(sound, deltas={**sound.deltas, called: value})

    wrong: dict[int, Callable[[], Update]] = {
        2: lambda: with_(np.full_like(tensor, np.nan)),
        3: lambda: with_(np.zeros((3, 3), np.float32)),
        4: lambda: with_(np.zeros(3, np.float32), "patients"),
        6: lambda: replace(sound, round=8),
        7: lambda: replace(sound, site="site-1"),
        8: lambda: with_(np.full_like(tensor, 1e6)),
        9: lambda: replace(sound, weights={**sound.weights, "text": 1e30}),
        10: lambda: replace(sound, fingerprint_digest="0" * 64),
        13: lambda: with_(np.zeros(12 * 2**20, np.float32)),
    }
    return {number: wrong[number]()} if number in wrong else {}


#: What the hostile site says of its held-out patients after each round, and what is said of that.
FORMS: dict[int, str] = {
    0: "outside the bins",
    1: "fewer patients than its own minimum",
    2: "more patients than there can be",
    3: "counts overlap",
    4: "not those that were agreed on",
    5: "minimum count is not a plausible number",
    6: "it calls itself 'site-1'",
    7: "another round or other patients",
    8: "malformed answer",
}


def _figures(asked: Question) -> Evaluation:
    runs = {
        0: ((0, TERMS.bins.count + 1, 5),),
        1: ((0, 1, -5),),
        2: ((0, 1, 10**12),),
        3: ((0, 3, 5), (1, 4, 5)),
    }.get(asked.round, ())
    counts = {name: ScoreCounts(runs, ()) for name in TERMS.names}
    if asked.round == 4:
        counts = {**counts, "Diagnosis of a minister": ScoreCounts((), ())}
    if asked.round == 8:
        counts = {"": ScoreCounts(((0, 1, 0.5),), ())}  # type: ignore[arg-type]
    return Evaluation(
        site="site-1" if asked.round == 6 else HOSTILE,
        round=6 if asked.round == 7 else asked.round,
        split=asked.split,
        counts=counts,
        minimum_count=0 if asked.round == 5 else 1,
        terms_digest=asked.terms_digest if asked.round < 9 else "0" * 64,
        spec_digest=asked.spec_digest,
        fingerprint_digest=asked.fingerprint.digest(),
    )


@dataclass(frozen=True)
class Ended:
    """The federation after its last round, what the hostile site saw, and its SuperNode."""

    federation: SmallFederation
    deployment: Deployment
    hostile: Hostile
    node: Supervised
    gate_refused: int


@pytest.fixture(scope="module")
def ended(write_miniature: Callable[..., Path], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Ended]:
    made = tmp_path_factory.mktemp("hostile")
    settings = {
        "rounds": {
            "rounds": ROUNDS,
            "minimum_sites": 2,
            "round_timeout_s": TIMEOUT_S,
            "max_update_norm": LIMIT_OF_NORM,
        },
        "waits": {"absent_s": 5, "ttl_beyond_round_s": 0},
        "evaluation": {"split": "test", "timeout_s": TIMEOUT_S},
    }
    federation = small_federation(made / "prepared", write_miniature(made), ROUNDS, settings=settings)
    # Not under pytest's own folder: the path of a Unix socket is short.
    folder = Path(tempfile.mkdtemp(prefix="more-"))
    with Deployment(folder / "f", federation.plan) as deployment:
        hostile = Hostile(federation.bench.assembled().spec, lambda: _revoke(deployment))
        site = deployment.hospitals[HOSTILE]
        daemon = ScriptedDaemon(site.folder / "d.sock", hostile.answer, TIMEOUT_S)
        deployment.link.start()
        for name in HONEST:
            deployment.hospitals[name].daemon.start()
        eventually(lambda: _listens(deployment), "the gate listens", 120)
        nodes = connect(site.site_file, free_ports(1)[0])
        try:
            deployment.run.line = (*deployment.run.line, "--allow-partial")
            refused = _too_large(deployment)
            deployment.run_to_the_end(900)
            assert not daemon.faults, daemon.faults
            yield Ended(federation, deployment, hostile, nodes[0], refused)
        finally:
            for node in nodes:
                node.stop(timeout_s=5.0)
            daemon.close()
    shutil.rmtree(folder)


def _revoke(deployment: Deployment) -> None:
    command(
        "more-server", "revoke", HOSTILE, "--reason", "hostile", "--by", "tester", "--federation",
        str(deployment.coordinator),
    )  # fmt: skip


def _listens(deployment: Deployment) -> bool:
    try:
        _too_large(deployment)
    except urllib.error.URLError:
        return False
    return True


def _too_large(deployment: Deployment) -> int:
    """A request above what the gate lets through; its answer."""
    context = ssl.create_default_context(cafile=str(deployment.coordinator / "authority" / "root.pem"))
    url = f"https://localhost:{deployment.ports['fleet']}/v1/fleet/push-object"
    request = urllib.request.Request(url, data=b"x" * (9 * 2**20))
    try:
        urllib.request.urlopen(request, context=context, timeout=20)
    except urllib.error.HTTPError as error:
        return int(error.code)
    return 200


def rounds(ended: Ended) -> list[dict[str, Any]]:
    return list(json.loads(command("more-server", "rounds", str(ended.deployment.coordinator), "--json"))["rounds"])


def test_every_round_closes_with_the_honest_sites_and_says_why_the_other_is_not_in_it(ended: Ended) -> None:
    closed = rounds(ended)
    assert [each["round"] for each in closed] == list(EXPECTED)
    for each in closed:
        assert [each["sites"][name]["state"] for name in HONEST] == ["accepted", "accepted"], each
    found = {each["round"]: (each["sites"][HOSTILE]["state"], each["sites"][HOSTILE]["why"] or "") for each in closed}
    assert {number: state for number, (state, _) in found.items()} == {n: state for n, (state, _) in EXPECTED.items()}
    assert {n: why for n, (_, why) in found.items() if EXPECTED[n][1] not in why} == {}
    log = ended.deployment.run.text()
    assert [why for state, why in EXPECTED.values() if state != "accepted" and why not in log] == []
    assert ended.deployment.outcome()["short_rounds"] == ROUNDS - 1


def test_the_site_is_told_with_its_next_question(ended: Ended) -> None:
    told = ended.hostile.told
    assert told[1] == told[2] == ""
    for number in range(3, REVOKED + 1):
        state, why = EXPECTED[number - 1]
        assert told[number].startswith(f"round {number - 1}: {state} (") and why in told[number]


def test_the_model_is_that_of_the_honest_sites_to_the_bit(ended: Ended, tmp_path: Path) -> None:
    expected = ended.federation.digest_of(HONEST, {1: ended.hostile.first[0]}, tmp_path)
    assert ended.deployment.outcome()["checkpoint_sha256"] == expected


def test_figures_of_a_false_form_are_left_out_and_the_honest_ones_stay(ended: Ended) -> None:
    measured = read_evaluations(ended.deployment.run_folder)
    assert [each.round for each in measured] == list(range(ROUNDS + 1))
    assert all(set(each.sites) == set(HONEST) and each.macro.value is not None for each in measured)
    lines = map(json.loads, (ended.deployment.run_folder / NAME).read_text().splitlines())
    said = {line["round"]: line["sites"][HOSTILE]["why"] for line in lines}
    assert {number: said[number] for number, why in FORMS.items() if why not in said[number]} == {}
    assert [why for why in FORMS.values() if why not in ended.deployment.run.text()] == []
    assert set(FORMS) <= set(ended.hostile.evaluated)


def test_what_is_larger_than_the_gate_lets_through_is_refused_there_and_logged(ended: Ended) -> None:
    assert ended.gate_refused == 413
    assert "refused: a request of more than 8388608 bytes from 127.0.0.1" in ended.deployment.link.text()


def test_a_site_that_is_revoked_in_the_middle_of_a_run_is_out_and_both_sides_say_so(ended: Ended) -> None:
    assert f"{HOSTILE} may no longer connect" in ended.deployment.link.text()
    assert "refused by the SuperLink: /v1/fleet/" in ended.deployment.link.text()

    def told() -> bool:
        found = hindrance(ended.node.last_lines)
        return found is not None and found.code in ("not-admitted", "not-authenticated")

    eventually(told, "the hostile site's own log says that it is not admitted", 60)
