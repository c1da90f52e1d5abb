"""A MIMIC-IV-ECG 1.0 release in small: its tables, its lead order, records that can be read."""

from __future__ import annotations

from pathlib import Path

from trees.mimic_cxr_jpg import write_csv
from trees.wfdb_files import twelve_leads_mv, write_wfdb

RECORD_COLUMNS = ("subject_id", "study_id", "file_name", "ecg_time", "path")
MACHINE_COLUMNS = (
    "subject_id", "study_id", "cart_id", "ecg_time", *(f"report_{number}" for number in range(18)), "bandwidth",
    "filtering", "rr_interval", "p_onset", "p_end", "qrs_onset", "qrs_end", "t_end", "p_axis", "qrs_axis", "t_axis",
)  # fmt: skip
LINK_COLUMNS = ("subject_id", "study_id", "waveform_path", "note_id", "note_seq", "charttime")
#: The order of this release; most others have aVL before aVF.
LEADS = ("I", "II", "III", "aVR", "aVF", "aVL", "V1", "V2", "V3", "V4", "V5", "V6")
_LINES = (
    ("Sinus rhythm", "Normal ECG", ""),
    ("Sinus bradycardia", "Left axis deviation", "Borderline ECG"),
    ("Atrial fibrillation", "Lateral ST-T changes may be due to myocardial ischemia", "Abnormal ECG"),
    ("Sinus rhythm", "", ""),
)


def write_mimic_iv_ecg(root: Path, *, patients: int = 12, rate_hz: int = 500, records: bool = True) -> Path:
    """Writes the release to ``root`` and returns it: one or two records a patient, subjects as in the MIMIC-CXR tree.

    Every third record is linked to a cardiologist's note that is nowhere to be found, as in the release. One machine
    report in four has fewer than four words. ``records=False`` writes the tables only.
    """
    rows = []
    for patient in range(patients):
        subject = str(10_000_032 + 1_013 * patient)
        for visit in range(1 + patient % 2):
            study = str(40_000_000 + 7_919 * patient + 101 * visit)
            path = f"files/p{subject[:4]}/p{subject}/s{study}/{study}"
            rows.append((subject, study, f"2150-0{1 + visit}-1{patient % 10} 0{patient % 9}:15:00", path))
    write_csv(root / "record_list.csv", RECORD_COLUMNS, [(s, n, n, time, path) for s, n, time, path in rows])
    write_csv(root / "machine_measurements.csv", MACHINE_COLUMNS, [_machine(k, *row[:3]) for k, row in enumerate(rows)])
    (root / "machine_measurements_data_dictionary.csv").write_text("Variable,Description\nrr_interval,msec\n")
    links = [(s, n, path, f"{s}-EK-{k}", str(k), time) for k, (s, n, time, path) in enumerate(rows) if k % 3 == 0]
    write_csv(root / "waveform_note_links.csv", LINK_COLUMNS, links)
    for name in ("LICENSE.txt", "RECORDS", "SHA256SUMS.txt"):
        (root / name).write_text("\n")
    for number, (*_, path) in enumerate(rows if records else []):
        tracing = twelve_leads_mv(number, rate_hz=rate_hz)
        ordered = {lead: tracing[lead.upper()] for lead in LEADS}
        write_wfdb(root / path, ordered, rate_hz=rate_hz, units_per_mv=200)
    return root


def _machine(number: int, subject: str, study: str, time: str) -> tuple[str, ...]:
    lines = _LINES[number % len(_LINES)]
    reports = (*lines, *([""] * (18 - len(lines))))
    return (subject, study, "6848296", time, *reports, "0.005-150 Hz", "60 Hz notch", "800", *(["40"] * 8))
