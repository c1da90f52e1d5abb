"""What a JPEG or PNG file says besides its pixels: comments, descriptions, EXIF."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Final

from privacy.deidentify.finding import Finding
from privacy.deidentify.reports import check_report

_GPS_TAG: Final = 0x8825
#: Texts that Pillow hands over as bytes: the comment of a JPEG file, and XMP.
_TEXTS_IN_BYTES: Final = frozenset({"comment", "xmp"})
_EXIF_DATE: Final = re.compile(r"^(\d{4}):(\d\d):(\d\d)\b")


def check_notes(notes: Mapping[Any, Any]) -> list[Finding]:
    """What may name somebody in the notes of a picture, by Pillow's names (``Image.info``) and EXIF numbers.

    Looked at are texts, dates and whether there is a position; not the colour profile, thumbnails and other binary
    content.
    """
    findings = [
        Finding(found.kind, f"note {name}, {found.place}")
        for name, value in notes.items()
        for found in check_report(_EXIF_DATE.sub(r"\1-\2-\3", _text(name, value)))
    ]
    if _GPS_TAG in notes:
        findings.append(Finding("address", "GPS position"))
    return findings


def _text(name: Any, value: Any) -> str:
    if isinstance(value, bytes) and name in _TEXTS_IN_BYTES:
        return value.decode("utf-8", errors="replace")
    return value if isinstance(value, str) else ""
