"""What every test may rely on: a quiet environment and, where present, the folder of real recordings."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

CHECKOUT = Path(__file__).resolve().parents[1]

# Set at import, not in a fixture: Flower, Ray, Hugging Face and matplotlib read these when they are first imported,
# which a test module may do while pytest collects it.
QUIET_ENVIRONMENT = {
    "FLWR_TELEMETRY_ENABLED": "0",
    "FLWR_DISABLE_UPDATE_CHECK": "1",
    "FLWR_DISABLE_RUNTIME_DEPENDENCY_INSTALLATION": "1",
    "HF_HUB_OFFLINE": "1",
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "RAY_USAGE_STATS_ENABLED": "0",
    "MPLBACKEND": "Agg",
    "NO_COLOR": "1",
    "COLUMNS": "100",
}
os.environ.update(QUIET_ENVIRONMENT)
os.environ.pop("FORCE_COLOR", None)


@pytest.fixture(scope="session", autouse=True)
def quiet_environment() -> Iterator[None]:
    """No test may leave the environment louder than it found it: a later one would then call out."""
    yield
    changed = {name for name, value in QUIET_ENVIRONMENT.items() if os.environ.get(name) != value}
    assert not changed, f"tests changed {sorted(changed)} and did not put them back"


@pytest.fixture(scope="session")
def checkout() -> Path:
    """The root of the source tree under test."""
    return CHECKOUT


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of real, openly licensed X-rays and ECGs: MORE_FED_SHARED_DATA, else ../shared/data.

    Skips with a printed reason where the folder is absent, and fails instead where MORE_FED_REQUIRE_SHARED_DATA is set
    to anything but an empty word or 0, so that a machine meant to have it cannot pass without it.
    """
    folder = Path(os.environ.get("MORE_FED_SHARED_DATA") or CHECKOUT.parent / "shared" / "data").resolve()
    if (folder / "xray" / "xray_images.csv").is_file() and (folder / "ecg" / "ecg_records.csv").is_file():
        return folder
    reason = f"no real X-rays and ECGs at {folder}; set MORE_FED_SHARED_DATA to the folder that holds xray/ and ecg/"
    if os.environ.get("MORE_FED_REQUIRE_SHARED_DATA", "0") not in {"", "0"}:
        pytest.fail(f"{reason} (MORE_FED_REQUIRE_SHARED_DATA forbids skipping)", pytrace=False)
    pytest.skip(reason)
