"""WFDB records written by hand: format 16, one signal file, any lead names and gain."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

#: Where a beat's waves lie (seconds after its R peak), how wide they are (seconds) and how high (millivolts).
_WAVES = ((-0.16, 0.03, 0.12), (-0.03, 0.010, -0.10), (0.0, 0.014, 1.0), (0.03, 0.012, -0.2), (0.28, 0.06, 0.3))


def write_wfdb(path: Path, leads_mv: Mapping[str, NDArray[np.float64]], *, rate_hz: int, units_per_mv: int) -> None:
    """``path``.hea and ``path``.dat (little-endian 16 bit), leads in the order of the mapping."""
    frames = np.stack([np.rint(x * units_per_mv) for x in leads_mv.values()], axis=1).astype("<i2")
    lines = [f"{path.name} {len(leads_mv)} {rate_hz} {len(frames)}"]
    for place, lead in enumerate(leads_mv):
        checksum = (int(frames[:, place].astype(np.int64).sum()) + 32768) % 65536 - 32768
        gain = f"{units_per_mv}.0(0)/mV"
        lines.append(f"{path.name}.dat 16 {gain} 16 0 {frames[0, place]} {checksum} 0 {lead}")
    path.parent.mkdir(parents=True, exist_ok=True)
    path.with_name(f"{path.name}.hea").write_text("\n".join(lines) + "\n")
    path.with_name(f"{path.name}.dat").write_bytes(frames.tobytes())


def twelve_leads_mv(
    number: int,
    *,
    rate_hz: int,
    seconds: int = 10,
    qrs: float = 1.0,
    wide: float = 1.0,
    st: float = 0.0,
    q: float = 0.0,
) -> dict[str, NDArray[np.float64]]:
    """A tracing in millivolts by lead, upper-case limb leads; ``number`` varies rate and axis.

    ``qrs`` scales the amplitude, ``wide`` the duration of the QRS complex, ``st`` lifts the ST segment and ``q``
    deepens the Q wave, so that records can differ by what they are labelled with.
    """
    time = np.arange(rate_hz * seconds) / rate_hz
    beat = 0.75 + 0.05 * (number % 7)
    phase = (time - 0.4 + beat / 2) % beat - beat / 2
    widths = np.array([width * (wide if abs(at) < 0.1 else 1.0) for at, width, _ in _WAVES])
    heights = np.array([height for *_, height in _WAVES]) * np.array([1, qrs, qrs, qrs, 1]) - np.array([0, q, 0, 0, 0])
    shape = np.zeros_like(time)
    for (at, *_), width, height in zip(_WAVES, widths, heights, strict=True):
        shape += height * np.exp(-(((phase - at) / width) ** 2) / 2)
    shape += st * np.exp(-(((phase - 0.12) / 0.05) ** 2) / 2)
    one, two = shape * (0.5 + 0.05 * (number % 3)), shape * (0.8 + 0.04 * (number % 5))
    chest = {f"V{n}": shape * factor for n, factor in enumerate((-0.4, -0.2, 0.4, 1.0, 1.1, 0.9), start=1)}
    limb = {"AVR": -(one + two) / 2, "AVL": one - two / 2, "AVF": two - one / 2}
    return {"I": one, "II": two, "III": two - one, **limb, **chest}
