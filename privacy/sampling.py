"""Who takes part: Poisson sampling of units, fixed groups of patients, and the studies that stand for a patient.

Two kinds of choice, never mixed:
- **who is drawn in a step** is secret and fresh each time: from the operating system's entropy, never from the
  experiment seed;
- **who belongs to which group, and which studies count** is fixed for the whole run and depends on that patient alone:
  a keyed hash (HMAC-SHA256) of the patient's id. Deleting or adding a patient therefore changes one group only, and
  the order of the records changes nothing. Chunking "the remaining records" by position would shift everybody.

Poisson batches have no fixed size; memory is bounded by chunks (`privacy.unit_gradients.in_chunks`), not by dropping
units: a cap at 1.06 times the mean would triple epsilon.
"""

from __future__ import annotations

import hashlib
import hmac
import os
import random
from collections.abc import Iterable, Sequence

import numpy as np
import numpy.typing as npt

#: Shorter keys could be found by trying; 32 random bytes are what `os.urandom` gives just as cheaply.
MIN_KEY_BYTES = 16


def poisson_draw(units: int, sampling_rate: float) -> npt.NDArray[np.int64]:
    """Rows, ascending, of the units drawn in one step: each of ``units`` independently with probability
    ``sampling_rate``. Often none at all where the rate is low: the step must then be taken all the same.

    Raises:
        ValueError: a rate outside (0, 1].
    """
    if not 0 < sampling_rate <= 1:
        raise ValueError(f"the sampling rate must lie above 0 and be at most 1, not {sampling_rate:g}")
    words = np.frombuffer(os.urandom(8 * units), dtype=np.uint64)
    # 53 bits: a double in [0, 1), so a rate of 1 draws everybody.
    uniform = (words >> np.uint64(11)).astype(np.float64) * 2.0**-53
    return np.flatnonzero(uniform < sampling_rate)


def epoch_of_groups(groups: int, steps: int) -> list[list[int]]:
    """For `patient-shuffled`: all groups in a fresh secret order, dealt into a public number of steps whose sizes
    differ by at most one."""
    order = list(range(groups))
    random.SystemRandom().shuffle(order)
    return [order[step::steps] for step in range(steps)]


def group_of(key: bytes, patient: str, groups: int) -> int:
    """The group, 0 to ``groups`` - 1, of a patient: a keyed hash of the id and of nothing else.

    groups: a public number, fixed for the run; never computed from the patients that are there.

    Raises:
        ValueError: a key of fewer than `MIN_KEY_BYTES` bytes, or no group.
    """
    if groups < 1:
        raise ValueError("there must be at least one group")
    return int.from_bytes(_keyed(key, "group", patient), "big") % groups


def assigned_groups(key: bytes, patients: Iterable[str], groups: int, slots: int) -> list[list[str]]:
    """The patients of each of ``groups`` groups, in keyed order, at most ``slots`` of them.

    A patient beyond the slots of a full group takes no part in this run: who that is, too, depends on the members of
    that group only. With slots of twice the mean group size that is about one patient in a hundred in groups of 4, and
    far fewer in groups of 8.
    """
    members: list[list[str]] = [[] for _ in range(groups)]
    for patient in set(patients):
        members[group_of(key, patient, groups)].append(patient)
    return [sorted(group, key=lambda patient: _keyed(key, "slot", patient))[:slots] for group in members]


def chosen_studies(key: bytes, patient: str, studies: Sequence[str], at_most: int) -> list[str]:
    """Those of a patient's ``studies`` (ids) that take part: all, or ``at_most`` chosen by a keyed hash of patient and
    study, in the order given. No other patient has a say."""
    ranked = sorted(set(studies), key=lambda study: _keyed(key, "study", patient, study))
    kept = set(ranked[:at_most])
    return [study for study in dict.fromkeys(studies) if study in kept]


def _keyed(key: bytes, *words: str) -> bytes:
    if len(key) < MIN_KEY_BYTES:
        raise ValueError(f"the key must have at least {MIN_KEY_BYTES} bytes")
    # Lengths in front: otherwise "ab" + "c" and "a" + "bc" would be one text.
    text = b"".join(len(word.encode()).to_bytes(4, "big") + word.encode() for word in words)
    return hmac.new(key, text, hashlib.sha256).digest()
