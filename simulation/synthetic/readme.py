"""The README that lies in every synthetic cohort."""

from __future__ import annotations

from simulation.synthetic.config import GENERATOR_VERSION, SynthConfig


def readme_text(config: SynthConfig, digest: str) -> str:
    """Plain text, the same for the same configuration."""
    last = config.first_subject_id + config.patients - 1
    return f"""SYNTHETIC DATA: NO PATIENT, NO PICTURE AND NO RECORD IN THIS FOLDER IS REAL

Everything here was computed by `more-sim synth` (generator version {GENERATOR_VERSION}). It has the shape of
MIMIC-CXR-JPG 2.0.0, MIMIC-CXR and MIMIC-IV-ECG 1.0, so that software written for those can be run and tested. It is
not those data sets, is not derived from them, and says nothing about any disease. Never use it for a clinical or
scientific statement.

patients {config.patients}, subject ids {config.first_subject_id} to {last}, seed {config.seed}
configuration digest {digest}

mimic-cxr-jpg/   pictures (JPEG), metadata, split, chexpert and negbio label tables
mimic-cxr/       report texts beside the study folders, DICOM files where asked for, record and study lists
mimic-iv-ecg/    WFDB records (500 Hz, 12 leads), record list, machine measurements with the machine's statements
synthetic_patients.csv     subject_id, hospital, sex, age at the first visit, year of the first visit
synthetic_ecg_labels.csv   NORM, MI, STTC, CD, HYP, AFIB of every ECG
synthetic_lesions.csv      where each finding was drawn: x of the width, y of the height, radius of the longer side

How it differs from the real releases:
- A finding that no word of the report speaks of is mostly 0.0 in the label tables, there it is blank.
- Labels follow the reader, who misses a drawn finding with probability {config.difficulty.label_noise};
  synthetic_lesions.csv has what was drawn.
- No Finding is 1.0 or 0.0; as there, support devices do not count as a finding.
- Pictures are not histogram-equalised. Every ECG is read by the machine only.
"""
