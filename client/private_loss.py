"""The loss of one unit, through all three towers, as `privacy.unit_gradients` wants it: pure, one unit at a time."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.func import functional_call

from client.private_bank import EmbeddedBank
from client.private_units import Unit
from more_model.data.study import Modality
from more_model.model.more import More
from privacy.losses import PatientPair, group_info_nce, patient_loss
from privacy.unit_gradients import LossOfUnit, Tensors

#: Words with an X-ray, words with an ECG: what a complete patient has. Public, whatever a patient lacks.
_PAIRS_OF_A_COMPLETE_PATIENT = 2.0


@dataclass(frozen=True)
class UnitEmbedded:
    """Unit vectors: ``text`` [n, d], ``xray`` [p, d], ``ecg`` [q, d]; ``temperature`` [1]."""

    text: Tensor
    xray: Tensor
    ecg: Tensor
    temperature: Tensor

    def pairs(self, unit: Unit) -> list[tuple[Modality, Tensor, Tensor, Tensor]]:
        """Of each modality: the texts [p, d], the studies [p, d], and the numbers of the texts [p]."""
        of_text = {Modality.XRAY: unit["xray_rows"], Modality.ECG: unit["ecg_rows"]}
        studies = {Modality.XRAY: self.xray, Modality.ECG: self.ecg}
        return [(modality, self.text[rows], studies[modality], rows) for modality, rows in of_text.items()]


class UnitModel(nn.Module):
    """The model as one call on one unit, which `torch.func.functional_call` needs; a tower without input is not run."""

    def __init__(self, model: More) -> None:
        super().__init__()
        self.model = model

    def forward(self, unit: Unit) -> UnitEmbedded:
        """Everything that the unit has, embedded."""
        text = self.model.text(unit["ids"], unit["mask"]).projection
        xray = self.model.xray(unit["xrays"]).projection if len(unit["xray_rows"]) else text[:0]
        ecg = self.model.ecg(unit["ecgs"]).projection if len(unit["ecg_rows"]) else text[:0]
        return UnitEmbedded(text, xray, ecg, self.model.temperature)


def decoupled(model: UnitModel, bank: EmbeddedBank) -> LossOfUnit:
    """Loss of a patient against the bank; public records that are described word for word alike are left out."""

    def loss_of_patient(parameters: Tensors, unit: Unit) -> Tensor:
        found: UnitEmbedded = functional_call(model, dict(parameters), (unit,))
        pairs = []
        for modality, text, study, rows in found.pairs(unit):
            negatives = bank[modality].without(unit["words"][rows])
            everything = torch.ones_like(rows, dtype=torch.bool)
            pairs.append(PatientPair(text, study, everything, negatives.text, negatives.study))
        return patient_loss(pairs, found.temperature, _PAIRS_OF_A_COMPLETE_PATIENT)

    return loss_of_patient


def in_group(model: UnitModel) -> LossOfUnit:
    """Loss inside a group of patients; texts of one patient, or word for word alike, are no negatives."""

    def loss_of_group(parameters: Tensors, unit: Unit) -> Tensor:
        found: UnitEmbedded = functional_call(model, dict(parameters), (unit,))
        alike = _alike(unit["patients"], unit["words"])
        terms = [
            group_info_nce(text, study, torch.ones_like(rows, dtype=torch.bool), alike[rows], found.temperature)
            for _, text, study, rows in found.pairs(unit)
        ]
        return torch.stack(terms).sum() / _PAIRS_OF_A_COMPLETE_PATIENT

    return loss_of_group


def _alike(patients: Tensor, words: Tensor) -> Tensor:
    """Numbers [n], equal for texts of one patient or of the same words, and for what these tie together."""
    tied = (patients[:, None] == patients[None, :]) | (words[:, None] == words[None, :])
    labels = torch.arange(len(patients), device=patients.device)
    for _ in range(len(labels)):  # as many passes as the longest chain may have links
        labels = torch.where(tied, labels[None, :], len(labels)).amin(dim=1)
    return labels
