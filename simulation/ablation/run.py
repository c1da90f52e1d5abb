"""A whole ablation: the reference once, every variant beside it, one table, one figure, one page."""

from __future__ import annotations

import json
import time
import traceback
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from rich.console import Console

from more_model.base import load_base
from more_model.errors import ConfigError, MoreError
from more_model.progress import shown_progress
from more_model.run_folder import RunFolder, environment, open_run_folder
from simulation.ablation.page import write_ablation_page
from simulation.ablation.results import identity, row_of
from simulation.ablation.settings import AblationConfig
from simulation.ablation.table import print_ablation
from simulation.ablation.trained import Trained, bench_of, train_and_score
from simulation.ablation.variants import Variant, hospital_faults, name_faults, plan, reference
from simulation.cohort import cohort_summary, text_kind
from simulation.run import prepare
from simulation.workbench import Workbench

SCHEMA = 1


def ablate(
    config: AblationConfig,
    out: Path,
    *,
    only: Sequence[str],
    resume: bool,
    overwrite: bool,
    console: Console,
) -> dict[str, Any]:
    """Train and compare the variants of ``config`` in the directory ``out``; returns the content of ``ablation.json``.

    ``only`` names the variants to train (all by default); with ``resume`` those that an earlier call finished stay in
    the table, and those that failed are tried again. A variant that fails is recorded with its reason.

    Raises:
        ConfigError: a variant or a hospital that does not exist, or `open_run_folder` refuses ``out``.
        MoreError: the cohort, the base or the reference cannot be made: there would be nothing to compare with.
    """
    _refuse(name_faults(only, plan(config, config.model.resolved(), None), None))
    folder = open_run_folder(out, config, resume=resume, overwrite=overwrite)

    def check(sites: Sequence[str]) -> None:
        named = plan(config, config.model.resolved(), sites)
        _refuse([*hospital_faults(config, sites), *name_faults(only, named, sites)])

    with shown_progress(console) as on_progress:
        bench = prepare(config, folder, on_progress, check)
        variants = plan(config, load_base(bench.base_folder).config, bench.sites)
        _run_all(bench, config, folder, [v for v in variants if not only or v.name in only])
        on_progress("report", 0, 1)
        summary = _summary(bench, config, folder, variants)
        folder.write_json("ablation.json", summary)
        write_ablation_page(folder.path, summary)
        on_progress("report", 1, 1)
    folder.event("finished", status=summary["status"])
    print_ablation(summary, console)
    console.print(f"page: {folder.path / 'ablation.html'}", highlight=False, soft_wrap=True)
    return summary


def _refuse(faults: Sequence[str]) -> None:
    if faults:
        raise ConfigError("more-sim ablate", faults)


def _run_all(bench: Workbench, config: AblationConfig, folder: RunFolder, variants: Sequence[Variant]) -> None:
    left = [variant for variant in variants if _finished(folder, variant) is None]
    if not left and _finished(folder, reference()) is not None:
        return
    beside = _trained(bench, config, folder, reference())
    _write(folder, reference(), row_of(reference(), beside, beside, config))
    for place, variant in enumerate(left):
        bench.on_progress("variants", place, len(left))
        started = time.monotonic()
        try:
            row = row_of(variant, _trained(bench, config, folder, variant, beside), beside, config)
        except Exception as error:  # noqa: BLE001 - one variant, whatever is wrong with it, must not cost the others
            row = _failure(folder, variant, error)
        _write(folder, variant, row)
        facts = {"reason": row["reason"]} if row["state"] == "failed" else {}
        seconds = round(time.monotonic() - started, 3)
        folder.event(f"variant {row['state']}", variant=variant.name, seconds=seconds, **facts)
    bench.on_progress("variants", len(left), len(left))


def _trained(
    bench: Workbench,
    config: AblationConfig,
    folder: RunFolder,
    variant: Variant,
    beside: Trained | None = None,
) -> Trained:
    own, key, notes = bench_of(bench, config, variant)
    # Not for a hospital left out: its labels must not fit the probe either.
    if beside is not None and key == beside.key and variant.hospital is None:
        return Trained(key, beside.scores, {**beside.facts, "notes": notes})
    checkpoints = _place(folder, variant) / "checkpoints"
    checkpoints.mkdir(parents=True, exist_ok=True)
    trained = train_and_score(own, config, key, checkpoints)
    return Trained(key, trained.scores, {**trained.facts, "notes": notes})


def _failure(folder: RunFolder, variant: Variant, error: Exception) -> dict[str, Any]:
    if isinstance(error, MoreError):
        reason = error.cause if not isinstance(error, ConfigError) else "; ".join(error.faults)
    else:
        # Its text may name a patient: it stays in the variant's own folder.
        _place(folder, variant).mkdir(parents=True, exist_ok=True)
        path = _place(folder, variant) / "traceback.txt"
        path.write_text("".join(traceback.format_exception(error)), encoding="utf-8")
        reason = f"{type(error).__name__}, which was not foreseen: see variants/{variant.name}/traceback.txt"
    return {**identity(variant), "state": "failed", "reason": reason}


def _place(folder: RunFolder, variant: Variant) -> Path:
    return folder.path / "variants" / variant.name


def _write(folder: RunFolder, variant: Variant, row: dict[str, Any]) -> None:
    _place(folder, variant).mkdir(parents=True, exist_ok=True)
    changes = {key: value for key, value in asdict(variant).items() if value}
    text = json.dumps(changes, indent=2, default=lambda part: part.model_dump(mode="json")) + "\n"
    (_place(folder, variant) / "variant.json").write_text(text, encoding="utf-8")
    folder.write_json(f"variants/{variant.name}/result.json", row)


def _stored(folder: RunFolder, variant: Variant) -> dict[str, Any] | None:
    path = _place(folder, variant) / "result.json"
    return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else None


def _finished(folder: RunFolder, variant: Variant) -> dict[str, Any] | None:
    row = _stored(folder, variant)
    return row if row is not None and row["state"] == "complete" else None


def _summary(
    bench: Workbench, config: AblationConfig, folder: RunFolder, variants: Sequence[Variant]
) -> dict[str, Any]:
    rows = {variant.name: _stored(folder, variant) for variant in variants}
    failed = [name for name, row in rows.items() if row is not None and row["state"] == "failed"]
    missing = [name for name, row in rows.items() if row is None]
    return {
        "schema": SCHEMA,
        "name": config.name,
        "status": "partial" if failed or missing else "complete",
        "failed": failed,
        "not_run": missing,
        "arm": config.arm,
        "seed": config.seed,
        "seeds": [config.seed + number for number in range(config.seeds)],
        "synthetic": config.data.synthetic is not None,
        "text_kind": text_kind(bench.cohorts),
        "cohort": cohort_summary(bench.cohorts),
        "base": bench.base_origin,
        "evaluation": {
            "prompts": bench.scorer.prompts.name,
            "uncertainty": config.evaluation.uncertainty,
            "replicates": config.evaluation.replicates,
        },
        "reference": _stored(folder, reference()),
        "variants": [row for row in rows.values() if row is not None],
        "environment": environment(),
    }
