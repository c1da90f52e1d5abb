"""The text tower: seeded, or any local Hugging Face model; pooled the same whatever the padding; never a network."""

from __future__ import annotations

import json
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any, NoReturn

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from more_model.errors import ConfigError, EnvironmentFault
from more_model.model.config import ModelConfig, TextTower
from more_model.model.lora import adapt, lora_factors
from more_model.model.more import build_more
from more_model.model.text import TextEncoder, build_text_encoder

Build = Callable[..., ModelConfig]
Folder = Callable[[str], Path]
KINDS = ("seeded", "bert", "roberta", "llama", "gpt2")
POOLING = {"seeded": "mean", "bert": "mean", "roberta": "mean", "llama": "last", "gpt2": "last"}


@pytest.fixture(autouse=True)
def no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    """Any call out fails the test. The library's offline switch is off here: the code must not lean on it."""
    import huggingface_hub.constants

    def refused(*_: object, **__: object) -> NoReturn:
        raise AssertionError("a text tower called out")

    monkeypatch.setattr(socket.socket, "connect", refused)
    monkeypatch.setattr(socket, "getaddrinfo", refused)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", False)


@pytest.fixture
def encoder_of(tiny_config: Build, text_folder: Folder) -> Callable[..., TextEncoder]:
    def build(kind: str, pooling: str = "auto") -> TextEncoder:
        path = {} if kind == "seeded" else {"path": str(text_folder(kind))}
        config = tiny_config(text={**path, "pooling": pooling}).text
        torch.manual_seed(0)
        encoder, width = build_text_encoder(config, pad_id=0)
        assert width == 16
        return encoder.eval()

    return build


def padded(lengths: list[int], tokens: int, padding: int = 0) -> tuple[Tensor, Tensor]:
    """Random words of the given lengths, the rest filled with ``padding``."""
    generator = torch.Generator().manual_seed(sum(lengths))
    ids = torch.randint(5, 300, (len(lengths), tokens), generator=generator)
    mask = (torch.arange(tokens)[None, :] < torch.tensor(lengths)[:, None]).long()
    return torch.where(mask == 1, ids, padding), mask


@pytest.mark.parametrize("kind", KINDS)
def test_pooling_and_width_follow_the_architecture(encoder_of: Callable[..., TextEncoder], kind: str) -> None:
    encoder = encoder_of(kind)
    assert encoder.pooling == POOLING[kind]
    assert encoder(*padded([4, 9], 9)).shape == (2, 16)


@pytest.mark.parametrize("kind", KINDS)
def test_features_do_not_depend_on_padding(encoder_of: Callable[..., TextEncoder], kind: str) -> None:
    encoder = encoder_of(kind)
    ids, mask = padded([6, 3, 9], 9)
    features = encoder(ids, mask)
    wider = encoder(torch.nn.functional.pad(ids, (0, 20)), torch.nn.functional.pad(mask, (0, 20)))
    torch.testing.assert_close(wider, features, rtol=1e-4, atol=1e-5)
    for row, length in enumerate((6, 3, 9)):
        alone = encoder(ids[row : row + 1, :length], mask[row : row + 1, :length])
        torch.testing.assert_close(features[row : row + 1], alone, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("kind", KINDS)
def test_pooling_is_what_it_is_called(encoder_of: Callable[..., TextEncoder], kind: str) -> None:
    encoder = encoder_of(kind)
    ids, mask = padded([5, 5], 5)
    states = encoder.encoder(input_ids=ids, attention_mask=mask).last_hidden_state
    expected = states[:, -1] if POOLING[kind] == "last" else states.mean(dim=1)
    torch.testing.assert_close(encoder(ids, mask), expected, rtol=1e-4, atol=1e-5)


def test_published_pooling_counts_the_padding(encoder_of: Callable[..., TextEncoder]) -> None:
    encoder = encoder_of("seeded", "mean-all")
    ids, mask = padded([5, 9], 12)
    states = encoder.encoder(input_ids=ids, attention_mask=mask).last_hidden_state
    torch.testing.assert_close(encoder(ids, mask), states.mean(dim=1))
    assert not torch.allclose(encoder(ids, mask), encoder_of("seeded")(ids, mask), atol=1e-3)


@pytest.mark.parametrize("kind", ["seeded", "roberta"])
def test_published_pooling_to_a_fixed_length_is_that_of_padded_texts(
    tiny_config: Build, text_folder: Folder, kind: str
) -> None:
    path = {} if kind == "seeded" else {"path": str(text_folder(kind))}
    text = tiny_config(text={**path, "pooling": "mean-all", "max_tokens": 32, "padded_tokens": 48}).text
    encoder = build_text_encoder(text, pad_id=0)[0].eval()
    ids, mask = padded([5, 9, 12], 12)
    wide_ids, wide_mask = (torch.nn.functional.pad(x, (0, 48 - 12)) for x in (ids, mask))
    states = encoder.encoder(input_ids=wide_ids, attention_mask=wide_mask).last_hidden_state
    torch.testing.assert_close(encoder(ids, mask), states.mean(dim=1), rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(encoder(wide_ids, wide_mask), states.mean(dim=1))
    alone = encoder(ids[:1, :5], mask[:1, :5])
    torch.testing.assert_close(alone, encoder(ids, mask)[:1], rtol=1e-4, atol=1e-5)


def test_only_roberta_pads_alike_at_any_length(tiny_config: Build, text_folder: Folder) -> None:
    text = {"path": str(text_folder("bert")), "pooling": "mean-all", "padded_tokens": 64}
    with pytest.raises(ConfigError, match=r"text\.padded_tokens.*\n.*not bert"):
        build_text_encoder(tiny_config(text=text).text, pad_id=0)


def test_the_seeded_roberta_takes_its_norms_from_the_configuration(tiny_config: Build) -> None:
    encoder = build_text_encoder(tiny_config(text={"norm_eps": 1e-5}).text, pad_id=0)[0].encoder
    assert {part.eps for part in encoder.modules() if isinstance(part, torch.nn.LayerNorm)} == {1e-5}


@pytest.mark.parametrize("kind", ["seeded", "llama"])
def test_length_groups_compute_less_and_give_the_same(encoder_of: Callable[..., TextEncoder], kind: str) -> None:
    encoder = encoder_of(kind)
    ids, mask = padded([40, 4, 38, 5, 3, 40, 6, 4], 40)
    computed: list[int] = []
    encoder.encoder.register_forward_pre_hook(
        lambda _, __, given: computed.append(given["input_ids"].numel()), with_kwargs=True
    )
    grouped = encoder(ids, mask)
    assert len(computed) == 2
    assert sum(computed) == 5 * 6 + 3 * 40
    alone = torch.cat([encoder(ids[row : row + 1], mask[row : row + 1]) for row in range(8)])
    torch.testing.assert_close(grouped, alone, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("kind", KINDS)
def test_at_a_width_of_its_own_a_text_is_what_it_is_elsewhere(
    encoder_of: Callable[..., TextEncoder], kind: str
) -> None:
    encoder = encoder_of(kind)
    ids, mask = padded([6, 3, 9], 9, padding=7)  # whatever stands where there are no words
    torch.testing.assert_close(encoder.at_width(ids, mask, 16), encoder(ids, mask), rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(encoder.at_width(ids[:2], mask[:2], 7), encoder(ids, mask)[:2], rtol=1e-4, atol=1e-5)
    alone = encoder.at_width(ids[1:2], mask[1:2], 16)
    torch.testing.assert_close(encoder.at_width(ids, mask, 16)[1:2], alone, rtol=1e-5, atol=1e-6)


def test_texts_of_one_length_stay_one_batch(encoder_of: Callable[..., TextEncoder]) -> None:
    encoder = encoder_of("seeded")
    calls: list[int] = []
    encoder.encoder.register_forward_pre_hook(lambda *_: calls.append(1))
    encoder(*padded([9, 8, 9, 8], 9))
    assert len(calls) == 1


@pytest.mark.parametrize("kind", KINDS)
def test_no_texts_and_a_text_without_a_word(encoder_of: Callable[..., TextEncoder], kind: str) -> None:
    encoder = encoder_of(kind)
    assert encoder(torch.zeros(0, 1, dtype=torch.int64), torch.zeros(0, 1, dtype=torch.int64)).shape == (0, 16)
    features = encoder(*padded([0, 3], 3))
    assert bool(features.isfinite().all())


@pytest.mark.parametrize(
    ("kind", "targets"),
    [
        ("bert", {"query", "value"}),
        ("roberta", {"query", "value"}),
        ("llama", {"q_proj", "v_proj"}),
        ("gpt2", {"c_attn"}),
    ],
)
def test_lora_finds_its_targets_in_any_architecture(
    tiny_config: Build, text_folder: Folder, kind: str, targets: set[str]
) -> None:
    config = tiny_config(text={"path": str(text_folder(kind))}, lora={"text_targets": "auto"})
    model = build_more(config, seed=0)
    adapt(model, config, "fedit", 1)
    names = [name for name, _ in lora_factors(model.text, "B")]
    assert len(names) == 2 * len(targets)
    assert {name.split(".lora_B.")[0].rsplit(".", 1)[-1] for name in names} == targets
    model.text(*padded([4, 7], 7)).projection[:, 0].sum().backward()
    assert all(p.grad is not None and bool(p.grad.any()) for _, p in lora_factors(model.text, "B"))


def test_an_architecture_without_known_targets_asks_for_names(
    tiny_config: Build, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = tiny_config(lora={"text_targets": "auto"})
    for known in ({}, {"roberta": r".*language\.(q|v)"}):
        monkeypatch.setattr(
            "more_model.model.lora.TRANSFORMERS_MODELS_TO_LORA_TARGET_MODULES_MAPPING", known, raising=True
        )
        with pytest.raises(ConfigError, match="no default is known for 'roberta': name the modules to adapt"):
            adapt(build_more(config, seed=0), config, "ffa", 1)


def test_a_folder_is_read_in_float32_and_as_it_was_saved(tiny_config: Build, text_folder: Folder) -> None:
    from transformers import AutoModel

    path = text_folder("llama")
    given = AutoModel.from_pretrained(path, local_files_only=True).state_dict()
    model = build_more(tiny_config(text={"path": str(path)}), seed=5)
    own = model.text.encoder.encoder.state_dict()
    assert own.keys() == given.keys()
    assert all(torch.equal(own[name], given[name]) and own[name].dtype == torch.float32 for name in given)


def test_a_folder_without_a_model_is_named(tiny_config: Build, tmp_path: Path) -> None:
    with pytest.raises(EnvironmentFault, match="is not a Hugging Face model folder"):
        build_more(tiny_config(text={"path": str(tmp_path)}), seed=0)
    with pytest.raises(EnvironmentFault, match="is not a Hugging Face model folder"):
        build_more(tiny_config(text={"path": "roberta-base"}), seed=0)


def test_a_folder_with_weights_that_are_missing_or_damaged_is_named(
    tiny_config: Build, tmp_path: Path, text_folder: Folder
) -> None:
    whole = text_folder("bert")
    config = tiny_config(text={"path": str(tmp_path)})
    (tmp_path / "config.json").write_bytes((whole / "config.json").read_bytes())
    with pytest.raises(EnvironmentFault, match=r"text\.path"):
        build_more(config, seed=0)
    (tmp_path / "model.safetensors").write_bytes((whole / "model.safetensors").read_bytes()[:-50])
    with pytest.raises(EnvironmentFault, match=r"text\.path"):
        build_more(config, seed=0)
    save_file({"embeddings.word_embeddings.weight": torch.zeros(320, 16)}, tmp_path / "model.safetensors")
    with pytest.raises(EnvironmentFault, match=r"lacks \d+ tensors of its own architecture, first embeddings"):
        build_more(config, seed=0)
    (tmp_path / "config.json").write_text("{", encoding="utf-8")
    with pytest.raises(EnvironmentFault, match=r"text\.path"):
        build_more(config, seed=0)


@pytest.mark.parametrize(("kind", "positions"), [("bert", 96), ("roberta", 95), ("gpt2", 96)])
def test_more_tokens_than_the_model_has_positions_are_refused(
    tiny_config: Build, text_folder: Folder, kind: str, positions: int
) -> None:
    path = str(text_folder(kind))
    encoder, _ = build_text_encoder(tiny_config(text={"path": path, "max_tokens": positions}).text, pad_id=0)
    assert encoder.eval()(*padded([positions], positions)).shape == (1, 16)
    with pytest.raises(ConfigError, match=f"{positions + 1} is more than the {positions}"):
        build_text_encoder(tiny_config(text={"path": path, "max_tokens": positions + 1}).text, pad_id=0)


def test_seeded_tower_has_a_position_for_every_token(tiny_config: Build) -> None:
    for pad_id in (0, 1, 7):
        encoder, _ = build_text_encoder(tiny_config().text, pad_id)
        assert encoder(*padded([64], 64, pad_id)).shape == (1, 16)


def test_dropout_of_the_seeded_tower_is_the_configured_one(tiny_config: Build) -> None:
    def parts(dropout: float) -> Any:
        encoder, _ = build_text_encoder(TextTower(**{**tiny_config().text.model_dump(), "dropout": dropout}), 0)
        return json.loads(encoder.encoder.config.to_json_string())

    assert parts(0.25)["hidden_dropout_prob"] == parts(0.25)["attention_probs_dropout_prob"] == 0.25
    assert parts(0.0)["hidden_dropout_prob"] == 0.0
