"""WFDB and DICOM files, read back with the packages that everyone uses."""

from __future__ import annotations

import numpy as np
import pydicom
import wfdb
from PIL import Image

from simulation.synthetic.heart import MIMIC_LEADS
from simulation.synthetic.wfdb_file import MISSING, digitise, write_record


def made_up_leads() -> np.ndarray:
    return np.random.default_rng(0).normal(0.0, 0.4, (8, 5000)).astype(np.float32)


def test_wfdb_reads_back_every_unit(tmp_path):
    units = digitise(made_up_leads())
    write_record(tmp_path, "40000001", units)
    record = wfdb.rdrecord(str(tmp_path / "40000001"), physical=False)
    np.testing.assert_array_equal(record.d_signal.T, units)
    assert [stated % 65536 for stated in record.checksum] == [value % 65536 for value in record.calc_checksum()]
    assert tuple(record.sig_name) == MIMIC_LEADS
    assert MIMIC_LEADS[3:6] == ("aVR", "aVF", "aVL")
    assert (record.fs, record.sig_len, set(record.fmt), set(record.adc_gain)) == (500, 5000, {"16"}, {200.0})
    physical = wfdb.rdrecord(str(tmp_path / "40000001"))
    assert set(physical.units) == {"mV"}
    np.testing.assert_allclose(physical.p_signal[:, 6], made_up_leads()[2], atol=0.5 / 200 + 1e-6)


def test_missing_samples_are_nan(tmp_path):
    units = digitise(made_up_leads())
    units[4, 100:150] = MISSING
    write_record(tmp_path, "40000002", units)
    signal = wfdb.rdrecord(str(tmp_path / "40000002")).p_signal
    assert np.isnan(signal[100:150, 4]).all()
    assert np.isnan(signal).sum() == 50


def test_limb_leads_obey_einthoven_and_goldberger(written_cohort):
    for path in written_cohort.table("mimic-iv-ecg/record_list.csv")["path"][:8]:
        record = wfdb.rdrecord(str(written_cohort.root / "mimic-iv-ecg" / path))
        lead = dict(zip(record.sig_name, record.p_signal.T, strict=True))
        good = ~np.isnan(record.p_signal).any(axis=1)
        half_unit = 0.5 / 200 + 1e-9
        for derived, expected in (
            ("III", lead["II"] - lead["I"]),
            ("aVR", -(lead["I"] + lead["II"]) / 2),
            ("aVL", lead["I"] - lead["II"] / 2),
            ("aVF", lead["II"] - lead["I"] / 2),
        ):
            assert np.abs(lead[derived] - expected)[good].max() <= half_unit
        assert np.ptp(lead["V5"][good]) > 0.2


def test_some_records_have_missing_samples_and_none_is_empty(written_cohort):
    paths = written_cohort.table("mimic-iv-ecg/record_list.csv")["path"]
    signals = [wfdb.rdrecord(str(written_cohort.root / "mimic-iv-ecg" / path)).p_signal for path in paths]
    share = [float(np.isnan(signal).mean()) for signal in signals]
    assert any(share)
    assert max(share) < 0.01
    assert all(np.nanstd(signal) > 0.02 for signal in signals)


def test_dicom_shows_the_same_picture_as_the_jpeg(written_cohort):
    seen = set()
    for path in sorted((written_cohort.root / "mimic-cxr").rglob("*.dcm")):
        film = pydicom.dcmread(path)
        seen.add((film.PhotometricInterpretation, film.Modality))
        assert (film.BitsStored, film.HighBit, film.PixelRepresentation) == (12, 11, 0)
        values = film.pixel_array.astype(float)
        assert values.max() <= 4095
        low = film.WindowCenter - film.WindowWidth / 2
        shown = np.clip((values - low) / film.WindowWidth, 0.0, 1.0)
        if film.PhotometricInterpretation == "MONOCHROME1":
            shown = 1.0 - shown
        jpeg = written_cohort.root / "mimic-cxr-jpg" / path.relative_to(written_cohort.root / "mimic-cxr")
        expected = np.asarray(Image.open(jpeg.with_suffix(".jpg")), dtype=float) / 255.0
        assert np.abs(shown - expected).mean() < 0.02
        assert np.corrcoef(shown.ravel(), expected.ravel())[0, 1] > 0.98
    assert {("MONOCHROME1", "CR"), ("MONOCHROME2", "DX")} <= seen


def test_dicom_is_deidentified_and_says_that_it_is_synthetic(written_cohort):
    film = pydicom.dcmread(next((written_cohort.root / "mimic-cxr").rglob("*.dcm")))
    assert not film.PatientName
    assert not film.PatientBirthDate
    assert film.PatientIdentityRemoved == "YES"
    assert "synthetic" in film.DeidentificationMethod
    assert film.BodyPartExamined == "CHEST"
    assert film.SOPInstanceUID == film.file_meta.MediaStorageSOPInstanceUID
    assert film.SOPInstanceUID.is_valid
