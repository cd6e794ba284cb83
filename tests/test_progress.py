"""Progress of jobs in processes of their own, and bars that are open together."""

import io
import multiprocessing
import os
import signal
import time
from pathlib import Path

import pytest
from rich.console import Console

from intermode.errors import InputError
from intermode.experiments.parallel import run_jobs
from intermode.progress import Bars, Named, Silent


class Told(Silent):
    """Writes down what it is told."""

    def __init__(self):
        self.said = []

    def notice(self, message):
        self.said.append(("notice", message))

    def task(self, label, total, done=0, unit=""):
        told = self

        class Task:
            def __enter__(self):
                told.said.append(("open", label, total, done, unit))
                return self

            def advance(self, amount):
                told.said.append(("advance", label, amount))

            def __exit__(self, *_):
                told.said.append(("close", label))

        return Task()


def work(job, progress):
    folder, name = job
    progress.notice(f"{name} begins")
    with progress.task(name, 3, 1, "steps") as task:
        task.advance(1)
        time.sleep(0.6)  # longer than what is told together
        task.advance(1)
        if name == "bad":
            raise InputError("bad: it is")
    (folder / name).touch()


def run(folder, names, progress):
    with progress.task("all", len(names)) as task:
        jobs = [(folder, name) for name in names]
        run_jobs(work, jobs, 2, progress, task, lambda: len(list(folder.iterdir())))


def test_a_job_tells_its_progress_to_the_parent(tmp_path):
    told = Told()
    run(tmp_path, ["a", "b"], told)
    for name in "ab":
        assert [event for event in told.said if event[1] in (name, f"{name} begins")] == [
            ("notice", f"{name} begins"),
            ("open", name, 3, 1, "steps"),
            ("advance", name, 2),
            ("close", name),
        ]
    assert sum(event[2] for event in told.said if event[:2] == ("advance", "all")) == 2


def test_a_job_that_fails_closes_its_task_and_raises(tmp_path):
    told = Told()
    with pytest.raises(InputError, match="bad: it is"):
        run(tmp_path, ["bad"], told)
    assert ("close", "bad") in told.said


def beat(job, progress):
    for _ in range(600):
        job.write_text(str(os.getpid()))
        time.sleep(0.1)


def run_one(file):
    with Silent().task("", 1) as task:
        run_jobs(beat, [file], 1, Silent(), task, int)


@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGKILL])
def test_workers_end_with_a_parent_that_is_killed(tmp_path, how):
    file = tmp_path / "worker"
    parent = multiprocessing.get_context("spawn").Process(target=run_one, args=(file,))
    parent.start()
    _until(file.exists)
    parent_pid, worker = parent.pid, int(_until(file.read_text))
    os.kill(parent_pid, how)
    parent.join()
    _until(lambda: not _runs(worker))


def _until(holds, seconds=60):
    end = time.monotonic() + seconds
    while not (found := holds()):
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.05)
    return found


def _runs(pid):
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except FileNotFoundError:
        return False


def test_names_stand_before_labels_and_notices():
    told = Told()
    named = Named("seed 0", told)
    named.notice("hm")
    with named.task("training", 5):
        pass
    assert told.said == [
        ("notice", "seed 0: hm"),
        ("open", "seed 0: training", 5, 0, ""),
        ("close", "seed 0: training"),
    ]


def test_bars_are_shown_together_and_vanish():
    bars = Bars()
    bars._console = Console(file=io.StringIO(), force_terminal=True, width=100)
    with bars.task("generations", 5) as outer, bars.task("training", 100, 50, "steps") as inner:
        inner.advance(10)
        outer.advance(1)
        live = bars._live
        assert [(task.description, task.completed) for task in live.tasks] == [("generations", 1), ("training", 60)]
    assert bars._live is None
    with bars.task("again", 2):
        assert [task.description for task in bars._live.tasks] == ["again"]


def test_the_speed_shown_is_the_bars_own():
    bars = Bars()
    bars._console = Console(file=io.StringIO(), force_terminal=True, width=100)
    with bars.task("slow", 5), bars.task("fast", 1000, 0, "steps") as fast:
        for _ in range(3):
            fast.advance(100)
            time.sleep(0.01)
        slow, quick = bars._live.tasks
        assert not slow.fields["speed"]
        assert quick.fields["speed"].endswith("steps/s")
