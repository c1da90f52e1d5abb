"""What reading a data set gives: its studies, and a count of everything that was left out or looked odd."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from more_model.data.study import Study


@dataclass(frozen=True, slots=True)
class Reading:
    """Studies in the order of the source's tables; ``counts`` maps a short code to how many rows it befell."""

    studies: list[Study]
    counts: Mapping[str, int]
