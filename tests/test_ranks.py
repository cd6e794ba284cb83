"""Processes that share a folder: each chunk made once, the same results bit for bit, nobody waits for the dead."""

import json
import os
import shlex
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from intermode import cli
from intermode.arguments import parse
from intermode.denoisers import Denoiser, NetworkDenoiser
from intermode.detect.hal import Hal, HalRenoise
from intermode.errors import InputError
from intermode.files import load_tensors
from intermode.models import save_model
from intermode.noise import NoiseStream
from intermode.ranks import Ranks, launched, local_device
from intermode.samplers import Ancestral
from intermode.sampling import Plan, generate, score

SAMPLER = Ancestral("large", steps=12)
PLAN = Plan(250, (1,), seed=4, chunk=32)  # eight chunks
LAUNCH = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]


@pytest.fixture
def denoiser(schedule, network):
    return NetworkDenoiser(network(), schedule)


@pytest.fixture(autouse=True)
def alone(monkeypatch):
    """The tests themselves may have been launched."""
    for name in ("RANK", "WORLD_SIZE", "LOCAL_RANK"):
        monkeypatch.delenv(name, raising=False)


class Logged(Denoiser):
    """Writes down the beginning of each chunk by the mean of its x_T."""

    def __init__(self, inner, begun, pause=0.0):
        self.inner, self.schedule, self.begun, self.pause = inner, inner.schedule, begun, pause

    def __call__(self, x_t, t, **condition):
        if t == len(self.schedule) - 1:
            self.begun.append(float(x_t.sum()))
            time.sleep(self.pause)
        return self.inner(x_t, t, **condition)


def chunk_name(index):
    """How :class:`Logged` calls a chunk."""
    return float(NoiseStream(PLAN.seed, index * PLAN.chunk, PLAN.chunk, PLAN.shape)().sum())


def assert_equal(a, b):
    assert torch.equal(a.x, b.x)
    assert np.array_equal(a.diverged, b.diverged)
    assert a.scores.keys() == b.scores.keys()
    assert all(np.array_equal(a.scores[name], b.scores[name]) for name in a.scores)


# the share of a rank


@given(st.integers(1, 9), st.sets(st.integers(0, 60)))
def test_every_rank_tries_every_chunk_and_its_own_share_first(count, missing):
    orders = [Ranks(rank, count).order(sorted(missing)) for rank in range(count)]
    shares = []
    for rank, order in enumerate(orders):
        assert sorted(order) == sorted(missing)
        own = [index for index in order if index % count == rank]
        assert order[: len(own)] == sorted(own)
        assert order[len(own) :] == sorted(order[len(own) :], reverse=True)
        shares += own
    assert sorted(shares) == sorted(missing)  # no chunk is in two shares


@pytest.mark.parametrize(("rank", "count"), [(-1, 2), (2, 2), (0, 0)])
def test_impossible_ranks_are_refused(rank, count):
    with pytest.raises(InputError, match=f"ranks: {rank} of {count}"):
        Ranks(rank, count)


def test_the_launcher_says_which_process_it_is(monkeypatch):
    assert launched() == Ranks(0, 1)
    monkeypatch.setenv("RANK", "3")
    assert launched() == Ranks(0, 1)  # not from one of two alone, which may be anything
    monkeypatch.setenv("WORLD_SIZE", "8")
    assert launched() == Ranks(3, 8)
    monkeypatch.delenv("RANK")
    assert launched() == Ranks(0, 1)


@pytest.mark.parametrize(("gpus", "expected"), [(8, "cuda:3"), (2, "cuda:1"), (1, "cuda:0")])
def test_each_process_of_a_machine_takes_its_own_gpu(monkeypatch, gpus, expected):
    monkeypatch.setattr(torch.cuda, "device_count", lambda: gpus)
    assert local_device("cuda") == "cuda"
    monkeypatch.setenv("LOCAL_RANK", "3")
    assert local_device("cuda") == expected
    assert local_device("cuda:1") == "cuda:1"
    assert local_device("cpu") == "cpu"


# sharing


def at_once(*works):
    """The results of functions that run at the same time."""
    results = [None] * len(works)

    def run(i, work):
        results[i] = work()

    threads = [threading.Thread(target=run, args=each, daemon=True) for each in enumerate(works)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert not any(thread.is_alive() for thread in threads)
    return results


@pytest.mark.parametrize("numbered", [True, False])
def test_many_share_a_folder_and_make_each_chunk_once(denoiser, tmp_path, numbered):
    """Also where none knows its rank: the same command, started several times."""
    begun = []
    ranks = [Ranks(rank, 4) if numbered else Ranks() for rank in range(4)]

    def work(own):
        return lambda: generate(
            Logged(denoiser, begun, pause=0.01), SAMPLER, PLAN, [Hal(0, 15)], folder=tmp_path, ranks=own
        )

    alone = generate(denoiser, SAMPLER, PLAN, [Hal(0, 15)])
    for made in at_once(*map(work, ranks)):
        assert_equal(made, alone)
    assert sorted(begun) == sorted(map(chunk_name, PLAN.chunks))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["samples.safetensors", "sampling.json"]


def test_a_rank_that_starts_late_finds_it_done(denoiser, tmp_path):
    first = generate(denoiser, SAMPLER, PLAN, [Hal(0, 15)], folder=tmp_path, ranks=Ranks(0, 2))
    begun = []
    late = generate(Logged(denoiser, begun), SAMPLER, PLAN, [Hal(0, 15)], folder=tmp_path, ranks=Ranks(1, 2))
    assert_equal(late, first)
    assert begun == []


def test_ranks_may_sit_on_different_devices_of_a_kind(denoiser, tmp_path):
    made = generate(denoiser, SAMPLER, Plan(40, (1,), chunk=20, device="cpu:0"), folder=tmp_path)
    assert json.loads((tmp_path / "sampling.json").read_text())["device"] == "cpu"
    assert_equal(generate(denoiser, SAMPLER, Plan(40, (1,), chunk=20, device="cpu"), folder=tmp_path), made)


def test_the_progress_counts_what_others_make(denoiser, tmp_path):
    class Counter:
        total = done = 0

        def task(self, label, total, done=0, unit=""):
            self.total, self.done = total, done
            return self

        def __enter__(self):
            return self

        def __exit__(self, *error):
            pass

        def notice(self, message):
            pass

        def advance(self, amount):
            self.done += amount

    counter = Counter()

    class Helped(Logged):
        """In its first chunk another process makes all others."""

        def __call__(self, x_t, t, **condition):
            if not self.begun:
                helper = Logged(self.inner, [])
                plan = Plan(PLAN.n, PLAN.shape, PLAN.seed, PLAN.chunk)
                thread = threading.Thread(
                    target=lambda: generate(helper, SAMPLER, plan, folder=tmp_path, ranks=Ranks(1, 2)), daemon=True
                )
                thread.start()
                while len(helper.begun) < 7 or len(list(tmp_path.glob("chunks/[0-9]*"))) < 7:
                    time.sleep(0.01)
            return super().__call__(x_t, t, **condition)

    begun = []
    generate(Helped(denoiser, begun), SAMPLER, PLAN, folder=tmp_path, ranks=Ranks(0, 2), progress=counter)
    assert begun == [chunk_name(0)]
    assert (counter.total, counter.done) == (250, 250)


def test_a_damaged_chunk_is_made_again(denoiser, tmp_path):
    alone = generate(denoiser, SAMPLER, PLAN, [Hal(0, 15)])

    class Damaging(Logged):
        def __call__(self, x_t, t, **condition):
            if len(self.begun) == 4:
                (tmp_path / "chunks" / "000001.safetensors").write_bytes(b"half a file")
            return super().__call__(x_t, t, **condition)

    begun = []
    made = generate(Damaging(denoiser, begun), SAMPLER, PLAN, [Hal(0, 15)], folder=tmp_path)
    assert_equal(made, alone)
    assert begun.count(chunk_name(1)) == 2
    assert len(begun) == 9


def test_fewer_chunks_than_processes_are_told(denoiser, tmp_path):
    from intermode.progress import Silent

    class Told(Silent):
        said = ()

        def notice(self, message):
            self.said = (*self.said, message)

    told = Told()
    generate(denoiser, SAMPLER, Plan(40, (1,), chunk=20), folder=tmp_path, ranks=Ranks(0, 3), progress=told)
    assert told.said == ("chunk: 40 samples by 20 leave some of the 3 processes idle",)


# processes that die

CHILD = """
import json, os, signal, sys, time
from pathlib import Path
import torch
from intermode.denoisers import NetworkDenoiser
from intermode.detect.hal import Hal
from intermode.files import save_tensors
from intermode.sampling import Plan, generate
from intermode.networks import build
from intermode.ranks import launched
from intermode.samplers import Ancestral
from intermode.schedules import linear

torch.set_num_threads(1)
folder, deed = Path(sys.argv[1]), sys.argv[2]
rank = launched().rank
if deed != "hang":
    torch.distributed.init_process_group("gloo")
    torch.distributed.barrier()

begun = []

class Watched(NetworkDenoiser):
    def __call__(self, x_t, t, **condition):
        if t == 39:
            begun.append(float(x_t.sum()))
        if deed == "die" and len(begun) == 2 and t < 20:
            if rank == 1:
                os.kill(os.getpid(), signal.SIGKILL)
            time.sleep(300)  # so that rank 0 cannot finish alone before the launcher ends it
        if deed == "hang":
            print("drawing", flush=True)
            sys.stdin.read()
        return super().__call__(x_t, t, **condition)

network = build({"kind": "mlp", "dimensions": 1, "width": 16, "blocks": 2}, 3)
denoiser = Watched(network, linear(40, 0.001, 0.4))
plan = Plan(250, (1,), seed=4, chunk=32)
made = generate(denoiser, Ancestral("large", steps=12), plan, [Hal(0, 15)], folder=folder)
save_tensors(folder.parent / f"rank{rank}.safetensors", {
    "samples": made.x, "hal": torch.from_numpy(made.scores["hal"]), "begun": torch.tensor(begun).double()})
"""


def test_two_gloo_processes_go_on_where_one_was_killed(denoiser, tmp_path):
    script, folder = tmp_path / "child.py", tmp_path / "drawn"
    script.write_text(CHILD)
    env = {**os.environ, "OMP_NUM_THREADS": "1"}

    def launch(deed):
        return subprocess.run([*LAUNCH, script, folder, deed], capture_output=True, text=True, env=env, check=False)

    killed = launch("die")
    assert killed.returncode != 0
    assert "SIGKILL" in killed.stderr, killed.stderr
    there = {path.name for path in folder.glob("chunks/[0-9]*")}
    assert "000001.safetensors" in there  # rank 1's first
    assert there <= {"000000.safetensors", "000001.safetensors"}
    assert not (folder / "samples.safetensors").exists()

    again = launch("finish")
    assert again.returncode == 0, again.stderr
    alone = generate(denoiser, SAMPLER, PLAN, [Hal(0, 15)])
    begun = []
    for rank in (0, 1):
        made, _ = load_tensors(tmp_path / f"rank{rank}.safetensors")
        assert torch.equal(made["samples"], alone.x)
        assert np.array_equal(made["hal"].numpy(), alone.scores["hal"])
        begun += made["begun"].tolist()
    # what was done stays done, and what was not is done once
    missing = [index for index in PLAN.chunks if f"{index:06d}.safetensors" not in there]
    assert sorted(begun) == sorted(map(chunk_name, missing))


def test_the_living_take_over_from_the_dead(denoiser, tmp_path):
    """Without a rerun. And only from the dead: while the other process lives, its chunk is left to it."""
    folder = tmp_path / "drawn"
    env = {**os.environ, "OMP_NUM_THREADS": "1", "RANK": "0", "WORLD_SIZE": "2"}
    child = subprocess.Popen(
        [sys.executable, "-c", CHILD, str(folder), "hang"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=env
    )
    try:
        assert child.stdout.readline() == b"drawing\n"
        begun, made = [], []
        thread = threading.Thread(
            target=lambda: made.append(
                generate(Logged(denoiser, begun), SAMPLER, PLAN, [Hal(0, 15)], folder=folder, ranks=Ranks(1, 2))
            ),
            daemon=True,
        )
        thread.start()
        deadline = time.monotonic() + 60
        while len(list(folder.glob("chunks/[0-9]*"))) < 7 and time.monotonic() < deadline:
            time.sleep(0.02)
        thread.join(1)  # several looks at the chunk that is missing
        assert thread.is_alive()
        assert len(begun) == 7
        assert chunk_name(0) not in begun
    finally:
        child.send_signal(signal.SIGKILL)
        child.communicate()
    thread.join(60)
    assert begun[7:] == [chunk_name(0)]
    assert_equal(made[0], generate(denoiser, SAMPLER, PLAN, [Hal(0, 15)]))


# scores

DETECTOR = HalRenoise(0, 20, 5)
SETTINGS = {"window": [0, 20], "count": 5}


def test_scores_are_shared_by_folder(denoiser, tmp_path):
    x = NoiseStream(1, 0, 250, (1,))()
    begun = []

    class Counted(HalRenoise):
        def __call__(self, denoiser, x, noise, **condition):
            begun.append(len(x))
            time.sleep(0.01)
            return super().__call__(denoiser, x, noise, **condition)

    def work(rank):
        return lambda: score(
            Counted(0, 20, 5),
            denoiser,
            x,
            seed=2,
            chunk=32,
            folder=tmp_path,
            settings=SETTINGS,
            ranks=Ranks(rank, 3),
        )

    alone = score(DETECTOR, denoiser, x, seed=2, chunk=32)
    for made in at_once(*map(work, range(3))):
        assert np.array_equal(made, alone)
    assert begun == [32] * 8
    assert sorted(path.name for path in tmp_path.iterdir()) == ["scores.safetensors", "scoring.json"]


def test_scoring_goes_on_where_it_was(denoiser, tmp_path):
    x = NoiseStream(1, 0, 100, (1,))()

    class Dying(HalRenoise):
        calls = 0

        def __call__(self, *args, **condition):
            self.calls += 1
            if self.calls == 3:
                raise KeyboardInterrupt
            return super().__call__(*args, **condition)

    dying = Dying(0, 20, 5)
    with pytest.raises(KeyboardInterrupt):
        score(dying, denoiser, x, chunk=32, folder=tmp_path, settings=SETTINGS)
    dying.calls = 10
    again = score(dying, denoiser, x, chunk=32, folder=tmp_path, settings=SETTINGS)
    assert dying.calls == 12  # four chunks, two of which were there
    assert np.array_equal(again, score(DETECTOR, denoiser, x, chunk=32))


def test_a_folder_of_other_scores_is_refused(denoiser, tmp_path):
    x = NoiseStream(1, 0, 10, (1,))()
    score(DETECTOR, denoiser, x, folder=tmp_path, settings=SETTINGS)
    with pytest.raises(InputError, match=r"holds another run's scores \(data:"):
        score(DETECTOR, denoiser, x + 1, folder=tmp_path, settings=SETTINGS)
    with pytest.raises(InputError, match="window"):
        score(DETECTOR, denoiser, x, folder=tmp_path, settings={**SETTINGS, "window": [0, 10]})
    with pytest.raises(InputError, match="settings: a folder needs some"):
        score(DETECTOR, denoiser, x, folder=tmp_path)


def test_samples_and_their_scores_may_lie_in_one_folder(denoiser, tmp_path):
    made = generate(denoiser, SAMPLER, PLAN, folder=tmp_path)
    first = score(DETECTOR, denoiser, made.x, folder=tmp_path, settings=SETTINGS)
    assert np.array_equal(score(DETECTOR, denoiser, made.x, folder=tmp_path, settings=SETTINGS), first)
    assert_equal(generate(denoiser, SAMPLER, PLAN, folder=tmp_path), made)


# the command line


@pytest.fixture
def model(tmp_path, schedule, network, monkeypatch):
    monkeypatch.chdir(tmp_path)
    save_model(Path("model"), NetworkDenoiser(network(), schedule), {"target": "test"})
    return "model"


def sample(*more):
    return cli.main(["sample", "model", "--n", "100", "--chunk", "16", "--threads", "1", *more])


def test_sample_takes_its_rank_from_the_environment(model, capsys, monkeypatch):
    assert sample("--out", "alone") == 0
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setenv("RANK", "1")
    assert sample("--out", "shared") == 0
    assert Path("alone/sampling.json").read_bytes() == Path("shared/sampling.json").read_bytes()
    a, b = (load_tensors(Path(name) / "samples.safetensors")[0] for name in ("alone", "shared"))
    assert a.keys() == b.keys()
    assert all(torch.equal(a[name], b[name]) for name in a)
    monkeypatch.setenv("RANK", "2")
    assert sample("--out", "wrong") == 2
    assert "error: ranks: 2 of 2; need 0 <= rank < count\n" in capsys.readouterr().err
    assert not Path("wrong").exists()


def test_of_launched_processes_only_the_first_speaks(model, capsys, monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setenv("RANK", "1")
    assert sample("--out", "drawn") == 0
    said = capsys.readouterr()
    assert said.out == said.err == ""
    assert Path("drawn/samples.safetensors").exists()
    monkeypatch.setenv("RANK", "0")
    assert sample("--out", "drawn") == 0
    assert capsys.readouterr().out.startswith("samples: drawn/samples.safetensors\n100 samples of ")


def test_a_folder_that_another_process_is_just_beginning_is_no_strangers(model):
    Path("drawn").mkdir()
    Path("drawn/.samples.lock").touch()
    Path("drawn/.sampling-x1y2.json").touch()
    assert sample("--out", "drawn") == 0


def test_the_guides_commands_are_understood():
    text = (Path(__file__).parents[1] / "docs" / "many-machines.md").read_text()
    lines = text.replace("\\\n", " ").replace("MODEL", "gaussian-1d").splitlines()
    commands = [shlex.split(line) for line in lines if " sample gaussian-1d --n" in line]
    chosen = [parse(cli.sample, words[words.index("sample") + 1 :], "sample") for words in commands]
    assert len(chosen) == 6
    assert {call.keywords["n"] for call in chosen} == {10_000}


@pytest.mark.slow
def test_sample_under_accelerate_launch(model):
    env = {**os.environ, "OMP_NUM_THREADS": "1"}
    launcher = [sys.executable, "-m", "accelerate.commands.launch", "--cpu", "--num_processes", "2", "-m", "intermode"]
    command = ["sample", "model", "--n", "100", "--chunk", "16", "--threads", "1"]
    ended = subprocess.run(
        [*launcher, *command, "--out", "shared"], capture_output=True, text=True, env=env, check=False
    )
    assert ended.returncode == 0, ended.stderr
    assert ended.stdout.count("samples: ") == 1
    assert sample("--out", "alone") == 0
    a, b = (load_tensors(Path(name) / "samples.safetensors")[0] for name in ("alone", "shared"))
    assert all(torch.equal(a[name], b[name]) for name in a)
