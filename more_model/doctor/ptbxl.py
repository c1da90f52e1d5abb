"""PTB-XL: tables, record files at both rates, and which of its protocols have positives to test on."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from more_model.doctor.finding import Diagnosis, Finding, ProtocolAnswer, Surroundings, error, note, warning
from more_model.doctor.records import is_whole, lead_order_findings, record_files
from more_model.doctor.samples import ENOUGH, FileSample, sample_files, sample_findings
from more_model.doctor.tables import TableSpec, TablesRead, read_tables
from more_model.errors import MoreError
from more_model.evaluation.protocols.protocol import ProtocolChoice, check_cohort
from more_model.evaluation.protocols.ptbxl import PTBXL_PROTOCOLS

KIND = "ptb-xl"
SOURCE = "from PhysioNet, project ptb-xl, version 1.0.3 (open access): https://physionet.org/content/ptb-xl/1.0.3/"

_RECORDS_OF_VERSION = {21_837: "1.0.1", 21_801: "1.0.2", 21_799: "1.0.3"}
_NEWEST = 21_799
_DATABASE, _STATEMENTS = "ptbxl_database", "scp_statements"
_READ = ("ecg_id", "patient_id", "strat_fold", "filename_lr", "filename_hr")
_TABLES = (
    TableSpec(
        _DATABASE,
        "ptbxl_database.csv",
        (*_READ, "age", "sex", "site", "device", "recording_date", "report", "scp_codes"),
        "patients, statements, folds and file names",
        read=_READ,
    ),
    TableSpec(
        _STATEMENTS,
        "scp_statements.csv",
        ("", "diagnostic", "form", "rhythm", "diagnostic_class", "diagnostic_subclass"),
        "the meaning of the statements",
    ),
)


def is_here(_folder: Path, names: frozenset[str]) -> bool:
    """Whether the names in a folder are those of this data set."""
    return bool(names & {"ptbxl_database.csv", "ptbxl_database.csv.gz"})


def examine(folder: Path, around: Surroundings) -> Diagnosis:
    """Everything about one folder with PTB-XL."""
    tables = read_tables(folder, _TABLES, SOURCE, synthetic=around.synthetic)
    columns = tables.columns.get(_DATABASE)
    if columns is None:
        reason = "ptbxl_database.csv cannot be read"
        answers = tuple(ProtocolAnswer(protocol.name, False, reason) for protocol in PTBXL_PROTOCOLS)
        return Diagnosis(KIND, "PTB-XL (version unknown)", folder, tuple(tables.findings), tables.counts, answers)
    rows = len(columns["ecg_id"])
    version = _RECORDS_OF_VERSION.get(rows)
    counts = {**tables.counts, "records": rows, "patients": len(set(columns["patient_id"]))}
    samples = {
        rate: sample_files(f"record files at {rate} Hz", folder, record_files(columns[name]), looks_right=is_whole)
        for rate, name in ((100, "filename_lr"), (500, "filename_hr"))
    }
    findings = [*tables.findings, *_version_findings(rows, version), *_record_findings(samples[100], samples[500])]
    findings += lead_order_findings(folder, columns["filename_lr"] if samples[100].present else columns["filename_hr"])
    torn = _torn_patients(columns["patient_id"], columns["strat_fold"])
    if torn:
        findings.append(error(f"{torn} patients are in more than one fold.", f"Take the table {SOURCE}"))
    name = f"PTB-XL {version}" if version else "PTB-XL, an excerpt"
    return Diagnosis(
        KIND, name, folder, tuple(findings), counts, _protocols(folder, tables, samples[100], samples[500])
    )


def _version_findings(rows: int, version: str | None) -> list[Finding]:
    if version == "1.0.3":
        return []
    if version is not None:
        return [
            warning(
                f"Version {version} has {rows:,} records, 1.0.3 has {_NEWEST:,}: sizes of folds differ slightly, so "
                "figures are not those of 1.0.3.",
                f"For comparable figures take 1.0.3 {SOURCE}",
            )
        ]
    return [
        warning(
            f"{rows:,} records; the releases have {', '.join(f'{n:,} ({v})' for n, v in _RECORDS_OF_VERSION.items())}: "
            "an excerpt, whose figures are not those of the release.",
            f"Download the whole table {SOURCE}",
        )
    ]


def _record_findings(low: FileSample, high: FileSample) -> list[Finding]:
    remedy = "Continue the download: wget -r -N -c -np https://physionet.org/files/ptb-xl/1.0.3/"
    if not low.present and not high.present:
        return [
            *sample_findings(low, f"{remedy} (records100/ suffices for protocols at 100 Hz)"),
            *sample_findings(high, remedy, fatal=False),
        ]
    findings = []
    for sample, other in ((low, 500), (high, 100)):
        if sample.present:
            findings += sample_findings(sample, remedy)
        else:
            findings.append(note(f"No {sample.what} are there; evaluate with --rate-hz {other}."))
    return findings


def _torn_patients(patients: Sequence[str], folds: Sequence[str]) -> int:
    seen: dict[str, set[str]] = {}
    for patient, fold in zip(patients, folds, strict=True):
        seen.setdefault(patient, set()).add(fold)
    return sum(len(found) > 1 for found in seen.values())


def _protocols(folder: Path, tables: TablesRead, low: FileSample, high: FileSample) -> tuple[ProtocolAnswer, ...]:
    """What the protocols themselves say about the tables, and whether record files are there for them."""
    files = ""
    if not low.enough and not high.enough:
        best = max((low, high), key=lambda sample: sample.share)
        files = f"only {best.share:.0%} of the {best.what} are there or readable (at least {ENOUGH:.0%} are needed)"
    answers = []
    for protocol in PTBXL_PROTOCOLS:
        try:
            check_cohort(protocol.read(folder, ProtocolChoice()), protocol.name)
        except MoreError as caught:
            reason = str(caught).splitlines()[0].removeprefix(f"{protocol.name}: ")
            answers.append(ProtocolAnswer(protocol.name, False, reason))
        else:
            hint = "with --rate-hz 500" if high.enough and not low.enough else ""
            answers.append(ProtocolAnswer(protocol.name, not files, files or hint))
    return tuple(answers)
