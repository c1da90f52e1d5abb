"""The attention matrices of one forward pass, kept with their place in the graph.

Fused kernels never form them, so inside `recording` every tower computes its attention in the plain way; afterwards the
model is what it was, to the bit.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import Any, Protocol, cast, runtime_checkable

import torch
from torch import Tensor, nn

from more_model.errors import EnvironmentFault
from more_model.model.more import More


@runtime_checkable
class WeighedAttention(Protocol):
    """An attention layer of an image or ECG tower that can say how it mixes its values."""

    def weights(self, query: Tensor, key: Tensor) -> Tensor:
        """[batch, heads, tokens, tokens], each row summing to one, as in evaluation mode."""
        ...


@dataclass(slots=True)
class Recorded:
    """What the towers did in their latest forward pass.

    ``xray`` and ``ecg``: one matrix [n, heads, tokens, tokens] a block, first to last, the class token first among the
    tokens. ``text``: the same for the text encoder; ``text_states`` [n, tokens, width] is what its pooling averages.
    ``ecg_tokens`` [n, tokens, width] is what the tokeniser gave.
    """

    xray: list[Tensor] = field(default_factory=list)
    ecg: list[Tensor] = field(default_factory=list)
    text: list[Tensor] = field(default_factory=list)
    text_states: list[Tensor] = field(default_factory=list)
    ecg_tokens: list[Tensor] = field(default_factory=list)

    def clear(self) -> None:
        """Forget everything; to be called before each forward pass."""
        for kept in (self.xray, self.ecg, self.text, self.text_states, self.ecg_tokens):
            kept.clear()


@contextmanager
def recording(model: More) -> Iterator[Recorded]:
    """Inside, ``model`` is in evaluation mode and every forward pass adds to the record; gradients are on.

    Embed one text at a time: several are sorted by length and cut into groups. The model is put back on leaving, also
    after an error.

    Raises:
        EnvironmentFault: a tower's attention cannot be written out.
    """
    recorded = Recorded()
    with ExitStack() as stack:
        stack.enter_context(torch.enable_grad())
        stack.callback(_restore_modes, [(module, module.training) for module in model.modules()])
        model.eval()
        _watch_tower(stack, model.xray.encoder.vit, "X-ray", recorded.xray)
        _watch_tower(stack, model.ecg.encoder.vit, "ECG", recorded.ecg)
        tokeniser = model.ecg.encoder.tokeniser
        stack.callback(tokeniser.register_forward_hook(_keeping(recorded.ecg_tokens)).remove)
        _watch_text(stack, model.text.encoder.encoder, recorded)
        yield recorded


def _restore_modes(modes: list[tuple[nn.Module, bool]]) -> None:
    for module, training in modes:
        module.training = training


def _watch_tower(stack: ExitStack, vit: nn.Module, name: str, kept: list[Tensor]) -> None:
    for block in cast("Any", vit).blocks:
        attention = block.attn
        if not isinstance(attention, WeighedAttention):
            raise EnvironmentFault(
                f"the {name} tower's {type(attention).__name__} does not say how it weighs its tokens",
                remedy="give that layer a method weights(query, key), as DropKeyAttention has",
            )
        # An attribute of the object hides the method of its class until it is deleted.
        cast("Any", attention).forward = _written_out(attention, kept)
        stack.callback(delattr, attention, "forward")


def _written_out(attention: Any, kept: list[Tensor]) -> Callable[..., Tensor]:
    def forward(x: Tensor, **_no_mask: Any) -> Tensor:
        batch, tokens, _ = x.shape
        qkv = attention.qkv(x).reshape(batch, tokens, 3, attention.num_heads, attention.head_dim)
        query, key, value = qkv.permute(2, 0, 3, 1, 4).unbind(0)
        weights = _in_graph(attention.weights(attention.q_norm(query), attention.k_norm(key)))
        kept.append(weights)
        mixed = (weights @ value).transpose(1, 2).reshape(batch, tokens, attention.attn_dim)
        return cast("Tensor", attention.proj(attention.norm(mixed)))

    return forward


def _in_graph(tensor: Tensor) -> Tensor:
    """Where all parameters before it are frozen, a tensor would have no gradient; from here on it has."""
    return tensor if tensor.requires_grad else tensor.requires_grad_()


def _keeping(kept: list[Tensor]) -> Callable[[nn.Module, Any, Tensor], Tensor]:
    def keep(_module: nn.Module, _inputs: Any, output: Tensor) -> Tensor:
        kept.append(_in_graph(output))
        return output

    return keep


def _watch_text(stack: ExitStack, encoder: Any, recorded: Recorded) -> None:
    before = encoder.config._attn_implementation
    encoder.set_attn_implementation("eager")
    stack.callback(encoder.set_attn_implementation, before)

    def ask(_module: nn.Module, inputs: Any, named: dict[str, Any]) -> tuple[Any, dict[str, Any]]:
        return inputs, {**named, "output_attentions": True}

    def keep(_module: nn.Module, _inputs: Any, output: Any) -> None:
        found = getattr(output, "attentions", None)
        if not found or any(weights is None for weights in found):
            raise EnvironmentFault(
                f"the text encoder ({encoder.config.model_type}) does not give its attention",
                remedy="take an encoder whose transformers class supports output_attentions",
            )
        recorded.text.extend(found)
        recorded.text_states.append(output.last_hidden_state)

    def into_graph(_module: nn.Module, _inputs: Any, output: Tensor) -> Tensor:
        return _in_graph(output)

    stack.callback(encoder.get_input_embeddings().register_forward_hook(into_graph).remove)
    stack.callback(encoder.register_forward_pre_hook(ask, with_kwargs=True).remove)
    stack.callback(encoder.register_forward_hook(keep).remove)
