"""The text encoder: any Hugging Face encoder or decoder-only model from a local folder, or a seeded RoBERTa."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from torch import Tensor, nn
from torch.nn import functional
from transformers import AutoConfig, AutoModel, RobertaConfig, RobertaModel
from transformers.models.auto.modeling_auto import (
    MODEL_FOR_CAUSAL_LM_MAPPING_NAMES,
    MODEL_FOR_MASKED_LM_MAPPING_NAMES,
)

from more_model.errors import ConfigError, EnvironmentFault
from more_model.model.config import TextTower

_WHOLE_FOLDER = "give a folder with config.json, model.safetensors and the tokenizer files"
_COUNT_FROM_PAD = ("roberta", "xlm-roberta")


class TextEncoder(nn.Module):
    """Token ids -> one feature vector a text. ``pooling`` is ``mean`` (masked), ``last`` or ``mean-all``; the latter
    counts every text as ``padded_tokens`` long where that is given, which must be no less than the longest one."""

    def __init__(self, encoder: Any, pooling: str, padded_tokens: int | None = None) -> None:
        super().__init__()
        self.encoder: Any = encoder
        self.pooling = pooling
        self.padded_tokens = padded_tokens

    def forward(self, ids: Tensor, mask: Tensor) -> Tensor:
        """``ids``, ``mask``: [n, tokens], mask 1 on words and 0 on padding (on the right) -> features [n, width]."""
        if self.pooling == "mean-all":
            return self._mean_of_all(ids, mask)
        if len(ids) == 0:
            return torch.zeros((0, int(self.encoder.config.hidden_size)), device=ids.device)
        lengths = mask.sum(dim=1).clamp(min=1)
        order = torch.argsort(lengths, stable=True)
        parts = [
            self._pooled(ids[rows, : int(lengths[rows].max())], mask[rows, : int(lengths[rows].max())])
            for rows in torch.split(order, _shorter_rows(lengths[order].tolist()))
        ]
        return torch.cat(parts)[torch.argsort(order)]

    @property
    def most_tokens(self) -> int | None:
        """Positions that there are for a text, where their number is limited."""
        return _positions(self.encoder.config)

    def at_width(self, ids: Tensor, mask: Tensor, tokens: int) -> Tensor:
        """As `forward`, but all texts are cut or padded to exactly ``tokens`` positions: what is computed for a text
        then depends on that text and on ``tokens``, not on how long the others are. No text may be longer."""
        pad = getattr(self.encoder.config, "pad_token_id", None) or 0
        room = (0, tokens - ids.shape[1])  # below zero it cuts
        mask = functional.pad(mask, room)
        ids = functional.pad(ids, room).where(mask.bool(), pad)
        return self._mean_of_all(ids, mask) if self.pooling == "mean-all" else self._pooled(ids, mask)

    def _mean_of_all(self, ids: Tensor, mask: Tensor) -> Tensor:
        if self.padded_tokens is None or ids.shape[1] == self.padded_tokens:
            pooled: Tensor = self.encoder(input_ids=ids, attention_mask=mask).last_hidden_state.mean(dim=1)
            return pooled
        # All padded positions of a text are alike, as RoBERTa gives them one position number: one of them is computed
        # and counted as many times as there would be.
        ids = functional.pad(ids, (0, 1), value=int(self.encoder.config.pad_token_id))
        mask = functional.pad(mask, (0, 1))
        states: Tensor = self.encoder(input_ids=ids, attention_mask=mask).last_hidden_state
        weight = mask.to(states.dtype)
        weight[:, -1] = self.padded_tokens - weight.sum(dim=1)
        return (states * weight[..., None]).sum(dim=1) / self.padded_tokens

    def _pooled(self, ids: Tensor, mask: Tensor) -> Tensor:
        states: Tensor = self.encoder(input_ids=ids, attention_mask=mask).last_hidden_state
        if self.pooling == "last":
            last = mask.sum(dim=1).clamp(min=1) - 1
            return states[torch.arange(len(states), device=states.device), last]
        weight = mask.to(states.dtype)[..., None]
        return (states * weight).sum(dim=1) / weight.sum(dim=1).clamp(min=1)


def _shorter_rows(ascending: Sequence[int]) -> list[int]:
    """How to cut texts, sorted by length, into at most two groups so that the fewest padded positions are computed:
    prompts and ECG statements are a fraction of the length of an X-ray report."""
    count = len(ascending)
    costs = [rows * ascending[rows - 1] + (count - rows) * ascending[-1] for rows in range(1, count)]
    whole = count * ascending[-1]
    if not costs or min(costs) > 0.8 * whole:
        return [count]
    shorter = costs.index(min(costs)) + 1
    return [shorter, count - shorter]


def build_text_encoder(tower: TextTower, pad_id: int) -> tuple[TextEncoder, int]:
    """The encoder and its width. ``pad_id`` matters for a seeded RoBERTa, which numbers positions from it.

    Raises:
        EnvironmentFault: ``path`` holds no model that can be loaded without a network.
        ConfigError: ``max_tokens`` is more than that model has positions for, or ``padded_tokens`` is set for a model
            that numbers the positions of padding.
    """
    if tower.path is None:
        return TextEncoder(_seeded_roberta(tower, pad_id), _pooling(tower, None), tower.padded_tokens), tower.width
    if not (tower.path / "config.json").is_file():
        raise EnvironmentFault(
            f"text.path: {tower.path} is not a Hugging Face model folder (it has no config.json)",
            remedy=_WHOLE_FOLDER,
        )
    encoder, config = _from_folder(tower.path)
    positions = _positions(config)
    if positions is not None and tower.max_tokens > positions:
        raise ConfigError("text.max_tokens", [f"{tower.max_tokens} is more than the {positions} of {tower.path.name}"])
    if tower.padded_tokens is not None and config.model_type not in _COUNT_FROM_PAD:
        raise ConfigError("text.padded_tokens", [f"only RoBERTa pads alike at any length, not {config.model_type}"])
    return TextEncoder(encoder, _pooling(tower, config), tower.padded_tokens), int(config.hidden_size)


def _from_folder(folder: Path) -> tuple[Any, Any]:
    local: dict[str, Any] = {"local_files_only": True}
    try:
        config = AutoConfig.from_pretrained(folder, **local)
        extra = {"add_pooling_layer": False} if config.model_type in ("bert", *_COUNT_FROM_PAD) else {}
        encoder, loading = AutoModel.from_pretrained(
            folder, use_safetensors=True, dtype=torch.float32, output_loading_info=True, **local, **extra
        )
    except (OSError, ValueError, RuntimeError, SafetensorError) as error:
        # Transformers has no error of its own for a folder that it cannot use.
        first = str(error).strip().split("\n")[0]
        raise EnvironmentFault(f"text.path: {folder} cannot be loaded: {first}", remedy=_WHOLE_FOLDER) from error
    # A pooler is never used here, and folders saved for masked words have none.
    missing = sorted(name for name in loading["missing_keys"] if "pooler" not in name)
    if missing:
        raise EnvironmentFault(
            f"text.path: {folder} lacks {len(missing)} tensors of its own architecture, first {missing[0]}",
            remedy=_WHOLE_FOLDER,
            avoid="load a part of them: the rest would be random without anyone noticing",
        )
    return encoder, config


def _positions(config: Any) -> int | None:
    positions = getattr(config, "max_position_embeddings", None)
    if positions is None:
        return None
    # Those count from pad_token_id + 1; the rows before are never used.
    unused = config.pad_token_id + 1 if config.model_type in _COUNT_FROM_PAD else 0
    return int(positions) - int(unused)


def _seeded_roberta(tower: TextTower, pad_id: int) -> RobertaModel:
    config = RobertaConfig(
        vocab_size=tower.vocabulary,
        hidden_size=tower.width,
        num_hidden_layers=tower.depth,
        num_attention_heads=tower.heads,
        intermediate_size=4 * tower.width,
        # RoBERTa counts positions from pad_id + 1.
        max_position_embeddings=tower.max_tokens + pad_id + 1,
        type_vocab_size=1,
        pad_token_id=pad_id,
        hidden_dropout_prob=tower.dropout,
        attention_probs_dropout_prob=tower.dropout,
        layer_norm_eps=tower.norm_eps,
        attn_implementation="sdpa",
    )
    return RobertaModel(config, add_pooling_layer=False)


def _pooling(tower: TextTower, config: Any) -> str:
    if tower.pooling != "auto":
        return tower.pooling
    return "last" if config is not None and is_decoder_only(config) else "mean"


def is_decoder_only(config: Any) -> bool:
    """Whether a Hugging Face configuration belongs to a decoder-only language model."""
    kind = config.model_type
    return kind in MODEL_FOR_CAUSAL_LM_MAPPING_NAMES and kind not in MODEL_FOR_MASKED_LM_MAPPING_NAMES
