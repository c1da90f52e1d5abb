"""A trained model on disk: the tensors that travelled, and which base they belong to.

checkpoint.safetensors   the trainable tensors (`more_model.model.inventory.export_tensors`); in its header the LoRA
                         method, the public seed, the fingerprint of the base and where the base folder was

A base folder (`more_model.base`) is a trained model too: one without adapters, such as an imported checkpoint.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.numpy import load_file, save_file

from more_model.base import Base, assemble, load_base, tensor_digest
from more_model.errors import EnvironmentFault, ExchangeError
from more_model.exchange import Fingerprint, Tensors
from more_model.lora_method import LoraMethod
from more_model.model.config import ModelConfig
from more_model.model.inventory import import_tensors
from more_model.model.more import More, build_more

#: One key only: with several, their order in the file would differ from one writing to the next.
_HEADER = "more-fed checkpoint"


@dataclass(frozen=True, slots=True)
class TrainedModel:
    """A model ready to be asked, in evaluation mode. ``origin`` says in words where it comes from, ``digest`` is hex
    SHA-256 over every tensor. Without ``adapted`` it has no LoRA adapters."""

    config: ModelConfig
    model: More
    tokenizer: Any
    origin: str
    digest: str
    adapted: bool

    @property
    def max_tokens(self) -> int:
        """Longest text, in tokens."""
        return self.config.text.max_tokens


def save_checkpoint(
    path: Path, tensors: Tensors, *, method: LoraMethod, public_seed: int, fingerprint: Fingerprint, base: Path
) -> None:
    """Write a checkpoint whole or not at all; equal inputs give equal bytes. ``base`` is kept relative to ``path``."""
    facts = {
        "schema": 1,
        "method": method,
        "public_seed": public_seed,
        "fingerprint": dict(fingerprint.parts),
        "base": Path(os.path.relpath(base.resolve(), path.resolve().parent)).as_posix(),
    }
    draft = path.with_name(f"{path.name}.part")
    save_file(dict(tensors), draft, metadata={_HEADER: json.dumps(facts, sort_keys=True)})
    draft.replace(path)


def load_checkpoint(path: Path, *, base: Path | None = None, device: torch.device | str = "cpu") -> TrainedModel:
    """Read a checkpoint file or a base folder. ``base`` is the base folder where it is no longer where it was.

    Raises:
        EnvironmentFault: there is no such file, or its base folder is not there.
        ExchangeError: the file is damaged, is no checkpoint of this project, or belongs to another base: another
            architecture, other weights, another tokenizer or preprocessing.
    """
    if path.is_dir():
        return _of_base(load_base(path), device)
    facts, tensors = _read(path)
    folder = base if base is not None else path.parent / str(facts["base"])
    if not folder.is_dir():
        raise EnvironmentFault(
            f"{path.name} was trained on the base folder {folder}, which is not there",
            remedy="give the base folder with --base",
            avoid="take another base: the tensors of a checkpoint mean nothing without their own",
        )
    loaded = load_base(folder)
    built = assemble(loaded, facts["method"], int(facts["public_seed"]))
    _require_same_base(path, Fingerprint(facts["fingerprint"]), built.fingerprint)
    import_tensors(built.model, tensors)
    origin = f"{loaded.origin} Trained further with LoRA ({facts['method']}); checkpoint {path.name}."
    return _finished(loaded.config, built.model, loaded.tokenizer, origin, device, adapted=True)


def read_fingerprint(path: Path) -> Fingerprint | None:
    """The fingerprint of the base that a checkpoint file belongs to; None for a base folder itself.

    Raises:
        EnvironmentFault: there is no such file.
        ExchangeError: the file is damaged or no checkpoint of this project.
    """
    return None if path.is_dir() else Fingerprint(_read(path)[0]["fingerprint"])


def random_twin(trained: TrainedModel, seed: int) -> TrainedModel:
    """The same architecture and tokenizer with random weights everywhere: what anything shown without training is
    worth."""
    pad_id = int(trained.tokenizer.pad_token_id)
    model = build_more(trained.config, seed=seed, pad_id=pad_id)
    device = next(trained.model.parameters()).device
    return _finished(trained.config, model, trained.tokenizer, "Random weights.", device, adapted=False)


def _of_base(base: Base, device: torch.device | str) -> TrainedModel:
    return _finished(base.config, base.model, base.tokenizer, base.origin, device, adapted=False)


def _finished(
    config: ModelConfig, model: More, tokenizer: Any, origin: str, device: torch.device | str, *, adapted: bool
) -> TrainedModel:
    model.eval()
    digest = tensor_digest(model.state_dict().items())
    return TrainedModel(config, model.to(device), tokenizer, origin, digest, adapted)


def _read(path: Path) -> tuple[Mapping[str, Any], Tensors]:
    if not path.is_file():
        raise EnvironmentFault(
            f"there is no checkpoint {path}",
            remedy="give a file that a run wrote to checkpoints/, or a base folder",
        )
    try:
        with safe_open(path, framework="numpy") as file:
            header = dict(file.metadata() or {})
        tensors = load_file(path)
    except SafetensorError as error:
        raise ExchangeError(
            f"{path} cannot be read: {error}",
            remedy="copy it again; checkpoints of the published code are read by `more-model import-more`",
        ) from error
    if _HEADER not in header:
        raise ExchangeError(
            f"{path} does not say which base it belongs to",
            remedy="give a checkpoint that this version wrote, or a base folder",
        )
    facts: Mapping[str, Any] = json.loads(header[_HEADER])
    if facts.get("schema") != 1:
        raise ExchangeError(f"{path} has schema {facts.get('schema')}", remedy="read it with the version that wrote it")
    return facts, tensors


def _require_same_base(path: Path, wanted: Fingerprint, found: Fingerprint) -> None:
    if differing := wanted.differing(found):
        raise ExchangeError(
            f"the checkpoint {path.name} belongs to another base: {', '.join(differing)} differ",
            remedy="give the base folder that it was trained on with --base",
            avoid="copy its tensors into another model: nothing would fail, and every figure would be wrong",
        )
