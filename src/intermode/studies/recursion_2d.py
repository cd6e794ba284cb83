r"""Collapse by training on one's own output, on the grid of Gaussians (paper: section 6; Figs. 7, 8a).

Arms: everything as it comes (``all``); a random selection from a somewhat larger pool (``random``); the samples with
the lowest Hal of that pool (``hal``); and all of a pool in which what looks worst was repaired (``repair``). Of each
pool is measured: the share of hallucinations; how many modes are still covered (hold at least a tenth of
their true share); and the divergence

.. math::
    \mathrm{KL}(\hat p \,\|\, q) = \sum_c \hat p_c \log(\hat p_c / q_c)

of the occupancy of the cells c (each mode's 6σ disc, and all else) from that of the true mixture, whose mass
outside all discs is :math:`e^{-18}`. The share of hallucinations can also be computed exactly, for each model.

The quick tier is a smaller problem: 3 by 3 modes, T = 200 up to a last beta of 0.1 (the same noise at the end, less
of the chain spent in pure noise), a network of half the width.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from intermode import plots
from intermode.errors import InputError
from intermode.evaluation import Estimate, over_seeds, ratio_over_seeds, share
from intermode.jobs import Job
from intermode.sampling import Samples
from intermode.study import Claim, Found, Measured, Picture, Study, at_least
from intermode.study.arms import (
    Arms,
    Quantity,
    Recursion,
    Rows,
    at,
    compared,
    curves,
    filter_claims,
    followed,
    growth_claims,
    key,
    recursion_jobs,
)
from intermode.study.configs import MLP, Drawing, Lattice, LatticeModel, LinearNoise, Training
from intermode.study.steps import Tabulated, grid_range, mass_job, pool_of

__all__ = ["STUDY", "Config", "Occupancy"]

PAPER = {
    "model.size": 100_000,
    "model.target.side": 5,
    "model.noise.timesteps": 500,
    "model.noise.beta_end": 0.2,
    "model.network.width": 128,
    "arms.extra": 2500,
}
"""The paper's setting."""
COVERED = 0.1
"""A mode is covered if it holds at least this part of its true share."""


@dataclass(frozen=True)
class Config(Recursion):
    """Settings of ``recursion-2d``.

    Attributes:
        exact: also find the exact off-support mass of each generation's model, half a minute for each.
        table: points a side of a table that stands for the network where noise exceeds the signal; 0 for none.
    """

    model: LatticeModel = LatticeModel(
        size=10_000,
        target=Lattice(side=3),
        noise=LinearNoise(200, beta_end=0.1),
        network=MLP(64),
        train=Training(2500, 1000),
    )
    drawing: Drawing = Drawing()
    arms: Arms = Arms(("all", "random", "hal", "repair"), extra=250, seeds=3)
    window: tuple[int, int] = (0, 8)
    exact: bool = False
    table: int = 0

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.table == 1 or self.table < 0:
            raise InputError(f"table: {self.table} points make none; give at least 2, or 0 for no table")

    @property
    def view(self) -> Tabulated | None:
        """How chains see the models. The table is smooth where it is used, and most of a chain is spent there."""
        schedule = self.model.noise.schedule
        noisy = np.flatnonzero(np.asarray(schedule.noise) >= np.asarray(schedule.signal))
        if not self.table or not len(noisy):
            return None
        return Tabulated(*grid_range(self.model.target.target), self.table, 2, int(noisy[0]))


@dataclass(frozen=True)
class Occupancy:
    """Counts the samples in the cells of a lattice."""

    lattice: Lattice

    def __call__(self, pool: Samples) -> dict[str, Any]:
        target = self.lattice.target
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


def rates(rows: Rows) -> list[float]:
    """A rate for each seed, (k + 1/2) / (n + 1) so that its logarithm exists when nothing was hallucinated."""
    return [(row["hallucinated"] + 0.5) / (row["samples"] + 1) for row in rows]


def masses(rows: Rows) -> list[float]:
    """An exact mass for each seed."""
    return [max(row["exact_mass"], 1e-12) for row in rows]


RATE = Quantity(
    "rate",
    "rate",
    lambda rows: over_seeds(rates(rows)),
    lambda over, under: ratio_over_seeds(rates(over), rates(under), paired=True),
)
MASS = Quantity(
    "exact_mass",
    "exact off-support mass",
    lambda rows: over_seeds(masses(rows)),
    lambda over, under: ratio_over_seeds(masses(over), masses(under), paired=True),
)


def jobs(config: Config) -> dict[str, Job]:
    found = recursion_jobs(config, Occupancy(config.model.target), view=config.view)
    if config.exact:
        sampler = config.drawing.of(1).sampler
        models = [job for name, job in found.items() if name.endswith("-model")]
        masses = [mass_job(f"{model.name.removesuffix('-model')}-mass", sampler, model) for model in models]
        found |= {mass.name: mass for mass in masses}
    return found


def measure(config: Config, found: Found) -> Measured:
    """Generation by generation, arm by arm."""
    arms, rows = config.arms, followed(config, found)
    for arm in arms.names if config.exact else ():
        for row in rows[arm]:
            mass = found[key(row["seed"], arm, row["generation"], "mass")].facts
            row |= {"exact_mass": mass["value"], "exact_mass_error": mass["error"]}
    measured = compared(config, rows, [RATE, *([MASS] if config.exact else [])])
    for arm in arms.names:
        last = at(rows[arm], arms.last(arm))
        for name in ("modes_covered", "kl"):
            measured.values[f"{arm}_last_{name}"] = float(np.mean([row[name] for row in last]))
    if {"random", "hal"} <= set(arms.names):
        wins = [
            hal < other
            for g in range(1, arms.generations + 1)
            for hal, other in zip(rates(at(rows["hal"], g)), rates(at(rows["random"], g)), strict=True)
        ]
        measured.values["hal_wins"] = share(sum(wins), len(wins))
    return measured


def claims(config: Config) -> list[Claim]:
    arms, paper = config.arms, "in all generations (Fig. 8a)"
    found = [*growth_claims(config, RATE, "grows", "grows (Fig. 7)"), *filter_claims(config, RATE, "filter", paper)]
    does = "Repairing what looks worst beats random selection"
    found += filter_claims(config, RATE, "repair", "–", arm="repair", does=does)
    for arm, words in (("lid", "lid"), ("lid-conformal", "lid at a conformal threshold")):
        found += filter_claims(config, RATE, arm, "–", arm=arm, does=f"Filtering by {words} beats random selection")
    if {"random", "hal"} <= set(arms.names):
        pairs = arms.generations * arms.seeds
        statement = (
            f"Filtering by Hal beats a random selection more often than not: share of the {pairs} generations of all "
            "seeds, at least half"
        )
        found.append(Claim("filter-every", "hal_wins", at_least(0.5), statement, paper))
    if config.exact:
        found += growth_claims(config, MASS, "grows-exact", "grows (Fig. 7)")
        found += filter_claims(config, MASS, "filter-exact", paper)
    return found


def generations(config: Config, found: Found, measured: Measured, path: Path) -> str:
    target, last = config.model.target.target, min(map(config.arms.last, config.arms.names))
    shown = sorted({0, 1, last // 2, last})
    panels = []
    for arm in config.arms.names:
        for g in shown:
            samples = pool_of(found[key(config.seed, arm, g, "pool")]).x.numpy()
            panels.append((f"{arm}, generation {g}", samples, target.label(samples).hallucinated))
    plots.scatter_panels(path, panels, len(shown), 1.5 * float(np.abs(target.means).max()))
    return f"Samples of chosen generations, seed {config.seed}; off-support ones in red. Compare Fig. 7."


def pictures(config: Config) -> list[Picture]:
    how = f" by generation: geometric mean of {config.arms.seeds} seeds, 95 % intervals."

    def mean_of(name: str) -> Callable[[Rows], Estimate]:
        return lambda rows: over_seeds([max(float(row[name]), 1e-6) for row in rows])

    rate, kl = "hallucination rate", "KL from the true mixture"
    exact = curves("exact_mass", MASS.words, MASS.mean, f"Exact off-support mass{how}", log_y=True)
    return [
        curves("hallucination_rate", rate, RATE.mean, f"Hallucination rate{how} Compare Fig. 8a.", log_y=True),
        *([exact] if config.exact else []),
        curves("modes_covered", "modes covered", mean_of("modes_covered"), f"Modes covered{how}"),
        curves("kl", kl, mean_of("kl"), f"{kl}{how}", log_y=True),
        Picture("generations", generations),
    ]


# fmt: off
TIERS: dict[str, dict[str, Any]] = {
    "smoke": {
        "model.size": 1000, "model.target.side": 2, "model.noise.timesteps": 60, "model.noise.beta_start": 0.005,
        "model.noise.beta_end": 0.3, "model.network.width": 32, "model.train.steps": 400, "model.train.batch": 250,
        "model.train.learning_rate": 3e-3, "arms.extra": 50, "arms.generations": 2, "arms.unfiltered_generations": 2,
        "arms.seeds": 2,
    },
    "quick": {},
    "long": {
        **PAPER, "model.train.steps": 3000, "model.train.batch": 4000, "arms.generations": 10, "exact": True,
        "table": 128, "arms.names": ("random", "hal", "lid", "lid-conformal"),
    },
    "paper": {
        **PAPER, "model.train.steps": 50_000, "model.train.batch": 10_000, "model.train.decay": "none",
        "drawing.chunk": 131_072, "arms.generations": 10, "arms.unfiltered_generations": 20,
    },
}
# fmt: on
"""What each tier differs in from the quick one, by dotted names."""

STUDY = Study(
    "recursion-2d",
    figures="Figs. 7, 8a",
    summary="Training on one's own output: collapse, and how filtering slows it",
    config=Config,
    tiers=TIERS,
    times={"smoke": "20 s", "quick": "20 min", "long": "~7 h on one core", "paper": "~9 h, GPU"},
    jobs=jobs,
    measures=(measure,),
    claims=claims,
    pictures=pictures,
)
