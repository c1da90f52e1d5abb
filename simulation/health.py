"""The health of each arm's training, for summary.json: what was measured, and what is found in it."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from more_model.evaluation.health import measure_geometry
from more_model.evaluation.prompt_draws import wording_spread
from more_model.evaluation.signatures import examine
from more_model.exchange import WATCHED
from more_model.explain.attention_entropy import attention_entropy
from more_model.model.more import More
from more_model.training.embed import embed_texts
from server.journal import RoundRecord
from simulation.arms import CurvePoint
from simulation.scoring import ArmScores, Scorer

_NOTES = "validation.json"


def measure_health(scorer: Scorer, model: More, scores: ArmScores, curve: Sequence[CurvePoint]) -> dict[str, Any]:
    """What `examine` reads of one trained model, on the test patients, except for its spread over seeds."""
    settings: dict[str, Any] = {
        "tokenizer": scorer.tokenizer,
        "max_tokens": scorer.max_tokens,
        "threads": scorer.threads,
    }
    wording = wording_spread(
        scores.test, scorer.prompts, lambda texts: embed_texts(model, texts, **settings), seed=scorer.seed
    )
    return {
        **measure_geometry(scores.test, temperature=float(model.temperature.detach())),
        "segments": [{"segment": point.segment, **point.watched} for point in curve],
        "attention": attention_entropy(model, scorer.test, **settings),
        "wording": wording,
    }


def judged(measures: Mapping[str, Any], seeds: Mapping[str, Any]) -> dict[str, Any]:
    """The ``health`` of an arm in summary.json. ``seeds`` is what `examine` expects under that name."""
    whole = {**measures, "seeds": dict(seeds)}
    return {"findings": [asdict(finding) for finding in examine(whole)], "measures": whole}


def pooled(record: RoundRecord) -> dict[str, float]:
    """What the sites of one round report of their training, as means over accepted sites: terms of the loss weighted by
    pairs, gradients by steps."""
    figures = {}
    for name in sorted(WATCHED):
        weight = "steps" if name.startswith("gradient_") else f"pairs_{name.rpartition('_')[2]}"
        told = [part.counts for part in record.sites if part.state == "accepted" and part.counts]
        known = [(counts[name], counts.get(weight, 0.0)) for counts in told if name in counts]
        total = sum(share for _, share in known)
        if total > 0:
            figures[name] = sum(value * share for value, share in known) / total
    return figures


def read_notes(folder: Path) -> dict[int, dict[str, float]]:
    """The validation figures by round that `write_notes` left in the folder of an arm; empty where it did not."""
    path = folder / _NOTES
    if not path.is_file():
        return {}
    return {int(number): figures for number, figures in json.loads(path.read_text(encoding="utf-8")).items()}


def write_notes(folder: Path, notes: Mapping[int, Mapping[str, float]]) -> None:
    """Keep the validation figures of each round, for a run that is resumed: the journal knows their macro mean only."""
    folder.mkdir(parents=True, exist_ok=True)
    draft = folder / f"{_NOTES}.part"
    draft.write_text(json.dumps({str(number): dict(figures) for number, figures in notes.items()}), encoding="utf-8")
    draft.replace(folder / _NOTES)
