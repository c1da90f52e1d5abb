"""Does the site's policy let it take part at all?"""

from __future__ import annotations

from collections.abc import Iterator

from client.installed_code import installed_code_digest
from client.policy import load_policy
from client.preflight.finding import Finding, ok, warn
from client.site_file import SiteFile
from more_model.errors import ConfigError


def check_policy(site: SiteFile) -> Iterator[Finding]:
    """Whether the policy names this federation and the installed code; what a round may do is decided in the round.

    Raises:
        ConfigError: there is no policy, or it has faults (all of them).
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
