"""A tokenizer numbered like roberta-base's, and the released model in a size that costs nothing."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from trees.released_more import Sizes

    from more_model.model.config import ModelConfig

WORDS = ("clear", "lungs", "large", "heart", "left", "effusion", "sinus", "rhythm")


@pytest.fixture(scope="session")
def roberta_tokenizer(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """A builder of folders: the special words are numbered as in roberta-base unless ``special`` says otherwise."""
    from tokenizers import Tokenizer, models, pre_tokenizers, processors
    from transformers import PreTrainedTokenizerFast

    def build(special: tuple[str, ...] = ("<s>", "<pad>", "</s>", "<unk>"), words: tuple[str, ...] = WORDS) -> Path:
        vocabulary = {word: number for number, word in enumerate((*special, *words))}
        tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
        tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
        tokenizer.post_processor = processors.TemplateProcessing(
            single="<s> $A </s>", special_tokens=[(word, vocabulary[word]) for word in ("<s>", "</s>")]
        )
        folder = tmp_path_factory.mktemp("roberta-tokenizer")
        PreTrainedTokenizerFast(
            tokenizer_object=tokenizer, pad_token="<pad>", bos_token="<s>", eos_token="</s>", unk_token="<unk>"
        ).save_pretrained(folder)
        return folder

    return build


@pytest.fixture(scope="session")
def small_sizes() -> Sizes:
    from trees.released_more import Sizes

    return Sizes(
        width=32, depth=2, heads=4, words=40, positions=66, rank=4, patches=4, ecg_tokens=96,
        ecg_channels=8, hidden=32, embedding=16,
    )  # fmt: skip


@pytest.fixture(scope="session")
def small_config(small_sizes: Sizes) -> ModelConfig:
    """`released_config` in those sizes."""
    from more_model.importing.released_config import released_config
    from more_model.model.config import ModelConfig

    tower = {"width": small_sizes.width, "depth": small_sizes.depth, "heads": small_sizes.heads}
    content = released_config().model_dump()
    content["preprocessing"] |= {"image_size": 32, "ecg_rate_hz": 50}
    content["xray"] |= tower
    content["ecg"] |= {**tower, "channels": small_sizes.ecg_channels}
    content["text"] |= {**tower, "vocabulary": small_sizes.words, "max_tokens": 64, "padded_tokens": 64}
    content["heads"] |= {"hidden": small_sizes.hidden, "embedding": small_sizes.embedding}
    content["lora"] |= {"rank": small_sizes.rank}
    return ModelConfig.model_validate(content)
