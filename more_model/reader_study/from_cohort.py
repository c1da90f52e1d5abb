"""Cases drawn from the test patients of a cohort, with what a trained model says about them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from more_model.checkpoint import TrainedModel
from more_model.cohort_file import Cohort
from more_model.data.study import Modality, Split, Triplet
from more_model.errors import ConfigError, DataError
from more_model.evaluation.calibration import Calibrator, calibration_refusal, fit_calibrator
from more_model.evaluation.embedded import Float64
from more_model.evaluation.embedding import embedded_set, label_column
from more_model.evaluation.prompt_sets import LabelPrompts, PromptSet
from more_model.evaluation.zero_shot import encode_prompts, zero_shot_scores
from more_model.explain.explanation import Explanation, explain_pair
from more_model.reader_study.cases import Case
from more_model.reader_study.pictures import MAX_SIDE_PX, draw_ecg, encode_png
from more_model.training.embed import embed_texts
from more_model.training.examples import Examples
from more_model.training.words import PREFIX

#: Draws an explanation as the bytes of a PNG file.
DrawExplanation = Callable[[Explanation], bytes]


@dataclass(frozen=True, slots=True)
class Draw:
    """One test study (its row) that one question is asked about, and what is true."""

    question: LabelPrompts
    row: int
    truth: int


def cohort_cases(
    trained: TrainedModel,
    cohort: Cohort,
    prompts: PromptSet,
    *,
    count: int,
    seed: int,
    draw_explanation: DrawExplanation,
    threads: int = 2,
) -> list[Case]:
    """``count`` test studies of different patients: for each label of ``prompts`` as many with as without the finding.

    Each case asks one question and shows the study that the label is judged from, never its report. The aid is the
    explanation of the label's first positive against its first negative wording, and the model's zero-shot probability
    where there are enough validation patients to calibrate it. That probability holds for the cohort's share of
    positives, which is not the half that readers see.

    Raises:
        ConfigError: ``count`` cannot be divided so, or the prompt set has classes without a negative wording.
        DataError: the test patients are too few.
    """
    if prompts.exclusive:
        raise ConfigError(f"prompts {prompts.name}", ["its classes exclude each other: a reader is asked yes or no"])
    test = cohort.examples.of_split(Split.TEST)
    draws = draw_balanced(test, prompts, count, seed)
    calibrators = _calibrators(trained, cohort.examples.of_split(Split.VALIDATION), prompts, threads)
    rows = [draw.row for draw in draws]
    chosen = Examples(tuple(test.triplets[r] for r in rows), tuple(test.source_of[r] for r in rows), test.sources)
    scores = _scores(trained, chosen, prompts, threads)
    cases = []
    for number, draw in enumerate(draws):
        label = draw.question.task.label
        calibrator = calibrators.get(label)
        probability = {} if calibrator is None else {label: float(calibrator.probability(scores[label][number]))}
        cases.append(_case(trained, chosen, number, draw, probability, draw_explanation))
    return cases


def draw_balanced(test: Examples, prompts: PromptSet, count: int, seed: int) -> list[Draw]:
    """Draws rows of ``test``, no patient twice; see `cohort_cases`."""
    questions = prompts.labels
    each, rest = divmod(count, 2 * len(questions))
    if rest or not each:
        raise ConfigError(
            "reader study",
            [f"{count} cases cannot be dealt out evenly over {len(questions)} labels with and without the finding"],
            remedy=f"give a multiple of {2 * len(questions)} as --count",
        )
    generator = np.random.default_rng(seed)
    wanted = [(question, truth, _candidates(test, question, truth)) for question in questions for truth in (1, 0)]
    taken: set[tuple[str, str]] = set()
    draws: list[Draw] = []
    # The rarest first: a patient that only they can use must not be spent on a question with many.
    for question, truth, rows in sorted(wanted, key=lambda one: len(one[2])):
        found = 0
        for row in generator.permutation(rows).tolist():
            patient = _patient(test.triplets[row])
            if found < each and patient not in taken:
                taken.add(patient)
                draws.append(Draw(question, row, truth))
                found += 1
        if found < each:
            words = "with" if truth else "without"
            raise DataError(
                f"only {found} test patients are left {words} {question.task.label}, {each} are needed",
                remedy="give a smaller --count, or fewer --labels",
            )
    return draws


def _candidates(test: Examples, question: LabelPrompts, truth: int) -> list[int]:
    values = label_column(test, question.task.label)
    return [
        row
        for row, triplet in enumerate(test.triplets)
        if values[row] == truth and getattr(triplet, question.task.modality) is not None
    ]


def _patient(triplet: Triplet) -> tuple[str, str]:
    return triplet.site, triplet.patient_id


def _scores(trained: TrainedModel, examples: Examples, prompts: PromptSet, threads: int) -> dict[str, Float64]:
    """The zero-shot score [n] of each label; NaN where the study is missing."""
    facts = {"tokenizer": trained.tokenizer, "max_tokens": trained.max_tokens, "threads": threads}
    prefixed = prompts.with_prefix({m.value: f"{PREFIX[m]} " for m in (Modality.XRAY, Modality.ECG)})
    directions = encode_prompts(prefixed, lambda texts: embed_texts(trained.model, texts, **facts))
    embedded = embedded_set(trained.model, examples, (), **facts)
    return {
        task.label: zero_shot_scores(embedded.embedding(task.modality), sides.positive, sides.negative)
        for task, sides in directions.items()
    }


def _calibrators(
    trained: TrainedModel, validation: Examples, prompts: PromptSet, threads: int
) -> Mapping[str, Calibrator]:
    """A calibrator for every label that enough validation patients state."""
    if not len(validation):
        return {}
    calibrators = {}
    for label, score in _scores(trained, validation, prompts, threads).items():
        stated = label_column(validation, label)
        y = np.where(np.isin(stated, (0.0, 1.0)), stated, np.nan)
        if calibration_refusal(y, score) is None:
            calibrators[label] = fit_calibrator(y, score)
    return calibrators


def _case(
    trained: TrainedModel,
    chosen: Examples,
    number: int,
    draw: Draw,
    probability: Mapping[str, float],
    draw_explanation: DrawExplanation,
) -> Case:
    from PIL import Image

    task, triplet = draw.question.task, chosen.triplets[number]
    wordings: Sequence[str] = (draw.question.positive[0], draw.question.negative[0])
    if task.modality == "xray":
        film = chosen.xrays([number])[0].numpy()
        # Stores hold small pictures: enlarged evenly, or every browser would do it in its own way.
        scale = max(1, MAX_SIDE_PX // 2 // max(film.shape))
        size = (film.shape[1] * scale, film.shape[0] * scale)
        shown = encode_png(Image.fromarray(film).resize(size, Image.Resampling.BICUBIC))
        explanation = explain_pair(trained, xray=film, words=wordings[0], contrast=wordings[1])
    else:
        signal = chosen.ecgs([number])[0].numpy()
        shown = draw_ecg(signal, trained.config.preprocessing.ecg_rate_hz)
        explanation = explain_pair(trained, ecg=signal, words=wordings[0], contrast=wordings[1])
    site, patient = _patient(triplet)
    return Case(
        id=f"{site}/{patient}/{task.label}",
        unit=f"{site}/{patient}",
        truth={task.label: draw.truth},
        xray=shown if task.modality == "xray" else None,
        ecg=shown if task.modality == "ecg" else None,
        report="",
        explanation=draw_explanation(explanation),
        probability=probability,
    )
