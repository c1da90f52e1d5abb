"""Whether an input is of the kind that the model was trained on: measured on the input itself, and on its embedding."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from enum import StrEnum
from typing import Any

import numpy as np
from numpy.typing import NDArray

from more_model.assess.appearance import ecg_appearance, xray_appearance
from more_model.assess.distance import Distance, Limit, fit_distance, held_out_distances, set_limit
from more_model.assess.parts import Part
from more_model.data.study import Modality
from more_model.errors import InputRefused
from more_model.evaluation.embedded import Float64
from more_model.training.examples import Examples

_CHUNK = 256
#: Studies that a distance is fitted on, at most: for the columns that are measured more would change nothing.
_MOST_STUDIES = 20_000


class Measure(StrEnum):
    """What is compared with the training cohort."""

    XRAY_APPEARANCE = "xray.appearance"
    XRAY_EMBEDDING = "xray.embedding"
    ECG_APPEARANCE = "ecg.appearance"
    ECG_EMBEDDING = "ecg.embedding"
    XRAY_REPORT_EMBEDDING = "xray-report.embedding"
    ECG_REPORT_EMBEDDING = "ecg-report.embedding"

    @property
    def part(self) -> Part:
        """The input that it is measured on."""
        name = self.value.partition(".")[0]
        return Part.REPORT if name.endswith("-report") else Part(name)

    @property
    def of_appearance(self) -> bool:
        """Whether it is measured on the input itself, before any model."""
        return self.value.endswith(".appearance")

    @property
    def words(self) -> str:
        """What is measured, in words."""
        if self in _REPORTS:
            return f"where the model places the report about an {_REPORTS[self]}"
        what = "how the {} looks" if self.of_appearance else "where the model places the {}"
        return what.format(self.part.words)


_REPORTS = {Measure.XRAY_REPORT_EMBEDDING: "X-ray", Measure.ECG_REPORT_EMBEDDING: "ECG"}


def report_measure(kind: Modality) -> Measure:
    """The measure of a report about an X-ray, or about an ECG."""
    return Measure.XRAY_REPORT_EMBEDDING if kind is Modality.XRAY else Measure.ECG_REPORT_EMBEDDING


def measures_of(part: Part) -> list[Measure]:
    """The measures of one input; of a report only one applies."""
    return [measure for measure in Measure if measure.part is part]


@dataclass(frozen=True, slots=True)
class Placed:
    """One measurement: ``distance`` (about 1 for what was trained on) and the limit that it is held against."""

    measure: Measure
    distance: float
    limit: Limit

    @property
    def too_far(self) -> bool:
        """Whether the input must be refused."""
        # Written so that a distance that is not a number is too far.
        return not self.distance <= self.limit.value

    def to_dict(self) -> dict[str, Any]:
        """Ready for JSON."""
        return {"measure": self.measure.value, "distance": self.distance, "limit": asdict(self.limit)}


@dataclass(frozen=True, slots=True, eq=False)
class Domain:
    """What each measure was fitted to, and its limit. A measure without training or validation items is missing."""

    distances: Mapping[Measure, Distance]
    limits: Mapping[Measure, Limit]

    def place(self, measure: Measure, row: NDArray[np.floating]) -> Placed:
        """Where one item [width] stands.

        Raises:
            InputRefused: the cohort had no items to compare with ("nothing-to-compare").
        """
        if measure not in self.limits:
            raise InputRefused(
                "nothing-to-compare",
                f"The cohort of this reference has too few studies to compare the {measure.part.words} with.",
            )
        distance = float(self.distances[measure].of(np.asarray(row)[None])[0])
        return Placed(measure, distance, self.limits[measure])

    def tensors(self) -> dict[str, Float64]:
        """All distances, ready for a file."""
        return {name: tensor for one, fit in self.distances.items() for name, tensor in fit.tensors(one.value).items()}

    @classmethod
    def from_tensors(cls, tensors: Mapping[str, Float64], limits: Mapping[Measure, Limit]) -> Domain:
        """What `tensors` gave. Raises KeyError where a distance of ``limits`` is not there."""
        return cls({one: Distance.from_tensors(tensors, one.value) for one in limits}, limits)


@dataclass(frozen=True, slots=True, eq=False)
class Measured:
    """``rows`` [n, width] of one measure, and the patient of each."""

    rows: NDArray[np.floating]
    patients: Sequence[str]


def fit_domain(
    train: Mapping[Measure, Measured], validation: Mapping[Measure, Measured], *, false_refusals: float
) -> Domain:
    """A distance from the rows of ``train``, a limit from those of ``validation``, for every measure that has both.

    ``false_refusals`` is the share of good inputs of one kind that may be refused in all; the measures of one input
    divide it equally among them.
    """
    distances, limits = {}, {}
    for measure, learnt in train.items():
        held = validation[measure].rows
        if len(learnt.rows) < 2 or len(held) < 1:
            continue
        share = 1 if measure.part is Part.REPORT else len(measures_of(measure.part))
        distances[measure] = fit_distance(learnt.rows)
        among_training = held_out_distances(learnt.rows, learnt.patients)
        limits[measure] = set_limit(distances[measure].of(held), among_training, false_refusals / share)
    return Domain(distances, limits)


def studies_once(examples: Examples, part: Part) -> list[int]:
    """Rows of ``examples`` with an X-ray or ECG, each study once however many triplets it is in; at most 20,000, evenly
    spread."""
    found: dict[tuple[int, int], int] = {}
    for row, triplet in enumerate(examples.triplets):
        study = triplet.xray if part is Part.XRAY else triplet.ecg
        if study is not None:
            found.setdefault((examples.source_of[row], study), row)
    return thinned(list(found.values()))


def thinned(rows: list[int]) -> list[int]:
    """At most 20,000 of ``rows``, evenly spread."""
    return rows[:: max(1, -(-len(rows) // _MOST_STUDIES))]


def appearances(examples: Examples, rows: list[int], part: Part, rate_hz: int) -> Float64:
    """The appearance [n, width] of the studies in ``rows``."""
    portions = []
    for start in range(0, len(rows), _CHUNK):
        chosen = rows[start : start + _CHUNK]
        if part is Part.XRAY:
            portions.append(xray_appearance(examples.xrays(chosen).numpy()))
        else:
            portions.append(ecg_appearance(examples.ecgs(chosen).numpy(), rate_hz))
    return np.concatenate(portions) if portions else np.empty((0, 0))
