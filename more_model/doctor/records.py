"""A look at a few WFDB records: are they whole, and in which order do their headers name the augmented leads."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from more_model.data.leads import canonical_lead
from more_model.data.wfdb_record import header_path, is_header_text
from more_model.doctor.finding import Finding, note

_FORMAT_16_BYTES = 2
_HEADERS_READ = 5
_AUGMENTED = ("aVR", "aVL", "aVF")


def record_files(records: Iterable[str]) -> list[str]:
    """The two files of every record (a path without extension)."""
    return [f"{record}{extension}" for record in records for extension in (".hea", ".dat")]


def is_whole(path: Path) -> bool:
    """Whether a header reads like one, and a 16-bit signal file is as long as its header says.

    A signal file without a header, or with one that states no length, is taken as it is.
    """
    header = header_path(path)
    text = _text(header)
    if path == header:
        return is_header_text(text)
    announced = _announced_bytes(text)
    return announced is None or path.stat().st_size >= announced


def lead_order_findings(root: Path, records: Iterable[str]) -> list[Finding]:
    """Which order the headers have; it differs between MIMIC-IV-ECG (aVR, aVF, aVL) and most others."""
    headers = [header_path(root / record) for record, _ in zip(records, range(_HEADERS_READ), strict=False)]
    orders = {order for header in headers if (order := _augmented_order(_text(header)))}
    if not orders:
        return []
    listed = " and ".join(", ".join(order) for order in sorted(orders))
    if orders == {_AUGMENTED}:
        return [note(f"Record headers name the augmented leads in the order {listed}, as PTB-XL does.")]
    return [
        note(
            f"Record headers name the augmented leads in the order {listed}; PTB-XL has {', '.join(_AUGMENTED)}.",
            "Nothing to do here: leads are read by name. Code that reads them by position swaps aVL and aVF.",
        )
    ]


def _text(header: Path) -> str:
    try:
        return header.read_text(encoding="utf-8", errors="replace")[:20_000]
    except FileNotFoundError:
        return ""


def _announced_bytes(text: str) -> int | None:
    lines = [line.split() for line in text.splitlines() if line.strip() and not line.startswith("#")]
    if len(lines) < 2 or len(lines[0]) < 4 or any(len(line) < 2 or line[1] != "16" for line in lines[1:]):
        return None
    signals, samples = lines[0][1], lines[0][3]
    if not (signals.isdigit() and samples.isdigit()):
        return None
    return int(signals) * int(samples) * _FORMAT_16_BYTES


def _augmented_order(text: str) -> tuple[str, ...]:
    names = [line.split()[-1] for line in text.splitlines()[1:] if line.strip() and not line.startswith("#")]
    leads = [canonical_lead(name) for name in names]
    return tuple(lead for lead in leads if lead in _AUGMENTED)
