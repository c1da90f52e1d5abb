"""`more-model evaluate`, through the command line: every protocol on a tree of its files, every mode, wrong input."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from trees.chexpert import write_chexpert
from trees.edema import write_edema
from trees.film import write_film
from trees.mimic_cxr_jpg import write_mimic_cxr_jpg
from trees.ptbxl import write_ptbxl
from typer.testing import CliRunner

from more_model.cli import app
from more_model.evaluation.protocols.registry import protocol

QUICK = ("--seeds", "1", "--fraction", "1", "--replicates", "20", "--threads", "1")
ALONE = ("--mode", "zero-shot", "--no-baselines")
XRAYS = {"mimic": ("mimic-4", "mimic-14"), "chexpert": ("chexpert-5", "chexpert-14", "chexpert-5x200")}
ECGS = ("ptbxl-super", "ptbxl-sub", "ptbxl-diag", "ptbxl-form", "ptbxl-rhythm", "ptbxl-single")
PROTOCOLS = [(name, kind) for kind, names in XRAYS.items() for name in names]
PROTOCOLS += [("edema-severity", "edema"), *((name, "ptbxl") for name in ECGS)]


def _write_table(root: Path) -> Path:
    """Twenty-four films with a mapping: one label is shown by the picture, one is present in nobody who is tested."""
    root.mkdir(exist_ok=True)
    rows = ["person,film,effusion,rare,woman,part"]
    for number in range(24):
        shown = number // 3 % 2
        part = ("train", "val", "test")[number % 3]
        write_film(root / f"f{number}.jpg", {"Pleural Effusion"} if shown else set(), seed=number)
        rows.append(f"p{number},f{number}.jpg,{shown},{int(part == 'train' and number % 2)},{number % 2},{part}")
    (root / "rows.csv").write_text("\n".join(rows) + "\n")
    (root / "mapping.toml").write_text(
        'path = "rows.csv"\npatient = "person"\nxray = "film"\n[labels]\neffusion = "Fluid"\nrare = "Rare"\n'
        '[split]\ncolumn = "part"\nwords = { train = "train", val = "validation", test = "test" }\n'
    )
    (root / "words.toml").write_text(
        '[labels.Fluid]\nmodality = "xray"\npositive = ["There is a pleural effusion."]\n'
        'negative = ["No pleural effusion."]\n'
    )
    return root


WRITERS: dict[str, Callable[[Path], Path]] = {
    "mimic": lambda root: write_mimic_cxr_jpg(root, image_px=32),
    "chexpert": lambda root: write_chexpert(root, image_px=32),
    "edema": lambda root: write_edema(root, image_px=32),
    "ptbxl": lambda root: write_ptbxl(root, rates=(100, 500)),
    "table": _write_table,
}


@pytest.fixture(scope="session")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """The tree of one data set; read it, never change it."""
    written: dict[str, Path] = {}

    def get(kind: str) -> Path:
        if kind not in written:
            written[kind] = WRITERS[kind](tmp_path_factory.mktemp("tree") / kind)
        return written[kind]

    return get


@pytest.fixture(scope="session")
def federated(miniature_run: Any) -> Path:
    return miniature_run.out / "checkpoints" / "federated.safetensors"


Ask = Callable[..., tuple[int, str]]
Evaluate = Callable[..., dict[str, Any]]


@pytest.fixture
def ask(federated: Path, tmp_path: Path) -> Ask:
    """Runs the command into ``out`` of the test's own folder; exit code and everything printed."""

    def run(name: str, data: Path, *more: str, checkpoint: Path = federated, out: str = "out") -> tuple[int, str]:
        given = ["--protocol", name, "--data", str(data), "--checkpoint", str(checkpoint), "--out", str(tmp_path / out)]
        done = CliRunner().invoke(app, ["evaluate", *given, *QUICK, *more], env={"COLUMNS": "200"})
        assert done.exception is None or isinstance(done.exception, SystemExit), done.exception
        return done.exit_code, done.output

    return run


@pytest.fixture
def evaluate(ask: Ask, tmp_path: Path) -> Evaluate:
    """Runs the command, which has to end well; the content of summary.json."""

    def run(name: str, data: Path, *more: str, **where: Any) -> dict[str, Any]:
        code, output = ask(name, data, *more, **where)
        assert code == 0, output
        folder = tmp_path / where.get("out", "out")
        assert (folder / "report.html").is_file()
        summary: dict[str, Any] = json.loads((folder / "summary.json").read_text())
        return summary

    return run


def result_of(summary: dict[str, Any], mode: str, model: str = "checkpoint", how: str = "") -> dict[str, Any]:
    [found] = [r for r in summary["results"] if (r["mode"], r["model"], r["how"]) == (mode, model, how)]
    return found


@pytest.mark.parametrize(("name", "kind"), PROTOCOLS)
def test_every_protocol_gives_figures_with_intervals(
    evaluate: Evaluate, tree: Callable[[str], Path], name: str, kind: str
) -> None:
    summary = evaluate(name, tree(kind), *ALONE)
    metrics = result_of(summary, "zero-shot")["metrics"]
    labels = [task.label for task in protocol(name).tasks]
    assert sorted(metrics["per_label"]) == sorted(summary["protocol"]["labels"]) == sorted(labels)
    low, high = metrics["macro"]["ci95"]
    assert 0.0 <= low <= metrics["macro"]["auroc"] <= high <= 1.0
    assert summary["cohort"]["train"]["studies"] == 0, "zero-shot decodes nothing to train on"
    assert summary["cohort"]["test"]["patients"] > 0


@pytest.mark.parametrize("kind", ["mimic", "chexpert", "edema", "ptbxl"])
def test_the_doctor_recognises_the_trees(tree: Callable[[str], Path], kind: str) -> None:
    done = CliRunner().invoke(app, ["doctor", "--data", str(tree(kind)), "--json"])
    assert done.exit_code == 0, done.output
    runnable = {answer["name"] for found in json.loads(done.stdout)["data"] for answer in found["protocols"]
                if answer["can_run"]}  # fmt: skip
    assert {name for name, of in PROTOCOLS if of == kind} <= runnable


def test_a_probe_stands_beside_random_encoders_and_examinations_are_scored_as_one(
    evaluate: Evaluate, tree: Callable[[str], Path], tmp_path: Path
) -> None:
    summary = evaluate("chexpert-5", tree("chexpert"), "--seeds", "2", "--fraction", "0.5", "--subset", "test")
    assert [r["model"] for r in summary["results"]] == ["checkpoint", "random encoder"] * 3
    test = summary["cohort"]["test"]
    assert test["cases"] == 24 < test["studies"]
    edema = result_of(summary, "zero-shot")["metrics"]["per_label"]["Edema"]
    assert edema["positives"] + edema["negatives"] == 24
    with (tmp_path / "out" / "predictions.csv").open(encoding="utf-8") as file:
        cases = [row["case"] for row in csv.DictReader(file) if (row["outcome"], row["label"]) ==
                 ("zero-shot, checkpoint", "Edema")]  # fmt: skip
    assert len(cases) == len(set(cases)) == 24
    assert (tmp_path / "out" / "predictions.csv").stat().st_mode & 0o077 == 0
    drawn = result_of(summary, "zero-shot", "random encoder")["draws"]
    assert (drawn["of"], drawn["labels"], len(drawn["macro_auroc"])) == (["encoders"], 5, 2)
    assert drawn["macro_auroc"][0] != drawn["macro_auroc"][1]
    assert {(entry["model"], entry["fraction"]) for entry in summary["fractions"]} == {
        ("checkpoint", 0.5), ("random encoder", 0.5)
    }  # fmt: skip
    assert all(entry["whole"] is not None for entry in summary["fractions"])
    # Neither the patients nor their films show in the report.
    assert "patient6474" not in (tmp_path / "out" / "report.html").read_text()


def test_fine_tuning_by_both_recipes_beside_a_supervised_model(evaluate: Evaluate, tree: Callable[[str], Path]) -> None:
    summary = evaluate("ptbxl-super", tree("ptbxl"), "--mode", "fine-tune", "--mode", "linear-probe", "--epochs", "2")
    for model, how in (("checkpoint", "published"), ("checkpoint", "lora"), ("supervised", "")):
        result = result_of(summary, "fine-tune", model, how)
        assert result["metrics"]["macro"]["labels"] == 5
        assert len(result["training"]["towers"]["ecg"]["epochs"]) == 2
    tables = result_of(summary, "fine-tune", how="lora")["subgroups"]["divisions"]
    assert {"female", "male"} <= set(tables["sex"])
    assert summary["prompts"] is None
    pairs = {(entry["a"].split(",")[0], entry["b"].split(",")[1].strip()) for entry in summary["comparisons"]}
    assert pairs == {("fine-tune", "supervised"), ("linear-probe", "supervised"), ("linear-probe", "random encoder")}


def test_fusion_and_the_other_modes_on_the_cohort_of_a_run(evaluate: Evaluate, miniature_run: Any) -> None:
    summary = evaluate("cohort", miniature_run.out, "--mode", "fusion", "--mode", "zero-shot")
    assert summary["synthetic"] is True
    for how in ("both", "X-ray only", "ECG only", "as available"):
        assert result_of(summary, "fusion", how=how)["metrics"]["macro"]["labels"] > 0
    assert [(entry["a"], entry["b"]) for entry in summary["comparisons"] if "only" in entry["b"]][:2] == [
        ("fusion, checkpoint, both", "fusion, checkpoint, X-ray only"),
        ("fusion, checkpoint, both", "fusion, checkpoint, ECG only"),
    ]
    assert set(result_of(summary, "zero-shot")["subgroups"]["divisions"]["site"]) == set(
        summary["protocol"]["facts"]["sites"]
    )


def test_both_rates_of_ptbxl_are_read(evaluate: Evaluate, tree: Callable[[str], Path]) -> None:
    low, high = (
        evaluate("ptbxl-super", tree("ptbxl"), *ALONE, "--rate-hz", rate, out=rate)["results"][0]["metrics"]
        for rate in ("100", "500")
    )
    assert low["per_label"]["MI"]["positives"] == high["per_label"]["MI"]["positives"] == 3
    # The same tracings, sampled otherwise.
    assert low["macro"]["auroc"] == pytest.approx(high["macro"]["auroc"], abs=0.15)


def test_every_uncertainty_policy_counts_its_own_rows(evaluate: Evaluate, tree: Callable[[str], Path]) -> None:
    support: dict[str, tuple[int, int]] = {}
    for policy in ("ignore", "zero", "one", "published"):
        summary = evaluate("mimic-4", tree("mimic"), *ALONE, "--uncertainty", policy, out=policy)
        assert (summary["uncertainty"], summary["blank"]) == (policy, "absent" if policy == "published" else "unstated")
        edema = summary["results"][0]["metrics"]["per_label"]["Edema"]
        support[policy] = edema["positives"], edema["negatives"]
    assert support["zero"][0] == support["ignore"][0] < support["one"][0]
    assert support["one"][1] == support["ignore"][1] < support["zero"][1]
    assert sum(support["zero"]) == sum(support["one"])
    assert support["published"][0] < support["ignore"][0], "whole rows are dropped"


def test_blank_counts_as_absent_on_request_and_both_policies_are_printed(
    ask: Ask, evaluate: Evaluate, tree: Callable[[str], Path], tmp_path: Path
) -> None:
    stated = evaluate("mimic-4", tree("mimic"), *ALONE, out="stated")
    code, output = ask("mimic-4", tree("mimic"), *ALONE, "--blank", "absent", out="absent")
    assert code == 0
    assert "(test); uncertain labels: ignore; not mentioned: absent\n" in output
    absent = json.loads((tmp_path / "absent" / "summary.json").read_text())
    before, after = (s["results"][0]["metrics"]["per_label"]["Edema"] for s in (stated, absent))
    assert before["positives"] == after["positives"]
    assert before["negatives"] < after["negatives"]
    assert any("counts as absent, as in most published figures" in note for note in absent["protocol"]["notes"])


def test_other_views_are_evaluated_on_request(evaluate: Evaluate, tree: Callable[[str], Path]) -> None:
    usual = evaluate("mimic-4", tree("mimic"), *ALONE, out="usual")
    lateral = evaluate("mimic-4", tree("mimic"), *ALONE, "--view", "PA", "--view", "AP", "--view", "LATERAL")
    assert lateral["cohort"]["test"]["studies"] > usual["cohort"]["test"]["studies"]


def test_a_table_with_its_mapping_and_prompts(evaluate: Evaluate, tree: Callable[[str], Path]) -> None:
    root = tree("table")
    words = ("--prompts", str(root / "words.toml"))
    summary = evaluate("table", root, "--mapping", str(root / "mapping.toml"), "--label", "Fluid", *words)
    assert summary["protocol"]["labels"] == ["Fluid"]
    assert summary["cohort"]["test"]["studies"] == 8
    assert result_of(summary, "linear-probe")["metrics"]["macro"]["auroc"] == 1.0, "the picture shows it"
    assert result_of(summary, "zero-shot")["metrics"]["per_label"]["Fluid"]["positives"] == 4


def test_an_interrupted_evaluation_goes_on_with_what_it_read(
    ask: Ask, evaluate: Evaluate, tree: Callable[[str], Path], tmp_path: Path
) -> None:
    first = evaluate("mimic-4", tree("mimic"), *ALONE)
    store = tmp_path / "out" / "workspace" / "store" / "store.json"
    written = store.stat().st_mtime_ns
    assert ask("mimic-4", tree("mimic"), *ALONE)[0] == 2, "it asks before it replaces anything"
    assert evaluate("mimic-4", tree("mimic"), *ALONE, "--resume") == first
    assert store.stat().st_mtime_ns == written


@pytest.mark.shared_data
def test_ptbxl_super_reports_fold_10_of_real_records_with_intervals(evaluate: Evaluate, shared_data: Path) -> None:
    root = shared_data / "ecg" / "ptbxl"
    summary = evaluate("ptbxl-super", root, "--no-baselines")
    with (root / "ptbxl_database.csv").open(encoding="utf-8") as file:
        fold_10 = [row for row in csv.DictReader(file) if row["strat_fold"] == "10"]
    assert 0 < summary["cohort"]["test"]["studies"] <= len(fold_10)
    for mode in ("zero-shot", "linear-probe"):
        metrics = result_of(summary, mode)["metrics"]
        assert set(metrics["per_label"]) == {"NORM", "MI", "STTC", "CD", "HYP"}
        for entry in (*metrics["per_label"].values(), metrics["macro"]):
            low, high = entry["ci95"]
            assert 0.0 <= low <= entry["auroc"] <= high <= 1.0
    assert any("An excerpt" in note for note in summary["protocol"]["notes"])


def refused(answer: tuple[int, str], code: int, *sentences: str) -> None:
    assert answer[0] == code, answer[1]
    for sentence in sentences:
        assert sentence in answer[1]


def test_an_unknown_protocol_subset_label_or_choice_is_named(ask: Ask, tree: Callable[[str], Path]) -> None:
    refused(ask("mimic", tree("mimic")), 2, "--protocol mimic", "there are mimic-4, mimic-14,", "cohort")
    refused(ask("mimic-4", tree("mimic"), "--subset", "train", out="a"), 2, "no subset 'train'", "radiologist")
    refused(ask("mimic-4", tree("mimic"), "--label", "Gout", out="b"), 2, "no label 'Gout'", "Atelectasis")
    refused(ask("ptbxl-super", tree("ptbxl"), "--blank", "absent", out="c"), 2, "every record states every label")
    refused(ask("edema-severity", tree("edema"), "--blank", "absent", out="d"), 2, "every study states every label")
    refused(ask("mimic-4", tree("mimic"), "--fraction", "2", out="e"), 2, "fractions", "less than or equal to 1")
    refused(ask("mimic-4", tree("mimic"), "--mode", "fusion", out="f"), 2, "no test patient has both")


def test_a_cohort_refuses_what_has_no_meaning_for_it(ask: Ask, miniature_run: Any) -> None:
    refused(ask("cohort", miniature_run.out, "--rate-hz", "500", out="a"), 2, "rate_hz cannot be chosen here")
    refused(ask("cohort", miniature_run.out, "--label", "Gout", out="b"), 2, "no patient of the cohort states 'Gout'")


def test_labels_without_positives_are_named(ask: Ask, tree: Callable[[str], Path]) -> None:
    answer = ask("table", tree("table"), "--mode", "linear-probe")
    refused(answer, 4, "labels without a single positive among 8 test studies: Rare", "--label")


def test_a_prompt_file_must_word_every_label(ask: Ask, tree: Callable[[str], Path], tmp_path: Path) -> None:
    words = tmp_path / "words.toml"
    words.write_text('[labels.MI]\nmodality = "ecg"\npositive = ["infarct"]\nnegative = ["none"]\n')
    missing = ask("ptbxl-super", tree("ptbxl"), "--prompts", str(words))
    refused(missing, 2, "'NORM' is required but has no prompts", "'HYP' is required but has no prompts")
    refused(ask("table", tree("table"), "--label", "Fluid", out="b"), 2, "brings no prompts of its own", "zero-shot")
    refused(ask("mimic-4", tree("mimic"), "--prompts", "nothing", out="c"), 2, "there is no set of this name")


def test_a_checkpoint_of_another_architecture_is_refused(
    ask: Ask, tree: Callable[[str], Path], miniature_run: Any, tmp_path: Path
) -> None:
    from more_model.base import load_base, save_base
    from more_model.model.more import build_more

    base = load_base(miniature_run.out / "workspace" / "base")
    heads = base.config.heads.model_copy(update={"embedding": 4})
    config = base.config.model_copy(update={"heads": heads})
    model = build_more(config, seed=0, pad_id=int(base.tokenizer.pad_token_id))
    save_base(replace(base, config=config, model=model), tmp_path / "other")
    answer = ask("ptbxl-super", tree("ptbxl"), "--base", str(tmp_path / "other"))
    refused(answer, 6, "belongs to another base: ", "architecture")
    refused(ask("ptbxl-super", tree("ptbxl"), checkpoint=tmp_path / "none.safetensors", out="b"), 8, "no checkpoint")


def test_a_patient_in_train_and_test_is_refused_without_an_id(ask: Ask, tmp_path: Path) -> None:
    root = write_ptbxl(tmp_path / "ptbxl", rates=())
    table = root / "ptbxl_database.csv"
    with table.open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    # The last records of a fold are second visits of its patients.
    first = next(row for row in rows if row["patient_id"] == rows[-2]["patient_id"])
    assert (first["strat_fold"], first is rows[-2]) == ("10", False)
    first["strat_fold"] = "3"
    with table.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    answer = ask("ptbxl-super", root)
    refused(answer, 4, "1 of ", "patients are in more than one of train, validation and test")
    assert first["patient_id"].removesuffix(".0") not in answer[1]
