"""What an audit asks of the thing it audits.

The attacks of this room know no model and no cohort. Whoever has them (a run directory of a federation, a toy mechanism
in a test) answers these questions; the implementation for a run is found through the entry-point group
`more_fed.audit_subject` (see `privacy.audit.opening`).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

Integers = NDArray[np.integer[Any]]
Numbers = NDArray[np.floating[Any]]

#: Not a gradient: see `TokenLeak`.
A_MATRIX = "lora_A_matrix"


@dataclass(frozen=True)
class CanaryScores:
    """What one training run says about its canaries.

    included: [m], the fair coins, drawn by the auditor. scores: [m], higher means more like a member; a score may use
    everything that the run releases, never the coins.
    """

    included: NDArray[np.bool_]
    scores: NDArray[np.float64]


@dataclass(frozen=True)
class MembershipScores:
    """Calibrated (LiRA-style) scores of records, higher = more like a member.

    members: [a], trained on. outsiders: [b], not trained on. Both come from the same hospital, scanner and period, or
    the attack learns the hospital instead of membership. references: how many further models calibrated the scores.
    """

    members: NDArray[np.float64]
    outsiders: NDArray[np.float64]
    references: int


@dataclass(frozen=True)
class HeadLeak:
    """One update of a projection head's first matrix, and features that may have made it.

    gradient: [hidden, width], as sent (or as it would be). members: [n, width], features entering that head of the
    records behind the update. outsiders: [k, width], the same of records that are not behind it. covered_by_claim: the
    update is one that the claim speaks of, as it leaves the site; a step without noise, made for the audit, is not.
    """

    gradient: Numbers
    members: Numbers
    outsiders: Numbers
    covered_by_claim: bool = False


@dataclass(frozen=True)
class TokenLeak:
    """Gradients of the first adapted layer of the report tower, and the vocabulary that they may betray.

    gradients: those the run has of "full" [out, width], "lora_A" [rank, width], "lora_B" [out, rank]. true_tokens: [t],
    rows of ``candidates`` that the reports behind the update hold. candidates: [v, width], the embedded input of each
    vocabulary entry at that layer.

    A gradient of B speaks of A x, so its test needs the factor A itself, which everybody has: `A_MATRIX` beside the
    gradients, [rank, width]. Without it only a gradient of full rank (no information) can be judged.
    """

    gradients: Mapping[str, Numbers]
    true_tokens: Integers
    candidates: Numbers


@dataclass(frozen=True)
class Embedded:
    """Embeddings of patients who have both. Row i of each belongs to one pair of studies.

    xray, ecg: [n, d]. patients: [n], numbers that tell patients apart and mean nothing else.
    """

    xray: Numbers
    ecg: Numbers
    patients: Integers


@dataclass(frozen=True)
class Claimed:
    """What a run says it guarantees. ``epsilon`` is infinite where it promises nothing; ``delta`` is then unused."""

    mode: str
    epsilon: float
    delta: float
    unit: str


class AuditSubject(Protocol):
    """Something that can be attacked. Answers are computed when asked for and may take long; none holds an identifier
    of a patient. What a subject cannot answer it refuses with a `MoreError` that says why."""

    def name(self) -> str:
        """Site or run, for the report."""

    def claimed(self) -> Claimed:
        """The guarantee under test."""

    def canary_scores(self, canaries: int, included: NDArray[np.bool_]) -> CanaryScores:
        """One training run in which canary i took part exactly where ``included[i]`` ([canaries]). A canary is one unit
        of the claim, such as a patient; where the unit is the hospital, nothing is concluded from it."""

    def membership_scores(self, references: int) -> MembershipScores:
        """Scores of the trained model's members and outsiders, calibrated by ``references`` further trainings."""

    def head_leaks(self) -> Mapping[str, HeadLeak]:
        """By which update it is, such as "one step, no privacy" or "a whole round as sent"."""

    def token_leaks(self) -> Mapping[str, TokenLeak]:
        """By which update it is."""

    def embeddings(self) -> Embedded:
        """What re-identification across modalities starts from."""


#: What is going on, how many of it are done, and how many there are.
OnProgress = Callable[[str, int, int], None]


class OpenSubject(Protocol):
    """What an entry point of the group `more_fed.audit_subject` is."""

    def __call__(self, run: Path, site: str | None, on_progress: OnProgress | None = None) -> AuditSubject:
        """The run in a directory, at one site; without a name, at the site where most is likely to be found.

        Raises:
            MoreError: a directory that is no finished run, or has no such site.
        """
