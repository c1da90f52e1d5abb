"""A prepared site on disk, for hospitals that run in other processes (Ray actors, `flwr run`)."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from functools import cache, lru_cache
from pathlib import Path
from typing import Any

from client.hospital import Hospital
from client.private_site import Declaration, declare
from client.protection import Protection
from more_model.base import assemble, load_base
from more_model.data.study import Modality, Split
from more_model.errors import ExchangeError
from more_model.settings import load_settings
from more_model.training.examples import Examples
from simulation.cohort import read_site
from simulation.protection import arm_protection, runs_of, site_protection
from simulation.public_bank import public_bank
from simulation.settings import RunConfig
from simulation.workbench import Workbench

_INDEX = "sites.json"


def write_site_folders(bench: Workbench) -> Path:
    """Write what another process needs to open the run's sites; returns the file to give it."""
    index = index_of(bench.folder)
    (index.parent / "run.json").write_text(bench.config.model_dump_json(), encoding="utf-8")
    # The splits too: a site's store alone may lack the study that stated a patient's split.
    splits = {t.patient_id: t.split.value for cohort in bench.cohorts for t in cohort.examples.triplets}
    declared = {site: declare(bench.training_examples(site)) for site in bench.sites}
    facts = {
        "base": str(bench.base_folder.resolve()),
        "sites": list(bench.sites),
        "splits": splits,
        "declared": {site: [own.patients, sorted(own.modalities)] for site, own in declared.items()},
    }
    index.write_text(json.dumps(facts), encoding="utf-8")
    return index


def index_of(run: Path) -> Path:
    """Where the run directory ``run`` keeps that file."""
    return run.resolve() / "workspace" / _INDEX


@lru_cache(maxsize=64)
def open_hospital(index: Path, partition: int) -> Hospital:
    """The hospital with this partition number; opened once per process."""
    facts = json.loads(index.read_text(encoding="utf-8"))
    site = facts["sites"][partition]
    config = load_settings(RunConfig, index.parent / "run.json")
    splits = {patient: Split(split) for patient, split in facts["splits"].items()}
    examples, _, _ = read_site(index.parent / "sites" / site, config.data, splits)
    base = load_base(Path(facts["base"]))
    training = examples.of_split(Split.TRAIN)
    return Hospital(
        name=site,
        examples=training,
        assembled=assemble(base, config.federation.method, config.federation.public_seed),
        tokenizer=base.tokenizer,
        max_tokens=base.config.text.max_tokens,
        local_epochs=config.federation.local_epochs,
        protection_of=_protections(config, index.parent, facts["declared"], site, training),
    )


def _protections(
    config: RunConfig, workspace: Path, declared: Mapping[str, Any], site: str, examples: Examples
) -> Callable[[str], Protection]:
    declarations = {
        name: Declaration(int(patients), frozenset(Modality(kind) for kind in kinds))
        for name, (patients, kinds) in declared.items()
    }

    @cache
    def of_run(run: str) -> Protection:
        if run not in runs_of(config):
            raise ExchangeError("the instruction is of a run that this site knows nothing of")
        agreed = arm_protection(config, workspace.parent / "arms", run, declarations)
        return site_protection(agreed, site, examples, lambda: public_bank(config, workspace))

    return of_run


def hospital_of_context(node_config: Mapping[str, Any], index: Path) -> Hospital:
    """The hospital of a simulated Flower node, by its ``partition-id``."""
    return open_hospital(index, int(node_config["partition-id"]))
