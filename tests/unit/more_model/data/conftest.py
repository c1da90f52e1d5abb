"""Real files of every kind that the readers take, written small by the libraries that also write them in practice."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

STANDARD = ("I", "II", "III", "aVR", "aVL", "aVF", "V1", "V2", "V3", "V4", "V5", "V6")

WriteDicom = Callable[..., Path]
WriteWfdb = Callable[..., Path]


def _dicom_dataset(pixels: npt.NDArray[Any], elements: dict[str, Any]) -> Any:
    from pydicom.dataset import Dataset, FileMetaDataset
    from pydicom.uid import DigitalXRayImageStorageForPresentation, ExplicitVRLittleEndian, generate_uid

    dataset = Dataset()
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    dataset.file_meta.MediaStorageSOPClassUID = DigitalXRayImageStorageForPresentation
    dataset.file_meta.MediaStorageSOPInstanceUID = generate_uid(entropy_srcs=["a test"])
    dataset.SOPClassUID = dataset.file_meta.MediaStorageSOPClassUID
    dataset.SOPInstanceUID = dataset.file_meta.MediaStorageSOPInstanceUID
    dataset.PatientName, dataset.PatientID = "Secret^Name", "SECRET-ID"
    dataset.Modality, dataset.BodyPartExamined, dataset.ViewPosition = "DX", "CHEST", "PA"
    dataset.Rows, dataset.Columns = pixels.shape[:2]
    dataset.SamplesPerPixel, dataset.PhotometricInterpretation = 1, "MONOCHROME2"
    dataset.BitsAllocated = 8 * pixels.dtype.itemsize
    dataset.BitsStored, dataset.HighBit = dataset.BitsAllocated, dataset.BitsAllocated - 1
    dataset.PixelRepresentation = int(pixels.dtype.kind == "i")
    dataset.PixelData = pixels.tobytes()
    for keyword, value in elements.items():
        if value is None:
            delattr(dataset, keyword)
        else:
            setattr(dataset, keyword, value)
    return dataset


@pytest.fixture
def write_dicom(tmp_path: Path) -> WriteDicom:
    """Writes ``pixels`` as a DICOM radiograph; keyword arguments set elements, None removes them."""

    def write(pixels: npt.NDArray[Any], name: str = "image.dcm", compress: str | None = None, **elements: Any) -> Path:
        import pydicom.config

        path = tmp_path / name
        with pydicom.config.disable_value_validation():
            dataset = _dicom_dataset(pixels, elements)
            if compress is not None:
                dataset.compress(compress, generate_instance_uid=False)
            dataset.save_as(path, enforce_file_format=True)
        return path

    return write


@pytest.fixture
def beating_mv() -> Callable[..., npt.NDArray[np.float64]]:
    """ECG-like millivolts [n_samples, 12]: I, II and the chest leads are free, the other limb leads follow."""

    def make(fs_hz: float = 500.0, seconds: float = 10.0) -> npt.NDArray[np.float64]:
        t = np.arange(round(fs_hz * seconds)) / fs_hz
        beat = np.exp(-0.5 * ((t % 0.8 - 0.4) / 0.02) ** 2)
        lead_i, lead_ii = 0.7 * beat + 0.05 * np.sin(5 * t), 1.1 * beat + 0.04 * np.cos(3 * t)
        limbs = [lead_i, lead_ii, lead_ii - lead_i, -(lead_i + lead_ii) / 2, lead_i - lead_ii / 2, lead_ii - lead_i / 2]
        chest = [(0.4 + 0.25 * number) * beat + 0.03 * np.sin((2 + number) * t) for number in range(6)]
        return np.stack([*limbs, *chest], axis=1)

    return make


@pytest.fixture
def write_wfdb(tmp_path: Path) -> WriteWfdb:
    """Writes millivolts [n_samples, n_leads] as a WFDB record (format 16); returns its path without extension."""

    def write(
        signal_mv: npt.NDArray[np.float64],
        leads: tuple[str, ...] = STANDARD,
        *,
        name: str = "record",
        fs_hz: float = 500.0,
        unit: str = "mV",
        gain: float = 1000.0,
    ) -> Path:
        import wfdb

        count = len(leads)
        wfdb.wrsamp(
            name, fs=fs_hz, units=[unit] * count, sig_name=list(leads), p_signal=signal_mv, fmt=["16"] * count,
            adc_gain=[gain] * count, baseline=[0] * count, write_dir=str(tmp_path),
        )  # fmt: skip
        return tmp_path / name

    return write
