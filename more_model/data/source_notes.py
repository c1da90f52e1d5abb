"""What became of the sources of stored studies: a file that has changed since, or is gone. The store keeps what it has.

``sources.jsonl`` in the store, one line a note, the last one of a study counts. A note stands before its study is
stored, so that no crash leaves a study without one. Sources are compared by size and time; where these differ, the
study is read again and compared with the checksum of what is stored, so that a copied or touched file is no change.
"""

from __future__ import annotations

import zlib
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from more_model.data.convert import Converted, Refused, source_state
from more_model.data.index_file import encode_line, read_index
from more_model.data.store_files import write_at
from more_model.data.stored_study import Key, StoredStudy, text_bytes
from more_model.data.study import Modality, Study

NAME = "sources.jsonl"
#: The reason for which the newer version of a stored study is set aside.
CHANGED = "changed-since-stored"
CHANGED_WORDS = "The source has changed since this study was stored; the store keeps the earlier version."
_MISSING = "FileNotFoundError"
#: These tell of the machine, not of the file, so whether it has changed stays open until the next ingest.
_UNDECIDED = frozenset({"file-not-found", "permission-denied", "out-of-memory", "reader-timeout"})


@dataclass(frozen=True, slots=True)
class Note:
    """``state``: of the source (`source_state`) when it was last compared; ``changed``: it held another study then;
    ``gone``: it was not among the sources at the last ingest, or its file was not there."""

    state: str
    changed: bool = False
    gone: bool = False


@dataclass(slots=True)
class SourceNotes:
    """The notes of one store; whoever writes holds its lock."""

    folder: Path
    good_bytes: int
    notes: dict[Key, Note]
    pending: dict[Key, Note] = field(default_factory=dict)

    @classmethod
    def read(cls, folder: Path) -> SourceNotes:
        """Those in ``folder``; none in a store of an earlier version. Raises `StoreError` where the file is damaged."""
        index = read_index(folder / NAME)
        notes = {
            (Modality(entry["modality"]), str(entry["study_id"])): Note(
                str(entry["state"]), bool(entry["changed"]), bool(entry["gone"])
            )
            for entry in index.entries
        }
        return cls(folder, index.good_bytes, notes)

    def note(self, key: Key, note: Note) -> None:
        """Takes a note, if it says something new; `save` makes it durable."""
        if self.notes.get(key) != note:
            self.notes[key] = self.pending[key] = note

    def save(self) -> None:
        """Raises `EnvironmentFault` where the disk is full."""
        if self.pending:
            lines = [encode_line(_entry(key, note)) for key, note in self.pending.items()]
            # A line that a crash cut ends where the good ones do, and is written over.
            write_at(self.folder / NAME, self.good_bytes, b"".join(lines))
            self.good_bytes += sum(map(len, lines))
            self.pending.clear()

    def changed(self, keys: Iterable[Key]) -> Counter[str]:
        """Per modality, how many of the stored studies ``keys`` have another source now."""
        return Counter(key[0].value for key in keys if key in self.notes and self.notes[key].changed)

    def gone(self, keys: Iterable[Key]) -> Counter[str]:
        """Per modality, how many of the stored studies ``keys`` have none any more."""
        return Counter(key[0].value for key in keys if key in self.notes and self.notes[key].gone)


def note_planned(notes: SourceNotes, studies: Iterable[Study]) -> None:
    """Before studies are converted: the state that their sources are in."""
    for study in studies:
        notes.note((study.modality, study.study_id), Note(source_state(study)))
    notes.save()


def suspects(
    notes: SourceNotes, studies: Sequence[Study], stored: Mapping[Key, StoredStudy]
) -> list[tuple[Study, str]]:
    """The stored studies to be read again, each with its source's state; notes which sources are gone, and which are
    there again. A stored study without a note (of an earlier version) gets one for what its source is now."""
    found: list[tuple[Study, str]] = []
    given = {(study.modality, study.study_id): study for study in studies}
    for key in stored:
        study, note = given.get(key), notes.notes.get(key)
        state = "" if study is None else source_state(study)
        if study is None or set(state.split(";")) == {_MISSING}:
            notes.note(key, replace(note or Note(state), gone=True))
        elif note is None or note.state in ("", state):
            notes.note(key, Note(state, changed=note is not None and note.changed))
        else:
            notes.note(key, replace(note, gone=False))
            found.append((study, state))
    return found


def judge(notes: SourceNotes, study: Study, state: str, record: StoredStudy, outcome: Converted | Refused) -> bool:
    """Notes what reading a suspect again has shown; whether it is a change that was not known in this form."""
    if isinstance(outcome, Refused) and outcome.reason in _UNDECIDED:
        return False
    changed = isinstance(outcome, Refused) or zlib.crc32(_payload(outcome)) != record.crc32
    notes.note((study.modality, study.study_id), Note(state, changed=changed))
    return changed


def _payload(outcome: Converted) -> bytes:
    return text_bytes(outcome.text or "") if outcome.array is None else outcome.array.tobytes()


def _entry(key: Key, note: Note) -> dict[str, Any]:
    return {"modality": key[0].value, "study_id": key[1], **asdict(note)}
