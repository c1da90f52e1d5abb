"""From a site's examples to the things that are clipped: the rows of each patient or group, and their tensors.

What a unit is made of depends on its own patients, the site's key and the step's secret draw, never on other patients:
not on their number, their order or the rows that they occupy in the store.
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils import _pytree as pytree

from more_model.errors import ConfigError
from more_model.training.examples import Examples, make_batch
from more_model.training.settings import TrainingSettings
from more_model.training.views import TextView, drawn_views
from privacy.sampling import assigned_groups, chosen_studies
from privacy.settings import PrivacySettings, Schedule

#: ``ids``, ``mask`` [n, tokens]; ``words`` [n] and ``patients`` [n], equal numbers where equal; ``xrays`` [p, size,
#: size] and ``ecgs`` [q, 12, samples] (p or q may be 0), which belong to the texts ``xray_rows`` [p], ``ecg_rows`` [q].
Unit = dict[str, Tensor]

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
    if settings.mode == "patient-groups":
        slots = _SLOTS_PER_MEAN * settings.group_size
        groups = assigned_groups(key, of_patient, schedule.units, slots)
        return [[row for patient in group for row in of_patient[patient]] for group in groups]
    raise ConfigError(
        "private training",
        [f'mode "{settings.mode}" does not draw patients or groups of them'],
        remedy="choose patient-decoupled or patient-groups",
    )


def unit_tensors(
    examples: Examples,
    rows: Sequence[int],
    training: TrainingSettings,
    step_key: bytes,
    *,
    tokenizer: Any,
    max_tokens: int,
    device: torch.device,
) -> Unit:
    """One unit. Its texts are drawn (`drawn_views`) by a keyed hash of each patient: ``step_key`` is secret, and new
    in every step. Pictures and tracings are not augmented."""
    draws: dict[str, np.random.Generator] = {}
    views = []
    for row in rows:
        triplet = examples.triplets[row]
        if triplet.patient_id not in draws:
            digest = hmac.new(step_key, triplet.patient_id.encode(), hashlib.sha256).digest()
            draws[triplet.patient_id] = np.random.default_rng(int.from_bytes(digest, "big"))
        views.append(drawn_views(triplet, training, draws[triplet.patient_id]))
    return tensors_of(examples, rows, views, tokenizer=tokenizer, max_tokens=max_tokens, device=device)


def tensors_of(
    examples: Examples,
    rows: Sequence[int],
    views: Sequence[Sequence[TextView]],
    *,
    tokenizer: Any,
    max_tokens: int,
    device: torch.device,
) -> Unit:
    """The tensors of ``rows`` with these texts."""
    batch = make_batch(examples, rows, views, tokenizer=tokenizer, max_tokens=max_tokens)
    words = [_number(view.words) for of_row in views for view in of_row]
    unit = {
        "ids": batch.ids,
        "mask": batch.mask,
        "words": torch.tensor(words, dtype=torch.int64),
        "patients": batch.patients,
        "xrays": batch.xrays if batch.xrays is not None else torch.zeros(0, 1, 1, dtype=torch.uint8),
        "ecgs": batch.ecgs if batch.ecgs is not None else torch.zeros(0, 12, 1),
        "xray_rows": batch.xray_rows,
        "ecg_rows": batch.ecg_rows,
    }
    return {name: tensor.to(device) for name, tensor in unit.items()}


def stacked(units: Sequence[Unit]) -> Unit:
    """Units of equal shapes with one more dimension in front; texts may differ in length."""
    longest = max(unit["ids"].shape[1] for unit in units)
    # A unit that trains is stacked alone and not padded; this is for the public units that the model is tried out on.
    even = [
        {name: _lengthened(leaf, longest) if name in {"ids", "mask"} else leaf for name, leaf in unit.items()}
        for unit in units
    ]
    stack: Unit = pytree.tree_map(lambda *leaves: torch.stack(leaves), *even)
    return stack


def _lengthened(tensor: Tensor, tokens: int) -> Tensor:
    return torch.nn.functional.pad(tensor, (0, tokens - tensor.shape[1]))


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
