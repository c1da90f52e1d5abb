"""The answers every hospital wants, in plain words, saying no more than the intervals and the privacy claim allow."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from simulation.report.health import examined, title_of, verdict_of
from simulation.report.privacy_words import delta_words, epsilon_words, is_private, meaning, mechanism
from simulation.report.reading import arms, few_cases, interval, label_facts, labels, number, part
from simulation.report.wording import auroc, listing, plural, signed

Outcome = Literal["better", "worse", "undecided", "unknown"]
#: A fact without a good or bad side: no epsilon is coloured as if it were safe.
Stated = Literal["stated"]


@dataclass(frozen=True, slots=True)
class Verdict:
    """One question with its answer (short) and the numbers behind it (a sentence or two)."""

    question: str
    outcome: Outcome | Stated
    answer: str
    evidence: str


def outcome_of(values: Mapping[str, Any]) -> Outcome:
    """Where the interval of a difference lies: above zero, below zero, across zero, or not known."""
    ends = interval(values)
    if number(values, "macro_auroc") is None or ends is None:
        return "unknown"
    if ends[0] > 0:
        return "better"
    return "worse" if ends[1] < 0 else "undecided"


def _pair(summary: Mapping[str, Any], other: str, other_words: str) -> str:
    results = arms(summary)
    federated = number(part(results, "federated"), "macro_auroc")
    compared = number(part(results, other), "macro_auroc")
    if federated is None or compared is None:
        return ""
    return f"Macro AUROC: federated {auroc(federated)}, {other_words} {auroc(compared)}. "


def _difference(values: Mapping[str, Any]) -> str:
    value, ends = number(values, "macro_auroc"), interval(values)
    if ends is None:
        return f"Difference {signed(value)}, without an interval."
    paired = "paired, " if values.get("paired") is True else ""
    return f"Difference {signed(value)} ({paired}95 % interval {signed(ends[0])} to {signed(ends[1])})."


def _price(summary: Mapping[str, Any]) -> str:
    return (
        " The federated model is private; the difference includes what its noise cost." if is_private(summary) else ""
    )


def _reach(values: Mapping[str, Any]) -> str:
    """What an interval across zero still allows, in both directions."""
    ends = interval(values) or (0.0, 0.0)
    if _same_scores(values):
        return "Every resampling of the patients gave the same score for both."
    worse, better = max(0.0, -ends[0]), max(0.0, ends[1])
    return (
        "The interval includes zero: this test cannot tell the two apart. It is compatible with the federated model "
        f"being up to {worse:.3f} worse or up to {better:.3f} better."
    )


def _same_scores(values: Mapping[str, Any]) -> bool:
    """Whether the difference and its interval are zero at the precision shown."""
    ends = interval(values)
    return ends is not None and max(abs(end) for end in (*ends, number(values, "macro_auroc") or 0.0)) < 0.0005


def _everyone_answer(outcome: Outcome, values: Mapping[str, Any]) -> str:
    apart = auroc(abs(number(values, "macro_auroc") or 0.0))
    if outcome == "better":
        return f"Yes: it scored {apart} higher on these test patients."
    if outcome == "worse":
        return f"No: it scored {apart} lower, and the interval excludes zero."
    if outcome == "unknown":
        return "This run cannot answer that."
    if _same_scores(values):
        return "The two scored the same on these test patients."
    worse = max(0.0, -(interval(values) or (0.0, 0.0))[0])
    return f"No difference was shown; being up to {worse:.3f} worse is not ruled out."


def _alone_answer(outcome: Outcome, values: Mapping[str, Any]) -> str:
    apart = auroc(abs(number(values, "macro_auroc") or 0.0))
    mean = "the mean of the models that the sites trained alone, on the test patients of all sites"
    return {
        "better": f"Yes: it scored {apart} above {mean}.",
        "worse": f"No: it scored {apart} below {mean}.",
        "undecided": "An advantage over training alone was not shown.",
        "unknown": "This run cannot answer that.",
    }[outcome]


def _unknown_evidence(summary: Mapping[str, Any], values: Mapping[str, Any], needed: tuple[str, str]) -> str:
    if number(values, "macro_auroc") is not None:
        return f"{_difference(values)} A difference without an interval shows nothing."
    if values.get("reason"):
        return f"The difference was refused: {values['reason']}."
    compared = {"federated": "the federated model", needed[0]: needed[1]}
    results = arms(summary)
    lacking = [words for arm, words in compared.items() if number(part(results, arm), "macro_auroc") is None]
    return f"No AUROC for {listing(lacking)}." if lacking else "The difference was not computed."


def against_everyone(summary: Mapping[str, Any]) -> Verdict:
    """Federated against centralised."""
    values = part(summary, "gap", "federated_minus_centralized")
    outcome = outcome_of(values)
    question = "Does the federated model reach the AUROC of the model trained on everyone’s data?"
    if outcome == "unknown":
        evidence = _unknown_evidence(summary, values, ("centralized", "the model trained on everyone’s data"))
    else:
        evidence = _pair(summary, "centralized", "trained on everyone’s data") + _difference(values)
        evidence += (f" {_reach(values)}" if outcome == "undecided" else "") + _price(summary)
    return Verdict(question, outcome, _everyone_answer(outcome, values), evidence)


def against_alone(summary: Mapping[str, Any]) -> Verdict:
    """Federated against the mean of the local models, and the count of sites that gain."""
    values = part(summary, "gap", "federated_minus_local_mean")
    outcome = outcome_of(values)
    if outcome == "unknown":
        evidence = _unknown_evidence(summary, values, ("local", "models trained alone"))
    else:
        evidence = _pair(summary, "local", "mean of the models trained alone") + _difference(values)
        evidence += (f" {_reach(values)}" if outcome == "undecided" else "") + _price(summary)
    sites = _sites_that_gain(summary)
    return Verdict(
        "Is it better than what a site gets alone?",
        outcome,
        _alone_answer(outcome, values),
        f"{evidence} {sites}".strip(),
    )


def _sites_that_gain(summary: Mapping[str, Any]) -> str:
    joining = part(summary, "joining")
    gains = {site: part(joining, site) for site in joining if number(part(joining, site), "gain") is not None}
    if not any(interval(values) for values in gains.values()):
        return ""
    clear = [site for site, values in gains.items() if (interval(values) or (0.0, 0.0))[0] > 0]
    losing = [site for site, values in gains.items() if (interval(values) or (0.0, 0.0))[1] < 0]
    sentence = f"By site: for {len(clear)} of {plural(len(gains), 'site')} the gain is clear of zero"
    if losing:
        return f"{sentence}; {listing(losing)} did clearly better alone."
    return f"{sentence}; no site did clearly better alone."


def promised(summary: Mapping[str, Any]) -> Verdict:
    """What the federated arm promises about privacy; no promise is said as plainly as one."""
    privacy, question = part(summary, "privacy"), "What does the federated model promise about privacy?"
    secure = " Secure sums hid single updates from the coordinator; that alone is no differential privacy."
    sums = secure if part(privacy, "secure_sum") else ""
    epsilon, delta = number(privacy, "epsilon"), number(privacy, "delta")
    if is_private(summary) and epsilon is not None and delta is not None:
        unit = str(privacy["unit"])
        where = ", at the site where it is largest" if len(part(privacy, "sites")) > 1 else ""
        answer = f"Differential privacy for each {unit}: {epsilon_words(epsilon)} at delta {delta_words(delta)}{where}."
        return Verdict(question, "stated", answer, meaning(unit, epsilon, delta))
    if mechanism(summary) == "none":
        evidence = f"What the updates and the model reveal about a patient is not bounded.{sums}"
        return Verdict(question, "stated", "Nothing: it was trained without differential privacy.", evidence)
    return Verdict(question, "unknown", "The run does not say, so nothing is claimed.", f"No epsilon is stated.{sums}")


def cautions(summary: Mapping[str, Any]) -> list[str]:
    """What a reader must know before believing the answers, most important first."""
    found = [
        _floor(summary),
        _unhealthy(summary),
        _partial(summary),
        _prompts(summary),
        _few(summary),
        _refused(summary),
    ]
    return [caution for caution in found if caution]


def _floor(summary: Mapping[str, Any]) -> str:
    ends = interval(part(arms(summary), "federated"))
    if ends is None or ends[0] > 0.5:
        return ""
    return (
        "The federated model itself is not shown to be better than chance (0.5): its interval runs from "
        f"{auroc(ends[0])} to "
        f"{auroc(ends[1])}."
    )


def _unhealthy(summary: Mapping[str, Any]) -> str:
    alarms = [
        title_of(finding)
        for model in examined(summary)
        for finding in model.findings
        if model.arm == "federated" and verdict_of(finding) == "alarm"
    ]
    if not alarms:
        return ""
    return f"The federated training shows signs of failure ({listing(alarms)}): see “Health of training”."


def _partial(summary: Mapping[str, Any]) -> str:
    if summary.get("status") != "partial":
        return ""
    return (
        "This run is PARTIAL: it did not do everything it was asked to, or did it with fewer sites than expected. “Who "
        "took part” "
        "says what is missing."
    )


def _prompts(summary: Mapping[str, Any]) -> str:
    kind = summary.get("text_kind")
    if kind == "label prompts":
        return (
            "The words this run trained on are label prompts, not reports that a physician wrote: retrieval then only "
            "tells labels apart."
        )
    if kind == "mixed":
        return "Some sites have reports; at others the words are label prompts made from the labels, not reports."
    return ""


def _few(summary: Mapping[str, Any]) -> str:
    names = [label for label in labels(summary) if few_cases(label_facts(summary, label))]
    if not names:
        return ""
    return (
        f"Fewer than 10 positives or negatives among the test patients for {listing(names)}: too few to rank models by."
    )


def _refused(summary: Mapping[str, Any]) -> str:
    federated = part(arms(summary), "federated", "per_label")
    names = [label for label in federated if number(part(federated, label), "auroc") is None]
    if not names:
        return ""
    return f"No AUROC for {listing(names)}: the table of labels says why. The macro mean leaves such labels out."
