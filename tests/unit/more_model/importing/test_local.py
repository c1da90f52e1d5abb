"""A base folder from local weights of others: timm vision transformers and a Hugging Face text model."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
import typer
from timm.models.vision_transformer import VisionTransformer
from transformers import AutoModel
from typer.testing import CliRunner

from more_model.base import load_base
from more_model.commands.make_base import make_base
from more_model.model.config import ModelConfig, save_config

Build = Callable[..., ModelConfig]
Folder = Callable[[str], Path]


@pytest.fixture
def command() -> typer.Typer:
    app = typer.Typer()
    app.command()(make_base)
    return app


def stock_vit() -> VisionTransformer:
    """As timm's own: with biases in qkv, and four patches, as many as the ECG tower below has tokens."""
    return VisionTransformer(
        img_size=16, patch_size=8, in_chans=1, num_classes=5, embed_dim=16, depth=2, num_heads=2, mlp_ratio=2.0
    )


def test_all_three_towers_start_from_local_weights(
    tiny_config: Build, text_folder: Folder, tmp_path: Path, command: typer.Typer
) -> None:
    vit = stock_vit().state_dict()
    torch.save(vit, tmp_path / "vit.pth")
    pretrained = {"weights": str(tmp_path / "vit.pth"), "qkv_bias": True}
    config = tiny_config(
        xray=pretrained, ecg={**pretrained, "kernel": 4}, text={"path": str(text_folder("bert")), "max_tokens": 64}
    )
    save_config(config, tmp_path / "model.toml")
    given = ["--config", str(tmp_path / "model.toml"), "--out", str(tmp_path / "base"), "--json"]
    result = CliRunner().invoke(command, given)
    assert result.exit_code == 0, result.output
    assert json.loads(result.stdout)["origin"].startswith("The base has local pretrained weights for xray, ecg, text")
    model = load_base(tmp_path / "base").model
    for tower in (model.xray, model.ecg):
        assert torch.equal(tower.encoder.vit.blocks[1].attn.qkv.bias, vit["blocks.1.attn.qkv.bias"])
        assert torch.equal(tower.encoder.vit.pos_embed, vit["pos_embed"])
    words = AutoModel.from_pretrained(text_folder("bert")).get_input_embeddings().weight
    assert torch.equal(model.text.encoder.encoder.get_input_embeddings().weight, words)
    again = CliRunner().invoke(command, given)
    assert again.exit_code == 2 and "there is something already" in again.stderr


def test_what_has_no_weights_comes_from_the_seed(
    tiny_config: Build, text_folder: Folder, tmp_path: Path, command: typer.Typer
) -> None:
    save_config(tiny_config(), tmp_path / "model.toml")
    given = ["--config", str(tmp_path / "model.toml"), "--tokenizer", str(text_folder("bert"))]
    for name, seed in (("a", "1"), ("b", "1"), ("c", "2")):
        result = CliRunner().invoke(command, [*given, "--out", str(tmp_path / name), "--seed", seed])
        assert result.exit_code == 0 and "random weights from a seed" in result.stdout
    a, b, c = (load_base(tmp_path / name).model.xray.encoder.vit.cls_token for name in "abc")
    assert torch.equal(a, b) and not torch.equal(a, c)


def test_refusals_have_their_codes(
    tiny_config: Build, text_folder: Folder, tmp_path: Path, command: typer.Typer
) -> None:
    save_config(tiny_config(text={"vocabulary": 300}), tmp_path / "model.toml")
    given = ["--config", str(tmp_path / "model.toml"), "--out", str(tmp_path / "base")]
    without = CliRunner().invoke(command, given)
    assert without.exit_code == 2 and "without text.path a --tokenizer is needed" in without.stderr
    crowded = CliRunner().invoke(command, [*given, "--tokenizer", str(text_folder("bert"))])
    assert crowded.exit_code == 2 and "the tokenizer has 320 words, the text tower only 300" in crowded.stderr
    save_config(tiny_config(xray={"weights": str(tmp_path / "gone.pth")}), tmp_path / "model.toml")
    missing = CliRunner().invoke(command, [*given, "--tokenizer", str(text_folder("bert"))])
    assert missing.exit_code == 8 and "xray.weights: there is no file" in missing.stderr
    assert not (tmp_path / "base").exists()
