"""Every selection of the three inputs of one patient can be judged, explained and shown."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from more_model.assess.assessment import Assessment, assess_inputs
from more_model.assess.inputs import Admission, Input
from more_model.assess.judge import judge
from more_model.assess.page import assessment_page, contribution, write_assessment
from more_model.assess.parts import SELECTIONS, Part, Selection, in_words, key

ALL = SELECTIONS[-1]


@pytest.fixture(scope="module")
def assessed(reference: Any, prepared: Any, admitted: Mapping[Part, Input]) -> Mapping[Selection, Assessment]:
    return {
        chosen: assess_inputs(
            reference, prepared.trained, Admission({part: admitted[part] for part in chosen}, {}), threads=1
        )
        for chosen in SELECTIONS
    }


@pytest.mark.parametrize("chosen", SELECTIONS, ids=key)
def test_every_selection_of_the_three_inputs(
    assessed: Mapping[Selection, Assessment], chosen: Selection, tmp_path: Path
) -> None:
    content: Any = write_assessment(tmp_path, assessed[chosen])
    assert content == json.loads((tmp_path / "assess.json").read_text(encoding="utf-8"))
    assert content["given"] == list(chosen) == list(content["inputs"])
    assert content["missing"] == [part for part in Part if part not in chosen]
    assert list(content["nearest_reports"]) == list(chosen)
    assert all(content["nearest_reports"].values())
    judged = [one for one in content["findings"] if one["probability"] is not None]
    assert len(content["findings"]) == 20
    assert judged
    for one in judged:
        low, high = one["ci95"]
        assert 0 <= low <= one["probability"] <= high <= 1
        assert set(one["parts"]) <= set(chosen)
        assert set(one["alone"]) == set(one["parts"])
        assert set(one["without"]) == (set(one["parts"]) if len(one["parts"]) > 1 else set())
    assert all(one["reason"] for one in content["findings"] if one["probability"] is None)
    page = (tmp_path / "assess.html").read_text(encoding="utf-8")
    assert f"What the model says from {in_words(chosen)}" in page
    assert page.count("not given") == 3 - len(chosen)


def test_a_report_speaks_of_its_own_kind_of_study_alone(assessed: Mapping[Selection, Assessment]) -> None:
    for assessment in assessed.values():
        for one in assessment.judgements:
            assert Part.REPORT not in one.chosen or one.finding.modality == "xray"
    alone = {one.finding.modality for one in assessed[(Part.REPORT,)].judgements if one.probability is not None}
    assert alone == {"xray"}


def test_contributions_are_those_of_the_smaller_selections(
    assessed: Mapping[Selection, Assessment], reference: Any, admitted: Mapping[Part, Input]
) -> None:
    compared = 0
    for one in assessed[ALL].judgements:
        for part, value in one.without.items():
            rest = tuple(other for other in one.chosen if other is not part)
            (smaller,) = [
                found
                for found in judge(reference, {other: admitted[other] for other in rest})
                if found.finding is one.finding
            ]
            assert smaller.probability == (None if value is None else pytest.approx(value))
            compared += 1
    assert compared > 10


def test_what_each_input_contributed_in_words(assessed: Mapping[Selection, Assessment]) -> None:
    for one in assessed[(Part.XRAY, Part.ECG)].judgements:
        if len(one.chosen) == 2 and one.probability is not None:
            told = contribution(one)
            for part in one.chosen:
                change = one.probability - (one.without[part] or 0.0)
                if one.without[part] is None:
                    assert f"Without the {part.words} there is no probability." in told
                elif abs(change) >= 0.005:
                    assert f"The {part.words} {'raises' if change > 0 else 'lowers'} it" in told
    (alone,) = {contribution(one) for one in assessed[(Part.ECG,)].judgements if one.probability is not None}
    assert alone == "All of it is from the ECG."


def test_explanations_are_of_what_was_given(assessed: Mapping[Selection, Assessment]) -> None:
    drawn = {chosen: [(one.part, one.finding is None) for one in made.drawn] for chosen, made in assessed.items()}
    assert drawn[(Part.REPORT,)] == []
    assert drawn[(Part.XRAY,)] == [(Part.XRAY, False)]
    assert drawn[(Part.ECG,)] == [(Part.ECG, False)]
    # The words of a report about an X-ray are explained by the X-ray.
    assert drawn[ALL] == [(Part.XRAY, False), (Part.XRAY, True), (Part.ECG, False)]
    sentences = assessed[(Part.REPORT,)].sentences
    assert sentences is not None
    assert len(sentences.without) > 1
    assert assessed[(Part.XRAY,)].sentences is None


def test_the_card_names_model_cohort_and_limits(assessed: Mapping[Selection, Assessment], prepared: Any) -> None:
    page = assessment_page(assessed[ALL])
    (card,) = [section for section in page.sections if section.anchor == "model"]
    told = " ".join(f"{term} {words}" for block in card.blocks if block.kind == "facts" for term, words in block.items)
    patients = {one.patient_id for one in prepared.cohort.examples.triplets if one.split == "train"}
    for words in (
        prepared.trained.digest,
        prepared.trained.config.preprocessing.digest(),
        "Base: base weights",
        f"{len(patients)} training patients",
        "synthetic: every patient was generated",
    ):
        assert words in told
    rows = [str(row[0]) for block in card.blocks if block.kind == "table" for row in block.rows]
    assert "X-ray, ECG and report (this page)" in rows
