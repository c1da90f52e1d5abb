"""The pooled figures of every round survive a crash and a round that is measured again."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from more_model.errors import RoundError
from more_model.evaluation.score_histograms import MacroAuroc, PooledAuroc
from server.evaluation import LabelFigure, PooledEvaluation
from server.journal import Participation
from server.status.evaluations import NAME, read_evaluations, record_evaluation


def pooled(number: int, value: float = 0.8) -> PooledEvaluation:
    auroc = PooledAuroc(value, value - 0.01, value + 0.01, 0.02, (value - 0.05, value + 0.05), (10, 14), (90, 90))
    refused = PooledAuroc(None, None, None, None, None, (0, 4), (9, 9), "fewer than two positives")
    labels = {"Edema": LabelFigure("xray", auroc, ("north", "south")), "AF": LabelFigure("ecg", refused, ())}
    macro = MacroAuroc(value, value - 0.01, value + 0.01, (value - 0.05, value + 0.05), 1)
    parts = (Participation("north", "accepted"), Participation("south", "refused", "evaluation-not-allowed"))
    accepted: Any = {"north": SimpleNamespace()}
    return PooledEvaluation(number, "validation", macro, labels, parts, accepted)


def test_what_is_recorded_is_read(tmp_path: Path) -> None:
    assert read_evaluations(tmp_path) == ()
    record_evaluation(tmp_path, pooled(0))
    record_evaluation(tmp_path, pooled(1, 0.85))
    before, after = read_evaluations(tmp_path)
    assert (before.round, after.round, after.macro.value, after.sites) == (0, 1, 0.85, ("north",))
    edema, fibrillation = after.labels
    assert (edema.auroc.ci95, edema.positives, edema.sites) == (pytest.approx((0.8, 0.9)), (10, 14), 2)
    assert (fibrillation.auroc.value, fibrillation.reason) == (None, "fewer than two positives")


def test_a_round_that_is_measured_again_counts_anew(tmp_path: Path) -> None:
    for number, value in ((1, 0.7), (2, 0.75), (1, 0.72)):
        record_evaluation(tmp_path, pooled(number, value))
    assert [(each.round, each.macro.value) for each in read_evaluations(tmp_path)] == [(1, 0.72), (2, 0.75)]


def test_half_a_line_costs_no_other(tmp_path: Path) -> None:
    record_evaluation(tmp_path, pooled(1))
    whole = (tmp_path / NAME).read_bytes()
    (tmp_path / NAME).write_bytes(whole + whole[:100])
    assert [each.round for each in read_evaluations(tmp_path)] == [1]
    record_evaluation(tmp_path, pooled(2))
    assert [each.round for each in read_evaluations(tmp_path)] == [1, 2]


def test_a_line_of_another_kind_is_named(tmp_path: Path) -> None:
    record_evaluation(tmp_path, pooled(1))
    with (tmp_path / NAME).open("a") as file:
        file.write('{"round": 2}\n')
    with pytest.raises(RoundError, match=r"line 2 is no evaluation that this version knows"):
        read_evaluations(tmp_path)
