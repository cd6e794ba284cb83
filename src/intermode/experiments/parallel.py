"""Independent jobs of an experiment, several at a time, each in a process of its own."""

from __future__ import annotations

import multiprocessing
import signal
from collections.abc import Callable, Sequence
from typing import TypeVar

from intermode.progress import Task

__all__ = ["run_jobs"]

Job = TypeVar("Job")


def _ignore_interrupts() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent stops its workers itself


def run_jobs(
    work: Callable[[Job], object], jobs: Sequence[Job], workers: int, task: Task, finished: Callable[[], int]
) -> None:
    """Run ``work(job)`` for all jobs; what they make, they leave in files.

    Args:
        work: a function of a module.
        jobs: started in this order.
        workers: processes.
        task: advanced by what ``finished()`` has grown, looked at every second.
        finished: how many units are done.
    """
    if not jobs:
        return
    done = finished()
    # spawn: a forked child would inherit torch's threads in whatever state they are
    with multiprocessing.get_context("spawn").Pool(min(workers, len(jobs)), _ignore_interrupts) as pool:
        result = pool.map_async(work, jobs, chunksize=1)
        while not result.ready():
            result.wait(1.0)
            now = finished()
            task.advance(now - done)
            done = now
        result.get()  # raises what a job raised
