"""How the keys of the SuperLink follow the register; the whole service runs in tests/faults."""

from __future__ import annotations

import logging
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from client.site_keys import make_keys
from more_model.errors import RoundError
from server import superlink_service
from server.flower_superlink import Reconciled
from server.sites import SiteRegister


class Calls:
    """Stands in for `reconcile`: remembers what it was asked for, and fails while ``broken``."""

    def __init__(self) -> None:
        self.asked: list[list[str]] = []
        self.broken = False

    def __call__(self, _control: Any, enrolled: dict[str, bytes]) -> Reconciled:
        if self.broken:
            raise RoundError("the SuperLink did not answer")
        self.asked.append(sorted(enrolled))
        return Reconciled()


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> Calls:
    made = Calls()
    monkeypatch.setattr(superlink_service, "reconcile", made)
    return made


@pytest.fixture
def superlink() -> SimpleNamespace:
    return SimpleNamespace(starts=1)


@pytest.fixture
def keys(tmp_path: Path, superlink: SimpleNamespace) -> Any:
    return superlink_service._Keys(SimpleNamespace(state=tmp_path / "state"), None, superlink)  # type: ignore[arg-type]


def enroll(tmp_path: Path, name: str) -> None:
    made = make_keys(tmp_path / name, name, patients=10, modalities=("xray", "report"))
    SiteRegister(tmp_path / "state" / "sites.sqlite").enroll(made.enrolment, by="tester")


def test_the_superlink_is_asked_after_a_change_and_after_its_restart_only(
    keys: Any, calls: Calls, superlink: SimpleNamespace, tmp_path: Path
) -> None:
    assert keys.follow() and keys.follow()
    enroll(tmp_path, "north")
    assert keys.follow() and keys.follow()
    superlink.starts = 2
    assert keys.follow() and keys.follow()
    assert calls.asked == [[], ["north"], ["north"]]


def test_what_hinders_it_is_told_once_and_tried_again(
    keys: Any, calls: Calls, caplog: pytest.LogCaptureFixture, tmp_path: Path
) -> None:
    calls.broken = True
    enroll(tmp_path, "north")
    with caplog.at_level(logging.ERROR):
        assert not keys.follow() and not keys.follow()
    assert [record.getMessage() for record in caplog.records] == ["the SuperLink did not answer"]
    calls.broken = False
    assert keys.follow()
    assert calls.asked == [["north"]]


def test_a_register_that_cannot_be_read_ends_nothing(keys: Any, calls: Calls, tmp_path: Path) -> None:
    assert keys.follow()
    (tmp_path / "state").mkdir(exist_ok=True)
    (tmp_path / "state" / "sites.sqlite").write_bytes(b"no database" * 100)
    assert not keys.follow()
    assert calls.asked == [[]], "the keys stay as they were"
