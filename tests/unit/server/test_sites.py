"""The register of sites: entries are added and closed, never changed."""

from __future__ import annotations

import sqlite3
import stat
import threading
from datetime import UTC, datetime
from pathlib import Path

import pytest

from client.site_keys import make_keys
from more_model.enrolment import Enrolment
from more_model.errors import ConfigError, EnvironmentFault
from server.sites import SiteRegister

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)


@pytest.fixture
def register(tmp_path: Path) -> SiteRegister:
    return SiteRegister(tmp_path / "state" / "sites.sqlite")


def enrolment(folder: Path, name: str) -> Enrolment:
    return make_keys(folder, name, patients=1200, modalities=("xray", "report")).enrolment


def test_a_register_that_is_not_there_yet_is_empty_and_is_not_made_by_looking(
    register: SiteRegister, tmp_path: Path
) -> None:
    assert register.entries() == ()
    assert list(tmp_path.iterdir()) == []


def test_an_entry_says_who_when_and_what(register: SiteRegister, tmp_path: Path) -> None:
    north = enrolment(tmp_path / "north", "north")
    entry = register.enroll(north, by="Dr A", now=NOON)
    assert register.enrolled() == {"north": entry}
    assert entry.enrolment == north
    assert (entry.state, entry.enrolled_by, entry.enrolled_at) == ("enrolled", "Dr A", "2026-03-01T12:00:00+00:00")
    assert stat.S_IMODE((tmp_path / "state" / "sites.sqlite").stat().st_mode) == 0o600


def test_adding_and_revoking_leaves_every_other_entry_as_it_was(register: SiteRegister, tmp_path: Path) -> None:
    first = [register.enroll(enrolment(tmp_path / name, name), by="a") for name in ("north", "south")]
    register.enroll(enrolment(tmp_path / "east", "east"), by="b")
    revoked = register.revoke("east", reason=" left ", by="c", now=NOON)
    assert list(register.entries()) == [*first, revoked]
    assert (revoked.state, revoked.reason, revoked.revoked_by) == ("revoked", "left", "c")
    assert revoked.enrolled_by == "b"


def test_a_revoked_site_returns_with_new_keys_only(register: SiteRegister, tmp_path: Path) -> None:
    old = enrolment(tmp_path / "old", "north")
    register.enroll(old, by="a")
    register.revoke("north", reason="stolen", by="a")
    with pytest.raises(ConfigError, match="a key in this file is that of north, revoked"):
        register.enroll(old, by="a")
    register.enroll(enrolment(tmp_path / "new", "north"), by="a")
    assert [entry.state for entry in register.entries()] == ["revoked", "enrolled"]


def test_one_half_of_a_known_pair_of_keys_is_enough_to_refuse(register: SiteRegister, tmp_path: Path) -> None:
    north, south = enrolment(tmp_path / "north", "north"), enrolment(tmp_path / "south", "south")
    register.enroll(north, by="a")
    mixed = Enrolment("south", south.node_key, north.identity, 10, ("xray", "report"))
    with pytest.raises(ConfigError, match="that of north"):
        register.enroll(mixed, by="a")
    assert list(register.enrolled()) == ["north"]


def test_a_site_that_is_enrolled_is_refused_a_second_time(register: SiteRegister, tmp_path: Path) -> None:
    north = enrolment(tmp_path / "north", "north")
    register.enroll(north, by="a")
    with pytest.raises(ConfigError, match="enrolled already, with these keys"):
        register.enroll(north, by="a")
    with pytest.raises(ConfigError, match="enrolled already, with other keys"):
        register.enroll(enrolment(tmp_path / "again", "north"), by="a")


def test_revoking_needs_a_site_and_a_reason(register: SiteRegister, tmp_path: Path) -> None:
    register.enroll(enrolment(tmp_path / "north", "north"), by="a")
    with pytest.raises(ConfigError, match="no reason"):
        register.revoke("north", reason="  ", by="a")
    with pytest.raises(ConfigError, match=r"no site 'nord' is enrolled\n.*enrolled are: north"):
        register.revoke("nord", reason="left", by="a")
    assert register.enrolled()["north"].state == "enrolled"


def test_many_may_write_at_once(register: SiteRegister, tmp_path: Path) -> None:
    made = [enrolment(tmp_path / f"site-{number}", f"site-{number}") for number in range(8)]
    threads = [threading.Thread(target=register.enroll, args=(one,), kwargs={"by": "a"}) for one in made]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(register.enrolled()) == [f"site-{number}" for number in range(8)]


def test_a_file_that_is_no_register_is_an_error_and_stays(register: SiteRegister, tmp_path: Path) -> None:
    path = tmp_path / "state" / "sites.sqlite"
    path.parent.mkdir()
    path.write_bytes(b"no database" * 100)
    with pytest.raises(EnvironmentFault, match="register of sites cannot be used"):
        register.entries()
    assert path.read_bytes() == b"no database" * 100


def test_looking_does_not_wait_for_somebody_who_writes(register: SiteRegister, tmp_path: Path) -> None:
    register.enroll(enrolment(tmp_path / "north", "north"), by="a")
    writer = sqlite3.connect(tmp_path / "state" / "sites.sqlite", isolation_level=None)
    writer.execute("BEGIN IMMEDIATE")
    try:
        assert list(register.enrolled()) == ["north"]
    finally:
        writer.close()
