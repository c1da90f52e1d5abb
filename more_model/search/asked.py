"""What a command line asks with: words, one file, or an item of the index."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from more_model.checkpoint import TrainedModel
from more_model.data.study import Modality
from more_model.errors import ConfigError
from more_model.search.index_file import Index
from more_model.search.query import Query, item_query
from more_model.search.question import file_query, report_query, text_query
from more_model.search.shelf import Shelf

_WAYS = "TEXT, --xray, --ecg, --report and --item"


@dataclass(frozen=True, slots=True)
class Asked:
    """Exactly one of the five ways is given; ``about`` says what words are about. Raises ConfigError otherwise."""

    text: str | None = None
    xray: Path | None = None
    ecg: Path | None = None
    report: Path | None = None
    item: str | None = None
    about: Modality | None = None

    def __post_init__(self) -> None:
        given = sum(way is not None for way in (self.text, self.xray, self.ecg, self.report, self.item))
        faults = []
        if given != 1:
            faults.append(f"one of {_WAYS} is needed, {given} are given")
        if self.about is not None and self.text is None and self.report is None:
            faults.append("--about goes with TEXT and --report only")
        if faults:
            raise ConfigError("search", faults)

    def query(self, index: Index, trained: TrainedModel | None, *, threads: int) -> Query:
        """The query over all shelves; ``trained`` is not needed for an item.

        Raises:
            ConfigError: there is no such item, the words are none, or ``trained`` is needed and not given.
            ExchangeError: ``trained`` is not the model that the index was made with.
            InputRefused: the file cannot be used.
        """
        if self.item is not None:
            return item_query(index, *_named(self.item))
        if trained is None:
            raise ConfigError("search", ["--checkpoint is missing"], remedy="give the model the index was made with")
        index.require_model(trained.digest)
        if self.text is not None:
            return text_query(trained, self.text, about=self.about, threads=threads)
        if self.report is not None:
            return report_query(trained, self.report, about=self.about, threads=threads)
        if self.xray is not None:
            return file_query(trained, self.xray, Modality.XRAY, threads=threads)
        assert self.ecg is not None
        return file_query(trained, self.ecg, Modality.ECG, threads=threads)

    @property
    def question(self) -> str:
        """What is asked, in words and without identifiers: a file's name may be one."""
        about = "" if self.about is None else f" (about an {'X-ray' if self.about is Modality.XRAY else 'ECG'})"
        if self.text is not None:
            return f"{' '.join(self.text.split())}{about}"
        if self.item is not None:
            return f"Like item {self.item}"
        if self.report is not None:
            return f"Like the report given{about}"
        return f"Like the {'X-ray' if self.xray is not None else 'ECG'} given"


def _named(name: str) -> tuple[Shelf, int]:
    """Shelf and number of an item's name."""
    shelf, _, number = name.partition(":")
    if shelf not in set(Shelf) or not (number.isascii() and number.isdigit()):
        raise ConfigError(
            "--item",
            [f"{name!r} is no name of an item"],
            remedy=f"write a shelf ({', '.join(Shelf)}), a colon and a number: xray:17",
        )
    return Shelf(shelf), int(number)
