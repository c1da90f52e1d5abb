"""What a model configuration amounts to: parameters, what of them trains, what travels, and one training step."""

from __future__ import annotations

import time
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from more_model.data.study import Split, Triplet
from more_model.exchange import TOWERS
from more_model.lora_method import LoraMethod, scheduled
from more_model.model.config import ModelConfig
from more_model.model.inventory import exchange_spec, take_inventory
from more_model.model.lora import adapt
from more_model.model.more import More, build_more
from more_model.tokenizer import load_tokenizer, train_tokenizer
from more_model.training.examples import Examples
from more_model.training.loop import Segment, build_optimiser, train_segment
from more_model.training.settings import TrainingSettings

_SEED = 0


@dataclass(frozen=True, slots=True)
class StepReport:
    """One optimiser step on the CPU over three random triplets: one full, one X-ray only, one ECG only."""

    loss: float
    xray_pairs: int
    ecg_pairs: int
    seconds: float


@dataclass(frozen=True, slots=True)
class Description:
    """Counts of one adapted model. ``tensors_of`` counts the tensors that go down in a round, as float32, per exchange
    group; with some LoRA methods fewer come up, ``bytes_up`` is the mean of an odd and an even round.
    ``full_model_bytes`` is what exchanging every parameter would take."""

    name: str
    method: LoraMethod
    ecg_tokens: int
    parameters: int
    trainable: int
    trainable_fraction: float
    text_parameters: int
    text_trainable: int
    text_trainable_fraction: float
    tensors_of: dict[str, int]
    bytes_down: int
    bytes_up: int
    full_model_bytes: int
    exchanged_share: float
    spec_digest: str
    architecture_digest: str
    step: StepReport | None = None


def describe(config: ModelConfig, method: LoraMethod, *, training_step: bool = False) -> Description:
    """Build the model of ``config`` with adapters and say what it amounts to.

    Without ``training_step`` and local weights no memory is spent on tensors. The step needs memory for the whole model
    and, where ``text.path`` is set, the tokenizer files in that folder; else a toy tokenizer serves.

    Raises:
        EnvironmentFault: local weights or a tokenizer that are configured are not there.
        ConfigError: a LoRA target names no module.
    """
    local = (config.text.path, config.xray.weights, config.ecg.weights)
    only_shapes = not training_step and not any(local)
    tokenizer = _tokenizer(config) if training_step else None
    with torch.device("meta") if only_shapes else nullcontext():
        model = build_more(config, seed=_SEED, pad_id=0 if tokenizer is None else int(tokenizer.pad_token_id))
        adapt(model, config, method, _SEED)
    # Counted before the step, so that nothing the step does can show in the counts.
    inventory, spec = take_inventory(model), scheduled(exchange_spec(model), method)
    return Description(
        name=config.name,
        method=method,
        ecg_tokens=config.ecg_tokens,
        parameters=inventory.total,
        trainable=inventory.trainable,
        trainable_fraction=inventory.trainable_fraction,
        text_parameters=inventory.text_total,
        text_trainable=inventory.text_trainable,
        text_trainable_fraction=inventory.text_trainable_fraction,
        tensors_of={tower: len(spec.of_towers([tower])) for tower in TOWERS},
        bytes_down=spec.nbytes,
        bytes_up=(spec.upward(1).nbytes + spec.upward(2).nbytes) // 2,
        full_model_bytes=inventory.full_model_bytes,
        exchanged_share=inventory.exchanged_share,
        spec_digest=spec.digest(),
        architecture_digest=config.digest(),
        step=None if tokenizer is None else _one_step(model, config, tokenizer),
    )


def _one_step(model: More, config: ModelConfig, tokenizer: Any) -> StepReport:
    settings = TrainingSettings(batch_size=4, device="cpu", precision="float32", joint_probability=1.0)
    optimiser = build_optimiser(model, settings)
    started = time.perf_counter()
    report = train_segment(
        model,
        optimiser,
        random_triplets(config),
        settings,
        Segment(0, 1, 1),
        tokenizer=tokenizer,
        max_tokens=config.text.max_tokens,
        seed=_SEED,
    )
    return StepReport(report.loss, report.xray_pairs, report.ecg_pairs, time.perf_counter() - started)


@dataclass(frozen=True, slots=True)
class _Noise:
    """Arrays as a site store would hold them, without any meaning."""

    xrays: np.ndarray[Any, Any]
    ecgs: np.ndarray[Any, Any]


def random_triplets(config: ModelConfig) -> Examples:
    """Three random triplets in the shapes of ``config``: a full one, one without ECG, one without X-ray."""
    generator = np.random.default_rng(_SEED)
    size, samples = config.preprocessing.image_size, config.preprocessing.ecg_samples
    noise = _Noise(
        xrays=generator.integers(0, 256, (2, size, size), dtype=np.uint8),
        ecgs=generator.normal(0, 0.3, (2, 12, samples)).astype(np.float16),
    )
    words = ("The heart is enlarged.", "The lungs are clear."), ("Sinus rhythm.", "Atrial fibrillation.")
    triplets = [
        Triplet("a", "nowhere", Split.TRAIN, 0, 0, words[0][0], words[1][0]),
        Triplet("b", "nowhere", Split.TRAIN, 1, None, words[0][1], None),
        Triplet("c", "nowhere", Split.TRAIN, None, 1, None, words[1][1]),
    ]
    return Examples.of(triplets, noise)


def _tokenizer(config: ModelConfig) -> Any:
    if config.text.path is not None:
        return load_tokenizer(config.text.path)
    return train_tokenizer(
        ["chest x-ray report: heart lungs clear", "ecg report: sinus rhythm"], config.text.vocabulary
    )


def as_text(description: Description) -> str:
    """The description as lines for a terminal."""
    fewer = 100 * (1 - description.text_trainable_fraction)
    tensors = ", ".join(f"{tower} {count}" for tower, count in description.tensors_of.items() if count)
    lines = [
        ("model", f"{description.name}, LoRA method {description.method}, {description.ecg_tokens} ECG tokens"),
        ("parameters", f"{description.parameters:,}"),
        ("trainable", f"{description.trainable:,} ({100 * description.trainable_fraction:.3f} %)"),
        (
            "text encoder",
            f"{description.text_trainable:,} of {description.text_parameters:,} trainable "
            f"({100 * description.text_trainable_fraction:.3f} %, {fewer:.1f} % fewer)",
        ),
        ("tensors", f"{sum(description.tensors_of.values())} ({tensors})"),
        ("bytes down", f"{description.bytes_down:,} per site and round ({_mib(description.bytes_down)})"),
        ("bytes up", f"{description.bytes_up:,} per site and round ({_mib(description.bytes_up)})"),
        (
            "full model",
            f"{description.full_model_bytes:,} bytes ({_mib(description.full_model_bytes)}); "
            f"the exchange is {100 * description.exchanged_share:.2f} % of it",
        ),
        ("spec digest", description.spec_digest),
        ("architecture", description.architecture_digest),
    ]
    if description.step is not None:
        step = description.step
        pairs = f"{step.xray_pairs} text-X-ray pairs, {step.ecg_pairs} text-ECG pairs"
        lines.append(("training step", f"loss {step.loss:.4f} over {pairs}, {step.seconds:.1f} s on the CPU"))
    return "\n".join(f"{name:<18}{value}" for name, value in lines)


def _mib(count: int) -> str:
    return f"{count / 2**20:.1f} MiB"
