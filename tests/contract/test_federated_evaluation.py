"""The miniature federation measures its model over real Flower messages: the pooled AUROC from counts against the exact
one that the simulation computes from all scores."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from flwr.app import Message
from safetensors.numpy import load_file

from client.evaluation import HeldOut
from client.flower_app import build_client_app
from client.hospital import Hospital
from more_model.evaluation.federated_terms import EvaluationTerms, evaluation_terms
from more_model.evaluation.score_histograms import quantile_bins
from more_model.exchange import FACTS_RECORD, TENSORS_RECORD, Refusal
from more_model.model.inventory import import_tensors
from more_model.score_exchange import Question
from server.evaluation import PooledEvaluation, evaluate_round
from server.flower_grid import GridTransport, discover, sent_once
from simulation.flower_inprocess import InProcessGrid, partition_of

if TYPE_CHECKING:
    from simulation.workbench import Workbench


@dataclass(frozen=True)
class Asked:
    """One question to the federation, what came of it, and everything that crossed the wire."""

    question: Question
    terms: EvaluationTerms
    result: PooledEvaluation
    messages: list[Message]


Ask = Callable[[int], Asked]


@pytest.fixture(scope="module")
def exact(miniature_run: Any) -> dict[str, dict[str, Any]]:
    """The simulation's own figures per label, of the federated arm on all test patients."""
    summary = json.loads((miniature_run.out / "summary.json").read_text(encoding="utf-8"))
    figures: dict[str, dict[str, Any]] = summary["arms"]["federated"]["per_label"]
    return figures


@pytest.fixture(scope="module")
def ask(miniature_run: Any, miniature_bench: Workbench) -> Ask:
    """``ask(minimum_count)``: the trained tensors of the run, measured on the test patients of every site."""
    bench = miniature_bench
    assembled = bench.assembled()
    tensors = load_file(miniature_run.out / "checkpoints" / "federated.safetensors")
    import_tensors(assembled.model, tensors)
    # After two rounds the tiny model draws scores little apart and far from zero. The patients that it was trained on
    # stand for public ones.
    known = bench.scorer.zero_shot(assembled.model, bench.scorer.embedded(assembled.model, bench.scorer.train))
    bins = quantile_bins(np.concatenate([scored.score for scored in known]), 1000)
    terms = evaluation_terms("chexpert_ecg", bins=bins)
    digests = terms.digest(), assembled.spec.digest(), assembled.fingerprint
    question = Question("federated", 2, "test", tensors, *digests)

    def hospital(site: str, minimum: int) -> Hospital:
        whole = next(cohort.examples for cohort in bench.cohorts if cohort.name == site)
        held_out = HeldOut(whole, terms, minimum_count=minimum, threads=1)
        parts = (bench.training_examples(site), assembled, bench.scorer.tokenizer, bench.scorer.max_tokens, 1)
        return Hospital(site, *parts, held_out=held_out)

    def asked(minimum: int) -> Asked:
        hospitals = [hospital(site, minimum) for site in bench.sites]
        app, messages = build_client_app(lambda context: hospitals[partition_of(context)]), list[Message]()
        grid = InProcessGrid(app, len(hospitals), tap=lambda message: messages.append(copy.deepcopy(message)))
        nodes = discover(grid, len(hospitals), timeout_s=5)
        result = evaluate_round(GridTransport(sent_once(grid, nodes)), question, bench.sites, terms, timeout_s=60)
        return Asked(question, terms, result, messages)

    return asked


@pytest.mark.parametrize("minimum", [1, 2, 5])
def test_the_exact_pooled_auroc_lies_within_the_bounds(
    ask: Ask, exact: dict[str, dict[str, Any]], minimum: int
) -> None:
    asked = ask(minimum)
    assert [part.state for part in asked.result.participation] == ["accepted"] * 3
    assert asked.result.labels.keys() == exact.keys()
    widths, errors = [], []
    for name, figure in exact.items():
        pooled = asked.result.labels[name].auroc
        assert pooled.positives[0] <= figure["positives"] <= pooled.positives[1]
        assert pooled.negatives[0] <= figure["negatives"] <= pooled.negatives[1]
        if pooled.value is None or figure["auroc"] is None:
            continue
        assert pooled.low is not None and pooled.high is not None
        assert pooled.low - 1e-9 <= figure["auroc"] <= pooled.high + 1e-9
        widths.append(pooled.high - pooled.low)
        errors.append(abs(pooled.value - figure["auroc"]))
    if minimum == 1:
        # Nothing is withheld, so there is a figure wherever the simulation has one, and it is nearly the same.
        assert len(widths) == sum(figure["auroc"] is not None for figure in exact.values()) > 10
        assert np.mean(widths) < 0.1 and np.mean(errors) < 0.02


def test_counts_cross_the_wire_and_nothing_of_a_patient(ask: Ask, miniature_bench: Workbench) -> None:
    asked = ask(2)
    evaluations = [message for message in asked.messages if message.metadata.message_type == "evaluate"]
    down = [message for message in evaluations if not message.metadata.reply_to_message_id]
    up = [message for message in evaluations if message.metadata.reply_to_message_id]
    assert (len(down), len(up)) == (3, 3)
    for message in down:
        assert set(message.content) == {TENSORS_RECORD, FACTS_RECORD}
        assert dict(message.content[FACTS_RECORD]) == asked.question.facts()
    for message in up:
        assert set(message.content) == {FACTS_RECORD}
        facts = dict(message.content[FACTS_RECORD])
        told = json.loads(str(facts["counts"]))
        numbers = [run for sides in told.values() for side in sides for run in side or ()]
        assert numbers and all(count >= 2 for *_, count in numbers)
        assert not any(triplet.patient_id in str(facts) for triplet in miniature_bench.scorer.test.triplets)


def test_a_site_that_does_not_take_part_is_named(miniature_bench: Workbench, ask: Ask) -> None:
    asked = ask(1)
    question = asked.question
    assembled = miniature_bench.assembled()
    site, tokenizer = miniature_bench.sites[0], miniature_bench.scorer.tokenizer
    closed = Hospital(site, miniature_bench.training_examples(site), assembled, tokenizer, 48, 1)
    grid = InProcessGrid(build_client_app(lambda _context: closed), 1)
    transport = GridTransport(sent_once(grid, dict(zip([site], grid.get_node_ids(), strict=True))))
    assert transport.evaluate({site: question}, timeout_s=5) == {site: Refusal(site, 2, "ExchangeError")}
    result = evaluate_round(transport, question, [site], asked.terms, timeout_s=5)
    assert [(part.site, part.state, part.why) for part in result.participation] == [(site, "refused", "ExchangeError")]
    assert result.macro.value is None
