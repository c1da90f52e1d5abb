"""A folder of reader-study cases with pictures, tracings and truths that are known, and answer files for it."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from more_model.reader_study.manifest import Manifest, PlannedReading

LABELS = ("Edema", "Pleural Effusion")
#: Words that must never reach a reader.
SECRETS = ("secret-patient", "secret-case", "secret-file", "secret-comment", "secret-profile")


def write_cases(folder: Path, count: int = 8) -> list[dict[str, Any]]:
    """``cases.jsonl`` with its files; case i has edema where i is odd, an effusion in the second half. Case 1 has no
    ECG, case 2 no X-ray and no explanation, case 3 a script's end in its report, case 4 an ECG that is a picture."""
    from PIL import Image
    from PIL.PngImagePlugin import PngInfo

    folder.mkdir(parents=True, exist_ok=True)
    generator = np.random.default_rng(4)
    hidden = PngInfo()
    hidden.add_text("Comment", "secret-comment")
    records = []
    for number in range(count):
        truth = {"Edema": number % 2, "Pleural Effusion": int(number >= count // 2)}
        for kind in ("xray", "explanation", "trace"):
            picture = Image.fromarray(generator.integers(0, 256, (24, 20), dtype=np.uint8))
            picture.save(folder / f"secret-file-{kind}-{number}.png", pnginfo=hidden, icc_profile=b"secret-profile")
        np.save(folder / f"secret-file-ecg-{number}.npy", generator.normal(0, 0.2, (12, 50)).astype(np.float32))
        record: dict[str, Any] = {
            "id": f"secret-case-{number}",
            "patient": f"secret-patient-{number // 2}",
            "truth": truth,
            "xray": f"secret-file-xray-{number}.png",
            "ecg": f"secret-file-ecg-{number}.npy",
            "ecg_rate_hz": 50,
            "explanation": f"secret-file-explanation-{number}.png",
            "probability": {"Edema": 0.9 if number % 2 else 0.2},
        }
        if number == 1:
            record = {key: value for key, value in record.items() if not key.startswith("ecg")}
        if number == 2:
            record = {key: value for key, value in record.items() if key not in {"xray", "explanation"}}
        if number == 3:
            record["report"] = 'lungs clear </script><script>document.title = "broken"</script> & heart < normal'
        if number == 4:
            record["ecg"] = "secret-file-trace-4.png"
        records.append(record)
    (folder / "cases.jsonl").write_text("\n".join(map(json.dumps, records)) + "\n", encoding="utf-8")
    return records


def write_answers(
    path: Path,
    manifest: Manifest,
    reader: str,
    rate: Callable[[PlannedReading, str], int],
    *,
    readings: int | None = None,
    seconds: Callable[[PlannedReading], float] = lambda reading: 10.0,
    pause: timedelta = timedelta(days=30),
) -> dict[str, Any]:
    """An answer file as the page exports it; ``rate(reading, label)`` is the answer. Returns its content."""
    now, given = datetime(2026, 3, 2, 8, tzinfo=UTC), []
    for session, planned in enumerate(manifest.orders[reader], start=1):
        for position, reading in enumerate(planned, start=1):
            given.append(
                {
                    "session": session,
                    "position": position,
                    "case": reading.case,
                    "aided": reading.aided,
                    "ratings": {label: rate(reading, label) for label in manifest.cases[reading.case].labels},
                    "comment": "",
                    "quality_limited": False,
                    "visible_ms": round(1000 * seconds(reading)),
                    "opened": now.isoformat(),
                    "saved": (now + timedelta(seconds=20)).isoformat(),
                }
            )
            now += timedelta(seconds=30)
        now += pause
    content = {
        "format": "more-fed reader-study answers 1",
        "study": manifest.study,
        "package_digest": manifest.digest,
        "page_version": "0.1.0",
        "reader": reader,
        "started": "2026-03-02T07:59:00Z",
        "complete": readings is None,
        "exported": now.isoformat(),
        "exported_count": len(given[:readings]),
        "readings": given[:readings],
        "draft": None,
    }
    path.write_text(json.dumps(content), encoding="utf-8")
    return content
