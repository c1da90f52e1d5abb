"""Names and numbers as people read them, the same on the page and on the terminal."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from simulation.report.reading import interval, number

MISSING = "–"
MINUS = "−"
#: Between a number and its unit, so that they are never torn apart at the end of a line.
_GAP = "\u00a0"

_ARM_NAMES = {
    "centralized": "Centralised",
    "federated": "Federated",
    "local": "Local only (mean)",
    "random_encoder": "Random encoder",
}

_ARM_EXPLANATIONS = {
    "centralized": "one model trained on the data of all sites together, which hospitals often may not do",
    "federated": "one model trained by all sites together; no study left its site",
    "local": "each site trains alone on its own data; the mean over those models is shown",
    "random_encoder": "an untrained encoder: the floor that any trained model must leave behind",
}

_MODALITIES = {"xray": "X-ray", "ecg": "ECG", "report": "report", "text": "report", "both": "X-ray and ECG"}


def arm_name(arm: str) -> str:
    """The name of an arm as it is shown; an arm of another kind is shown under its own name."""
    return _ARM_NAMES.get(arm, arm.replace("_", " ").replace(":", " ").strip().capitalize())


def arm_explanation(arm: str) -> str:
    """One clause on what an arm is; empty for an arm of another kind."""
    return _ARM_EXPLANATIONS.get(arm, "")


def modality_name(modality: object) -> str:
    """``xray`` becomes X-ray, and so on."""
    return _MODALITIES.get(str(modality), str(modality)) if modality else MISSING


def direction_name(direction: str) -> str:
    """``xray->text`` becomes "X-ray to report"."""
    words = " to ".join(modality_name(end.strip()) for end in direction.split("->"))
    return words[:1].upper() + words[1:]


def words_kind(kind: object) -> str:
    """What the words of a run are: reports, label prompts, or both."""
    return "reports and label prompts" if kind == "mixed" else str(kind or "words")


def auroc(value: float | None) -> str:
    """Three decimals."""
    return MISSING if value is None else f"{value:.3f}"


def signed(value: float | None, digits: int = 3) -> str:
    """A difference with its sign; zero after rounding carries none."""
    if value is None:
        return MISSING
    rounded = round(value, digits)
    sign = "" if rounded == 0 else (MINUS if rounded < 0 else "+")
    return f"{sign}{abs(rounded):.{digits}f}"


def estimate(values: Mapping[str, Any], key: str = "macro_auroc") -> str:
    """A value with its interval, "0.846 (0.812 to 0.879)"; without one the value alone; a dash where refused."""
    value, ends = number(values, key), interval(values)
    if value is None or ends is None:
        return auroc(value)
    return f"{auroc(value)} ({auroc(ends[0])} to {auroc(ends[1])})"


def difference(values: Mapping[str, Any], key: str = "macro_auroc") -> str:
    """A signed difference with its interval."""
    value, ends = number(values, key), interval(values)
    if value is None or ends is None:
        return signed(value)
    return f"{signed(value)} ({signed(ends[0])} to {signed(ends[1])})"


def count(value: object) -> str:
    """Whole numbers with thousands separated; text such as "<5" passes as it is."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return MISSING if value is None else str(value)
    return f"{value:,.0f}" if float(value).is_integer() else f"{value:,.1f}"


def percent(share: float | None) -> str:
    """A share (0 to 1) in percent, with enough digits that a small share does not become zero."""
    if share is None:
        return MISSING
    value = 100.0 * share
    digits = 0 if value == 0 else 1 if abs(value) >= 1 else 2 if abs(value) >= 0.1 else 3
    return f"{value:.{digits}f}{_GAP}%"


def size(n_bytes: float | None) -> str:
    """Bytes in decimal units (1 MB = 1,000,000 bytes)."""
    if n_bytes is None:
        return MISSING
    value = float(n_bytes)
    for unit in ("bytes", "kB", "MB", "GB"):
        if abs(value) < 1000 or unit == "GB":
            break
        value /= 1000
    return f"{value:,.0f}{_GAP}{unit}" if unit == "bytes" else f"{value:,.1f}{_GAP}{unit}"


def duration(seconds: float | None) -> str:
    """Seconds as "48 s", "3 min 5 s" or "2 h 10 min"."""
    if seconds is None:
        return MISSING
    if seconds < 9.95:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    return f"{whole // 3600} h {whole % 3600 // 60} min"


def listing(names: list[str]) -> str:
    """ "A", "A and B", "A, B and C"."""
    return names[0] if len(names) == 1 else ", ".join(names[:-1]) + f" and {names[-1]}" if names else ""


def plural(n: int, one: str, many: str = "") -> str:
    """ "1 site", "3 sites"."""
    return f"{n:,} {one if n == 1 else many or one + 's'}"
