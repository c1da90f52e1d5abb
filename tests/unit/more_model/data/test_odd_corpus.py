"""The unusual and broken files of other projects: each gives the right array or the right refusal, by name."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Final

import numpy as np
import pytest

from more_model.data.ecg import read_ecg, standardise_ecg
from more_model.data.examine import examine
from more_model.data.inspect import inspect_files
from more_model.data.leads import STANDARD_LEADS
from more_model.data.xray import read_xray, to_square
from more_model.errors import InputRefused

pytestmark = pytest.mark.shared_data

#: file -> what training says (empty: accepted), and the shape of the pixels or why there are none.
IMAGES: Final[dict[str, tuple[str, tuple[int, int] | str]]] = {
    "RG1_J2KI.dcm": ("", (1955, 1841)),
    "RG3_J2KI.dcm": ("not-a-chest", (1760, 1760)),
    "chrJapMulti.dcm": ("no-pixel-data", "no-pixel-data"),
    "MR_small.dcm": ("not-a-radiograph", (64, 64)),
    "MR_small_bigendian.dcm": ("not-a-radiograph", (64, 64)),
    "MR_small_implicit.dcm": ("not-a-radiograph", (64, 64)),
    "MR_small_RLE.dcm": ("not-a-radiograph", (64, 64)),
    "MR_small_jpeg_ls_lossless.dcm": ("not-a-radiograph", (64, 64)),
    "MR_small_jp2klossless.dcm": ("not-a-radiograph", (64, 64)),
    "MR_small_padded.dcm": ("not-a-radiograph", (64, 64)),
    "MR_truncated.dcm": ("not-a-radiograph", "truncated-pixels"),
    "image_dfl.dcm": ("not-a-radiograph", (512, 512)),
    "no_meta.dcm": ("unknown-format", "unknown-format"),
    "meta_missing_tsyntax.dcm": ("unknown-transfer-syntax", "unknown-transfer-syntax"),
    "no_meta_group_length.dcm": ("unknown-modality", "no-pixel-data"),
    "ExplVR_BigEnd.dcm": ("not-a-radiograph", (60, 80)),
    "ExplVR_BigEndNoMeta.dcm": ("no-dicom-header", "no-dicom-header"),
    "SC_rgb_rle_2frame.dcm": ("not-a-radiograph", "multi-frame"),
    "SC_ybr_full_422_uncompressed.dcm": ("not-a-radiograph", (100, 100)),
    "SC_rgb_jpeg_dcmtk.dcm": ("not-a-radiograph", (100, 100)),
    "SC_rgb_small_odd.dcm": ("not-a-radiograph", "too-small"),
    "examples_palette.dcm": ("not-a-radiograph", (350, 800)),
    "examples_ybr_color.dcm": ("not-a-radiograph", "multi-frame"),
    "examples_overlay.dcm": ("not-a-radiograph", (300, 484)),
    "J2K_pixelrep_mismatch.dcm": ("not-a-radiograph", (512, 512)),
    "JPGExtended.dcm": ("not-a-radiograph", (1024, 256)),
    "JPEG-lossy.dcm": ("not-a-radiograph", "damaged-pixels"),
    "JPEG2000.dcm": ("not-a-radiograph", (1024, 256)),
    "JPEG2000-embedded-sequence-delimiter.dcm": ("not-a-radiograph", "damaged-pixels"),
    "JPEGLSNearLossless_16.dcm": ("unknown-modality", "too-small"),
    "badVR.dcm": ("not-a-radiograph", "bad-header"),
    "rtdose_rle.dcm": ("not-a-radiograph", "multi-frame"),
    "rtplan_truncated.dcm": ("not-a-radiograph", "no-pixel-data"),
    "test-SR.dcm": ("not-a-radiograph", "no-pixel-data"),
    "UN_sequence.dcm": ("unknown-modality", "no-pixel-data"),
    "empty_charset_LEI.dcm": ("unknown-modality", "no-pixel-data"),
    "DICOMDIR": ("unknown-modality", "no-pixel-data"),
    "emri_small.dcm": ("not-a-radiograph", "multi-frame"),
    "emri_small_jpeg_ls_lossless.dcm": ("not-a-radiograph", "multi-frame"),
    "emri_small_jpeg_2k_lossless_too_short.dcm": ("not-a-radiograph", "multi-frame"),
    "liver.dcm": ("not-a-radiograph", "multi-frame"),
    "OT-PAL-8-face.dcm": ("no-dicom-header", "no-dicom-header"),
    "HTJ2KLossless_08_RGB.dcm": ("unknown-modality", (480, 640)),
    "JLSL_16_15_1_1F.dcm": ("unknown-modality", (128, 128)),
    "JPEG-LL.dcm": ("not-a-radiograph", (1024, 256)),
    "bad_sequence.dcm": ("not-a-radiograph", (512, 512)),
    "explicit_VR-UN.dcm": ("not-a-radiograph", (512, 512)),
    "vlut_04.dcm": ("not-a-radiograph", (512, 512)),
    "waveform_ecg.dcm": ("not-a-radiograph", "no-pixel-data"),
}

#: record -> (samples, leads) and rate of what is read, or why not; and what training says (empty: accepted).
RECORDS: Final[dict[str, tuple[tuple[int, int, float] | str, str]]] = {
    "binformats": ((499, 10, 200.0), "missing-leads"),
    "flacformats": ((499, 3, 200.0), "missing-leads"),
    "mixedsignals": ((57600, 3, 249.89), "missing-leads"),
    "310derive": ((1026, 2, 250.0), "missing-leads"),
    "311derive_2": ((1020, 1, 360.0), "missing-leads"),
    "100_3chan": ((999, 3, 360.0), "missing-leads"),
    "3000003_0003": ((1028, 2, 125.0), "missing-leads"),
    "test01_00s": ((4000, 4, 500.0), "missing-leads"),
    "test01_00s_frame": ((4000, 3, 500.0), "missing-leads"),
    "test01_00s_skew": ((4000, 4, 500.0), "missing-leads"),
    "041s/041s": ((8000, 3, 500.0), "missing-leads"),
    "s0010_re": ((38400, 15, 1000.0), ""),
    "a103l-no-len": ((82500, 2, 250.0), "missing-leads"),
    "wrong_header/E00001": ((5000, 12, 500.0), ""),
    "wrong_header/HR00002": ((5000, 12, 500.0), ""),
    "wrong_header/I0001": ("missing-signal-file", "missing-signal-file"),
    "two_leads/JS20002": ((5000, 2, 500.0), "missing-leads"),
    "six_leads/JS20002": ((5000, 6, 500.0), "missing-leads"),
    "three_leads/E07520": ((5000, 3, 500.0), "missing-leads"),
    "twelve_leads/JS20005": ((5000, 12, 500.0), ""),
    "null": ("bad-header", "bad-header"),
    "ahatape": ("bad-header", "bad-header"),
    "test": ((5000, 12, 500.0), ""),
}


@pytest.fixture
def odd(shared_data: Path) -> Path:
    return shared_data / "odd"


def test_every_file_of_the_corpus_is_expected(odd: Path) -> None:
    with (odd / "manifest.csv").open(newline="", encoding="utf-8") as file:
        listed = {row["file"] for row in csv.DictReader(file)}
    expected = {f"odd/dicom/{name}" for name in IMAGES} | {f"odd/wfdb/{name}.hea" for name in RECORDS}
    assert listed == expected and len(listed) == 72


@pytest.mark.parametrize("name", IMAGES)
def test_dicom_files(odd: Path, name: str) -> None:
    training, pixels = IMAGES[name]
    path = odd / "dicom" / name
    if training:
        with pytest.raises(InputRefused, match=r"\w{4,}") as refused:
            read_xray(path)
        assert refused.value.reason == training
    else:
        assert read_xray(path).facts["modality"] == "CR"
    if isinstance(pixels, str):
        with pytest.raises(InputRefused) as refused:
            read_xray(path, allow_non_chest=True)
        assert refused.value.reason == pixels
        return
    image = read_xray(path, allow_non_chest=True)
    assert image.pixels.shape == pixels and image.pixels.dtype == np.float32
    assert np.isfinite(image.pixels).all() and image.pixels.min() >= 0.0 and image.pixels.max() <= 1.0
    assert np.ptp(image.pixels) > 0.2
    assert to_square(image.pixels, 224).std() > 5.0


@pytest.mark.parametrize("encoding", ["bigendian", "implicit", "RLE", "jpeg_ls_lossless", "jp2klossless", "padded"])
def test_one_image_in_seven_encodings_is_one_array(odd: Path, encoding: str) -> None:
    plain = read_xray(odd / "dicom/MR_small.dcm", allow_non_chest=True)
    other = read_xray(odd / f"dicom/MR_small_{encoding}.dcm", allow_non_chest=True)
    np.testing.assert_array_equal(other.pixels, plain.pixels)


def test_the_chest_image_has_dark_air_and_bright_bone(odd: Path) -> None:
    """MONOCHROME1: the stored values of air outside the body are high; after reading they must be dark."""
    import pydicom

    image = read_xray(odd / "dicom/RG1_J2KI.dcm")
    stored = pydicom.dcmread(odd / "dicom/RG1_J2KI.dcm").pixel_array.astype(float)
    assert np.corrcoef(image.pixels[::8, ::8].ravel(), stored[::8, ::8].ravel())[0, 1] < -0.99
    assert image.corrections == ("voi-window", "monochrome1-inverted")
    np.testing.assert_allclose(image.pixels, 1 - np.clip((stored - 14999.5) / 29999 + 0.5, 0, 1), atol=1e-5)


def test_both_colour_encodings_show_the_same_bars(odd: Path) -> None:
    compressed = read_xray(odd / "dicom/SC_rgb_jpeg_dcmtk.dcm", allow_non_chest=True).pixels
    subsampled = read_xray(odd / "dicom/SC_ybr_full_422_uncompressed.dcm", allow_non_chest=True).pixels
    assert np.abs(compressed - subsampled).mean() < 0.01


@pytest.mark.parametrize("name", RECORDS)
def test_wfdb_records(odd: Path, name: str) -> None:
    read, training = RECORDS[name]
    path = odd / "wfdb" / name
    if isinstance(read, str):
        with pytest.raises(InputRefused) as refused:
            read_ecg(path)
        assert refused.value.reason == read
        return
    record = read_ecg(path)
    assert (*record.signal_mv.shape, round(record.fs_hz, 3)) == read
    assert len(record.leads) == read[1] and np.isfinite(record.signal_mv).mean() > 0.95
    if training:
        with pytest.raises(InputRefused) as refused:
            standardise_ecg(record, rate_hz=100, seconds=10, scaling="millivolt")
        assert refused.value.reason == training
        return
    standard = standardise_ecg(record, rate_hz=100, seconds=10, scaling="millivolt")
    assert standard.signal.shape == (12, 1000) and np.isfinite(standard.signal).all()
    assert standard.signal.std(axis=1).min() > 0.0


def test_signals_are_those_of_the_reference_reader(odd: Path) -> None:
    """wfdb's own physical values, through its simplest call; one record per group of storage formats."""
    import wfdb

    for name in ("binformats", "flacformats", "100_3chan", "test", "twelve_leads/JS20005", "s0010_re"):
        reference = wfdb.rdrecord(str(odd / "wfdb" / name)).p_signal
        np.testing.assert_allclose(read_ecg(odd / "wfdb" / name).signal_mv, reference, rtol=1e-6, equal_nan=True)


def test_fast_channels_keep_their_own_rate(odd: Path) -> None:
    """In 041s the ECG has four samples per frame of 125 Hz; averaging them would blur every QRS complex."""
    record = read_ecg(odd / "wfdb/041s/041s")
    assert record.leads == ("III", "I", "V") and record.fs_hz == 500.0
    assert record.corrections == ("channels-dropped:ABP,PAP,PLETH,RESP",)


def test_swapped_leads_are_sorted_by_name(odd: Path) -> None:
    record = read_ecg(odd / "wfdb/test")
    assert record.leads[3:6] == ("aVR", "aVF", "aVL")
    signal = standardise_ecg(record, rate_hz=500, seconds=10, scaling="millivolt").signal
    by_name = dict(zip(STANDARD_LEADS, signal, strict=True))
    # Goldberger's equation holds only if aVF really is aVF.
    error = by_name["aVF"] - (by_name["II"] - by_name["I"] / 2)
    assert np.abs(error - np.median(error)).max() < 0.02
    assert np.abs(by_name["aVL"] - by_name["aVF"]).max() > 0.5


def test_wrong_gains_are_flagged(odd: Path) -> None:
    low, high = read_ecg(odd / "wfdb/wrong_header/E00001"), read_ecg(odd / "wfdb/wrong_header/HR00002")
    assert low.corrections == ("record-name-repaired", "amplitude-unusual:0.191mV")
    assert high.corrections == ("amplitude-unusual:9.61mV",)


def test_dicom_waveform_is_twelve_leads_in_millivolts(odd: Path) -> None:
    record = read_ecg(odd / "dicom/waveform_ecg.dcm")
    assert record.leads == STANDARD_LEADS and record.signal_mv.shape == (10000, 12) and record.fs_hz == 1000.0
    # Einthoven: the units are right only if the leads still add up, and a resting QRS is of the order of 1 mV.
    error = record.signal_mv[:, 1] - record.signal_mv[:, 0] - record.signal_mv[:, 2]
    assert np.abs(error).max() < 0.01
    assert 0.5 < np.ptp(record.signal_mv[:, 1]) < 5.0


def test_one_ecg_in_two_containers(shared_data: Path) -> None:
    """s0010_re (15 leads, 2000 units per mV) was republished as S0001 (12 leads, 1000 units per mV, unit "mv")."""
    original = read_ecg(shared_data / "odd/wfdb/s0010_re")
    copy = read_ecg(shared_data / "ecg/challenge/cinc-ptb/S0001")
    np.testing.assert_allclose(copy.signal_mv, original.signal_mv[:, :12], atol=1.1e-3)


def test_inspection_of_the_whole_corpus_ends_in_verdicts(odd: Path) -> None:
    """Through the bounded process, as a user does; also the files that the manifest does not list."""
    paths = sorted(path for path in odd.rglob("*") if path.is_file() and path.name != "manifest.csv")
    verdicts = list(inspect_files(paths, timeout_s=60.0))
    assert len(verdicts) == len(paths) > 100
    ours = {"reader-failed", "reader-crashed", "timeout", "too-much-memory", "missing-package"}
    assert not [verdict for verdict in verdicts if verdict.reason in ours]
    assert all(verdict.accepted != bool(verdict.reason) for verdict in verdicts)
    accepted = {verdict.name for verdict in verdicts if verdict.accepted and verdict.kind == "xray"}
    assert accepted == {"RG1_J2KI.dcm"}


def test_a_dicom_directory_is_called_one(odd: Path) -> None:
    assert examine(odd / "dicom/DICOMDIR")["reason"] == "dicom-directory"
