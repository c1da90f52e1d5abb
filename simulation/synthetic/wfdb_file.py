"""WFDB records as MIMIC-IV-ECG has them: one 16-bit signal file, twelve leads, 500 Hz, 200 units per millivolt.

Written by hand because `wfdb.wrsamp` takes several times longer than drawing the tracing; a test reads the records
back with the wfdb package. The header format is that of header(5) of the WFDB manual: the checksum is the 16-bit
signed sum of all samples of a signal, a missing sample is -32768 in format 16.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from simulation.synthetic.heart import MIMIC_LEADS, RATE_HZ, twelve_leads

UNITS_PER_MV = 200
MISSING = -32768


def digitise(eight_mv: NDArray[np.float32]) -> NDArray[np.int16]:
    """[8, n] independent leads in millivolts -> int16 [12, n] recorder units.

    The limb leads that are derived are derived from the rounded ones, as a recorder does it: III = II - I is exact, the
    augmented leads are within half a unit.
    """
    units = np.rint(eight_mv.astype(np.float64) * UNITS_PER_MV)
    return np.clip(np.rint(twelve_leads(units)), -32767, 32767).astype(np.int16)


def write_record(folder: Path, name: str, units: NDArray[np.int16]) -> None:
    """Writes ``name``.hea and ``name``.dat into ``folder`` for int16 [12, n] in the order of `MIMIC_LEADS`."""
    frames = np.ascontiguousarray(units.T).astype("<i2")
    lines = [f"{name} {len(MIMIC_LEADS)} {RATE_HZ} {frames.shape[0]}"]
    for place, lead in enumerate(MIMIC_LEADS):
        checksum = _signed16(int(units[place].astype(np.int64).sum()))
        lines.append(f"{name}.dat 16 {UNITS_PER_MV}(0)/mV 16 0 {int(units[place, 0])} {checksum} 0 {lead}")
    (folder / f"{name}.dat").write_bytes(frames.tobytes())
    (folder / f"{name}.hea").write_bytes(("\n".join(lines) + "\n").encode("ascii"))


def _signed16(total: int) -> int:
    return (total + 32768) % 65536 - 32768
