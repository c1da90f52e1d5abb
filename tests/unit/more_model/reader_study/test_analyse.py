"""A whole study whose result is known beforehand, through the functions and through the command line."""

from __future__ import annotations

import json
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from trees.reader_cases import write_answers, write_cases
from typer.testing import CliRunner

from more_model.commands.reader_study import app
from more_model.reader_study.analyse import analyse
from more_model.reader_study.answers import read_answers
from more_model.reader_study.cases import read_cases
from more_model.reader_study.manifest import read_key
from more_model.reader_study.package import StudyChoice, build_study
from more_model.reader_study.result_page import result_page, summary_lines

if TYPE_CHECKING:
    from more_model.reader_study.manifest import PlannedReading


def run(*arguments: str | Path) -> Any:
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


@pytest.fixture
def answered(built: Any, tmp_path: Path) -> list[Path]:
    """All readers know everything with aid. Without aid reader-1 always says 1, reader-2 is right about the effusion
    only, reader-3 is undecided. A reading takes 20 s without and 30 s with aid."""

    def truth(reading: PlannedReading, label: str) -> int:
        return 5 if built.key.cases[reading.case].truth[label] else 1

    without = {
        "reader-1": lambda reading, label: 1,
        "reader-2": lambda reading, label: truth(reading, label) if label == "Pleural Effusion" else 4,
        "reader-3": lambda reading, label: 3,
    }
    paths = [tmp_path / f"{reader}.json" for reader in without]
    for path, (reader, rule) in zip(paths, without.items(), strict=True):
        write_answers(
            path,
            built.manifest,
            reader,
            lambda reading, label, rule=rule: truth(reading, label) if reading.aided else rule(reading, label),
            seconds=lambda reading: 30.0 if reading.aided else 20.0,
        )
    return paths


def test_known_answers_give_known_figures(built: Any, answered: list[Path]) -> None:
    result = analyse(built.manifest, built.key, read_answers(answered, built.manifest), replicates=200)
    edema, effusion = result["labels"]["Edema"], result["labels"]["Pleural Effusion"]
    assert (edema["positives"], edema["negatives"], result["patients"]) == (4, 4, 4)
    values = {
        reader: {name: figures["unaided"][name]["value"] for name in ("auroc", "sensitivity", "specificity")}
        for reader, figures in edema["per_reader"].items()
    }
    assert values == {
        "reader-1": {"auroc": 0.5, "sensitivity": 0.0, "specificity": 1.0},
        "reader-2": {"auroc": 0.5, "sensitivity": 1.0, "specificity": 0.0},
        "reader-3": {"auroc": 0.5, "sensitivity": 0.0, "specificity": 1.0},
    }
    assert effusion["per_reader"]["reader-2"]["unaided"]["auroc"]["value"] == 1.0
    assert {one["aided"]["auroc"]["value"] for one in edema["per_reader"].values()} == {1.0}
    mean = effusion["mean"]
    assert mean["unaided"]["auroc"]["value"] == pytest.approx(2 / 3)
    assert mean["difference"]["auroc"]["value"] == pytest.approx(1 / 3)
    assert mean["difference"]["sensitivity"]["value"] == pytest.approx(2 / 3)
    macro = result["macro"]["mean"]["difference"]["auroc"]
    assert macro["value"] == pytest.approx((1 / 2 + 1 / 3) / 2)
    # Only which reader is drawn makes a difference here: one of three knows the effusion without aid.
    low, high = mean["difference"]["auroc"]["ci95_random_readers"]
    assert low < 1 / 3 < high
    assert edema["model"]["auroc"]["value"] == 1.0 and effusion["model"] is None


def test_agreement_of_known_answers(built: Any, answered: list[Path]) -> None:
    result = analyse(built.manifest, built.key, read_answers(answered, built.manifest), replicates=50)
    agreement = result["labels"]["Edema"]["agreement"]
    assert agreement["aided"]["fleiss_calls"]["kappa"] == 1.0
    assert [pair["answers_quadratic"]["kappa"] for pair in agreement["aided"]["pairs"]] == [1.0] * 3
    # Calls no, yes, no for all 8 cases: agreement 1/3, chance (2/3)² + (1/3)² = 5/9, kappa (3/9 - 5/9) / (4/9).
    assert agreement["unaided"]["fleiss_calls"]["kappa"] == pytest.approx(-0.5)
    # Answers 1, 4, 3: no agreement, chance 3 * (1/3)².
    assert agreement["unaided"]["fleiss_answers"]["kappa"] == pytest.approx(-0.5)
    pairs = {tuple(pair["readers"]): pair for pair in agreement["unaided"]["pairs"]}
    assert pairs["reader-1", "reader-3"]["calls"]["kappa"] is None
    assert pairs["reader-1", "reader-2"]["calls"]["kappa"] == pytest.approx(0.0)


def test_time_per_case(built: Any, answered: list[Path]) -> None:
    time = analyse(built.manifest, built.key, read_answers(answered, built.manifest), replicates=50)["time"]
    assert time["mean"]["difference"]["seconds"]["value"] == pytest.approx(10.0)
    assert time["medians"]["reader-1"] == {"unaided": 20.0, "aided": 30.0}


def test_a_partial_reader_is_compared_on_what_was_read_both_ways(built: Any, tmp_path: Path) -> None:
    """Reader-1 stops three cases into the second session; the difference is over those three."""
    path = tmp_path / "part.json"
    rate = lambda reading, label: 5 if reading.aided else 1  # noqa: E731
    write_answers(path, built.manifest, "reader-1", rate, readings=11, seconds=lambda reading: 7.0 + reading.aided)
    result = analyse(built.manifest, built.key, read_answers([path], built.manifest, partial=True), replicates=20)
    of_reader = result["time"]["per_reader"]["reader-1"]
    assert of_reader["difference"]["seconds"]["value"] == pytest.approx(1.0)
    assert "reader-1 answered 11 of 16 readings." in result["cautions"]
    assert any(caution.startswith("No answers of reader-2, reader-3") for caution in result["cautions"])


def test_a_short_pause_and_few_cases_are_told(built: Any, tmp_path: Path) -> None:
    path = tmp_path / "soon.json"
    write_answers(path, built.manifest, "reader-1", lambda reading, label: 2, pause=timedelta(days=3))
    cautions = analyse(built.manifest, built.key, read_answers([path], built.manifest), replicates=20)["cautions"]
    assert "reader-1 began the second session 3.0 days after the first; 28 were planned." in cautions
    assert "Edema: only 4 cases of one class; its figures carry no conclusion." in cautions


def test_half_design_on_the_probability_scale(built: Any, tmp_path: Path) -> None:
    choice = StudyChoice(readers=4, design="half", scale="probability", washout_days=0)
    manifest = build_study(read_cases([built.cases]), choice, tmp_path)
    key = read_key(tmp_path / "key.json", manifest)
    paths = [tmp_path / f"{reader}.json" for reader in manifest.orders]
    for path in paths:
        write_answers(
            path, manifest, path.stem, lambda reading, label: 85 if key.cases[reading.case].truth[label] else 15
        )
    result = analyse(manifest, key, read_answers(paths, manifest), replicates=50)
    assert result["readings"] == 32
    assert result["labels"]["Edema"]["mean"]["aided"]["auroc"]["value"] == 1.0
    agreement = result["labels"]["Edema"]["agreement"]["aided"]
    # Two of the four readers had aid for each case.
    assert agreement["fleiss_calls"] | {"ci95": None} == agreement["fleiss_calls"] | {"ci95": None, "cases": 8}
    assert agreement["fleiss_calls"]["kappa"] == 1.0


def test_command_line_from_cases_to_page(tmp_path: Path) -> None:
    write_cases(tmp_path / "cases")
    study = tmp_path / "study"
    done = run("build", "--cases", tmp_path / "cases", "--readers", "2", "--seed", "5", "--out", study, "--json")
    assert done.exit_code == 0, done.output
    facts = json.loads(done.stdout)
    assert facts["labels"] == ["Edema", "Pleural Effusion"] and facts["cases"] == 8
    again = run("build", "--cases", tmp_path / "cases", "--out", study)
    assert again.exit_code == 2 and "there is a reader study already" in again.stderr

    from more_model.reader_study.manifest import read_package

    manifest = read_package(study)
    answers = [tmp_path / f"{reader}.json" for reader in manifest.orders]
    for path in answers:
        write_answers(path, manifest, path.stem, lambda reading, label: 4)
    out = tmp_path / "result"
    done = run(
        "analyse", "--package", study, "--key", study / "key.json", "--out", out, "--answers", *answers,
        "--replicates", "20", "--json",
    )  # fmt: skip
    assert done.exit_code == 0, done.output
    assert json.loads(done.stdout) == json.loads((out / "reader-study.json").read_text(encoding="utf-8"))
    page = (out / "reader-study.html").read_text(encoding="utf-8")
    assert "for research use only" in page and "Cohen&#39;s kappa of two readers" in page
    assert (out / "readers.png").is_file()
    assert "secret" not in page


def test_the_page_and_the_lines_say_the_figures(built: Any, answered: list[Path], tmp_path: Path) -> None:
    result = analyse(built.manifest, built.key, read_answers(answered, built.manifest), replicates=50)
    lines = "\n".join(summary_lines(result))
    assert "AUROC: 0.583" in lines and "1.000 (no interval) with aid, difference +0.417" in lines
    assert "Seconds per case: 20.0 without aid, 30.0 with aid" in lines
    page = result_page(result, tmp_path)
    figure = page.sections[0].blocks[0]
    assert figure.kind == "figure" and "reader-1: 0.500 without, 1.000 with aid" in figure.alt


@pytest.mark.parametrize("arguments", [(), ("--cases", "a", "--data", "b")])
def test_build_needs_one_source_of_cases(tmp_path: Path, arguments: tuple[str, ...]) -> None:
    done = run("build", "--out", tmp_path / "out", *arguments)
    assert done.exit_code == 2
    assert "give either --cases or --data" in done.stderr
