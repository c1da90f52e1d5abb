"""The assessment as one page that can be read, printed and heard."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

from more_model.assess.assessment import Assessment
from more_model.assess.corrections import correction_in_words
from more_model.assess.explanations import Drawn
from more_model.assess.judge import CLEAR_ODDS, Judgement
from more_model.assess.model_card import model_card
from more_model.assess.parts import Part, in_words, selection
from more_model.report.blocks import Block, Cell, Picture, Section, Table, Words
from more_model.report.page import Page, write_page, write_whole

PAGE, JSON = "assess.html", "assess.json"

_SYNTHETIC = "The model learnt from generated patients: of a real one it knows nothing, even where it does not refuse."
_CAUTIONS = (
    "For research use only. This is no diagnosis and no medical device; decide nothing about a patient by it.",
    "A probability holds for patients like those of the training cohort; where a finding is rarer or commoner it errs.",
    "The page is about a patient, and quotes reports of other patients: it is as private as a record.",
)


def write_assessment(out: Path, assessment: Assessment) -> dict[str, object]:
    """Writes the page and, last, the JSON file into ``out``, for their owner alone; returns the JSON content."""
    content = assessment.to_dict()
    for name in (PAGE, JSON):
        # Made before they are filled, because they hold what is known of a patient.
        draft = out / f"{name}.part"
        draft.unlink(missing_ok=True)
        draft.touch(mode=0o600)
    write_page(out / PAGE, assessment_page(assessment))
    write_whole(out / JSON, json.dumps(content, indent=2, allow_nan=False) + "\n")
    return content


def assessment_page(assessment: Assessment) -> Page:
    """Everything that is said, the most important first."""
    used, synthetic = selection(assessment.inputs), assessment.header.cohort.synthetic
    sections = [
        _inputs(assessment),
        _findings(assessment),
        *_agreement(assessment.judgements),
        *_explanations(assessment),
        _nearest(assessment),
        model_card(assessment.header, used),
    ]
    digest = assessment.header.model.digest[:12]
    return Page(
        kind="Assessment of one patient",
        title=f"What the model says from {in_words(used)}",
        sections=sections,
        subtitle=assessment.header.model.origin,
        cautions=[*_left_out(assessment), *_CAUTIONS],
        synthetic=synthetic,
        synthetic_words=_SYNTHETIC,
        footer=f"Model {digest}.",
    )


def _left_out(assessment: Assessment) -> list[str]:
    """What was refused, beside the cautions: it must be seen before any probability."""
    return [
        f"The {part.words} was refused, and nothing below rests on it. {one.message}"
        for part, one in assessment.refused.items()
    ]


def _inputs(assessment: Assessment) -> Section:
    blocks: list[Block] = [
        Table(
            "What was given",
            ("Input", "Used", "What was noticed", "Distance from the training cohort"),
            [_input_row(assessment, part) for part in Part],
            note="A distance is about 1 for what was trained on; beyond its limit an input is refused. How often that "
            "befalls a good input stands in the model card.",
            words=frozenset({1, 2, 3}),
        )
    ]
    blocks += [
        Words(f"What to do about the {part.words}: {one.remedy}.", tone="note")
        for part, one in assessment.refused.items()
        if one.remedy
    ]
    return Section("inputs", "What was given, corrected and refused", blocks)


def _input_row(assessment: Assessment, part: Part) -> list[Cell | str]:
    name = part.words[0].upper() + part.words[1:]
    if part in assessment.refused:
        refused = assessment.refused[part]
        far = [f"{one.distance:.2f} of {one.limit.value:.2f}" for one in refused.placed]
        return [name, Cell("refused", tone="warn"), f"{refused.reason}: {refused.message}", ", ".join(far) or "-"]
    if part not in assessment.inputs:
        return [name, Cell("not given", tone="quiet"), "-", "-"]
    given = assessment.inputs[part]
    noticed = [correction_in_words(code) for code in given.corrections]
    if given.known_words is not None:
        about = "an X-ray" if given.kind == "xray" else "an ECG"
        share = f"{100 * given.known_words:.0f} % of its words are known from training"
        noticed.append(f"Read as a report about {about}; {share}.")
    if given.tokens_cut:
        noticed.append(f"Longer than the model reads: the last {given.tokens_cut} tokens were left out.")
    placed = [f"{one.measure.words}: {one.distance:.2f} of {one.limit.value:.2f}" for one in given.placed]
    return [name, "yes", " ".join(noticed) or "Nothing was corrected.", "; ".join(placed)]


def _findings(assessment: Assessment) -> Section:
    known = [one for one in assessment.judgements if one.probability is not None]
    telling = sorted((one for one in known if one.informative), key=lambda one: -one.lift)
    weak = [one for one in known if not one.informative]
    refused = [one for one in assessment.judgements if one.probability is None]
    blocks: list[Block] = []
    if telling:
        blocks.append(_telling(telling))
    else:
        blocks.append(Words("No finding can be told from chance from these inputs.", tone="note"))
    if weak:
        blocks.append(_weak(weak))
    if refused:
        rows = [[one.finding.label, one.reason] for one in refused]
        blocks.append(Table("Findings without a probability", ("Finding", "Why"), rows, words=frozenset({1})))
    return Section("findings", "Findings", blocks)


def _telling(judgements: Sequence[Judgement]) -> Table:
    return Table(
        "Probability of each finding, those first whose odds rise most over the training cohort's",
        ("Finding", "Probability (95 %)", "In training", "Rests on", "What each input contributed", "Reliability"),
        [_finding_row(one) for one in judgements],
        note="The interval is that of the calibration curve alone. Reliability: AUROC on validation patients with its "
        "interval, and how many of them have the finding and have it not. The same patients chose the settings and "
        "made the curve, so new patients will come out somewhat worse.",
        words=frozenset({3, 4, 5}),
    )


def _weak(judgements: Sequence[Judgement]) -> Table:
    rows: list[list[Cell | str]] = [
        [one.finding.label, Cell(_interval(one), tone="quiet"), _prevalence(one), in_words(one.chosen), _auroc(one)]
        for one in judgements
    ]
    return Table(
        "Findings that these inputs do not tell from chance",
        ("Finding", "Probability (95 %)", "In training", "Rests on", "AUROC on validation patients"),
        rows,
        note="The interval of the AUROC includes one half: such a probability says no more than the share in training.",
        words=frozenset({3, 4}),
    )


def _finding_row(one: Judgement) -> list[Cell | str]:
    return [one.finding.label, _interval(one), _prevalence(one), in_words(one.chosen), contribution(one), _auroc(one)]


def contribution(one: Judgement) -> str:
    """What each part contributed, in words: the probability with all and without each."""
    if one.probability is None:
        return ""
    if len(one.chosen) == 1:
        return f"All of it is from the {one.chosen[0].words}."
    sentences = []
    for part in one.chosen:
        without = one.without[part]
        if without is None:
            sentences.append(f"Without the {part.words} there is no probability.")
            continue
        change = one.probability - without
        verb = "leaves it as it is" if abs(change) < 0.005 else f"{'raises' if change > 0 else 'lowers'} it"
        sentences.append(f"The {part.words} {verb} (without: {percent(without)}).")
    return " ".join(sentences)


def _agreement(judgements: Sequence[Judgement]) -> list[Section]:
    marked = [one for one in judgements if one.agreement]
    if not marked:
        return []
    rows: list[list[Cell | str]] = [
        [
            one.finding.label,
            Cell(one.agreement, tone="warn" if one.agreement == "disagree" else ""),
            ", ".join(f"{part.words} {percent(value)}" for part, value in one.alone.items() if value is not None),
            _prevalence(one),
        ]
        for one in marked
    ]
    note = (
        f"Listed where two inputs, each alone, change the odds by a factor of {CLEAR_ODDS:g} or more against training."
    )
    table = Table(
        "Probability from each input alone",
        ("Finding", "Inputs", "Alone", "In training"),
        rows,
        note,
        frozenset({1, 2}),
    )
    return [Section("agreement", "Where the inputs agree and disagree", [table])]


def _explanations(assessment: Assessment) -> list[Section]:
    blocks: list[Block] = [Picture(one.png, one.alt, _caption(one)) for one in assessment.drawn]
    if assessment.sentences is not None:
        effects = assessment.sentences
        blocks.append(
            Table(
                f"Probability of {effects.finding} ({percent(effects.whole)}) without each sentence of the report",
                ("Sentence", "Probability without it"),
                [[sentence, percent(value)] for sentence, value in effects.without],
            )
        )
    if not blocks:
        return []
    caution = "Maps and weights show what a similarity rests on. They are no segmentation and no diagnosis."
    return [Section("explanations", "Explanations", [*blocks, Words(caution, tone="note")])]


def _caption(one: Drawn) -> str:
    if one.finding is None:
        return f"What the likeness of the {one.part.words} and the report rests on, with the weight of each word."
    return (
        f"What in the {one.part.words} speaks for {one.finding} rather than against it, with the weights of the words "
        "that stand for it. It is the finding whose odds rise most; bright is relevant, each map has its own scale."
    )


def _nearest(assessment: Assessment) -> Section:
    blocks: list[Block] = []
    for part, found in assessment.nearest.items():
        rows: list[list[Cell | str]] = [
            [f"{one.score:.3f}", one.words, ", ".join(one.findings) or "none present", str(one.studies)]
            for one in found
        ]
        if rows:
            blocks.append(
                Table(
                    f"Nearest to the {part.words}",
                    ("Similarity", "Words", "Findings of that patient", "Studies with these words"),
                    rows,
                    words=frozenset({1, 2}),
                )
            )
    blocks.append(
        Words(
            "Reports of training patients; equal words are one. Some report is always nearest, even where none fits. "
            "Similarities to an X-ray, an ECG and a report cannot be compared with each other."
        )
    )
    return Section("nearest", "Nearest known reports", blocks)


def _interval(one: Judgement) -> str:
    assert one.probability is not None and one.interval is not None
    return f"{percent(one.probability)} ({percent(one.interval[0])} to {percent(one.interval[1])})"


def _prevalence(one: Judgement) -> str:
    return "-" if one.finding.prevalence is None else percent(one.finding.prevalence)


def _auroc(one: Judgement) -> str:
    curve = one.curve
    if curve is None or curve.auroc is None:
        return "-"
    support = f"{curve.positives} with, {curve.negatives} without"
    if curve.auroc_ci95 is None:
        return f"{curve.auroc:.2f}; {support}"
    return f"{curve.auroc:.2f} ({curve.auroc_ci95[0]:.2f} to {curve.auroc_ci95[1]:.2f}); {support}"


def percent(value: float) -> str:
    """Whole percents, save where they would read as impossible or certain."""
    if value < 0.005:
        return "under 1 %"
    return "over 99 %" if value > 0.995 else f"{value:.0%}".replace("%", " %")
