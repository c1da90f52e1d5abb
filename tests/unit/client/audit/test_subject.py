"""The subject as `more-privacy audit` sees it, and its embeddings of test patients."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from client.audit.reidentify import embedded_pairs
from client.audit.site import AuditedSite
from client.audit.subject import open_subject
from more_model.cohort_file import load_cohort
from more_model.errors import DataError


def test_a_run_is_a_subject(miniature_run: Any) -> None:
    seen: list[tuple[str, int, int]] = []
    subject = open_subject(miniature_run.out, None, lambda *progress: seen.append(progress))
    assert "the fewest training patients" in subject.name()
    assert subject.claimed().mode == "none"
    scores = subject.membership_scores(2)
    assert scores.references == 2
    assert seen == [("reference trainings", 1, 2), ("reference trainings", 2, 2)]
    assert subject.canary_scores(4, np.array([True, False, True, False])).scores.shape == (4,)
    assert seen[2:] == [("training with canaries", 1, 2), ("training with canaries", 2, 2)]
    assert subject.head_leaks()
    assert subject.token_leaks()


def test_a_named_site_is_not_called_the_smallest(miniature_run: Any) -> None:
    name = load_cohort(miniature_run.out).sites[0].name
    assert open_subject(miniature_run.out, name).name() == f"run, site {name}"


def test_embeddings_are_of_test_patients_with_both(open_run: AuditedSite) -> None:
    both = [t for t in open_run.test.triplets if t.xray is not None and t.ecg is not None]
    found = embedded_pairs(open_run)
    assert found.xray.shape == found.ecg.shape == (len(both), 8)
    assert np.allclose(np.linalg.norm(found.xray, axis=1), 1, atol=1e-5)
    numbers = {t.patient_id: int(n) for t, n in zip(both, found.patients, strict=True)}
    assert sorted(set(numbers.values())) == list(range(len(numbers)))


def test_a_site_without_such_patients_is_refused(open_run: AuditedSite) -> None:
    with pytest.raises(DataError, match="fewer than two test patients"):
        embedded_pairs(replace(open_run, test=open_run.test.where(lambda triplet: triplet.ecg is None)))
