"""A file that was indexed finds itself; words are asked as what they are about."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from more_model.checkpoint import TrainedModel, random_twin
from more_model.data.study import Modality
from more_model.errors import ConfigError, DataError, ExchangeError, InputRefused
from more_model.search.asked import Asked
from more_model.search.index_file import Index
from more_model.search.query import search
from more_model.search.question import file_query, report_query, text_query
from more_model.search.shelf import Shelf
from more_model.training.embed import embed_texts


@pytest.fixture(scope="module")
def tree(miniature_run: Any) -> Path:
    """The files that the stores were made from."""
    path: Path = miniature_run.out / "workspace" / "cohort"
    return path


def vector_of(trained: TrainedModel, text: str) -> np.ndarray:
    return embed_texts(trained.model, [text], tokenizer=trained.tokenizer, max_tokens=trained.max_tokens, threads=1)[0]


@pytest.mark.parametrize(("shelf", "pattern"), [(Shelf.XRAY, "{}.jpg"), (Shelf.ECG, "{}.hea")])
def test_a_file_finds_its_own_study_first(
    index: Index, trained: TrainedModel, tree: Path, shelf: Shelf, pattern: str
) -> None:
    item = index.item(shelf, 5)
    path = next(tree.rglob(pattern.format(item.study_id)))
    found = search(index, file_query(trained, path, shelf.about, threads=1), k=2)
    assert found[shelf][0].item == item
    assert found[shelf][0].score == pytest.approx(1.0, abs=2e-6)
    assert set(found) == set(Shelf)
    assert all(len(hits) == 2 for hits in found.values())


@pytest.mark.parametrize("shelf", [Shelf.XRAY_REPORT, Shelf.ECG_REPORT])
def test_a_report_file_finds_its_own_words_first(
    index: Index, trained: TrainedModel, tmp_path: Path, shelf: Shelf
) -> None:
    item = index.item(shelf, 3)
    head = "FINDINGS: " if shelf is Shelf.XRAY_REPORT else ""
    (tmp_path / "report.txt").write_text(f"{head}{item.words}\n", encoding="utf-8")
    found = search(index, report_query(trained, tmp_path / "report.txt", about=shelf.about, threads=1), k=1)
    assert found[shelf][0].item.words == item.words
    assert found[shelf][0].score == pytest.approx(1.0, abs=2e-6)


def test_words_are_asked_about_both_unless_told(trained: TrainedModel) -> None:
    xray, ecg = vector_of(trained, "chest x-ray report: large heart"), vector_of(trained, "ecg report: large heart")
    assert not np.allclose(xray, ecg, atol=1e-3)
    both = text_query(trained, "  large\nheart ", threads=1).vectors
    for shelf in Shelf:
        np.testing.assert_allclose(both[shelf], xray if shelf.about is Modality.XRAY else ecg, atol=1e-5)
    told = text_query(trained, "large heart", about=Modality.ECG, threads=1).vectors
    for shelf in Shelf:
        np.testing.assert_allclose(told[shelf], ecg, atol=1e-5)


def test_a_report_file_is_read_as_what_it_is_about(trained: TrainedModel, tmp_path: Path) -> None:
    path = tmp_path / "report.txt"
    path.write_text("HISTORY: cough.\n\nFINDINGS: Clear lungs.\n", encoding="utf-8")
    vectors = report_query(trained, path, threads=1).vectors
    expected = vector_of(trained, "chest x-ray report: Clear lungs.")
    np.testing.assert_allclose(vectors[Shelf.XRAY], expected, atol=1e-5)
    expected = vector_of(trained, "ecg report: HISTORY: cough. FINDINGS: Clear lungs.")
    np.testing.assert_allclose(vectors[Shelf.ECG], expected, atol=1e-5)


def test_a_bad_file_is_refused_without_its_name(trained: TrainedModel, tmp_path: Path) -> None:
    path = tmp_path / "Jane Doe.jpg"
    path.write_bytes(b"\xff\xd8\xff\xe0 no picture")
    with pytest.raises(InputRefused, match="X-ray given cannot be used") as refusal:
        file_query(trained, path, Modality.XRAY, threads=1)
    assert "Jane" not in str(refusal.value)
    assert refusal.value.reason
    with pytest.raises(InputRefused, match="no WFDB header file"):
        file_query(trained, tmp_path / "none.hea", Modality.ECG, threads=1)
    (tmp_path / "empty.txt").touch()
    with pytest.raises(InputRefused, match="report given cannot be used"):
        report_query(trained, tmp_path / "empty.txt", threads=1)


def test_a_question_is_one_question(index: Index, trained: TrainedModel) -> None:
    with pytest.raises(ConfigError, match="0 are given"):
        Asked()
    with pytest.raises(ConfigError, match="2 faults"):
        Asked(xray=Path("a"), ecg=Path("b"), about=Modality.ECG)
    with pytest.raises(ConfigError, match="no words"):
        Asked(text=" ").query(index, trained, threads=1)
    with pytest.raises(ConfigError, match="--checkpoint is missing"):
        Asked(text="edema").query(index, None, threads=1)
    with pytest.raises(ExchangeError, match="made with the model"):
        Asked(text="edema").query(index, random_twin(trained, 1), threads=1)
    for name in ("xray", "xray:", "xray:1.5", "xray:-1", "film:1", "xray:²"):
        with pytest.raises(ConfigError, match="no name of an item"):
            Asked(item=name).query(index, None, threads=1)
    assert Asked(item="xray:3").query(index, None, threads=1).seen == (Shelf.XRAY, 3)


def test_the_question_in_words_names_no_file() -> None:
    jane = Path("jane.dcm")
    assert Asked(xray=jane).question == "Like the X-ray given"
    assert Asked(ecg=jane).question == "Like the ECG given"
    assert Asked(report=jane, about=Modality.ECG).question == "Like the report given (about an ECG)"
    assert Asked(text=" large  heart").question == "large heart"
    assert Asked(item="ecg:1").question == "Like item ecg:1"


def test_a_model_of_nan_answers_with_an_error(trained: TrainedModel) -> None:
    broken = random_twin(trained, 0)
    next(broken.model.text.parameters()).data.fill_(float("nan"))
    with pytest.raises(DataError, match="not finite"):
        text_query(broken, "edema", threads=1)
