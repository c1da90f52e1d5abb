"""A run configuration of seconds, as a simulation reads it: three sites, 60 synthetic patients, two rounds."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import tomli_w

MINIATURE: dict[str, Any] = {
    "name": "miniature",
    "seed": 3,
    "ingest_workers": 1,
    "model": {
        "preset": "tiny",
        "overrides": {
            "preprocessing": {"image_size": 32, "ecg_rate_hz": 50, "ecg_seconds": 10},
            "xray": {"patch_size": 8, "width": 16, "depth": 1, "heads": 2},
            "ecg": {"width": 16, "depth": 1, "heads": 2, "channels": 8, "kernel": 5, "stride": 5, "second_stride": 4},
            "text": {"width": 16, "depth": 1, "heads": 2, "vocabulary": 300, "max_tokens": 48},
            "heads": {"hidden": 16, "embedding": 8},
            "lora": {"rank": 2},
        },
    },
    "base": {"kind": "seeded", "tokenizer_texts": "public_texts.txt"},
    "data": {
        "synthetic": {
            "patients": 60,
            "seed": 5,
            "hospitals": 3,
            "first_subject_id": 10_000_000,
            "image_px": 64,
            "max_visits": 1,
        },
        "split": {"validation": 0.15, "test": 0.35},
    },
    "partition": {"kind": "iid", "sites": 3},
    "training": {"batch_size": 8, "learning_rate": 2e-3, "threads": 1, "device": "cpu"},
    "federation": {"rounds": {"rounds": 2}},
    "evaluation": {"prompts": "chexpert_ecg", "replicates": 20, "examples": 2},
}
PUBLIC_TEXTS = (
    "chest x-ray report: no acute cardiopulmonary process. the heart is normal in size. the lungs are clear.",
    "chest x-ray report: moderate left pleural effusion with adjacent atelectasis. cardiomegaly. mild edema.",
    "ecg report: sinus rhythm. normal ecg. atrial fibrillation with rapid ventricular response.",
)


def write_miniature(folder: Path, changes: dict[str, Any] | None = None) -> Path:
    """Write it with nested ``changes`` laid over it, such as ``{"seed": 4, "federation": {...}}``; returns the file.
    None removes a key."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "public_texts.txt").write_text("\n".join(PUBLIC_TEXTS), encoding="utf-8")
    path = folder / "miniature.toml"
    path.write_text(tomli_w.dumps(overlaid(MINIATURE, changes or {})), encoding="utf-8")
    return path


def overlaid(base: dict[str, Any], top: dict[str, Any]) -> dict[str, Any]:
    """``top`` laid over ``base``, nested; None removes a key."""
    merged = dict(base)
    for key, value in top.items():
        both = isinstance(value, dict) and isinstance(merged.get(key), dict)
        merged[key] = overlaid(merged[key], value) if both else value
    return {key: value for key, value in merged.items() if value is not None}
