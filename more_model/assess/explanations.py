"""Pictures and figures of what an assessment rests on, for the strongest finding of each kind."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from more_model.assess.inputs import Input
from more_model.assess.judge import Judgement, probability_with_report, strongest
from more_model.assess.parts import Part
from more_model.assess.reference import Reference
from more_model.checkpoint import TrainedModel
from more_model.data.study import Modality
from more_model.explain.cases import ABSENCES
from more_model.explain.explanation import Explanation, explain_pair
from more_model.explain.figure import alternative, explanation_png
from more_model.search.words import embed_in_batches
from more_model.training.words import about

_SENTENCE_END = re.compile(r"(?<=[.;])\s+")
#: Of a long report: each sentence costs one pass through the text tower.
_MOST_SENTENCES = 40


@dataclass(frozen=True, slots=True, eq=False)
class Drawn:
    """One explanation with its picture. ``finding`` is what it is about, or None where it is about the report."""

    part: Part
    finding: str | None
    explanation: Explanation
    png: bytes

    @property
    def alt(self) -> str:
        """What the picture shows, in words."""
        return alternative(self.explanation)

    def to_dict(self) -> dict[str, Any]:
        """Ready for JSON, without the arrays."""
        return {"part": self.part.value, "finding": self.finding, "seen": self.alt, **self.explanation.facts()}


@dataclass(frozen=True, slots=True)
class SentenceEffects:
    """What the probability of ``finding`` would be without each sentence of the report; ``whole`` is with all."""

    finding: str
    whole: float
    without: tuple[tuple[str, float], ...]

    def to_dict(self) -> dict[str, Any]:
        """Ready for JSON."""
        without = [{"sentence": sentence, "probability": value} for sentence, value in self.without]
        return {"finding": self.finding, "probability": self.whole, "without": without}


def explain_assessment(
    trained: TrainedModel, inputs: Mapping[Part, Input], judgements: Sequence[Judgement]
) -> list[Drawn]:
    """For an X-ray and for an ECG: a map for its strongest finding against the finding's negative wording, and one for
    the words of the report where that is about the same kind of study."""
    drawn = []
    report = inputs.get(Part.REPORT)
    for part, kind in ((Part.XRAY, Modality.XRAY), (Part.ECG, Modality.ECG)):
        if part not in inputs:
            continue
        study: dict[str, Any] = {part.value: inputs[part].array}
        found = strongest(judgements, kind, besides=ABSENCES)
        if found is not None:
            asked = found.finding
            explanation = explain_pair(trained, **study, words=asked.positive, contrast=asked.negative)
            drawn.append(_drawn(part, asked.label, explanation))
        if report is not None and report.kind is kind and report.text:
            drawn.append(_drawn(part, None, explain_pair(trained, **study, words=report.text)))
    return drawn


def _drawn(part: Part, finding: str | None, explanation: Explanation) -> Drawn:
    return Drawn(part, finding, explanation, explanation_png([explanation], dpi=110))


def sentence_effects(
    reference: Reference,
    trained: TrainedModel,
    inputs: Mapping[Part, Input],
    judgements: Sequence[Judgement],
    *,
    threads: int,
) -> SentenceEffects | None:
    """For the strongest finding that the report has a say on; None without one, or for a report of one sentence."""
    report = inputs.get(Part.REPORT)
    if report is None or not report.text:
        return None
    spoken = [one for one in judgements if Part.REPORT in one.chosen]
    found = strongest(spoken, report.kind) if spoken else None
    sentences = [one for one in _SENTENCE_END.split(report.text) if one.strip(" .;_")]
    if found is None or found.probability is None or len(sentences) < 2:
        return None
    tried = sentences[:_MOST_SENTENCES]
    rest = [" ".join(sentences[:place] + sentences[place + 1 :]) for place in range(len(tried))]
    texts = embed_in_batches(trained, [about(report.kind, one) for one in rest], batch_size=16, threads=threads)
    values = probability_with_report(reference, inputs, found, texts)
    return SentenceEffects(found.finding.label, found.probability, tuple(zip(tried, values, strict=True)))
