"""Who reads which case when, and in which of the readings with aid.

crossover  every reader reads every case twice, in two sessions some weeks apart: the half that had the aid in the first
           session has none in the second. Readers with even and odd numbers begin with opposite halves, so neither the
           order nor learning favours the aid: every reader and every case stands in both conditions.
half       every reader reads every case once, half of them with aid; which half changes with the reader's number.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

Design = Literal["crossover", "half"]
#: Reader -> sessions -> readings in their order.
Orders = Mapping[str, "tuple[tuple[Reading, ...], ...]"]


@dataclass(frozen=True, slots=True)
class Reading:
    """One case, read once."""

    case: str
    aided: bool


def case_codes(count: int, seed: int) -> list[str]:
    """A code per case, in the order of the cases; the codes are numbers drawn without regard to that order."""
    width = max(2, len(str(count)))
    return [f"case-{number + 1:0{width}d}" for number in np.random.default_rng([seed, 0]).permutation(count).tolist()]


def reader_names(count: int) -> list[str]:
    """``reader-1`` to ``reader-<count>``."""
    return [f"reader-{number}" for number in range(1, count + 1)]


def draw_orders(strata: Mapping[str, Hashable], readers: Sequence[str], design: Design, seed: int) -> Orders:
    """The readings of every reader: a random order per reader and session, nothing of which depends on the truth.

    ``strata`` maps each case to its truth: both halves hold as many cases of each kind as the other (give or take
    one), so that with and without aid the same mixture is read.
    """
    first = _half(strata, np.random.default_rng([seed, 1]))
    orders = {}
    for number, reader in enumerate(readers):
        generator = np.random.default_rng([seed, 2, number])
        aided = first if number % 2 == 0 else frozenset(strata) - first
        halves = (aided,) if design == "half" else (aided, frozenset(strata) - aided)
        orders[reader] = tuple(_session(sorted(strata), half, generator) for half in halves)
    return orders


def _half(strata: Mapping[str, Hashable], generator: np.random.Generator) -> frozenset[str]:
    of_kind: dict[Hashable, list[str]] = defaultdict(list)
    for case in sorted(strata):
        of_kind[strata[case]].append(case)
    # Dealt out in turn over all kinds, so that odd kinds do not all leave their last case to the same half.
    dealt = [kind[place] for kind in of_kind.values() for place in generator.permutation(len(kind)).tolist()]
    return frozenset(dealt[::2])


def _session(cases: Sequence[str], aided: frozenset[str], generator: np.random.Generator) -> tuple[Reading, ...]:
    order = [cases[place] for place in generator.permutation(len(cases)).tolist()]
    return tuple(Reading(case, case in aided) for case in order)
