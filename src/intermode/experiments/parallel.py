"""Independent jobs of an experiment, several at a time, each in a process of its own.

A job's progress is told to the parent through a queue, which shows it beside that of the others.
"""

from __future__ import annotations

import itertools
import multiprocessing
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from queue import Empty
from typing import Any, TypeVar

from intermode.progress import Progress, Task

__all__ = ["run_jobs"]

Job = TypeVar("Job")

EVERY_S = 0.5
"""Steps of a task are told together, at most so often: thousands may come in a second."""


class _Told:
    """A worker's progress, told to the parent."""

    def __init__(self, queue: Any) -> None:
        self._queue, self._numbers = queue, itertools.count()

    def notice(self, message: str) -> None:
        self._queue.put(("notice", message))

    @contextmanager
    def task(self, label: str, total: int, done: int = 0, unit: str = "") -> Iterator[Task]:
        key = os.getpid(), next(self._numbers)
        self._queue.put(("open", key, label, total, done, unit))
        try:
            yield _ToldTask(self._queue, key)
        finally:
            self._queue.put(("close", key))


class _ToldTask:
    def __init__(self, queue: Any, key: tuple[int, int]) -> None:
        self._queue, self._key = queue, key
        self._untold, self._last = 0, time.monotonic()

    def advance(self, amount: int) -> None:
        self._untold += amount
        if (now := time.monotonic()) - self._last >= EVERY_S:
            self._queue.put(("advance", self._key, self._untold))
            self._untold, self._last = 0, now


def _show(queue: Any, progress: Progress, over: threading.Event) -> None:
    """Show what workers tell, until it is over and all was shown."""
    tasks: dict[tuple[int, int], tuple[AbstractContextManager[Task], Task]] = {}
    while True:
        try:
            message = queue.get(timeout=0.2)
        except Empty:
            if over.is_set():
                break
            continue
        match message:
            case "notice", text:
                progress.notice(text)
            case "open", key, *described:
                manager = progress.task(*described)
                tasks[key] = manager, manager.__enter__()
            case "advance", key, amount:
                tasks[key][1].advance(amount)
            case "close", key:
                tasks.pop(key)[0].__exit__(None, None, None)
    for manager, _ in tasks.values():  # of workers that were stopped
        manager.__exit__(None, None, None)


_progress: Progress
"""Of this worker."""


def _begin(queue: Any) -> None:
    global _progress
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent stops its workers itself
    threading.Thread(target=_end_with_parent, daemon=True).start()
    _progress = _Told(queue)


def _end_with_parent() -> None:
    """A parent that is killed cannot stop its workers; they would go on for hours, and beside those of the next run."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


def _do(work: Callable[[Job, Progress], object], job: Job) -> None:
    work(job, _progress)


def run_jobs(
    work: Callable[[Job, Progress], object],
    jobs: Sequence[Job],
    workers: int,
    progress: Progress,
    task: Task,
    finished: Callable[[], int],
) -> None:
    """Run ``work(job, progress)`` for all jobs; what they make, they leave in files.

    Args:
        work: a function of a module.
        jobs: started in this order.
        workers: processes.
        progress: shows the progress of the jobs.
        task: of all jobs; advanced by what ``finished()`` has grown, looked at every second.
        finished: how many units are done.
    """
    if not jobs:
        return
    done = finished()
    # spawn: a forked child would inherit torch's threads in whatever state they are
    context = multiprocessing.get_context("spawn")
    queue: Any = context.Queue()
    over = threading.Event()
    shown = threading.Thread(target=_show, args=(queue, progress, over), daemon=True)
    shown.start()
    try:
        with context.Pool(min(workers, len(jobs)), _begin, (queue,)) as pool:
            result = pool.starmap_async(_do, [(work, job) for job in jobs], chunksize=1)
            while not result.ready():
                result.wait(1.0)
                now = finished()
                task.advance(now - done)
                done = now
            result.get()  # raises what a job raised
            pool.close()
            pool.join()  # workers end by themselves, and with them what they have to tell
    finally:
        over.set()
        shown.join(5.0)  # a worker that was stopped while it told something would keep the thread waiting
