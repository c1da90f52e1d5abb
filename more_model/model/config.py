"""The one configuration type of the model, its named presets, and its form on disk (TOML or JSON)."""

from __future__ import annotations

import hashlib
import json
from importlib import resources
from pathlib import Path
from typing import Any, Literal

import tomli_w
from pydantic import BaseModel, ConfigDict, Field, ValidationInfo, field_validator

from more_model.data.preprocessing import Preprocessing
from more_model.errors import ConfigError
from more_model.settings import read_mapping, validated


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Vit(_Part):
    """A vision transformer: ``width`` features, ``depth`` blocks, ``heads`` attention heads. ``attention`` is
    ``softmax``, or ``linear``: time and memory grow with the number of tokens, not with its square
    (`more_model.model.linear_attention`)."""

    width: int = Field(ge=8)
    depth: int = Field(ge=1)
    heads: int = Field(ge=1)
    mlp_ratio: float = Field(default=4.0, gt=0)
    qkv_bias: bool = False
    attention: Literal["softmax", "linear"] = "softmax"

    # A check of one field, not of the whole part: those are skipped where any other field is wrong, and a
    # configuration with three mistakes has to be told all three.
    @field_validator("heads")
    @classmethod
    def _heads_divide_width(cls, heads: int, others: ValidationInfo) -> int:
        width = others.data.get("width")
        if width is not None and width % heads:
            raise ValueError(f"width {width} is not a multiple of heads {heads}")
        return heads


class XrayTower(Vit):
    """Square patches of ``patch_size`` pixels; a grey picture is repeated over ``channels``. Pixels, as 0 to 1, are
    centred by ``pixel_mean`` and divided by ``pixel_std``: constants for every site, never a site's own statistics
    (published: 0.499 and 0.293)."""

    patch_size: int = Field(ge=2)
    channels: Literal[1, 3] = 3
    pixel_mean: float = Field(default=0.5, ge=0, le=1)
    pixel_std: float = Field(default=0.25, gt=0, le=1)
    weights: Path | None = None


class EcgTower(Vit):
    """Two 1-D convolutions turn ``[12, samples]`` into tokens: the first with ``stride`` into ``channels``, the second
    with ``second_stride`` into ``width`` (published: kernel 5, strides 5 and 1, 1000 samples -> 200 -> 196 tokens)."""

    channels: int = Field(default=256, ge=1)
    kernel: int = Field(default=5, ge=1)
    stride: int = Field(default=5, ge=1)
    second_stride: int = Field(default=1, ge=1)
    train_tokeniser: bool = True
    weights: Path | None = None


class TextTower(_Part):
    """Either ``path`` (any Hugging Face encoder or decoder-only model in a local folder) or a RoBERTa of the sizes
    given, initialised from the seed. ``pooling``: ``auto`` takes the masked mean for encoders and the last token for
    decoders; ``mean-all`` is the published mean over all positions, padding included: up to the longest text of the
    batch or, with ``padded_tokens``, as if every text were padded to that many (published: 512), so that a text's
    embedding does not depend on its neighbours. ``dropout`` and ``norm_eps`` (of the LayerNorms) belong to the seeded
    RoBERTa; a model from a folder keeps its own."""

    path: Path | None = None
    width: int = Field(default=768, ge=8)
    depth: int = Field(default=12, ge=1)
    heads: int = Field(default=12, ge=1)
    vocabulary: int = Field(default=50265, ge=8)
    max_tokens: int = Field(default=512, ge=8, le=8192)
    dropout: float = Field(default=0.1, ge=0, lt=1)
    norm_eps: float = Field(default=1e-12, gt=0, le=1e-3)
    pooling: Literal["auto", "mean", "last", "mean-all"] = "auto"
    padded_tokens: int | None = Field(default=None, ge=8, le=8192)

    @field_validator("heads")
    @classmethod
    def _heads_divide_width(cls, heads: int, others: ValidationInfo) -> int:
        width = others.data.get("width")
        if others.data.get("path") is None and width is not None and width % heads:
            raise ValueError(f"width {width} is not a multiple of heads {heads}")
        return heads

    @field_validator("padded_tokens")
    @classmethod
    def _padding_holds_every_text(cls, padded: int | None, others: ValidationInfo) -> int | None:
        longest = others.data.get("max_tokens")
        if padded is not None and longest is not None and padded < longest:
            raise ValueError(f"{padded} positions do not hold a text of max_tokens {longest}")
        return padded


class Heads(_Part):
    """Projection heads: width -> ``hidden`` -> ``embedding``, no biases, normalised after each."""

    hidden: int = Field(default=768, ge=8)
    embedding: int = Field(default=128, ge=2)


class Lora(_Part):
    """Low-rank adapters, scaled by ``alpha / rank``; with ``rank = 0`` there are none, and the encoders stay as they
    are. Targets are module names (``auto`` for text: what PEFT knows for that architecture). ``text_bias = "all"`` also
    trains the text tower's biases, as published."""

    rank: int = Field(default=16, ge=0)
    alpha: float = Field(default=8.0, gt=0)
    dropout: float = Field(default=0.1, ge=0, lt=1)
    xray_targets: tuple[str, ...] = ("qkv",)
    ecg_targets: tuple[str, ...] = ("qkv",)
    text_targets: tuple[str, ...] | Literal["auto"] = "auto"
    text_bias: Literal["none", "all"] = "none"


class DropKey(_Part):
    """Attention logits dropped before the softmax, in training only. ``linear``: the rate falls from ``rate`` in the
    first block to 0 in the last."""

    rate: float = Field(default=0.2, ge=0, lt=1)
    schedule: Literal["off", "constant", "linear"] = "linear"

    def rates(self, depth: int) -> tuple[float, ...]:
        """The rate of each of ``depth`` blocks, first to last."""
        if self.schedule == "off":
            return (0.0,) * depth
        if self.schedule == "constant" or depth == 1:
            return (self.rate,) * depth
        return tuple(self.rate * (1 - block / (depth - 1)) for block in range(depth))


class Temperature(_Part):
    """Softmax temperature of the contrastive loss; ``learned`` puts its logarithm into the optimiser."""

    initial: float = Field(default=0.07, gt=0, le=10)
    learned: bool = False


#: Settings added after the first checkpoints were written; their defaults are what was fixed in the code before.
_YOUNGER_SETTINGS = (
    ("xray", "attention"),
    ("xray", "pixel_mean"),
    ("xray", "pixel_std"),
    ("ecg", "attention"),
    ("text", "norm_eps"),
    ("text", "padded_tokens"),
)


class ModelConfig(_Part):
    """Everything that decides the architecture. Two models with equal digests have the same tensors."""

    name: str = "custom"
    preprocessing: Preprocessing = Preprocessing()
    xray: XrayTower
    ecg: EcgTower
    text: TextTower = TextTower()
    heads: Heads = Heads()
    lora: Lora = Lora()
    dropkey: DropKey = DropKey()
    temperature: Temperature = Temperature()
    normalisation: Literal["layer", "batch"] = "layer"

    @field_validator("xray")
    @classmethod
    def _patches_fill_the_picture(cls, xray: XrayTower, others: ValidationInfo) -> XrayTower:
        preprocessing = others.data.get("preprocessing")
        if preprocessing is not None and preprocessing.image_size % xray.patch_size:
            raise ValueError(
                f"preprocessing.image_size {preprocessing.image_size} is not a multiple of patch_size {xray.patch_size}"
            )
        return xray

    @field_validator("ecg")
    @classmethod
    def _some_tokens_are_left(cls, ecg: EcgTower, others: ValidationInfo) -> EcgTower:
        preprocessing = others.data.get("preprocessing")
        if preprocessing is not None and _ecg_tokens(preprocessing.ecg_samples, ecg) < 1:
            raise ValueError("the convolutions leave no token: lower the strides or raise ecg_rate_hz x ecg_seconds")
        return ecg

    @property
    def ecg_tokens(self) -> int:
        """Number of ECG tokens, without the class token."""
        return _ecg_tokens(self.preprocessing.ecg_samples, self.ecg)

    def digest(self) -> str:
        """Hex SHA-256 over all that decides the tensors; local paths and the name do not count."""
        content = self.model_dump(mode="json", exclude={"name": True, "xray": {"weights"}, "ecg": {"weights"}})
        content["text"]["path"] = content["text"]["path"] is not None
        for part, setting in _YOUNGER_SETTINGS:
            # Only where it was changed: checkpoints from before the setting keep their digest.
            if content[part][setting] == type(getattr(self, part)).model_fields[setting].default:
                del content[part][setting]
        return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def _ecg_tokens(samples: int, ecg: EcgTower) -> int:
    first = (samples - ecg.kernel) // ecg.stride + 1
    return (first - ecg.kernel) // ecg.second_stride + 1


def preset_names() -> list[str]:
    """The built-in presets."""
    folder = resources.files("more_model.model") / "presets"
    return sorted(item.name.removesuffix(".toml") for item in folder.iterdir() if item.name.endswith(".toml"))


def preset(name: str, overrides: dict[str, Any] | None = None) -> ModelConfig:
    """A named preset, with nested ``overrides`` laid over it.

    Raises:
        ConfigError: no such preset, or the result is not valid (all faults).
    """
    if name not in preset_names():
        raise ConfigError(f"model preset {name!r}", [f"there is no such preset; there are {', '.join(preset_names())}"])
    content = read_mapping(Path(str(resources.files("more_model.model") / "presets" / f"{name}.toml")))
    return validated(ModelConfig, _overlaid(content, overrides or {}), f"model preset {name!r} with overrides")


def load_config(path: Path) -> ModelConfig:
    """A model configuration from a ``.toml`` or ``.json`` file."""
    return validated(ModelConfig, read_mapping(path), str(path))


def save_config(config: ModelConfig, path: Path) -> None:
    """Write ``config`` as TOML or JSON, by the suffix of ``path``; `load_config` reads it back unchanged."""
    content = config.model_dump(mode="json", exclude_none=True)
    text = json.dumps(content, indent=2) + "\n" if path.suffix == ".json" else tomli_w.dumps(content)
    path.write_text(text, encoding="utf-8")


def _overlaid(base: dict[str, Any], top: dict[str, Any]) -> dict[str, Any]:
    merged = dict(base)
    for key, value in top.items():
        both = isinstance(value, dict) and isinstance(merged.get(key), dict)
        merged[key] = _overlaid(merged[key], value) if both else value
    return merged
