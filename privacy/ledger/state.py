"""What the entries of a ledger add up to."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from more_model.errors import ConfigError
from privacy.ledger.chain import Anchor, Entry, anchor_of
from privacy.ledger.errors import LedgerDamaged
from privacy.ledger.spending import Budget, Charge, Spent, charge_of, composed


@dataclass(frozen=True, slots=True)
class Charged:
    """One charge: ``charge.steps`` is what it counts for, the reserved steps until ``settled``, then those that ran."""

    number: int
    at: str
    charge: Charge
    reserved: int
    receipt: str
    purpose: str
    settled: bool


@dataclass(slots=True)
class Account:
    """One data set: its budget, its charges by entry number, and the other data sets with some of its patients."""

    digest: str
    name: str
    patients: int
    budget: Budget
    overlaps: frozenset[str]
    charges: dict[int, Charged] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class State:
    """A whole ledger. ``accounts`` by digest, in the order of registration."""

    ledger_id: str
    site: str
    key_digest: str
    accounts: Mapping[str, Account]
    anchor: Anchor

    def account(self, digest: str) -> Account:
        """Raises `ConfigError` where the data set was never registered."""
        if digest not in self.accounts:
            raise ConfigError("ledger", ["this data set is not registered"], remedy="register it with its budget first")
        return self.accounts[digest]

    def charges_on(self, digest: str) -> list[Charge]:
        """Everything that can have touched a patient of this data set: its own charges and those of every data set
        with which it shares patients. An upper bound: nobody need be in all of them."""
        own = self.account(digest)
        touching = [own.digest, *sorted(own.overlaps)]
        return [charged.charge for other in touching for charged in self.accounts[other].charges.values()]

    def spent(self, digest: str) -> Spent:
        """The epsilon of a data set's most exposed patient, at the delta of its budget."""
        return composed(self.charges_on(digest), self.account(digest).budget.delta)


def replayed(entries: Sequence[Entry]) -> State:
    """The state after all ``entries`` of a checked chain.

    Raises:
        LedgerDamaged: an entry that cannot follow from those before it.
    """
    accounts: dict[str, Account] = {}
    created: Mapping[str, Any] = {}
    for entry in entries:
        try:
            if entry.kind == "created":
                if entry.number != 1:
                    raise ValueError("created twice")
                created = entry.content
            else:
                _APPLY[entry.kind](accounts, entry)
        except (KeyError, TypeError, ValueError) as error:
            raise LedgerDamaged(
                f"Entry {entry.number} of the ledger does not follow from those before it.",
                remedy="use the release that wrote it, or put the newest undamaged copy of the ledger file back",
            ) from error
    if not created:
        raise LedgerDamaged("The ledger has no beginning.", remedy="put the newest copy of the ledger file back")
    return State(created["ledger"], created["site"], created["key"], accounts, anchor_of(entries))


def budget_content(budget: Budget) -> dict[str, float | None]:
    """A budget as an entry holds it; JSON has no infinity."""
    return {"epsilon": budget.epsilon if math.isfinite(budget.epsilon) else None, "delta": budget.delta}


def _budget(content: Mapping[str, Any]) -> Budget:
    epsilon = content["epsilon"]
    return Budget(math.inf if epsilon is None else float(epsilon), float(content["delta"]))


def _registered(accounts: dict[str, Account], entry: Entry) -> None:
    content = entry.content
    digest = content["data_set"]
    if digest in accounts:
        raise ValueError("registered twice")
    overlaps = frozenset(content["overlaps"])
    for other in overlaps:
        accounts[other].overlaps |= {digest}
    accounts[digest] = Account(digest, content["name"], content["patients"], _budget(content["budget"]), overlaps)


def _rebudgeted(accounts: dict[str, Account], entry: Entry) -> None:
    accounts[entry.content["data_set"]].budget = _budget(entry.content["budget"])


def _charged(accounts: dict[str, Account], entry: Entry) -> None:
    content = entry.content
    charge = charge_of(content["charge"])
    accounts[content["data_set"]].charges[entry.number] = Charged(
        entry.number, entry.at, charge, charge.steps, content["receipt"], content["purpose"], settled=False
    )


def _settled(accounts: dict[str, Account], entry: Entry) -> None:
    charges = accounts[entry.content["data_set"]].charges
    charged, ran = charges[entry.content["charge"]], int(entry.content["ran"])
    if charged.settled or not 0 <= ran <= charged.reserved:
        raise ValueError("settled twice, or beyond what was reserved")
    charges[charged.number] = replace(charged, charge=replace(charged.charge, steps=ran), settled=True)


_APPLY = {"registered": _registered, "budget": _rebudgeted, "charge": _charged, "settled": _settled}
