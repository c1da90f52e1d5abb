"""Tensors from a file somebody else wrote: safetensors, or a PyTorch checkpoint read without running its pickle."""

from __future__ import annotations

import pickle
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from more_model.errors import EnvironmentFault

#: Where training scripts put the weights beside their optimiser and epoch.
WRAPPERS = ("state_dict", "model_state_dict", "model", "net")
#: What data-parallel training puts before every name.
_PARALLEL = "module."


def read_tensors(path: Path, what: str) -> dict[str, Tensor]:
    """The named tensors of a ``.safetensors`` file or else of a PyTorch checkpoint, on the CPU; a wrapping dictionary
    and a common prefix ``module.`` are taken off. ``what`` names the file in messages.

    A PyTorch checkpoint is a pickle, which can run any program; ``weights_only`` refuses all but tensors and plain
    containers.

    Raises:
        EnvironmentFault: there is no such file, it is damaged, it holds more than plain tensors, or no tensors.
    """
    if not path.is_file():
        raise EnvironmentFault(
            f"{what}: there is no file {path}", remedy="give a local .safetensors file or PyTorch checkpoint"
        )
    if path.suffix == ".safetensors":
        try:
            return _without_prefix(load_file(path))
        except SafetensorError as error:
            raise _unreadable(path, what, error) from error
    return _without_prefix(_unwrapped(_loaded(path, what), path, what))


def _loaded(path: Path, what: str) -> Any:
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise EnvironmentFault(
            f"{what}: {path.name} holds more than tensors, or is damaged; it was not opened",
            remedy="save its state dict alone, on the machine that trained it: torch.save(model.state_dict(), FILE)",
            avoid="load it without weights_only: such a file can run any program",
        ) from error
    except (RuntimeError, EOFError, ValueError, KeyError, AttributeError) as error:
        # What torch raises for files that are cut short or that it never wrote depends on where the damage lies.
        raise _unreadable(path, what, error) from error


def _unwrapped(content: Any, path: Path, what: str) -> dict[str, Tensor]:
    for wrapper in WRAPPERS:
        if isinstance(content, Mapping) and isinstance(content.get(wrapper), Mapping):
            content = content[wrapper]
            break
    named = dict(content) if isinstance(content, Mapping) else {}
    strange = [str(name) for name, value in named.items() if not isinstance(value, Tensor)]
    if not named or strange:
        found = f"entries that are none: {', '.join(strange[:5])}" if strange else f"a {type(content).__name__}"
        raise EnvironmentFault(
            f"{what}: {path.name} is no dictionary of tensors; it holds {found}",
            remedy=f"give a state dict, alone or under one of the keys {', '.join(WRAPPERS)}",
        )
    return {str(name): value for name, value in named.items()}


def _without_prefix(state: dict[str, Tensor]) -> dict[str, Tensor]:
    if not all(name.startswith(_PARALLEL) for name in state):
        return state
    return {name.removeprefix(_PARALLEL): tensor for name, tensor in state.items()}


def _unreadable(path: Path, what: str, error: Exception) -> EnvironmentFault:
    first = str(error).strip().split("\n")[0]
    return EnvironmentFault(f"{what}: {path.name} cannot be read: {first}", remedy="copy it again")
