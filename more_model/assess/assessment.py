"""`more-model assess`: everything that is said about one patient."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from more_model.assess.corrections import correction_in_words
from more_model.assess.explanations import Drawn, SentenceEffects, explain_assessment, sentence_effects
from more_model.assess.inputs import Admission, Files, Input, RefusedPart, admit
from more_model.assess.judge import Judgement, judge
from more_model.assess.parts import Part, Selection, key, selection
from more_model.assess.read_part import Bounds
from more_model.assess.reference import Header, Reference
from more_model.checkpoint import TrainedModel
from more_model.data.study import Modality
from more_model.progress import OnProgress
from more_model.search.answers import findings, readable
from more_model.search.query import Query, search
from more_model.search.shelf import report_shelf

_NEAREST = 5


@dataclass(frozen=True, slots=True)
class KnownReport:
    """A report of training patients near to an input: its words, the findings present, how many studies have it."""

    score: float
    words: str
    findings: tuple[str, ...]
    studies: int


@dataclass(frozen=True, slots=True, eq=False)
class Assessment:
    """All that the page and the JSON file show."""

    header: Header
    admission: Admission
    judgements: Sequence[Judgement]
    nearest: Mapping[Part, Sequence[KnownReport]]
    drawn: Sequence[Drawn]
    sentences: SentenceEffects | None

    @property
    def inputs(self) -> Mapping[Part, Input]:
        """The parts that were judged from."""
        return self.admission.inputs

    @property
    def refused(self) -> Mapping[Part, RefusedPart]:
        """The parts that nothing was concluded from."""
        return self.admission.refused

    @property
    def given(self) -> Selection:
        """The parts that were given, admitted or refused."""
        return selection([*self.inputs, *self.refused])

    @property
    def missing(self) -> Selection:
        """The parts that were not given."""
        return tuple(part for part in Part if part not in self.given)

    def to_dict(self) -> dict[str, Any]:
        """The content of ``assess.json``; no file names, no identifiers."""
        used = selection(self.inputs)
        return {
            "schema": 1,
            "for_research_use_only": True,
            "synthetic_training_cohort": self.header.cohort.synthetic,
            "given": list(self.given),
            "missing": list(self.missing),
            "inputs": {part.value: _input_entry(one) for part, one in self.inputs.items()},
            "refused": {part.value: _refused_entry(one) for part, one in self.refused.items()},
            "findings": [judgement.to_dict() for judgement in self.judgements],
            "nearest_reports": {
                part.value: [
                    {"score": one.score, "words": one.words, "findings": list(one.findings), "studies": one.studies}
                    for one in found
                ]
                for part, found in self.nearest.items()
            },
            "explanations": [one.to_dict() for one in self.drawn],
            "sentences": None if self.sentences is None else self.sentences.to_dict(),
            "model": {
                **self.header.model.model_dump(mode="json"),
                "cohort": self.header.cohort.model_dump(mode="json"),
                "prompts": self.header.prompts,
                "false_refusals": self.header.false_refusals,
                "validation": {name: facts.model_dump(mode="json") for name, facts in self.header.selections.items()},
                "used": key(used),
            },
        }


def assess_files(
    reference: Reference,
    trained: TrainedModel,
    files: Files,
    *,
    bounds: Bounds,
    threads: int = 2,
    progress: OnProgress = lambda _stage, _done, _total: None,
) -> Assessment:
    """Read, hold against the training cohort, judge and explain; nothing is written.

    Raises:
        InputRefused: no file can be used.
    """
    progress("Reading", 0, 1)
    admission = admit(reference, trained, files, bounds, threads=threads)
    progress("Reading", 1, 1)
    progress("Explaining", 0, 1)
    assessment = assess_inputs(reference, trained, admission, threads=threads)
    progress("Explaining", 1, 1)
    return assessment


def assess_inputs(reference: Reference, trained: TrainedModel, admission: Admission, *, threads: int = 2) -> Assessment:
    """Judge and explain what was admitted."""
    inputs = admission.inputs
    judgements = judge(reference, inputs)
    return Assessment(
        header=reference.header,
        admission=admission,
        judgements=judgements,
        nearest={part: known_reports(reference, one) for part, one in inputs.items()},
        drawn=explain_assessment(trained, inputs, judgements),
        sentences=sentence_effects(reference, trained, inputs, judgements, threads=threads),
    )


def known_reports(reference: Reference, given: Input, count: int = _NEAREST) -> list[KnownReport]:
    """The ``count`` reports of training patients nearest to one input, of the kind it is or is about; equal words are
    one."""
    shelf = report_shelf(Modality(given.kind))
    hits = search(reference.index, Query({shelf: given.vector}), k=count)[shelf]
    return [KnownReport(hit.score, readable(hit.item.words), tuple(findings(hit.item)), hit.same_words) for hit in hits]


def _input_entry(one: Input) -> dict[str, Any]:
    entry: dict[str, Any] = {
        "corrections": [{"code": code, "words": correction_in_words(code)} for code in one.corrections],
        "distances": [placed.to_dict() for placed in one.placed],
    }
    if one.part is Part.REPORT:
        entry |= {"about": one.kind.value, "known_words": one.known_words, "tokens_not_read": one.tokens_cut}
    return entry


def _refused_entry(one: RefusedPart) -> dict[str, Any]:
    return {
        "reason": one.reason,
        "message": one.message,
        "remedy": one.remedy or None,
        "distances": [placed.to_dict() for placed in one.placed],
    }
