"""Which studies are trained on, and with which labels."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest

from more_model.evaluation.embedded import LabelTask
from more_model.evaluation.labelled import labelled_studies, settled_targets, units_of
from more_model.evaluation.uncertainty import settled
from more_model.training.examples import Examples

Toys = Callable[..., Examples]
LINES, ROWS = LabelTask("lines", "xray"), LabelTask("rows", "xray")


def test_only_studies_of_the_modality_with_a_label(labelled_toys: Toys) -> None:
    toys = labelled_toys(12)
    triplets = list(toys.triplets)
    triplets[3] = replace(triplets[3], labels={"other": 1.0})
    triplets[6] = replace(triplets[6], labels={"rows": -1.0, "lines": 1.0})
    studies = labelled_studies(replace(toys, triplets=tuple(triplets)), "xray", [LINES, ROWS], "ignore")
    # Every third patient, from the second, lacks the X-ray.
    assert studies.rows.tolist() == [0, 2, 5, 6, 8, 9, 11]
    assert studies.target[0].tolist() == [0.0, 0.0]
    np.testing.assert_array_equal(studies.target[3], [1.0, np.nan])
    assert studies.studies([1, 2]).shape == (2, 16, 16)
    assert (studies.studies([1])[0].numpy() == toys.sources[0].xrays[2]).all()
    assert studies.about([ROWS]).rows.tolist() == [0, 2, 5, 8, 9, 11]
    assert studies.units()[1] == ("north", "north-2")


@pytest.mark.parametrize("policy", ["ignore", "zero", "one", "published"])
def test_labels_are_settled_as_those_of_an_embedded_set(labelled_toys: Toys, make_set: Callable, policy: str) -> None:
    toys = labelled_toys(12)
    changed = [replace(t, labels={"lines": 1.0, "rows": -1.0} if row % 5 == 0 else {"rows": 0.0})
               for row, t in enumerate(toys.triplets)]  # fmt: skip
    toys = replace(toys, triplets=tuple(changed))
    has_xray = np.array([[1.0 if t.xray is not None else np.nan] for t in toys.triplets], dtype=np.float32)
    embedded = make_set(
        12, xray=has_xray, labels={name: np.array([t.labels.get(name, np.nan) for t in toys.triplets])
                                   for name in ("lines", "rows")}
    )  # fmt: skip
    expected = settled(embedded, [LINES, ROWS], policy)
    targets = settled_targets(toys, [LINES, ROWS], policy)
    for task in (LINES, ROWS):
        np.testing.assert_array_equal(targets[task], expected.target(task.label, "ignore"))
    assert len(units_of(toys)) == 12
