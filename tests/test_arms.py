"""How the arms of a recursion are dealt to processes."""

from dataclasses import replace

import pytest

from intermode.experiments import arms
from intermode.experiments.recursion_mnist import TIERS
from intermode.progress import Silent
from intermode.run import Run


@pytest.mark.parametrize(
    ("workers", "threads", "seeds", "expected"),
    [
        (2, 1, 1, {None: 2, "random": 1, "hal": 1}),  # one generation 0 has the threads of both workers
        (4, 3, 1, {None: 12, "random": 6, "hal": 6}),
        (2, 1, 2, {None: 1, "random": 1, "hal": 1}),
        (1, 4, 1, {None: 4, "random": 4, "hal": 4}),
    ],
)
def test_jobs_fewer_than_workers_share_their_threads(workers, threads, seeds, expected, tmp_path, monkeypatch):
    config = replace(TIERS["smoke"], arms=("random", "hal"), workers=workers, threads=threads, seeds=seeds)
    seen: dict = {}

    def run_jobs(work, jobs, *_):
        seen.update({(job[2], job[3]): job[4] for job in jobs})

    class Followed(Exception):
        pass

    def followed(*_):
        raise Followed

    monkeypatch.setattr(arms, "run_jobs", run_jobs)
    monkeypatch.setattr(arms, "recursion_of", followed)
    with pytest.raises(Followed):
        arms.follow(Run(tmp_path / "run", "recursion-mnist", "smoke", config, Silent()), config)
    assert seen == {(seed, selector): n for seed in range(seeds) for selector, n in expected.items()}
