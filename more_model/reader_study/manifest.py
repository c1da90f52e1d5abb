"""What a package says and what its key says: the two halves of a study, and how each is read back."""

from __future__ import annotations

import base64
import binascii
import hashlib
import json
from collections.abc import Mapping
from html.parser import HTMLParser
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict

from more_model.errors import ConfigError, DataError
from more_model.reader_study.design import Design
from more_model.settings import load_settings, validated

Scale = Literal["confidence", "probability"]
#: The answers that a scale allows.
SCALES: Mapping[Scale, tuple[int, ...]] = {
    "confidence": (1, 2, 3, 4, 5),
    "probability": tuple(range(0, 101, 5)),
}
#: From this answer on a reader says "present", unless the study says otherwise.
THRESHOLDS: Mapping[Scale, int] = {"confidence": 4, "probability": 50}

PAGE = "index.html"


class PlannedReading(BaseModel):
    """One case, read once."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    case: str
    aided: bool


class ShownCase(BaseModel):
    """What readers learn of a case; ``pictures`` maps xray, ecg, explanation to the SHA-256 of the PNG bytes."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    labels: tuple[str, ...]
    report: str
    pictures: dict[str, str]
    probability: dict[str, float]


class Manifest(BaseModel):
    """All that the package says, save the pixels; its digest names the study.

    A reader says "present" from the answer ``threshold`` on. ``orders`` maps each reader to sessions of readings.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    format: Literal["more-fed reader study 1"] = "more-fed reader study 1"
    title: str
    design: Design
    scale: Scale
    threshold: int
    washout_days: int
    synthetic: bool
    key_digest: str
    orders: dict[str, tuple[tuple[PlannedReading, ...], ...]]
    cases: dict[str, ShownCase]

    @property
    def digest(self) -> str:
        """Hex SHA-256 over the whole manifest."""
        return _digest(self)

    @property
    def study(self) -> str:
        """The study's short name."""
        return self.digest[:12]

    @property
    def labels(self) -> list[str]:
        """Every question, in the order in which the cases name them."""
        return list(dict.fromkeys(label for case in self.cases.values() for label in case.labels))


class KeyCase(BaseModel):
    """What a code stands for. Cases of one patient share ``unit``."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    id: str
    unit: int
    truth: dict[str, Literal[0, 1]]
    probability: dict[str, float]


class Key(BaseModel):
    """The sealed half of a study: code -> case, and a random salt."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    salt: str
    cases: dict[str, KeyCase]

    @property
    def digest(self) -> str:
        """Hex SHA-256 over the whole key."""
        return _digest(self)


def read_package(folder: Path) -> Manifest:
    """The study of a package folder, or of the folder that ``build`` wrote it into.

    Raises DataError where there is none, or where the page was changed after it was built: its manifest or a picture
    no longer has the digest that it names.
    """
    places = [folder / PAGE, folder / "package" / PAGE]
    page = next((place for place in places if place.is_file()), None)
    if page is None:
        raise DataError(f"{folder} holds no reader study", remedy="give the folder that `reader-study build` wrote")
    blocks = _DataBlocks()
    blocks.feed(page.read_text(encoding="utf-8"))
    try:
        study, pictures = json.loads(blocks.texts["study"]), json.loads(blocks.texts["pictures"])
        manifest = validated(Manifest, study["manifest"], str(page))
        faults = _changes(manifest, study["digest"], pictures)
    except (KeyError, TypeError, json.JSONDecodeError, ConfigError) as error:
        raise DataError(f"{page} is no page of a reader study", remedy="give the folder as it was built") from error
    if faults:
        raise DataError(
            f"{page} was changed after it was built: {', '.join(faults)}",
            remedy="take the package as it was handed to the readers",
            avoid="analyse answers to cases that nobody can vouch for",
        )
    return manifest


def read_key(path: Path, manifest: Manifest) -> Key:
    """The key of ``manifest``'s study. Raises ConfigError for a faulty file, DataError for the key of another study."""
    key = load_settings(Key, path)
    if key.digest != manifest.key_digest:
        raise DataError(
            f"{path.name} is not the key that study {manifest.study} was sealed with",
            remedy="give the key.json that was written together with this package, unchanged",
            avoid="correct the truth after the readings: state a correction beside the result instead",
        )
    return key


def _changes(manifest: Manifest, digest: str, pictures: Mapping[str, Mapping[str, str]]) -> list[str]:
    faults = [] if manifest.digest == digest else ["the list of cases, the orders or the settings"]
    for code, case in manifest.cases.items():
        for kind, expected in case.pictures.items():
            try:
                content = base64.b64decode(pictures[code][kind], validate=True)
            except (KeyError, TypeError, binascii.Error):
                content = b""
            if hashlib.sha256(content).hexdigest() != expected:
                faults.append(f"{kind} of {code}")
    return faults


def _digest(content: BaseModel) -> str:
    canonical = json.dumps(content.model_dump(mode="json"), sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(canonical.encode()).hexdigest()


class _DataBlocks(HTMLParser):
    """Collects the text of every ``<script type="application/json" id=...>``."""

    def __init__(self) -> None:
        super().__init__()
        self.texts: dict[str, str] = {}
        self._inside: str | None = None

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        facts = dict(attrs)
        if tag == "script" and facts.get("type") == "application/json":
            self._inside = facts.get("id")

    def handle_endtag(self, tag: str) -> None:
        self._inside = None

    def handle_data(self, data: str) -> None:
        if self._inside is not None:
            self.texts[self._inside] = self.texts.get(self._inside, "") + data
