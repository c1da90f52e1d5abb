"""The package that readers get, and the key that they do not.

package/index.html   one page with everything in it: cases, orders, program; it asks no network for anything
key.json             codes, truth and the cases they stand for; readable by its owner alone

The package carries the digest of the key, so that a key changed after the study began is found out. The key holds a
random salt: without it, whoever has the package could try out which truth gives that digest.
"""

from __future__ import annotations

import base64
import hashlib
import json
import secrets
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from importlib import resources
from importlib.metadata import version
from pathlib import Path
from typing import Any

from markupsafe import Markup
from pydantic import BaseModel, ConfigDict, Field

from more_model.errors import ConfigError
from more_model.reader_study.cases import Case, labels_of
from more_model.reader_study.design import Design, case_codes, draw_orders, reader_names
from more_model.reader_study.manifest import PAGE, SCALES, THRESHOLDS, Key, KeyCase, Manifest, Scale

KEY = "key.json"


class StudyChoice(BaseModel):
    """How a study is laid out; fixed before the first reading."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    title: str = "Reader study"
    readers: int = Field(default=2, ge=1, le=999)
    seed: int = Field(default=0, ge=0)
    design: Design = "crossover"
    scale: Scale = "confidence"
    threshold: int | None = None
    washout_days: int = Field(default=28, ge=0)
    synthetic: bool = False


def build_study(cases: Sequence[Case], choice: StudyChoice, out: Path) -> Manifest:
    """Writes ``out/package/index.html`` and ``out/key.json``.

    Equal cases and choices give equal codes and orders; the salt, and with it the study's name, is new every time.
    Raises ConfigError for fewer than two cases or a threshold that the scale does not have.
    """
    threshold = THRESHOLDS[choice.scale] if choice.threshold is None else choice.threshold
    _require_buildable(cases, choice, threshold)
    # In the order of the codes from here on: that of the case file may tell the truth.
    coded = dict(sorted(zip(case_codes(len(cases), choice.seed), cases, strict=True)))
    key = _key(coded)
    strata = {code: tuple(sorted(case.truth.items())) for code, case in key.cases.items()}
    orders = draw_orders(strata, reader_names(choice.readers), choice.design, choice.seed)
    pictures = {code: _pictures(case) for code, case in coded.items()}
    content = {
        **choice.model_dump(include={"title", "design", "scale", "washout_days", "synthetic"}),
        "threshold": threshold,
        "key_digest": key.digest,
        "orders": {
            reader: [[asdict(reading) for reading in session] for session in sessions]
            for reader, sessions in orders.items()
        },
        "cases": {code: _shown(case, pictures[code], labels_of(cases)) for code, case in coded.items()},
    }
    manifest = Manifest.model_validate(content)
    _write(out, manifest, key, pictures)
    return manifest


def _require_buildable(cases: Sequence[Case], choice: StudyChoice, threshold: int) -> None:
    faults = []
    if len(cases) < 2:
        faults.append(f"{len(cases)} case: a study needs at least two")
    answers = SCALES[choice.scale]
    if not answers[0] < threshold <= answers[-1]:
        faults.append(f"threshold {threshold}: it has to lie above {answers[0]} and not above {answers[-1]}")
    if faults:
        raise ConfigError("reader study", faults)


def _key(coded: Mapping[str, Case]) -> Key:
    units = {unit: number for number, unit in enumerate(dict.fromkeys(case.unit for case in coded.values()))}
    return Key(
        salt=secrets.token_hex(32),
        cases={
            code: KeyCase.model_validate(
                {"id": case.id, "unit": units[case.unit], "truth": case.truth, "probability": case.probability}
            )
            for code, case in coded.items()
        },
    )


def _pictures(case: Case) -> dict[str, bytes]:
    named = {"xray": case.xray, "ecg": case.ecg, "explanation": case.explanation}
    return {kind: png for kind, png in named.items() if png is not None}


def _shown(case: Case, pictures: Mapping[str, bytes], order: Sequence[str]) -> dict[str, Any]:
    return {
        # In one order for all cases: that of ``truth`` may differ from case to case.
        "labels": [label for label in order if label in case.truth],
        "report": case.report,
        "pictures": {kind: hashlib.sha256(png).hexdigest() for kind, png in pictures.items()},
        "probability": {label: case.probability[label] for label in order if label in case.probability},
    }


def _write(out: Path, manifest: Manifest, key: Key, pictures: Mapping[str, Mapping[str, bytes]]) -> None:
    from more_model.report.page import write_whole

    # Real cases are patients' pictures, whatever was taken off them.
    out.mkdir(mode=0o700, parents=True, exist_ok=True)
    package = out / "package"
    package.mkdir(mode=0o700, exist_ok=True)
    sealed = out / KEY
    sealed.touch(mode=0o600)
    sealed.write_text(key.model_dump_json(indent=2) + "\n", encoding="utf-8")
    write_whole(package / PAGE, _html(manifest, pictures))


def _html(manifest: Manifest, pictures: Mapping[str, Mapping[str, bytes]]) -> str:
    from more_model.report.page import page_environment

    files = resources.files("more_model.reader_study")
    # .j2 only because packages ship no other kind of text for pages: there are no placeholders in them.
    script = "\n".join(
        files.joinpath(name).read_text(encoding="utf-8") for name in ("study_store.js.j2", "study_page.js.j2")
    )
    css = files.joinpath("study.css").read_text(encoding="utf-8")
    study = {
        "id": manifest.study,
        "digest": manifest.digest,
        "version": version("more-fed"),
        "manifest": manifest.model_dump(mode="json"),
    }
    encoded = {
        code: {kind: base64.b64encode(png).decode("ascii") for kind, png in of_case.items()}
        for code, of_case in pictures.items()
    }
    template = page_environment("more_model.reader_study").get_template("study.html.j2")
    return template.render(
        manifest=manifest,
        sessions=max(len(sessions) for sessions in manifest.orders.values()),
        version=version("more-fed"),
        css=Markup(css),
        css_hash=_content_hash(css),
        script=Markup(script),
        script_hash=_content_hash(script),
        study_json=_json_for_html(study),
        pictures_json=_json_for_html(encoded),
    )


def _content_hash(text: str) -> str:
    """The source expression that lets a browser run or apply exactly this text (Content Security Policy level 2)."""
    return "sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode("ascii")


def _json_for_html(content: Any) -> Markup:
    # "<" could end the element or open a comment, whatever stands in a report.
    return Markup(json.dumps(content).replace("<", "\\u003c"))
