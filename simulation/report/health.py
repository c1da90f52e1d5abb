"""Reading the health of training out of a summary: which models, what was found, and the line for the terminal."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from more_model.evaluation.finding import GRAVITY, SIGNATURES
from simulation.report.reading import arms, local_models, number, part
from simulation.report.wording import arm_name, listing, modality_name

#: Arms in which nothing was trained on the hospitals' patients.
UNTRAINED = ("base", "random_encoder")


@dataclass(frozen=True, slots=True)
class Examined:
    """One model with what was found in it; ``arm`` is ``local`` for the model of a single site."""

    arm: str
    name: str
    findings: Sequence[Mapping[str, Any]]
    segments: Sequence[Mapping[str, Any]]

    def of(self, code: str) -> list[Mapping[str, Any]]:
        """The findings of one signature."""
        return [finding for finding in self.findings if finding.get("code") == code]


def examined(summary: Mapping[str, Any]) -> list[Examined]:
    """Every model that has findings, in display order, the models of single sites in the place of their mean."""
    found = []
    for arm, values in arms(summary).items():
        models = local_models(summary) if arm == "local" else {"": values}
        for site, own in models.items():
            name = f"{site} alone" if arm == "local" else arm_name(arm)
            health = part(own, "health")
            segments = _mappings(part(health, "measures"), "segments")
            found.append(Examined(arm, name, _mappings(health, "findings"), segments))
    return [model for model in found if model.findings]


def _mappings(values: Mapping[str, Any], key: str) -> list[Mapping[str, Any]]:
    listed = values.get(key)
    return [item for item in listed if isinstance(item, Mapping)] if isinstance(listed, list) else []


def verdict_of(finding: Mapping[str, Any]) -> str:
    """Its verdict, ``unknown`` where it is none of ours."""
    verdict = str(finding.get("verdict"))
    return verdict if verdict in GRAVITY else "unknown"


def worst(findings: Sequence[Mapping[str, Any]]) -> str:
    """The gravest verdict; ``unknown`` only where nothing is known."""
    return max(map(verdict_of, findings), key=lambda verdict: GRAVITY[verdict], default="unknown")


def title_of(finding: Mapping[str, Any]) -> str:
    """What a finding is about: the signature, and the tower where it concerns one."""
    code, tower = str(finding.get("code")), str(finding.get("tower") or "")
    title = SIGNATURES[code].title if code in SIGNATURES else code
    return f"{title}: {tower_name(tower)}" if tower else title


def tower_name(tower: str) -> str:
    """X-ray, ECG or text."""
    return "text" if tower == "text" else modality_name(tower)


def ratios(model: Examined, tower: str) -> list[tuple[float, float]]:
    """(share of the training done, loss as a share of its chance level) for each segment that had the term."""
    points = []
    for place, segment in enumerate(model.segments, start=1):
        loss, chance = number(segment, f"loss_{tower}"), number(segment, f"chance_{tower}")
        if loss is not None and chance:
            points.append((place / len(model.segments), loss / chance))
    return points


def alarm_line(summary: Mapping[str, Any]) -> str:
    """One line naming the trained models with an alarm and what it is about; empty where there is none."""
    alarmed: dict[str, list[str]] = {}
    for model in examined(summary):
        titles = [title_of(finding) for finding in model.findings if verdict_of(finding) == "alarm"]
        if titles and model.arm not in UNTRAINED:
            alarmed[model.name] = titles
    if not alarmed:
        return ""
    named = [f"{name} ({', '.join(titles)})" for name, titles in alarmed.items()]
    return f"Health of training: ALARM in {listing(named)}. The report says what that means."
