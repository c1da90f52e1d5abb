"""DropKey really acts: in training, block by block, at the rate that is set, and in nothing else."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
from timm.models.vision_transformer import Attention, Block
from torch import Tensor

from more_model.model.config import ModelConfig
from more_model.model.dropkey import DropKeyAttention, set_drop_rates
from more_model.model.more import build_more

Build = Callable[..., ModelConfig]
TOKENS = 16


def showing_weights(rate: float) -> DropKeyAttention:
    """An attention over one-hot tokens whose output *is* its weights: logits are zero, values the tokens themselves."""
    attention = DropKeyAttention(TOKENS, num_heads=1)
    with torch.no_grad():
        attention.qkv.weight.zero_()
        attention.qkv.weight[2 * TOKENS :] = torch.eye(TOKENS)
        attention.proj.weight.copy_(torch.eye(TOKENS))
        attention.proj.bias.zero_()
    attention.drop_key_rate = rate
    attention.train()
    return attention


def one_hot(batch: int) -> Tensor:
    return torch.eye(TOKENS).expand(batch, -1, -1)


@pytest.mark.parametrize("rate", [0.1, 0.3, 0.6])
def test_share_of_dropped_keys_is_the_rate(rate: float) -> None:
    torch.manual_seed(0)
    weights = showing_weights(rate)(one_hot(200))
    count = weights.numel()
    share = float((weights == 0).double().mean())
    assert share == pytest.approx(rate, abs=5 * math.sqrt(rate * (1 - rate) / count))
    assert torch.allclose(weights.sum(dim=-1), torch.ones(200, TOKENS))
    kept = weights > 0
    assert torch.allclose(weights, kept / kept.sum(dim=-1, keepdim=True))


def test_every_head_and_every_query_draws_its_own() -> None:
    torch.manual_seed(0)
    weights = showing_weights(0.5)(one_hot(2))
    assert not torch.equal(weights[0] > 0, weights[1] > 0)
    assert not torch.equal(weights[0, 0] > 0, weights[0, 1] > 0)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float64])
def test_a_row_without_any_key_is_uniform_not_nan(dtype: torch.dtype) -> None:
    attention = showing_weights(1 - 1e-9).to(dtype)
    inputs = one_hot(1).to(dtype).requires_grad_(True)
    weights = attention(inputs)
    torch.testing.assert_close(weights, torch.full_like(weights, 1 / TOKENS))
    weights.square().sum().backward()
    assert inputs.grad is not None and bool(inputs.grad.isfinite().all())


def test_training_equals_plain_softmax_attention_with_the_drawn_mask() -> None:
    attention = DropKeyAttention(24, num_heads=3, qkv_bias=True).train()
    attention.drop_key_rate = 0.4
    inputs = torch.randn(5, 7, 24, generator=torch.Generator().manual_seed(1))
    torch.manual_seed(2)
    fast = attention(inputs)
    torch.manual_seed(2)
    keep = torch.rand(5, 3, 7, 7) >= 0.4
    query, key, value = attention.qkv(inputs).reshape(5, 7, 3, 3, 8).permute(2, 0, 3, 1, 4)
    logits = (query @ key.transpose(-2, -1) / math.sqrt(8)).masked_fill(~keep, -1e30)
    slow = attention.proj((logits.softmax(dim=-1) @ value).transpose(1, 2).reshape(5, 7, 24))
    torch.testing.assert_close(fast, slow)


@pytest.mark.parametrize("as_bool", [True, False])
def test_a_given_mask_and_dropped_keys_add_up(as_bool: bool) -> None:
    torch.manual_seed(0)
    allowed = torch.ones(TOKENS, TOKENS, dtype=torch.bool)
    allowed[:, :5] = False
    mask = allowed if as_bool else torch.zeros(TOKENS, TOKENS).masked_fill(~allowed, -math.inf)
    weights = showing_weights(0.3)(one_hot(50), attn_mask=mask)
    some_key = weights[(weights == 0).any(dim=-1)]
    assert not some_key[:, :5].any()
    assert float((some_key[:, 5:] == 0).double().mean()) == pytest.approx(0.3, abs=0.03)


def test_evaluation_is_timms_attention() -> None:
    torch.manual_seed(0)
    stock = Attention(24, num_heads=3)
    ours = DropKeyAttention(24, num_heads=3)
    ours.load_state_dict(stock.state_dict())
    ours.drop_key_rate = 0.9
    inputs = torch.randn(2, 7, 24)
    assert torch.equal(ours.eval()(inputs), stock.eval()(inputs))


@pytest.mark.parametrize("tower", ["xray", "ecg"])
def test_schedule_reaches_every_block_and_changes_training_only(tiny_config: Build, tower: str) -> None:
    """The failure this guards against: a rate that is set on an object which nobody reads."""
    inputs = torch.rand(4, 16, 16) * 255 if tower == "xray" else torch.randn(4, 12, 50)
    outputs: dict[str, tuple[Tensor, Tensor]] = {}
    for name, dropkey in {
        "off": {"schedule": "off", "rate": 0.5},
        "zero": {"schedule": "constant", "rate": 0.0},
        "constant": {"schedule": "constant", "rate": 0.5},
        "linear": {"schedule": "linear", "rate": 0.5},
        "linear, low": {"schedule": "linear", "rate": 0.05},
    }.items():
        encoder = getattr(build_more(tiny_config(dropkey=dropkey), seed=1), tower).encoder
        rates = [block.attn.drop_key_rate for block in encoder.vit.blocks]
        assert rates == list(tiny_config(dropkey=dropkey).dropkey.rates(2))
        torch.manual_seed(4)
        outputs[name] = encoder.train()(inputs).detach(), encoder.eval()(inputs).detach()
    for _, evaluated in outputs.values():
        assert torch.equal(evaluated, outputs["off"][1])
    assert torch.equal(*outputs["off"])
    assert torch.equal(*outputs["zero"])
    distinct = ("off", "constant", "linear", "linear, low")
    for first in distinct:
        for second in distinct:
            assert torch.equal(outputs[first][0], outputs[second][0]) is (first == second), (first, second)


def test_moving_the_rate_to_another_block_changes_the_output(tiny_config: Build) -> None:
    encoder = build_more(tiny_config(), seed=1).xray.encoder.train()
    pixels = torch.rand(4, 16, 16) * 255
    outputs = []
    for rates in ([0.5, 0.0], [0.0, 0.5], [0.5, 0.0]):
        set_drop_rates(encoder.vit.blocks, rates)
        torch.manual_seed(4)
        outputs.append(encoder(pixels).detach())
    assert torch.equal(outputs[0], outputs[2])
    assert not torch.equal(outputs[0], outputs[1])


def test_rates_are_for_blocks_that_can_use_them() -> None:
    with pytest.raises(ValueError, match="Block has no DropKeyAttention"):
        set_drop_rates([Block(16, 2)], [0.1])
    with pytest.raises(ValueError, match="argument 2 is longer"):
        set_drop_rates([Block(16, 2, attn_layer=DropKeyAttention)], [0.1, 0.2])
