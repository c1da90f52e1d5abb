"""The command line `more-client`: what the hospital's data person does with the site's own files."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from client.commands.audit_verify import audit_verify
from client.commands.card import card
from client.commands.drain import drain
from client.commands.init import init
from client.commands.ledger import ledger
from client.commands.page import page
from client.commands.pause import pause
from client.commands.policy import policy
from client.commands.preflight import preflight
from client.commands.receive import receive
from client.commands.relay import relay
from client.commands.resume import resume
from client.commands.start import start
from client.commands.status import status
from client.commands.withdraw import withdraw
from more_model.cli_errors import exit_on_error
from more_model.cli_version import VersionOption

if TYPE_CHECKING:
    from more_model.data.ingest import IngestReport
    from more_model.data.pairing import PairingRule

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    help="A hospital's side of the federation: bring its studies into a site store, and look at what is there.",
)

audit = typer.Typer(no_args_is_help=True, help="The site's audit log: what left the building, and when.")
audit.command("verify")(audit_verify)
app.add_typer(audit, name="audit")
app.add_typer(policy, name="policy")
app.command()(init)
app.command()(card)
app.command()(preflight)
app.command()(receive)
app.command()(start)
app.command()(relay)
app.command()(status)
app.command()(pause)
app.command()(resume)
app.command()(drain)
app.command()(withdraw)
app.command()(page)
app.command()(ledger)

StoreOption = Annotated[Path, typer.Option("--store", help="Folder of the site store.", show_default=False)]
JsonOption = Annotated[bool, typer.Option("--json", help="Print one JSON object instead of text.")]


class Pairing(StrEnum):
    """The pairing rules by name."""

    CLOSEST = "closest"
    ALL_WITHIN = "all-within"
    ADMISSION_WINDOW = "admission-window"


@app.callback()
def main(version: VersionOption = False) -> None:
    """A hospital's side of the federation."""


@app.command()
def ingest(
    sources: Annotated[Path, typer.Argument(metavar="SOURCES.toml", help="The data sets to read.", show_default=False)],
    store: StoreOption,
    site: Annotated[str, typer.Option(help="Name of this site.", show_default=False)],
    ceiling: Annotated[
        float, typer.Option(min=0.0, max=1.0, help="Share of studies that may be refused before this ends in an error.")
    ] = 0.05,
    workers: Annotated[int, typer.Option(min=1, help="Processes that read files.")] = 1,
    accept: Annotated[
        list[str] | None,
        typer.Option(
            help="What you have looked at and let pass: a DICOM keyword such as PatientID, the label of a WFDB "
            "comment, burned-in-text or private-element.",
            show_default=False,
        ),
    ] = None,
    check: Annotated[
        bool,
        typer.Option(
            "--deidentification-check/--no-deidentification-check",
            help="Withhold studies that may name somebody; without it the store says that nothing was checked.",
        ),
    ] = True,
    as_json: JsonOption = False,
) -> None:
    """Read the site's studies into its store; may be interrupted and repeated at any time.

    A study in whose report, header or picture something may name somebody is withheld: it counts as refused, and
    nothing of it is stored. Counts are printed, never what was found; more-privacy scan --show says where to look.
    A stored study whose file has changed is never replaced: the newer version is quarantined.

    Example: more-client ingest SOURCES.toml --store /srv/more/store --site north
    """
    with exit_on_error(), _exit_on_interrupt():
        from more_model.data.ingest import CeilingExceeded
        from more_model.data.ingest import ingest as fill
        from more_model.data.sources import load_sources, read_cohort
        from more_model.data.split import patient_site_conflicts
        from privacy.deidentify.gate import RuleGate

        configured = load_sources(sources)
        with _waiting("Reading tables"):
            cohort = read_cohort(configured.sources, configured.label_tables)
            patient_site_conflicts(cohort.studies)
        try:
            with _progress("Reading studies") as advance:
                report = fill(
                    cohort.studies,
                    store,
                    site,
                    configured.preprocessing,
                    ceiling=ceiling,
                    workers=workers,
                    gate=RuleGate(frozenset(accept or ())) if check else None,
                    progress=advance,
                )
        except CeilingExceeded as error:
            _print_ingest(site, cohort.counts, error.report, as_json)
            raise
        _print_ingest(site, cohort.counts, report, as_json)


@app.command(name="data-report")
def data_report(
    store: StoreOption,
    pairing: Annotated[Pairing, typer.Option(help="How X-rays and ECGs are paired.")] = Pairing.CLOSEST,
    days: Annotated[float, typer.Option(min=0.0, help="Most days between X-ray and ECG.")] = 60.0,
    admissions: Annotated[
        Path | None, typer.Option(help="MIMIC-IV admissions table, for admission-window.", show_default=False)
    ] = None,
    minimum_count: Annotated[int, typer.Option(min=1, help="Smaller counts are not shown.")] = 5,
    as_json: JsonOption = False,
) -> None:
    """Show what the store holds: triplets, missing parts, quarantine, labels, corrections.

    Example: more-client data-report --store /srv/more/store --pairing closest --days 60
    """
    with exit_on_error():
        from client.data_report import data_report as count
        from client.data_report import render

        rule = _rule(pairing, days, admissions)
        with _waiting("Pairing studies"):
            report = count(store, rule, minimum_count=minimum_count)
        typer.echo(json.dumps(report.as_dict()) if as_json else render(report))


@app.command()
def verify(store: StoreOption, as_json: JsonOption = False) -> None:
    """Check every study of the store against its checksum (exit code 5 if one differs).

    Example: more-client verify --store /srv/more/store
    """
    with exit_on_error():
        from more_model.data.store import SiteStore

        with _waiting("Verifying"):
            opened = SiteStore.open_read(store)
            checked = opened.verify()
        facts = {"site": opened.site, "verified": checked, "quarantined": len(opened.quarantine)}
        typer.echo(
            json.dumps(facts)
            if as_json
            else f"Site {opened.site}: all {checked} stored studies match their checksums; "
            f"{len(opened.quarantine)} are in quarantine."
        )


def _rule(pairing: Pairing, days: float, admissions: Path | None) -> PairingRule:
    from more_model.data.pairing import PairingRule
    from more_model.settings import validated

    options = {"rule": pairing.value, "days": days, "admissions": admissions}
    return validated(PairingRule, options, "the options of data-report")


@contextmanager
def _exit_on_interrupt() -> Iterator[None]:
    try:
        yield
    except KeyboardInterrupt as error:
        typer.echo("Interrupted; what was stored stays. Run the same command again.", err=True)
        raise typer.Exit(130) from error


@contextmanager
def _waiting(what: str) -> Iterator[None]:
    from rich.console import Console

    with Console(stderr=True).status(what):
        yield


@contextmanager
def _progress(what: str) -> Iterator[Callable[[int, int], None]]:
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task(what, total=None)
        yield lambda done, total: bar.update(task, completed=done, total=total)


def _print_ingest(site: str, read: Mapping[str, int], report: IngestReport, as_json: bool) -> None:
    if as_json:
        typer.echo(json.dumps({"site": site, "read": dict(read), **report.as_dict()}))
    else:
        typer.echo(_ingest_text(site, read, report))


def _ingest_text(site: str, read: Mapping[str, int], report: IngestReport) -> str:
    blocks: dict[str, Mapping[str, Any]] = {
        "Read from the sources": read,
        "Stored now": report.stored,
        "Stored before": report.already_stored,
        "Refused (quarantined)": report.refused,
        "Of these, studies that may name somebody, by what was found": report.withheld,
        "Corrected": report.corrections,
    }
    lines = [
        f"Site {site}: {report.studies} studies, {report.refused_share:.1%} refused",
        f"Check for identifiers: {report.deidentification}",
    ]
    for title, counts in blocks.items():
        lines += [
            "",
            title,
            *(f"  {name:<44} {count:>9}" for name, count in counts.items()),
            *(() if counts else ["  none"]),
        ]
    if report.nan_samples:
        lines += ["", f"Missing ECG samples filled: {report.nan_samples}"]
    lines += list(_source_lines(report))
    if report.changed:
        lines += [
            "",
            f"{report.changed} stored studies have other labels, times or ids in the sources now. The store keeps what "
            "it has: ingest into a new folder to take the change over.",
        ]
    return "\n".join(lines)


def _source_lines(report: IngestReport) -> Iterator[str]:
    def listed(counts: Mapping[str, int]) -> str:
        return ", ".join(f"{count} {modality}" for modality, count in counts.items())

    if report.source_changed:
        yield ""
        yield (
            f"Changed since they were stored: {listed(report.source_changed)}. The newer versions are quarantined "
            "(quarantine.jsonl in the store lists them) and the store keeps what it has: ingest into a new folder to "
            "take the change over."
        )
    if report.source_gone:
        yield ""
        yield (
            f"Stored, and no longer among the sources: {listed(report.source_gone)} (sources.jsonl in the store lists "
            "them). They are used as before; more-client withdraw takes a patient out."
        )
