"""The run of a federation as one folder for people: what was asked, who took part, what came out, and the model.

config.toml        the federation file, resolved; no secrets, no addresses of notifications, no paths of this machine
environment.json   what the export was made with
events.jsonl       what the run said of itself
summary.json       rounds, participation, figures, privacy
checkpoints/       last.safetensors, and best.safetensors once a run with federated evaluation has ended: files for
                   `more-model`, which looks for their base in a folder ``base`` here; the summary has their SHA-256
"""

from __future__ import annotations

import hashlib
import json
import shutil
import sqlite3
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import tomli_w

from more_model.base import assemble, load_base
from more_model.checkpoint import save_checkpoint
from more_model.errors import ConfigError, ExchangeError, RoundError
from more_model.model.inventory import export_tensors
from more_model.run_folder import RunFolder, environment
from server.federation_file import FederationFile
from server.journal import CHECKPOINTS, RoundRecord, as_json, open_to_read, read_checkpoint, read_rounds
from server.journal import NAME as JOURNAL
from server.status.budget import site_privacy
from server.status.evaluations import read_evaluations
from server.whole_folder import whole_folder

#: Settings of this machine and of its people, not of the run.
_PRIVATE = {"authority", "state", "listen", "notifications"}
_EVENTS, _ENDED = "events.jsonl", "ended.json"


def export_run(federation: FederationFile, out: Path) -> dict[str, Any]:
    """Write the folder ``out``, whole or not at all, and return its summary. A run that goes on is not disturbed.

    Raises:
        ConfigError: there is no run yet, or something in ``out`` already.
        RoundError: a journal that cannot be read, or a checkpoint that is missing or was changed.
        ExchangeError: the base is not the one that the run was started with.
    """
    run = federation.run_folder
    if not (run / JOURNAL).is_file():
        raise ConfigError(str(run), ["there is no run here yet"], remedy="export once more-server run has begun")
    with open_to_read(run / JOURNAL) as database, whole_folder(out) as draft:
        records = read_rounds(database)
        ended = json.loads((run / _ENDED).read_bytes()) if (run / _ENDED).is_file() else None
        models = _write_models(federation, database, records, ended, draft)
        content = _summary(federation, records, ended, models)
        (draft / "config.toml").write_text(_config(federation), encoding="utf-8")
        folder = RunFolder(draft)
        folder.write_json("environment.json", environment())
        folder.write_json("summary.json", content)
        if (run / _EVENTS).is_file():
            shutil.copyfile(run / _EVENTS, draft / _EVENTS)
    return content


def _config(federation: FederationFile) -> str:
    content = federation.model_dump(mode="json", exclude_none=True, exclude=_PRIVATE)
    return tomli_w.dumps({**content, "base": federation.base.name})


def _write_models(
    federation: FederationFile,
    database: sqlite3.Connection,
    records: Sequence[RoundRecord],
    ended: Mapping[str, Any] | None,
    draft: Path,
) -> dict[str, Any]:
    """The checkpoints, each with its round (0: the start), the digest of its file and that of the journal's."""
    rounds = {"last": records[-1].round} if records else {}
    if ended is not None and ended["best_round"] is not None:
        rounds["best"] = int(ended["best_round"])
    assembled = assemble(load_base(federation.base), federation.method, federation.public_seed)
    facts = dict(database.execute("SELECT key, value FROM run").fetchall())
    if differing := sorted(key for key, value in federation.run_facts.items() if facts.get(key) != value):
        raise RoundError(
            f"federation.toml says otherwise than when the run began: {', '.join(differing)}",
            remedy="put these settings back for the export",
            avoid="show the model with the settings of now: it was not trained with them",
        )
    if facts.get("fingerprint") != assembled.fingerprint.digest():
        raise ExchangeError(
            f"{federation.base} is not the base that this run was started with",
            remedy="put that base back, with the method and the public_seed of then in federation.toml",
        )
    (draft / "checkpoints").mkdir()
    models = {}
    for name, number in sorted(rounds.items()):
        tensors, recorded = (
            read_checkpoint(database, federation.run_folder / CHECKPOINTS, number)
            if number
            else (export_tensors(assembled.model), None)
        )
        path = draft / "checkpoints" / f"{name}.safetensors"
        save_checkpoint(
            path, tensors, method=federation.method, public_seed=federation.public_seed,
            fingerprint=assembled.fingerprint, base=draft / "base",
        )  # fmt: skip
        digest = hashlib.sha256(path.read_bytes()).hexdigest()
        models[name] = {"round": number, "file": f"checkpoints/{path.name}", "sha256": digest, "journal": recorded}
    return models


def _summary(
    federation: FederationFile,
    records: Sequence[RoundRecord],
    ended: Mapping[str, Any] | None,
    models: Mapping[str, Any],
) -> dict[str, Any]:
    parts = [part for record in records for part in record.sites]
    asked = Counter(part.site for part in parts)
    accepted = Counter(part.site for part in parts if part.state == "accepted")
    sent = sum(record.bytes_up for record in records)
    return {
        "schema": 1,
        "name": federation.name,
        "status": "partial" if ended is None else ended["status"],
        "ended": ended,
        "seed": federation.seed,
        "federation": {
            "method": federation.method,
            "rounds": federation.rounds.rounds,
            "local_epochs": federation.local_epochs,
            "sites": {name: site.model_dump(mode="json") for name, site in federation.sites.items()},
        },
        "rounds": as_json(records),
        "participation": {site: {"asked": asked[site], "accepted": accepted[site]} for site in sorted(asked)},
        "evaluations": [asdict(each) for each in read_evaluations(federation.run_folder)],
        "exchange": {
            "bytes_up_total": sent,
            "bytes_up_per_site_round": round(sent / accepted.total()) if accepted else None,
        },
        "privacy": {
            "settings": federation.privacy.model_dump(mode="json"),
            "secure_sum": None if federation.secure_sum is None else federation.secure_sum.model_dump(mode="json"),
            "by_plan": {site: asdict(spent) for site, spent in site_privacy(federation, asked).items()},
            "statement": "Counted by the coordinator from what was agreed, for this run alone; what binds is each "
            "site's own ledger.",
        },
        "models": dict(models),
    }
