"""LoRA: starts as the base, trains what the method says, freezes the base to the byte; A is the same everywhere."""

from __future__ import annotations

import hashlib
import sys
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

from more_model.base import tensor_digest
from more_model.errors import ConfigError
from more_model.lora_method import LoraMethod, factor_of, scheduled
from more_model.model.config import ModelConfig
from more_model.model.inventory import exchange_spec, export_tensors, import_tensors
from more_model.model.lora import (
    adapt,
    adapt_encoder,
    lora_factors,
    merged,
    only_training,
    orthonormal_factor,
    trainable_names,
)
from more_model.model.more import More, build_more
from more_model.training.examples import Examples
from more_model.training.loop import Segment, build_optimiser, train_segment
from more_model.training.settings import TrainingSettings

Build = Callable[..., ModelConfig]
Toy = Callable[..., Examples]


def adapted(config: ModelConfig, method: LoraMethod = "ffa", public_seed: int = 7, seed: int = 1) -> More:
    model = build_more(config, seed=seed)
    adapt(model, config, method, public_seed)
    return model


def outputs(model: More) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(5)
    pixels = torch.randint(0, 256, (3, 16, 16), dtype=torch.uint8, generator=generator)
    signal = torch.randn(3, 12, 50, generator=generator)
    ids = torch.randint(5, 300, (3, 9), generator=generator)
    model.eval()
    results = model.xray(pixels), model.ecg(signal), model.text(ids, torch.ones_like(ids))
    return [tensor for result in results for tensor in (result.features, result.projection)]


def one_step(model: More, examples: Examples, tokenizer: Any, config: ModelConfig) -> None:
    settings = TrainingSettings(batch_size=len(examples), warmup_fraction=0.0, learning_rate=1e-2, threads=1)
    report = train_segment(
        model, build_optimiser(model, settings), examples, settings, Segment(0, 2, 1),
        tokenizer=tokenizer, max_tokens=config.text.max_tokens, seed=3,
    )  # fmt: skip
    assert report.steps == 1


@pytest.mark.parametrize("method", ["ffa", "fedit"])
@pytest.mark.parametrize("targets", [["qkv"], ["qkv", "proj", "fc1", "fc2"]], ids=len)
def test_adapted_model_starts_as_the_base_to_the_last_bit(
    tiny_config: Build, method: LoraMethod, targets: list[str]
) -> None:
    config = tiny_config(lora={"xray_targets": targets, "ecg_targets": targets, "dropout": 0.3})
    for before, after in zip(outputs(build_more(config, seed=1)), outputs(adapted(config, method)), strict=True):
        assert torch.equal(before, after)


@pytest.mark.parametrize("method", ["ffa", "fedit"])
def test_rank_zero_is_no_lora_heads_and_tokeniser_alone_train(
    tiny_config: Build, toy_examples: Toy, tokenizer: Any, method: LoraMethod
) -> None:
    config = tiny_config(lora={"rank": 0})
    model = adapted(config, method)
    assert not list(lora_factors(model, "A")) and not list(lora_factors(model, "B"))
    for before, after in zip(outputs(build_more(config, seed=1)), outputs(model), strict=True):
        assert torch.equal(before, after)
    trains = trainable_names(model)
    assert trains and all(".head." in name or name.startswith("ecg.encoder.vit.patch_embed.") for name in trains)
    assert {tensor.name for tensor in exchange_spec(model).tensors} == set(trains)
    before = export_tensors(model)
    one_step(model, toy_examples(4), tokenizer, config)
    after = export_tensors(model)
    assert any(not np.array_equal(before[name], after[name]) for name in before)
    assert config.digest() != tiny_config().digest()


def test_adapters_do_act_once_b_is_not_zero(tiny_config: Build) -> None:
    model = adapted(tiny_config())
    before = outputs(model)
    for _, parameter in lora_factors(model, "B"):
        torch.nn.init.normal_(parameter, std=0.5, generator=torch.Generator().manual_seed(0))
    assert not any(torch.equal(old, new) for old, new in zip(before, outputs(model), strict=True))


def test_every_target_in_every_block_and_nothing_else(tiny_config: Build) -> None:
    config = tiny_config(lora={"xray_targets": ["qkv", "proj"], "ecg_targets": ["fc1"], "text_targets": ["dense"]})
    names = {name.split(".lora_A.")[0] for name, _ in lora_factors(adapted(config), "A")}
    blocks = (0, 1)
    assert names == {
        *(f"xray.encoder.vit.blocks.{i}.attn.{part}" for i in blocks for part in ("qkv", "proj")),
        *(f"ecg.encoder.vit.blocks.{i}.mlp.fc1" for i in blocks),
        *(f"text.encoder.encoder.encoder.layer.{i}.{part}.dense" for i in blocks
          for part in ("attention.output", "intermediate", "output")),
    }  # fmt: skip


@pytest.mark.parametrize(
    ("method", "factors"),
    [("ffa", {"B"}), *((name, {"A", "B"}) for name in ("fedit", "rolora", "fedsvd", "flexlora", "fedex"))],
)
def test_what_trains(tiny_config: Build, method: LoraMethod, factors: set[str]) -> None:
    model = adapted(tiny_config(), method)
    names = trainable_names(model)
    assert {name.split(".lora_")[1][0] for name in names if ".lora_" in name} == factors
    for name in names:
        tower, part = name.split(".")[:2]
        assert tower in {"xray", "ecg", "text"}
        assert ".lora_" in name or part == "head" or name.startswith("ecg.encoder.vit.patch_embed."), name
    assert all(p.requires_grad for tower in (model.xray, model.ecg, model.text) for p in tower.head.parameters())


def test_the_ecg_tokeniser_trains_only_where_configured(tiny_config: Build) -> None:
    def tokeniser(trains: bool) -> list[str]:
        names = trainable_names(adapted(tiny_config(ecg={"train_tokeniser": trains})))
        return [name for name in names if "patch_embed" in name]

    assert len(tokeniser(True)) == 8
    assert tokeniser(False) == []


def test_text_biases_train_only_where_configured(tiny_config: Build) -> None:
    model = adapted(tiny_config(lora={"text_bias": "all"}))
    biases = [name for name in trainable_names(model) if name.startswith("text.encoder.") and ".lora_" not in name]
    assert biases == [name for name, _ in model.named_parameters() if name.startswith("text.encoder.") and
                      name.endswith(".bias")]  # fmt: skip
    # Two layers of six linear maps and two norms, and the norm of the embeddings.
    assert len(biases) == 2 * 8 + 1
    plain = trainable_names(adapted(tiny_config()))
    assert not [name for name in plain if name.startswith("text.encoder.") and ".lora_" not in name]


@pytest.mark.parametrize("method", ["ffa", "fedit"])
def test_one_step_moves_what_trains_and_no_byte_of_the_rest(
    tiny_config: Build, toy_examples: Toy, tokenizer: Any, method: LoraMethod
) -> None:
    config = tiny_config(lora={"text_bias": "all"})
    model = adapted(config, method)
    before = {name: tensor_digest([(name, tensor)]) for name, tensor in model.state_dict().items()}
    one_step(model, toy_examples(12), tokenizer, config)
    after = {name: tensor_digest([(name, tensor)]) for name, tensor in model.state_dict().items()}
    moved = {name for name in before if before[name] != after[name]}
    trains = set(trainable_names(model))
    assert moved <= trains
    assert {name for name in trains if ".lora_B." in name} <= moved
    assert {name for name in trains if ".head." in name and name.endswith(".weight")} <= moved
    assert len(trains - moved) < len(trains) / 4


@pytest.mark.parametrize("learned", [True, False])
def test_temperature_is_in_the_optimiser_exactly_if_learned(
    tiny_config: Build, toy_examples: Toy, tokenizer: Any, learned: bool
) -> None:
    config = tiny_config(temperature={"learned": learned, "initial": 0.2})
    model = adapted(config)
    optimiser = build_optimiser(model, TrainingSettings())
    held = {id(p): group["weight_decay"] for group in optimiser.param_groups for p in group["params"]}
    assert (id(model.log_temperature) in held) is learned
    if learned:
        assert held[id(model.log_temperature)] == 0.0
    before = float(model.temperature.detach())
    assert before == pytest.approx(0.2)
    one_step(model, toy_examples(12), tokenizer, config)
    assert (float(model.temperature.detach()) != before) is learned


def test_adapting_leaves_the_global_random_state(tiny_config: Build) -> None:
    model = build_more(tiny_config(), seed=1)
    state = torch.random.get_rng_state()
    adapt(model, tiny_config(), "ffa", 7)
    assert torch.equal(torch.random.get_rng_state(), state)


@pytest.mark.parametrize("shape", [(16, 768), (8, 64), (4, 4)])
def test_rows_of_a_are_orthonormal(shape: tuple[int, int]) -> None:
    factor = orthonormal_factor("some.name", shape, 1).astype(np.float64)
    assert np.abs(factor @ factor.T - np.eye(shape[0])).max() < 2e-4


def test_columns_of_a_are_orthonormal_where_the_rank_exceeds_the_width() -> None:
    factor = orthonormal_factor("some.name", (8, 4), 1).astype(np.float64)
    assert np.abs(factor.T @ factor - np.eye(4)).max() < 2e-4


def test_a_has_the_recorded_bits() -> None:
    """Recorded once; every site must find the same, whatever its processor and linear algebra."""
    name = "xray.encoder.vit.blocks.0.attn.qkv.lora_A.default.weight"
    factor = orthonormal_factor(name, (16, 768), 20241016)
    assert factor.dtype == np.float32 and sys.byteorder == "little"
    assert (
        hashlib.sha256(factor.tobytes()).hexdigest()
        == "ba9fd553e4ba5b5f4a4042450cc6766feff4de6590cee1568fabe114471a8d69"
    )


def test_a_depends_on_the_name_and_the_public_seed() -> None:
    first = orthonormal_factor("a", (4, 16), 1)
    assert np.array_equal(first, orthonormal_factor("a", (4, 16), 1))
    assert not np.array_equal(first, orthonormal_factor("b", (4, 16), 1))
    assert not np.array_equal(first, orthonormal_factor("a", (4, 16), 2))


def test_a_of_the_model_comes_from_the_public_seed_and_not_from_the_models(tiny_config: Build) -> None:
    config = tiny_config()
    here, there = adapted(config, "ffa", 7, seed=1), adapted(config, "fedit", 7, seed=2)
    other = adapted(config, "ffa", 8, seed=1)
    factors = list(zip(*(lora_factors(model, "A") for model in (here, there, other)), strict=True))
    assert factors
    for (name, a), (_, b), (_, c) in factors:
        assert torch.equal(a, b)
        assert not torch.equal(a, c)
        assert np.array_equal(a.detach().numpy(), orthonormal_factor(name, tuple(a.shape), 7))
    assert all(not parameter.any() for _, parameter in lora_factors(here, "B"))


@pytest.mark.parametrize("tower", ["xray", "ecg", "text"])
def test_a_target_that_names_no_module_is_refused_with_the_choices(tiny_config: Build, tower: str) -> None:
    config = tiny_config(lora={f"{tower}_targets": ["quarry"]})
    with pytest.raises(ConfigError, match=r"no module matches .*quarry.*linear maps there: .*(qkv|query)"):
        adapted(config)


def acting(config: ModelConfig, method: LoraMethod = "ffa") -> More:
    model = adapted(config, method)
    for _, parameter in lora_factors(model, "B"):
        torch.nn.init.normal_(parameter, std=0.5, generator=torch.Generator().manual_seed(0))
    return model


@pytest.mark.parametrize(
    ("method", "round_number", "factors"),
    [("rolora", 1, {"B"}), ("rolora", 2, {"A"}), ("fedsvd", 1, {"B"}), ("fedsvd", 2, {"B"}), ("fedit", 2, {"A", "B"})],
)
def test_within_a_round_only_what_goes_up_trains(
    tiny_config: Build, toy_examples: Toy, tokenizer: Any, method: LoraMethod, round_number: int, factors: set[str]
) -> None:
    config = tiny_config()
    model = acting(config, method)
    upward = scheduled(exchange_spec(model), method).upward(round_number)
    before, always = export_tensors(model), trainable_names(model)
    with only_training(model, {tensor.name for tensor in upward.tensors}):
        assert trainable_names(model) == [tensor.name for tensor in upward.tensors]
        one_step(model, toy_examples(12), tokenizer, config)
    moved = {name for name, array in export_tensors(model).items() if not np.array_equal(array, before[name])}
    assert {factor_of(name) for name in moved} == {None, *factors}
    assert trainable_names(model) == always


def test_what_was_frozen_for_a_round_trains_again_after_an_error(tiny_config: Build) -> None:
    model = adapted(tiny_config(), "rolora")
    always = trainable_names(model)
    with pytest.raises(RuntimeError), only_training(model, {"xray.head.0.weight"}):
        assert trainable_names(model) == ["xray.head.0.weight"]
        raise RuntimeError
    assert trainable_names(model) == always


def test_an_unknown_method_is_refused(tiny_config: Build) -> None:
    with pytest.raises(ConfigError, match=r"'flora' is unknown; there are fedex, fedit"):
        adapted(tiny_config(), "flora")  # type: ignore[arg-type]


def test_a_residual_counts_as_the_product_of_factors_does_and_merges_with_them(tiny_config: Build) -> None:
    config = tiny_config()
    acts = acting(config, "fedex").double()
    start = outputs(adapted(config, "fedex").double())
    for with_zero, plain in zip(start, outputs(build_more(config, seed=1).double()), strict=True):
        assert torch.equal(with_zero, plain)
    # The same change of weights, once as factors and once as a residual.
    tensors = export_tensors(acts)
    for name in [name for name in tensors if name.endswith(".lora_residual")]:
        a, b = (name.replace(".lora_residual", f".lora_{factor}.default.weight") for factor in "AB")
        tensors[name] = tensors[b] @ tensors[a]
        tensors[b] = np.zeros_like(tensors[b])
    dense = adapted(config, "fedex")
    import_tensors(dense, tensors)
    dense = dense.double()
    for factored, residual, folded in zip(outputs(acts), outputs(dense), outputs(merged(dense)), strict=True):
        torch.testing.assert_close(residual, factored, rtol=0, atol=1e-4)
        torch.testing.assert_close(folded, residual, rtol=0, atol=1e-9)
    moved = [(one - other).detach().abs().max() for one, other in zip(start, outputs(dense), strict=True)]
    assert float(max(moved)) > 1e-2
    assert not [name for name, _ in merged(dense).named_buffers() if "residual" in name]


@pytest.mark.parametrize("targets", [["qkv"], ["qkv", "proj", "fc1", "fc2"]], ids=len)
def test_merging_keeps_the_outputs_and_leaves_no_adapter(tiny_config: Build, targets: list[str]) -> None:
    config = tiny_config(lora={"xray_targets": targets, "ecg_targets": targets, "dropout": 0.3})
    # In double precision: float32 differs by a few rounding errors, which the depth of a model multiplies.
    model = acting(config).double()
    before = tensor_digest(model.state_dict().items())
    plain = merged(model)
    for kept, own in zip(outputs(plain), outputs(model), strict=True):
        torch.testing.assert_close(kept, own, rtol=0, atol=1e-6)
    for unadapted, own in zip(outputs(build_more(config, seed=1).double()), outputs(plain), strict=True):
        assert (unadapted - own).abs().max() > 1e-3
    assert plain.state_dict().keys() == build_more(config, seed=1).state_dict().keys()
    assert tensor_digest(model.state_dict().items()) == before
    assert list(lora_factors(model, "A"))


def test_a_merged_model_can_be_adapted_again(tiny_config: Build, recwarn: pytest.WarningsRecorder) -> None:
    config = tiny_config()
    plain = merged(acting(config))
    start = outputs(plain)
    adapt(plain, config, "fedit", 9)
    assert trainable_names(plain) == trainable_names(adapted(config, "fedit"))
    for before, after in zip(start, outputs(plain), strict=True):
        assert torch.equal(before, after)
    assert not [str(warning.message) for warning in recwarn if "peft" in str(warning.message)]


def test_merging_a_model_without_adapters_copies_it(tiny_config: Build) -> None:
    model = build_more(tiny_config(), seed=1)
    plain = merged(model)
    assert all(map(torch.equal, outputs(model), outputs(plain)))
    assert plain.xray.head[0].weight.data_ptr() != model.xray.head[0].weight.data_ptr()


def test_one_encoder_alone_starts_as_it_was_and_trains_both_factors(tiny_config: Build) -> None:
    config = tiny_config()
    encoder = build_more(config, seed=1).ecg.encoder
    signal = torch.randn(2, 12, 50, generator=torch.Generator().manual_seed(5))
    before = encoder.eval()(signal)
    adapt_encoder(encoder, config.lora, ("qkv",), 3)
    assert torch.equal(encoder.eval()(signal), before)
    assert {name.rsplit("lora_", 1)[-1] for name in trainable_names(encoder)} == {"A.default.weight",
                                                                                "B.default.weight"}  # fmt: skip
    with pytest.raises(ConfigError, match="no module matches"):
        adapt_encoder(build_more(config, seed=1).ecg.encoder, config.lora, ("quarry",), 3)
