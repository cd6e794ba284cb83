"""Chunks of samples: cut, made once, joined; by one process or by many that share a folder.

A chunk is a fixed number of consecutive sample indices. It is the unit of computation (matrix products may
differ in the last bit between batch shapes, so a last short chunk is computed whole and cut), of resuming and
of distribution. With the same chunk size and thread count the results are bit-equal on a CPU whatever the
number and order of the chunks; across chunk sizes each sample sees equal noise and results agree to rounding.

Processes share a folder without knowing of each other. Each holds an advisory lock on the chunk that it makes, and
the system lets go of the lock when the process ends, however it ends: what a killed process leaves undone is made
by those that still run, or by the next run. Nobody waits for a message, so nobody waits for the dead. Locks only
save double work: where a file system has none that reach across machines, two processes may make the same chunk,
bit for bit, and the later file takes the place of the earlier.
"""

from __future__ import annotations

import json
import os
import shutil
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any, Literal, TypeAlias, TypeVar

import torch
from filelock import FileLock, Timeout
from torch import Tensor

from intermode.blocks import LOW_DIMENSIONAL_CHUNK, Plan
from intermode.errors import InputError
from intermode.files import load_tensors, read_json, save_tensors, write_json
from intermode.progress import Progress, Task
from intermode.ranks import Ranks

__all__ = ["LOW_DIMENSIONAL_CHUNK", "Chunks", "Joined", "Make", "Part", "Plan", "SharedChunks", "join"]

WAIT = 0.2
"""Seconds between two looks at what other processes do."""

Part: TypeAlias = dict[str, Tensor]
"""What is known of a chunk: tensors with a row for each sample, and numbers to be summed over the chunks."""
Joined: TypeAlias = tuple[dict[str, Tensor], dict[str, str]]
"""What is known of all samples, and facts beside it."""
Make: TypeAlias = Callable[[int, Task], Part]
"""Makes the chunk of an index and advances the task by its samples."""
T = TypeVar("T", bound=Joined | None)


def join(parts: Iterable[Part], n: int) -> Part:
    """The first ``n`` rows of the parts, one after the other, and the sums of their numbers."""
    joined: Part = {}
    begin = 0
    for part in parts:
        rows = 0
        for name, value in part.items():
            if value.ndim == 0:
                joined[name] = joined.get(name, torch.zeros_like(value)) + value
                continue
            if name not in joined:
                joined[name] = value.new_empty((n, *value.shape[1:]))
            value = value[: n - begin]
            rows = len(value)
            joined[name][begin : begin + rows] = value
        begin += rows
    assert begin == n, f"{begin} rows of {n}"
    return joined


class Chunks:
    """The chunks of a plan, each made once and kept in this process's memory.

    Args:
        plan: which there are.
        make: makes one.
        label: of the work, for the user.
        progress: shown to the user.
    """

    def __init__(self, plan: Plan, make: Make, label: str, progress: Progress) -> None:
        self._plan, self._make, self._label, self._progress = plan, make, label, progress
        self._parts: dict[int, Part] = {}

    def finished(self) -> Joined | None:
        """What an earlier run has joined."""
        return None

    def fill(self, count: int) -> None:
        """See to it that the first ``count`` chunks are there."""
        missing = [index for index in range(count) if index not in self._parts]
        with self._task(count, missing) as task:
            for index in missing:
                self._parts[index] = self._make(index, task)

    def part(self, index: int) -> Part:
        """A chunk that is there."""
        return self._parts[index]

    def finish(self, attempt: Callable[[], T]) -> Joined | T:
        """What ``attempt`` joins from the chunks; None where it cannot yet."""
        return attempt()

    @contextmanager
    def _task(self, count: int, missing: Iterable[int]) -> Iterator[Task]:
        total = self._rows(range(count))
        with self._progress.task(self._label, total, total - self._rows(missing), self._plan.unit) as task:
            yield task

    def _rows(self, chunks: Iterable[int]) -> int:
        return sum(self._plan.rows(index) for index in chunks)


class SharedChunks(Chunks):
    """Chunks as files of a folder, made by every process that is given the folder, and in the end one file of all.

    Args:
        plan, make, label, progress: of :class:`Chunks`.
        folder: holds ``WHAT.safetensors`` in the end, beside a record of the settings.
        what: is made.
        settings: recorded; a folder of other settings is refused.
        ranks: this process among others.

    Raises:
        InputError: a folder that was begun with other settings.
    """

    def __init__(
        self,
        plan: Plan,
        make: Make,
        label: str,
        progress: Progress,
        *,
        folder: Path,
        what: Literal["samples", "scores"],
        settings: Mapping[str, Any],
        ranks: Ranks,
    ) -> None:
        super().__init__(plan, make, label, progress)
        self._folder, self._what, self._ranks = folder, what, ranks
        self._joined = folder / f"{what}.safetensors"
        self._chunks = folder / {"samples": "chunks", "scores": "score_chunks"}[what]
        self._lock = folder / f".{what}.lock"
        # the plan last: settings must not hide it. Which of a machine's GPUs it is differs from rank to rank
        identity = {**settings, **asdict(plan), "device": torch.device(plan.device).type}
        self._claim_folder(folder / {"samples": "sampling.json", "scores": "scoring.json"}[what], identity)

    def _claim_folder(self, record: Path, identity: Mapping[str, Any]) -> None:
        wanted = json.loads(json.dumps(identity))  # as it will be read back
        if not record.exists():
            with self._folder_alone():
                if not record.exists():
                    write_json(record, wanted)
        found = read_json(record)
        if found != wanted:
            differing = sorted(k for k in {*found, *wanted} if found.get(k) != wanted.get(k))
            raise InputError(
                f"{self._folder}: holds another run's {self._what} "
                + ", ".join(f"({k}: {found.get(k)} there, {wanted.get(k)} asked for)" for k in differing)
            )

    @contextmanager
    def _alone(self, lock: Path, *, wait: bool) -> Iterator[bool]:
        """Whether no other process is within, asked once or waited for."""
        lock.parent.mkdir(parents=True, exist_ok=True)
        held = FileLock(lock)
        try:
            held.acquire(blocking=wait, poll_interval=WAIT)
        except (Timeout, FileNotFoundError):  # another holds it, or has finished all and taken the folder away
            yield False
            return
        try:
            yield True
        finally:
            held.release()

    @contextmanager
    def _folder_alone(self) -> Iterator[None]:
        """For what concerns the whole folder. Whoever comes next looks first at what is there, so the file of the lock
        may go while others wait for it."""
        with self._alone(self._lock, wait=True):
            try:
                yield
            finally:
                self._lock.unlink(missing_ok=True)

    def _path(self, index: int) -> Path:
        return self._chunks / f"{index:06d}.safetensors"

    def _missing(self, count: int) -> list[int]:
        try:
            there = set(os.listdir(self._chunks))  # a look at the folder itself: names may be cached on a network
        except FileNotFoundError:
            there = set()
        return [index for index in range(count) if self._path(index).name not in there]

    def _read(self, path: Path) -> Joined | None:
        """A file's content; None where there is none, or where it is damaged: then it is made again."""
        if not path.exists():
            return None
        try:
            return load_tensors(path)
        except InputError as error:
            self._progress.notice(f"{error}; making it again")
            path.unlink(missing_ok=True)
            return None

    def finished(self) -> Joined | None:
        if (found := self._read(self._joined)) is not None:
            self._clear()
        return found

    def fill(self, count: int) -> None:
        """Make what is missing and no other process is making, until nothing is missing."""
        missing = self._missing(count)
        with self._task(count, missing) as task:
            while missing and not self._joined.exists():
                made = next((index for index in self._ranks.order(missing) if self._make_alone(index, task)), None)
                if made is None:
                    time.sleep(WAIT)
                still = self._missing(count)
                task.advance(self._rows({*missing} - {*still} - {made}))
                missing = still

    def _make_alone(self, index: int, task: Task) -> bool:
        with self._alone(self._chunks / f".{index:06d}.lock", wait=False) as alone:
            # since the folder was looked at, the chunk's maker may have finished it, or somebody everything
            if not alone or self._path(index).exists() or self._joined.exists():
                return False
            save_tensors(self._path(index), self._make(index, task))
            return True

    def part(self, index: int) -> Part:
        if (found := self._read(self._path(index))) is not None:
            return found[0]
        with self._progress.task(self._label, self._plan.rows(index), 0, self._plan.unit) as task:
            made = self._make(index, task)
        save_tensors(self._path(index), made)
        return made

    def finish(self, attempt: Callable[[], T]) -> Joined | T:
        """What one process joins while the others wait; None where it cannot yet."""
        with self._folder_alone():
            if (found := self._read(self._joined)) is None:
                joined = attempt()
                if joined is None:
                    return joined
                save_tensors(self._joined, *joined)
                found = joined
            self._clear()
        return found

    def _clear(self) -> None:
        """Nothing but the joined file is needed any more: not chunks, locks, nor what killed processes left."""
        shutil.rmtree(self._chunks, ignore_errors=True)
