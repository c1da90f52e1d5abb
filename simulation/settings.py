"""The configuration of one simulated federation, validated whole before anything is read."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal, Self, TypeVar

from pydantic import BaseModel, ConfigDict, Field, model_validator

from more_model.data.pairing import PairingRule
from more_model.data.sources import LabelTable, Source, resolve
from more_model.data.split import SplitRule
from more_model.errors import ConfigError
from more_model.evaluation.embedded import UncertaintyPolicy
from more_model.lora_method import LoraMethod, fault_of_round_count
from more_model.model.config import ModelConfig, load_config, preset
from more_model.settings import load_settings, read_mapping, validated
from more_model.training.settings import TrainingSettings
from more_model.training.words import LabelWording
from privacy.rounds import is_patient_mode
from privacy.secure_sum.compatibility import Choices, conflicts
from privacy.secure_sum.settings import SumSettings
from privacy.settings import PrivacySettings
from server.aggregation.methods import aggregation
from server.rounds import RoundSettings
from simulation.partition import Partition
from simulation.synthetic.config import SynthConfig


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class ModelChoice(_Part):
    """A named preset with overrides, or a file."""

    preset: str = "tiny"
    file: Path | None = None
    overrides: dict[str, Any] = Field(default_factory=dict)

    @model_validator(mode="after")
    def _one_origin(self) -> Self:
        if self.file is not None and self.overrides:
            raise ValueError("overrides belong to a preset: change the file instead")
        return self

    def resolved(self) -> ModelConfig:
        """The model configuration; ConfigError lists all faults."""
        return load_config(self.file) if self.file is not None else preset(self.preset, self.overrides)


class WarmUp(_Part):
    """Training of the whole base on a public synthetic cohort that shares no patient with the hospitals."""

    cohort: SynthConfig
    epochs: int = Field(default=10, ge=1)
    learning_rate: float = Field(default=1e-3, gt=0)


class BaseChoice(_Part):
    """Where the frozen base comes from: a ``path`` (a base folder), a ``warm-up``, or the model's own configured
    weights and seed (``seeded``; its tokenizer from ``tokenizer``, a local folder, or trained on the *public* texts of
    ``tokenizer_texts``, a UTF-8 file with one text a line)."""

    kind: Literal["warm-up", "path", "seeded"] = "warm-up"
    path: Path | None = None
    warm_up: WarmUp | None = None
    tokenizer: Path | None = None
    tokenizer_texts: Path | None = None

    @model_validator(mode="after")
    def _complete(self) -> Self:
        if self.kind == "path" and self.path is None:
            raise ValueError('kind = "path" needs a path')
        if self.kind == "warm-up" and self.warm_up is None:
            raise ValueError('kind = "warm-up" needs a [base.warm_up] table')
        if self.kind == "seeded" and self.tokenizer is None and self.tokenizer_texts is None:
            raise ValueError('kind = "seeded" needs a tokenizer folder or tokenizer_texts')
        return self


class DataChoice(_Part):
    """Either a ``synthetic`` cohort that the run writes itself, or ``sources`` on disk."""

    synthetic: SynthConfig | None = None
    sources: tuple[Source, ...] = ()
    label_tables: tuple[LabelTable, ...] = ()
    pairing: PairingRule = PairingRule()
    split: SplitRule = SplitRule()
    #: Sentences for studies without a report; a run that uses any says "label prompts", never "reports".
    label_wordings: tuple[LabelWording, ...] = ()
    quarantine_ceiling: float = Field(default=0.05, ge=0, le=1)
    #: Whether studies are checked for what may name somebody; those with a finding are not used.
    deidentification_check: bool = True
    #: What was looked at and may pass: DICOM keywords such as PatientID, labels of WFDB comments such as subject_id,
    #: and the kinds "burned-in-text" and "private-element".
    accept: tuple[str, ...] = ()

    @model_validator(mode="after")
    def _one_origin(self) -> Self:
        if (self.synthetic is None) == (not self.sources):
            raise ValueError("give either synthetic or sources")
        return self


class FederationChoice(_Part):
    """Rounds, LoRA method and engine. ``local_epochs`` passes over a site's own patients make one round."""

    rounds: RoundSettings = RoundSettings()
    local_epochs: int = Field(default=1, ge=1)
    method: LoraMethod = "ffa"
    public_seed: int = 2410_16239
    engine: Literal["inprocess", "ray"] = "inprocess"
    #: The coordinator learns the sum of the updates only; without it, it sees each one.
    secure_sum: SumSettings | None = None

    @model_validator(mode="after")
    def _whole_turns(self) -> Self:
        if (fault := fault_of_round_count(self.method, self.rounds.rounds)) is not None:
            raise ValueError(fault)
        return self

    @model_validator(mode="after")
    def _what_sums_allow(self) -> Self:
        if self.secure_sum is None:
            return self
        checks = ("max-update-norm",) if self.rounds.max_update_norm is not None else ()
        faults = list(conflicts(Choices(aggregation=self.method, update_checks=checks)))
        if self.engine == "ray":
            faults.append(
                'engine "ray": a site must remember its keys from one message to the next, and Ray answers each '
                'message in whichever process is free; choose "inprocess"'
            )
        if faults:
            raise ValueError("secure_sum: " + "; ".join(faults))
        return self


class PublicBankChoice(_Part):
    """Public records for the patient modes: what a patient is contrasted with. ``cohort`` is a run directory or a
    cohort file; without it, the cohort that the base was warmed up on. ``negatives`` are drawn for a step and kept for
    ``refresh_every`` steps."""

    cohort: Path | None = None
    negatives: int = Field(default=128, ge=1)
    refresh_every: int = Field(default=1, ge=1)


class EvaluationChoice(_Part):
    """Zero-shot prompts (a set of the package by name, or a file), labels (all of the set by default), intervals."""

    prompts: str = "chexpert_ecg"
    labels: tuple[str, ...] = ()
    languages: tuple[str, ...] = ()
    uncertainty: UncertaintyPolicy = "ignore"
    replicates: int = Field(default=1000, ge=10)
    linear_probe: bool = True
    retrieval: bool = True
    examples: int = Field(default=4, ge=0)


class RunConfig(_Part):
    """A whole run."""

    name: str
    seed: int = 7
    #: How many seeds each arm is trained with; splits, sites and base stay the same.
    seeds: int = Field(default=1, ge=1)
    model: ModelChoice = ModelChoice()
    base: BaseChoice
    data: DataChoice
    partition: Partition = Partition()
    training: TrainingSettings = TrainingSettings()
    federation: FederationChoice = FederationChoice()
    privacy: PrivacySettings = PrivacySettings()
    #: Budgets (epsilon) at which the federated arm is trained as well, and once without privacy.
    privacy_curve: tuple[Annotated[float, Field(gt=0, allow_inf_nan=False)], ...] = ()
    public_bank: PublicBankChoice = PublicBankChoice()
    evaluation: EvaluationChoice = EvaluationChoice()
    arms: tuple[Literal["centralized", "federated", "local", "base", "random_encoder"], ...] = (
        "centralized",
        "federated",
        "local",
        "base",
        "random_encoder",
    )
    ingest_workers: int = Field(default=2, ge=1)

    @model_validator(mode="after")
    def _privacy_fits(self) -> Self:
        faults = []
        method = aggregation(self.federation.method)
        if self.privacy.on and method.under_dp == "refused":
            faults.append(f"federation.method {method.name!r}: {method.dp_note}")
        if is_patient_mode(self.privacy):
            if self.base.kind != "warm-up" and self.public_bank.cohort is None:
                faults.append(
                    f"{self.privacy.mode} contrasts with public records: give public_bank.cohort, or warm up the base"
                )
            if self.training.proximal_mu > 0:
                faults.append("training.proximal_mu: private steps do not pull back to the global tensors; set it to 0")
        if self.privacy_curve and not self.privacy.on:
            faults.append("privacy_curve: there is no mode to spend these budgets with; set privacy.mode")
        if self.privacy_curve and not {"federated", "base"} <= set(self.arms):
            faults.append(
                "privacy_curve: it stands between public data alone and no privacy; it needs the arms federated "
                "and base"
            )
        if faults:
            raise ValueError("; ".join(faults))
        return self

    @model_validator(mode="after")
    def _public_is_public(self) -> Self:
        public = self.base.warm_up.cohort if self.base.kind == "warm-up" and self.base.warm_up else None
        private = self.data.synthetic
        if public and private:
            first, last = public.first_subject_id, public.first_subject_id + public.patients
            if first < private.first_subject_id + private.patients and private.first_subject_id < last:
                raise ValueError(
                    "the public cohort of base.warm_up shares patient numbers with data.synthetic:"
                    " move first_subject_id of one of them"
                )
        return self


SomeRun = TypeVar("SomeRun", bound=RunConfig)


def load_run_config(path: Path) -> RunConfig:
    """A run configuration; relative paths in it are taken from its own folder.

    Raises:
        ConfigError: every fault, those of the model preset and its overrides included.
    """
    return load_config_of_run(RunConfig, path)


def load_config_of_run(kind: type[SomeRun], path: Path) -> SomeRun:
    """The same for a configuration that says more than a run's."""
    try:
        config = load_settings(kind, path)
    except ConfigError as error:
        raise ConfigError(error.where, [*error.faults, *_model_faults(path)], remedy=error.remedy) from error
    # Absolute: other processes read the resolved configuration, and a run may be resumed from another folder.
    config = _anchored(config, path.parent.resolve())
    try:
        config.model.resolved()
    except ConfigError as error:
        where = f"model: {config.model.file}: " if config.model.file is not None else "model: "
        raise ConfigError(str(path), [f"{where}{fault}" for fault in error.faults]) from error
    return config


def with_options(
    config: RunConfig, *, engine: str | None, base: Path | None, seed: int | None, seeds: int | None
) -> RunConfig:
    """``config`` with what a command line says instead; validated again as a whole."""
    content = config.model_dump()
    if engine is not None:
        content["federation"]["engine"] = engine
    if base is not None:
        content["base"] = {"kind": "path", "path": base}
    content |= {key: value for key, value in (("seed", seed), ("seeds", seeds)) if value is not None}
    return validated(RunConfig, content, "the configuration with the options of the command line")


def _model_faults(path: Path) -> list[str]:
    content = read_mapping(path).get("model", {})
    if not isinstance(content, dict) or not set(content) <= {"preset", "overrides"}:
        return []
    name, overrides = content.get("preset", "tiny"), content.get("overrides", {})
    if not isinstance(name, str) or not isinstance(overrides, dict):
        return []
    try:
        preset(name, overrides)
    except ConfigError as error:
        return [f"model: {fault}" for fault in error.faults]
    return []


def _anchored(config: SomeRun, folder: Path) -> SomeRun:
    data = config.data.model_copy(
        update={
            "sources": tuple(resolve(source, folder) for source in config.data.sources),
            "label_tables": tuple(resolve(table, folder) for table in config.data.label_tables),
            "pairing": resolve(config.data.pairing, folder),
        }
    )
    prompts = config.evaluation.prompts
    if prompts.endswith(".toml"):
        prompts = str(folder / prompts)
    return config.model_copy(
        update={
            "data": data,
            "model": resolve(config.model, folder),
            "base": resolve(config.base, folder),
            "public_bank": resolve(config.public_bank, folder),
            "evaluation": config.evaluation.model_copy(update={"prompts": prompts}),
        }
    )
