"""Real processes: killed between charge and step, and charging at the same time."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from privacy.accounting import epsilon
from privacy.ledger.errors import BudgetExhausted

# Charges one step after another, and says so only after `charge` returned, as training would only then run the step.
CHILD = """
import sys
from pathlib import Path
from privacy.ledger.errors import BudgetExhausted
from privacy.ledger.ledger import Ledger
from privacy.ledger.spending import Charge

path, witness, digest, count = Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3], int(sys.argv[4])
ledger = Ledger(path, witness)
for _ in range(count):
    try:
        reservation = ledger.charge(digest, Charge("patient-shuffled", 20.0, 1.0, 1, 1e-5), "round")
    except BudgetExhausted:
        print("refused", flush=True)
        continue
    print(reservation.number, flush=True)
    reservation.take_step()
if count == 1:
    sys.stdin.read()
"""


@pytest.fixture
def start(checkout: Path) -> Callable[[Any, int], subprocess.Popen[str]]:
    def begin(site: Any, count: int) -> subprocess.Popen[str]:
        command = [sys.executable, "-c", CHILD, str(site.path), str(site.witness), site.data.digest, str(count)]
        return subprocess.Popen(command, cwd=checkout, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    return begin


def test_killed_between_charge_and_step_the_charge_stays(site: Any, start: Callable[..., Any]) -> None:
    with start(site, 1) as child:
        assert child.stdout.readline() == "3\n"
        child.send_signal(signal.SIGKILL)
    assert child.returncode == -signal.SIGKILL
    ledger = site.reopen()
    assert ledger.spent(site.data.digest).epsilon == epsilon(20.0, 1, 1, 1e-5, "replace").epsilon
    assert ledger.charge(site.data.digest, site.charge(), "after").number == 4


def test_killed_at_any_instant_no_charge_that_was_handed_out_is_lost(
    make_site: Callable[[float], Any], start: Callable[..., Any]
) -> None:
    site = make_site(1000.0)
    with start(site, 100_000) as child:
        handed_out = [int(child.stdout.readline()) for _ in range(40)]
        child.send_signal(signal.SIGKILL)
        handed_out += [int(line) for line in child.stdout if line.endswith("\n")]
    charges = site.reopen().state().account(site.data.digest).charges
    assert set(handed_out) <= set(charges)
    assert len(charges) - len(handed_out) in (0, 1)  # the one that was committed but not yet announced


def test_two_processes_charge_at_once_and_never_cross_the_budget(
    make_site: Callable[[float], Any], start: Callable[..., Any]
) -> None:
    site = make_site(epsilon(20.0, 1, 15, 1e-5, "replace").epsilon + 1e-9)
    children = [start(site, 10) for _ in range(2)]
    lines = [line for child in children for line in child.communicate()[0].split()]
    numbers = [int(line) for line in lines if line != "refused"]
    assert sorted(numbers) == list(range(3, 18))
    assert lines.count("refused") == 5
    with pytest.raises(BudgetExhausted):
        site.reopen().charge(site.data.digest, site.charge(), "one more")
