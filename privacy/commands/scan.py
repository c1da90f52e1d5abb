"""`more-privacy scan`."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from more_model.cli_errors import exit_on_error
from more_model.errors import ConfigError, InputRefused

if TYPE_CHECKING:
    from privacy.deidentify.files import Options, Scan


def scan(
    paths: Annotated[list[Path], typer.Argument(exists=True, help="Files, or folders with everything below them.")],
    accept: Annotated[
        list[str] | None,
        typer.Option(
            "--accept",
            help="DICOM keyword or WFDB comment label that was looked at, such as PatientID; or a kind of finding "
            "as a whole: burned-in-text, private-element.",
        ),
    ] = None,
    column: Annotated[
        list[str] | None, typer.Option("--column", help="Column of a CSV table that holds reports; one row, one study.")
    ] = None,
    pixels: Annotated[bool, typer.Option("--pixels/--no-pixels", help="Search pictures for writing.")] = True,
    show: Annotated[
        bool, typer.Option("--show", help="List where to look, on this screen only; never what stands there.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object, with counts only.")] = False,
) -> None:
    """Look for what still names somebody: in reports, DICOM headers, film pixels and WFDB headers.

    A study with any finding, or any file that cannot be read, is withheld. Counts are printed, never what was found.
    Ends with 3 if a study is withheld.

    Example: more-privacy scan /data/export --accept PatientID
    """
    with exit_on_error():
        if show and as_json:
            raise ConfigError("more-privacy scan", ["--show and --json exclude each other: places stay on the screen"])
        from privacy.deidentify.files import Options

        result = _scanned(paths, Options(frozenset(accept or ()), tuple(column or ()), pixels))
        typer.echo(_as_json(result) if as_json else _as_text(result, show=show))
        withheld = sum(not verdict.released for verdict in result.verdicts)
        if withheld:
            raise InputRefused(
                "not-deidentified",
                f"{withheld} of {len(result.verdicts)} studies are withheld.",
                remedy="run again with --show, look at each place in your own viewer, and export again without it",
                avoid="accept an element that you have not looked at",
            )


def _scanned(paths: list[Path], options: Options) -> Scan:
    from rich.console import Console
    from rich.progress import Progress

    from privacy.deidentify.files import scan as scan_files

    with Progress(console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("Looking")
        return scan_files(paths, options, lambda done, total: bar.update(task, completed=done, total=total))


def _totals(result: Scan) -> tuple[dict[str, int], dict[str, int]]:
    """How many findings of each kind, and how many studies with each kind."""
    findings: Counter[str] = Counter()
    studies: Counter[str] = Counter()
    for verdict in result.verdicts:
        findings.update(verdict.counts)
        studies.update(verdict.counts.keys())
    return dict(sorted(findings.items())), dict(sorted(studies.items()))


def _as_json(result: Scan) -> str:
    findings, studies = _totals(result)
    released = sum(verdict.released for verdict in result.verdicts)
    return json.dumps(
        {
            "files": result.files, "studies": len(result.verdicts), "released": released,
            "withheld": len(result.verdicts) - released, "findings": findings, "studies_with": studies,
        }
    )  # fmt: skip


def _as_text(result: Scan, *, show: bool) -> str:
    findings, studies = _totals(result)
    released = sum(verdict.released for verdict in result.verdicts)
    lines = [f"{path}: {finding.kind}: {finding.place}" for path, finding in result.found] if show else []
    lines.append(f"{result.files} files, {len(result.verdicts)} studies: {released} may be used")
    lines += [f"  {kind:<18} {count:>6} in {studies[kind]} studies" for kind, count in findings.items()]
    return "\n".join(lines)
