"""A 12-lead ECG from a dynamical model: waves are Gaussian bumps on the phase of each heartbeat.

After McSharry et al. (2003), "A dynamical model for generating synthetic electrocardiogram signals": the RR series
gives the phase, each wave (P, Q, R, S, slow S / R', ST, T) is a bump at its place in the cycle. Eight leads are
independent, I, II and V1 to V6; the others follow from Einthoven and Goldberger:
III = II - I, aVR = -(I + II) / 2, aVL = I - II / 2, aVF = II - I / 2.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

from simulation.synthetic.config import Difficulty, EcgDevice
from simulation.synthetic.findings import VisitFindings
from simulation.synthetic.waves import WAVES, Waves, draw_waves

RATE_HZ = 500
SAMPLES = 5000

#: The order of the leads in the MIMIC-IV-ECG headers (aVF before aVL).
MIMIC_LEADS = ("I", "II", "III", "aVR", "aVF", "aVL", "V1", "V2", "V3", "V4", "V5", "V6")

Signal = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Tracing:
    """A recorded ECG: ``leads_mv`` float32 [8, 5000], the independent leads I, II, V1..V6 in millivolts.

    ``waves`` and ``rr_s`` (median seconds between beats) say what the recorder measured.
    """

    leads_mv: Signal
    waves: Waves
    rr_s: float


def record_ecg(rng: Generator, device: EcgDevice, findings: VisitFindings, difficulty: Difficulty) -> Tracing:
    """One ten-second ECG at 500 Hz."""
    waves = draw_waves(rng, findings, difficulty)
    beats = _beat_times(rng, waves)
    basis = _wave_basis(waves, beats)
    # einsum without BLAS: a matrix product may round differently with another number of threads.
    leads = np.einsum("lw,wt->lt", waves.amplitudes_mv.astype(np.float32), basis)
    if waves.fibrillating:
        leads += _f_waves(rng)
    leads += _disturbance(rng, device, difficulty.nuisance)
    return Tracing(leads, waves, float(np.median(np.diff(beats))))


def twelve_leads(eight: NDArray[np.float64]) -> NDArray[np.float64]:
    """[8, n] independent leads -> [12, n] in the order of `MIMIC_LEADS`, same unit."""
    one, two = eight[0], eight[1]
    limbs = np.stack([one, two, two - one, -(one + two) / 2.0, two - one / 2.0, one - two / 2.0])
    return np.concatenate([limbs, eight[2:]])


def _beat_times(rng: Generator, waves: Waves) -> NDArray[np.float64]:
    """R-peak times in seconds, from before the record to after its end."""
    count = int(14.0 / waves.rr_s) + 4
    if waves.fibrillating:
        gaps = waves.rr_s * np.clip(rng.gamma(16.0, 1.0 / 16.0, count), 0.5, 2.0)
    else:
        breathing = 0.03 * np.sin(2.0 * np.pi * (np.arange(count) * waves.rr_s / 4.0 + rng.random()))
        gaps = waves.rr_s * (1.0 + breathing + 0.012 * rng.standard_normal(count))
    return np.cumsum(gaps) - 1.0 - waves.rr_s * float(rng.random())


def _wave_basis(waves: Waves, beats: NDArray[np.float64]) -> Signal:
    """[waves, samples]: every wave at unit height, at its delay from each beat. Later waves stretch with the rate."""
    time = np.arange(SAMPLES) / RATE_HZ
    gaps = np.diff(beats, append=beats[-1] + waves.rr_s)
    # A beat owns the time from its P wave on: samples just before an R peak already belong to it.
    owner = np.clip(np.searchsorted(beats - waves.lead_in_s, time, side="right") - 1, 0, len(beats) - 1)
    since = (time - beats[owner]).astype(np.float32)
    stretch = np.sqrt(np.clip(gaps / 0.85, 0.35, 1.8))[owner].astype(np.float32)
    basis = np.empty((len(WAVES), SAMPLES), dtype=np.float32)
    for place, name in enumerate(WAVES):
        delay, width = np.float32(waves.delays_s[place]), np.float32(waves.widths_s[place])
        shifted = since - delay * stretch if name in ("ST", "T") else since - delay
        basis[place] = np.exp(-0.5 * (shifted / width) ** 2)
    return basis


def _f_waves(rng: Generator) -> Signal:
    """Fibrillation of the atria: 5-8 Hz, of varying size, best seen in V1 and II."""
    time = np.arange(SAMPLES, dtype=np.float32) / RATE_HZ
    strength = np.array([0.4, 0.7, 1.0, 0.6, 0.35, 0.2, 0.2, 0.2], dtype=np.float32)
    wave = np.zeros(SAMPLES, dtype=np.float32)
    for _ in range(3):
        frequency, phase = rng.uniform(5.0, 8.0), rng.uniform(0.0, 2.0 * np.pi)
        wave += np.sin(2.0 * np.pi * np.float32(frequency) * time + np.float32(phase))
    return strength[:, None] * wave[None, :] * np.float32(rng.uniform(0.025, 0.06))


def _disturbance(rng: Generator, device: EcgDevice, nuisance: float) -> Signal:
    """Baseline wander, mains hum and muscle noise, float32 [8, 5000] in millivolts."""
    time = np.arange(SAMPLES, dtype=np.float32) / RATE_HZ
    noise = np.zeros((8, SAMPLES), dtype=np.float32)
    for frequency in rng.uniform(0.1, 0.45, 2):
        gain = rng.normal(0.0, device.wander_mv, 8).astype(np.float32)
        noise += gain[:, None] * np.sin(2.0 * np.pi * np.float32(frequency) * time + np.float32(rng.uniform(0.0, 6.28)))
    hum = rng.normal(0.0, device.mains_mv, 8).astype(np.float32)
    noise += hum[:, None] * np.sin(2.0 * np.pi * np.float32(device.mains_hz) * time)
    muscle = rng.standard_normal((8, SAMPLES + 1), dtype=np.float32)
    level = np.float32(device.muscle_mv * np.exp(0.4 * rng.standard_normal()))
    noise += level * (muscle[:, 1:] + muscle[:, :-1]) * np.float32(0.7)
    return noise * np.float32(nuisance)
