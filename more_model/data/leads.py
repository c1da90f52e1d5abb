"""The twelve standard ECG leads and the many ways in which recorders write their names."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final

#: Lead order of every ECG array in this project (the order of PTB-XL; MIMIC-IV-ECG writes aVR, aVF, aVL).
STANDARD_LEADS: Final = ("I", "II", "III", "aVR", "aVL", "aVF", "V1", "V2", "V3", "V4", "V5", "V6")

#: Leads that must be recorded: the other four are linear combinations of I and II.
INDEPENDENT_LEADS: Final = ("I", "II", "V1", "V2", "V3", "V4", "V5", "V6")

#: Einthoven (III = II - I) and Goldberger (aVR = -(I + II)/2, aVL = I - II/2, aVF = II - I/2): factors of I and II.
DERIVED_LEADS: Final[Mapping[str, tuple[float, float]]] = {
    "III": (-1.0, 1.0),
    "aVR": (-0.5, -0.5),
    "aVL": (1.0, -0.5),
    "aVF": (-0.5, 1.0),
}

# DI, DII, DIII: "derivación", usual in Latin America and Iberia. Plain digits are not accepted: "ECG 1" is a channel.
_SPELLINGS: Final = {name.lower(): name for name in STANDARD_LEADS} | {"di": "I", "dii": "II", "diii": "III"}
_PREFIX = re.compile(r"^(?:mdc_ecg_lead_|(?:ecg|ekg)[ _-]+lead[ _-]+|(?:lead|ecg|ekg)[ _-]+)")
_SUFFIX = re.compile(r"(?:\s*\((?:einthoven|goldberger|wilson)\)|-ref)$")


def canonical_lead(name: str) -> str | None:
    """The standard name of a lead, or None where ``name`` is not certainly one of the twelve.

    Case does not matter; "Lead I (Einthoven)", "ECG aVR", "MDC_ECG_LEAD_V1", "V1-REF" and "DII" are understood. "MLII"
    (electrodes on the torso), "-aVR" (sign reversed), "V" (some chest lead), "ECG 1" (a channel number) and Frank's
    "vx" are not.
    """
    text = " ".join(name.strip().lower().split())
    text = _SUFFIX.sub("", _PREFIX.sub("", text))
    return _SPELLINGS.get(text)
