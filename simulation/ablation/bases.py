"""The base that a variant starts from: the reference's wherever it would be the same, otherwise one of its own, made
once per content and kept in the run's workspace."""

from __future__ import annotations

import hashlib
import json
import math
from pathlib import Path
from typing import Any

from more_model.base import Base, load_base, save_base
from more_model.model.config import ModelConfig
from simulation.ablation.changes import left_out
from simulation.ablation.settings import AblationConfig
from simulation.ablation.variants import Variant, changed_model
from simulation.ablation.words import load_words
from simulation.warm_up import prepare_base
from simulation.workbench import Workbench


def variant_base(bench: Workbench, config: AblationConfig, variant: Variant) -> Path:
    """The base folder for ``variant``; ``bench`` is the reference's.

    A base that is warmed up is warmed up again where the variant changes the model (other than its adapters) or what
    is trained on; one from a seed is built again where it changes the model; a given one keeps its weights.
    """
    return _configured(_own_weights(bench, config, variant), bench, variant)


def base_note(config: AblationConfig, variant: Variant) -> str | None:
    """What cannot be promised about the base of ``variant``, or None."""
    if config.base.kind == "warm-up":
        return None
    if variant.unseen is not None:
        return (
            "What the base and its tokenizer were made from was not filtered: they may have read of these conditions."
        )
    if variant.missing is not None and config.base.kind == "path":
        return "The given base may have been trained on this modality."
    if variant.model.keys() - {"lora"} and config.base.kind == "path":
        return "The given base was trained without this change; only what follows was trained with it."
    return None


def _own_weights(bench: Workbench, config: AblationConfig, variant: Variant) -> Path:
    if config.base.kind == "path":
        return bench.base_folder
    model = config.model.resolved()
    # Adapters come after the base; they do not make another one.
    wanted = changed_model(model, {part: values for part, values in variant.model.items() if part != "lora"})
    omitted = _omitted(variant) if config.base.kind == "warm-up" else {}
    if not omitted and wanted.digest() == model.digest():
        return bench.base_folder
    return prepare_base(
        config.base,
        wanted,
        config.training,
        _folder(bench, {"model": wanted.digest(), **omitted}),
        seed=config.seed,
        workers=config.ingest_workers,
        on_step=lambda done, total: bench.on_progress(f"{variant.name}: base", done, total),
        change=left_out(variant),
        public=bench.folder / "workspace" / "public",
    )


def _configured(folder: Path, bench: Workbench, variant: Variant) -> Path:
    """``folder``, or a copy of it with the variant's configuration beside the same weights."""
    if not variant.model:
        return folder
    base = load_base(folder)
    wanted = changed_model(base.config, variant.model)
    if wanted.digest() == base.config.digest():
        return folder
    copy = _folder(bench, {"configured": wanted.digest(), **_omitted(variant)}) / "base"
    if not (copy / "base.json").is_file():
        _start_temperature(base, wanted)
        save_base(Base(wanted, base.model, base.tokenizer, base.origin), copy)
    return copy


def _start_temperature(base: Base, wanted: ModelConfig) -> None:
    if wanted.temperature.initial != base.config.temperature.initial:
        base.model.log_temperature.data.fill_(math.log(wanted.temperature.initial))


def _omitted(variant: Variant) -> dict[str, Any]:
    if variant.unseen is not None:
        words = load_words(variant.unseen.words).labels
        return {"unseen": {label: words[label] for label in variant.unseen.labels}, "drop": variant.unseen.drop}
    return {} if variant.missing is None else {"missing": variant.missing}


def _folder(bench: Workbench, content: dict[str, Any]) -> Path:
    digest = hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()
    return bench.folder / "workspace" / "bases" / digest[:16]
