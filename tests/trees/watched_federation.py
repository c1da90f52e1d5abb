"""A federation as its coordinator's files tell of it: three closed rounds, a fourth that is open, figures, keys."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import tomli_w

from client.site_keys import make_keys
from server.authority import AuthorityFolder, make_authority, make_server_certificate
from server.journal import Journal, Participation, RoundRecord
from server.sites import SiteRegister
from server.status.live import LiveState

SITES = ("east", "north", "south", "west")
PRIVACY: dict[str, Any] = {
    "mode": "patient-decoupled", "target_epsilon": 4.0, "delta": 1e-5, "expected_patients": 64.0,
}  # fmt: skip
#: The open round asked so long before `now`.
OPEN_S = 240


def write_federation(
    folder: Path, *, now: datetime | None = None, sites: tuple[str, ...] = SITES, **changes: Any
) -> Path:
    """The folder of a federation; ``changes`` are laid over its federation.toml."""
    moment = datetime.now(UTC) if now is None else now
    (folder / "base").mkdir(parents=True)
    kinds = ["xray", "ecg", "report"]
    content = {
        "name": "chest-consortium",
        "public_address": "localhost:8443",
        "base": "base",
        "privacy": PRIVACY,
        "rounds": {"rounds": 8, "minimum_sites": 2},
        "sites": {site: {"patients": 1200, "modalities": kinds} for site in sites},
        **changes,
    }
    (folder / "federation.toml").write_text(tomli_w.dumps(content), encoding="utf-8")
    authority = AuthorityFolder(folder / "authority")
    make_authority(authority, "chest-consortium")
    make_server_certificate(authority, ["localhost"], days=20)
    state = folder / "state"
    register = SiteRegister(state / "sites.sqlite")
    for site in sites:
        keys = make_keys(folder / "keys" / site, site, patients=1200, modalities=tuple(kinds))
        register.enroll(keys.enrolment, by="the coordinator", now=moment)
    run = state / "run"
    _write_journal(run, sites)
    _write_evaluations(run, sites)
    _write_live(run, sites, moment)
    return folder


def _write_journal(run: Path, sites: tuple[str, ...]) -> None:
    journal = Journal(run, run={"run": "1"})
    for number in (1, 2, 3):
        parts = [Participation(site, "accepted", None, {"loss": 5.0 - number / 10, "steps": 6.0}) for site in sites]
        if number == 3:
            parts[-1] = Participation(sites[-1], "quarantined", "its norm 93 exceeds the federation's limit 10")
        record = RoundRecord(number, tuple(parts), 5.0 - number / 10, 0.7 + number / 100, 4_000_000, 61.5)
        journal.close_round(record, {"a": np.zeros(2, dtype=np.float32)})
    journal.close()


def _write_evaluations(run: Path, sites: tuple[str, ...]) -> None:
    def figure(value: float, low: float, high: float) -> dict[str, Any]:
        return {"value": value, "low": value - 0.005, "high": value + 0.005, "ci95": [low, high]}

    support = {"positives": [120, 120], "negatives": [840, 844], "standard_error": 0.01}
    few = {"value": None, "low": None, "high": None, "ci95": None, "standard_error": None, "positives": [1, 4]}
    lines = [
        {
            "round": number, "split": "validation",
            "macro_auroc": {**figure(0.7 + number / 50, 0.68, 0.8), "labels": 2},
            "per_label": {
                "Edema": {**figure(0.74 + number / 50, 0.7, 0.84), **support, "sites": len(sites), "modality": "xray"},
                "Atrial fibrillation": {**figure(0.66, 0.6, 0.72), **support, "sites": 2, "modality": "ecg"},
                "Fracture": {**few, "negatives": [900, 900], "sites": 1, "modality": "xray",
                             "reason": "fewer than two positives"},
            },
            "sites": {site: {"state": "accepted", "why": None} for site in sites},
        }
        for number in (2, 3)
    ]  # fmt: skip
    (run / "evaluations.jsonl").write_text("".join(f"{json.dumps(line)}\n" for line in lines), encoding="utf-8")


def _write_live(run: Path, sites: tuple[str, ...], now: datetime) -> None:
    at = [now - timedelta(seconds=OPEN_S)]
    live = LiveState(run / "live.json", clock=lambda: at[0])
    live.connections({site: site != sites[-1] for site in sites})
    live.open_round(4, 8, sites, timeout_s=3600)
    at[0] = now - timedelta(seconds=OPEN_S - 30)
    for site in sites[:-1]:
        live.site(site, "training")
    at[0] = now - timedelta(seconds=5)
    live.site(sites[0], "submitted")
