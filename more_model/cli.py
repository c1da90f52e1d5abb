"""The command line `more-model`: what one model and one site's data can be asked without a federation."""

from __future__ import annotations

import typer

from more_model.cli_version import VersionOption
from more_model.commands.assess import assess
from more_model.commands.assess_prepare import assess_prepare
from more_model.commands.describe import describe
from more_model.commands.doctor import doctor
from more_model.commands.evaluate import evaluate
from more_model.commands.explain import explain
from more_model.commands.import_more import import_more
from more_model.commands.index import index
from more_model.commands.inspect import inspect
from more_model.commands.make_base import make_base
from more_model.commands.reader_study import app as reader_study
from more_model.commands.search import search

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    # Typer would print local variables, which here are studies with patient ids and report texts.
    pretty_exceptions_enable=False,
    help="The MoRE model: its readers, its evaluation, and what it says about one patient.",
)


@app.callback()
def main(version: VersionOption = False) -> None:
    """The MoRE model: its readers, its evaluation, and what it says about one patient."""


_COMMANDS = (
    inspect,
    doctor,
    describe,
    make_base,
    import_more,
    evaluate,
    index,
    search,
    explain,
    assess_prepare,
    assess,
)
for command in _COMMANDS:
    app.command()(command)
app.add_typer(reader_study, name="reader-study")
