"""The failure signatures of contrastive training, each with its thresholds and the reason for them.

`examine` takes plain measures (the form of summary.json) and judges them; nothing is computed from a model here. The
thresholds are conventions: they tell a run that went wrong from one that did not, they do not grade models.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from more_model.evaluation.finding import Finding, Limits

_PAIRS = ("xray", "ecg")
_TOWERS = ("xray", "ecg", "text")
_NAMES = {"xray": "X-ray", "ecg": "ECG", "text": "text"}
_OTHER = {"xray": "ecg", "ecg": "xray"}
_UNTRAINED = "nothing was trained in this arm"

_AGAINST_CHANCE = Limits(0.95, 0.98)
_DIRECTIONS = Limits(4.0, 2.0, worse="below")
_SPREAD = Limits(-0.5, -0.15)
_ALIGNMENT = Limits(0.95, 0.98)
_GAP = Limits(1.0, 1.3)
_DRAG = Limits(0.05, 0.10)
_GRADIENT = Limits(0.02, 0.001, worse="below")
_ATTENTION_UNIFORM = Limits(0.99, 0.9999)
_ATTENTION_POINT = Limits(0.15, 0.05, worse="below")
_FLIPPED = Limits(0.01, 0.5)
_SEEDS = Limits(0.03, 0.10)
#: An AUROC this far on the wrong side of 0.5 is not there by the chance of a few patients alone.
FLIP_MARGIN = 0.05


def examine(measures: Mapping[str, Any]) -> list[Finding]:
    """Every signature, for every tower that it can be asked of; what cannot be judged is ``unknown`` with the reason.

    ``measures`` may hold ``towers`` and ``pairs`` (`more_model.evaluation.health.measure_geometry`), ``segments`` (one
    mapping a segment: names of `more_model.exchange.WATCHED`, and ``auroc_xray``, ``auroc_ecg`` on validation
    patients; None or an absent key where not known), ``attention`` {tower: mean entropy of each block}, ``wording``
    (`more_model.evaluation.prompt_draws.wording_spread`) and ``seeds`` {"macro": [...], "per_label": [{label: AUROC}]}.
    """
    segments = measures.get("segments") or []
    found = [_loss(tower, segments) for tower in _PAIRS]
    found += [_held_out(tower, _of(measures, "pairs", tower)) for tower in _PAIRS]
    found += [_rank(tower, _of(measures, "towers", tower)) for tower in _TOWERS]
    found += [_spread(tower, _of(measures, "towers", tower)) for tower in _TOWERS]
    found += [_alignment(tower, _of(measures, "pairs", tower)) for tower in _PAIRS]
    found += [_gap(tower, _of(measures, "pairs", tower)) for tower in _PAIRS]
    found += [_drag(tower, segments) for tower in _PAIRS]
    found += [_gradient(tower, segments) for tower in _TOWERS]
    found += [_attention(tower, _of(measures, "attention").get(tower)) for tower in _TOWERS]
    return [*found, _wording(_of(measures, "wording")), _seeds(_of(measures, "seeds"))]


def _loss(tower: str, segments: Sequence[Mapping[str, Any]]) -> Finding:
    """The term of the last segment as a share of its chance level, ln(candidates).

    At 1 the loss is that of equal scores for all candidates. Watch from 0.95, alarm from 0.98: a segment of some
    hundred pairs leaves an uncertainty of one or two hundredths in the mean, so 0.98 cannot be told from chance.
    """
    if not segments:
        return _unknown("loss", tower, _UNTRAINED)
    value = _last(_ratios(tower, segments))
    if value is None:
        return _unknown("loss", tower, f"no {_NAMES[tower]} had words to be compared with")
    how = "worse than guessing" if value > 1.02 else "no better than guessing" if value >= 0.98 else "below guessing"
    return _judged(
        "loss", tower, value, _AGAINST_CHANCE,
        f"In the last round the {_NAMES[tower]} loss was {value:.2f} of its chance level: {how}.",
    )  # fmt: skip


def _held_out(tower: str, pair: Mapping[str, Any]) -> Finding:
    """The same share on held-out patients, all compared with all, with the thresholds of the training loss. Candidates
    are many more than in a batch, so compare it between runs on the same patients, not with the training loss."""
    loss, chance = pair.get("held_out_loss"), pair.get("chance")
    if loss is None or not chance:
        return _unknown("held_out", tower, _too_few(tower, pair))
    return _judged(
        "held_out", tower, loss / chance, _AGAINST_CHANCE,
        f"On {pair['rows']} held-out studies the {_NAMES[tower]} loss is {loss / chance:.2f} of its chance level.",
    )  # fmt: skip


def _rank(tower: str, facts: Mapping[str, Any]) -> Finding:
    """Effective rank of the projections. Alarm below 2: more than one direction is hardly used, and every question is
    answered by the same ordering of patients. Watch below 4: several findings can be told apart only in as many
    directions. (A random model fails otherwise: its rank is high, its spread is nil.) Source: Roy & Vetterli 2007; Jing
    et al. 2022 describe this collapse of dimensions in contrastive training."""
    value = facts.get("effective_rank")
    if value is None:
        return _unknown("rank", tower, _too_few(tower, facts))
    return _judged(
        "rank", tower, value, _DIRECTIONS,
        f"The {_NAMES[tower]} embeddings use about {value:.1f} of {facts['width']} directions; "
        f"{facts['first_direction']:.0%} of their variance lies on one line.",
    )  # fmt: skip


def _spread(tower: str, facts: Mapping[str, Any]) -> Finding:
    """Uniformity (Wang & Isola 2020), which is -2 |x - y|^2 for a typical pair of patients. Alarm from -0.15: they lie
    16 degrees apart or less (cosine 0.96), as with random weights; watch from -0.5: 29 degrees (cosine 0.875)."""
    value = facts.get("uniformity")
    if value is None:
        return _unknown("spread", tower, _too_few(tower, facts))
    cosine = 1 + value / 4
    return _judged(
        "spread", tower, value, _SPREAD,
        f"Any two patients' {_NAMES[tower]} embeddings have a typical cosine of {cosine:.2f} (1: the same point).",
    )  # fmt: skip


def _alignment(tower: str, pair: Mapping[str, Any]) -> Finding:
    """Alignment (Wang & Isola 2020) of true pairs, as a share of that between different patients: alone it would be
    perfect in a collapsed model. At 1 the pairing is not seen at all; alarm from 0.98 and watch from 0.95, because the
    mean over a few hundred pairs is uncertain by one or two hundredths."""
    value, others = pair.get("alignment"), pair.get("mismatched")
    if value is None or not others:
        return _unknown("alignment", tower, _too_few(tower, pair))
    return _judged(
        "alignment", tower, value / others, _ALIGNMENT,
        f"The squared distance of {_articled(tower)} to its own words is {value / others:.2f} of that to the words of "
        "other patients.",
    )  # fmt: skip


def _gap(tower: str, pair: Mapping[str, Any]) -> Finding:
    """Distance of the mean vectors. Liang et al. 2022 measured 0.82 for CLIP, a model that works. Watch from 1.0: the
    means of two narrow cones are then 60 degrees apart; alarm from 1.3, 81 degrees: nearly the right angle (1.41) at
    which random towers stand."""
    value = pair.get("gap")
    if value is None:
        return _unknown("gap", tower, _too_few(tower, pair))
    return _judged(
        "gap", tower, value, _GAP,
        f"The centres of the {_NAMES[tower]} and of the text embeddings are {value:.2f} apart "
        "(0: the same place, 1.41: at a right angle).",
    )  # fmt: skip


def _drag(tower: str, segments: Sequence[Mapping[str, Any]]) -> Finding:
    """How far this modality fell from its best segment to the last one while the other rose from the first to the last:
    in validation AUROC, or in loss as a share of chance, whichever is worse. Watch from 0.05, alarm from 0.10: a macro
    AUROC on a hundred patients has a standard error of two to three hundredths."""
    if len(segments) < 2:
        return _unknown("drag", tower, "fewer than two rounds to compare" if segments else _UNTRAINED)
    by_auroc = _fall(_series(segments, f"auroc_{tower}"), _series(segments, f"auroc_{_OTHER[tower]}"))
    by_loss = _fall([-ratio for ratio in _ratios(tower, segments)], [-r for r in _ratios(_OTHER[tower], segments)])
    known = [fall for fall in (by_auroc, by_loss) if fall is not None]
    if not known:
        return _unknown("drag", tower, "both modalities are needed, in two rounds at least")
    value, other = max(known), _NAMES[_OTHER[tower]]
    kind = "validation AUROC" if by_auroc == value else "loss (as a share of chance)"
    says = f"fell back by {value:.2f} in {kind} while the {other} improved"
    if value == 0:
        says = f"gave nothing up to the {other}"
    return _judged("drag", tower, value, _DRAG, f"The {_NAMES[tower]} {says}.")


def _gradient(tower: str, segments: Sequence[Mapping[str, Any]]) -> Finding:
    """The tower's part of the summed gradient norms, mean over segments. AdamW evens out scale, so a small part still
    trains: watch below 2 %. Alarm below 0.1 %: frozen, cut off, or saturated."""
    if not segments:
        return _unknown("gradient", tower, _UNTRAINED)
    if tower != "text" and not _ratios(tower, segments):
        return _unknown("gradient", tower, f"no {_NAMES[tower]} had words to be compared with")
    shares = []
    for segment in segments:
        norms = {name: segment.get(f"gradient_{name}") for name in _TOWERS}
        known = [norm for norm in norms.values() if norm is not None]
        own = norms[tower]
        if own is not None and sum(known) > 0:
            shares.append(own / sum(known))
    if not shares:
        return _unknown("gradient", tower, "the gradient was not measured")
    value = sum(shares) / len(shares)
    return _judged(
        "gradient", tower, value, _GRADIENT,
        f"The {_NAMES[tower]} tower received {value:.1%} of the training signal (norm of the gradient).",
    )  # fmt: skip


def _attention(tower: str, blocks: Sequence[float] | None) -> Finding:
    """Normalised entropy of the most focused block. High means that all blocks are diffuse: with n tokens the weights
    vary by about sqrt(2 ln(n) (1 - value)) of their mean, for 65 tokens by 29 % at 0.99 (watch) and by 3 % at 0.9999
    (alarm), which is what random weights give. Low means that a block looks at the equivalent of n ^ value tokens: two
    at 0.15 (watch), one at 0.05 (alarm). Source: Zhai et al. 2023, who tie low entropy to unstable training."""
    if not blocks:
        return _unknown("attention", tower, "its attention could not be read")
    value = min(blocks)
    limits = _ATTENTION_UNIFORM if value > 0.5 else _ATTENTION_POINT
    looks = "choose"
    if value >= _ATTENTION_UNIFORM.watch:
        looks = "look everywhere alike"
    elif value <= _ATTENTION_POINT.watch:
        looks = "look at one or two places only"
    return _judged(
        "attention", tower, value, limits,
        f"The attention of the {_NAMES[tower]} tower has {value:.4f} of the greatest possible entropy in its most "
        f"focused block: its layers {looks}.",
    )  # fmt: skip


def _wording(spread: Mapping[str, Any]) -> Finding:
    """Share of labels whose AUROC is clearly below 0.5 (by 0.05 or more) with one wording and clearly above with
    another. One such label is to be watched; at half of them the result is a property of the wording, not of the
    model."""
    labels = spread.get("per_label") or {}
    if not labels:
        return _unknown("wording", "", "no label could be scored")
    flipped = [name for name, row in labels.items() if _flips([row["min"], row["max"]])]
    value = len(flipped) / len(labels)
    low, high = spread["macro"]["min"], spread["macro"]["max"]
    named = f" ({_listed(flipped)})" if flipped else ""
    turned = f"{len(flipped)} of {len(labels)} labels turn round{named}"
    return _judged(
        "wording", "", value, _FLIPPED,
        f"Asked with one wording at a time, {turned}; the macro AUROC runs from {low:.2f} to {high:.2f}.",
    )  # fmt: skip


def _seeds(seeds: Mapping[str, Any]) -> Finding:
    """Range of the macro AUROC over seeds. Watch from 0.03, the half width of its usual 95 % interval: the choice of a
    seed then matters as much as the choice of patients. Alarm from 0.10, or where it lies on both sides of 0.5. A label
    that turns round between seeds is always to be watched."""
    macro = [value for value in seeds.get("macro") or [] if value is not None]
    if len(macro) < 2:
        return _unknown("seeds", "", "one seed was run")
    per_label = seeds.get("per_label") or []
    names = dict.fromkeys(label for table in per_label for label in table)
    flipped = [name for name in names if _flips([t[name] for t in per_label if t.get(name) is not None])]
    value = max(macro) - min(macro)
    turned = f"; {_listed(flipped)} turned round" if flipped else ""
    finding = _judged(
        "seeds", "", value, _SEEDS,
        f"Over {len(macro)} seeds the macro AUROC ran from {min(macro):.3f} to {max(macro):.3f}{turned}.",
    )  # fmt: skip
    if min(macro) < 0.5 < max(macro):
        return Finding("seeds", "", value, finding.threshold, "alarm", finding.sentence)
    if flipped and finding.verdict == "ok":
        return Finding("seeds", "", value, finding.threshold, "watch", finding.sentence)
    return finding


def _judged(code: str, tower: str, value: float, limits: Limits, sentence: str) -> Finding:
    verdict, threshold = limits.judge(value)
    return Finding(code, tower, value, threshold, verdict, sentence)


def _unknown(code: str, tower: str, reason: str) -> Finding:
    return Finding(code, tower, None, None, "unknown", f"Not known: {reason}.")


def _of(measures: Mapping[str, Any], *keys: str) -> Mapping[str, Any]:
    found: Any = measures
    for key in keys:
        found = (found or {}).get(key)
    return found or {}


def _series(segments: Sequence[Mapping[str, Any]], name: str) -> list[float]:
    return [float(segment[name]) for segment in segments if segment.get(name) is not None]


def _ratios(tower: str, segments: Sequence[Mapping[str, Any]]) -> list[float]:
    """Loss as a share of chance, for the segments that had the term and anything to choose from."""
    named = [(segment.get(f"loss_{tower}"), segment.get(f"chance_{tower}")) for segment in segments]
    return [loss / chance for loss, chance in named if loss is not None and chance]


def _fall(own: Sequence[float], other: Sequence[float]) -> float | None:
    """From the best to the last, where the other one rose from first to last; zero where it did not."""
    if len(own) < 2 or len(other) < 2:
        return None
    return max(own) - own[-1] if other[-1] > other[0] else 0.0


def _last(values: Sequence[float]) -> float | None:
    return values[-1] if values else None


def _flips(values: Sequence[float]) -> bool:
    return bool(values) and min(values) <= 0.5 - FLIP_MARGIN and max(values) >= 0.5 + FLIP_MARGIN


def _too_few(tower: str, facts: Mapping[str, Any]) -> str:
    return f"only {facts.get('rows', 0)} held-out patients with {_NAMES[tower]}"


def _articled(tower: str) -> str:
    return {"xray": "an X-ray", "ecg": "an ECG", "text": "a text"}[tower]


def _listed(names: Sequence[str]) -> str:
    shown = ", ".join(names[:6])
    return f"{shown} and {len(names) - 6} more" if len(names) > 6 else shown
