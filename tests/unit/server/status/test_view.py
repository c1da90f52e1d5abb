"""The status in words, and curves that say in words what they draw."""

from __future__ import annotations

import re
import xml.etree.ElementTree as ET
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from trees.watched_federation import write_federation

from server.status.curves import Point, curve
from server.status.model import Status, build_status
from server.status.sources import read_sources, watched
from server.status.view import duration, headline, sections, size

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)


@pytest.fixture
def status(tmp_path: Path) -> Status:
    return build_status(read_sources(watched(write_federation(tmp_path / "fed", now=NOW))), NOW)


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({}, "Round 4 of 8 waits for north, south, west."),
        ({"awaited": (), "phase": "aggregating"}, "Round 4 of 8: aggregating."),
        ({"open": False, "phase": "connecting"}, "The run goes on. 3 of 8 rounds are closed; now: connecting."),
        (
            {"state": "ended", "open": False, "phase": None},
            "The run has ended. 1 of 3 closed rounds lack some site's update.",
        ),
        ({"state": "ended", "open": False, "phase": None, "short_rounds": 0}, "The run has ended."),
        ({"state": "lost", "phase": None}, "The run has not been heard of; it is resumed by starting it again."),
    ],
)
def test_one_sentence_says_how_things_stand(status: Status, changes: dict[str, Any], expected: str) -> None:
    assert headline(replace(status, **changes)) == expected


def test_parts_without_content_are_left_out(status: Status) -> None:
    assert [part.anchor for part in sections(status)] == ["now", "sites", "learning", "labels", "privacy"]
    bare = replace(status, sites=(), closed=(), labels=None)
    assert [part.anchor for part in sections(bare)] == ["now"]


@pytest.mark.parametrize(
    ("seconds", "words"),
    [(0.4, "0 seconds"), (119, "119 seconds"), (120, "2 minutes"), (7300, "2 hours"), (172_800, "2 days")],
)
def test_durations_are_in_the_largest_unit_that_says_enough(seconds: float, words: str) -> None:
    assert duration(seconds) == words


def test_sizes_are_decimal() -> None:
    assert [size(count) for count in (None, 0, 999, 1_500, 4e6, 2.5e9)] == [
        "not shown", "0 bytes", "999 bytes", "1.50 kB", "4.00 MB", "2.50 GB",
    ]  # fmt: skip


def numbers(svg: str, tag: str, name: str) -> list[float]:
    return [float(element.attrib[name]) for element in ET.fromstring(svg).iter(tag)]


def test_a_curve_breaks_where_a_round_is_missing_and_rises_upwards() -> None:
    points = [Point(1, 0.5), Point(2, 0.6, (0.55, 0.65)), Point(4, 0.8), Point(5, 0.7)]
    drawing = curve("auroc", "AUROC", points, digits=2, caption="")
    assert drawing is not None
    assert len(re.findall("<polyline", drawing.svg)) == 2
    x, y = numbers(drawing.svg, "circle", "cx"), numbers(drawing.svg, "circle", "cy")
    assert x == sorted(x)
    assert y[2] == min(y)
    assert "style=" not in drawing.svg
    assert drawing.alt == "AUROC over 4 rounds: round 1 0.50, round 5 0.70. The table below has every value."


@pytest.mark.parametrize("values", [[0.0], [0.0, 0.0], [-3.0], [1e-9, 2e-9], [1e6, 2e6]])
def test_any_values_give_a_few_ticks_inside(values: list[float]) -> None:
    drawing = curve(
        "loss", "Loss", [Point(place, value) for place, value in enumerate(values, 1)], digits=3, caption=""
    )
    assert drawing is not None
    grid = numbers(drawing.svg, "line", "y1")
    assert 2 <= len(grid) <= 7
    assert all(0 <= y <= 240 for y in grid)


def test_no_value_gives_no_curve() -> None:
    assert curve("loss", "Loss", [], digits=3, caption="") is None
