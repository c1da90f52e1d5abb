"""A checkpoint finds its base, gives back what was trained, and is refused on any other base."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.numpy import load_file, save_file

from more_model.base import Base, assemble, load_base, save_base
from more_model.checkpoint import load_checkpoint, random_twin, save_checkpoint
from more_model.errors import EnvironmentFault, ExchangeError
from more_model.model.inventory import export_tensors
from more_model.model.more import build_more


@dataclass(frozen=True)
class Saved:
    base: Path
    file: Path
    pixels: torch.Tensor
    projection: torch.Tensor


@pytest.fixture
def saved(tiny_config: Callable[..., Any], tokenizer: Any, tmp_path: Path) -> Saved:
    """A base, and a checkpoint whose adapters are not what they started as."""
    config = tiny_config()
    pad_id = int(tokenizer.pad_token_id)
    save_base(Base(config, build_more(config, seed=1, pad_id=pad_id), tokenizer, "Seeded."), tmp_path / "base")
    built = assemble(load_base(tmp_path / "base"), "ffa", 5)
    generator = torch.Generator().manual_seed(2)
    with torch.no_grad():
        for parameter in built.model.parameters():
            if parameter.requires_grad:
                parameter.add_(torch.randn(parameter.shape, generator=generator) * 0.1)
    built.model.eval()
    pixels = torch.randint(0, 255, (3, 16, 16), generator=generator, dtype=torch.uint8)
    with torch.no_grad():
        projection = built.model.xray(pixels).projection
    (tmp_path / "checkpoints").mkdir()
    file = tmp_path / "checkpoints" / "arm.safetensors"
    write(built, file, tmp_path / "base")
    return Saved(tmp_path / "base", file, pixels, projection)


def write(built: Any, file: Path, base: Path) -> None:
    save_checkpoint(
        file, export_tensors(built.model), method="ffa", public_seed=5, fingerprint=built.fingerprint, base=base
    )


def test_a_checkpoint_gives_back_the_trained_model(saved: Saved) -> None:
    loaded = load_checkpoint(saved.file)
    with torch.no_grad():
        assert torch.equal(loaded.model.xray(saved.pixels).projection, saved.projection)
    assert loaded.adapted
    assert not loaded.model.training
    assert loaded.origin == "Seeded. Trained further with LoRA (ffa); checkpoint arm.safetensors."


def test_a_folder_that_moved_as_a_whole_still_finds_its_base(saved: Saved, tmp_path: Path) -> None:
    shutil.copytree(saved.base, tmp_path / "elsewhere" / "base")
    shutil.copytree(saved.file.parent, tmp_path / "elsewhere" / "checkpoints")
    shutil.rmtree(saved.base)
    assert load_checkpoint(tmp_path / "elsewhere" / "checkpoints" / "arm.safetensors").adapted
    with pytest.raises(EnvironmentFault, match="--base"):
        load_checkpoint(saved.file)
    assert load_checkpoint(saved.file, base=tmp_path / "elsewhere" / "base").adapted


def test_another_base_is_refused_and_named(saved: Saved, tiny_config: Callable[..., Any], tokenizer: Any) -> None:
    other = saved.base.parent / "other"
    config = tiny_config(xray={"width": 32})
    save_base(Base(config, build_more(config, seed=1, pad_id=int(tokenizer.pad_token_id)), tokenizer, "Other."), other)
    with pytest.raises(ExchangeError, match="belongs to another base: architecture, base weights"):
        load_checkpoint(saved.file, base=other)


def test_equal_models_give_equal_bytes_and_different_ones_different_digests(saved: Saved) -> None:
    built = assemble(load_base(saved.base), "ffa", 5)
    first, second = saved.file.with_name("first.safetensors"), saved.file.with_name("second.safetensors")
    write(built, first, saved.base)
    write(built, second, saved.base)
    assert first.read_bytes() == second.read_bytes()
    assert load_checkpoint(first).digest == load_checkpoint(second).digest != load_checkpoint(saved.file).digest


def test_a_base_folder_is_a_trained_model(saved: Saved) -> None:
    plain = load_checkpoint(saved.base)
    assert (plain.adapted, plain.origin) == (False, "Seeded.")


def test_what_is_no_checkpoint_is_refused(saved: Saved, tmp_path: Path) -> None:
    bare = tmp_path / "bare.safetensors"
    save_file(load_file(saved.file), bare)
    with pytest.raises(ExchangeError, match="does not say which base"):
        load_checkpoint(bare)
    bare.write_bytes(b"not a tensor file")
    with pytest.raises(ExchangeError, match="cannot be read"):
        load_checkpoint(bare)
    with pytest.raises(EnvironmentFault, match="no checkpoint"):
        load_checkpoint(tmp_path / "absent.safetensors")


def test_a_random_twin_has_the_same_shapes_and_nothing_learned(saved: Saved) -> None:
    loaded = load_checkpoint(saved.file)
    twin, again, other = random_twin(loaded, 3), random_twin(loaded, 3), random_twin(loaded, 4)
    assert twin.digest == again.digest != other.digest
    plain = load_checkpoint(saved.base).model.state_dict()
    assert {name: t.shape for name, t in twin.model.state_dict().items()} == {n: t.shape for n, t in plain.items()}
    assert not np.allclose(twin.model.xray.head[0].weight.detach(), plain["xray.head.0.weight"])
