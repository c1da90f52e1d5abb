"""A picture that the X-ray reader takes: two dark lungs, a heart, and traces of some findings."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path

import numpy as np
from PIL import Image

_BODY, _LUNG, _HEART = 150.0, 45.0, 190.0


def write_film(path: Path, findings: Collection[str], *, seed: int, px: int = 64, lateral: bool = False) -> Path:
    """Writes a grey JPEG of ``px`` by ``px``.

    Cardiomegaly widens the heart, Edema clouds the lungs, Pleural Effusion whitens their bases, so that a model can
    learn something from a tree; other findings leave no trace.
    """
    y, x = np.mgrid[0:px, 0:px] / px
    picture = np.full((px, px), _BODY)
    lungs = _ellipse(x, y, 0.5, 0.45, 0.3, 0.34) if lateral else np.zeros((px, px), dtype=bool)
    if not lateral:
        lungs = _ellipse(x, y, 0.3, 0.45, 0.15, 0.33) | _ellipse(x, y, 0.7, 0.45, 0.15, 0.33)
    picture[lungs] = _LUNG + (60.0 if "Edema" in findings else 0.0)
    picture[_ellipse(x, y, 0.55, 0.6, 0.22 if "Cardiomegaly" in findings else 0.12, 0.16)] = _HEART
    if "Pleural Effusion" in findings:
        picture[lungs & (y > 0.62)] = 215.0
    picture += np.random.default_rng(seed).normal(0.0, 6.0, picture.shape)
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.clip(picture, 0, 255).astype(np.uint8)).save(path, "JPEG", quality=90)
    return path


def _ellipse(x: np.ndarray, y: np.ndarray, cx: float, cy: float, rx: float, ry: float) -> np.ndarray:
    return ((x - cx) / rx) ** 2 + ((y - cy) / ry) ** 2 < 1.0
