"""The shape of one person's heartbeat in eight leads, and what each disease does to it.

Sizes are millivolts, delays and widths seconds from the R peak. The normal values are round textbook figures.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

from simulation.synthetic.config import Difficulty
from simulation.synthetic.findings import VisitFindings

#: Order of the waves in every array. LATE is what comes after S in bundle branch block (R' or a slurred S).
WAVES = ("P", "Q", "R", "S", "LATE", "ST", "T")
P, Q, R, S, LATE, ST, T = range(7)

#: Order of the independent leads in every array.
EIGHT_LEADS = ("I", "II", "V1", "V2", "V3", "V4", "V5", "V6")
_I, _II, _V1, _V2, _V3, _V4, _V5, _V6 = range(8)

#: Normal amplitudes in millivolts, [8 leads, 7 waves].
_NORMAL = np.array(
    [
        [0.07, -0.05, 0.60, -0.12, 0.0, 0.0, 0.20],
        [0.12, -0.06, 0.95, -0.15, 0.0, 0.0, 0.28],
        [0.05, 0.00, 0.22, -0.85, 0.0, 0.02, 0.02],
        [0.05, 0.00, 0.40, -1.25, 0.0, 0.06, 0.42],
        [0.05, 0.00, 0.70, -0.85, 0.0, 0.05, 0.45],
        [0.05, -0.05, 1.15, -0.50, 0.0, 0.03, 0.40],
        [0.06, -0.08, 1.20, -0.25, 0.0, 0.01, 0.32],
        [0.06, -0.08, 0.95, -0.10, 0.0, 0.00, 0.25],
    ]
)

#: Territory of an infarct -> how strongly each lead sees it.
TERRITORIES = {
    "anterior": np.array([0.1, 0.0, 0.8, 1.0, 1.0, 0.8, 0.3, 0.1]),
    "inferior": np.array([-0.1, 1.0, 0.0, 0.0, 0.0, 0.0, 0.1, 0.2]),
    "lateral": np.array([0.9, 0.1, 0.0, 0.0, 0.1, 0.5, 1.0, 1.0]),
}


@dataclass(frozen=True, slots=True)
class Waves:
    """One heartbeat. ``amplitudes_mv`` [8, 7]; ``delays_s`` and ``widths_s`` [7]; ``rr_s`` seconds per beat.

    ``territory``, ``block`` and ``strain`` name what was drawn, for the machine's statements.
    """

    amplitudes_mv: NDArray[np.float64]
    delays_s: NDArray[np.float64]
    widths_s: NDArray[np.float64]
    rr_s: float
    fibrillating: bool
    territory: str
    block: str
    axis_degrees: float

    @property
    def lead_in_s(self) -> float:
        """How long before its R peak a beat begins, in seconds."""
        return float(-self.delays_s[P] + 2.5 * self.widths_s[P])


def draw_waves(rng: Generator, findings: VisitFindings, difficulty: Difficulty) -> Waves:
    """The heartbeat of one visit."""
    present, looks = findings.present, findings.looks
    vary = difficulty.nuisance
    amplitudes = _NORMAL * np.exp(0.16 * vary * rng.standard_normal((8, 7))) * np.exp(0.16 * vary * rng.normal())
    delays = np.array([-0.165, -0.032, 0.0, 0.034, 0.075, 0.16, 0.29]) + 0.0
    widths = np.array([0.022, 0.010, 0.012, 0.012, 0.018, 0.045, 0.045]) * np.exp(0.06 * vary * rng.standard_normal(7))
    delays[P] += 0.015 * vary * rng.normal()
    rr = float(np.clip(60.0 / (74.0 + 13.0 * rng.normal()), 0.45, 1.35))
    axis = 10.0 * vary * float(rng.normal())
    territory = list(TERRITORIES)[int(rng.integers(3))]
    block = ("left", "right", "first-degree")[int(np.searchsorted([0.4, 0.85], rng.random()))]

    def strength(finding: str) -> float:
        return difficulty.ecg_contrast * (0.35 + 0.65 * looks[finding].severity)

    if "HYP" in present:
        _hypertrophy(amplitudes, strength("HYP"))
        axis -= 15.0
    if "STTC" in present:
        _repolarisation(amplitudes, strength("STTC"), rng)
    if "MI" in present:
        _infarct(amplitudes, widths, TERRITORIES[territory], strength("MI"), rng)
    if "CD" in present:
        _block(amplitudes, delays, widths, block, strength("CD"))
    fibrillating = "AFIB" in present
    if fibrillating:
        amplitudes[:, P] = 0.0
        rr = float(np.clip(rr * 0.85, 0.4, 1.3))
    amplitudes = _turn(amplitudes, axis)
    return Waves(
        amplitudes,
        delays,
        widths,
        rr,
        fibrillating,
        territory if "MI" in present else "",
        block if "CD" in present else "",
        _axis_of(amplitudes[:, R]),
    )


def _hypertrophy(amplitudes: NDArray[np.float64], strength: float) -> None:
    """Left ventricular hypertrophy: tall R in I, V5, V6 and deep S in V1, V2 (Sokolow-Lyon), a little strain."""
    amplitudes[[_I, _V4, _V5, _V6], R] *= 1.0 + 1.0 * strength
    amplitudes[[_V1, _V2, _V3], S] *= 1.0 + 0.85 * strength
    amplitudes[[_I, _V5, _V6], T] -= 0.12 * strength


def _repolarisation(amplitudes: NDArray[np.float64], strength: float, rng: Generator) -> None:
    """ST depression and flat or inverted T waves, lateral or widespread."""
    wide = rng.random() < 0.5
    leads = [_I, _II, _V3, _V4, _V5, _V6] if wide else [_I, _V4, _V5, _V6]
    amplitudes[leads, T] -= strength * np.array([0.32, 0.36, 0.5, 0.52, 0.48, 0.4] if wide else [0.32, 0.52, 0.5, 0.42])
    amplitudes[leads, ST] -= strength * 0.11


def _infarct(
    amplitudes: NDArray[np.float64],
    widths: NDArray[np.float64],
    seen: NDArray[np.float64],
    strength: float,
    rng: Generator,
) -> None:
    """Wide deep Q, lost R, raised ST (fresh) or inverted T (old) where the leads look at the infarct."""
    fresh = float(rng.random())
    amplitudes[:, Q] -= 0.55 * strength * seen
    amplitudes[:, R] *= 1.0 - np.clip(0.65 * strength * np.abs(seen), 0.0, 0.85)
    amplitudes[:, ST] += strength * seen * (0.06 + 0.24 * fresh)
    amplitudes[:, T] -= strength * seen * 0.45 * (1.0 - fresh)
    widths[Q] *= 1.0 + 0.6 * min(strength, 1.5)


def _block(
    amplitudes: NDArray[np.float64],
    delays: NDArray[np.float64],
    widths: NDArray[np.float64],
    block: str,
    strength: float,
) -> None:
    """Left or right bundle branch block, or a long PR interval with a wide QRS."""
    grip = min(strength, 1.3)
    if block == "left":
        widths[[R, S]] *= 1.0 + 1.1 * grip
        delays[LATE], widths[LATE] = 0.055, 0.026
        amplitudes[:, LATE] += grip * np.array([0.5, 0.3, -0.55, -0.7, -0.4, 0.1, 0.65, 0.65])
        amplitudes[[_V1, _V2], R] *= 1.0 - 0.5 * grip / 1.3
        amplitudes[:, T] -= grip * np.array([0.3, 0.2, -0.2, -0.25, 0.0, 0.2, 0.45, 0.4])
        return
    if block == "right":
        delays[LATE], widths[LATE] = 0.078, 0.022
        amplitudes[:, LATE] += grip * np.array([-0.35, -0.2, 0.85, 0.55, 0.1, -0.2, -0.3, -0.35])
        amplitudes[[_V1, _V2], T] -= grip * 0.3
        return
    delays[P] -= 0.075 * grip
    widths[[R, S]] *= 1.0 + 0.45 * grip


def _turn(amplitudes: NDArray[np.float64], degrees: float) -> NDArray[np.float64]:
    """Turns the electrical axis in the frontal plane; I and aVF (unaugmented) are its coordinates."""
    turned = amplitudes.copy()
    one = amplitudes[_I]
    foot = (amplitudes[_II] - one / 2.0) * 2.0 / 3.0**0.5
    cos, sin = np.cos(np.radians(degrees)), np.sin(np.radians(degrees))
    turned[_I] = one * cos - foot * sin
    turned[_II] = (one * sin + foot * cos) * 3.0**0.5 / 2.0 + turned[_I] / 2.0
    return turned


def _axis_of(wave: NDArray[np.float64]) -> float:
    foot = (wave[_II] - wave[_I] / 2.0) * 2.0 / 3.0**0.5
    return float(np.degrees(np.arctan2(foot, wave[_I])))
