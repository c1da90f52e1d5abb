"""Who is trained on: a share of the patients with every class in it, and nobody who is tested."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from more_model.errors import DataError
from more_model.evaluation.auroc import refusal
from more_model.evaluation.bootstrap import Unit
from more_model.evaluation.embedded import Float64, LabelTask, Mask


def refusals(target: Float64, tasks: Sequence[LabelTask], what: str) -> dict[LabelTask, str]:
    """The tasks of ``target`` [n, tasks] with fewer than two rows of a class, each with the reason."""
    reasons = {}
    for task, column in zip(tasks, target.T, strict=True):
        reason = refusal(int((column == 1.0).sum()), int((column == 0.0).sum()))
        if reason is not None:
            reasons[task] = f"{what}: in training {reason}"
    return reasons


def draw_share(target: Float64, units: Sequence[Unit], fraction: float, seed: int) -> Mask:
    """Bool [n]: the rows of about ``fraction`` of the patients, all rows of each, with every class of every task.

    Patients are shuffled once by ``seed``; of those with a positive row of a task, and of those with only negative
    ones, the first ``fraction`` are taken, at least one (as the linear probe draws rows, label by label). One shuffle
    for all tasks keeps their union close to ``fraction``; a smaller fraction is a subset of a larger one.
    Raises DataError for a fraction outside (0, 1].
    """
    if not 0.0 < fraction <= 1.0:
        raise DataError(f"label fraction {fraction} is not in (0, 1]")
    patients = sorted(set(units))
    number = {unit: place for place, unit in enumerate(patients)}
    of_row = np.array([number[unit] for unit in units], dtype=np.intp)
    order = np.random.default_rng(seed).permutation(len(patients))
    taken = np.zeros(len(patients), dtype=np.bool_)
    for column in target.T:
        positive, negative = np.zeros_like(taken), np.zeros_like(taken)
        positive[of_row[column == 1.0]] = True
        negative[of_row[column == 0.0]] = True
        for members in (positive, negative & ~positive):
            shuffled = order[members[order]]
            taken[shuffled[: max(1, round(fraction * len(shuffled)))]] = True
    return taken[of_row]


def require_disjoint(parts: Mapping[str, Sequence[Unit] | frozenset[Unit]]) -> None:
    """Refuses a patient in two of the named parts.

    Raises:
        DataError: with the names of both and the number of patients, never with an identifier.
    """
    named = [(name, frozenset(units)) for name, units in parts.items()]
    for place, (name, units) in enumerate(named):
        for other, others in named[place + 1 :]:
            shared = len(units & others)
            if shared:
                raise DataError(
                    f"{shared} patients are both in {name} and in {other}",
                    remedy="split by patient",
                    avoid="evaluate anyway: what was learnt of a patient would be counted as tested",
                )
