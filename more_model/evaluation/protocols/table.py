"""Any labelled CSV as an evaluation: its column mapping says which files, labels and splits it has."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

from more_model.data.label_columns import named
from more_model.data.split import SplitRule, assign_splits, hash_split
from more_model.data.study import Modality, Split, Study
from more_model.data.table import read_table
from more_model.data.table_mapping import TableMapping, load_mapping
from more_model.errors import ConfigError, DataError
from more_model.evaluation.embedded import ImageOrTrace, LabelTask
from more_model.evaluation.protocols.protocol import EvaluationCohort, Protocol, ProtocolChoice

MAPPING_NAME = "mapping.toml"

#: Share of the training patients that become validation patients where the split column names none.
VALIDATION_SHARE = 0.1


def _read(root: Path, choice: ProtocolChoice) -> EvaluationCohort:
    """The X-rays and ECGs of a table, every label asked of each modality that the table has.

    The mapping is ``choice.mapping``, else ``mapping.toml`` in ``root``. Splits follow the mapping's split column;
    without one, the keyed hash of the patient id that training uses too (seed 0 is its default key), so that a model
    trained on the same table under the default rule has not seen the test patients.

    Raises:
        ConfigError: no mapping, a faulty one, one without labels or without files, a choice without meaning here.
        DataError: what `more_model.data.table.read_table` refuses, and a patient in two splits.
    """
    _refuse_foreign(choice)
    path = choice.mapping if choice.mapping is not None else root / MAPPING_NAME
    if not path.is_file():
        raise ConfigError(
            "protocol table",
            [f"there is no mapping {path}"],
            remedy=f"put {MAPPING_NAME} into the data folder, or name another file with --mapping",
        )
    mapping = load_mapping(path)
    tasks = _tasks(mapping, path)
    # Reports are words about a study, not cases: nothing is asked of them.
    found = [study for study in read_table(mapping).studies if study.modality is not Modality.REPORT]
    studies = [study for study in found if study.labels]
    if not studies:
        raise DataError(
            f"{mapping.path}: none of {len(found)} X-rays and ECGs has a label",
            remedy="check the label columns and their words in the mapping",
        )
    patients, notes = _splits(studies, mapping, choice.seed)
    counts = Counter((study.modality.value, patients[study.patient_id]) for study in studies)
    return EvaluationCohort(
        studies=tuple(studies),
        split={study.study_id: patients[study.patient_id] for study in studies},
        tasks=tasks,
        facts={
            "studies without any label": len(found) - len(studies),
            **{f"{split.value} {modality}": counts[modality, split] for modality, split in sorted(counts)},
        },
        notes=notes,
    )


def _refuse_foreign(choice: ProtocolChoice) -> None:
    usual = ProtocolChoice()
    faults = []
    if choice.subset not in (None, "test"):
        faults.append(f"there is no subset {choice.subset!r}; there is test")
    if choice.views != usual.views:
        faults.append("views are not chosen here: filter rows with [[where]] in the mapping")
    if choice.blank != usual.blank:
        faults.append("blank: say labels_blank in the mapping instead")
    if choice.rate_hz != usual.rate_hz:
        faults.append("rate_hz belongs to PTB-XL: name the column of the records you want in the mapping")
    if faults:
        raise ConfigError("protocol table", faults)


def _tasks(mapping: TableMapping, path: Path) -> tuple[LabelTask, ...]:
    labels = [
        *named(mapping.labels).values(),
        *(label for rule in mapping.multi_label for label in rule.labels.values()),
    ]
    modalities: list[ImageOrTrace] = []
    if mapping.xray:
        modalities.append("xray")
    if mapping.ecg:
        modalities.append("ecg")
    faults = []
    if not labels:
        faults.append("it names no labels: there is nothing to evaluate")
    if not modalities:
        faults.append("it names neither an xray nor an ecg column: there is nothing to evaluate")
    if faults:
        raise ConfigError(str(path), faults)
    return tuple(LabelTask(label, modality) for modality in modalities for label in dict.fromkeys(labels))


def _splits(studies: Sequence[Study], mapping: TableMapping, seed: int) -> tuple[Mapping[str, Split], tuple[str, ...]]:
    """Patient id -> split, and what a reader has to know about it."""
    usual = SplitRule()
    key = usual.key if seed == 0 else f"{usual.key} {seed}"
    if mapping.split is None:
        rule = SplitRule(key=key)
        note = (
            f"The table states no split: {rule.test:.0%} of the patients are test and {rule.validation:.0%} validation "
            f"by the keyed hash of their id (key {key!r}). A model that was trained on this table under another split "
            "has seen some of these test patients."
        )
        return assign_splits(studies, rule), (note,)
    patients = assign_splits(studies, SplitRule(kind="column", column="split", key=key))
    notes = []
    stated = {study.patient_id for study in studies if study.attributes.get("split")}
    if unstated := len(patients.keys() - stated):
        notes.append(f"{unstated} of {len(patients)} patients have no split in the table and follow the keyed hash.")
    if Split.VALIDATION not in patients.values():
        share = SplitRule(validation=VALIDATION_SHARE, test=0.0, key=f"{key} validation")
        patients = {
            patient: hash_split(patient, share) if split is Split.TRAIN else split
            for patient, split in patients.items()
        }
        notes.append(f"The table names no validation patients: {VALIDATION_SHARE:.0%} of its training patients are.")
    return patients, tuple(notes)


#: Its tasks are those of the mapping, so they are known only once a table is read; prompts are given by the user.
TABLE_PROTOCOL = Protocol(
    name="table",
    title="Any labelled table",
    tasks=(),
    prompts="",
    subsets=("test",),
    read=_read,
)
