"""X-rays and ECGs are drawn to scale and lose nothing that matters."""

from __future__ import annotations

import base64
import io
import re

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from more_model.report.studies import ecg_paper, ecg_strip, png_data_uri

MM_PER_MV = 10.0


@pytest.fixture(scope="module")
def ecg_mv() -> NDArray[np.float32]:
    """float32 [12, 1000] at 100 Hz: a beat with an R peak of 1.2 mV in lead II every 0.8 s."""
    beat = (np.arange(1000) / 100 % 0.8) - 0.3
    wave = 1.2 * np.exp(-((beat / 0.015) ** 2)) - 0.25 * np.exp(-(((beat - 0.04) / 0.015) ** 2))
    scale = np.array([0.7, 1.0, 0.4, -0.8, 0.3, 0.7, -0.5, 0.5, 0.9, 1.3, 1.1, 0.8])
    return np.asarray(scale[:, None] * wave[None, :], dtype=np.float32)


def _traces(svg: str) -> list[list[list[tuple[float, float]]]]:
    """Per trace, its unbroken runs of points in millimetres."""
    paths = re.findall(r'<path d="(M[^"]*)" fill="none" stroke="#10151d"', svg)
    runs = [[run for run in path.split("M") if run] for path in paths]
    return [[[tuple(map(float, point.split())) for point in run.split("L")] for run in path] for path in runs]  # type: ignore[misc]


def test_picture_keeps_its_pixels() -> None:
    pixels = np.arange(12, dtype=np.uint8).reshape(3, 4) * 20
    packed = base64.b64decode(png_data_uri(pixels).removeprefix("data:image/png;base64,"))
    assert np.array_equal(np.asarray(Image.open(io.BytesIO(packed))), pixels)


def test_twelve_leads_and_a_rhythm_strip_to_scale(ecg_mv: NDArray[np.float32]) -> None:
    svg = ecg_paper(ecg_mv, 100, "e")
    traces = _traces(svg)
    assert len(traces) == 13
    names = re.findall(r">([IVaRLF0-9]+)</text>", svg)
    assert names == ["I", "aVR", "V1", "V4", "II", "aVL", "V2", "V5", "III", "aVF", "V3", "V6", "II"]
    rhythm = traces[-1][0]
    assert len(rhythm) == 1000
    assert rhythm[-1][0] - rhythm[0][0] == pytest.approx(9.99 * 25.0, abs=0.02)
    heights = [y for _, y in rhythm]
    assert max(heights) - min(heights) == pytest.approx(float(np.ptp(ecg_mv[1])) * MM_PER_MV, abs=0.02)


def test_upward_is_positive(ecg_mv: NDArray[np.float32]) -> None:
    rhythm = _traces(ecg_paper(ecg_mv, 100, "e"))[-1][0]
    peak = int(np.argmax(ecg_mv[1]))
    assert rhythm[peak][1] == min(y for _, y in rhythm)


def test_fast_record_is_thinned_without_losing_the_r_peak() -> None:
    signal = np.zeros((12, 5000))
    signal[1, 2503] = 2.0
    signal[1, 2511] = -0.7
    rhythm = _traces(ecg_paper(signal, 500, "e"))[-1][0]
    heights = [y for _, y in rhythm]
    assert len(rhythm) <= 1500
    assert max(heights) - min(heights) == pytest.approx(2.7 * MM_PER_MV, abs=0.02)
    assert [x for x, _ in rhythm] == sorted(x for x, _ in rhythm)


@pytest.mark.parametrize("rate_hz", [100, 500])
def test_missing_samples_leave_a_gap(rate_hz: int) -> None:
    signal = np.zeros((12, 10 * rate_hz))
    signal[1, 5 * rate_hz : 6 * rate_hz] = np.nan
    signal[1, 0] = np.inf
    runs = _traces(ecg_paper(signal, rate_hz, "e"))[-1]
    assert len(runs) == 2
    assert runs[1][0][0] - runs[0][-1][0] == pytest.approx(25.0, abs=0.7)


@pytest.mark.parametrize("fill", [0.0, np.nan])
def test_flat_or_empty_record_is_drawn(fill: float) -> None:
    svg = ecg_paper(np.full((12, 500), fill), 100, "e")
    assert "nan" not in svg
    assert 'viewBox="0 0 137 92"' in svg


def test_half_precision_as_stored(ecg_mv: NDArray[np.float32]) -> None:
    rhythm = _traces(ecg_paper(ecg_mv.astype(np.float16), 100, "e"))[-1][0]
    assert len(rhythm) == 1000


def test_a_strip_is_the_rhythm_lead_of_the_whole_paper(ecg_mv: NDArray[np.float32]) -> None:
    (strip,) = _traces(ecg_strip(ecg_mv, 100, "s"))
    rhythm = _traces(ecg_paper(ecg_mv, 100, "e"))[-1]
    assert [x for x, _ in strip[0]] == [x for x, _ in rhythm[0]]
    heights = [y for _, y in strip[0]]
    assert max(heights) - min(heights) == pytest.approx(float(np.ptp(ecg_mv[1])) * MM_PER_MV, abs=0.02)
