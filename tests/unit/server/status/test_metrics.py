"""Metrics as Prometheus reads them, checked with a parser written from the format's own description."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from pathlib import Path

import pytest
from trees.watched_federation import write_federation

from server.status.metrics import prometheus
from server.status.model import Sources, Status, build_status
from server.status.sources import read_sources, watched
from server.status.viewer import seen_by

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
_LINE = re.compile(
    r'(?P<name>[a-zA-Z_:][a-zA-Z0-9_:]*)(\{(?P<labels>(?:[a-z_]+="(?:[^"\\\n]|\\\\|\\"|\\n)*",?)*)\})? (?P<value>\S+)'
)
_LABEL = re.compile(r'([a-z_]+)="((?:[^"\\]|\\.)*)"')
Samples = dict[tuple[str, frozenset[tuple[str, str]]], float]


def parsed(text: str) -> Samples:
    """Fails on anything that is not in the format: an untyped metric, a metric in two places, a sample twice."""
    assert text.endswith("\n")
    types: dict[str, str] = {}
    samples: Samples = {}
    current = ""
    for line in text.splitlines():
        if line.startswith("# HELP "):
            assert "\\" not in line
            continue
        if line.startswith("# TYPE "):
            _, _, current, kind = line.split(" ")
            assert current not in types
            types[current] = kind
            assert kind == ("counter" if current.endswith("_total") else "gauge")
            continue
        found = _LINE.fullmatch(line)
        assert found is not None, line
        assert found["name"] == current, line
        labels = frozenset(
            (name, re.sub(r"\\(.)", lambda m: "\n" if m[1] == "n" else m[1], value))
            for name, value in _LABEL.findall(found["labels"] or "")
        )
        key = (found["name"], labels)
        assert key not in samples, line
        samples[key] = float(found["value"])
    return samples


@pytest.fixture
def status(tmp_path: Path) -> Status:
    return build_status(read_sources(watched(write_federation(tmp_path / "fed", now=NOW))), NOW)


def test_numbers_are_those_of_the_status(status: Status) -> None:
    samples = parsed(prometheus(status))

    def value(name: str, **labels: str) -> float:
        return samples[name, frozenset(labels.items())]

    assert (value("more_round"), value("more_rounds_planned"), value("more_rounds_closed_total")) == (4, 8, 3)
    assert value("more_received_bytes_total") == 12_000_000
    assert value("more_site_state", site="north", state="training") == 1
    assert sum(v for (name, labels), v in samples.items() if name == "more_site_state") == 4, "one state for each site"
    assert value("more_run_state", state="running") == 1
    assert value("more_label_auroc", label="Edema", bound="ci_low") == 0.7
    assert value("more_alert", kind="certificate", about="server.pem") == 1
    east = next(site for site in status.sites if site.site == "east")
    assert east.privacy is not None
    assert value("more_site_privacy_epsilon", site="east") == east.privacy.epsilon


def test_what_is_unknown_is_left_out() -> None:
    samples = parsed(prometheus(build_status(Sources("empty"), NOW)))
    assert {name for name, _ in samples} == {"more_run_state", "more_rounds_closed_total", "more_rounds_short_total",
                                             "more_received_bytes_total"}  # fmt: skip


def test_a_site_gets_no_numbers_of_the_others(status: Status) -> None:
    samples = parsed(prometheus(seen_by(status, "north")))
    told = {name for name, labels in samples if ("site", "west") in labels}
    assert told == {"more_site_state", "more_site_connected", "more_site_awaited"}


def test_strange_names_stay_inside_their_quotes() -> None:
    strange = Sources("x", certificates={'a"b\\c\nmore_round 99': float("inf"), "ended": float("-inf")})
    samples = parsed(prometheus(build_status(strange, NOW)))
    assert samples["more_certificate_days_left", frozenset({("file", 'a"b\\c\nmore_round 99')})] == float("inf")
    assert samples["more_certificate_days_left", frozenset({("file", "ended")})] == float("-inf")
