"""Private training in which every group takes part once an epoch, and the epoch is what is paid for."""

from __future__ import annotations

from typing import Any

import pytest

from more_model.errors import ConfigError, RoundError
from privacy.settings import PrivacySettings


def shuffled(expected_patients: float = 8) -> PrivacySettings:
    return PrivacySettings(
        mode="patient-shuffled", clip_norm=0.5, noise_multiplier=1.0, delta=1e-3, expected_patients=expected_patients
    )


def test_shuffled_sees_every_group_once_an_epoch_and_pays_by_the_epoch(
    train: Any, toy_site: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    import client.private_training

    seen: list[list[frozenset[str]]] = []
    examples, events = toy_site([1] * 24), []
    of_rows = client.private_training.unit_tensors

    def noted(examples: Any, units: Any, *rest: Any, **more: Any) -> Any:
        seen.append([frozenset(examples.triplets[row].patient_id for row in rows) for rows in units])
        return of_rows(examples, units, *rest, **more)

    monkeypatch.setattr(client.private_training, "unit_tensors", noted)
    _, report = train(
        examples,
        shuffled(),
        steps=6,
        charge=lambda epoch: events.append(f"epoch {epoch}"),
        on_step=lambda done, _: events.append(f"step {done}"),
    )
    assert events == ["epoch 1", "step 1", "step 2", "step 3", "epoch 2", "step 4", "step 5", "step 6"]
    groups = {frozenset(group) for step in seen for group in step}
    everybody = sorted(patient for group in groups for patient in group)
    assert everybody == sorted(f"north-{patient}" for patient in range(24))  # groups do not overlap
    for epoch in (seen[:3], seen[3:]):
        assert sorted(map(sorted, (group for step in epoch for group in step))) == sorted(map(sorted, groups))
    assert (report.mode, report.steps, report.epochs, report.expected_units) == ("patient-shuffled", 6, 2, 2.0)
    assert report.counts.units == 2 * len(groups)


def test_shuffled_takes_whole_epochs_only(train: Any, toy_site: Any) -> None:
    charged: list[int] = []
    with pytest.raises(ConfigError, match="steps 4: patient-shuffled is accounted by epochs, of 3 steps each"):
        train(toy_site([1] * 24), shuffled(), steps=4, charge=charged.append)
    assert charged == []


def test_a_refused_epoch_leaves_the_epochs_before(train: Any, small_model: Any, toy_site: Any) -> None:
    model, done = small_model(), []

    def charge(epoch: int) -> None:
        if epoch == 2:
            raise RoundError("the budget is used up")

    with pytest.raises(RoundError, match="used up"):
        train(toy_site([1] * 24), shuffled(), model=model, steps=6, charge=charge, on_step=lambda n, _: done.append(n))
    assert done == [1, 2, 3]
