"""Embedding: unit vectors where there is something, NaN where there is nothing, and nothing drawn or changed."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from more_model.data.study import Modality
from more_model.model.config import ModelConfig
from more_model.model.more import More, build_more
from more_model.training.embed import embed, embed_texts, words_of
from more_model.training.examples import Examples
from more_model.training.words import about

Toy = Callable[..., Examples]


@pytest.fixture(scope="module")
def model(tiny_config: Callable[..., ModelConfig]) -> More:
    return build_more(tiny_config(), seed=1)


def present(matrix: np.ndarray[Any, Any]) -> list[bool]:
    """Per row; a row must be whole or missing, not half."""
    missing = np.isnan(matrix)
    assert (missing.all(axis=1) | ~missing.any(axis=1)).all()
    return (~missing[:, 0]).tolist()  # type: ignore[no-any-return]


def test_rows_where_something_is_missing_are_nan(model: More, toy_examples: Toy, tokenizer: Any) -> None:
    examples = toy_examples(7)
    silent = replace(examples.triplets[3], xray_report=None, ecg_report=None)
    examples = Examples.of([*examples.triplets[:3], silent, *examples.triplets[4:]], examples.sources[0])
    found = embed(model, examples, tokenizer=tokenizer, max_tokens=64, batch_size=2)
    # Rows 1 and 4 have no X-ray, 2 and 5 no ECG, 3 no words.
    has_xray = [True, False, True, True, False, True, True]
    has_ecg = [True, True, False, True, True, False, True]
    assert present(found.xray) == present(found.xray_features) == has_xray
    assert present(found.ecg) == present(found.ecg_features) == has_ecg
    assert present(found.text) == [row != 3 for row in range(7)]
    assert [words is None for words in found.words] == [row == 3 for row in range(7)]
    assert (found.xray.shape, found.xray_features.shape) == ((7, 8), (7, 16))
    for matrix in (found.xray, found.ecg, found.text):
        assert matrix.dtype == np.float32
        assert np.linalg.norm(matrix[present(matrix)], axis=1) == pytest.approx(1.0, abs=1e-5)


def test_words_are_those_of_training(toy_examples: Toy) -> None:
    full, ecg_only, xray_only = toy_examples(3).triplets
    assert words_of(full) == "chest x-ray report: clear lungs ecg report: sinus rhythm"
    assert words_of(ecg_only) == "ecg report: atrial fibrillation"
    assert words_of(xray_only) == "chest x-ray report: left effusion"
    assert words_of(replace(xray_only, xray=None)) is None


def test_rows_do_not_depend_on_the_batch_they_are_in(model: More, toy_examples: Toy, tokenizer: Any) -> None:
    examples = toy_examples(9)
    together = embed(model, examples, tokenizer=tokenizer, max_tokens=64)
    apart = embed(model, examples, tokenizer=tokenizer, max_tokens=64, batch_size=1)
    for name in ("xray", "ecg", "text", "xray_features", "ecg_features"):
        np.testing.assert_allclose(getattr(together, name), getattr(apart, name), rtol=1e-4, atol=1e-5)


def test_nothing_is_drawn_changed_or_left_behind(model: More, toy_examples: Toy, tokenizer: Any) -> None:
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    state, threads = torch.random.get_rng_state(), torch.get_num_threads()
    model.train()
    first = embed(model, toy_examples(6), tokenizer=tokenizer, max_tokens=64, threads=threads + 1)
    model.train()
    second = embed(model, toy_examples(6), tokenizer=tokenizer, max_tokens=64, threads=threads + 1)
    assert np.array_equal(first.xray, second.xray, equal_nan=True)
    assert np.array_equal(first.text, second.text, equal_nan=True)
    assert torch.equal(torch.random.get_rng_state(), state)
    assert torch.get_num_threads() == threads
    assert all(torch.equal(tensor, model.state_dict()[name]) for name, tensor in before.items())


def test_prompts_are_embedded_as_reports_are(model: More, toy_examples: Toy, tokenizer: Any) -> None:
    examples = toy_examples(3)
    reports = embed(model, examples, tokenizer=tokenizer, max_tokens=64).text
    prompts = embed_texts(
        model,
        [about(Modality.ECG, "atrial fibrillation"), about(Modality.XRAY, "left effusion")],
        tokenizer=tokenizer,
        max_tokens=64,
    )
    np.testing.assert_allclose(prompts, reports[1:], rtol=1e-4, atol=1e-5)
    assert np.linalg.norm(prompts, axis=1) == pytest.approx(1.0, abs=1e-5)


def test_no_examples_and_no_prompts(model: More, toy_examples: Toy, tokenizer: Any) -> None:
    found = embed(model, toy_examples(0), tokenizer=tokenizer, max_tokens=64)
    assert found.xray.shape == found.text.shape == (0, 8)
    assert embed_texts(model, [], tokenizer=tokenizer, max_tokens=64).shape == (0, 8)
