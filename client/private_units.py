"""From a site's examples to the things that are clipped: the rows of each patient or group, and their tensors.

What a unit is made of depends on its own patients, the site's key and the step's secret draw, never on other patients:
not on their number, their order or the rows that they occupy in the store.
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Sequence
from itertools import chain
from typing import Any

import numpy as np
import torch
from torch import Tensor

from more_model.data.study import Modality, Triplet
from more_model.errors import ConfigError
from more_model.model.more import More
from more_model.training.examples import Examples, make_batch
from more_model.training.settings import TrainingSettings
from more_model.training.views import TextView, drawn_views
from privacy.sampling import assigned_groups, chosen_studies
from privacy.settings import PrivacySettings, Schedule

#: Of one unit: ``ids``, ``mask`` [t, tokens]; ``words`` [t], equal numbers where equal; ``alike`` [t], equal numbers
#: for texts of one patient or of the same words, and for what these tie together; ``xrays`` [p, size, size] and
#: ``ecgs`` [q, 12, samples] (p or q may be 0), which belong to the texts ``xray_rows`` [p], ``ecg_rows`` [q].
#: Stacked, with one more dimension in front, units are filled up to the largest: with `ABSENT` in ``words``, ``alike``
#: and the rows, with zeros elsewhere.
Unit = dict[str, Tensor]

#: Stands for no text, and no study, where units of different sizes are stacked.
ABSENT = -1

#: A gigabyte of float32.
_FLOATS_AT_ONCE = 2**28
#: More units at once are hardly faster.
_MOST_AT_ONCE = 128
#: What a transformer block keeps, in copies of its input.
_KEPT_PER_BLOCK = 20

#: Room in a group, in mean group sizes: a patient beyond it takes no part (about one in a hundred in groups of 4).
_SLOTS_PER_MEAN = 2


def rows_of_patients(examples: Examples, key: bytes, at_most: int) -> dict[str, list[int]]:
    """Rows of every patient with a pair, ``at_most`` of each, chosen by a keyed hash of what the studies hold."""
    rows: dict[str, list[int]] = {}
    for row, triplet in enumerate(examples.triplets):
        rows.setdefault(triplet.patient_id, []).append(row)
    return {patient: _chosen(examples, key, patient, own, at_most) for patient, own in rows.items()}


def rows_of_units(examples: Examples, settings: PrivacySettings, schedule: Schedule, key: bytes) -> list[list[int]]:
    """The rows of every unit that may be drawn: of each patient, or of each of the public number of groups (some of
    which may be empty).

    Raises:
        ConfigError: a mode that does not draw patients or groups.
    """
    of_patient = rows_of_patients(examples, key, settings.max_studies_per_patient)
    if settings.mode == "patient-decoupled":
        return list(of_patient.values())
    if settings.mode in ("patient-groups", "patient-shuffled"):
        slots = _SLOTS_PER_MEAN * settings.group_size
        groups = assigned_groups(key, of_patient, schedule.units, slots)
        return [[row for patient in group for row in of_patient[patient]] for group in groups]
    raise ConfigError(
        "private training",
        [f'mode "{settings.mode}" does not draw patients or groups of them'],
        remedy="choose patient-decoupled, patient-groups or patient-shuffled",
    )


def paired(triplet: Triplet) -> set[Modality]:
    """Those of which there is a study with words about it."""
    xray = triplet.xray is not None and triplet.xray_report is not None
    ecg = triplet.ecg is not None and triplet.ecg_report is not None
    return {modality for modality, there in ((Modality.XRAY, xray), (Modality.ECG, ecg)) if there}


def units_at_once(model: More, studies: int, max_tokens: int) -> int:
    """How many units of at most ``studies`` studies may be stacked: what the towers keep for the backward pass, and the
    gradients of the units, then stay around a gigabyte, for any model that could be trained with one unit."""
    kept = sum(
        tower.encoder.vit.pos_embed.shape[1] * tower.width * len(tower.encoder.vit.blocks)
        for tower in (model.xray, model.ecg)
    )
    text: Any = model.text.encoder.encoder.config
    kept += 2 * max_tokens * text.hidden_size * text.num_hidden_layers
    trained = sum(parameter.numel() for parameter in model.parameters() if parameter.requires_grad)
    of_unit = trained + _KEPT_PER_BLOCK * kept * max(1, studies)
    return max(1, min(_MOST_AT_ONCE, _FLOATS_AT_ONCE // int(of_unit)))


def unit_tensors(
    examples: Examples,
    units: Sequence[Sequence[int]],
    training: TrainingSettings,
    step_key: bytes,
    *,
    tokenizer: Any,
    max_tokens: int,
    device: torch.device,
) -> Unit:
    """Units of these rows, stacked. Their texts are drawn (`drawn_views`) by a keyed hash of each patient: ``step_key``
    is secret, and new in every step. Pictures and tracings are not augmented."""
    draws: dict[str, np.random.Generator] = {}

    def drawn(row: int) -> list[TextView]:
        triplet = examples.triplets[row]
        if triplet.patient_id not in draws:
            digest = hmac.new(step_key, triplet.patient_id.encode(), hashlib.sha256).digest()
            draws[triplet.patient_id] = np.random.default_rng(int.from_bytes(digest, "big"))
        return drawn_views(triplet, training, draws[triplet.patient_id])

    views = [[drawn(row) for row in rows] for rows in units]
    return tensors_of(examples, units, views, tokenizer=tokenizer, max_tokens=max_tokens, device=device)


def tensors_of(
    examples: Examples,
    units: Sequence[Sequence[int]],
    views: Sequence[Sequence[Sequence[TextView]]],
    *,
    tokenizer: Any,
    max_tokens: int,
    device: torch.device,
) -> Unit:
    """Units of these rows, with these texts of each row, stacked."""
    batch = make_batch(examples, list(chain(*units)), list(chain(*views)), tokenizer=tokenizer, max_tokens=max_tokens)
    texts = [list(chain(*of_unit)) for of_unit in views]
    unit = torch.tensor([number for number, of_unit in enumerate(texts) for _ in of_unit], dtype=torch.int64)
    place = torch.tensor([place for of_unit in texts for place in range(len(of_unit))], dtype=torch.int64)
    words = torch.tensor([_number(view.words) for of_unit in texts for view in of_unit], dtype=torch.int64)
    # Unit by unit: a patient of another unit must not tie two texts of this one together.
    alike = [_alike(batch.patients[unit == number], words[unit == number]) for number in range(len(units))]
    flat = [
        ("ids", batch.ids, unit, 0),
        ("mask", batch.mask, unit, 0),
        ("words", words, unit, ABSENT),
        ("alike", torch.cat(alike), unit, ABSENT),
        ("xrays", batch.xrays if batch.xrays is not None else torch.zeros(0, 1, 1), unit[batch.xray_rows], 0),
        ("ecgs", batch.ecgs if batch.ecgs is not None else torch.zeros(0, 12, 1), unit[batch.ecg_rows], 0),
        ("xray_rows", place[batch.xray_rows], unit[batch.xray_rows], ABSENT),
        ("ecg_rows", place[batch.ecg_rows], unit[batch.ecg_rows], ABSENT),
    ]
    return {name: _stacked(rows, of_unit, len(units), absent).to(device) for name, rows, of_unit, absent in flat}


def _stacked(flat: Tensor, unit: Tensor, units: int, absent: int) -> Tensor:
    """[units, most rows of a unit, ...] of ``flat`` [rows, ...], the rows of unit ``unit`` [rows], which ascends."""
    sizes = torch.bincount(unit, minlength=units)
    place = torch.arange(len(unit)) - (sizes.cumsum(0) - sizes)[unit]
    whole = flat.new_full((units, int(sizes.max()), *flat.shape[1:]), absent)
    whole[unit, place] = flat
    return whole


def _alike(patients: Tensor, words: Tensor) -> Tensor:
    """Labels [t] of the texts of one unit: two of one patient are alike, two of the same words are, and whatever is
    alike a third one is."""
    labels = list(range(len(words)))
    for facts in (patients.tolist(), words.tolist()):
        first: dict[int, int] = {}
        for row, fact in enumerate(facts):
            one, other = labels[first.setdefault(fact, row)], labels[row]
            labels = [one if label == other else label for label in labels]
    return torch.tensor(labels, dtype=torch.int64)


def _chosen(examples: Examples, key: bytes, patient: str, rows: list[int], at_most: int) -> list[int]:
    if len(rows) <= at_most:
        return rows
    # By content: a row number says how many records of others come before.
    row_of = {_content(examples, row): row for row in rows}
    return [row_of[study] for study in chosen_studies(key, patient, list(row_of), at_most)]


def _content(examples: Examples, row: int) -> str:
    triplet, source = examples.triplets[row], examples.sources[examples.source_of[row]]
    digest = hashlib.sha256(repr((triplet.xray_report, triplet.ecg_report)).encode())
    for number, arrays in ((triplet.xray, "xrays"), (triplet.ecg, "ecgs")):
        content = b"" if number is None else np.ascontiguousarray(getattr(source, arrays)[number]).tobytes()
        digest.update(len(content).to_bytes(8, "big") + content)
    return digest.hexdigest()


def _number(words: str) -> int:
    return int.from_bytes(hashlib.sha256(words.encode()).digest()[:8], "big") >> 1
