"""Whether a ledger is the one that was last written: every entry, every data set, the witness, and kept anchors."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Sequence
from contextlib import closing
from pathlib import Path

from privacy.ledger.chain import Anchor, Entry, checked_chain, require_contains
from privacy.ledger.dataset import members_digest
from privacy.ledger.errors import LedgerDamaged
from privacy.ledger.files import connect, sqlite_faults, writer_lock
from privacy.ledger.state import State, replayed
from privacy.ledger.witness import read_witness, write_witness


def checked_state(path: Path, witness: Path, anchors: Iterable[Anchor] = ()) -> State:
    """The state of a ledger that is whole, and goes through its witness and through every one of ``anchors``.

    Found out: an entry that was edited, deleted, moved or put in between; a truncated or unreadable file; an old copy
    that was put back, and a copy that went its own way, as long as the witness or one of the anchors is newer.
    Not found out: ledger, witness and every anchor brought back together to the same earlier day.

    Raises:
        LedgerDamaged: says what is wrong.
    """
    ledger_id, seen = read_witness(witness)  # before the ledger: another process may add an entry in between
    entries, state = _whole(path)
    if state.ledger_id != ledger_id:
        raise LedgerDamaged(
            "The witness belongs to another ledger.", remedy="give each ledger the witness that was made with it"
        )
    require_contains(entries, seen, "its witness")
    for anchor in anchors:
        require_contains(entries, anchor, "the given anchor")
    return state


def renew_witness(path: Path, witness: Path, anchor: Anchor) -> State:
    """Writes a lost witness again, for a ledger that goes through an anchor from the audit log.

    Raises:
        LedgerDamaged: the ledger does not, or the witness is not lost.
    """
    with writer_lock(path):
        if witness.exists():
            raise LedgerDamaged(
                "There is a witness already.", remedy="verify against it; remove it only where it cannot be read"
            )
        entries, state = _whole(path)
        require_contains(entries, anchor, "the given anchor")
        write_witness(witness, state.ledger_id, state.anchor)
    return state


def stored_rows(path: Path) -> list[tuple[int, str, str]]:
    """Number, text and head of every entry, as stored and unchecked."""
    with closing(connect(path)) as connection, sqlite_faults():
        return read_entries(connection)


def read_entries(connection: sqlite3.Connection) -> list[tuple[int, str, str]]:
    """All rows in the order of their numbers."""
    return connection.execute("SELECT number, text, head FROM entries ORDER BY number").fetchall()


def _whole(path: Path) -> tuple[Sequence[Entry], State]:
    with closing(connect(path)) as connection, sqlite_faults():
        connection.execute("BEGIN")
        rows = read_entries(connection)
        members = connection.execute("SELECT data_set, name, hashes FROM members").fetchall()
        connection.execute("COMMIT")
    entries = checked_chain(rows)
    state = replayed(entries)
    _check_members(state, members)
    return entries, state


def _check_members(state: State, members: Iterable[tuple[str, str, bytes]]) -> None:
    found = {digest for digest, name, hashes in members if members_digest(name, hashes) == digest}
    if found != set(state.accounts):
        raise LedgerDamaged(
            "The ledger was changed: its lists of patients do not fit its entries.",
            remedy="put the newest undamaged copy of the ledger file back",
        )
