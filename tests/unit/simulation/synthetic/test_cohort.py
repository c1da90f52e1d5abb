"""The cohort as a whole: consistent over its modalities, hospitals that differ, learnable, refused when impossible."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from PIL import Image
from pydantic import ValidationError
from sklearn.decomposition import PCA
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score

from more_model.data.mimic_cxr import CHEXPERT_LABELS
from simulation.synthetic.config import FIRST_SUBJECT, VISIT_STRIDE, HospitalProfile, SynthConfig
from simulation.synthetic.hospitals import BUILT_IN, deal_patients, resolve_hospitals
from simulation.synthetic.patient import study_id
from simulation.synthetic.tree import write_cohort

CHEXPERT = "mimic-cxr-jpg/mimic-cxr-2.0.0-chexpert.csv.gz"
METADATA = "mimic-cxr-jpg/mimic-cxr-2.0.0-metadata.csv.gz"


def test_marks_are_where_labels_say_something_is_present(written_cohort):
    films = written_cohort.table(METADATA)
    frontal = films[films["ViewPosition"].isin(["PA", "AP"])].merge(written_cohort.table(CHEXPERT))
    marks = written_cohort.table("synthetic_lesions.csv").groupby("dicom_id")["finding"].agg(set)
    assert marks.index.isin(frontal["dicom_id"]).all()
    for row in frontal.to_dict("records"):
        drawn = marks.get(row["dicom_id"], set())
        for finding in CHEXPERT_LABELS:
            if finding == "No Finding":
                assert not (row[finding] == 1.0 and drawn - {"Support Devices"})
            elif row[finding] == 1.0 and finding != "Lung Opacity":
                assert finding in drawn
            elif row[finding] == 0.0:
                assert finding not in drawn


def test_marks_lie_in_the_picture(written_cohort):
    marks = written_cohort.table("synthetic_lesions.csv")
    assert marks[["x", "y"]].min().min() >= 0.0
    assert marks[["x", "y"]].max().max() <= 1.0
    assert marks["radius"].between(0.01, 0.4).all()


def test_machine_statements_agree_with_the_ecg_labels(written_cohort):
    ecgs = written_cohort.table("mimic-iv-ecg/machine_measurements.csv").merge(
        written_cohort.table("synthetic_ecg_labels.csv")
    )
    reports = ecgs[[f"report_{number}" for number in range(18)]].astype(object)
    ecgs["text"] = reports.apply(lambda row: ". ".join(row.dropna()), axis=1)
    for label, pattern in {
        "AFIB": "fibrillation",
        "HYP": "hypertrophy",
        "CD": "block",
        "MI": "infarct",
        "STTC": r"ST-T|ST depression",
        "NORM": r"Normal ECG|Within normal limits",
    }.items():
        assert (ecgs["text"].str.contains(pattern) == (ecgs[label] == 1)).all(), label
    assert (ecgs["text"].str.split().str.len() >= 4).all()
    assert (ecgs["p_onset"] == 29_999).eq(ecgs["AFIB"] == 1).all()


def test_the_vocabulary_is_small(written_cohort):
    texts = [path.read_text() for path in (written_cohort.root / "mimic-cxr").rglob("*.txt")]
    words = {word for text in texts for word in text.lower().split()}
    assert 100 < len(words) < 1500


def test_hospitals_differ_in_scanner_carts_and_writing(written_cohort):
    patients = written_cohort.table("synthetic_patients.csv").set_index("subject_id")["hospital"]
    carts = written_cohort.table("mimic-iv-ecg/machine_measurements.csv").set_index("subject_id")["cart_id"]
    ranges = carts.groupby(patients.reindex(carts.index).to_numpy()).agg(["min", "max"]).sort_values("min")
    assert (ranges["min"].to_numpy()[1:] > ranges["max"].to_numpy()[:-1]).all()
    scanners = {(profile.scanner.manufacturer, profile.scanner.model_name) for profile in BUILT_IN}
    assert len(scanners) == len(BUILT_IN)
    films = written_cohort.table(METADATA)
    shapes = (films["Columns"] / films["Rows"]).groupby(patients.reindex(films["subject_id"]).to_numpy()).median()
    assert shapes["academic"] < 0.9 < shapes["harbour"]
    assert len({profile.style.model_dump_json() for profile in BUILT_IN}) >= 6


def test_hospitals_past_the_eighth_get_names_and_carts_of_their_own():
    profiles = resolve_hospitals(20)
    assert len({profile.name for profile in profiles}) == 20
    assert len({profile.device.cart_id_first for profile in profiles}) == 20
    assert profiles[8].name == "academic-2"


def test_patients_are_dealt_by_share_and_early_ones_stay():
    profiles = (HospitalProfile(name="big", share=3.0), HospitalProfile(name="small", share=1.0))
    dealt = deal_patients(profiles, 400)
    assert dealt.count(0) == 300
    assert deal_patients(profiles, 37) == dealt[:37]


def test_study_ids_never_collide():
    ids = {study_id(3, FIRST_SUBJECT + k, visit, 5) for k in range(5000) for visit in range(VISIT_STRIDE)}
    assert len(ids) == 5000 * VISIT_STRIDE


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"patients": 0}, "greater than or equal to 1"),
        ({"patients": 10, "first_subject_id": 19_999_995}, "would pass"),
        ({"patients": 5, "hospitals": 0}, "between 1 and 1000"),
        ({"patients": 5, "jpg": False, "dicom": False, "ecg": False}, "at least one"),
        ({"patients": 5, "missing_xray": 1.0, "missing_ecg": 1.0}, "cannot both"),
        ({"patients": 5, "hospitals": [{"name": "a"}, {"name": "a"}]}, "unique"),
        ({"patients": 5, "hospitals": [{"name": "a", "case_mix": {"Scurvy": 1.0}}]}, "unknown finding"),
        ({"patients": 5, "wings": 2}, "Extra inputs"),
    ],
)
def test_impossible_settings_are_refused(settings, message):
    with pytest.raises(ValidationError, match=message):
        SynthConfig.model_validate(settings)


def test_findings_can_be_learned_from_64_pixel_pictures(tmp_path):
    config = SynthConfig(
        patients=420, hospitals=(BUILT_IN[0],), seed=1, image_px=64, ecg=False, max_visits=1, lateral_rate=0.0
    )
    write_cohort(config, tmp_path / "c", workers=1)
    films = pd.read_csv(tmp_path / "c" / METADATA).merge(pd.read_csv(tmp_path / "c" / CHEXPERT))
    paths = {path.stem: path for path in (tmp_path / "c" / "mimic-cxr-jpg").rglob("*.jpg")}
    pixels = np.stack([np.asarray(Image.open(paths[name]), dtype=np.float32).ravel() for name in films["dicom_id"]])
    codes = PCA(100, whiten=True, random_state=0).fit(pixels[:280]).transform(pixels)
    scores = {}
    for label in CHEXPERT_LABELS:
        truth = films[label].to_numpy()
        known = np.isin(truth, (0.0, 1.0))
        train, test = known & (np.arange(len(known)) < 280), known & (np.arange(len(known)) >= 280)
        model = LogisticRegression(C=0.01, max_iter=300).fit(codes[train], truth[train])
        scores[label] = roc_auc_score(truth[test], model.decision_function(codes[test]))
    assert min(scores.values()) > 0.6, scores
    assert 0.75 < np.mean(list(scores.values())) < 0.98, scores
