"""Many units in a few passes of the real towers: the same gradients as one unit after the other, and nobody else's."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from client.private_bank import PublicBank, embed_bank
from client.private_checks import checked_gradients
from client.private_loss import TowersLoss, UnitModel, decoupled, gradients_in_passes, in_group
from client.private_units import unit_tensors, units_at_once
from more_model.data.study import Split, Triplet
from more_model.training.examples import Examples
from more_model.training.settings import TrainingSettings
from more_model.training.threads import using_threads
from privacy.private_step import private_parameters
from privacy.settings import PrivacySettings
from privacy.unit_gradients import clipped_sum, gradients_one_by_one

MODES = ["patient-decoupled", "patient-groups"]
#: Rows of each unit.
UNITS = {
    "patient-decoupled": [[0], [1, 2, 3], [4], [5, 6], [7], [8]],
    "patient-groups": [[0, 1, 2, 3, 4], [5, 6, 7], [8]],
}


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    with using_threads(1):
        yield


@pytest.fixture
def site(toy_site: Any) -> Examples:
    """Seven patients, nine studies; one patient without picture, one without tracing, one with much to say."""
    examples: Examples = toy_site([1, 3, 1, 2, 1, 1])
    triplets = list(examples.triplets)
    triplets[4] = Triplet("north-2", "north", Split.TRAIN, None, 4, None, "sinus rhythm")
    triplets[7] = Triplet("north-4", "north", Split.TRAIN, 7, None, "clear lungs, large heart. " * 6, None)
    return Examples(tuple(triplets), examples.source_of, examples.sources)


@pytest.fixture
def bank(toy_site: Any) -> PublicBank:
    return PublicBank(toy_site([1] * 8, site="public"))


@pytest.fixture
def loss_of(bank: PublicBank, small_tokenizer: Any) -> Any:
    def build(model: Any, mode: str) -> TowersLoss:
        unit_model = UnitModel(model.eval())
        words = {"tokenizer": small_tokenizer, "max_tokens": 64}
        if mode == "patient-decoupled":
            return decoupled(unit_model, embed_bank(model, bank, TrainingSettings(), **words))
        return in_group(unit_model)

    return build


def tensors(examples: Examples, units: Any, tokenizer: Any) -> dict[str, torch.Tensor]:
    common = {"tokenizer": tokenizer, "max_tokens": 64, "device": torch.device("cpu")}
    return unit_tensors(examples, units, TrainingSettings(), b"secret of a step", **common)


def stir(model: torch.nn.Module) -> None:
    """B starts at zero, and a gradient that vanishes proves nothing."""
    torch.manual_seed(3)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.requires_grad:
                parameter.add_(0.1 * torch.randn_like(parameter))


VARIANTS: dict[str, dict[str, Any]] = {
    "usual": {},
    "learned temperature": {"temperature": {"initial": 0.2, "learned": True}},
    "biases of the text tower": {"lora": {"text_bias": "all"}},
    "more adapters": {"lora": {"xray_targets": ["qkv", "fc1"], "ecg_targets": ["proj"]}},
    "last token": {"text": {"pooling": "last"}},
    "published pooling": {"text": {"pooling": "mean-all", "padded_tokens": 64}},
    "linear attention": {"xray": {"attention": "linear"}, "ecg": {"attention": "linear"}},
}


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("name", VARIANTS)
def test_clipped_sums_are_those_of_one_unit_after_the_other(
    small_model: Any, loss_of: Any, site: Examples, small_tokenizer: Any, name: str, mode: str
) -> None:
    model = small_model(**VARIANTS[name])
    stir(model)
    loss = loss_of(model, mode)
    units = tensors(site, UNITS[mode], small_tokenizer)
    parameters = private_parameters(loss.model)
    together, alone = (
        clipped_sum(loss, parameters, [units], 0.5, gradients=way)
        for way in (gradients_in_passes, gradients_one_by_one)
    )
    assert (together.units, together.clipped, together.refused) == (alone.units, alone.clipped, alone.refused)
    length = float(torch.cat([total.flatten() for total in alone.sums.values()]).norm())
    for key, total in alone.sums.items():
        assert float((together.sums[key] - total).norm()) <= 1e-5 * length, key
        assert total.any(), key


@pytest.mark.parametrize("mode", MODES)
def test_no_bit_of_a_units_gradient_depends_on_the_others(
    small_model: Any, loss_of: Any, site: Examples, small_tokenizer: Any, mode: str
) -> None:
    model = small_model()
    stir(model)
    loss = loss_of(model, mode)
    units = tensors(site, UNITS[mode], small_tokenizer)
    others = {name: leaf.clone() for name, leaf in units.items()}
    for name in ("xrays", "ecgs"):
        others[name][1:] = others[name][1:].flip(2)
    others["ids"][1:] = torch.where(others["mask"][1:].bool(), others["ids"][1:].flip(2).clamp(min=4), 0)
    others["words"][1:] = torch.where(others["words"][1:] >= 0, others["words"][1:] // 2, -1)
    parameters = private_parameters(loss.model)
    before, after = (gradients_in_passes(loss, parameters, which) for which in (units, others))
    assert any(before[name][0].any() for name in before)
    for name in before:
        assert torch.equal(before[name][0], after[name][0]), name
    assert any(not torch.equal(before[name][1], after[name][1]) for name in before)


@pytest.mark.parametrize("mode", MODES)
def test_more_or_fewer_units_change_no_more_than_rounding(
    small_model: Any, loss_of: Any, site: Examples, small_tokenizer: Any, mode: str
) -> None:
    model = small_model()
    stir(model)
    loss = loss_of(model, mode)
    parameters = private_parameters(loss.model)
    several = gradients_in_passes(loss, parameters, tensors(site, UNITS[mode], small_tokenizer))
    for number in range(2):
        alone = gradients_in_passes(loss, parameters, tensors(site, [UNITS[mode][number]], small_tokenizer))
        for name in alone:
            torch.testing.assert_close(alone[name][0], several[name][number], rtol=1e-4, atol=1e-6)


def test_a_patient_of_another_unit_ties_no_texts_together(toy_site: Any, small_tokenizer: Any) -> None:
    # Two studies of one patient tie what they say; the first unit holds the same words, of two patients.
    examples = toy_site({0: 1, 1: 1, 2: 2})
    triplets = list(examples.triplets)
    words = [("clear lungs", None), ("large heart", None), ("clear lungs", None), ("large heart", None)]
    triplets = [
        Triplet(triplet.patient_id, triplet.site, triplet.split, triplet.xray, None, *of_row)
        for triplet, of_row in zip(triplets, words, strict=True)
    ]
    examples = Examples(tuple(triplets), examples.source_of, examples.sources)
    alike = tensors(examples, [[0, 1], [2, 3]], small_tokenizer)["alike"].tolist()
    assert alike[0][0] != alike[0][1]
    assert alike[1][0] == alike[1][1]


def way_of(model: Any, loss_of: Any, bank: PublicBank, tokenizer: Any) -> Any:
    loss = loss_of(model, "patient-groups")
    settings = PrivacySettings(mode="patient-groups", noise_multiplier=1.0, delta=1e-3, sampling_rate=1.0)
    return checked_gradients(loss.model, loss, bank, settings, {"tokenizer": tokenizer, "max_tokens": 64})


@pytest.mark.parametrize("kind", ["llama", "bert"])
def test_models_from_a_folder_go_in_passes_too(
    small_model: Any, loss_of: Any, site: Examples, bank: PublicBank, small_tokenizer: Any, kind: str, tmp_path: Path
) -> None:
    from transformers import BertConfig, BertModel, LlamaConfig, LlamaModel

    sizes = {"vocab_size": 320, "hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2}
    sizes |= {"intermediate_size": 32, "max_position_embeddings": 64}
    made = BertModel(BertConfig(**sizes)) if kind == "bert" else LlamaModel(LlamaConfig(**sizes, num_key_value_heads=1))
    made.save_pretrained(tmp_path)
    model = small_model(text={"path": str(tmp_path)}, lora={"text_targets": "auto"})
    stir(model)
    assert way_of(model, loss_of, bank, small_tokenizer) is gradients_in_passes
    loss = loss_of(model, "patient-groups")
    units = tensors(site, UNITS["patient-groups"], small_tokenizer)
    assert int(units["mask"].sum(dim=2).max()) == 64  # as long as there are positions
    together, alone = (
        way(loss, private_parameters(loss.model), units) for way in (gradients_in_passes, gradients_one_by_one)
    )
    for name, rows in alone.items():
        torch.testing.assert_close(together[name], rows, rtol=1e-3, atol=1e-5)


def test_what_cannot_go_in_passes_goes_one_by_one_and_says_why(
    small_model: Any, loss_of: Any, bank: PublicBank, small_tokenizer: Any, caplog: pytest.LogCaptureFixture
) -> None:
    model = small_model()
    assert way_of(model, loss_of, bank, small_tokenizer) is gradients_in_passes
    model.xray.encoder.vit.cls_token.requires_grad_(True)
    with caplog.at_level(logging.WARNING):
        assert way_of(model, loss_of, bank, small_tokenizer) is gradients_one_by_one
    assert "cls_token" in caplog.text


def test_a_layer_that_is_not_called_as_a_layer_is_noticed(
    small_model: Any, loss_of: Any, bank: PublicBank, small_tokenizer: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = small_model()
    first = model.text.head[0]
    stir(model)
    plain = type(model.text.head).forward

    def sneaking(head: Any, features: torch.Tensor) -> torch.Tensor:
        extra = features @ first.weight.T if head is model.text.head else 0
        return plain(head, features) if head is not model.text.head else head[1:](head[0](features) + extra)

    monkeypatch.setattr(type(model.text.head), "forward", sneaking)
    assert way_of(model, loss_of, bank, small_tokenizer) is gradients_one_by_one


def test_units_at_once_are_bounded_by_what_the_model_keeps(small_model: Any) -> None:
    model = small_model()
    assert units_at_once(model, 1, 64) == 128
    assert 1 <= units_at_once(model, 4, 64 * 512) < units_at_once(model, 1, 64 * 512) < 128
    assert units_at_once(model, 10**9, 64) == 1
