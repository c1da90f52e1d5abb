"""The federated arm: hospitals as Flower ClientApps, our round loop over whichever Flower grid the engine provides."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache

from flwr.clientapp import ClientApp
from flwr.serverapp import Grid

from client.flower_app import build_client_app
from client.hospital import Hospital
from client.private_bank import PublicBank
from client.protection import Protection
from more_model.base import Assembled
from more_model.errors import ExchangeError, RoundError
from more_model.exchange import TensorDict, Tensors
from more_model.model.inventory import export_tensors, import_tensors
from server.aggregation.methods import aggregation
from server.flower_grid import GridTransport, discover, sent_once
from server.journal import Journal, RoundRecord
from server.rounds import Federation, run_rounds
from simulation.arms import CurvePoint, TrainedArm
from simulation.flower_inprocess import InProcessGrid, partition_of
from simulation.flower_ray import run_in_ray
from simulation.health import pooled, read_notes, write_notes
from simulation.protection import ArmProtection, server_protection, site_protection
from simulation.site_folder import write_site_folders
from simulation.workbench import Workbench

#: The simulated sites are on this machine, which may be busy with other things.
_DISCOVERY_TIMEOUT_S = 300.0


def train_federated(bench: Workbench, arm: str, seed: int) -> tuple[TrainedArm, list[RoundRecord]]:
    """Run the rounds that the journal of ``arm`` does not hold yet, on the configured engine."""
    if bench.config.federation.engine == "ray":
        return run_in_ray(
            lambda grid: train_over_grid(bench, grid, arm, seed),
            write_site_folders(bench),
            len(bench.sites),
            bench.config.training.threads,
        )
    return train_over_grid(bench, InProcessGrid(client_app(bench, arm), len(bench.sites)), arm, seed)


def train_over_grid(bench: Workbench, grid: Grid, arm: str, seed: int) -> tuple[TrainedArm, list[RoundRecord]]:
    """The same over a grid whose nodes already run the hospitals of ``bench``."""
    tensors, records = rounds_over_grid(bench, bench.assembled(), grid, arm, seed)
    model = bench.assembled().model
    import_tensors(model, tensors)
    notes = read_notes(bench.folder / "arms" / arm)
    curve = tuple(
        CurvePoint(record.round, record.loss, record.macro_auroc, {**pooled(record), **notes.get(record.round, {})})
        for record in records
    )
    return TrainedArm(model, curve), records


def client_app(bench: Workbench, arm: str = "federated") -> ClientApp:
    """The hospitals of ``bench`` in this process, each at the node with its partition number, for one arm."""
    assembled, agreed, bank = bench.assembled(), bench.protection(arm), cache(bench.public_bank)
    hospitals = [_hospital(bench, assembled, site, agreed, bank) for site in bench.sites]
    return build_client_app(lambda context: hospitals[partition_of(context)])


def rounds_over_grid(
    bench: Workbench, assembled: Assembled, grid: Grid, arm: str, seed: int
) -> tuple[TensorDict, list[RoundRecord]]:
    """The coordinator's part, the same for every grid."""
    choice, agreed = bench.config.federation, bench.protection(arm)
    federation = Federation(
        sites=bench.sites,
        spec=assembled.spec,
        fingerprint=assembled.fingerprint,
        method=aggregation(choice.method),
        settings=choice.rounds,
        training=bench.config.training.model_dump_json(),
        seed=seed,
        run=arm,
        protection=server_protection(agreed),
    )
    facts = {
        "spec": assembled.spec.digest(),
        "fingerprint": assembled.fingerprint.digest(),
        "training": federation.training,
        "seed": str(seed),
        "sites": ",".join(bench.sites),
        "rounds": str(choice.rounds.rounds),
        "local_epochs": str(choice.local_epochs),
        "examples": bench.training_examples().digest(),
        "privacy": agreed.privacy.model_dump_json(),
        "secure_sum": "" if agreed.sums is None else agreed.sums.model_dump_json(),
    }
    initial = export_tensors(bench.assembled().model)
    watcher = bench.assembled().model
    folder = bench.folder / "arms" / arm
    notes = read_notes(folder)

    def on_round(number: int, tensors: Tensors) -> float | None:
        import_tensors(watcher, tensors)
        bench.on_progress(arm, number, choice.rounds.rounds)
        metric, notes[number] = bench.scorer.validation_aurocs(watcher)
        write_notes(folder, notes)
        return metric

    journal = Journal(folder, run=facts)
    try:
        nodes = discover(grid, len(bench.sites), timeout_s=_DISCOVERY_TIMEOUT_S)
        if set(nodes) != set(bench.sites):
            raise RoundError(
                f"the nodes call themselves {', '.join(sorted(nodes))}, the run's sites are {', '.join(bench.sites)}",
                remedy="start every node from the folder that this run prepared",
            )
        tensors = run_rounds(federation, GridTransport(sent_once(grid, nodes)), journal, initial, on_round=on_round)
        return tensors, journal.rounds()
    finally:
        journal.close()


def _hospital(
    bench: Workbench, assembled: Assembled, site: str, agreed: ArmProtection, bank: Callable[[], PublicBank]
) -> Hospital:
    # All hospitals share one model object: every round begins by writing all travelling tensors into it.
    examples = bench.training_examples(site)
    protection = site_protection(agreed, site, examples, bank)

    def of_run(run: str) -> Protection:
        if run != agreed.run:
            raise ExchangeError("the instruction is of a run that this site knows nothing of")
        return protection

    return Hospital(
        name=site,
        examples=examples,
        assembled=assembled,
        tokenizer=bench.scorer.tokenizer,
        max_tokens=bench.scorer.max_tokens,
        local_epochs=bench.config.federation.local_epochs,
        protection_of=of_run,
    )
