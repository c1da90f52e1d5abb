"""A chest drawn from geometry: body, lungs, heart, mediastinum, ribs, clavicles, diaphragm, vessels.

Coordinates: ``u`` runs across the picture, 0 at the midline, negative on the picture's left (the patient's right),
about +-1 at the arms; ``v`` runs down, 0 at the top edge, 1 at the bottom. Brightness is density: 0 air, 1 metal.
Everything is computed on whole float32 arrays [height, width].
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray
from PIL import Image

from simulation.synthetic.findings import Presentation

Plane = NDArray[np.float32]

SIDES = (-1, 1)


@dataclass(frozen=True, slots=True)
class Anatomy:
    """The shape of one chest on one film. Pairs are (patient's right, patient's left)."""

    chest: float
    apex: float
    domes: tuple[float, float]
    heart: float
    heart_u: float
    mediastinum: float
    rib_pitch: float
    rib_phase: float
    breasts: float
    fat: float
    lung: float


@dataclass(frozen=True, slots=True)
class Canvas:
    """A film being drawn. ``density`` is changed in place; ``lungs`` are soft masks in 0..1 per side."""

    anatomy: Anatomy
    u: Plane
    v: Plane
    density: Plane
    lungs: tuple[Plane, Plane]
    chest_wall: Plane
    to_picture: tuple[float, float, float, float, float]

    def lung(self, side: int) -> Plane:
        """The mask of the patient's right (-1) or left (+1) lung."""
        return self.lungs[0 if side < 0 else 1]

    def locate(self, u: float, v: float) -> tuple[float, float]:
        """Where a point of the chest lies in the picture, as fractions of its width and height."""
        scale, tilt, shift_u, shift_v, aspect = self.to_picture
        cos, sin = float(np.cos(tilt)), float(np.sin(tilt))
        left, down = (u * cos - (v - 0.5) * 2.0 * sin) * scale, (u * sin / 2.0 + (v - 0.5) * cos) * scale
        return 0.5 + (left + shift_u) / (2.0 * aspect), 0.5 + down + shift_v


def soft(distance: Plane, width: float) -> Plane:
    """1 well inside (distance > width / 2), 0 well outside, smooth between."""
    ramp = np.clip(distance * np.float32(1.0 / width) + np.float32(0.5), 0.0, 1.0)
    smooth: Plane = ramp * ramp * (3.0 - 2.0 * ramp)
    return smooth


def ellipse(canvas: Canvas, u: float, v: float, half_u: float, half_v: float, edge: float = 0.35) -> Plane:
    """A soft ellipse: 1 inside, falling to 0 over ``edge`` (a share of its size)."""
    distance = 1.0 - np.sqrt(((canvas.u - u) / half_u) ** 2 + ((canvas.v - v) / half_v) ** 2)
    return soft(distance.astype(np.float32), edge)


def smooth_noise(rng: Generator, shape: tuple[int, int], cells: int) -> Plane:
    """Noise of standard deviation about 1 that varies over 1/``cells`` of the picture; float32 ``shape``."""
    grid = rng.standard_normal((cells, cells), dtype=np.float32)
    image = Image.fromarray(grid).resize((shape[1], shape[0]), Image.Resampling.BICUBIC)
    return np.asarray(image, dtype=np.float32)


def draw_anatomy(
    rng: Generator,
    present: frozenset[str],
    looks: Mapping[str, Presentation],
    *,
    sex: str,
    antero_posterior: bool,
    contrast: float,
    nuisance: float,
) -> Anatomy:
    """The shape of one chest. Findings that change shapes (heart, mediastinum, volume loss) act here."""
    vary = rng.normal(0.0, 1.0, 12) * nuisance
    heart = 0.285 + 0.022 * vary[0] + (0.03 if antero_posterior else 0.0)
    if "Cardiomegaly" in present:
        heart += contrast * (0.08 + 0.07 * looks["Cardiomegaly"].severity)
    mediastinum = 0.125 + 0.010 * vary[1] + (0.01 if antero_posterior else 0.0)
    if "Enlarged Cardiomediastinum" in present:
        mediastinum += contrast * (0.040 + 0.05 * looks["Enlarged Cardiomediastinum"].severity)
    dome = 0.74 + 0.022 * vary[2] - (0.03 if antero_posterior else 0.0)
    domes = [dome - 0.012 + 0.008 * vary[3], dome + 0.012 + 0.008 * vary[4]]
    if "Atelectasis" in present:
        look = looks["Atelectasis"]
        for place, side in enumerate(SIDES):
            if look.side in (side, 0):
                domes[place] -= contrast * (0.035 + 0.03 * look.severity)
    return Anatomy(
        chest=float(0.74 + 0.025 * vary[5]),
        apex=float(0.11 + 0.012 * vary[6]),
        domes=(float(domes[0]), float(domes[1])),
        heart=float(max(heart, 0.2)),
        heart_u=float(0.10 + 0.02 * vary[7]),
        mediastinum=float(max(mediastinum, 0.08)),
        rib_pitch=float(0.088 + 0.004 * vary[8]),
        rib_phase=float(rng.random()),
        breasts=float(max(0.0, 0.07 + 0.03 * vary[9])) if sex == "F" else 0.0,
        fat=float(max(0.0, 0.03 + 0.025 * vary[10])),
        lung=float(0.24 + 0.02 * vary[11]),
    )


def draw_chest(rng: Generator, anatomy: Anatomy, shape: tuple[int, int], nuisance: float) -> Canvas:
    """The chest without disease of the lungs, on a film of ``shape`` (height, width)."""
    aspect = shape[1] / shape[0]
    scale = 1.0 + 0.03 * nuisance * float(rng.normal())
    tilt = 0.02 * nuisance * float(rng.normal())
    shift_u, shift_v = 0.03 * nuisance * float(rng.normal()), 0.015 * nuisance * float(rng.normal())
    u, v = _coordinates(shape, (scale, tilt, shift_u, shift_v, aspect))
    lungs, wall = _lung_masks(anatomy, u, v)
    density = _body(anatomy, u, v)
    canvas = Canvas(anatomy, u, v, density, lungs, wall, (scale, tilt, shift_u, shift_v, aspect))
    both = lungs[0] + lungs[1]
    density += (anatomy.lung - density) * both
    _vessels(canvas, rng, both)
    _ribs(canvas)
    _middle(canvas)
    _clavicles(canvas)
    _soft_tissue(canvas, rng)
    return canvas


def _coordinates(shape: tuple[int, int], placing: tuple[float, float, float, float, float]) -> tuple[Plane, Plane]:
    scale, tilt, shift_u, shift_v, aspect = placing
    height, width = shape
    across = (((np.arange(width, dtype=np.float32) + 0.5) / width - 0.5) * 2.0 * aspect - shift_u) / scale
    down = ((np.arange(height, dtype=np.float32) + 0.5) / height - 0.5 - shift_v) / scale
    cos, sin = np.float32(np.cos(tilt)), np.float32(np.sin(tilt))
    u = across[None, :] * cos + down[:, None] * 2.0 * sin
    v = -across[None, :] * sin / 2.0 + down[:, None] * cos + 0.5
    return u.astype(np.float32), v.astype(np.float32)


def wall_at(anatomy: Anatomy, v: Plane) -> Plane:
    """Distance of the inner chest wall from the midline at height ``v``."""
    depth = np.clip((0.84 - v) / (0.84 - anatomy.apex), 0.0, 1.0)
    reach: Plane = (anatomy.chest * np.sqrt(np.maximum(1.0 - depth**2.6, 0.0))).astype(np.float32)
    return reach


def dome_at(anatomy: Anatomy, u: Plane, side: int) -> Plane:
    """Height of the diaphragm of one side at ``u``; it falls towards the costophrenic angle."""
    top = anatomy.domes[0 if side < 0 else 1]
    return (top + 0.42 * (np.abs(u) - 0.34) ** 2).astype(np.float32)


def _lung_masks(anatomy: Anatomy, u: Plane, v: Plane) -> tuple[tuple[Plane, Plane], Plane]:
    away = np.abs(u)
    wall = wall_at(anatomy, v) - away
    inner = away - np.float32(anatomy.mediastinum + 0.02) - 0.10 * np.clip(0.22 - v, 0.0, 1.0)
    inside = soft(wall, 0.05) * soft(inner.astype(np.float32), 0.05)
    right = inside * soft(dome_at(anatomy, u, -1) - v, 0.022) * (u < 0)
    left = inside * soft(dome_at(anatomy, u, 1) - v, 0.022) * (u >= 0)
    return (right.astype(np.float32), left.astype(np.float32)), wall


def _body(anatomy: Anatomy, u: Plane, v: Plane) -> Plane:
    away = np.abs(u)
    neck = 0.30 + 1.1 * np.clip(v - 0.01, 0.0, 1.0) + 18.0 * np.clip(v - 0.07, 0.0, 1.0) ** 2
    trunk = anatomy.chest + 0.13 + 1.2 * anatomy.fat + 1.6 * np.clip(0.40 - v, 0.0, 0.3)
    torso = np.minimum(neck, trunk)
    body = soft((torso - away).astype(np.float32), 0.07)
    thickness = 0.52 + anatomy.fat + 0.16 * soft((v - 0.78).astype(np.float32), 0.2)
    return (0.02 + body * (thickness - 0.12 * np.clip(away - 0.45, 0.0, 1.0))).astype(np.float32)


def _vessels(canvas: Canvas, rng: Generator, both: Plane) -> None:
    """Vessels and hila: branching texture that thins out away from the roots of the lungs."""
    shape = (canvas.u.shape[0], canvas.u.shape[1])
    branching = np.abs(smooth_noise(rng, shape, 26)) * 0.5 + np.abs(smooth_noise(rng, shape, 13)) * 0.5
    branching = np.clip(0.75 - branching, 0.0, 1.0)
    radius = np.sqrt((np.abs(canvas.u) - 0.2) ** 2 + (1.6 * (canvas.v - 0.44)) ** 2)
    canvas.density[...] += both * branching * np.clip(0.26 - 0.3 * radius, 0.05, 0.3)
    for side in SIDES:
        hilum = ellipse(canvas, side * 0.2, 0.44 - 0.01 * side, 0.10, 0.075, 1.2)
        canvas.density[...] += 0.13 * hilum * canvas.lung(side)


def _ribs(canvas: Canvas) -> None:
    """Posterior ribs slope down and out, anterior ribs (fainter) down and in; only inside the chest."""
    anatomy = canvas.anatomy
    away = np.abs(canvas.u)
    inside = soft(canvas.chest_wall + 0.03, 0.05) * soft((0.90 - canvas.v).astype(np.float32), 0.1)
    inside *= soft((away - 0.08).astype(np.float32), 0.08)
    arch = 0.10 * away + 0.26 * np.maximum(away - 0.30, 0.0) ** 2 - 0.05 * np.exp(-((away - 0.25) ** 2) / 0.03)
    wave = np.cos(2.0 * np.pi * ((canvas.v - arch) / anatomy.rib_pitch + anatomy.rib_phase))
    canvas.density[...] += 0.055 * inside * soft((wave - 0.25).astype(np.float32), 0.8)
    front = -0.32 * np.maximum(away - 0.2, 0.0) ** 1.5 + 0.36 * away
    wave = np.cos(2.0 * np.pi * ((canvas.v - front) / (1.25 * anatomy.rib_pitch)))
    canvas.density[...] += 0.03 * inside * soft((wave - 0.4).astype(np.float32), 0.8) * (away > 0.25)
    canvas.density[...] += 0.09 * np.exp(-((canvas.chest_wall / 0.035) ** 2)) * (canvas.v < 0.85)


def _middle(canvas: Canvas) -> None:
    """Spine, trachea, great vessels and heart."""
    anatomy, u, v = canvas.anatomy, canvas.u, canvas.v
    density = canvas.density
    edge = anatomy.mediastinum - 0.03 * np.clip(0.3 - v, 0.0, 0.3)
    edge = edge - 0.05 * soft(v - 0.42, 0.1) + 0.012 * np.cos(2.0 * np.pi * v / 0.3)
    middle = soft((edge - np.abs(u - 0.01)).astype(np.float32), 0.06) * (v < 0.95)
    knob = ellipse(canvas, anatomy.mediastinum * 0.85, 0.335, 0.085, 0.06, 0.3)
    arch = np.maximum(middle, knob)
    density += (0.63 - density) * arch * 0.92
    spine = soft((0.085 - np.abs(u)).astype(np.float32), 0.05)
    density += 0.045 * spine * (0.75 + 0.25 * np.cos(2.0 * np.pi * v / 0.062))
    density -= 0.10 * soft((0.045 - np.abs(u)).astype(np.float32), 0.03) * soft((0.40 - v).astype(np.float32), 0.1)
    half_u, half_v = anatomy.heart, 0.155 + 0.22 * (anatomy.heart - 0.28)
    turned = (v - 0.63) - 0.22 * (u - anatomy.heart_u)
    heart = soft(
        (1.0 - np.sqrt(((u - anatomy.heart_u) / half_u) ** 2 + (turned / half_v) ** 2)).astype(np.float32), 0.22
    )
    density += np.maximum(0.62 + 0.05 * heart - density, 0.0) * heart * 0.95
    # What the heart and the great vessels hide is not lung to be seen: findings must not shine through them.
    for lung in canvas.lungs:
        lung *= 1.0 - 0.85 * np.maximum(heart, arch)


def _clavicles(canvas: Canvas) -> None:
    away = np.abs(canvas.u)
    line = canvas.anatomy.apex + 0.085 - 0.22 * np.maximum(away - 0.1, 0.0) + 0.20 * np.maximum(away - 0.42, 0.0) ** 1.5
    bone = 0.017 - np.abs(canvas.v - line)
    band = soft(bone.astype(np.float32), 0.016) * (1.0 - 0.35 * soft((bone - 0.009).astype(np.float32), 0.006))
    reach = soft((away - 0.10).astype(np.float32), 0.05) * soft((0.78 - away).astype(np.float32), 0.1)
    canvas.density[...] += 0.13 * band * reach


def _soft_tissue(canvas: Canvas, rng: Generator) -> None:
    anatomy = canvas.anatomy
    for side in SIDES:
        humerus = ellipse(canvas, side * 1.0, 0.22, 0.13, 0.10, 0.5)
        blade = ellipse(canvas, side * 0.78, 0.30, 0.13, 0.16, 0.4)
        canvas.density[...] += 0.14 * humerus + 0.05 * blade
        if anatomy.breasts > 0.0:
            breast = ellipse(canvas, side * 0.45, 0.66, 0.36, 0.17, 0.3)
            canvas.density[...] += anatomy.breasts * breast
    bubble = ellipse(canvas, 0.42 + 0.05 * float(rng.normal()), anatomy.domes[1] + 0.075, 0.13, 0.045, 0.5)
    below = soft((canvas.v - dome_at(anatomy, canvas.u, 1)).astype(np.float32), 0.03)
    canvas.density[...] -= float(rng.uniform(0.0, 0.25)) * bubble * below
