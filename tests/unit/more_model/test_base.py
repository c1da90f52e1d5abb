"""The base folder: the same model and fingerprint everywhere, and no damage passes unnoticed."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from more_model.base import Assembled, Base, assemble, load_base, save_base, tensor_digest
from more_model.errors import ConfigError, EnvironmentFault, ExchangeError
from more_model.model.config import ModelConfig, load_config, save_config
from more_model.model.more import build_more
from more_model.tokenizer import encode, train_tokenizer

Build = Callable[..., ModelConfig]
Folder = Callable[[str], Path]
WORDS = ("ecg report: sinus rhythm", "chest x-ray report: large heart, left effusion")
PARTS = {"architecture", "base weights", "tokenizer", "preprocessing", "LoRA method", "initial A factors"}


def base_of(config: ModelConfig, tokenizer: Any, seed: int = 1) -> Base:
    pad_id = int(tokenizer.pad_token_id)
    return Base(config, build_more(config, seed=seed, pad_id=pad_id), tokenizer, "Random weights, for a test.")


@pytest.fixture(params=["seeded", "bert", "llama"])
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def config(kind: str, tiny_config: Build, text_folder: Folder) -> ModelConfig:
    if kind == "seeded":
        return tiny_config()
    return tiny_config(text={"path": str(text_folder(kind))}, lora={"text_targets": "auto"})


@pytest.fixture
def folder(tmp_path: Path, tiny_config: Build, tokenizer: Any) -> Path:
    save_base(base_of(tiny_config(), tokenizer), tmp_path / "base")
    return tmp_path / "base"


def outputs(base: Base) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(5)
    model = base.model.eval()
    ids, mask = encode(base.tokenizer, WORDS, 64)
    return [
        model.xray(torch.randint(0, 256, (2, 16, 16), dtype=torch.uint8, generator=generator)).projection,
        model.ecg(torch.randn(2, 12, 50, generator=generator)).projection,
        model.text(ids, mask).projection,
    ]


def fingerprint(folder: Path, method: Any = "ffa", public_seed: int = 3) -> dict[str, str]:
    return dict(assemble(load_base(folder), method, public_seed).fingerprint.parts)


def differing_parts(before: dict[str, str], after: dict[str, str]) -> set[str]:
    return {part for part in PARTS if before[part] != after[part]}


def test_disk_and_back_computes_and_is_the_same(tmp_path: Path, config: ModelConfig, tokenizer: Any) -> None:
    base = base_of(config, tokenizer)
    before = outputs(base)
    save_base(base, tmp_path / "base")
    loaded = load_base(tmp_path / "base")
    assert loaded.origin == base.origin
    for old, new in zip(before, outputs(loaded), strict=True):
        assert torch.equal(old, new)
    original, again = assemble(base, "ffa", 3), assemble(loaded, "ffa", 3)
    assert original.fingerprint == again.fingerprint
    assert set(again.fingerprint.parts) == PARTS
    assert original.spec == again.spec


def test_a_folders_text_model_moves_into_the_base(
    tmp_path: Path, tiny_config: Build, text_folder: Folder, tokenizer: Any
) -> None:
    original = tmp_path / "original"
    shutil.copytree(text_folder("bert"), original)
    base = base_of(tiny_config(text={"path": str(original)}), tokenizer)
    before = outputs(base)
    save_base(base, tmp_path / "base")
    shutil.rmtree(original)
    assert (tmp_path / "base" / "text" / "model.safetensors").is_file()
    assert load_config(tmp_path / "base" / "model.toml").text.path == Path("text")
    assert not [name for name in load_file(tmp_path / "base" / "weights.safetensors") if name.startswith("text.enc")]
    moved = (tmp_path / "base").rename(tmp_path / "elsewhere")
    for old, new in zip(before, outputs(load_base(moved)), strict=True):
        assert torch.equal(old, new)


def test_saving_a_loaded_base_changes_nothing(tmp_path: Path, config: ModelConfig, tokenizer: Any) -> None:
    save_base(base_of(config, tokenizer), tmp_path / "one")
    save_base(load_base(tmp_path / "one"), tmp_path / "two")
    assert fingerprint(tmp_path / "one") == fingerprint(tmp_path / "two")


def test_batch_statistics_are_part_of_the_base(tmp_path: Path, tiny_config: Build, tokenizer: Any) -> None:
    base = base_of(tiny_config(normalisation="batch"), tokenizer)
    base.model.train()
    base.model.xray(torch.randint(0, 256, (4, 16, 16), dtype=torch.uint8))
    save_base(base, tmp_path)
    for old, new in zip(outputs(base), outputs(load_base(tmp_path)), strict=True):
        assert torch.equal(old, new)


def changed_byte(folder: Path) -> None:
    path = folder / "weights.safetensors"
    content = bytearray(path.read_bytes())
    content[-3] ^= 1
    path.write_bytes(content)


def changed_tokenizer(folder: Path) -> None:
    train_tokenizer(WORDS, 280).save_pretrained(folder / "tokenizer")


def changed_preprocessing(folder: Path) -> None:
    config = load_config(folder / "model.toml")
    scaled = config.preprocessing.model_copy(update={"ecg_scaling": "minmax"})
    save_config(config.model_copy(update={"preprocessing": scaled}), folder / "model.toml")


@pytest.mark.parametrize(
    ("change", "differing"),
    [
        (changed_byte, {"base weights"}),
        (changed_tokenizer, {"tokenizer"}),
        (changed_preprocessing, {"architecture", "preprocessing"}),
    ],
)
def test_the_fingerprint_names_what_changed(folder: Path, change: Callable[[Path], None], differing: set[str]) -> None:
    before = fingerprint(folder)
    change(folder)
    assert differing_parts(before, fingerprint(folder)) == differing


def test_a_changed_byte_of_the_text_model_shows(
    tmp_path: Path, tiny_config: Build, text_folder: Folder, tokenizer: Any
) -> None:
    save_base(base_of(tiny_config(text={"path": str(text_folder("bert"))}), tokenizer), tmp_path)
    before = fingerprint(tmp_path)
    path = tmp_path / "text" / "model.safetensors"
    content = bytearray(path.read_bytes())
    content[-3] ^= 1
    path.write_bytes(content)
    assert differing_parts(before, fingerprint(tmp_path)) == {"base weights"}


def test_method_and_public_seed_are_in_the_fingerprint(folder: Path) -> None:
    before = fingerprint(folder)
    assert differing_parts(before, fingerprint(folder, "fedit")) == {"LoRA method"}
    assert differing_parts(before, fingerprint(folder, public_seed=4)) == {"initial A factors"}


def test_the_fingerprint_does_not_depend_on_earlier_use(folder: Path) -> None:
    def assembled(used: bool) -> Assembled:
        base = load_base(folder)
        if used:
            outputs(base)
        return assemble(base, "ffa", 3)

    assert assembled(True).fingerprint == assembled(False).fingerprint


@pytest.mark.parametrize("name", ["model.toml", "weights.safetensors", "tokenizer", "base.json"])
def test_a_missing_part_is_named(folder: Path, name: str) -> None:
    path = folder / name
    shutil.rmtree(path) if path.is_dir() else path.unlink()
    with pytest.raises(EnvironmentFault, match=f"is not a base folder: {name} missing"):
        load_base(folder)


def without_one(folder: Path) -> None:
    state = load_file(folder / "weights.safetensors")
    del state["xray.head.0.weight"]
    save_file(state, folder / "weights.safetensors")


def one_too_many(folder: Path) -> None:
    state = load_file(folder / "weights.safetensors")
    save_file({**state, "xray.extra": torch.zeros(1)}, folder / "weights.safetensors")


def another_shape(folder: Path) -> None:
    config = load_config(folder / "model.toml")
    save_config(config.model_copy(update={"heads": config.heads.model_copy(update={"embedding": 4})}),
                folder / "model.toml")  # fmt: skip


def truncated(folder: Path) -> None:
    path = folder / "weights.safetensors"
    path.write_bytes(path.read_bytes()[:-40])


def no_origin(folder: Path) -> None:
    (folder / "base.json").write_text(json.dumps({"from": "somewhere"}), encoding="utf-8")


def no_json(folder: Path) -> None:
    (folder / "base.json").write_text("{", encoding="utf-8")


@pytest.mark.parametrize(
    ("damage", "complaint"),
    [
        (without_one, "1 tensors missing, 0 unknown, 0 of another shape"),
        (one_too_many, "0 tensors missing, 1 unknown, 0 of another shape"),
        (another_shape, "0 tensors missing, 0 unknown, 9 of another shape"),
        (truncated, "weights.safetensors cannot be read"),
        (no_origin, "base.json does not say where the base came from"),
        (no_json, "base.json does not say where the base came from"),
    ],
)
def test_damage_is_refused_with_a_remedy(folder: Path, damage: Callable[[Path], None], complaint: str) -> None:
    damage(folder)
    with pytest.raises(ExchangeError, match=complaint) as caught:
        load_base(folder)
    assert caught.value.remedy == "copy the whole base folder again"


def test_a_tokenizer_with_more_words_than_the_text_tower_is_refused(tiny_config: Build, tokenizer: Any) -> None:
    base = base_of(tiny_config(text={"vocabulary": 300}), tokenizer)
    with pytest.raises(ConfigError, match="the tokenizer has 320 words, the text tower only 300"):
        assemble(base, "ffa", 3)


def test_tensor_digest_sees_name_type_shape_and_bytes() -> None:
    values = torch.arange(6, dtype=torch.float32)
    pairs = [
        [("a", values)],
        [("b", values)],
        [("a", values.double())],
        [("a", values.reshape(2, 3))],
        [("a", values + 1)],
        [("a", values), ("c", torch.tensor(3))],
    ]
    assert len({tensor_digest(named) for named in pairs}) == len(pairs)
    assert tensor_digest(reversed(pairs[-1])) == tensor_digest(pairs[-1])
    assert tensor_digest([("a", values.reshape(2, 3).T)]) == tensor_digest([("a", values.reshape(2, 3).T.contiguous())])
