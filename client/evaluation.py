"""Measuring the federation's model on a hospital's own held-out patients; only counts of patients by score leave."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from client.protection import Protection
from more_model.base import Assembled
from more_model.data.study import Split
from more_model.errors import ExchangeError
from more_model.evaluation.embedded import EmbeddedSet, ImageOrTrace, Mask, ScoredLabel
from more_model.evaluation.embedding import embedded_set
from more_model.evaluation.federated_terms import EvaluationTerms
from more_model.evaluation.score_histograms import score_counts
from more_model.evaluation.uncertainty import settled
from more_model.evaluation.zero_shot import encode_prompts, zero_shot
from more_model.model.inventory import import_tensors
from more_model.model.more import More
from more_model.score_exchange import MEASURED_SPLITS, Evaluation, Question, ScoreCounts
from more_model.training.embed import embed_texts
from more_model.training.examples import Examples

#: As in `client.data_report`.
MINIMUM_COUNT = 5


@dataclass(frozen=True, slots=True)
class HeldOut:
    """What a site brings to federated evaluation.

    examples: all its triplets; a question is answered from those of its split, never from training patients. terms:
    what the site agreed to; other questions are refused. minimum_count: no count of fewer patients leaves.
    counts_are_public: the site's people have declared that these counts may leave in a run with differential privacy
    or secure sums. show_site: the other sites may see this site's own figures.

    Counts are no differential privacy, whatever their minimum: each answer releases something of the held-out patients,
    in every round anew, and who compares answers from before and after a patient was withdrawn may learn of that one.
    """

    examples: Examples
    terms: EvaluationTerms
    minimum_count: int = MINIMUM_COUNT
    counts_are_public: bool = False
    show_site: bool = False
    threads: int = 2


def require_measurable(question: Question, held_out: HeldOut | None, protection: Protection) -> HeldOut:
    """The site's held-out patients, where the question may be asked of them.

    Raises:
        ExchangeError: the site takes no part in evaluation, agreed to other terms or split, or protects its updates in
            this run and has not declared such counts public. A privacy budget covers training; counts of held-out
            patients are a release of their own that it knows nothing of, and secure sums would hide less than is told.
    """
    if held_out is None:
        raise ExchangeError("this site takes no part in federated evaluation", remedy="state its terms, or do not ask")
    if question.terms_digest != held_out.terms.digest():
        raise ExchangeError(
            "the coordinator's questions, wordings or bins are not those that this site agreed to",
            remedy="compare the evaluation settings of both sides",
            avoid="answer with other bins on the same patients: counts could be compared until single patients show",
        )
    if question.split not in MEASURED_SPLITS:
        raise ExchangeError("only validation and test patients are for measuring")
    if (protection.private is not None or protection.sums is not None) and not held_out.counts_are_public:
        raise ExchangeError(
            "score counts are a release that the protection agreed for this run does not cover",
            remedy="leave federated evaluation out, or let the site's people declare these counts public",
        )
    return held_out


def measured(
    question: Question, held_out: HeldOut, *, site: str, assembled: Assembled, tokenizer: Any, max_tokens: int
) -> Evaluation:
    """The site's answer: the tensors of the question scored zero-shot on the patients of its split.

    Raises:
        ExchangeError: the tensors are not those of the specification.
    """
    import_tensors(assembled.model, question.tensors)
    examples = held_out.examples.of_split(Split(question.split))
    scored = _scored(assembled.model, examples, held_out, tokenizer, max_tokens)
    return Evaluation(
        site=site,
        round=question.round,
        split=question.split,
        counts=_counts(scored, held_out),
        minimum_count=held_out.minimum_count,
        terms_digest=held_out.terms.digest(),
        spec_digest=assembled.spec.digest(),
        fingerprint_digest=assembled.fingerprint.digest(),
        show_site=held_out.show_site,
    )


def _counts(scored: Sequence[ScoredLabel], held_out: HeldOut) -> dict[str, ScoreCounts]:
    of_task = {item.task: item for item in scored}
    return {
        name: score_counts(of_task[task], held_out.terms.bins, held_out.minimum_count)
        for name, task in held_out.terms.names.items()
    }


def _scored(
    model: More, examples: Examples, held_out: HeldOut, tokenizer: Any, max_tokens: int
) -> Sequence[ScoredLabel]:
    terms, threads = held_out.terms, held_out.threads
    directions = encode_prompts(
        terms.prompts,
        lambda texts: embed_texts(model, texts, tokenizer=tokenizer, max_tokens=max_tokens, threads=threads),
    )
    labels = [task.label for task in terms.prompts.tasks]
    rows = embedded_set(model, examples, labels, tokenizer=tokenizer, max_tokens=max_tokens, threads=threads)
    return zero_shot(_settled(rows, examples, terms), terms.prompts, directions)


def _settled(rows: EmbeddedSet, examples: Examples, terms: EvaluationTerms) -> EmbeddedSet:
    # By what a patient had, not by what the model made of it: the patients must be the same in every round.
    present: dict[ImageOrTrace, Mask] = {
        "xray": np.array([triplet.xray is not None for triplet in examples.triplets], dtype=np.bool_),
        "ecg": np.array([triplet.ecg is not None for triplet in examples.triplets], dtype=np.bool_),
    }
    return settled(rows, terms.prompts.tasks, terms.uncertainty, present=present)
