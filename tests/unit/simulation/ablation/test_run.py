"""`more-sim ablate` from a configuration to table, figure and page; with failing variants, resumed, and refused."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from more_model.checkpoint import load_checkpoint
from more_model.model.lora import lora_factors

Ablate = Callable[..., Any]


def summary_in(out: Path) -> dict[str, Any]:
    return json.loads((out / "ablation.json").read_text(encoding="utf-8"))  # type: ignore[no-any-return]


def rows_in(out: Path) -> dict[str, Any]:
    return {row["name"]: row for row in summary_in(out)["variants"]}


def trained(out: Path) -> set[str]:
    return {path.name for path in (out / "trained").iterdir()}


def test_one_failing_variant_costs_no_other_and_ends_with_code_7(finished: Any) -> None:
    assert finished.result.exit_code == 7, finished.result.output
    summary = summary_in(finished.out)
    assert json.loads(finished.result.stdout) == summary
    assert (summary["status"], summary["failed"]) == ("partial", ["pairing-admission-window"])
    assert "admissions.csv" in rows_in(finished.out)["pairing-admission-window"]["reason"]
    assert {row["state"] for name, row in rows_in(finished.out).items() if name not in summary["failed"]} == {
        "complete"
    }
    assert "pairing-admission-window failed" in finished.result.stderr


def test_every_row_is_paired_with_the_reference_on_the_same_labels(finished: Any) -> None:
    rows = rows_in(finished.out)
    for row in (row for row in rows.values() if row["state"] == "complete"):
        measured = row["zero_shot"]
        difference = measured["difference"]
        assert difference["paired"] is True
        mine, theirs = measured["variant"]["per_label"], measured["reference"]["per_label"]
        values = [mine[label]["auroc"] - theirs[label]["auroc"] for label in difference["labels"]]
        assert difference["macro_auroc"] == pytest.approx(np.mean(values))
        assert difference["ci95"][0] <= difference["macro_auroc"] <= difference["ci95"][1]
        assert all(mine[label]["positives"] == theirs[label]["positives"] for label in mine)
    assert set(rows["unseen"]["zero_shot"]["variant"]["per_label"]) == {"Edema", "MI"}
    assert {e["modality"] for e in rows["missing-ecg"]["zero_shot"]["variant"]["per_label"].values()} == {"xray"}
    north = rows["without-site-2"]
    assert north["tested_at"] == "site-2"
    assert north["training_triplets"] < summary_in(finished.out)["reference"]["training_triplets"]
    everywhere = summary_in(finished.out)["reference"]["zero_shot"]["variant"]["per_label"]
    there = north["zero_shot"]["reference"]["per_label"]
    assert all(there[label]["negatives"] < everywhere[label]["negatives"] for label in there)


def test_nothing_is_trained_twice_and_the_reference_is_its_own_value(finished: Any) -> None:
    row = rows_in(finished.out)["lora-rank-2"]
    assert row["is_reference"] and row["same_as_reference"]
    assert row["zero_shot"]["difference"]["macro_auroc"] == 0.0
    others = [r for r in rows_in(finished.out).values() if r["state"] == "complete" and not r["same_as_reference"]]
    assert len(others) == 6
    assert all(r["zero_shot"]["variant"]["macro_auroc"] != row["zero_shot"]["variant"]["macro_auroc"] for r in others
               if r["name"] in ("lora-none", "attention-linear", "pairing-none"))  # fmt: skip
    assert len(trained(finished.out)) == len(others) + 1
    # Of its own: the model without adapters, and with other attention.
    assert len(list((finished.out / "workspace" / "bases").iterdir())) == 2


def test_without_lora_only_heads_and_tokeniser_travel(finished: Any) -> None:
    row, reference = rows_in(finished.out)["lora-none"], summary_in(finished.out)["reference"]
    assert row["exchanged_bytes"] < reference["exchanged_bytes"]
    model = load_checkpoint(finished.out / "variants" / "lora-none" / "checkpoints" / "centralized.safetensors").model
    assert not list(lora_factors(model, "A"))
    wide = load_checkpoint(finished.out / "variants" / "reference" / "checkpoints" / "centralized.safetensors").model
    assert list(lora_factors(wide, "A"))


def test_a_base_that_was_not_filtered_is_told(finished: Any) -> None:
    assert "was not filtered" in rows_in(finished.out)["unseen"]["notes"][0]
    assert rows_in(finished.out)["lora-none"]["notes"] == []


def test_the_directory_holds_page_and_figure(finished: Any) -> None:
    names = {"config.toml", "environment.json", "events.jsonl", "ablation.json", "ablation.html", "cohort.toml"}
    assert names <= {path.name for path in finished.out.iterdir()}
    assert (finished.out / "figures" / "ablation.png").read_bytes().startswith(b"\x89PNG")
    page = (finished.out / "ablation.html").read_text(encoding="utf-8")
    for words in (
        "SYNTHETIC DATA",
        "no LoRA",
        "Unseen conditions, zero-shot",
        "Variants that failed",
        "<svg",
        "trained once",
    ):
        assert words in page
    events = [json.loads(line)["event"] for line in (finished.out / "events.jsonl").read_text().splitlines()]
    assert events.count("variant failed") == 1 and events.count("variant complete") == 7


def test_resume_tries_the_failed_one_again_and_trains_nothing_that_is_there(
    finished: Any, ablate: Ablate, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = Path(shutil.copytree(finished.out, tmp_path / "run"))
    before, known = rows_in(out), trained(out)
    (out / "variants" / "pairing-none" / "result.json").unlink()
    admissions = finished.config.parent / "admissions.csv"
    stays = "".join(f"{10_000_000 + n},{n},1900-01-01 00:00:00,1900-01-02 00:00:00\n" for n in range(60))
    admissions.write_text("subject_id,hadm_id,admittime,dischtime\n" + stays, encoding="utf-8")
    import simulation.arms

    calls: list[object] = []
    train = simulation.arms.train_segment
    monkeypatch.setattr(simulation.arms, "train_segment", lambda *a, **k: (calls.append(a), train(*a, **k))[1])
    try:
        result = ablate(finished.config, "--out", out, "--resume")
    finally:
        admissions.unlink()
    assert result.exit_code == 0, result.output
    assert "Status: complete" in result.stdout
    after = rows_in(out)
    assert {name: after[name] for name in before if name != "pairing-admission-window"} == {
        name: row for name, row in before.items() if name != "pairing-admission-window"
    }
    assert after["pairing-admission-window"]["state"] == "complete"
    # No study lies within these stays: the same training as without pairing, which is there under its content.
    assert not calls and trained(out) == known


def test_a_bug_in_one_variant_is_recorded_without_what_it_said(
    finished: Any, ablate: Ablate, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import simulation.ablation.run as module

    def broken(bench: Any, config: Any, variant: Any) -> Any:
        if variant.name == "lora-none":
            raise KeyError("patient 10000007")
        return bench_of(bench, config, variant)

    bench_of = module.bench_of
    monkeypatch.setattr(module, "bench_of", broken)
    out = Path(shutil.copytree(finished.out, tmp_path / "run"))
    for folder in ("trained", "variants"):
        shutil.rmtree(out / folder)
    result = ablate(finished.config, "--out", out, "--resume", "--only", "lora-none", "--only", "lora-rank-2")
    assert result.exit_code == 7
    assert "10000007" not in result.output + (out / "ablation.json").read_text() + (out / "events.jsonl").read_text()
    assert "KeyError" in rows_in(out)["lora-none"]["reason"]
    assert "10000007" in (out / "variants" / "lora-none" / "traceback.txt").read_text()
    assert rows_in(out)["lora-rank-2"]["state"] == "complete"
    assert "unseen" in summary_in(out)["not_run"]
    # Trained a second time, to the same digits.
    assert summary_in(out)["reference"]["zero_shot"] == summary_in(finished.out)["reference"]["zero_shot"]


def test_a_federated_ablation_over_seeds(ablate: Ablate, write_ablation: Any, tmp_path: Path) -> None:
    changes = {"arms": ["federated"], "federation": {"rounds": {"rounds": 1}}}
    changes["evaluation"] = {"linear_probe": True, "replicates": 20, "labels": ["Lung Opacity", "No Finding", "NORM"]}
    changes |= {"data": {"synthetic": {"patients": 40}}, "partition": {"sites": 2}}
    config = write_ablation(tmp_path, {"hospitals": ["site-2"]}, changes)
    result = ablate(config, "--out", tmp_path / "run", "--seeds", "2")
    assert result.exit_code == 0, result.output
    assert "federated, mean of 2 seeds" in result.stdout
    row = rows_in(tmp_path / "run")["without-site-2"]
    difference = row["zero_shot"]["difference"]
    assert difference["macro_auroc"] == pytest.approx(np.mean(difference["over_seeds"]))
    assert row["linear_probe"]["difference"]["paired"] is True
    assert len(row["seconds"]) == 2


def test_bad_names_and_used_directories_are_refused(finished: Any, ablate: Ablate, tmp_path: Path) -> None:
    result = ablate(finished.config, "--out", tmp_path / "run", "--only", "lora", "--only", "dropout")
    assert result.exit_code == 2 and "--only lora:" in result.stderr and "--only dropout:" in result.stderr
    assert not (tmp_path / "run").exists()
    result = ablate(finished.config, "--out", finished.out)
    assert result.exit_code == 2 and "--resume" in result.stderr
    result = ablate(finished.config, "--out", tmp_path / "other", "--only", "without-nowhere")
    assert result.exit_code == 2 and "--only without-nowhere:" in result.stderr
    assert not (tmp_path / "other" / "workspace" / "base").exists()
