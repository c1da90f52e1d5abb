"""`more-client init`."""

from __future__ import annotations

import json
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from more_model.cli_errors import exit_on_error
from more_model.errors import ConfigError

if TYPE_CHECKING:
    from client.site_setup import SetUp


class Kind(StrEnum):
    """What a site may have; `more_model.data.study.Modality` for the command line."""

    XRAY = "xray"
    ECG = "ecg"
    REPORT = "report"


def init(
    site: Annotated[str, typer.Argument(help="Name of the site, as agreed with the coordinator.", show_default=False)],
    out: Annotated[Path, typer.Option(help="Folder of the site; keys go to its folder keys.", show_default=False)],
    patients: Annotated[
        int, typer.Option(min=1, help="Patients you declare publicly; you may round.", show_default=False)
    ],
    modality: Annotated[list[Kind], typer.Option(help="What you have; give it once for each.", show_default=False)],
    card: Annotated[
        Path | None,
        typer.Option(help="The coordinator's folder card: writes the site file from it too.", show_default=False),
    ] = None,
    ca_fingerprint: Annotated[
        str | None,
        typer.Option(help="With --card: fingerprint of the authority, as told by telephone.", show_default=False),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object instead of text.")] = False,
) -> None:
    """Make the site's keys and the file that goes to the coordinator; with --card all else that a site file needs too.

    The keys stay here, readable by this user alone; keep a copy where your other secrets are. Send enrolment.json, and
    read its fingerprint to the coordinator by telephone. Nothing that is there is touched; with --card the keys of an
    earlier call may be there already. The policy allows nothing yet.

    Example: more-client init north --out /srv/more --patients 1200 --modality xray --modality ecg --modality report
    """
    with exit_on_error():
        from client.site_keys import make_keys
        from client.site_setup import Declared, set_up

        kinds = tuple(kind.value for kind in Kind if kind in modality)
        _refuse_faults(site, kinds, card, ca_fingerprint)
        if card is not None and ca_fingerprint is not None:
            done = set_up(out, Declared(site, patients, kinds), card, ca_fingerprint)
            typer.echo(json.dumps(_facts(done)) if as_json else _text(out, done))
            return
        made = make_keys(out, site, patients=patients, modalities=kinds)
        if as_json:
            facts = {"site": site, "enrolment": str(made.file), "fingerprint": made.enrolment.fingerprint}
            typer.echo(json.dumps(facts))
            return
        typer.echo(f"Keys of {site}: {out / 'keys'} (they never leave this machine)")
        typer.echo(f"For the coordinator: {made.file}")
        typer.echo(f"Fingerprint, to be read out by telephone: {made.enrolment.fingerprint}")


def _refuse_faults(site: str, kinds: tuple[str, ...], card: Path | None, ca_fingerprint: str | None) -> None:
    from more_model.enrolment import site_name_fault

    faults = [f"SITE: {fault}"] if (fault := site_name_fault(site)) is not None else []
    if Kind.REPORT not in kinds or len(kinds) < 2:
        faults.append("--modality: a site trains pairs of a text and an X-ray or an ECG: report and one of them")
    if (card is None) != (ca_fingerprint is None):
        faults.append("--card and --ca-fingerprint: give both or neither")
    if faults:
        raise ConfigError("more-client init", faults)


def _facts(done: SetUp) -> dict[str, object]:
    enrolment = done.keys.enrolment
    return {
        "site": enrolment.site,
        "enrolment": str(done.keys.file),
        "fingerprint": enrolment.fingerprint,
        "site_file": str(done.site_file),
        "card_digest": done.agreed.card.digest(),
        "in_card": enrolment.site in done.agreed.card.sites,
        "keys_kept": done.keys_kept,
        "policy_kept": done.policy_kept,
    }


def _text(out: Path, done: SetUp) -> str:
    enrolment = done.keys.enrolment
    lines = [
        f"Keys of {enrolment.site}: {out / 'keys'} ({'kept as they were' if done.keys_kept else 'made now'})",
        f"Site file: {done.site_file}",
        f"Digest of the card, to be compared by telephone: {done.agreed.card.digest()}",
        "The policy that was there is kept." if done.policy_kept else "The policy allows nothing yet.",
    ]
    if done.agreed.sums is not None:
        lines.append("Compare that digest with the other hospitals too: the card says which key is whose.")
    if enrolment.site not in done.agreed.card.sites:
        lines += [
            f"For the coordinator: {done.keys.file}",
            f"Fingerprint, to be read out by telephone: {enrolment.fingerprint}",
        ]
    return "\n".join(lines)
