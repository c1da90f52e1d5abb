"""A made-up run in the shape of ``summary.json``. Its numbers exist for these tests alone."""

from __future__ import annotations

import copy
from collections import Counter
from collections.abc import Callable
from dataclasses import asdict, dataclass
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from more_model.evaluation.signatures import examine
from simulation.report import Example, LearningPoint, ReportDetails

LABELS = {
    "Atelectasis": "xray",
    "Cardiomegaly": "xray",
    "Consolidation": "xray",
    "Edema": "xray",
    "Fracture": "xray",
    "Pleural Effusion": "xray",
    "Pneumonia": "xray",
    "Pneumothorax": "xray",
    "Support Devices": "xray",
    "NORM": "ecg",
    "MI": "ecg",
    "STTC": "ecg",
    "CD": "ecg",
    "AFIB": "ecg",
}
SITES = ("north", "river", "coast", "valley")
STRENGTH = {"centralized": 0.862, "federated": 0.848, "local": 0.781, "random_encoder": 0.503}


def _around(value: float, half: float) -> dict[str, Any]:
    return {"macro_auroc": value, "ci95": [value - half, value + half]}


def _per_label(strength: float, generator: np.random.Generator) -> dict[str, Any]:
    entries: dict[str, Any] = {}
    for place, (label, modality) in enumerate(LABELS.items()):
        positives = 12 + 7 * place
        value = float(np.clip(strength + generator.normal(0, 0.03), 0.02, 0.98))
        half = 0.35 / positives**0.5
        entries[label] = {
            "auroc": value,
            "ci95": [max(0.0, value - half), min(1.0, value + half)],
            "positives": positives,
            "negatives": 260 - positives,
            "modality": modality,
        }
    entries["Pneumothorax"]["positives"], entries["Pneumothorax"]["negatives"] = 6, 254
    entries["Fracture"] = {
        "auroc": None,
        "ci95": None,
        "positives": 1,
        "negatives": 259,
        "modality": "xray",
        "reason": "fewer than two positives",
    }
    return entries


def _health(*, trained: bool) -> dict[str, Any]:
    """As measured of a sound model, or of random weights."""
    segments = [
        {"segment": n, "loss_xray": 2.9 / n**0.1, "chance_xray": 2.95, "loss_ecg": 2.8 / n**0.2, "chance_ecg": 2.86,
         "gradient_xray": 1.0, "gradient_ecg": 2.0, "gradient_text": 1.5, "auroc_xray": 0.7, "auroc_ecg": 0.8}
        for n in range(1, 9)
    ]  # fmt: skip
    tower = {"rows": 200, "width": 64, "effective_rank": 9.0, "first_direction": 0.4, "uniformity": -1.2}
    pair = {"rows": 190, "alignment": 0.9, "mismatched": 1.5, "gap": 0.8, "held_out_loss": 4.4, "chance": 5.3}
    if not trained:
        tower |= {"uniformity": -0.03}
        pair |= {"alignment": 2.0, "mismatched": 2.0, "gap": 1.4, "held_out_loss": 5.3}
    measures = {
        "towers": {"xray": tower | {"effective_rank": 2.5}, "ecg": tower, "text": tower},
        "pairs": {"xray": pair, "ecg": pair},
        "segments": segments if trained else [],
        "attention": {name: [0.97, 0.9] for name in ("xray", "ecg", "text")},
        "wording": {},
        "seeds": {},
    }
    return {"findings": [asdict(finding) for finding in examine(measures)], "measures": measures}


def _arm(strength: float, seed: int) -> dict[str, Any]:
    generator = np.random.default_rng(seed)
    directions = ("xray->text", "ecg->text", "text->xray", "text->ecg")
    hits = max(0.004, (strength - 0.5) * 0.8)
    return {
        **_around(strength, 0.021),
        "per_label": _per_label(strength, generator),
        "per_site": {
            site: {**_around(strength + 0.01 * place - 0.015, 0.045), "labels": 11 - place}
            for place, site in enumerate(SITES)
        },
        "linear_probe": {
            **_around(min(0.97, strength + 0.02), 0.02),
            "per_label": _per_label(strength + 0.02, generator),
        },
        "retrieval": {
            way: {
                "recall@1": hits / 4,
                "recall@5": hits,
                "recall@10": hits * 1.4,
                "median_rank": 1 + round(40 * (1 - hits)),
                "mrr": hits / 2,
                "candidates": 231,
                "chance@1": 1 / 231,
            }
            for way in directions
        },
        "seconds": 41.7 + seed,
        "health": _health(trained=strength > 0.6),
    }


def _rounds() -> list[dict[str, Any]]:
    rounds = []
    for number in range(1, 9):
        sites: dict[str, Any] = {
            site: {"state": "accepted", "why": None, "pairs_xray": 0 if site == "valley" else 130, "pairs_ecg": 120}
            for site in SITES
        }
        if number == 3:
            sites["coast"] = {"state": "late", "why": "no update within 120 s", "pairs_xray": 0, "pairs_ecg": 0}
        rounds.append(
            {
                "round": number,
                "sites": sites,
                "loss": 3.2 / number**0.3,
                "macro_auroc": 0.85 - 0.3 / number,
                "bytes_up": 4 * 412_000,
                "seconds": 4.2,
            }
        )
    return rounds


def _cohort() -> dict[str, Any]:
    sites = {
        site: {
            "patients": {"train": 1180 - 90 * place, "validation": 60, "test": 70},
            "triplets": {"train": 1240, "validation": 66, "test": 78},
            "modalities": {"xray": 0 if site == "valley" else 900, "ecg": 810, "both": 0 if site == "valley" else 640},
            "refused": {"truncated-pixels": 3} if site == "river" else {},
        }
        for place, site in enumerate(SITES)
    }
    prevalence = {label: {"positives": 90 + 31 * place, "negatives": 1900} for place, label in enumerate(LABELS)}
    return {"sites": sites, "label_prevalence": prevalence}


@pytest.fixture
def summary(untouched_summary: dict[str, Any]) -> dict[str, Any]:
    """A complete run of four hospitals; tests change it freely."""
    return copy.deepcopy(untouched_summary)


@pytest.fixture(scope="session")
def untouched_summary() -> dict[str, Any]:
    """The same run, shared; not to be changed."""
    local: dict[str, Any] = {site: _arm(0.76 + 0.015 * place, 10 + place) for place, site in enumerate(SITES)}
    mean = {**_around(STRENGTH["local"], 0.024), "per_label": _arm(STRENGTH["local"], 3)["per_label"]}
    joining = {
        site: {
            "local": 0.76 + 0.015 * p,
            "federated": 0.848,
            "gain": 0.088 - 0.015 * p,
            "ci95": [0.03 - 0.015 * p, 0.14],
        }
        for p, site in enumerate(SITES)
    }
    return {
        "schema": 1,
        "name": "four hospitals",
        "status": "complete",
        "seed": 7,
        "seeds": [7],
        "synthetic": False,
        "text_kind": "reports",
        "cohort": _cohort(),
        "model": {
            "preset": "tiny",
            "parameters": 3_412_993,
            "trainable": 103_424,
            "trainable_fraction": 0.0303,
            "text_trainable_fraction": 0.0061,
            "normalisation": "layer",
        },
        "base": {"kind": "warm-up", "explanation": "trained on public patients that no hospital shares."},
        "arms": {
            "centralized": _arm(STRENGTH["centralized"], 1),
            "federated": {**_arm(STRENGTH["federated"], 2), "rounds": 8},
            "local": {**local, "mean": mean},
            "random_encoder": _arm(STRENGTH["random_encoder"], 4),
        },
        "gap": {
            "federated_minus_centralized": {"macro_auroc": -0.014, "ci95": [-0.031, 0.004], "paired": True},
            "federated_minus_local_mean": {"macro_auroc": 0.067, "ci95": [0.048, 0.087], "paired": True},
        },
        "exchange": {
            "bytes_up_per_site_round": 412_345,
            "bytes_down_per_site_round": 412_345,
            "full_model_bytes": 13_651_972,
            "trainable_fraction": 0.0303,
            "share_of_full_model": 0.0302,
            "tensors": 84,
        },
        "privacy": {"mechanism": "none", "statement": "No noise was added; only adapter updates travelled."},
        "rounds": _rounds(),
        "joining": joining,
        "environment": {"python": "3.12.4", "torch": "2.15.0", "threads": 2},
    }


@pytest.fixture(scope="session")
def ecg_mv() -> NDArray[np.float32]:
    """float32 [12, 1000] at 100 Hz: a beat with an R peak of 1.2 mV in lead II every 0.8 s."""
    times = np.arange(1000) / 100
    beat = (times % 0.8) - 0.3
    wave = 1.2 * np.exp(-((beat / 0.015) ** 2)) - 0.25 * np.exp(-(((beat - 0.04) / 0.015) ** 2))
    wave += 0.15 * np.exp(-(((beat + 0.16) / 0.03) ** 2)) + 0.3 * np.exp(-(((beat - 0.25) / 0.06) ** 2))
    scale = np.array([0.7, 1.0, 0.4, -0.8, 0.3, 0.7, -0.5, 0.5, 0.9, 1.3, 1.1, 0.8])
    return np.asarray(scale[:, None] * wave[None, :], dtype=np.float32)


@pytest.fixture(scope="session")
def make_example(ecg_mv: NDArray[np.float32]) -> Callable[..., Example]:
    """Builds an example; any field can be replaced."""
    down, across = np.mgrid[0:96, 0:96] / 96
    lungs = np.exp(-(((across - 0.3) / 0.13) ** 2) - ((down - 0.5) / 0.3) ** 2)
    lungs += np.exp(-(((across - 0.7) / 0.13) ** 2) - ((down - 0.5) / 0.3) ** 2)
    picture = (210 - 170 * np.clip(lungs, 0, 1)).astype(np.uint8)

    def build(**changes: Any) -> Example:
        fields: dict[str, Any] = {
            "xray": picture,
            "ecg": ecg_mv,
            "rate_hz": 100,
            "report": "Mild cardiomegaly. Small left pleural effusion. No pneumothorax.",
            "retrieved": [
                ("Heart mildly enlarged with a small effusion on the left.", 0.81),
                ("Mild cardiomegaly. Small left pleural effusion. No pneumothorax.", 0.79),
                ("Clear lungs. Normal heart size.", 0.42),
            ],
            "site": "river",
            "what": "X-ray to report",
        }
        return Example(**{**fields, **changes})

    return build


@pytest.fixture(scope="session")
def details(make_example: Callable[..., Example]) -> ReportDetails:
    """Curves of all arms and two examples, one of them without an X-ray."""
    grid = np.linspace(0, 1, 60)
    rocs = {
        arm: {
            label: (grid.tolist(), (grid ** (1 / strength - 1 + 0.02 * place)).tolist())
            for place, label in enumerate(label for label in LABELS if label != "Fracture")
        }
        for arm, strength in STRENGTH.items()
        if arm != "local"
    }
    learning = {
        arm: [LearningPoint(n / 8, f"round {n}", 3.4 / (n + 1) ** 0.3, top - 0.34 / (n + 1)) for n in range(9)]
        for arm, top in STRENGTH.items()
        if arm in {"centralized", "federated"}
    }
    return ReportDetails(rocs, learning, [make_example(), make_example(xray=None, what="ECG to report", site="valley")])


class _Reader(HTMLParser):
    """Collects what a person reads, what a screen reader is told, and how the elements nest."""

    def __init__(self) -> None:
        super().__init__()
        self.words: list[str] = []
        self.headings: list[str] = []
        self.identifiers: list[str] = []
        self.references: list[str] = []
        self.alternatives: list[str] = []
        self.unbalanced: list[str] = []
        self.counts: Counter[str] = Counter()
        self._open: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = {name: value or "" for name, value in attrs}
        self.counts[tag] += 1
        self.counts[f"{tag}.{given['scope']}" if "scope" in given else f"{tag}."] += 1
        if tag not in {"meta", "img", "link", "br", "input"}:
            self._open.append(tag)
        if "id" in given:
            self.identifiers.append(given["id"])
        self.references += [value for name, value in given.items() if name in {"href", "src", "aria-labelledby"}]
        self.alternatives += [given[name] for name in ("alt",) if name in given]
        self.alternatives += [given["aria-label"]] if given.get("role") == "img" else []
        self.words += [] if tag in _INLINE else [" "]

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handle_starttag(tag, attrs)
        if self._open and self._open[-1] == tag:
            self._open.pop()

    def handle_endtag(self, tag: str) -> None:
        if not self._open or self._open.pop() != tag:
            self.unbalanced.append(tag)
        self.words += [] if tag in _INLINE else [" "]

    def handle_data(self, data: str) -> None:
        if "style" in self._open or "svg" in self._open:
            return
        self.words.append(data)
        if self._open and self._open[-1] in {"h1", "h2", "h3"}:
            self.headings.append(data.strip())

    @property
    def text(self) -> str:
        return " ".join("".join(self.words).split())


_INLINE = {"span", "b", "strong", "code", "a"}


@dataclass(frozen=True)
class ReadPage:
    """A page as read: visible text, headings, ids, references, text alternatives, element counts, nesting faults."""

    html: str
    text: str
    headings: list[str]
    identifiers: list[str]
    references: list[str]
    alternatives: list[str]
    counts: Counter[str]
    unbalanced: list[str]


@pytest.fixture(scope="session")
def read_page() -> Callable[[Path], ReadPage]:
    """Reads a written page the way a browser and a screen reader would."""

    def read(path: Path) -> ReadPage:
        html = path.read_text(encoding="utf-8")
        reader = _Reader()
        reader.feed(html)
        reader.close()
        return ReadPage(
            html, reader.text, reader.headings, reader.identifiers, reader.references, reader.alternatives,
            reader.counts, reader.unbalanced,
        )  # fmt: skip

    return read


@pytest.fixture
def without_drawing(monkeypatch: pytest.MonkeyPatch) -> None:
    """Leaves out what takes most of a report's time, the figures, in tests that are about words."""
    for drawing in ("arms_figure", "labels_figure", "roc_figure", "learning_figure", "joining_figure"):
        monkeypatch.setattr(f"simulation.report.figures.{drawing}", lambda *_: None)
    monkeypatch.setattr("simulation.report.sections_health._loss_figure", lambda *_: None)
