"""DICOM headers: attributes of the basic confidentiality profile that still hold a value, and what hides elsewhere.

DICOM PS3.15 annex E, table E.1-1, in groups:
- person names (every element of type PN) and the identifiers below: any value but a dummy is a finding;
- dates (every element of type DA or DT): a finding, unless the file says that they were modified or removed
  (0028,0303), or the date lies in the future or before 1901, as shifted and dummy dates do;
- free text (descriptions, comments): not its presence but its content, by the rules for reports;
- private elements, overlays, curves, an icon, digital signatures: findings, nobody can know what they hold;
- the flags "burned-in annotation" and "recognizable visual features".

Unique identifiers and times of day are not findings: a replaced UID looks like a real one, and a time without its date
names nobody. Neither is the statement "patient identity removed" believed.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, Final

from privacy.deidentify.finding import Finding
from privacy.deidentify.reports import check_report

if TYPE_CHECKING:
    from pydicom.dataelem import DataElement
    from pydicom.dataset import Dataset

IDENTIFIERS: Final = frozenset(
    {
        "PatientID", "OtherPatientIDs", "OtherPatientIDsSequence", "IssuerOfPatientID", "PatientAddress",
        "PatientTelephoneNumbers", "PatientTelecomInformation", "CountryOfResidence", "RegionOfResidence",
        "Occupation", "MilitaryRank", "BranchOfService", "PatientReligiousPreference", "MedicalRecordLocator",
        "ReferencedPatientSequence", "InsurancePlanIdentification", "PatientInsurancePlanCodeSequence",
        "PatientPrimaryLanguageCodeSequence", "PatientInstitutionResidence", "CurrentPatientLocation",
        "ResponsibleOrganization", "AccessionNumber", "StudyID", "AdmissionID", "IssuerOfAdmissionID",
        "ServiceEpisodeID", "IssuerOfServiceEpisodeID", "FillerOrderNumberImagingServiceRequest",
        "PlacerOrderNumberImagingServiceRequest", "RequestedProcedureID", "ScheduledProcedureStepID",
        "PerformedProcedureStepID", "InstitutionName", "InstitutionAddress", "InstitutionalDepartmentName",
        "InstitutionCodeSequence", "StationName", "ScheduledStationName", "PerformedStationName",
        "StationAETitle", "ScheduledStationAETitle", "PerformedStationAETitle", "RetrieveAETitle",
        "PerformedLocation", "RequestingService", "DeviceSerialNumber", "PlateID", "DetectorID", "CassetteID",
        "GantryID", "GeneratorID", "CollimatorGridName", "OperatorIdentificationSequence",
        "PhysiciansOfRecordIdentificationSequence", "PerformingPhysicianIdentificationSequence",
        "PhysiciansReadingStudyIdentificationSequence", "ReferringPhysicianIdentificationSequence",
        "RequestingPhysicianIdentificationSequence", "ReferringPhysicianAddress",
        "ReferringPhysicianTelephoneNumbers", "PersonAddress", "PersonTelephoneNumbers",
        "PersonIdentificationCodeSequence", "CustodialOrganizationSequence", "VerifyingOrganization",
        "OrderCallbackPhoneNumber", "OrderEnteredBy", "OrderEntererLocation",
        "NamesOfIntendedRecipientsOfResults", "DistributionAddress", "ContactDisplayName",
        "ClinicalTrialSubjectID", "ClinicalTrialSiteID", "ClinicalTrialSiteName", "UniqueDeviceIdentifier",
    }
)  # fmt: skip
#: Hidden copies of other elements or of the picture, whatever they hold.
CARRIERS: Final = frozenset(
    {
        "DigitalSignaturesSequence", "EncryptedAttributesSequence", "OriginalAttributesSequence",
        "ModifiedAttributesSequence", "IconImageSequence", "EncapsulatedDocument",
    }
)  # fmt: skip

_FLAGS: Final = ("BurnedInAnnotation", "RecognizableVisualFeatures")
_FREE_TEXT: Final = frozenset({"LO", "SH", "ST", "LT", "UT", "UC"})
#: Numbers by nature, which the rules for reports would take for record numbers or network addresses.
_CODES: Final = frozenset({"CodeValue", "LongCodeValue", "CodingSchemeVersion", "SoftwareVersions"})
_DUMMIES: Final = frozenset(
    {"anonymous", "anonymized", "anonymised", "anon", "removed", "redacted", "none", "unknown", "na"}
)
_FIRST_REAL_YEAR: Final = 1901
_OLDEST_STATED_AGE: Final = 89


def check_dicom(dataset: Dataset, accepted: frozenset[str] = frozenset()) -> list[Finding]:
    """What may name somebody in a header, nested sequences and file meta included.

    ``accepted``: keywords that the site has looked at and lets pass, such as PatientID where it holds a pseudonym. An
    element whose value cannot be read counts as unreadable. Pixels are not looked at; see `check_pixels`.
    """
    dates_modified = _text(dataset, "LongitudinalTemporalInformationModified") in {"modified", "removed"}
    findings = [
        finding
        for element, place in _elements(dataset)
        if element.keyword not in accepted
        for finding in _element_findings(element, place, dates_modified)
    ]
    findings += [
        Finding("burned-in-flag", keyword)
        for keyword in _FLAGS
        if keyword not in accepted and _text(dataset, keyword) == "yes"
    ]
    return findings


def _elements(dataset: Dataset) -> Iterator[tuple[Any, str]]:
    """Every element with where it stands, sequences opened; one that cannot be parsed as `_Unreadable`."""
    for part in (getattr(dataset, "file_meta", None), dataset):
        if part is not None:
            yield from _walk(part, "")


def _walk(dataset: Dataset, parents: str) -> Iterator[tuple[Any, str]]:
    for tag in sorted(dataset.keys()):
        place = f"{parents}({tag >> 16:04x},{tag & 0xFFFF:04x})"
        try:
            element = dataset[tag]
            items = list(element.value or ()) if element.VR == "SQ" else []
        except Exception:  # noqa: BLE001 - pydicom raises nearly everything on damaged values; each one counts
            yield _Unreadable(), place
            continue
        yield element, f"{place} {element.keyword}".strip()
        for item in items:
            yield from _walk(item, f"{place} > ")


class _Unreadable:
    """Stands for an element whose value cannot be parsed."""

    keyword = ""


def _element_findings(element: DataElement | _Unreadable, place: str, dates_modified: bool) -> list[Finding]:
    if isinstance(element, _Unreadable):
        return [Finding("unreadable", place)]
    group, number = element.tag.group, element.tag.elem
    if element.tag.is_private:
        is_creator = 0x10 <= number <= 0xFF
        return [] if is_creator or element.is_empty else [Finding("private-element", place)]
    if group & 0xFF01 in {0x5000, 0x6000} and not element.is_empty:
        # Overlays (60xx,3000) and curves (50xx,3000) are pictures of their own; their other elements are numbers.
        return [Finding("overlay", place)] if number == 0x3000 else []
    if element.is_empty or group == 0x7FE0:
        return []
    if element.keyword in CARRIERS:
        return [Finding("header-identifier", place)]
    return _value_findings(element, place, dates_modified)


def _value_findings(element: DataElement, place: str, dates_modified: bool) -> list[Finding]:
    values = [str(value) for value in element.value] if element.VM > 1 and element.VR != "SQ" else [str(element.value)]
    if element.VR == "PN":
        return [] if all(map(_is_dummy, values)) else [Finding("name", place)]
    if element.keyword in IDENTIFIERS:
        return [] if element.VR != "SQ" and all(map(_is_dummy, values)) else [Finding("header-identifier", place)]
    if element.VR in {"DA", "DT"}:
        return [Finding("date", place)] if not dates_modified and any(map(_may_be_real, values)) else []
    if element.VR == "AS":
        return [Finding("age-over-89", place)] if any(map(_is_over_89, values)) else []
    if element.VR in _FREE_TEXT and element.keyword not in _CODES:
        return [Finding(found.kind, f"{place}, {found.place}") for value in values for found in check_report(value)]
    return []


def _is_dummy(value: str) -> bool:
    """Empty, underscores and the like, or a word that says that something was removed."""
    letters = "".join(character for character in value.lower() if character.isalnum())
    return not letters or letters in _DUMMIES or set(letters) <= {"0"} or set(letters) <= {"x"}


def _may_be_real(value: str) -> bool:
    digits = value.strip().replace(".", "").replace("-", "")[:8]
    if not digits:
        return False
    tomorrow = (datetime.now(UTC) + timedelta(days=1)).strftime("%Y%m%d")
    # A year alone may stay; what is no date at all is not explained away.
    if digits.isdecimal() and len(digits) == len("YYYY"):
        return False
    return not (digits.isdecimal() and (digits > tomorrow or int(digits[:4]) < _FIRST_REAL_YEAR))


def _is_over_89(value: str) -> bool:
    age = value.strip().upper()
    return age.endswith("Y") and age[:-1].isdecimal() and int(age[:-1]) > _OLDEST_STATED_AGE


def _text(dataset: Dataset, keyword: str) -> str:
    try:
        return str(dataset.get(keyword) or "").strip().lower()
    except Exception:  # noqa: BLE001 - counted as unreadable where its element is walked over
        return ""
