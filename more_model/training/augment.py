"""Small, label-preserving changes of pictures and tracings. No mirror image: the heart is on the left."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional


def augment_xrays(pixels: Tensor) -> Tensor:
    """uint8 [n, size, size] -> float32 0..255: up to 5 % shift, some scale, rotation, contrast, brightness, grain."""
    count = len(pixels)
    angle = (torch.rand(count) - 0.5) * 0.14
    scale = 1 + (torch.rand(count) - 0.5) * 0.14
    shift = (torch.rand(count, 2) - 0.5) * 0.1
    cosine, sine = torch.cos(angle) * scale, torch.sin(angle) * scale
    affine = torch.stack(
        [torch.stack([cosine, -sine, shift[:, 0]], dim=1), torch.stack([sine, cosine, shift[:, 1]], dim=1)], dim=1
    ).to(pixels.device)
    picture = pixels[:, None].float()
    grid = functional.affine_grid(affine, list(picture.shape), align_corners=False)
    moved = functional.grid_sample(picture, grid, align_corners=False)[:, 0]
    contrast = (1 + (torch.rand(count, 1, 1) - 0.5) * 0.3).to(pixels.device)
    brightness = ((torch.rand(count, 1, 1) - 0.5) * 30).to(pixels.device)
    grain = torch.randn(moved.shape).to(pixels.device) * 4
    return (moved * contrast + brightness + grain).clamp(0, 255)


def augment_ecgs(signal: Tensor) -> Tensor:
    """float32 [n, 12, samples] in mV, same shape: 10 % gain, rolled by up to a tenth of the window, 0.02 mV noise.

    The gain is one number a tracing: ratios between leads are findings.
    """
    count, _, samples = signal.shape
    gain = (1 + (torch.rand(count, 1, 1) - 0.5) * 0.2).to(signal.device)
    starts = torch.randint(0, max(1, samples // 10), (count,))
    index = (torch.arange(samples)[None, :] + starts[:, None]) % samples
    rolled = signal.gather(2, index[:, None, :].expand(-1, signal.shape[1], -1).to(signal.device))
    return rolled * gain + torch.randn(signal.shape).to(signal.device) * 0.02
