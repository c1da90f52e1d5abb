"""A plain side view of the chest, so that a cohort holds views that training must leave out."""

from __future__ import annotations

import numpy as np
from numpy.random import Generator

from simulation.synthetic.thorax import Plane, smooth_noise, soft


def draw_lateral(rng: Generator, shape: tuple[int, int], present: frozenset[str], contrast: float) -> Plane:
    """Density float32 ``shape`` in 0..1: breastbone on the left, spine on the right, heart low and in front."""
    height, width = shape
    x = _steps(width, 0.02 * float(rng.normal()))[None, :]
    y = _steps(height, 0.02 * float(rng.normal()))[:, None]
    body = _oval(x, y, 0.5, 0.55, 0.40, 0.62, 0.1)
    density = 0.02 + 0.55 * body
    dome = 0.76 + 0.5 * (x - 0.42) ** 2
    lung = _oval(x, y, 0.49, 0.48, 0.30, 0.40, 0.1) * soft((dome - y).astype(np.float32), 0.03)
    density = density + (0.27 - density) * lung
    density += 0.06 * np.abs(smooth_noise(rng, shape, 18)) * lung
    spine = soft((0.05 - np.abs(x - 0.74 + 0.10 * (y - 0.4) ** 2)).astype(np.float32), 0.04)
    density += 0.22 * spine * (0.7 + 0.3 * np.cos(2.0 * np.pi * y / 0.06)) * body
    size = 0.15 + (0.05 * contrast if "Cardiomegaly" in present else 0.0)
    heart = _oval(x, y, 0.36, 0.62, size, size * 0.95, 0.3) * lung
    density += (0.58 - density) * heart
    if "Pleural Effusion" in present:
        level = dome - 0.04 - 0.5 * np.maximum(x - 0.5, 0.0) ** 2
        density += 0.34 * min(contrast, 1.0) * soft((y - level).astype(np.float32), 0.03) * lung
    clipped: Plane = np.clip(density, 0.0, 1.0).astype(np.float32)
    return clipped


def _steps(count: int, shift: float) -> Plane:
    return ((np.arange(count) + 0.5) / count + shift).astype(np.float32)


def _oval(x: Plane, y: Plane, middle_x: float, middle_y: float, half_x: float, half_y: float, edge: float) -> Plane:
    return soft(
        (1.0 - np.sqrt(((x - middle_x) / half_x) ** 2 + ((y - middle_y) / half_y) ** 2)).astype(np.float32), edge
    )
