"""The words of a visit: a chest X-ray report in the manner of one hospital, and an ECG cart's statements.

A stated label and the words agree: every positive finding is named, every uncertain one is hedged, an absent one is
negated or not mentioned.
"""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from numpy.random import Generator

from simulation.synthetic import phrases as say
from simulation.synthetic.config import WritingStyle
from simulation.synthetic.findings import OPACITIES, Presentation
from simulation.synthetic.waves import Waves

_LINE = 78


@dataclass(frozen=True, slots=True)
class ReportWords:
    """``text`` as MIMIC-CXR lays it out; ``negated`` are the findings that the words say are absent."""

    text: str
    negated: frozenset[str]


def compose_report(
    rng: Generator,
    style: WritingStyle,
    labels: Mapping[str, float],
    looks: Mapping[str, Presentation],
    *,
    views: Sequence[str],
    sex: str,
) -> ReportWords:
    """The radiologist's report of one examination; ``views`` are its films', ``labels`` what is stated."""
    negated = _choose_negated(rng, style, labels)
    findings = _findings_section(rng, style, labels, looks, negated)
    impression = _impression_section(rng, style, labels, looks)
    luck = rng.random()
    sections = _heading(rng, style, views, sex)
    if luck >= style.no_findings_rate:
        sections.append(("FINDINGS", findings))
    else:
        negated = frozenset()
    if not style.no_findings_rate <= luck < style.no_findings_rate + style.no_impression_rate:
        sections.append(("IMPRESSION", impression))
        if labels["No Finding"] == 1.0:
            negated = negated | {name for name in say.PHRASES if name != "Support Devices"}
    return ReportWords(_layout(rng, style, sections), frozenset(negated))


def _choose_negated(rng: Generator, style: WritingStyle, labels: Mapping[str, float]) -> frozenset[str]:
    """Single negations, and whole groups that are called normal at once."""
    luck = rng.random(len(say.PHRASES))
    negated = {
        name
        for chance, name in zip(luck, say.PHRASES, strict=True)
        if labels[name] == 0.0 and chance < style.negation_rate
    }
    for _, entailed in say.NORMAL_GROUPS.values():
        if rng.random() < style.negation_rate and all(labels[name] == 0.0 for name in entailed):
            negated.update(entailed)
    return frozenset(negated)


def _pick(rng: Generator, options: Sequence[str]) -> str:
    return options[int(rng.integers(len(options)))]


def _fill(phrase: str, finding: str, look: Presentation) -> str:
    side = {-1: "right", 1: "left", 0: "bilateral"}[look.side]
    if look.side == 0 and ("the {side}" in phrase or "{side} costophrenic" in phrase):
        phrase = phrase.replace("on the {side}", "on both sides").replace("at the {side} base", "at both bases")
        phrase = phrase.replace("{side} costophrenic angle is", "costophrenic angles are")
    grades = say.MILD_GRADES if finding in say.GRADED_BY_INTENSITY else say.GRADES
    return phrase.format(side=side, grade=grades[min(2, int(look.severity * 3.0))])


def _sentence(text: str) -> str:
    return text[:1].upper() + text[1:] + "."


def _findings_section(
    rng: Generator,
    style: WritingStyle,
    labels: Mapping[str, float],
    looks: Mapping[str, Presentation],
    negated: frozenset[str],
) -> str:
    sentences: list[str] = []
    for group in style.order:
        members = [name for name, phrase in say.PHRASES.items() if phrase.group == group]
        for name in members:
            if labels[name] != 0.0 and not _said_by_others(name, labels, rng):
                options = say.PHRASES[name].present if labels[name] == 1.0 else say.PHRASES[name].uncertain
                sentences.append(_sentence(_fill(_pick(rng, options), name, looks[name])))
        if group in say.NORMAL_GROUPS:
            wording, entailed = say.NORMAL_GROUPS[group]
            if set(entailed) <= negated:
                sentences.append(_sentence(_pick(rng, wording)))
                negated = negated - set(entailed)
    return " ".join(sentences + _negations(rng, style, negated))


def _said_by_others(name: str, labels: Mapping[str, float], rng: Generator) -> bool:
    """An opacity that is named as consolidation, pneumonia or edema is often not called opacity as well."""
    named = any(labels[other] == 1.0 for other in OPACITIES)
    return name == "Lung Opacity" and named and rng.random() < 0.5


def _negations(rng: Generator, style: WritingStyle, negated: frozenset[str]) -> list[str]:
    nouns = [_pick(rng, say.PHRASES[name].absent) for name in say.PHRASES if name in negated]
    size = {"terse": 4, "plain": 3, "verbose": 2}[style.manner]
    opening = {"terse": "no {}", "plain": "there is no {}", "verbose": "no {} is seen"}[style.manner]
    sentences = []
    for start in range(0, len(nouns), size):
        part = nouns[start : start + size]
        listed = part[0] if len(part) == 1 else f"{', '.join(part[:-1])} or {part[-1]}"
        sentences.append(_sentence(opening.format(listed)))
    return sentences


def _impression_section(
    rng: Generator, style: WritingStyle, labels: Mapping[str, float], looks: Mapping[str, Presentation]
) -> str:
    items: list[str] = []
    for name, phrase in say.PHRASES.items():
        if labels[name] == 1.0 and not _said_by_others(name, labels, rng):
            items.append(_sentence(_fill(_pick(rng, phrase.summary), name, looks[name])))
        elif labels[name] == -1.0:
            items.append(_sentence("possible " + _fill(phrase.summary[-1], name, looks[name])))
    if labels["No Finding"] == 1.0:
        items.insert(0, _sentence(_pick(rng, say.NORMAL_IMPRESSION)))
    if style.manner == "verbose" and len(items) > 1:
        items = [f"{number}. {item}" for number, item in enumerate(items, start=1)]
    return " ".join(items)


def examination_name(views: Sequence[str]) -> str:
    """The procedure's name in the report and in the metadata table."""
    if "AP" in views:
        return "CHEST (PORTABLE AP)"
    return "CHEST (PA AND LAT)" if len(views) > 1 else "CHEST (SINGLE VIEW)"


def _heading(rng: Generator, style: WritingStyle, views: Sequence[str], sex: str) -> list[tuple[str, str]]:
    person = "woman" if sex == "F" else "man"
    reason = _pick(rng, say.INDICATIONS)
    if style.manner == "terse":
        return [("INDICATION", f"___{sex} with {reason}.")]
    technique = "Portable AP chest radiograph." if "AP" in views else "Upright chest radiograph."
    comparison = "None." if rng.random() < 0.4 else "Chest radiograph ___."
    return [
        ("EXAMINATION", examination_name(views)),
        ("INDICATION", f"___ year old {person} with {reason}."),
        ("TECHNIQUE", technique),
        ("COMPARISON", comparison),
    ]


def _layout(rng: Generator, style: WritingStyle, sections: list[tuple[str, str]]) -> str:
    """MIMIC-CXR's layout: a leading space, upper-case headers, short lines, addenda first under a full rule."""
    lines: list[str] = []
    if rng.random() < style.addendum_rate:
        lines += [f"{'WET READ ADDENDUM':^{_LINE}}".rstrip(), " ", " Findings were discussed with Dr. ___ at ___.", ""]
        lines += ["_" * _LINE, ""]
    lines.append(f"{'FINAL REPORT':^{_LINE}}".rstrip())
    for header, text in sections:
        if header in ("FINDINGS", "IMPRESSION"):
            lines += [f" {header}: ", " ", *(f" {line}" for line in textwrap.wrap(text, _LINE - 2)), " "]
        else:
            lines += [f" {header}:  {text}", " "]
    return "\n".join(lines).rstrip() + "\n"


def ecg_statements(rng: Generator, labels: Mapping[str, float], waves: Waves) -> tuple[str, ...]:
    """The cart's statements for report_0, report_1, ... in order: rhythm, findings, conclusion."""
    lines: list[str] = []
    rate = 60.0 / waves.rr_s
    if labels["AFIB"]:
        lines.append(_pick(rng, say.ECG_FIBRILLATION))
    else:
        lines.append(say.ECG_RHYTHM["slow" if rate < 60.0 else ("fast" if rate > 100.0 else "regular")])
    if labels["CD"]:
        lines.append(_pick(rng, say.ECG_BLOCK[waves.block or "right"]))
    if labels["HYP"]:
        lines.append(_pick(rng, say.ECG_HYPERTROPHY))
    if labels["MI"]:
        lines.append(_pick(rng, say.ECG_INFARCT[waves.territory or "inferior"]))
    if labels["STTC"]:
        lines.append(_pick(rng, say.ECG_STTC))
    normal = labels["NORM"] == 1.0
    lines.append(_pick(rng, say.ECG_SUMMARY_NORMAL if normal else say.ECG_SUMMARY_ABNORMAL))
    return tuple(lines)
