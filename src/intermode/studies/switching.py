r"""The off-support mass of a chain that changes from one score to another on its way.

With the true score at all t ≤ k and the learned one above (*mended*: what the steps above k leave for good), and with
the learned score at t ≤ k alone (*made*: what these steps make by themselves). The law of :math:`x_k` that both scores
share is carried once by :func:`intermode.exact.propagate`, and every k branches off it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from intermode.denoisers import MixtureDenoiser
from intermode.exact import CELLS, Grid, Law, propagate, start, weigh
from intermode.jobs import Job, Running
from intermode.samplers import Sampler
from intermode.study.steps import denoiser_of

__all__ = ["BETWEEN", "VALUE", "switch_job"]

VALUE, BETWEEN = 0, 2
"""Places of a mass, and of its part between the modes, in what a job finds."""
NEGLIGIBLE = {1: 1e-15, 2: 1e-11}
"""Mass that a step may drop."""


def switch_job(name: str, sampler: Sampler, model: Job, switches: Sequence[int], cells: float | None = None) -> Job:
    """The masses of both kinds for each k, and of the learned score alone.

    Args:
        name: of the job.
        sampler: of the reverse chain, which visits all timesteps.
        model: a model job.
        switches: k.
        cells: of the grid, per standard deviation of a step's noise.
    """
    config = model.config
    what = {"sampler": sampler, "target": config.target, "noise": config.noise, "switches": switches, "cells": cells}
    return Job(name, find_switched, what, {"model": model})


def find_switched(running: Running) -> dict[str, Any]:
    """``made``, ``mended``: {k: (mass, its error, the part between the modes)}; ``learned``: of the learned score."""
    config = running.config
    target, schedule, sampler = config["target"].target, config["noise"].schedule, config["sampler"]
    learned, true = denoiser_of(running.inputs["model"], running.device), MixtureDenoiser(target, schedule)
    grid = Grid.around(target)
    dimensions = grid.dimensions
    cells = config["cells"] or CELLS[dimensions]
    grid = Grid(dimensions, grid.low, grid.high, cells, negligible=NEGLIGIBLE[dimensions])
    switches = sorted(config["switches"], reverse=True)
    found: dict[str, Any] = {}
    with running.progress.task("exact density", 2 * (len(schedule) + sum(switches)), 0, "steps") as task:

        def carry(law: Law, denoiser: Any, last: int) -> Law:
            carried = propagate(law, denoiser, range(law.t - 1, last - 1, -1), sampler, task=task)
            assert isinstance(carried, Law)
            return carried

        for kind, above, below in (("mended", learned, true), ("made", true, learned)):
            law = start(schedule, grid)
            found[kind] = {}
            for k in switches:
                law = carry(law, above, k)
                mass = weigh(carry(law, below, 0), below, target, sampler)
                found[kind][str(k)] = mass.value, mass.error, mass.between
            if kind == "mended":
                mass = weigh(carry(law, above, 0), above, target, sampler)
                found["learned"] = mass.value, mass.error, mass.between
    return found
