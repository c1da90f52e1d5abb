"""Trainings that are broken on purpose, for real, and the signature that must give each of them away."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from more_model.evaluation.embedded import LabelTask
from more_model.evaluation.embedding import embedded_set
from more_model.evaluation.finding import Finding
from more_model.evaluation.health import measure_geometry
from more_model.evaluation.prompt_draws import wording_spread
from more_model.evaluation.prompt_sets import LabelPrompts, PromptSet
from more_model.evaluation.signatures import examine
from more_model.explain.attention_entropy import attention_entropy
from more_model.model.config import ModelConfig
from more_model.model.more import More, build_more
from more_model.training.embed import embed_texts
from more_model.training.examples import Examples
from more_model.training.loop import Segment, build_optimiser, train_segment
from more_model.training.settings import TrainingSettings

Findings = dict[tuple[str, str], Finding]
Course = Callable[..., tuple[More, list[dict[str, float]]]]
SEGMENTS = 2


@pytest.fixture
def train(tiny_config: Callable[..., ModelConfig], tokenizer: Any) -> Course:
    """Trains a toy model for two segments, on ``later`` in the second one where given; ``freeze`` names a tower."""

    def run(
        examples: Examples, *, later: Examples | None = None, freeze: str = "", temperature: float = 0.1,
        epochs: int = 6, **settings: Any,
    ) -> tuple[More, list[dict[str, float]]]:  # fmt: skip
        usual = {"batch_size": 8, "learning_rate": 1e-3, "threads": 1, "device": "cpu", "joint_probability": 0.0}
        chosen = TrainingSettings.model_validate({**usual, **settings})
        model = build_more(tiny_config(temperature={"initial": temperature}), seed=1)
        if freeze:
            model.get_submodule(freeze).requires_grad_(False)
        optimiser, segments = build_optimiser(model, chosen), []
        for index in range(SEGMENTS):
            seen = examples if later is None or index == 0 else later
            report = train_segment(
                model, optimiser, seen, chosen, Segment(index, SEGMENTS, epochs),
                tokenizer=tokenizer, max_tokens=64, seed=index,
            )  # fmt: skip
            segments.append(dict(report.watched))
        return model, segments

    return run


@pytest.fixture
def judge(toy_examples: Callable[..., Examples], tokenizer: Any) -> Callable[..., Findings]:
    """All findings of a trained toy, on 40 patients of another site."""

    def findings(model: More, segments: list[dict[str, float]]) -> Findings:
        held_out = toy_examples(40, partial=False, seed=9, site="south")
        embedded = embedded_set(model, held_out, [], tokenizer=tokenizer, max_tokens=64, threads=1)
        measures = {
            **measure_geometry(embedded, temperature=float(model.temperature)),
            "segments": segments,
            "attention": attention_entropy(model, held_out, tokenizer=tokenizer, max_tokens=64, threads=1),
        }
        return {(finding.code, finding.tower): finding for finding in examine(measures)}

    return findings


@pytest.fixture
def patients(toy_examples: Callable[..., Examples]) -> Examples:
    return toy_examples(32, partial=False)


def swapped(examples: Examples, *fields: str) -> Examples:
    """The texts handed round so that each kind of picture meets each kind of text equally often."""
    triplets = examples.triplets
    order = [4 * (row // 4) + (row + row // 4) % 4 for row in range(len(triplets))]
    changed = [
        replace(triplet, **{field: getattr(triplets[other], field) for field in fields})
        for triplet, other in zip(triplets, order, strict=True)
    ]
    return replace(examples, triplets=tuple(changed))


def verdicts(findings: Findings, code: str) -> set[str]:
    return {finding.verdict for (of, _), finding in findings.items() if of == code}


def test_a_sound_training_raises_none_of_these(train: Course, judge: Any, patients: Examples) -> None:
    findings = judge(*train(patients))
    for code in ("loss", "spread", "alignment", "gradient", "drag"):
        assert verdicts(findings, code) == {"ok"}, code
    # Four kinds of patient span three directions: more cannot be in use here.
    assert "alarm" not in verdicts(findings, "rank") | verdicts(findings, "gap")


def test_a_learning_rate_of_nothing_leaves_the_loss_at_chance(train: Course, judge: Any, patients: Examples) -> None:
    findings = judge(*train(patients, learning_rate=1e-12, epochs=2))
    for code in ("loss", "held_out", "alignment", "gap"):
        assert verdicts(findings, code) == {"alarm"}, code
    assert "guessing" in findings["loss", "xray"].sentence
    # Weights that were never trained attend to nothing in particular.
    assert verdicts(findings, "attention") == {"alarm"}


def test_too_high_a_learning_rate_collapses_the_towers(train: Course, judge: Any, patients: Examples) -> None:
    findings = judge(*train(patients, learning_rate=0.05))
    for code in ("loss", "held_out", "spread", "rank"):
        assert verdicts(findings, code) == {"alarm"}, code
    assert "cosine of 1.00" in findings["spread", "xray"].sentence


def test_reports_of_other_patients_teach_nothing(train: Course, judge: Any, patients: Examples) -> None:
    findings = judge(*train(swapped(patients, "xray_report", "ecg_report"), epochs=2))
    assert verdicts(findings, "loss") <= {"watch", "alarm"}
    assert verdicts(findings, "held_out") == {"alarm"}
    assert "ok" not in verdicts(findings, "alignment")


def test_a_frozen_tower_receives_no_signal(train: Course, judge: Any, patients: Examples) -> None:
    findings = judge(*train(patients, freeze="ecg", epochs=3))
    assert findings["gradient", "ecg"].verdict == "alarm" and findings["gradient", "ecg"].value == 0.0
    assert findings["gradient", "xray"].verdict == findings["gradient", "text"].verdict == "ok"
    assert findings["spread", "ecg"].verdict != "ok"


def test_a_modality_whose_reports_go_wrong_is_dragged_down(train: Course, judge: Any, patients: Examples) -> None:
    findings = judge(*train(patients, later=swapped(patients, "ecg_report")))
    assert findings["drag", "ecg"].verdict == "alarm"
    assert "while the X-ray improved" in findings["drag", "ecg"].sentence
    assert findings["drag", "xray"].verdict == "ok"


def test_a_huge_temperature_holds_the_loss_near_chance(train: Course, judge: Any, patients: Examples) -> None:
    findings = judge(*train(patients, temperature=10.0, epochs=3))
    assert verdicts(findings, "loss") <= {"watch", "alarm"}
    assert verdicts(findings, "held_out") <= {"watch", "alarm"}


def test_a_tiny_temperature_makes_an_untrained_model_worse_than_guessing(
    train: Course, judge: Any, patients: Examples
) -> None:
    findings = judge(*train(patients, temperature=0.005, learning_rate=1e-12, epochs=1))
    assert {findings["loss", tower].verdict for tower in ("xray", "ecg")} == {"alarm"}
    assert "worse than guessing" in findings["loss", "xray"].sentence


def test_attention_that_is_blown_up_looks_at_one_place(tiny_config: Callable[..., ModelConfig], judge: Any) -> None:
    model = build_more(tiny_config(), seed=1)
    with torch.no_grad():
        for block in model.ecg.encoder.vit.blocks:
            block.attn.qkv.weight.mul_(300)
        for layer in model.text.encoder.encoder.encoder.layer:
            layer.attention.self.query.weight.mul_(30_000)
    findings = judge(model, [])
    for tower in ("ecg", "text"):
        assert findings["attention", tower].verdict == "alarm"
        assert "one or two places" in findings["attention", tower].sentence
    assert "everywhere alike" in findings["attention", "xray"].sentence


def test_an_untrained_model_answers_by_the_wording(
    tiny_config: Callable[..., ModelConfig], toy_examples: Callable[..., Examples], tokenizer: Any, train: Course,
    patients: Examples,
) -> None:  # fmt: skip
    def share(model: More) -> Finding:
        held_out = toy_examples(40, partial=False, seed=9, site="south")
        kinds = ("clear lungs", "large heart", "left effusion", "right pneumothorax")
        labelled = [
            replace(triplet, labels={kind: float(triplet.xray_report == kind) for kind in kinds})
            for triplet in held_out.triplets
        ]
        embedded = embedded_set(
            model, Examples.of(labelled, held_out.sources[0]), kinds, tokenizer=tokenizer, max_tokens=64, threads=1
        )
        entries = [
            LabelPrompts(
                LabelTask(kind, "xray"),
                tuple(f"chest x-ray report: {words}" for words in (kind, f"{kind} {kind}")),
                tuple(f"chest x-ray report: {other}" for other in kinds if other != kind),
            )
            for kind in kinds
        ]
        prompts = PromptSet("toy", tuple(entries))
        spread = wording_spread(
            embedded, prompts, lambda texts: embed_texts(model, texts, tokenizer=tokenizer, max_tokens=64, threads=1)
        )
        return next(finding for finding in examine({"wording": spread}) if finding.code == "wording")

    assert share(build_more(tiny_config(), seed=1)).verdict == "alarm"
    sound, _ = train(patients)
    assert share(sound).verdict != "alarm"


def test_the_model_is_left_as_it_was(
    tiny_config: Callable[..., ModelConfig], toy_examples: Callable[..., Examples], tokenizer: Any
) -> None:
    model = build_more(tiny_config(), seed=1).train()
    examples = toy_examples(24)
    before = model.xray.eval()(examples.xrays([0, 2])).projection
    model.train()
    found = attention_entropy(model, examples, tokenizer=tokenizer, max_tokens=64, most=5, threads=1)
    assert {tower: len(blocks) for tower, blocks in found.items()} == {"xray": 2, "ecg": 2, "text": 2}
    assert model.training and model.xray.training
    assert torch.equal(model.xray.eval()(examples.xrays([0, 2])).projection, before)
    no_ecg = examples.where(lambda triplet: triplet.ecg is None)
    assert "ecg" not in attention_entropy(model, no_ecg, tokenizer=tokenizer, max_tokens=64, threads=1)


@pytest.mark.parametrize("kind", ["bert", "roberta", "llama", "gpt2"])
def test_entropy_of_any_text_encoder(
    kind: str, tiny_config: Callable[..., ModelConfig], text_folder: Any, toy_examples: Any, tokenizer: Any
) -> None:
    model = build_more(tiny_config(text={"path": text_folder(kind)}), seed=1)
    found = attention_entropy(model, toy_examples(6), tokenizer=tokenizer, max_tokens=64, threads=1)
    # Random weights: close to even, and never more than even, causal or not.
    assert len(found["text"]) == 2
    assert all(0.97 < entropy <= 1 + 1e-9 for entropy in found["text"])
    assert np.isfinite(found["text"]).all()
