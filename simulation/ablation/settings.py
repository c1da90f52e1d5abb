"""The configuration of an ablation: that of a run, and in ``[ablation]`` what is changed, one thing at a time."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal, Self, TypeVar

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from more_model.data.pairing import PairingRule
from more_model.data.sources import resolve
from more_model.errors import ConfigError
from more_model.evaluation.prompt_sets import load_prompts
from more_model.settings import read_mapping, validated
from simulation.ablation.words import load_words
from simulation.settings import RunConfig, load_config_of_run

Entry = TypeVar("Entry")


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Unseen(_Part):
    """Conditions that no training text mentions, the public texts of a warm-up included; the model is then asked for
    them. ``drop`` takes out the ``sentences`` that mention one, or whole ``triplets``; ``words`` is a file of word
    lists (the package's own by default)."""

    labels: tuple[str, ...] = Field(min_length=1)
    drop: Literal["sentences", "triplets"] = "sentences"
    words: Path | None = None


class Ablations(_Part):
    """What is changed. A value that is the reference's own is listed beside the others and trained once.

    ``lora_ranks``: 0 removes the adapters; ``alpha`` keeps its ratio to the rank. ``temperatures``: the constant, or
    ``"learned"``. ``pairing``: rules, or ``"none"`` (no X-ray shares a triplet with an ECG). ``missing``: a modality
    that nothing is trained on. ``hospitals``: each is left out of training and then tested on; ``"all"`` for every one.
    """

    lora_ranks: tuple[int, ...] = ()
    dropkey: tuple[Literal["off", "constant", "linear"], ...] = ()
    temperatures: tuple[float | Literal["learned"], ...] = ()
    attention: tuple[Literal["softmax", "linear"], ...] = ()
    pairing: tuple[Literal["none"] | PairingRule, ...] = ()
    missing: tuple[Literal["xray", "ecg"], ...] = ()
    hospitals: Literal["all"] | tuple[str, ...] = ()
    unseen: Unseen | None = None

    @field_validator("lora_ranks")
    @classmethod
    def _ranks(cls, ranks: tuple[int, ...]) -> tuple[int, ...]:
        if any(rank < 0 for rank in ranks):
            raise ValueError("a rank is 0 (no adapters) or more")
        return _once(ranks)

    @field_validator("temperatures")
    @classmethod
    def _warm(cls, values: tuple[float | Literal["learned"], ...]) -> tuple[float | Literal["learned"], ...]:
        if any(value != "learned" and not 0 < value <= 10 for value in values):
            raise ValueError('a temperature lies above 0 and is 10 at most, or is "learned"')
        return _once(values)

    @field_validator("dropkey", "attention", "pairing", "missing", "hospitals")
    @classmethod
    def _no_value_twice(cls, values: Any) -> Any:
        return values if values == "all" else _once(values)

    @model_validator(mode="after")
    def _something(self) -> Self:
        if not any(getattr(self, name) for name in type(self).model_fields):
            raise ValueError("nothing is changed: name at least one of " + ", ".join(type(self).model_fields))
        return self


def _once(values: tuple[Entry, ...]) -> tuple[Entry, ...]:
    twice = [value for place, value in enumerate(values) if value in values[:place]]
    if twice:
        raise ValueError(f"given twice: {', '.join(map(str, twice))}")
    return values


class AblationConfig(RunConfig):
    """A run of one arm, the reference, and its variants. ``seeds`` trains each of them that often."""

    arms: tuple[Literal["centralized", "federated"], ...] = Field(default=("centralized",), min_length=1, max_length=1)
    ablation: Ablations

    @property
    def arm(self) -> Literal["centralized", "federated"]:
        """How the reference and every variant are trained."""
        return self.arms[0]

    @model_validator(mode="after")
    def _variants_can_be_made(self) -> Self:
        if self.federation.engine != "inprocess":
            raise ValueError('federation.engine: an ablation runs its federations "inprocess"')
        if self.base.kind == "path" and "linear" in self.ablation.attention:
            raise ValueError(
                "ablation.attention: the weights of a given base mean something else with linear attention;"
                ' use a base of kind "warm-up" or "seeded"'
            )
        return self


def load_ablation(path: Path, *, seeds: int | None = None) -> AblationConfig:
    """The configuration at ``path``, with ``seeds`` instead of its own where given.

    Raises:
        ConfigError: every fault, those of the model, of unseen labels without words or prompts included.
    """
    folder = path.parent.resolve()
    unseen = _unseen_faults(path, folder)
    try:
        config = load_config_of_run(AblationConfig, path)
    except ConfigError as error:
        raise ConfigError(error.where, [*error.faults, *unseen], remedy=error.remedy) from error
    if unseen:
        raise ConfigError(str(path), unseen, remedy="correct all of them; nothing has been read or written")
    chosen = config.ablation
    rules = tuple(resolve(rule, folder) if isinstance(rule, PairingRule) else rule for rule in chosen.pairing)
    chosen = chosen.model_copy(
        update={"pairing": rules, "unseen": None if chosen.unseen is None else resolve(chosen.unseen, folder)}
    )
    config = config.model_copy(update={"ablation": chosen})
    if seeds is not None:
        content = {**config.model_dump(), "seeds": seeds}
        config = validated(AblationConfig, content, "the configuration with the options of the command line")
    return config


def _unseen_faults(path: Path, folder: Path) -> list[str]:
    """What is wrong with the unseen labels beyond their types; read from the raw file, so that it can be told together
    with every other fault."""
    content = read_mapping(path)
    ablation, evaluation = content.get("ablation"), content.get("evaluation", {})
    if not isinstance(ablation, dict) or not isinstance(evaluation, dict):
        return []
    unseen = ablation.get("unseen")
    labels = unseen.get("labels") if isinstance(unseen, dict) else None
    if (
        not isinstance(unseen, dict)
        or not isinstance(labels, list)
        or not all(isinstance(name, str) for name in labels)
    ):
        return []
    words, prompts = unseen.get("words"), evaluation.get("prompts", "chexpert_ecg")
    faults: list[str] = []
    try:
        known = load_words(None if words is None else folder / str(words)).labels
        faults += [
            f"ablation.unseen.labels: no words are known for {label!r}" for label in labels if label not in known
        ]
    except ConfigError as error:
        faults += [f"ablation.unseen.words: {error.where}: {fault}" for fault in error.faults]
    try:
        asked = load_prompts(folder / prompts if str(prompts).endswith(".toml") else prompts)
        chosen = evaluation.get("labels") or [task.label for task in asked.tasks]
        faults += [f"ablation.unseen.labels: {label!r} is not asked for" for label in labels if label not in chosen]
    except ConfigError as error:
        faults += [f"evaluation.prompts: {fault}" for fault in error.faults]
    return faults
