"""An index holds every study once, is private, is whole or absent, and belongs to one model."""

from __future__ import annotations

import json
import shutil
import stat
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from more_model.checkpoint import TrainedModel, random_twin
from more_model.cohort_file import Cohort
from more_model.data.study import Modality, Split
from more_model.errors import ConfigError, DataError, ExchangeError, StoreError
from more_model.search import build
from more_model.search.build import build_index, read_figures
from more_model.search.index_file import Index
from more_model.search.query import item_query, search
from more_model.search.shelf import Shelf
from more_model.training.embed import embed, embed_texts
from more_model.training.words import about


def items(index: Index, shelf: Shelf) -> list:
    return [index.item(shelf, number) for number in range(len(index.shelves[shelf].items))]


def names_beside(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.parent.iterdir())


def test_every_study_is_there_once_with_its_own_vector(index: Index, trained: TrainedModel, cohort: Cohort) -> None:
    examples = cohort.examples
    answer = embed(trained.model, examples, tokenizer=trained.tokenizer, max_tokens=trained.max_tokens, threads=1)
    for shelf, vectors in ((Shelf.XRAY, answer.xray), (Shelf.ECG, answer.ecg)):
        row_of = {
            (t.site, t.xray if shelf is Shelf.XRAY else t.ecg): row
            for row, t in enumerate(examples.triplets)
            if (t.xray if shelf is Shelf.XRAY else t.ecg) is not None
        }
        found = items(index, shelf)
        assert sorted((item.site, item.row) for item in found) == sorted(row_of)
        for number, item in enumerate(found):
            triplet = examples.triplets[row_of[item.site, item.row]]
            assert (item.patient, item.split) == (triplet.patient_id, triplet.split)
            expected = vectors[row_of[item.site, item.row]]
            np.testing.assert_allclose(index.vector(shelf, number), expected, atol=1e-5)


def test_study_ids_and_labels_are_those_of_the_store(index: Index, cohort: Cohort) -> None:
    records = {(s.name, r.modality, r.row): r for s in cohort.sites for r in s.store.records}
    for shelf in (Shelf.XRAY, Shelf.ECG, Shelf.ECG_REPORT):
        for item in items(index, shelf):
            record = records[item.site, shelf.about, item.row]
            assert (item.study_id, dict(item.labels)) == (record.study_id, dict(record.labels))


def test_reports_of_the_same_words_share_a_vector(index: Index, trained: TrainedModel, cohort: Cohort) -> None:
    found = items(index, Shelf.ECG_REPORT)
    words = [item.words for item in found]
    arrays = index.shelves[Shelf.ECG_REPORT]
    assert len(words) > len(set(words)) == len(arrays.vectors)
    assert (np.diff(arrays.items["vector"]) >= 0).all()
    text = about(Modality.ECG, words[0])
    (expected,) = embed_texts(trained.model, [text], tokenizer=trained.tokenizer, max_tokens=trained.max_tokens)
    for number, own in enumerate(words):
        assert (arrays.items["vector"][number] == arrays.items["vector"][0]) == (own == words[0])
    np.testing.assert_allclose(index.vector(Shelf.ECG_REPORT, 0), expected, atol=1e-5)
    with_report = sum(triplet.ecg_report is not None for triplet in cohort.examples.triplets)
    assert len(found) == with_report


def test_only_its_owner_may_read_it(index: Index) -> None:
    assert stat.S_IMODE(index.folder.stat().st_mode) == 0o700
    assert {stat.S_IMODE(path.stat().st_mode) for path in index.folder.iterdir()} == {0o600}


def test_the_header_says_what_it_was_made_from(index: Index, trained: TrainedModel, cohort: Cohort) -> None:
    header = index.header
    assert (header.model_digest, header.model_origin) == (trained.digest, trained.origin)
    assert header.synthetic
    assert header.splits == (Split.TRAIN, Split.VALIDATION, Split.TEST)
    assert [site.name for site in header.sites] == [site.name for site in cohort.sites]
    for site in cohort.sites:
        assert index.store_folder(site.name).resolve() == site.store.folder.resolve()


def test_figures_are_of_held_out_patients_alone(index: Index, cohort: Cohort) -> None:
    figures = read_figures(index.folder)["splits"]
    assert list(figures) == ["validation", "test"]
    test = figures["test"]
    assert set(test["directions"]) == {
        f"{a}->{b}" for a in ("xray", "ecg", "text") for b in ("xray", "ecg", "text") if a != b
    }
    with_xray_report = [
        t
        for t in cohort.examples.triplets
        if t.split is Split.TEST and t.xray is not None and t.xray_report is not None
    ]
    assert test["directions"]["xray->text"]["candidates"] == len(with_xray_report)
    assert set(test["by_site"]) == set(test["consistency_by_site"]) == {site.name for site in cohort.sites}
    assert test["directions"]["xray->text"]["ci95"]["median_rank"] is not None
    assert test["consistency"]["patients"] > 1
    assert "ci95" in test["consistency"]["xray->ecg"]


def test_chosen_splits_alone_are_indexed(trained: TrainedModel, cohort: Cohort, tmp_path: Path) -> None:
    made = build_index(trained, [cohort], tmp_path / "i", splits=[Split.TRAIN], threads=1)
    assert {item.split for shelf in Shelf for item in items(made, shelf)} == {Split.TRAIN}
    assert read_figures(made.folder)["splits"] == {}


@pytest.mark.parametrize("occupied", [False, True])
def test_a_crash_leaves_what_was_there_before(
    trained: TrainedModel, cohort: Cohort, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, occupied: bool
) -> None:
    folder = tmp_path / "i"
    before = build_index(trained, [cohort], folder, splits=[Split.TEST], threads=1) if occupied else None

    def killed(*_parts: object, **_more: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(build, "measure", killed)
    with pytest.raises(KeyboardInterrupt):
        build_index(trained, [cohort], folder, threads=1, overwrite=True)
    assert names_beside(folder) == (["i"] if occupied else [])
    if before is not None:
        assert Index.open(folder).header == before.header


def test_what_a_killed_run_left_behind_is_removed(trained: TrainedModel, cohort: Cohort, tmp_path: Path) -> None:
    left = tmp_path / ".i.index-draft"
    left.mkdir()
    (left / "xray.vectors.npy").write_bytes(b"half")
    made = build_index(trained, [cohort], tmp_path / "i", splits=[Split.TEST], threads=1)
    assert names_beside(made.folder) == ["i"]


def test_a_run_killed_while_it_replaced_an_index_lost_neither(
    trained: TrainedModel, cohort: Cohort, index: Index, tmp_path: Path
) -> None:
    shutil.copytree(index.folder, tmp_path / ".i.index-former")
    with pytest.raises(ConfigError, match="there is an index already"):
        build_index(trained, [cohort], tmp_path / "i", threads=1)
    assert Index.open(tmp_path / "i").header == index.header


def test_the_same_inputs_give_the_same_bytes(
    index: Index, trained: TrainedModel, cohort: Cohort, tmp_path: Path
) -> None:
    again = build_index(trained, [cohort], tmp_path / "i", threads=1, replicates=20, batch_size=16)
    for path in index.folder.iterdir():
        if path.name != "index.json":  # it says where the stores are, seen from itself
            assert (again.folder / path.name).read_bytes() == path.read_bytes(), path.name


def test_nothing_is_replaced_unasked(trained: TrainedModel, cohort: Cohort, index: Index, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="there is an index already"):
        build_index(trained, [cohort], index.folder)
    (tmp_path / "letters").mkdir()
    (tmp_path / "letters" / "a.txt").touch()
    with pytest.raises(ConfigError, match="something that is no index"):
        build_index(trained, [cohort], tmp_path / "letters", overwrite=True)
    assert (tmp_path / "letters" / "a.txt").is_file()


def test_what_cannot_be_indexed_is_refused(trained: TrainedModel, cohort: Cohort, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="twice"):
        build_index(trained, [cohort, cohort], tmp_path / "i")
    with pytest.raises(DataError, match="no study in the split"):
        build_index(trained, [replace(cohort, sites=())], tmp_path / "i")
    preprocessing = trained.config.preprocessing.model_copy(update={"image_size": 64})
    other = replace(trained, config=trained.config.model_copy(update={"preprocessing": preprocessing}))
    with pytest.raises(StoreError, match="image_size is 32, not 64"):
        build_index(other, [cohort], tmp_path / "i")
    broken = random_twin(trained, 0)
    next(broken.model.xray.parameters()).data.fill_(float("nan"))
    with pytest.raises(DataError, match=r"X-rays with numbers that are not finite"):
        build_index(broken, [cohort], tmp_path / "i", threads=1)
    assert not (tmp_path / "i").exists()


def test_another_model_is_refused_with_both_named(index: Index, trained: TrainedModel) -> None:
    index.require_model(trained.digest)
    other = random_twin(trained, 1)
    with pytest.raises(ExchangeError, match=f"(?s){trained.digest}.*{other.digest}"):
        index.require_model(other.digest)


@pytest.mark.parametrize("fault", ["short", "gone", "schema", "field", "type"])
def test_damage_is_named(index: Index, tmp_path: Path, fault: str) -> None:
    folder = tmp_path / "i"
    shutil.copytree(index.folder, folder)
    vectors, header = folder / "ecg.vectors.npy", folder / "index.json"
    content = json.loads(header.read_text())
    if fault == "short":
        vectors.write_bytes(vectors.read_bytes()[:-8])
    elif fault == "gone":
        vectors.unlink()
    elif fault == "type":
        np.save(vectors, np.load(vectors).astype(np.float64))
    else:
        changed = {**content, "schema": 2} if fault == "schema" else {**content, "width": "wide"}
        header.write_text(json.dumps(changed))
    with pytest.raises(StoreError, match="schema 2" if fault == "schema" else "is damaged"):
        Index.open(folder)


def test_a_damaged_line_is_not_shown(index: Index, tmp_path: Path) -> None:
    folder = tmp_path / "i"
    shutil.copytree(index.folder, folder)
    lines = folder / "items.jsonl"
    lines.write_bytes(lines.read_bytes().replace(b'"site":"', b'"site":"X'))
    opened = Index.open(folder)
    with pytest.raises(StoreError, match="is damaged"):
        search(opened, item_query(opened, Shelf.XRAY, 0))


def test_no_index_is_said_so(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="holds no index"):
        Index.open(tmp_path)
