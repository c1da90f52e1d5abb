"""The researcher's case file: every fault at once, and pictures made anew."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from trees.reader_cases import LABELS, write_cases

from more_model.errors import ConfigError
from more_model.reader_study.cases import labels_of, read_cases
from more_model.reader_study.pictures import draw_ecg, picture_png


def pixels(png: bytes) -> np.ndarray[Any, Any]:
    return np.asarray(Image.open(io.BytesIO(png)))


def test_cases_are_read_with_their_pictures(tmp_path: Path) -> None:
    write_cases(tmp_path)
    cases = read_cases([tmp_path])
    assert labels_of(cases) == list(LABELS)
    assert [case.truth["Edema"] for case in cases] == [0, 1] * 4
    assert cases[1].ecg is None and cases[2].xray is None and cases[2].explanation is None
    # Two cases of one patient are one unit.
    assert cases[0].unit == cases[1].unit != cases[2].unit
    original = np.asarray(Image.open(tmp_path / "secret-file-xray-0.png"))
    assert np.array_equal(pixels(cases[0].xray or b""), original)


def test_a_picture_keeps_its_pixels_and_nothing_else(tmp_path: Path) -> None:
    write_cases(tmp_path, 2)
    path = tmp_path / "secret-file-xray-0.png"
    assert Image.open(path).info == {"Comment": "secret-comment", "icc_profile": b"secret-profile"}
    assert Image.open(io.BytesIO(picture_png(path))).info == {}
    assert max(pixels(picture_png(path, max_side_px=12)).shape) == 12


def test_arrays_and_deep_grey_become_eight_bits(tmp_path: Path) -> None:
    array = np.arange(12, dtype=np.uint8).reshape(3, 4)
    np.save(tmp_path / "a.npy", array)
    assert np.array_equal(pixels(picture_png(tmp_path / "a.npy")), array)
    Image.fromarray(np.array([[1000, 3000], [2000, 1000]], dtype=np.uint16)).save(tmp_path / "deep.png")
    assert pixels(picture_png(tmp_path / "deep.png")).tolist() == [[0, 255], [128, 0]]


def test_ecg_paper_has_the_right_scale() -> None:
    """At 4 pixels per millimetre, 1 mV (10 mm) is 40 pixels high and 2 s (25 mm each) are 200 pixels wide."""
    signal = np.zeros((12, 101))
    signal[0, 50:] = 1.0
    dark = pixels(draw_ecg(signal, 50.0)).astype(int).sum(axis=2) < 150
    lead_i = dark[: 40 + 18 * 4]
    before, after = (np.flatnonzero(lead_i[:, part].any(axis=1)).mean() for part in (np.s_[60:130], np.s_[150:230]))
    assert before - after == pytest.approx(40, abs=1)
    drawn = np.flatnonzero(lead_i[:, 40:].any(axis=0))
    assert np.ptp(drawn) == pytest.approx(200, abs=2)


def test_gaps_in_an_ecg_are_left_open() -> None:
    signal = np.zeros((12, 100))
    signal[:, 40:60] = np.nan
    dark = pixels(draw_ecg(signal, 50.0)).astype(int).sum(axis=2) < 150
    assert not dark[:, 40 + 85 : 40 + 115].any()
    assert dark[:, 40 + 20 : 40 + 70].any()


def test_every_fault_of_every_line_is_told_at_once(tmp_path: Path) -> None:
    write_cases(tmp_path, 2)
    (tmp_path / "broken.png").write_bytes(b"no picture")
    np.save(tmp_path / "short.npy", np.zeros((3, 50)))
    good = {"id": "a", "truth": {"Edema": 1}, "xray": "secret-file-xray-0.png", "probability": {"Edema": 0.5}}
    lines: list[Any] = [
        good,
        {**good, "id": "a"},
        {**good, "id": "b", "truth": {"Edema": 2}},
        {**good, "id": "c", "xray": "broken.png", "ecg": "short.npy", "ecg_rate_hz": 50},
        {**good, "id": "d", "probability": {"Fracture": 0.5}},
        {**good, "id": "e", "probability": {}},
        {**good, "id": "f", "xray": None},
        {**good, "id": "g", "xray": "absent.png"},
        {**good, "id": "h", "ecg": "short.npy"},
        {**good, "id": "i", "pateint": "x"},
        [1],
    ]
    file = tmp_path / "own.jsonl"
    file.write_text("\n".join([*map(json.dumps, lines), "{"]), encoding="utf-8")
    with pytest.raises(ConfigError) as raised:
        read_cases([file, tmp_path / "none.jsonl"])
    faults = "\n".join(raised.value.faults)
    for expected in (
        "own.jsonl:3: truth.Edema",
        "own.jsonl:4: xray: the file is no picture",
        "own.jsonl:4: ecg: an array of float64 [3, 50]",
        "own.jsonl:5: (whole file): probability for Fracture",
        "own.jsonl:6: (whole file): no explanation and no probability",
        "own.jsonl:7: (whole file): no xray, no ecg and no report",
        "own.jsonl:8: xray: there is no such file",
        "own.jsonl:9: (whole file): an ecg as .npy needs ecg_rate_hz",
        "own.jsonl:10: pateint: there is no such setting",
        "own.jsonl:11: each line has to be one JSON object",
        "own.jsonl:12: not well formed",
        "none.jsonl: there is no such file",
        "1 of the ids occur more than once",
    ):
        assert expected in faults
    assert len(raised.value.faults) == 13


def test_a_numeric_patient_is_taken_and_never_shown(tmp_path: Path) -> None:
    write_cases(tmp_path, 2)
    line = {"id": 7, "patient": 10001234, "truth": {"Edema": 1}, "report": "x", "probability": {"Edema": 0.5}}
    (tmp_path / "cases.jsonl").write_text(json.dumps(line), encoding="utf-8")
    assert read_cases([tmp_path])[0].unit == "patient 10001234"
    (tmp_path / "cases.jsonl").write_text("\n".join([json.dumps(line)] * 2), encoding="utf-8")
    with pytest.raises(ConfigError) as raised:
        read_cases([tmp_path])
    assert "10001234" not in str(raised.value)


def test_a_file_without_cases_is_refused(tmp_path: Path) -> None:
    (tmp_path / "cases.jsonl").write_text("\n", encoding="utf-8")
    with pytest.raises(ConfigError, match="there is no case"):
        read_cases([tmp_path])
