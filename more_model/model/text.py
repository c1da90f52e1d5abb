"""The text encoder: any Hugging Face encoder or decoder-only model from a local folder, or a seeded RoBERTa."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from transformers import AutoConfig, AutoModel, RobertaConfig, RobertaModel
from transformers.models.auto.modeling_auto import (
    MODEL_FOR_CAUSAL_LM_MAPPING_NAMES,
    MODEL_FOR_MASKED_LM_MAPPING_NAMES,
)

from more_model.errors import EnvironmentFault
from more_model.model.config import TextTower


class TextEncoder(nn.Module):
    """Token ids -> one feature vector a text. ``pooling`` is ``mean`` (masked), ``last`` or ``mean-all``."""

    def __init__(self, encoder: Any, pooling: str) -> None:
        super().__init__()
        self.encoder: Any = encoder
        self.pooling = pooling

    def forward(self, ids: Tensor, mask: Tensor) -> Tensor:
        """``ids``, ``mask``: [n, tokens], mask 1 on words and 0 on padding (on the right) -> features [n, width]."""
        if self.pooling == "mean-all":
            pooled: Tensor = self.encoder(input_ids=ids, attention_mask=mask).last_hidden_state.mean(dim=1)
            return pooled
        lengths = mask.sum(dim=1)
        order = torch.argsort(lengths, stable=True)
        parts = [
            self._pooled(ids[rows, : int(lengths[rows].max())], mask[rows, : int(lengths[rows].max())])
            for rows in order.split(_shorter_rows(lengths[order].tolist()))
        ]
        return torch.cat(parts)[torch.argsort(order)]

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
    """
    if tower.path is None:
        return TextEncoder(_seeded_roberta(tower, pad_id), _pooling(tower, None)), tower.width
    if not (tower.path / "config.json").is_file():
        raise EnvironmentFault(
            f"text.path: {tower.path} is not a Hugging Face model folder (it has no config.json)",
            remedy="give a folder with config.json, model.safetensors and the tokenizer files",
        )
    config = AutoConfig.from_pretrained(tower.path, local_files_only=True)
    extra = {"add_pooling_layer": False} if config.model_type in ("bert", "roberta", "xlm-roberta") else {}
    encoder = AutoModel.from_pretrained(
        tower.path, local_files_only=True, use_safetensors=True, dtype=torch.float32, **extra
    )
    return TextEncoder(encoder, _pooling(tower, config)), int(config.hidden_size)


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
