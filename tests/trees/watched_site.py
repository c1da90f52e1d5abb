"""A hospital as its own files tell of it: a store, an audit log with two rounds and a refusal, a ledger, certificates.

Patients are called `SECRET`-something, their files too: whatever shows the site must not show that word."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import tomli_w
from trees.certificates import write_certificate

from client.records.audit_log import open_log
from more_model.data.preprocessing import Preprocessing
from more_model.data.store import QuarantinedStudy, SiteStore, StoredStudy
from more_model.data.study import Modality
from privacy.ledger.dataset import data_set
from privacy.ledger.ledger import open_ledger
from privacy.ledger.spending import Budget, Charge

SECRET = "smith"
#: Of the patients, in this order, in every split.
BOTH, XRAY_ONLY, ECG_ONLY = 20, 10, 6
SMALL = Preprocessing(image_size=16, ecg_rate_hz=50, ecg_seconds=1)
_KINDS = {Modality.XRAY: ((16, 16), np.uint8), Modality.ECG: ((12, 50), np.float16)}


def write_site(folder: Path, *, ecg_only: int = ECG_ONLY, ends_days: float = 20, **changes: Any) -> Path:
    """The site file; ``changes`` are laid over it. Every split has as many patients of each kind."""
    folder.mkdir(parents=True, exist_ok=True)
    authority = write_certificate(folder, "authority", ends_days=ends_days)
    content = {
        "site": "north",
        "socket": "d.sock",
        "federation": {
            "name": "chest-consortium",
            "address": "127.0.0.1:9",
            "root_certificate": str(authority.certificate),
            "ca_fingerprint": authority.fingerprint,
        },
        "split": {"kind": "column"},
        **changes,
    }
    (folder / "site.toml").write_text(tomli_w.dumps(content), encoding="utf-8")
    _write_store(folder / "store", ecg_only)
    _write_log(folder)
    _write_ledger(folder)
    return folder / "site.toml"


def _write_store(folder: Path, ecg_only: int) -> None:
    with SiteStore.create(folder, "north", SMALL) as store:
        for split in ("train", "validation", "test"):
            for number in range(BOTH + XRAY_ONLY + ecg_only):
                kinds = [Modality.XRAY] * (number < BOTH + XRAY_ONLY)
                kinds += [Modality.ECG] * (number < BOTH or number >= BOTH + XRAY_ONLY)
                for kind in kinds:
                    _append(store, kind, f"{SECRET}-{split}-{number}", split)
        for number in range(7):
            source = f"/archive/{SECRET}-{number}.dcm"
            store.refuse(QuarantinedStudy(Modality.ECG, f"{SECRET}-q{number}", "too-short", "m", source, "1:1"))


def _append(store: SiteStore, kind: Modality, patient: str, split: str) -> None:
    shape, dtype = _KINDS[kind]
    shared: dict[str, Any] = {
        "patient_id": patient, "group_id": f"{patient}-{kind}", "time": datetime(2180, 1, 1),
        "attributes": {"split": split},
    }  # fmt: skip
    store.append(StoredStudy(kind, patient, **shared), np.zeros(shape, dtype))
    store.append(StoredStudy(Modality.REPORT, f"{patient}-{kind}", describes=kind, text="clear", **shared))


def _write_log(folder: Path) -> None:
    (folder / "witness").mkdir(mode=0o700, exist_ok=True)
    moments = iter(datetime(2026, 3, 1, 12, minute, tzinfo=UTC) for minute in range(60))
    tensors = [["xray.encoder.lora_B", [2, 3], "float32", 24, 0.5], ["text.lora_B", [2], "float32", 8, 0.1]]
    with open_log(
        folder / "records/audit.jsonl", site="north", anchor_file=folder / "witness/audit", now=lambda: next(moments)
    ) as log:
        for number in (1, 2):
            about = {"message": "update", "run": "spring", "round": number, "destination": "chest-consortium"}
            content = {**about, "facts": {}, "told": {"weights": "{}"}, "tensors": tensors, "bytes": 1_500_000 * number,
                       "norm": 0.51, "sha256": f"{number}" * 64, "repeated": False}  # fmt: skip
            log.append("released", content)
        log.append("withheld", {"message": "update", "run": "spring", "round": 3, "rules": ["rounds-above-policy"]})
        refusal = {"message": "refusal", "run": "spring", "round": 3, "told": {"refusal": "paused", "site": "north"},
                   "tensors": [], "bytes": 11, "sha256": "a" * 64, "repeated": False}  # fmt: skip
        log.append("released", refusal)
        log.append("patient-withdrawn", {"patient": "0" * 64, "key": "0" * 32})


def _write_ledger(folder: Path) -> None:
    data = data_set("north, training patients", [f"{SECRET}-train-{number}" for number in range(30)], b"k" * 32)
    ledger = open_ledger(
        folder / "records/ledger.sqlite", folder / "witness/ledger", site="north", key_digest=data.key_digest
    )
    ledger.register(data, Budget(epsilon=8.0, delta=1e-5))
    for number in (1, 2):
        charge = Charge("patient-decoupled", 2.0, 0.1, steps=10, delta=1e-5)
        with ledger.reserved(data.digest, charge, f"spring, round {number} of 4") as reservation:
            for _ in range(10):
                reservation.take_step()
