"""Federated evaluation at the coordinator: ask the sites, admit their counts, pool them into AUROCs with bounds.

Figures are of the patients of the sites that answered; with a single one, they are that site's own. A pooled figure
shown to two sites tells each of them about the other.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Protocol

from more_model.evaluation.embedded import ImageOrTrace
from more_model.evaluation.federated_terms import EvaluationTerms
from more_model.evaluation.score_histograms import MacroAuroc, PooledAuroc, macro_auroc, pooled_auroc
from more_model.exchange import Refusal
from more_model.score_exchange import Evaluation, Question, fault_of_counts
from server.journal import Participation


class EvaluationTransport(Protocol):
    """Carries a question to sites and brings back what arrived in time; a site that did not answer is not a key."""

    def evaluate(
        self, questions: Mapping[str, Question], *, timeout_s: float
    ) -> Mapping[str, Evaluation | Refusal]: ...


@dataclass(frozen=True, slots=True)
class LabelFigure:
    """One label over all sites that answered. ``sites``: those with a patient that states it."""

    modality: ImageOrTrace
    auroc: PooledAuroc
    sites: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class PooledEvaluation:
    """The global tensors after ``round``, measured on the patients of ``split``.

    ``macro`` is over the labels that have a value (`more_model.evaluation.score_histograms.macro_auroc`).
    ``accepted``: the counts of each site; ``participation``: every site asked, with why it is missing.
    """

    round: int
    split: str
    macro: MacroAuroc
    labels: Mapping[str, LabelFigure]
    participation: tuple[Participation, ...]
    accepted: Mapping[str, Evaluation]

    def as_json(self) -> dict[str, Any]:
        """Without the counts of single sites."""
        return {
            "round": self.round,
            "split": self.split,
            "macro_auroc": asdict(self.macro),
            "per_label": {
                name: {**asdict(figure.auroc), "modality": figure.modality, "sites": len(figure.sites)}
                for name, figure in self.labels.items()
            },
            "sites": {part.site: {"state": part.state, "why": part.why} for part in self.participation},
        }


def evaluate_round(
    transport: EvaluationTransport,
    question: Question,
    sites: Sequence[str],
    terms: EvaluationTerms,
    *,
    timeout_s: float,
) -> PooledEvaluation:
    """Ask every site once and pool what came back; a site that refuses, is late or answers wrongly is left out.

    Nothing is raised for missing sites: whether the figures may be compared with those of another round says
    `server.best_round.Metric`.
    """
    answers = transport.evaluate(dict.fromkeys(sites, question), timeout_s=timeout_s)
    return pool(question, sites, answers, terms)


def pool(
    question: Question, sites: Sequence[str], answers: Mapping[str, Evaluation | Refusal], terms: EvaluationTerms
) -> PooledEvaluation:
    """The pooled figures of one question."""
    accepted: dict[str, Evaluation] = {}
    participation = []
    for site in sorted(sites):
        answer = answers.get(site)
        if answer is None:
            participation.append(Participation(site, "absent", "no answer in time"))
        elif isinstance(answer, Refusal):
            participation.append(Participation(site, "refused", answer.code))
        elif (fault := fault_of_evaluation(answer, site=site, question=question, terms=terms)) is not None:
            participation.append(Participation(site, "quarantined", fault))
        else:
            accepted[site] = answer
            participation.append(Participation(site, "accepted"))
    labels = {
        name: LabelFigure(task.modality, _auroc(accepted, name, terms), _sites_with(accepted, name))
        for name, task in terms.names.items()
    }
    macro = macro_auroc([figure.auroc for figure in labels.values()])
    return PooledEvaluation(question.round, question.split, macro, labels, tuple(participation), accepted)


def fault_of_evaluation(evaluation: Evaluation, *, site: str, question: Question, terms: EvaluationTerms) -> str | None:
    """Why ``evaluation``, received in answer to ``question`` to ``site``, must not be pooled; None where it may."""
    if evaluation.site != site:
        return f"it calls itself {evaluation.site!r}, but the question went to {site!r}"
    if (evaluation.round, evaluation.split) != (question.round, question.split):
        return "it answers for another round or other patients than were asked about"
    if evaluation.spec_digest != question.spec_digest:
        return "it was made with another exchange specification"
    if evaluation.fingerprint_digest != question.fingerprint.digest():
        return "it was measured on another base"
    if evaluation.terms_digest != terms.digest():
        return "it answers other questions than were asked"
    return fault_of_counts(evaluation, labels=terms.names, bins=terms.bins.count)


def site_figures(
    result: PooledEvaluation, terms: EvaluationTerms, *, viewer: str | None = None
) -> dict[str, dict[str, PooledAuroc]]:
    """The figures of single sites, per label, as far as ``viewer`` (a site; None: the public) may see them: its own,
    and those of sites whose policy shows them."""
    return {
        site: {name: _auroc({site: evaluation}, name, terms) for name in terms.names}
        for site, evaluation in result.accepted.items()
        if evaluation.show_site or site == viewer
    }


def _auroc(accepted: Mapping[str, Evaluation], name: str, terms: EvaluationTerms) -> PooledAuroc:
    told = [(evaluation.counts[name], evaluation.minimum_count) for evaluation in accepted.values()]
    return pooled_auroc(told, terms.bins.count)


def _sites_with(accepted: Mapping[str, Evaluation], name: str) -> tuple[str, ...]:
    empty = ((), ())
    counts = {site: evaluation.counts[name] for site, evaluation in accepted.items()}
    return tuple(site for site, each in counts.items() if (each.positives, each.negatives) != empty)
