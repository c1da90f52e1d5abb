"""The ledger of one site: a charge is on disk, synced, before anything that it pays for runs.

    ledger = open_ledger(path, witness, site="north")
    ledger.register(data_set("chest 2024", patient_ids, key), Budget(epsilon=8.0, delta=1e-5))
    with ledger.reserved(digest, Charge("patient-decoupled", z, q, steps=1000, delta=1e-5), "round 7") as reservation:
        for _ in range(1000):
            reservation.take_step()
            ...                                      # one private step

A reservation pays for many steps with one sync. Whatever ends the process, the steps stay charged: only the object that
made the charge can settle it, never below the steps that it handed out, and it dies with the process.

Settling returns steps that did not run. That is sound only if the reason they did not run does not depend on the
patients' data beyond what was released: a coordinator that is gone, a deadline, an operator. For early stopping on
something unreleased, leave the steps charged.
"""

from __future__ import annotations

import hashlib
import secrets
import sqlite3
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from more_model.errors import ConfigError, StoreError
from privacy.ledger.chain import START, Anchor, Entry, Kind, sealed
from privacy.ledger.dataset import DataSet, overlap
from privacy.ledger.errors import BudgetExhausted
from privacy.ledger.files import (
    check_places,
    connect,
    create,
    sqlite_faults,
    sync_folder,
    transaction,
    writer_lock,
)
from privacy.ledger.spending import Budget, Charge, Spent, charge_content, check_budget, check_charge, composed
from privacy.ledger.spending import steps_that_fit as count_that_fit
from privacy.ledger.state import Account, State, budget_content
from privacy.ledger.verify import checked_state, read_entries
from privacy.ledger.witness import write_witness


@dataclass(slots=True)
class Reservation:
    """Steps that are paid for, and how many of them were handed out. Of use in the process that charged them only.

    ``anchor`` is the ledger's head after the charge: write it to the audit log.
    """

    data_set: str
    number: int
    steps: int
    anchor: Anchor
    secret: bytes = field(repr=False)
    taken: int = 0
    closed: bool = False

    def take_step(self) -> None:
        """Call before each step (epoch, round) that touches the data.

        Raises:
            BudgetExhausted: all reserved steps were taken, or the reservation is settled.
        """
        if self.closed or self.taken >= self.steps:
            raise BudgetExhausted(
                f"All {self.steps} steps of this reservation are used or given back.",
                remedy="charge further steps before they run",
                avoid="run a step that was not charged",
            )
        self.taken += 1


@dataclass(frozen=True, slots=True)
class Ledger:
    """An open ledger: where it lies. Nothing is cached, so several processes may use the same files."""

    path: Path
    witness: Path

    def state(self) -> State:
        """Everything in the ledger, checked.

        Raises:
            LedgerDamaged: see `privacy.ledger.verify`.
        """
        return checked_state(self.path, self.witness)

    def spent(self, digest: str) -> Spent:
        """The epsilon of the data set's most exposed patient so far, at its budget's delta."""
        return self.state().spent(digest)

    def register(self, data: DataSet, budget: Budget) -> Anchor:
        """Makes a data set known, with its budget; a second time the same is no change.

        A data set that shares patients with an earlier one starts with what those patients have spent.

        Raises:
            ConfigError: another budget than before (use `set_budget`), or another site key.
            LedgerDamaged: the files are not those last written.
        """
        check_budget(budget)
        with self._writing() as writing:
            self._check_registration(writing.state, data, budget)
            if data.digest in writing.state.accounts:
                return writing.state.anchor
            rows = writing.connection.execute("SELECT data_set, hashes FROM members").fetchall()
            content = {
                "data_set": data.digest,
                "name": data.name,
                "patients": data.patients,
                "budget": budget_content(budget),
                "overlaps": sorted(digest for digest, hashes in rows if overlap(hashes, data.members)),
            }
            with transaction(writing.connection):
                writing.connection.execute(
                    "INSERT INTO members VALUES (?, ?, ?)", (data.digest, data.name, data.members)
                )
                entry = _append(writing, "registered", content)
            return self._witnessed(writing, entry)

    def set_budget(self, digest: str, budget: Budget, reason: str) -> Anchor:
        """Changes a budget; who reads the ledger sees when and why.

        Raises:
            ConfigError: a budget that cannot be, an unknown data set, or no reason.
        """
        check_budget(budget)
        if not reason.strip():
            raise ConfigError("ledger budget", ["a change needs a reason"], remedy="say who decided it and why")
        with self._writing() as writing:
            writing.state.account(digest)
            content = {"data_set": digest, "budget": budget_content(budget), "reason": reason}
            with transaction(writing.connection):
                entry = _append(writing, "budget", content)
            return self._witnessed(writing, entry)

    def charge(self, digest: str, charge: Charge, purpose: str) -> Reservation:
        """Charges ``charge.steps`` steps durably, or refuses and changes nothing. ``purpose``: run and round, for
        people.

        Raises:
            BudgetExhausted: the budget of this data set, or of one that shares patients with it, would be crossed.
            ConfigError: a charge that cannot be accounted, or an unknown data set.
            LedgerDamaged: the files are not those last written.
        """
        check_charge(charge)
        secret = secrets.token_bytes(16)
        with self._writing() as writing:
            _require_within_budgets(writing.state, digest, charge)
            content = {
                "data_set": digest,
                "charge": charge_content(charge),
                "receipt": _receipt(secret),
                "purpose": purpose,
            }
            with transaction(writing.connection):
                entry = _append(writing, "charge", content)
            anchor = self._witnessed(writing, entry)
        return Reservation(digest, entry.number, charge.steps, anchor, secret)

    def settle(self, reservation: Reservation) -> Anchor:
        """Gives back the steps that the reservation did not hand out. Twice, or with none left, it changes nothing.

        Raises:
            ConfigError: the reservation was not made from this ledger.
        """
        reservation.closed = True
        with self._writing() as writing:
            charged = writing.state.account(reservation.data_set).charges.get(reservation.number)
            if charged is None or charged.receipt != _receipt(reservation.secret):
                raise ConfigError("ledger", ["this reservation was not made from this ledger"])
            if charged.settled or reservation.taken >= charged.reserved:
                return writing.state.anchor
            content = {"data_set": reservation.data_set, "charge": charged.number, "ran": reservation.taken}
            with transaction(writing.connection):
                entry = _append(writing, "settled", content)
            return self._witnessed(writing, entry)

    @contextmanager
    def reserved(self, digest: str, charge: Charge, purpose: str) -> Iterator[Reservation]:
        """`charge`, and `settle` at the end, also after an error."""
        reservation = self.charge(digest, charge, purpose)
        try:
            yield reservation
        finally:
            self.settle(reservation)

    def steps_that_fit(self, digest: str, charge: Charge) -> int:
        """How many of ``charge.steps`` could be charged now."""
        check_charge(charge)
        return _steps_that_fit(self.state(), digest, charge)

    @contextmanager
    def _writing(self) -> Iterator[_Writing]:
        with writer_lock(self.path), sqlite_faults():
            state = checked_state(self.path, self.witness)
            connection = connect(self.path)
            try:
                yield _Writing(connection, state)
            finally:
                connection.close()

    def _witnessed(self, writing: _Writing, entry: Entry) -> Anchor:
        anchor = Anchor(entry.number, entry.head)
        write_witness(self.witness, writing.state.ledger_id, anchor)
        return anchor

    @staticmethod
    def _check_registration(state: State, data: DataSet, budget: Budget) -> None:
        if data.key_digest != state.key_digest:
            raise ConfigError(
                "ledger data set",
                ["the patients were hashed with another key than the ledger's, so no overlap could be seen"],
                remedy="use the site key with which the ledger was made",
            )
        known = state.accounts.get(data.digest)
        if known is not None and known.budget != budget:
            raise ConfigError(
                "ledger data set",
                ["it is registered with another budget"],
                remedy="change the budget on purpose and with a reason (set_budget)",
            )


@dataclass(frozen=True, slots=True)
class _Writing:
    connection: sqlite3.Connection
    state: State


def open_ledger(path: Path, witness: Path, *, site: str, key_digest: str) -> Ledger:
    """Opens the site's ledger, and makes it where neither the ledger nor its witness exists.

    ``key_digest``: of the site key (`privacy.ledger.dataset.DataSet.key_digest`).

    Raises:
        ConfigError: places where both files would be lost together, or a ledger of another site.
        LedgerDamaged: one of the files is gone, or they are not those last written.
    """
    check_places(path, witness)
    with writer_lock(path), sqlite_faults():
        if not witness.exists() and not _is_used(path):
            _create(path, witness, site, key_digest)
        state = checked_state(path, witness)
    if state.site != site:
        raise ConfigError("ledger", ["it belongs to another site"], remedy="give each site a ledger of its own")
    return Ledger(path, witness)


def _is_used(path: Path) -> bool:
    """Whether there is a file with more than its first entry: a crash can have ended its making before the witness."""
    if not path.exists():
        return False
    with closing(connect(path)) as connection:
        return len(read_entries(connection)) != 1


def _create(path: Path, witness: Path, site: str, key_digest: str) -> None:
    content = {"ledger": secrets.token_hex(16), "site": site, "key": key_digest}
    text, entry = sealed(Anchor(0, START), "created", content, _now())
    unfinished = path.with_name(path.name + ".new")
    unfinished.unlink(missing_ok=True)
    with closing(create(unfinished)) as connection, transaction(connection):
        connection.execute("INSERT INTO entries VALUES (?, ?, ?)", (entry.number, text, entry.head))
    unfinished.replace(path)
    sync_folder(path.parent)
    write_witness(witness, content["ledger"], Anchor(entry.number, entry.head))


def _append(writing: _Writing, kind: Kind, content: Mapping[str, Any]) -> Entry:
    """Adds one entry inside the running transaction."""
    last = writing.connection.execute("SELECT number, head FROM entries ORDER BY number DESC LIMIT 1").fetchone()
    if Anchor(*last) != writing.state.anchor:
        raise StoreError("The ledger changed while it was locked.", remedy="find the program that ignores its lock")
    text, entry = sealed(writing.state.anchor, kind, content, _now())
    writing.connection.execute("INSERT INTO entries VALUES (?, ?, ?)", (entry.number, text, entry.head))
    return entry


def _require_within_budgets(state: State, digest: str, charge: Charge) -> None:
    for account in _touched(state, digest):
        before = state.charges_on(account.digest)
        after = composed([*before, charge], account.budget.delta)
        if after.epsilon > account.budget.epsilon:
            raise _exhausted(state, digest, charge, account, after.epsilon)


def _touched(state: State, digest: str) -> list[Account]:
    own = state.account(digest)
    return [own, *(state.accounts[other] for other in sorted(own.overlaps))]


def _steps_that_fit(state: State, digest: str, charge: Charge) -> int:
    return min(
        count_that_fit(state.charges_on(account.digest), charge, account.budget) for account in _touched(state, digest)
    )


def _exhausted(state: State, digest: str, charge: Charge, account: Account, asked: float) -> BudgetExhausted:
    spent = state.spent(account.digest).epsilon
    fits = _steps_that_fit(state, digest, charge)
    whose = "its" if account.digest == digest else "another data set's, with some of the same patients, the"
    return BudgetExhausted(
        f"The site refuses {charge.steps} steps of {charge.mode} (noise multiplier {charge.noise_multiplier:g}, "
        f"sampling rate {charge.sampling_rate:g}): epsilon would go from {spent:.3f} to {asked:.3f} at delta "
        f"{account.budget.delta:g}, above {whose} budget of {account.budget.epsilon:g}. {fits} of these steps still "
        "fit. Nothing was charged.",
        remedy=f"ask for at most {fits} steps, train with more noise, or go on without this site"
        if fits
        else "train with more noise, or go on without this site",
        avoid="raise the budget to finish a run: it was promised to the patients before the run",
        spent=spent,
        asked=asked,
        budget=account.budget.epsilon,
        delta=account.budget.delta,
        fits=fits,
    )


def _receipt(secret: bytes) -> str:
    return hashlib.sha256(secret).hexdigest()


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")
