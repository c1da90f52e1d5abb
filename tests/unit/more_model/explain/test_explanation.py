"""One study and one text, explained, drawn and written."""

from __future__ import annotations

import io
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from more_model.checkpoint import TrainedModel
from more_model.errors import ConfigError, DataError
from more_model.explain.explanation import Explanation, explain_pair
from more_model.explain.figure import alternative, explanation_png, explanation_section
from more_model.explain.words import WordWeights
from more_model.model.lora import adapt
from more_model.model.more import build_more
from more_model.tokenizer import encode
from more_model.training.words import PREFIX

PIXELS = np.random.default_rng(0).integers(0, 255, (16, 16)).astype(np.uint8)
SIGNAL = np.random.default_rng(0).normal(0, 0.3, (12, 50)).astype(np.float32)


@pytest.fixture(params=["seeded", "bert", "roberta", "llama", "gpt2"])
def trained(
    request: Any, tiny_config: Callable[..., Any], tokenizer: Any, text_folder: Callable[[str], Path]
) -> TrainedModel:
    changes = {} if request.param == "seeded" else {"text": {"path": str(text_folder(request.param))}}
    config = tiny_config(**changes, lora={"text_targets": "auto"})
    model = build_more(config, seed=4, pad_id=int(tokenizer.pad_token_id)).eval()
    adapt(model, config, "ffa", 1)
    return TrainedModel(config, model, tokenizer, "Seeded.", "0" * 64, adapted=True)


def test_a_pair_of_any_text_tower(trained: TrainedModel) -> None:
    found = explain_pair(trained, xray=PIXELS, words="Large heart, left effusion", contrast="clear lungs")
    assert [word for word, _ in found.words] == ["Large", "heart,", "left", "effusion"]
    assert sum(weight for _, weight in found.words) + found.weights.prefix + found.weights.marks == pytest.approx(1.0)
    assert found.xray_map is not None
    assert found.xray_map.shape == (16, 16)
    assert found.ecg_map is None
    ids, mask = encode(trained.tokenizer, [f"{PREFIX['xray']} Large heart, left effusion"], 64)
    with torch.no_grad():
        text = trained.model.text(ids, mask).projection[0]
        seen = trained.model.xray(torch.from_numpy(PIXELS)[None]).projection[0]
    assert found.similarity == pytest.approx(float(text @ seen), abs=1e-4)
    ecg = explain_pair(trained, ecg=SIGNAL, words="sinus rhythm")
    assert ecg.ecg_map is not None
    assert ecg.ecg_map.shape == (12, 50)
    assert ecg.contrast_similarity is None


def test_the_contrast_turns_the_target_round(planted: Any) -> None:
    pixels = np.full((32, 32), 90, dtype=np.uint8)
    pixels[8:16, 16:24] = 210
    asked = {"xray": pixels, "words": "left effusion"}
    plain = explain_pair(planted.trained, **asked)
    against = explain_pair(planted.trained, **asked, contrast="clear lungs")
    assert against.similarity == pytest.approx(plain.similarity)
    assert not np.allclose(plain.map, against.map)
    row, column = divmod(int(against.map.argmax()), 32)
    assert 8 <= row < 16
    assert 16 <= column < 24


def test_arrays_are_read_back_without_pickle(planted: Any, tmp_path: Path) -> None:
    signal = np.random.default_rng(0).normal(0, 0.3, (12, 200)).astype(np.float32)
    found = explain_pair(planted.trained, ecg=signal, words="sinus rhythm")
    with np.load(found.save(tmp_path / "arrays.npz"), allow_pickle=False) as arrays:
        np.testing.assert_array_equal(arrays["map"], found.map)
        np.testing.assert_array_equal(arrays["study"], signal)
        assert arrays["words"].tolist() == ["sinus", "rhythm"]
        assert arrays["word_weights"].tolist() == pytest.approx([weight for _, weight in found.words])
        assert int(arrays["rate_hz"]) == 50


def test_questions_that_cannot_be_answered(planted: Any) -> None:
    with pytest.raises(ConfigError, match="3 faults"):
        explain_pair(planted.trained, words=" ", contrast="")
    with pytest.raises(DataError, match=r"the xray has shape \[16, 16\], the model takes \[32, 32\]"):
        explain_pair(planted.trained, xray=PIXELS, words="clear lungs")
    with pytest.raises(DataError, match="not finite"):
        explain_pair(planted.trained, ecg=np.full((12, 200), np.nan, dtype=np.float32), words="sinus rhythm")


def written(modality: str, words: tuple[tuple[str, float], ...], cut: int = 0) -> Explanation:
    study: Any = PIXELS if modality == "xray" else SIGNAL
    heat = np.zeros(study.shape, dtype=np.float32)
    heat[2, 3] = 1.0
    return Explanation(modality, 0.5, study, heat, "words", WordWeights(words, 0.1, 0.0, cut), 50)  # type: ignore[arg-type]


def test_the_picture_is_drawn_and_said_in_words() -> None:
    both = [written("xray", (("large", 0.6), ("heart.", 0.3))), written("ecg", (("$rhythm$", 0.9),), cut=1)]
    png = explanation_png(both, dpi=40)
    assert Image.open(io.BytesIO(png)).size[0] == 440
    assert png == explanation_png(both, dpi=40)
    assert alternative(both[0]) == (
        "Heat map over a chest X-ray. Cosine to the text 0.50. Most relevance lies in the upper third of the picture, "
        "at its left. Words of most weight: large, heart."
    )
    assert "in leads III, " in alternative(both[1])
    section = explanation_section(both, png)
    assert section.blocks[0].kind == "picture"
    assert "The model did not read the last 1 words." in [getattr(block, "text", "") for block in section.blocks]


def test_text_without_any_weight_can_be_drawn() -> None:
    empty = replace(written("xray", ()), map=np.zeros((16, 16), dtype=np.float32))
    assert explanation_png([empty], dpi=20).startswith(b"\x89PNG")
    assert "Words of most weight: none." in alternative(empty)
