"""DICOM chest films as hospitals send them: CR or DX, 12 bits stored in 16, with a window, de-identified."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import (
    UID,
    ComputedRadiographyImageStorage,
    DigitalXRayImageStorageForPresentation,
    ExplicitVRLittleEndian,
)

from simulation.synthetic.config import Scanner
from simulation.synthetic.patient import Film, Patient, Visit
from simulation.synthetic.thorax import Plane

#: Stored value of air and span from air to metal, in 12-bit units.
_AIR, _SPAN = 240, 3600
_TOP = 4095


def store_values(pixels: Plane, photometric: str) -> np.ndarray[tuple[int, int], np.dtype[np.uint16]]:
    """Picture in 0..1 (0 air) -> 12-bit stored values; MONOCHROME1 stores air as the largest value."""
    values = np.rint(_AIR + _SPAN * pixels).astype(np.uint16)
    if photometric == "MONOCHROME1":
        values = (_TOP - values).astype(np.uint16)
    return np.ascontiguousarray(values)


def write_film(path: Path, pixels: Plane, patient: Patient, visit: Visit, film: Film) -> None:
    """Writes one DICOM file for ``pixels`` float32 [height, width] in 0..1."""
    scanner = patient.hospital.scanner
    dataset = Dataset()
    dataset.file_meta = _file_meta(scanner, film)
    _describe_study(dataset, patient, visit, film, scanner)
    _describe_pixels(dataset, pixels, scanner)
    dataset.save_as(path, enforce_file_format=True)


def _uid(text: str) -> UID:
    """A UID made from a hash under the 2.25 root (UUID-derived UIDs, DICOM PS3.5 annex B)."""
    return UID(f"2.25.{int.from_bytes(hashlib.sha256(text.encode()).digest()[:15], 'big')}")


def _file_meta(scanner: Scanner, film: Film) -> FileMetaDataset:
    meta = FileMetaDataset()
    meta.FileMetaInformationVersion = b"\x00\x01"
    is_cr = scanner.modality == "CR"
    meta.MediaStorageSOPClassUID = ComputedRadiographyImageStorage if is_cr else DigitalXRayImageStorageForPresentation
    meta.MediaStorageSOPInstanceUID = _uid(film.dicom_id)
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    meta.ImplementationClassUID = _uid("synthetic chest film writer")
    meta.ImplementationVersionName = "SYNTHETIC_1"
    return meta


def _describe_study(dataset: Dataset, patient: Patient, visit: Visit, film: Film, scanner: Scanner) -> None:
    dataset.SpecificCharacterSet = "ISO_IR 100"
    dataset.ImageType = ["ORIGINAL", "PRIMARY"]
    dataset.SOPClassUID = dataset.file_meta.MediaStorageSOPClassUID
    dataset.SOPInstanceUID = dataset.file_meta.MediaStorageSOPInstanceUID
    dataset.StudyDate = visit.film_time.strftime("%Y%m%d")
    dataset.StudyTime = visit.film_time.strftime("%H%M%S.%f")[:10]
    dataset.AccessionNumber = ""
    dataset.Modality = scanner.modality
    dataset.Manufacturer = scanner.manufacturer
    dataset.ManufacturerModelName = scanner.model_name
    dataset.InstitutionName = ""
    dataset.ReferringPhysicianName = ""
    dataset.StudyDescription = "SYNTHETIC CHEST"
    dataset.PatientName = ""
    dataset.PatientID = str(patient.subject_id)
    dataset.PatientBirthDate = ""
    dataset.PatientSex = patient.sex
    dataset.PatientIdentityRemoved = "YES"
    dataset.DeidentificationMethod = "synthetic: never belonged to a person"
    dataset.BodyPartExamined = "CHEST"
    dataset.ViewPosition = film.view
    dataset.StudyInstanceUID = _uid(f"study/{visit.film_study_id}")
    dataset.SeriesInstanceUID = _uid(f"series/{film.dicom_id}")
    dataset.StudyID = str(visit.film_study_id)
    dataset.SeriesNumber = 1
    dataset.InstanceNumber = 1
    dataset.PatientOrientation = ["L", "F"] if film.view in ("AP", "PA") else ["P", "F"]


def _describe_pixels(dataset: Dataset, pixels: Plane, scanner: Scanner) -> None:
    values = store_values(pixels, scanner.photometric)
    inverted = scanner.photometric == "MONOCHROME1"
    dataset.SamplesPerPixel = 1
    dataset.PhotometricInterpretation = scanner.photometric
    dataset.Rows, dataset.Columns = values.shape
    dataset.PixelSpacing = [round(400.0 / max(values.shape), 4)] * 2
    dataset.BitsAllocated, dataset.BitsStored, dataset.HighBit = 16, 12, 11
    dataset.PixelRepresentation = 0
    centre = _AIR + _SPAN // 2
    dataset.WindowCenter = _TOP - centre if inverted else centre
    dataset.WindowWidth = _SPAN
    dataset.PresentationLUTShape = "INVERSE" if inverted else "IDENTITY"
    dataset.BurnedInAnnotation = "NO"
    dataset.LossyImageCompression = "00"
    dataset.PixelData = values.astype("<u2").tobytes()
