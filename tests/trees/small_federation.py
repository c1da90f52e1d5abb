"""Three small hospitals, prepared for a deployment: their stores, the base, and what they train when asked here."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from trees.deployment import Plan, SiteData

from client.hospital import Hospital
from more_model.exchange import Instruction, Joined, Refusal, Update
from more_model.model.inventory import export_tensors
from more_model.run_folder import RunFolder
from more_model.training.settings import TrainingSettings
from server.aggregation.methods import aggregation
from server.journal import Journal
from server.rounds import Federation, RoundSettings, run_rounds
from simulation.run import prepare
from simulation.settings import load_run_config
from simulation.workbench import Workbench

MODALITIES = ("xray", "ecg", "report")


@dataclass(frozen=True)
class SmallFederation:
    """What is deployed, and the same hospitals in this process."""

    plan: Plan
    bench: Workbench

    def hospital(self, name: str) -> Hospital:
        """The hospital, without the daemon around it."""
        scorer, examples = self.bench.scorer, self.bench.training_examples(name)
        return Hospital(name, examples, self.bench.assembled(), scorer.tokenizer, scorer.max_tokens, 1)

    def instruction(self, number: int, run: str) -> Instruction:
        """What the coordinator asks at the start of a run."""
        built = self.bench.assembled()
        return Instruction(
            round=number,
            rounds=self.plan.rounds,
            tensors=export_tensors(built.model),
            training=TrainingSettings.model_validate(self.plan.training).model_dump_json(),
            seed=self.plan.seed,
            spec_digest=built.spec.digest(),
            fingerprint=built.fingerprint,
            run=run,
        )

    def digest_of(self, sites: Sequence[str], others: Mapping[int, Update], folder: Path) -> str:
        """The last checkpoint's digest where only ``sites`` train, and ``others`` (round -> update) come in as they
        are."""
        hospitals = {name: self.hospital(name) for name in sites}
        built, plan = self.bench.assembled(), self.plan
        strangers = {update.site for update in others.values()}

        class Here:
            def exchange(
                self, instructions: Mapping[str, Instruction], *, timeout_s: float
            ) -> dict[str, Update | Joined | Refusal]:
                asked = {name: instructions[name] for name in sites}
                answers: dict[str, Update | Joined | Refusal] = {n: hospitals[n].answer(i) for n, i in asked.items()}
                came = others.get(next(iter(asked.values())).round)
                return answers | ({came.site: came} if came is not None else {})

            def ask(self, messages: Any, *, run: str, timeout_s: float) -> dict[str, Any]:
                raise NotImplementedError

        federation = Federation(
            sites=(*sites, *strangers),
            spec=built.spec,
            fingerprint=built.fingerprint,
            method=aggregation(plan.method),
            settings=RoundSettings(rounds=plan.rounds, minimum_sites=len(sites)),
            training=TrainingSettings.model_validate(plan.training).model_dump_json(),
            seed=plan.seed,
        )
        with closing(Journal(folder, run={"run": "here"})) as journal:
            run_rounds(federation, Here(), journal, export_tensors(built.model))
            return journal.last_digest()


def small_federation(
    folder: Path,
    config: Path,
    rounds: int,
    *,
    names: Sequence[str] = ("site-1", "site-2", "site-3"),
    settings: Mapping[str, Any] | None = None,
    allowance: Sequence[str] = ("--unprotected", "--max-rounds", "99"),
) -> SmallFederation:
    """Data and base of the run configuration ``config``, made in ``folder``; nothing is trained."""
    chosen = load_run_config(config)
    folder.mkdir()
    bench = prepare(chosen, RunFolder(folder), lambda _stage, _done, _total: None)
    plan = Plan(
        base=bench.base_folder,
        training=chosen.training.model_dump(mode="json", exclude_none=True),
        split=chosen.data.split.model_dump(mode="json", exclude_none=True),
        seed=chosen.seed,
        rounds=rounds,
        method=chosen.federation.method,
        public_seed=chosen.federation.public_seed,
        local_epochs=chosen.federation.local_epochs,
        sites={name: SiteData(folder / "workspace" / "sites" / name, 100, MODALITIES) for name in names},
        settings=settings or {},
        allowance=allowance,
    )
    return SmallFederation(plan, bench)
