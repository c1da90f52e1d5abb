"""A random state dict with the names and shapes that the released MoRE code saves."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Sizes:
    """The published sizes; the mlp is four times as wide as the tower, heads are not visible in a state dict."""

    width: int = 768
    depth: int = 12
    heads: int = 12
    words: int = 50265
    positions: int = 514
    rank: int = 16
    patch: int = 16
    patches: int = 196
    ecg_tokens: int = 196
    ecg_channels: int = 256
    hidden: int = 768
    embedding: int = 128


def released_shapes(sizes: Sizes) -> dict[str, tuple[int, ...]]:
    """Name -> shape of every tensor, adapter included."""
    w, m = sizes.width, 4 * sizes.width
    shapes: dict[str, tuple[int, ...]] = {}
    text = "text_model.base_model.model."
    shapes |= {
        f"{text}embeddings.word_embeddings.weight": (sizes.words, w),
        f"{text}embeddings.token_type_embeddings.weight": (1, w),
        f"{text}embeddings.LayerNorm.weight": (w,),
        f"{text}embeddings.LayerNorm.bias": (w,),
        f"{text}embeddings.position_embeddings.weight": (sizes.positions, w),
        f"{text}pooler.dense.weight": (w, w),
        f"{text}pooler.dense.bias": (w,),
    }
    for layer in range(sizes.depth):
        at = f"{text}encoder.layer.{layer}."
        for part in ("query", "value"):
            own = f"{at}attention.self.{part}."
            shapes |= {
                f"{own}base_layer.weight": (w, w),
                f"{own}base_layer.bias": (w,),
                f"{own}lora_A.default.weight": (sizes.rank, w),
                f"{own}lora_B.default.weight": (w, sizes.rank),
            }
        linear = {"attention.self.key": (w, w), "attention.output.dense": (w, w)}
        linear |= {"intermediate.dense": (m, w), "output.dense": (w, m)}
        for name, shape in linear.items():
            shapes |= {f"{at}{name}.weight": shape, f"{at}{name}.bias": shape[:1]}
        for name in ("attention.output.LayerNorm", "output.LayerNorm"):
            shapes |= {f"{at}{name}.weight": (w,), f"{at}{name}.bias": (w,)}
    shapes |= _vit_shapes("ecg_model.vit_model.", sizes, sizes.ecg_tokens)
    shapes |= _vit_shapes("xray_model.vit_model.", sizes, sizes.patches)
    tokeniser = "ecg_model.vit_model.patch_embed."
    shapes |= {
        f"{tokeniser}conv1.0.weight": (sizes.ecg_channels, 12, 5),
        f"{tokeniser}conv1.0.bias": (sizes.ecg_channels,),
        f"{tokeniser}conv2.0.weight": (w, sizes.ecg_channels, 5),
        f"{tokeniser}conv2.0.bias": (w,),
        "xray_model.vit_model.patch_embed.proj.weight": (w, 3, sizes.patch, sizes.patch),
        "xray_model.vit_model.patch_embed.proj.bias": (w,),
    }
    shapes |= _batch_norm(f"{tokeniser}conv1.2", sizes.ecg_channels) | _batch_norm(f"{tokeniser}conv2.2", w)
    for projector in ("projector_xray_text", "projector_ecg_text", "projector_text"):
        shapes |= {
            f"{projector}.layers.0.linear.weight": (sizes.hidden, w),
            f"{projector}.layers.2.linear.weight": (sizes.embedding, sizes.hidden),
        }
        shapes |= _batch_norm(f"{projector}.layers.0.bn", sizes.hidden)
        shapes |= _batch_norm(f"{projector}.layers.2.bn", sizes.embedding)
    return shapes


def _vit_shapes(at: str, sizes: Sizes, tokens: int) -> dict[str, tuple[int, ...]]:
    w, m = sizes.width, 4 * sizes.width
    shapes: dict[str, tuple[int, ...]] = {f"{at}cls_token": (1, 1, w), f"{at}pos_embed": (1, tokens + 1, w)}
    for block in range(sizes.depth):
        own = f"{at}blocks.{block}."
        shapes |= {f"{own}attn.qkv.weight": (3 * w, w)}
        for name, shape in {"attn.proj": (w, w), "mlp.fc1": (m, w), "mlp.fc2": (w, m)}.items():
            shapes |= {f"{own}{name}.weight": shape, f"{own}{name}.bias": shape[:1]}
        for name in ("norm1", "norm2"):
            shapes |= {f"{own}{name}.weight": (w,), f"{own}{name}.bias": (w,)}
    return shapes | {f"{at}norm.weight": (w,), f"{at}norm.bias": (w,)}


def _batch_norm(at: str, channels: int) -> dict[str, tuple[int, ...]]:
    vectors = ("weight", "bias", "running_mean", "running_var")
    return {f"{at}.{name}": (channels,) for name in vectors} | {f"{at}.num_batches_tracked": ()}


def released_state(sizes: Sizes, seed: int = 0) -> dict[str, Tensor]:
    """Random values that keep activations near one, with nothing at a neutral value: no zero bias, no unit norm."""
    generator = torch.Generator().manual_seed(seed)
    state = {}
    for name, shape in released_shapes(sizes).items():
        if name.endswith("num_batches_tracked"):
            state[name] = torch.tensor(1234)
            continue
        tensor = torch.empty(shape)
        if name.endswith("running_var"):
            state[name] = tensor.uniform_(0.5, 2.0, generator=generator)
        elif len(shape) == 1 and name.endswith(".weight"):
            state[name] = tensor.uniform_(0.7, 1.3, generator=generator)
        elif len(shape) < 2 or ("embed" in name and "proj" not in name and "conv" not in name):
            state[name] = tensor.normal_(0, 0.1, generator=generator)
        else:
            inputs = tensor[0].numel()
            state[name] = tensor.normal_(0, inputs**-0.5, generator=generator)
    return state
