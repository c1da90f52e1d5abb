"""What a named evaluation is: whose studies, which of them are test, which questions, which prompts.

A protocol only reads tables. It decodes no image; that is done once for all protocols, into a store.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from more_model.data.study import Split, Study
from more_model.errors import ConfigError, DataError
from more_model.evaluation.embedded import LabelTask

#: What a finding that a report does not mention is: neither present nor absent, or absent.
Blank = Literal["unstated", "absent"]


class ProtocolChoice(BaseModel):
    """What may be chosen within a protocol; a protocol refuses what has no meaning for it.

    ``subset`` is one of the protocol's evaluation sets. ``mapping`` is the TOML mapping of protocol ``table``. Empty
    ``views`` keeps every view. ``blank`` is for labels that a labeller read from reports (`Protocol.leaves_blanks`).
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    subset: str | None = None
    rate_hz: Literal[100, 500] = 100
    mapping: Path | None = None
    views: tuple[str, ...] = ("PA", "AP")
    blank: Blank = "unstated"
    seed: int = Field(default=0, ge=0)


@dataclass(frozen=True, slots=True)
class EvaluationCohort:
    """The studies of one protocol: X-rays and ECGs, with labels under the protocol's own names.

    ``split`` says for every study id whether it is training, validation or test; a study that is in none is left out of
    ``studies``. ``case`` maps a study id to the case that it is scored with (several films of one examination): scores
    of a case are averaged; a study that is not a key is a case of its own. Attributes ``sex`` (female, male), ``age``
    (whole years), ``view`` and ``site`` are set where the data set states them. ``facts`` are counts for the report,
    ``notes`` sentences about choices a reader has to know.
    """

    studies: tuple[Study, ...]
    split: Mapping[str, Split]
    tasks: tuple[LabelTask, ...]
    case: Mapping[str, str] = field(default_factory=dict)
    facts: Mapping[str, int] = field(default_factory=dict)
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Protocol:
    """A named evaluation. ``subsets`` are its evaluation sets, the default first; ``prompts`` names the prompt set of
    the package that words every label. ``leaves_blanks``: its labels do not say of every study whether they apply."""

    name: str
    title: str
    tasks: tuple[LabelTask, ...]
    prompts: str
    subsets: tuple[str, ...]
    read: Callable[[Path, ProtocolChoice], EvaluationCohort]
    leaves_blanks: bool = False

    def subset_of(self, choice: ProtocolChoice) -> str:
        """The evaluation set chosen. Raises ConfigError for one that this protocol does not have."""
        if choice.subset is None:
            return self.subsets[0]
        if choice.subset not in self.subsets:
            raise ConfigError(
                f"protocol {self.name}",
                [f"there is no subset {choice.subset!r}; there are {', '.join(self.subsets)}"],
            )
        return choice.subset


def check_cohort(cohort: EvaluationCohort, where: str) -> None:
    """Refuses a cohort that would give figures nobody can trust.

    Raises:
        DataError: a patient in two splits (counts, never ids), a study without a split, no test study, or a label
            without a single positive among the test studies.
    """
    unsplit = sum(study.study_id not in cohort.split for study in cohort.studies)
    if unsplit:
        raise DataError(f"{where}: {unsplit} studies belong to no split", remedy="report this: the protocol is wrong")
    splits: dict[str, set[Split]] = {}
    for study in cohort.studies:
        splits.setdefault(study.patient_id, set()).add(cohort.split[study.study_id])
    torn = sum(len(found) > 1 for found in splits.values())
    if torn:
        raise DataError(
            f"{where}: {torn} of {len(splits)} patients are in more than one of train, validation and test",
            remedy="split by patient",
            avoid="evaluate anyway: what was learnt of a patient would be counted as tested",
        )
    test = [study for study in cohort.studies if cohort.split[study.study_id] is Split.TEST]
    if not test:
        raise DataError(f"{where}: no study is a test study", remedy="check the split column, the subset and the views")
    empty = [task.label for task in cohort.tasks if not any(study.labels.get(task.label) == 1.0 for study in test)]
    if empty:
        raise DataError(
            f"{where}: labels without a single positive among {len(test)} test studies: {', '.join(empty)}",
            remedy="name the other labels, each with --label, or take a set that has positives",
            avoid="fill in a figure: without positives there is none",
        )
