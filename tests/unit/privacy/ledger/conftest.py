"""A ledger of one data set, in folders of the test's own."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from privacy.ledger.dataset import DataSet, data_set
from privacy.ledger.ledger import Ledger, open_ledger
from privacy.ledger.spending import Budget, Charge

KEY = b"0123456789abcdef"


@dataclass(frozen=True)
class Site:
    """``charge(steps)`` makes a charge without sampling, which needs no slow accountant: z = 20."""

    ledger: Ledger
    data: DataSet
    path: Path
    witness: Path
    key: bytes

    def reopen(self) -> Ledger:
        return open_ledger(self.path, self.witness, site="north", key_digest=self.data.key_digest)

    def charge(self, steps: int = 1) -> Charge:
        return Charge("patient-shuffled", 20.0, 1.0, steps, 1e-5)


@pytest.fixture
def make_site(tmp_path: Path) -> Callable[[float], Site]:
    def make(budget: float) -> Site:
        data = data_set("chest", [f"patient {n}" for n in range(30)], KEY)
        path, witness = tmp_path / "ledger" / "ledger.sqlite", tmp_path / "elsewhere" / "witness.json"
        ledger = open_ledger(path, witness, site="north", key_digest=data.key_digest)
        ledger.register(data, Budget(budget, 1e-5))
        return Site(ledger, data, path, witness, KEY)

    return make


@pytest.fixture
def site(make_site: Callable[[float], Site]) -> Site:
    """Budget 8 at delta 1e-5."""
    return make_site(8.0)
