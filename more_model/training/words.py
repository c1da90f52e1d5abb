"""The words a triplet is trained against: its reports, or sentences made from its labels where there is no report."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from pydantic import BaseModel, ConfigDict, Field

from more_model.data.study import Modality, Triplet

#: Say which study the words are about; prompts are worded with the same prefixes.
PREFIX = {Modality.XRAY: "chest x-ray report:", Modality.ECG: "ecg report:"}


def about(modality: Modality, words: str) -> str:
    """The words of one report, or a prompt, in the form that the text tower is trained on."""
    return f"{PREFIX[modality]} {words}"


def joint(xray_words: str, ecg_words: str) -> str:
    """Both reports of a full triplet as one text."""
    return f"{about(Modality.XRAY, xray_words)} {about(Modality.ECG, ecg_words)}"


class LabelWording(BaseModel):
    """How labels become a sentence where a site has no reports. They are called *label prompts*, never reports."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    modality: Modality
    present: Mapping[str, Sequence[str]] = Field(default_factory=dict)
    absent: Mapping[str, Sequence[str]] = Field(default_factory=dict)


def with_label_prompts(triplets: Sequence[Triplet], wordings: Sequence[LabelWording]) -> tuple[list[Triplet], int]:
    """Fill missing reports from labels; which of several wordings is used depends on the patient id alone.

    Returns the triplets and how many texts were made.
    """
    filled, made = [], 0
    for triplet in triplets:
        for wording in wordings:
            changed = _worded(triplet, wording)
            made += changed is not triplet
            triplet = changed
        filled.append(triplet)
    return filled, made


def _worded(triplet: Triplet, wording: LabelWording) -> Triplet:
    is_xray = wording.modality is Modality.XRAY
    has_study = (triplet.xray if is_xray else triplet.ecg) is not None
    if not has_study or (triplet.xray_report if is_xray else triplet.ecg_report) is not None:
        return triplet
    sentences = []
    for label, value in sorted(triplet.labels.items()):
        choices = {1.0: wording.present, 0.0: wording.absent}.get(value, {}).get(label)
        if choices:
            sentences.append(choices[sum(triplet.patient_id.encode()) % len(choices)])
    if not sentences:
        return triplet
    text = " ".join(sentences)
    return replace(triplet, xray_report=text) if is_xray else replace(triplet, ecg_report=text)
