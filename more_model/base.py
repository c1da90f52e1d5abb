"""The frozen base that all sites share: architecture, weights, tokenizer and preprocessing, in one folder.

base/model.toml            the model configuration
base/weights.safetensors   every tensor of the model before adapters (without a Hugging Face text encoder)
base/text/                 that encoder, where text.path was configured
base/tokenizer/            the tokenizer
base/base.json             where it came from, in words, and the digests of the parts
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from more_model.errors import ConfigError, EnvironmentFault, ExchangeError
from more_model.exchange import ExchangeSpec, Fingerprint
from more_model.lora_method import LoraMethod, scheduled
from more_model.model.config import ModelConfig, load_config, save_config
from more_model.model.inventory import exchange_spec
from more_model.model.lora import adapt, lora_factors
from more_model.model.more import More, build_more
from more_model.tokenizer import load_tokenizer, tokenizer_digest

_TEXT_ENCODER = "text.encoder.encoder."


@dataclass(frozen=True, slots=True)
class Base:
    """A model without adapters, its tokenizer, and where it came from (one sentence for reports)."""

    config: ModelConfig
    model: More
    tokenizer: Any
    origin: str


@dataclass(frozen=True, slots=True)
class Assembled:
    """A model ready to train in a federation."""

    model: More
    spec: ExchangeSpec
    fingerprint: Fingerprint


def assemble(base: Base, method: LoraMethod, public_seed: int) -> Assembled:
    """Adapters on the base; the base's model object is used up (load the base again for another model).

    Raises:
        ConfigError: the tokenizer knows more words than the text tower, a LoRA target names no module, or there is no
            such method.
    """
    require_room_for_words(base)
    weights = tensor_digest(base.model.state_dict().items())
    adapt(base.model, base.config, method, public_seed)
    parts = {
        "architecture": base.config.digest(),
        "base weights": weights,
        "tokenizer": tokenizer_digest(base.tokenizer),
        "preprocessing": base.config.preprocessing.digest(),
        "LoRA method": method,
        "initial A factors": tensor_digest(lora_factors(base.model, "A")),
    }
    return Assembled(base.model, scheduled(exchange_spec(base.model), method), Fingerprint(parts))


def save_base(base: Base, folder: Path) -> None:
    """Write ``base`` (not yet adapted) to ``folder``."""
    folder.mkdir(parents=True, exist_ok=True)
    config, state = base.config, base.model.state_dict()
    if config.text.path is not None:
        base.model.text.encoder.encoder.save_pretrained(folder / "text", safe_serialization=True)
        state = {name: tensor for name, tensor in state.items() if not name.startswith(_TEXT_ENCODER)}
        config = config.model_copy(update={"text": config.text.model_copy(update={"path": Path("text")})})
    config = config.model_copy(
        update={
            "xray": config.xray.model_copy(update={"weights": None}),
            "ecg": config.ecg.model_copy(update={"weights": None}),
        }
    )
    save_config(config, folder / "model.toml")
    save_file({name: tensor.contiguous().clone() for name, tensor in state.items()}, folder / "weights.safetensors")
    base.tokenizer.save_pretrained(folder / "tokenizer")
    facts = {"origin": base.origin, "architecture": config.digest(), "tokenizer": tokenizer_digest(base.tokenizer)}
    (folder / "base.json").write_text(json.dumps(facts, indent=2) + "\n", encoding="utf-8")


def load_base(folder: Path) -> Base:
    """Read a base folder.

    Raises:
        EnvironmentFault: a file of the folder is missing.
        ExchangeError: a file is damaged, or the weights are not those of the configuration beside them.
    """
    names = ("model.toml", "weights.safetensors", "tokenizer", "base.json")
    missing = [name for name in names if not (folder / name).exists()]
    if missing:
        raise EnvironmentFault(
            f"{folder} is not a base folder: {', '.join(missing)} missing",
            remedy="give the folder that a run wrote as workspace/base, or that the coordinator published",
        )
    config = load_config(folder / "model.toml")
    if config.text.path is not None:
        config = config.model_copy(update={"text": config.text.model_copy(update={"path": folder / config.text.path})})
    tokenizer = load_tokenizer(folder / "tokenizer")
    model = build_more(config, seed=0, pad_id=int(tokenizer.pad_token_id))
    _load_weights(model, folder / "weights.safetensors", has_text=config.text.path is None)
    return Base(config, model, tokenizer, _origin(folder / "base.json"))


def _load_weights(model: More, path: Path, *, has_text: bool) -> None:
    try:
        state = load_file(path)
    except SafetensorError as error:
        raise _damaged(f"{path} cannot be read: {error}") from error
    own = {n: t.shape for n, t in model.state_dict().items() if has_text or not n.startswith(_TEXT_ENCODER)}
    given = {name: tensor.shape for name, tensor in state.items()}
    if own != given:
        reshaped = sum(own[name] != given[name] for name in own.keys() & given.keys())
        raise _damaged(
            f"{path} does not fit model.toml beside it: {len(own.keys() - given.keys())} tensors missing, "
            f"{len(given.keys() - own.keys())} unknown, {reshaped} of another shape"
        )
    model.load_state_dict(state, strict=False)


def _origin(path: Path) -> str:
    try:
        return str(json.loads(path.read_text(encoding="utf-8"))["origin"])
    except (ValueError, KeyError, TypeError) as error:
        raise _damaged(f"{path} does not say where the base came from: {error!r}") from error


def _damaged(cause: str) -> ExchangeError:
    return ExchangeError(cause, remedy="copy the whole base folder again", avoid="mix files of two bases")


def require_empty(folder: Path) -> None:
    """Refuse to write a base over something else.

    Raises:
        ConfigError: ``folder`` is a file, or holds something.
    """
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise ConfigError(str(folder), ["there is something already"], remedy="give another --out")


def require_room_for_words(base: Base) -> None:
    """Refuse a tokenizer that numbers words beyond the text tower's table.

    Raises:
        ConfigError: it does.
    """
    rows, words = int(base.model.text.encoder.encoder.get_input_embeddings().num_embeddings), len(base.tokenizer)
    if words > rows:
        raise ConfigError(
            "text", [f"the tokenizer has {words} words, the text tower only {rows}: raise text.vocabulary"]
        )


def tensor_digest(named: Iterable[tuple[str, Tensor | nn.Parameter]]) -> str:
    """Hex SHA-256 over names, types, shapes and bytes, in the order of the names."""
    digest = hashlib.sha256()
    for name, tensor in sorted(named, key=lambda item: item[0]):
        array = tensor.detach().cpu().contiguous()
        digest.update(f"{name}|{array.dtype}|{tuple(array.shape)}|".encode())
        digest.update(array.reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()
