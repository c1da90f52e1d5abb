"""The status in words, tables and figures: what the page shows and what the terminal prints."""

from __future__ import annotations

from datetime import datetime

from more_model.report.blocks import Block, Cell, Facts, Section, Table, section
from privacy.claims import rounded_up
from server.status.curves import Point, curve
from server.status.evaluations import Figure
from server.status.model import RoundStatus, SiteStatus, Status

_STATES = {
    "not started": "No round has been run yet.",
    "running": "The run goes on.",
    "not running": "No run goes on now.",
    "lost": "The run has not been heard of; it is resumed by starting it again.",
    "ended": "The run has ended.",
    "failed": "The run has ended in an error.",
}
_RUNGS = ("configured", "training", "submitted")
_SHOWN_ROUNDS = 20
#: A space at which no line is broken.
_TOGETHER = "\N{NO-BREAK SPACE}"
_ENROLLED: dict[str, Cell | str] = {
    "enrolled": "yes",
    "revoked": Cell("revoked", tone="warn"),
    "not enrolled": Cell("no", tone="warn"),
}
_HIDDEN = Cell("not shown", tone="quiet")
_NOTHING = Cell("–", tone="quiet")


def headline(status: Status) -> str:
    """One sentence, the same as long as nothing changes: what a screen reader is told."""
    of = f" of {status.rounds}" if status.rounds is not None else ""
    if status.state != "running" or not status.open:
        short = f" {_short(status)}" if status.state == "ended" and status.short_rounds else ""
        closed = f" {len(status.closed)}{of} rounds are closed; now: {status.phase}." if status.phase else ""
        return _STATES[status.state] + short + closed
    if status.awaited:
        return f"Round {status.round}{of} waits for {', '.join(status.awaited)}."
    return f"Round {status.round}{of}: {status.phase}."


def sections(status: Status) -> list[Section]:
    """The page, part by part; parts without content are left out."""
    parts = [
        section("now", "Now", [_now(status)]),
        section("sites", "Sites", [_ladder(status)]),
        section("learning", "Learning", _learning(status)),
        section("labels", "AUROC per label", [_labels(status)]),
        section("privacy", "Privacy", [_privacy(status)]),
    ]
    return [part for part in parts if part is not None]


def duration(seconds: float) -> str:
    """In the largest unit that leaves at least two of it, rounded down."""
    for size, unit in ((86400, "days"), (3600, "hours"), (60, "minutes")):
        if seconds >= 2 * size:
            return f"{int(seconds // size)} {unit}"
    return f"{int(seconds)} seconds"


def size(count: float | None) -> str:
    """Bytes in decimal units."""
    if count is None:
        return "not shown"
    for limit, unit in ((1e9, "GB"), (1e6, "MB"), (1e3, "kB")):
        if count >= limit:
            return f"{count / limit:.2f} {unit}"
    return f"{count:.0f} bytes"


def clock(moment: datetime | None) -> str:
    """UTC, to the second."""
    return f"{moment:%Y-%m-%d %H:%M:%S} UTC" if moment is not None else ""


def _short_time(moment: datetime) -> str:
    return f"{moment:%d %b %H:%M:%S}".replace(" ", _TOGETHER)


def _now(status: Status) -> Facts:
    of = f" of {status.rounds}" if status.rounds is not None else ""
    items = [("Run", _STATES[status.state] + (f" {status.why}" if status.state == "failed" and status.why else ""))]
    if status.round is not None:
        items.append(("Round", f"{status.round}{of}, {status.phase if status.open else 'closed'}"))
    if status.awaited:
        waited = f", for {duration(status.waited_s)} now" if status.waited_s is not None else ""
        items.append(("Waiting for", ", ".join(status.awaited) + waited))
    if status.deadline is not None:
        items.append(("At the latest until", clock(status.deadline)))
    if status.short_rounds:
        items.append(("Incomplete rounds", _short(status)))
    items.append(("Updates received", size(status.bytes_up)))
    items += [(f"Certificate {name}", f"{days:.0f} days left") for name, days in status.certificates.items()]
    return Facts([*items, ("As of", clock(status.at))])


def _short(status: Status) -> str:
    return f"{status.short_rounds} of {len(status.closed)} closed rounds lack some site's update."


def _ladder(status: Status) -> Table | None:
    if not status.sites:
        return None
    which = f"round {status.round}, which is open" if status.open else f"round {status.round}, the last that was closed"
    return Table(
        f"How far each site is in {which}" if status.round is not None else "The sites",
        [
            "Site",
            "Enrolled",
            "Connected",
            *(rung.capitalize() for rung in _RUNGS),
            "Now",
            "Since (UTC)",
            "Why",
            "Taken part",
        ],
        [_site(site) for site in status.sites],
        note="Taken part: closed rounds with an update of the site, of those in which it was asked.",
        words=frozenset(range(1, 10)),
    )


def _site(site: SiteStatus) -> list[Cell | str]:
    climbed = _RUNGS.index(site.reached) + 1 if site.reached in _RUNGS else 0
    told = site.asked is not None
    state = site.round_state or "not asked"
    bad = state in ("quarantined", "refused", "absent")
    return [
        site.site,
        _ENROLLED[site.enrolled] if site.enrolled is not None else _NOTHING,
        _NOTHING if site.connected is None else "yes" if site.connected else Cell("no", tone="warn"),
        *("yes" if place < climbed else _NOTHING for place in range(len(_RUNGS))),
        Cell(f"{state} (awaited)" if site.awaited else state, tone="warn" if bad else ""),
        (_short_time(site.since) if site.since else _NOTHING) if told else _HIDDEN,
        (site.why or _NOTHING) if told else _HIDDEN,
        f"{site.accepted} of {site.asked}" if told else _HIDDEN,
    ]


def _learning(status: Status) -> list[Block | None]:
    losses = [Point(each.round, each.loss) for each in status.closed if each.loss is not None]
    aurocs = [
        Point(each.round, each.auroc.value, each.auroc.ci95)
        for each in status.closed
        if each.auroc is not None and each.auroc.value is not None
    ]
    drawn = "Mean over the sites in the aggregate, weighted by their pairs."
    measured = "After each round; a bar is the 95 % interval, where there is one."
    return [
        curve("loss", "Training loss", losses, digits=3, caption=f"Training loss. {drawn}"),
        curve("auroc", "Macro AUROC", aurocs, digits=3, caption=f"Macro AUROC. {measured}"),
        _rounds(status),
    ]


def _rounds(status: Status) -> Table | None:
    if not status.closed:
        return None
    shown = status.closed[-_SHOWN_ROUNDS:]
    left_out = len(status.closed) - len(shown)
    return Table(
        "Closed rounds, the newest first",
        ["Round", "Closed (UTC)", "Sites", "Loss", "Macro AUROC", "Received", "Took", "Without"],
        [_round(each) for each in reversed(shown)],
        note=f"{left_out} earlier rounds are in status.json." if left_out else "",
        words=frozenset({1, 7}),
    )


def _round(closed: RoundStatus) -> list[Cell | str]:
    missing = "; ".join(f"{site}: {state}" + (f", {why}" if why else "") for site, state, why in closed.missing)
    return [
        str(closed.round),
        _short_time(closed.closed_at),
        f"{closed.accepted}/{closed.asked}",
        "–" if closed.loss is None else f"{closed.loss:.4f}",
        _figure(closed.auroc),
        size(closed.bytes_up),
        duration(closed.seconds).replace(" ", _TOGETHER),
        Cell(missing, tone="warn") if missing else _NOTHING,
    ]


def _labels(status: Status) -> Table | None:
    labels = status.labels
    if labels is None:
        return None
    rows: list[list[Cell | str]] = [
        [
            each.name,
            _figure(each.auroc),
            _support(each.positives),
            _support(each.negatives),
            str(each.sites),
            each.reason or _NOTHING,
        ]
        for each in labels.labels
    ]
    rows.append(["Mean of the labels with a figure", _figure(labels.macro), *[_NOTHING] * 4])
    return Table(
        f"AUROC after round {labels.round}, on the {labels.split} patients of the sites",
        ["Label", "AUROC", "Positives", "Negatives", "Sites", "Why there is none"],
        rows,
        note="In brackets the 95 % interval. It holds for whatever scores the sites' counts stand for.",
        words=frozenset({5}),
    )


def _privacy(status: Status) -> Table | None:
    rows = [
        [
            site.site,
            rounded_up(site.privacy.epsilon),
            rounded_up(site.privacy.budget),
            f"{site.privacy.delta:g}",
            site.privacy.unit,
            str(site.privacy.rounds),
        ]
        for site in status.sites
        if site.privacy is not None
    ]
    if not rows:
        return None
    return Table(
        "Epsilon spent in this run, by plan",
        ["Site", "Spent", "Budget", "Delta", "Protects one", "Rounds asked"],
        rows,
        note="Counted from the rounds in which a site was asked. What binds is the ledger at the site: it also knows "
        "of other runs, and of rounds that were paid for twice after a crash.",
        words=frozenset({4}),
    )


def _support(numbers: tuple[int, int] | None) -> Cell | str:
    if numbers is None:
        return _HIDDEN
    least, most = numbers
    return str(least) if least == most else f"{least} to {most}"


def _figure(figure: Figure | None) -> Cell | str:
    if figure is None or figure.value is None:
        return _NOTHING
    interval = f" ({figure.ci95[0]:.3f} to {figure.ci95[1]:.3f})" if figure.ci95 is not None else ""
    return f"{figure.value:.3f}{interval}"
