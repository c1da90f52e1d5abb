"""Writes docs/cli.md from the `--help` of every command of the five console scripts: `python docs/generate_cli.py`.

With `--check` it writes nothing and ends with code 1 where the page and the commands differ.
"""

from __future__ import annotations

import sys
import tomllib
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path

import click
import typer

CHECKOUT = Path(__file__).resolve().parents[1]
PAGE = CHECKOUT / "docs" / "cli.md"
WIDTH = 110

HEAD = """# Command line

Generated from `--help` by `make docs`; do not edit. Exit codes are in [exit-codes.md](exit-codes.md).
"""


def main() -> int:
    """Writes or checks the page; returns the exit code."""
    text = render()
    if "--check" in sys.argv[1:]:
        same = PAGE.is_file() and PAGE.read_text(encoding="utf-8") == text
        if not same:
            print("docs/cli.md is older than the commands; run `make docs`", file=sys.stderr)
        return 0 if same else 1
    PAGE.write_text(text, encoding="utf-8")
    return 0


def render() -> str:
    """The whole page."""
    parts = [HEAD]
    for script, app in console_scripts().items():
        for path, command in commands(typer.main.get_command(app), (script,)):
            level = "##" if len(path) == 1 else "###"
            parts.append(f"{level} {' '.join(path)}\n\n```text\n{help_text(command, path)}\n```\n")
    return "\n".join(parts)


def console_scripts() -> dict[str, typer.Typer]:
    """Name of each console script in pyproject.toml -> its application."""
    project = tomllib.loads((CHECKOUT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    apps = {}
    for name, target in project["scripts"].items():
        module, _, attribute = target.partition(":")
        apps[name] = getattr(import_module(module), attribute)
    return apps


def commands(command: click.Command, path: tuple[str, ...]) -> Iterator[tuple[tuple[str, ...], click.Command]]:
    """The command itself and everything below it, in the order of the help."""
    yield path, command
    for name, child in getattr(command, "commands", {}).items():
        if not child.hidden:
            yield from commands(child, (*path, name))


def help_text(command: click.Command, path: tuple[str, ...]) -> str:
    """The help of one command as plain text, the same on every terminal."""
    # Rich would draw boxes; without it Typer prints click's plain help, with brackets still escaped for Rich.
    command.rich_markup_mode = None  # type: ignore[attr-defined]
    parent: click.Context | None = None
    for name in path[:-1]:
        parent = click.Context(click.Command(name), info_name=name, parent=parent)
    context = click.Context(command, info_name=path[-1], parent=parent, terminal_width=WIDTH, max_content_width=WIDTH)
    lines = command.get_help(context).replace("\\[", "[").splitlines()
    return "\n".join(line.rstrip() for line in lines).strip()


if __name__ == "__main__":
    raise SystemExit(main())
