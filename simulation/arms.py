"""The arms without a federation: all data in one place, or one hospital alone. An interrupted one goes on."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file

from more_model.errors import RoundError
from more_model.model.inventory import export_tensors, import_tensors
from more_model.model.more import More
from more_model.training.loop import Segment, build_optimiser, train_segment
from more_model.training.seeds import derived_seed
from simulation.workbench import Workbench


@dataclass(frozen=True, slots=True)
class CurvePoint:
    """One segment of one arm: its mean training loss and the zero-shot macro AUROC on validation patients. ``watched``
    is what `more_model.evaluation.signatures.examine` reads of a segment."""

    segment: int
    loss: float | None
    macro_auroc: float | None
    watched: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class TrainedArm:
    """A trained model and how it got there."""

    model: More
    curve: tuple[CurvePoint, ...]


def train_alone(bench: Workbench, arm: str, seed: int, site: str | None) -> TrainedArm:
    """Train on the pooled data (``site`` None) or on one site's, for as many segments as a federation has rounds.

    A segment is as many epochs as a federated round at a site, so every arm sees each patient equally often. The state
    after each segment is kept under ``folder/arms/<arm>``; a later call with the same folder goes on from there.
    """
    folder = bench.folder / "arms" / arm
    folder.mkdir(parents=True, exist_ok=True)
    assembled = bench.assembled()
    # FedProx belongs to the federation; a baseline that is pulled back to where it was would be a weaker baseline.
    model, settings = assembled.model, bench.config.training.model_copy(update={"proximal_mu": 0.0})
    optimiser = build_optimiser(model, settings)
    examples = bench.training_examples(site)
    identity = f"{assembled.spec.digest()} {assembled.fingerprint.digest()} {examples.digest()}"
    curve = _resumed(folder, model, optimiser, identity)
    count = bench.config.federation.rounds.rounds
    for index in range(len(curve), count):
        report = train_segment(
            model,
            optimiser,
            examples,
            settings,
            Segment(index, count, bench.config.federation.local_epochs),
            tokenizer=bench.scorer.tokenizer,
            max_tokens=bench.scorer.max_tokens,
            seed=derived_seed(seed, arm, index),
            on_step=_reporter(bench, arm, index, count),
        )
        # Local arms are not drawn over time: there are many, and each point costs an evaluation.
        metric, by_modality = bench.scorer.validation_aurocs(model) if site is None else (None, {})
        curve.append(CurvePoint(index + 1, report.loss, metric, {**report.watched, **by_modality}))
        _keep(folder, model, optimiser, curve, identity)
    return TrainedArm(model, tuple(curve))


def _reporter(bench: Workbench, arm: str, index: int, count: int) -> Callable[[int, int], None]:
    return lambda done, steps: bench.on_progress(arm, index * steps + done, count * steps)


def _keep(folder: Path, model: More, optimiser: torch.optim.Optimizer, curve: list[CurvePoint], identity: str) -> None:
    tensors = {f"model.{name}": torch.from_numpy(value) for name, value in export_tensors(model).items()}
    for number, state in optimiser.state_dict()["state"].items():
        tensors |= {f"optimiser.{number}.{key}": value.cpu().clone() for key, value in state.items()}
    facts = {"curve": json.dumps([asdict(point) for point in curve]), "identity": identity}
    temporary = folder / "state.part"
    save_file(tensors, temporary, metadata=facts)
    temporary.replace(folder / "state.safetensors")


def _resumed(folder: Path, model: More, optimiser: torch.optim.Optimizer, identity: str) -> list[CurvePoint]:
    path = folder / "state.safetensors"
    if not path.is_file():
        return []
    facts = _metadata(path)
    if facts.get("identity") != identity:
        raise RoundError(
            f"{path} belongs to another base, model, LoRA method or set of patients",
            remedy="resume with the configuration that the run was started with, or give another folder",
        )
    tensors = load_file(path)
    import_tensors(model, {n.removeprefix("model."): t.numpy() for n, t in tensors.items() if n.startswith("model.")})
    state: dict[int, dict[str, Any]] = {}
    for name, tensor in tensors.items():
        if name.startswith("optimiser."):
            _, number, key = name.split(".")
            state.setdefault(int(number), {})[key] = tensor
    optimiser.load_state_dict({**optimiser.state_dict(), "state": state})
    return [CurvePoint(**point) for point in json.loads(facts["curve"])]


def _metadata(path: Path) -> dict[str, str]:
    from safetensors import safe_open

    with safe_open(path, framework="pt") as file:
        return dict(file.metadata() or {})
