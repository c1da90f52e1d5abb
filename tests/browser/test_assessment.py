"""The page about one patient in a real browser: understood without sight, reached by keyboard, printed whole."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from browser.accessibility import faults, tab_stops
from browser.devtools import Page

from more_model.assess.assessment import Assessment, KnownReport
from more_model.assess.calibrated import Calibrated, Calibrations
from more_model.assess.distance import Limit
from more_model.assess.domain import Measure, Placed
from more_model.assess.explanations import Drawn, SentenceEffects
from more_model.assess.inputs import Admission, Input, RefusedPart
from more_model.assess.judge import Judgement
from more_model.assess.page import write_assessment
from more_model.assess.parts import Part
from more_model.assess.reference import CohortFacts, Finding, Header, ModelFacts, SelectionFacts
from more_model.data.study import Modality
from more_model.explain.explanation import Explanation
from more_model.explain.figure import explanation_png
from more_model.explain.words import WordWeights

LIMIT = Limit(2.0, 0.02, 49)


def finding(label: str, *, low: float) -> tuple[Finding, Calibrated]:
    curve = Calibrated(
        slope=1.0, intercept=0.0, covariance=(0.1, 0.0, 0.1), positives=9, negatives=40, auroc=0.8,
        auroc_ci95=(low, 0.9), skill=0.2, calibration_error=0.05, calibration_error_by_chance=0.04,
    )  # fmt: skip
    calibrations = Calibrations(curves={"xray": curve, "xray+report": curve}, refused={"ecg": "too few"})
    return Finding(
        label=label, modality="xray", positive="There is one.", negative="There is none.", train_positives=20,
        train_negatives=80, calibrations=calibrations,
    ), curve  # fmt: skip


def judgement(label: str, low: float, probability: float | None, agreement: Any = "") -> Judgement:
    asked, curve = finding(label, low=low)
    if probability is None:
        return Judgement(asked, (Part.XRAY,), None, None, None, {}, {}, "", "4 positives, at least 5 are needed")
    each = {Part.XRAY: 0.3, Part.REPORT: 0.6}
    ends = (probability - 0.1, probability + 0.1)
    return Judgement(asked, (Part.XRAY, Part.REPORT), curve, probability, ends, each, each, agreement, "")


@pytest.fixture
def assessment() -> Assessment:
    film = np.random.default_rng(0).integers(0, 255, (32, 32)).astype(np.uint8)
    weights = WordWeights((("There", 0.4), ("<b>is</b>", 0.6)), 0.0, 0.0, 0)
    explained = Explanation("xray", 0.4, film, np.full((32, 32), 1 / 1024, np.float32), "There is", weights, 100)
    vector = np.ones(4, dtype=np.float32)
    inputs = {
        Part.XRAY: Input(
            Part.XRAY,
            film,
            None,
            Modality.XRAY,
            ("rgb-to-grey",),
            vector,
            (Placed(Measure.XRAY_APPEARANCE, 1.0, LIMIT),),
        ),
        Part.REPORT: Input(Part.REPORT, None, "There <b>is</b>.", Modality.XRAY, (), vector, (), 0.9, 3),
    }
    far = (Placed(Measure.ECG_APPEARANCE, 9.0, LIMIT),)
    refused = {Part.ECG: RefusedPart(Part.ECG, "out-of-domain", "The ECG is too far.", "check its gain", far)}
    judgements = [
        judgement("Edema", 0.7, 0.6, "disagree"), judgement("Pneumonia", 0.4, 0.2), judgement("Fracture", 0.7, None),
    ]  # fmt: skip
    header = Header(
        model=ModelFacts(
            digest="ab" * 32, origin="A base.", preset="tiny", architecture="cd" * 32, preprocessing="ef" * 32,
            base={"base weights": "12" * 32},
        ),
        cohort=CohortFacts(
            digest="34" * 32,
            synthetic=True,
            sites={"north": {name: {"patients": 9, "triplets": 9} for name in ("train", "validation", "test")}},
            views=("PA",),
        ),
        prompts="own",
        false_refusals=0.05,
        findings=tuple(one.finding for one in judgements),
        selections={"xray+report": SelectionFacts(macro_auroc=0.8, ci95=(0.7, 0.9), labels=3)},
        limits={Measure.XRAY_APPEARANCE: LIMIT},
    )  # fmt: skip
    near = {Part.XRAY: [KnownReport(0.9, "Words & <i>more</i>", ("Edema",), 2)]}
    drawn = [Drawn(Part.XRAY, "Edema", explained, explanation_png([explained], dpi=40))]
    sentences = SentenceEffects("Edema", 0.6, (("First.", 0.5), ("Second.", 0.6)))
    return Assessment(header, Admission(inputs, refused), judgements, near, drawn, sentences)


def test_the_page_can_be_read_by_everyone(assessment: Assessment, page: Page, tmp_path: Path) -> None:
    write_assessment(tmp_path, assessment)
    page.goto(tmp_path / "assess.html")
    assert faults(page) == []
    _, unseen = tab_stops(page)
    assert unseen == []
    text = page.evaluate("document.body.innerText")
    for words in (
        "SYNTHETIC DATA",
        "for research use only",
        "The ECG was refused, and nothing below rests on it.",
        "A colour picture was turned to grey.",
        "the last 3 tokens were left out",
        "The X-ray raises it (without: 30 %).",
        "Findings that these inputs do not tell from chance",
        "4 positives, at least 5 are needed",
        "disagree",
        "Words & <i>more</i>",
        "X-ray and report (this page)",
    ):
        assert words in text, words
    (alt,) = page.evaluate("[...document.images].map((image) => image.alt)")
    assert alt.startswith("Heat map over a chest X-ray.")
    assert page.complaints() == []
    assert page.evaluate("fetch('http://127.0.0.1:9/').then(() => 'reached', () => 'refused')") == "refused"


def test_no_word_is_lost_on_a_narrow_screen_or_on_paper(assessment: Assessment, page: Page, tmp_path: Path) -> None:
    write_assessment(tmp_path, assessment)
    page.goto(tmp_path / "assess.html")
    page.call("Emulation.setDeviceMetricsOverride", width=360, height=800, deviceScaleFactor=1, mobile=False)
    assert page.evaluate("document.documentElement.scrollWidth <= 360")
    page.call("Emulation.clearDeviceMetricsOverride")
    page.call("Emulation.setEmulatedMedia", media="print")
    hidden = (
        "[...document.querySelectorAll('.scroll')].filter((e) => getComputedStyle(e).overflowX !== 'visible').length"
    )
    assert page.evaluate(hidden) == 0
