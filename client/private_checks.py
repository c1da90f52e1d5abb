"""Before private training begins: whether this model and this bank can be used, tried out on public records."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch

from client.private_bank import PublicBank
from client.private_loss import TowersLoss, UnitModel, gradients_in_passes, parameters_beyond_passes
from client.private_units import Unit, tensors_of
from more_model.data.study import Modality, Triplet
from more_model.errors import ConfigError
from more_model.model.more import More
from more_model.training.examples import Examples
from more_model.training.views import whole_views
from privacy.isolation import batch_norm_faults, check_units
from privacy.private_step import private_parameters
from privacy.row_gradients import RowsMixed
from privacy.settings import PrivacySettings
from privacy.unit_gradients import GradientsOfUnits, Tensors, gradients_one_by_one, unit_of

_LOG = logging.getLogger(__name__)
_WHERE = "private training"
#: Of the norm of a unit's gradient. Rounding stays far below; a layer that is left out, or counted twice, far above.
_ROUNDING = 1e-3
#: Two units of two patients each, which is what a group needs to have a loss at all.
_PROBED_PATIENTS = 4


def check_batch_norm(model: More) -> None:
    """Refuse (ConfigError) BatchNorm, frozen or not: see `privacy.isolation.batch_norm_faults`."""
    if faults := batch_norm_faults(model):
        raise ConfigError(
            _WHERE,
            faults,
            remedy="train the federation's base with layer normalisation",
            avoid="freeze these parts and go on: frozen parameters do not stop the statistics",
        )


def trained_modalities(model: More) -> list[Modality]:
    """Those whose towers train; both where only the text tower does."""
    towers = ((Modality.XRAY, model.xray), (Modality.ECG, model.ecg))
    trained = [
        modality for modality, tower in towers if any(parameter.requires_grad for parameter in tower.parameters())
    ]
    return trained or [modality for modality, _ in towers]


def check_bank(model: More, bank: PublicBank, examples: Examples) -> None:
    """Refuse a bank with patients of this site, or with too few to contrast with and to try the model on."""
    own = {(triplet.site, triplet.patient_id) for triplet in examples.triplets}
    faults = []
    if any((triplet.site, triplet.patient_id) in own for triplet in bank.examples.triplets):
        faults.append("the public bank holds patients of this site: their embeddings would enter without noise")
    faults += [
        f"the public bank has fewer than {_PROBED_PATIENTS} patients with a pair of words and {modality.value}, so "
        "there is nothing to contrast with and to try the model on; add some, or freeze that tower"
        for modality in trained_modalities(model)
        if len(_alone(bank.examples, modality)) < _PROBED_PATIENTS
    ]
    if faults:
        raise ConfigError(_WHERE, faults, remedy="use a bank of public records with pairs of every modality")


def checked_gradients(
    model: UnitModel, loss: TowersLoss, bank: PublicBank, settings: PrivacySettings, words: dict[str, Any]
) -> GradientsOfUnits:
    """How the gradients of this model's units are to be taken, tried out on public patients: no unit may reach another,
    and every parameter must be reached.

    In passes over many units where all that trains lies in layers that allow it and the result is that of autograd, one
    unit after the other; otherwise really one after the other.

    Raises:
        ConfigError: holds every fault.
    """
    size = 1 if settings.mode == "patient-decoupled" else 2
    probes = [_probes(model, bank.examples, modality, size, words) for modality in trained_modalities(model.model)]
    parameters = {**private_parameters(model), **loss.public}
    gradients = _way_to_take(model, loss, parameters, probes)
    single = [unit_of(units, number) for units in probes for number in range(2)]
    for units in probes:
        check_units(model, loss, parameters, units, single, gradients)
    return gradients


def _probes(model: UnitModel, examples: Examples, modality: Modality, size: int, words: dict[str, Any]) -> Unit:
    """Two stacked units of ``size`` public patients with a pair of ``modality`` each."""
    alone = _alone(examples, modality)
    rows = [range(size), range(size, 2 * size)]
    views = [[whole_views(alone.triplets[row], together=False) for row in of_unit] for of_unit in rows]
    units = tensors_of(alone, rows, views, device=next(model.parameters()).device, **words)
    # Texts of one length: then passes have the same shapes whatever takes the place of the second unit, and not a bit
    # of the first one's gradient may change.
    shortest = int(units["mask"].sum(dim=2).min())
    return {**units, "ids": units["ids"][:, :, :shortest], "mask": units["mask"][:, :, :shortest]}


def _way_to_take(model: UnitModel, loss: TowersLoss, parameters: Tensors, probes: Sequence[Unit]) -> GradientsOfUnits:
    beyond = parameters_beyond_passes(model)
    if not beyond:
        try:
            if all(_agree(loss, parameters, units) for units in probes):
                return gradients_in_passes
        except RowsMixed as error:
            _LOG.info("%s", error)
        beyond = ("the sum over the layers is not what autograd finds",)
    _LOG.warning("private gradients are taken one unit after the other, which is slow: %s", ", ".join(beyond))
    return gradients_one_by_one


def _agree(loss: TowersLoss, parameters: Tensors, units: Unit) -> bool:
    found, expected = (
        torch.cat([rows.flatten(1) for rows in method(loss, parameters, units).values()], dim=1)
        for method in (gradients_in_passes, gradients_one_by_one)
    )
    return bool(((found - expected).norm(dim=1) <= _ROUNDING * expected.norm(dim=1)).all())


def _alone(examples: Examples, modality: Modality) -> Examples:
    """The first few public patients with a pair of ``modality``, one pair each, the other modality taken away."""
    rows: dict[tuple[str, str], int] = {}
    for row, triplet in enumerate(examples.triplets):
        if any(view.xray == (modality is Modality.XRAY) for view in whole_views(triplet, together=False)):
            rows.setdefault((triplet.site, triplet.patient_id), row)
    chosen = list(rows.values())[:_PROBED_PATIENTS]
    return Examples(
        tuple(_only(examples.triplets[row], modality) for row in chosen),
        tuple(examples.source_of[row] for row in chosen),
        examples.sources,
    )


def _only(triplet: Triplet, modality: Modality) -> Triplet:
    if modality is Modality.XRAY:
        return replace(triplet, ecg=None, ecg_report=None)
    return replace(triplet, xray=None, xray_report=None)
