"""What every study is turned into at ingest. Sites that differ in any of this cannot train together."""

from __future__ import annotations

import hashlib
import json
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

#: Raised by hand whenever reading code changes what ends up in a store.
READER_VERSION = 1


class Preprocessing(BaseModel):
    """Shapes and units of the arrays in a site store.

    X-rays become ``uint8 [image_size, image_size]`` (0 = air, 255 = densest, aspect kept by padding with 0).
    ECGs become ``float16 [12, ecg_rate_hz * ecg_seconds]`` in millivolts, in the lead order of
    `more_model.data.leads.STANDARD_LEADS`; ``ecg_scaling = "minmax"`` is the published per-lead scaling to [-1, 1],
    which destroys amplitudes.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    image_size: int = Field(default=224, ge=16, le=1024)
    ecg_rate_hz: int = Field(default=100, ge=50, le=1000)
    ecg_seconds: int = Field(default=10, ge=1, le=60)
    ecg_scaling: Literal["millivolt", "minmax"] = "millivolt"

    @property
    def ecg_samples(self) -> int:
        """Samples per lead."""
        return self.ecg_rate_hz * self.ecg_seconds

    def digest(self) -> str:
        """Hex SHA-256 over all fields and the reader version; part of the base fingerprint."""
        facts = {**self.model_dump(), "reader_version": READER_VERSION}
        return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()
