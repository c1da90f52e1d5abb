"""The rule by hand, its shapes, and planted signals that it must find."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch

from more_model.cohort_file import load_cohort
from more_model.data.study import Split
from more_model.explain.attention_maps import recording
from more_model.explain.measure import label_directions
from more_model.explain.relevance import (
    Relevance,
    ecg_relevance,
    relevance_row,
    text_relevance,
    unit_sum,
    xray_relevance,
)
from more_model.model.more import build_more


def test_one_layer_one_head_by_hand() -> None:
    attention = torch.tensor([[[[0.5, 0.3, 0.2], [0.1, 0.8, 0.1], [0.4, 0.4, 0.2]]]])
    gradient = torch.tensor([[[[1.0, 2.0, -3.0], [0.0, 0.0, 0.0], [9.0, 9.0, 9.0]]]])
    row = relevance_row([attention], [gradient], torch.tensor([[1.0, 0.0, 0.0]]))
    # Identity 1 and 0.5 * 1 for the class token, 0.3 * 2 for the first patch, nothing for a negative product.
    torch.testing.assert_close(row, torch.tensor([[1.5, 0.6, 0.0]]))


def test_heads_are_averaged_after_the_product() -> None:
    attention = torch.tensor([[[[0.0, 1.0], [0.5, 0.5]], [[0.0, 1.0], [0.5, 0.5]]]])
    gradient = torch.tensor([[[[0.0, 2.0], [0.0, 0.0]], [[0.0, -1.0], [0.0, 0.0]]]])
    row = relevance_row([attention], [gradient], torch.tensor([[1.0, 0.0]]))
    # (2)^+ and (-1)^+ over two heads: 1, and not (2 - 1) / 2.
    torch.testing.assert_close(row, torch.tensor([[1.0, 1.0]]))


def test_the_carried_row_is_that_of_the_published_recursion() -> None:
    generator = torch.Generator().manual_seed(1)
    attention = [torch.rand(2, 3, 6, 6, generator=generator).softmax(-1) for _ in range(4)]
    gradients = [torch.randn(2, 3, 6, 6, generator=generator) for _ in range(4)]
    whole = torch.eye(6).expand(2, 6, 6)
    for weights, gradient in zip(attention, gradients, strict=True):
        whole = whole + (weights * gradient).clamp(min=0).mean(dim=1) @ whole
    start = torch.eye(6)[:1].expand(2, 6)
    torch.testing.assert_close(relevance_row(attention, gradients, start), whole[:, 0])


def test_maps_are_non_negative_and_sum_to_one(tiny_config: Callable[..., Any]) -> None:
    model = build_more(tiny_config(), seed=2)
    generator = torch.Generator().manual_seed(0)
    pixels = torch.randint(0, 255, (3, 16, 16), generator=generator, dtype=torch.uint8)
    signal, along = torch.randn(3, 12, 50, generator=generator), torch.randn(3, 8, generator=generator)
    with recording(model) as recorded:
        pictures = xray_relevance(model, recorded, pixels, along)
        tracings = ecg_relevance(model, recorded, signal, along)
    assert pictures.map.shape == (3, 16, 16)
    assert pictures.tokens.shape == (3, 4)
    assert tracings.map.shape == (3, 12, 50)
    assert tracings.tokens.shape == (3, 3)
    for relevance in (pictures, tracings):
        assert bool((relevance.map >= 0).all())
        assert bool((relevance.tokens >= 0).all())
        torch.testing.assert_close(relevance.map.flatten(1).sum(dim=1), torch.ones(3))
    torch.testing.assert_close(pictures.score, (model.eval().xray(pixels).projection * along).sum(dim=1))


def test_a_batch_is_explained_as_its_parts(tiny_config: Callable[..., Any]) -> None:
    model = build_more(tiny_config(), seed=2)
    generator = torch.Generator().manual_seed(0)
    signal, along = torch.randn(3, 12, 50, generator=generator), torch.randn(3, 8, generator=generator)
    with recording(model) as recorded:
        whole = ecg_relevance(model, recorded, signal, along).map
        parts = [ecg_relevance(model, recorded, signal[i : i + 1], along[i : i + 1]).map for i in range(3)]
    torch.testing.assert_close(whole, torch.cat(parts), rtol=1e-3, atol=1e-6)


def test_time_of_an_ecg_is_that_of_its_tokens(tiny_config: Callable[..., Any]) -> None:
    # kernel 5, strides 5 and 2: token t looks at samples 10 t to 10 t + 24.
    model = build_more(tiny_config(), seed=2)
    with recording(model) as recorded:
        found = ecg_relevance(model, recorded, torch.randn(1, 12, 50), torch.randn(1, 8))
    shares = found.tokens[0] / found.tokens.sum()
    by_time = found.map[0].sum(dim=0)
    assert float(by_time[45:].sum()) == 0.0
    assert float(by_time[:10].sum()) <= float(shares[0]) + 1e-5
    assert float(by_time[35:45].sum()) <= float(shares[2]) + 1e-5


def test_even_where_nothing_is_relevant() -> None:
    torch.testing.assert_close(unit_sum(torch.zeros(1, 2, 2)), torch.full((1, 2, 2), 0.25))


@pytest.mark.parametrize("pooling", ["mean", "last", "mean-all"])
def test_every_way_of_pooling_gives_weights_to_tokens(tiny_config: Callable[..., Any], pooling: str) -> None:
    model = build_more(tiny_config(text={"pooling": pooling}), seed=2)
    ids = torch.tensor([[1, 5, 6, 7, 2]])
    with recording(model) as recorded:
        score, tokens = text_relevance(model, recorded, ids, torch.ones_like(ids), torch.ones(8), pooling)
    assert tokens.shape == (5,)
    assert bool((tokens >= 0).all())
    assert float(tokens.sum()) > 0
    torch.testing.assert_close(score, model.eval().text(ids, torch.ones_like(ids)).projection.sum())


def test_planted_signals_are_found(planted: Any) -> None:
    examples = load_cohort(planted.store).examples.of_split(Split.TEST)
    with recording(planted.trained.model) as recorded:
        xray = explained(planted, examples, recorded, "xray")
        ecg = explained(planted, examples, recorded, "ecg")
    bright = [(pixels > 170).numpy() for pixels in xray[1]]
    at_spot = [bool(spot[*divmod(int(heat.argmax()), 32)]) for spot, heat in zip(bright, xray[0].map, strict=True)]
    assert sum(at_spot) / len(at_spot) > 0.5, "a spot covers 6 % of the picture"
    assert float(ecg[0].map.sum(dim=2)[:, 7].mean()) > 2 / 12, "one of twelve leads"


def explained(planted: Any, examples: Any, recorded: Any, modality: str) -> tuple[Relevance, torch.Tensor]:
    kept = examples.where(lambda triplet: getattr(triplet, modality) is not None and 1.0 in triplet.labels.values())
    (along,) = label_directions(planted.trained, planted.prompts, modality).values()
    studies = (kept.xrays if modality == "xray" else kept.ecgs)(range(len(kept))).float()
    call = xray_relevance if modality == "xray" else ecg_relevance
    return call(planted.trained.model, recorded, studies, along.expand(len(kept), -1)), studies
