"""The app bundle of a run. Flower sends it to every hospital, so hospitals know a run's kind by its digest.

Nothing of it is needed where this project runs: the coordinator's rounds and the hospital's relay are installed
programs, and a hospital's relay looks at the digest of a bundle only. What stands in it lets a reader see that.
"""

from __future__ import annotations

import hashlib
from functools import cache
from importlib.metadata import version

import tomli_w
from flwr.cli.build import build_fab_from_files

_CLIENT = """\
# At a hospital nothing of this bundle is imported: `more-client relay`, installed there, passes messages on.
raise ImportError("use more-client relay")
"""
_SERVER = """\
# The rounds are driven by `more-server run`, which is installed at the coordinator and takes this app's place.
raise ImportError("use more-server run")
"""


@cache
def build_bundle() -> bytes:
    """The bundle; the same bytes wherever the same release is installed."""
    project = {
        "project": {"name": "more-fed-run", "version": version("more-fed")},
        "tool": {
            "flwr": {
                "app": {
                    "publisher": "more-fed",
                    "components": {
                        "serverapp": "more_fed_run.coordinator:app",
                        "clientapp": "more_fed_run.hospital:app",
                    },
                }
            }
        },
    }
    files = {
        "pyproject.toml": tomli_w.dumps(project).encode(),
        "more_fed_run/__init__.py": b"",
        "more_fed_run/hospital.py": _CLIENT.encode(),
        "more_fed_run/coordinator.py": _SERVER.encode(),
    }
    return bytes(build_fab_from_files(files)[0])


def bundle_digest() -> str:
    """Hex SHA-256 of the bundle, which hospitals name in their policy."""
    return hashlib.sha256(build_bundle()).hexdigest()
