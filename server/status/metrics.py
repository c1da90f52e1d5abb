"""The status as Prometheus reads it (text exposition format 0.0.4).

https://prometheus.io/docs/instrumenting/exposition_formats/
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

from server.status.evaluations import Figure
from server.status.model import Status

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
_STATES = ("configured", "training", "submitted", "accepted", "quarantined", "refused", "absent")
_RUN_STATES = ("not started", "running", "not running", "lost", "ended", "failed")

_Labels = tuple[tuple[str, str], ...]
_Sample = tuple[_Labels, float | None]


@dataclass(frozen=True, slots=True)
class _Family:
    """One metric: its samples without a value are left out, and it itself where none is left."""

    name: str
    kind: Literal["gauge", "counter"]
    words: str
    samples: Sequence[_Sample]


def prometheus(status: Status) -> str:
    """All metrics of a status, as far as its viewer may see them."""
    lines: list[str] = []
    for family in (*_of_run(status), *_of_sites(status), *_of_figures(status), *_of_watch(status)):
        samples = [(labels, value) for labels, value in family.samples if value is not None]
        if samples:
            lines.append(f"# HELP {family.name} {_escaped(family.words)}")
            lines.append(f"# TYPE {family.name} {family.kind}")
            lines += [f"{family.name}{_written(labels)} {_number(value)}" for labels, value in samples]
    return "\n".join(lines) + "\n"


def _of_run(status: Status) -> Iterator[_Family]:
    states: list[_Sample] = [((("state", state),), float(status.state == state)) for state in _RUN_STATES]
    yield _Family("more_run_state", "gauge", "1 for the state that the run is in", states)
    yield _Family("more_round", "gauge", "The round that is open, else the last one closed", [((), status.round)])
    yield _Family("more_rounds_planned", "gauge", "Rounds of the whole run", [((), status.rounds)])
    yield _Family("more_rounds_closed_total", "counter", "Rounds in the journal", [((), len(status.closed))])
    yield _Family(
        "more_rounds_short_total", "counter", "Closed rounds without some site's update", [((), status.short_rounds)]
    )
    yield _Family(
        "more_round_waited_seconds", "gauge", "How long the open round has waited for sites", [((), status.waited_s)]
    )
    yield _Family(
        "more_received_bytes_total", "counter", "Accepted updates in all closed rounds", [((), status.bytes_up)]
    )


def _of_sites(status: Status) -> Iterator[_Family]:
    sites = status.sites
    states: list[_Sample] = [
        ((("site", site.site), ("state", state)), float(site.round_state == state))
        for site in sites
        if site.round_state is not None
        for state in _STATES
    ]
    yield _Family("more_site_state", "gauge", "1 for the state of a site in the open round, else in the last", states)
    plain = [(((("site", site.site)),), site) for site in sites]
    yield _Family(
        "more_site_connected",
        "gauge",
        "Whether the site's node is connected",
        [(labels, None if site.connected is None else float(site.connected)) for labels, site in plain],
    )
    yield _Family(
        "more_site_awaited", "gauge", "Whether the open round waits for the site",
        [(labels, float(site.awaited)) for labels, site in plain],
    )  # fmt: skip
    yield _Family(
        "more_site_rounds_accepted_total", "counter", "Closed rounds with an update of the site",
        [(labels, site.accepted) for labels, site in plain],
    )  # fmt: skip
    yield _Family(
        "more_site_privacy_epsilon", "gauge", "Epsilon that the site has spent in this run, by plan",
        [(labels, site.privacy.epsilon if site.privacy else None) for labels, site in plain],
    )  # fmt: skip
    yield _Family(
        "more_site_privacy_epsilon_budget", "gauge", "Epsilon that the whole run may cost the site",
        [(labels, site.privacy.budget if site.privacy else None) for labels, site in plain],
    )  # fmt: skip


def _of_figures(status: Status) -> Iterator[_Family]:
    last = status.closed[-1] if status.closed else None
    yield _Family("more_loss", "gauge", "Mean training loss of the last round", [((), last.loss if last else None)])
    yield _Family(
        "more_macro_auroc", "gauge", "Macro AUROC after the last closed round; bound ci_low and ci_high: 95 %",
        _figures((), last.auroc if last else None),
    )  # fmt: skip
    rows = [sample for label in status.labels.labels for sample in _figures((("label", label.name),), label.auroc)] \
        if status.labels else []  # fmt: skip
    yield _Family("more_label_auroc", "gauge", "AUROC per label, of the last round that was measured", rows)


def _figures(labels: _Labels, figure: Figure | None) -> list[_Sample]:
    if figure is None:
        return []
    low, high = figure.ci95 or (None, None)
    kinds = (("value", figure.value), ("ci_low", low), ("ci_high", high))
    return [((*labels, ("bound", kind)), value) for kind, value in kinds]


def _of_watch(status: Status) -> Iterator[_Family]:
    days: list[_Sample] = [((("file", name),), left) for name, left in status.certificates.items()]
    yield _Family("more_certificate_days_left", "gauge", "Days until a certificate of the coordinator ends", days)
    alerts: list[_Sample] = [((("kind", alert.kind), ("about", alert.about)), 1.0) for alert in status.alerts]
    yield _Family("more_alert", "gauge", "1 for everything that somebody should look at", alerts)


def _written(labels: _Labels) -> str:
    if not labels:
        return ""
    return "{" + ",".join(f'{name}="{_quoted(value)}"' for name, value in labels) + "}"


def _escaped(text: str) -> str:
    return text.replace("\\", "\\\\").replace("\n", "\\n")


def _quoted(text: str) -> str:
    return _escaped(text).replace('"', '\\"')


def _number(value: float) -> str:
    if math.isnan(value):
        return "NaN"
    if math.isinf(value):
        return "+Inf" if value > 0 else "-Inf"
    return str(int(value)) if float(value).is_integer() else repr(float(value))
