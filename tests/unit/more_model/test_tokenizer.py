"""Words to numbers: trained from public texts, padded on the right, and one digest whatever was encoded before."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from more_model.errors import ConfigError, EnvironmentFault
from more_model.tokenizer import encode, load_tokenizer, tokenizer_digest, train_tokenizer

TEXTS = ("The heart is enlarged.", "No pleural effusion.", "Sinus rhythm, normal ECG.")


@pytest.fixture
def small() -> Any:
    return train_tokenizer(TEXTS, 300)


def test_any_text_survives_in_lower_case(small: Any) -> None:
    text = "Größe 3,5 cm – naïve “q” 心臓\u2028 T-wave ___"
    ids, _ = encode(small, [text], 200)
    assert small.decode(ids[0], skip_special_tokens=True).strip() == text.lower()
    assert small.unk_token_id not in ids[0].tolist()


def test_rows_begin_end_and_are_padded_on_the_right(small: Any) -> None:
    ids, mask = encode(small, ["heart", "the heart is enlarged", ""], 50)
    assert ids.shape == mask.shape and ids.dtype == mask.dtype == torch.int64
    lengths = mask.sum(dim=1)
    assert lengths.max() == ids.shape[1] and len(set(lengths.tolist())) == 3
    for row, length in zip(ids.tolist(), lengths.tolist(), strict=True):
        assert row[0] == small.bos_token_id
        assert row[length - 1] == small.eos_token_id
        assert set(row[length:]) <= {small.pad_token_id}
        assert small.pad_token_id not in row[:length]


def test_long_texts_are_cut(small: Any) -> None:
    ids, mask = encode(small, ["heart " * 100, "heart"], 12)
    assert ids.shape == (2, 12)
    assert mask[0].all() and ids[0, -1] == small.eos_token_id


def test_no_texts_and_texts_that_a_tokenizer_makes_nothing_of(small: Any) -> None:
    assert encode(small, [], 12)[0].shape == (0, 1)
    small.backend_tokenizer.post_processor = None
    bare = type(small)(tokenizer_object=small.backend_tokenizer, pad_token="<pad>")
    ids, mask = encode(bare, ["", ""], 12)
    assert ids.shape == (2, 1) and not mask.any()


def test_same_texts_same_tokenizer() -> None:
    assert tokenizer_digest(train_tokenizer(TEXTS, 300)) == tokenizer_digest(train_tokenizer(list(TEXTS), 300))
    assert tokenizer_digest(train_tokenizer(TEXTS, 300)) != tokenizer_digest(train_tokenizer(TEXTS[:1], 300))
    assert tokenizer_digest(train_tokenizer(TEXTS, 300)) != tokenizer_digest(train_tokenizer(TEXTS, 290))


def test_digest_does_not_depend_on_what_was_encoded_before(small: Any, tmp_path: Path) -> None:
    """The library keeps the last truncation length inside the tokenizer."""
    fresh = tokenizer_digest(small)
    encode(small, ["heart"], 7)
    assert tokenizer_digest(small) == fresh
    encode(small, ["heart"], 9)
    small.save_pretrained(tmp_path)
    assert tokenizer_digest(small) == tokenizer_digest(load_tokenizer(tmp_path)) == fresh


def test_saved_tokenizer_gives_the_same_numbers(small: Any, tmp_path: Path) -> None:
    small.save_pretrained(tmp_path)
    loaded = load_tokenizer(tmp_path)
    assert (loaded.pad_token_id, len(loaded)) == (small.pad_token_id, len(small))
    for before, after in zip(encode(small, TEXTS, 40), encode(loaded, TEXTS, 40), strict=True):
        assert torch.equal(before, after)


def test_decoders_without_padding_get_their_end_token(small: Any, tmp_path: Path) -> None:
    bare = type(small)(tokenizer_object=small.backend_tokenizer, bos_token="<s>", eos_token="</s>")
    assert bare.pad_token_id is None
    bare.save_pretrained(tmp_path)
    loaded = load_tokenizer(tmp_path)
    assert loaded.pad_token_id == loaded.eos_token_id
    ids, mask = encode(loaded, ["heart", "the heart is enlarged"], 40)
    assert mask[0].sum() < mask[1].sum() and ids[0, -1] == loaded.eos_token_id


def test_vocabulary_must_hold_all_bytes() -> None:
    assert len(train_tokenizer(TEXTS, 260)) == 260
    with pytest.raises(ConfigError, match="259 is too small: bytes and special words are 260"):
        train_tokenizer(TEXTS, 259)


def test_vocabulary_is_a_ceiling() -> None:
    assert len(train_tokenizer(TEXTS * 3, 275)) == 275
    assert len(train_tokenizer(["a"], 5000)) <= 5000


def test_a_folder_without_a_tokenizer_is_named(tmp_path: Path, text_folder: Callable[[str], Path]) -> None:
    with pytest.raises(EnvironmentFault, match="holds no tokenizer"):
        load_tokenizer(tmp_path)
    with pytest.raises(EnvironmentFault, match="holds no tokenizer"):
        load_tokenizer(tmp_path / "absent")
    for name in ("config.json", "tokenizer.json"):
        shutil.copy(text_folder("bert") / name, tmp_path / name)
    (tmp_path / "tokenizer.json").write_text("{ not json", encoding="utf-8")
    with pytest.raises(EnvironmentFault, match="cannot be loaded"):
        load_tokenizer(tmp_path)
