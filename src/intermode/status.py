"""How far a run is: its jobs done, running, failed and waiting, and the time left; read from its folder alone.

Workers tell every second how far they are (:mod:`intermode.jobs`); one that has been silent for ten of them has
stopped, and the next run goes on where it was.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from intermode.errors import InputError
from intermode.files import read_json
from intermode.jobs import HEARTBEAT_S, read_done

__all__ = ["JobStatus", "left", "status"]

State = Literal["done", "running", "stopped", "failed", "waiting"]
SILENT = 10 * HEARTBEAT_S


@dataclass(frozen=True)
class JobStatus:
    """One job of a run.

    Attributes:
        name: of its folder.
        work: its function; empty before it was begun.
        state: done, running, stopped (begun, and nobody works on it), failed or waiting.
        seconds: spent on it so far.
        left: seconds that it still needs at the speed so far, if it is running and says how far it is.
        words: how far it is, or why it failed.
    """

    name: str
    work: str
    state: State
    seconds: float = 0.0
    left: float | None = None
    words: str = ""


def status(run: Path) -> list[JobStatus]:
    """The jobs of the last run in a folder, in the order in which they are begun; those of earlier ones that are
    finished come first.

    Args:
        run: a run folder, or a folder of jobs.

    Raises:
        InputError: a folder without jobs.
    """
    store = run / "jobs" if (run / "jobs").is_dir() else run
    if not (store / "plan.json").exists():
        raise InputError(f"{run}: holds no jobs; give the folder of a run, or the one that it was told by --jobs")
    plan = read_json(store / "plan.json")
    temporary = plan.get("temporary", {})

    def gone(name: str) -> bool:
        """Whether it was finished and has been read by all."""
        readers = [store / reader for reader in temporary.get(name, [])]
        return bool(readers) and all(read_done(reader) is not None for reader in readers)

    planned = [name for name in plan["jobs"] if not gone(name)]
    others = sorted(path.parent.name for path in store.glob("*/result.json") if path.parent.name not in planned)
    return [_look(store / name) for name in [*others, *planned]]


def _look(folder: Path) -> JobStatus:
    try:
        work = str(read_json(folder / "job.json")["work"])
    except InputError:
        return JobStatus(folder.name, "", "waiting")
    if (done := read_done(folder)) is not None:
        return JobStatus(folder.name, work, "done", done.made["seconds"])
    if (folder / "failed.json").exists():
        return JobStatus(folder.name, work, "failed", words=str(read_json(folder / "failed.json")["error"]))
    try:
        told = read_json(folder / "progress.json")
    except InputError:
        return JobStatus(folder.name, work, "stopped")
    running = time.time() - told["at"] < SILENT
    task, words, remaining = told["task"], "", None
    if task is not None:
        words = f"{task['label']}: {task['done']:,} of {task['total']:,} {task['unit']}"
        made = task["done"] - task["first"]
        if running and made > 0:
            remaining = (told["at"] - task["begun"]) / made * (task["total"] - task["done"])
    return JobStatus(folder.name, work, "running" if running else "stopped", told["seconds"], remaining, words)


def left(jobs: Sequence[JobStatus], workers: int) -> float | None:
    """Seconds until all is done, roughly: a job that waits takes as long as the finished ones of its kind on average.

    None while nothing of a kind that waits is finished: then nobody knows.
    """
    spent: dict[str, list[float]] = {}
    for job in jobs:
        if job.state == "done":
            spent.setdefault(_kind(job.name), []).append(job.seconds)
    total = 0.0
    for job in jobs:
        if job.state in ("done", "failed"):
            continue
        if job.left is not None:
            total += job.left
            continue
        known = spent.get(_kind(job.name))
        if not known:
            return None
        total += max(sum(known) / len(known) - job.seconds, 0.0)
    return total / max(workers, 1)


def _kind(name: str) -> str:
    """Jobs of one kind differ in numbers: ``seed-0_model-2-ab12`` and ``seed-1_model-0-cd34``."""
    return "".join(letter for letter in name.rpartition("-")[0] if not letter.isdigit())
