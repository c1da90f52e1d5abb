"""The subject of `more-privacy audit`: a finished run directory, attacked at one of its sites.

Everything drawn comes from the run's seed, except the noise of private training, which comes from the operating system.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from client.audit.canaries import canary_scores
from client.audit.leaks import head_leaks
from client.audit.membership import membership_scores
from client.audit.reidentify import embedded_pairs
from client.audit.site import AuditedSite, open_site
from client.audit.tokens import token_leaks
from more_model.progress import OnProgress
from privacy.audit.subject import (
    AuditSubject,
    CanaryScores,
    Claimed,
    Embedded,
    HeadLeak,
    MembershipScores,
    TokenLeak,
)


@dataclass(frozen=True, slots=True)
class RunSubject:
    """`privacy.audit.subject.AuditSubject` for one site of a run; ``chosen`` says how the site came to be this one."""

    site: AuditedSite
    chosen: str
    on_progress: OnProgress | None = None

    def name(self) -> str:
        """Run and site, for the report."""
        return f"{self.site.run}, site {self.site.name}{self.chosen}"

    def claimed(self) -> Claimed:
        """What the run's summary states for this site."""
        return self.site.claim

    def canary_scores(self, canaries: int, included: npt.NDArray[np.bool_]) -> CanaryScores:
        """See `client.audit.canaries.canary_scores`."""
        return canary_scores(self.site, canaries, included, self._reporter("training with canaries"))

    def membership_scores(self, references: int) -> MembershipScores:
        """See `client.audit.membership.membership_scores`."""
        return membership_scores(self.site, references, self._reporter("reference trainings"))

    def head_leaks(self) -> Mapping[str, HeadLeak]:
        """See `client.audit.leaks.head_leaks`."""
        return head_leaks(self.site)

    def token_leaks(self) -> Mapping[str, TokenLeak]:
        """See `client.audit.tokens.token_leaks`."""
        return token_leaks(self.site)

    def embeddings(self) -> Embedded:
        """See `client.audit.reidentify.embedded_pairs`."""
        return embedded_pairs(self.site)

    def _reporter(self, stage: str) -> Callable[[int, int], None] | None:
        report = self.on_progress
        return None if report is None else lambda done, total: report(stage, done, total)


def open_subject(run: Path, site: str | None, on_progress: OnProgress | None = None) -> AuditSubject:
    """A finished run directory as a subject; without ``site``, its smallest hospital.

    Raises:
        ConfigError, DataError, EnvironmentFault: see `client.audit.site.open_site`.
    """
    chosen = "" if site is not None else " (the fewest training patients of all sites: leakage is largest there)"
    return RunSubject(open_site(run, site), chosen, on_progress)
