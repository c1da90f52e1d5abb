"""Every arm is measured and judged; what sites report of a round is pooled; notes survive an interruption."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from more_model.evaluation.finding import SIGNATURES
from more_model.exchange import WATCHED
from more_model.model.inventory import take_inventory
from server.journal import Participation, RoundRecord
from simulation.compare import build_summary
from simulation.flower_federation import train_federated
from simulation.health import pooled, read_notes, write_notes
from simulation.outcome import Outcome
from simulation.workbench import Workbench


@pytest.fixture(scope="module")
def arms(miniature_run: Any) -> dict[str, Any]:
    summary: dict[str, Any] = json.loads((miniature_run.out / "summary.json").read_text(encoding="utf-8"))
    return summary["arms"]  # type: ignore[no-any-return]


def verdicts(arm: dict[str, Any], code: str) -> set[str]:
    return {finding["verdict"] for finding in arm["health"]["findings"] if finding["code"] == code}


def test_every_arm_and_site_is_examined(arms: dict[str, Any]) -> None:
    models = {name: values for name, values in arms.items() if name != "local"}
    models |= {site: values for site, values in arms["local"].items() if site != "mean"}
    assert set(models) == {"centralized", "federated", "base", "random_encoder", "site-1", "site-2", "site-3"}
    for values in models.values():
        health = values["health"]
        assert {finding["code"] for finding in health["findings"]} == set(SIGNATURES)
        assert set(health["measures"]) == {"towers", "pairs", "segments", "attention", "wording", "seeds"}
    assert "health" not in arms["local"]["mean"]


def test_trained_arms_have_a_course_and_untrained_ones_none(arms: dict[str, Any]) -> None:
    for name in ("centralized", "federated"):
        segments = arms[name]["health"]["measures"]["segments"]
        assert [segment["segment"] for segment in segments] == [1, 2]
        assert all(set(segment) >= WATCHED for segment in segments)
        assert all({"auroc_xray", "auroc_ecg"} & set(segment) for segment in segments)
        assert "unknown" not in verdicts(arms[name], "loss") | verdicts(arms[name], "gradient")
    alone = arms["local"]["site-1"]["health"]["measures"]["segments"]
    assert all(set(segment) == {"segment", *WATCHED} for segment in alone)
    for name in ("base", "random_encoder"):
        assert arms[name]["health"]["measures"]["segments"] == []
        assert verdicts(arms[name], "loss") == verdicts(arms[name], "drag") == {"unknown"}


def test_random_weights_are_found_out(arms: dict[str, Any]) -> None:
    assert verdicts(arms["random_encoder"], "held_out") == {"alarm"}
    assert verdicts(arms["random_encoder"], "alignment") == {"alarm"}


def test_health_holds_no_patient(arms: dict[str, Any], miniature_bench: Workbench) -> None:
    written = json.dumps([values["health"] for name, values in arms.items() if name != "local"])
    triplets = miniature_bench.scorer.test.triplets
    assert triplets and not [t.patient_id for t in triplets if f'"{t.patient_id}"' in written]


def record(*parts: Participation) -> RoundRecord:
    return RoundRecord(1, parts, 1.0, None, 10, 1.0)


def test_rounds_are_pooled_by_pairs_and_steps() -> None:
    north = {"steps": 1.0, "pairs_xray": 30.0, "loss_xray": 2.0, "gradient_text": 1.0}
    south = {
        "steps": 3.0,
        "pairs_xray": 10.0,
        "loss_xray": 4.0,
        "gradient_text": 5.0,
        "pairs_ecg": 8.0,
        "loss_ecg": 7.0,
    }
    found = pooled(
        record(Participation("north", "accepted", None, north), Participation("south", "accepted", None, south))
    )
    assert found == {
        "loss_xray": pytest.approx(2.5),
        "gradient_text": pytest.approx(4.0),
        "loss_ecg": pytest.approx(7.0),
    }


def test_sites_that_were_not_accepted_have_no_say() -> None:
    counts = {"steps": 1.0, "pairs_xray": 30.0, "loss_xray": 2.0}
    assert pooled(record(Participation("north", "quarantined", "why", counts), Participation("south", "absent"))) == {}


def test_validation_figures_of_a_federation_survive_being_resumed(miniature_bench: Workbench, tmp_path: Path) -> None:
    bench = replace(miniature_bench, folder=tmp_path)
    first, _ = train_federated(bench, "federated", 3)
    notes = read_notes(tmp_path / "arms" / "federated")
    assert set(notes) == {1, 2}
    again, _ = train_federated(bench, "federated", 3)
    assert again.curve == first.curve
    assert all(point.watched.items() >= notes[point.segment].items() for point in first.curve)


def test_notes(tmp_path: Path) -> None:
    assert read_notes(tmp_path / "none") == {}
    write_notes(tmp_path / "arm", {1: {"auroc_ecg": 0.5}, 2: {}})
    write_notes(tmp_path / "arm", {1: {"auroc_ecg": 0.75}})
    assert read_notes(tmp_path / "arm") == {1: {"auroc_ecg": 0.75}}
    assert [path.name for path in (tmp_path / "arm").iterdir()] == ["validation.json"]


def test_seeds_that_disagree_are_found(miniature_bench: Workbench) -> None:
    scores = miniature_bench.scorer.score(miniature_bench.random_model())
    table = {**miniature_bench.scorer.table(scores), "health": {}}
    labels: list[dict[str, float | None]] = [{"Edema": 0.2}, {"Edema": 0.8}]
    summary = build_summary(
        miniature_bench,
        take_inventory(miniature_bench.assembled().model),
        {"federated": Outcome(table, scores, ())},
        [],
        {"federated": [0.70, 0.71]},
        label_seeds={"federated": labels},
    )
    health = summary["arms"]["federated"]["health"]
    (seeds,) = [finding for finding in health["findings"] if finding["code"] == "seeds"]
    assert seeds["verdict"] == "watch" and "Edema turned round" in seeds["sentence"]
    assert health["measures"]["seeds"] == {"macro": [0.70, 0.71], "per_label": labels}
