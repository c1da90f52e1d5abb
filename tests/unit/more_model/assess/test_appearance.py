"""What an input looks like tells films from other pictures, and twelve leads from noise."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from more_model.assess.appearance import ecg_appearance, xray_appearance
from more_model.assess.domain import Measure
from more_model.assess.reference import Reference
from more_model.data.convert import Converted, convert
from more_model.data.study import Modality, Split, Study


def far(reference: Reference, measure: Measure, rows: np.ndarray) -> float:
    """The share that lies beyond the limit."""
    return float(np.mean([reference.domain.place(measure, row).too_far for row in rows]))


def test_a_film_is_looked_at_on_a_grid() -> None:
    film = np.zeros((1, 32, 32), dtype=np.uint8)
    film[0, :2, 2:4] = 255
    grid = xray_appearance(film).reshape(16, 16)
    assert grid[0, 1] == 1.0
    assert grid.sum() == 1.0


@pytest.mark.parametrize(("rate_hz", "bands"), [(50, 6), (100, 8), (500, 8)])
def test_bands_are_those_that_the_rate_allows(rate_hz: int, bands: int) -> None:
    times = np.arange(10 * rate_hz) / rate_hz
    slow, fast = (np.tile(np.sin(2 * np.pi * hz * times), (1, 12, 1)) for hz in (2.0, 20.0))
    assert ecg_appearance(slow, rate_hz).shape == (1, 2 * bands + 24)
    strongest = [int(ecg_appearance(signal, rate_hz)[0, :bands].argmax()) for signal in (slow, fast)]
    assert strongest == [1, 5]


def test_pictures_that_are_no_upright_film(reference: Reference, prepared: Any) -> None:
    examples = prepared.cohort.examples.of_split(Split.TEST)
    rows = [row for row, triplet in enumerate(examples.triplets) if triplet.xray is not None]
    films = examples.xrays(rows).numpy()
    changed = {
        "as it is": films,
        "inverted": 255 - films,
        "upside down": films[:, ::-1],
        "on its side": np.rot90(films, axes=(1, 2)),
        "noise": np.random.default_rng(0).integers(0, 255, films.shape),
        "grey": np.full(films.shape, 128),
    }
    shares = {name: far(reference, Measure.XRAY_APPEARANCE, xray_appearance(one)) for name, one in changed.items()}
    assert shares.pop("as it is") <= 0.2
    assert min(shares.values()) >= 0.9, shares


def test_tracings_that_are_no_ecg_at_the_right_gain(reference: Reference, prepared: Any) -> None:
    examples = prepared.cohort.examples.of_split(Split.TEST)
    rows = [row for row, triplet in enumerate(examples.triplets) if triplet.ecg is not None]
    tracings = examples.ecgs(rows).numpy()
    rate_hz = prepared.trained.config.preprocessing.ecg_rate_hz
    noise = np.random.default_rng(0).normal(0, 0.3, tracings.shape)
    changed = {
        "as it is": tracings,
        "gain of ten": 10 * tracings,
        "noise": noise,
        "one lead only": tracings[:, [0] * 12],
    }
    shares = {
        name: far(reference, Measure.ECG_APPEARANCE, ecg_appearance(one, rate_hz)) for name, one in changed.items()
    }
    assert shares.pop("as it is") <= 0.2
    assert min(shares.values()) >= 0.8, shares


@pytest.mark.shared_data
def test_real_studies_are_strange_to_a_synthetic_cohort(reference: Reference, prepared: Any, shared_data: Path) -> None:
    """A model that has seen generated patients only must not speak about these."""
    shares = {}
    for modality, table in ((Modality.XRAY, "xray/xray_images.csv"), (Modality.ECG, "ecg/ecg_records.csv")):
        with (shared_data / table).open(encoding="utf-8", newline="") as stream:
            paths = [shared_data / row["path"] for row in csv.DictReader(stream)]
        chosen = paths[:: len(paths) // 20][:20]
        read = [
            convert(Study(modality, "", "", "", source=path), prepared.trained.config.preprocessing) for path in chosen
        ]
        arrays = np.stack([one.array for one in read if isinstance(one, Converted) and one.array is not None])
        if modality is Modality.XRAY:
            shares["xray"] = far(reference, Measure.XRAY_APPEARANCE, xray_appearance(arrays))
        else:
            rate_hz = prepared.trained.config.preprocessing.ecg_rate_hz
            shares["ecg"] = far(reference, Measure.ECG_APPEARANCE, ecg_appearance(arrays, rate_hz))
    assert shares["xray"] >= 0.9, shares
    assert shares["ecg"] >= 0.5, shares
