"""A MIMIC-IV-Note 2.2 release in small: four compressed tables in ``note/``."""

from __future__ import annotations

from pathlib import Path

from trees.mimic_cxr_jpg import write_csv

MAIN_COLUMNS = ("note_id", "subject_id", "hadm_id", "note_type", "note_seq", "charttime", "storetime", "text")
DETAIL_COLUMNS = ("note_id", "subject_id", "field_name", "field_value", "field_ordinal")


def write_mimic_iv_note(root: Path, *, patients: int = 6) -> Path:
    """Writes the release to ``root`` and returns it; texts span lines, as the real ones do."""
    subjects = [str(10_000_032 + 1_013 * patient) for patient in range(patients)]
    radiology = [
        (f"{s}-{kind}-{n}", s, "", kind, str(n), "2150-01-11 08:15:00", "2150-01-11 09:00:00", _quoted(s))
        for n, s in enumerate(subjects)
        for kind in ("RR", "AR")
    ]
    discharge = [
        (f"{s}-DS-{n}", s, "21234567", "DS", str(n), "2150-01-12 00:00:00", "", _quoted(s))
        for n, s in enumerate(subjects)
    ]
    details = [(row[0], row[1], "exam_name", "CHEST (PORTABLE AP)", "1") for row in radiology]
    write_csv(root / "note" / "radiology.csv.gz", MAIN_COLUMNS, radiology)
    write_csv(root / "note" / "radiology_detail.csv.gz", DETAIL_COLUMNS, details)
    write_csv(root / "note" / "discharge.csv.gz", MAIN_COLUMNS, discharge)
    write_csv(
        root / "note" / "discharge_detail.csv.gz",
        DETAIL_COLUMNS,
        [(r[0], r[1], "author", "___", "1") for r in discharge],
    )
    for name in ("LICENSE.txt", "SHA256SUMS.txt"):
        (root / name).write_text("\n")
    return root


def _quoted(subject: str) -> str:
    return f'"EXAMINATION: CHEST\n\nFINDINGS: No effusion, no consolidation in study ___ of {subject[-3:]}."'
