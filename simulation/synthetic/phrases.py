"""The vocabulary of the synthetic reports: phrases per finding. ``{side}`` and ``{grade}`` are filled in."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Phrases:
    """Ways to say that a finding is there, may be there, is not there; ``noun`` names it in a list."""

    group: str
    present: tuple[str, ...]
    uncertain: tuple[str, ...]
    absent: tuple[str, ...]
    summary: tuple[str, ...]


PHRASES: Mapping[str, Phrases] = {
    "Support Devices": Phrases(
        "devices",
        (
            "support devices are in standard position",
            "a pacemaker or central line is in place",
            "support devices including a central venous catheter are seen",
        ),
        ("a support device may be projecting over the chest",),
        ("support devices", "lines or tubes"),
        ("support devices in place",),
    ),
    "Lung Opacity": Phrases(
        "lungs",
        ("there is a {side} lung opacity", "hazy opacity in the {side} lung", "{side} lung opacity is seen"),
        ("possible {side} lung opacity", "a subtle opacity in the {side} lung is not excluded"),
        ("focal opacity", "lung opacity"),
        ("{side} lung opacity", "lung opacity"),
    ),
    "Consolidation": Phrases(
        "lungs",
        (
            "there is {side} lung consolidation",
            "dense consolidation in the {side} lung",
            "{grade} focal consolidation is seen on the {side}",
        ),
        ("possible {side} consolidation", "early consolidation in the {side} lung cannot be excluded"),
        ("focal consolidation", "consolidation"),
        ("{side} lung consolidation", "{side} consolidation"),
    ),
    "Pneumonia": Phrases(
        "lungs",
        (
            "patchy infiltrate at the {side} lung base consistent with pneumonia",
            "findings are compatible with {side} lower lobe pneumonia",
            "there is {side} pneumonia",
        ),
        ("possible {side} pneumonia in the appropriate clinical setting", "pneumonia is difficult to exclude"),
        ("pneumonia", "evidence of pneumonia"),
        ("{side} lower lobe pneumonia", "{side} pneumonia"),
    ),
    "Edema": Phrases(
        "lungs",
        (
            "there is {grade} pulmonary edema",
            "perihilar haze and septal lines consistent with {grade} pulmonary edema",
            "{grade} interstitial pulmonary edema is present",
        ),
        ("possible {grade} pulmonary edema", "questionable vascular congestion or early edema"),
        ("pulmonary edema", "edema"),
        ("{grade} pulmonary edema", "pulmonary edema"),
    ),
    "Atelectasis": Phrases(
        "lungs",
        (
            "there is {side} basilar atelectasis",
            "linear atelectasis at the {side} base with volume loss",
            "bandlike {side} atelectasis is noted",
        ),
        ("possible {side} basilar atelectasis", "likely but not certain {side} atelectasis"),
        ("atelectasis", "volume loss"),
        ("{side} basilar atelectasis", "{side} atelectasis"),
    ),
    "Lung Lesion": Phrases(
        "lungs",
        (
            "a rounded nodule is seen in the {side} lung",
            "there is a {side} lung lesion",
            "a {grade} pulmonary nodule projects over the {side} lung",
        ),
        ("possible {side} lung nodule", "a nodular density on the {side} may be a lung lesion"),
        ("lung lesion", "pulmonary nodule"),
        ("{side} lung nodule", "{side} lung lesion"),
    ),
    "Pleural Effusion": Phrases(
        "pleura",
        (
            "there is a {grade} {side} pleural effusion",
            "{side} costophrenic angle is blunted by a {grade} pleural effusion",
            "{grade} {side} pleural effusion is present",
        ),
        ("possible {grade} {side} pleural effusion", "a trace {side} pleural effusion is not excluded"),
        ("pleural effusion", "effusion"),
        ("{grade} {side} pleural effusion", "{side} pleural effusion"),
    ),
    "Pneumothorax": Phrases(
        "pleura",
        (
            "there is a {grade} {side} pneumothorax",
            "a {side} pleural line indicates a {grade} pneumothorax",
            "{grade} {side} apical pneumothorax is seen",
        ),
        ("possible {grade} {side} pneumothorax", "a skin fold or {side} pneumothorax"),
        ("pneumothorax",),
        ("{grade} {side} pneumothorax", "{side} pneumothorax"),
    ),
    "Pleural Other": Phrases(
        "pleura",
        (
            "there is {side} pleural thickening",
            "{side} pleural thickening with calcified plaques",
            "calcified pleural plaques on the {side}",
        ),
        ("possible {side} pleural thickening",),
        ("pleural thickening", "pleural plaques"),
        ("{side} pleural thickening", "{side} pleural plaques"),
    ),
    "Cardiomegaly": Phrases(
        "heart",
        (
            "there is {grade} cardiomegaly",
            "the heart is enlarged consistent with {grade} cardiomegaly",
            "{grade} cardiomegaly is present",
        ),
        ("possible cardiomegaly accounting for technique", "heart size is borderline"),
        ("cardiomegaly", "cardiac enlargement"),
        ("{grade} cardiomegaly", "cardiomegaly"),
    ),
    "Enlarged Cardiomediastinum": Phrases(
        "heart",
        (
            "the cardiomediastinal silhouette is widened",
            "there is mediastinal widening",
            "enlarged cardiomediastinum is noted",
        ),
        ("possible mediastinal widening",),
        ("mediastinal widening", "enlarged cardiomediastinum"),
        ("mediastinal widening", "enlarged cardiomediastinum"),
    ),
    "Fracture": Phrases(
        "bones",
        (
            "there are {side} rib fractures",
            "several {side} lateral rib fractures are seen",
            "healing {side} rib fractures with callus",
        ),
        ("possible {side} rib fracture",),
        ("rib fracture", "acute fracture"),
        ("{side} rib fractures",),
    ),
}

#: Whole sentences for a normal group; each entails that the named findings are absent.
NORMAL_GROUPS: Mapping[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "lungs": (
        ("the lungs are clear", "lungs are well expanded and clear"),
        ("Lung Opacity", "Consolidation", "Pneumonia", "Edema", "Atelectasis", "Lung Lesion"),
    ),
    "pleura": (
        ("pleural surfaces are normal", "costophrenic angles are sharp"),
        ("Pleural Effusion", "Pneumothorax", "Pleural Other"),
    ),
    "heart": (
        ("the cardiomediastinal silhouette is normal", "heart size and mediastinal contours are normal"),
        ("Cardiomegaly", "Enlarged Cardiomediastinum"),
    ),
    "bones": (("osseous structures are intact", "bones are unremarkable"), ("Fracture",)),
}

NORMAL_IMPRESSION = (
    "no acute cardiopulmonary process",
    "normal chest radiograph",
    "no acute intrathoracic abnormality",
    "no acute cardiopulmonary abnormality",
)

INDICATIONS = (
    "shortness of breath",
    "chest pain",
    "cough and fever",
    "fall",
    "dyspnea on exertion",
    "preoperative evaluation",
    "altered mental status",
    "hypoxia",
    "line placement",
    "follow up",
)

GRADES = ("small", "moderate", "large")
#: Findings that are graded by intensity rather than by size.
MILD_GRADES = ("mild", "moderate", "severe")
GRADED_BY_INTENSITY = ("Edema", "Cardiomegaly", "Consolidation")

#: Machine statements of an ECG cart.
ECG_RHYTHM = {"regular": "Sinus rhythm", "slow": "Sinus bradycardia", "fast": "Sinus tachycardia"}
ECG_FIBRILLATION = (
    "Atrial fibrillation",
    "Atrial fibrillation with irregular ventricular response",
    "Rhythm is atrial fibrillation",
)
ECG_HYPERTROPHY = (
    "Left ventricular hypertrophy",
    "Probable left ventricular hypertrophy",
    "Left ventricular hypertrophy by voltage criteria",
)
ECG_STTC = (
    "Lateral ST-T changes may be due to myocardial ischemia",
    "ST depression and T wave inversion, consider ischemia",
    "Nonspecific ST-T wave abnormality",
)
ECG_BLOCK = {
    "left": ("Left bundle branch block",),
    "right": ("Right bundle branch block",),
    "first-degree": ("First degree A-V block with intraventricular conduction delay",),
}
ECG_INFARCT = {
    "anterior": ("Anterior infarct, age indeterminate", "Possible anterior myocardial infarction"),
    "inferior": ("Inferior infarct, age indeterminate", "Possible inferior myocardial infarction"),
    "lateral": ("Lateral infarct, age indeterminate", "Possible lateral myocardial infarction"),
}
ECG_SUMMARY_NORMAL = ("Normal ECG", "Within normal limits ECG")
ECG_SUMMARY_ABNORMAL = ("Abnormal ECG", "Abnormal ECG tracing")
