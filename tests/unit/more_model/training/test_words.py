"""Prefixes, and sentences made from labels where a site has no reports."""

from __future__ import annotations

from more_model.data.study import Modality, Split, Triplet
from more_model.training.words import LabelWording, about, joint, with_label_prompts

XRAYS = LabelWording(
    modality=Modality.XRAY,
    present={"Pneumonia": ["Pneumonia is present.", "There is pneumonia."], "Edema": ["Edema."]},
    absent={"Pneumonia": ["No pneumonia."]},
)
ECGS = LabelWording(modality=Modality.ECG, present={"NORM": ["A normal tracing."]})


def triplet(labels: dict[str, float], patient: str = "a", **parts: object) -> Triplet:
    given: dict[str, object] = {"xray": 0, "ecg": None, "xray_report": None, "ecg_report": None, **parts}
    return Triplet(patient, "north", Split.TRAIN, labels=labels, **given)  # type: ignore[arg-type]


def test_prefixes_say_which_study_the_words_are_about() -> None:
    assert about(Modality.XRAY, "Clear lungs.") == "chest x-ray report: Clear lungs."
    assert about(Modality.ECG, "Sinus rhythm.") == "ecg report: Sinus rhythm."
    assert joint("Clear.", "Sinus.") == "chest x-ray report: Clear. ecg report: Sinus."


def test_labels_become_words_in_a_fixed_order() -> None:
    filled, made = with_label_prompts([triplet({"Pneumonia": 0.0, "Edema": 1.0})], [XRAYS])
    assert made == 1
    assert filled[0].xray_report == "Edema. No pneumonia."


def test_uncertain_and_unstated_labels_are_not_worded() -> None:
    before = [triplet({"Pneumonia": -1.0}), triplet({}), triplet({"Edema": 0.0}), triplet({"Fracture": 1.0})]
    filled, made = with_label_prompts(before, [XRAYS])
    assert made == 0
    assert filled == before


def test_a_report_is_never_replaced_and_a_missing_study_gets_no_words() -> None:
    before = [triplet({"Edema": 1.0}, xray_report="Seen."), triplet({"Edema": 1.0}, xray=None, ecg=2)]
    filled, made = with_label_prompts(before, [XRAYS])
    assert (filled, made) == (before, 0)


def test_both_modalities_of_one_triplet() -> None:
    filled, made = with_label_prompts([triplet({"Edema": 1.0, "NORM": 1.0}, ecg=3)], [XRAYS, ECGS])
    assert made == 2
    assert (filled[0].xray_report, filled[0].ecg_report) == ("Edema.", "A normal tracing.")


def test_the_choice_of_wording_is_the_patients_alone() -> None:
    def said(patient: str) -> str | None:
        return with_label_prompts([triplet({"Pneumonia": 1.0}, patient)], [XRAYS])[0][0].xray_report

    assert [said("p1"), said("p1")] == [said("p1")] * 2
    assert {said(f"p{number}") for number in range(8)} == {"Pneumonia is present.", "There is pneumonia."}
