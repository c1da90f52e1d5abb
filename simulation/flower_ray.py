"""Engine ``ray``: the same ServerApp and ClientApp on Flower's own simulation runtime."""

from __future__ import annotations

import os
import tempfile
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

import torch
from flwr.app import Context
from flwr.clientapp import ClientApp
from flwr.serverapp import Grid, ServerApp
from flwr.simulation import run_simulation

from client.flower_app import build_client_app
from more_model.errors import RoundError
from simulation.site_folder import hospital_of_context

Result = TypeVar("Result")


def run_in_ray(coordinate: Callable[[Grid], Result], index: Path, sites: int, threads: int) -> Result:
    """Run ``coordinate`` as a ServerApp with ``sites`` simulated nodes, ``threads`` CPUs each.

    ``index`` is the file of `simulation.site_folder.write_site_folders`. The runtime swallows exceptions of a ServerApp
    in places, so the result is handed over by hand.

    Raises:
        RoundError: the runtime ended without a result; errors of ``coordinate`` pass through.
    """
    results: list[Result] = []
    errors: list[BaseException] = []
    server_app = ServerApp()

    @server_app.main()  # type: ignore[untyped-decorator]
    def main(grid: Grid, _context: Context) -> None:
        try:
            results.append(coordinate(grid))
        except BaseException as error:
            errors.append(error)
            raise

    with _nothing_left_behind() as ray_folder, warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        try:
            run_simulation(
                server_app=server_app,
                client_app=_client_app(index),
                num_supernodes=sites,
                backend_config={
                    "client_resources": {"num_cpus": threads, "num_gpus": _gpu_share(sites)},
                    "init_args": {"_temp_dir": ray_folder},
                },
            )
        except BaseException:
            if not errors:
                raise
    if errors:
        raise errors[0]
    if not results:
        raise RoundError("Flower's simulation runtime ended without a result", remedy="read its log above")
    return results[0]


@contextmanager
def _nothing_left_behind() -> Iterator[str]:
    """A folder for Ray's files, removed at the end; the environment, which Flower and Ray add to, as it was."""
    before = dict(os.environ)
    # Not $TMPDIR: Ray makes sockets below it, whose paths may have about 100 characters.
    place = "/tmp" if Path("/tmp").is_dir() else None
    prefix = f"more-ray-{os.getpid()}-"
    try:
        with tempfile.TemporaryDirectory(prefix=prefix, dir=place, ignore_cleanup_errors=True) as folder:
            yield folder
    finally:
        for name in set(os.environ) - set(before):
            del os.environ[name]
        os.environ.update(before)


def _gpu_share(sites: int) -> float:
    """Ray hides every GPU from an actor that asks for none, and the other arms would train on one."""
    return min(1.0, torch.cuda.device_count() / sites)


def _client_app(index: Path) -> ClientApp:
    # Pickled by value into Ray's actors, so it may hold nothing but the path.
    return build_client_app(lambda context: hospital_of_context(context.node_config, index))
