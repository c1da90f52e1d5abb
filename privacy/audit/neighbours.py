"""Pairs of adjacent cohorts on which a private step is tried: a hospital in small, and its worst patient.

A random batch shows nothing: its records push the gradients in all directions and a wrong mechanism looks sound. What a
hospital has is many near-identical normal studies and a few odd ones, and it is the odd one whose presence shows. The
towers are tiny, as the noise is the same in every coordinate whatever their number.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from privacy.losses import PatientPair, decoupled_loss, group_info_nce
from privacy.private_step import private_parameters
from privacy.sensitivity import Mode
from privacy.unit_gradients import LossOfUnit, Tensors, clip_factors, clipped_sum, unit_gradients

_INPUTS, _EMBEDDING, _TEMPERATURE = 4, 4, 0.1
#: Smaller than most gradients of these towers, so that nearly every unit is clipped, as in training.
CLIP_NORM = 0.05
PATIENTS, _GROUP, _BANK = 8, 4, 32
#: The control fails the worse, the more patients are in a batch with the odd one.
_CONTROL_PATIENTS = 16
#: Odd patients to choose the most visible one from.
_CANDIDATES = 200
Record = dict[str, Tensor]


@dataclass(frozen=True)
class Side:
    """One of two adjacent cohorts: the loss of a unit, and the stacked units."""

    loss: LossOfUnit
    units: Any


@dataclass(frozen=True)
class Neighbours:
    """Two cohorts that differ in one patient, and what is claimed to hide the difference.

    mode: whose sensitivity and accounting are claimed. change: what differs, in words.
    """

    name: str
    mode: Mode
    change: str
    parameters: Tensors
    before: Side
    after: Side

    def difference(self) -> Tensor:
        """[numbers], float64: how far the sum of clipped gradients moves from the first cohort to the second."""
        sums = [
            clipped_sum(side.loss, self.parameters, [side.units], CLIP_NORM).sums for side in (self.before, self.after)
        ]
        return torch.cat([(sums[1][name] - sums[0][name]).double().flatten() for name in self.parameters])


class _Towers(nn.Module):
    """Two linear encoders, images and texts."""

    def __init__(self) -> None:
        super().__init__()
        self.image = nn.Linear(_INPUTS, _EMBEDDING, bias=False)
        self.text = nn.Linear(_INPUTS, _EMBEDDING, bias=False)

    def forward(self, images: Tensor, texts: Tensor) -> tuple[Tensor, Tensor]:
        return functional.normalize(self.image(images), dim=-1), functional.normalize(self.text(texts), dim=-1)


@dataclass(frozen=True)
class _Hospital:
    """Towers, records that look alike, and candidates for the odd one. All drawn from fixed seeds."""

    towers: _Towers
    parameters: dict[str, Tensor]
    normal: Record
    odd: Record
    bank: Record

    def few(self) -> Record:
        """As many normal records as a cohort of `PATIENTS` with one odd patient has."""
        return {name: rows[: PATIENTS - 1] for name, rows in self.normal.items()}

    def embed(self, parameters: Tensors, record: Record) -> tuple[Tensor, Tensor]:
        outputs = torch.func.functional_call(self.towers, dict(parameters), (record["image"], record["text"]))
        return outputs  # type: ignore[no-any-return]

    def patient_loss(self, parameters: Tensors, patient: Record) -> Tensor:
        """``patient``: image, text [1, d]: one study."""
        bank_first, bank_second = self.embed(parameters, self.bank)
        first, second = self.embed(parameters, patient)
        there = torch.ones(1, dtype=torch.bool)
        return decoupled_loss(
            PatientPair(first, second, there, bank_first.detach(), bank_second.detach()), _TEMPERATURE
        )

    def group_loss(self, parameters: Tensors, group: Record) -> Tensor:
        """``group``: image, text [k, d]: k patients with one study each."""
        first, second = self.embed(parameters, group)
        count = len(first)
        return group_info_nce(first, second, torch.ones(count, dtype=torch.bool), torch.arange(count), _TEMPERATURE)

    def coupled_loss(self, batch: Record) -> LossOfUnit:
        """The published in-batch loss taken apart into one term a record: what must never be clipped term by term."""

        def loss(parameters: Tensors, chosen: Tensor) -> Tensor:
            first, second = self.embed(parameters, batch)
            logits = first @ second.T / _TEMPERATURE
            rows = torch.arange(len(logits))
            forth = functional.cross_entropy(logits, rows, reduction="none")
            back = functional.cross_entropy(logits.T, rows, reduction="none")
            return ((forth + back) / 2 * chosen).sum()

        return loss


def decoupled_neighbours() -> Neighbours:
    """`patient-decoupled`: the patient whose gradient is longest leaves."""
    hospital = _hospital()
    everyone = _joined(hospital.few(), _row(hospital.odd, _longest(hospital)))
    everyone = {name: rows[:, None] for name, rows in everyone.items()}
    others = {name: rows[:-1] for name, rows in everyone.items()}
    return Neighbours(
        "one private step, patient-decoupled",
        "patient-decoupled",
        "one odd patient among near-identical ones leaves",
        hospital.parameters,
        Side(hospital.patient_loss, others),
        Side(hospital.patient_loss, everyone),
    )


def group_neighbours() -> Neighbours:
    """`patient-groups` and `patient-shuffled`, whose step is the same: one member of a group is exchanged."""
    hospital = _hospital()
    full = _joined(hospital.few(), _row(hospital.odd, 0))
    full = {name: rows.reshape(-1, _GROUP, _INPUTS) for name, rows in full.items()}
    one, other = _farthest(hospital, {name: rows[-1] for name, rows in full.items()})

    def with_odd(candidate: int) -> Record:
        return {
            name: torch.cat([rows[:-1], _with_last(rows[-1], hospital.odd[name][candidate])[None]])
            for name, rows in full.items()
        }

    return Neighbours(
        "one private step, patient-groups and patient-shuffled",
        "patient-groups",
        "one odd patient of a group is exchanged for another",
        hospital.parameters,
        Side(hospital.group_loss, with_odd(one)),
        Side(hospital.group_loss, with_odd(other)),
    )


def coupled_neighbours() -> Neighbours:
    """The control: in-batch InfoNCE under per-example clipping, which claims the sensitivity of `patient-decoupled` and
    does not have it. An audit that does not find this finds nothing."""
    hospital = _hospital()

    def side(batch: Record) -> Side:
        return Side(hospital.coupled_loss(batch), torch.eye(len(batch["image"])))

    def pair(candidate: int) -> Neighbours:
        return Neighbours(
            "control: in-batch contrastive loss, clipped per example",
            "patient-decoupled",
            "one odd patient among near-identical ones leaves",
            hospital.parameters,
            side(hospital.normal),
            side(_joined(hospital.normal, _row(hospital.odd, candidate))),
        )

    return max((pair(candidate) for candidate in range(20)), key=lambda found: float(found.difference().norm()))


def _hospital() -> _Hospital:
    draws = torch.Generator().manual_seed(11)

    def drawn(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=draws)

    towers = _Towers()
    for layer in (towers.image, towers.text):
        layer.weight.data = 0.6 * drawn(_EMBEDDING, _INPUTS)
    normal = {name: drawn(1, _INPUTS) + 0.05 * drawn(_CONTROL_PATIENTS - 1, _INPUTS) for name in ("image", "text")}
    odd = {name: 2 * drawn(_CANDIDATES, _INPUTS) for name in ("image", "text")}
    bank = {name: drawn(_BANK, _INPUTS) for name in ("image", "text")}
    return _Hospital(towers, private_parameters(towers), normal, odd, bank)


def _joined(first: Record, second: Record) -> Record:
    return {name: torch.cat([rows, second[name]]) for name, rows in first.items()}


def _row(records: Record, row: int) -> Record:
    return {name: rows[row : row + 1] for name, rows in records.items()}


def _with_last(group: Tensor, member: Tensor) -> Tensor:
    return torch.cat([group[:-1], member[None]])


def _longest(hospital: _Hospital) -> int:
    studies = {name: rows[:, None] for name, rows in hospital.odd.items()}
    return int(_flat(unit_gradients(hospital.patient_loss, hospital.parameters, studies)).norm(dim=1).argmax())


def _farthest(hospital: _Hospital, group: Record) -> tuple[int, int]:
    """The two candidates between whose clipped group gradients the distance is largest, as last member of ``group``."""
    groups = {
        name: torch.stack([_with_last(rows, member) for member in hospital.odd[name]]) for name, rows in group.items()
    }
    gradients = unit_gradients(hospital.group_loss, hospital.parameters, groups)
    factors, _ = clip_factors(gradients, CLIP_NORM)
    clipped = _flat(gradients) * factors[:, None]
    place = int(torch.cdist(clipped, clipped).argmax())
    return place // _CANDIDATES, place % _CANDIDATES


def _flat(gradients: Mapping[str, Tensor]) -> Tensor:
    return torch.cat([gradient.flatten(1) for gradient in gradients.values()], dim=1)
