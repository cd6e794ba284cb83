r"""Collapse by training on one's own output, on the grid of Gaussians (paper: section 6; Figs. 7, 8a).

Arms: everything as it comes (``all``), a random selection from a somewhat larger pool (``random``), and the samples
with the lowest Hal of that pool (``hal``). Measured of the pool of each generation: the share of hallucinations;
how many modes are still covered (hold at least a tenth of their true share); and the divergence

.. math::
    \mathrm{KL}(\hat p \,\|\, q) = \sum_c \hat p_c \log(\hat p_c / q_c)

of the occupancy of the cells c (each mode's 6σ disc, and all else) from that of the true mixture, whose mass
outside all discs is :math:`e^{-18}`.

The quick tier is a smaller problem: 3 by 3 modes, T = 200 up to a last beta of 0.1 (the same noise at the end, less
of the chain spent in pure noise), a network of half the width.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from intermode import plots
from intermode.detect.hal import Hal
from intermode.errors import InputError
from intermode.evaluation import over_seeds, ratio_over_seeds
from intermode.experiments import arms
from intermode.experiments.model import ModelConfig
from intermode.files import load_tensors
from intermode.progress import Progress
from intermode.recursion import Data, Setting
from intermode.run import Claim, Results, Run, below
from intermode.sampling import Samples, Plan, generate
from intermode.targets.gaussian import GaussianMixture
from intermode.targets.lattice import grid

__all__ = ["TIERS", "Config", "run"]

COVERED = 0.1
"""A mode is covered if it holds at least this part of its true share."""


@dataclass(frozen=True)
class Config(ModelConfig):
    """Settings of ``recursion-2d``; ``train_size`` samples train every generation.

    Attributes:
        side: modes along a side of the grid.
        extra: samples of a pool beyond ``train_size``, left out by the selectors.
        arms: selectors: all, random, hal.
        generations: the last generation of the arms random and hal.
        unfiltered_generations: the last generation of the arm all.
        seeds: repetitions, with seeds seed, seed + 1, ...
        window: timesteps of Hal, both ends included.
        fresh: share of each generation's training data that is new real data.
        accumulate: train on the data of all earlier generations as well.
        chunk: samples drawn together.
        workers: arms followed at a time.
    """

    side: int = 5
    extra: int = 2500
    arms: tuple[str, ...] = ("all", "random", "hal")
    generations: int = 5
    unfiltered_generations: int = 5
    seeds: int = 3
    window: tuple[int, int] = (0, 8)
    fresh: float = 0.0
    accumulate: bool = False
    chunk: int = 1024
    workers: int = 2

    def check(self) -> None:
        super().check()
        _ = self.target
        Hal(*self.window).check(self.schedule, self.sampler.timesteps(self.schedule))
        arms.check(self)
        if self.chunk < 1:
            raise InputError(f"chunk: {self.chunk} must be at least 1")

    @property
    def target(self) -> GaussianMixture:
        return grid(self.side)

    def setting(self, progress: Progress) -> Setting:
        return _Grid(self, progress)


TIERS = {
    "smoke": Config(
        side=2,
        train_size=1000,
        extra=50,
        timesteps=60,
        beta_start=0.005,
        beta_end=0.3,
        width=32,
        steps=400,
        batch=250,
        learning_rate=3e-3,
        generations=2,
        unfiltered_generations=2,
        seeds=2,
    ),
    "quick": Config(
        side=3,
        train_size=10_000,
        extra=250,
        timesteps=200,
        beta_end=0.1,
        width=64,
        steps=2500,
        batch=1000,
    ),
    "paper": Config(
        train_size=100_000,
        timesteps=500,
        steps=50_000,
        batch=10_000,
        decay="none",
        generations=10,
        unfiltered_generations=20,
        chunk=131_072,
        workers=1,
        threads=4,
        device="cuda",
    ),
}


@dataclass(frozen=True)
class _Grid:
    """The setting that the recursion runs in."""

    config: Config
    progress: Progress

    def real(self, n: int, seed: int) -> Data:
        return Data(self.config.target.sample(n, seed))

    def fit_and_draw(self, data: Data, n: int, seed: int, folder: Path) -> Samples:
        config = replace(self.config, seed=seed)
        denoiser = config.fit_to(
            data.x, folder / "model", f"{config.side} by {config.side} grid", progress=self.progress
        )
        plan = Plan(n, (2,), seed, config.chunk, device=config.device)
        detectors = [Hal(*config.window)]
        return generate(denoiser, config.sampler, plan, detectors, folder=folder, progress=self.progress)

    def measure(self, pool: Samples) -> dict[str, Any]:
        target = self.config.target
        labels = target.label(pool.x)
        cells = np.where(labels.hallucinated, len(target.means), labels.nearest)
        occupied = np.bincount(cells, minlength=len(target.means) + 1) / len(cells)
        outside = math.exp(-0.5 * target.beyond**2)  # of a Gaussian in two dimensions
        true = np.append(target.weights * (1 - outside), outside)
        held = occupied > 0
        return {
            "samples": len(cells),
            "hallucinated": int(labels.hallucinated.sum()),
            "hallucination_rate": labels.rate,
            "modes_covered": int((occupied[:-1] >= COVERED * true[:-1]).sum()),
            "kl": float((occupied[held] * np.log(occupied[held] / true[held])).sum()),
        }


def run(run: Run, config: Config) -> Results:
    """Follow all arms of all seeds, then compare; see the module's docstring."""
    results = Results(series=dict(arms.follow(run, config)))
    _claims(results, config)
    _figures(run, results, config)
    return results


def _rates(results: Results, selector: str, generation: int) -> list[float]:
    """A rate for each seed, (k + 1/2) / (n + 1) so that its logarithm exists when nothing was hallucinated."""
    rows = [row for row in results.series[selector] if row["generation"] == generation]
    return [(row["hallucinated"] + 0.5) / (row["samples"] + 1) for row in rows]


def _claims(results: Results, config: Config) -> None:
    first = next(iter(config.arms))
    start = over_seeds(_rates(results, first, 0))
    results.values |= {"generation_0_rate": start.value, "generation_0_rate_low": start.low}
    results.values["generation_0_rate_high"] = start.high
    for selector in config.arms:
        last = arms.arm_of(config, selector).generations
        rows = [row for row in results.series[selector] if row["generation"] == last]
        results.values |= {
            f"{selector}_last_generation": last,
            f"{selector}_last_rate": over_seeds(_rates(results, selector, last)).value,
            f"{selector}_last_modes_covered": float(np.mean([row["modes_covered"] for row in rows])),
            f"{selector}_last_kl": float(np.mean([row["kl"] for row in rows])),
        }
    if "all" in config.arms:
        last = config.unfiltered_generations
        growth = ratio_over_seeds(_rates(results, "all", 0), _rates(results, "all", last), paired=True)
        results.claims.append(
            below(
                "grows",
                f"Without a filter the rate grows: generation 0 over generation {last}, under 1",
                "grows (Fig. 7)",
                growth,
                1.0,
            )
        )
    if {"random", "hal"} <= set(config.arms):
        for generation in range(1, config.generations + 1):
            ratio = ratio_over_seeds(
                _rates(results, "hal", generation), _rates(results, "random", generation), paired=True
            )
            results.claims.append(
                below(
                    f"filter-{generation}",
                    f"Filtering by Hal beats random selection: rate, hal over random, generation {generation}, under 1",
                    "in all generations (Fig. 8a)",
                    ratio,
                    1.0,
                )
            )
        results.claims.append(_every_seed(results, config))


def _every_seed(results: Results, config: Config) -> Claim:
    """The share of (seed, generation) in which the filter wins, without an assumption on how rates are spread."""
    wins = [
        hal < other
        for generation in range(1, config.generations + 1)
        for hal, other in zip(_rates(results, "hal", generation), _rates(results, "random", generation), strict=True)
    ]
    return Claim(
        "filter-every",
        f"Filtering by Hal beats a random selection in every generation of every seed (share of {len(wins)})",
        "in all generations (Fig. 8a)",
        float(np.mean(wins)),
        None,
        None,
        all(wins),
    )


def _figures(run: Run, results: Results, config: Config) -> None:
    longest = max(arms.arm_of(config, selector).generations for selector in config.arms)
    for name, label, log in (
        ("hallucination_rate", "hallucination rate", True),
        ("modes_covered", "modes covered", False),
        ("kl", "KL from the true mixture", True),
    ):
        lines: dict[str, plots.Band] = {}
        for selector in config.arms:
            bands = []
            for generation in range(arms.arm_of(config, selector).generations + 1):
                rows = [row for row in results.series[selector] if row["generation"] == generation]
                values = [float(row[name]) for row in rows]
                if name == "hallucination_rate":
                    bands.append(over_seeds(_rates(results, selector, generation)))
                else:
                    bands.append(over_seeds([max(value, 1e-6) for value in values]))
            lines[selector] = ([b.value for b in bands], [b.low for b in bands], [b.high for b in bands])
        plots.curves(run.figure(name), range(longest + 1), lines, x_label="generation", y_label=label, log_y=log)
        results.figures[name] = (
            f"{label[0].upper()}{label[1:]} by generation: geometric mean of {config.seeds} seeds, 95 % intervals. "
            + ("Compare Fig. 8a." if name == "hallucination_rate" else "")
        )
    shown = sorted({0, 1, config.generations // 2, config.generations})
    panels = []
    for selector in config.arms:
        for generation in shown:
            place = arms.generation_folder(run, config.seed, selector, generation)
            samples = load_tensors(place / "samples.safetensors")[0]["samples"].numpy()
            panels.append((f"{selector}, generation {generation}", samples, config.target.label(samples).hallucinated))
    reach = 1.5 * float(np.abs(config.target.means).max())
    plots.scatter_panels(run.figure("generations"), panels, len(shown), reach)
    results.figures["generations"] = (
        f"Samples of chosen generations, seed {config.seed}; off-support ones in red. Compare Fig. 7."
    )
