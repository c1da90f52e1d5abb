"""A base from a model configuration: local pretrained weights where it names some, everything else from a seed."""

from __future__ import annotations

from typing import Any

from more_model.base import Base
from more_model.model.config import ModelConfig
from more_model.model.more import build_more
from more_model.training.seeds import derived_seed


def local_base(config: ModelConfig, tokenizer: Any, seed: int) -> Base:
    """``xray.weights`` and ``ecg.weights`` may be timm vision transformers, ``text.path`` a Hugging Face folder.

    Raises:
        EnvironmentFault: such a file or folder is not there, or is not of the configured architecture.
    """
    built = build_more(config, seed=derived_seed(seed, "base"), pad_id=int(tokenizer.pad_token_id))
    given = [name for name in ("xray", "ecg") if getattr(config, name).weights] + (["text"] if config.text.path else [])
    origin = f"local pretrained weights for {', '.join(given)}" if given else "random weights from a seed"
    return Base(config, built, tokenizer, f"The base has {origin}; nothing was warmed up.")
