"""The model configuration of the released MoRE code: more-base with its own pooling, norms and scaling of inputs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from more_model.errors import ConfigError
from more_model.model.config import ModelConfig, preset
from more_model.settings import read_mapping

#: RoBERTa numbers positions from pad_id + 1, and the released model was trained with this one.
PAD_ID = 1

_PUBLISHED: dict[str, Any] = {
    "name": "more-released",
    "normalisation": "batch",
    "preprocessing": {"ecg_scaling": "minmax"},
    "xray": {"pixel_mean": 0.499, "pixel_std": 0.293},
    "text": {"pooling": "mean-all", "padded_tokens": 512, "norm_eps": 1e-5},
}
#: What our seeded RoBERTa cannot be told, with what a state dict does not say either.
_FIXED = {"model_type": "roberta", "hidden_act": "gelu", "type_vocab_size": 1, "pad_token_id": PAD_ID}


def released_config(text_folder: Path | None = None) -> ModelConfig:
    """``more-base`` as the released code has it. The text tower is RoBERTa-base, or has the sizes of the Hugging Face
    ``config.json`` in ``text_folder``: a state dict does not say how many heads it has.

    Raises:
        ConfigError: there is no such file, or it describes something else than such a RoBERTa (all faults).
    """
    if text_folder is None:
        return preset("more-base", _PUBLISHED)
    text = {**_PUBLISHED["text"], **_text_sizes(text_folder / "config.json")}
    text["padded_tokens"] = text["max_tokens"]
    return preset("more-base", {**_PUBLISHED, "text": text})


def _text_sizes(path: Path) -> dict[str, Any]:
    found = read_mapping(path)
    faults = [
        f"{key} is {found.get(key)!r}, the released text tower needs {needed!r}"
        for key, needed in _FIXED.items()
        if found.get(key) != needed
    ]
    names = {
        "width": "hidden_size",
        "depth": "num_hidden_layers",
        "heads": "num_attention_heads",
        "vocabulary": "vocab_size",
        "norm_eps": "layer_norm_eps",
        "max_tokens": "max_position_embeddings",
    }
    faults += [f"{theirs} is missing" for theirs in names.values() if theirs not in found]
    if "hidden_size" in found and found.get("intermediate_size") != 4 * found["hidden_size"]:
        faults.append("intermediate_size is not four times hidden_size")
    if faults:
        raise ConfigError(
            str(path), faults, remedy="give the folder of the RoBERTa that the checkpoint was trained with"
        )
    sizes = {ours: found[theirs] for ours, theirs in names.items()}
    return sizes | {"max_tokens": sizes["max_tokens"] - PAD_ID - 1}
