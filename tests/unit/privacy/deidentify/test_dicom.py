"""DICOM headers: attributes of the basic profile, hidden places, dates that cannot be real."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pydicom
import pytest
from pydicom.dataset import Dataset

from privacy.deidentify.dicom import CARRIERS, IDENTIFIERS, check_dicom
from privacy.deidentify.finding import counts

MakeHeader = Callable[..., Dataset]


@pytest.fixture
def make_header() -> MakeHeader:
    """A header as a careful export leaves it, with ``values`` laid over it."""

    def make(**values: Any) -> Dataset:
        dataset = Dataset()
        clean = {
            "SOPInstanceUID": "2.25.1", "StudyInstanceUID": "2.25.2", "Modality": "DX", "Manufacturer": "Maker",
            "StudyDate": "", "StudyTime": "101112", "AccessionNumber": "", "PatientName": "", "PatientID": "",
            "PatientSex": "F", "PatientAge": "089Y", "StudyDescription": "CHEST (PA AND LAT)",
            "SoftwareVersions": "10.2.3.4", "BodyPartExamined": "CHEST",
            "BurnedInAnnotation": "NO", "Rows": 8, "Columns": 8,
        }  # fmt: skip
        for keyword, value in {**clean, **values}.items():
            setattr(dataset, keyword, value)
        return dataset

    return make


def test_a_careful_export_is_clean(make_header: MakeHeader) -> None:
    assert check_dicom(make_header()) == []


@pytest.mark.parametrize(
    ("keyword", "value", "kind"),
    [
        ("PatientName", "Doe^Jane", "name"),
        ("ReferringPhysicianName", "Smith^John", "name"),
        ("OperatorsName", ["Removed", "Doe^Jane"], "name"),
        ("PatientID", "1234567", "header-identifier"),
        ("AccessionNumber", "A1", "header-identifier"),
        ("InstitutionName", "General Hospital", "header-identifier"),
        ("DeviceSerialNumber", "77", "header-identifier"),
        ("PatientBirthDate", "19560312", "date"),
        ("StudyDate", "20210304", "date"),
        ("AcquisitionDateTime", "20210304101112.5", "date"),
        ("PatientAge", "093Y", "age-over-89"),
        ("StudyDescription", "CHEST Dr. Smith", "name"),
        ("ImageComments", "call 617-555-1234", "phone"),
        ("PatientComments", "born 12.03.1956", "date"),
        ("BurnedInAnnotation", "YES", "burned-in-flag"),
        ("RecognizableVisualFeatures", "YES", "burned-in-flag"),
    ],
)
def test_what_a_header_must_not_hold(make_header: MakeHeader, keyword: str, value: Any, kind: str) -> None:
    assert counts(check_dicom(make_header(**{keyword: value}))) == {kind: 1}


@pytest.mark.parametrize(
    ("keyword", "value"),
    [
        ("PatientName", "ANONYMOUS"),
        ("PatientName", "___"),
        ("PatientName", "REMOVED^"),
        ("PatientID", "0000"),
        ("InstitutionName", "XXXX"),
        ("StudyDate", "21471230"),
        ("PatientBirthDate", "19000101"),
    ],
)
def test_dummies_shifted_dates_and_years_may_stay(make_header: MakeHeader, keyword: str, value: str) -> None:
    assert check_dicom(make_header(**{keyword: value})) == []


def test_dates_that_the_file_calls_modified_may_stay_and_a_mere_claim_of_removal_changes_nothing(
    make_header: MakeHeader,
) -> None:
    assert check_dicom(make_header(StudyDate="20210304", LongitudinalTemporalInformationModified="MODIFIED")) == []
    claimed = make_header(StudyDate="20210304", PatientID="77", PatientIdentityRemoved="YES")
    assert counts(check_dicom(claimed)) == {"date": 1, "header-identifier": 1}


@pytest.mark.filterwarnings("ignore:Invalid value:UserWarning")
def test_a_date_that_is_none_is_not_explained_away(make_header: MakeHeader) -> None:
    assert counts(check_dicom(make_header(StudyDate="March 2021"))) == {"date": 1}


def test_hidden_places_are_opened(make_header: MakeHeader) -> None:
    nested, code, header = Dataset(), Dataset(), make_header()
    nested.PatientName, nested.StudyDate = "Doe^Jane", "20210304"
    code.CodeValue = "399161006"
    nested.AnatomicRegionSequence = [code]
    header.RequestAttributesSequence = [nested]
    header.OriginalAttributesSequence = [Dataset()]
    header.private_block(0x0019, "A MAKER", create=True).add_new(1, "LO", "Jane Doe")
    header.add_new(0x60003000, "OW", b"\1\2")
    header.add_new(0x60000010, "US", 8)
    header.file_meta = pydicom.dataset.FileMetaDataset()
    header.file_meta.add_new(0x00020102, "OB", b"private")
    found = counts(check_dicom(header))
    assert found == {"date": 1, "header-identifier": 1, "name": 1, "overlay": 1, "private-element": 1}


def test_accepted_keywords_pass_and_no_others(make_header: MakeHeader) -> None:
    header = make_header(PatientID="77", StudyID="8")
    assert counts(check_dicom(header, frozenset({"PatientID"}))) == {"header-identifier": 1}


def test_a_finding_names_the_element_and_not_its_value(make_header: MakeHeader) -> None:
    (finding,) = check_dicom(make_header(PatientName="Doe^Jane"))
    assert finding.place == "(0010,0010) PatientName"


def test_every_listed_keyword_is_in_the_dictionary() -> None:
    assert {keyword for keyword in IDENTIFIERS | CARRIERS if pydicom.datadict.tag_for_keyword(keyword) is None} == set()


@pytest.mark.filterwarnings("ignore")
@pytest.mark.shared_data
@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("RG1_J2KI.dcm", {"date": 5, "header-identifier": 9, "name": 2}),
        ("MR_small.dcm", {"date": 2, "header-identifier": 4, "name": 1}),
        ("image_dfl.dcm", {}),
    ],
)
def test_published_odd_files(shared_data: Path, name: str, expected: dict[str, int]) -> None:
    """The publishers' test names and test dates are real enough for the rules; names and dates are counted a second
    way."""
    header = pydicom.dcmread(shared_data / "odd" / "dicom" / name)
    assert counts(check_dicom(header)) == expected
    filled = [element for element in header.iterall() if any(map(str.isalnum, str(element.value or "")))]
    assert sum(element.VR == "PN" for element in filled) == expected.get("name", 0)
    assert sum(element.VR in {"DA", "DT"} for element in filled) == expected.get("date", 0)


@pytest.mark.shared_data
def test_overlays_and_private_elements_of_a_published_file(shared_data: Path) -> None:
    header = pydicom.dcmread(shared_data / "odd" / "dicom" / "examples_overlay.dcm")
    found = counts(check_dicom(header))
    assert (found["overlay"], found["private-element"]) == (1, 7)
