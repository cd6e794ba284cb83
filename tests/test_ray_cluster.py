"""A Ray cluster of two nodes on this machine that loses one in the middle of the work."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from pathlib import Path
from threading import Thread
from typing import Any

import jobs_to_do as work
import pytest

from intermode.engines import LOOPBACK, Here, engine
from intermode.jobs import Job, Store, run_jobs

pytest.importorskip("ray", reason="the extra intermode[ray] is not installed")
os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")


@pytest.fixture
def cluster() -> Iterator[Any]:
    import ray
    from ray.cluster_utils import Cluster

    found = Cluster()
    # the head does no jobs: it holds the cluster together and must not be the one that is lost
    found.add_node(num_cpus=0, node_ip_address=LOOPBACK, include_dashboard=False)
    yield found
    ray.shutdown()
    found.shutdown()


@pytest.mark.slow
def test_a_node_that_is_lost_loses_nothing(cluster: Any, tmp_path: Path) -> None:
    import ray

    nodes = [cluster.add_node(num_cpus=2, node_ip_address=LOOPBACK) for _ in range(2)]
    ray.init(address=cluster.address, log_to_driver=False, logging_level="ERROR")
    parts = [Job(f"part-{k}", work.patient, {"value": k, "tenths": 30}) for k in range(8)]
    whole = Job("whole", work.total, None, {job.name: job for job in parts})
    store = Store(tmp_path / "there")
    failed: dict[str, str] = {}
    driver = Thread(target=lambda: failed.update(run_jobs([whole], store, engine(4, on="auto"))))
    driver.start()
    # the kill is certain to hit: jobs run on both nodes, and none of them is finished
    while {read(store, job) for job in parts[:4]} & {None, 0}:
        assert driver.is_alive()
        time.sleep(0.05)
    on = {(store.folder(job) / "node").read_text() for job in parts[:4]}
    assert len(on) == 2, "jobs run on both nodes"
    assert all(store.done(job) is None for job in parts)
    cluster.remove_node(nodes[0], allow_graceful=False)
    driver.join(180)
    assert not driver.is_alive()
    assert failed == {}
    attempts = [len((store.folder(job) / "node").read_text().split()) for job in parts]
    assert max(attempts) > 1, "a job of the lost node was done again"
    here = Store(tmp_path / "here")
    run_jobs([whole], here, Here())
    for job in (*parts, whole):
        ours, theirs = (s.folder(job) / "tensors.safetensors" for s in (here, store))
        assert ours.read_bytes() == theirs.read_bytes()


def read(store: Store, job: Job) -> int | None:
    """How far a job is, from its folder."""
    file = store.folder(job) / "reached"
    return int(file.read_text() or 0) if file.exists() else None
