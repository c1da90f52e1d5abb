"""What the released MoRE code calls its tensors, and where each of them goes here."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from more_model.data.leads import STANDARD_LEADS
from more_model.model.config import ModelConfig
from more_model.model.more import build_more

#: The lead order of MIMIC-IV-ECG's files, which the released code trains on as it finds them.
MIMIC_LEADS = ("I", "II", "III", "aVR", "aVF", "aVL", "V1", "V2", "V3", "V4", "V5", "V6")

_PEFT = "text_model.base_model.model."
#: Our prefixes and theirs. The numbers are those of their nested sequences: convolution, ReLU, BatchNorm.
_PLACES = (
    ("xray.encoder.vit.", "xray_model.vit_model."),
    ("ecg.encoder.vit.patch_embed.conv1.", "ecg_model.vit_model.patch_embed.conv1.0."),
    ("ecg.encoder.vit.patch_embed.norm1.", "ecg_model.vit_model.patch_embed.conv1.2."),
    ("ecg.encoder.vit.patch_embed.conv2.", "ecg_model.vit_model.patch_embed.conv2.0."),
    ("ecg.encoder.vit.patch_embed.norm2.", "ecg_model.vit_model.patch_embed.conv2.2."),
    ("ecg.encoder.vit.", "ecg_model.vit_model."),
    ("text.encoder.encoder.", _PEFT),
    *(
        (f"{tower}.head.{ours}.", f"{projector}.layers.{theirs}.")
        for tower, projector in (
            ("xray", "projector_xray_text"),
            ("ecg", "projector_ecg_text"),
            ("text", "projector_text"),
        )
        for ours, theirs in ((0, "0.linear"), (1, "0.bn"), (3, "2.linear"), (4, "2.bn"))
    ),
)
_ADAPTED = re.compile(r"(\.attention\.self\.(?:query|value))\.(weight|bias)$")
_FIRST_CONVOLUTION = "ecg.encoder.vit.patch_embed.conv1.weight"


@dataclass(frozen=True, slots=True)
class Slot:
    """A tensor of the released model: its shape, and our name for it. Without a name it is known and not taken over as
    it is: a LoRA factor, or the text model's pooler, which mean pooling never asks."""

    shape: tuple[int, ...]
    ours: str | None = None


def released_slots(config: ModelConfig, *, adapter: bool) -> dict[str, Slot]:
    """Name -> slot of every tensor that the released code saves for ``config``; 571 for the published sizes.

    ``adapter``: with the LoRA factors beside the weights that they adapt; otherwise merged into them.
    """
    with torch.device("meta"):
        own = build_more(config, seed=0, pad_id=1).state_dict()
    own.pop("log_temperature")  # constant in the released code, and not saved
    slots: dict[str, Slot] = {}
    for ours, tensor in own.items():
        theirs = _released_name(ours)
        if adapter and (found := _ADAPTED.search(theirs)):
            theirs = _ADAPTED.sub(r"\1.base_layer.\2", theirs)
            if found[2] == "weight":
                slots |= _factors(theirs, tuple(tensor.shape), config.lora.rank)
        slots[theirs] = Slot(tuple(tensor.shape), ours)
    width = config.text.width
    return slots | {
        f"{_PEFT}pooler.dense.weight": Slot((width, width)),
        f"{_PEFT}pooler.dense.bias": Slot((width,)),
    }


def _released_name(ours: str) -> str:
    prefix, theirs = next(place for place in _PLACES if ours.startswith(place[0]))
    return theirs + ours.removeprefix(prefix)


def _factors(base_weight: str, shape: tuple[int, ...], rank: int) -> dict[str, Slot]:
    outputs, inputs = shape
    return {
        factor_name(base_weight, "A"): Slot((rank, inputs)),
        factor_name(base_weight, "B"): Slot((outputs, rank)),
    }


def factor_name(base_weight: str, factor: str) -> str:
    """The LoRA factor ``A`` or ``B`` of the weight that PEFT calls ``base_weight``."""
    return base_weight.replace(".base_layer.weight", f".lora_{factor}.default.weight")


def has_adapter(state: Mapping[str, Tensor]) -> bool:
    """Whether any tensor shows that the adapter is not merged."""
    return any(".lora_" in name or ".base_layer." in name for name in state)


def under_peft(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """``state`` with the text model under PEFT's prefix, which merging an adapter takes off."""
    text = "text_model."
    return {
        name.replace(text, _PEFT, 1) if name.startswith(text) and not name.startswith(_PEFT) else name: tensor
        for name, tensor in state.items()
    }


def our_tensors(
    state: Mapping[str, Tensor], slots: Mapping[str, Slot], config: ModelConfig, leads: tuple[str, ...]
) -> dict[str, Tensor]:
    """The tensors of ``state``, which fit ``slots``, under our names: float32, adapters merged as
    W + (alpha / rank) B A, the first ECG convolution reading its leads, given in the order ``leads``, from ours."""
    ours: dict[str, Tensor] = {}
    for name, slot in slots.items():
        if slot.ours is None:
            continue
        tensor = state[name].float() if state[name].is_floating_point() else state[name]
        if name.endswith(".base_layer.weight"):
            down, up = (state[factor_name(name, factor)].double() for factor in "AB")
            tensor = (tensor.double() + config.lora.alpha / config.lora.rank * (up @ down)).float()
        ours[slot.ours] = tensor.contiguous()
    ours[_FIRST_CONVOLUTION] = ours[_FIRST_CONVOLUTION][:, [leads.index(lead) for lead in STANDARD_LEADS]].contiguous()
    return ours
