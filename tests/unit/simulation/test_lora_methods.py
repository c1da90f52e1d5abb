"""Every LoRA method over the in-process grid: what travels in which round, what moves, what a checkpoint gives back."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest
from flwr.app import Message

from client.flower_messages import tensors_of as read
from more_model.checkpoint import load_checkpoint
from more_model.errors import ConfigError
from more_model.exchange import ExchangeSpec, TensorDict, Tensors
from more_model.lora_method import factor_of
from more_model.model.inventory import export_tensors
from server.journal import RoundRecord
from simulation.flower_federation import client_app, train_over_grid
from simulation.flower_inprocess import InProcessGrid
from simulation.settings import load_run_config
from simulation.workbench import Workbench


@dataclass(frozen=True)
class Federated:
    """A finished federated arm: global tensors before round 1, after it and after round 2, and the names that came up
    from each site in each round."""

    bench: Workbench
    spec: ExchangeSpec
    global_tensors: list[TensorDict]
    up: dict[int, list[list[str]]]
    records: list[RoundRecord]
    reloaded: TensorDict

    def moved(self, number: int) -> set[str | None]:
        """Which factors (None: other tensors) a round changed; a residual is no factor but is named."""
        before, after = self.global_tensors[number - 1], self.global_tensors[number]
        return {_kind(name) for name in before if not np.array_equal(before[name], after[name])}


def _kind(name: str) -> str | None:
    return "residual" if name.endswith(".lora_residual") else factor_of(name)


def _tensors(message: Message) -> TensorDict:
    return read(message.content)


@pytest.fixture
def federate(miniature_bench: Workbench, tmp_path: Path) -> Callable[[str], Federated]:
    def run(method: str) -> Federated:
        choice = miniature_bench.config.federation.model_copy(update={"method": method})
        config = miniature_bench.config.model_copy(update={"federation": choice})
        bench = replace(miniature_bench, config=config, folder=tmp_path)
        messages: list[Message] = []
        grid = InProcessGrid(client_app(bench), 3, tap=lambda message: messages.append(copy.deepcopy(message)))
        trained, records = train_over_grid(bench, grid, "federated", 3)
        rounds = [m for m in messages if m.metadata.message_type == "train"]
        down = [m for m in rounds if not m.metadata.reply_to_message_id]
        up: dict[int, list[list[str]]] = {1: [], 2: []}
        for message in rounds:
            if message.metadata.reply_to_message_id:
                up[int(message.content["facts"]["round"])].append(list(_tensors(message)))
        first, second = (next(m for m in down if m.content["facts"]["round"] == number) for number in (1, 2))
        bench.save_checkpoint(trained.model, tmp_path / "arm.safetensors")
        reloaded = export_tensors(load_checkpoint(tmp_path / "arm.safetensors", base=bench.base_folder).model)
        last = export_tensors(trained.model)
        tensors = [_tensors(first), _tensors(second), last]
        return Federated(bench, bench.assembled().spec, tensors, up, records, reloaded)

    return run


def orthonormal(tensors: Tensors) -> bool:
    factors = [array for name, array in tensors.items() if factor_of(name) == "A"]
    return bool(factors) and all(np.allclose(a @ a.T, np.eye(len(a)), atol=1e-4) for a in factors)


#: What a round moves: B is zero in round 1, so an A that trains beside it has no gradient yet but weight decay.
MOVED = {
    "rolora": ({None, "B"}, {None, "A"}),
    "fedsvd": ({None, "A", "B"}, {None, "A", "B"}),
    "flexlora": ({None, "A", "B"}, {None, "A", "B"}),
    "fedex": ({None, "A", "B", "residual"}, {None, "A", "B", "residual"}),
}


@pytest.mark.parametrize("method", MOVED)
def test_a_run_with_every_method_sends_up_what_its_round_allows_and_ends(
    federate: Callable[[str], Federated], method: str
) -> None:
    run = federate(method)
    assert all(part.state == "accepted" for record in run.records for part in record.sites)
    for number in (1, 2):
        names = sorted(tensor.name for tensor in run.spec.upward(number).tensors)
        assert run.up[number] == [names] * 3
        assert run.records[number - 1].bytes_up == 3 * run.spec.upward(number).nbytes
        assert run.moved(number) == MOVED[method][number - 1]
    for tensors in run.global_tensors:
        assert sorted(tensors) == sorted(tensor.name for tensor in run.spec.tensors)
    assert orthonormal(run.global_tensors[-1]) is (method in ("fedsvd", "flexlora"))
    last = run.global_tensors[-1]
    assert all(np.array_equal(last[name], run.reloaded[name]) for name in last)


def test_methods_that_cannot_run_as_configured_are_refused_when_the_configuration_is_read(
    write_miniature: Callable[..., Path], tmp_path: Path
) -> None:
    def config(**federation: object) -> Path:
        return write_miniature(tmp_path, {"federation": federation})

    assert load_run_config(config(method="rolora")).federation.method == "rolora"
    with pytest.raises(ConfigError, match="3 rounds are not an even number"):
        load_run_config(config(method="rolora", rounds={"rounds": 3}))
    with pytest.raises(ConfigError, match="federation"):
        load_run_config(config(method="flora"))
    private = {"mode": "hospital", "noise_multiplier": 1.0, "delta": 1e-5,
               "public_weights": {"site-1": 0.4, "site-2": 0.3, "site-3": 0.3}}  # fmt: skip
    for method in ("flexlora", "fedex"):
        path = write_miniature(tmp_path, {"federation": {"method": method}, "privacy": private})
        with pytest.raises(ConfigError, match=f"federation.method '{method}': it multiplies each site's own B and A"):
            load_run_config(path)
        path = write_miniature(tmp_path, {"federation": {"method": method, "secure_sum": {}}})
        with pytest.raises(
            ConfigError, match=f"aggregation '{method}': it combines each site's A with the same site's B"
        ):
            load_run_config(path)
    load_run_config(write_miniature(tmp_path, {"federation": {"method": "fedsvd"}, "privacy": private}))
