"""A ledger that is not the one last written is found out: edits, deletions, old copies, forks, lost files."""

from __future__ import annotations

import shutil
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

import privacy.ledger.ledger as ledger_module
from more_model.errors import ConfigError, StoreError
from privacy.ledger.chain import Anchor, parse_anchor
from privacy.ledger.errors import LedgerDamaged
from privacy.ledger.ledger import open_ledger
from privacy.ledger.verify import checked_state, renew_witness


@pytest.fixture
def used(site: Any) -> Any:
    """Created, registered, three charges: five entries."""
    for number in range(3):
        site.ledger.charge(site.data.digest, site.charge(2), f"round {number}")
    return site


def run(path: Path, statement: str) -> None:
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute(statement)


def test_an_untouched_ledger_is_whole_and_goes_through_every_anchor_it_gave(used: Any) -> None:
    anchors = [used.ledger.charge(used.data.digest, used.charge(), "round").anchor for _ in range(2)]
    assert checked_state(used.path, used.witness, [parse_anchor(str(anchor)) for anchor in anchors]).anchor.count == 7


@pytest.mark.parametrize(
    "statement",
    [
        """UPDATE entries SET text = replace(text, '"steps":2', '"steps":1') WHERE number = 4""",
        "UPDATE entries SET head = hex(zeroblob(32)) WHERE number = 2",
        "DELETE FROM entries WHERE number = 3",
        "DELETE FROM entries WHERE number = 5",
        "DELETE FROM entries WHERE number = 1",
        "UPDATE entries SET (text, head) = (SELECT text, head FROM entries e WHERE e.number = 9 - entries.number)"
        " WHERE number IN (4, 5)",
        "INSERT INTO entries SELECT 6, text, head FROM entries WHERE number = 5",
        "DELETE FROM members",
        "UPDATE members SET hashes = substr(hashes, 17)",
        "DELETE FROM entries",
    ],
)
def test_what_was_changed_in_the_database_is_found(used: Any, statement: str) -> None:
    run(used.path, statement)
    with pytest.raises(LedgerDamaged):
        used.ledger.state()
    with pytest.raises(LedgerDamaged):
        used.ledger.charge(used.data.digest, used.charge(), "round")


def test_one_edited_byte_of_the_file_is_found(used: Any) -> None:
    content = bytearray(used.path.read_bytes())
    content[content.index(b"round 1") + 6] ^= 1
    used.path.write_bytes(content)
    with pytest.raises(LedgerDamaged, match="entry 4 is not what was written"):
        used.ledger.state()


@pytest.mark.parametrize("kept", [0, 100, 5000])
def test_a_truncated_file_is_found(used: Any, kept: int) -> None:
    used.path.write_bytes(used.path.read_bytes()[:kept])
    with pytest.raises(StoreError):
        used.ledger.charge(used.data.digest, used.charge(), "round")


def test_an_old_copy_put_back_is_found_and_nothing_can_be_charged_on_it(used: Any, tmp_path: Path) -> None:
    shutil.copy(used.path, tmp_path / "old")
    used.ledger.charge(used.data.digest, used.charge(5), "round 4")
    shutil.copy(tmp_path / "old", used.path)
    with pytest.raises(LedgerDamaged, match="rolled back: it has 5 entries, and its witness knows 6"):
        used.ledger.charge(used.data.digest, used.charge(), "round 5")
    with pytest.raises(LedgerDamaged, match="rolled back"):
        used.reopen()


def test_a_copy_that_went_its_own_way_is_found(used: Any, tmp_path: Path) -> None:
    """The other copy is as long, or longer: only the heads differ."""
    fork, fork_witness = tmp_path / "fork" / "ledger.sqlite", tmp_path / "fork witness" / "w.json"
    for source, target in ((used.path, fork), (used.witness, fork_witness)):
        target.parent.mkdir()
        shutil.copy(source, target)
    used.ledger.charge(used.data.digest, used.charge(5), "the real round")
    other = open_ledger(fork, fork_witness, site="north", key_digest=used.data.key_digest)
    for _ in range(2):
        other.charge(used.data.digest, used.charge(1), "the other round")
    shutil.copy(fork, used.path)
    with pytest.raises(LedgerDamaged, match="forked or rewritten: its entry 6"):
        used.ledger.state()


def test_ledger_and_witness_put_back_together_are_found_by_an_anchor_from_the_audit_log(
    used: Any, tmp_path: Path
) -> None:
    for name, path in (("l", used.path), ("w", used.witness)):
        shutil.copy(path, tmp_path / name)
    logged = used.ledger.charge(used.data.digest, used.charge(5), "round 4").anchor
    for name, path in (("l", used.path), ("w", used.witness)):
        shutil.copy(tmp_path / name, path)
    assert used.ledger.state().anchor.count == 5  # by themselves the two files agree
    with pytest.raises(LedgerDamaged, match="the given anchor knows 6"):
        checked_state(used.path, used.witness, [logged])


@pytest.mark.parametrize("lost", ["path", "witness"])
def test_a_lost_file_does_not_start_a_new_ledger(used: Any, lost: str) -> None:
    getattr(used, lost).unlink()
    with pytest.raises(LedgerDamaged, match=r"no ledger file|witness file is gone"):
        used.reopen()
    assert not getattr(used, lost).exists()


def test_a_lost_witness_is_renewed_with_an_anchor_only_if_the_ledger_is_not_older(used: Any) -> None:
    anchor = used.ledger.state().anchor
    with pytest.raises(LedgerDamaged, match="is a witness already"):
        renew_witness(used.path, used.witness, anchor)
    used.witness.unlink()
    with pytest.raises(LedgerDamaged, match="rolled back"):
        renew_witness(used.path, used.witness, Anchor(anchor.count + 1, "0" * 64))
    renew_witness(used.path, used.witness, anchor)
    assert used.reopen().state().anchor == anchor


@pytest.mark.parametrize("content", ["", "{}", '{"schema": 2}', '{"schema": 1, "ledger": "x", "anchor": "y"}'])
def test_an_unreadable_witness_is_refused(used: Any, content: str) -> None:
    used.witness.write_text(content, encoding="utf-8")
    with pytest.raises(LedgerDamaged, match="cannot be read"):
        used.ledger.state()


def test_a_crash_between_commit_and_witness_keeps_the_charge(used: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    def crash(*_: Any) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(ledger_module, "write_witness", crash)
        with pytest.raises(KeyboardInterrupt):
            used.ledger.charge(used.data.digest, used.charge(7), "round 4")
    ledger = used.reopen()
    assert [c.reserved for c in ledger.state().account(used.data.digest).charges.values()] == [2, 2, 2, 7]
    assert ledger.charge(used.data.digest, used.charge(), "round 5").anchor.count == 7


@pytest.mark.parametrize("crash_in", ["sync_folder", "write_witness"])
def test_a_crash_while_the_ledger_is_made_is_repaired_by_the_next_start(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, crash_in: str
) -> None:
    def crash(*_: Any) -> None:
        raise KeyboardInterrupt

    places = {"path": tmp_path / "a" / "ledger.sqlite", "witness": tmp_path / "b" / "w.json"}
    with monkeypatch.context() as patch:
        patch.setattr(ledger_module, crash_in, crash)
        with pytest.raises(KeyboardInterrupt):
            open_ledger(**places, site="north", key_digest="00")
    assert open_ledger(**places, site="north", key_digest="00").state().anchor.count == 1


def test_the_rights_of_the_files_are_their_owners(used: Any) -> None:
    assert [path.stat().st_mode & 0o077 for path in (used.path, used.witness)] == [0, 0]


def test_a_ledger_of_another_site_or_release_is_refused(used: Any) -> None:
    with pytest.raises(ConfigError, match="another site"):
        open_ledger(used.path, used.witness, site="south", key_digest=used.data.key_digest)
    run(used.path, "PRAGMA user_version = 9")
    with pytest.raises(LedgerDamaged, match="layout 9"):
        used.ledger.state()


def test_places_that_would_be_lost_together_are_refused(tmp_path: Path) -> None:
    import privacy.ledger

    installed = Path(privacy.ledger.__file__).parent / "ledger.sqlite"
    with pytest.raises(ConfigError, match="3 faults"):
        open_ledger(installed, installed.with_name("w.json"), site="north", key_digest="00")
    assert not installed.exists()
    with pytest.raises(ConfigError, match="old copy of that folder"):
        open_ledger(tmp_path / "l", tmp_path / "below" / "w", site="north", key_digest="00")


@pytest.mark.parametrize("text", ["", "3", "3:", "x:" + "0" * 64, "3:" + "G" * 64])
def test_texts_that_are_no_anchor(text: str) -> None:
    with pytest.raises(ConfigError, match="COUNT:HEAD"):
        parse_anchor(text)


def test_opening_makes_one_ledger_and_keeps_it(make_site: Callable[[float], Any]) -> None:
    site = make_site(8.0)
    assert site.reopen().state() == site.ledger.state()
