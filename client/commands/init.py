"""`more-client init`."""

from __future__ import annotations

import json
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from more_model.cli_errors import exit_on_error
from more_model.errors import ConfigError


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
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object instead of text.")] = False,
) -> None:
    """Make the site's keys, and the file that goes to the coordinator; existing keys are never touched.

    The keys stay here, readable by this user alone; keep a copy where your other secrets are. Send enrolment.json, and
    read its fingerprint to the coordinator by telephone.

    Example: more-client init north --out /srv/more --patients 1200 --modality xray --modality ecg --modality report
    """
    with exit_on_error():
        from client.site_keys import make_keys
        from more_model.enrolment import site_name_fault

        kinds = tuple(kind.value for kind in Kind if kind in modality)
        faults = [f"SITE: {fault}"] if (fault := site_name_fault(site)) is not None else []
        if Kind.REPORT not in modality or len(kinds) < 2:
            faults.append("--modality: a site trains pairs of a text and an X-ray or an ECG: report and one of them")
        if faults:
            raise ConfigError("more-client init", faults)
        made = make_keys(out, site, patients=patients, modalities=kinds)
        if as_json:
            facts = {"site": site, "enrolment": str(made.file), "fingerprint": made.enrolment.fingerprint}
            typer.echo(json.dumps(facts))
            return
        typer.echo(f"Keys of {site}: {out / 'keys'} (they never leave this machine)")
        typer.echo(f"For the coordinator: {made.file}")
        typer.echo(f"Fingerprint, to be read out by telephone: {made.enrolment.fingerprint}")
