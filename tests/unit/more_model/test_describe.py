"""`more-model describe`: what a configuration amounts to, and one real training step of the published model."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any, get_args

import pytest
import torch
from typer.testing import CliRunner

from more_model.cli import app
from more_model.describe import as_text, describe, random_triplets
from more_model.errors import ConfigError, EnvironmentFault
from more_model.lora_method import LoraMethod, scheduled
from more_model.model.config import ModelConfig, preset, save_config
from more_model.model.inventory import exchange_spec, take_inventory
from more_model.model.lora import adapt
from more_model.model.more import build_more

Build = Callable[..., ModelConfig]


def run(*arguments: str) -> Any:
    result = CliRunner().invoke(app, ["describe", *arguments])
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    return result


@pytest.fixture
def config_file(tiny_config: Build, tmp_path: Path) -> Path:
    save_config(tiny_config(), tmp_path / "model.toml")
    return tmp_path / "model.toml"


@pytest.mark.parametrize("method", get_args(LoraMethod))
def test_counts_are_those_of_the_built_model(tiny_config: Build, method: LoraMethod) -> None:
    config = tiny_config()
    model = build_more(config, seed=0)
    adapt(model, config, method, 0)
    inventory, spec = take_inventory(model), scheduled(exchange_spec(model), method)
    description = describe(config, method)
    assert description.parameters == sum(parameter.numel() for parameter in model.parameters())
    assert description.trainable == sum(p.numel() for p in model.parameters() if p.requires_grad)
    assert description.text_trainable_fraction == inventory.text_trainable_fraction
    assert description.bytes_down == spec.nbytes
    assert description.bytes_up == (spec.upward(1).nbytes + spec.upward(2).nbytes) / 2
    assert sum(description.tensors_of.values()) == len(spec.tensors)
    assert description.spec_digest == spec.digest()
    assert description.step is None


def test_published_model() -> None:
    description = describe(preset("more-base"), "fedit")
    assert f"{100 * (1 - description.text_trainable_fraction):.1f}" == "99.4"
    assert description.ecg_tokens == 196
    lines = as_text(description)
    assert "691,968 of 124,644,096 trainable (0.555 %, 99.4 % fewer)" in lines
    assert "19,771,392 per site and round (18.9 MiB)" in lines
    assert "the exchange is 1.65 % of it" in lines


def test_describing_takes_no_memory_for_tensors(monkeypatch: pytest.MonkeyPatch) -> None:
    devices: set[str] = set()
    original = take_inventory

    def noted(model: Any) -> Any:
        devices.update(parameter.device.type for parameter in model.parameters())
        return original(model)

    monkeypatch.setattr("more_model.describe.take_inventory", noted)
    describe(preset("more-base"), "ffa")
    assert devices == {"meta"}


def test_command_prints_lines(config_file: Path) -> None:
    result = run("--config", str(config_file))
    assert result.exit_code == 0
    names = [line[:18].strip() for line in result.stdout.splitlines()]
    assert names == ["model", "parameters", "trainable", "text encoder", "tensors", "bytes down", "bytes up",
                     "full model", "spec digest", "architecture"]  # fmt: skip
    assert "% fewer)" in result.stdout


def test_command_prints_one_json_object(config_file: Path, tiny_config: Build) -> None:
    result = run("--config", str(config_file), "--method", "fedit", "--training-step", "--json")
    assert result.exit_code == 0
    content = json.loads(result.stdout)
    step = content.pop("step")
    expected = describe(tiny_config(), "fedit")
    assert content["spec_digest"] == expected.spec_digest
    assert content["trainable_fraction"] == expected.trainable_fraction
    assert content["method"] == "fedit"
    assert math.isfinite(step["loss"]) and step["loss"] > 0
    assert (step["xray_pairs"], step["ecg_pairs"]) == (2, 2)


@pytest.mark.parametrize("name", ["tiny", "small"])
def test_presets_by_name(name: str) -> None:
    result = run("--preset", name)
    assert result.exit_code == 0
    assert result.stdout.startswith(f"model             {name}, LoRA method ffa")


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["--preset", "huge"], "there is no such preset; there are more-base, small, tiny"),
        (["--preset", "tiny", "--config", "x.toml"], "--preset and --config exclude each other"),
        (["--config", "absent.toml"], "there is no such file"),
    ],
)
def test_wrong_questions_end_with_code_2(arguments: list[str], complaint: str) -> None:
    result = run(*arguments)
    assert result.exit_code == 2
    assert complaint in result.stderr
    assert result.stdout == ""


def test_every_fault_of_a_file_is_shown(config_file: Path) -> None:
    text = config_file.read_text(encoding="utf-8")
    text = text.replace("patch_size = 8", "patch_size = 7").replace("rank = 2", "rank = -1").replace("hidden", "hiden")
    config_file.write_text(text, encoding="utf-8")
    result = run("--config", str(config_file))
    assert result.exit_code == 2
    assert "3 faults" in result.stderr
    for part in ("lora.rank", "heads.hiden", "not a multiple of patch_size 7"):
        assert part in result.stderr


def test_random_triplets_are_full_xray_only_and_ecg_only(tiny_config: Build) -> None:
    examples = random_triplets(tiny_config())
    assert [(t.xray is not None, t.ecg is not None) for t in examples.triplets] == [
        (True, True),
        (True, False),
        (False, True),
    ]
    assert examples.xrays([0, 1]).shape == (2, 16, 16)
    assert examples.ecgs([0, 2]).shape == (2, 12, 50)
    assert bool(examples.ecgs([0, 2]).isfinite().all())


def test_a_folders_text_model_is_described_and_trained(tiny_config: Build, text_folder: Callable[[str], Path]) -> None:
    config = tiny_config(text={"path": str(text_folder("llama"))}, lora={"text_targets": "auto"})
    description = describe(config, "ffa", training_step=True)
    assert description.step is not None and math.isfinite(description.step.loss)
    (text_folder("llama") / "tokenizer.json").rename(text_folder("llama") / "kept")
    try:
        assert describe(config, "ffa").spec_digest == description.spec_digest
        with pytest.raises(EnvironmentFault, match="holds no tokenizer"):
            describe(config, "ffa", training_step=True)
    finally:
        (text_folder("llama") / "kept").rename(text_folder("llama") / "tokenizer.json")


def test_the_step_needs_room_for_its_words(tiny_config: Build) -> None:
    config = tiny_config(text={"vocabulary": 100})
    assert describe(config, "ffa").step is None
    with pytest.raises(ConfigError, match="100 is too small"):
        describe(config, "ffa", training_step=True)


def test_published_model_takes_a_training_step_with_partial_triplets() -> None:
    """The real thing: 300 million parameters, one forward and backward pass through all three towers."""
    state = torch.random.get_rng_state()
    description = describe(preset("more-base"), "ffa", training_step=True)
    step = description.step
    assert step is not None
    assert (step.xray_pairs, step.ecg_pairs) == (2, 2)
    assert math.isfinite(step.loss) and 0 < step.loss < 100
    assert description.bytes_down == describe(preset("more-base"), "ffa").bytes_down
    assert torch.equal(torch.random.get_rng_state(), state)
