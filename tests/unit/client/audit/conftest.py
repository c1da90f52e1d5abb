"""The miniature run as it ended, without privacy, and copies of it that claim some."""

from __future__ import annotations

import json
import shutil
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from client.audit.site import AuditedSite

#: Whatever the mode, small enough for a test and public.
MODES: dict[str, dict[str, Any]] = {
    "patient-decoupled": {"sampling_rate": 0.5, "steps_per_round": 2},
    "patient-groups": {"sampling_rate": 0.5, "steps_per_round": 2},
    "hospital": {},
}


@pytest.fixture(scope="session")
def open_run(miniature_run: Any) -> AuditedSite:
    """The smallest site of a run without privacy."""
    from client.audit.site import open_site

    return open_site(miniature_run.out, None)


@pytest.fixture(scope="session")
def claim_privacy(miniature_run: Any, tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """``claim_privacy("patient-groups", noise_multiplier=2.0)``: a copy of the run that was configured with this mode,
    with the summary that such a run ends with. Another of its sites serves as the public bank."""

    def write(mode: str, **settings: Any) -> Path:
        import tomli_w

        from more_model.cohort_file import load_cohort
        from privacy.rounds import round_plan
        from privacy.settings import PrivacySettings

        run = Path(shutil.copytree(miniature_run.out, tmp_path_factory.mktemp(mode) / "run"))
        sites = [site.name for site in load_cohort(run).sites]
        table = {"mode": mode, "noise_multiplier": 1.0, "delta": 1e-3, **MODES[mode], **settings}
        if mode == "hospital":
            table["public_weights"] = dict.fromkeys(sites, 1 / len(sites))
        config = tomllib.loads((run / "config.toml").read_text(encoding="utf-8"))
        bank = {"cohort": f"{run}/workspace/sites/{sites[-1]}", "negatives": 8, "refresh_every": 2}
        config |= {"privacy": table, "public_bank": bank}
        (run / "config.toml").write_text(tomli_w.dumps(config), encoding="utf-8")
        federation = config["federation"]
        plan = round_plan(
            PrivacySettings(**table), 8, rounds=federation["rounds"]["rounds"], local_epochs=federation["local_epochs"]
        )
        own = {
            "epsilon": 7.5,
            "noise_multiplier": plan.noise_multiplier,
            "sampling_rate": plan.sampling_rate,
            "steps": plan.all_steps,
            "public_patients": 8,
        }
        summary = json.loads((run / "summary.json").read_text(encoding="utf-8"))
        summary["privacy"] = {"mechanism": mode, "delta": 1e-3, "sites": dict.fromkeys(sites[:-1], own)}
        (run / "summary.json").write_text(json.dumps(summary), encoding="utf-8")
        return run

    return write


@pytest.fixture(scope="session")
def decoupled_run(claim_privacy: Callable[..., Path]) -> Path:
    """A run with `patient-decoupled`; its last site is public and may not be audited."""
    return claim_privacy("patient-decoupled")


@pytest.fixture(scope="session")
def private_site(decoupled_run: Path) -> AuditedSite:
    """The first site of that run."""
    from client.audit.site import open_site
    from more_model.cohort_file import load_cohort

    return open_site(decoupled_run, load_cohort(decoupled_run).sites[0].name)
