"""What the page draws beyond ``summary.json``: curves and examples, which would make that file heavy."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from more_model.explain.explanation import Explanation

#: False positive rates and true positive rates of one ROC curve, both ascending from 0 to 1.
RocCurve = tuple[Sequence[float], Sequence[float]]


@dataclass(frozen=True, slots=True)
class LearningPoint:
    """One evaluation on the way; ``progress`` is the share of the training done (0 to 1), one scale for all arms."""

    progress: float
    label: str
    loss: float | None = None
    macro_auroc: float | None = None


@dataclass(frozen=True, slots=True)
class Example:
    """One held-out study and what the model found for it.

    ``xray`` is uint8 [S, S] (0 = air); ``ecg`` is float [12, samples] in millivolts at ``rate_hz``, leads in the order
    of `more_model.data.leads.STANDARD_LEADS`. ``report`` holds the words that belong to the study, ``retrieved`` the
    reports the model placed nearest with their cosine similarity, best first. ``what`` says in a few words what was
    asked, such as "X-ray to report".
    """

    xray: NDArray[np.uint8] | None
    ecg: NDArray[np.floating] | None
    rate_hz: int
    report: str
    retrieved: Sequence[tuple[str, float]]
    site: str
    what: str


@dataclass(frozen=True, slots=True)
class ExplainedStudy:
    """The explanation of one study that has the finding ``label``, and where the study comes from."""

    label: str
    site: str
    explanation: Explanation


@dataclass(frozen=True, slots=True)
class ReportDetails:
    """Curves per arm (ROC per label, learning over training), examples and explanations; every part may be empty."""

    rocs: Mapping[str, Mapping[str, RocCurve]] = field(default_factory=dict)
    learning: Mapping[str, Sequence[LearningPoint]] = field(default_factory=dict)
    examples: Sequence[Example] = ()
    explained: Sequence[ExplainedStudy] = ()
