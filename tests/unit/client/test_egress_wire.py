"""The audit log against the wire: what the gate wrote down is, byte for byte, what Flower carries away."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from flwr.app import ConfigRecord, Message, RecordDict
from flwr.common.serde import message_to_proto

from client.egress import EgressGate, payload_digest
from client.flower_app import build_client_app
from client.flower_messages import tensors_of, tensors_record
from client.hospital import Hospital
from client.policy import SitePolicy
from client.records.audit_log import AuditLog, open_log
from client.records.lines import entries
from client.records.verify import verify
from more_model.exchange import (
    FACTS_RECORD,
    RUN_FACT,
    STAGE_FACT,
    SUM_ACTION,
    ExchangeSpec,
    Fingerprint,
    Instruction,
    Joined,
    Refusal,
    SumStage,
    TensorSpec,
    Update,
)
from more_model.settings import validated
from privacy.secure_sum.messages import Advertisement
from simulation.flower_federation import client_app, train_over_grid
from simulation.flower_inprocess import InProcessGrid

if TYPE_CHECKING:
    from simulation.workbench import Workbench

SPEC = ExchangeSpec((TensorSpec("text.head", (300, 20), "text"), TensorSpec("shared.scale", (1,), "shared")))
RUN, SESSION = "trial", "5e" * 32
#: What Flower writes around one array or one fact: its name and type, the header of the numpy format.
FRAME_BYTES = 400


def policy(**privacy: Any) -> SitePolicy:
    content = {
        "federation": {"name": "chest", "ca_fingerprint": "ab" * 32},
        "exchange": {"groups": ["xray", "ecg", "text", "shared"], "max_bytes_per_round": 10**9, "max_rounds": 9},
        "privacy": {"unprotected": True, "secure_sums": "allowed", **privacy},
    }
    return validated(SitePolicy, content, "test")


@dataclass
class Answering:
    """Stands where a hospital stands: gives prepared answers, each through the gate."""

    gate: EgressGate
    name: str = "north"
    answers: list[Any] = field(default_factory=list)

    def answer(self, instruction: Instruction) -> Any:
        return self.gate.release(self.answers.pop(0), run=instruction.run)

    def continue_sum(self, run: str, message: SumStage) -> Any:
        return self.gate.release(self.answers.pop(0), run=run)


@pytest.fixture
def log(tmp_path: Path) -> Iterator[AuditLog]:
    with open_log(tmp_path / "audit.jsonl", site="north") as log:
        yield log


def update(seed: int) -> Update:
    draw = np.random.default_rng(seed)
    deltas = {t.name: draw.normal(size=t.shape).astype(np.float32) for t in SPEC.tensors}
    weights, counts = {"text": 12.0, "shared": 12.0}, {"loss": 1.25, "steps": 3.0}
    return Update("north", 2, deltas, weights, SPEC.digest(), "0" * 64, counts)


def instruction() -> RecordDict:
    asked = Instruction(2, 2, {}, "{}", 1, SPEC.digest(), Fingerprint({}), RUN)
    return tensors_record({}, asked.facts())


def sent(log: AuditLog, answers: list[Any], kinds: list[str]) -> list[Message]:
    """The replies as they cross, and the gate's own packing behind them."""
    hospital: Any = Answering(EgressGate(log, policy(), SPEC), answers=answers)
    replies: list[Message] = []
    grid = InProcessGrid(
        build_client_app(lambda _context: hospital),
        1,
        tap=lambda m: replies.append(copy.deepcopy(m)) if m.metadata.reply_to_message_id else None,
    )
    stage = RecordDict({FACTS_RECORD: ConfigRecord({STAGE_FACT: "mask", RUN_FACT: RUN})})
    for kind in kinds:
        content = instruction() if kind == "train" else stage
        (node,) = grid.get_node_ids()
        list(grid.send_and_receive([Message(content, dst_node_id=node, message_type=kind)]))
    return replies


def payload(message: Message) -> tuple[dict[str, Any], dict[str, np.ndarray[Any, Any]]]:
    return dict(message.content[FACTS_RECORD]), tensors_of(message.content)


def released(log: AuditLog) -> list[Mapping[str, Any]]:
    return [entry.content for entry in entries(log.path) if entry.kind == "released"]


def frame(message: Message) -> bytes:
    """The serialised content without what the log accounts for: the elements of every array, every fact."""
    rest = bytes(message_to_proto(message).content.SerializeToString())
    facts, arrays = payload(message)
    values = [array.tobytes() for array in arrays.values()]
    values += [value.encode() for value in facts.values() if isinstance(value, str)]
    for value in sorted(values, key=len, reverse=True):
        assert rest.count(value) >= 1
        rest = rest.replace(value, b"", 1)
    return rest


SUM_MESSAGES = (
    Joined("north", 2, Advertisement(SESSION, "north", b"s" * 32, b"m" * 32, {"text": 3}, b"g" * 64).facts()),
    SumStage(
        "mask",
        {"session": SESSION, "site": "north"},
        {"text": np.arange(6000, dtype=np.uint32) * np.uint32(2654435761)},
    ),
)


def test_every_byte_of_every_kind_of_message_is_accounted_for(log: AuditLog) -> None:
    action = f"query.{SUM_ACTION}"
    answers = [update(1), update(2), *SUM_MESSAGES, Refusal("north", 2, "outside-hours")]
    messages = sent(log, answers, ["train", "train", "train", action, "train"])
    listed = released(log)
    assert [entry["message"] for entry in listed] == ["update", "update", "joined", "sum-stage", "refusal"]
    for message, entry in zip(messages, listed, strict=True):
        facts, arrays = payload(message)
        assert entry["sha256"] == payload_digest(facts, arrays), "what arrives is what the gate let out"
        assert entry["facts"].keys() == facts.keys()
        assert {row[0]: row[3] for row in entry["tensors"]} == {name: array.nbytes for name, array in arrays.items()}
        size = len(message_to_proto(message).content.SerializeToString())
        assert 0 < size - entry["bytes"] < FRAME_BYTES * (len(facts) + len(arrays))
    assert frame(messages[0]) == frame(messages[1]), "what is not accounted for says nothing"
    assert payload(messages[0])[1]["text.head"].tobytes() != payload(messages[1])[1]["text.head"].tobytes()
    report = verify(log.path)
    assert report.whole and report.released_bytes == sum(entry["bytes"] for entry in listed)


def test_an_answer_that_the_gate_withholds_does_not_cross(log: AuditLog) -> None:
    wrong = update(1)
    deltas = {**wrong.deltas, "patients": np.arange(9, dtype=np.float32)}
    (message,) = sent(log, [Update("north", 2, deltas, wrong.weights, SPEC.digest(), "0" * 64)], ["train"])
    assert payload(message)[1] == {} and "patients" not in json.dumps(payload(message)[0])
    assert released(log) == []


def test_the_digest_covers_names_types_shapes_and_values() -> None:
    arrays = {"a": np.arange(6, dtype=np.float32), "b": np.ones((), np.float32)}
    same: Callable[..., str] = lambda **changes: payload_digest({"x": 1}, {**arrays, **changes})  # noqa: E731
    first = same()
    assert payload_digest({"x": 1}, dict(reversed(arrays.items()))) == first
    assert same(a=np.arange(12, dtype=np.float32)[::2] / 2) == first, "memory layout and strides play no part"
    assert same(a=arrays["a"].astype(">f4")) == first
    others = [
        same(a=arrays["a"].reshape(2, 3)), same(a=arrays["a"].astype(np.float64)), same(a=arrays["a"] + 1),
        same(c=arrays["b"]), payload_digest({"x": 2}, arrays), payload_digest({"x": "1"}, arrays),
    ]  # fmt: skip
    assert len({first, *others}) == 7


SITES = ("site-1", "site-2", "site-3", "site-4")
HOSPITAL = {
    "mode": "hospital", "delta": 1e-5, "target_epsilon": 8.0, "public_weights": dict.fromkeys(SITES, 0.25),
}  # fmt: skip


@pytest.mark.parametrize(
    ("changes", "rule"),
    [
        ({"federation": {"secure_sum": None}}, {}),
        (
            {"federation": {"secure_sum": {"rounding": "nearest", "clip_norm": 50.0}}, "privacy": HOSPITAL},
            {"unprotected": False, "modes": ["hospital"], "epsilon": 8.0, "delta": 1e-5, "secure_sums": "required"},
        ),
    ],
    ids=["in the clear", "hospital privacy in secure sums"],
)
def test_a_whole_federation_passes_its_gates(
    protected_bench: Callable[..., Workbench],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    changes: dict[str, Any],
    rule: dict[str, Any],
) -> None:
    """Real hospitals, real keys and masks: the lists of the gate are those of the code that trains."""
    bench = protected_bench(tmp_path / "run", changes)
    logs = {site: open_log(tmp_path / f"{site}.jsonl", site=site) for site in SITES}
    gates = {site: EgressGate(log, policy(**rule), bench.assembled().spec) for site, log in logs.items()}
    answer, go_on = Hospital.answer, Hospital.continue_sum
    monkeypatch.setattr(
        Hospital, "answer", lambda self, asked: gates[self.name].release(answer(self, asked), run=asked.run)
    )
    monkeypatch.setattr(
        Hospital, "continue_sum", lambda self, run, asked: gates[self.name].release(go_on(self, run, asked), run=run)
    )
    crossed: list[Message] = []
    grid = InProcessGrid(client_app(bench), 4, tap=lambda message: crossed.append(copy.deepcopy(message)))
    _, records = train_over_grid(bench, grid, "federated", 3)
    assert {part.state for record in records for part in record.sites} == {"accepted"}
    replies = [m for m in crossed if m.metadata.reply_to_message_id and m.metadata.message_type != "query"]
    arrived = sorted(payload_digest(*payload(message)) for message in replies)
    assert arrived == sorted(entry["sha256"] for log in logs.values() for entry in released(log))
    for site, log in logs.items():
        log.close()
        assert verify(log.path).whole and gates[site].rounds_answered() == 2
