"""Recording changes nothing that stays, and sees what the fused kernels compute."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from more_model.errors import EnvironmentFault
from more_model.explain.attention_maps import recording
from more_model.model.lora import adapt
from more_model.model.more import More, build_more

IDS = torch.tensor([[1, 5, 6, 7, 2]])
MASK = torch.ones_like(IDS)


def outputs(model: More) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    pixels = torch.randint(0, 255, (3, 16, 16), generator=generator)
    signal = torch.randn(3, 12, 50, generator=generator)
    with torch.no_grad():
        return [model.xray(pixels).projection, model.ecg(signal).projection, model.text(IDS, MASK).projection]


def grown(model: More) -> More:
    """LoRA whose B factors are not zero any more."""
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if ".lora_B." in name:
                parameter.fill_(0.05)
    return model


@pytest.fixture(params=["plain", "lora", "linear", "frozen", "bert", "roberta", "llama", "gpt2"])
def any_model(request: Any, tiny_config: Callable[..., Any], text_folder: Callable[[str], Path]) -> More:
    kind = request.param
    if kind in ("bert", "roberta", "llama", "gpt2"):
        config = tiny_config(text={"path": str(text_folder(kind))}, lora={"text_targets": "auto"})
    elif kind == "linear":
        config = tiny_config(xray={"attention": "linear"}, ecg={"attention": "linear"})
    else:
        config = tiny_config()
    model = build_more(config, seed=1).eval()
    if kind == "frozen":
        model.requires_grad_(False)
    elif kind not in ("plain", "linear"):
        adapt(model, config, "ffa", 1)
        model = grown(model)
    return model


def test_the_model_is_as_before_to_the_bit(any_model: More) -> None:
    names = [name for name, _ in any_model.named_modules()]
    before, attention = outputs(any_model), any_model.text.encoder.encoder.config._attn_implementation
    with recording(any_model) as recorded:
        inside = outputs(any_model)
    after = outputs(any_model)
    for first, second, third in zip(before, inside, after, strict=True):
        assert torch.equal(first, third)
        torch.testing.assert_close(first, second, rtol=1e-4, atol=1e-5)
    assert any_model.text.encoder.encoder.config._attn_implementation == attention
    assert all(parameter.grad is None for parameter in any_model.parameters())
    assert [name for name, _ in any_model.named_modules()] == names
    count = len(recorded.xray)
    outputs(any_model)
    assert len(recorded.xray) == count


def test_every_layer_is_kept_with_its_gradient(any_model: More) -> None:
    with recording(any_model) as recorded:
        score = (
            any_model.xray(torch.arange(256).reshape(1, 16, 16)).projection[0, 0]
            + any_model.ecg(torch.linspace(-1, 1, 600).reshape(1, 12, 50)).projection[0, 0]
            + any_model.text(IDS, MASK).projection[0, 0]
        )
        for kept, tokens in ((recorded.xray, 5), (recorded.ecg, 4), (recorded.text, 5)):
            assert [tuple(layer.shape) for layer in kept] == [(1, 2, tokens, tokens)] * 2
            for layer in kept:
                torch.testing.assert_close(layer.sum(dim=-1), torch.ones(1, 2, tokens))
        gradients = torch.autograd.grad(score, [*recorded.xray, *recorded.ecg, *recorded.text])
    assert all(bool(gradient.any()) for gradient in gradients)


def test_modes_come_back_after_an_error(tiny_config: Callable[..., Any]) -> None:
    model = build_more(tiny_config(), seed=1)
    model.xray.train()
    model.ecg.eval()
    before = outputs(model.eval())
    model.xray.train()

    def fail() -> None:
        with recording(model):
            assert not model.xray.training
            raise RuntimeError("in the middle")

    with pytest.raises(RuntimeError, match="in the middle"):
        fail()
    assert model.xray.encoder.vit.blocks[0].attn.training
    assert not model.ecg.training
    assert all(torch.equal(a, b) for a, b in zip(before, outputs(model.eval()), strict=True))


def test_attention_that_cannot_be_written_out_is_refused(tiny_config: Callable[..., Any]) -> None:
    model = build_more(tiny_config(), seed=1)
    model.ecg.encoder.vit.blocks[1].attn = torch.nn.Identity()
    with pytest.raises(EnvironmentFault, match="the ECG tower's Identity does not say"), recording(model):
        pass
    assert "forward" not in vars(model.xray.encoder.vit.blocks[0].attn)


def test_a_text_encoder_without_attention_is_refused(
    tiny_config: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    model = build_more(tiny_config(), seed=1)
    states = torch.zeros(1, 5, 16)
    monkeypatch.setattr(
        type(model.text.encoder.encoder),
        "forward",
        lambda self, **_named: SimpleNamespace(attentions=None, last_hidden_state=states),
    )
    with recording(model), pytest.raises(EnvironmentFault, match="does not give its attention"):
        model.text(IDS, MASK)
