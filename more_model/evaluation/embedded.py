"""A test set after embedding, and the labelled scores that every AUROC of this project is computed from."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

from more_model.errors import DataError

Float32: TypeAlias = NDArray[np.float32]
Float64: TypeAlias = NDArray[np.float64]
Mask: TypeAlias = NDArray[np.bool_]
Indices: TypeAlias = NDArray[np.intp]

ImageOrTrace = Literal["xray", "ecg"]
Embedding = Literal["xray", "ecg", "text"]
Field = Literal["xray", "ecg", "text", "report", "xray_features", "ecg_features"]

#: What a label of -1 (the report hedges) becomes: left out, negative, or positive. ``published`` looks at all labels of
#: a row at once; see `more_model.evaluation.uncertainty`.
UncertaintyPolicy = Literal["ignore", "zero", "one", "published"]
UNCERTAIN = -1.0

_MATRICES: tuple[Literal["xray", "ecg", "text", "xray_features", "ecg_features"], ...] = (
    "xray",
    "ecg",
    "text",
    "xray_features",
    "ecg_features",
)


@dataclass(frozen=True, slots=True)
class LabelTask:
    """One binary question: is ``label`` present, judged from one modality."""

    label: str
    modality: ImageOrTrace


@dataclass(frozen=True, slots=True, eq=False)
class EmbeddedSet:
    """The embeddings of one set of triplets, row by row.

    ``patient`` and ``site`` have n entries. ``xray``, ``ecg``, ``text`` are float32 [n, d] with rows of length one (L2)
    and rows of NaN where the triplet lacks that part. ``report`` holds the words themselves (None where there are
    none): rows with the same words count as one report in retrieval. ``xray_features`` and ``ecg_features`` are the
    tower outputs before projection, float32 [n, D], NaN rows where missing. ``labels`` maps a label to float64 [n]:
    1 present, 0 absent, -1 uncertain, NaN not stated. ``attributes`` maps a plain fact (sex, age, view) to n texts,
    empty where it is not known.

    Raises DataError when the parts differ in their number of rows.
    """

    patient: list[str]
    site: list[str]
    xray: Float32
    ecg: Float32
    text: Float32
    report: list[str | None]
    xray_features: Float32
    ecg_features: Float32
    labels: dict[str, Float64]
    attributes: Mapping[str, Sequence[str]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        sizes = {"patient": len(self.patient), "site": len(self.site), "report": len(self.report)}
        sizes |= {name: len(self._matrix(name)) for name in _MATRICES}
        sizes |= {f"label {label}": len(values) for label, values in self.labels.items()}
        sizes |= {f"attribute {name}": len(values) for name, values in self.attributes.items()}
        wrong = {name: size for name, size in sizes.items() if size != len(self.patient)}
        if wrong:
            raise DataError(
                f"embedded set: {len(self.patient)} patients, but other row counts in {wrong}",
                remedy="give every part one row per triplet, with NaN rows where a modality is missing",
            )

    def __len__(self) -> int:
        return len(self.patient)

    def _matrix(self, name: str) -> Float32:
        matrix: Float32 = getattr(self, name)
        if matrix.ndim != 2:
            raise DataError(f"embedded set: {name} has shape {matrix.shape}, expected [rows, width]")
        return matrix

    def has(self, name: Field) -> Mask:
        """Bool [n]: the rows whose ``name`` is there (not NaN; for ``report``: not None)."""
        if name == "report":
            return np.array([words is not None for words in self.report], dtype=np.bool_)
        matrix = self._matrix(name)
        if matrix.shape[1] == 0:
            return np.zeros(len(self), dtype=np.bool_)
        present: Mask = np.logical_not(np.isnan(matrix).any(axis=1), dtype=np.bool_)
        return present

    def select(self, rows: Mask | Indices) -> EmbeddedSet:
        """The rows where a bool mask [n] is true, or the rows of an index array, in its order."""
        index = np.flatnonzero(rows) if rows.dtype == np.bool_ else np.asarray(rows, dtype=np.intp)
        if rows.dtype == np.bool_ and len(rows) != len(self):
            raise DataError(f"embedded set: a mask of {len(rows)} rows for a set of {len(self)}")
        return EmbeddedSet(
            patient=[self.patient[i] for i in index],
            site=[self.site[i] for i in index],
            xray=self.xray[index],
            ecg=self.ecg[index],
            text=self.text[index],
            report=[self.report[i] for i in index],
            xray_features=self.xray_features[index],
            ecg_features=self.ecg_features[index],
            labels={label: values[index] for label, values in self.labels.items()},
            attributes=_select_attributes(self.attributes, index),
        )

    @classmethod
    def concatenate(cls, sets: Sequence[EmbeddedSet]) -> EmbeddedSet:
        """All rows of all sets, in order. A label that a set does not know is NaN there, an attribute empty.

        A set without a single row of a modality may have any width for it. Raises DataError for widths that differ
        otherwise, and for an empty sequence.
        """
        if not sets:
            raise DataError("embedded set: nothing to concatenate")
        names = list(dict.fromkeys(label for part in sets for label in part.labels))
        facts = list(dict.fromkeys(name for part in sets for name in part.attributes))
        matrices = {name: _stack([part._matrix(name) for part in sets], name) for name in _MATRICES}
        return cls(
            patient=[patient for part in sets for patient in part.patient],
            site=[site for part in sets for site in part.site],
            report=[words for part in sets for words in part.report],
            labels={name: np.concatenate([_label_or_nan(part, name) for part in sets]) for name in names},
            attributes={
                name: [text for part in sets for text in part.attributes.get(name, [""] * len(part))] for name in facts
            },
            **matrices,
        )

    def embedding(self, name: Embedding) -> Float32:
        """The embedding matrix [n, d] of one part."""
        return self._matrix(name)

    def has_features(self, modality: ImageOrTrace) -> Mask:
        """Bool [n]: the rows with pre-projection features of one modality."""
        return self.has("xray_features" if modality == "xray" else "ecg_features")

    def features(self, modality: ImageOrTrace) -> Float32:
        """The pre-projection features [n, D] of one modality."""
        return self.xray_features if modality == "xray" else self.ecg_features

    def target(self, label: str, policy: UncertaintyPolicy) -> Float64:
        """Float64 [n] of 0, 1 and NaN for one label; all NaN where the set does not know the label."""
        return settle_uncertain(_label_or_nan(self, label), policy, label=label)


@dataclass(frozen=True, slots=True, eq=False)
class ScoredLabel:
    """One task, scored: higher ``score`` means more likely present.

    ``y`` is float64 [n] of 0, 1 or NaN (not stated), ``score`` float64 [n] with NaN where the model gave none;
    ``patient`` and ``site`` have n entries, and so has each of ``attributes`` (as in `EmbeddedSet`). ``reason`` is set
    when the task could not be scored at all.

    Raises DataError for unequal lengths and for any other value in ``y`` (settle uncertain labels first).
    """

    task: LabelTask
    y: Float64
    score: Float64
    patient: Sequence[str]
    site: Sequence[str]
    reason: str | None = None
    attributes: Mapping[str, Sequence[str]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        sizes = {len(self.y), len(self.score), len(self.patient), len(self.site)}
        sizes |= {len(values) for values in self.attributes.values()}
        if len(sizes) != 1:
            raise DataError(f"scores of {self.task.label}: y, score, patient, site and attributes differ in length")
        if not np.isin(self.y[~np.isnan(self.y)], (0.0, 1.0)).all():
            raise DataError(
                f"scores of {self.task.label}: y holds values other than 0, 1 and NaN",
                remedy="apply an uncertainty policy (settle_uncertain) before scoring",
            )

    def select(self, rows: Mask | Indices) -> ScoredLabel:
        """The rows where a bool mask [n] is true, or the rows of an index array, in its order."""
        index = np.flatnonzero(rows) if rows.dtype == np.bool_ else np.asarray(rows, dtype=np.intp)
        return ScoredLabel(
            task=self.task,
            y=self.y[index],
            score=self.score[index],
            patient=[self.patient[i] for i in index.tolist()],
            site=[self.site[i] for i in index.tolist()],
            reason=self.reason,
            attributes=_select_attributes(self.attributes, index),
        )


def settle_uncertain(values: Float64, policy: UncertaintyPolicy, *, label: str = "label") -> Float64:
    """Labels [n] of 1, 0, -1, NaN as a new array of 1, 0, NaN.

    Raises DataError for any other value, and for policy ``published``, which one label alone cannot follow.
    """
    if policy == "published":
        raise DataError(
            f"{label}: the published policy drops a row for any of its labels, so one label alone cannot be settled",
            remedy="settle the whole set first (settled or settle_labels), then score with policy 'ignore'",
        )
    stated = values[~np.isnan(values)]
    if not np.isin(stated, (0.0, 1.0, UNCERTAIN)).all():
        odd = sorted({float(value) for value in stated} - {0.0, 1.0, UNCERTAIN})
        raise DataError(f"{label}: label values {odd[:5]} are none of 1, 0, -1 and NaN")
    replacement = {"ignore": np.nan, "zero": 0.0, "one": 1.0}[policy]
    return np.where(values == UNCERTAIN, replacement, values).astype(np.float64)


def apply_published(labels: Mapping[str, Float64]) -> dict[str, Float64]:
    """The published policy over the labels of one modality, each float64 [n] of 1, 0, -1, NaN.

    Gives new arrays [n] of 1 and 0, and NaN in every label for a row that is dropped. Only rows that have the modality
    may be given: a study that does not exist would become a negative. Raises DataError for other values and for columns
    of different lengths.
    """
    if len({len(values) for values in labels.values()}) > 1:
        raise DataError("the labels of one set have different numbers of rows")
    if not labels:
        return {}
    stated = {label: settle_uncertain(values, "ignore", label=label) for label, values in labels.items()}
    dropped = np.any([values == UNCERTAIN for values in labels.values()], axis=0)
    return {label: np.where(dropped, np.nan, np.nan_to_num(values, nan=0.0)) for label, values in stated.items()}


def settle_labels(labels: Mapping[str, Float64], policy: UncertaintyPolicy) -> dict[str, Float64]:
    """All labels of one modality, each float64 [n] of 1, 0, -1, NaN, as new arrays of 1, 0, NaN; any policy.

    Where X-ray and ECG labels stand side by side use `more_model.evaluation.uncertainty.settled`: it keeps them apart.
    """
    if policy == "published":
        return apply_published(labels)
    return {label: settle_uncertain(values, policy, label=label) for label, values in labels.items()}


def score_task(
    embedded: EmbeddedSet, task: LabelTask, policy: UncertaintyPolicy, score: Callable[[EmbeddedSet], Float64 | str]
) -> ScoredLabel:
    """Scores the rows of ``embedded`` whose label is stated; ``score`` gets those rows, or answers with a reason.

    Which rows take part depends on the data alone, never on the model, so any two arms stay comparable row by row.
    """
    target = embedded.target(task.label, policy)
    rows = embedded.select(~np.isnan(target))
    answer = score(rows)
    unscored = np.full(len(rows), np.nan)
    return ScoredLabel(
        task=task,
        y=target[~np.isnan(target)],
        score=unscored if isinstance(answer, str) else answer,
        patient=rows.patient,
        site=rows.site,
        reason=answer if isinstance(answer, str) else None,
        attributes=rows.attributes,
    )


def _select_attributes(attributes: Mapping[str, Sequence[str]], index: Indices) -> dict[str, list[str]]:
    return {name: [values[i] for i in index.tolist()] for name, values in attributes.items()}


def _label_or_nan(part: EmbeddedSet, label: str) -> Float64:
    values = part.labels.get(label)
    return np.full(len(part), np.nan) if values is None else np.asarray(values, dtype=np.float64)


def _stack(parts: Sequence[Float32], name: str) -> Float32:
    widths = {part.shape[1] for part in parts if not np.isnan(part).all()}
    if len(widths) > 1:
        raise DataError(f"embedded set: {name} has different widths {sorted(widths)} in the sets to concatenate")
    width = widths.pop() if widths else max(part.shape[1] for part in parts)
    blank = [np.isnan(part).all() for part in parts]
    filled = [
        np.full((len(part), width), np.nan, dtype=np.float32) if empty else part
        for part, empty in zip(parts, blank, strict=True)
    ]
    return np.concatenate(filled)
