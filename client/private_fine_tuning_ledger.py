"""The ledger of a private fine-tuning: all of its steps are charged before the first one, or it is said that none are.

What an evaluation trains on is registered as a data set of its own, without a budget of its own. Patients that another
data set of the ledger has as well are recognised by their keyed hash; that data set's budget then decides.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from more_model.errors import ConfigError, RoundError
from more_model.evaluation.bootstrap import Unit
from more_model.evaluation.private_training import PrivateTerms
from privacy.claims import rounded_up
from privacy.ledger.dataset import DataSet, data_set
from privacy.ledger.ledger import Ledger
from privacy.ledger.spending import Budget, Charge

_NAME = "training patients of an evaluation"
_PURPOSE = "private fine-tuning"
_NOT_CHARGED = (
    "Nothing was charged to a ledger. What these patients have spent elsewhere, and spend in a second run of this very "
    "evaluation, comes on top of this epsilon and is counted by nobody."
)


@dataclass(frozen=True, slots=True)
class Paid:
    """``take_step`` is called before each step; ``charged`` and ``says`` belong in the result."""

    take_step: Callable[[], None]
    charged: bool
    says: str


@contextmanager
def charged(terms: PrivateTerms, charge: Charge, patients: frozenset[Unit]) -> Iterator[Paid]:
    """Charges ``charge`` for ``patients``, if ``terms`` name a ledger; steps that were not taken are given back.

    Raises:
        ConfigError: patients of several sites, an unusable key, or patients hashed with another key.
        BudgetExhausted: a budget of some of these patients would be crossed.
        LedgerDamaged: the ledger is gone, or is not the one last written.
    """
    if terms.ledger is None or terms.witness is None or terms.site_key is None:
        yield Paid(_counted(charge.steps), charged=False, says=_NOT_CHARGED)
        return
    ledger = Ledger(terms.ledger, terms.witness)
    data = _data_set(patients, terms.site_key)
    if data.digest not in ledger.state().accounts:
        ledger.register(data, Budget(math.inf, charge.delta))
    with ledger.reserved(data.digest, charge, _PURPOSE) as reservation:
        spent = ledger.spent(data.digest)
        yield Paid(
            reservation.take_step,
            charged=True,
            says=f"All steps were charged to the site's ledger before the first (entry {reservation.number}). With all "
            f"else that it holds of these patients, they have spent epsilon {rounded_up(spent.epsilon)} at delta "
            f"{spent.delta:g}.",
        )


def _data_set(patients: frozenset[Unit], site_key: Path) -> DataSet:
    sites = {site for site, _ in patients}
    if len(sites) > 1:
        raise ConfigError(
            "--ledger",
            [f"the training patients come from {len(sites)} sites, and a ledger is the record of one"],
            remedy="evaluate with the data of the site whose ledger it is",
        )
    if not site_key.is_file():
        raise ConfigError("--site-key", ["there is no such file"], remedy="give the file with the site's secret key")
    return data_set(_NAME, (patient for _, patient in patients), site_key.read_bytes())


def _counted(steps: int) -> Callable[[], None]:
    left = iter(range(steps))

    def take_step() -> None:
        if next(left, None) is None:
            raise RoundError(
                f"All {steps} steps that this epsilon was computed for have run.",
                remedy="plan the steps of all trainings beforehand",
                avoid="run one more: the epsilon would be false",
            )

    return take_step
