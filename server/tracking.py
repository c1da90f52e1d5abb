"""The curves of a run for the tools that people have: TensorBoard always, MLflow where it is installed and set up."""

from __future__ import annotations

import importlib
import importlib.util
import logging
import os
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeAlias

from server.event_file import Scalars, append_scalars
from server.status.evaluations import Figure
from server.status.model import RoundStatus, Status

_LOG = logging.getLogger(__name__)
#: TensorBoard takes files with "tfevents" in their names; a fixed one is gone on with after a restart.
EVENTS = Path("tracking") / "events.out.tfevents.more-fed"
ADDRESS = "MLFLOW_TRACKING_URI"
_RUN_TAG = "more_fed.run"

#: Takes the status after every look and writes what is new.
Tracker: TypeAlias = Callable[[Status], None]


def trackers(run: Path, name: str, environment: Mapping[str, str] = os.environ) -> tuple[Tracker, ...]:
    """TensorBoard's file in the run's folder, and MLflow where it is installed and MLFLOW_TRACKING_URI names a server:
    without that nothing is sent anywhere."""
    found: list[Tracker] = [tensorboard(run / EVENTS)]
    if environment.get(ADDRESS):
        if importlib.util.find_spec("mlflow") is None:
            _LOG.warning("%s is set, but mlflow is not installed", ADDRESS)
        else:
            found.append(mlflow(importlib.import_module("mlflow").MlflowClient(environment[ADDRESS]), name))
    return tuple(found)


def tensorboard(path: Path) -> Tracker:
    """Appends the rounds that the event file does not hold yet."""
    written = -1

    def track(status: Status) -> None:
        nonlocal written
        if len(status.closed) != written:
            append_scalars(path, list(scalars(status)))
            written = len(status.closed)

    return track


def mlflow(client: Any, experiment: str) -> Tracker:
    """Logs the rounds that MLflow does not hold yet, in a run of the experiment named like the federation.

    ``client`` is an `mlflow.MlflowClient`. A run is known by the moment at which its first round was closed, and gone
    on with after a restart.
    """
    state: dict[str, Any] = {}

    def track(status: Status) -> None:
        if not status.closed:
            return
        if not state:
            state["run"] = _mlflow_run(client, experiment, status.closed[0].closed_at.isoformat(timespec="seconds"))
            state["last"] = max((m.step for m in client.get_metric_history(state["run"], "sites")), default=-1)
        for each in scalars(status):
            if each.step > state["last"]:
                for tag, value in each.values.items():
                    key = re.sub(r"[^\w\-./ ]", "_", tag)
                    client.log_metric(state["run"], key, value, timestamp=int(each.time_s * 1000), step=each.step)
                state["last"] = each.step

    return track


def scalars(status: Status) -> Iterator[Scalars]:
    """The values of every closed round; the number of sites comes last, so that it says that the others are there."""
    for closed in status.closed:
        yield Scalars(closed.round, closed.closed_at.timestamp(), dict(_values(closed)))


def _values(closed: RoundStatus) -> Iterator[tuple[str, float]]:
    if closed.loss is not None:
        yield "loss", closed.loss
    yield from _interval("macro_auroc", closed.auroc)
    if closed.bytes_up is not None:
        yield "bytes_up", float(closed.bytes_up)
    yield "seconds", closed.seconds
    yield "sites", float(closed.accepted)


def _interval(tag: str, figure: Figure | None) -> Sequence[tuple[str, float]]:
    if figure is None or figure.value is None:
        return []
    bounds = [] if figure.ci95 is None else [(f"{tag}/ci_low", figure.ci95[0]), (f"{tag}/ci_high", figure.ci95[1])]
    return [(tag, figure.value), *bounds]


def _mlflow_run(client: Any, experiment: str, run: str) -> str:
    known = client.get_experiment_by_name(experiment)
    number = known.experiment_id if known is not None else client.create_experiment(experiment)
    before = client.search_runs([number], filter_string=f"tags.`{_RUN_TAG}` = '{run}'")
    found = before[0] if before else client.create_run(number, tags={_RUN_TAG: run}, run_name=run)
    return str(found.info.run_id)
