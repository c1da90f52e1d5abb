"""Balance and chance in who reads what when."""

from __future__ import annotations

from collections import Counter

import pytest

from more_model.reader_study.design import Design, Reading, case_codes, draw_orders, reader_names

STRATA = {f"case-{number:02d}": number % 3 == 0 for number in range(21)}
READERS = reader_names(4)


def aided(session: tuple[Reading, ...]) -> set[str]:
    return {reading.case for reading in session if reading.aided}


def test_crossover_reads_every_case_once_each_way() -> None:
    for first, second in draw_orders(STRATA, READERS, "crossover", 1).values():
        assert {reading.case for reading in first} == {reading.case for reading in second} == set(STRATA)
        assert aided(first) | aided(second) == set(STRATA)
        assert not aided(first) & aided(second)


def test_half_gives_every_case_aid_for_half_of_the_readers() -> None:
    orders = draw_orders(STRATA, READERS, "half", 1)
    assert {len(sessions) for sessions in orders.values()} == {1}
    times = Counter(case for (session,) in orders.values() for case in aided(session))
    assert times == dict.fromkeys(STRATA, 2)


@pytest.mark.parametrize("design", ["crossover", "half"])
def test_both_halves_hold_the_same_mixture(design: Design) -> None:
    """7 cases with and 14 without the finding: neither half may hold more than one more of either kind."""
    for seed in range(20):
        for sessions in draw_orders(STRATA, READERS, design, seed).values():
            with_aid = aided(sessions[0])
            assert len(with_aid) in (10, 11)
            assert sum(STRATA[case] for case in with_aid) in (3, 4)


def test_opposite_readers_begin_with_opposite_halves() -> None:
    orders = draw_orders(STRATA, READERS, "crossover", 1)
    assert aided(orders["reader-1"][0]) == aided(orders["reader-2"][1]) == aided(orders["reader-3"][0])


def test_orders_differ_by_reader_session_and_seed_and_return_with_the_seed() -> None:
    orders = draw_orders(STRATA, READERS, "crossover", 1)
    lists = [tuple(reading.case for reading in session) for sessions in orders.values() for session in sessions]
    assert len(set(lists)) == len(lists)
    assert orders == draw_orders(dict(reversed(STRATA.items())), READERS, "crossover", 1)
    assert orders != draw_orders(STRATA, READERS, "crossover", 2)


def test_the_order_does_not_follow_the_truth() -> None:
    """Over many seeds a case with the finding stands as early as any other: the mean place is 10 of 0 to 20."""
    places = [
        place
        for seed in range(300)
        for place, reading in enumerate(draw_orders(STRATA, ["reader-1"], "half", seed)["reader-1"][0])
        if STRATA[reading.case]
    ]
    assert sum(places) / len(places) == pytest.approx(10, abs=0.5)


def test_codes_are_distinct_and_do_not_follow_the_case_file() -> None:
    codes = case_codes(120, 3)
    assert sorted(codes) == [f"case-{number:03d}" for number in range(1, 121)]
    assert codes != sorted(codes)
    assert codes == case_codes(120, 3) != case_codes(120, 4)
