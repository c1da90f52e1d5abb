"""Reading one ECG and bringing it to the form that training uses: twelve leads by name, one rate, millivolts."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Final, Literal

import numpy as np
import numpy.typing as npt

from more_model.data.dicom_file import is_dicom
from more_model.data.dicom_waveform import read_dicom_waveform
from more_model.data.ecg_channels import IMPLAUSIBLE_MV, amplitude_notes, assemble, median_range_mv
from more_model.data.gate import StudyGate
from more_model.data.leads import DERIVED_LEADS, INDEPENDENT_LEADS, STANDARD_LEADS
from more_model.data.packages import load_package
from more_model.data.wfdb_record import read_wfdb
from more_model.errors import InputRefused

MAX_FLAT_LEADS: Final = 2
MAX_NAN_FRACTION: Final = 0.2
MIN_RATE_HZ: Final = 50.0

Scaling = Literal["millivolt", "minmax"]
_Leads = dict[str, npt.NDArray[np.float64]]


@dataclass(frozen=True, slots=True, eq=False)
class EcgRecord:
    """One recording: ``signal_mv`` float32 [n_samples, n_leads] in mV (NaN = not recorded), ``fs_hz`` in Hz.

    ``leads`` are standard names where they are known, otherwise the recorder's. ``corrections`` are short codes,
    ``facts`` identify nobody.
    """

    signal_mv: npt.NDArray[np.float32]
    fs_hz: float
    leads: tuple[str, ...]
    corrections: tuple[str, ...]
    facts: dict[str, str]


@dataclass(frozen=True, slots=True, eq=False)
class StandardEcg:
    """``signal`` float32 [12, rate_hz * seconds] in the order of `STANDARD_LEADS`, finite everywhere.

    ``corrections`` continue those of the record; ``nan_samples`` counts the interpolated samples over the leads in use.
    """

    signal: npt.NDArray[np.float32]
    corrections: tuple[str, ...]
    nan_samples: int


def read_ecg(path: Path, *, gate: StudyGate | None = None) -> EcgRecord:
    """A WFDB record (path with or without .hea, .dat, .mat) or a DICOM waveform file, told apart by content.

    At most the first ten minutes are read. An amplitude that hints at a wrong gain is noted in ``corrections``
    ("amplitude-unusual", "amplitude-implausible"), never rescaled. ``gate`` sees the headers. Raises `InputRefused`
    with the reasons of `more_model.data.wfdb_record`, `.dicom_waveform`, `.ecg_channels` and `.gate`.
    """
    if path.is_file() and is_dicom(path):
        channels, fs_hz, corrections, facts = read_dicom_waveform(path, gate=gate)
    else:
        record = read_wfdb(path, gate=gate)
        channels, fs_hz, corrections, facts = record.channels, record.fs_hz, record.corrections, record.facts
    signal, leads, notes = assemble(channels)
    corrections = [*corrections, *notes, *amplitude_notes(signal)]
    return EcgRecord(signal, fs_hz, leads, tuple(corrections), facts)


def standardise_ecg(record: EcgRecord, *, rate_hz: int, seconds: int, scaling: Scaling) -> StandardEcg:
    """The first ``seconds`` of a record as twelve leads by name at ``rate_hz``.

    - Absent III, aVR, aVL, aVF are computed from I and II ("derived:..."); any other absent lead is refused.
    - Longer records are cut after the first ``seconds`` ("cropped"); shorter ones get zeros at the end
      ("zero-padded") if at least half is there.
    - NaN is interpolated inside a lead, up to 20 % of it ("nan-interpolated:n"). Up to two flat or empty leads become
      zero ("flat-lead:V3").
    - Polyphase resampling by a rational ratio. The median of every lead is subtracted, nothing else is filtered.
    - "minmax" maps every lead to [-1, 1] and thereby destroys the amplitude.

    Raises `InputRefused`: missing-leads, bad-sampling-rate, too-short, no-signal, too-many-gaps, too-many-flat-leads,
    implausible-amplitude.
    """
    _check_leads(record.leads)
    if not record.fs_hz >= MIN_RATE_HZ:
        raise InputRefused("bad-sampling-rate", f"The ECG has {record.fs_hz:g} Hz, fewer than {MIN_RATE_HZ:g}.")
    corrections = list(record.corrections)
    recorded, in_window = _take_window(record, seconds, corrections)
    leads, nan_samples = _clean(recorded, in_window, corrections)
    leads = _derive(leads, corrections)
    present = min(round(in_window * rate_hz / record.fs_hz), rate_hz * seconds)
    resampled = _resample(np.stack([leads[name] for name in STANDARD_LEADS]), record.fs_hz, rate_hz)[:, :present]
    # After the resampling: hum beyond the new band would pull a median away from the baseline.
    centred = resampled - np.median(resampled, axis=1, keepdims=True)
    signal = np.zeros((len(STANDARD_LEADS), rate_hz * seconds), dtype=np.float32)
    signal[:, : centred.shape[1]] = _minmax(centred) if scaling == "minmax" else centred
    return StandardEcg(signal, tuple(corrections), nan_samples)


def _check_leads(leads: tuple[str, ...]) -> None:
    missing = [name for name in INDEPENDENT_LEADS if name not in leads]
    if missing:
        raise InputRefused(
            "missing-leads",
            f"The ECG has no lead {', '.join(missing)}; it has {', '.join(leads)}.",
            remedy="use records with I, II and V1 to V6 at least; III, aVR, aVL and aVF can be computed",
        )


def _take_window(record: EcgRecord, seconds: int, corrections: list[str]) -> tuple[_Leads, int]:
    """The standard leads of the first ``seconds`` with a second of margin for resampling; how many samples count."""
    wanted = round(seconds * record.fs_hz)
    available = record.signal_mv.shape[0]
    if available < wanted / 2:
        duration = available / record.fs_hz
        raise InputRefused("too-short", f"The ECG lasts {duration:.1f} s; at least half of {seconds} s is needed.")
    if available > wanted:
        corrections.append("cropped")
    elif available < wanted * 0.995:
        corrections.append("zero-padded")
    margin = wanted + round(record.fs_hz)
    columns = {name: record.signal_mv[:margin, index].astype(np.float64) for index, name in enumerate(record.leads)}
    return {name: columns[name] for name in STANDARD_LEADS if name in columns}, min(wanted, available)


def _clean(recorded: _Leads, in_window: int, corrections: list[str]) -> tuple[_Leads, int]:
    """Leads without NaN, flat ones set to zero; refuses what cannot be repaired. Judged over the window only."""
    window = {name: samples[:in_window] for name, samples in recorded.items()}
    flat = [name for name, samples in window.items() if _is_flat(samples)]
    if len(flat) == len(recorded):
        raise InputRefused("no-signal", "All leads of the ECG are flat or empty.")
    if len(flat) > MAX_FLAT_LEADS:
        raise InputRefused("too-many-flat-leads", f"The leads {', '.join(flat)} are flat or empty.")
    nan_samples = {name: int(np.isnan(samples).sum()) for name, samples in window.items() if name not in flat}
    gappy = [name for name, count in nan_samples.items() if count >= MAX_NAN_FRACTION * in_window]
    if gappy:
        raise InputRefused("too-many-gaps", f"A fifth or more of the samples is missing in {', '.join(gappy)}.")
    amplitude = median_range_mv(np.stack(list(window.values()), axis=1).astype(np.float32))
    if not IMPLAUSIBLE_MV[0] <= amplitude <= IMPLAUSIBLE_MV[1]:
        raise InputRefused(
            "implausible-amplitude",
            f"The leads have a median peak-to-peak amplitude of {amplitude:.3g} mV, which points to a wrong gain.",
            remedy="correct gain and unit in the header",
            avoid="rescale by eye: the true factor is not in the file",
        )
    corrections.extend(f"flat-lead:{name}" for name in flat)
    total = sum(nan_samples.values())
    if total:
        corrections.append(f"nan-interpolated:{total}")
    cleaned = {name: np.zeros_like(x) if name in flat else _interpolate(x) for name, x in recorded.items()}
    return cleaned, total


def _is_flat(samples: npt.NDArray[np.float64]) -> bool:
    real = samples[~np.isnan(samples)]
    return real.size == 0 or float(np.ptp(real)) == 0.0


def _interpolate(samples: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Linear between neighbours; the nearest value before the first and after the last real sample."""
    missing = np.isnan(samples)
    if not missing.any():
        return samples
    index = np.arange(len(samples))
    return np.interp(index, index[~missing], samples[~missing])


def _derive(leads: _Leads, corrections: list[str]) -> _Leads:
    absent = [name for name in DERIVED_LEADS if name not in leads]
    if not absent:
        return leads
    sources = [name for name in ("I", "II") if not np.any(leads[name])]
    if sources:
        raise InputRefused(
            "missing-leads",
            f"The ECG has no lead {', '.join(absent)}, and {', '.join(sources)} needed to compute them is flat.",
        )
    corrections.append("derived:" + ",".join(absent))
    computed = {name: DERIVED_LEADS[name][0] * leads["I"] + DERIVED_LEADS[name][1] * leads["II"] for name in absent}
    return leads | computed


def _resample(samples: npt.NDArray[np.float64], from_hz: float, to_hz: int) -> npt.NDArray[np.float64]:
    """Polyphase filtering of [leads, n]; the ends go on with their own values, so that no step rings into them."""
    # Fine enough for rates such as 249.89 Hz: the error stays below a hundredth of a sample over a minute.
    ratio = Fraction(to_hz / from_hz).limit_denominator(10_000)
    if ratio == 1:
        return samples
    scipy_signal = load_package("scipy.signal", "resample ECGs")
    return np.asarray(scipy_signal.resample_poly(samples, ratio.numerator, ratio.denominator, axis=1, padtype="edge"))


def _minmax(samples: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    low, high = samples.min(axis=1, keepdims=True), samples.max(axis=1, keepdims=True)
    span = np.where(high > low, high - low, 1.0)
    return np.where(high > low, 2.0 * (samples - low) / span - 1.0, 0.0)
