"""Does the site's policy let it take part at all?"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from client.card_change import refused_by, require_same_federation
from client.card_folder import read_card
from client.installed_code import installed_code_digest
from client.policy import SitePolicy, load_policy
from client.preflight.finding import Finding, ok, warn
from client.site_file import SiteFile
from more_model.errors import ConfigError


def check_policy(site: SiteFile) -> Iterator[Finding]:
    """Whether the policy names this federation and the installed code; what a round may do is decided in the round.

    Where the site has a card, also what of it the policy refuses.

    Raises:
        ConfigError: there is no policy, or it has faults (all of them); a card that is not of this federation.
    """
    policy, path = load_policy(site.controls.policy), site.controls.policy
    if policy is None:
        raise ConfigError(
            str(path),
            ["there is no policy, so nothing may run and nothing may leave"],
            remedy=f"more-client policy init {path}, then say what this site allows",
            avoid="copy another site's policy unread",
        )
    faults = []
    if (policy.federation.name, policy.federation.ca_fingerprint) != (
        site.federation.name,
        site.federation.ca_fingerprint,
    ):
        faults.append("it does not name the federation of the site file")
    if installed_code_digest() not in policy.code.installed:
        faults.append("it does not name the installed code")
    if faults:
        yield warn(
            "policy",
            f"The policy refuses every round: {' and '.join(faults)}.",
            remedy=f"look at what is installed and asked for, and decide: more-client policy show {path}",
            avoid="approve code that nobody at the site has looked at",
        )
    else:
        yield ok("policy", "names this federation and the installed code")
    if site.federation.card is not None:
        yield _check_card(site, policy, site.federation.card)


def _check_card(site: SiteFile, policy: SitePolicy, card: Path) -> Finding:
    """Raises ConfigError: no card, or not that of the site file's federation."""
    agreed = read_card(card)
    require_same_federation(site, agreed.card)
    if refused := refused_by(policy, agreed):
        return warn(
            "card",
            f"The federation asks for more than the policy allows. {'; '.join(refused)}.",
            remedy="decide what may be: more-client policy allow, or an edit of the policy",
            avoid="allow it only because it is asked for",
        )
    return ok("card", f"the policy allows what is asked for (digest of the card {agreed.card.digest()[:16]})")
