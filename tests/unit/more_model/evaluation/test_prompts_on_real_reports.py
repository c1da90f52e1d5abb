"""The shipped ECG prompts against real reports: the words of a report alone must point to its superclasses."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pytest
from sklearn.feature_extraction.text import TfidfVectorizer

from more_model.evaluation.embedded import EmbeddedSet
from more_model.evaluation.summary import summarise
from more_model.evaluation.zero_shot import encode_prompts, load_prompts, zero_shot


@pytest.mark.shared_data
def test_superclass_prompts_match_the_reports_of_five_sites(shared_data: Path) -> None:
    with (shared_data / "ecg" / "ecg_records.csv").open(encoding="utf-8", newline="") as table:
        rows = [row for row in csv.DictReader(table) if row["report_text"] and row["superclasses"]]
    prompts = load_prompts("ptbxl_super")
    reports = [row["report_text"] for row in rows]
    words = TfidfVectorizer(analyzer="char_wb", ngram_range=(3, 5), sublinear_tf=True)
    words.fit([*reports, *prompts.texts()])
    # The report's own words stand in for the ECG: what a perfect ECG tower would land on.
    from_words = words.transform(reports).toarray().astype(np.float32)
    nothing = np.full((len(rows), 1), np.nan, dtype=np.float32)
    embedded = EmbeddedSet(
        patient=[row["patient_id"] for row in rows],
        site=[row["site"] for row in rows],
        xray=nothing,
        ecg=from_words,
        text=from_words,
        report=list(reports),
        xray_features=nothing,
        ecg_features=nothing,
        labels={
            task.label: np.array([float(task.label in row["superclasses"].split()) for row in rows])
            for task in prompts.tasks
        },
    )
    directions = encode_prompts(prompts, lambda texts: words.transform(texts).toarray())
    table_of_figures = summarise(zero_shot(embedded, prompts, directions), replicates=50, seed=0)
    figures = {label: row["auroc"] for label, row in table_of_figures["per_label"].items()}
    assert min(figures.values()) > 0.85, figures
    by_site = {site: row["macro_auroc"] for site, row in table_of_figures["per_site"].items()}
    assert min(by_site.values()) > 0.75, by_site
