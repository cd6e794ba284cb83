"""Engines: who does the jobs. They differ in nothing that a result could show.

* :class:`Here`: this process, one job after the other; nothing to install or start.
* :class:`Processes`: processes of this machine. A worker that dies (of memory, say) fails its own job alone.
* :class:`OnRay`: the workers of a Ray cluster, on this machine or many; a job whose node dies is done again elsewhere.

All of them see one folder of jobs, so what travels is paths, and what a dead worker leaves there is gone on from.
Workers tell how far they are in their job's folder; the driver looks, and shows it.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import socket
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from pathlib import Path
from typing import Any, Protocol

from intermode.errors import InputError
from intermode.files import read_json
from intermode.jobs import Assignment, Done, Job, Store, carry_out, run_jobs
from intermode.progress import Progress, Task

__all__ = ["Engine", "Here", "OnRay", "Processes", "do", "engine"]

LOOK_S = 0.5
"""Seconds between two looks at how far the workers are."""
RETRIES = 3
"""How often Ray does a job again whose worker or node died."""
CONNECT_S = 5
"""Seconds to wait for a Ray cluster to answer."""
LOOPBACK = "127.0.0.2" if sys.platform == "linux" else "127.0.0.1"
"""Where a cluster of our own listens: Ray takes 127.0.0.1 for the machine's address that others reach."""


class Engine(Protocol):
    """Does assignments."""

    @property
    def slots(self) -> int:
        """How many at a time."""

    @property
    def busy(self) -> int:
        """How many have been begun and not been told of as finished."""

    def at_work(self, progress: Progress) -> AbstractContextManager[None]:
        """While it works; when left, whatever is unfinished is stopped."""

    def begin(self, assignment: Assignment) -> None:
        """Have this done."""

    def finish(self) -> tuple[str, str | None]:
        """Wait for one to end: the name of its folder, and why it failed if it did."""


def engine(workers: int = 1, on: str | None = None) -> Engine:
    """The engine that a user asks for.

    Args:
        workers: processes of this machine; 1 is this process itself.
        on: ``ray``, or the address of a Ray cluster: ``ray://host:10001``, or ``auto``, the one of this machine.

    Raises:
        InputError: fewer than one worker, both of them, or an unknown engine.
    """
    if workers < 1:
        raise InputError(f"workers: {workers} must be at least 1")
    if on is None:
        return Here() if workers == 1 else Processes(workers)
    if on != "ray" and on != "auto" and not on.startswith("ray://"):
        raise InputError(f"on: unknown {on!r}; choose ray, auto, or ray://HOST:PORT")
    return OnRay(None if on == "ray" else on, None if workers == 1 else workers)


def do(
    job: Job,
    folder: Path,
    *,
    workers: int = 1,
    on: str | None = None,
    device: str = "cpu",
    progress: Progress | None = None,
) -> Done:
    """Do one job and whatever it reads, in a folder of jobs, with as many threads as torch has here.

    Args:
        workers, on: see :func:`engine`.

    Raises:
        InputError: it failed; the cause, in one line.
    """
    import torch

    store = Store(folder)
    threads = torch.get_num_threads()
    failed = run_jobs([job], store, engine(workers, on), device=device, threads=threads, progress=progress)
    done = store.done(job)
    if failed or done is None:
        raise InputError(next(iter(failed.values()), f"{folder}: {job.name} was removed while it was made"))
    return done


class Here:
    """This process."""

    slots = 1

    def __init__(self) -> None:
        self._waiting: list[Assignment] = []
        self._progress: Progress

    @property
    def busy(self) -> int:
        return len(self._waiting)

    @contextmanager
    def at_work(self, progress: Progress) -> Iterator[None]:
        self._progress = progress
        try:
            yield
        finally:
            self._waiting.clear()

    def begin(self, assignment: Assignment) -> None:
        self._waiting.append(assignment)

    def finish(self) -> tuple[str, str | None]:
        assignment = self._waiting.pop(0)
        return Path(assignment.folder).name, carry_out(assignment, self._progress)


class _Elsewhere:
    """What engines have in common whose workers are other processes."""

    def __init__(self) -> None:
        self._pending: dict[Any, Assignment] = {}
        self._watched: dict[str, _Watched] = {}
        self._progress: Progress

    @property
    def busy(self) -> int:
        return len(self._pending)

    def begin(self, assignment: Assignment) -> None:
        self._pending[self._send(assignment)] = assignment
        self._watched[assignment.folder] = _Watched(Path(assignment.folder), assignment.name, self._progress)

    def finish(self) -> tuple[str, str | None]:
        while True:
            ended = self._ended()
            for watched in self._watched.values():
                watched.look()
            if ended is not None:
                assignment = self._pending.pop(ended)
                self._watched.pop(assignment.folder).close()
                return Path(assignment.folder).name, self._error(ended, assignment)

    def _close(self) -> None:
        self._pending.clear()
        for watched in self._watched.values():
            watched.close()
        self._watched.clear()

    def _send(self, assignment: Assignment) -> Any:
        raise NotImplementedError  # each engine sends in its own way

    def _ended(self) -> Any | None:
        """One that has ended, after at most some ``LOOK_S``."""
        raise NotImplementedError  # each engine waits in its own way

    def _error(self, ended: Any, assignment: Assignment) -> str | None:
        raise NotImplementedError  # each engine's workers die in their own way


class Processes(_Elsewhere):
    """``slots`` processes of this machine, each one's torch with the threads that the job says."""

    def __init__(self, slots: int) -> None:
        super().__init__()
        self.slots = slots
        self._pool: Any = None

    @contextmanager
    def at_work(self, progress: Progress) -> Iterator[None]:
        from pebble import ProcessPool

        self._progress = progress
        # spawn: a forked child would inherit torch's threads in whatever state they are
        context: Any = multiprocessing.get_context("spawn")
        self._pool = ProcessPool(self.slots, initializer=_begin_worker, context=context)
        try:
            yield
            self._pool.close()
        except BaseException:
            self._pool.stop()
            raise
        finally:
            self._pool.join()
            self._close()

    def _send(self, assignment: Assignment) -> Any:
        return self._pool.schedule(carry_out, args=(assignment,))

    def _ended(self) -> Any | None:
        from concurrent.futures import FIRST_COMPLETED, wait

        done, _ = wait(self._pending, LOOK_S, FIRST_COMPLETED)
        return next(iter(done), None)

    def _error(self, ended: Any, assignment: Assignment) -> str | None:
        from pebble import ProcessExpired

        try:
            return ended.result()
        except ProcessExpired as error:
            return (
                f"its worker ended with status {error.exitcode}, out of memory perhaps; run again with fewer --workers"
            )


def _begin_worker() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent stops its workers itself
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    """A parent that is killed cannot stop its workers; they would go on for hours, and beside those of the next run."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


class OnRay(_Elsewhere):
    """Ray tasks, one CPU for each of a job's threads and a GPU for one that computes on ``cuda``.

    Args:
        address: of a cluster; None starts one on this machine, reached from nowhere else.
        workers: jobs at a time; as many as the cluster has CPUs unless given.
    """

    def __init__(self, address: str | None, workers: int | None) -> None:
        super().__init__()
        self._address, self._workers = address, workers
        self._ray: Any = None

    @property
    def slots(self) -> int:
        if self._workers is not None:
            return self._workers
        if self._ray is None:
            return 1  # told again once the cluster has answered
        return max(int(self._ray.cluster_resources().get("CPU", 1)), 1)

    @contextmanager
    def at_work(self, progress: Progress) -> Iterator[None]:
        self._progress = progress
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # call nobody
        try:
            import ray
        except ImportError:
            raise InputError('on: Ray is not installed; pip install "intermode[ray]"') from None
        self._ray = ray
        ours = not ray.is_initialized()
        with ExitStack() as stack:
            if ours:
                self._connect(ray)
                stack.callback(ray.shutdown)
            # functions of a study's own file are sent along, not looked up in a module that nodes lack
            self._do = ray.remote(max_retries=RETRIES)(carry_out)
            try:
                yield
            finally:
                for ref in self._pending:
                    ray.cancel(ref, force=True)
                self._close()

    def _connect(self, ray: Any) -> None:
        settings: dict[str, Any] = {"log_to_driver": False, "logging_level": "ERROR"}
        if self._address is None:
            settings |= {"num_cpus": self._workers, "include_dashboard": False, "_node_ip_address": LOOPBACK}
        else:
            settings["address"] = self._address
        try:
            if self._address and self._address.startswith("ray://"):
                _knock(self._address)
            ray.init(**settings)
        except (OSError, ValueError, RuntimeError) as error:
            words = str(error).strip().splitlines() or [type(error).__name__]
            raise InputError(f"on: the Ray cluster {self._address or 'here'} does not answer ({words[0]})") from None

    def _send(self, assignment: Assignment) -> Any:
        module = sys.modules.get(assignment.work.__module__)
        if module is not None and not assignment.work.__module__.startswith("intermode."):
            self._ray.cloudpickle.register_pickle_by_value(module)
        gpus = 1 if assignment.device.startswith("cuda") else 0
        return self._do.options(num_cpus=assignment.threads, num_gpus=gpus).remote(assignment)

    def _ended(self) -> Any | None:
        done, _ = self._ray.wait(list(self._pending), num_returns=1, timeout=LOOK_S)
        return next(iter(done), None)

    def _error(self, ended: Any, assignment: Assignment) -> str | None:
        try:
            return self._ray.get(ended)
        except self._ray.exceptions.OutOfMemoryError:
            return "out of memory on its node; ask for fewer --workers"
        except self._ray.exceptions.RayError as error:
            return f"its worker was lost, and {RETRIES} others ({type(error).__name__})"


def _knock(address: str) -> None:
    """Raise OSError unless somebody listens at ``ray://host:port``: Ray itself tries for longer than a person waits."""
    host, _, port = address.removeprefix("ray://").partition(":")
    socket.create_connection((host, int(port or 10001)), CONNECT_S).close()


class _Watched:
    """Shows what a worker tells in its job's folder."""

    def __init__(self, folder: Path, name: str, progress: Progress) -> None:
        self._file, self._name, self._progress = folder / "progress.json", name, progress
        self._begun: float | None = None
        self._open: tuple[AbstractContextManager[Task], Task] | None = None
        self._done = self._told = 0
        self._since = time.time()

    def look(self) -> None:
        try:
            found = read_json(self._file)
        except InputError:  # not begun, or just finished
            return
        if found["at"] < self._since:
            return  # of an earlier run
        for message in found["notices"][self._told :]:
            self._progress.notice(f"{self._name}: {message}")
        self._told = len(found["notices"])
        task = found["task"]
        if task is None or task["begun"] != self._begun:
            self.close()
            if task is None:
                return
            manager = self._progress.task(f"{self._name}: {task['label']}", task["total"], task["first"], task["unit"])
            self._open, self._begun, self._done = (manager, manager.__enter__()), task["begun"], task["first"]
        if self._open is not None:
            self._open[1].advance(task["done"] - self._done)
            self._done = task["done"]

    def close(self) -> None:
        if self._open is not None:
            self._open[0].__exit__(None, None, None)
        self._open = self._begun = None
