"""The model configuration: all faults at once, the same on disk, and a digest of what decides the tensors only."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from more_model.errors import ConfigError
from more_model.model.config import DropKey, ModelConfig, load_config, preset, preset_names, save_config

Build = Callable[..., ModelConfig]


def test_presets() -> None:
    assert {"tiny", "small", "more-base"} <= set(preset_names())
    for name in preset_names():
        assert preset(name).name == name


def test_unknown_preset_names_the_known_ones() -> None:
    with pytest.raises(ConfigError, match="there is no such preset; there are more-base, small, tiny"):
        preset("huge")


def test_published_architecture() -> None:
    config = preset("more-base")
    assert config.ecg_tokens == 196
    assert config.preprocessing.ecg_samples == 1000
    assert (config.preprocessing.image_size // config.xray.patch_size) ** 2 == 196
    assert (config.heads.hidden, config.heads.embedding) == (768, 128)
    assert (config.lora.rank, config.lora.alpha, config.lora.dropout) == (16, 8.0, 0.1)


def test_overrides_reach_into_tables_and_leave_the_rest() -> None:
    changed = preset("more-base", {"lora": {"rank": 4}, "normalisation": "batch"})
    assert changed.lora.rank == 4
    assert changed.lora.alpha == preset("more-base").lora.alpha
    assert changed.normalisation == "batch"


def test_all_faults_of_a_file_are_reported_at_once(tmp_path: Path, tiny_config: Build) -> None:
    path = tmp_path / "model.toml"
    save_config(tiny_config(), path)
    text = path.read_text(encoding="utf-8")
    for right, wrong in (
        ("patch_size = 8", "patch_size = 7"),
        ("second_stride = 2", "second_stride = 2\nseconds_stride = 1"),
        ('schedule = "linear"', 'schedule = "falling"'),
        ("vocabulary = 320", "vocabulary = 320.5"),
    ):
        assert text.count(right) == 1
        text = text.replace(right, wrong)
    path.write_text(text, encoding="utf-8")
    with pytest.raises(ConfigError) as caught:
        load_config(path)
    faults = "\n".join(caught.value.faults)
    assert len(caught.value.faults) == 4, faults
    assert caught.value.where == str(path)
    for part in ("ecg.seconds_stride: there is no such setting", "dropkey.schedule", "text.vocabulary",
                 "not a multiple of patch_size 7"):  # fmt: skip
        assert part in faults


@pytest.mark.parametrize("tower", ["xray", "ecg", "text"])
def test_heads_must_divide_the_width_whatever_else_is_wrong(tiny_config: Build, tower: str) -> None:
    with pytest.raises(ConfigError) as caught:
        tiny_config(**{tower: {"width": 20, "heads": 3, "bogus": 1}})
    faults = caught.value.faults
    assert f"{tower}.bogus: there is no such setting" in faults
    assert any(fault.startswith(f"{tower}.heads: ") and "not a multiple of heads 3" in fault for fault in faults)


def test_heads_of_a_folders_text_model_are_its_own_business(tiny_config: Build) -> None:
    assert tiny_config(text={"path": "somewhere", "width": 20, "heads": 3}).text.path == Path("somewhere")


def test_convolutions_must_leave_a_token(tiny_config: Build) -> None:
    assert tiny_config(ecg={"stride": 10, "second_stride": 9}).ecg_tokens == 1
    with pytest.raises(ConfigError, match="leave no token"):
        tiny_config(ecg={"stride": 12})
    with pytest.raises(ConfigError, match="leave no token"):
        tiny_config(ecg={"kernel": 51})


@pytest.mark.parametrize("suffix", [".toml", ".json"])
@pytest.mark.parametrize("name", ["tiny", "small", "more-base", "local"])
def test_disk_and_back(tmp_path: Path, tiny_config: Build, suffix: str, name: str) -> None:
    if name == "local":
        config = tiny_config(
            text={"path": "/models/text"}, xray={"weights": "vit.safetensors"}, lora={"text_targets": "auto"}
        )
    else:
        config = preset(name)
    path = tmp_path / f"model{suffix}"
    save_config(config, path)
    assert load_config(path) == config
    assert load_config(path).digest() == config.digest()


def test_digest_ignores_where_things_lie(tiny_config: Build) -> None:
    here = tiny_config(
        text={"path": "/here/text"}, xray={"weights": "/here/x"}, ecg={"weights": "/here/e"}, name="here"
    )
    there = tiny_config(text={"path": "/there"}, name="there")
    assert here.digest() == there.digest()
    assert here.digest() != tiny_config().digest()


@pytest.mark.parametrize(
    "change",
    [
        {"lora": {"rank": 3}},
        {"lora": {"text_bias": "all"}},
        {"dropkey": {"rate": 0.3}},
        {"temperature": {"learned": True}},
        {"normalisation": "batch"},
        {"preprocessing": {"ecg_scaling": "minmax"}},
        {"heads": {"embedding": 16}},
        {"text": {"pooling": "mean-all"}},
        {"text": {"norm_eps": 1e-5}},
        {"text": {"padded_tokens": 64}},
        {"xray": {"attention": "linear"}},
        {"ecg": {"attention": "linear"}},
        {"xray": {"pixel_mean": 0.499}},
        {"xray": {"pixel_std": 0.293}},
    ],
    ids=str,
)
def test_digest_sees_every_decision(tiny_config: Build, change: dict[str, Any]) -> None:
    assert tiny_config(**change).digest() != tiny_config().digest()


def test_digest_of_an_unchanged_preset_outlives_new_settings() -> None:
    """Checkpoints carry it: another value makes every one that was written before unreadable."""
    assert preset("more-base").digest() == "d38f4601b121283d490ce1767f68576f97d458cd918838982f49e5ab5d41d577"


def test_padding_must_hold_the_longest_text(tiny_config: Build) -> None:
    assert tiny_config(text={"padded_tokens": 64}).text.padded_tokens == 64
    with pytest.raises(ConfigError, match="63 positions do not hold a text of max_tokens 64"):
        tiny_config(text={"padded_tokens": 63})


def test_drop_rates_of_every_schedule() -> None:
    assert DropKey(rate=0.2, schedule="linear").rates(12) == pytest.approx([0.2 * (1 - i / 11) for i in range(12)])
    assert DropKey(rate=0.2, schedule="linear").rates(12)[-1] == 0.0
    assert DropKey(rate=0.3, schedule="constant").rates(3) == (0.3, 0.3, 0.3)
    assert DropKey(rate=0.3, schedule="off").rates(3) == (0.0, 0.0, 0.0)
    assert DropKey(rate=0.3, schedule="linear").rates(1) == (0.3,)
