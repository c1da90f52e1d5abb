"""The pointing game (Zhang et al., IJCV 2018): does the highest place of a map lie where the finding is?

Lesions are circles as `more-sim synth` writes them in synthetic_lesions.csv: ``x`` a share of the picture's width,
``y`` of its height, ``radius`` of its longer side. A random map hits with the share of the picture that the circles
cover; the padding that makes the picture square does not count as picture.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from more_model.data.csv_columns import read_columns
from more_model.errors import DataError
from more_model.evaluation.embedded import Mask

_METADATA = "mimic-cxr-jpg/mimic-cxr-2.0.0-metadata.csv.gz"


@dataclass(frozen=True, slots=True)
class Circle:
    """A lesion in the square picture that the model sees: centre and radius in pixels, x to the right, y down."""

    x: float
    y: float
    radius: float


@dataclass(frozen=True, slots=True)
class Film:
    """One picture of the lesion table: its size before it was made square, and its lesions by finding, as in the file
    (x, y, radius)."""

    height: int
    width: int
    lesions: Mapping[str, Sequence[tuple[float, float, float]]]

    def box(self, size: int) -> tuple[int, int, int, int]:
        """Top, left, height and width of the picture inside the square of `more_model.data.xray.to_square`."""
        scale = size / max(self.height, self.width)
        height, width = max(1, round(self.height * scale)), max(1, round(self.width * scale))
        return (size - height) // 2, (size - width) // 2, height, width

    def circles(self, finding: str, size: int) -> tuple[Circle, ...]:
        """The lesions of one finding in a square of ``size`` pixels."""
        top, left, height, width = self.box(size)
        return tuple(
            Circle(left + x * width, top + y * height, radius * max(height, width))
            for x, y, radius in self.lesions.get(finding, ())
        )

    def picture(self, size: int) -> Mask:
        """Bool [size, size]: where the square is picture, not padding."""
        top, left, height, width = self.box(size)
        inside = np.zeros((size, size), dtype=np.bool_)
        inside[top : top + height, left : left + width] = True
        return inside


def read_lesions(path: Path, metadata: Path | None = None) -> dict[str, Film]:
    """The films of a lesion table by ``dicom_id``; only those with at least one lesion.

    Sizes come from ``metadata`` (columns dicom_id, Rows, Columns), by default the MIMIC-CXR-JPG table beside ``path``.

    Raises:
        DataError: a file or a column is missing, a cell is no number, or a film has no size.
    """
    table = read_columns(path, ("dicom_id", "finding", "x", "y", "radius"))
    sizes_file = metadata if metadata is not None else path.parent / _METADATA
    sizes = read_columns(sizes_file, ("dicom_id", "Rows", "Columns"))
    try:
        shapes = {
            name: (int(rows), int(columns))
            for name, rows, columns in zip(sizes["dicom_id"], sizes["Rows"], sizes["Columns"], strict=True)
        }
        lesions: dict[str, dict[str, list[tuple[float, float, float]]]] = {}
        for name, finding, *place in zip(*(table[column] for column in table), strict=True):
            x, y, radius = map(float, place)
            lesions.setdefault(name, {}).setdefault(finding, []).append((x, y, radius))
        return {name: Film(*shapes[name], found) for name, found in lesions.items()}
    except ValueError as error:
        raise DataError(f"{path.name} or {sizes_file.name}: a cell that must be a number is not: {error}") from error
    except KeyError as error:
        raise DataError(
            f"{path.name} names films that {sizes_file.name} does not have", remedy="give both tables of one cohort"
        ) from error


def covered(circles: Sequence[Circle], size: int, tolerance_px: float = 0.0) -> Mask:
    """Bool [size, size]: pixels whose centre lies in one of the circles, each widened by ``tolerance_px``."""
    down, across = np.mgrid[:size, :size] + 0.5
    inside = np.zeros((size, size), dtype=np.bool_)
    for circle in circles:
        inside |= (across - circle.x) ** 2 + (down - circle.y) ** 2 <= (circle.radius + tolerance_px) ** 2
    return inside


def points_at(heat: NDArray[Any], region: Mask) -> float:
    """1 where the highest place of ``heat`` lies in ``region``, else 0; between places of equal height their mean."""
    return float(region[heat == heat.max()].mean())


def chance(region: Mask, picture: Mask) -> float:
    """How often a random place of the picture lies in ``region``."""
    return float(region[picture].mean())


def centre_hits(region: Mask) -> float:
    """What a map would score that always points at the middle of the square."""
    middle = region.shape[0] // 2
    return float(region[middle, middle])
