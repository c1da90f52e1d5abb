"""The imported model against a forward pass in plain PyTorch, written from what is known of the released code."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import pytest
import torch
from torch import Tensor
from torch.nn import functional
from trees.released_more import Sizes, released_shapes, released_state

from more_model.checkpoint import load_checkpoint
from more_model.importing.mapping import released_slots
from more_model.importing.released import import_released
from more_model.importing.released_config import released_config
from more_model.model.config import ModelConfig

State = Mapping[str, Tensor]
#: MIMIC-IV-ECG's order (I, II, III, aVR, aVF, aVL, V1..V6) in terms of the standard one (..., aVR, aVL, aVF, ...).
AS_MIMIC = [0, 1, 2, 3, 5, 4, 6, 7, 8, 9, 10, 11]
PAD = 1


def batch_norm(state: State, at: str, x: Tensor) -> Tensor:
    """Over axis 1, with the running statistics."""
    shape = (1, -1) + (1,) * (x.ndim - 2)
    mean, variance, scale, shift = (
        state[f"{at}.{name}"].reshape(shape) for name in ("running_mean", "running_var", "weight", "bias")
    )
    return (x - mean) / torch.sqrt(variance + 1e-5) * scale + shift


def layer_norm(state: State, at: str, x: Tensor, eps: float) -> Tensor:
    centred = x - x.mean(dim=-1, keepdim=True)
    spread = torch.sqrt(centred.square().mean(dim=-1, keepdim=True) + eps)
    return centred / spread * state[f"{at}.weight"] + state[f"{at}.bias"]


def gelu(x: Tensor) -> Tensor:
    return x * 0.5 * (1 + torch.erf(x / 2**0.5))


def attention(query: Tensor, key: Tensor, value: Tensor, heads: int, allowed: Tensor | None = None) -> Tensor:
    batch, tokens, width = query.shape
    query, key, value = (x.reshape(batch, tokens, heads, width // heads).transpose(1, 2) for x in (query, key, value))
    logits = query @ key.transpose(-2, -1) / (width // heads) ** 0.5
    if allowed is not None:
        logits = logits.masked_fill(~allowed[:, None, None, :], -torch.inf)
    return (logits.softmax(dim=-1) @ value).transpose(1, 2).reshape(batch, tokens, width)


def vit(state: State, at: str, tokens: Tensor, sizes: Sizes) -> Tensor:
    """Patch tokens -> the class token after the last norm."""
    x = torch.cat([state[f"{at}cls_token"].expand(len(tokens), -1, -1), tokens], dim=1) + state[f"{at}pos_embed"]
    for number in range(sizes.depth):
        block = f"{at}blocks.{number}."
        inner = layer_norm(state, f"{block}norm1", x, 1e-6)
        query, key, value = (inner @ state[f"{block}attn.qkv.weight"].T).chunk(3, dim=-1)
        mixed = attention(query, key, value, sizes.heads)
        x = x + mixed @ state[f"{block}attn.proj.weight"].T + state[f"{block}attn.proj.bias"]
        inner = layer_norm(state, f"{block}norm2", x, 1e-6)
        inner = gelu(inner @ state[f"{block}mlp.fc1.weight"].T + state[f"{block}mlp.fc1.bias"])
        x = x + inner @ state[f"{block}mlp.fc2.weight"].T + state[f"{block}mlp.fc2.bias"]
    return layer_norm(state, f"{at}norm", x, 1e-6)[:, 0]


def xray_features(state: State, pixels: Tensor, sizes: Sizes) -> Tensor:
    """``pixels``: [n, side, side], 0..255."""
    at = "xray_model.vit_model."
    scaled = ((pixels / 255 - 0.499) / 0.293)[:, None].repeat(1, 3, 1, 1)
    weight = state[f"{at}patch_embed.proj.weight"]
    patches = functional.unfold(scaled, sizes.patch, stride=sizes.patch).transpose(1, 2)
    return vit(state, at, patches @ weight.flatten(1).T + state[f"{at}patch_embed.proj.bias"], sizes)


def ecg_features(state: State, signal: Tensor, sizes: Sizes) -> Tensor:
    """``signal``: [n, 12, samples] in the lead order of the released code."""
    at = "ecg_model.vit_model."
    x = signal
    for name, stride in (("conv1", 5), ("conv2", 1)):
        own = f"{at}patch_embed.{name}"
        x = functional.conv1d(x, state[f"{own}.0.weight"], state[f"{own}.0.bias"], stride=stride)
        x = batch_norm(state, f"{own}.2", x.clamp(min=0))
    return vit(state, at, x.transpose(1, 2), sizes)


def text_features(state: State, ids: Tensor, sizes: Sizes, alpha: float) -> Tensor:
    """``ids``: [n, tokens] with padding; the mean over all positions of the last hidden state."""
    at = "text_model.base_model.model."
    words = ids != PAD
    positions = words.cumsum(dim=1) * words + PAD
    x = state[f"{at}embeddings.word_embeddings.weight"][ids]
    x = x + state[f"{at}embeddings.position_embeddings.weight"][positions]
    x = x + state[f"{at}embeddings.token_type_embeddings.weight"][0]
    x = layer_norm(state, f"{at}embeddings.LayerNorm", x, 1e-5)

    def adapted(own: str, x: Tensor) -> Tensor:
        plain = x @ state[f"{own}.base_layer.weight"].T + state[f"{own}.base_layer.bias"]
        low = x @ state[f"{own}.lora_A.default.weight"].T @ state[f"{own}.lora_B.default.weight"].T
        return plain + alpha / sizes.rank * low

    def linear(own: str, x: Tensor) -> Tensor:
        return x @ state[f"{own}.weight"].T + state[f"{own}.bias"]

    for number in range(sizes.depth):
        layer = f"{at}encoder.layer.{number}."
        own = f"{layer}attention.self."
        mixed = attention(
            adapted(f"{own}query", x), linear(f"{own}key", x), adapted(f"{own}value", x), sizes.heads, words
        )
        x = layer_norm(
            state, f"{layer}attention.output.LayerNorm", x + linear(f"{layer}attention.output.dense", mixed), 1e-5
        )
        inner = linear(f"{layer}output.dense", gelu(linear(f"{layer}intermediate.dense", x)))
        x = layer_norm(state, f"{layer}output.LayerNorm", x + inner, 1e-5)
    return x.mean(dim=1)


def projected(state: State, projector: str, features: Tensor) -> Tensor:
    at = f"{projector}.layers."
    hidden = batch_norm(state, f"{at}0.bn", features @ state[f"{at}0.linear.weight"].T).clamp(min=0)
    return batch_norm(state, f"{at}2.bn", hidden @ state[f"{at}2.linear.weight"].T)


def test_names_and_shapes_of_the_facts_are_those_that_the_import_expects() -> None:
    facts = released_shapes(Sizes())
    assert len(facts) == 571
    slots = released_slots(released_config(), adapter=True)
    assert {name: slot.shape for name, slot in slots.items()} == facts


@torch.inference_mode()
def compare(state: State, checkpoint: Path, base: Path, tokenizer: Path, config: ModelConfig, sizes: Sizes) -> None:
    """Import, load, and compare everything that the model says about one X-ray, one ECG and two texts."""
    import_released(checkpoint, base, config=config, tokenizer_folder=tokenizer)
    model = load_checkpoint(base).model
    generator = torch.Generator().manual_seed(1)
    side, samples = config.preprocessing.image_size, config.preprocessing.ecg_samples
    pixels = torch.randint(0, 256, (1, side, side), generator=generator)
    signal = torch.rand((1, 12, samples), generator=generator) * 2 - 1
    ids = torch.full((2, 9), PAD)
    ids[0] = torch.randint(4, sizes.words, (9,), generator=generator)
    ids[1, :4] = torch.randint(4, sizes.words, (4,), generator=generator)
    mask = (ids != PAD).long()
    published_ids = functional.pad(ids, (0, sizes.positions - 2 - 9), value=PAD)
    pairs = [
        (model.xray, (pixels,), xray_features(state, pixels.float(), sizes), "projector_xray_text"),
        (model.ecg, (signal,), ecg_features(state, signal[:, AS_MIMIC], sizes), "projector_ecg_text"),
        (model.text, (ids, mask), text_features(state, published_ids, sizes, 8.0), "projector_text"),
    ]
    for tower, inputs, features, projector in pairs:
        projection = projected(state, projector, features)
        ours = tower(*inputs)
        assert float(features.std()) > 0.05 and float(projection.std()) > 0.05
        torch.testing.assert_close(ours.features, features, rtol=0, atol=1e-5)
        torch.testing.assert_close(tower.head(ours.features), projection, rtol=0, atol=1e-5)
        torch.testing.assert_close(ours.projection, functional.normalize(projection), rtol=0, atol=1e-5)


@pytest.fixture
def large_folder(tmp_path: Path) -> Iterator[Path]:
    """Emptied afterwards: pytest would keep gigabytes of several runs."""
    yield tmp_path
    shutil.rmtree(tmp_path)


def test_published_size_gives_the_published_outputs(large_folder: Path, roberta_tokenizer: Callable[..., Path]) -> None:
    checkpoint = large_folder / "more.pth"
    torch.save(released_state(Sizes()), checkpoint)
    # Mapped, not read: two more copies in memory would be 2.4 GB.
    state = torch.load(checkpoint, weights_only=True, mmap=True)
    compare(state, checkpoint, large_folder / "base", roberta_tokenizer(), released_config(), Sizes())


@pytest.mark.parametrize("seed", [1, 2])
def test_small_size_gives_the_same_outputs(
    tmp_path: Path, roberta_tokenizer: Callable[..., Path], small_config: ModelConfig, small_sizes: Sizes, seed: int
) -> None:
    state = released_state(small_sizes, seed)
    torch.save(state, tmp_path / "more.pth")
    compare(state, tmp_path / "more.pth", tmp_path / "base", roberta_tokenizer(), small_config, small_sizes)
