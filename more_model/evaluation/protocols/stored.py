"""The studies of a protocol, decoded once into a store, as examples that can be embedded and trained on."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from more_model.data.ingest import Progress, ingest
from more_model.data.preprocessing import Preprocessing
from more_model.data.store import Key, SiteStore, StoredStudy
from more_model.data.study import Modality, Split, Study, Triplet
from more_model.errors import DataError, StoreError
from more_model.evaluation.protocols.protocol import EvaluationCohort
from more_model.training.examples import Examples

#: Attribute of an example: the case it is scored with.
CASE = "case"
_SOURCE = "source"


def of_splits(cohort: EvaluationCohort, *splits: Split) -> EvaluationCohort:
    """The cohort with only the studies of these splits; zero-shot needs none but the test studies decoded."""
    return replace(cohort, studies=tuple(study for study in cohort.studies if cohort.split[study.study_id] in splits))


def stored_examples(
    cohort: EvaluationCohort,
    preprocessing: Preprocessing,
    folder: Path,
    *,
    workers: int,
    ceiling: float = 0.05,
    progress: Progress | None = None,
    site: str = "",
) -> tuple[Examples, dict[str, Any]]:
    """One example per X-ray and per ECG that could be decoded, in the order of the cohort, and the counts.

    ``folder`` is a site store, made where there is none; what it holds already is not decoded again. Labels and
    attributes are those of the cohort, never those of the store, so that several protocols on one data set may share a
    folder. A report of the cohort becomes the words of the studies it describes. The counts, for JSON: ``studies`` and
    ``stored`` by split, ``refused`` by split and reason, ``ingest`` (`IngestReport.as_dict`).

    Raises:
        CeilingExceeded: more than ``ceiling`` (a share) of all studies are refused.
        DataError: more than ``ceiling`` of the *test* studies are: what is left is another test set.
        StoreError: the folder holds other files under the same ids, or was made with another preprocessing or site.
    """
    if (folder / "store.json").is_file():
        _refuse_other_sources(cohort.studies, SiteStore.open_read(folder, preprocessing=preprocessing))
    sourced = [replace(study, attributes={**study.attributes, _SOURCE: _source(study)}) for study in cohort.studies]
    report = ingest(sourced, folder, site, preprocessing, ceiling=ceiling, workers=workers, progress=progress)
    store = SiteStore.open_read(folder, preprocessing=preprocessing)
    records = {(record.modality, record.study_id): record for record in store.records}
    counts = {**_counts(cohort, records, store), "ingest": report.as_dict()}
    _refuse_thin_test(cohort, records, counts, ceiling)
    words = {
        (study.patient_id, study.group_id, study.describes): records[study.modality, study.study_id].text
        for study in cohort.studies
        if study.modality is Modality.REPORT and (study.modality, study.study_id) in records
    }
    triplets = [
        _triplet(study, record, cohort, words.get((study.patient_id, study.group_id, study.modality)))
        for study in cohort.studies
        if study.modality is not Modality.REPORT
        and (record := records.get((study.modality, study.study_id))) is not None
    ]
    return Examples.of(triplets, store), counts


def _source(study: Study) -> str:
    return "" if study.source is None else str(study.source)


def _refuse_other_sources(studies: Sequence[Study], store: SiteStore) -> None:
    """The store would silently answer with the pictures of another data set, or of the same one at another rate."""
    sources = {(study.modality, study.study_id): _source(study) for study in studies}
    other = 0
    for record in store.records:
        # Every study that this module stores says what it was read from; a site store of `more-client` does not.
        stored_from = record.attributes.get(_SOURCE)
        other += stored_from is None or sources.get((record.modality, record.study_id), stored_from) != stored_from
    if other:
        raise StoreError(
            f"{store.folder} holds {other} studies that were read from other files",
            remedy="give each data set (and each sampling rate of one) a folder of its own; if the data set was moved, "
            "delete this folder and run again",
        )


def _triplet(study: Study, record: StoredStudy, cohort: EvaluationCohort, words: str | None) -> Triplet:
    is_xray = study.modality is Modality.XRAY
    attributes = {**record.attributes, **study.attributes, CASE: cohort.case.get(study.study_id, study.study_id)}
    del attributes[_SOURCE]
    return Triplet(
        patient_id=study.patient_id,
        site=study.site,
        split=cohort.split[study.study_id],
        xray=record.row if is_xray else None,
        ecg=None if is_xray else record.row,
        xray_report=words if is_xray else None,
        ecg_report=None if is_xray else words,
        labels=study.labels,
        attributes=attributes,
    )


def _counts(cohort: EvaluationCohort, records: Mapping[Key, StoredStudy], store: SiteStore) -> dict[str, Any]:
    quarantine = store.quarantine
    studies: Counter[str] = Counter()
    stored: Counter[str] = Counter()
    refused: dict[str, Counter[str]] = {split.value: Counter() for split in Split}
    for study in cohort.studies:
        split, key = cohort.split[study.study_id].value, (study.modality, study.study_id)
        studies[split] += 1
        if key in records:
            stored[split] += 1
        else:
            refused[split][quarantine[key].reason] += 1
    return {
        "studies": {split.value: studies[split.value] for split in Split},
        "stored": {split.value: stored[split.value] for split in Split},
        "refused": {split: dict(reasons) for split, reasons in refused.items()},
    }


def _refuse_thin_test(
    cohort: EvaluationCohort, records: Mapping[Key, StoredStudy], counts: Mapping[str, Any], ceiling: float
) -> None:
    test = [
        (study.modality, study.study_id) in records
        for study in cohort.studies
        if study.modality is not Modality.REPORT and cohort.split[study.study_id] is Split.TEST
    ]
    lost = len(test) - sum(test)
    if lost and lost > ceiling * len(test):
        reasons = ", ".join(f"{reason} ({count})" for reason, count in counts["refused"]["test"].items())
        raise DataError(
            f"{lost} of {len(test)} test studies could not be read, above the ceiling of {ceiling:.1%}: {reasons}",
            remedy="complete the download, or mend what the reasons name; studies read so far are kept",
            avoid="report a figure on the rest under the protocol's name: it is another test set",
        )
