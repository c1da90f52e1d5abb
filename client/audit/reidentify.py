"""Embeddings of test patients who have both an X-ray and an ECG: does one betray the other?"""

from __future__ import annotations

import numpy as np

from client.audit.site import AuditedSite, patients_of
from more_model.errors import DataError
from more_model.training.embed import embed
from privacy.audit.subject import Embedded


def embedded_pairs(site: AuditedSite) -> Embedded:
    """What the released model makes of every test triplet with an X-ray and an ECG, in the shared space.

    All are of one hospital: its own look cannot help to find the counterpart. Patients are numbered in the order of
    their triplets.

    Raises:
        DataError: fewer than two test patients have both.
    """
    both = site.test.where(lambda triplet: triplet.xray is not None and triplet.ecg is not None)
    patients = patients_of(both)
    if len(patients) < 2:
        raise DataError("fewer than two test patients of the site have both an X-ray and an ECG")
    found = embed(site.released.model, both, threads=site.threads, **site.words)
    numbers = {patient: number for number, patient in enumerate(patients)}
    rows = np.array([numbers[triplet.patient_id] for triplet in both.triplets], dtype=np.int64)
    return Embedded(found.xray, found.ecg, rows)
