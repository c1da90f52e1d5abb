"""What travels when hospitals measure a model on their own patients: the question, and counts of patients by score.

As `more_model.exchange` does for training. Needs only numpy.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, TypeAlias

from more_model.errors import ExchangeError
from more_model.exchange import Fact, Fingerprint, Tensors

#: Patients by score (`more_model.evaluation.score_histograms`): first bin, bin after the last, how many, in rising
#: order.
Runs: TypeAlias = tuple[tuple[int, int, int], ...]

#: The patients that a model may be measured on.
MEASURED_SPLITS = ("validation", "test")

#: More patients than any site has.
_MAX_PATIENTS = 10**8


@dataclass(frozen=True, slots=True)
class Question:
    """What the coordinator asks of one site to measure the global tensors after ``round`` (0: before the first) on the
    site's own patients of ``split`` (validation or test). ``terms_digest`` is that of
    `more_model.evaluation.federated_terms.EvaluationTerms`."""

    run: str
    round: int
    split: str
    tensors: Tensors
    terms_digest: str
    spec_digest: str
    fingerprint: Fingerprint

    def facts(self) -> dict[str, Fact]:
        """All but the tensors, as flat scalars."""
        return {
            "run": self.run,
            "round": self.round,
            "split": self.split,
            "terms_digest": self.terms_digest,
            "spec_digest": self.spec_digest,
            "fingerprint": json.dumps(dict(self.fingerprint.parts), sort_keys=True),
        }

    @classmethod
    def from_parts(cls, facts: Mapping[str, Any], tensors: Tensors) -> Question:
        """The inverse of `facts`; raises ExchangeError on a malformed message."""
        try:
            return cls(
                run=str(facts["run"]),
                round=int(facts["round"]),
                split=str(facts["split"]),
                tensors=tensors,
                terms_digest=str(facts["terms_digest"]),
                spec_digest=str(facts["spec_digest"]),
                fingerprint=Fingerprint({str(k): str(v) for k, v in json.loads(str(facts["fingerprint"])).items()}),
            )
        except (KeyError, ValueError, TypeError, AttributeError, OverflowError) as error:
            raise ExchangeError(f"malformed question: {type(error).__name__} at {error}") from error


@dataclass(frozen=True, slots=True)
class ScoreCounts:
    """The patients of one label by score, per class. None: there are some, but fewer than the site's minimum."""

    positives: Runs | None
    negatives: Runs | None


@dataclass(frozen=True, slots=True)
class Evaluation:
    """What one site answers to a `Question`: per label, how many patients scored how; never a score, never a count of
    patients below ``minimum_count``. ``show_site``: its own figures may be shown to the other sites."""

    site: str
    round: int
    split: str
    counts: Mapping[str, ScoreCounts]
    minimum_count: int
    terms_digest: str
    spec_digest: str
    fingerprint_digest: str
    show_site: bool = False

    def facts(self) -> dict[str, Fact]:
        """Everything, as flat scalars."""
        return {
            "site": self.site,
            "round": self.round,
            "split": self.split,
            "counts": json.dumps({label: [each.positives, each.negatives] for label, each in self.counts.items()}),
            "minimum_count": self.minimum_count,
            "terms_digest": self.terms_digest,
            "spec_digest": self.spec_digest,
            "fingerprint_digest": self.fingerprint_digest,
            "show_site": int(self.show_site),
        }

    @classmethod
    def from_parts(cls, facts: Mapping[str, Any]) -> Evaluation:
        """The inverse of `facts`; raises ExchangeError on a malformed message."""
        try:
            classes = {str(label): [_runs(side) for side in sides] for label, sides in _object(facts["counts"]).items()}
            return cls(
                site=str(facts["site"]),
                round=int(facts["round"]),
                split=str(facts["split"]),
                counts={label: ScoreCounts(*sides) for label, sides in classes.items()},
                minimum_count=int(facts["minimum_count"]),
                terms_digest=str(facts["terms_digest"]),
                spec_digest=str(facts["spec_digest"]),
                fingerprint_digest=str(facts["fingerprint_digest"]),
                show_site=bool(int(facts["show_site"])),
            )
        except (KeyError, ValueError, TypeError, AttributeError, OverflowError) as error:
            raise ExchangeError(f"malformed evaluation: {type(error).__name__} at {error}") from error


def _object(text: Any) -> dict[str, Any]:
    value = json.loads(str(text))
    if not isinstance(value, dict):
        raise TypeError("not an object")
    return value


def _runs(side: Any) -> Runs | None:
    if side is None:
        return None
    runs = [(start, stop, count) for start, stop, count in side]
    if not all(type(number) is int for run in runs for number in run):
        raise TypeError("a number that is not whole")
    return tuple(runs)


def fault_of_counts(evaluation: Evaluation, *, labels: Collection[str], bins: int) -> str | None:
    """Why the counts of an evaluation are not what its site may say, or None; both ends check it.

    ``labels``: what the terms ask about; ``bins``: how many bins they have.
    """
    if evaluation.counts.keys() != set(labels):
        return "its labels are not those that were agreed on"
    if not 1 <= evaluation.minimum_count <= _MAX_PATIENTS:
        return "its minimum count is not a plausible number"
    sides = [side for each in evaluation.counts.values() for side in (each.positives, each.negatives)]
    if evaluation.minimum_count == 1 and None in sides:
        return "it withholds counts that its minimum count lets out"
    for runs in sides:
        if runs is not None and (fault := _fault_of_runs(runs, evaluation.minimum_count, bins)) is not None:
            return fault
    return None


def _fault_of_runs(runs: Runs, minimum_count: int, bins: int) -> str | None:
    if any(not 0 <= start < stop <= bins for start, stop, _ in runs):
        return "its counts lie outside the bins that were agreed on"
    if any(stop > start for (_, stop, _), (start, _, _) in pairwise(runs)):
        return "its counts overlap"
    if any(count < minimum_count for *_, count in runs):
        return "it tells of fewer patients than its own minimum"
    if sum(count for *_, count in runs) > _MAX_PATIENTS:
        return "it tells of more patients than there can be"
    return None
