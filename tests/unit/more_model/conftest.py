"""A model of a few thousand parameters, a tokenizer, learnable toy examples, and tiny Hugging Face folders."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

if TYPE_CHECKING:
    from more_model.model.config import ModelConfig
    from more_model.training.examples import Examples

Overrides = dict[str, Any]

# Smaller than any preset, and every size is named, so that no test depends on what a preset happens to say.
SMALL: Overrides = {
    "name": "test",
    "normalisation": "layer",
    "preprocessing": {"image_size": 16, "ecg_rate_hz": 50, "ecg_seconds": 1},
    "xray": {"width": 16, "depth": 2, "heads": 2, "mlp_ratio": 2.0, "patch_size": 8, "channels": 1},
    "ecg": {
        "width": 16, "depth": 2, "heads": 2, "mlp_ratio": 2.0,
        "channels": 8, "kernel": 5, "stride": 5, "second_stride": 2, "train_tokeniser": True,
    },
    "text": {
        "width": 16, "depth": 2, "heads": 2,
        "vocabulary": 320, "max_tokens": 64, "dropout": 0.0, "pooling": "auto",
    },
    "heads": {"hidden": 16, "embedding": 8},
    "lora": {
        "rank": 2, "alpha": 4.0, "dropout": 0.0, "text_bias": "none",
        "xray_targets": ["qkv"], "ecg_targets": ["qkv"], "text_targets": ["query", "value"],
    },
    "dropkey": {"rate": 0.2, "schedule": "linear"},
    "temperature": {"initial": 0.1, "learned": False},
}  # fmt: skip

FINDINGS = ("clear lungs", "large heart", "left effusion", "right pneumothorax")
RHYTHMS = ("sinus rhythm", "atrial fibrillation", "left bundle branch block", "old infarction")


@pytest.fixture(scope="session")
def tiny_config() -> Callable[..., ModelConfig]:
    """A builder: nested overrides as keywords, laid over the sizes above."""
    from more_model.model.config import preset

    def build(**overrides: Overrides | str) -> ModelConfig:
        merged: Overrides = dict(SMALL)
        for key, value in overrides.items():
            merged[key] = {**SMALL.get(key, {}), **value} if isinstance(value, dict) else value
        return preset("tiny", merged)

    return build


@pytest.fixture(scope="session")
def tokenizer() -> Any:
    """As many words as the smallest text tower has rows for."""
    from more_model.tokenizer import train_tokenizer

    return train_tokenizer([*FINDINGS, *RHYTHMS, "chest x-ray report:", "ecg report:"], 320)


@dataclass(frozen=True)
class ToyArrays:
    xrays: np.ndarray[Any, Any]
    ecgs: np.ndarray[Any, Any]


@pytest.fixture(scope="session")
def toy_examples() -> Callable[..., Examples]:
    """A builder of ``count`` patients.

    Finding ``i % 4`` shows in the picture as dots, lines or brightness, in the tracing as three leads that beat, and in
    the words. Every third patient lacks the ECG and every third the X-ray if ``partial``.
    """
    from more_model.data.study import Split, Triplet
    from more_model.training.examples import Examples

    def build(count: int, *, partial: bool = True, seed: int = 0, site: str = "north") -> Examples:
        generator = np.random.default_rng(seed)
        xrays = generator.integers(0, 60, (count, 16, 16), dtype=np.uint8)
        ecgs = generator.normal(0, 0.05, (count, 12, 50))
        triplets = []
        for row in range(count):
            kind = row % 4
            xrays[row, :: 2 - kind % 2, :: 2 - kind // 2] += 180
            ecgs[row, 3 * kind : 3 * kind + 3] += np.sin(np.linspace(0, 10 * np.pi, 50))
            has_xray = not partial or row % 3 != 1
            has_ecg = not partial or row % 3 != 2
            triplets.append(
                Triplet(
                    patient_id=f"{site}-{row}",
                    site=site,
                    split=Split.TRAIN,
                    xray=row if has_xray else None,
                    ecg=row if has_ecg else None,
                    xray_report=FINDINGS[kind] if has_xray else None,
                    ecg_report=RHYTHMS[kind] if has_ecg else None,
                )
            )
        return Examples.of(triplets, ToyArrays(xrays, ecgs.astype(np.float16)))

    return build


@pytest.fixture(scope="session")
def text_folder(tmp_path_factory: pytest.TempPathFactory, tokenizer: Any) -> Callable[[str], Path]:
    """A builder: a local Hugging Face folder (weights and tokenizer) of a tiny ``bert``, ``roberta``, ``llama`` or
    ``gpt2`` of width 16 with random weights."""
    import torch
    from transformers import (
        BertConfig,
        BertModel,
        GPT2Config,
        GPT2Model,
        LlamaConfig,
        LlamaModel,
        RobertaConfig,
        RobertaModel,
    )

    sizes = {"vocab_size": 320, "hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2}
    inner = {"intermediate_size": 32, "max_position_embeddings": 96}
    makers: dict[str, Callable[[], Any]] = {
        "bert": lambda: BertModel(BertConfig(**sizes, **inner)),
        "roberta": lambda: RobertaModel(RobertaConfig(**sizes, **inner, pad_token_id=0)),
        "llama": lambda: LlamaModel(LlamaConfig(**sizes, **inner, num_key_value_heads=1)),
        "gpt2": lambda: GPT2Model(GPT2Config(vocab_size=320, n_embd=16, n_layer=2, n_head=2, n_positions=96)),
    }
    made: dict[str, Path] = {}

    def build(kind: str) -> Path:
        if kind not in made:
            folder = tmp_path_factory.mktemp(f"text-{kind}")
            with torch.random.fork_rng(devices=[]):
                torch.manual_seed(3)
                makers[kind]().save_pretrained(folder)
            tokenizer.save_pretrained(folder)
            made[kind] = folder
        return made[kind]

    return build
