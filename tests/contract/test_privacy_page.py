"""`docs/privacy.md` holds no epsilon that is not recomputed here from the settings in its own row."""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import cast, get_args

import pytest

from privacy.accounting import patient_epsilon_of_sampled_studies
from privacy.claims import mode_claim, rounded_up
from privacy.planning import Cohort, spending
from privacy.sensitivity import MODES, Mode
from privacy.settings import delta_faults
from simulation.report.privacy_words import most_right, most_times

PAGE = Path(__file__).parents[2] / "docs" / "privacy.md"
Row = list[str]

#: A table whose figures are recomputed: a mark, the head, the rule, the rows.
_COMPUTED = re.compile(r"<!-- computed: (\w+) -->\n\|(.+)\|\n\|[-| ]+\|\n((?:\|.+\|\n)+)")
_EPSILON = re.compile(r"epsilon|ε", re.IGNORECASE)
_TABLE = re.compile(r"(?:^\|.*\|\n)+", re.MULTILINE)
_LARGEST_SPARE_NOISE = 0.005


def tables(page: str) -> dict[str, list[Row]]:
    """The rows of every computed table, by its mark."""
    found: dict[str, list[Row]] = {}
    for name, _, body in _COMPUTED.findall(page):
        assert name not in found, f"two tables are called {name}"
        found[name] = [[cell.strip().strip("`") for cell in line.strip("|").split("|")] for line in body.splitlines()]
    return found


def loose_epsilons(page: str) -> list[str]:
    """Sentences and tables, computed ones aside, that hold both the word epsilon and a digit."""
    rest = _COMPUTED.sub("\n", page)
    pieces = _TABLE.findall(rest) + re.split(r"(?<=[.!?])\s+|\n\s*\n|\n[-*\d]+\.? ", _TABLE.sub("\n\n", rest))
    return [piece for piece in pieces if _EPSILON.search(piece) and re.search(r"\d", piece)]


def _number(text: str) -> float:
    return float(text.replace(",", "").partition(" ")[0])


@cache
def _of_mode(mode: Mode, noise: float, rate: float, steps: int, delta: float) -> str:
    return rounded_up(mode_claim(mode, noise, 1.0, rate, steps, delta).result.epsilon)


def _claims(row: Row) -> bool:
    mode, noise, rate, steps, delta, printed = row
    assert mode in get_args(Mode)
    contract = MODES[cast(Mode, mode)]
    kind = steps.partition(" ")[2]
    same_step = kind == f"{contract.step}s"
    computed = _of_mode(cast(Mode, mode), _number(noise), _number(rate), int(_number(steps)), _number(delta))
    return same_step and printed == computed


def _noise(row: Row) -> bool:
    """The noise keeps the budget, hardly any less would, and it is spread over the patients of a step."""
    patients, per_step, steps, delta, target, noise, on_mean = map(_number, row)
    cohort = Cohort("patient-decoupled", int(patients), per_step)
    kept, exceeded = (
        spending(cohort, noise * share, [int(steps)], delta)[0] for share in (1.0, 1.0 - _LARGEST_SPARE_NOISE)
    )
    spread = noise / cohort.mean_divisor
    return kept <= target < exceeded and spread <= on_mean <= spread + 1e-5 and not delta_faults(delta, int(patients))


def _studies(row: Row) -> bool:
    studies, noise, rate, steps, delta = (_number(cell) for cell in row[:5])
    by_patient = _of_mode("patient-decoupled", noise, rate, int(steps), delta)
    by_study = by_patient
    if studies > 1:
        by_study = rounded_up(patient_epsilon_of_sampled_studies(noise, rate, int(steps), delta, int(studies)))
    return row[5:] == [by_patient, by_study]


def _hospitals(row: Row) -> bool:
    hospitals, noise, rate, steps, delta = (_number(cell) for cell in row[:5])
    return row[5] == _of_mode("patient-decoupled", noise, rate, int(hospitals * steps), delta)


def _meaning(row: Row) -> bool:
    bound, delta = _number(row[0]), _number(row[1])
    wrongly = 1 / 1000
    right = min(math.exp(bound) * wrongly + delta, 1 - math.exp(-bound) * (1 - delta - wrongly))
    words = [
        most_times(bound),
        most_right(bound, delta).replace("\u00a0", " "),
        f"{math.ceil(1000 * right):,} in 1,000",
    ]
    return row[2:] == words


CHECKS: dict[str, Callable[[Row], bool]] = {
    "claims": _claims,
    "noise": _noise,
    "studies": _studies,
    "hospitals": _hospitals,
    "meaning": _meaning,
}
ROWS = [(name, row) for name, rows in tables(PAGE.read_text(encoding="utf-8")).items() for row in rows]


@pytest.mark.parametrize(("name", "row"), ROWS, ids=lambda value: value if isinstance(value, str) else " ".join(value))
def test_every_row_is_what_the_accountant_says(name: str, row: Row) -> None:
    assert CHECKS[name](row), f"table {name}: {' | '.join(row)}"


def test_every_kind_of_table_is_there_and_every_mode_has_a_claim() -> None:
    assert {name for name, _ in ROWS} == set(CHECKS)
    assert {row[0] for name, row in ROWS if name == "claims"} == set(get_args(Mode))


def test_no_epsilon_stands_outside_the_computed_tables() -> None:
    assert loose_epsilons(PAGE.read_text(encoding="utf-8")) == []


@pytest.mark.parametrize(
    "added",
    [
        "Patients have epsilon 3.",
        "An Epsilon of at most 8\nis promised. More follows.",
        "- the budget is ε = 1",
        "| site | epsilon |\n| --- | --- |\n| north | 2.5 |\n",
        "Eight is large, 8 is an epsilon",
        "<!-- computed: claims -->\n\nThe epsilon is 4.",
    ],
)
def test_a_loose_epsilon_is_found(added: str) -> None:
    page = PAGE.read_text(encoding="utf-8")
    for place in (0, page.index("## The ledger"), len(page)):
        assert loose_epsilons(f"{page[:place]}\n\n{added}\n\n{page[place:]}"), added


@pytest.mark.parametrize(
    ("name", "place", "wrong"),
    [
        ("claims", 5, "5.12"),
        ("claims", 3, "1,000 epochs"),
        ("noise", 5, "2.200"),
        ("noise", 5, "2.300"),
        ("studies", 6, "5.12"),
        ("hospitals", 5, "5.12"),
        ("meaning", 2, "1.10"),
        ("meaning", 3, "52.00 %"),
        ("meaning", 4, "1 in 1,000"),
    ],
)
def test_a_wrong_figure_is_found(name: str, place: int, wrong: str) -> None:
    row = list(next(row for table, row in ROWS if table == name))
    assert row[place] != wrong
    row[place] = wrong
    assert not CHECKS[name](row)
