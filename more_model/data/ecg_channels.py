"""From the channels of a recording, whatever container it came in, to one array of ECG leads in millivolts."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

from more_model.data.leads import canonical_lead
from more_model.errors import InputRefused

#: Longest stretch that is read from the start of a recording; training uses seconds of it.
MAX_READ_SECONDS: Final = 600

_MILLIVOLTS: Final = {"mv": 1.0, "uv": 1e-3, "µv": 1e-3, "μv": 1e-3, "v": 1e3, "nv": 1e-6}
# Channels that monitors write beside the ECG, some of them with the default unit "mV".
_NOT_ECG = re.compile(r"(?:pleth|ppg|resp|abp|art|pap|cvp|icp|bp|spo2|sao2|co2|eeg|emg|eog|temp)(?: |$)")
# Median over the leads of the peak-to-peak amplitude. Genuine resting ECGs lie between about 0.5 and 5 mV; beyond the
# outer limits no electrode could have recorded them.
_UNUSUAL_MV: Final = (0.4, 6.0)
IMPLAUSIBLE_MV: Final = (0.02, 20.0)


@dataclass(frozen=True, slots=True, eq=False)
class Channel:
    """One channel as stored: ``samples`` float64 [n] in ``unit``; NaN where the recorder had nothing."""

    name: str
    unit: str
    samples: npt.NDArray[np.float64]


def assemble(channels: list[Channel]) -> tuple[npt.NDArray[np.float32], tuple[str, ...], list[str]]:
    """Signal float32 [n_samples, n_leads] in mV, lead names (standard where known), corrections.

    All channels have one sampling rate. Channels that are not ECG, and second copies of a lead, are left out and named
    in the corrections. Raises `InputRefused` ("no-ecg-channels", "no-signal").
    """
    columns: dict[str, npt.NDArray[np.float64]] = {}
    dropped: list[str] = []
    repeated: list[str] = []
    units: set[str] = set()
    for channel in channels:
        if not is_ecg(channel.name, channel.unit):
            dropped.append(shown_name(channel.name))
            continue
        factor = _MILLIVOLTS[channel.unit.strip().lower()]
        name = canonical_lead(channel.name) or shown_name(channel.name)
        if name in columns:
            repeated.append(name)
            continue
        columns[name] = channel.samples * factor
        units.add(channel.unit.strip())
    if not columns:
        raise InputRefused("no-ecg-channels", "No channel of the recording is an ECG lead in volts.")
    length = min(len(samples) for samples in columns.values())
    if length == 0:
        raise InputRefused("no-signal", "The recording has no samples.")
    signal = np.stack([samples[:length] for samples in columns.values()], axis=1).astype(np.float32)
    corrections = [f"unit-converted:{unit}" for unit in sorted(units) if unit.lower() != "mv"]
    if dropped:
        corrections.append("channels-dropped:" + ",".join(dropped))
    if repeated:
        corrections.append("repeated-lead-dropped:" + ",".join(repeated))
    return signal, tuple(columns), corrections


def is_ecg(name: str, unit: str) -> bool:
    """Whether a channel is measured in volts and not known by its name to be something else than an ECG lead."""
    other = _NOT_ECG.match(name.strip().lower())
    return unit.strip().lower() in _MILLIVOLTS and (canonical_lead(name) is not None or not other)


def shown_name(name: str) -> str:
    """A channel name that may be shown: printable, without commas, at most 24 characters."""
    return "".join(c for c in name.strip() if c.isprintable() and c != ",")[:24] or "unnamed"


def median_range_mv(signal: npt.NDArray[np.float32]) -> float:
    """Median over the leads of the peak-to-peak amplitude in mV, flat and empty leads left out; 0 if none is left."""
    with np.errstate(invalid="ignore"):
        low = np.min(np.where(np.isnan(signal), np.inf, signal), axis=0)
        high = np.max(np.where(np.isnan(signal), -np.inf, signal), axis=0)
        ranges = high - low
    alive = ranges[np.isfinite(ranges) & (ranges > 0)]
    return float(np.median(alive)) if alive.size else 0.0


def amplitude_notes(signal: npt.NDArray[np.float32]) -> list[str]:
    """A correction code where the amplitude hints at a wrong gain; rescaling would be a guess, so nothing is."""
    amplitude = median_range_mv(signal)
    if amplitude == 0.0:
        return []
    if not IMPLAUSIBLE_MV[0] <= amplitude <= IMPLAUSIBLE_MV[1]:
        return [f"amplitude-implausible:{amplitude:.3g}mV"]
    if not _UNUSUAL_MV[0] <= amplitude <= _UNUSUAL_MV[1]:
        return [f"amplitude-unusual:{amplitude:.3g}mV"]
    return []
