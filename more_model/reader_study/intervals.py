"""The one form in which this study states an interval, or why there is none."""

from __future__ import annotations

import numpy as np

from more_model.evaluation.bootstrap import percentile_interval
from more_model.evaluation.embedded import Float64


def interval_or_reason(replicates: Float64, *, one_patient: bool = False) -> tuple[list[float] | None, str | None]:
    """The 95 % percentile interval of ``replicates`` [b], or the reason why none can be given.

    ``one_patient``: all cases of a class are those of one patient. Resampling then yields that patient or nothing.
    """
    if one_patient:
        return None, "all cases of a class belong to one patient"
    interval = percentile_interval(replicates)
    if interval is None:
        return None, "too few resamples have a value"
    if np.nanmin(replicates) == np.nanmax(replicates):
        return (
            None,
            "every resample gives the same value: too few cases, or too much alike, to show how far it may be off",
        )
    return list(interval), None
