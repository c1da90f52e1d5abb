"""What a classifier computes, its loss, and which parameters each recipe opens."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch.nn import functional

from more_model.base import tensor_digest
from more_model.checkpoint import TrainedModel, random_twin
from more_model.evaluation.classifier import Classifier, build_classifier, masked_bce
from more_model.model.lora import trainable_names

Build = Callable[..., TrainedModel]
NAN = float("nan")


def test_loss_is_one_mean_per_example_over_what_it_states() -> None:
    logits = torch.tensor([[0.5, -1.0, 2.0], [3.0, 0.0, 1.0]], requires_grad=True)
    target = torch.tensor([[1.0, 0.0, NAN], [NAN, NAN, NAN]])
    loss = masked_bce(logits, target)
    expected = functional.binary_cross_entropy_with_logits(logits[0, :2], target[0, :2])
    torch.testing.assert_close(loss, torch.stack([expected, torch.tensor(0.0)]))
    loss.sum().backward()
    assert (logits.grad[0] != 0).tolist() == [True, True, False]
    assert not logits.grad[1].any()


def test_positive_weight_multiplies_positives_alone() -> None:
    logits = torch.tensor([[0.3], [0.3]])
    target = torch.tensor([[1.0], [0.0]])
    plain, weighted = masked_bce(logits, target), masked_bce(logits, target, torch.tensor([5.0]))
    torch.testing.assert_close(weighted, plain * torch.tensor([5.0, 1.0]))


@pytest.mark.parametrize("recipe", ["published", "lora"])
@pytest.mark.parametrize("modality", ["xray", "ecg"])
@pytest.mark.parametrize("adapted", [True, False])
def test_starts_from_the_trained_tower(toy_model: Build, recipe: Any, modality: Any, adapted: bool) -> None:
    trained = toy_model(adapted=adapted)
    before = tensor_digest(trained.model.state_dict().items())
    classifier = build_classifier(trained, modality, 3, recipe, blocks=3, seed=0).eval()
    generator = torch.Generator().manual_seed(0)
    studies = torch.randint(0, 255, (4, 16, 16), generator=generator).to(torch.uint8)
    if modality == "ecg":
        studies = torch.randn(4, 12, 50, generator=generator)
    tower = trained.model.xray if modality == "xray" else trained.model.ecg
    with torch.no_grad():
        head = tower.head(tower(studies).features)
        torch.testing.assert_close(classifier(studies), classifier.linear(head), rtol=0, atol=1e-5)
    assert tensor_digest(trained.model.state_dict().items()) == before


def opened(classifier: Classifier) -> set[str]:
    return {name for name in trainable_names(classifier) if not name.startswith(("tower.head.", "linear."))}


def test_published_opens_the_qkv_weights_of_the_last_blocks(toy_model: Build) -> None:
    trained = toy_model(xray={"depth": 5, "qkv_bias": True})
    classifier = build_classifier(trained, "xray", 2, "published", blocks=3, seed=0)
    blocks = "tower.encoder.vit.blocks"
    assert opened(classifier) == {f"{blocks}.{number}.attn.qkv.weight" for number in (2, 3, 4)}
    shallow = build_classifier(toy_model(), "ecg", 2, "published", blocks=3, seed=0)
    assert opened(shallow) == {f"{blocks}.{number}.attn.qkv.weight" for number in (0, 1)}
    for name in ("tower.head.0.weight", "tower.head.3.weight", "linear.weight", "linear.bias"):
        assert name in trainable_names(classifier)


def test_lora_opens_fresh_adapters_of_the_configured_rank(toy_model: Build) -> None:
    classifier = build_classifier(toy_model(), "ecg", 2, "lora", blocks=3, seed=0)
    factors = {name: p for name, p in classifier.named_parameters() if name in opened(classifier)}
    assert len(factors) == 4  # two blocks, two factors
    assert all(".qkv.lora_" in name for name in factors)
    assert all(not p.any() for name, p in factors.items() if ".lora_B." in name)
    assert {min(p.shape) for p in factors.values()} == {2}


def test_supervised_opens_everything_and_knows_nothing(toy_model: Build) -> None:
    trained = toy_model()
    classifier = build_classifier(trained, "xray", 2, "supervised", blocks=3, seed=4)
    assert len(trainable_names(classifier)) == len(list(classifier.parameters()))
    twin = random_twin(trained, 4).model.xray
    assert all(torch.equal(mine, other) for mine, other in zip(classifier.tower.parameters(), twin.parameters(),
                                                               strict=True))  # fmt: skip
    assert not torch.equal(classifier.tower.head[0].weight, trained.model.xray.head[0].weight)


def test_building_draws_from_the_seed_alone(toy_model: Build) -> None:
    trained = toy_model()
    state = torch.random.get_rng_state()
    first, again, other = (build_classifier(trained, "ecg", 2, "lora", blocks=3, seed=seed) for seed in (1, 1, 2))
    assert torch.equal(torch.random.get_rng_state(), state)
    assert torch.equal(first.linear.weight, again.linear.weight)
    assert not torch.equal(first.linear.weight, other.linear.weight)


def test_frozen_batch_normalisation_keeps_its_statistics(toy_model: Build) -> None:
    trained = toy_model(normalisation="batch")
    classifier = build_classifier(trained, "ecg", 2, "published", blocks=3, seed=0).train()
    assert classifier.tower.head.training
    before = {name: buffer.clone() for name, buffer in classifier.named_buffers()}
    classifier(torch.randn(6, 12, 50, generator=torch.Generator().manual_seed(0)))
    moved = {name for name, buffer in classifier.named_buffers() if not torch.equal(buffer, before[name])}
    assert moved
    assert all(name.startswith("tower.head.") for name in moved)
