"""What is attacked: one site of a finished run directory, how it trained, and what the run claims for it."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict

from client.private_bank import PublicBank
from client.private_site import declare
from more_model.base import assemble, load_base
from more_model.checkpoint import TrainedModel, load_checkpoint
from more_model.cohort_file import SiteExamples, load_cohort, read_stored
from more_model.data.pairing import PairingRule
from more_model.data.store import SiteStore
from more_model.data.study import Split
from more_model.errors import ConfigError, DataError, EnvironmentFault
from more_model.exchange import ExchangeSpec
from more_model.lora_method import LoraMethod
from more_model.model.more import More
from more_model.settings import load_settings, read_mapping
from more_model.training.examples import Examples
from more_model.training.loop import resolve_device
from more_model.training.settings import TrainingSettings
from privacy.audit.subject import Claimed
from privacy.rounds import RoundPlan, round_plan
from privacy.sensitivity import MODES
from privacy.settings import PrivacySettings

#: How far a figure of the summary may lie from the one that the settings give: rounding in JSON, no more.
_SAME = 1e-6


@dataclass(frozen=True, slots=True)
class Recipe:
    """How a site trains in this run: alone, from the base, over as many rounds as the federation had.

    plan: of the private steps; None where the run had no privacy. spec: what trains, and in which rounds. bank: the
    public records that patient modes contrast with; None where the run kept none.
    """

    training: TrainingSettings
    privacy: PrivacySettings
    plan: RoundPlan | None
    rounds: int
    local_epochs: int
    spec: ExchangeSpec
    bank: PublicBank | None


@dataclass(frozen=True, slots=True)
class AuditedSite:
    """One site and everything that the attacks need; only triplets with a pair of words and study.

    start: the adapted base before any training; copy it, never train it. released: the run's federated model.
    members: what the site trained on; outsiders: its validation and test patients, whom no training saw; test: the
    latter alone. seed: of everything that is drawn, except the noise.
    """

    run: str
    name: str
    recipe: Recipe
    start: More
    released: TrainedModel
    members: Examples
    outsiders: Examples
    test: Examples
    claim: Claimed
    seed: int

    @property
    def words(self) -> dict[str, Any]:
        """How texts become numbers, as keyword arguments."""
        return {"tokenizer": self.released.tokenizer, "max_tokens": self.released.max_tokens}

    @property
    def threads(self) -> int:
        """The number of threads that the run computed in."""
        return self.recipe.training.threads


class _Rounds(BaseModel):
    rounds: int


class _Federation(BaseModel):
    method: LoraMethod
    public_seed: int
    local_epochs: int
    rounds: _Rounds


class _BaseChoice(BaseModel):
    path: Path | None = None


class _BankChoice(BaseModel):
    cohort: Path | None = None
    negatives: int = 256
    refresh_every: int = 1


class _RunFile(BaseModel):
    """The part of a run's ``config.toml`` that an audit needs; the rest is none of its business."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    seed: int
    training: TrainingSettings
    federation: _Federation
    base: _BaseChoice = _BaseChoice()
    public_bank: _BankChoice = _BankChoice()
    privacy: PrivacySettings = PrivacySettings()


def open_site(run: Path, site: str | None) -> AuditedSite:
    """One site of the run directory ``run``: the one named, or the one with the fewest training patients.

    Raises:
        ConfigError: no such site, or a ``config.toml`` that no run wrote.
        DataError: nothing to attack (a site without members or without outsiders), or a summary that does not fit.
        EnvironmentFault: the run is not finished, or its base is not there.
    """
    config = load_settings(_RunFile, run / "config.toml")
    stored = _chosen(load_cohort(run).sites, site)
    members = stored.examples.of_split(Split.TRAIN).trainable()
    outsiders = stored.examples.where(lambda triplet: triplet.split is not Split.TRAIN).trainable()
    if len(members) < 2 or len(outsiders) < 2:
        raise DataError(
            f"site {stored.name!r} has {len(members)} training and {len(outsiders)} held-out examples",
            remedy="audit a site that trained and kept patients back: members are compared with outsiders of one site",
        )
    federation, device = config.federation, resolve_device(config.training.device)
    folder = _base_folder(run, config)
    released = load_checkpoint(run / "checkpoints" / "federated.safetensors", base=folder, device=device)
    assembled = assemble(load_base(folder), federation.method, federation.public_seed)
    stated = _stated(run / "summary.json", stored.name) if config.privacy.on else {}
    plan = _plan(config, stated, members)
    return AuditedSite(
        run=run.resolve().name,
        name=stored.name,
        recipe=Recipe(
            training=config.training,
            privacy=config.privacy,
            plan=plan,
            rounds=federation.rounds.rounds,
            local_epochs=federation.local_epochs,
            spec=assembled.spec,
            bank=_bank(run / "workspace" / "public" / "store" / "public", config.public_bank),
        ),
        start=assembled.model.to(device),
        released=released,
        members=members,
        outsiders=outsiders,
        test=outsiders.of_split(Split.TEST),
        claim=_claim(plan, stated, stored.name),
        seed=config.seed,
    )


def patients_of(examples: Examples) -> list[str]:
    """The patients, each once, in the order of their first example."""
    return list(dict.fromkeys(triplet.patient_id for triplet in examples.triplets))


def _chosen(sites: tuple[SiteExamples, ...], name: str | None) -> SiteExamples:
    if name is None:
        return min(sites, key=lambda site: (len(patients_of(site.examples.of_split(Split.TRAIN))), site.name))
    for site in sites:
        if site.name == name:
            return site
    raise ConfigError(
        f"site {name!r}", [f"the run has no such site; it has {', '.join(sorted(site.name for site in sites))}"]
    )


def _base_folder(run: Path, config: _RunFile) -> Path:
    own = run / "workspace" / "base"
    folder = own if own.is_dir() else config.base.path
    if folder is None or not folder.is_dir():
        raise EnvironmentFault(
            f"the base of the run is neither in {own} nor where its config.toml says",
            remedy="copy the run directory whole, with its workspace",
        )
    return folder


def _plan(config: _RunFile, stated: Mapping[str, Any], members: Examples) -> RoundPlan | None:
    if not config.privacy.on:
        return None
    federation = config.federation
    patients = stated.get("public_patients") or declare(members).patients
    return round_plan(
        config.privacy, int(patients), rounds=federation.rounds.rounds, local_epochs=federation.local_epochs
    )


def _bank(warmed_up_on: Path, choice: _BankChoice) -> PublicBank | None:
    """The public cohort that the run names, or the one that it warmed its base up on, all of which was training data;
    None where it kept none."""
    if choice.cohort is not None:
        examples = load_cohort(choice.cohort).examples
    elif (warmed_up_on / "store.json").is_file():
        store = SiteStore.open_read(warmed_up_on)
        everyone = {record.patient_id: Split.TRAIN for record in store.records}
        examples = read_stored(store, PairingRule(), (), everyone).examples
    else:
        return None
    return PublicBank(examples, choice.negatives, choice.refresh_every)


def _stated(summary: Path, site: str) -> dict[str, Any]:
    """What the summary says of the privacy of ``site``, with the delta of the run."""
    privacy = read_mapping(summary).get("privacy", {})
    own = privacy.get("sites", {}).get(site)
    if own is None:
        raise DataError(
            f"{summary.name} states no privacy of site {site!r}, though the run was configured with privacy",
            remedy="audit a run that has ended; or another site, if this one took no part",
        )
    return {**own, "delta": privacy["delta"]}


def _claim(plan: RoundPlan | None, stated: Mapping[str, Any], site: str) -> Claimed:
    """What the summary states, if it is about the training that will be attacked: with other noise, an attack would say
    nothing about the claim."""
    if plan is None:
        return Claimed(mode="none", epsilon=math.inf, delta=0.0, unit="patient")
    figures = {"noise_multiplier": plan.noise_multiplier, "sampling_rate": plan.sampling_rate, "steps": plan.all_steps}
    wrong = [name for name, value in figures.items() if not math.isclose(stated[name], value, rel_tol=_SAME)]
    if wrong:
        raise DataError(
            f"the summary states for site {site!r} another {' and '.join(wrong)} than the run's settings give",
            remedy="audit the run with the version that made it, in the directory that it wrote",
        )
    return Claimed(plan.mode, float(stated["epsilon"]), float(stated["delta"]), MODES[plan.mode].unit)
