"""Jobs: pure functions of a config and of other jobs' results, each done once, in a folder named by what it computes.

A job's identity is the SHA-256 of its function's name, its config and the identities of its inputs; its folder's name
ends with the beginning of it. So a folder is never wrong: another config is another folder. In the folder lie

* ``job.json``: what is computed, in words;
* ``progress.json``: while somebody works on it, and how far he was when he stopped;
* whatever the function writes: checkpoints while it works, tensors, a model;
* ``failed.json``: why it failed, until it is tried again;
* ``result.json``: facts found, and what they were made with (commit, versions, device, seconds). It is written last and
  renamed into its place: a job that has it is finished; one that lacks it goes on from what its folder holds.

Facts are small and files are not, so that a run is kept and passed on as its facts (:func:`facts_of`). Where they are
put down again (:func:`put_facts`) a job counts as finished until one that is not reads it: then it is done anew.

This is all there is of resuming: the same jobs, asked for again, find what is finished. Who does them is an engine's
business (:mod:`intermode.engines`). Content-addressed folders are an old idea (Nix, git); joblib, redun and exca keep
results so too, but unpickle what they find, which a folder from somebody else must never make us do.
"""

from __future__ import annotations

import hashlib
import json
import re
import shutil
import threading
import time
import traceback
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, fields, is_dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

from filelock import FileLock, Timeout

from intermode.errors import InputError
from intermode.files import load_tensors, read_json, save_tensors, write_json
from intermode.progress import Progress, Silent, Task
from intermode.provenance import provenance

if TYPE_CHECKING:
    from torch import Tensor

    from intermode.engines import Engine

__all__ = ["Assignment", "Done", "Job", "Missing", "Running", "Store"]
__all__ += ["carry_out", "described", "digest", "facts_of", "put_facts", "read_done", "run_jobs"]

HEARTBEAT_S = 1.0
"""Seconds between two looks of a worker at how far it is; one silent for ten of them has stopped."""


def described(value: Any) -> Any:
    """A config as JSON that tells it from every other: dataclasses by name with their fields (those that take no part
    in comparison, ``field(compare=False)``, change no result and are left out), tensors and arrays by digest.

    Raises:
        InputError: a value that cannot be told from others, such as a function.
    """
    if is_dataclass(value) and not isinstance(value, type):
        parts = {f.name: described(getattr(value, f.name)) for f in fields(value) if f.compare}
        return {type(value).__name__: parts}
    if isinstance(value, Mapping):
        return {str(name): described(inner) for name, inner in value.items()}
    if isinstance(value, list | tuple):
        return [described(inner) for inner in value]
    if isinstance(value, Path):
        return str(value)
    if hasattr(value, "detach") or hasattr(value, "__array__"):
        return digest(value)
    if value is None or isinstance(value, bool | int | float | str):
        return value
    raise InputError(f"config: {type(value).__name__} cannot be told from others; use numbers, words and dataclasses")


def digest(values: Any) -> str:
    """The beginning of the SHA-256 of a tensor or array, its type and shape included."""
    import numpy as np

    array = np.ascontiguousarray(values.detach().cpu() if hasattr(values, "detach") else values)
    head = f"{array.dtype} {array.shape}".encode()
    return hashlib.sha256(head + array.tobytes()).hexdigest()[:16]


Facts: TypeAlias = Mapping[str, Any]


@dataclass(frozen=True, eq=False)
class Job:
    """One computation.

    Args:
        name: for people; letters, digits and ``._-``. No part of the identity.
        work: a function of a module; ``work(running)`` returns facts as JSON, or None.
        config: numbers, words and dataclasses of them, on which the result depends.
        inputs: jobs whose results it reads, by name.
        given: objects for the function that the config tells apart, such as a tensor beside its digest.
        temporary: its folder goes when all jobs that read it are finished.

    Raises:
        InputError: a name of other characters.
    """

    name: str
    work: Callable[[Running], Facts | None]
    config: Any = None
    inputs: Mapping[str, Job] = field(default_factory=dict)
    given: Mapping[str, Any] = field(default_factory=dict)
    temporary: bool = False
    identity: str = field(init=False)

    def __post_init__(self) -> None:
        if not re.fullmatch(r"[\w.-]+", self.name):
            raise InputError(f"job: {self.name!r} must be a name of letters, digits and . _ -")
        what = {**self.what, "inputs": {name: job.identity for name, job in self.inputs.items()}}
        text = json.dumps(what, sort_keys=True, allow_nan=False)
        object.__setattr__(self, "identity", hashlib.sha256(text.encode()).hexdigest()[:16])

    @property
    def what(self) -> dict[str, Any]:
        """What is computed, as it is written into the folder."""
        inputs = {name: job.folder for name, job in self.inputs.items()}
        return {"work": self.work.__name__, "config": described(self.config), "inputs": inputs}

    @property
    def folder(self) -> str:
        """Name of its folder."""
        return f"{self.name}-{self.identity[:12]}"


class Missing(Exception):
    """A result that is not there: its job failed or was not begun; or files, where only facts were kept."""


@dataclass(frozen=True)
class Done:
    """A finished job.

    Attributes:
        place: the path of its folder.
        facts: what its function returned.
        made: commit, versions, device and seconds.
        whole: its files are there, too.
    """

    place: Path
    facts: dict[str, Any]
    made: dict[str, Any]
    whole: bool = True

    @property
    def folder(self) -> Path:
        """Where its files are.

        Raises:
            Missing: only its facts were kept.
        """
        if not self.whole:
            raise Missing(f"{self.place.name} (only its facts were kept)")
        return self.place

    def tensors(self, name: str = "tensors") -> dict[str, Tensor]:
        """Those of a file that the job wrote with :meth:`Running.save`."""
        return load_tensors(self.folder / f"{name}.safetensors")[0]


@dataclass(frozen=True)
class Running:
    """What a job's function is given.

    Attributes:
        folder: where it may write; what an interrupted run left is still there.
        config, given: the job's.
        inputs: its finished inputs.
        progress: to be told how far it is.
        device, threads: where to compute.
    """

    folder: Path
    config: Any
    inputs: Mapping[str, Done]
    given: Mapping[str, Any]
    progress: Progress
    device: str = "cpu"
    threads: int = 1

    def save(self, tensors: Mapping[str, Tensor], name: str = "tensors") -> None:
        """Write tensors, for :meth:`Done.tensors`."""
        save_tensors(self.folder / f"{name}.safetensors", tensors)


@dataclass(frozen=True)
class Assignment:
    """A job whose inputs are finished, as it travels to whoever does it: paths of a folder that all workers see."""

    folder: str
    name: str
    what: Mapping[str, Any]
    work: Callable[[Running], Facts | None]
    config: Any
    inputs: Mapping[str, str]
    given: Mapping[str, Any]
    temporary: frozenset[str] = frozenset()
    device: str = "cpu"
    threads: int = 1


class Store:
    """The folder that holds the folders of jobs.

    Args:
        path: made when the first job is done.
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    def folder(self, job: Job) -> Path:
        """Where a job's files are."""
        return self.path / job.folder

    def done(self, job: Job) -> Done | None:
        """The job's result; None while it is not finished. A damaged record is as none."""
        return read_done(self.folder(job))

    @contextmanager
    def alone(self) -> Iterator[None]:
        """One driver at a time: two would do everything twice.

        Raises:
            InputError: another process works here.
        """
        self.path.mkdir(parents=True, exist_ok=True)
        lock = FileLock(self.path / ".lock")
        try:
            lock.acquire(blocking=False)
        except Timeout:
            raise InputError(f"{self.path}: another process works on these jobs; wait for it, or stop it") from None
        try:
            yield
        finally:
            lock.release()


def read_done(folder: Path) -> Done | None:
    """The result in a job's folder, if it is finished."""
    try:
        record = read_json(folder / "result.json")
    except InputError:
        return None
    return Done(folder, record["facts"], record["made"], record.get("whole", True))


def facts_of(store: Path) -> dict[str, Any]:
    """Of the finished jobs of a folder, by the names of their folders: what they compute, found, and were made with."""
    found = {}
    for folder in sorted(path.parent for path in store.glob("*/result.json")):
        if (done := read_done(folder)) is not None:
            found[folder.name] = {"job": read_json(folder / "job.json"), "facts": done.facts, "made": done.made}
    return found


def put_facts(facts: Mapping[str, Any], store: Path) -> int:
    """Put down facts that were kept; jobs that are finished there already are left as they are.

    Returns:
        of how many jobs.

    Raises:
        InputError: a name that is none of a job's folder.
    """
    if bad := [name for name in facts if not re.fullmatch(r"[\w.-]+-[0-9a-f]{12}", name)]:
        raise InputError(f"facts: {bad[0]!r} is no name of a job's folder")
    new = [name for name in facts if read_done(store / name) is None]
    for name in new:
        kept = facts[name]
        write_json(store / name / "job.json", kept["job"])
        write_json(store / name / "result.json", {"facts": kept["facts"], "made": kept["made"], "whole": False})
    return len(new)


def carry_out(assignment: Assignment, progress: Progress | None = None) -> str | None:
    """Do a job in this process. What it raises is written into its folder.

    Returns:
        why it failed, in one line; None if it is finished.
    """
    import torch

    folder = Path(assignment.folder)
    folder.mkdir(parents=True, exist_ok=True)
    write_json(folder / "job.json", {"name": assignment.name, **assignment.what})
    (folder / "failed.json").unlink(missing_ok=True)
    torch.set_num_threads(assignment.threads)
    inputs = {}
    for name, place in assignment.inputs.items():
        if (found := read_done(Path(place))) is None:
            return _fail(folder, InputError(f"{place}: the input {name} is not finished"))
        inputs[name] = found
    with _Told(folder, progress or Silent()) as told:
        running = Running(
            folder, assignment.config, inputs, assignment.given, told, assignment.device, assignment.threads
        )
        try:
            facts = dict(assignment.work(running) or {})
        except Exception as error:
            return _fail(folder, error)
        # of what will be removed the time is kept here
        seconds = told.seconds + sum(inputs[name].made["seconds"] for name in assignment.temporary)
    made = {**provenance(assignment.device, assignment.threads), "seconds": round(seconds, 2)}
    try:
        write_json(folder / "result.json", {"facts": facts, "made": made})
    except (ValueError, TypeError) as error:
        return _fail(folder, error)
    (folder / "progress.json").unlink(missing_ok=True)
    return None


def _fail(folder: Path, error: BaseException) -> str:
    words = str(error).strip().splitlines() or [""]
    kind = type(error).__name__
    # torch says it in words on a CPU, by a class of its own on a GPU
    if isinstance(error, MemoryError) or "out of memory" in str(error).lower():
        line = "out of memory; use fewer workers, or a smaller batch, chunk or network"
    else:
        line = words[0] if isinstance(error, InputError | FloatingPointError) else f"{kind}: {words[0]}"
    write_json(folder / "failed.json", {"error": line, "trace": traceback.format_exc().splitlines()})
    return line


class _Told:
    """A job's progress, written into its folder every second and shown to whoever started it."""

    def __init__(self, folder: Path, shown: Progress) -> None:
        self._file, self._shown = folder / "progress.json", shown
        self._tasks: list[_Counted] = []
        self._notices: list[str] = []
        self._begin, self._earlier = time.monotonic(), 0.0
        self._over = threading.Event()
        if self._file.exists():
            try:
                self._earlier = float(read_json(self._file)["seconds"])
            except (InputError, KeyError, TypeError):  # a damaged note of the time spent is no reason to stop
                self._earlier = 0.0

    @property
    def seconds(self) -> float:
        """Spent on the job, by all who worked on it."""
        return self._earlier + time.monotonic() - self._begin

    def __enter__(self) -> _Told:
        self._write()
        self._beat = threading.Thread(target=self._keep_telling, daemon=True)
        self._beat.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._beat.join()
        self._write()

    def notice(self, message: str) -> None:
        self._notices.append(message)
        self._shown.notice(message)

    @contextmanager
    def task(self, label: str, total: int, done: int = 0, unit: str = "") -> Iterator[Task]:
        with self._shown.task(label, total, done, unit) as shown:
            counted = _Counted(label, total, done, unit, shown)
            self._tasks.append(counted)
            try:
                yield counted
            finally:
                self._tasks.remove(counted)

    def _keep_telling(self) -> None:
        while not self._over.wait(HEARTBEAT_S):
            self._write()

    def _write(self) -> None:
        now = self._tasks[-1] if self._tasks else None
        task = {k: getattr(now, k) for k in ("label", "total", "done", "unit", "begun", "first")} if now else None
        record = {"seconds": round(self.seconds, 2), "at": time.time(), "task": task, "notices": self._notices}
        if self._file.parent.is_dir():  # somebody may have removed the run
            write_json(self._file, record)


class _Counted:
    def __init__(self, label: str, total: int, done: int, unit: str, shown: Task) -> None:
        self.label, self.total, self.done, self.unit = label, total, done, unit
        self.first, self.begun = done, time.time()
        self._shown = shown

    def advance(self, amount: int) -> None:
        self.done += amount
        self._shown.advance(amount)


def _needed(wanted: Iterable[Job], store: Store) -> dict[str, Job]:
    """The jobs that have to be done, inputs before those that read them; nothing behind a finished job is. Those of
    which only facts were kept, and whose files are to be read, count as unfinished from here on."""
    needed: dict[str, Job] = {}

    def visit(job: Job, read: bool) -> None:
        done = store.done(job)
        if job.folder in needed or (done is not None and (done.whole or not read)):
            return
        for source in job.inputs.values():
            visit(source, True)
        needed[job.folder] = job
        (store.folder(job) / "result.json").unlink(missing_ok=True)

    for job in wanted:
        visit(job, False)
    return needed


def run_jobs(
    wanted: Sequence[Job],
    store: Store,
    engine: Engine,
    *,
    device: str = "cpu",
    threads: int = 1,
    progress: Progress | None = None,
) -> dict[str, str]:
    """Do these jobs and whatever they read; what is finished already is left as it is.

    A job that fails stops only those that read it.

    Args:
        wanted: the jobs whose results are asked for.
        store: where their folders are.
        engine: does them.
        device, threads: of each job.
        progress: shown to the user.

    Returns:
        why each job that failed did, in one line, by the name of its folder: a cause before what it stopped.

    Raises:
        InputError: two different jobs of one name, or another process that works on the store.
    """
    progress = progress or Silent()
    _refuse_repeated(wanted)
    with store.alone():
        needed = _needed(wanted, store)
        failed: dict[str, str] = {}
        plan = [job.folder for job in needed.values()]
        if not needed:
            return failed
        waiting = dict(needed)
        unread = _readers(needed)
        read_by = {name: sorted(readers) for name, readers in unread.items()}
        write_json(store.path / "plan.json", {"jobs": plan, "workers": engine.slots, "temporary": read_by})
        with progress.task("jobs", len(plan), 0, "jobs") as task, engine.at_work(progress):
            while waiting or engine.busy:
                for name, job in list(waiting.items()):
                    if engine.busy >= engine.slots:
                        break
                    inputs = [source for source in job.inputs.values() if source.folder in needed]
                    if bad := next((s for s in inputs if s.folder in failed), None):
                        failed[name] = f"needs {bad.name}, which failed"
                        del waiting[name]
                    elif all(store.done(source) is not None for source in inputs):
                        del waiting[name]
                        engine.begin(_assign(job, store, device, threads))
                if not engine.busy:
                    continue  # all that waited has failed, or the next round begins it
                name, error = engine.finish()
                task.advance(1)
                if error is not None:
                    failed[name] = error
                    if len(wanted) > 1:  # the others go on meanwhile; who asked for one is told when all is over
                        progress.notice(f"{needed[name].name} failed: {error}")
                else:
                    _clear(needed[name], store, unread, failed)
        return failed


def _refuse_repeated(wanted: Iterable[Job]) -> None:
    named: dict[str, Job] = {}
    for job in wanted:
        if named.setdefault(job.name, job).identity != job.identity:
            raise InputError(f"jobs: two different ones are named {job.name}; give each a name of its own")


def _assign(job: Job, store: Store, device: str, threads: int) -> Assignment:
    inputs = {name: str(store.folder(source).resolve()) for name, source in job.inputs.items()}
    place = str(store.folder(job).resolve())
    temporary = frozenset(name for name, source in job.inputs.items() if source.temporary)
    return Assignment(place, job.name, job.what, job.work, job.config, inputs, job.given, temporary, device, threads)


def _readers(needed: Mapping[str, Job]) -> dict[str, set[str]]:
    """The jobs that are still to read each temporary one."""
    readers: dict[str, set[str]] = {}
    for name, job in needed.items():
        for source in job.inputs.values():
            if source.temporary:
                readers.setdefault(source.folder, set()).add(name)
    return readers


def _clear(job: Job, store: Store, unread: dict[str, set[str]], failed: Mapping[str, str]) -> None:
    """Remove temporary inputs that nobody is still to read."""
    for source in job.inputs.values():
        if source.folder in unread:
            unread[source.folder].discard(job.folder)
            if not unread[source.folder]:
                shutil.rmtree(store.folder(source), ignore_errors=True)
