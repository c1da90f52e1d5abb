"""How much a zero-shot figure owes to the wording: the same question asked with other prompts.

A draw with seed s keeps, for every label and side, some of its wordings, drawn by a generator seeded with s and the
label's name: adding a label leaves the draws of the others alone.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from more_model.errors import DataError
from more_model.evaluation.auroc import auroc
from more_model.evaluation.embedded import EmbeddedSet, Float64, LabelTask, ScoredLabel, UncertaintyPolicy
from more_model.evaluation.prompt_sets import PromptSet
from more_model.evaluation.summary import label_names
from more_model.evaluation.uncertainty import settled
from more_model.evaluation.zero_shot import PromptDirections, class_prompt_scores, encode_prompts, zero_shot_scores

#: How many draws unless told otherwise.
DRAWS = 20


@dataclass(frozen=True, slots=True)
class PromptDraws:
    """AUROCs over draws of wordings. ``per_label`` {label: one value a draw}, ``refused`` {label: reason}; ``macro``
    has one value a draw, the mean over the labels that have one. ``wordings`` is what was asked for per side (None:
    half)."""

    wordings: int | None
    per_label: Mapping[str, tuple[float, ...]]
    macro: tuple[float, ...]
    refused: Mapping[str, str]

    def to_dict(self) -> dict[str, Any]:
        """Ready for JSON: the values and their spread (``min``, ``max``, ``mean``, ``sd``; None without a value)."""
        return {
            "wordings": self.wordings,
            "macro": spread(self.macro) | {"values": list(self.macro)},
            "per_label": {label: spread(values) | {"values": list(values)} for label, values in self.per_label.items()},
            "refused": [{"label": label, "reason": reason} for label, reason in self.refused.items()],
        }


def _as_scored(scored: ScoredLabel) -> ScoredLabel:
    return scored


def prompt_draws(
    embedded: EmbeddedSet,
    prompts: PromptSet,
    encode: Callable[[list[str]], NDArray[np.floating]],
    *,
    draws: int = DRAWS,
    wordings: int | None = None,
    seed: int = 0,
    policy: UncertaintyPolicy = "ignore",
    merged: Callable[[ScoredLabel], ScoredLabel] = _as_scored,
) -> PromptDraws:
    """Zero-shot AUROC per label and macro, for seeds ``seed`` .. ``seed`` + ``draws`` - 1, with ``wordings`` a side.

    None keeps half of a side's wordings, at least one; a side with fewer than asked for is used whole. ``encode`` maps
    k texts to [k, d] and is called once, as in `encode_prompts`. A label is refused where `auroc` refuses it.
    ``merged`` may make one row of several, such as the films of one examination.
    Raises DataError for fewer than one draw or wording.
    """
    if draws < 1 or (wordings is not None and wordings < 1):
        raise DataError(f"{draws} draws of {wordings} wordings asked for; at least one of either is needed")
    embedded = settled(embedded, prompts.tasks, policy)
    names = label_names(prompts.tasks)
    directions = encode_prompts(prompts, encode)
    drawn = [
        {task: _drawn(directions[task], task, number, wordings) for task in prompts.tasks}
        for number in range(seed, seed + draws)
    ]
    per_label: dict[str, tuple[float, ...]] = {}
    refused: dict[str, str] = {}
    for position, task in enumerate(prompts.tasks):
        target = embedded.target(task.label, "ignore")
        stated = ~np.isnan(target) & embedded.has(task.modality)
        if not stated.any():
            refused[names[task]] = f"no row with this label has an embedding of modality {task.modality}"
            continue
        part = embedded.select(stated)
        rows = part.embedding(task.modality)
        found = []
        for sides in drawn:
            scores = _scores(rows, prompts, sides, position)
            scored = ScoredLabel(task, target[stated], scores, part.patient, part.site, attributes=part.attributes)
            scored = merged(scored)
            found.append(auroc(scored.y, scored.score))
        values = [result.value for result in found if result.value is not None]
        if len(values) == draws:
            per_label[names[task]] = tuple(values)
        else:
            refused[names[task]] = next(str(result.reason) for result in found if result.value is None)
    macro = tuple(np.mean(list(per_label.values()), axis=0).tolist()) if per_label else ()
    return PromptDraws(wordings, per_label, macro, refused)


def wording_spread(
    embedded: EmbeddedSet,
    prompts: PromptSet,
    encode: Callable[[list[str]], NDArray[np.floating]],
    *,
    draws: int = DRAWS,
    seed: int = 0,
    policy: UncertaintyPolicy = "ignore",
    merged: Callable[[ScoredLabel], ScoredLabel] = _as_scored,
) -> dict[str, Any]:
    """How far single wordings disagree, ready for JSON: draws of one wording a side.

    ``macro`` and ``per_label`` ({label: ...}) with ``min``, ``max``, ``mean``, ``sd`` (sample, 0 for one draw),
    ``flips`` (labels whose AUROC is below 0.5 with one wording and above it with another), ``refused``, ``draws``. A
    label with one wording a side cannot vary. Seeds and errors as in `prompt_draws`.
    """
    found = prompt_draws(embedded, prompts, encode, draws=draws, wordings=1, seed=seed, policy=policy, merged=merged)
    return {
        "draws": draws,
        "macro": spread(found.macro),
        "per_label": {label: spread(values) for label, values in found.per_label.items()},
        "flips": [label for label, values in found.per_label.items() if min(values) < 0.5 < max(values)],
        "refused": [{"label": label, "reason": reason} for label, reason in found.refused.items()],
    }


def spread(values: Sequence[float]) -> dict[str, float | None]:
    """``min``, ``max``, ``mean`` and sample ``sd`` (0 for one value); all None without a value."""
    if not values:
        return {"min": None, "max": None, "mean": None, "sd": None}
    deviation = float(np.std(values, ddof=1)) if len(values) > 1 else 0.0
    return {"min": min(values), "max": max(values), "mean": float(np.mean(values)), "sd": deviation}


def _drawn(sides: PromptDirections, task: LabelTask, seed: int, wordings: int | None) -> PromptDirections:
    name = f"{task.modality}/{task.label}".encode()
    generator = np.random.default_rng([seed, zlib.crc32(name)])
    return PromptDirections(_some(sides.positive, wordings, generator), _some(sides.negative, wordings, generator))


def _some(side: Float64, wordings: int | None, generator: np.random.Generator) -> Float64:
    count = max(1, len(side) // 2) if wordings is None else wordings
    kept: Float64 = side[np.sort(generator.permutation(len(side))[:count])]
    return kept


def _scores(
    rows: np.ndarray[Any, np.dtype[np.float32]],
    prompts: PromptSet,
    sides: Mapping[LabelTask, PromptDirections],
    position: int,
) -> Float64:
    if prompts.exclusive:
        return class_prompt_scores(rows, [sides[task].positive for task in prompts.tasks])[:, position]
    own = sides[prompts.tasks[position]]
    return zero_shot_scores(rows, own.positive, own.negative)
