"""From a drawn chest to the film of one hospital's machine: contrast, blur, noise, border, lettering."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from simulation.synthetic.config import Difficulty, Scanner
from simulation.synthetic.findings import VisitFindings
from simulation.synthetic.lateral import draw_lateral
from simulation.synthetic.lesions import paint_findings
from simulation.synthetic.thorax import Plane, draw_anatomy, draw_chest

#: Chests are drawn at most this large and enlarged afterwards: finer anatomy is not there to be seen.
_DRAWN_PX = 160


@dataclass(frozen=True, slots=True)
class PictureMark:
    """A finding's place in the picture: ``x`` of the width, ``y`` of the height, ``radius`` of the longer side."""

    finding: str
    x: float
    y: float
    radius: float


@dataclass(frozen=True, slots=True)
class Picture:
    """A finished film: ``pixels`` float32 [height, width] in 0..1 (0 air, 1 dense), and where the findings are."""

    pixels: Plane
    marks: tuple[PictureMark, ...]


def picture_shape(longer_px: int, aspect: float) -> tuple[int, int]:
    """(height, width) of a picture whose longer side is ``longer_px`` and whose width / height is ``aspect``."""
    if aspect >= 1.0:
        return max(1, round(longer_px / aspect)), longer_px
    return longer_px, max(1, round(longer_px * aspect))


def take_film(
    rng: Generator,
    scanner: Scanner,
    findings: VisitFindings,
    *,
    view: str,
    sex: str,
    longer_px: int,
    difficulty: Difficulty,
) -> Picture:
    """One film. ``view`` is AP or PA for a frontal film, anything else gives a lateral one (without marks)."""
    shape = picture_shape(longer_px, scanner.aspect)
    drawn = picture_shape(min(longer_px, _DRAWN_PX), scanner.aspect)
    marks: tuple[PictureMark, ...] = ()
    if view in ("AP", "PA"):
        density, marks = _frontal(rng, drawn, findings, view == "AP", sex, difficulty)
    else:
        density = draw_lateral(rng, drawn, findings.present, difficulty.contrast)
    letters = "PORTABLE" if view == "AP" and scanner.ap_rate > 0.5 else scanner.marker
    return Picture(_expose(rng, scanner, density, shape, letters, difficulty.nuisance), marks)


def _frontal(
    rng: Generator,
    shape: tuple[int, int],
    findings: VisitFindings,
    antero_posterior: bool,
    sex: str,
    difficulty: Difficulty,
) -> tuple[Plane, tuple[PictureMark, ...]]:
    present, looks, contrast = findings.present, findings.looks, difficulty.contrast
    anatomy = draw_anatomy(
        rng,
        present,
        looks,
        sex=sex,
        antero_posterior=antero_posterior,
        contrast=contrast,
        nuisance=difficulty.nuisance,
    )
    canvas = draw_chest(rng, anatomy, shape, difficulty.nuisance)
    marks = paint_findings(canvas, rng, present, looks, contrast)
    longer_u = 2.0 * max(shape[1] / shape[0], 1.0)
    scale = canvas.to_picture[0]
    placed = (
        PictureMark(mark.finding, *canvas.locate(mark.u, mark.v), mark.radius * scale / longer_u) for mark in marks
    )
    return canvas.density, tuple(placed)


def _expose(
    rng: Generator, scanner: Scanner, density: Plane, shape: tuple[int, int], letters: str, nuisance: float
) -> Plane:
    vary = rng.normal(0.0, 1.0, 3) * nuisance
    blurred = (max(8, round(density.shape[1] * scanner.sharpness)), max(8, round(density.shape[0] * scanner.sharpness)))
    image = Image.fromarray(density).resize(blurred, Image.Resampling.BILINEAR)
    image = image.resize((shape[1], shape[0]), Image.Resampling.BICUBIC)
    pixels = np.clip(np.asarray(image, dtype=np.float32), 0.0, 1.0)
    pixels = np.clip(pixels / np.float32(0.95), 0.0, 1.0) ** np.float32(scanner.gamma * np.exp(0.08 * vary[0]))
    middle = np.float32(0.45 + 0.03 * vary[1])
    pixels = (pixels - middle) * np.float32(scanner.contrast * np.exp(0.06 * vary[2])) + middle
    noise = rng.standard_normal(shape, dtype=np.float32)
    pixels += noise * np.float32(scanner.noise * nuisance)
    _letter(pixels, letters, rng)
    if scanner.collimation > 0.0:
        _collimate(pixels, scanner.collimation * float(rng.uniform(0.5, 1.3)))
    finished: Plane = np.clip(pixels, 0.0, 1.0).astype(np.float32)
    return finished


def _letter(pixels: Plane, letters: str, rng: Generator) -> None:
    """Lead letters near an upper corner: a clue to the hospital that has nothing to do with disease."""
    if not letters:
        return
    height, width = pixels.shape
    font = ImageFont.load_default_imagefont()
    box = font.getbbox(letters)
    stamp = Image.new("L", (int(box[2]), int(box[3])), 0)
    ImageDraw.Draw(stamp).text((0, 0), letters, fill=255, font=font)
    zoom = 0.045 * height / float(box[3])
    size = (max(1, min(width, round(float(box[2]) * zoom))), max(1, min(height, round(float(box[3]) * zoom))))
    mask: NDArray[np.float32] = np.asarray(stamp.resize(size, Image.Resampling.BILINEAR), dtype=np.float32) / 255.0
    top = min(int(height * (0.03 + 0.04 * float(rng.random()))), height - size[1])
    left = min(int(width * 0.04) if letters == "R" else max(0, int(width * 0.96) - size[0]), width - size[0])
    place = pixels[top : top + size[1], left : left + size[0]]
    place += mask * (np.float32(0.95) - place)


def _collimate(pixels: Plane, share: float) -> None:
    rim = int(share * pixels.shape[1])
    if rim > 0:
        for edge in (pixels[:rim], pixels[-rim:], pixels[:, :rim], pixels[:, -rim:]):
            edge[...] = 0.01
