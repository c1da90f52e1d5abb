"""Findings drawn into a chest, each as it looks on a film, with a mark of where it is.

Every painter takes (canvas, rng, look, strength) and returns marks; ``strength`` scales contrast and grows with the
severity. Findings that change shapes (cardiomegaly, enlarged cardiomediastinum, volume loss) are drawn by
`simulation.synthetic.thorax`; here they only get their mark.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.random import Generator

from simulation.synthetic.findings import OPACITIES, Presentation
from simulation.synthetic.thorax import SIDES, Canvas, Plane, dome_at, ellipse, smooth_noise, soft, wall_at


@dataclass(frozen=True, slots=True)
class Mark:
    """Where a finding is: centre and radius in chest coordinates (``u``, ``v``; the radius in units of ``u``)."""

    finding: str
    u: float
    v: float
    radius: float


Painter = Callable[[Canvas, Generator, Presentation, float], list[Mark]]


def paint_findings(
    canvas: Canvas, rng: Generator, present: frozenset[str], looks: Mapping[str, Presentation], contrast: float
) -> list[Mark]:
    """Draws every finding that is present and returns all marks, in a fixed order.

    Each painter gets a random stream of its own, so that a finding looks the same whatever else is present.
    """
    marks: list[Mark] = []
    seeds = rng.integers(0, 2**63, size=len(_PAINTERS))
    for seed, (finding, painter) in zip(seeds, _PAINTERS.items(), strict=True):
        if finding not in present or (finding == "Lung Opacity" and present.intersection(OPACITIES)):
            continue
        look = looks[finding]
        marks += painter(canvas, np.random.default_rng(int(seed)), look, contrast * (0.65 + 0.7 * look.severity))
    return marks


def _sides(look: Presentation) -> tuple[int, ...]:
    return SIDES if look.side == 0 else (look.side,)


def _lift(canvas: Canvas, shape: Plane, target: float, strength: float) -> None:
    """Fills a shape with fluid or tissue: moves density towards ``target``, never below what is there."""
    weight = np.clip(shape * strength, 0.0, 0.97)
    canvas.density[...] += np.maximum(target - canvas.density, 0.0) * weight


def _effusion(canvas: Canvas, rng: Generator, look: Presentation, strength: float) -> list[Mark]:
    marks = []
    for side in _sides(look):
        depth = 0.05 + 0.12 * look.severity + 0.02 * float(rng.random())
        away = np.abs(canvas.u)
        level = dome_at(canvas.anatomy, canvas.u, side) - 0.12 * np.maximum(away - 0.34, 0.0) - depth * 0.35
        level = level - depth * np.clip((away - 0.15) / 0.55, 0.0, 1.0) ** 2
        shape = soft((canvas.v - level).astype(np.float32), 0.05) * (canvas.u * side > 0)
        shape = shape * soft(canvas.chest_wall, 0.04) * (canvas.v < 0.9)
        _lift(canvas, shape.astype(np.float32), 0.66, 0.95 * min(strength, 1.0))
        marks.append(Mark("Pleural Effusion", side * 0.55, canvas.anatomy.domes[0 if side < 0 else 1] - 0.03, 0.2))
    return marks


def _edema(canvas: Canvas, rng: Generator, look: Presentation, strength: float) -> list[Mark]:
    shape = (canvas.u.shape[0], canvas.u.shape[1])
    fluff = 0.75 + 0.3 * smooth_noise(rng, shape, 12)
    for side in SIDES:
        lung = canvas.lung(side)
        wing = ellipse(canvas, side * 0.30, 0.46, 0.34, 0.22, 1.0)
        canvas.density[...] += strength * 0.12 * wing * lung * np.clip(fluff, 0.2, 1.4)
        lines = np.cos(2.0 * np.pi * canvas.v / 0.026) > 0.55
        edge = soft((0.16 - canvas.chest_wall).astype(np.float32), 0.06) * soft(
            (canvas.v - 0.55).astype(np.float32), 0.05
        )
        canvas.density[...] += strength * 0.06 * lines * edge * lung
        canvas.density[...] += strength * 0.02 * lung
    return [Mark("Edema", side * 0.30, 0.46, 0.32) for side in SIDES]


def _consolidation(canvas: Canvas, rng: Generator, look: Presentation, strength: float) -> list[Mark]:
    side, upper = look.side or 1, rng.random() < 0.75
    u, v = side * (0.40 + 0.05 * float(rng.random())), (0.28 if upper else 0.52) + 0.03 * float(rng.random())
    half = 0.24 + 0.08 * look.severity
    block = ellipse(canvas, u, v, half, half * 0.48, 0.18)
    block = block * soft(((canvas.v - v) * (1 if upper else -1) * -1 + half * 0.36).astype(np.float32), 0.02)
    airways = np.clip(smooth_noise(rng, (canvas.u.shape[0], canvas.u.shape[1]), 30), -1.0, 0.0) * 0.2 + 1.0
    _lift(canvas, (block * airways * canvas.lung(side)).astype(np.float32), 0.62, 0.85 * min(strength, 1.1))
    return [Mark("Consolidation", u, v, half)]


def _pneumonia(canvas: Canvas, rng: Generator, look: Presentation, strength: float) -> list[Mark]:
    side = look.side or -1
    u, v = side * (0.42 + 0.08 * float(rng.random())), 0.56 + 0.06 * float(rng.random())
    patches = np.zeros_like(canvas.density)
    for _ in range(6):
        du, dv, size = rng.normal(0.0, 0.11), rng.normal(0.0, 0.05), rng.uniform(0.10, 0.17)
        patches = np.maximum(patches, ellipse(canvas, u + du, v + dv, size, size * 0.5, 1.1))
    fluff = np.clip(0.85 + 0.45 * smooth_noise(rng, (canvas.u.shape[0], canvas.u.shape[1]), 20), 0.1, 1.5)
    canvas.density[...] += strength * 0.26 * patches * fluff * canvas.lung(side)
    return [Mark("Pneumonia", u, v, 0.26)]


def _opacity(canvas: Canvas, rng: Generator, look: Presentation, strength: float) -> list[Mark]:
    side = look.side or 1
    u, v = side * 0.42, 0.34 + 0.18 * float(rng.random())
    haze = ellipse(canvas, u, v, 0.38, 0.20, 0.8)
    canvas.density[...] += strength * 0.17 * haze * canvas.lung(side)
    return [Mark("Lung Opacity", u, v, 0.32)]


def _lesion(canvas: Canvas, rng: Generator, look: Presentation, strength: float) -> list[Mark]:
    marks = []
    for place in range(1 + int(rng.random() < 0.4)):
        side = look.side if place == 0 and look.side else -look.side or 1
        u, v = side * rng.uniform(0.36, 0.5), rng.uniform(0.36, 0.52)
        radius = 0.085 + 0.055 * look.severity
        nodule = ellipse(canvas, u, v, radius, radius * 0.5, 0.3)
        canvas.density[...] += min(strength, 1.3) * 0.40 * nodule * canvas.lung(side)
        marks.append(Mark("Lung Lesion", float(u), float(v), radius))
    return marks


def _pneumothorax(canvas: Canvas, rng: Generator, look: Presentation, strength: float) -> list[Mark]:
    """Air outside the lung: a dark rim without vessels, a thin bright pleural line, a denser shrunken lung."""
    side = look.side or 1
    gap = 0.12 + 0.14 * look.severity
    lung = canvas.lung(side)
    inner = canvas.chest_wall - gap * np.clip(1.35 - canvas.v, 0.4, 1.2)
    rim = lung * (1.0 - soft(inner.astype(np.float32), 0.02))
    canvas.density[...] += (0.10 - canvas.density) * rim * np.clip(0.75 * strength, 0.0, 0.92)
    line = np.exp(-((inner / 0.018) ** 2)) * lung
    canvas.density[...] += 0.10 * strength * line
    canvas.density[...] += 0.07 * strength * lung * (1.0 - rim)
    edge = float(wall_at(canvas.anatomy, np.full((1, 1), 0.3, np.float32))[0, 0])
    return [Mark("Pneumothorax", side * (edge - gap / 2), 0.30, max(gap, 0.12))]


def _atelectasis(canvas: Canvas, rng: Generator, look: Presentation, strength: float) -> list[Mark]:
    """Plate-like bands above a raised diaphragm."""
    marks = []
    for side in _sides(look):
        dome = canvas.anatomy.domes[0 if side < 0 else 1]
        slope = side * rng.uniform(-0.12, 0.12)
        for height in (0.05, 0.105):
            middle = dome - height + slope * (canvas.u - side * 0.42)
            band = soft((0.014 - np.abs(canvas.v - middle)).astype(np.float32), 0.016)
            reach = soft((0.24 - np.abs(canvas.u - side * 0.42)).astype(np.float32), 0.1)
            canvas.density[...] += 0.26 * min(strength, 1.2) * band * reach * canvas.lung(side)
        marks.append(Mark("Atelectasis", side * 0.42, dome - 0.08, 0.24))
    return marks


def _fracture(canvas: Canvas, rng: Generator, look: Presentation, strength: float) -> list[Mark]:
    """Three neighbouring ribs with a gap, a step and callus near the lateral chest wall."""
    side, anatomy = look.side or 1, canvas.anatomy
    first = rng.uniform(0.38, 0.43)
    marks = []
    for place in range(3):
        v = first + place * anatomy.rib_pitch
        u = side * (float(wall_at(anatomy, np.full((1, 1), v, np.float32))[0, 0]) - 0.075)
        callus = ellipse(canvas, u, v, 0.075, 0.031, 0.6)
        gap = ellipse(canvas, u + side * 0.045, v + 0.012, 0.018, 0.03, 0.8)
        canvas.density[...] += min(strength, 1.3) * (0.32 * callus - 0.20 * gap)
        marks.append(Mark("Fracture", u, v, 0.06))
    return marks


def _pleural_other(canvas: Canvas, rng: Generator, look: Presentation, strength: float) -> list[Mark]:
    """A thick pleura along the side wall and over the apex, with calcified plaques."""
    marks = []
    for side in _sides(look):
        thick = 0.075 + 0.05 * look.severity
        inner = (thick - canvas.chest_wall) * (canvas.u * side > 0)
        rind = soft(inner.astype(np.float32), 0.03) * soft(canvas.chest_wall, 0.03) * soft(0.72 - canvas.v, 0.08)
        _lift(canvas, (rind * (canvas.u * side > 0)).astype(np.float32), 0.62, 0.8 * min(strength, 1.1))
        for _ in range(2):
            plaque = ellipse(canvas, side * rng.uniform(0.3, 0.55), rng.uniform(0.6, 0.68), 0.07, 0.012, 0.7)
            canvas.density[...] += 0.30 * min(strength, 1.2) * plaque * canvas.lung(side)
        marks.append(Mark("Pleural Other", side * (canvas.anatomy.chest - 0.12), 0.5, 0.2))
    return marks


def _devices(canvas: Canvas, rng: Generator, look: Presentation, strength: float) -> list[Mark]:
    """A pacemaker with its lead, or a central line with a tracheal tube; metal is bright on every film."""
    side = look.side or 1
    metal = min(0.5, 0.34 * max(strength, 0.6))
    if rng.random() < 0.55:
        u, v = side * 0.52, 0.245 + 0.02 * float(rng.normal())
        box = soft((0.085 - np.maximum(np.abs(canvas.u - u), 2.0 * np.abs(canvas.v - v))).astype(np.float32), 0.03)
        canvas.density[...] += metal * box
        _wire(canvas, ((u - side * 0.08, v - 0.01), (side * 0.16, 0.20), (-0.05, 0.42), (0.22, 0.68)), metal)
        return [Mark("Support Devices", u, v, 0.1)]
    _wire(canvas, ((0.0, 0.0), (0.01, 0.12), (0.0, 0.24), (0.0, 0.33)), 0.8 * metal)
    _wire(canvas, ((side * 0.42, 0.10), (side * 0.3, 0.17), (-0.1, 0.26), (-0.11, 0.46)), metal)
    if rng.random() < 0.6:
        _wire(canvas, ((-0.75, 0.16), (-0.2, 0.30), (0.35, 0.45), (0.85, 0.72)), 0.8 * metal)
    return [Mark("Support Devices", 0.0, 0.26, 0.16)]


def _wire(canvas: Canvas, points: tuple[tuple[float, float], ...], metal: float) -> None:
    """A bright cubic curve. Sampled as points: the curve's pixels are few, so this is cheaper than a distance field."""
    t = np.linspace(0.0, 1.0, 400)[:, None]
    basis = np.hstack([(1 - t) ** 3, 3 * t * (1 - t) ** 2, 3 * t * t * (1 - t), t**3])
    curve = basis @ np.asarray(points)
    places = np.array([canvas.locate(float(u), float(v)) for u, v in curve[::4]])
    height, width = canvas.density.shape
    line = np.zeros_like(canvas.density)
    dense = np.column_stack([np.interp(np.arange(400), np.arange(0, 400, 4), places[:, k]) for k in (0, 1)])
    columns, rows = (dense[:, 0] * width).astype(int), (dense[:, 1] * height).astype(int)
    thick = max(1, round(height / 100))
    for offset in range(thick + 1):
        for across in range(thick + 1):
            x, y = columns + across, rows + offset
            fits = (x >= 0) & (x < width) & (y >= 0) & (y < height)
            line[y[fits], x[fits]] = 1.0
    canvas.density[...] += metal * line


def _heart(canvas: Canvas, rng: Generator, look: Presentation, strength: float) -> list[Mark]:
    return [Mark("Cardiomegaly", canvas.anatomy.heart_u, 0.63, canvas.anatomy.heart)]


def _wide_mediastinum(canvas: Canvas, rng: Generator, look: Presentation, strength: float) -> list[Mark]:
    return [Mark("Enlarged Cardiomediastinum", 0.0, 0.28, canvas.anatomy.mediastinum + 0.05)]


_PAINTERS: Mapping[str, Painter] = {
    "Cardiomegaly": _heart,
    "Enlarged Cardiomediastinum": _wide_mediastinum,
    "Lung Opacity": _opacity,
    "Edema": _edema,
    "Pneumonia": _pneumonia,
    "Consolidation": _consolidation,
    "Lung Lesion": _lesion,
    "Atelectasis": _atelectasis,
    "Pneumothorax": _pneumothorax,
    "Pleural Other": _pleural_other,
    "Pleural Effusion": _effusion,
    "Fracture": _fracture,
    "Support Devices": _devices,
}
