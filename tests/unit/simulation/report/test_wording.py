"""Numbers and names as people read them."""

from __future__ import annotations

import pytest

from simulation.report.reading import interval, number, part
from simulation.report.wording import (
    arm_name,
    count,
    difference,
    direction_name,
    duration,
    estimate,
    listing,
    percent,
    plural,
    signed,
    size,
)


@pytest.mark.parametrize(
    ("value", "words"),
    [(0.0, "0.000"), (-0.0001, "0.000"), (0.0004, "0.000"), (0.0006, "+0.001"), (-0.0312, "−0.031"), (None, "–")],
)
def test_signed_never_shows_a_signed_zero(value: float | None, words: str) -> None:
    assert signed(value) == words


@pytest.mark.parametrize(
    ("n_bytes", "words"),
    [
        (0, "0 bytes"),
        (999, "999 bytes"),
        (1000, "1.0 kB"),
        (412_345, "412.3 kB"),
        (2.5e9, "2.5 GB"),
        (5e12, "5,000.0 GB"),
    ],
)
def test_size_in_decimal_units(n_bytes: float, words: str) -> None:
    assert size(n_bytes) == words.replace(" ", "\u00a0")


@pytest.mark.parametrize(
    ("share", "words"), [(0.0, "0 %"), (0.0302, "3.0 %"), (0.0061, "0.61 %"), (0.0004, "0.040 %"), (1.0, "100.0 %")]
)
def test_small_shares_do_not_become_zero(share: float, words: str) -> None:
    assert percent(share) == words.replace(" ", "\u00a0")


@pytest.mark.parametrize(
    ("seconds", "words"),
    [(4.21, "4.2 s"), (9.97, "10 s"), (59.6, "1 min 0 s"), (185, "3 min 5 s"), (7800, "2 h 10 min")],
)
def test_duration(seconds: float, words: str) -> None:
    assert duration(seconds) == words


def test_estimate_with_and_without_interval() -> None:
    assert estimate({"auroc": 0.8461, "ci95": [0.8, 0.9]}, "auroc") == "0.846 (0.800 to 0.900)"
    assert estimate({"macro_auroc": 0.8461, "ci95": [None, None]}) == "0.846"
    assert estimate({"macro_auroc": None, "ci95": [0.1, 0.2]}) == "–"
    assert difference({"macro_auroc": -0.01, "ci95": [-0.02, 0.0]}) == "−0.010 (−0.020 to 0.000)"


def test_names_and_lists() -> None:
    assert arm_name("centralized") == "Centralised"
    assert arm_name("fed_prox") == "Fed prox"
    assert direction_name("text->ecg") == "Report to ECG"
    assert listing(["a", "b", "c"]) == "a, b and c"
    assert listing([]) == ""
    assert plural(1, "site") == "1 site"
    assert plural(1200, "study", "studies") == "1,200 studies"
    assert count("<5") == "<5"
    assert count(None) == "–"
    assert count(1234.5) == "1,234.5"


def test_reading_refuses_what_is_not_a_number() -> None:
    assert number({"a": True}, "a") is None
    assert number({"a": "0.8"}, "a") is None
    assert number({"a": float("inf")}, "a") is None
    assert interval({"ci95": [0.1]}) is None
    assert part({"a": [1]}, "a") == {}
    assert part(None, "a") == {}
