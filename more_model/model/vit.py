"""The X-ray and ECG encoders: one timm vision transformer each, the ECG one behind a 1-D convolutional tokeniser."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor, nn

from more_model.errors import EnvironmentFault
from more_model.model.config import ModelConfig, Vit
from more_model.model.dropkey import DropKeyAttention, set_drop_rates
from more_model.model.heads import channel_norm
from more_model.model.linear_attention import LinearAttention
from more_model.state_file import read_tensors

_ATTENTION = {"softmax": DropKeyAttention, "linear": LinearAttention}
#: Nothing physiological lies beyond; a spike of an electrode must not own a batch.
_ECG_LIMIT_MV = 10.0


class EcgTokeniser(nn.Module):
    """Two 1-D convolutions, each with ReLU and a normalisation: [batch, 12, samples] -> [batch, tokens, width]."""

    def __init__(
        self, *, width: int, channels: int, kernel: int, stride: int, second_stride: int, tokens: int, norm: str
    ) -> None:
        super().__init__()
        self.conv1 = nn.Conv1d(12, channels, kernel, stride=stride)
        self.norm1 = channel_norm(norm, channels)
        self.conv2 = nn.Conv1d(channels, width, kernel, stride=second_stride)
        self.norm2 = channel_norm(norm, width)
        self.num_patches = tokens

    def forward(self, signal: Tensor) -> Tensor:
        """Signal in millivolts -> tokens."""
        hidden = self.norm1(torch.relu(self.conv1(signal)))
        tokens: Tensor = self.norm2(torch.relu(self.conv2(hidden)))
        return tokens.transpose(1, 2)


class XrayEncoder(nn.Module):
    """Grey pictures -> the class token of a vision transformer."""

    def __init__(self, vit: VisionTransformer, *, channels: int, pixel_mean: float, pixel_std: float) -> None:
        super().__init__()
        self.vit = vit
        self.channels = channels
        self.pixel_mean = pixel_mean
        self.pixel_std = pixel_std

    def forward(self, pixels: Tensor) -> Tensor:
        """``pixels``: [n, size, size], 0..255 -> features [n, width]."""
        scaled = (pixels.to(self.vit.cls_token.dtype) / 255.0 - self.pixel_mean) / self.pixel_std
        features: Tensor = self.vit(scaled[:, None].expand(-1, self.channels, -1, -1))
        return features


class EcgEncoder(nn.Module):
    """12-lead tracings -> the class token of a vision transformer."""

    def __init__(self, vit: VisionTransformer) -> None:
        super().__init__()
        self.vit = vit

    @property
    def tokeniser(self) -> EcgTokeniser:
        """The convolutional part, which no pretrained vision transformer has."""
        part = self.vit.patch_embed
        assert isinstance(part, EcgTokeniser)
        return part

    def forward(self, signal: Tensor) -> Tensor:
        """``signal``: [n, 12, samples] in millivolts -> features [n, width]."""
        limited = signal.to(self.vit.cls_token.dtype).clamp(-_ECG_LIMIT_MV, _ECG_LIMIT_MV)
        features: Tensor = self.vit(limited)
        return features


def build_xray_encoder(config: ModelConfig) -> XrayEncoder:
    """The X-ray encoder, from torch's random state or from ``xray.weights``: a timm ViT, as safetensors or as a PyTorch
    checkpoint."""
    tower, size = config.xray, config.preprocessing.image_size
    grid = (size // tower.patch_size, size // tower.patch_size)
    vit = _vit(tower, config, grid, img_size=size, patch_size=tower.patch_size, in_chans=tower.channels)
    if tower.weights is not None:
        _load(vit, tower.weights, "xray.weights")
    return XrayEncoder(vit, channels=tower.channels, pixel_mean=tower.pixel_mean, pixel_std=tower.pixel_std)


def build_ecg_encoder(config: ModelConfig) -> EcgEncoder:
    """The ECG encoder; ``ecg.weights`` may hold the blocks of a pretrained ViT, the tokeniser stays as initialised."""
    tower = config.ecg

    def tokeniser(**_stock_arguments: Any) -> EcgTokeniser:
        return EcgTokeniser(
            width=tower.width,
            channels=tower.channels,
            kernel=tower.kernel,
            stride=tower.stride,
            second_stride=tower.second_stride,
            tokens=config.ecg_tokens,
            norm=config.normalisation,
        )

    vit = _vit(tower, config, (config.ecg_tokens,), embed_layer=tokeniser)
    if tower.weights is not None:
        _load(vit, tower.weights, "ecg.weights", skip=("patch_embed.",))
    return EcgEncoder(vit)


def _vit(tower: Vit, config: ModelConfig, grid: tuple[int, ...], **stock: Any) -> VisionTransformer:
    vit = VisionTransformer(
        num_classes=0,
        global_pool="token",
        embed_dim=tower.width,
        depth=tower.depth,
        num_heads=tower.heads,
        mlp_ratio=tower.mlp_ratio,
        qkv_bias=tower.qkv_bias,
        attn_layer=_ATTENTION[tower.attention],
        **stock,
    )
    set_drop_rates(vit.blocks, config.dropkey.rates(tower.depth))
    with torch.no_grad():
        vit.pos_embed[0, vit.num_prefix_tokens :] = sinusoids(grid, tower.width)
    return vit


def sinusoids(grid: tuple[int, ...], width: int) -> Tensor:
    """Sine-cosine position codes [product of grid, width], the width shared among the axes (Vaswani et al. 2017; in two
    dimensions as in MAE, He et al. 2022).

    The start of every seeded tower: a learned table that starts at noise of 0.02 hides *where* from a model that sees
    only a few hundred steps. Pretrained weights overwrite it.
    """
    share = width // (2 * len(grid))
    rates = 10_000.0 ** (-torch.arange(share) / share)
    places = torch.cartesian_prod(*(torch.arange(size, dtype=torch.float32) for size in grid)).reshape(-1, len(grid))
    angles = (places[:, :, None] * rates).flatten(1)
    codes = torch.cat([torch.sin(angles), torch.cos(angles)], dim=1)
    return nn.functional.pad(codes, (0, width - codes.shape[1]))


def _load(vit: VisionTransformer, path: Path, setting: str, skip: tuple[str, ...] = ()) -> None:
    state = read_tensors(path, setting)
    given = {name: tensor for name, tensor in state.items() if not name.startswith(("head.", *skip))}
    own = vit.state_dict()
    wanted = {name for name in own if not name.startswith(skip)} if skip else set(own)
    wrong = sorted(name for name in wanted & given.keys() if own[name].shape != given[name].shape)
    missing, extra = sorted(wanted - given.keys()), sorted(given.keys() - wanted)
    if wrong or missing or extra:
        raise EnvironmentFault(
            f"{setting}: {path.name} is not this architecture: {len(missing)} tensors missing {missing[:3]}, "
            f"{len(extra)} unknown {extra[:3]}, {len(wrong)} of another shape {wrong[:3]}",
            remedy="give weights of the same width, depth, patch size and qkv_bias, or change the configuration",
            avoid="load a part of them: the rest would be random without anyone noticing",
        )
    vit.load_state_dict(given, strict=False)
