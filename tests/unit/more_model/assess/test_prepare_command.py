"""`more-model assess-prepare`: what it writes, and what it refuses."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from more_model.assess.reference import Reference
from more_model.data.study import Split
from more_model.errors import DataError, ExchangeError, StoreError

Call = Callable[..., Any]


def test_it_says_what_is_judged_and_how_well(prepared: Any, reference: Reference) -> None:
    assert prepared.stdout.startswith("SYNTHETIC. Reference written")
    assert "from xray+ecg+report: macro AUROC" in prepared.stdout
    assert "limit on how the X-ray looks" in prepared.stdout
    never = [one.label for one in reference.header.findings if not one.calibrations.curves]
    assert all(f"  {label}: never judged (" in prepared.stdout for label in never)
    assert len(reference.header.findings) == 20


def test_only_training_patients_are_searched_among(prepared: Any, reference: Reference) -> None:
    assert reference.index.header.splits == (Split.TRAIN,)
    examples = prepared.cohort.examples.of_split(Split.TRAIN)
    finding = next(one for one in reference.header.findings if one.label == "Edema")
    stated = [t.labels.get("Edema") for t in examples.triplets if t.xray is not None]
    assert (finding.train_positives, finding.train_negatives) == (stated.count(1.0), stated.count(0.0))


def test_nothing_is_pickled(prepared: Any) -> None:
    assert {path.suffix for path in prepared.folder.rglob("*") if path.is_file()} == {
        ".json", ".jsonl", ".npy", ".safetensors",
    }  # fmt: skip


def test_an_earlier_reference_and_other_things_are_not_replaced(call: Call, prepared: Any, tmp_path: Path) -> None:
    asked = ("assess-prepare", "--checkpoint", prepared.checkpoint, "--data", prepared.folder.parent / "cohort.toml")
    done = call(*asked, "--out", prepared.folder)
    assert done.exit_code == 2
    assert "there is a reference already" in done.stderr
    (tmp_path / "notes.txt").write_text("mine", encoding="utf-8")
    done = call(*asked, "--out", tmp_path, "--overwrite")
    assert done.exit_code == 2
    assert "something that is no reference is there" in done.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["notes.txt"]


def test_a_cohort_without_validation_patients(call: Call, prepared: Any, tmp_path: Path) -> None:
    stores = ", ".join(f'"{site.store.folder}"' for site in prepared.cohort.sites)
    cohort = tmp_path / "cohort.toml"
    cohort.write_text(f"stores = [{stores}]\n\n[split]\nvalidation = 0.0\ntest = 0.5\n", encoding="utf-8")
    done = call(
        "assess-prepare", "--checkpoint", prepared.checkpoint, "--data", cohort, "--out", tmp_path / "reference"
    )
    assert done.exit_code == 4
    assert "the cohort has no validation patients" in done.stderr
    assert not (tmp_path / "reference").exists()
    assert [path.name for path in tmp_path.iterdir()] == ["cohort.toml"]


def test_a_folder_that_is_none_or_is_damaged(prepared: Any, tmp_path: Path) -> None:
    digest = prepared.trained.digest
    with pytest.raises(DataError, match="holds no reference"):
        Reference.open(tmp_path, model_digest=digest)
    with pytest.raises(ExchangeError, match="was made with the model"):
        Reference.open(prepared.folder, model_digest="0" * 64)
    for name in ("domain.safetensors", "vocabulary.json", "reference.json"):
        copy = tmp_path / name
        shutil.copytree(prepared.folder, copy)
        content = (copy / name).read_bytes()
        (copy / name).write_bytes(content[: len(content) // 2])
        with pytest.raises(StoreError, match="is damaged"):
            Reference.open(copy, model_digest=digest)
    header = tmp_path / "later"
    shutil.copytree(prepared.folder, header)
    facts = json.loads((header / "reference.json").read_text(encoding="utf-8"))
    (header / "reference.json").write_text(json.dumps({**facts, "schema": 2}), encoding="utf-8")
    with pytest.raises(StoreError, match="has schema 2"):
        Reference.open(header, model_digest=digest)
