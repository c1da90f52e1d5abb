"""A fitted late fusion of X-ray and ECG: what it answers, and its form on disk.

fusion.safetensors   weights and scaling; in its header the tasks, the settings, and the digest of the model whose
                     embeddings it was fitted on
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from more_model.errors import DataError, EnvironmentFault, ExchangeError
from more_model.evaluation.embedded import (
    EmbeddedSet,
    Float64,
    LabelTask,
    Mask,
    ScoredLabel,
    score_task,
)

#: One key only: with several, their order in the file would differ from one writing to the next.
_HEADER = "more-fed fusion"


@dataclass(frozen=True, slots=True, eq=False)
class Scaling:
    """Mean and 1 / standard deviation of one half over the training rows that have it, each [width]; a column that
    never varied, or of which there was none, has scale zero."""

    mean: Float64
    scale: Float64

    def standardised(self, part: NDArray[np.floating], what: str) -> tuple[Float64, Mask]:
        """[n, width] with zeros where a row lacks the half, and bool [n] of the rows that have it.

        Raises:
            DataError: another width than was trained on.
        """
        width = len(self.mean)
        if part.shape[1] == 0 or np.isnan(part).all():
            return np.zeros((len(part), width)), np.zeros(len(part), dtype=np.bool_)
        if part.shape[1] != width:
            raise DataError(f"fusion: {what} embeddings are {part.shape[1]} wide, trained on {width}")
        present: Mask = np.logical_not(np.isnan(part).any(axis=1), dtype=np.bool_)
        values = (np.asarray(part, dtype=np.float64) - self.mean) * self.scale
        return np.where(present[:, None], values, 0.0), present


def fusion_columns(
    scaling: tuple[Scaling, Scaling], xray: NDArray[np.floating], ecg: NDArray[np.floating]
) -> tuple[Float64, Mask]:
    """Both halves side by side, standardised, and the indicators of a missing X-ray and a missing ECG:
    float64 [n, xray width + ecg width + 2], and bool [n] of the rows that have at least one half."""
    left, has_xray = scaling[0].standardised(xray, "X-ray")
    right, has_ecg = scaling[1].standardised(ecg, "ECG")
    missing = np.stack([~has_xray, ~has_ecg], axis=1)
    return np.concatenate([left, right, missing], axis=1, dtype=np.float64), has_xray | has_ecg


@dataclass(frozen=True, slots=True)
class Contribution:
    """Probabilities of one finding of one patient. ``without_xray`` is what the ECG alone says, ``without_ecg`` what
    the X-ray alone says; None where nothing would be left to judge from."""

    probability: float
    without_xray: float | None
    without_ecg: float | None


@dataclass(frozen=True, slots=True, eq=False)
class FittedFusion:
    """A logistic regression per task over `fusion_columns`: ``weight`` [tasks, columns], ``bias`` [tasks].

    ``strengths`` [tasks] are the inverse regularisation strengths used. ``refused`` says of tasks that could not be
    learnt why."""

    tasks: tuple[LabelTask, ...]
    scaling: tuple[Scaling, Scaling]
    weight: Float64
    bias: Float64
    strengths: Float64
    modality_dropout: float
    refused: Mapping[LabelTask, str]

    def logits(self, xray: NDArray[np.floating], ecg: NDArray[np.floating]) -> Float64:
        """Float64 [n, tasks] from the embeddings of both halves, rows of NaN where one is missing; NaN where both are.

        Raises:
            DataError: embeddings of another width than was trained on.
        """
        columns, present = fusion_columns(self.scaling, xray, ecg)
        return np.where(present[:, None], columns @ self.weight.T + self.bias, np.nan)

    def contributions(
        self, xray: NDArray[np.floating] | None, ecg: NDArray[np.floating] | None
    ) -> dict[LabelTask, Contribution]:
        """What one patient's embeddings, [width] each or None, say about every task, together and apart.

        The probabilities are those of the regression; nothing is calibrated on other patients.

        Raises:
            DataError: neither is given, or one has another width than was trained on.
        """
        if xray is None and ecg is None:
            raise DataError("fusion: neither an X-ray nor an ECG is given", remedy="give at least one of them")
        no_xray, no_ecg = (np.full((1, len(half.mean)), np.nan) for half in self.scaling)
        own_xray = no_xray if xray is None else np.asarray(xray)[None]
        own_ecg = no_ecg if ecg is None else np.asarray(ecg)[None]
        together, from_ecg, from_xray = (
            _probabilities(self.logits(*halves))[0]
            for halves in ((own_xray, own_ecg), (no_xray, own_ecg), (own_xray, no_ecg))
        )
        return {
            task: Contribution(float(together[place]), _or_none(from_ecg[place]), _or_none(from_xray[place]))
            for place, task in enumerate(self.tasks)
        }

    def scores(
        self,
        rows: EmbeddedSet,
        tasks: Sequence[LabelTask],
        *,
        without_xray: bool = False,
        without_ecg: bool = False,
    ) -> list[ScoredLabel]:
        """One `ScoredLabel` of logits per task over the rows that state its label, with a half hidden on request.

        Uncertain labels count as not stated: settle them first.
        """

        def scorer(task: LabelTask) -> Callable[[EmbeddedSet], Float64 | str]:
            def score(part: EmbeddedSet) -> Float64 | str:
                if task not in self.tasks:
                    return self.refused.get(task, "fusion: this task was not trained for")
                xray = np.full_like(part.xray, np.nan) if without_xray else part.xray
                ecg = np.full_like(part.ecg, np.nan) if without_ecg else part.ecg
                answers = self.logits(xray, ecg)[:, self.tasks.index(task)]
                return "fusion: no row with this label has an embedding" if np.isnan(answers).all() else answers

            return score

        return [score_task(rows, task, "ignore", scorer(task)) for task in tasks]


def save_fusion(path: Path, fitted: FittedFusion, *, model_digest: str) -> None:
    """Write ``fitted`` whole or not at all; equal inputs give equal bytes. ``model_digest`` is `TrainedModel.digest` of
    the model whose embeddings it was fitted on."""
    from safetensors.numpy import save_file

    facts = {
        "schema": 1,
        "model": model_digest,
        "tasks": [asdict(task) for task in fitted.tasks],
        "refused": [{**asdict(task), "reason": reason} for task, reason in fitted.refused.items()],
        "modality_dropout": fitted.modality_dropout,
    }
    tensors = {"weight": fitted.weight, "bias": fitted.bias, "strengths": fitted.strengths}
    for name, half in zip(("xray", "ecg"), fitted.scaling, strict=True):
        tensors |= {f"{name}.mean": half.mean, f"{name}.scale": half.scale}
    draft = path.with_name(f"{path.name}.part")
    contiguous = {name: np.ascontiguousarray(tensor) for name, tensor in tensors.items()}
    save_file(contiguous, draft, metadata={_HEADER: json.dumps(facts, sort_keys=True)})
    draft.replace(path)


def load_fusion(path: Path, *, model_digest: str) -> FittedFusion:
    """Read what `save_fusion` wrote, for the model of ``model_digest``.

    Raises:
        EnvironmentFault: there is no such file.
        ExchangeError: it is damaged, is no fusion of this project, or was fitted on embeddings of another model.
    """
    facts, tensors = _read(path)
    if facts["model"] != model_digest:
        raise ExchangeError(
            f"{path.name} was fitted on the embeddings of another model",
            remedy="fit it again with this model, or give the model that it was fitted on",
            avoid="use it anyway: nothing would fail, and every probability would be wrong",
        )
    halves = [Scaling(tensors[f"{name}.mean"], tensors[f"{name}.scale"]) for name in ("xray", "ecg")]
    return FittedFusion(
        tasks=tuple(LabelTask(**task) for task in facts["tasks"]),
        scaling=(halves[0], halves[1]),
        weight=tensors["weight"],
        bias=tensors["bias"],
        strengths=tensors["strengths"],
        modality_dropout=float(facts["modality_dropout"]),
        refused={LabelTask(entry["label"], entry["modality"]): entry["reason"] for entry in facts["refused"]},
    )


def _read(path: Path) -> tuple[Mapping[str, Any], dict[str, Float64]]:
    from safetensors import SafetensorError, safe_open
    from safetensors.numpy import load_file

    if not path.is_file():
        raise EnvironmentFault(f"there is no fusion {path}", remedy="give a file that an evaluation with fusion wrote")
    try:
        with safe_open(path, framework="numpy") as file:
            header = dict(file.metadata() or {})
        tensors = load_file(path)
    except SafetensorError as error:
        raise ExchangeError(f"{path} cannot be read: {error}", remedy="copy it again") from error
    facts: Mapping[str, Any] = json.loads(header.get(_HEADER, "{}"))
    if facts.get("schema") != 1:
        raise ExchangeError(f"{path} is not a fusion that this version wrote", remedy="fit it again")
    return facts, tensors


def _probabilities(logits: Float64) -> Float64:
    # The logistic function through tanh, which does not overflow.
    values: Float64 = 0.5 * (1.0 + np.tanh(0.5 * logits))
    return values


def _or_none(value: np.float64) -> float | None:
    return None if np.isnan(value) else float(value)
