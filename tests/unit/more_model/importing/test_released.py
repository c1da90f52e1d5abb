"""Reading checkpoints of the released code: every form they come in, and a whole refusal of everything else."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import typer
from safetensors.torch import save_file
from torch import Tensor
from trees.released_more import Sizes, released_state
from typer.testing import CliRunner

from more_model.base import load_base
from more_model.checkpoint import load_checkpoint
from more_model.commands.import_more import import_more
from more_model.errors import ConfigError, EnvironmentFault, ExchangeError
from more_model.importing.released import EcgLeads, import_released
from more_model.importing.released_config import released_config
from more_model.importing.report import ImportReport
from more_model.model.config import ModelConfig

State = dict[str, Tensor]
PEFT = "text_model.base_model.model."


@pytest.fixture(scope="module")
def state(small_sizes: Sizes) -> State:
    return released_state(small_sizes)


@pytest.fixture
def imported(
    tmp_path: Path, small_config: ModelConfig, roberta_tokenizer: Callable[..., Path]
) -> Callable[..., ImportReport]:
    """Saves ``content`` and imports it into ``tmp_path / name``."""
    tokenizer = roberta_tokenizer()

    def run(content: Any, name: str = "base", suffix: str = ".pth", leads: EcgLeads = "mimic") -> ImportReport:
        path = tmp_path / f"{name}{suffix}"
        if suffix == ".safetensors":
            save_file(content, path)
        else:
            torch.save(content, path)
        return import_released(path, tmp_path / name, config=small_config, tokenizer_folder=tokenizer, ecg_leads=leads)

    return run


def merged(state: State, scale: float) -> State:
    """The adapter merged by hand, under the names that remain."""
    plain = {}
    for name, tensor in state.items():
        if ".base_layer.weight" in name:
            down = state[name.replace("base_layer", "lora_A.default")]
            up = state[name.replace("base_layer", "lora_B.default")]
            tensor = tensor + scale * up @ down
        if ".lora_" not in name:
            plain[name.replace(".base_layer", "")] = tensor
    return plain


def test_every_form_of_a_checkpoint_gives_the_same_base(
    imported: Callable[..., ImportReport], state: State, tmp_path: Path
) -> None:
    plain = imported(state, "plain")
    assert plain.tensors == len(state) and plain.adapter_merged
    parallel = {f"module.{name}": tensor for name, tensor in state.items()}
    forms: dict[str, tuple[Any, str]] = {
        "parallel": (parallel, ".pth"),
        "wrapped": ({"epoch": 3, "model_state_dict": state}, ".pt"),
        "both": ({"state_dict": parallel}, ".bin"),
        "safe": (state, ".safetensors"),
    }
    digest = load_checkpoint(tmp_path / "plain").digest
    for name, (content, suffix) in forms.items():
        imported(content, name, suffix)
        assert load_checkpoint(tmp_path / name).digest == digest, name
    assert not load_checkpoint(tmp_path / "plain").adapted


@pytest.mark.parametrize("prefix", [PEFT, "text_model."])
def test_an_adapter_merged_before_saving_is_the_same_model(
    imported: Callable[..., ImportReport], state: State, tmp_path: Path, prefix: str
) -> None:
    imported(state, "with-adapter")
    plain = {name.replace(PEFT, prefix): tensor for name, tensor in merged(state, 8 / 4).items()}
    report = imported(plain, "merged")
    assert not report.adapter_merged and report.tensors == len(state) - 2 * 4
    ours, theirs = (load_base(tmp_path / name).model.state_dict() for name in ("with-adapter", "merged"))
    for name, tensor in ours.items():
        torch.testing.assert_close(tensor, theirs[name], msg=name)


def test_the_adapter_changes_query_and_value_and_nothing_else(
    imported: Callable[..., ImportReport], state: State, tmp_path: Path
) -> None:
    imported(state, "with")
    imported({n: torch.zeros_like(t) if ".lora_B." in n else t for n, t in state.items()}, "without")
    with_, without = (load_base(tmp_path / name).model.state_dict() for name in ("with", "without"))
    changed = {name for name, tensor in with_.items() if not torch.equal(tensor, without[name])}
    own = "text.encoder.encoder.encoder.layer.{}.attention.self.{}.weight"
    assert changed == {own.format(layer, part) for layer in (0, 1) for part in ("query", "value")}


def test_statistics_counters_and_settings_come_along(
    imported: Callable[..., ImportReport], state: State, tmp_path: Path
) -> None:
    report = imported(state)
    base = load_base(tmp_path / "base")
    own = base.model.state_dict()
    for ours, theirs in {
        "ecg.encoder.vit.patch_embed.norm1": "ecg_model.vit_model.patch_embed.conv1.2",
        "ecg.encoder.vit.patch_embed.norm2": "ecg_model.vit_model.patch_embed.conv2.2",
        "xray.head.1": "projector_xray_text.layers.0.bn",
        "text.head.4": "projector_text.layers.2.bn",
    }.items():
        for part in ("running_mean", "running_var", "num_batches_tracked", "weight", "bias"):
            assert torch.equal(own[f"{ours}.{part}"], state[f"{theirs}.{part}"])
    config = base.config
    assert (config.normalisation, config.preprocessing.ecg_scaling) == ("batch", "minmax")
    assert (config.xray.pixel_mean, config.xray.pixel_std) == (0.499, 0.293)
    assert (config.text.pooling, config.text.padded_tokens, config.text.norm_eps) == ("mean-all", 64, 1e-5)
    assert base.model.text.encoder.encoder.config.pad_token_id == 1
    assert float(base.model.temperature) == pytest.approx(0.02)
    assert "released MoRE checkpoint base.pth" in base.origin
    assert report.unused == (f"{PEFT}pooler.dense.weight", f"{PEFT}pooler.dense.bias")


def test_leads_of_the_first_convolution_follow_the_order_of_training(
    imported: Callable[..., ImportReport], state: State, tmp_path: Path
) -> None:
    imported(state, "mimic")
    imported(state, "standard", leads="standard")
    theirs = state["ecg_model.vit_model.patch_embed.conv1.0.weight"]
    mimic, standard = (
        load_base(tmp_path / name).model.ecg.encoder.tokeniser.conv1.weight for name in ("mimic", "standard")
    )
    assert torch.equal(standard, theirs)
    # aVL and aVF stand at 4 and 5 in the standard order, at 5 and 4 in MIMIC's.
    assert torch.equal(mimic[:, 4], theirs[:, 5]) and torch.equal(mimic[:, 5], theirs[:, 4])
    others = [0, 1, 2, 3, 6, 7, 8, 9, 10, 11]
    assert torch.equal(mimic[:, others], theirs[:, others])


def test_half_precision_is_told(imported: Callable[..., ImportReport], state: State, tmp_path: Path) -> None:
    report = imported({n: t.half() if n.startswith("xray_model.") else t for n, t in state.items()})
    assert report.halved == sum(name.startswith("xray_model.") for name in state)
    assert f"{report.halved} tensors were stored in less than float32" in report.as_text()
    assert {t.dtype for t in load_base(tmp_path / "base").model.state_dict().values()} == {torch.float32, torch.int64}


def test_all_that_does_not_fit_is_counted_and_nothing_is_written(
    imported: Callable[..., ImportReport], state: State, tmp_path: Path
) -> None:
    broken = {name: tensor for name, tensor in state.items() if not name.startswith("projector_text.layers.2")}
    broken["projector_text.layers.4.bn.weight"] = torch.zeros(2)
    broken["xray_model.vit_model.pos_embed"] = broken["xray_model.vit_model.pos_embed"][:, 1:]
    broken["ecg_model.vit_model.norm.bias"] = torch.full((32,), torch.nan)
    with pytest.raises(ExchangeError) as caught:
        imported(broken)
    assert caught.value.exit_code == 6
    message = caught.value.explain()
    assert "6 missing, 1 extra, 1 of another shape, 1 not finite" in message
    assert "projector_text.layers.2.bn.running_var and 1 more" in message
    assert "extra: projector_text.layers.4.bn.weight" in message
    assert "xray_model.vit_model.pos_embed (1, 4, 32) instead of (1, 5, 32)" in message
    assert "not finite: ecg_model.vit_model.norm.bias" in message
    assert not (tmp_path / "base").exists()


def test_half_an_adapter_is_refused(imported: Callable[..., ImportReport], state: State) -> None:
    with pytest.raises(ExchangeError, match="4 missing"):
        imported({name: tensor for name, tensor in state.items() if ".lora_A." not in name})


def test_the_released_model_is_not_taken_for_another_size(
    tmp_path: Path, state: State, roberta_tokenizer: Callable[..., Path]
) -> None:
    torch.save(state, tmp_path / "more.pth")
    with pytest.raises(ExchangeError, match=r"\d+ missing, \d+ of another shape"):
        import_released(
            tmp_path / "more.pth", tmp_path / "base", config=released_config(), tokenizer_folder=roberta_tokenizer()
        )


def test_a_tokenizer_is_needed_and_must_be_robertas(
    tmp_path: Path, small_config: ModelConfig, roberta_tokenizer: Callable[..., Path]
) -> None:
    def with_tokenizer(folder: Path | None) -> None:
        import_released(tmp_path / "more.pth", tmp_path / "base", config=small_config, tokenizer_folder=folder)

    with pytest.raises(EnvironmentFault, match="comes without its tokenizer") as caught:
        with_tokenizer(None)
    assert "huggingface.co/FacebookAI/roberta-base" in caught.value.remedy
    with pytest.raises(EnvironmentFault, match="holds no tokenizer"):
        with_tokenizer(tmp_path)
    with pytest.raises(ConfigError, match="its padding word has number 0, in roberta-base it is 1"):
        with_tokenizer(roberta_tokenizer(("<pad>", "<s>", "</s>", "<unk>")))
    with pytest.raises(ConfigError, match="it has 104 words, the text tower only 40"):
        with_tokenizer(roberta_tokenizer(words=tuple(f"w{number}" for number in range(100))))


def test_an_occupied_folder_is_left_alone(imported: Callable[..., ImportReport], state: State, tmp_path: Path) -> None:
    (tmp_path / "base").mkdir()
    (tmp_path / "base" / "notes.txt").write_text("mine", encoding="utf-8")
    with pytest.raises(ConfigError, match="there is something already"):
        imported(state)
    assert [path.name for path in (tmp_path / "base").iterdir()] == ["notes.txt"]


ROBERTA = {
    "model_type": "roberta", "hidden_act": "gelu", "type_vocab_size": 1, "pad_token_id": 1, "hidden_size": 32,
    "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 128, "vocab_size": 40,
    "layer_norm_eps": 1e-6, "max_position_embeddings": 66,
}  # fmt: skip


def test_another_roberta_tells_its_sizes(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(json.dumps(ROBERTA), encoding="utf-8")
    text = released_config(tmp_path).text
    assert (text.width, text.depth, text.heads, text.vocabulary) == (32, 2, 4, 40)
    assert (text.norm_eps, text.max_tokens, text.padded_tokens, text.pooling) == (1e-6, 64, 64, "mean-all")


def test_another_model_than_a_roberta_is_refused_with_all_faults(tmp_path: Path) -> None:
    other = {**ROBERTA, "model_type": "bert", "pad_token_id": 0, "intermediate_size": 64}
    other.pop("vocab_size")
    (tmp_path / "config.json").write_text(json.dumps(other), encoding="utf-8")
    with pytest.raises(ConfigError) as caught:
        released_config(tmp_path)
    assert len(caught.value.faults) == 4
    with pytest.raises(ConfigError, match="there is no such file"):
        released_config(tmp_path / "nothing")


@pytest.fixture
def command() -> typer.Typer:
    app = typer.Typer()
    app.command()(import_more)
    return app


def test_command_writes_json_or_lines(
    tmp_path: Path, roberta_tokenizer: Callable[..., Path], command: typer.Typer, monkeypatch: pytest.MonkeyPatch,
    small_config: ModelConfig, state: State,
) -> None:  # fmt: skip
    monkeypatch.setattr("more_model.importing.released_config.released_config", lambda _folder: small_config)
    torch.save(state, tmp_path / "more.pth")
    given = [str(tmp_path / "more.pth"), "--tokenizer", str(roberta_tokenizer()), "--out"]
    result = CliRunner().invoke(command, [*given, str(tmp_path / "a"), "--json"])
    assert result.exit_code == 0, result.output
    facts = json.loads(result.stdout)
    assert (facts["tensors"], facts["ecg_leads"], facts["text_rows"]) == (len(state), "mimic", 40)
    assert any("CLAHE" in line for line in facts["input_differences"])
    result = CliRunner().invoke(command, [*given, str(tmp_path / "b"), "--ecg-leads", "standard"])
    assert f"all {len(state)} tensors known" in result.stdout and "standard order in the checkpoint" in result.stdout
    assert "the tokenizer has 12 words, the text tower 40 rows" in result.stdout


def test_command_ends_with_the_code_of_the_error(
    tmp_path: Path, roberta_tokenizer: Callable[..., Path], command: typer.Typer
) -> None:
    torch.save({"a": torch.zeros(1)}, tmp_path / "other.pth")
    out = ["--out", str(tmp_path / "base")]
    refused = CliRunner().invoke(command, [str(tmp_path / "other.pth"), *out, "--tokenizer", str(roberta_tokenizer())])
    assert refused.exit_code == 6 and "1 tensors, 523 expected" in refused.stderr
    assert CliRunner().invoke(command, [str(tmp_path / "other.pth"), *out]).exit_code == 8
