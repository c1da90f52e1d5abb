"""The files of one patient: read, embedded, and held against the training cohort. Each is admitted or refused alone."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from more_model.assess.appearance import ecg_appearance, xray_appearance
from more_model.assess.domain import Measure, Placed, report_measure
from more_model.assess.parts import Part, Selection, selection
from more_model.assess.read_part import Bounds, ReadPart, bounded_reader
from more_model.assess.reference import KINDS, CohortFacts, Reference
from more_model.assess.vocabulary import kind_of_report, require_known
from more_model.checkpoint import TrainedModel
from more_model.data.convert import Converted
from more_model.data.study import Modality, Split, Triplet
from more_model.errors import ConfigError, InputRefused
from more_model.evaluation.embedded import Float32
from more_model.search.words import embed_in_batches
from more_model.training.embed import embed
from more_model.training.examples import Examples
from more_model.training.words import about

_FRONTAL = {"AP", "PA", "FRONTAL"}


@dataclass(frozen=True, slots=True)
class Files:
    """What is given of one patient. ``about`` says what the report is about, where its words leave it open.

    Raises:
        ConfigError: there is no file, or ``about`` without a report.
    """

    xray: Path | None = None
    ecg: Path | None = None
    report: Path | None = None
    about: Modality | None = None

    def __post_init__(self) -> None:
        faults = []
        if not self.given:
            faults.append("give at least one of --xray, --ecg and --report")
        if self.about is not None and self.report is None:
            faults.append("--about goes with --report only")
        if faults:
            raise ConfigError("more-model assess", faults)

    @property
    def of_part(self) -> dict[Part, Path]:
        """The files that are given."""
        paths = {Part.XRAY: self.xray, Part.ECG: self.ecg, Part.REPORT: self.report}
        return {part: path for part, path in paths.items() if path is not None}

    @property
    def given(self) -> Selection:
        """The parts that are given."""
        return selection(self.of_part)


@dataclass(frozen=True, slots=True, eq=False)
class Input:
    """A part that may be judged from. ``array`` is as in a site store (X-ray, ECG), ``text`` the report's words.

    ``kind`` is what it is, or is about; ``vector`` [width] its unit vector; ``placed`` where it stands in the training
    cohort. Of a report, ``known_words`` is a share, ``tokens_cut`` how many tokens at its end the model leaves out.
    """

    part: Part
    array: NDArray[Any] | None
    text: str | None
    kind: Modality
    corrections: tuple[str, ...]
    vector: Float32
    placed: tuple[Placed, ...]
    known_words: float | None = None
    tokens_cut: int = 0


@dataclass(frozen=True, slots=True)
class RefusedPart:
    """A part that nothing is concluded from, and why; ``placed`` where its distance was the reason."""

    part: Part
    reason: str
    message: str
    remedy: str = ""
    placed: tuple[Placed, ...] = ()


class _OutOfDomain(InputRefused):
    """Refused for a distance."""

    def __init__(self, placed: tuple[Placed, ...]) -> None:
        self.placed = placed
        far = [one for one in placed if one.too_far]
        part = far[0].measure.part.words
        told = " and ".join(
            f"{one.measure.words} (distance {one.distance:.2f}, limit {one.limit.value:.2f})" for one in far
        )
        super().__init__(
            "out-of-domain",
            f"The {part} is too far from those that the model was trained on, judged by {told}.",
            remedy=_WHAT_IT_MAY_BE[far[0].measure.part],
        )


_WHAT_IT_MAY_BE = {
    Part.XRAY: "check that it is a frontal chest film, upright and not inverted; films that look unlike those of the "
    "training cohort, such as another hospital's, are refused as well",
    Part.ECG: "check that it is a resting 12-lead ECG, its leads and its gain right; recordings that look unlike those "
    "of the training cohort, such as another device's, are refused as well",
    Part.REPORT: "check that it is a report about a chest X-ray or an ECG, in the language of the training cohort",
}


@dataclass(frozen=True, slots=True)
class Admission:
    """All that was given, each part in one of the two."""

    inputs: Mapping[Part, Input]
    refused: Mapping[Part, RefusedPart]


def admit(reference: Reference, trained: TrainedModel, files: Files, bounds: Bounds, *, threads: int) -> Admission:
    """Read every file within ``bounds``, and decide on each alone.

    Raises:
        InputRefused: every one of them is refused; with the code of the only or first one.
    """
    inputs, refused = {}, {}
    with bounded_reader(trained.config.preprocessing, bounds) as read:
        gate = _Gate(reference, trained, read, threads)
        for part, path in files.of_part.items():
            try:
                inputs[part] = gate.report(path, files.about) if part is Part.REPORT else gate.study(part, path)
            except InputRefused as error:
                placed = error.placed if isinstance(error, _OutOfDomain) else ()
                refused[part] = RefusedPart(part, error.reason, error.cause, error.remedy, placed)
    if not inputs:
        raise _nothing_left(list(refused.values()))
    return Admission(inputs, refused)


def _nothing_left(refused: list[RefusedPart]) -> InputRefused:
    told = "\n".join(f"- {one.part.words} ({one.reason}): {one.message}" for one in refused)
    return InputRefused(
        refused[0].reason,
        f"Nothing is left to judge from.\n{told}",
        remedy="; ".join(dict.fromkeys(one.remedy for one in refused if one.remedy)),
        avoid="force a result out of it: the model was not trained on such input",
    )


@dataclass(frozen=True, slots=True, eq=False)
class _Gate:
    """What decides on one file; every function raises InputRefused for one that is not admitted."""

    reference: Reference
    trained: TrainedModel
    read: ReadPart
    threads: int

    def study(self, part: Part, path: Path) -> Input:
        """An X-ray or an ECG."""
        kind = Modality(part.value)
        found = self.read(path, kind, None)
        assert found.array is not None
        if part is Part.XRAY:
            _require_known_view(found, self.reference.header.cohort)
        vector, features = self._embedded(found.array, kind)
        if part is Part.XRAY:
            appearance = xray_appearance(found.array[None])[0]
            measured = {Measure.XRAY_APPEARANCE: appearance, Measure.XRAY_EMBEDDING: features}
        else:
            appearance = ecg_appearance(found.array[None], self.trained.config.preprocessing.ecg_rate_hz)[0]
            measured = {Measure.ECG_APPEARANCE: appearance, Measure.ECG_EMBEDDING: features}
        placed = self._placed(measured)
        return Input(part, found.array, None, kind, found.corrections, vector, placed)

    def report(self, path: Path, about_kind: Modality | None) -> Input:
        """A report, about what its words are about unless ``about_kind`` says."""
        found = self._read_report(path, about_kind)
        vocabularies = self.reference.vocabularies
        kind = kind_of_report({one: read_as.text or "" for one, read_as in found.items()}, vocabularies)
        text = found[kind].text or ""
        share = require_known(text, vocabularies[kind])
        worded = about(kind, text)
        (vector,) = embed_in_batches(self.trained, [worded], batch_size=1, threads=self.threads)
        placed = self._placed({report_measure(kind): vector})
        cut = max(0, len(self.trained.tokenizer(worded)["input_ids"]) - self.trained.max_tokens)
        return Input(Part.REPORT, None, text, kind, found[kind].corrections, vector, placed, share, cut)

    def _read_report(self, path: Path, about_kind: Modality | None) -> dict[Modality, Converted]:
        """The report as it reads about an X-ray, and about an ECG: sections are looked for in the former only."""
        found, refusals = {}, []
        for kind in KINDS if about_kind is None else (about_kind,):
            try:
                found[kind] = self.read(path, Modality.REPORT, kind)
            except InputRefused as error:
                refusals.append(error)
        if not found:
            raise refusals[0]
        return found

    def _placed(self, measured: Mapping[Measure, NDArray[np.floating]]) -> tuple[Placed, ...]:
        """Where the input stands by every measure."""
        placed = tuple(self.reference.domain.place(measure, row) for measure, row in measured.items())
        if any(one.too_far for one in placed):
            raise _OutOfDomain(placed)
        return placed

    def _embedded(self, array: NDArray[Any], kind: Modality) -> tuple[Float32, Float32]:
        """The unit vector [width] and the features of one study."""
        is_xray = kind is Modality.XRAY
        triplet = Triplet("", "", Split.TEST, 0 if is_xray else None, None if is_xray else 0, None, None)
        answer = embed(
            self.trained.model,
            Examples.of([triplet], _OneStudy(array[None], array[None])),
            tokenizer=self.trained.tokenizer,
            max_tokens=self.trained.max_tokens,
            threads=self.threads,
        )
        if is_xray:
            return answer.xray[0], answer.xray_features[0]
        return answer.ecg[0], answer.ecg_features[0]


def _require_known_view(found: Converted, cohort: CohortFacts) -> None:
    """A header that states no view is no reason to refuse."""
    view, known = found.attributes.get("view", "").upper(), set(cohort.views) | _FRONTAL
    if view and view not in known:
        raise InputRefused(
            "unknown-view",
            f"The header says that the film's view is {view}; the training cohort has {', '.join(sorted(known))}.",
        )


@dataclass(frozen=True, slots=True, eq=False)
class _OneStudy:
    """One array in the place of a site store; only that of its own modality is ever asked for."""

    xrays: NDArray[Any]
    ecgs: NDArray[Any]
