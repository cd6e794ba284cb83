"""Jobs: identities, resuming, failures, engines."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path

import jobs_to_do as work
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from intermode.engines import Engine, Here, OnRay, Processes, engine
from intermode.errors import InputError
from intermode.files import read_json, write_json
from intermode.jobs import Job, Missing, Store, described, facts_of, put_facts, run_jobs

ENGINES = [Here, lambda: Processes(2)]
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=6,
)


@dataclass(frozen=True)
class Setting:
    steps: int = 3
    checkpoint_every: int = field(default=10, compare=False)


@dataclass(frozen=True)
class Other:
    steps: int = 3


def number(value: float, name: str = "number", **more: bool) -> Job:
    return Job(name, work.number, {"value": value}, **more)


def visits(store: Store, job: Job) -> int:
    return len((store.folder(job) / "visits").read_text())


@given(JSON, JSON)
def test_an_identity_is_that_of_the_config(one: object, other: object) -> None:
    same = json.dumps(described(one), sort_keys=True) == json.dumps(described(other), sort_keys=True)
    assert (Job("a", work.number, one).identity == Job("b", work.number, other).identity) == same


def test_what_changes_no_result_changes_no_identity() -> None:
    ours = Job("a", work.number, Setting())
    assert ours.identity == Job("a", work.number, Setting(checkpoint_every=1)).identity
    assert ours.identity != Job("a", work.number, Setting(steps=4)).identity
    assert ours.identity != Job("a", work.number, Other()).identity  # another kind with the same fields
    assert ours.identity != Job("a", work.slow, Setting()).identity
    assert ours.identity != Job("a", work.number, Setting(), {"x": number(1)}).identity


def test_tensors_are_told_apart_by_content_shape_and_type() -> None:
    x = torch.arange(6.0)
    wanted = {described(y) for y in (x, x + 1, x.reshape(2, 3), x.int())}
    assert len(wanted) == 4
    assert described(x) == described(x.clone())


def test_a_function_is_no_config() -> None:
    with pytest.raises(InputError, match="function cannot be told from others"):
        Job("a", work.number, {"value": test_a_function_is_no_config})
    with pytest.raises(InputError, match="'a/b' must be a name"):
        number(1, "a/b")


@pytest.mark.parametrize("make", ENGINES)
def test_inputs_come_first_and_each_job_is_done_once(make: type[Engine], tmp_path: Path) -> None:
    store = Store(tmp_path)
    parts = [number(k, f"part-{k}") for k in range(3)]
    whole = Job("whole", work.total, None, {job.name: job for job in parts})
    twice = Job("twice", work.total, {"times": 2}, {"whole": whole, "again": whole})
    assert run_jobs([twice, whole], store, make(), threads=1) == {}
    done = store.done(twice)
    assert done is not None
    assert done.facts == {"value": 6}
    assert done.tensors()["x"].tolist() == [6.0, 6.0, 6.0]
    assert done.made["seconds"] >= 0
    assert "torch" in done.made["versions"]
    assert not (store.folder(twice) / "progress.json").exists()
    assert run_jobs([twice], store, make()) == {}
    assert [visits(store, job) for job in parts] == [1, 1, 1]
    first = store.done(parts[0])
    assert first is not None
    assert first.facts["threads"] == 1


@pytest.mark.parametrize("make", ENGINES)
def test_a_failure_stops_only_those_that_read_it(make: type[Engine], tmp_path: Path) -> None:
    store = Store(tmp_path)
    bad, lost, good = Job("bad", work.refuse), Job("lost", work.stumble), number(1)
    after = Job("after", work.total, None, {"bad": bad, "good": good})
    found = run_jobs([bad, lost, after, good], store, make())
    assert found == {
        bad.folder: "value: is no number",
        lost.folder: "KeyError: 'lost'",
        after.folder: "needs bad, which failed",
    }
    assert store.done(good) is not None
    assert any("jobs_to_do.py" in line for line in read_json(store.folder(lost) / "failed.json")["trace"])


def test_a_worker_that_dies_fails_its_own_job_alone(tmp_path: Path) -> None:
    store = Store(tmp_path)
    dead = Job("dead", work.die)
    others = [number(k, f"part-{k}") for k in range(4)]
    found = run_jobs([dead, *others], store, Processes(2))
    assert list(found) == [dead.folder]
    assert "status -9, out of memory perhaps; run again with fewer --workers" in found[dead.folder]
    assert all(store.done(job) is not None for job in others)


def test_a_failed_job_is_tried_again(tmp_path: Path) -> None:
    store = Store(tmp_path)
    job = Job("once", work.die_once, {"value": 2})
    assert list(run_jobs([job], store, Processes(1))) == [job.folder]
    assert run_jobs([job], store, Processes(1)) == {}
    assert not (store.folder(job) / "failed.json").exists()


def test_a_temporary_input_goes_when_all_have_read_it(tmp_path: Path) -> None:
    store = Store(tmp_path)
    part = number(1, "part", temporary=True)
    readers = [Job(f"reader-{k}", work.total, {"k": k}, {"part": part}) for k in range(2)]
    run_jobs(readers[:1], store, Here())
    assert not store.folder(part).exists()
    run_jobs(readers, store, Here())  # the second reads it too: it is made again
    assert not store.folder(part).exists()
    assert all(store.done(job) is not None for job in readers)
    bad = Job("bad", work.refuse, None, {"part": part})
    run_jobs([bad], store, Here())
    assert store.done(part) is not None  # whoever failed will read it again


def test_a_damaged_result_is_made_again(tmp_path: Path) -> None:
    store, job = Store(tmp_path), number(1)
    run_jobs([job], store, Here())
    record = store.folder(job) / "result.json"
    record.write_text(record.read_text()[:20])
    run_jobs([job], store, Here())
    assert store.done(job) is not None
    assert visits(store, job) == 2


def test_two_jobs_of_one_name_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="two different ones are named number"):
        run_jobs([number(1), number(2)], Store(tmp_path), Here())
    assert run_jobs([number(1), number(1)], Store(tmp_path), Here()) == {}


def test_one_driver_at_a_time(tmp_path: Path) -> None:
    store = Store(tmp_path)
    with store.alone(), pytest.raises(InputError, match="another process works on these jobs"):
        run_jobs([number(1)], Store(tmp_path), Here())


def test_a_killed_driver_takes_its_workers_along_and_is_gone_on_from(tmp_path: Path) -> None:
    """The kill is certain to hit: half of the counting is on disk, and none of it is finished."""
    script = (
        "import sys; sys.path.insert(0, sys.argv[2])\n"
        "import jobs_to_do as work\nfrom pathlib import Path\n"
        "from intermode.jobs import Job, Store, run_jobs\nfrom intermode.engines import Processes\n"
        "if __name__ == '__main__':\n"
        "    run_jobs([Job('slow', work.slow, {'value': 40})], Store(Path(sys.argv[1])), Processes(2))\n"
    )
    place = tmp_path / "script.py"
    place.write_text(script)
    job, store = Job("slow", work.slow, {"value": 40}), Store(tmp_path / "jobs")
    reached = store.folder(job) / "reached"
    driver = subprocess.Popen([sys.executable, place, store.path, Path(__file__).parent])
    while not (reached.exists() and int(reached.read_text() or 0) >= 10):
        assert driver.poll() is None
        time.sleep(0.02)
    driver.send_signal(signal.SIGKILL)
    driver.wait()
    time.sleep(0.5)
    before = int(reached.read_text())
    assert 10 <= before < 40
    assert store.done(job) is None
    time.sleep(0.5)
    assert int(reached.read_text()) == before  # no worker counts on
    begin = time.monotonic()
    assert run_jobs([job], store, Here()) == {}
    assert time.monotonic() - begin < 0.1 * (40 - before) + 2
    done = store.done(job)
    assert done is not None
    assert done.facts == {"value": 40}
    assert done.made["seconds"] > 0.1 * 40 - 1.5  # what the killed one spent is counted, up to a heartbeat


def test_engines_asked_for() -> None:
    assert isinstance(engine(), Here)
    assert engine(3).slots == 3
    assert isinstance(engine(on="ray"), OnRay)
    with pytest.raises(InputError, match="workers: 0 must be at least 1"):
        engine(0)
    with pytest.raises(InputError, match="on: unknown 'slurm'; choose ray, auto, or ray://HOST:PORT"):
        engine(on="slurm")


def test_progress_of_a_worker_is_shown(tmp_path: Path) -> None:
    from progress_told import Told

    told = Told()
    run_jobs([Job("slow", work.slow, {"value": 20})], Store(tmp_path), Processes(1), progress=told)
    assert ("slow: counting", 20, "numbers") in told.opened
    assert 5 <= told.advanced["slow: counting"] <= 20
    assert told.advanced["jobs"] == 1


@pytest.fixture
def no_ray() -> None:
    pytest.importorskip("ray", reason="the extra intermode[ray] is not installed")
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")


@pytest.mark.usefixtures("no_ray")
def test_ray_does_the_same(tmp_path: Path) -> None:
    parts = [number(k, f"part-{k}") for k in range(3)]
    whole = Job("whole", work.total, None, {job.name: job for job in parts})
    bad = Job("bad", work.refuse)
    here, there = Store(tmp_path / "here"), Store(tmp_path / "there")
    run_jobs([whole, bad], here, Here())
    assert run_jobs([whole, bad], there, engine(2, on="ray")) == {bad.folder: "value: is no number"}
    ours, theirs = here.done(whole), there.done(whole)
    assert ours is not None
    assert theirs is not None
    assert ours.facts == theirs.facts
    assert (ours.folder / "tensors.safetensors").read_bytes() == (theirs.folder / "tensors.safetensors").read_bytes()


@pytest.mark.usefixtures("no_ray")
def test_a_cluster_that_does_not_answer(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"on: the Ray cluster ray://127\.0\.0\.1:9 does not answer"):
        run_jobs([number(1)], Store(tmp_path), OnRay("ray://127.0.0.1:9", None))


def test_a_plan_is_written_before_the_work(tmp_path: Path) -> None:
    store, job = Store(tmp_path), number(1)
    run_jobs([job], store, Here())
    assert read_json(store.path / "plan.json") == {"jobs": [job.folder], "workers": 1, "temporary": {}}
    write_json(store.path / "plan.json", {})
    run_jobs([job], store, Here())
    assert read_json(store.path / "plan.json") == {}  # nothing was to be done


class LastFirst(Here):
    """Of two jobs that it has been given it does the one begun last."""

    slots = 2

    def finish(self) -> tuple[str, str | None]:
        self._waiting.reverse()
        return super().finish()


def test_of_kept_facts_only_what_is_missing_is_done_and_a_job_whose_files_are_read_is_done_anew(tmp_path) -> None:
    sources = [number(value, f"number-{value}") for value in (1.0, 2.0, 3.0)]
    known = Job("known", work.total, {"of": "two"}, {"a": sources[0], "b": sources[1]})
    run_jobs([*sources[:2], known], Store(tmp_path / "first"), Here())
    facts = json.loads(json.dumps(facts_of(tmp_path / "first")))

    store = Store(tmp_path / "second")
    assert put_facts(facts, store.path) == 3
    assert run_jobs([*sources[:2], known], store, Here()) == {}
    assert not list(store.path.glob("*/visits"))  # nothing was left to do
    done = store.done(known)
    assert done.facts == facts[known.folder]["facts"]
    assert done.made == facts[known.folder]["made"]
    with pytest.raises(Missing, match=r"known.*only its facts were kept"):
        done.tensors()

    more = Job("more", work.total, {"of": "two others"}, {"b": sources[1], "c": sources[2]})
    assert run_jobs([*sources, known, more], store, Here()) == {}
    assert not (store.folder(sources[0]) / "visits").exists()
    assert visits(store, sources[1]) == visits(store, sources[2]) == 1
    assert store.done(more).facts["value"] == 5.0
    assert store.done(sources[1]).whole
    assert not store.done(known).whole
    assert put_facts(facts, store.path) == 0  # what is there stays

    third = Store(tmp_path / "third")
    put_facts(facts, third.path)
    alone = Job("alone", work.total, {"of": "one"}, {"b": sources[1]})
    assert run_jobs([alone], third, LastFirst()) == {}  # it is not begun before the files are there
    assert third.done(alone).facts["value"] == 2.0
    with pytest.raises(InputError, match=r"facts: '\.\./known' is no name"):
        put_facts({"../known": facts[known.folder]}, store.path)
    assert not (tmp_path / "known").exists()
