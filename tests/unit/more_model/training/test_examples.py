"""Batches: each example once, no patient twice, and every study beside the words about it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from itertools import chain
from typing import Any

import numpy as np
import pytest
import torch

from more_model.data.study import Split
from more_model.training.examples import Batch, Examples, epoch_batches, make_batch
from more_model.training.views import whole_views

Toy = Callable[..., Examples]


def of_patients(toy_examples: Toy, *patients: str) -> Examples:
    examples = toy_examples(len(patients))
    triplets = tuple(replace(t, patient_id=p) for t, p in zip(examples.triplets, patients, strict=True))
    return Examples.of(triplets, examples.sources[0])


@pytest.mark.parametrize(("count", "size"), [(64, 16), (65, 16), (5, 16), (33, 32), (7, 2), (1, 2), (100, 7)])
def test_every_example_once_in_batches_of_nearly_equal_size(toy_examples: Toy, count: int, size: int) -> None:
    batches = epoch_batches(toy_examples(count), size, seed=3)
    assert sorted(chain.from_iterable(batches)) == list(range(count))
    sizes = [len(batch) for batch in batches]
    assert max(sizes) <= size
    assert max(sizes) - min(sizes) <= 1
    assert len(batches) == -(-count // size)


def test_no_patient_twice_in_a_batch_and_no_triplet_lost(toy_examples: Toy) -> None:
    patients = [f"p{number % 9}" for number in range(36)] + [f"q{number}" for number in range(12)]
    examples = of_patients(toy_examples, *patients)
    for seed in range(20):
        batches = epoch_batches(examples, 12, seed)
        assert sorted(chain.from_iterable(batches)) == list(range(48))
        for batch in batches:
            names = [patients[row] for row in batch]
            assert len(set(names)) == len(names) <= 12


def test_a_patient_with_more_triplets_than_batches_sends_others_every_epoch(toy_examples: Toy) -> None:
    patients = ["often"] * 10 + [f"p{number}" for number in range(10)]
    examples = of_patients(toy_examples, *patients)
    seen: set[int] = set()
    for seed in range(12):
        batches = epoch_batches(examples, 10, seed)
        counts = Counter(patients[row] for batch in batches for row in batch)
        assert counts == {"often": 2, **{f"p{number}": 1 for number in range(10)}}
        seen |= {row for batch in batches for row in batch if patients[row] == "often"}
    assert seen == set(range(10))


def test_order_is_the_seeds_alone(toy_examples: Toy) -> None:
    examples = toy_examples(40)
    np.random.seed(1)
    first = epoch_batches(examples, 8, 5)
    np.random.seed(2)
    assert epoch_batches(examples, 8, 5) == first
    assert epoch_batches(examples, 8, 6) != first


def test_nothing_gives_no_batches(toy_examples: Toy) -> None:
    assert epoch_batches(toy_examples(0), 8, 5) == []


def test_only_a_study_with_words_about_it_is_trainable(toy_examples: Toy) -> None:
    full = toy_examples(1, partial=False).triplets[0]
    rows = {
        "full": full,
        "X-ray only": replace(full, ecg=None, ecg_report=None),
        "ECG only": replace(full, xray=None, xray_report=None),
        "words about a missing ECG": replace(full, xray_report=None, ecg=None),
        "pictures without words": replace(full, xray_report=None, ecg_report=None),
        "words alone": replace(full, xray=None, ecg=None),
        "half": replace(full, xray_report=None),
    }
    kept = Examples.of(list(rows.values()), toy_examples(1).sources[0]).trainable()
    assert kept.triplets == tuple(rows[name] for name in ("full", "X-ray only", "ECG only", "half"))


def test_merged_examples_keep_their_own_arrays(toy_examples: Toy) -> None:
    parts = [toy_examples(4, partial=False, seed=number, site=f"s{number}") for number in range(3)]
    merged = Examples.merged([Examples.merged(parts[:2]), parts[2]])
    assert len(merged) == 12
    assert [triplet.site for triplet in merged.triplets] == ["s0"] * 4 + ["s1"] * 4 + ["s2"] * 4
    rows = [9, 1, 6]
    expected = [parts[2].xrays([1]), parts[0].xrays([1]), parts[1].xrays([2])]
    assert torch.equal(merged.xrays(rows), torch.cat(expected))
    only = merged.where(lambda triplet: triplet.site == "s2")
    assert torch.equal(only.ecgs([0, 3]), parts[2].ecgs([0, 3]))


def test_splits(toy_examples: Toy) -> None:
    examples = toy_examples(6)
    triplets = [replace(t, split=list(Split)[row % 3]) for row, t in enumerate(examples.triplets)]
    tests = Examples.of(triplets, examples.sources[0]).of_split(Split.TEST)
    assert tests.triplets == (triplets[2], triplets[5])


def test_types_and_units(toy_examples: Toy) -> None:
    examples = toy_examples(3, partial=False)
    assert (examples.xrays([0, 2]).dtype, examples.xrays([0, 2]).shape) == (torch.uint8, (2, 16, 16))
    assert (examples.ecgs([0]).dtype, examples.ecgs([0]).shape) == (torch.float32, (1, 12, 50))


def batch_of(examples: Examples, tokenizer: Any, *, together: bool, rows: tuple[int, ...]) -> Batch:
    views = [whole_views(examples.triplets[row], together=together) for row in rows]
    return make_batch(examples, rows, views, tokenizer=tokenizer, max_tokens=64)


def words_of(batch: Batch, tokenizer: Any) -> list[str]:
    return [text.strip() for text in tokenizer.batch_decode(batch.ids, skip_special_tokens=True)]


def test_joint_texts_face_both_studies(toy_examples: Toy, tokenizer: Any) -> None:
    """Rows 0, 1, 2, 3 of the toy examples: full, ECG only, X-ray only, full."""
    examples = toy_examples(4)
    batch = batch_of(examples, tokenizer, together=True, rows=(3, 1, 2, 0))
    assert words_of(batch, tokenizer) == [
        "chest x-ray report: right pneumothorax ecg report: old infarction",
        "ecg report: atrial fibrillation",
        "chest x-ray report: left effusion",
        "chest x-ray report: clear lungs ecg report: sinus rhythm",
    ]
    assert batch.xray_rows.tolist() == [0, 2, 3]
    assert batch.ecg_rows.tolist() == [0, 1, 3]
    assert batch.xrays is not None and torch.equal(batch.xrays, examples.xrays([3, 2, 0]))
    assert batch.ecgs is not None and torch.equal(batch.ecgs, examples.ecgs([3, 1, 0]))
    assert batch.patients.tolist() == [0, 1, 2, 3]


def test_apart_each_study_faces_the_words_about_itself(toy_examples: Toy, tokenizer: Any) -> None:
    examples = toy_examples(4)
    batch = batch_of(examples, tokenizer, together=False, rows=(3, 1, 2, 0))
    assert words_of(batch, tokenizer) == [
        "chest x-ray report: right pneumothorax",
        "ecg report: old infarction",
        "ecg report: atrial fibrillation",
        "chest x-ray report: left effusion",
        "chest x-ray report: clear lungs",
        "ecg report: sinus rhythm",
    ]
    assert batch.xray_rows.tolist() == [0, 3, 4]
    assert batch.ecg_rows.tolist() == [1, 2, 5]
    assert batch.patients.tolist() == [0, 0, 1, 2, 3, 3]
    assert len(set(batch.words.tolist())) == 6


def test_a_missing_modality_leaves_no_rows(toy_examples: Toy, tokenizer: Any) -> None:
    batch = batch_of(toy_examples(9), tokenizer, together=True, rows=(2, 5, 8))
    assert batch.ecgs is None and batch.ecg_rows.tolist() == []
    assert batch.xrays is not None and len(batch.xrays) == 3


def test_identical_words_have_one_number(toy_examples: Toy, tokenizer: Any) -> None:
    """Kinds repeat every fourth row."""
    batch = batch_of(toy_examples(9, partial=False), tokenizer, together=True, rows=(0, 1, 4, 5, 8))
    assert batch.words.tolist() == [0, 1, 0, 1, 0]
    assert batch.patients.tolist() == [0, 1, 2, 3, 4]
