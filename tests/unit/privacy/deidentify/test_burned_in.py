"""Writing in the pixels: drawn lines are found near every edge, side markers are not, and neither is anatomy."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont
from scipy import ndimage

from privacy.deidentify.burned_in import _highest, _lowest, check_pixels

Picture = NDArray[np.uint16]
SIZE = 512
EDGES = {"top left": (20, 20), "top right": (330, 24), "bottom": (160, 480), "left": (8, 250)}


@pytest.fixture
def film() -> Picture:
    """A bright middle with ribs and noise, 12 bits."""
    draw = np.random.default_rng(4)
    y, x = np.mgrid[0:SIZE, 0:SIZE] / SIZE
    body = np.exp(-((x - 0.5) ** 2) / 0.08 - (y - 0.5) ** 2 / 0.15)
    ribs = 0.08 * np.sin(40 * (y + 0.5 * (x - 0.5) ** 2)) * body
    return (np.clip(0.4 + 0.3 * body + ribs + draw.normal(0, 0.015, x.shape), 0, 1) * 4095).astype(np.uint16)


def written(
    picture: Picture, text: str, place: tuple[int, int], px: int, value: int = 4095, *, soft: bool = False
) -> Picture:
    """``soft``: with smoothed edges, as a viewer draws."""
    mask = Image.new("L", picture.shape[::-1])
    ImageDraw.Draw(mask).text(place, text, fill=255, font=ImageFont.load_default(px))
    ink = np.asarray(mask) / 255
    ink = ink if soft else np.rint(ink)
    return np.rint(picture * (1 - ink) + value * ink).astype(np.uint16)


@pytest.mark.parametrize("value", [0, 4095], ids=["black", "white"])
@pytest.mark.parametrize("px", [12, 16, 24])
@pytest.mark.parametrize("edge", EDGES)
@pytest.mark.parametrize("soft", [False, True], ids=["hard", "soft"])
def test_a_line_of_text_near_an_edge_is_found(film: Picture, edge: str, px: int, value: int, soft: bool) -> None:
    findings = check_pixels(written(film, "SCHMIDT 12.03.", EDGES[edge], px, value, soft=soft))
    assert findings and {finding.kind for finding in findings} == {"burned-in-text"}


def test_text_that_runs_upwards_is_found_and_so_is_inverted_or_coloured_text(film: Picture) -> None:
    picture = written(film, "SCHMIDT MARIA", (40, 20), 16)
    assert check_pixels(np.ascontiguousarray(np.rot90(picture)))
    assert check_pixels(4095 - picture)
    assert check_pixels(np.repeat((picture // 16).astype(np.uint8)[..., None], 3, axis=-1))


def test_the_place_is_where_the_text_stands(film: Picture) -> None:
    (finding,) = check_pixels(written(film, "SCHMIDT", (20, 30), 16))
    rows, columns = (part.split()[1].split("-") for part in finding.place.split(", "))
    assert 28 <= int(rows[0]) < int(rows[1]) <= 48
    assert 18 <= int(columns[0]) < int(columns[1]) <= 110


def test_one_frame_of_several_is_named(film: Picture) -> None:
    (finding,) = check_pixels(np.stack([film, written(film, "SCHMIDT", (20, 30), 16)]))
    assert finding.place.startswith("frame 1, rows ")


@pytest.mark.parametrize("text", ["L", "R", "AP", "PA", "LAT"])
@pytest.mark.parametrize("px", [16, 24])
def test_side_markers_and_projections_are_tolerated(film: Picture, text: str, px: int) -> None:
    assert check_pixels(written(film, text, (30, 30), px)) == []


def test_a_film_without_writing_is_clean_also_with_defective_pixels_and_wires(film: Picture) -> None:
    assert check_pixels(film) == []
    film[5:400:80, 7] = 65535
    film[100:480, 60:62] = 4095
    assert check_pixels(film) == []


def test_known_limits_stay_known(film: Picture) -> None:
    """Documented as not found: in the middle, in giant letters, in low contrast."""
    assert check_pixels(written(film, "SCHMIDT", (220, 240), 16)) == []
    assert check_pixels(written(film, "SCHM", (20, 20), 60)) == []
    assert check_pixels(written(film, "SCHMIDT", (20, 20), 16, value=1900)) == []


@pytest.mark.parametrize("shape", [(0, 5), (4,), (2, 2, 2, 2)])
def test_what_is_no_picture_counts_as_unreadable(shape: tuple[int, ...]) -> None:
    assert [finding.kind for finding in check_pixels(np.zeros(shape))] == ["unreadable"]
    assert [finding.kind for finding in check_pixels(np.full((4, 4), np.nan))] == ["unreadable"]


@pytest.mark.parametrize("shape", [(1, 1), (3, 3), (40, 7)])
def test_tiny_and_even_pictures_are_clean(shape: tuple[int, int]) -> None:
    assert check_pixels(np.ones(shape)) == []


@pytest.mark.parametrize("shape", [(40, 61), (7, 90), (3, 3)])
@pytest.mark.parametrize("size", [3, 7, 31])
def test_sliding_extremes_equal_those_of_scipy(shape: tuple[int, int], size: int) -> None:
    picture = np.random.default_rng(1).integers(0, 256, shape, dtype=np.uint8)
    assert np.array_equal(_lowest(picture, size), ndimage.minimum_filter(picture, size=size))
    assert np.array_equal(_highest(picture, size), ndimage.maximum_filter(picture, size=size))


@pytest.mark.shared_data
def test_published_films(shared_data: Path, checkout: Path) -> None:
    """The teaching cases carry a caption with the uploader's name and a date in small print; the films of children
    from Guangzhou carry nothing but side markers."""
    folder = shared_data / "xray" / "images"

    def share_flagged(site: str, count: int) -> float:
        paths = sorted((folder / site).glob("*.*"))[:count]
        assert len(paths) == count
        return sum(bool(check_pixels(np.asarray(Image.open(path)))) for path in paths) / count

    assert share_flagged("vqarad", 12) == 1.0
    assert share_flagged("gwcmc", 40) == 0.0
