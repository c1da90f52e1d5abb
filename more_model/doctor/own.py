"""What this project writes itself: synthetic cohorts, site stores, base folders, checkpoints; and mapped tables."""

from __future__ import annotations

import json
import stat
from collections import Counter
from pathlib import Path

from more_model.data.store import SiteStore
from more_model.data.study import Split
from more_model.doctor.finding import Diagnosis, Finding, ProtocolAnswer, Surroundings, error, note, warning
from more_model.doctor.samples import sample_files, sample_findings
from more_model.errors import MoreError
from more_model.evaluation.protocols.protocol import ProtocolChoice, check_cohort
from more_model.evaluation.protocols.table import MAPPING_NAME, TABLE_PROTOCOL

SYNTHETIC_STARTED, SYNTHETIC_FINISHED = ".synthetic-started.json", ".synthetic-complete.json"
_BASE_FILES = ("model.toml", "weights.safetensors", "tokenizer", "base.json")
#: The key in a checkpoint's header; `more_model.checkpoint` has it too, but imports torch, which takes seconds.
_CHECKPOINT_KEY = "more-fed checkpoint"


def is_synthetic(_folder: Path, names: frozenset[str]) -> bool:
    """Whether `more-sim synth` wrote this folder."""
    return bool(names & {SYNTHETIC_STARTED, SYNTHETIC_FINISHED})


def examine_synthetic(folder: Path, around: Surroundings) -> Diagnosis:
    """A synthetic cohort: is it complete? Its trees are examined one by one."""
    name = "a synthetic cohort of more-sim synth"
    again = "Run the same `more-sim synth` again; it starts over."
    marker = folder / SYNTHETIC_FINISHED
    if not marker.is_file():
        return Diagnosis("synthetic", name, folder, (error("It was never finished.", again),))
    try:
        facts = json.loads(marker.read_text(encoding="utf-8"))
        counts = {"patients": int(facts["patients"]), "hospitals": len(facts["hospitals"])}
    except (OSError, ValueError, KeyError, TypeError):
        return Diagnosis("synthetic", name, folder, (error(f"{marker.name} is damaged.", again),))
    findings = [note("Nobody in it is real: figures say nothing about patients.")]
    absent = [kind for kind in ("mimic-cxr-jpg", "mimic-cxr", "mimic-iv-ecg") if not around.has(kind)]
    if absent:
        findings.append(warning(f"It lacks {', '.join(absent)}.", again))
    return Diagnosis("synthetic", name, folder, tuple(findings), counts)


def is_store(_folder: Path, names: frozenset[str]) -> bool:
    """Whether a site store lies here."""
    return {"store.json", "index.jsonl"} <= names


def examine_store(folder: Path, around: Surroundings) -> Diagnosis:
    """A site store: does it open, what does it hold, and is it closed to other users? Checksums are not computed."""
    try:
        store = SiteStore.open_read(folder)
    except MoreError as caught:
        return Diagnosis("site-store", "a site store", folder, (error(caught.cause, caught.remedy),))
    counts = {f"{modality.value} studies": n for modality, n in Counter(r.modality for r in store.records).items()}
    counts |= {"patients": len({record.patient_id for record in store.records}), "refused": len(store.quarantine)}
    findings: list[Finding] = []
    if not store.records:
        findings.append(error("It holds no study.", "Ingest a data set into it: more-client ingest."))
    if store.quarantine:
        reasons = Counter(entry.reason for entry in store.quarantine.values()).most_common(5)
        listed = ", ".join(f"{reason} {count}" for reason, count in reasons)
        findings.append(note(f"{len(store.quarantine)} studies were refused at ingest: {listed}."))
    if any(path.stat().st_mode & (stat.S_IRWXG | stat.S_IRWXO) for path in folder.iterdir() if path.is_file()):
        findings.append(
            warning(
                "Other users of this machine may read it.", "chmod -R go-rwx the folder, if it holds patients' data."
            )
        )
    return Diagnosis("site-store", f"site store of {store.site!r}", folder, tuple(findings), counts)


def is_base(_folder: Path, names: frozenset[str]) -> bool:
    """Whether a base folder (frozen weights, tokenizer, configuration) lies here."""
    return "base.json" in names or {"model.toml", "weights.safetensors"} <= names


def examine_base(folder: Path, around: Surroundings) -> Diagnosis:
    """A base folder: are its parts there and do the weights open?"""
    again = "Copy the whole base folder again."
    missing = [name for name in _BASE_FILES if not (folder / name).exists()]
    findings = [error(f"{name} is missing.", again) for name in missing]
    counts: dict[str, int] = {}
    if "weights.safetensors" not in missing:
        tensors = _tensor_count(folder / "weights.safetensors")
        if tensors is None:
            findings.append(error("weights.safetensors is damaged or cut off.", again))
        else:
            counts["tensors"] = tensors
    return Diagnosis("base", "a base folder", folder, tuple(findings), counts)


def is_checkpoints(folder: Path, names: frozenset[str]) -> bool:
    """Whether checkpoints of a run lie here."""
    return any(_checkpoint_facts(folder / name) is not None for name in names if name.endswith(".safetensors"))


def examine_checkpoints(folder: Path, around: Surroundings) -> Diagnosis:
    """The checkpoints in one folder, or one checkpoint file: is the base that each belongs to where it says?"""
    files = [folder] if folder.is_file() else sorted(folder.glob("*.safetensors"))
    own = {path: facts for path in files if (facts := _checkpoint_facts(path)) is not None}
    findings = []
    for path, facts in own.items():
        base = path.parent / str(facts.get("base", ""))
        if not (base / "base.json").is_file():
            findings.append(
                warning(
                    f"{path.name} belongs to the base folder {base}, which is not there.",
                    "Give the base folder with --base.",
                )
            )
    names = ", ".join(path.stem for path in own)
    return Diagnosis("checkpoint", f"checkpoints: {names}", folder, tuple(findings), {"checkpoints": len(own)})


def is_table(_folder: Path, names: frozenset[str]) -> bool:
    """Whether a table mapping lies here."""
    return MAPPING_NAME in names


def examine_table(folder: Path, around: Surroundings) -> Diagnosis:
    """A mapped table: can protocol table read it, and are the files there that it names?"""
    name = f"a table with {MAPPING_NAME}"
    try:
        cohort = TABLE_PROTOCOL.read(folder, ProtocolChoice())
    except MoreError as caught:
        finding = error(str(caught).partition("\n  What to do:")[0], caught.remedy)
        return Diagnosis("table", name, folder, (finding,))
    try:
        check_cohort(cohort, TABLE_PROTOCOL.name)
        reason = ""
    except MoreError as caught:
        reason = caught.cause.removeprefix(f"{TABLE_PROTOCOL.name}: ")
    findings = [note(sentence) for sentence in cohort.notes]
    findings += [warning(f"Protocol table cannot run: {reason}.")] if reason else []
    paths = [str(study.source) for study in cohort.studies if cohort.split[study.study_id] is Split.TEST]
    # Absolute paths win over the folder they are joined to; a WFDB record is named without its extension.
    files = [path if Path(path).is_file() else f"{path}.hea" for path in paths]
    sample = sample_files("files of test studies", folder, files, looks_right=lambda path: path.stat().st_size > 0)
    findings += sample_findings(sample, "Correct root or the path column in the mapping.")
    if not reason and not sample.enough:
        reason = f"only {sample.share:.0%} of the files of test studies are there"
    answer = ProtocolAnswer(TABLE_PROTOCOL.name, not reason, reason)
    return Diagnosis("table", name, folder, tuple(findings), cohort.facts, (answer,))


def _checkpoint_facts(path: Path) -> dict[str, object] | None:
    """What a checkpoint says about itself; None where the file is none of this project's checkpoints."""
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="numpy") as file:
            header = (file.metadata() or {}).get(_CHECKPOINT_KEY)
        facts = None if header is None else json.loads(header)
    except (SafetensorError, OSError, ValueError):
        return None
    return facts if isinstance(facts, dict) else None


def _tensor_count(path: Path) -> int | None:
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="numpy") as file:
            return len(file.keys())
    except (SafetensorError, OSError):
        return None
