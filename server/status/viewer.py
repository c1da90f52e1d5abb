"""What a single site may see of its federation: its own row in full, of the others how far they are."""

from __future__ import annotations

from dataclasses import replace

from server.status.evaluations import Figure, LabelMeasured
from server.status.model import LabelsStatus, RoundStatus, SiteStatus, Status

#: From figures pooled over two sites, each learns the other's; with three, a site learns of the other two together.
MINIMUM_SITES = 3
_HIDDEN = Figure(None, None, None, None)


def seen_by(status: Status, viewer: str) -> Status:
    """``status`` cut down for the site ``viewer``. States are shown; reasons and numbers of the others are not, nor
    pooled figures of fewer than `MINIMUM_SITES` sites."""
    closed = tuple(_round(each, viewer) for each in status.closed)
    bytes_up = [each.bytes_up for each in closed]
    return replace(
        status,
        # Why a run failed names sites and their reasons.
        why=None,
        sites=tuple(each if each.site == viewer else _other(each) for each in status.sites),
        closed=closed,
        labels=_labels(status.labels),
        bytes_up=None if None in bytes_up else status.bytes_up,
        alerts=tuple(each for each in status.alerts if each.site in (None, viewer)),
        viewer=viewer,
    )


def _other(site: SiteStatus) -> SiteStatus:
    return replace(
        site,
        connected_since=None,
        since=None,
        why=None,
        accepted=None,
        asked=None,
        patients=None,
        modalities=None,
        counts=None,
        privacy=None,
    )


def _round(closed: RoundStatus, viewer: str) -> RoundStatus:
    missing = tuple((site, state, why if site == viewer else None) for site, state, why in closed.missing)
    enough = closed.accepted >= MINIMUM_SITES
    return replace(
        closed,
        missing=missing,
        loss=closed.loss if enough else None,
        bytes_up=closed.bytes_up if enough else None,
        auroc=closed.auroc if closed.auroc_sites >= MINIMUM_SITES else None,
    )


def _labels(labels: LabelsStatus | None) -> LabelsStatus | None:
    if labels is None:
        return None
    # With the mean of all labels and all other labels, the one withheld would be told.
    macro = labels.macro if labels.sites >= MINIMUM_SITES else None
    return replace(labels, macro=macro, labels=tuple(_label(each) for each in labels.labels))


def _label(label: LabelMeasured) -> LabelMeasured:
    if label.sites >= MINIMUM_SITES:
        return label
    return replace(label, auroc=_HIDDEN, positives=None, negatives=None, reason="measured at too few sites to be shown")
