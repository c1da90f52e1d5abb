"""One federation over several grids: the same bits. And what the transport makes of grids that misbehave."""

from __future__ import annotations

import io
import os
import random
import shutil
import time
from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from flwr.app import Array, ArrayRecord, ConfigRecord, Context, Error, Message, RecordDict
from flwr.clientapp import ClientApp

from client.flower_messages import tensors_of, tensors_record
from client.policy_check import POLICY_CODES
from more_model.errors import RoundError
from more_model.exchange import FACTS_RECORD, TENSORS_RECORD, Fingerprint, Instruction, Refusal, Update
from more_model.packed import PACKED
from server.flower_grid import GridTransport, discover, sent_once
from simulation.flower_federation import train_federated
from simulation.flower_inprocess import InProcessGrid, partition_of
from simulation.workbench import Workbench

Answer = Callable[[Message, int], RecordDict]


def checkpoints(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted((folder / "arms/federated/checkpoints").iterdir())}


def test_inprocess_and_ray_give_the_same_bits_and_ray_leaves_nothing(
    miniature_bench: Workbench, tmp_path: Path
) -> None:
    ray = pytest.importorskip("ray", reason="flwr[simulation] is a dependency: ray must be there")
    records = {}
    for engine in ("inprocess", "ray"):
        folder = tmp_path / engine
        shutil.copytree(miniature_bench.folder / "workspace", folder / "workspace")
        federation = miniature_bench.config.federation.model_copy(update={"engine": engine})
        config = miniature_bench.config.model_copy(update={"federation": federation})
        environment = dict(os.environ)
        _, records[engine] = train_federated(replace(miniature_bench, config=config, folder=folder), "federated", 3)
        assert dict(os.environ) == environment
    assert not ray.is_initialized()
    assert list(Path("/tmp").glob(f"more-ray-{os.getpid()}-*")) == []
    assert len(checkpoints(tmp_path / "ray")) == 2
    assert checkpoints(tmp_path / "ray") == checkpoints(tmp_path / "inprocess")
    assert [r.sites for r in records["ray"]] == [r.sites for r in records["inprocess"]]
    assert [r.macro_auroc for r in records["ray"]] == [r.macro_auroc for r in records["inprocess"]]


def app_of(query: Answer, train: Answer | None = None) -> ClientApp:
    """A ClientApp whose answers are functions of the message and the partition number."""
    app = ClientApp()

    @app.query()  # type: ignore[untyped-decorator]
    def on_query(message: Message, context: Context) -> Message:
        return Message(query(message, partition_of(context)), reply_to=message)

    @app.train()  # type: ignore[untyped-decorator]
    def on_train(message: Message, context: Context) -> Message:
        assert train is not None
        return Message(train(message, partition_of(context)), reply_to=message)

    return app


def facts(**values: Any) -> RecordDict:
    return RecordDict({FACTS_RECORD: ConfigRecord(values)})


def named(_message: Message, partition: int) -> RecordDict:
    return facts(site=f"site-{partition + 1}")


class Growing(InProcessGrid):
    """Nodes appear one by one, each time somebody looks."""

    looks = 0

    def get_node_ids(self) -> Iterable[int]:
        self.looks += 1
        return list(super().get_node_ids())[: self.looks - 1]


class Silent(InProcessGrid):
    """The last node never answers."""

    def pull_messages(self, message_ids: Iterable[str]) -> Iterable[Message]:
        return list(super().pull_messages(message_ids))[:-1]


def test_discover_waits_for_the_nodes_and_names_them() -> None:
    grid = Growing(app_of(named), 3)
    names = discover(grid, 3, timeout_s=30, poll_s=0.001)
    assert names == {"site-1": 1001, "site-2": 1002, "site-3": 1003}
    assert grid.looks >= 4


def test_discover_does_not_wait_for_ever() -> None:
    started = time.monotonic()
    with pytest.raises(RoundError, match=r"2 of 3 sites connected within 0\.05 s"):
        discover(InProcessGrid(app_of(named), 2), 3, timeout_s=0.05, poll_s=0.01)
    assert time.monotonic() - started < 5


def fails(_message: Message, _partition: int) -> RecordDict:
    raise ValueError("no such folder")


@pytest.mark.parametrize(
    ("grid", "reason"),
    [
        (lambda: InProcessGrid(app_of(lambda _m, _p: facts(site="north")), 2), "two nodes call themselves 'north'"),
        (lambda: InProcessGrid(app_of(fails), 2), "a node could not say which site it is"),
        (lambda: InProcessGrid(app_of(lambda _m, _p: facts(refusal="x")), 2), "a node could not say which site it is"),
        (lambda: InProcessGrid(app_of(lambda _m, _p: RecordDict()), 2), "a node could not say which site it is"),
        (lambda: Silent(app_of(named), 2), "1 of 2 sites said who they are"),
    ],
)
def test_discover_refuses_nodes_that_are_not_clear_about_their_names(
    grid: Callable[[], InProcessGrid], reason: str
) -> None:
    with pytest.raises(RoundError, match=reason):
        discover(grid(), 2, timeout_s=1, poll_s=0.01)


def good(message: Message, partition: int) -> RecordDict:
    """An answer that says in its round who was asked what."""
    asked = dict(message.content[FACTS_RECORD])
    values = {
        "site": f"site-{partition + 1}",
        "round": int(asked["round"]),
        "weights": '{"text": 2.0}',
        "counts": "{}",
        "spec_digest": str(asked["spec_digest"]),
        "fingerprint_digest": "f",
    }
    return tensors_record({"text.w": np.full((2,), partition, np.float32)}, values)


def exchange(grid: InProcessGrid, sites: int = 3) -> dict[str, Update | Refusal]:
    instruction = Instruction(1, 1, {"text.w": np.zeros(2, np.float32)}, "{}", 7, "digest", Fingerprint({}))
    nodes = {f"site-{number + 1}": 1001 + number for number in range(sites)}
    return dict(GridTransport(sent_once(grid, nodes)).exchange(dict.fromkeys(nodes, instruction), timeout_s=30))


class Shuffling(InProcessGrid):
    """Replies come in another order, as if from the link itself, and among them one to a question of nobody."""

    def pull_messages(self, message_ids: Iterable[str]) -> Iterable[Message]:
        replies = list(super().pull_messages(message_ids))
        random.Random(4).shuffle(replies)
        for reply in replies:
            reply.metadata.__dict__["_src_node_id"] = 1
        stray = Message(RecordDict(), dst_node_id=1001, message_type="train")
        stray.metadata.__dict__["_reply_to_message_id"] = "another run's"
        return [stray, *replies]


def test_replies_are_matched_by_the_message_that_they_answer() -> None:
    answers = exchange(Shuffling(app_of(named, good), 3))
    assert set(answers) == {"site-1", "site-2", "site-3"}
    for number, site in enumerate(sorted(answers)):
        update = answers[site]
        assert isinstance(update, Update)
        assert update.site == site
        assert update.deltas["text.w"].tolist() == [number, number]


def test_a_silent_site_is_not_in_the_result() -> None:
    assert set(exchange(Silent(app_of(named, good), 3))) == {"site-1", "site-2"}


def array(content: bytes, stype: str = "numpy.ndarray") -> RecordDict:
    record = ArrayRecord({PACKED: Array(dtype="uint8", shape=(2,), stype=stype, data=content)})
    answer = {
        "site": "site-2",
        "round": 1,
        "weights": "{}",
        "counts": "{}",
        "spec_digest": "",
        "fingerprint_digest": "",
    }
    return RecordDict({FACTS_RECORD: ConfigRecord(answer), TENSORS_RECORD: record})


def pickled() -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, np.array([{"code": "run"}], dtype=object), allow_pickle=True)
    return buffer.getvalue()


def saved(content: np.ndarray[Any, Any]) -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, content)
    return buffer.getvalue()


def with_facts(message: Message, **changes: Any) -> RecordDict:
    content = good(message, 1)
    content[FACTS_RECORD] = ConfigRecord({**dict(content[FACTS_RECORD]), **changes})
    return content


ODD: dict[str, Callable[[Message], RecordDict]] = {
    "nothing": lambda _m: RecordDict(),
    "tensors only": lambda m: RecordDict({TENSORS_RECORD: good(m, 1)[TENSORS_RECORD]}),
    "facts only": lambda m: RecordDict({FACTS_RECORD: good(m, 1)[FACTS_RECORD]}),
    "records in each other's place": lambda m: RecordDict(
        {FACTS_RECORD: ArrayRecord(), TENSORS_RECORD: ConfigRecord()}
    ),
    "pickled objects": lambda _m: array(pickled()),
    "no safetensors": lambda _m: array(saved(np.arange(9, dtype=np.uint8))),
    "numbers in the place of bytes": lambda _m: array(saved(np.zeros(9, dtype=np.float32))),
    "no bytes": lambda _m: array(saved(np.zeros(0, dtype=np.uint8))),
    "no numpy format": lambda _m: array(b"these are no arrays"),
    "empty array": lambda _m: array(b""),
    "another serialisation": lambda _m: array(b"", stype="torch.tensor"),
    "weights that are no JSON": lambda m: with_facts(m, weights="}{"),
    "weights that are a list": lambda m: with_facts(m, weights="[1, 2]"),
    "weights nested without end": lambda m: with_facts(m, weights="[" * 100_000),
    "a round without end": lambda m: with_facts(m, round=float("inf")),
    "a round of words": lambda m: with_facts(m, round="first"),
}


@pytest.mark.parametrize("odd", ODD)
def test_an_odd_answer_of_one_site_is_its_refusal_and_does_not_touch_the_others(odd: str) -> None:
    answers = exchange(InProcessGrid(app_of(named, lambda m, p: ODD[odd](m) if p == 1 else good(m, p)), 3))
    refusal = answers["site-2"]
    assert isinstance(refusal, Refusal), refusal
    assert refusal.code.startswith("malformed answer (")
    assert isinstance(answers["site-1"], Update) and isinstance(answers["site-3"], Update)


def test_a_site_that_raises_is_a_refusal_with_flowers_error_code() -> None:
    answers = exchange(InProcessGrid(app_of(named, lambda m, p: fails(m, p) if p == 1 else good(m, p)), 3))
    assert answers["site-2"] == Refusal("site-2", 1, "transport error 2")


def test_a_refusal_is_cut_short() -> None:
    answers = exchange(InProcessGrid(app_of(named, lambda _m, _p: facts(refusal="x" * 10_000)), 1), sites=1)
    assert answers["site-1"] == Refusal("site-1", 1, "x" * 400)


def test_every_code_of_a_policy_at_once_comes_through_whole() -> None:
    codes = ", ".join(sorted(POLICY_CODES))
    answers = exchange(InProcessGrid(app_of(named, lambda _m, _p: facts(refusal=codes)), 1), sites=1)
    assert answers["site-1"] == Refusal("site-1", 1, codes)


@pytest.mark.parametrize(("last", "kept"), [(9, 40), (10, 40), (11, 39)])
def test_codes_that_do_not_fit_are_left_out_whole(last: int, kept: int) -> None:
    # 39 codes and what is between them make 388 characters; a fortieth of 10 fits exactly.
    codes = ["x" * 8] * 39 + ["y" * last] + ["z" * 8] * 5
    answers = exchange(InProcessGrid(app_of(named, lambda _m, _p: facts(refusal=", ".join(codes))), 1), sites=1)
    assert answers["site-1"] == Refusal("site-1", 1, ", ".join(codes[:kept]))


def test_nodes_do_not_share_the_content_of_a_message() -> None:
    seen: list[list[float]] = []

    def spoiling(message: Message, partition: int) -> RecordDict:
        seen.append(tensors_of(message.content)["text.w"].tolist())
        message.content[TENSORS_RECORD][PACKED] = Array(np.zeros(2, np.uint8))
        return good(message, partition)

    exchange(InProcessGrid(app_of(named, spoiling), 3))
    assert seen == [[0.0, 0.0]] * 3


def test_error_replies_of_the_grid_carry_no_text() -> None:
    crossed: list[Message] = []
    exchange(InProcessGrid(app_of(named, fails), 1, tap=crossed.append), sites=1)
    (error,) = [message.error for message in crossed if message.has_error()]
    assert isinstance(error, Error)
    assert error.reason == "ValueError"
