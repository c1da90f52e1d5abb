"""Modes that train on labels under one budget: what is asked of it, who is trained, and what the result says."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from more_model.checkpoint import TrainedModel
from more_model.data.study import Split
from more_model.errors import ConfigError
from more_model.evaluation.bed import Bed
from more_model.evaluation.embedded import LabelTask
from more_model.evaluation.modes import Evaluated, Outcome, run_modes
from more_model.evaluation.private_modes import private_outcomes
from more_model.evaluation.private_training import PrivateStudies, PrivateTerms
from more_model.evaluation.results_privacy import epsilon_text, privacy_lines, privacy_section
from more_model.evaluation.settings import EvaluationSettings
from more_model.report.blocks import Facts, Table, Words
from more_model.training.examples import Examples
from more_model.training.settings import TrainingSettings

LINES, ROWS = LabelTask("lines", "xray"), LabelTask("rows", "ecg")
TERMS = {"epsilon": 8.0, "delta": 1e-3, "sampling_rate": 0.1, "public_patients": 24}
CLAIM: dict[str, Any] = {
    "sentence": "Per patient: so much.", "unit": "patient", "adjacency": "add-remove", "neighbours": "one more or less",
    "epsilon": 1.234, "delta": 1e-3, "accountant": "exact", "assumptions": ["First."], "warnings": ["Beware."],
    "noise_multiplier": 2.0, "clip_norm": 1.0, "sampling_rate": 0.1, "steps": 40, "public_patients": 24,
    "ledger": {"charged": False, "says": "Nothing was charged."},
}  # fmt: skip


@dataclass
class Noted:
    """Stands for a budget: notes what it is asked, and sets biases so that a training shows."""

    opened: list[tuple[PrivateTerms, int, frozenset[Any]]] = field(default_factory=list)
    fitted: list[tuple[nn.Module, PrivateStudies, TrainingSettings, int]] = field(default_factory=list)

    @contextmanager
    def open(self, terms: PrivateTerms, steps: int, patients: frozenset[Any]) -> Iterator[Noted]:
        self.opened.append((terms, steps, patients))
        yield self

    def fit(
        self, module: nn.Module, studies: PrivateStudies, settings: TrainingSettings, *, steps: int, **_options: Any
    ) -> None:
        linear = [part for part in module.modules() if isinstance(part, nn.Linear)][-1]
        with torch.no_grad():
            linear.bias.fill_(7.0)
            module.eval()(studies.made_up)
            module(studies.read([0, 1]))
        self.fitted.append((module, studies, settings, steps))

    def facts(self) -> dict[str, Any]:
        return CLAIM


@pytest.fixture(scope="module")
def bed(labelled_toys: Callable[..., Examples]) -> Bed:
    """Twenty-four patients to train on, none of whom has ``lines``; twelve each to validate and test with."""

    def part(count: int, seed: int, split: Split) -> Examples:
        toys = labelled_toys(count, seed=seed, site=split.value)
        triplets = tuple(replace(t, split=split) for t in toys.triplets)
        if split is Split.TRAIN:
            triplets = tuple(replace(t, labels={**t.labels, "lines": 0.0}) for t in triplets)
        return replace(toys, triplets=triplets)

    sizes = {Split.TRAIN: (24, 0), Split.VALIDATION: (12, 1), Split.TEST: (12, 2)}
    return Bed((LINES, ROWS), {split: part(*size, split) for split, size in sizes.items()})


def asked_for(*names: str, **changes: Any) -> EvaluationSettings:
    given = {
        "protocol": "cohort", "data": "d", "checkpoint": "c", "modes": names, "threads": 1, "device": "cpu",
        "fractions": (1.0,), "privacy": TERMS, **changes,
    }  # fmt: skip
    return EvaluationSettings.model_validate(given)


def ran(
    trained: TrainedModel, bed: Bed, settings: EvaluationSettings, budget: Noted
) -> tuple[list[Outcome], list[Outcome]]:
    """Outcomes without and with the budget."""
    model = Evaluated(trained, bed, threads=1)

    def quiet(_stage: str, _done: int, _total: int) -> None: ...

    return list(run_modes(model, None, settings, quiet)), list(private_outcomes(model, settings, budget.open, quiet))


def test_one_budget_for_every_training_and_none_without_it(toy_model: Callable[..., TrainedModel], bed: Bed) -> None:
    budget = Noted()
    settings = asked_for("linear-probe", "fine-tune", recipes=("lora", "published"), epochs=2)
    open_ones, private_ones = ran(toy_model(), bed, settings, budget)
    assert open_ones == [], "a probe or a baseline was trained outside the budget"
    assert [outcome.name for outcome in private_ones] == [
        "linear-probe, checkpoint, private",
        "fine-tune, checkpoint, lora, private",
        "fine-tune, checkpoint, published, private",
    ]
    # Three trainings of two modalities, each of two epochs at rate 0.1.
    [(terms, steps, patients)] = budget.opened
    assert (terms.epsilon, steps) == (8.0, 3 * 2 * 20)
    assert [asked for *_, asked in budget.fitted] == [20] * 6
    assert patients == {(t.site, t.patient_id) for t in bed[Split.TRAIN].triplets}
    assert all(outcome.privacy is not None and outcome.privacy["epsilon"] == 1.234 for outcome in private_ones)
    assert all("clear" in " ".join(outcome.privacy["notes"]) for outcome in private_ones if outcome.privacy)
    assert private_ones[1].facts["recipe"] == {
        "name": "lora", "epochs": 2, "learning_rate": 1e-3, "weight_decay": 0.02, "warmup_fraction": 0.1,
        "final_rate_fraction": 0.05,
    }  # fmt: skip


def test_a_label_that_no_training_patient_has_is_trained_for_like_any_other(
    toy_model: Callable[..., TrainedModel], bed: Bed
) -> None:
    """Which labels have both classes is private: ordinary fine-tuning leaves such a label out, and says so."""
    budget = Noted()
    _, outcomes = ran(toy_model(), bed, asked_for("linear-probe", "fine-tune", recipes=("lora",)), budget)
    for outcome in outcomes:
        for item, present in zip(outcome.test, ("xray", "ecg"), strict=True):
            assert item.reason is None
            has = [getattr(t, present) is not None for t in bed[Split.TEST].triplets]
            assert list(~np.isnan(item.score)) == has
        assert [set(item.site) for item in outcome.validation] == [{"validation"}] * 2
    for module, studies, settings, _ in budget.fitted:
        assert studies.target.shape == (16, 1)
        assert set(studies.units) <= {(t.site, t.patient_id) for t in bed[Split.TRAIN].triplets}
        assert module(studies.made_up).shape == (4, 1)
        assert settings.learning_rate > 0


def test_a_probe_standardises_each_study_by_itself(toy_model: Callable[..., TrainedModel], bed: Bed) -> None:
    budget = Noted()
    ran(toy_model(), bed, asked_for("linear-probe"), budget)
    module, studies, *_ = budget.fitted[0]
    with torch.no_grad():
        next(part for part in module.modules() if isinstance(part, nn.Linear)).weight.normal_()
    together, alone = module(studies.read(range(8))), module(studies.read([3]))
    torch.testing.assert_close(together[3], alone[0])


def test_nothing_private_is_asked_for_without_terms(toy_model: Callable[..., TrainedModel], bed: Bed) -> None:
    budget = Noted()
    settings = asked_for("linear-probe", privacy=None, baselines=False)
    open_ones, private_ones = ran(toy_model(), bed, settings, budget)
    assert ([outcome.mode for outcome in open_ones], private_ones, budget.opened) == (["linear-probe"], [], [])
    assert open_ones[0].privacy is None


def test_the_page_holds_every_number_and_every_condition() -> None:
    notes: Sequence[str] = ["In the clear."]
    found = privacy_section({**CLAIM, "notes": notes})
    assert found is not None
    words = [block.text for block in found.blocks if isinstance(block, Words)]
    assert words == ["Per patient: so much.", "Beware.", "Nothing was charged."]
    [facts] = [dict(block.items) for block in found.blocks if isinstance(block, Facts)]
    assert (facts["Unit"], facts["Noise multiplier"], facts["Delta"]) == ("patient", "2", "0.001")
    assert facts["Adjacency"] == "add-remove: one more or less"
    assert facts["Epsilon, all private results together"] == "1.24"
    [table] = [block for block in found.blocks if isinstance(block, Table)]
    assert [row[0] for row in table.rows] == ["First.", "In the clear."]
    printed = "\n".join(privacy_lines({**CLAIM, "notes": notes}))
    assert all(word in printed for word in ("so much", "add-remove", "40 steps", "Beware", "charged", "clear"))
    assert (privacy_section(None), privacy_lines(None)) == (None, [])


@pytest.mark.parametrize("value", [1.0, 1.001, 7.999, 2.345])
def test_an_epsilon_is_never_printed_below_its_value(value: float) -> None:
    assert value <= float(epsilon_text(value)) < value + 0.01 + 1e-9
    assert math.isclose(float(epsilon_text(1.0)), 1.0)


def test_options_of_privacy_need_the_switch_and_the_switch_needs_them() -> None:
    from more_model.commands.evaluate import _privacy

    empty: dict[str, Any] = dict.fromkeys(("epsilon", "delta", "sampling_rate", "public_patients", "clip_norm"))
    assert _privacy({}, empty, dp=False) == {}
    with pytest.raises(ConfigError, match=r"(?s)2 faults.*--epsilon.*--clip-norm.*add --dp"):
        _privacy({}, {**empty, "epsilon": 8.0, "clip_norm": 1.0}, dp=False)
    content = _privacy({"recipes": ["published"]}, {**empty, "epsilon": 8.0}, dp=True)
    assert content["fractions"] == [1.0]
    assert "recipes" not in content, "the recipe that was asked for stays"
    assert content["privacy"] == {"epsilon": 8.0, "delta": None, "sampling_rate": None, "public_patients": None}
