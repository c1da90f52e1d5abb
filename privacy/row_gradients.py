"""The gradient of every row of a batch from one pass over the batch: what each layer saw, times what came back to it.

For layers that treat the rows of their input one by one, the gradient of a row is a function of that row's input and of
the loss's gradient in that row's output (Goodfellow 2015, arXiv 1510.01799). Two things have to be true, and nothing
here can know them: the gradient that is sent back for a row must come from that row's own unit (see
`client.private_loss`: it is taken unit by unit), and nothing between the layers may mix rows
(`privacy.isolation.check_units` tries that out). Rows of a unit may lie anywhere in the batch.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.func import functional_call, vjp, vmap

from privacy.unit_gradients import Tensors

#: Layers whose output row depends on the same input row only, with rows in the first dimension of both.
_ROW_BY_ROW = (nn.Linear, nn.LayerNorm, nn.Conv1d, nn.Conv2d, nn.Embedding)


class RowsMixed(ValueError):
    """A layer was not called with the rows of the batch in front."""


@dataclass(frozen=True)
class Call:
    """One call of a layer: ``seen`` and ``made`` have the rows in front."""

    name: str
    layer: nn.Module
    seen: Tensor
    made: Tensor


@dataclass(frozen=True)
class Batch:
    """What became of some rows. output: [rows, ...], from a forward pass whose ``calls`` were recorded. back: the
    gradient in it, of the same shape, without graph. unit: [rows], the number of the unit that each row belongs to."""

    output: Tensor
    back: Tensor
    calls: Sequence[Call]
    unit: Tensor


def layers_beyond_rows(module: nn.Module) -> tuple[str, ...]:
    """Names of what trains, but lies in no layer that is known to treat rows one by one."""
    names = []
    for owner, layer in module.named_modules():
        if not isinstance(layer, _ROW_BY_ROW):
            own = layer.named_parameters(owner, recurse=False)
            names += [name for name, parameter in own if parameter.requires_grad]
    return tuple(names)


@contextmanager
def recorded_calls(module: nn.Module, trained: Tensors) -> Iterator[list[Call]]:
    """While the block runs, every call of a layer of ``module`` that owns one of the ``trained`` parameters is noted.

    trained: by their names in ``module``.
    """
    calls: list[Call] = []

    def note(owner: str) -> torch.utils.hooks.RemovableHandle:
        return module.get_submodule(owner).register_forward_hook(
            lambda layer, inputs, output: calls.append(Call(owner, layer, inputs[0].detach(), output))
        )

    hooks = [note(owner) for owner in {name.rpartition(".")[0]: None for name in trained}]
    try:
        yield calls
    finally:
        for hook in hooks:
            hook.remove()


def sums_over_rows(batches: Sequence[Batch], trained: Tensors, units: int) -> dict[str, Tensor]:
    """Gradients ``[units, *shape]`` by parameter name: over the rows of each unit, the sum of the gradients of
    ``(output * back).sum()`` of a row.

    trained: by their names in the module whose calls were recorded.

    Raises:
        RowsMixed: a layer was not called with as many rows as its batch has.
    """
    total = {name: tensor.new_zeros((units, *tensor.shape)) for name, tensor in trained.items()}
    owned = [(batch, call) for batch in batches for call in batch.calls]
    if not owned:
        return total
    returned = torch.autograd.grad(
        [batch.output for batch in batches],
        [call.made for _, call in owned],
        [batch.back for batch in batches],
        allow_unused=True,
        materialize_grads=True,
    )
    # Calls of a layer with equal shapes are taken together.
    together: dict[tuple[object, ...], list[int]] = {}
    for number, (batch, call) in enumerate(owned):
        if not len(call.seen) == len(call.made) == len(batch.output):
            raise RowsMixed(f"{call.name} was called with {len(call.seen)} rows instead of {len(batch.output)}")
        together.setdefault((call.name, call.seen.shape[1:], call.made.shape[1:]), []).append(number)
    for numbers in together.values():
        call = owned[numbers[0]][1]
        seen = torch.cat([owned[number][1].seen for number in numbers])
        unit = torch.cat([owned[number][0].unit for number in numbers])
        found = _of_rows(call, seen, torch.cat([returned[number] for number in numbers]), trained)
        for name, rows in found.items():
            total[name].index_add_(0, unit, rows)
    return total


def _of_rows(call: Call, seen: Tensor, gradient: Tensor, trained: Tensors) -> dict[str, Tensor]:
    """Gradients [rows, *shape] of the parameters of one layer."""
    prefix = f"{call.name}." if call.name else ""
    own = {
        name: trained[prefix + name].detach()
        for name, _ in call.layer.named_parameters(recurse=False)
        if prefix + name in trained
    }
    if type(call.layer) is nn.Linear and own.keys() == {"weight"}:
        # The same as below, several times faster.
        seen, gradient = (x.flatten(1, -2) if x.ndim > 2 else x[:, None] for x in (seen, gradient))
        return {prefix + "weight": gradient.transpose(1, 2) @ seen}

    def of_row(seen: Tensor, gradient: Tensor) -> dict[str, Tensor]:
        backward = vjp(lambda values: functional_call(call.layer, values, (seen[None],)), own)[1]
        return dict(backward(gradient[None])[0])

    return {prefix + name: rows for name, rows in vmap(of_row)(seen, gradient).items()}
