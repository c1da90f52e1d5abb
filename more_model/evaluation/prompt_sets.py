"""Worded prompts for zero-shot classification, read from TOML.

    description = "what this set is for"
    exclusive = false                     # true: classes exclude each other, `negative` must be left out

    [prefix]                              # optional: put before every wording of a modality
    xray = ""

    [labels."Pleural Effusion"]
    modality = "xray"
    prefix = ""                           # optional: instead of the modality's
    positive = ["There is a pleural effusion."]
    negative = ["No pleural effusion."]

Instead of a list, a side may be a table of lists by language (``positive.de = [...]``); all languages are used unless
some are asked for.
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from importlib import resources
from pathlib import Path
from typing import Any, cast

from more_model.errors import ConfigError
from more_model.evaluation.embedded import ImageOrTrace, LabelTask

_TOP_KEYS = {"description", "exclusive", "prefix", "labels"}
_LABEL_KEYS = {"modality", "prefix", "positive", "negative"}
_MODALITIES = ("xray", "ecg")


@dataclass(frozen=True, slots=True)
class LabelPrompts:
    """The wordings of one label. ``negative`` is empty in an exclusive set only."""

    task: LabelTask
    positive: tuple[str, ...]
    negative: tuple[str, ...]
    prefix: str = ""

    def worded(self, side: Sequence[str]) -> list[str]:
        """The texts of one side as the encoder sees them, prefix included."""
        return [self.prefix + text for text in side]


@dataclass(frozen=True, slots=True)
class PromptSet:
    """Prompts for a set of labels. ``exclusive``: a study has exactly one of them."""

    name: str
    labels: tuple[LabelPrompts, ...]
    exclusive: bool = False
    description: str = ""

    @property
    def tasks(self) -> list[LabelTask]:
        """The questions of this set, in file order."""
        return [label.task for label in self.labels]

    def texts(self) -> list[str]:
        """Every distinct text to embed, in file order."""
        return list(
            dict.fromkeys(text for label in self.labels for text in label.worded([*label.positive, *label.negative]))
        )

    def with_prefix(self, prefix: Mapping[str, str]) -> PromptSet:
        """The same set with another prefix per modality; modalities that are not named keep theirs."""
        return replace(
            self,
            labels=tuple(replace(label, prefix=prefix.get(label.task.modality, label.prefix)) for label in self.labels),
        )

    def only(self, labels: Sequence[str]) -> PromptSet:
        """The set cut down to some labels. Raises ConfigError for labels that it does not have."""
        missing = [label for label in labels if label not in {entry.task.label for entry in self.labels}]
        if missing:
            raise ConfigError(f"prompts {self.name}", [f"no prompts for label {label!r}" for label in missing])
        return replace(self, labels=tuple(entry for entry in self.labels if entry.task.label in labels))

    def about(self, tasks: Sequence[LabelTask]) -> PromptSet:
        """The wordings of these tasks, in the order of the set; the task says which modality is asked, not the set.

        Raises ConfigError for labels that it does not have, and for an exclusive set asked of two modalities.
        """
        if self.exclusive and len({task.modality for task in tasks}) > 1:
            raise ConfigError(f"prompts {self.name}", ["an exclusive set can be asked of one modality only"])
        known = self.only([task.label for task in tasks])
        asked = [
            replace(entry, task=task) for entry in known.labels for task in tasks if task.label == entry.task.label
        ]
        return replace(known, labels=tuple(asked))


def available_prompts() -> list[str]:
    """The names of the sets that come with the package."""
    return sorted(entry.name.removesuffix(".toml") for entry in _shipped().iterdir() if entry.name.endswith(".toml"))


def load_prompts(name_or_path: str | Path, *, required: Sequence[str] = (), languages: Sequence[str] = ()) -> PromptSet:
    """Reads a prompt set that comes with the package (by name) or any TOML file (by path, ending in ``.toml``).

    ``required`` labels must be there; ``languages`` keeps only those languages of sides that are split by language.
    Raises ConfigError with all faults of the file at once.
    """
    where = f"prompts {name_or_path}"
    raw = _parse(_read(name_or_path, where), where)
    faults = [f"unknown key {key!r}" for key in raw if key not in _TOP_KEYS]
    if not isinstance(exclusive := raw.get("exclusive", False), bool):
        faults.append("exclusive must be true or false")
    if not isinstance(description := raw.get("description", ""), str):
        faults.append("description must be a text")
    prefix = _read_prefix(raw.get("prefix", {}), faults)
    tables = raw.get("labels", {})
    if not isinstance(tables, dict) or not tables:
        faults.append('no [labels."..."] table: a prompt set needs at least one label')
        tables = {}
    faults += [f"label {label!r} is required but has no prompts" for label in required if label not in tables]
    labels = [_read_label(label, table, prefix, bool(exclusive), languages, faults) for label, table in tables.items()]
    if exclusive is True and len(labels) < 2:
        faults.append("exclusive set: at least two labels are needed")
    if exclusive is True and len({table.get("modality") for table in tables.values() if isinstance(table, dict)}) > 1:
        faults.append("exclusive set: all labels must have one modality")
    if faults:
        raise ConfigError(where, faults, remedy="see more_model/evaluation/prompts for complete examples")
    name = Path(name_or_path).stem if str(name_or_path).endswith(".toml") else str(name_or_path)
    return PromptSet(name, tuple(label for label in labels if label), bool(exclusive), str(description))


def _shipped() -> resources.abc.Traversable:
    return resources.files("more_model.evaluation").joinpath("prompts")


def _read(name_or_path: str | Path, where: str) -> str:
    if isinstance(name_or_path, str) and not name_or_path.endswith(".toml"):
        if name_or_path not in available_prompts():
            raise ConfigError(
                where,
                [f"there is no set of this name; there are {', '.join(available_prompts())}"],
                remedy="for a file of your own give its path, ending in .toml",
            )
        return _shipped().joinpath(f"{name_or_path}.toml").read_text(encoding="utf-8")
    try:
        return Path(name_or_path).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(where, [f"cannot be read: {error}"]) from error


def _parse(text: str, where: str) -> dict[str, Any]:
    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(where, [f"not valid TOML: {error}"]) from error


def _read_prefix(raw: object, faults: list[str]) -> dict[str, str]:
    if not isinstance(raw, dict) or not all(isinstance(text, str) for text in raw.values()):
        faults.append("prefix must be a table of texts by modality")
        return {}
    faults += [f"prefix: unknown modality {key!r}" for key in raw if key not in _MODALITIES]
    return {key: text for key, text in raw.items() if key in _MODALITIES}


def _read_label(
    label: str,
    table: object,
    prefix: Mapping[str, str],
    exclusive: bool,
    languages: Sequence[str],
    faults: list[str],
) -> LabelPrompts | None:
    if not isinstance(table, dict):
        faults.append(f"label {label!r} must be a table")
        return None
    faults += [f"label {label!r}: unknown key {key!r}" for key in table if key not in _LABEL_KEYS]
    modality = table.get("modality")
    if modality not in _MODALITIES:
        faults.append(f"label {label!r}: modality is {modality!r}, must be one of {', '.join(_MODALITIES)}")
        modality = "xray"
    own_prefix = table.get("prefix", prefix.get(modality, ""))
    if not isinstance(own_prefix, str):
        faults.append(f"label {label!r}: prefix must be a text")
    positive = _read_side(label, "positive", table, languages, faults)
    if exclusive and "negative" in table:
        faults.append(f"label {label!r}: an exclusive set takes no negative wordings")
    negative = () if exclusive else _read_side(label, "negative", table, languages, faults)
    return LabelPrompts(LabelTask(label, cast("ImageOrTrace", modality)), positive, negative, str(own_prefix))


def _read_side(
    label: str, side: str, table: Mapping[str, object], languages: Sequence[str], faults: list[str]
) -> tuple[str, ...]:
    if side not in table:
        faults.append(f"label {label!r}: no {side} wordings")
        return ()
    raw = table[side]
    if isinstance(raw, dict):
        faults += [f"label {label!r}: no {side} wordings in {name!r}" for name in languages if name not in raw]
        parts = [(f"{side}.{name}", raw[name]) for name in (languages or raw) if name in raw]
    else:
        parts = [(side, raw)]
    wordings: list[str] = []
    for name, texts in parts:
        if not isinstance(texts, list) or not all(isinstance(text, str) and text.strip() for text in texts):
            faults.append(f"label {label!r}: {name} must be a list of texts, none of them blank")
        elif not texts:
            faults.append(f"label {label!r}: {name} is empty")
        else:
            wordings += texts
    return tuple(dict.fromkeys(wordings))
