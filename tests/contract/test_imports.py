"""Which room may import which: read from the syntax tree of every file, and tried on a machine that lacks packages."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest

ROOMS = ("more_model", "privacy", "client", "server", "simulation")
DISTRIBUTION = "more-fed"

# What each room may import of the project besides itself: a room, or single modules of one.
ALLOWED: dict[str, tuple[str, ...]] = {
    "more_model": (),
    "privacy": ("more_model.exchange", "more_model.errors", "more_model.cli_errors", "more_model.cli_version"),
    "client": ("more_model", "privacy"),
    "server": ("more_model", "privacy"),
    "simulation": ("more_model", "privacy", "client", "server"),
}
FLOWER_FILES = ("client/flower*.py", "server/flower*.py", "simulation/flower*.py")

# Packages that a training machine need not have. (Pillow is not in this list: torchvision, which timm needs, loads it.)
NOT_FOR_TRAINING = (
    "pydicom", "pylibjpeg", "wfdb", "pandas", "scipy", "sklearn", "matplotlib", "flwr", "ray", "jinja2",
    "dp_accounting",
)  # fmt: skip
# The training path: each of these with everything below it.
TRAINING_PATH = ("more_model.model", "more_model.training", "more_model.exchange", "more_model.data.study")


def source_files(checkout: Path, room: str) -> list[Path]:
    return sorted(path for path in (checkout / room).rglob("*.py"))


def imported_modules(tree: ast.AST, package: str) -> Iterator[tuple[str, int]]:
    """Every absolute dotted name that an import statement of this tree can load, also inside functions."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from ((alias.name, node.lineno) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                parents = package.split(".")
                base = ".".join([*parents[: len(parents) - node.level + 1], *([base] if base else [])])
            yield from ((f"{base}.{alias.name}", node.lineno) for alias in node.names)


def package_of(checkout: Path, path: Path) -> str:
    return ".".join(path.relative_to(checkout).parent.parts)


def may_import(room: str, name: str) -> bool:
    target = name.split(".")[0]
    if target not in ROOMS or target == room:
        return True
    return any(name == entry or name.startswith(f"{entry}.") for entry in ALLOWED[room])


@pytest.mark.parametrize("room", ROOMS)
def test_rooms_import_only_what_they_may(checkout: Path, room: str) -> None:
    faults = [
        f"{path.relative_to(checkout)}:{line} imports {name}"
        for path in source_files(checkout, room)
        for name, line in imported_modules(ast.parse(path.read_text(encoding="utf-8")), package_of(checkout, path))
        if not may_import(room, name)
    ]
    assert not faults, "\n".join(faults)


def test_flower_is_imported_in_its_adapter_files_only(checkout: Path) -> None:
    adapters = {path for pattern in FLOWER_FILES for path in checkout.glob(pattern)}
    faults = [
        f"{path.relative_to(checkout)}:{line} imports {name}"
        for room in ROOMS
        for path in source_files(checkout, room)
        if path not in adapters
        for name, line in imported_modules(ast.parse(path.read_text(encoding="utf-8")), package_of(checkout, path))
        if name.split(".")[0] == "flwr"
    ]
    assert not faults, "\n".join(faults)


def test_no_room_is_imported_by_name_at_run_time(checkout: Path) -> None:
    """`importlib.import_module("server")` would go round the rules above."""
    faults = [
        f"{path.relative_to(checkout)}:{call.lineno} {ast.unparse(call)}"
        for room in ROOMS
        for path in source_files(checkout, room)
        for call in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(call, ast.Call) and ast.unparse(call.func).endswith(("import_module", "__import__"))
        for part in ast.walk(call)
        if isinstance(part, ast.Constant) and str(part.value).split(".")[0] in (*ROOMS, "flwr")
    ]
    assert not faults, "\n".join(faults)


@pytest.mark.parametrize(
    ("room", "statement", "allowed"),
    [
        ("more_model", "import client.trainer", False),
        ("more_model", "def f():\n    from server import rounds", False),
        ("privacy", "from more_model import exchange", True),
        ("privacy", "from more_model.exchange import ExchangeSpec", True),
        ("privacy", "from more_model import training", False),
        ("client", "from server.journal import Journal", False),
        ("server", "import simulation", False),
        ("simulation", "from client import cli", True),
        ("more_model", "from .. import privacy", True),
    ],
)
def test_the_rules_can_fail(room: str, statement: str, allowed: bool) -> None:
    names = [name for name, _ in imported_modules(ast.parse(statement), f"{room}.part")]
    assert all(may_import(room, name) for name in names) is allowed


WITHOUT = """
import importlib, pkgutil, sys

class Hiding:
    # Answers "not found", as a machine without the package does; raising would look like a broken installation.
    def __init__(self, finder):
        self.finder = finder
    def find_spec(self, name, path=None, target=None):
        return None if name.split(".")[0] in {hidden!r} else self.finder.find_spec(name, path, target)
    def __getattr__(self, name):
        return getattr(self.finder, name)

sys.meta_path[:] = [Hiding(finder) for finder in sys.meta_path]
names = list({modules!r})
for top in map(importlib.import_module, {modules!r}):
    names += [found.name for found in pkgutil.walk_packages(getattr(top, "__path__", []), top.__name__ + ".")]
for name in names:
    importlib.import_module(name)
assert not {{name.split(".")[0] for name in sys.modules}} & set({hidden!r})
print(*(module.__file__ for name, module in sys.modules.items() if name.startswith("more_model")), sep="\\n")
"""


def import_without(
    checkout: Path, modules: tuple[str, ...], hidden: tuple[str, ...]
) -> subprocess.CompletedProcess[str]:
    code = WITHOUT.format(hidden=hidden, modules=modules)
    return subprocess.run(
        [sys.executable, "-c", code], cwd=checkout, capture_output=True, text=True, timeout=120, check=False
    )


def test_training_path_imports_without_reading_and_drawing_packages(checkout: Path) -> None:
    done = import_without(checkout, TRAINING_PATH, NOT_FOR_TRAINING)
    assert done.returncode == 0, f"without {', '.join(NOT_FOR_TRAINING)}:\n{done.stderr}"
    assert len(done.stdout.split()) > len(TRAINING_PATH)
    # Pillow is there anyway, through timm; the project's own code must not count on it.
    for loaded in map(Path, done.stdout.split()):
        tree = ast.parse(loaded.read_text(encoding="utf-8"))
        statements = [node for node in tree.body if isinstance(node, ast.Import | ast.ImportFrom | ast.Try)]
        top_level = {name.split(".")[0] for node in statements for name, _ in imported_modules(node, "more_model")}
        assert not top_level & {"PIL", *NOT_FOR_TRAINING}, loaded


def test_a_hidden_package_cannot_be_imported(checkout: Path) -> None:
    done = import_without(checkout, ("wfdb",), ("wfdb",))
    assert done.returncode == 1
    assert "No module named 'wfdb'" in done.stderr


@pytest.mark.parametrize("room", ROOMS)
def test_each_name_belongs_to_this_distribution_alone(room: str) -> None:
    owners = set(packages_distributions().get(room, []))
    assert owners <= {DISTRIBUTION}, f"{room} also belongs to {sorted(owners - {DISTRIBUTION})}"


def test_imported_rooms_come_from_this_checkout(checkout: Path) -> None:
    code = f"import importlib; print(*[importlib.import_module(r).__file__ for r in {ROOMS!r}], sep='\\n')"
    done = subprocess.run([sys.executable, "-P", "-c", code], capture_output=True, text=True, check=True)
    assert [Path(line).parent for line in done.stdout.split()] == [checkout / room for room in ROOMS]
