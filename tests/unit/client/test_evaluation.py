"""A hospital measuring the federation's model: which questions it answers, of whom, and with what."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from client.evaluation import HeldOut
from client.hospital import Hospital
from client.private_site import Declaration
from client.protection import Protection
from client.stored_answers import StoredAnswers
from more_model.base import Assembled
from more_model.data.study import Modality, Split
from more_model.evaluation.federated_terms import EvaluationTerms, evaluation_terms
from more_model.evaluation.score_histograms import centred_bins
from more_model.exchange import Fingerprint, Instruction, Refusal, Update
from more_model.model.inventory import exchange_spec, export_tensors
from more_model.score_exchange import Evaluation, Question, Runs
from more_model.training.settings import TrainingSettings

if TYPE_CHECKING:
    from more_model.training.examples import Examples

FINGERPRINT = Fingerprint({"base": "any"})
TERMS = evaluation_terms("chexpert_ecg", labels=("Cardiomegaly", "AFIB"))


def labelled(examples: Examples) -> Examples:
    """Patient ``i`` has a large heart where i % 4 = 1 and fibrillation where i % 4 = 1; odd eighths are for testing."""

    def with_labels(row: int) -> Any:
        triplet = examples.triplets[row]
        patient = int(triplet.patient_id.split("-")[1])
        split = (Split.TRAIN, Split.VALIDATION, Split.TEST)[patient // 8 % 3]
        found = float(patient % 4 == 1)
        return replace(triplet, split=split, labels={"Cardiomegaly": found, "AFIB": found})

    return replace(examples, triplets=tuple(with_labels(row) for row in range(len(examples))))


@pytest.fixture
def hospital(
    small_model: Callable[..., Any], toy_site: Callable[..., Examples], small_tokenizer: Any
) -> Callable[..., Hospital]:
    """A builder: a site of 72 patients (a third of them in each split), with changes of what it holds out."""
    model, examples = small_model(), labelled(toy_site([1 + patient % 2 for patient in range(72)]))

    def build(*, protection: Protection | None = None, **changes: Any) -> Hospital:
        held_out = HeldOut(examples, TERMS, minimum_count=3, threads=1)
        return Hospital(
            "north",
            examples.of_split(Split.TRAIN),
            Assembled(model, exchange_spec(model), FINGERPRINT),
            small_tokenizer,
            64,
            1,
            protection_of=lambda _run: protection or Protection(),
            held_out=replace(held_out, **changes),
        )

    return build


def question(hospital: Hospital, **changes: Any) -> Question:
    parts: dict[str, Any] = {
        "run": "trial",
        "round": 2,
        "split": "validation",
        "tensors": export_tensors(hospital.assembled.model),
        "terms_digest": TERMS.digest(),
        "spec_digest": hospital.assembled.spec.digest(),
        "fingerprint": FINGERPRINT,
    }
    return Question(**{**parts, **changes})


def answered(hospital: Hospital, asked: Question) -> Evaluation:
    answer = hospital.evaluate(asked)
    assert isinstance(answer, Evaluation), answer
    return answer


def patients(runs: Runs | None) -> int:
    assert runs is not None
    return sum(count for *_, count in runs)


def test_every_patient_of_the_split_counts_once(hospital: Callable[..., Hospital]) -> None:
    site = hospital()
    answer = answered(site, question(site))
    assert (answer.site, answer.round, answer.split, answer.minimum_count) == ("north", 2, "validation", 3)
    assert list(answer.counts) == ["Cardiomegaly", "AFIB"]
    for counts in answer.counts.values():
        assert (patients(counts.positives), patients(counts.negatives)) == (6, 18)
        assert all(count >= 3 for runs in (counts.positives, counts.negatives) for *_, count in runs or ())


def test_the_tensors_of_the_question_are_measured(hospital: Callable[..., Hospital]) -> None:
    site = hospital(minimum_count=1)
    asked = question(site)
    generator = np.random.default_rng(0)
    moved = {
        name: np.asarray(value + generator.normal(0, 0.3, value.shape).astype(np.float32))
        for name, value in asked.tensors.items()
    }
    first, other = answered(site, asked), answered(site, replace(asked, tensors=moved))
    assert first.counts != other.counts
    assert answered(site, asked) == first


def test_patients_of_other_splits_change_nothing(hospital: Callable[..., Hospital]) -> None:
    site = hospital(minimum_count=1)
    assert site.held_out is not None
    only = site.held_out.examples.of_split(Split.VALIDATION)
    asked = question(site)
    assert answered(hospital(minimum_count=1, examples=only), asked).counts == answered(site, asked).counts
    tested = answered(site, replace(asked, split="test"))
    assert tested.split == "test" and tested.counts != answered(site, asked).counts


def test_measuring_between_rounds_changes_no_training(hospital: Callable[..., Hospital]) -> None:
    site = hospital()
    asked = question(site)
    instruction = Instruction(
        round=1,
        rounds=1,
        tensors=asked.tensors,
        training=TrainingSettings(threads=1, device="cpu").model_dump_json(),
        seed=3,
        spec_digest=asked.spec_digest,
        fingerprint=FINGERPRINT,
    )
    first = site.answer(instruction)
    answered(site, replace(asked, tensors={name: value + 1 for name, value in asked.tensors.items()}))
    again = site.answer(instruction)
    assert isinstance(first, Update) and isinstance(again, Update)
    assert all(np.array_equal(first.deltas[name], again.deltas[name]) for name in first.deltas)
    assert any(np.any(delta) for delta in first.deltas.values())


def test_a_class_with_too_few_patients_is_withheld(hospital: Callable[..., Hospital]) -> None:
    site = hospital(minimum_count=7)
    answer = answered(site, question(site))
    assert all(counts.positives is None for counts in answer.counts.values())
    assert all(patients(counts.negatives) == 18 for counts in answer.counts.values())


def test_a_modality_that_nobody_has_is_told_as_empty(hospital: Callable[..., Hospital]) -> None:
    site = hospital()
    assert site.held_out is not None
    whole = site.held_out.examples
    lacking = replace(whole, triplets=tuple(replace(triplet, ecg=None) for triplet in whole.triplets))
    answer = answered(hospital(examples=lacking), question(site))
    assert (answer.counts["AFIB"].positives, answer.counts["AFIB"].negatives) == ((), ())
    assert patients(answer.counts["Cardiomegaly"].negatives) == 18


def test_no_word_of_a_patient_is_in_the_message(hospital: Callable[..., Hospital]) -> None:
    site = hospital(minimum_count=1)
    answer = answered(site, question(site))
    facts = answer.facts()
    assert set(facts) == {
        "site", "round", "split", "counts", "minimum_count", "terms_digest", "spec_digest", "fingerprint_digest",
        "show_site",
    }  # fmt: skip
    assert "north-" not in str(facts)
    # Nothing but whole numbers beside the names of the labels.
    assert set(str(facts["counts"])) <= set('CardiomegalyAFIB"0123456789[]{}:, null')


@pytest.mark.parametrize(
    "change",
    [
        {"split": "train"},
        {"split": "everyone"},
        {"terms_digest": evaluation_terms("chexpert_ecg").digest()},
        {"terms_digest": replace(TERMS, bins=centred_bins(199)).digest()},
        {"spec_digest": "0" * 64},
        {"fingerprint": Fingerprint({"base": "other"})},
        {"tensors": {}},
    ],
    ids=lambda change: str(next(iter(change.items())))[:40],
)
def test_questions_that_are_refused(hospital: Callable[..., Hospital], change: dict[str, Any]) -> None:
    site = hospital()
    assert site.evaluate(question(site, **change)) == Refusal("north", 2, "ExchangeError")


def test_a_site_without_terms_takes_no_part(hospital: Callable[..., Hospital]) -> None:
    site = replace(hospital(), held_out=None)
    assert isinstance(site.evaluate(question(site)), Refusal)


@pytest.mark.parametrize("kind", ["private", "sums"])
def test_under_protection_counts_leave_only_where_declared_public(
    hospital: Callable[..., Hospital], tmp_path: Path, kind: str
) -> None:
    declaration = Declaration(24, frozenset({Modality.XRAY, Modality.ECG}))
    # What protects the updates is never looked into: that there is something decides.
    part: dict[str, Any] = {kind: object()}
    protection = Protection(**part, declaration=declaration, answers=StoredAnswers(tmp_path))
    closed, declared = hospital(protection=protection), hospital(protection=protection, counts_are_public=True)
    assert closed.evaluate(question(closed)) == Refusal("north", 2, "ExchangeError")
    assert isinstance(declared.evaluate(question(declared)), Evaluation)


def test_terms_are_one_digest_of_wordings_policy_and_bins() -> None:
    same = evaluation_terms("chexpert_ecg", labels=("Cardiomegaly", "AFIB"), bins=centred_bins())
    assert same.digest() == TERMS.digest()
    first, *others = TERMS.prompts.labels
    reworded = replace(first, positive=(*first.positive, "The heart is enormous."))
    changed = [
        replace(TERMS, prompts=replace(TERMS.prompts, labels=(reworded, *others))),
        replace(TERMS, uncertainty="zero"),
        replace(TERMS, bins=centred_bins(100)),
        EvaluationTerms(TERMS.prompts.with_prefix({"xray": ""})),
    ]
    assert len({TERMS.digest(), *(terms.digest() for terms in changed)}) == 5
