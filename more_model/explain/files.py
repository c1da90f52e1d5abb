"""Explanations from files, and what the command writes."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from more_model.checkpoint import TrainedModel
from more_model.data.convert import Converted, Refused, convert
from more_model.data.study import Modality, Study
from more_model.errors import ConfigError, InputRefused
from more_model.explain.check_page import check_sections
from more_model.explain.explanation import Explanation, explain_pair
from more_model.explain.figure import alternative, explanation_png, explanation_section
from more_model.report.blocks import Section
from more_model.report.page import Page, write_page, write_whole

_CAUTIONS = (
    "The map shows what the model's similarity rests on. It is no segmentation and no diagnosis.",
    "Whether maps of this model mean anything is measured by `more-model explain --check`.",
)


@dataclass(frozen=True, slots=True)
class Question:
    """Files of one patient and the words to explain them by; one of ``report`` and ``text``."""

    xray: Path | None = None
    ecg: Path | None = None
    report: Path | None = None
    text: str | None = None
    contrast: str | None = None

    def __post_init__(self) -> None:
        """Raises ConfigError with everything that is missing or too much."""
        faults = []
        if self.xray is None and self.ecg is None:
            faults.append("give --xray, --ecg, or both")
        if (self.report is None) == (self.text is None):
            faults.append("give one of --report and --text")
        if faults:
            raise ConfigError("more-model explain", faults, remedy="or check a whole cohort with --check --data")


def explain_files(trained: TrainedModel, question: Question) -> list[Explanation]:
    """One explanation a study, the files read as at ingest.

    Raises:
        InputRefused: a file that cannot be used.
        ConfigError: there are no words.
    """
    answers = []
    for modality, path in ((Modality.XRAY, question.xray), (Modality.ECG, question.ecg)):
        if path is None:
            continue
        array = _converted(trained, Study(modality, "", "", "", source=path), modality.value).array
        words = question.text
        if question.report is not None:
            # With both studies the report is read as one of an X-ray; without headers it is taken whole.
            about = Modality.ECG if question.xray is None else Modality.XRAY
            report = Study(Modality.REPORT, "", "", "", source=question.report, describes=about)
            words = _converted(trained, report, "report").text
        study = {"xray": array} if modality is Modality.XRAY else {"ecg": array}
        answers.append(explain_pair(trained, words=words or "", contrast=question.contrast, **study))
    return answers


def _converted(trained: TrainedModel, study: Study, name: str) -> Converted:
    result = convert(study, trained.config.preprocessing)
    if isinstance(result, Refused):
        raise InputRefused(
            result.reason,
            f"The {name} given cannot be explained. {result.message}",
            remedy="`more-model inspect` shows what is read from it",
        )
    return result


def open_out(out: Path, result: str, *, overwrite: bool) -> Path:
    """The directory ``out``, for its owner alone: what is explained belongs to a patient.

    Raises:
        ConfigError: it is a file, or holds an earlier ``result`` that may not be replaced.
    """
    if out.exists() and not out.is_dir():
        raise ConfigError(str(out), ["this is a file, not a directory"], remedy="give another --out")
    if (out / result).exists() and not overwrite:
        raise ConfigError(str(out), [f"there is a {result} already"], remedy="add --overwrite or give another --out")
    out.mkdir(mode=0o700, parents=True, exist_ok=True)
    return out


def write_explanations(out: Path, trained: TrainedModel, explanations: Sequence[Explanation]) -> dict[str, Any]:
    """Writes explanation.png, one explanation-<modality>.npz a study, explanation.html and, last, explanation.json, and
    returns its content."""
    png = explanation_png(explanations)
    (out / "explanation.png").write_bytes(png)
    for explanation in explanations:
        explanation.save(out / f"explanation-{explanation.modality}.npz")
    content = {
        "schema": 1,
        "model": {"origin": trained.origin, "digest": trained.digest},
        "explanations": [
            {**one.facts(), "seen": alternative(one), "arrays": f"explanation-{one.modality}.npz"}
            for one in explanations
        ],
    }
    sections = [explanation_section(explanations, png)]
    _write(out, "explanation", content, "Explanation", "What the similarity rests on", sections, trained)
    return content


def write_checks(out: Path, trained: TrainedModel, checks: dict[str, Any], *, synthetic: bool) -> None:
    """Writes explanation-checks.html and explanation-checks.json."""
    title = "Checks of the explanations"
    _write(out, "explanation-checks", checks, title, title, check_sections(checks), trained, synthetic=synthetic)


def _write(
    out: Path,
    name: str,
    content: dict[str, Any],
    kind: str,
    title: str,
    sections: Sequence[Section],
    trained: TrainedModel,
    *,
    synthetic: bool = False,
) -> None:
    page = Page(
        kind=kind,
        title=title,
        sections=sections,
        subtitle=trained.origin,
        cautions=_CAUTIONS,
        synthetic=synthetic,
        footer=f"Model {trained.digest[:12]}.",
    )
    write_page(out / f"{name}.html", page)
    write_whole(out / f"{name}.json", json.dumps(content, indent=2, allow_nan=False) + "\n")
