"""Which runs the sites of a simulation answer, in which process they may be, and with what privacy."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from more_model.errors import ConfigError, ExchangeError
from simulation.protection import WITHOUT_PRIVACY, privacy_of_arm, runs_of
from simulation.site_folder import open_hospital, write_site_folders

if TYPE_CHECKING:
    from simulation.workbench import Workbench

WEIGHTS = {f"site-{number}": 0.25 for number in range(1, 5)}
PRIVATE = {
    "privacy": {"mode": "hospital", "target_epsilon": 8.0, "delta": 1e-5, "public_weights": WEIGHTS},
    "privacy_curve": [8.0, 2.0],
    "seeds": 2,
}
#: A site that answered to these would let the coordinator choose its privacy, or give it a new budget.
STRANGE = ["federated-epsilon-1e6", "federated-epsilon-1_0e5", "federated-seed4711", "another", ""]


@pytest.fixture
def bench(protected_bench: Callable[[Path, dict[str, Any]], Workbench], tmp_path: Path) -> Workbench:
    return protected_bench(tmp_path, PRIVATE)


def test_the_runs_of_a_configuration_are_its_arms_and_their_seeds(bench: Workbench) -> None:
    names = {"federated", "federated-seed2", WITHOUT_PRIVACY, "federated-epsilon-2"}
    assert runs_of(bench.config) == names
    assert {name: privacy_of_arm(bench.config, name).target_epsilon for name in names} == {
        "federated": 8.0, "federated-seed2": 8.0, "federated-epsilon-2": 2.0, WITHOUT_PRIVACY: None,
    }  # fmt: skip


@pytest.mark.parametrize("name", STRANGE)
def test_a_site_in_another_process_answers_no_other_run(bench: Workbench, name: str) -> None:
    (bench.folder / "workspace").unlink()
    (bench.folder / "workspace").mkdir()
    for kept in ("sites", "base"):
        (bench.folder / "workspace" / kept).symlink_to(bench.base_folder.parent / kept)
    hospital = open_hospital(write_site_folders(bench), 0)
    assert hospital.protection_of("federated").private is not None
    with pytest.raises(ExchangeError, match="knows nothing of"):
        hospital.protection_of(name)
    assert not (bench.folder / "arms" / name / "sites").is_dir()


def test_a_tower_that_no_sum_would_ever_reveal_is_refused_before_the_first_round(
    protected_bench: Callable[[Path, dict[str, Any]], Workbench], tmp_path: Path
) -> None:
    bench = protected_bench(tmp_path, {"federation": {"secure_sum": {"minimum_contributors": 4}}})
    with pytest.raises(ConfigError, match=r"xray: 3 sites have such studies, no sum over fewer than 4 is revealed"):
        bench.protection("federated")
