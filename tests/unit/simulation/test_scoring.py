from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from more_model.data.study import Triplet
from simulation.scoring import Scorer
from simulation.workbench import Workbench


@pytest.fixture
def scorer(miniature_bench: Workbench) -> Scorer:
    """The miniature's questions without the probe, some of the labels hedged and some not stated."""
    found = miniature_bench.scorer
    choice = found.choice.model_copy(update={"linear_probe": False, "retrieval": False, "replicates": 50})
    generator = np.random.default_rng(0)

    def hedged(triplet: Triplet) -> Triplet:
        labels = {name: -1.0 if generator.random() < 0.02 else value for name, value in triplet.labels.items()}
        return replace(triplet, labels={name: v for name, v in labels.items() if generator.random() > 0.1})

    test = replace(found.test, triplets=tuple(hedged(triplet) for triplet in found.test.triplets))
    return replace(found, choice=choice, test=test)


def with_policy(scorer: Scorer, policy: str) -> Scorer:
    return replace(scorer, choice=type(scorer.choice)(**{**scorer.choice.model_dump(), "uncertainty": policy}))


def test_the_published_policy_counts_blanks_and_drops_hedged_rows(miniature_bench: Workbench, scorer: Scorer) -> None:
    model = miniature_bench.assembled().model
    scores = with_policy(scorer, "published").score(model)
    dropped = 0
    for modality in ("xray", "ecg"):
        labels = [task.label for task in scorer.prompts.tasks if task.modality == modality]
        have = [t for t in scorer.test.triplets if getattr(t, modality) is not None]
        kept = [t for t in have if not any(t.labels.get(label) == -1.0 for label in labels)]
        asked = [item for item in scores.zero_shot if item.task.modality == modality]
        dropped += len(have) - len(kept)
        assert len(kept) > 0
        for item in asked:
            assert list(item.patient) == [triplet.patient_id for triplet in kept]
            assert item.y.tolist() == [float(t.labels.get(item.task.label) == 1.0) for t in kept]
    assert dropped > 0
    ignored = with_policy(scorer, "ignore").score(model).zero_shot
    assert any(len(a.y) != len(b.y) for a, b in zip(scores.zero_shot, ignored, strict=True))


def test_rows_under_the_published_policy_do_not_depend_on_the_model(miniature_bench: Workbench, scorer: Scorer) -> None:
    broken = miniature_bench.random_model()
    for parameter in broken.xray.parameters():
        parameter.data.fill_(float("nan"))
    published = with_policy(scorer, "published")
    whole, lost = (published.score(model).zero_shot for model in (miniature_bench.assembled().model, broken))
    for one, other in zip(whole, lost, strict=True):
        assert list(one.patient) == list(other.patient)
        np.testing.assert_array_equal(one.y, other.y)


def test_an_arm_has_a_metrics_table_calibrated_on_its_validation_patients(
    miniature_bench: Workbench, scorer: Scorer
) -> None:
    model = miniature_bench.assembled().model
    scores = scorer.score(model)
    table: dict[str, Any] = scorer.table(scores)
    assert table["metrics"]["macro"]["auroc"] == table["macro_auroc"]
    assert table["metrics"]["macro"]["ci95"] == table["ci95"]
    assert table["metrics"]["micro"]["cells"] > 0
    site = miniature_bench.sites[0]
    alone = scorer.score(model, probe_site=site)
    assert {name for item in alone.validation for name in item.site} == {site}
    assert {name for item in scores.validation for name in item.site} == set(miniature_bench.sites)
