"""Nothing that a simulation starts calls anyone: no telemetry, no update check, no model hub."""

from __future__ import annotations

import os

_SETTINGS = {
    "FLWR_TELEMETRY_ENABLED": "0",
    "FLWR_DISABLE_UPDATE_CHECK": "1",
    "RAY_USAGE_STATS_ENABLED": "0",
    "HF_HUB_OFFLINE": "1",
}


def keep_quiet() -> None:
    """Set what the user has not set; to be called before Flower, Ray and transformers are first imported."""
    for name, value in _SETTINGS.items():
        os.environ.setdefault(name, value)
