"""ECG records: units, repairs and refusals of the reader."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from more_model.data.ecg import read_ecg
from more_model.data.leads import STANDARD_LEADS
from more_model.errors import InputRefused

Beating = Callable[..., npt.NDArray[np.float64]]
Write = Callable[..., Path]


def refusal_of(path: Path) -> str:
    with pytest.raises(InputRefused) as refused:
        read_ecg(path)
    return refused.value.reason


@pytest.mark.parametrize("extension", ["", ".hea", ".dat"])
def test_any_path_of_a_record_gives_the_same_millivolts(beating_mv: Beating, write_wfdb: Write, extension: str) -> None:
    path = write_wfdb(beating_mv())
    record = read_ecg(path.with_name(path.name + extension))
    assert record.signal_mv.dtype == np.float32 and record.signal_mv.shape == (5000, 12)
    assert record.leads == STANDARD_LEADS and record.fs_hz == 500.0
    np.testing.assert_allclose(record.signal_mv, beating_mv(), atol=6e-4)
    assert record.corrections == ()


@pytest.mark.parametrize(("unit", "factor"), [("mv", 1.0), ("uV", 1e3), ("V", 1e-3)])
def test_units_become_millivolts(beating_mv: Beating, write_wfdb: Write, unit: str, factor: float) -> None:
    record = read_ecg(write_wfdb(beating_mv() * factor, unit=unit, gain=1000.0 / factor))
    np.testing.assert_allclose(record.signal_mv, beating_mv(), atol=6e-4)
    assert record.corrections == (() if unit == "mv" else (f"unit-converted:{unit}",))


def test_a_record_name_with_extension_is_repaired(beating_mv: Beating, write_wfdb: Write) -> None:
    path = write_wfdb(beating_mv())
    header = path.with_suffix(".hea")
    header.write_text(header.read_text().replace("record 12", "record.mat 12", 1))
    before = header.read_bytes()
    record = read_ecg(path)
    np.testing.assert_allclose(record.signal_mv, beating_mv(), atol=6e-4)
    assert record.corrections == ("record-name-repaired",)
    assert header.read_bytes() == before, "the hospital's file must stay as it is"


@pytest.mark.parametrize(("factor", "code"), [(30.0, "amplitude-implausible"), (8.0, "amplitude-unusual")])
def test_a_wrong_gain_is_noted_and_not_guessed_away(
    beating_mv: Beating, write_wfdb: Write, factor: float, code: str
) -> None:
    path = write_wfdb(beating_mv())
    header = path.with_suffix(".hea")
    header.write_text(header.read_text().replace("1000.0(0)/mV", f"{1000 / factor}(0)/mV"))
    record = read_ecg(path)
    assert [note.partition(":")[0] for note in record.corrections] == [code]
    np.testing.assert_allclose(record.signal_mv, factor * beating_mv(), atol=0.02)


def test_a_header_without_gain_says_that_one_was_assumed(beating_mv: Beating, write_wfdb: Write) -> None:
    path = write_wfdb(beating_mv(), gain=200.0)
    header = path.with_suffix(".hea")
    header.write_text(header.read_text().replace("200.0(0)/mV", "0"))
    record = read_ecg(path)
    assert "gain-assumed:200/mV" in record.corrections
    np.testing.assert_allclose(record.signal_mv, beating_mv(), atol=3e-3)


def test_other_channels_and_repeated_leads_are_dropped_by_name(beating_mv: Beating, write_wfdb: Write) -> None:
    names = ("I", "II", "PLETH", "RESP", "ii", "MLII")
    record = read_ecg(write_wfdb(beating_mv()[:, :6], names))
    assert record.leads == ("I", "II", "MLII")
    assert record.corrections == ("channels-dropped:PLETH,RESP", "repeated-lead-dropped:II")


def test_channels_without_volts_are_no_ecg(beating_mv: Beating, write_wfdb: Write) -> None:
    assert refusal_of(write_wfdb(beating_mv()[:, :2], ("I", "II"), unit="mmHg")) == "no-ecg-channels"


def test_invalid_samples_are_nan(beating_mv: Beating, write_wfdb: Write) -> None:
    signal = beating_mv()
    signal[100:120, 3] = np.nan
    record = read_ecg(write_wfdb(signal))
    assert np.isnan(record.signal_mv).sum() == 20 and np.isnan(record.signal_mv[100:120, 3]).all()


def test_only_the_first_ten_minutes_are_read(write_wfdb: Write) -> None:
    signal = np.tile(np.sin(np.arange(50) / 5.0), 13 * 60)[:, None]
    record = read_ecg(write_wfdb(signal, ("II",), fs_hz=50))
    assert record.signal_mv.shape == (600 * 50, 1)
    assert record.corrections == ("read-first:600s",)


def test_a_header_without_length_takes_it_from_the_file(beating_mv: Beating, write_wfdb: Write) -> None:
    path = write_wfdb(beating_mv())
    header = path.with_suffix(".hea")
    header.write_text(header.read_text().replace("record 12 500 5000", "record 12 500", 1))
    assert read_ecg(path).signal_mv.shape == (5000, 12)


@pytest.mark.parametrize("kept_bytes", [0, 1, 5001, 119_999])
def test_a_signal_file_cut_short_is_refused(beating_mv: Beating, write_wfdb: Write, kept_bytes: int) -> None:
    path = write_wfdb(beating_mv())
    signal = path.with_suffix(".dat")
    signal.write_bytes(signal.read_bytes()[:kept_bytes])
    assert refusal_of(path) == "truncated-signal"


def test_absent_files(beating_mv: Beating, write_wfdb: Write, tmp_path: Path) -> None:
    path = write_wfdb(beating_mv())
    path.with_suffix(".dat").unlink()
    assert refusal_of(path) == "missing-signal-file"
    assert refusal_of(tmp_path / "nothing") == "file-not-found"


@pytest.mark.parametrize(
    "text",
    [
        "", "nonsense", "record 12 500 5000\n", "record 0 500 5000\n", "record 2 0 10\nrecord.dat 16\nrecord.dat 16\n",
        "record 1 500 5000\n../../etc/passwd 16 200/mV 16 0 0 0 0 I\n", "record 99999 500 5000\n", "\x00\xff\x00" * 100,
    ],
)  # fmt: skip
def test_broken_headers(tmp_path: Path, text: str) -> None:
    (tmp_path / "record.hea").write_text(text)
    assert refusal_of(tmp_path / "record") in {"bad-header", "missing-signal-file"}


def test_a_header_announcing_terabytes_reserves_none(beating_mv: Beating, write_wfdb: Write) -> None:
    path = write_wfdb(beating_mv())
    header = path.with_suffix(".hea")
    header.write_text(header.read_text().replace(" 5000", " 999999999999", 1))
    assert refusal_of(path) == "truncated-signal"


def _waveform(signal_uv: npt.NDArray[np.int16], names: tuple[str, ...], **overrides: Any) -> Any:
    from pydicom.dataset import Dataset

    group = Dataset()
    group.NumberOfWaveformSamples, group.NumberOfWaveformChannels = signal_uv.shape
    group.SamplingFrequency, group.WaveformBitsAllocated, group.WaveformSampleInterpretation = "500", 16, "SS"
    group.ChannelDefinitionSequence = []
    for name in names:
        channel, source, unit = Dataset(), Dataset(), Dataset()
        source.CodeValue, source.CodingSchemeDesignator, source.CodeMeaning = "x", "99TEST", name
        unit.CodeValue, unit.CodingSchemeDesignator, unit.CodeMeaning = "uV", "UCUM", "microvolt"
        channel.ChannelSourceSequence, channel.ChannelSensitivityUnitsSequence = [source], [unit]
        channel.ChannelSensitivity, channel.ChannelSensitivityCorrectionFactor, channel.ChannelBaseline = (
            "2.5",
            "2",
            "10",
        )
        group.ChannelDefinitionSequence.append(channel)
    group.WaveformData = signal_uv.tobytes()
    group["WaveformData"].VR = "OW"
    for keyword, value in overrides.items():
        setattr(group, keyword, value)
    return group


def test_dicom_waveform_applies_sensitivity_factor_and_baseline(write_dicom: Write) -> None:
    stored = (np.arange(5000, dtype=np.int16)[:, None] % 200).repeat(12, axis=1)
    names = tuple(f"Lead {name}" for name in STANDARD_LEADS)
    short = _waveform(stored[:100], names)
    path = write_dicom(
        np.zeros((1, 1), np.uint8), "ecg.dcm", Modality="ECG", Rows=None, Columns=None, PixelData=None,
        WaveformSequence=[short, _waveform(stored, names)],
    )  # fmt: skip
    record = read_ecg(path)
    assert record.leads == STANDARD_LEADS and record.fs_hz == 500.0
    np.testing.assert_allclose(record.signal_mv, (stored * 2.5 * 2 + 10) / 1000, atol=1e-6)
    assert record.corrections == ("waveform-groups-skipped:1", "unit-converted:uV")


@pytest.mark.parametrize(
    ("overrides", "reason"),
    [
        ({"WaveformData": b"\0" * 100}, "truncated-signal"),
        ({"SamplingFrequency": "0"}, "bad-header"),
        ({"NumberOfWaveformChannels": 11}, "bad-header"),
        ({"WaveformSampleInterpretation": "XX"}, "damaged-signal"),
    ],
)
def test_broken_dicom_waveforms(write_dicom: Write, overrides: dict[str, Any], reason: str) -> None:
    group = _waveform(np.zeros((500, 12), np.int16), STANDARD_LEADS, **overrides)
    path = write_dicom(np.zeros((1, 1), np.uint8), "ecg.dcm", PixelData=None, WaveformSequence=[group])
    assert refusal_of(path) == reason


def test_dicom_waveform_without_sensitivity_has_no_volts(write_dicom: Write) -> None:
    group = _waveform(np.zeros((500, 12), np.int16), STANDARD_LEADS)
    for channel in group.ChannelDefinitionSequence:
        del channel.ChannelSensitivity
    path = write_dicom(np.zeros((1, 1), np.uint8), "ecg.dcm", PixelData=None, WaveformSequence=[group])
    assert refusal_of(path) == "unknown-units"


def test_a_dicom_image_is_no_ecg(write_dicom: Write) -> None:
    assert refusal_of(write_dicom(np.zeros((40, 40), np.uint16))) == "no-waveform"
