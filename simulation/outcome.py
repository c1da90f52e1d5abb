"""One evaluated arm."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from simulation.arms import CurvePoint
from simulation.scoring import ArmScores


@dataclass(frozen=True, slots=True)
class Outcome:
    """One evaluated arm: its part of summary.json (``health`` as measured, not yet judged), the scores behind it, its
    learning curve."""

    table: dict[str, Any]
    scores: ArmScores
    curve: tuple[CurvePoint, ...]
