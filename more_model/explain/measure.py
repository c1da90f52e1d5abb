"""Maps, deletion, insertion and pointing of one model over all cases, in batches."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from more_model.checkpoint import TrainedModel
from more_model.errors import DataError
from more_model.evaluation.embedded import Float64, ImageOrTrace
from more_model.evaluation.prompt_sets import PromptSet
from more_model.explain.attention_maps import recording
from more_model.explain.cases import Cases
from more_model.explain.faithfulness import Removal, removal
from more_model.explain.pointing import centre_hits, chance, covered, points_at
from more_model.explain.relevance import Relevance, ecg_relevance, xray_relevance
from more_model.training.embed import embed_texts

#: A study is removed in eight steps; random order is the mean of two.
STEPS, ORDERS = 8, 2
#: Removed from an ECG at once: this long, in all leads.
ECG_CELL_S = 0.4
#: A hit may miss the lesion by this share of the picture (Zhang et al. allow 15 pixels in about 500).
TOLERANCE = 0.03

Progress = Callable[[int, int], None]


@dataclass(frozen=True, slots=True, eq=False)
class Measured:
    """Per case [n]: the score, the gains of `Removal`, and, NaN where no lesion is known, whether the map points at it
    (``hit``), how often chance does (``chance``), whether the middle of the picture does (``centre``). ``cells``
    [n, cells] is the relevance that the order came from; the curves [steps + 1] are means over cases with the
    finding."""

    score: Float64
    deletion: Float64
    insertion: Float64
    hit: Float64
    chance: Float64
    centre: Float64
    cells: Float64
    deletion_curve: Float64
    random_curve: Float64


def label_directions(trained: TrainedModel, prompts: PromptSet, modality: ImageOrTrace) -> dict[str, Tensor]:
    """Label -> positive minus negative side of its prompts [embedding]: what zero-shot scoring projects on."""
    directions = {}
    for label in prompts.labels:
        if label.task.modality == modality and label.negative:
            sides = [
                embed_texts(
                    trained.model, label.worded(side), tokenizer=trained.tokenizer, max_tokens=trained.max_tokens
                )
                for side in (label.positive, label.negative)
            ]
            positive, negative = (functional.normalize(torch.from_numpy(side).mean(dim=0), dim=0) for side in sides)
            directions[label.task.label] = positive - negative
    return directions


def measure(
    trained: TrainedModel,
    cases: Cases,
    directions: Mapping[str, Tensor],
    *,
    batch_size: int = 64,
    seed: int = 0,
    progress: Progress = lambda _done, _total: None,
) -> Measured:
    """Everything about ``trained`` over ``cases``; ``directions`` as `label_directions` gives them.

    Raises:
        DataError: a label of the cases has no direction.
    """
    missing = sorted(set(cases.label) - directions.keys())
    if missing:
        raise DataError(f"no positive and negative wording for {', '.join(missing)}", remedy="give another prompt set")
    parts: list[_Part] = []
    for start in range(0, len(cases), batch_size):
        places = list(range(start, min(start + batch_size, len(cases))))
        parts.append(_part(trained, cases, places, directions, seed + start))
        progress(len(places) + start, len(cases))
    removals = [part.removal for part in parts]
    curves = [np.concatenate([getattr(part, name) for part in removals])[cases.present].mean(axis=0)
              for name in ("deletion_curves", "random_curves")]  # fmt: skip
    return Measured(
        score=np.concatenate([part.score for part in parts]),
        deletion=np.concatenate([part.deletion for part in removals]),
        insertion=np.concatenate([part.insertion for part in removals]),
        **{name: np.concatenate([part.pointing[name] for part in parts]) for name in ("hit", "chance", "centre")},
        cells=np.concatenate([part.cells for part in parts]),
        deletion_curve=curves[0],
        random_curve=curves[1],
    )


@dataclass(frozen=True, slots=True, eq=False)
class _Part:
    score: Float64
    cells: Float64
    removal: Removal
    pointing: Mapping[str, Float64]


def _part(trained: TrainedModel, cases: Cases, places: list[int], directions: Mapping[str, Tensor], seed: int) -> _Part:
    device = next(trained.model.parameters()).device
    inputs = cases.inputs(places)
    along = torch.stack([directions[cases.label[place]] for place in places])
    explain = xray_relevance if cases.modality == "xray" else ecg_relevance
    with recording(trained.model) as recorded:
        relevance = explain(trained.model, recorded, inputs.to(device), along.to(device))
    cell_of, cells = _cells(trained, cases.modality, relevance)
    tower = trained.model.xray if cases.modality == "xray" else trained.model.ecg

    def score(changed: Tensor) -> Tensor:
        projection: Tensor = tower(changed.to(device)).projection
        return (projection.cpu() * along).sum(dim=1)

    with torch.inference_mode():
        removed = removal(
            score, inputs, cases.baseline(places, inputs), cell_of, cells, steps=STEPS, orders=ORDERS, seed=seed
        )
    return _Part(
        score=relevance.score.cpu().double().numpy(),
        cells=cells.double().numpy(),
        removal=removed,
        pointing=_pointing(cases, places, relevance.map.cpu().numpy()),
    )


def _cells(trained: TrainedModel, modality: ImageOrTrace, relevance: Relevance) -> tuple[Tensor, Tensor]:
    """To which cell each element of a study belongs, and the relevance [n, cells] of the cells."""
    if modality == "xray":
        size, patch = trained.config.preprocessing.image_size, trained.config.xray.patch_size
        line = torch.arange(size) // patch
        return line[:, None] * (size // patch) + line[None], relevance.tokens.cpu()
    preprocessing = trained.config.preprocessing
    line = torch.arange(preprocessing.ecg_samples) // max(1, round(ECG_CELL_S * preprocessing.ecg_rate_hz))
    over_leads = relevance.map.cpu().sum(dim=1)
    cells = torch.zeros(len(over_leads), int(line[-1]) + 1).scatter_add_(1, line.expand_as(over_leads), over_leads)
    return line.expand(relevance.map.shape[1], -1), cells


def _pointing(cases: Cases, places: list[int], maps: NDArray[np.float32]) -> dict[str, Float64]:
    found = {name: np.full(len(places), np.nan) for name in ("hit", "chance", "centre")}
    for at, place in enumerate(places):
        film = cases.film[place]
        if film is None:
            continue
        size = maps.shape[-1]
        region = covered(film.circles(cases.label[place], size), size, TOLERANCE * size)
        found["hit"][at] = points_at(maps[at], region)
        found["chance"][at] = chance(region, film.picture(size))
        found["centre"][at] = centre_hits(region)
    return found
