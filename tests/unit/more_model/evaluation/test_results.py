"""What an evaluation says about its outcomes: order, spread over draws, like with like, comparisons that make sense."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from more_model.evaluation.auroc import auroc
from more_model.evaluation.modes import Outcome
from more_model.evaluation.results import comparisons, fewer_labels, grouped, result_entry, worth_comparing
from more_model.evaluation.settings import EvaluationSettings

SETTINGS = EvaluationSettings.model_validate(
    {"protocol": "cohort", "data": "d", "checkpoint": "c", "replicates": 20}
)  # fmt: skip
Make = Callable[..., Outcome]


@pytest.fixture
def make(make_scored: Callable[..., Any]) -> Make:
    """An outcome over sixteen patients; labels named in ``refused`` could not be scored."""

    def build(
        mode: str, model: str, how: str = "", fraction: float | None = None, draw: int = 0, **more: Any
    ) -> Outcome:
        refused = more.pop("refused", ())
        scored = []
        for place, label in enumerate(("Edema", "Mass", "Rare")):
            generator = np.random.default_rng([place, draw, len(model), len(how), int(100 * (fraction or 0))])
            y = [float((row + place) % 3 == 0) for row in range(16)]
            score = generator.normal(size=16) + np.array(y)
            reason = "too few" if label in refused else None
            scored.append(make_scored(y, score if reason is None else [np.nan] * 16, label=label, reason=reason))
        return Outcome(mode, model, how, fraction, draw, scored, [], **more)  # type: ignore[arg-type]

    return build


def macro(outcome: Outcome, *labels: str) -> float:
    values = [auroc(item.y, item.score).value for item in outcome.test if item.task.label in labels]
    return float(np.mean(values))  # type: ignore[arg-type]


def test_what_is_to_be_compared_stands_side_by_side(make: Make) -> None:
    found = grouped(
        [
            make("zero-shot", "checkpoint"),
            make("linear-probe", "checkpoint", fraction=0.1),
            make("linear-probe", "checkpoint", fraction=0.1, draw=1),
            make("linear-probe", "checkpoint", fraction=1.0),
            make("zero-shot", "random encoder", encoder_seed=0),
            make("linear-probe", "random encoder", fraction=0.1, encoder_seed=0),
            make("linear-probe", "random encoder", fraction=1.0, encoder_seed=0),
            make("zero-shot", "random encoder", draw=1, encoder_seed=1),
        ]
    )
    assert [[outcome.name for outcome in group] for group in found] == [
        ["zero-shot, checkpoint"],
        ["zero-shot, random encoder", "zero-shot, random encoder, draw 2"],
        ["linear-probe, checkpoint, 10 % of labels", "linear-probe, checkpoint, 10 % of labels, draw 2"],
        ["linear-probe, random encoder, 10 % of labels"],
        ["linear-probe, checkpoint, 100 % of labels"],
        ["linear-probe, random encoder, 100 % of labels"],
    ]


def test_the_spread_over_draws_is_over_the_labels_that_every_draw_has(make: Make) -> None:
    first = make("linear-probe", "checkpoint", fraction=0.1)
    second = make("linear-probe", "checkpoint", fraction=0.1, draw=1, refused=("Rare",))
    drawn = result_entry([first, second], SETTINGS)["draws"]
    expected = [macro(outcome, "Edema", "Mass") for outcome in (first, second)]
    assert (drawn["of"], drawn["labels"]) == (["labels"], 2)
    assert drawn["macro_auroc"] == pytest.approx(expected)
    assert (drawn["mean"], drawn["sd"]) == pytest.approx((np.mean(expected), np.std(expected, ddof=1)))
    empty = make("linear-probe", "checkpoint", fraction=0.1, draw=1, refused=("Edema", "Mass", "Rare"))
    assert result_entry([first, empty], SETTINGS)["draws"]["mean"] is None
    assert "draws" not in result_entry([first], SETTINGS)


def test_what_is_drawn_is_said(make: Make) -> None:
    def drawn(fraction: float | None, *seeds: int) -> list[str]:
        group = [make("linear-probe", "random encoder", "", fraction, n, encoder_seed=s) for n, s in enumerate(seeds)]
        of: list[str] = result_entry(group, SETTINGS)["draws"]["of"]
        return of

    assert drawn(None, 0, 1) == drawn(1.0, 0, 1) == ["encoders"]
    assert drawn(0.1, 0, 1) == ["labels", "encoders"]
    assert drawn(0.1, 0, 0) == ["labels"]


def test_a_share_of_labels_is_set_beside_the_whole_on_the_same_labels(make: Make) -> None:
    few = [make("linear-probe", "checkpoint", fraction=0.01, draw=n, refused=("Mass", "Rare")[n:]) for n in range(2)]
    none = [make("linear-probe", "checkpoint", fraction=0.001, refused=("Edema", "Mass", "Rare"))]
    whole = [make("linear-probe", "checkpoint", fraction=1.0)]
    other = [make("fine-tune", "checkpoint", "lora", 0.01)]
    found, nothing = fewer_labels([few, none, other, whole])
    assert (found["variant"], found["labels"]) == ("1 % of labels", 1)
    assert found["mean"] == pytest.approx(np.mean([macro(outcome, "Edema") for outcome in few]))
    assert found["whole"] == pytest.approx(macro(whole[0], "Edema"))
    assert (nothing["labels"], nothing["mean"], nothing["whole"]) == (0, None, None)


def test_only_comparisons_that_make_sense_are_made(make: Make) -> None:
    zero, probe = make("zero-shot", "checkpoint"), make("linear-probe", "checkpoint", fraction=0.1)
    lora, both = make("fine-tune", "checkpoint", "lora", 0.1), make("fusion", "checkpoint", "both")
    supervised = make("fine-tune", "supervised", fraction=0.1)
    assert worth_comparing(zero, make("zero-shot", "random encoder"))
    assert worth_comparing(probe, make("linear-probe", "random encoder", fraction=0.1))
    assert not worth_comparing(probe, make("linear-probe", "random encoder", fraction=1.0))
    assert not worth_comparing(zero, make("linear-probe", "random encoder", fraction=0.1))
    assert worth_comparing(probe, supervised) and worth_comparing(lora, supervised)
    assert not worth_comparing(zero, supervised)
    assert not worth_comparing(make("linear-probe", "checkpoint", fraction=1.0), supervised)
    assert worth_comparing(both, make("fusion", "checkpoint", "ECG only"))
    assert not worth_comparing(both, make("fusion", "checkpoint", "as available"))
    assert not worth_comparing(make("fusion", "checkpoint", "ECG only"), make("fusion", "checkpoint", "X-ray only"))
    assert not worth_comparing(probe, zero)


def test_random_encoders_are_compared_by_their_mean_and_draws_of_labels_are_not(make: Make) -> None:
    zero = [make("zero-shot", "checkpoint")]
    encoders = [make("zero-shot", "random encoder", draw=n, encoder_seed=n) for n in range(2)]
    probes = [make("linear-probe", "checkpoint", fraction=0.1, draw=n) for n in range(2)]
    others = [make("linear-probe", "random encoder", fraction=0.1, draw=n, encoder_seed=n) for n in range(2)]
    of_encoders, of_draws = comparisons([zero, encoders, probes, others], SETTINGS)
    assert of_encoders["b"] == "zero-shot, random encoder (mean of 2)"
    labels = ("Edema", "Mass", "Rare")
    expected = macro(zero[0], *labels) - np.mean([macro(outcome, *labels) for outcome in encoders])
    assert of_encoders["macro_auroc"] == pytest.approx(expected)
    assert of_draws["b"] == "linear-probe, random encoder, 10 % of labels"
    assert of_draws["macro_auroc"] == pytest.approx(macro(probes[0], *labels) - macro(others[0], *labels))


def test_subgroups_belong_to_what_used_everything(make: Make) -> None:
    def has(*given: Any) -> bool:
        return "subgroups" in result_entry([make(*given)], SETTINGS)

    assert has("zero-shot", "checkpoint") and has("linear-probe", "checkpoint", "", 1.0)
    assert has("fusion", "checkpoint", "as available") and not has("fusion", "checkpoint", "both")
    assert not has("linear-probe", "checkpoint", "", 0.1)
    assert not has("zero-shot", "random encoder")
