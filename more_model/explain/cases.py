"""The cases that explanations are checked on: one study, one finding, and whether the patient has it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from more_model.cohort_file import Cohort
from more_model.data.study import Modality, Split
from more_model.errors import DataError
from more_model.evaluation.embedded import ImageOrTrace, Indices, LabelTask, Mask
from more_model.explain.pointing import Film
from more_model.training.examples import Examples
from more_model.training.seeds import derived_seed

#: Labels that say that nothing is there: nothing can be pointed at.
ABSENCES = frozenset({"No Finding", "NORM"})
#: Studies that the average picture is taken over, at most.
_MOST_AVERAGED = 2000


@dataclass(frozen=True, slots=True, eq=False)
class Cases:
    """n cases of one modality. ``row`` points into ``examples``; ``present`` is the label; ``film`` is None where no
    lesion of the finding is known. ``donor`` [n] points into ``reference`` (ECG: a study without the finding).
    ``average`` is the mean picture of the reference studies, float32 [S, S] (empty for ECGs)."""

    modality: ImageOrTrace
    examples: Examples
    row: Indices
    label: tuple[str, ...]
    present: Mask
    film: tuple[Film | None, ...]
    reference: Examples
    donor: Indices
    average: Tensor

    def __len__(self) -> int:
        return len(self.row)

    @property
    def patient(self) -> list[str]:
        """The patient of each case."""
        return [self.examples.triplets[row].patient_id for row in self.row.tolist()]

    @property
    def site(self) -> list[str]:
        """The site of each case."""
        return [self.examples.triplets[row].site for row in self.row.tolist()]

    def inputs(self, places: Sequence[int]) -> Tensor:
        """Float32 studies [k, ...] as the towers take them."""
        rows = self.row[list(places)].tolist()
        return self.examples.xrays(rows).float() if self.modality == "xray" else self.examples.ecgs(rows)

    def baseline(self, places: Sequence[int], inputs: Tensor) -> Tensor:
        """What removed cells are replaced by, of the shape of ``inputs``.

        X-rays: the average picture, its brightness and contrast fitted to the picture by least squares. ECGs: a tracing
        of another patient without the finding; an average over tracings would be a flat line, which no tracing is.
        """
        if self.modality == "ecg":
            return self.reference.ecgs(self.donor[list(places)].tolist())
        level, shape = inputs.mean(dim=(1, 2), keepdim=True), self.average - self.average.mean()
        slope = (inputs * shape).sum(dim=(1, 2), keepdim=True) / (shape**2).sum().clamp(min=1e-6)
        return (level + slope * shape).clamp(0, 255)


def gather_cases(
    cohort: Cohort,
    tasks: Sequence[LabelTask],
    modality: ImageOrTrace,
    *,
    films: Mapping[str, Film],
    split: Split,
    reference: Split,
    per_label: int,
    seed: int,
) -> Cases:
    """At most ``per_label`` studies with and as many without each finding, drawn from the patients of ``split``.

    Raises:
        DataError: there is no case, or no reference study.
    """
    examples = _having(cohort.examples.of_split(split), modality)
    known = _having(cohort.examples.of_split(reference), modality)
    labels = [task.label for task in tasks if task.modality == modality and task.label not in ABSENCES]
    drawn: list[tuple[int, str, bool]] = []
    for label in labels:
        sides = [[row for row, one in enumerate(examples.triplets) if one.labels.get(label) == y] for y in (1.0, 0.0)]
        # As many of both: the two sides of a difference must hold the same mixture of findings.
        count = min(per_label, *map(len, sides))
        for present, rows in zip((True, False), sides, strict=True):
            order = np.random.default_rng(derived_seed("cases", seed, label, int(present))).permutation(len(rows))
            drawn += [(rows[place], label, present) for place in order[:count].tolist()]
    if not any(present for _, _, present in drawn):
        raise DataError(
            f"no {modality} study of the {split.value} split has one of the findings asked for",
            remedy="check the labels and the split",
        )
    if len(known) == 0:
        raise DataError(
            f"the cohort has no {modality} study in its {reference.value} split; removed parts of a study are replaced "
            "by what they look like there",
            remedy="give a cohort with training patients",
        )
    names = _study_ids(cohort, examples) if films else {}
    film = [films.get(names.get(row, "")) for row, _, _ in drawn]
    return Cases(
        modality=modality,
        examples=examples,
        row=np.array([row for row, _, _ in drawn], dtype=np.intp),
        label=tuple(label for _, label, _ in drawn),
        present=np.array([present for _, _, present in drawn], dtype=np.bool_),
        film=tuple(
            found if found is not None and present and label in found.lesions else None
            for found, (_, label, present) in zip(film, drawn, strict=True)
        ),
        reference=known,
        donor=_donors(known, [label for _, label, _ in drawn], seed),
        average=_average_picture(known) if modality == "xray" else torch.empty(0),
    )


def _having(examples: Examples, modality: ImageOrTrace) -> Examples:
    return examples.where(lambda triplet: (triplet.xray if modality == "xray" else triplet.ecg) is not None)


def _study_ids(cohort: Cohort, examples: Examples) -> dict[int, str]:
    """The id of the X-ray of each row of ``examples``."""
    of_site = [
        {record.row: record.study_id for record in site.store.records if record.modality is Modality.XRAY}
        for site in cohort.sites
    ]
    return {
        row: of_site[examples.source_of[row]][triplet.xray]
        for row, triplet in enumerate(examples.triplets)
        if triplet.xray is not None
    }


def _donors(known: Examples, labels: Sequence[str], seed: int) -> Indices:
    """For each case a row of ``known`` that states the finding absent; any row where none does."""
    generator = np.random.default_rng(derived_seed("donors", seed))
    everyone = list(range(len(known)))
    without = {
        label: [row for row, triplet in enumerate(known.triplets) if triplet.labels.get(label) == 0.0] or everyone
        for label in sorted(set(labels))
    }
    return np.array([generator.choice(without[label]) for label in labels], dtype=np.intp)


def _average_picture(known: Examples) -> Tensor:
    rows = range(min(len(known), _MOST_AVERAGED))
    total = sum((known.xrays([row])[0].double() for row in rows), torch.zeros(()))
    return (total / len(rows)).float()


def gather_all(
    cohort: Cohort, tasks: Sequence[LabelTask], *, films: Mapping[str, Film], split: Split, per_label: int, seed: int
) -> list[Cases]:
    """The cases of each modality that has any; removed parts are replaced by what the training patients show.

    Raises:
        DataError: there are none at all, or none with a known lesion although films are given.
    """
    modalities: tuple[ImageOrTrace, ...] = ("xray", "ecg")
    gathered, refusals = [], []
    for modality in modalities:
        try:
            gathered.append(
                gather_cases(
                    cohort, tasks, modality, films=films, split=split, reference=Split.TRAIN, per_label=per_label,
                    seed=seed,
                )
            )  # fmt: skip
        except DataError as refusal:
            refusals.append(refusal)
    if not gathered:
        raise refusals[0]
    if films and not any(film is not None for cases in gathered for film in cases.film):
        raise DataError(
            "the lesion table names no X-ray of these patients with a finding asked for",
            remedy="give the table that was written with this cohort",
        )
    return gathered
