"""Leaving a condition out: no training text mentions it, however it is worded, and nothing else is lost."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

import simulation.warm_up as warm_up
from more_model.cohort_file import load_cohort
from more_model.data.study import Split, Triplet
from more_model.evaluation.prompt_sets import load_prompts
from more_model.training.examples import Examples
from simulation.ablation.changes import left_out
from simulation.ablation.settings import Unseen
from simulation.ablation.variants import Variant
from simulation.ablation.words import load_words, mention_of, silenced, without_mentions
from simulation.settings import BaseChoice
from simulation.synthetic import phrases as say

ECG = {
    "AFIB": say.ECG_FIBRILLATION,
    "HYP": say.ECG_HYPERTROPHY,
    "STTC": say.ECG_STTC,
    "CD": tuple(phrase for part in say.ECG_BLOCK.values() for phrase in part),
    "MI": tuple(phrase for part in say.ECG_INFARCT.values() for phrase in part),
}
#: Words that no other condition uses; found by plain search, not by the filter's own lists.
TELLTALE = {"Pneumothorax": ("pneumothora", "skin fold"), "Fracture": ("fractur",), "HYP": ("hypertroph",)}


def phrasings(label: str) -> tuple[str, ...]:
    if label in ECG:
        return ECG[label]
    phrase = say.PHRASES[label]
    return (*phrase.present, *phrase.uncertain, *phrase.absent, *phrase.summary)


def texts_of(examples: Examples) -> list[str]:
    return [text for t in examples.triplets for text in (t.xray_report, t.ecg_report) if text is not None]


@pytest.mark.parametrize("label", [*say.PHRASES, *ECG])
def test_every_synthetic_phrase_and_every_prompt_that_states_the_condition_is_a_mention(label: str) -> None:
    mention = mention_of(load_words(None).labels[label])
    (prompts,) = load_prompts("chexpert_ecg").only([label]).labels
    # Two prompts describe the condition by its look alone.
    described = {"Apical pleural scarring.", "Irregularly irregular rhythm without P waves."}
    missed = [p for p in (*phrasings(label), *prompts.positive) if mention.search(p) is None and p not in described]
    assert not missed


@pytest.mark.parametrize(
    ("text", "left"),
    [
        ("Left effusion. The heart is normal. No Effusions or edema.", "The heart is normal."),
        ("1. Small effusion. 2. Cardiomegaly. 3. Effusion.", "2. Cardiomegaly."),
        ("Effusionless is one word; pleural  fluid is two.", None),
        ("Diffusion is another word.", "Diffusion is another word."),
        (None, None),
    ],
)
def test_sentences_that_mention_it_go_whole(text: str | None, left: str | None) -> None:
    assert without_mentions(text, mention_of(["effusion*", "pleural fluid"])) == left


def test_a_word_without_a_star_is_matched_whole() -> None:
    mention = mention_of(["mass"])
    assert mention.search("A MASS is seen") and not mention.search("massive effusion") and not mention.search("biomass")


@pytest.mark.parametrize("drop", ["sentences", "triplets"])
def test_no_text_of_a_cohort_mentions_the_conditions_any_more(finished: Any, drop: Any) -> None:
    everyone = load_cohort(finished.out).examples
    words = load_words(None).labels
    cut = silenced(everyone, mention_of([word for label in TELLTALE for word in words[label]]), drop)
    told = [stem for stems in TELLTALE.values() for stem in stems]
    before, after = ("\n".join(texts_of(examples)).lower() for examples in (everyone, cut))
    assert all(stem in before for stem in told if stem != "skin fold")
    assert not any(stem in after for stem in told)
    assert "cardiomegaly" in after and "sinus rhythm" in after
    assert (len(cut) == len(everyone)) is (drop == "sentences")
    assert len(cut.xrays([next(row for row, t in enumerate(cut.triplets) if t.xray is not None)])) == 1


def test_a_triplet_whose_words_all_go_keeps_its_place_without_them() -> None:
    triplet = Triplet("p", "north", Split.TRAIN, 0, 1, "Small effusion.", "Sinus rhythm.")
    examples = Examples.of([triplet], object())  # type: ignore[arg-type]
    (cut,) = silenced(examples, mention_of(["effusion"]), "sentences").triplets
    assert cut == replace(triplet, xray_report=None)


def test_the_warm_up_and_its_tokenizer_never_read_of_them_either(
    write_ablation: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from simulation.ablation.settings import load_ablation

    cohort = {"patients": 40, "first_subject_id": 15_000_000, "image_px": 64, "hospitals": 1}
    config = load_ablation(write_ablation(tmp_path, {"lora_ranks": [0]}))
    choice = BaseChoice.model_validate({"kind": "warm-up", "warm_up": {"cohort": cohort, "epochs": 1}})
    read: list[str] = []
    monkeypatch.setattr(warm_up, "train_tokenizer", _recording(warm_up.train_tokenizer, read, 0, list))
    monkeypatch.setattr(warm_up, "train_segment", _recording(warm_up.train_segment, read, 2, texts_of))
    variant = Variant("unseen", "", "", unseen=Unseen(labels=("Pneumothorax", "HYP")))
    model = config.model.resolved()
    warm_up.prepare_base(choice, model, config.training, tmp_path, seed=3, workers=1, change=left_out(variant))
    everything = "\n".join(read).lower()
    assert "cardiomegaly" in everything and "sinus rhythm" in everything
    assert "pneumothora" not in everything and "hypertroph" not in everything


def _recording(call: Any, read: list[str], place: int, texts: Any) -> Any:
    def recorded(*arguments: Any, **options: Any) -> Any:
        read.extend(texts(arguments[place]))
        return call(*arguments, **options)

    return recorded
