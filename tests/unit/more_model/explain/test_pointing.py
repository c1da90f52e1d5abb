"""Circles in the square picture, hits and chance."""

from __future__ import annotations

import gzip
from pathlib import Path

import numpy as np
import pytest

from more_model.data.xray import to_square
from more_model.errors import DataError
from more_model.explain.pointing import Circle, Film, centre_hits, chance, covered, points_at, read_lesions


def test_a_lesion_lies_where_the_resized_picture_has_it() -> None:
    pixels = np.zeros((100, 60), dtype=np.float32)
    pixels[70:80, 40:50] = 1.0
    film = Film(100, 60, {"Lung Lesion": [(45 / 60, 75 / 100, 5 / 100)]})
    square = to_square(pixels, 50)
    (circle,) = film.circles("Lung Lesion", 50)
    down, across = np.nonzero(square > 128)
    assert circle == Circle(10 + 22.5, 37.5, 2.5)
    assert (across.mean() + 0.5, down.mean() + 0.5) == pytest.approx((circle.x, circle.y), abs=0.5)
    assert film.circles("Edema", 50) == ()


def test_padding_is_no_picture() -> None:
    film = Film(100, 60, {})
    inside = film.picture(50)
    assert inside.sum() == 50 * 30
    assert not inside[:, :10].any()
    assert inside[:, 10:40].all()


def test_a_circle_covers_the_pixels_whose_centres_are_in_it() -> None:
    region = covered([Circle(2.0, 2.0, 1.0)], 4)
    assert region.tolist() == [[False] * 4, [False, True, True, False], [False, True, True, False], [False] * 4]
    assert covered([Circle(2.0, 2.0, 1.0)], 4, tolerance_px=2.0).all()
    assert chance(region, np.ones((4, 4), dtype=bool)) == 0.25
    picture = np.zeros((4, 4), dtype=bool)
    picture[1:3] = True
    assert chance(region, picture) == 0.5
    assert centre_hits(region) == 1.0


def test_the_highest_place_decides() -> None:
    region = covered([Circle(2.0, 2.0, 1.0)], 4)
    heat = np.zeros((4, 4))
    heat[1, 2] = 1.0
    assert points_at(heat, region) == 1.0
    heat[0, 0] = 2.0
    assert points_at(heat, region) == 0.0
    assert points_at(np.ones((4, 4)), region) == 0.25, "an even map hits as often as chance"


def write_tables(folder: Path, lesions: str, sizes: str) -> Path:
    table = folder / "mimic-cxr-jpg" / "mimic-cxr-2.0.0-metadata.csv.gz"
    table.parent.mkdir()
    with gzip.open(table, "wt", encoding="utf-8") as file:
        file.write(f"dicom_id,Rows,Columns\n{sizes}\n")
    (folder / "synthetic_lesions.csv").write_text(f"dicom_id,finding,x,y,radius\n{lesions}\n", encoding="utf-8")
    return folder / "synthetic_lesions.csv"


def test_lesions_are_read_with_the_size_of_their_film(tmp_path: Path) -> None:
    path = write_tables(
        tmp_path, "a,Edema,0.3,0.5,0.1\na,Edema,0.7,0.5,0.1\na,Fracture,0.1,0.2,0.02", "a,120,100\nb,9,9"
    )
    assert read_lesions(path) == {
        "a": Film(120, 100, {"Edema": [(0.3, 0.5, 0.1), (0.7, 0.5, 0.1)], "Fracture": [(0.1, 0.2, 0.02)]})
    }


@pytest.mark.parametrize(
    ("lesions", "sizes", "message"),
    [("a,Edema,left,0.5,0.1", "a,1,1", "must be a number"), ("a,Edema,0.1,0.5,0.1", "b,1,1", "names films that")],
)
def test_tables_that_do_not_fit_are_refused(tmp_path: Path, lesions: str, sizes: str, message: str) -> None:
    with pytest.raises(DataError, match=message):
        read_lesions(write_tables(tmp_path, lesions, sizes))
