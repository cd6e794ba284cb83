"""The arms of a recursion (:mod:`intermode.recursion`) over several seeds, some at a time in processes of their own."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Protocol

import torch

from intermode.errors import InputError
from intermode.experiments.parallel import run_jobs
from intermode.progress import Named, Progress
from intermode.recursion import Arm, Recursion, Setting
from intermode.run import Run

__all__ = ["SELECTORS", "ArmsConfig", "arm_of", "check", "follow", "generation_folder", "recursion_of"]

SELECTORS = ("all", "random", "hal", "hal-per-class")


class ArmsConfig(Protocol):
    """What a config needs to be followed.

    Attributes:
        train_size: samples that train every generation.
        extra: samples of a pool beyond ``train_size``, left out by the selectors.
        arms: of ``SELECTORS``.
        generations, unfiltered_generations: the last generation of the arms random and hal, and of the arm all.
        seed, seeds: repetitions have the seeds seed, seed + 1, ...
        fresh: share of each generation's training data that is new real data.
        accumulate: train on the data of all earlier generations as well.
        workers: arms followed at a time.
        threads: torch's, of each worker; generation 0 has those of workers that wait for it as well.
    """

    # properties, so that the fields of a frozen dataclass fit
    @property
    def train_size(self) -> int: ...
    @property
    def extra(self) -> int: ...
    @property
    def arms(self) -> tuple[str, ...]: ...
    @property
    def generations(self) -> int: ...
    @property
    def unfiltered_generations(self) -> int: ...
    @property
    def seed(self) -> int: ...
    @property
    def seeds(self) -> int: ...
    @property
    def fresh(self) -> float: ...
    @property
    def accumulate(self) -> bool: ...
    @property
    def workers(self) -> int: ...
    @property
    def threads(self) -> int: ...

    def setting(self, progress: Progress) -> Setting:
        """What a generation is, in this experiment."""


def recursion_of(config: ArmsConfig) -> Recursion:
    """The loop."""
    return Recursion(config.train_size, config.extra, config.fresh, config.accumulate)


def arm_of(config: ArmsConfig, selector: str) -> Arm:
    """An arm with its last generation."""
    return Arm(selector, config.unfiltered_generations if selector == "all" else config.generations)


def check(config: ArmsConfig) -> None:
    """Raise InputError for values that cannot be used."""
    _ = recursion_of(config)
    arms = config.arms
    if not arms or len(set(arms)) < len(arms) or not set(arms) <= set(SELECTORS):
        raise InputError(f"arms: {' '.join(arms) or 'none'}; choose from {', '.join(SELECTORS)}, each once")
    for name in ("generations", "unfiltered_generations", "seeds", "workers"):
        if getattr(config, name) < 1:
            raise InputError(f"{name}: {getattr(config, name)} must be at least 1")


def generation_folder(run: Run, seed: int, selector: str, generation: int) -> Path:
    """Where a generation of an arm lies; generation 0 is shared."""
    place = f"{selector}/generation-{generation:02d}" if generation else "generation-00"
    return _folder(run, seed) / place


def _folder(run: Run, seed: int) -> Path:
    return run.path / f"seed-{seed}"


def _follow(job: tuple[ArmsConfig, Path, int, str | None, int], progress: Progress) -> None:
    """One arm of one seed, or generation 0 alone, with so many threads."""
    config, folder, seed, selector, threads = job
    torch.set_num_threads(threads)
    arms = [arm_of(config, selector)] if selector else []
    named = Named(f"seed {seed}, {selector or 'generation 0'}", progress)
    recursion_of(config).run(config.setting(named), arms, seed, folder, progress=named)


def follow(run: Run, config: ArmsConfig) -> dict[str, list[dict[str, Any]]]:
    """Follow all arms of all seeds; a killed run goes on.

    Returns:
        the rows of each arm, seed after seed (see :meth:`intermode.recursion.Recursion.run`).
    """
    torch.set_num_threads(config.threads)
    seeds = range(config.seed, config.seed + config.seeds)
    per_seed = 1 + sum(arm_of(config, selector).generations for selector in config.arms)

    def finished() -> int:
        return sum(1 for _ in run.path.glob("seed-*/**/row.json"))

    with run.progress.task("generations", per_seed * len(seeds), finished(), "generations") as task:
        # generation 0 first, since the arms share it
        for selectors in ((None,), config.arms):
            # fewer jobs than workers leave threads to spare
            threads = config.threads * max(config.workers // (len(selectors) * len(seeds)), 1)
            jobs = [(config, _folder(run, seed), seed, selector, threads) for selector in selectors for seed in seeds]
            run_jobs(_follow, jobs, config.workers, run.progress, task, finished)
    series: dict[str, list[dict[str, Any]]] = {selector: [] for selector in config.arms}
    setting = config.setting(run.progress)
    for seed in seeds:
        arms = [arm_of(config, selector) for selector in config.arms]
        found = recursion_of(config).run(setting, arms, seed, _folder(run, seed), progress=run.progress)
        for selector, rows in found.items():
            series[selector] += rows
    return series
