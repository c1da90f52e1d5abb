"""What an X-ray or an ECG looks like before any model has seen it, as a few numbers.

A contrastive encoder keeps what its texts speak of and forgets the rest: it places a film of another hospital, or a
hand, right among the chest films that it knows. Whether an input is of the kind that was trained on has to be asked of
the input itself.
"""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn import functional

from more_model.evaluation.embedded import Float64

#: A film is looked at as a picture of this many pixels a side.
COARSE_PX = 16
#: Edges of the frequency bands of an ECG, in Hz: drift, T and P waves, QRS, muscle, hum.
BANDS_HZ = (0.3, 1.0, 3.0, 6.0, 10.0, 15.0, 25.0, 40.0, 50.5)
#: Of the power (mV^2 a bin) and of the amplitude (mV): what no recorder resolves counts as nothing.
_LEAST_POWER, _LEAST_MV = 1e-4, 1e-2
_LIMIT_MV = 10.0
_WINDOW_TAIL = 0.005


def xray_appearance(pixels: NDArray[Any]) -> Float64:
    """uint8 [n, size, size] -> [n, 256]: the mean grey level, 0 to 1, of each cell of a 16 x 16 grid."""
    # A copy, because arrays of a site store cannot be written to and torch warns of that.
    films = torch.from_numpy(np.array(pixels, dtype=np.float32))[:, None] / 255.0
    coarse = functional.adaptive_avg_pool2d(films, COARSE_PX)
    return np.asarray(coarse.flatten(1).numpy(), dtype=np.float64)


def ecg_appearance(signals_mv: NDArray[Any], rate_hz: int) -> Float64:
    """float [n, 12, samples] in mV -> [n, 2 bands + 24].

    Mean and spread over the leads of the log power in each band of `BANDS_HZ` that the rate allows, then how far each
    lead reaches up, and down (log of mV, 0.5 % of the samples cut off at either end).
    """
    signals = np.clip(np.asarray(signals_mv, dtype=np.float64), -_LIMIT_MV, _LIMIT_MV)
    samples = signals.shape[2]
    power = np.abs(np.fft.rfft(signals * np.hanning(samples), axis=2)) ** 2 / samples
    frequencies = np.fft.rfftfreq(samples, 1 / rate_hz)
    bands = []
    for low, high in pairwise(BANDS_HZ):
        inside = (frequencies >= low) & (frequencies < high)
        if inside.any() and low < rate_hz / 2:
            bands.append(np.log(power[:, :, inside].mean(axis=2) + _LEAST_POWER))
    logs = np.stack(bands, axis=2)
    down, up = np.quantile(signals, (_WINDOW_TAIL, 1 - _WINDOW_TAIL), axis=2)
    reach = [np.log(np.maximum(side, 0.0) + _LEAST_MV) for side in (up, -down)]
    return np.concatenate([logs.mean(axis=1), logs.std(axis=1), *reach], axis=1)
