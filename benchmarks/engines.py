"""What sharing work costs and gains: ``make engines``; the table between ``<!-- engines -->`` in docs/many-machines.md.

Each figure is a ratio or an overhead from one run on this machine, which must be idle: workers compete for its cores.
"""

from __future__ import annotations

import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch

from intermode.engines import engine
from intermode.files import write_text
from intermode.jobs import Job, Running, Store, run_jobs

PAGE = Path(__file__).resolve().parents[1] / "docs" / "many-machines.md"
JOBS = 200
"""Trivial jobs, to see what a job costs beyond its work."""
IMAGES = 1_000_000


def nothing(running: Running) -> dict[str, Any]:
    """A job without work."""
    return {}


def counted(running: Running) -> dict[str, Any]:
    """Work of some seconds on one core."""
    x = torch.ones(256, 256)
    for _ in range(running.config["times"]):
        x = (x @ x).clamp(0, 1)
    return {"sum": float(x.sum())}


def seconds(jobs: list[Job], workers: int, on: str | None) -> float:
    with tempfile.TemporaryDirectory() as folder:
        begin = time.perf_counter()
        failed = run_jobs(jobs, Store(Path(folder)), engine(workers, on))
        taken = time.perf_counter() - begin
    assert not failed, failed
    return taken


def overhead(workers: int, on: str | None) -> float:
    """Seconds for a job more, starting the workers left out."""
    few, many = ([Job(f"nothing-{k}", nothing, k) for k in range(count)] for count in (10, 10 + JOBS))
    return (seconds(many, workers, on) - seconds(few, workers, on)) / JOBS


def speed_up(on: str | None) -> float:
    """One worker over two, starting them included."""
    jobs = [Job(f"counted-{k}", counted, {"times": 20_000, "k": k}) for k in range(8)]
    return seconds(jobs, 1, on) / seconds(jobs, 2, on)


SCORE = """
import resource, sys
from intermode.cli import main
assert main(["score", "model", sys.argv[1], "--out", "scores.npy", "--detectors", "residual", "--threads", "1"]) == 0
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024)
"""


def memory(count: int) -> int:
    """MiB of a process that scores so many images of 8 by 8."""
    import intermode

    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        shape = (count, 64)
        data = np.lib.format.open_memmap(place / "x.npy", mode="w+", dtype=np.float32, shape=shape)
        for first in range(0, count, 10_000):
            data[first : first + 10_000] = np.random.default_rng(first).standard_normal((10_000, 64))
        data.flush()
        network = {"kind": "mlp", "dimensions": 64, "width": 32}
        intermode.train(np.asarray(data[:1000]), network=network, steps=10, batch=50, out=place / "model")
        words = [sys.executable, "-c", SCORE, "x.npy"]
        said = subprocess.run(words, cwd=place, capture_output=True, text=True, check=True).stdout
    return int(said.split()[-1])


def main() -> None:
    torch.set_num_threads(1)
    few, many = memory(100_000), memory(IMAGES)
    rows = [
        ("a job more, in this process", f"{1000 * overhead(1, None):.0f} ms"),
        ("a job more, two processes", f"{1000 * overhead(2, None):.0f} ms"),
        ("a job more, Ray here, two workers", f"{1000 * overhead(2, 'ray'):.0f} ms"),
        ("two processes, against one", f"{speed_up(None):.2f} times as fast"),
        ("memory of scoring 100,000 samples of 8 by 8", f"{few:,} MiB"),
        (f"... of {IMAGES:,}", f"{many:,} MiB"),
    ]
    table = "\n".join(["| what | measured |", "| --- | ---: |", *(f"| {name} | {value} |" for name, value in rows)])
    text = PAGE.read_text(encoding="utf-8")
    head, _, rest = text.partition("<!-- engines -->")
    write_text(PAGE, f"{head}<!-- engines -->\n{table}\n<!-- /engines -->{rest.partition('<!-- /engines -->')[2]}")
    print(table)
    print(f"peak of this process: {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024:,} MiB")


if __name__ == "__main__":
    main()
