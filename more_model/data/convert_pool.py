"""Converting many studies on several processes: results in the order asked for, a crash confined to one study."""

from __future__ import annotations

import multiprocessing
import signal
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from itertools import islice

from more_model.data.convert import Converted, Refused, convert
from more_model.data.gate import StudyGate
from more_model.data.preprocessing import Preprocessing
from more_model.data.study import Study

_CHUNK = 16
_CHUNKS_AHEAD_PER_WORKER = 3

Outcome = Converted | Refused
_Waiting = tuple[list[Study], Future[list[Outcome]]]


def convert_all(
    studies: Sequence[Study], preprocessing: Preprocessing, *, workers: int, gate: StudyGate | None = None
) -> Iterator[Outcome]:
    """One outcome a study, in order, whatever the number of workers. ``gate`` is pickled to them.

    A study that kills its process (a fault inside a decoder) is refused as "reader-crashed" if there are several
    workers; with one, everything runs in this process and dies with it.
    """
    if workers <= 1 or len(studies) <= _CHUNK:
        for study in studies:
            yield convert(study, preprocessing, gate)
        return
    remaining = iter(studies)
    chunks = iter(lambda: list(islice(remaining, _CHUNK)), [])
    suspects: list[Study] = []
    running = True
    while running:
        running = False
        with _pool(workers) as pool:
            for chunk, outcomes in _in_order(pool, chunks, preprocessing, workers, gate):
                # A chunk that was finished out of turn is done again: outcomes must keep the order of the studies.
                if outcomes is None or suspects:
                    suspects += chunk
                else:
                    yield from outcomes
        if suspects:
            yield from _one_by_one(suspects, preprocessing, gate)
            suspects, running = [], True


@contextmanager
def _pool(workers: int) -> Iterator[ProcessPoolExecutor]:
    # A forked child inherits locks held by other threads (a progress display, torch) and can hang on them.
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(workers, mp_context=context, initializer=ignore_interrupts) as pool:
        try:
            yield pool
        except BaseException:
            # An interrupt must not wait for the chunks that no process has begun.
            pool.shutdown(wait=False, cancel_futures=True)
            raise


def ignore_interrupts() -> None:
    """Ctrl-C goes to the whole process group, but ending is the parent's decision: workers print no tracebacks."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)


def _in_order(
    pool: ProcessPoolExecutor,
    chunks: Iterator[list[Study]],
    preprocessing: Preprocessing,
    workers: int,
    gate: StudyGate | None,
) -> Iterator[tuple[list[Study], list[Outcome] | None]]:
    """Chunks with their outcomes; None for the chunks that were under way when the pool broke. Then it ends."""
    waiting: deque[_Waiting] = deque()
    broken = False
    while True:
        while not broken and len(waiting) < workers * _CHUNKS_AHEAD_PER_WORKER:
            chunk = next(chunks, None)
            if chunk is None:
                break
            try:
                waiting.append((chunk, pool.submit(convert_chunk, chunk, preprocessing, gate)))
            except BrokenProcessPool:
                broken = True
                waiting.append((chunk, _failed()))
        if not waiting:
            return
        chunk, future = waiting.popleft()
        try:
            outcomes: list[Outcome] | None = future.result()
        except BrokenProcessPool:
            outcomes, broken = None, True
        yield chunk, outcomes


def _failed() -> Future[list[Outcome]]:
    future: Future[list[Outcome]] = Future()
    future.set_exception(BrokenProcessPool())
    return future


def _one_by_one(studies: Sequence[Study], preprocessing: Preprocessing, gate: StudyGate | None) -> Iterator[Outcome]:
    """The studies that were under way at a crash, each alone, so that only the guilty one is refused."""
    place = 0
    while place < len(studies):
        with _pool(1) as pool:
            try:
                while place < len(studies):
                    yield pool.submit(convert, studies[place], preprocessing, gate).result()
                    place += 1
            except BrokenProcessPool:
                place += 1
                yield Refused("reader-crashed", "Reading the file crashed the reader's process.")


def convert_chunk(studies: Sequence[Study], preprocessing: Preprocessing, gate: StudyGate | None) -> list[Outcome]:
    """What one worker process does."""
    return [convert(study, preprocessing, gate) for study in studies]
