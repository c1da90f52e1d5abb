"""What a coordinator and its sites agree on before hospitals measure a model on their own patients."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

from more_model.data.study import Modality
from more_model.evaluation.embedded import LabelTask, UncertaintyPolicy
from more_model.evaluation.prompt_sets import PromptSet, load_prompts
from more_model.evaluation.score_histograms import ScoreBins, centred_bins
from more_model.evaluation.summary import label_names
from more_model.training.words import PREFIX


@dataclass(frozen=True, slots=True)
class EvaluationTerms:
    """The questions, worded, and the bins. A site answers questions with the digest of its own terms and no others:
    other wordings or bins for the same patients would let counts be compared until single patients show."""

    prompts: PromptSet
    uncertainty: UncertaintyPolicy = "ignore"
    bins: ScoreBins = field(default_factory=centred_bins)

    def digest(self) -> str:
        """Hex SHA-256 over every wording, the policy for hedged labels and the edges. Names of files are not in it."""
        content = {
            "labels": [asdict(label) for label in self.prompts.labels],
            "exclusive": self.prompts.exclusive,
            "uncertainty": self.uncertainty,
            "edges": self.bins.edges,
        }
        return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()

    @property
    def names(self) -> dict[str, LabelTask]:
        """Each task by the name that tables and messages use, in the order of the prompts."""
        return {name: task for task, name in label_names(self.prompts.tasks).items()}


def evaluation_terms(
    prompts: str | Path,
    *,
    labels: Sequence[str] = (),
    languages: Sequence[str] = (),
    uncertainty: UncertaintyPolicy = "ignore",
    bins: ScoreBins | None = None,
) -> EvaluationTerms:
    """Terms from a prompt set (by name, or a file), cut down to ``labels`` where there are some, and worded with the
    prefixes that texts are trained with. Raises ConfigError as `load_prompts` does."""
    asked = load_prompts(prompts, languages=languages)
    if labels:
        asked = asked.only(labels)
    asked = asked.with_prefix({m.value: f"{PREFIX[m]} " for m in (Modality.XRAY, Modality.ECG)})
    return EvaluationTerms(asked, uncertainty, bins or centred_bins())
