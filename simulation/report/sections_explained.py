"""One explanation per modality: where the federated model looks for a finding that is there."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from more_model.explain.figure import alternative, explanation_png
from more_model.report.blocks import Block, Picture, Section, Words, section
from simulation.report.details import ExplainedStudy

_NAMES = {"xray": "X-ray", "ecg": "ECG"}


def explained_section(explained: Sequence[ExplainedStudy], folder: Path) -> Section | None:
    """The pictures (also written to ``folder``), each with the finding and the words that it was asked about."""
    blocks: list[Block] = [
        Words(
            "What the federated model's answer rests on, by gradient-weighted attention (Chefer et al. 2021): for each "
            "modality the finding that it ranks best, in the test patient with that finding to whom it gives the "
            "highest score. These are its clearest cases, not typical ones. Bright is relevant; the map shows what the "
            "similarity to the words rests on, not where a disease is. "
            "`more-model explain --check` measures how far to trust it."
        )
    ]
    for study in explained:
        explanation = study.explanation
        png = explanation_png([explanation], dpi=90)
        (folder / f"explanation-{explanation.modality}.png").write_bytes(png)
        asked = f"\u201c{explanation.text}\u201d rather than \u201c{explanation.contrast}\u201d"
        caption = f"{_NAMES[explanation.modality]} of {study.site} with {study.label}. Asked: {asked}"
        blocks.append(Picture(png, alternative(explanation), caption))
    return section("explanations", "What the model looks at", blocks)
