"""What is said about the health of a trained model: one finding a signature and tower, with a verdict in words."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

Verdict = Literal["ok", "watch", "alarm", "unknown"]

#: From harmless to grave; what is not known says nothing either way.
GRAVITY: Mapping[str, int] = {"unknown": -1, "ok": 0, "watch": 1, "alarm": 2}


@dataclass(frozen=True, slots=True)
class Finding:
    """``tower`` is xray, ecg or text, or empty for the whole model; a finding about a pair with the text stands under
    the image or tracing. ``threshold`` is the one that was crossed, or the first that would be. ``value`` and
    ``threshold`` are None where the verdict is unknown. Never about a single patient."""

    code: str
    tower: str
    value: float | None
    threshold: float | None
    verdict: Verdict
    sentence: str


@dataclass(frozen=True, slots=True)
class Limits:
    """Where a value becomes a matter to watch, and where an alarm; both ends count as crossed. ``worse`` says on which
    side the bad values lie."""

    watch: float
    alarm: float
    worse: Literal["above", "below"] = "above"

    def judge(self, value: float) -> tuple[Verdict, float]:
        """The verdict, and the threshold behind it; a value that is no number is an alarm."""
        sign = 1.0 if self.worse == "above" else -1.0
        if not sign * value < sign * self.alarm:
            return "alarm", self.alarm
        if sign * value >= sign * self.watch:
            return "watch", self.watch
        return "ok", self.watch


@dataclass(frozen=True, slots=True)
class Signature:
    """One way in which such a model fails: its ``title``, what it ``means`` and what to ``do``, in plain words."""

    title: str
    means: str
    do: str


SIGNATURES: Mapping[str, Signature] = {
    "loss": Signature(
        "Training loss against chance",
        "Chance is the loss of a model that guesses which words belong to which study. A loss near chance has learnt "
        "nothing.",
        "Check that reports belong to their studies, then the learning rate and the temperature.",
    ),
    "held_out": Signature(
        "Loss on new patients against chance",
        "The loss on patients that were never trained on, against guessing among all of them. Near chance while the "
        "training loss is low, the model has learnt its patients by heart.",
        "Fewer epochs, more patients, augmentation on.",
    ),
    "rank": Signature(
        "Directions in use",
        "How many independent directions the embeddings use. On a single line a model can sort patients in one order "
        "only, whatever it is asked.",
        "Lower the learning rate and train longer, the base above all; look at the labels one by one.",
    ),
    "spread": Signature(
        "Spread of patients",
        "Whether patients lie apart at all. Where all lie in one place, the model gives everyone the same answer.",
        "Lower the learning rate; check that the input of this modality is not blank.",
    ),
    "alignment": Signature(
        "Own words nearer than others",
        "How far a study lies from its own words, as a share of its distance to other patients' words. At 1, its own "
        "words are no nearer.",
        "Check the pairing of studies and reports, then train longer.",
    ),
    "gap": Signature(
        "Gap between words and studies",
        "Words and studies may lie in two separate places. Scores then differ in their last digits only, and a "
        "similarity cannot be read as agreement.",
        "Use scores to rank patients only, and with a negative wording beside the positive one.",
    ),
    "drag": Signature(
        "One modality dragged down",
        "One modality becomes worse while the other improves: they share the text tower.",
        "Stop at the better round; balance the pairs of both modalities; lower the learning rate.",
    ),
    "gradient": Signature(
        "Share of the training signal",
        "A tower that receives no part of the training signal does not learn, whatever the others do.",
        "Check that the tower is not frozen and that its pairs are not all copies.",
    ),
    "attention": Signature(
        "Attention",
        "Attention that looks everywhere alike has found nothing to look at; attention at one single point has often "
        "become unstable.",
        "Everywhere alike: train longer, or from pretrained weights. One point: lower the learning rate.",
    ),
    "wording": Signature(
        "Zero-shot over wordings",
        "Whether the answer turns into its opposite when the same question is put in other words.",
        "Use the whole prompt set, never one wording; do not report the labels named.",
    ),
    "seeds": Signature(
        "Zero-shot over seeds",
        "Whether training again with another random start gives the same result.",
        "Report the mean over seeds with its spread; train longer.",
    ),
}
