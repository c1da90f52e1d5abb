"""Looks for ways in which one unit gets at another through the model itself, and tries it out.

`privacy.validity` judges a design by what is said about it; this module judges the model and the loss by what they do.
Run `check_module` and `check_units` once before a private training (they look at public or made-up units just as well),
and `check_rows` before any tool that takes a batch's loss apart into rows, such as Opacus.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.utils import _pytree as pytree

from more_model.errors import ConfigError
from privacy.unit_gradients import GradientsOfUnits, LossOfUnit, Tensors, Unit, count_units, unit_gradients, unit_of

#: Of a loss: rounding of a matrix product may depend on its other rows, a real dependence is far larger.
_ROUNDING = 1e-5

_DROPOUTS = (nn.modules.dropout._DropoutNd, nn.RReLU)


def module_faults(module: nn.Module) -> tuple[str, ...]:
    """Parts of a model that tie the records of a batch together, frozen or not; one sentence each."""
    faults = []
    for name, part in module.named_modules():
        batch_norm = isinstance(part, (_BatchNorm, nn.SyncBatchNorm))
        if batch_norm and (part.training or not part.track_running_stats):
            faults.append(
                f"{name}: BatchNorm in training mode (freezing its parameters changes nothing): it normalises each "
                "record by the others and keeps running statistics of private data. Instead: LayerNorm or GroupNorm, "
                "or eval() on it before every step"
            )
        elif isinstance(part, nn.InstanceNorm1d | nn.InstanceNorm2d | nn.InstanceNorm3d) and (
            part.training and part.track_running_stats
        ):
            faults.append(
                f"{name}: keeps running statistics of private data outside any clipping. Instead: "
                "track_running_stats=False"
            )
        elif isinstance(part, _DROPOUTS) and part.training and getattr(part, "p", 1.0) > 0:
            faults.append(
                f"{name}: random by position in the batch: one record more shifts everyone else's mask, and with a "
                "known seed that is no secret. Instead: eval(), or a rate of 0; the noise regularises enough"
            )
    return tuple(faults)


def batch_norm_faults(module: nn.Module) -> tuple[str, ...]:
    """Every BatchNorm, frozen or not and in either mode; one sentence each.

    `module_faults` lets one in evaluation mode pass. Where everything before it trains that is no way out: its
    statistics would stay those of what went before.
    """
    return tuple(
        f"{name}: BatchNorm, while it trains, normalises each record by the others of its batch and keeps running "
        "statistics of private data, which no clipping bounds and no noise covers (freezing it changes nothing); in "
        'evaluation mode those statistics grow stale. Instead: normalisation = "layer" in the model configuration'
        for name, part in module.named_modules()
        if isinstance(part, (_BatchNorm, nn.SyncBatchNorm))
    )


def parameter_faults(
    module: nn.Module, loss_of_unit: LossOfUnit, parameters: Tensors, probes: Iterable[Unit]
) -> tuple[str, ...]:
    """Parameters that train, but get no gradient of a unit.

    probes: single units that together have everything a unit can have (a patient with an X-ray, one with an ECG).
    """
    trained = {name for name, parameter in module.named_parameters() if parameter.requires_grad}
    faults = [
        f"{name}: trains, but is not among the parameters of the private step, so it would be updated without clipping "
        "and noise, or not at all. Instead: freeze it, or pass private_parameters(model)"
        for name in sorted(trained - parameters.keys())
    ]
    reached: set[str] = set()
    for probe in probes:
        leaves = {name: tensor.detach().clone().requires_grad_(True) for name, tensor in parameters.items()}
        found = torch.autograd.grad(loss_of_unit(leaves, probe), list(leaves.values()), allow_unused=True)
        reached |= {name for name, gradient in zip(leaves, found, strict=True) if gradient is not None}
    faults += [
        f"{name}: no unit's loss reaches it (LoRA on nn.MultiheadAttention is a known case), so it would be moved by "
        "noise alone. Instead: freeze it, or adapt a layer that the forward pass calls"
        for name in sorted(parameters.keys() - reached)
    ]
    return tuple(faults)


def unit_faults(
    loss_of_unit: LossOfUnit, parameters: Tensors, units: Unit, gradients: GradientsOfUnits = unit_gradients
) -> tuple[str, ...]:
    """What shows when every unit but the first is replaced by a copy of the first: the first unit's gradient must keep
    every bit, and must come out the same when asked for twice.

    units: at least two stacked units that differ. gradients: the way in which the private step will take them.
    """
    if count_units(units) < 2:
        raise ValueError("at least two units are needed to see whether one changes the other")
    copies = pytree.tree_map(lambda leaf: leaf[:1].expand_as(leaf).clone(), units)
    try:
        first = gradients(loss_of_unit, parameters, units)
        again = gradients(loss_of_unit, parameters, units)
        among_copies = gradients(loss_of_unit, parameters, copies)
    except RuntimeError as error:  # torch names no finer class for what vmap refuses
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        return (
            f"the loss of a unit cannot be taken for many units at once ({reason}). If it draws random numbers or "
            "changes a buffer in place, that ties units together: use eval() and draw by a key of the unit. If it only "
            "branches on values, pass gradients=gradients_one_by_one",
        )
    faults = []
    if any(not torch.equal(first[name], again[name]) for name in first):
        faults.append(
            "the loss of a unit gives another gradient when asked twice: it keeps something (a queue, running "
            "statistics) or draws random numbers. Instead: a pure function of the parameters and the unit"
        )
    if any(not torch.equal(first[name][0], among_copies[name][0]) for name in first):
        faults.append(
            "the gradient of a unit changes with the other units. Instead: a loss that sees one unit and public data"
        )
    return tuple(faults)


def row_faults(losses_of_batch: Callable[[Unit], Tensor], batch: Unit) -> tuple[str, ...]:
    """What shows when one record of a batch is replaced by a copy of another: no other record's loss may move.

    losses_of_batch: the losses, ``[n]``, whose gradients a tool would clip row by row. batch: at least three stacked
    records that differ. A copy is the strongest thing to put beside a record: in a contrastive loss it is a negative
    that equals the positive.
    """
    total = count_units(batch)
    if total < 3:
        raise ValueError("at least three records are needed to see whether one changes another's loss")
    with torch.no_grad():
        before, again = losses_of_batch(batch), losses_of_batch(batch)
        if before.shape != (total,):
            return (
                f"the loss of a batch of {total} comes as a tensor of shape {list(before.shape)}, not as one loss a "
                "record; a mean or a sum cannot be taken apart. Instead: return one loss a record (reduction='none')",
            )
        if not torch.allclose(before, again, rtol=_ROUNDING, atol=_ROUNDING):
            return (
                "the losses differ when asked for twice: something is kept (a queue, running statistics) or drawn at "
                "random by position. Instead: eval() and no memory",
            )
        for changed, source in ((0, total - 1), (total - 1, 0)):
            after = losses_of_batch(_with_copy(batch, changed, source))
            others = [row for row in range(total) if row != changed]
            if not torch.allclose(before[others], after[others], rtol=_ROUNDING, atol=_ROUNDING):
                return (
                    "the loss of a record moves when another record is replaced, so clipping row by row bounds nothing "
                    "(in-batch contrastive losses and BatchNorm do this). Instead: patient-decoupled, or "
                    "patient-groups, with privacy.private_step",
                )
    return ()


def check_module(module: nn.Module) -> None:
    """Raise `ConfigError` with all of `module_faults`."""
    _refuse(module_faults(module))


def check_units(
    module: nn.Module,
    loss_of_unit: LossOfUnit,
    parameters: Tensors,
    units: Unit,
    probes: Sequence[Unit] = (),
    gradients: GradientsOfUnits = unit_gradients,
) -> None:
    """Raise `ConfigError` with everything that `module_faults`, `unit_faults` and `parameter_faults` find.

    probes: see `parameter_faults`; the stacked ``units`` serve as probes where none are given.
    """
    single = list(probes) or [unit_of(units, row) for row in range(count_units(units))]
    found = (
        module_faults(module),
        unit_faults(loss_of_unit, parameters, units, gradients),
        parameter_faults(module, loss_of_unit, parameters, single),
    )
    _refuse([fault for faults in found for fault in faults])


def check_rows(module: nn.Module, losses_of_batch: Callable[[Unit], Tensor], batch: Unit) -> None:
    """Raise `ConfigError` with everything that `module_faults` and `row_faults` find."""
    _refuse([*module_faults(module), *row_faults(losses_of_batch, batch)])


def _with_copy(batch: Unit, changed: int, source: int) -> Unit:
    def copied(leaf: Tensor) -> Tensor:
        leaf = leaf.clone()
        leaf[changed] = leaf[source]
        return leaf

    return pytree.tree_map(copied, batch)


def _refuse(faults: Sequence[str]) -> None:
    if faults:
        raise ConfigError(
            "differential privacy",
            faults,
            remedy="change the model or the loss as each line says",
            avoid="go on and print an epsilon: it would be false",
        )
