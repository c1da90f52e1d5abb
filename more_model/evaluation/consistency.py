"""Cross-modal consistency: given an X-ray, find an ECG of the same patient; and the reverse.

Unlike the directions of `more_model.evaluation.retrieval`, this looks at every study of the patients who have both, not
at the pairs that a pairing rule made of them. No words take part, so nothing but the two towers can be good at it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from more_model.errors import DataError
from more_model.evaluation.embedded import Float32, Indices
from more_model.evaluation.retrieval import best_hit_ranks, codes, no_figures, rank_figures


@dataclass(frozen=True, slots=True, eq=False)
class Studies:
    """All studies of one modality: ``vectors`` float32 [n, d] of unit rows, ``patient`` and ``site`` of n entries.

    Raises DataError where the parts differ in length.
    """

    vectors: Float32
    patient: Sequence[str]
    site: Sequence[str]

    def __post_init__(self) -> None:
        if not len(self.vectors) == len(self.patient) == len(self.site):
            raise DataError("studies: vectors, patient and site differ in length")

    @property
    def owners(self) -> list[tuple[str, str]]:
        """Whose each study is: two hospitals may number their patients alike."""
        return list(zip(self.site, self.patient, strict=True))

    def select(self, rows: Indices) -> Studies:
        """The studies of ``rows``, in that order."""
        numbers = rows.tolist()
        return Studies(self.vectors[rows], [self.patient[i] for i in numbers], [self.site[i] for i in numbers])


def consistency(xrays: Studies, ecgs: Studies, *, replicates: int = 0, seed: int = 0) -> dict[str, Any]:
    """``{"patients": n, "xray->ecg": {...}, "ecg->xray": {...}}`` with the figures of
    `more_model.evaluation.retrieval.rank_figures`; None, with a ``reason``, where fewer than two patients have both.

    Queries and candidates are the studies of patients who have at least one of each; a study of the same patient is a
    hit, equal similarities are ranked pessimistically. Intervals resample patients, candidates kept.
    """
    both = set(xrays.owners) & set(ecgs.owners)
    xrays, ecgs = (studies.select(_of(studies, both)) for studies in (xrays, ecgs))
    return {
        "patients": len(both),
        "xray->ecg": _direction(xrays, ecgs, len(both), replicates=replicates, seed=seed),
        "ecg->xray": _direction(ecgs, xrays, len(both), replicates=replicates, seed=seed),
    }


def consistency_by_site(
    xrays: Studies, ecgs: Studies, *, replicates: int = 0, seed: int = 0
) -> dict[str, dict[str, Any]]:
    """`consistency` within each site alone. Sites in alphabetical order."""
    return {
        site: consistency(
            xrays.select(_at(xrays, site)), ecgs.select(_at(ecgs, site)), replicates=replicates, seed=seed
        )
        for site in sorted({*xrays.site, *ecgs.site})
    }


def _of(studies: Studies, owners: set[tuple[str, str]]) -> Indices:
    return np.flatnonzero(np.array([owner in owners for owner in studies.owners], dtype=np.bool_))


def _at(studies: Studies, site: str) -> Indices:
    return np.flatnonzero(np.array([own == site for own in studies.site], dtype=np.bool_))


def _direction(query: Studies, target: Studies, patients: int, *, replicates: int, seed: int) -> dict[str, Any]:
    if patients < 2:
        return no_figures(len(target.vectors), f"{patients} patients have both an X-ray and an ECG")
    code = codes([*query.owners, *target.owners])
    own, other = code[: len(query.vectors)], code[len(query.vectors) :]
    ranks, hits = best_hit_ranks(query.vectors, target.vectors, lambda rows: own[rows, None] == other[None, :])
    return rank_figures(
        ranks,
        hits,
        len(target.vectors),
        patient=query.patient,
        site=query.site,
        replicates=replicates,
        seed=seed,
    )
