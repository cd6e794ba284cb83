r"""Mode interpolation on a square lattice of 25 Gaussians, axis-aligned and turned by 45°
(paper: sections 4.2, 5, A.1; Figs. 3, 5b, 6b).

For both lattices: train (or take the shipped model), sample, label, and judge Hal (variance per dimension, then
the mean) at the paper's two windows, t = 0..8 (A.1) and the last 20 steps (section 5), and at others. Which modes
are interpolated is asked of the exact law of the reverse chain: the off-support mass within 5σ of a segment
between nearest neighbours, and between second-nearest ones (the diagonals of the lattice; in the diamond they lie
along the X

Sampling looks the network up in a coarse table for all but the last timesteps, where the network itself is asked.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial, update_wrapper
from pathlib import Path
from typing import Any

import numpy as np

from intermode import plots
from intermode.denoisers import NetworkDenoiser
from intermode.evaluation import Estimate, detection, over_seeds, share
from intermode.exact import Grid, mass_on_grid
from intermode.files import read_json, write_json
from intermode.jobs import Job, Running
from intermode.sampling import Samples
from intermode.study import Claim, Found, Measured, Picture, Study, at_least
from intermode.study.configs import Lattice, LatticeModel, Pool, Training, check_least
from intermode.study.hal import (
    Judged,
    compare,
    detection_values,
    draw_hal,
    draw_trajectories,
    follow_job,
    windows_picture,
)
from intermode.study.steps import Tabulated, label_job, labelled, mass_job, mass_of, pool_job, pool_of, train_model
from intermode.targets.gaussian import GaussianMixture
from intermode.targets.lattice import LATTICES, near_neighbours, neighbours

__all__ = ["STUDY", "Config", "segments"]

REACH = 5.5
"""The table ends there. N(0, I) leaves 4e-8 outside; at 4.5 it would be 7e-6 in each of the many noisy steps, 0.4 % in
all. The outermost modes lie at 2."""
PAPER_REMOVED = 0.96
"""Share of the hallucinations that the paper removes when it keeps 95 % of the in-support samples (section 5.2)."""
PAPER_WINDOWS = (8, 19)
"""Ends of the windows 0..end: "t = 0 to t = 8" (A.1) and "the last 20 steps" (section 5)."""
WINDOWS = [(0, end) for end in (3, 5, 8, 10, 12, 15, 19, 30)]
"""Those that are compared."""


@dataclass(frozen=True)
class WatchedModel(LatticeModel):
    """A model of a lattice, and how often its exact off-support mass is looked at while it is trained.

    Attributes:
        watch_every: optimiser steps.
    """

    train: Training = Training(steps=30_000, batch=4000)
    watch_every: int = 5000

    def __post_init__(self) -> None:
        super().__post_init__()
        check_least(self, 1, "watch_every")


@dataclass(frozen=True)
class Config(Judged):
    """Settings of ``gaussian-2d``, for either lattice; the paper's windows are 0 8 and 0 19.

    Attributes:
        pretrained: take the shipped model as the first of each lattice; training takes half an hour on one core.
        seeds: models of each lattice, with seeds from the model's on.
        table_points: of the table per dimension, that stands for the network ...
        table_begin: ... from this timestep on.
    """

    model: WatchedModel = WatchedModel()
    pool: Pool = Pool(n=200_000)
    window: tuple[int, int] = (0, 8)
    pretrained: bool = True
    seeds: int = 1
    table_points: int = 96
    table_begin: int = 60

    def __post_init__(self) -> None:
        super().__post_init__()
        check_least(self, 1, "seeds")
        check_least(self, 2, "table_points")
        _ = [self.models(kind) for kind in LATTICES]

    @property
    def view(self) -> Tabulated:
        return Tabulated(-REACH, REACH, self.table_points, 2, self.table_begin)

    def target(self, kind: str) -> GaussianMixture:
        return LATTICES[kind](self.model.target.side)

    def models(self, kind: Any) -> list[WatchedModel]:
        """Of a lattice."""
        target = Lattice(kind, self.model.target.side)
        shipped = [kind if self.pretrained and k == 0 else None for k in range(self.seeds)]
        return [replace(self.model, target=target, seed=self.seed + k, shipped=name) for k, name in enumerate(shipped)]


def jobs(config: Config) -> dict[str, Job]:
    watching, found = config.detectors(WINDOWS), {}
    for k in range(config.seeds):
        for kind in LATTICES:
            model = config.models(kind)[k]
            name = f"{kind}-{k}"
            trained = found[f"{name}-model"] = Job(f"{name}-model", train_watched, model)
            found[f"{name}-mass"] = mass_job(f"{name}-mass", config.pool.sampler, trained)
            pool = pool_job(f"{name}-pool", trained, config.pool, model.seed, watching, config.view)
            found[f"{name}-pool"] = pool
            if k == 0:  # the one that is shown
                how = config.pool, model.seed, model.target, config.view
                found[f"{name}-labels"] = label_job(f"{name}-labels", pool, model.target)
                found[f"{name}-followed"] = follow_job(f"{name}-followed", trained, pool, *how)
    return found


def train_watched(running: Running) -> dict[str, Any]:
    """Train, with a row (step, mass) in ``curve.json`` for each look."""
    model: WatchedModel = running.config
    curve, target = running.folder / "model" / "curve.json", model.target.target
    grid = Grid.around(target, cells=1.25, negligible=1e-9)  # a coarse one, good to a thousandth

    def watch(step: int, denoiser: NetworkDenoiser) -> None:
        rows = read_json(curve) if curve.exists() else []
        if step not in [row[0] for row in rows]:
            write_json(curve, [*rows, [step, mass_on_grid(denoiser, target, grid).value]])

    return train_model(running, watch, model.watch_every)


def segments(target: GaussianMixture, x: np.ndarray, mass: np.ndarray) -> dict[str, float]:
    """Off-support mass for each segment; also in the middle half of segments, away from the modes' own tails."""
    labels = target.label(x)
    x, mass, bad = x[labels.hallucinated], mass[labels.hallucinated], labels.distance[labels.hallucinated]
    kind = near_neighbours(target, x)
    spacing = float(np.linalg.norm(np.subtract(*target.means[neighbours(target, 0)[0]])))
    away = bad * target.sigma.max() > spacing / 4
    found = {"elsewhere": float(mass[kind < 0].sum())}
    for order, word in enumerate(("nearest", "second")):
        count = len(neighbours(target, order))
        found[word] = float(mass[kind == order].sum()) / count
        found[f"{word}_middle"] = float(mass[(kind == order) & away].sum()) / count
    return found


def prefix(kind: str) -> str:
    """Of the grid's measures there is none: it came first."""
    return "" if kind == "grid" else f"{kind}_"


def over_models(found: Sequence[Any]) -> Estimate:
    """An estimate of each model: their mean, in an interval that holds all of theirs."""
    low, high = min(each.low for each in found), max(each.high for each in found)
    mean = float(np.mean([each.value for each in found]))
    method = f"{found[0].method}, widest over models"
    return found[0] if len(found) == 1 else Estimate(mean, low, high, n=len(found), method=method)


def middle(values: Sequence[float]) -> Estimate | float:
    """A number of each model; that of a single one has no interval."""
    return over_seeds(values) if len(values) > 1 and min(values) > 0 else float(np.mean(values))


def drawn(kind: Any, config: Config, found: Found, k: int = 0) -> tuple[Samples, np.ndarray]:
    """The samples of a model, and (n,) bool which are hallucinated."""
    done = found[f"{kind}-{k}-pool"]
    return pool_of(done), labelled(done, Lattice(kind, config.model.target.side)).hallucinated


def windows_of(kind: str, config: Config) -> dict[str, int | None]:
    """Measures by the end of the window that they are of; the best one has none."""
    ends = [end for end in PAPER_WINDOWS if end < config.model.noise.timesteps]
    return {f"{kind}_removed_at_window_{end or 'best'}": end for end in (*ends, None)}


def samples(kind: str, config: Config, found: Found) -> Measured:
    """How many samples are hallucinated, and what Hal says of them."""
    pools, bads = zip(*(drawn(kind, config, found, k) for k in range(config.seeds)), strict=True)
    n, name, asked = config.pool.n, prefix(kind), windows_of(kind, config)
    rates = [share(int(bad.sum()), n) for bad in bads]
    measured = Measured(
        {
            f"{name}samples": n * len(pools),
            f"{name}hallucinated": sum(int(bad.sum()) for bad in bads),
            f"{name}diverged": sum(int(pool.diverged.sum()) for pool in pools),
            f"{name}hallucination_rate": over_models(rates),
            **dict.fromkeys(asked),
        }
    )
    if few := [int(bad.sum()) for bad in bads if min(bad.sum(), (~bad).sum()) < 10]:
        measured.notes.append(f"{kind}: {few[0]} of {n} samples are hallucinated: too few to judge.")
        return measured
    scored = [(pool.scores, bad, config.seed + k) for k, (pool, bad) in enumerate(zip(pools, bads, strict=True))]
    judged = [detection_values(detection(scores["hal"], bad, seed=seed), f"{name}hal") for scores, bad, seed in scored]
    measured.values |= {key: over_models([each[key] for each in judged]) for key in judged[0]}
    compared = [each for one in scored if (each := compare(*one, "removed_at_95_kept"))]
    if not compared:
        return measured
    measured.series |= {f"{kind}_windows" + (f"_{k}" if k else ""): each.rows for k, each in enumerate(compared)}
    measured.values[f"{name}hal_best_window_end"] = compared[0].best[1]
    for key, end in asked.items():
        removed = [each.judged[(0, end) if end else each.best].removed_at_95_kept for each in compared]
        measured.values[key] = over_models(removed)
    return measured


def masses(kind: str, config: Config, found: Found) -> Measured:
    """The same exactly, and between which modes."""
    done = [found[f"{kind}-{k}-mass"] for k in range(config.seeds)]
    values = [one.facts["value"] for one in done]
    laws = [one.tensors() for one in done]
    parts = [segments(config.target(kind), law["x_0"].numpy(), law["mass"].numpy()) for law in laws]
    measured = Measured(
        {
            f"{prefix(kind)}exact_mass": middle(values) if len(values) > 1 else mass_of(done[0]),
            f"{prefix(kind)}exact_escaped": max(one.facts["escaped"] for one in done),
            **{f"{kind}_{part}": middle([each[part] for each in parts]) for part in parts[0]},
        },
        {f"{kind}_training": curve_of(kind, found)},
    )
    for where in ("", "_middle"):
        second = [each[f"second{where}"] for each in parts]
        ratios = [each[f"nearest{where}"] / least for each, least in zip(parts, second, strict=True) if all(second)]
        measured.values[f"{kind}_nearest_over_second{where}"] = middle(ratios) if ratios else None
    return measured


def curve_of(kind: str, found: Found, k: int = 0) -> list[tuple[int, float]]:
    """(steps, mass) while a model was trained."""
    rows: list[tuple[int, float]] = read_json(found[f"{kind}-{k}-model"].folder / "model" / "curve.json")
    return rows


def claims(config: Config) -> list[Claim]:
    found = []
    for kind in LATTICES:
        hal = f"{kind}: Hal removes 96 % of the hallucinations and keeps 95 % of the in-support samples"
        best = "the best window from 0, chosen on half of the samples, on the other half"
        for key, end in windows_of(kind, config).items():
            statement = f"{hal} ({f't = 0..{end}' if end else best})"
            id = f"{kind}-detection-{end or 'best'}"
            found.append(Claim(id, key, at_least(PAPER_REMOVED), statement, "96 % removed"))
    for kind, along in (("diamond", "the x-axis and y-axis"), ("grid", "the diagonals")):
        nearest = f"{kind}: only nearest neighbours are interpolated, not along {along}: exact mass per segment"
        for part, where in (("", ""), ("_middle", ", away from the modes (a quarter spacing)")):
            id, measure = f"{kind}-nearest{part.replace('_', '-')}", f"{kind}_nearest_over_second{part}"
            statement = f"{nearest}, nearest over second-nearest{where}, at least 20"
            found.append(Claim(id, measure, at_least(20), statement, "none on the latter (Fig. 3)"))
    return found


def scatter(kind: str, config: Config, found: Found, measured: Measured, path: Path) -> str:
    pool, bad = drawn(kind, config, found)
    real = config.target(kind).sample(20_000, config.seed + 1).numpy()
    plots.scatter(path, real, pool.x[:100_000].numpy(), bad[:100_000])
    return f"{kind}: samples of the data over generated samples, those off the support marked. Compare Fig. 3."


def trajectories(kind: str, config: Config, found: Found, measured: Measured, path: Path) -> str | None:
    if not draw_trajectories(path, found[f"{kind}-0-followed"], config.window, config.target(kind).means):
        return None
    return f"{kind}: first coordinate of the predicted x0 at the end, hallucinated and others. Compare Fig. 5b."


def hal(kind: str, config: Config, found: Found, measured: Measured, path: Path) -> str | None:
    pool, bad = drawn(kind, config, found)
    if min(bad.sum(), (~bad).sum()) < 2:
        return None
    draw_hal(path, pool.scores["hal"], bad, config.window, 0.96, 0.95)
    return f"{kind}: Hal of hallucinated and in-support samples. Compare Fig. 6b."


def training(kind: str, config: Config, found: Found, measured: Measured, path: Path) -> str:
    curves = [tuple(zip(*curve_of(kind, found, k), strict=True)) for k in range(config.seeds)]
    lines: Any = {f"model {k}": (mass,) * 3 for k, (_, mass) in enumerate(curves)}
    plots.curves(path, curves[0][0], lines, x_label="optimiser steps", y_label="off-support mass", log_y=True)
    return f"{kind}: off-support mass as training goes on (exact density on one grid)."


def pictures(kind: str) -> list[Picture]:
    caption = f"{kind}: detection against the end of the window, 95 % intervals."
    drawn = [Picture(f"{kind}-{draw.__name__}", partial(draw, kind)) for draw in (scatter, trajectories, hal, training)]
    return [*drawn, windows_picture(f"{kind}-windows", f"{kind}_windows", caption)]


# fmt: off
STUDY = Study(
    "gaussian-2d",
    figures="Figs. 3, 5b, 6b",
    summary="A grid and a diamond of 25 modes: only nearest neighbours are interpolated",
    tiers={
        "smoke": {
            "pretrained": False, "model.size": 5000, "model.noise.timesteps": 200, "model.noise.beta_start": 0.005,
            "model.train.steps": 300, "model.train.batch": 500, "model.watch_every": 300, "pool.n": 5000,
            "table_points": 48, "table_begin": 20,
        },
        "quick": {},
        "long": {"seeds": 3},
        "paper": {
            "pretrained": False, "model.train.steps": 100_000, "model.train.batch": 10_000, "model.train.decay": "none",
            "model.watch_every": 10_000, "pool.n": 10_000_000, "table_points": 512,
        },
    },
    times={"smoke": "40 s", "quick": "10 min", "long": "~4 h", "paper": "~1 h, GPU"},
    config=Config, jobs=jobs, claims=claims,
    measures=tuple(update_wrapper(partial(f, kind), f) for kind in LATTICES for f in (samples, masses)),
    pictures=lambda config: [picture for kind in LATTICES for picture in pictures(kind)],
)
# fmt: on
