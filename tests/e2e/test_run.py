"""`more-sim run` from a configuration file to summary and report, killed, resumed, and given bad input."""

from __future__ import annotations

import hashlib
import json
import os
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from safetensors.numpy import load_file
from typer.testing import CliRunner, Result

from more_model.model.inventory import exchange_spec
from simulation.cli import app
from simulation.workbench import Workbench

Write = Callable[..., Path]

#: DESIGN section 8.
KEYS = {"schema", "cohort", "arms", "gap", "exchange", "privacy", "rounds", "status", "seed"}
ARMS = {"centralized", "federated", "local", "base", "random_encoder"}
QUICK = {"arms": ["federated"], "evaluation": {"linear_probe": False, "retrieval": False, "examples": 0}}


def more_sim(*arguments: object) -> Result:
    return CliRunner().invoke(app, ["run", *map(str, arguments)])


def summary_in(out: Path) -> dict[str, Any]:
    return json.loads((out / "summary.json").read_text(encoding="utf-8"))  # type: ignore[no-any-return]


def digests(folder: Path) -> dict[str, str]:
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def test_the_summary_has_every_key_of_the_design(miniature_run: Any) -> None:
    summary = summary_in(miniature_run.out)
    assert set(summary) >= KEYS
    assert (summary["schema"], summary["status"], summary["seed"], summary["synthetic"]) == (1, "complete", 3, True)
    assert set(summary["arms"]) == ARMS
    assert set(summary["arms"]["local"]) == {"site-1", "site-2", "site-3", "mean"}
    one_model = [*(ARMS - {"local"}), *((f"local/{n}") for n in ("site-1", "site-2", "site-3"))]
    for name in one_model:
        arm: dict[str, Any] = summary["arms"]
        for part in name.split("/"):
            arm = arm[part]
        assert {"macro_auroc", "ci95", "per_label", "per_site", "retrieval", "seconds", "linear_probe"} <= set(arm)
        for entry in arm["per_label"].values():
            assert {"auroc", "ci95", "positives", "negatives"} <= set(entry)
            assert entry["auroc"] is not None or entry["reason"]
    exchange = {"bytes_up_per_site_round", "bytes_down_per_site_round", "full_model_bytes", "trainable_fraction"}
    assert set(summary["exchange"]) >= exchange


def test_gaps_are_paired_and_have_intervals(miniature_run: Any) -> None:
    gap = summary_in(miniature_run.out)["gap"]
    assert set(gap) >= {"federated_minus_centralized", "federated_minus_local_mean"}
    for entry in gap.values():
        assert entry["paired"] is True
        low, high = entry["ci95"]
        assert low <= high and isinstance(entry["macro_auroc"], float)


def test_every_round_names_every_site_and_the_bytes_add_up(miniature_run: Any, miniature_bench: Workbench) -> None:
    summary, spec = summary_in(miniature_run.out), miniature_bench.assembled().spec
    assert [entry["round"] for entry in summary["rounds"]] == [1, 2]
    for entry in summary["rounds"]:
        assert {site: part["state"] for site, part in entry["sites"].items()} == {
            f"site-{number}": "accepted" for number in (1, 2, 3)
        }
        assert entry["bytes_up"] == 3 * spec.nbytes
        assert entry["loss"] > 0
    exchange = summary["exchange"]
    assert exchange["bytes_up_per_site_round"] == exchange["bytes_down_per_site_round"] == spec.nbytes
    assert exchange["full_model_bytes"] > 4 * spec.nbytes
    assert sum(sum(s["patients"].values()) for s in summary["cohort"]["sites"].values()) <= 60


def test_json_output_is_the_summary(miniature_run: Any) -> None:
    assert json.loads(miniature_run.stdout) == summary_in(miniature_run.out)


def test_the_directory_holds_what_the_design_says(miniature_run: Any) -> None:
    out = miniature_run.out
    for name in ("config.toml", "environment.json", "events.jsonl", "summary.json", "report.html"):
        assert (out / name).stat().st_size > 0
    events = [json.loads(line) for line in (out / "events.jsonl").read_text().splitlines()]
    assert events[0]["event"] == "started"
    assert events[-1] | {"time": ""} == {"time": "", "event": "finished", "status": "complete"}
    assert not list(out.rglob("*.part"))
    page = (out / "report.html").read_text(encoding="utf-8")
    assert "SYNTHETIC" in page.upper() and "http" not in page.split("<body", 1)[0].replace("http-equiv", "")


def test_checkpoints_hold_the_tensors_that_travel_and_nothing_else(
    miniature_run: Any, miniature_bench: Workbench
) -> None:
    spec = exchange_spec(miniature_bench.assembled().model)
    folders = [miniature_run.out / "checkpoints", miniature_run.out / "arms" / "federated" / "checkpoints"]
    files = [path for folder in folders for path in sorted(folder.iterdir())]
    assert {path.stem for path in files} == {
        "centralized", "federated", "base", "local-site-1", "local-site-2", "local-site-3", "round-0001", "round-0002",
    }  # fmt: skip
    for path in files:
        assert path.suffix == ".safetensors"
        spec.check(load_file(path))
    last = load_file(folders[1] / "round-0002.safetensors")
    final = load_file(folders[0] / "federated.safetensors")
    assert {name: array.tobytes() for name, array in last.items()} == {n: a.tobytes() for n, a in final.items()}


def test_the_report_explains_one_study_of_each_modality(miniature_run: Any) -> None:
    page = (miniature_run.out / "report.html").read_text(encoding="utf-8")
    assert "What the model looks at" in page
    assert page.count('<img class="picture" src="data:image/png;base64,') == 2
    for modality in ("xray", "ecg"):
        assert (miniature_run.out / "figures" / f"explanation-{modality}.png").stat().st_size > 1000


def test_no_patient_is_named_in_what_people_are_shown(miniature_run: Any, miniature_bench: Workbench) -> None:
    patients = {t.patient_id for cohort in miniature_bench.cohorts for t in cohort.examples.triplets}
    for name in ("summary.json", "report.html", "events.jsonl", "config.toml"):
        text = (miniature_run.out / name).read_text(encoding="utf-8")
        # The first id of the cohort's range stands in the configuration itself.
        assert {p for p in patients if p in text} <= {"10000000"}, name


def test_a_second_call_ends_with_code_2_and_loses_nothing(miniature_run: Any) -> None:
    before = digests(miniature_run.out)
    result = more_sim(miniature_run.config, "--out", miniature_run.out)
    assert result.exit_code == 2
    assert "there is a run already" in result.stderr
    assert "--resume" in result.stderr and "--overwrite" in result.stderr
    assert digests(miniature_run.out) == before


def test_resuming_with_another_seed_ends_with_code_2_and_loses_nothing(miniature_run: Any) -> None:
    before = digests(miniature_run.out)
    result = more_sim(miniature_run.config, "--out", miniature_run.out, "--resume", "--seed", "99")
    assert result.exit_code == 2
    assert "another configuration" in result.stderr
    assert digests(miniature_run.out) == before


def test_three_mistakes_end_with_code_2_before_anything_is_written(write_miniature: Write, tmp_path: Path) -> None:
    changes = {
        "model": {"overrides": {"lora": {"rank": -1}}},
        "training": {"learning_rate": -1},
        "federation": {"rounds": {"rounds": 0}},
    }
    result = more_sim(write_miniature(tmp_path, changes), "--out", tmp_path / "run")
    assert result.exit_code == 2
    assert "3 faults" in result.stderr
    for place in ("training.learning_rate", "federation.rounds.rounds", "model: lora.rank"):
        assert place in result.stderr
    assert not (tmp_path / "run").exists()


def table_config(write_miniature: Write, folder: Path, rows: str | None) -> Path:
    """A run on a hospital's own CSV; ``rows`` None leaves the file out."""
    mapping = {"path": "export.csv", "patient": "pid", "study": "acc", "site": "ward", "xray": "film"}
    source = {"kind": "table", "mapping": {**mapping, "report_text": "words", "labels": ["Edema"]}}
    changes = {
        **QUICK,
        "data": {"synthetic": None, "sources": [source]},
        "partition": {"kind": "natural", "sites": None},
    }
    if rows is not None:
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "export.csv").write_text(f"pid,acc,ward,film,words,Edema\n{rows}", encoding="utf-8")
    return write_miniature(folder, changes)


def test_a_missing_csv_ends_with_code_4_and_names_it(write_miniature: Write, tmp_path: Path) -> None:
    result = more_sim(table_config(write_miniature, tmp_path, None), "--out", tmp_path / "run")
    assert result.exit_code == 4
    assert "export.csv" in result.stderr


def test_a_wrong_column_ends_with_code_4_and_names_it(write_miniature: Write, tmp_path: Path) -> None:
    config = table_config(write_miniature, tmp_path, "1,a,north,a.png,clear lungs,0\n")
    config.write_text(config.read_text().replace('"ward"', '"clinic"'), encoding="utf-8")
    result = more_sim(config, "--out", tmp_path / "run")
    assert result.exit_code == 4
    assert "clinic" in result.stderr


def test_a_patient_on_two_sites_ends_with_code_4(write_miniature: Write, tmp_path: Path) -> None:
    rows = "4711,a,north,a.png,clear lungs,0\n4711,b,south,b.png,edema,1\n2,c,south,c.png,clear lungs,0\n"
    result = more_sim(table_config(write_miniature, tmp_path, rows), "--out", tmp_path / "run")
    assert result.exit_code == 4
    assert "1 patients appear at more than one site (sites concerned: north, south)" in result.stderr
    assert "4711" not in result.stderr


def test_modality_incongruent_sites_train_together(write_miniature: Write, tmp_path: Path) -> None:
    missing = {"site-1": ["xray"], "site-2": ["ecg"]}
    changes = {**QUICK, "arms": ["federated", "local"], "partition": {"missing": missing}}
    result = more_sim(write_miniature(tmp_path, changes), "--out", tmp_path / "run")
    assert result.exit_code == 0, result.output
    summary = summary_in(tmp_path / "run")
    assert summary["status"] == "complete"
    sites = summary["cohort"]["sites"]
    assert (sites["site-1"]["modalities"]["xray"], sites["site-2"]["modalities"]["ecg"]) == (0, 0)
    for entry in summary["rounds"]:
        parts = entry["sites"]
        assert parts["site-1"]["pairs_xray"] == 0 < parts["site-1"]["pairs_ecg"]
        assert parts["site-2"]["pairs_ecg"] == 0 < parts["site-2"]["pairs_xray"]
        assert min(parts["site-3"]["pairs_ecg"], parts["site-3"]["pairs_xray"]) > 0
    exchange = summary["exchange"]
    assert exchange["bytes_up_per_site_round"] < exchange["bytes_down_per_site_round"]
    assert set(summary["joining"]) == {"site-1", "site-2", "site-3"}


def closed_rounds(out: Path) -> int:
    path = out / "arms" / "federated" / "journal.sqlite"
    if not path.is_file():
        return 0
    try:
        database = sqlite3.connect(f"{path.as_uri()}?mode=ro", uri=True)
        try:
            return int(database.execute("SELECT count(*) FROM rounds").fetchone()[0])
        finally:
            database.close()
    except sqlite3.OperationalError:  # not there yet, or just being made
        return 0


def kill_after_first_round(config: Path, out: Path) -> int:
    """Run in a process of its own, kill -9 it once the journal holds a round; returns how many it held then."""
    code = "from simulation.cli import app; app()"
    command = [sys.executable, "-c", code, "run", str(config), "--out", str(out)]
    child = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, env=dict(os.environ))
    deadline = time.monotonic() + 240
    try:
        while closed_rounds(out) < 1:
            assert child.poll() is None, child.stderr.read().decode() if child.stderr else ""
            assert time.monotonic() < deadline, "the first round was not closed in time"
            time.sleep(0.01)
    finally:
        child.send_signal(signal.SIGKILL)
        child.communicate()
    return closed_rounds(out)


def test_a_run_killed_in_its_federated_arm_goes_on_to_the_same_bits(write_miniature: Write, tmp_path: Path) -> None:
    rounds = 12
    config = write_miniature(tmp_path, {**QUICK, "federation": {"rounds": {"rounds": rounds}}})
    held = kill_after_first_round(config, tmp_path / "killed")
    assert 1 <= held < rounds
    assert not (tmp_path / "killed" / "summary.json").exists()
    before = digests(tmp_path / "killed" / "arms" / "federated" / "checkpoints")

    assert more_sim(config, "--out", tmp_path / "killed").exit_code == 2
    resumed = more_sim(config, "--out", tmp_path / "killed", "--resume")
    assert resumed.exit_code == 0, resumed.output
    undisturbed = more_sim(config, "--out", tmp_path / "undisturbed")
    assert undisturbed.exit_code == 0, undisturbed.output

    ours, theirs = (tmp_path / name / "checkpoints/federated.safetensors" for name in ("killed", "undisturbed"))
    assert ours.read_bytes() == theirs.read_bytes()
    after = digests(tmp_path / "killed" / "arms" / "federated" / "checkpoints")
    assert after == digests(tmp_path / "undisturbed" / "arms" / "federated" / "checkpoints")
    closed = [f"round-{number:04d}.safetensors" for number in range(1, held + 1)]
    assert {name: after[name] for name in closed} == {name: before[name] for name in closed}

    one, other = summary_in(tmp_path / "killed"), summary_in(tmp_path / "undisturbed")
    for summary in (one, other):
        for arm in summary["arms"].values():
            del arm["seconds"]
        for entry in summary["rounds"]:
            del entry["seconds"]
    assert one == other
    events = [json.loads(line) for line in (tmp_path / "killed" / "events.jsonl").read_text().splitlines()]
    assert [event["resumed"] for event in events if event["event"] == "started"] == [False, True]
