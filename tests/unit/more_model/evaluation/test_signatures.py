"""Each signature on made-up measures: its thresholds, its words, and what is not known."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest

from more_model.evaluation.finding import GRAVITY, SIGNATURES, Finding, Limits
from more_model.evaluation.signatures import examine


def found(measures: Mapping[str, Any], code: str, tower: str = "xray") -> Finding:
    return next(finding for finding in examine(measures) if (finding.code, finding.tower) == (code, tower))


def rounds(**series: list[float | None]) -> dict[str, Any]:
    count = max(map(len, series.values()))
    return {"segments": [{name: values[place] for name, values in series.items()} for place in range(count)]}


def test_limits_count_both_ends_as_crossed() -> None:
    above, below = Limits(1.0, 2.0), Limits(4.0, 2.0, worse="below")
    assert [above.judge(v)[0] for v in (0.99, 1.0, 1.99, 2.0)] == ["ok", "watch", "watch", "alarm"]
    assert [below.judge(v)[0] for v in (4.01, 4.0, 2.01, 2.0)] == ["ok", "watch", "watch", "alarm"]
    assert [above.judge(v)[1] for v in (0.5, 1.5, 2.5)] == [1.0, 1.0, 2.0]
    assert above.judge(float("nan"))[0] == below.judge(float("nan"))[0] == "alarm"


def test_nothing_measured_is_unknown_throughout_and_says_why() -> None:
    findings = examine({})
    assert {finding.code for finding in findings} == set(SIGNATURES)
    for finding in findings:
        assert (finding.verdict, finding.value, finding.threshold) == ("unknown", None, None)
        assert finding.sentence.startswith("Not known: ") and len(finding.sentence) > 15
    assert found({}, "loss").sentence == "Not known: nothing was trained in this arm."
    assert len({(finding.code, finding.tower) for finding in findings}) == len(findings)


def test_every_signature_is_explained_in_whole_sentences() -> None:
    for signature in SIGNATURES.values():
        assert signature.means.endswith(".") and signature.do.endswith(".")
    assert sorted(GRAVITY, key=lambda verdict: GRAVITY[verdict]) == ["unknown", "ok", "watch", "alarm"]


@pytest.mark.parametrize(
    ("loss", "verdict", "words"),
    [(1.5, "ok", "below guessing"), (2.87, "watch", "below"), (2.95, "alarm", "no better"), (3.4, "alarm", "worse")],
)
def test_loss_against_its_chance(loss: float, verdict: str, words: str) -> None:
    finding = found(rounds(loss_xray=[3.0, loss], chance_xray=[3.0, 3.0]), "loss")
    assert finding.verdict == verdict
    assert finding.value == pytest.approx(loss / 3)
    assert words in finding.sentence


def test_a_modality_that_a_site_lacks_is_unknown_not_alarming() -> None:
    measures = rounds(loss_ecg=[2.0, 1.0], chance_ecg=[3.0, 3.0], gradient_xray=[0.0, 0.0], gradient_ecg=[1.0, 1.0])
    for code in ("loss", "drag", "gradient"):
        assert found(measures, code).verdict == "unknown"
    assert found(measures, "loss", "ecg").verdict == "ok"


@pytest.mark.parametrize(
    ("code", "part", "facts", "verdict"),
    [
        ("rank", "towers", {"effective_rank": 1.9, "width": 64, "first_direction": 0.99}, "alarm"),
        ("rank", "towers", {"effective_rank": 2.5, "width": 64, "first_direction": 0.96}, "watch"),
        ("rank", "towers", {"effective_rank": 9.0, "width": 64, "first_direction": 0.4}, "ok"),
        ("spread", "towers", {"uniformity": -0.03}, "alarm"),
        ("spread", "towers", {"uniformity": -0.4}, "watch"),
        ("spread", "towers", {"uniformity": -1.4}, "ok"),
        ("held_out", "pairs", {"held_out_loss": 5.4, "chance": 5.4}, "alarm"),
        ("held_out", "pairs", {"held_out_loss": 4.0, "chance": 5.4}, "ok"),
        ("alignment", "pairs", {"alignment": 2.0, "mismatched": 2.0}, "alarm"),
        ("alignment", "pairs", {"alignment": 1.92, "mismatched": 2.0}, "watch"),
        ("alignment", "pairs", {"alignment": 0.9, "mismatched": 2.0}, "ok"),
        ("gap", "pairs", {"gap": 1.41}, "alarm"),
        ("gap", "pairs", {"gap": 1.08}, "watch"),
        ("gap", "pairs", {"gap": 0.82}, "ok"),
    ],
)
def test_geometry(code: str, part: str, facts: dict[str, Any], verdict: str) -> None:
    finding = found({part: {"xray": {"rows": 200, **facts}}}, code)
    assert finding.verdict == verdict
    assert "X-ray" in finding.sentence
    assert found({part: {"xray": {"rows": 7}}}, code).sentence == "Not known: only 7 held-out patients with X-ray."


def test_one_modality_falls_while_the_other_rises() -> None:
    measures = rounds(auroc_xray=[0.6, 0.8, 0.68], auroc_ecg=[0.6, 0.65, 0.7])
    finding = found(measures, "drag")
    assert (finding.verdict, finding.value) == ("alarm", pytest.approx(0.12))
    assert "fell back by 0.12 in validation AUROC while the ECG improved" in finding.sentence
    assert found(measures, "drag", "ecg").verdict == "ok"


def test_both_falling_is_not_drag() -> None:
    assert found(rounds(auroc_xray=[0.8, 0.6], auroc_ecg=[0.8, 0.7]), "drag").value == 0.0


def test_drag_shows_in_the_losses_too() -> None:
    finding = found(
        rounds(loss_xray=[2.0, 2.2], chance_xray=[3.0, 3.0], loss_ecg=[2.0, 1.0], chance_ecg=[3.0, 3.0]), "drag"
    )
    assert (finding.verdict, finding.value) == ("watch", pytest.approx(0.2 / 3))
    assert "loss" in finding.sentence


def test_one_round_shows_no_course() -> None:
    assert found(rounds(auroc_xray=[0.6], auroc_ecg=[0.6]), "drag").verdict == "unknown"


@pytest.mark.parametrize(("ecg", "verdict"), [(0.0, "alarm"), (0.01, "watch"), (0.5, "ok")])
def test_share_of_the_gradient(ecg: float, verdict: str) -> None:
    measures = rounds(
        loss_ecg=[1.0], chance_ecg=[2.0], gradient_xray=[(1 - ecg) / 2], gradient_text=[(1 - ecg) / 2],
        gradient_ecg=[ecg],
    )  # fmt: skip
    finding = found(measures, "gradient", "ecg")
    assert (finding.verdict, finding.value) == (verdict, pytest.approx(ecg))


@pytest.mark.parametrize(
    ("blocks", "verdict", "words"),
    [
        ([0.99999, 0.99995], "alarm", "everywhere alike"),
        ([0.995, 0.999], "watch", "everywhere alike"),
        ([0.999, 0.8], "ok", "choose"),
        ([0.7, 0.1], "watch", "one or two places"),
        ([0.01, 0.9], "alarm", "one or two places"),
    ],
)
def test_attention(blocks: list[float], verdict: str, words: str) -> None:
    finding = found({"attention": {"text": blocks}}, "attention", "text")
    assert finding.verdict == verdict
    assert words in finding.sentence


def spread(**labels: tuple[float, float]) -> dict[str, Any]:
    per_label = {name: {"min": low, "max": high} for name, (low, high) in labels.items()}
    return {"wording": {"per_label": per_label, "macro": {"min": 0.6, "max": 0.7}}}


def test_labels_that_turn_round_with_the_wording() -> None:
    assert found(spread(a=(0.7, 0.9), b=(0.48, 0.8)), "wording", "").verdict == "ok"
    one = found(spread(a=(0.7, 0.9), b=(0.2, 0.8), c=(0.6, 0.7)), "wording", "")
    assert one.verdict == "watch" and "1 of 3 labels turn round (b)" in one.sentence
    assert found(spread(a=(0.1, 0.9), b=(0.2, 0.8), c=(0.6, 0.7)), "wording", "").verdict == "alarm"


def test_seeds() -> None:
    def verdict(macro: list[float | None], per_label: list[dict[str, float | None]] | None = None) -> Finding:
        return found({"seeds": {"macro": macro, "per_label": per_label or []}}, "seeds", "")

    assert verdict([0.7]).sentence == "Not known: one seed was run."
    assert verdict([0.7, None]).verdict == "unknown"
    assert verdict([0.70, 0.71]).verdict == "ok"
    assert verdict([0.70, 0.75]).verdict == "watch"
    assert verdict([0.70, 0.85]).verdict == "alarm"
    assert verdict([0.48, 0.53]).verdict == "alarm"
    turned = verdict([0.70, 0.71], [{"Edema": 0.3, "Mass": 0.8}, {"Edema": 0.7, "Mass": None}])
    assert turned.verdict == "watch" and "Edema turned round" in turned.sentence
