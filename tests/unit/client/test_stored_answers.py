"""Answers that a site keeps, and the room that is taken before anything is paid for."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import numpy as np
import pytest

from client.stored_answers import StoredAnswers
from more_model.errors import EnvironmentFault
from more_model.exchange import Fingerprint, Instruction, Update

ASKED = Instruction(1, 2, {"a": np.zeros(3, np.float32)}, "{}", 7, "spec", Fingerprint({}), "trial")
UPDATE = Update("north", 1, {"a": np.arange(3, dtype=np.float32)}, {"text": 1.0}, "spec", "f", {})


def test_an_answer_comes_back_whole_over_the_room_that_was_taken(tmp_path: Path) -> None:
    answers = StoredAnswers(tmp_path)
    answers.reserve(ASKED, 10_000_000)
    (draft,) = tmp_path.iterdir()
    assert draft.stat().st_size > 10_000_000 and answers.find(ASKED) is None
    answers.keep(ASKED, UPDATE)
    (kept,) = tmp_path.iterdir()
    assert kept.stat().st_size < 10_000 and kept.stat().st_mode & 0o077 == 0
    found = answers.find(ASKED)
    assert found is not None and np.array_equal(found.deltas["a"], UPDATE.deltas["a"])


def test_without_room_the_question_is_refused_before_it_costs_anything(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "posix_fallocate", full)
    with pytest.raises(EnvironmentFault, match=r"no room for this round's answer \(No space left"):
        StoredAnswers(tmp_path).reserve(ASKED, 100)
    assert list(tmp_path.iterdir()) == []
