"""DICOM instances as a PACS sends them: a small chest film and a short 12-lead ECG, of people who never lived."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from pydicom.dataset import Dataset

_LEADS = {"I": "1", "II": "2", "III": "61", "aVR": "62", "aVL": "63", "aVF": "64"} | {
    f"V{number}": str(number + 2) for number in range(1, 7)
}


def film_instance(number: int, *, px: int = 40, **elements: Any) -> Dataset:
    """A DX image; keywords set elements, None removes them."""
    from pydicom.uid import DigitalXRayImageStorageForPresentation

    dataset = _instance(number, DigitalXRayImageStorageForPresentation, "DX")
    dataset.BodyPartExamined, dataset.ViewPosition = "CHEST", "PA"
    pixels = (np.add.outer(np.arange(px), np.arange(px) + number) % 4096).astype(np.uint16)
    dataset.Rows, dataset.Columns = pixels.shape
    dataset.SamplesPerPixel, dataset.PhotometricInterpretation = 1, "MONOCHROME2"
    dataset.BitsAllocated, dataset.BitsStored, dataset.HighBit, dataset.PixelRepresentation = 16, 12, 11, 0
    dataset.PixelData = pixels.tobytes()
    return _with(dataset, elements)


def ecg_instance(number: int, **elements: Any) -> Dataset:
    """A 12-lead ECG of ten seconds at 100 Hz, in microvolts."""
    from pydicom.dataset import Dataset
    from pydicom.uid import TwelveLeadECGWaveformStorage

    dataset = _instance(number, TwelveLeadECGWaveformStorage, "ECG")
    samples = np.round(500 * np.sin(np.arange(1000)[:, None] / (5.0 + np.arange(12)))).astype("<i2")
    group = Dataset()
    group.NumberOfWaveformSamples, group.NumberOfWaveformChannels = samples.shape
    group.SamplingFrequency, group.WaveformBitsAllocated, group.WaveformSampleInterpretation = "100", 16, "SS"
    group.MultiplexGroupTimeOffset, group.WaveformOriginality = "0", "ORIGINAL"
    group.ChannelDefinitionSequence = [_channel(code, lead) for lead, code in _LEADS.items()]
    group.add_new("WaveformData", "OW", samples.tobytes())
    dataset.WaveformSequence = [group]
    return _with(dataset, elements)


def _channel(code: str, lead: str) -> Dataset:
    channel, source, unit = (_dataset() for _ in range(3))
    source.CodeValue, source.CodingSchemeDesignator, source.CodeMeaning = f"5.6.3-9-{code}", "SCPECG", f"Lead {lead}"
    unit.CodeValue, unit.CodingSchemeDesignator, unit.CodeMeaning = "uV", "UCUM", "microvolt"
    channel.ChannelSourceSequence, channel.ChannelSensitivityUnitsSequence = [source], [unit]
    channel.ChannelSensitivity, channel.ChannelSensitivityCorrectionFactor, channel.ChannelBaseline = "1", "1", "0"
    channel.WaveformBitsStored = 16
    return channel


def _dataset() -> Dataset:
    from pydicom.dataset import Dataset

    return Dataset()


def _instance(number: int, storage_class: str, modality: str) -> Dataset:
    from pydicom.dataset import FileMetaDataset
    from pydicom.uid import ExplicitVRLittleEndian

    dataset = _dataset()
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    dataset.SOPClassUID, dataset.SOPInstanceUID = storage_class, f"2.25.{1000 + number}"
    dataset.StudyInstanceUID, dataset.SeriesInstanceUID = f"2.25.{2000 + number}", f"2.25.{3000 + number}"
    dataset.PatientID, dataset.AccessionNumber = f"pseudonym-{number}", f"A{number}"
    dataset.StudyDate, dataset.StudyTime, dataset.Modality = "21840301", "101500", modality
    return dataset


def _with(dataset: Dataset, elements: dict[str, Any]) -> Dataset:
    for keyword, value in elements.items():
        if value is None:
            delattr(dataset, keyword)
        else:
            setattr(dataset, keyword, value)
    return dataset
