"""What protects a site's updates in one run: differential privacy, secure sums, both, or nothing."""

from __future__ import annotations

from dataclasses import dataclass

from client.private_site import Declaration, PrivateSite
from client.secure_round import SumParticipant
from client.stored_answers import StoredAnswers


@dataclass(frozen=True, slots=True)
class Protection:
    """What a site agreed to for one run.

    private: differential privacy. sums: the site's end of secure sums. declaration: the public facts that its weights
    come from, needed by both. answers: where its updates are kept until the next round, needed by both as well.
    """

    private: PrivateSite | None = None
    sums: SumParticipant | None = None
    declaration: Declaration | None = None
    answers: StoredAnswers | None = None

    def __post_init__(self) -> None:
        protected = self.private is not None or self.sums is not None
        if protected and (self.declaration is None or self.answers is None):
            raise ValueError("a protected site declares its public weights and keeps its answers")


#: Updates as they are: the coordinator sees each one.
UNPROTECTED = Protection()
