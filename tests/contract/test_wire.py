"""What travels between coordinator and hospitals, read from the messages of a whole federated run.

The federation is modality-incongruent: ``site-1`` has no X-rays, ``site-2`` has no ECGs, ``site-3`` has both.
"""

from __future__ import annotations

import copy
import json
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from flwr.app import Message
from flwr.common.serde import message_to_proto

from client.flower_app import build_client_app
from client.flower_messages import tensors_of as read
from client.hospital import Hospital
from more_model.errors import RoundError, StoreError
from more_model.exchange import FACTS_RECORD, TENSORS_RECORD, ExchangeSpec, Instruction, Refusal, Tensors, Update
from more_model.model.inventory import export_tensors
from more_model.run_folder import RunFolder
from server.flower_grid import GridTransport, sent_once
from server.journal import RoundRecord
from simulation.flower_federation import client_app, train_over_grid
from simulation.flower_inprocess import InProcessGrid, partition_of
from simulation.run import prepare
from simulation.settings import load_run_config
from simulation.workbench import Workbench

ROUNDS = 2
WITHOUT = {"site-1": ["xray"], "site-2": ["ecg"]}
INSTRUCTION_FACTS = {
    "round", "rounds", "training", "seed", "spec_digest", "fingerprint", "run", "privacy", "secure_sum",
}  # fmt: skip
UPDATE_FACTS = {"site", "round", "weights", "counts", "spec_digest", "fingerprint_digest"}
COUNTS = {"loss", "steps", "pairs_xray", "pairs_ecg"}
#: Means over the steps of a site; the terms of a modality that it lacks are not among them.
WATCHED = {"loss_xray", "loss_ecg", "chance_xray", "chance_ecg", "gradient_xray", "gradient_ecg", "gradient_text"}
TERMS_OF = {"xray": {"loss_xray", "chance_xray"}, "ecg": {"loss_ecg", "chance_ecg"}}
#: Framing of a tensor: its name, Flower's description of it, and the header of the numpy format.
FRAMING_BYTES = 400
FACTS_BYTES = 4096
#: Words that Flower and numpy write around any array.
FRAME_WORDS = "numpy.ndarray float32 descr fortran_order shape False tensors facts train query"


@dataclass(frozen=True)
class Wire:
    """Everything that crossed, in order, and the run that sent it."""

    bench: Workbench
    spec: ExchangeSpec
    messages: list[Message]
    records: list[RoundRecord]
    last: Tensors

    @property
    def down(self) -> list[Message]:
        """Instructions."""
        return [m for m in self.messages if m.metadata.message_type == "train" and not m.metadata.reply_to_message_id]

    @property
    def up(self) -> list[Message]:
        """Updates."""
        return [m for m in self.messages if m.metadata.message_type == "train" and m.metadata.reply_to_message_id]

    @property
    def introductions(self) -> list[Message]:
        """Questions for a site's name, and the answers."""
        return [m for m in self.messages if m.metadata.message_type == "query"]


def serialised(message: Message) -> bytes:
    return bytes(message_to_proto(message).SerializeToString())


def tensors_of(message: Message) -> dict[str, np.ndarray]:
    return read(message.content)


def facts_of(message: Message) -> dict[str, Any]:
    return dict(message.content[FACTS_RECORD])


@pytest.fixture(scope="module")
def bench(write_miniature: Callable[..., Path], tmp_path_factory: pytest.TempPathFactory) -> Workbench:
    folder = tmp_path_factory.mktemp("incongruent")
    path = write_miniature(folder, {"partition": {"missing": WITHOUT}})
    return prepare(load_run_config(path), RunFolder(folder), lambda _stage, _done, _total: None)


@pytest.fixture(scope="module")
def wire(bench: Workbench) -> Wire:
    messages: list[Message] = []
    grid = InProcessGrid(client_app(bench), 3, tap=lambda message: messages.append(copy.deepcopy(message)))
    trained, records = train_over_grid(bench, grid, "federated", 3)
    return Wire(bench, bench.assembled().spec, messages, records, export_tensors(trained.model))


def test_the_run_was_whole(wire: Wire) -> None:
    assert [len(wire.down), len(wire.up), len(wire.introductions)] == [3 * ROUNDS, 3 * ROUNDS, 6]
    assert len(wire.messages) == len(wire.down) + len(wire.up) + len(wire.introductions)
    assert all(part.state == "accepted" for record in wire.records for part in record.sites)
    assert not any(message.has_error() for message in wire.messages)


def test_down_travels_the_specification_and_nothing_else(wire: Wire) -> None:
    for message in wire.down:
        assert set(message.content) == {TENSORS_RECORD, FACTS_RECORD}
        assert set(facts_of(message)) == INSTRUCTION_FACTS
        tensors = tensors_of(message)
        wire.spec.check(tensors)
        assert sorted(tensors) == sorted(tensor.name for tensor in wire.spec.tensors)
        assert sum(tensor.nbytes for tensor in tensors.values()) == wire.spec.nbytes


def test_up_travel_the_towers_that_the_site_trained_and_nothing_else(wire: Wire) -> None:
    for message in wire.up:
        assert set(message.content) == {TENSORS_RECORD, FACTS_RECORD}
        facts, tensors = facts_of(message), tensors_of(message)
        assert set(facts) == UPDATE_FACTS
        absent = set(WITHOUT.get(facts["site"], []))
        towers = [tower for tower in ("xray", "ecg", "text", "shared") if tower not in absent]
        wire.spec.check(tensors, towers)
        assert not {name.split(".")[0] for name in tensors} & absent
        assert sum(t.nbytes for t in tensors.values()) == sum(t.nbytes for t in wire.spec.of_towers(towers))
        weights = json.loads(facts["weights"])
        assert {tower for tower, weight in weights.items() if weight > 0} == set(towers)


def test_a_site_sends_changes_and_every_tower_changed(wire: Wire) -> None:
    for message in wire.up:
        deltas = tensors_of(message)
        assert {name.split(".")[0] for name, delta in deltas.items() if np.any(delta)} == {
            name.split(".")[0] for name in deltas
        }


def test_declared_bytes_are_the_bytes_on_the_wire(wire: Wire) -> None:
    for message in [*wire.down, *wire.up]:
        payload = sum(tensor.nbytes for tensor in tensors_of(message).values())
        room = FRAMING_BYTES * len(tensors_of(message)) + FACTS_BYTES
        assert payload < len(serialised(message)) < payload + room
    for record in wire.records:
        of_round = [message for message in wire.up if facts_of(message)["round"] == record.round]
        assert record.bytes_up == sum(t.nbytes for message in of_round for t in tensors_of(message).values())


def test_facts_are_sums_over_the_site_never_per_patient(wire: Wire) -> None:
    patients = {c.name: {t.patient_id for t in c.examples.triplets} for c in wire.bench.cohorts}
    for message in wire.up:
        facts = facts_of(message)
        counts = json.loads(facts["counts"])
        lacking = {name for missing in WITHOUT.get(facts["site"], []) for name in TERMS_OF[missing]}
        assert set(counts) == (COUNTS | WATCHED) - lacking
        assert all(isinstance(value, float) for value in counts.values())
        assert all(isinstance(value, int | float | str) for value in facts.values())
        assert len(json.dumps(facts)) < 1000
        assert 0 < counts["pairs_xray"] + counts["pairs_ecg"] <= 2 * len(patients[facts["site"]])


def test_introductions_carry_a_name_and_nothing_else(wire: Wire) -> None:
    asked, answered = wire.introductions[0::2], wire.introductions[1::2]
    assert all(not set(message.content) for message in asked)
    assert [facts_of(message) for message in answered] == [{"site": f"site-{n}"} for n in (1, 2, 3)]
    assert all(set(message.content) == {FACTS_RECORD} for message in answered)


def private_strings(bench: Workbench) -> tuple[set[str], set[str]]:
    """Patient ids, and every word of five letters or more of any report."""
    triplets = [triplet for cohort in bench.cohorts for triplet in cohort.examples.triplets]
    texts = [text for t in triplets for text in (t.xray_report, t.ecg_report) if text is not None]
    words = {word for text in texts for word in re.findall(r"[a-z]{5,}", text.lower())}
    return {triplet.patient_id for triplet in triplets}, words


def leaks(content: bytes, private: Iterable[str], declared: str) -> set[str]:
    """Private strings in ``content`` that are not part of what is declared to travel."""
    lower = content.lower()
    return {word for word in private if word.encode() in lower and word not in declared.lower()}


def test_no_patient_id_and_no_word_of_a_report_is_in_any_message(wire: Wire) -> None:
    ids, words = private_strings(wire.bench)
    assert len(ids) > 40 and len(words) > 80
    names = " ".join(
        [*(tensor.name for tensor in wire.spec.tensors), *COUNTS, *WATCHED, *UPDATE_FACTS, *INSTRUCTION_FACTS]
    )
    instruction = facts_of(wire.down[0])
    declared = f"{FRAME_WORDS} {names} {instruction['training']} {instruction['fingerprint']}"
    for message in wire.messages:
        assert leaks(serialised(message), ids | words, declared) == set()


def test_the_scan_finds_what_it_looks_for(wire: Wire) -> None:
    ids, words = private_strings(wire.bench)
    patient = min(ids)
    report = next(t.xray_report for c in wire.bench.cohorts for t in c.examples.triplets if t.xray_report)
    planted = copy.deepcopy(wire.up[0])
    planted.content[FACTS_RECORD]["note"] = f"{patient} {report}"
    found = leaks(serialised(planted), ids | words, FRAME_WORDS)
    assert patient in found
    assert len(found & words) >= 3


def test_stored_values_of_pictures_and_tracings_are_not_in_any_message(wire: Wire) -> None:
    """Bytes of the site stores, as they are and as float32, searched for in 64-byte pieces."""
    pieces: set[bytes] = set()
    for cohort in wire.bench.cohorts:
        for source in cohort.examples.sources:
            for array in (source.xrays, source.ecgs):
                for row in array[:5]:
                    flat = np.ascontiguousarray(row).reshape(-1)
                    middle = flat[len(flat) // 2 :]
                    pieces |= {middle.tobytes()[:64], middle.astype(np.float32).tobytes()[:64]}
    pieces = {piece for piece in pieces if len(set(piece)) > 8}
    assert len(pieces) > 20
    for message in wire.messages:
        content = serialised(message)
        assert not any(piece in content for piece in pieces)


def test_per_tower_weights_are_right(wire: Wire) -> None:
    """The aggregate, worked out again from the messages alone."""
    tensors: Tensors = export_tensors(wire.bench.assembled().model)
    for number in range(1, ROUNDS + 1):
        of_round = [message for message in wire.up if facts_of(message)["round"] == number]
        after = {}
        for tensor in wire.spec.tensors:
            above, below = np.zeros(tensor.shape, np.float64), 0.0
            for message in sorted(of_round, key=lambda m: str(facts_of(m)["site"])):
                weight = json.loads(facts_of(message)["weights"])[tensor.tower]
                if weight > 0:
                    above, below = above + weight * tensors_of(message)[tensor.name].astype(np.float64), below + weight
            after[tensor.name] = (tensors[tensor.name].astype(np.float64) + above / below).astype(np.float32)
        tensors = after
    assert {n: t.tobytes() for n, t in tensors.items()} == {n: t.tobytes() for n, t in wire.last.items()}


def raising(error: Exception) -> Callable[[Hospital], Hospital]:
    class Broken:
        triplets = ()

        def trainable(self) -> None:
            raise error

    return lambda hospital: replace(hospital, examples=Broken())  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (ValueError("patient 10000017 has /data/p10000017/s5.dcm"), "unexpected ValueError"),
        (StoreError("row of patient 10000017", remedy="look at /data/p10000017"), "StoreError"),
        (RuntimeError("patient 10000017"), "unexpected RuntimeError"),
    ],
)
@pytest.mark.parametrize("where", ["while training", "while opening the site"])
def test_the_text_of_an_error_stays_at_the_site(bench: Workbench, error: Exception, code: str, where: str) -> None:
    crossed: list[Message] = []
    assembled = bench.assembled()
    healthy = Hospital("site-3", bench.training_examples("site-3"), assembled, bench.scorer.tokenizer, 48, 1)

    def hospital_of(context: Any) -> Hospital:
        if partition_of(context) == 0:
            if where == "while opening the site":
                raise error
            return raising(error)(healthy)
        return healthy

    grid = InProcessGrid(build_client_app(hospital_of), 2, tap=crossed.append)
    nodes = dict(zip(("broken", "site-3"), grid.get_node_ids(), strict=True))
    instruction = Instruction(
        round=1,
        rounds=1,
        tensors=export_tensors(assembled.model),
        training=bench.config.training.model_dump_json(),
        seed=3,
        spec_digest=assembled.spec.digest(),
        fingerprint=assembled.fingerprint,
    )
    answers = GridTransport(sent_once(grid, nodes)).exchange(dict.fromkeys(nodes, instruction), timeout_s=60)
    refusal = answers["broken"]
    assert isinstance(refusal, Refusal)
    wanted = code if where == "while training" else f"unexpected {type(error).__name__}"
    assert refusal.code == wanted
    assert isinstance(answers["site-3"], Update)
    for message in crossed:
        assert leaks(serialised(message), {"10000017", "patient", "/data", "row of"}, "") == set()


def test_a_round_names_the_refusing_site_without_its_words(bench: Workbench, tmp_path: Path) -> None:
    app = client_app(bench)

    def on_tap(message: Message) -> None:
        # The second site is sent another base.
        if message.metadata.message_type == "train" and message.metadata.dst_node_id == 1002:
            message.content[FACTS_RECORD]["fingerprint"] = json.dumps({"base weights": "other"})

    elsewhere = replace(bench, folder=tmp_path)
    with pytest.raises(
        RoundError, match=r"round 1 has 2 usable updates, 3 are needed\. site-2: refused \(ExchangeError\)"
    ):
        train_over_grid(elsewhere, InProcessGrid(app, 3, tap=on_tap), "federated", 3)
