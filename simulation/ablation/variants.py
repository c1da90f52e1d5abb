"""The variants of an ablation: each is the reference with one thing changed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from more_model.data.pairing import PairingRule
from more_model.evaluation.embedded import ImageOrTrace
from more_model.model.config import ModelConfig
from more_model.settings import validated
from simulation.ablation.settings import AblationConfig, Unseen
from simulation.report.wording import modality_name

_WITHOUT = "without-"


@dataclass(frozen=True, slots=True)
class Variant:
    """One row of the table: what it is called, which question it belongs to, and the one thing that it changes.

    ``model`` are changes of the model's configuration, part by part. ``pairing`` is another rule, or ``"none"``.
    ``hospital`` and ``missing`` are left out of training, ``unseen`` out of the words. ``is_reference`` marks a value
    that the reference has itself.
    """

    name: str
    group: str
    what: str
    model: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    pairing: PairingRule | str | None = None
    missing: ImageOrTrace | None = None
    hospital: str | None = None
    unseen: Unseen | None = None
    is_reference: bool = False


def reference() -> Variant:
    """The configuration as it is."""
    return Variant("reference", "Reference", "the reference", is_reference=True)


def plan(config: AblationConfig, model: ModelConfig, sites: Sequence[str] | None) -> list[Variant]:
    """All variants in the order of the table. ``model`` is the reference's; ``sites`` are its hospitals: before they
    are known (None), those that the configuration names."""
    chosen = config.ablation
    named = () if chosen.hospitals == "all" else chosen.hospitals
    hospitals = sites or () if chosen.hospitals == "all" else named
    return [
        *(_rank(rank, model) for rank in chosen.lora_ranks),
        *(_dropkey(schedule, model) for schedule in chosen.dropkey),
        *(_temperature(value, model) for value in chosen.temperatures),
        *(_attention(kind, model) for kind in chosen.attention),
        *(_pairing(rule, config.data.pairing) for rule in chosen.pairing),
        *(_missing(modality) for modality in chosen.missing),
        *(_hospital(site) for site in hospitals),
        *([] if chosen.unseen is None else [_unseen(chosen.unseen)]),
    ]


def name_faults(names: Sequence[str], variants: Sequence[Variant], sites: Sequence[str] | None) -> list[str]:
    """What is wrong with the names given on a command line; while the sites are not known, any hospital may be one."""
    known = [variant.name for variant in variants]
    return [
        f"--only {name}: there is no such variant; there are {', '.join(known)}"
        for name in names
        if name not in known and not (sites is None and name.startswith(_WITHOUT))
    ]


def hospital_faults(config: AblationConfig, sites: Sequence[str]) -> list[str]:
    """Hospitals to leave out that are none, or of which none would be left."""
    hospitals = config.ablation.hospitals
    named = sites if hospitals == "all" else hospitals
    faults = [
        f"ablation.hospitals: there is no {name!r}; there are {', '.join(sites)}" for name in named if name not in sites
    ]
    if named and len(sites) < 2:
        faults.append("ablation.hospitals: with one hospital there is nothing to train on without it")
    return faults


def changed_model(model: ModelConfig, changes: Mapping[str, Mapping[str, Any]]) -> ModelConfig:
    """``model`` with ``changes`` laid over its parts, validated.

    Raises:
        ConfigError: the result is not valid.
    """
    content = model.model_dump()
    for part, values in changes.items():
        content[part] = {**content[part], **values}
    return validated(ModelConfig, content, "the model of a variant")


def _rank(rank: int, model: ModelConfig) -> Variant:
    # The scale alpha / rank stays, so that more rank is more room and not a smaller step.
    own = model.lora
    alpha = own.alpha if rank == 0 or own.rank == 0 else own.alpha * rank / own.rank
    name, what = ("lora-none", "no LoRA") if rank == 0 else (f"lora-rank-{rank}", f"LoRA rank {rank}")
    changes = {"lora": {"rank": rank, "alpha": alpha}}
    return Variant(name, "LoRA", what, changes, is_reference=rank == own.rank)


def _dropkey(schedule: str, model: ModelConfig) -> Variant:
    rate = "" if schedule == "off" else f", rate {model.dropkey.rate:g}"
    changes = {"dropkey": {"schedule": schedule}}
    same = schedule == model.dropkey.schedule
    return Variant(f"dropkey-{schedule}", "DropKey", f"DropKey {schedule}{rate}", changes, is_reference=same)


def _temperature(value: float | str, model: ModelConfig) -> Variant:
    own = model.temperature
    if isinstance(value, str):
        what, changes, same = f"temperature learned, from {own.initial:g}", {"learned": True}, own.learned
        return Variant("temperature-learned", "Temperature", what, {"temperature": changes}, is_reference=same)
    constant = {"initial": value, "learned": False}
    same = constant == own.model_dump()
    return Variant(
        f"temperature-{value:g}", "Temperature", f"temperature {value:g}", {"temperature": constant}, is_reference=same
    )


def _attention(kind: str, model: ModelConfig) -> Variant:
    changes = {tower: {"attention": kind} for tower in ("xray", "ecg")}
    same = model.xray.attention == kind == model.ecg.attention
    return Variant(f"attention-{kind}", "Attention", f"{kind} attention, X-ray and ECG", changes, is_reference=same)


def _pairing(rule: PairingRule | str, own: PairingRule) -> Variant:
    if isinstance(rule, str):
        return Variant("pairing-none", "Pairing", "X-ray and ECG never together", pairing=rule)
    days = "" if rule.rule == "admission-window" else f"-{rule.days:g}d"
    what = f"pairs: {rule.rule}" + (f" {rule.days:g} days" if days else "")
    return Variant(f"pairing-{rule.rule}{days}", "Pairing", what, pairing=rule, is_reference=rule == own)


def _missing(modality: ImageOrTrace) -> Variant:
    what = f"no {modality_name(modality)} in training"
    return Variant(f"missing-{modality}", "Missing tower", what, missing=modality)


def _hospital(site: str) -> Variant:
    return Variant(f"{_WITHOUT}{site}", "Hospital left out", f"without {site}, tested there", hospital=site)


def _unseen(unseen: Unseen) -> Variant:
    what = f"never worded: {', '.join(unseen.labels)}"
    return Variant("unseen", "Unseen conditions", what, unseen=unseen)
