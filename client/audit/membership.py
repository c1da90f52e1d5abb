"""Level 3: whose record was trained on? The released model, calibrated with models trained on half of the patients.

After LiRA (Carlini et al. 2022, arXiv 2112.03570): a patient's score under the released model is compared with the
scores under reference models that were, and that were not, trained on this patient.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from client.audit.pairs import Vector, matched_margins, patient_means
from client.audit.retrain import retrained
from client.audit.site import AuditedSite, patients_of
from more_model.errors import ConfigError
from more_model.model.more import More
from more_model.training.examples import Examples
from more_model.training.seeds import derived_seed
from privacy.audit.subject import MembershipScores

Mask = npt.NDArray[np.bool_]


def membership_scores(
    site: AuditedSite,
    references: int,
    on_reference: Callable[[int, int], None] | None = None,
    *,
    target: More | None = None,
) -> MembershipScores:
    """`calibrated` scores of the site's training patients and of its held-out ones, one a patient.

    Members and outsiders come from one hospital, one scanner and one period, split by a hash of the patient; an attack
    that told apart two hospitals would prove nothing. Each of the ``references`` models is trained from the base on a
    random half of them, as the site trained; every patient is in half of the halves. target: another model than the
    released one, such as the last that the site sent.

    Raises:
        ConfigError: an odd number of references, or fewer than two.
    """
    if references < 2 or references % 2:
        raise ConfigError(
            "audit", [f"{references} reference models: must be even and at least 2, as halves come in pairs"]
        )
    pool = Examples.merged([site.members, site.outsiders])
    patients = patients_of(pool)
    inside = paired_halves(len(patients), references, derived_seed(site.seed, "audit", "halves"))
    scores = np.empty(inside.shape)
    for number, half in enumerate(inside):
        scores[number] = _of_patients(_reference(site, pool, patients, half, number), pool, site)
        if on_reference is not None:
            on_reference(number + 1, references)
    found = _of_patients(target or site.released.model, pool, site)
    above = calibrated(found, scores, inside)
    trained = set(patients_of(site.members))
    member = np.array([patient in trained for patient in patients])
    return MembershipScores(above[member], above[~member], references)


def paired_halves(patients: int, references: int, seed: int) -> Mask:
    """[references, patients]: rows come in pairs, a random half and its complement."""
    draws = np.random.default_rng(seed)
    rows: list[Mask] = []
    for _ in range(references // 2):
        half = draws.permutation(patients) < patients // 2
        rows += [half, ~half]
    return np.array(rows)


def calibrated(found: Vector, scores: Vector, inside: Mask) -> Vector:
    """How far the model that is attacked lies above what a patient scores by nature, in standard deviations, [n].

    found: [n] under that model. scores, inside: [references, n]. A patient's level is the middle between the means with
    and without the patient. The model was trained by all hospitals together and the references by one alone; what this
    shifts for all patients alike is taken away first.

    With one spread and one gain by membership for all patients, this orders them as the Gaussian likelihood ratio does.
    A gain for each patient, as in LiRA, would be better with hundreds of references; with a few its error is larger
    than its differences, and its sign is often wrong.
    """
    mean_in = np.where(inside, scores, 0).sum(axis=0) / inside.sum(axis=0)
    mean_out = np.where(inside, 0, scores).sum(axis=0) / (~inside).sum(axis=0)
    rest = scores - np.where(inside, mean_in, mean_out)
    freedom = max(1, scores.size - 2 * scores.shape[1])
    spread = float(np.sqrt(np.square(rest).sum() / freedom)) or 1.0
    level = (mean_in + mean_out) / 2
    return np.asarray((found - found.mean() + level.mean() - level) / spread, dtype=np.float64)


def _reference(site: AuditedSite, pool: Examples, patients: list[str], half: Mask, number: int) -> More:
    kept = {patient for patient, taken in zip(patients, half, strict=True) if taken}
    return retrained(
        site.start,
        pool.where(lambda triplet: triplet.patient_id in kept),
        site.recipe,
        site=site.name,
        words=site.words,
        seed=derived_seed(site.seed, "audit", "reference", number),
    )


def _of_patients(model: More, pool: Examples, site: AuditedSite) -> Vector:
    """[n], in the order of `patients_of`."""
    means = patient_means(pool, matched_margins(model, pool, site.words, site.threads))
    return np.array(list(means.values()))
