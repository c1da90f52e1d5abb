"""Counts of the published architecture, and the tensors that travel: out and in again, and no others."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

from more_model.errors import ExchangeError
from more_model.lora_method import LoraMethod
from more_model.model.config import ModelConfig
from more_model.model.inventory import exchange_spec, export_tensors, import_tensors, take_inventory
from more_model.model.lora import adapt, trainable_names
from more_model.model.more import More, build_more
from more_model.training.examples import Examples
from more_model.training.loop import Segment, build_optimiser, train_segment
from more_model.training.settings import TrainingSettings

Build = Callable[..., ModelConfig]
Toy = Callable[..., Examples]


def adapted(config: ModelConfig, method: LoraMethod = "ffa", seed: int = 1) -> More:
    model = build_more(config, seed=seed)
    adapt(model, config, method, 7)
    return model


def base_parameters(module: torch.nn.Module) -> int:
    return sum(p.numel() for name, p in module.named_parameters() if ".lora_" not in name)


def test_published_parameter_counts(more_base: More) -> None:
    """The figures follow from the printed architecture of arXiv 2410.16239."""
    # ViT-B/16 without a classifier is known to have 85,798,656; the biases of the twelve qkv maps are off.
    assert base_parameters(more_base.xray.encoder) == 85_798_656 - 12 * 3 * 768
    assert round(base_parameters(more_base.ecg.encoder) / 1e6, 2) == 86.18
    # RoBERTa-base is known to have 124,645,632; the pooler is left out, and padding 0 needs one position less.
    assert base_parameters(more_base.text.encoder) == 124_645_632 - (768 * 768 + 768) - 768
    heads = sum(base_parameters(tower.head) for tower in (more_base.xray, more_base.ecg, more_base.text))
    assert round(heads / 1e6, 2) == 2.07
    # Rank 16 on query and value of twelve layers of width 768: 0.590 million.
    lora = sum(p.numel() for name, p in more_base.text.named_parameters() if ".lora_" in name)
    assert lora == 12 * 2 * 16 * (768 + 768) == 589_824


def test_published_share_of_the_text_model_that_trains(more_base: More, method: LoraMethod) -> None:
    """ "99.4 % fewer trainable parameters": adapters and biases over all. With A frozen there are fewer still."""
    inventory = take_inventory(more_base)
    assert inventory.text_trainable_fraction <= 0.006
    fewer = f"{100 * (1 - inventory.text_trainable_fraction):.1f}"
    assert fewer == {"fedit": "99.4", "ffa": "99.7"}[method]


def test_exchange_of_the_published_model(more_base: More, method: LoraMethod) -> None:
    inventory, spec = take_inventory(more_base), exchange_spec(more_base)
    assert inventory.exchanged_bytes == spec.nbytes == 4 * inventory.trainable
    assert inventory.full_model_bytes == 4 * inventory.total == 4 * 299_846_401
    assert inventory.exchanged_share == inventory.trainable_fraction
    assert 0.01 < inventory.exchanged_share < 0.02
    assert {tensor.tower for tensor in spec.tensors} == {"xray", "ecg", "text"}
    assert any(".lora_A." in tensor.name for tensor in spec.tensors) is (method == "fedit")


@pytest.mark.parametrize("method", ["ffa", "fedit"])
def test_spec_lists_what_trains_in_model_order(tiny_config: Build, method: LoraMethod) -> None:
    model = adapted(tiny_config(temperature={"learned": True}), method)
    spec = exchange_spec(model)
    assert [tensor.name for tensor in spec.tensors] == trainable_names(model)
    shapes = {name: tuple(parameter.shape) for name, parameter in model.named_parameters()}
    assert all(tensor.shape == shapes[tensor.name] for tensor in spec.tensors)
    towers = {tensor.name: tensor.tower for tensor in spec.tensors}
    assert towers.pop("log_temperature") == "shared"
    assert all(name.startswith(f"{tower}.") for name, tower in towers.items())


def test_batch_normalisation_travels_with_its_statistics(tiny_config: Build, toy_examples: Toy, tokenizer: Any) -> None:
    config = tiny_config(normalisation="batch")
    model = adapted(config)
    names = [tensor.name for tensor in exchange_spec(model).tensors]
    running = [name for name in names if "running_" in name]
    # Two norms in each head and two in the ECG tokeniser, a mean and a variance each.
    assert len(running) == 2 * (3 * 2 + 2)
    assert not [name for name in names if "num_batches" in name]
    before = export_tensors(model)
    settings = TrainingSettings(batch_size=12, threads=1)
    train_segment(
        model, build_optimiser(model, settings), toy_examples(12), settings, Segment(0, 1, 1),
        tokenizer=tokenizer, max_tokens=config.text.max_tokens, seed=3,
    )  # fmt: skip
    after = export_tensors(model)
    assert all(not np.array_equal(before[name], after[name]) for name in running)
    import_tensors(model, before)
    assert all(np.array_equal(export_tensors(model)[name], before[name]) for name in names)
    assert not [t for t in exchange_spec(adapted(tiny_config())).tensors if "running_" in t.name]


def test_out_of_one_model_and_into_another(tiny_config: Build) -> None:
    config = tiny_config()
    one, other = adapted(config, seed=1), adapted(config, seed=1)
    with torch.no_grad():
        for parameter in one.parameters():
            if parameter.requires_grad:
                parameter.add_(torch.randn(parameter.shape, generator=torch.Generator().manual_seed(4)))
    tensors = export_tensors(one)
    exchange_spec(one).check(tensors)
    assert list(tensors) == [tensor.name for tensor in exchange_spec(one).tensors]
    import_tensors(other, tensors)
    assert all(torch.equal(value, other.state_dict()[name]) for name, value in one.state_dict().items())


def test_exported_tensors_are_copies(tiny_config: Build) -> None:
    model = adapted(tiny_config())
    tensors = export_tensors(model)
    before = {name: array.copy() for name, array in tensors.items()}
    for array in tensors.values():
        array += 1
    assert all(np.array_equal(array, before[name]) for name, array in export_tensors(model).items())


def test_a_refused_import_writes_nothing(tiny_config: Build) -> None:
    model = adapted(tiny_config())
    before = export_tensors(model)
    tensors = {name: array + 1 for name, array in before.items()}
    tensors[list(tensors)[-1]][:] = np.nan
    with pytest.raises(ExchangeError, match="NaN or infinite"):
        import_tensors(model, tensors)
    assert all(np.array_equal(array, before[name]) for name, array in export_tensors(model).items())
    with pytest.raises(ExchangeError, match="may not travel"):
        import_tensors(model, {**before, "xray.encoder.vit.cls_token": np.zeros((1, 1, 16), np.float32)})
