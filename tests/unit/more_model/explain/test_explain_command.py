"""`more-model explain` on files and on a cohort."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import typer
from PIL import Image
from typer.testing import CliRunner

from more_model.base import Base, save_base
from more_model.commands.explain import explain


@pytest.fixture(scope="module")
def base(planted: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("model") / "base"
    trained = planted.trained
    save_base(Base(trained.config, trained.model, trained.tokenizer, "Trained on planted signals."), folder)
    return folder


@pytest.fixture(scope="module")
def film(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("film") / "film.png"
    pixels = np.random.default_rng(0).integers(60, 120, (64, 48)).astype(np.uint8)
    pixels[10:22, 30:42] = 230
    Image.fromarray(pixels).save(path)
    return path


@pytest.fixture
def call() -> Callable[..., Any]:
    app = typer.Typer()
    app.command()(explain)
    return lambda *words: CliRunner().invoke(app, [str(word) for word in words], catch_exceptions=False)


def test_files_are_explained_and_everything_is_written(
    call: Callable[..., Any], base: Path, film: Path, tmp_path: Path
) -> None:
    asked = ("--checkpoint", base, "--xray", film, "--out", tmp_path / "out", "--threads", 1)
    done = call(*asked, "--text", "left effusion", "--contrast", "clear lungs", "--json")
    assert done.exit_code == 0, done.output
    content = json.loads(done.stdout)
    assert content == json.loads((tmp_path / "out" / "explanation.json").read_text(encoding="utf-8"))
    (found,) = content["explanations"]
    assert [entry["word"] for entry in found["words"]] == ["left", "effusion"]
    names = {path.name for path in (tmp_path / "out").iterdir()}
    assert names == {"explanation.png", "explanation.html", "explanation.json", "explanation-xray.npz"}
    page = (tmp_path / "out" / "explanation.html").read_text(encoding="utf-8")
    assert "Heat map over a chest X-ray" in page
    again = call(*asked, "--text", "left effusion")
    assert again.exit_code == 2
    assert "there is a explanation.json already" in again.stderr
    (tmp_path / "report.txt").write_text("FINDINGS: Left effusion.\n", encoding="utf-8")
    replaced = call(*asked, "--report", tmp_path / "report.txt", "--overwrite")
    assert replaced.exit_code == 0
    assert "Words of most weight" in replaced.stdout


def test_a_cohort_is_checked(call: Callable[..., Any], base: Path, planted: Any, tmp_path: Path) -> None:
    prompts = tmp_path / "own.toml"
    prompts.write_text(
        '[labels."Lung Lesion"]\nmodality = "xray"\npositive = ["left effusion"]\nnegative = ["clear lungs"]\n',
        encoding="utf-8",
    )
    asked = ("--checkpoint", base, "--check", "--data", planted.store, "--lesions", planted.lesions)
    done = call(*asked, "--prompts", prompts, "--per-label", 8, "--replicates", 50, "--out", tmp_path / "out")
    assert done.exit_code == 0, done.output
    content = json.loads((tmp_path / "out" / "explanation-checks.json").read_text(encoding="utf-8"))
    assert content["modalities"]["xray"]["cases"]["with_known_lesion"] == 8
    assert content["split"] == "test"
    assert "times as often" in done.stdout
    assert "Pointing game by finding" in (tmp_path / "out" / "explanation-checks.html").read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--text", "a"), "give --xray, --ecg, or both"),
        (("--xray", "a.png"), "give one of --report and --text"),
        (("--check",), "--check needs --data"),
        (("--check", "--data", "x", "--text", "a"), "--text is not for a call with --check"),
        (("--lesions", "x", "--text", "a"), "--lesions is not for a call without --check"),
    ],
)
def test_calls_that_cannot_be_answered(
    call: Callable[..., Any], base: Path, tmp_path: Path, words: tuple[str, ...], message: str
) -> None:
    refused = call("--checkpoint", base, "--out", tmp_path / "out", *words)
    assert refused.exit_code == 2
    assert message in refused.stderr
    assert not (tmp_path / "out").exists()


def test_a_file_that_is_no_x_ray_is_refused(call: Callable[..., Any], base: Path, tmp_path: Path) -> None:
    (tmp_path / "film.png").write_text("no picture", encoding="utf-8")
    refused = call("--checkpoint", base, "--xray", tmp_path / "film.png", "--text", "a", "--out", tmp_path / "out")
    assert refused.exit_code == 3
    assert "The xray given cannot be explained." in refused.stderr
