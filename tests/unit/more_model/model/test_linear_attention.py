"""Linear attention: the same as its matrix would give, without the matrix; dropped keys; both image and ECG towers."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from timm.models.vision_transformer import Attention
from torch import Tensor

from more_model.model.config import ModelConfig
from more_model.model.dropkey import DropKeyAttention, set_drop_rates
from more_model.model.linear_attention import LinearAttention
from more_model.model.lora import adapt, lora_factors
from more_model.model.more import build_more

Build = Callable[..., ModelConfig]
TOKENS = 12


def attention_of(rate: float = 0.0, heads: int = 3, width: int = 24) -> LinearAttention:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(5)
        attention = LinearAttention(width, num_heads=heads, qkv_bias=True)
    attention.drop_key_rate = rate
    return attention


def parts(attention: Attention, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Query, key and value [batch, heads, tokens, d]."""
    batch, tokens, _ = x.shape
    qkv = attention.qkv(x).reshape(batch, tokens, 3, attention.num_heads, attention.head_dim)
    query, key, value = qkv.permute(2, 0, 3, 1, 4)
    return query, key, value


def tokens_of(batch: int = 2, width: int = 24) -> Tensor:
    return torch.randn(batch, TOKENS, width, generator=torch.Generator().manual_seed(1))


def test_weights_by_hand() -> None:
    attention = attention_of(heads=1, width=1)
    query, key = (torch.tensor(numbers).reshape(1, 1, 2, 1) for numbers in ([0.0, 1.0], [2.0, -1.0]))
    # phi(2) = 3 and phi(-1) = 1/e; phi of the query cancels where a head is one wide.
    shares = torch.tensor([3.0, torch.e**-1]) / (3 + torch.e**-1)
    torch.testing.assert_close(attention.weights(query, key), shares.expand(1, 1, 2, 2))


def test_forward_is_the_implied_matrix_times_the_values() -> None:
    attention = attention_of().eval()
    x = tokens_of()
    query, key, value = parts(attention, x)
    weights = attention.weights(query, key)
    assert bool((weights > 0).all())
    torch.testing.assert_close(weights.sum(dim=-1), torch.ones(2, 3, TOKENS))
    expected = attention.proj((weights @ value).transpose(1, 2).reshape(2, TOKENS, 24))
    torch.testing.assert_close(attention(x), expected, rtol=1e-4, atol=1e-6)


def test_gradients_are_those_of_the_matrix() -> None:
    attention = attention_of().double().eval()
    x = tokens_of().double().requires_grad_(True)
    query, key, value = parts(attention, x)
    slow = attention.proj((attention.weights(query, key) @ value).transpose(1, 2).reshape(2, TOKENS, 24))
    (expected,) = torch.autograd.grad(slow.square().sum(), x)
    (found,) = torch.autograd.grad(attention(x).square().sum(), x)
    torch.testing.assert_close(found, expected)


def test_parameters_are_timms() -> None:
    ours = LinearAttention(24, num_heads=3).state_dict()
    stock = Attention(24, num_heads=3).state_dict()
    assert {n: t.shape for n, t in ours.items()} == {n: t.shape for n, t in stock.items()}


def test_nothing_is_as_large_as_the_square_of_the_tokens() -> None:
    sizes: list[int] = []
    attention = attention_of(0.3, heads=2, width=16).train()
    with torch.autograd.graph.saved_tensors_hooks(lambda t: sizes.append(t.numel()) or t, lambda t: t):
        attention(torch.randn(1, 600, 16))
    assert 0 < max(sizes) <= 600 * 3 * 16


def test_dropped_keys_are_left_out_for_every_query_of_a_head() -> None:
    attention = attention_of(0.4).train()
    x = tokens_of()
    torch.manual_seed(2)
    fast = attention(x)
    torch.manual_seed(2)
    keep = torch.rand(2, 3, TOKENS, 1) >= 0.4
    assert 0 < int(keep.sum()) < keep.numel() and not torch.equal(keep[0, 0], keep[0, 1])
    query, key, value = parts(attention, x)
    products = attention.weights(query, key) * keep.transpose(-2, -1)
    weights = products / products.sum(dim=-1, keepdim=True)
    slow = attention.proj((weights @ value).transpose(1, 2).reshape(2, TOKENS, 24))
    torch.testing.assert_close(fast, slow, rtol=1e-4, atol=1e-6)


def test_a_head_that_would_lose_every_key_keeps_all() -> None:
    attention, x = attention_of(1 - 1e-9), tokens_of()
    torch.testing.assert_close(attention.train()(x), attention.eval()(x))


def test_evaluation_drops_nothing() -> None:
    x = tokens_of()
    assert torch.equal(attention_of(0.9).eval()(x), attention_of(0.0).eval()(x))


def test_sums_are_float32_under_autocast() -> None:
    attention, x = attention_of().eval(), tokens_of()
    seen: list[Tensor] = []
    attention.proj.register_forward_pre_hook(lambda _, given: seen.append(given[0]))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        query, key, value = (part.float() for part in parts(attention, x))
        assert attention(x).dtype == torch.bfloat16
    exact = (attention.weights(query, key) @ value).transpose(1, 2).reshape(2, TOKENS, 24)
    # Sums in bfloat16 would be off by a thousandth.
    torch.testing.assert_close(seen[0], exact, rtol=1e-4, atol=1e-6)


def test_masks_are_refused() -> None:
    with pytest.raises(ValueError, match="linear attention takes no mask"):
        attention_of()(tokens_of(), is_causal=True)
    with pytest.raises(ValueError, match="linear attention takes no mask"):
        attention_of()(tokens_of(), attn_mask=torch.zeros(TOKENS, TOKENS))


@pytest.mark.parametrize("tower", ["xray", "ecg"])
def test_the_configuration_chooses_tower_by_tower(tiny_config: Build, tower: str) -> None:
    model = build_more(tiny_config(**{tower: {"attention": "linear"}}), seed=1)
    plain = build_more(tiny_config(), seed=1)
    assert {n: t.shape for n, t in model.state_dict().items()} == {n: t.shape for n, t in plain.state_dict().items()}
    for name in ("xray", "ecg"):
        kind = LinearAttention if name == tower else DropKeyAttention
        blocks = getattr(model, name).encoder.vit.blocks
        assert [type(block.attn) for block in blocks] == [kind, kind]
        assert [block.attn.drop_key_rate for block in blocks] == [0.2, 0.0]
    inputs = torch.rand(4, 16, 16) * 255 if tower == "xray" else torch.randn(4, 12, 50)
    ours, softmax = (getattr(m, tower).encoder.eval()(inputs) for m in (model, plain))
    assert not torch.allclose(ours, softmax, atol=1e-4)
    set_drop_rates(getattr(model, tower).encoder.vit.blocks, [0.5, 0.5])
    torch.manual_seed(3)
    assert not torch.equal(getattr(model, tower).encoder.train()(inputs), ours)


def test_adapters_find_their_targets_and_train(tiny_config: Build) -> None:
    config = tiny_config(xray={"attention": "linear"}, ecg={"attention": "linear"})
    model = build_more(config, seed=1)
    pixels, signal = torch.rand(4, 16, 16) * 255, torch.randn(4, 12, 50)
    before = model.eval().xray(pixels).projection, model.ecg(signal).projection
    adapt(model, config, "ffa", 3)
    after = model.eval().xray(pixels).projection, model.ecg(signal).projection
    for one, other in zip(before, after, strict=True):
        torch.testing.assert_close(one, other)
    model.train()
    loss = model.xray(pixels).projection[:, 0].sum() + model.ecg(signal).projection[:, 0].sum()
    loss.backward()
    factors = {name: p for name, p in lora_factors(model, "B") if not name.startswith("text.")}
    assert len(factors) == config.xray.depth + config.ecg.depth
    assert all(p.grad is not None and bool(p.grad.abs().sum() > 0) for p in factors.values())
