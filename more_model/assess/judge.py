"""From admitted inputs to a probability for every finding, with what each input contributed."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from more_model.assess.calibrated import Calibrated
from more_model.assess.evidence import Evidence
from more_model.assess.inputs import Input
from more_model.assess.parts import SELECTIONS, Part, Selection, key
from more_model.assess.reference import Finding, Reference
from more_model.data.study import Modality
from more_model.evaluation.embedded import Float32

#: Inputs speak clearly where they change the odds of a finding by this factor against the training cohort's.
CLEAR_ODDS = 3.0
Agreement = Literal["", "agree", "disagree"]


@dataclass(frozen=True, slots=True)
class Judgement:
    """One finding. Without a ``probability`` (of ``interval``, 95 %) there is a ``reason``.

    ``chosen`` are the parts it rests on. ``without`` is the probability without each of them, ``alone`` from each
    alone; None where that cannot be said. ``agreement`` is set where two parts that tell cases apart better than
    chance speak clearly, each alone (`CLEAR_ODDS`).
    """

    finding: Finding
    chosen: Selection
    curve: Calibrated | None
    probability: float | None
    interval: tuple[float, float] | None
    without: Mapping[Part, float | None]
    alone: Mapping[Part, float | None]
    agreement: Agreement
    reason: str

    @property
    def informative(self) -> bool:
        """Whether the parts tell cases apart better than chance on validation patients."""
        return self.curve is not None and self.curve.informative

    @property
    def lift(self) -> float:
        """Log odds over those of the training cohort; 0 without a probability."""
        return 0.0 if self.probability is None else _lift(self.probability, self.finding)

    def to_dict(self) -> dict[str, Any]:
        """Ready for JSON."""
        return {
            "finding": self.finding.label,
            "wording": self.finding.positive,
            "judged_from": self.finding.modality,
            "probability": self.probability,
            "ci95": None if self.interval is None else list(self.interval),
            "informative": self.informative,
            "reason": self.reason or None,
            "parts": list(self.chosen),
            "without": {part.value: value for part, value in self.without.items()},
            "alone": {part.value: value for part, value in self.alone.items()},
            "agreement": self.agreement or None,
            "prevalence": self.finding.prevalence,
            "validation": None if self.curve is None else self.curve.model_dump(mode="json"),
        }


def judge(reference: Reference, inputs: Mapping[Part, Input]) -> list[Judgement]:
    """Every finding of the reference, in its order."""
    return [judge_finding(reference, inputs, finding) for finding in reference.header.findings]


def judge_finding(reference: Reference, inputs: Mapping[Part, Input], finding: Finding) -> Judgement:
    """One finding, from as many of the inputs that speak of it as a curve exists for; of equal numbers those that tell
    cases apart best."""
    speaking = speaking_parts(inputs, finding)
    curves = finding.calibrations.curves
    possible = [chosen for chosen in SELECTIONS if set(chosen) <= set(speaking) and key(chosen) in curves]
    if not possible:
        return _refused(finding, speaking)
    chosen = max(possible, key=lambda one: (len(one), curves[key(one)].auroc or 0.0))
    vectors = {part: inputs[part].vector for part in speaking}

    def asked(parts: Selection) -> float | None:
        return None if key(parts) not in curves else _probability(reference.evidence, finding, vectors, parts)[0]

    probability, low, high = _probability(reference.evidence, finding, vectors, chosen)
    without = {part: asked(tuple(one for one in chosen if one is not part)) for part in chosen if len(chosen) > 1}
    alone = {part: asked((part,)) for part in chosen}
    telling = [value for part, value in alone.items() if value is not None and curves[key((part,))].informative]
    return Judgement(
        finding, chosen, curves[key(chosen)], probability, (low, high), without, alone, _agreement(telling, finding), ""
    )


def speaking_parts(inputs: Mapping[Part, Input], finding: Finding) -> Selection:
    """The inputs that can say something about ``finding``: a report only where it is about the same kind of study."""
    return tuple(
        part for part in Part if part in inputs and (part is not Part.REPORT or inputs[part].kind == finding.modality)
    )


def probability_with_report(
    reference: Reference, inputs: Mapping[Part, Input], judgement: Judgement, texts: Float32
) -> list[float]:
    """What ``judgement`` would say with each of the text embeddings [n, width] in the place of the report's."""
    vectors = {part: inputs[part].vector for part in judgement.chosen}
    return [
        _probability(reference.evidence, judgement.finding, {**vectors, Part.REPORT: text}, judgement.chosen)[0]
        for text in texts
    ]


def strongest(
    judgements: Sequence[Judgement], kind: Modality, *, besides: frozenset[str] = frozenset()
) -> Judgement | None:
    """Of the findings judged from ``kind``, save ``besides``, the one whose odds rise most over the training cohort's;
    informative ones first. None where there is no probability."""
    known = [
        one
        for one in judgements
        if one.probability is not None and one.finding.modality == kind and one.finding.label not in besides
    ]
    return max(known, key=lambda one: (one.informative, one.lift), default=None)


def _probability(
    evidence: Evidence, finding: Finding, vectors: Mapping[Part, Float32], chosen: Selection
) -> tuple[float, float, float]:
    width = len(next(iter(vectors.values())))
    nothing = np.full(width, np.nan, dtype=np.float32)
    rows = {part: np.asarray(vectors.get(part, nothing))[None] for part in Part}
    logit = float(evidence.logits(finding.task, rows, chosen)[0])
    return finding.calibrations.curves[key(chosen)].probability(logit)


def _refused(finding: Finding, speaking: Selection) -> Judgement:
    if not speaking:
        reason = "a report speaks only of findings of the study that it is about"
    else:
        reason = finding.calibrations.refused.get(key(speaking), "no curve for these inputs")
    return Judgement(finding, speaking, None, None, None, {}, {}, "", reason)


def _agreement(telling: Sequence[float], finding: Finding) -> Agreement:
    lifts = [_lift(value, finding) for value in telling]
    clear = [lift for lift in lifts if abs(lift) >= math.log(CLEAR_ODDS)]
    if len(clear) < 2:
        return ""
    return "agree" if min(clear) > 0 or max(clear) < 0 else "disagree"


def _lift(probability: float, finding: Finding) -> float:
    prevalence = finding.prevalence
    if prevalence is None or not 0.0 < prevalence < 1.0:
        return 0.0
    inside = min(max(probability, 1e-6), 1 - 1e-6)
    return math.log(inside / (1 - inside)) - math.log(prevalence / (1 - prevalence))
