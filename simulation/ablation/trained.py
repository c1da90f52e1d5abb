"""Training and scoring of one variant. What is trained is kept under a name made from its content: never twice."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from more_model.errors import RoundError
from more_model.model.inventory import take_inventory
from more_model.tokenizer import load_tokenizer
from more_model.training.examples import Examples
from server.journal import RoundRecord
from simulation.ablation.bases import base_note, variant_base
from simulation.ablation.changes import training_cohorts
from simulation.ablation.settings import AblationConfig
from simulation.ablation.variants import Variant
from simulation.arms import TrainedArm, train_alone
from simulation.flower_federation import train_federated
from simulation.scoring import ArmScores, Scorer
from simulation.workbench import Workbench


@dataclass(frozen=True, slots=True)
class Trained:
    """One variant, trained: its scores seed by seed, and facts for the table. ``key`` names the content."""

    key: str
    scores: tuple[ArmScores, ...]
    facts: dict[str, Any]


def bench_of(bench: Workbench, config: AblationConfig, variant: Variant) -> tuple[Workbench, str, list[str]]:
    """The workbench that ``variant`` is trained on, the name of its content, and remarks. The test patients are those
    of ``bench``, the reference's."""
    base_folder = variant_base(bench, config, variant)
    stores = bench.folder / "workspace" / "sites"
    cohorts, emptied = training_cohorts(variant, bench.cohorts, config.data, stores)
    if not cohorts:
        raise RoundError("no hospital has anything left to train on", remedy="leave out less")
    own = replace(
        bench,
        base_folder=base_folder,
        cohorts=tuple(cohorts),
        scorer=_scorer(bench.scorer, base_folder, variant),
        on_progress=lambda stage, done, total: bench.on_progress(f"{variant.name}: {stage}", done, total),
    )
    key = _key(own, config)
    notes = [f"{site} had nothing left to train on." for site in emptied]
    said = base_note(config, variant)
    return replace(own, folder=bench.folder / "trained" / key), key, [*notes, *([said] if said else [])]


def train_and_score(own: Workbench, config: AblationConfig, key: str, checkpoints: Path) -> Trained:
    """Train with every seed what is not trained yet, and score on the test patients."""
    scores: list[ArmScores] = []
    seconds: list[float | None] = []
    for number in range(config.seeds):
        label = config.arm + ("" if number == 0 else f"-seed{number + 1}")
        arm, took = _trained_arm(own, config.arm, label, config.seed + number)
        scores.append(own.scorer.score(arm.model))
        seconds.append(took)
        own.save_checkpoint(arm.model, checkpoints / f"{label}.safetensors")
        inventory = take_inventory(arm.model)
    facts = {
        "seconds": seconds,
        "trainable": inventory.trainable,
        "exchanged_bytes": inventory.exchanged_bytes,
        "training_triplets": len(own.training_examples().trainable()),
    }
    return Trained(key, tuple(scores), facts)


def _trained_arm(own: Workbench, arm: str, label: str, seed: int) -> tuple[TrainedArm, float | None]:
    """The arm and the seconds it took; None where it was interrupted in between."""
    file = own.folder / f"{label}.json"
    begun = (own.folder / "arms" / label).exists()
    own.folder.mkdir(parents=True, exist_ok=True)
    started = time.monotonic()
    if arm == "federated":
        trained, records = train_federated(own, label, seed)
        _require_all_took_part(records)
    else:
        trained = train_alone(own, label, seed, None)
    if file.is_file():
        return trained, json.loads(file.read_text(encoding="utf-8"))["seconds"]
    seconds = None if begun else round(time.monotonic() - started, 3)
    file.write_text(json.dumps({"seconds": seconds}), encoding="utf-8")
    return trained, seconds


def _require_all_took_part(records: Sequence[RoundRecord]) -> None:
    for record in records:
        absent = [part.site for part in record.sites if part.state != "accepted"]
        if absent:
            raise RoundError(
                f"round {record.round} closed without {', '.join(absent)}",
                remedy="see the journal of the variant; compare only rounds that every hospital took part in",
            )


def _scorer(scorer: Scorer, base: Path, variant: Variant) -> Scorer:
    """The same questions about the same patients. A probe is not fitted on the labels of a hospital left out."""

    def others(examples: Examples) -> Examples:
        return examples.where(lambda triplet: triplet.site != variant.hospital)

    return replace(
        scorer,
        tokenizer=load_tokenizer(base / "tokenizer"),
        train=others(scorer.train),
        validation=others(scorer.validation),
    )


def _key(own: Workbench, config: AblationConfig) -> str:
    """Everything that decides the trained weights; the seed is told apart below it."""
    assembled = own.assembled()
    content = {
        "arm": config.arm,
        "base": assembled.fingerprint.digest(),
        "exchange": assembled.spec.digest(),
        "training": config.training.model_dump(mode="json"),
        "rounds": config.federation.rounds.model_dump(mode="json"),
        "local_epochs": config.federation.local_epochs,
        "examples": {cohort.name: cohort.examples.digest() for cohort in own.cohorts},
    }
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:16]
