"""Reports from FHIR R4 DiagnosticReport resources (https://hl7.org/fhir/R4/diagnosticreport.html).

Only reports that somebody has signed are taken: final, and what follows on final. A report is tied to its X-ray or ECG
by the accession number, or by the study instance UID, as DICOM and the table of the other source state them.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Final, Literal

from pydantic import BaseModel, ConfigDict

from more_model.data.csv_columns import parse_times
from more_model.data.fhir_files import Resource, dictionaries, fhir_files, read_resources
from more_model.data.fhir_text import report_words
from more_model.data.reading import Reading
from more_model.data.study import Modality, Study
from more_model.errors import InputRefused

#: ``appended`` is a kind of ``amended`` in the code system: a final report with an addition.
SIGNED: Final = frozenset({"final", "amended", "corrected", "appended"})

#: Identifier type "accession ID" (http://terminology.hl7.org/CodeSystem/v2-0203).
_ACCESSION: Final = "ACSN"
#: How DICOM identifies a study in FHIR: this system, and ``urn:oid:`` before the UID.
_DICOM_UID: Final = "urn:dicom:uid"
_DAY_CHARACTERS: Final = len("2024-01-31")
_INDEXED: Final = frozenset({"Patient", "ImagingStudy", "ServiceRequest"})


class FhirRule(BaseModel):
    """How to read the reports of one export.

    ``describes``: what the reports are about. ``patient_system``: the identifier system of the patient ids that the
    other sources use (default: the id of the Patient resource). ``group``: what ties report and study;
    ``accession_system``: the identifier system of accession numbers that are not typed as such. ``codes``: takes only
    reports with one of these codes in ``category`` or ``code``. Prefixes as in a table mapping.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    path: Path
    describes: Literal["xray", "ecg"]
    patient_system: str = ""
    patient_prefix: str = ""
    group: Literal["accession", "study-uid"] = "accession"
    accession_system: str = ""
    study_prefix: str = ""
    codes: tuple[str, ...] = ()
    language: str = ""


@dataclass(slots=True)
class _Export:
    """What was read so far: the newest version of each report, and the resources that reports point at."""

    reports: dict[str, Resource] = field(default_factory=dict)
    index: dict[str, Resource] = field(default_factory=dict)
    counts: Counter[str] = field(default_factory=Counter)


def read_fhir(rule: FhirRule) -> Reading:
    """The signed reports of an export, in order of first appearance.

    Counted and left out: damaged-file, damaged-line, too-large, superseded (an older version), filtered-out,
    not-signed, no-patient, no-examination, and the reasons of `report_words`. ``time-unreadable`` reports are kept.
    Raises `DataError` where there is no FHIR file.
    """
    export = _Export()
    for file in fhir_files(rule.path):
        for resource, url in read_resources(file, export.counts):
            _take(export, resource, url)
    studies: list[Study] = []
    stamps: list[str] = []
    for key, report in export.reports.items():
        try:
            studies.append(_study(rule, export.index, key, report))
            stamps.append(_stamp(report))
        except InputRefused as error:
            export.counts[error.reason] += 1
    export.counts["report"] = len(studies)
    return Reading(_with_times(studies, stamps, export.counts), dict(export.counts))


def _take(export: _Export, resource: Resource, url: str) -> None:
    kind, own = str(resource.get("resourceType")), str(resource.get("id") or "")
    if kind == "DiagnosticReport":
        key = own or hashlib.sha256(repr(resource).encode("utf-8", "surrogatepass")).hexdigest()[:16]
        before = export.reports.get(key)
        export.counts["superseded"] += before is not None
        if before is None or _version(resource) >= _version(before):
            export.reports[key] = resource
    elif kind in _INDEXED:
        # Of the rest nothing but identifiers is needed, and an export may hold millions.
        kept = {"identifier": resource.get("identifier"), "id": own}
        export.index.update({name: kept for name in (f"{kind}/{own}" if own else "", url) if name})


def _version(resource: Resource) -> str:
    meta = resource.get("meta")
    return str(meta.get("lastUpdated") or "") if isinstance(meta, dict) else ""


def _study(rule: FhirRule, index: Mapping[str, Resource], key: str, report: Resource) -> Study:
    if rule.codes and not set(rule.codes) & _codes(report):
        raise InputRefused("filtered-out", "The report has none of the codes asked for.")
    if report.get("status") not in SIGNED:
        raise InputRefused("not-signed", "The report is not final.")
    patient = _patient(rule, index, report)
    group = _examination(rule, index, report)
    language = rule.language or str(report.get("language") or "")
    return Study(
        modality=Modality.REPORT,
        study_id=f"{rule.study_prefix}{rule.describes}-{key}",
        patient_id=f"{rule.patient_prefix}{patient}",
        group_id=f"{rule.study_prefix}{group}",
        text=report_words(report),
        describes=Modality(rule.describes),
        attributes={"language": language} if language else {},
    )


def _codes(report: Resource) -> set[str]:
    concepts = [*dictionaries(report.get("category")), *dictionaries(report.get("code"))]
    return {str(coding.get("code")) for concept in concepts for coding in dictionaries(concept.get("coding"))}


def _patient(rule: FhirRule, index: Mapping[str, Resource], report: Resource) -> str:
    subject = report.get("subject")
    if not isinstance(subject, dict):
        raise InputRefused("no-patient", "The report names no patient.")
    found = _resolved(subject, index, report)
    if rule.patient_system:
        stated = [*dictionaries(subject.get("identifier")), *dictionaries((found or {}).get("identifier"))]
        patient = _of_system(stated, rule.patient_system)
    else:
        patient = _own_id(subject, found)
    if not patient:
        raise InputRefused("no-patient", "The report names no patient by the identifier asked for.")
    return patient


def _examination(rule: FhirRule, index: Mapping[str, Resource], report: Resource) -> str:
    references = [*dictionaries(report.get("imagingStudy")), *dictionaries(report.get("basedOn"))]
    stated = dictionaries(report.get("identifier"))
    for reference in references:
        stated += dictionaries(reference.get("identifier"))
        stated += dictionaries((_resolved(reference, index, report) or {}).get("identifier"))
    found = _study_uid(stated) if rule.group == "study-uid" else _accession(stated, rule.accession_system)
    if not found:
        raise InputRefused("no-examination", "The report does not say which examination it is about.")
    return found


def _accession(stated: Sequence[Resource], system: str) -> str:
    for identifier in stated:
        kind = identifier.get("type")
        codings = dictionaries(kind.get("coding")) if isinstance(kind, dict) else []
        if any(coding.get("code") == _ACCESSION for coding in codings) and identifier.get("value"):
            return str(identifier["value"]).strip()
    return _of_system(stated, system) if system else ""


def _study_uid(stated: Iterable[Resource]) -> str:
    return _of_system(stated, _DICOM_UID).removeprefix("urn:oid:")


def _of_system(stated: Iterable[Resource], system: str) -> str:
    values = (str(item.get("value") or "").strip() for item in stated if item.get("system") == system)
    return next(filter(None, values), "")


def _resolved(reference: Resource, index: Mapping[str, Resource], report: Resource) -> Resource | None:
    """The resource that a reference points at: contained in the report, in its Bundle, or elsewhere in the export."""
    target = str(reference.get("reference") or "")
    if target.startswith("#"):
        contained = dictionaries(report.get("contained"))
        return next((resource for resource in contained if f"#{resource.get('id')}" == target), None)
    return index.get(target) or index.get(_short(target))


def _short(reference: str) -> str:
    """``Patient/1`` of ``https://server/fhir/Patient/1/_history/2``."""
    return "/".join(reference.partition("/_history")[0].split("/")[-2:])


def _own_id(subject: Resource, found: Resource | None) -> str:
    target = str(subject.get("reference") or "")
    if target.startswith("#"):
        # The id of a contained resource is unique within its report only: two patients may share it.
        return ""
    place, _, own = _short(target).partition("/")
    return str((found or {}).get("id") or (own if place == "Patient" else ""))


def _with_times(studies: Sequence[Study], stamps: Sequence[str], counts: Counter[str]) -> list[Study]:
    """Adds the times, all in one go."""
    times = parse_times(stamps)
    counts["time-unreadable"] += sum(time is None and bool(stamp) for time, stamp in zip(times, stamps, strict=True))
    return [replace(study, time=time) for study, time in zip(studies, times, strict=True)]


def _stamp(report: Resource) -> str:
    """When the examination was; a year or a month alone, which FHIR allows, is no time."""
    period: Any = report.get("effectivePeriod")
    start = period.get("start") if isinstance(period, dict) else None
    stamp = str(report.get("effectiveDateTime") or start or "")
    return stamp if len(stamp) >= _DAY_CHARACTERS else ""
