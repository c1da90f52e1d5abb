"""Counting parameters, and the bridge between a model's trainable tensors and the exchange specification."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from more_model.exchange import ExchangeSpec, TensorDict, Tensors, TensorSpec
from more_model.lora_method import RESIDUAL
from more_model.model.more import More


@dataclass(frozen=True, slots=True)
class Inventory:
    """Parameter counts of an adapted model. ``trainable``: what trains without rounds. ``exchanged_bytes``: what goes
    down in a round; with some LoRA methods less comes up."""

    total: int
    trainable: int
    text_total: int
    text_trainable: int
    exchanged_bytes: int
    full_model_bytes: int

    @property
    def trainable_fraction(self) -> float:
        """Trainable share of all parameters."""
        return self.trainable / self.total

    @property
    def text_trainable_fraction(self) -> float:
        """Trainable share of the text encoder, its head not counted (the paper's "99.4 % fewer" is one minus this)."""
        return self.text_trainable / self.text_total

    @property
    def exchanged_share(self) -> float:
        """Bytes of one exchange over the bytes of the whole model."""
        return self.exchanged_bytes / self.full_model_bytes


def take_inventory(model: More) -> Inventory:
    """Counts of ``model`` after `adapt`; float32 everywhere on the wire."""
    total, trainable = _count(model)
    text_total, text_trainable = _count(model.text.encoder)
    return Inventory(total, trainable, text_total, text_trainable, exchange_spec(model).nbytes, 4 * total)


def _count(module: nn.Module) -> tuple[int, int]:
    sizes = [(parameter.numel(), parameter.requires_grad) for parameter in module.parameters()]
    return sum(size for size, _ in sizes), sum(size for size, trains in sizes if trains)


def exchange_spec(model: More) -> ExchangeSpec:
    """Everything that may travel: trainable parameters, the running statistics of BatchNorm where there are any (a
    model averaged without them would be evaluated with statistics of nobody's data), and the residuals of `fedex`.

    Without the rounds of a LoRA method: `more_model.lora_method.scheduled` adds them.
    """
    return ExchangeSpec(
        tuple(TensorSpec(name, tuple(tensor.shape), _tower(name)) for name, tensor in _travelling(model).items())
    )


def export_tensors(model: More) -> TensorDict:
    """Copies of the travelling tensors, float32, in the order of `exchange_spec`."""
    return {name: tensor.detach().float().cpu().numpy().copy() for name, tensor in _travelling(model).items()}


@torch.no_grad()
def import_tensors(model: More, tensors: Tensors) -> None:
    """Write ``tensors`` into ``model``.

    Raises:
        ExchangeError: they are not exactly what `exchange_spec` lists; nothing was written.
    """
    exchange_spec(model).check(tensors)
    for name, own in _travelling(model).items():
        own.copy_(torch.from_numpy(np.ascontiguousarray(tensors[name])))


def _travelling(model: More) -> dict[str, Tensor]:
    chosen: dict[str, Tensor] = {name: p for name, p in model.named_parameters() if p.requires_grad}
    buffers = model.named_buffers()
    return chosen | {name: b for name, b in buffers if name.endswith(("running_mean", "running_var", RESIDUAL))}


def _tower(name: str) -> str:
    head = name.split(".", 1)[0]
    return head if head in ("xray", "ecg", "text") else "shared"
