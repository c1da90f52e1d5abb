"""One small synthetic cohort, written once for all tests that only read it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import pandas as pd
import pytest

from simulation.synthetic.config import Difficulty, SynthConfig
from simulation.synthetic.tree import SynthReport, write_cohort


@dataclass(frozen=True, slots=True)
class WrittenCohort:
    root: Path
    config: SynthConfig
    report: SynthReport

    def table(self, path: str) -> pd.DataFrame:
        return pd.read_csv(self.root / path, low_memory=False)


@pytest.fixture(scope="session")
def written_cohort(tmp_path_factory: pytest.TempPathFactory) -> WrittenCohort:
    """32 patients of 8 hospitals, 64 px, DICOM too; readers make no mistakes and no label is blank."""
    config = SynthConfig(
        patients=32,
        hospitals=8,
        seed=11,
        image_px=64,
        dicom=True,
        max_visits=3,
        extra_visit_rate=0.5,
        lateral_rate=0.3,
        far_ecg_rate=0.2,
        bad_sample_rate=0.1,
        difficulty=Difficulty(label_noise=0.0, uncertain_rate=0.15, blank_rate=0.0, blank_study_rate=0.0),
    )
    root = tmp_path_factory.mktemp("cohort") / "tree"
    return WrittenCohort(root, config, write_cohort(config, root))
