"""The X-ray and ECG encoders: shapes, units, tokens, and weights from local files or a refusal."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from timm.models.vision_transformer import VisionTransformer

from more_model.errors import EnvironmentFault
from more_model.model.config import ModelConfig, preset
from more_model.model.vit import EcgTokeniser, build_ecg_encoder, build_xray_encoder

Build = Callable[..., ModelConfig]


def stock_vit(qkv_bias: bool = False, depth: int = 2, classes: int = 5) -> VisionTransformer:
    """A pretrained stranger with a classifier, of the width and patch size of the test configuration."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(9)
        return VisionTransformer(
            img_size=16, patch_size=8, in_chans=1, num_classes=classes, embed_dim=16, depth=depth, num_heads=2,
            mlp_ratio=2.0, qkv_bias=qkv_bias,
        )  # fmt: skip


@pytest.mark.parametrize("norm", ["layer", "batch"])
def test_published_tokeniser_makes_196_tokens_of_ten_seconds(norm: str) -> None:
    config = preset("more-base")
    tokeniser = EcgTokeniser(
        width=32, channels=8, kernel=config.ecg.kernel, stride=config.ecg.stride,
        second_stride=config.ecg.second_stride, tokens=config.ecg_tokens, norm=norm,
    )  # fmt: skip
    signal = torch.randn(2, 12, config.preprocessing.ecg_samples)
    assert tokeniser.conv1(signal).shape == (2, 8, 200)
    assert tokeniser(signal).shape == (2, 196, 32)


def test_position_table_of_the_published_ecg_tower() -> None:
    with torch.device("meta"):
        vit = build_ecg_encoder(preset("more-base")).vit
    assert vit.pos_embed.shape == (1, 197, 768)
    assert vit.patch_embed.conv1.weight.shape == (256, 12, 5)
    assert vit.blocks[0].attn.qkv.bias is None


@pytest.mark.parametrize(("samples", "stride", "second"), [(50, 5, 2), (50, 3, 3), (53, 4, 1), (100, 7, 2)])
def test_configured_token_count_is_what_the_convolutions_make(
    tiny_config: Build, samples: int, stride: int, second: int
) -> None:
    config = tiny_config(
        preprocessing={"ecg_rate_hz": samples}, ecg={"stride": stride, "second_stride": second, "kernel": 5}
    )
    encoder = build_ecg_encoder(config)
    assert encoder.tokeniser(torch.zeros(1, 12, samples)).shape[1] == config.ecg_tokens
    assert encoder(torch.zeros(1, 12, samples)).shape == (1, 16)


@pytest.mark.parametrize("channels", [1, 3])
def test_a_grey_picture_fills_all_channels(tiny_config: Build, channels: int) -> None:
    encoder = build_xray_encoder(tiny_config(xray={"channels": channels})).eval()
    seen: list[torch.Tensor] = []
    encoder.vit.patch_embed.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    pixels = torch.tensor([0, 255], dtype=torch.uint8).repeat_interleave(128).reshape(1, 16, 16)
    assert encoder(pixels).shape == (1, 16)
    assert seen[0].shape == (1, channels, 16, 16)
    assert (float(seen[0].min()), float(seen[0].max())) == (-2.0, 2.0)
    assert torch.equal(seen[0][:, 0], seen[0][:, -1])


def test_pixels_are_centred_and_spread_as_configured(tiny_config: Build) -> None:
    encoder = build_xray_encoder(tiny_config(xray={"pixel_mean": 0.499, "pixel_std": 0.293})).eval()
    seen: list[torch.Tensor] = []
    encoder.vit.patch_embed.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    encoder(torch.full((1, 16, 16), 51, dtype=torch.uint8))
    torch.testing.assert_close(seen[0], torch.full((1, 1, 16, 16), (0.2 - 0.499) / 0.293))


def test_whole_and_broken_numbers_are_the_same_picture(tiny_config: Build) -> None:
    encoder = build_xray_encoder(tiny_config()).eval()
    pixels = torch.randint(0, 256, (2, 16, 16), dtype=torch.uint8)
    assert torch.equal(encoder(pixels), encoder(pixels.float()))


def test_a_spike_of_an_electrode_counts_as_ten_millivolts(tiny_config: Build) -> None:
    encoder = build_ecg_encoder(tiny_config()).eval()
    signal = torch.randn(1, 12, 50).clamp(-2, 2)
    ten, thousand = signal.clone(), signal.clone()
    ten[0, 3, 20], thousand[0, 3, 20] = 10.0, 1000.0
    assert torch.equal(encoder(ten), encoder(thousand))
    assert not torch.equal(encoder(ten), encoder(signal))


def test_pretrained_weights_are_read_without_their_classifier(tiny_config: Build, tmp_path: Path) -> None:
    stranger = stock_vit()
    save_file(stranger.state_dict(), tmp_path / "vit.safetensors")
    encoder = build_xray_encoder(tiny_config(xray={"weights": str(tmp_path / "vit.safetensors")})).eval()
    pixels = torch.randint(0, 256, (3, 16, 16), dtype=torch.uint8)
    scaled = (pixels[:, None].float() / 255 - 0.5) / 0.25
    expected = stranger.eval().forward_head(stranger.forward_features(scaled), pre_logits=True)
    torch.testing.assert_close(encoder(pixels), expected)


@pytest.mark.parametrize("wrapped", [False, True])
def test_a_pytorch_checkpoint_gives_what_safetensors_give(tiny_config: Build, tmp_path: Path, wrapped: bool) -> None:
    state = stock_vit().state_dict()
    save_file(state, tmp_path / "vit.safetensors")
    torch.save({"state_dict": state, "epoch": 300} if wrapped else state, tmp_path / "vit.pth")
    one, other = (
        build_xray_encoder(tiny_config(xray={"weights": str(tmp_path / name)})).state_dict()
        for name in ("vit.safetensors", "vit.pth")
    )
    assert all(torch.equal(one[name], other[name]) for name in one)


def test_ecg_tower_takes_the_blocks_and_keeps_its_own_tokeniser(tiny_config: Build, tmp_path: Path) -> None:
    # Four tokens, as many as the stranger's four patches: its position table fits.
    sizes = {"stride": 5, "second_stride": 1, "kernel": 4}
    fitting = tiny_config(ecg={**sizes, "second_stride": 2})
    assert fitting.ecg_tokens == 4
    stranger = stock_vit().state_dict()
    save_file(stranger, tmp_path / "vit.safetensors")
    torch.manual_seed(0)
    plain = build_ecg_encoder(fitting)
    torch.manual_seed(0)
    given = build_ecg_encoder(
        tiny_config(ecg={**sizes, "second_stride": 2, "weights": str(tmp_path / "vit.safetensors")})
    )
    assert torch.equal(given.vit.blocks[1].attn.qkv.weight, stranger["blocks.1.attn.qkv.weight"])
    assert torch.equal(given.vit.pos_embed, stranger["pos_embed"])
    assert torch.equal(given.tokeniser.conv1.weight, plain.tokeniser.conv1.weight)


@pytest.mark.parametrize(
    ("stranger", "complaint"),
    [
        (stock_vit(qkv_bias=True), r"2 unknown \['blocks.0.attn.qkv.bias', 'blocks.1.attn.qkv.bias'\]"),
        (stock_vit(depth=1), r"11 tensors missing \['blocks.1.attn.proj.bias'"),
    ],
    ids=["biases", "depth"],
)
def test_weights_of_another_architecture_are_refused_whole(
    tiny_config: Build, tmp_path: Path, stranger: VisionTransformer, complaint: str
) -> None:
    save_file(stranger.state_dict(), tmp_path / "vit.safetensors")
    with pytest.raises(EnvironmentFault, match=complaint):
        build_xray_encoder(tiny_config(xray={"weights": str(tmp_path / "vit.safetensors")}))


def test_weights_of_another_shape_missing_or_damaged_are_refused(tiny_config: Build, tmp_path: Path) -> None:
    path = tmp_path / "vit.safetensors"
    config = tiny_config(xray={"weights": str(path)})
    with pytest.raises(EnvironmentFault, match=r"xray\.weights: there is no file"):
        build_xray_encoder(config)
    state = {name: tensor[..., :-1].contiguous() if name == "pos_embed" else tensor
             for name, tensor in stock_vit().state_dict().items()}  # fmt: skip
    save_file(state, path)
    with pytest.raises(EnvironmentFault, match=r"1 of another shape \['pos_embed'\]"):
        build_xray_encoder(config)
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(EnvironmentFault, match=r"vit\.safetensors cannot be read"):
        build_xray_encoder(config)
