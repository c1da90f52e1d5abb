"""Do a model's explanations mean something? Deletion, insertion, pointing, and the same for randomised models."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from more_model.checkpoint import TrainedModel, random_twin
from more_model.evaluation.bootstrap import resample_patients
from more_model.evaluation.embedded import Mask
from more_model.evaluation.prompt_sets import PromptSet
from more_model.explain.cases import Cases
from more_model.explain.estimates import above, by_label, difference_estimate, mean_estimate, ratio_estimate
from more_model.explain.measure import ORDERS, STEPS, TOLERANCE, Measured, label_directions, measure
from more_model.explain.randomised import rank_agreement

#: A map points well when it hits this many times as often as a random one.
WANTED_RATIO = 2.0
#: A specific gain counts from this many units of the softmax on (cosine over temperature): below, the odds of a match
#: change by less than a twentieth. Random weights can respond to a finding by chance, but not by that much.
SMALLEST_GAIN = 0.05

Report = Callable[[str, int, int], None]


def check_explanations(
    trained: TrainedModel,
    cases: Sequence[Cases],
    prompts: PromptSet,
    *,
    twin_seeds: Sequence[int] = (1, 2),
    replicates: int = 500,
    seed: int = 0,
    progress: Report = lambda _stage, _done, _total: None,
) -> dict[str, Any]:
    """All figures by modality, for ``trained`` and for random models of its architecture, with verdicts.

    Each verdict is a mapping of ``check``, ``modality``, ``passed`` and one plain ``sentence``. ``prompts`` are worded
    with the prefixes of training.
    """
    answer: dict[str, Any] = {
        "schema": 1,
        "model": {"origin": trained.origin, "digest": trained.digest},
        "settings": {
            "steps": STEPS,
            "random_orders": ORDERS,
            "tolerance": TOLERANCE,
            "replicates": replicates,
            "smallest_gain": SMALLEST_GAIN * float(trained.model.temperature),
        },
        "modalities": {},
        "verdicts": [],
    }
    for of_modality in cases:
        found = _of_modality(trained, of_modality, prompts, twin_seeds, replicates, seed, progress)
        answer["modalities"][of_modality.modality] = found
        answer["verdicts"] += verdicts(of_modality.modality, found, answer["settings"]["smallest_gain"])
    answer["passed"] = all(verdict["passed"] for verdict in answer["verdicts"])
    return answer


def _of_modality(
    trained: TrainedModel,
    cases: Cases,
    prompts: PromptSet,
    twin_seeds: Sequence[int],
    replicates: int,
    seed: int,
    progress: Report,
) -> dict[str, Any]:
    models = {f"{cases.modality}: model": trained}
    models |= {f"{cases.modality}: random {number}": random_twin(trained, number) for number in twin_seeds}
    measured = []
    for stage, model in models.items():
        directions = label_directions(model, prompts, cases.modality)

        def tell(done: int, total: int, stage: str = stage) -> None:
            progress(stage, done, total)

        measured.append(measure(model, cases, directions, seed=seed, progress=tell))
    own, *random = measured
    figures = [figures_of(cases, one, replicates=replicates, seed=seed) for one in measured]
    return {
        "cases": {
            "with_finding": int(cases.present.sum()),
            "without_finding": int((~cases.present).sum()),
            "with_known_lesion": int((~np.isnan(own.hit)).sum()),
            "patients": len(set(zip(cases.site, cases.patient, strict=True))),
            "labels": sorted(set(cases.label)),
        },
        "model": figures[0],
        "randomised": [
            {"seed": number, "map_agreement": rank_agreement(own.cells, twin.cells), **twin_figures}
            for number, twin, twin_figures in zip(twin_seeds, random, figures[1:], strict=True)
        ],
    }


def figures_of(cases: Cases, measured: Measured, *, replicates: int, seed: int) -> dict[str, Any]:
    """The figures of one model. ``deletion`` and ``insertion`` are the gains over random order in cases with the
    finding, ``specific_deletion`` and ``specific_insertion`` by how much they are larger than in cases without."""
    resamples = resample_patients(cases.patient, cases.site, replicates=replicates, seed=seed)
    unit, present = resamples.rows(cases.patient, cases.site), cases.present
    figures: dict[str, Any] = {
        "score_difference": difference_estimate(measured.score, present, unit, resamples),
        "deletion_curve": measured.deletion_curve.tolist(),
        "random_curve": measured.random_curve.tolist(),
    }
    for name, gain in (("deletion", measured.deletion), ("insertion", measured.insertion)):
        figures[name] = mean_estimate(gain[present], unit[present], resamples)
        figures[f"specific_{name}"] = difference_estimate(gain, present, unit, resamples)
        figures[f"{name}_by_label"] = by_label(_where(cases.label, present), gain[present])
    if not np.isnan(measured.hit).all():
        figures["pointing"] = {
            "hit_rate": mean_estimate(measured.hit, unit, resamples),
            "chance": mean_estimate(measured.chance, unit, resamples),
            "ratio": ratio_estimate(measured.hit, measured.chance, unit, resamples),
            "ratio_over_middle": ratio_estimate(measured.hit, measured.centre, unit, resamples),
            "hit_rate_by_label": by_label(cases.label, measured.hit),
            "chance_by_label": by_label(cases.label, measured.chance),
        }
    return figures


def _where(labels: Sequence[str], rows: Mask) -> list[str]:
    return [label for label, kept in zip(labels, rows.tolist(), strict=True) if kept]


def deletion_holds(figures: dict[str, Any], smallest_gain: float) -> bool:
    """Better than random order, and more so where the finding is there: both intervals exclude zero, and the latter is
    at least ``smallest_gain``."""
    specific = figures["specific_deletion"]
    return above(figures["deletion"], 0.0) and above(specific, 0.0) and bool(specific["value"] >= smallest_gain)


def pointing_holds(figures: dict[str, Any]) -> bool:
    """At least twice as many hits as a random map, with an interval above one."""
    ratio = figures["pointing"]["ratio"]
    return ratio["value"] is not None and ratio["value"] >= WANTED_RATIO and above(ratio, 1.0)


def verdicts(modality: str, found: dict[str, Any], smallest_gain: float) -> list[dict[str, Any]]:
    """The plain sentences about one modality's figures."""
    study, own, random = {"xray": "X-ray", "ecg": "ECG"}[modality], found["model"], found["randomised"]
    passed = deletion_holds(own, smallest_gain)
    said = [
        _verdict(
            "deletion",
            modality,
            passed,
            f"{study}: removing what the map marks lowers the score {'' if passed else 'NOT reliably '}more than "
            f"random removal, and more where the finding is present: gain {_shown(own['deletion'])}, "
            f"of it specific to the finding {_shown(own['specific_deletion'])}.",
        )
    ]
    if "pointing" in own:
        passed = pointing_holds(own)
        game = own["pointing"]
        said.append(
            _verdict(
                "pointing",
                modality,
                passed,
                f"{study}: the map points at the known lesion in {game['hit_rate']['value']:.0%} of cases, a random "
                f"map in {game['chance']['value']:.0%}: {_shown(game['ratio'])} times as often"
                f"{'' if passed else ', which is NOT at least twice'}.",
            )
        )
    for twin in random:
        fails = not deletion_holds(twin, smallest_gain) and ("pointing" not in twin or not pointing_holds(twin))
        parts = [f"specific deletion gain {_shown(twin['specific_deletion'])}"]
        parts += [f"hits {_shown(twin['pointing']['ratio'])} times chance"] if "pointing" in twin else []
        said.append(
            _verdict(
                "randomised",
                modality,
                fails,
                f"{study}: the random model {twin['seed']} {'fails as it must' if fails else 'does NOT fail'}: "
                f"{', '.join(parts)}; rank correlation of its maps with the model's {_number(twin['map_agreement'])}.",
            )
        )
    return said


def _verdict(check: str, modality: str, passed: bool, sentence: str) -> dict[str, Any]:
    return {"check": check, "modality": modality, "passed": passed, "sentence": sentence}


def _number(value: float | None) -> str:
    return "not known" if value is None else f"{value:.2f}"


def _shown(estimate: dict[str, Any]) -> str:
    if estimate["value"] is None:
        return "not known"
    digits = 1 if abs(estimate["value"]) >= 1 else 2 if abs(estimate["value"]) >= 0.1 else 4
    if estimate["ci95"] is None:
        return f"{estimate['value']:.{digits}f}"
    low, high = estimate["ci95"]
    return f"{estimate['value']:.{digits}f} (95 % interval {low:.{digits}f} to {high:.{digits}f})"
