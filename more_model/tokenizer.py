"""Words to numbers: a tokenizer from a local Hugging Face folder, or one trained on public texts."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers
from torch import Tensor
from transformers import AutoTokenizer, PreTrainedTokenizerFast

from more_model.errors import ConfigError, EnvironmentFault

_SPECIAL = ("<pad>", "<s>", "</s>", "<unk>")


def train_tokenizer(texts: Iterable[str], vocabulary: int) -> PreTrainedTokenizerFast:
    """A lower-casing byte-level BPE of at most ``vocabulary`` entries, from *public* texts only: a vocabulary learnt
    from reports would carry their rare words to everyone.

    Raises:
        ConfigError: ``vocabulary`` has no room for the 256 bytes and the special words; the tokenizer would then number
            words beyond the text tower's table.
    """
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    smallest = len(alphabet) + len(_SPECIAL)
    if vocabulary < smallest:
        raise ConfigError("text.vocabulary", [f"{vocabulary} is too small: bytes and special words are {smallest}"])
    tokenizer = Tokenizer(models.BPE(unk_token="<unk>"))
    tokenizer.normalizer = normalizers.Sequence([normalizers.NFC(), normalizers.Lowercase()])
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=True)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocabulary,
        special_tokens=list(_SPECIAL),
        initial_alphabet=alphabet,
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<s> $A </s>", special_tokens=[(word, tokenizer.token_to_id(word)) for word in ("<s>", "</s>")]
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token="<pad>", bos_token="<s>", eos_token="</s>", unk_token="<unk>"
    )


def load_tokenizer(folder: Path) -> Any:
    """The tokenizer in a local folder; decoders without a padding token get their end token for it.

    Raises:
        EnvironmentFault: no tokenizer files there, or damaged ones.
    """
    if not any((folder / name).is_file() for name in ("tokenizer.json", "vocab.json", "vocab.txt", "tokenizer.model")):
        raise EnvironmentFault(f"{folder} holds no tokenizer", remedy="copy tokenizer.json (or vocab files) there")
    try:
        tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True)
    except Exception as error:
        # The tokenizers library raises plain Exception for damaged files.
        first = str(error).strip().split("\n")[0]
        raise EnvironmentFault(
            f"the tokenizer in {folder} cannot be loaded: {first}", remedy="copy its files again"
        ) from error
    if tokenizer.pad_token_id is None:
        tokenizer.pad_token = tokenizer.eos_token
    return tokenizer


def encode(tokenizer: Any, texts: Sequence[str], max_tokens: int) -> tuple[Tensor, Tensor]:
    """Ids and mask, int64 ``[n, longest]``, padded on the right, cut at ``max_tokens``."""
    tokenizer.padding_side = "right"
    given = list(texts)
    # The library stumbles over an empty list.
    encoded = tokenizer(given, truncation=True, max_length=max_tokens)["input_ids"] if given else []
    longest = max([1, *map(len, encoded)])  # some tokenizers make nothing of an empty text
    ids = torch.full((len(encoded), longest), int(tokenizer.pad_token_id), dtype=torch.int64)
    mask = torch.zeros((len(encoded), longest), dtype=torch.int64)
    for row, numbers in enumerate(encoded):
        ids[row, : len(numbers)] = torch.tensor(numbers, dtype=torch.int64)
        mask[row, : len(numbers)] = 1
    return ids, mask


def tokenizer_digest(tokenizer: Any) -> str:
    """Hex SHA-256 of all that decides which numbers a text becomes.

    Truncation and padding are left out: the library writes the length of the latest call there, so the digest would
    depend on what the tokenizer was last used for.
    """
    content = json.loads(tokenizer.backend_tokenizer.to_str())
    decisive = {key: value for key, value in content.items() if key not in ("truncation", "padding")}
    return hashlib.sha256(json.dumps(decisive, sort_keys=True).encode()).hexdigest()
