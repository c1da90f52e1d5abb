"""A whole run: cohort, base, arms, comparison, report."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rich.console import Console

from more_model.base import load_base
from more_model.model.inventory import take_inventory
from more_model.progress import OnProgress, shown_progress
from more_model.run_folder import RunFolder, open_run_folder
from server.journal import RoundRecord
from simulation.arms import TrainedArm, train_alone
from simulation.cohort import SiteCohort, all_studies, build_sites, synthetic_sources, write_cohort_file
from simulation.compare import build_summary
from simulation.flower_federation import train_federated
from simulation.health import measure_health
from simulation.outcome import Outcome
from simulation.protection import curve_arms, is_federated
from simulation.report.page import write_report
from simulation.report.table import print_table
from simulation.report_details import report_details
from simulation.scoring import build_scorer, only_trained
from simulation.settings import DataChoice, RunConfig
from simulation.synthetic.tree import write_cohort
from simulation.warm_up import prepare_base
from simulation.workbench import Workbench

Federate = Callable[[Workbench, str, int], tuple[TrainedArm, list[RoundRecord]]]
OnSites = Callable[[Sequence[str]], None]


@dataclass(slots=True)
class _Results:
    """What the arms of one run have produced so far, by arm name; ``local`` arms are called ``local-<site>``."""

    outcomes: dict[str, Outcome] = field(default_factory=dict)
    privacy_curve: dict[str, Outcome] = field(default_factory=dict)
    rounds: list[RoundRecord] = field(default_factory=list)
    other_rounds: list[RoundRecord] = field(default_factory=list)
    other_seeds: dict[str, list[float]] = field(default_factory=dict)
    label_seeds: dict[str, list[dict[str, float | None]]] = field(default_factory=dict)


def run(
    config: RunConfig,
    out: Path,
    *,
    resume: bool,
    overwrite: bool,
    console: Console,
    arms: Sequence[str] | None = None,
    federate: Federate = train_federated,
    on_sites: OnSites | None = None,
) -> dict[str, Any]:
    """Run ``config`` into the directory ``out`` and return what was written to ``summary.json``.

    ``arms`` runs some of the configured arms only (a later call with ``resume`` adds the others); ``federate`` trains
    the federated arm; ``on_sites`` is told the sites before the base is made and may refuse them.
    """
    folder = open_run_folder(out, config, resume=resume, overwrite=overwrite)
    with shown_progress(console) as on_progress:
        bench = prepare(config, folder, on_progress, on_sites)
        results = _run_arms(bench, folder, config.arms if arms is None else arms, federate)
        on_progress("report", 0, 1)
        model = bench.assembled().model
        inventory = take_inventory(model)
        summary = build_summary(
            bench,
            inventory,
            results.outcomes,
            results.rounds,
            results.other_seeds,
            privacy_curve=results.privacy_curve,
            other_rounds=results.other_rounds,
            label_seeds=results.label_seeds,
        )
        folder.write_json("summary.json", summary)
        write_report(folder.path, summary, report_details(bench, results.outcomes, config.evaluation.examples))
        on_progress("report", 1, 1)
    folder.event("finished", status=summary["status"])
    print_table(summary, console)
    console.print(f"report: {folder.path / 'report.html'}", highlight=False, soft_wrap=True)
    return summary


def prepare(
    config: RunConfig, folder: RunFolder, on_progress: OnProgress, on_sites: OnSites | None = None
) -> Workbench:
    """Cohort, sites, base and scorer. Everything that exists already is kept."""
    model, started = config.model.resolved(), time.monotonic()
    cohorts = _cohorts(config, folder, on_progress)
    write_cohort_file(folder.path, config.data, cohorts, synthetic=config.data.synthetic is not None)
    if on_sites is not None:
        on_sites([cohort.name for cohort in cohorts])
    folder.event("sites ready", sites=[cohort.name for cohort in cohorts], seconds=time.monotonic() - started)
    base_folder = prepare_base(
        config.base,
        model,
        config.training,
        folder.workspace,
        seed=config.seed,
        workers=config.ingest_workers,
        on_step=lambda done, total: on_progress("warming up the base", done, total),
    )
    base = load_base(base_folder)
    folder.event("base ready", seconds=time.monotonic() - started)
    scorer = build_scorer(
        config.evaluation,
        [cohort.examples for cohort in cohorts],
        base.tokenizer,
        max_tokens=base.config.text.max_tokens,
        threads=config.training.threads,
        seed=config.seed,
    )
    return Workbench(config, folder.path, base_folder, base.origin, tuple(cohorts), scorer, on_progress)


def _cohorts(config: RunConfig, folder: RunFolder, on_progress: OnProgress) -> list[SiteCohort]:
    data = _data(config.data, folder, config.ingest_workers, on_progress)
    on_progress("reading and ingesting", 0, 1)
    cohorts = build_sites(
        all_studies(data),
        data,
        config.partition,
        config.model.resolved().preprocessing,
        folder.workspace / "sites",
        seed=config.seed,
        workers=config.ingest_workers,
    )
    on_progress("reading and ingesting", 1, 1)
    return cohorts


def _data(choice: DataChoice, folder: RunFolder, workers: int, on_progress: OnProgress) -> DataChoice:
    if choice.synthetic is None:
        return choice
    tree = folder.workspace / "cohort"
    write_cohort(
        choice.synthetic,
        tree,
        workers=workers,
        progress=lambda done, total: on_progress("writing the synthetic cohort", done, total),
    )
    sources, tables = synthetic_sources(tree)
    return choice.model_copy(update={"synthetic": None, "sources": sources, "label_tables": tables})


def _run_arms(bench: Workbench, folder: RunFolder, arms: Sequence[str], federate: Federate) -> _Results:
    results = _Results()
    if "federated" in arms:
        for name in curve_arms(bench.config):
            results.privacy_curve[name], records = _one_arm(bench, folder, name, name, bench.config.seed, federate)
            results.other_rounds += records
    for number in range(bench.config.seeds):
        seed, suffix = bench.config.seed + number, "" if number == 0 else f"-seed{number + 1}"
        for arm in arms:
            names = [f"local-{site}" for site in bench.sites] if arm == "local" else [arm]
            for name in names:
                if number and arm in ("base", "random_encoder"):
                    continue
                outcome, records = _one_arm(bench, folder, name, f"{name}{suffix}", seed, federate)
                if number == 0:
                    results.outcomes[name] = outcome
                    results.rounds = records or results.rounds
                else:
                    results.other_rounds += records
                results.other_seeds.setdefault(name, []).append(outcome.table["macro_auroc"])
                labels = {label: row["auroc"] for label, row in outcome.table["per_label"].items()}
                results.label_seeds.setdefault(name, []).append(labels)
    return results


def _one_arm(
    bench: Workbench, folder: RunFolder, name: str, label: str, seed: int, federate: Federate
) -> tuple[Outcome, list[RoundRecord]]:
    started = time.monotonic()
    records: list[RoundRecord] = []
    if is_federated(name):
        trained, records = federate(bench, label, seed)
    elif name == "base":
        trained = TrainedArm(bench.assembled().model, ())
    elif name == "random_encoder":
        trained = TrainedArm(bench.random_model(), ())
    else:
        site = name.removeprefix("local-") if name.startswith("local-") else None
        trained = train_alone(bench, label, seed, site)
    seconds = time.monotonic() - started
    site = name.removeprefix("local-") if name.startswith("local-") else None
    scores = bench.scorer.score(trained.model, probe_site=site)
    if site is not None:
        scores = only_trained(scores, bench.training_examples(site), site)
    table = {**bench.scorer.table(scores), "seconds": round(seconds, 3)}
    table["health"] = measure_health(bench.scorer, trained.model, scores, trained.curve)
    if name != "random_encoder":
        bench.save_checkpoint(trained.model, folder.path / "checkpoints" / f"{label}.safetensors")
    folder.event("arm finished", arm=label, seconds=seconds, macro_auroc=table["macro_auroc"])
    return Outcome(table, scores, trained.curve), records
