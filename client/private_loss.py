"""The loss of one unit, through all three towers, and its gradient for many units in one pass of each tower.

Units come stacked and filled up (`client.private_units.Unit`). A tower sees the rows of all units together, and nothing
but rows: what was filled up stays outside, and a text is padded by its own length only. The loss is taken on
embeddings, of one unit at a time.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Literal

import torch
from torch import Tensor, nn
from torch.func import functional_call, grad, vmap
from torch.nn import functional

from client.private_bank import EmbeddedBank, tensors_of_bank
from client.private_units import Unit
from more_model.data.study import Modality
from more_model.model.more import More
from privacy.losses import PatientPair, group_info_nce, patient_loss
from privacy.row_gradients import Batch, Call, layers_beyond_rows, recorded_calls, sums_over_rows
from privacy.unit_gradients import LossOfUnit, Tensors

#: Words with an X-ray, words with an ECG: what a complete patient has. Public, whatever a patient lacks.
_PAIRS_OF_A_COMPLETE_PATIENT = 2.0

#: Belongs to no layer; its name in `UnitModel`.
_LOG_TEMPERATURE = "model.log_temperature"

#: Texts are padded to a multiple of this: few lengths, so that many texts can be embedded together.
_TEXT_STEP = 32

Part = Literal["text", "xray", "ecg"]
#: Of one unit: ``text`` [t, d], ``xray`` [p, d], ``ecg`` [q, d], zeros for what is not there; ``temperature`` [1]; and
#: the public embeddings that it is compared with.
#: Stacked, with one more dimension in front.
UnitEmbedded = dict[str, Tensor]
LossOfEmbedded = Callable[[UnitEmbedded, Unit], Tensor]


@dataclass(frozen=True)
class Pass:
    """Rows that go through a tower together, of the units ``unit`` [rows], where they are number ``place`` [rows]."""

    part: Part
    inputs: tuple[Tensor, ...]
    unit: Tensor
    place: Tensor


class UnitModel(nn.Module):
    """The model as one call, which `torch.func.functional_call` needs."""

    def __init__(self, model: More) -> None:
        super().__init__()
        self.model = model

    def forward(self, passes: Sequence[Pass], calls: list[Call]) -> tuple[list[tuple[Tensor, list[Call]]], Tensor]:
        """Of each pass the unit vectors [rows, d] and what was added to ``calls`` meanwhile (see `recorded_calls`); and
        the temperature [1]."""
        made = []
        for one in passes:
            before = len(calls)
            made.append((self._projection(one), calls[before:]))
        return made, self.model.temperature

    def _projection(self, one: Pass) -> Tensor:
        if one.part == "text":
            ids, mask = one.inputs
            tower = self.model.text
            return tower.projected(tower.encoder.at_width(ids, mask, ids.shape[1])).projection
        projection: Tensor = (self.model.xray if one.part == "xray" else self.model.ecg)(*one.inputs).projection
        return projection


@dataclass(frozen=True)
class TowersLoss:
    """A loss of one unit (see `privacy.unit_gradients.LossOfUnit`): ``of_embedded`` after the towers.

    public: embeddings of public records that it compares with, by name. They may be given among the parameters, and
    then have a gradient like any of them.
    """

    model: UnitModel
    of_embedded: LossOfEmbedded
    public: Tensors = field(default_factory=dict)

    def __call__(self, parameters: Tensors, unit: Unit) -> Tensor:
        """The loss of a unit that is not stacked."""
        own, public = self.parted(parameters)
        units = {name: leaf[None] for name, leaf in unit.items()}
        ways = self.passes(units)
        made, temperature = functional_call(self.model, own, (ways, []), tie_weights=False)
        embedded = {part: rows[0] for part, rows in _placed(units, ways, [rows for rows, _ in made]).items()}
        return self.of_embedded({**embedded, **public, "temperature": temperature}, unit)

    def parted(self, parameters: Tensors) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        """Those of the model, and the public embeddings: given among them, or as they were."""
        own = {name: tensor for name, tensor in parameters.items() if name not in self.public}
        return own, {name: parameters.get(name, tensor) for name, tensor in self.public.items()}

    def passes(self, units: Unit) -> list[Pass]:
        """See `passes`."""
        return list(passes(units, self.model.model.text.encoder.most_tokens))


def decoupled(model: UnitModel, bank: EmbeddedBank) -> TowersLoss:
    """Loss of a patient against the bank; public records that are described word for word alike are left out."""
    names = {modality: (f"bank.{modality.value}.text", f"bank.{modality.value}.study") for modality in bank}

    def loss_of_patient(embedded: UnitEmbedded, unit: Unit) -> Tensor:
        pairs = []
        for modality, study, rows, present in _studies(embedded, unit):
            own = unit["words"][rows].where(present, -1)
            other = (bank[modality].words[:, None] != own).all(dim=1)
            bank_text, bank_study = (embedded[name] for name in names[modality])
            pairs.append(PatientPair(embedded["text"][rows], study, present, bank_text, bank_study, other))
        return patient_loss(pairs, embedded["temperature"], _PAIRS_OF_A_COMPLETE_PATIENT)

    public = {name: tensor.detach() for name, tensor in tensors_of_bank(bank).items()}
    return TowersLoss(model, loss_of_patient, public)


def in_group(model: UnitModel) -> TowersLoss:
    """Loss inside a group of patients; texts of one patient, or word for word alike, are no negatives."""

    def loss_of_group(embedded: UnitEmbedded, unit: Unit) -> Tensor:
        terms = [
            group_info_nce(embedded["text"][rows], study, present, unit["alike"][rows], embedded["temperature"])
            for _, study, rows, present in _studies(embedded, unit)
        ]
        return torch.stack(terms).sum() / _PAIRS_OF_A_COMPLETE_PATIENT

    return TowersLoss(model, loss_of_group)


def _studies(embedded: UnitEmbedded, unit: Unit) -> Iterator[tuple[Modality, Tensor, Tensor, Tensor]]:
    """Of each modality: the studies [p, d], the numbers of their texts [p], and which of them are there [p]."""
    for modality in (Modality.XRAY, Modality.ECG):
        rows = unit[f"{modality.value}_rows"]
        yield modality, embedded[modality.value], rows.clamp(min=0), rows >= 0


def passes(units: Unit, most_tokens: int | None) -> Iterator[Pass]:
    """What stacked units send through the towers; what a row becomes depends on nothing but the row.

    most_tokens: of the text tower (`more_model.model.text.TextEncoder.most_tokens`).
    """
    unit, place = torch.nonzero(units["words"] >= 0, as_tuple=True)
    ids, mask = units["ids"][unit, place], units["mask"][unit, place]
    lengths = mask.sum(dim=1)
    # One position more than the words need: attention then has something to mask in every text, and never takes the
    # shorter way that libraries have for batches without padding. A text without room for it goes apart.
    widths = (lengths // _TEXT_STEP + 1) * _TEXT_STEP
    if most_tokens is not None:
        widths = widths.clamp(max=most_tokens)
    for width, full in sorted(set(zip(widths.tolist(), (lengths == widths).tolist(), strict=True))):
        rows = torch.nonzero((widths == width) & ((lengths == widths) == full))[:, 0]
        room = (0, width - ids.shape[1])
        yield Pass("text", (functional.pad(ids[rows], room), functional.pad(mask[rows], room)), unit[rows], place[rows])
    parts: tuple[tuple[Part, str], ...] = (("xray", "xrays"), ("ecg", "ecgs"))
    for part, studies in parts:
        unit, place = torch.nonzero(units[f"{part}_rows"] >= 0, as_tuple=True)
        if len(unit):
            yield Pass(part, (units[studies][unit, place],), unit, place)


def _placed(units: Unit, ways: Sequence[Pass], projections: Sequence[Tensor]) -> UnitEmbedded:
    """Embeddings of stacked units, [n, t, d] and so on."""
    count, width = len(units["words"]), projections[0].shape[1]
    embedded = {}
    for part, places in (("text", "words"), ("xray", "xray_rows"), ("ecg", "ecg_rows")):
        rows = projections[0].new_zeros((count, units[places].shape[1], width))
        for one, projection in zip(ways, projections, strict=True):
            if one.part == part:
                rows = rows.index_put((one.unit, one.place), projection)
        embedded[part] = rows
    return embedded


def gradients_in_passes(loss: LossOfUnit, parameters: Tensors, units: Unit) -> dict[str, Tensor]:
    """`privacy.unit_gradients.GradientsOfUnits` of a `TowersLoss`: one forward and one backward pass of each tower over
    the rows of all units.

    The gradient on embeddings is taken by `torch.func.vmap`, each unit's by itself; what it becomes in the parameters
    is the business of `privacy.row_gradients`. No bit of a unit's gradient depends on other units, as long as these
    have as many rows. Where they have more or fewer, the last bits of matrix products may differ (about 1e-6 of a
    gradient's norm; rarely more, where the input of a ReLU is zero up to these bits).
    """
    if not isinstance(loss, TowersLoss):
        raise TypeError(f"not a loss of towers: {type(loss).__name__}")
    own, public = loss.parted(parameters)
    leaves = {name: tensor.detach().requires_grad_(True) for name, tensor in own.items()}
    ways, count = loss.passes(units), len(units["words"])
    with torch.enable_grad(), recorded_calls(loss.model, leaves) as calls:
        made, temperature = functional_call(loss.model, leaves, (ways, calls), tie_weights=False)
    embedded = _placed(units, ways, [projection.detach() for projection, _ in made])
    embedded["temperature"] = temperature.detach().expand(count, 1)
    embedded |= {name: tensor.detach().expand(count, *tensor.shape) for name, tensor in public.items()}
    back = vmap(grad(loss.of_embedded))(embedded, units)
    batches = [
        Batch(projection, back[one.part][one.unit, one.place], called, one.unit)
        for one, (projection, called) in zip(ways, made, strict=True)
        if projection.requires_grad  # a frozen tower has no gradient to give
    ]
    total = sums_over_rows(batches, leaves, count)
    if temperature.requires_grad:
        (slope,) = torch.autograd.grad(temperature, leaves[_LOG_TEMPERATURE])
        total[_LOG_TEMPERATURE] += back["temperature"] * slope
    return total | {name: back[name] for name in public if name in parameters}


def parameters_beyond_passes(model: UnitModel) -> tuple[str, ...]:
    """What trains, but not in a layer that treats rows one by one; `gradients_in_passes` may not serve where there is
    any."""
    return tuple(name for name in layers_beyond_rows(model) if name != _LOG_TEMPERATURE)
