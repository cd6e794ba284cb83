r"""What the off-support mass depends on (paper: section 4.1, App. C, Figs. 9-12).

One model is trained for each setting and seed; its off-support mass is computed exactly
(:mod:`intermode.exact`), so that no 10⁸ samples are needed to see a mass of 10⁻⁵; they can be streamed into a
histogram all the same (``stream_samples``). Swept are the training size, the number of modes, their distance
and T. The intervals are over seeds: Student's t on the logarithm of the mass.

The paper's first version says that the rate grows with T, its second version that it falls with T. T is swept
in two senses: models trained and sampled with T steps between the same first and last beta, and the model of the
longest schedule sampled in fewer, respaced steps.
"""

from __future__ import annotations

import itertools
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from intermode import plots
from intermode.denoisers import TabulatedDenoiser
from intermode.errors import InputError
from intermode.evaluation import over_seeds, ratio_over_seeds
from intermode.exact import off_support
from intermode.experiments.gaussian_1d import MixtureConfig, exact_mass, grid_range
from intermode.experiments.parallel import run_jobs
from intermode.files import read_json, write_json
from intermode.progress import Named, Progress
from intermode.run import Claim, Results, Run, below
from intermode.samplers import Ancestral
from intermode.sampling import Plan, tally

__all__ = ["TIERS", "Config", "run"]


@dataclass(frozen=True)
class Config(MixtureConfig):
    """Settings of ``gaussian-1d-sweeps``. Whatever is not swept keeps the value of the model's settings.

    Attributes:
        train_sizes: training sizes, for ``means`` and for ``far_means``.
        far_means: the mixture with one mode moved away.
        mode_sets: mixtures of other numbers of modes.
        distances: distance of the two modes of a two-mode mixture, the first at 1.
        timestep_counts: T.
        seeds: models for each setting, with seeds seed, seed + 1, ...
        stream_samples: also draw so many samples of each model into a histogram; 0 for none.
        workers: models trained at a time.
    """

    train_sizes: tuple[int, ...] = (1_000, 7_000, 50_000)
    far_means: tuple[float, ...] = (1.0, 2.0, 4.0)
    mode_sets: tuple[tuple[float, ...], ...] = ((1.0, 2.0), (1.0, 2.0, 4.0, 5.0))
    distances: tuple[float, ...] = (0.5, 1.0, 2.0)
    timestep_counts: tuple[int, ...] = (250, 500, 1000)
    seeds: int = 2
    stream_samples: int = 0
    workers: int = 2

    def check(self) -> None:
        super().check()
        for name in ("train_sizes", "mode_sets", "distances", "timestep_counts"):
            if not getattr(self, name):
                raise InputError(f"{name}: must hold at least one value")
        if min(self.distances) <= 0:
            raise InputError(f"distances: {min(self.distances):g} must be > 0")
        if self.stream_samples < 0:
            raise InputError(f"stream_samples: {self.stream_samples} must be at least 0")
        if self.seeds < 1 or self.workers < 1:
            raise InputError(f"seeds and workers: {self.seeds} and {self.workers} must be at least 1")
        for cell in _cells(self):
            cell.model.check()


@dataclass(frozen=True)
class Cell:
    """One model: the sweeps that it is part of and its settings."""

    name: str
    model: MixtureConfig
    stream_samples: int = 0
    respaced: tuple[int, ...] = ()


TIERS = {
    "smoke": Config(
        timesteps=300,
        steps=150,
        batch=256,
        train_sizes=(500, 5_000),
        train_size=5_000,
        mode_sets=((1.0, 2.0),),
        distances=(1.0, 2.0),
        timestep_counts=(150, 300),
        stream_samples=2000,
        grid_points=512,
    ),
    "quick": Config(steps=2500),
    "paper": Config(
        steps=50_000,
        batch=10_000,
        decay="none",
        train_sizes=(25_000, 50_000, 100_000, 500_000),
        timestep_counts=(250, 500, 1000),
        seeds=3,
        stream_samples=100_000_000,
        workers=1,
        threads=4,
        device="cuda",
    ),
}


def _model(config: Config, **changes: Any) -> MixtureConfig:
    base = MixtureConfig(**{f.name: getattr(config, f.name) for f in fields(MixtureConfig)})
    return replace(base, **changes)


def _name(means: tuple[float, ...], size: int, timesteps: int, seed: int) -> str:
    return f"means-{'-'.join(f'{m:g}' for m in means)}_n-{size}_T-{timesteps}_seed-{seed}"


def _settings(config: Config) -> Iterator[tuple[tuple[float, ...], int, int]]:
    """(means, training size, T) of every setting; one that stands in two sweeps is trained once."""
    for means, size in itertools.product((config.means, config.far_means), config.train_sizes):
        yield means, size, config.timesteps
    for means in (*config.mode_sets, *((1.0, 1.0 + d) for d in config.distances), config.means):
        yield means, config.train_size, config.timesteps
    for timesteps in config.timestep_counts:
        yield config.means, config.train_size, timesteps


def _cells(config: Config) -> list[Cell]:
    cells = []
    for means, size, timesteps in dict.fromkeys(_settings(config)):
        for seed in range(config.seed, config.seed + config.seeds):
            model = _model(config, means=means, train_size=size, timesteps=timesteps, seed=seed)
            is_base = (means, size, timesteps) == (config.means, config.train_size, config.timesteps)
            respaced = tuple(t for t in config.timestep_counts if t < timesteps) if is_base else ()
            cells.append(Cell(_name(means, size, timesteps, seed), model, config.stream_samples, respaced))
    return cells


def _measure(job: tuple[Cell, Path], progress: Progress) -> dict[str, Any]:
    """Train a cell's model and compute its masses; finished cells are read back."""
    cell, folder = job
    record = folder / "mass.json"
    if record.exists():
        return dict(read_json(record))
    torch.set_num_threads(cell.model.threads)
    denoiser = cell.model.fit(folder / "model", Named(cell.name, progress))
    mass, law = exact_mass(denoiser, cell.model)
    target = cell.model.target
    pairs = target.label(law.x_0).between
    low, high = grid_range(target)
    result: dict[str, Any] = {"name": cell.name, **asdict(cell.model), "mass": mass.value, "error": mass.error}
    result["between"] = {
        f"{target.means[i, 0]:g}-{target.means[j, 0]:g}": float(law.mass[(pairs == (i, j)).all(1)].sum())
        for i, j in itertools.combinations(range(len(target.means)), 2)
    }
    result["respaced"] = {
        str(steps): off_support(denoiser, Ancestral(cell.model.variance, steps), target, low, high, cells=2)[0].value
        for steps in cell.respaced
    }
    if cell.stream_samples:
        result |= _stream(cell, denoiser, folder)
    write_json(record, result)
    return result


def _stream(cell: Cell, denoiser: Any, folder: Path) -> dict[str, Any]:
    target = cell.model.target
    edges = _edges(cell.model)

    def measure(samples: torch.Tensor) -> np.ndarray:
        values = samples[:, 0].nan_to_num(torch.inf).numpy()
        return np.append(np.histogram(values, edges)[0], target.label(samples).hallucinated.sum())

    table = TabulatedDenoiser(denoiser, *grid_range(target), points=cell.model.grid_points)
    plan = Plan(cell.stream_samples, (1,), cell.model.seed, device=cell.model.device)
    counts = tally(table, cell.model.sampler, plan, measure, file=folder / "histogram.safetensors")
    return {"streamed": cell.stream_samples, "hallucinated": int(counts[-1]), "histogram": counts[:-1].tolist()}


def _edges(model: MixtureConfig) -> np.ndarray:
    span = max(model.means) - min(model.means)
    return np.linspace(min(model.means) - 0.3 * span, max(model.means) + 0.3 * span, 401)


def run(run: Run, config: Config) -> Results:
    """Train all models, then compare; see the module's docstring."""
    jobs = [(cell, run.path / "cells" / cell.name) for cell in _cells(config)]
    pending = [job for job in jobs if not (job[1] / "mass.json").exists()]
    with run.progress.task("models", len(jobs), len(jobs) - len(pending), "models") as task:

        def finished() -> int:
            return sum((folder / "mass.json").exists() for _, folder in jobs)

        run_jobs(_measure, pending, config.workers, run.progress, task, finished)
    measured = [_measure(job, run.progress) for job in jobs]
    results = Results(series={"cells": [{k: v for k, v in row.items() if k != "histogram"} for row in measured]})
    results.values["models"] = len(measured)
    masses: dict[tuple[tuple[float, ...], int, int], list[float]] = defaultdict(list)
    for row in measured:
        masses[tuple(row["means"]), row["train_size"], row["timesteps"]].append(row["mass"])
    base = config.train_size, config.timesteps
    _size(run, results, config, masses)
    _modes(run, results, config, {m: masses[(m, *base)] for m in (*config.mode_sets, config.means)})
    _distance(run, results, config, masses, measured)
    _timesteps(run, results, config, masses, measured)
    _histograms(run, results, measured)
    return results


def _below_one(name: str, statement: str, paper: str, over: list[float], under: list[float]) -> Claim:
    return below(name, statement, paper, ratio_over_seeds(over, under), 1.0)


def _band(groups: list[list[float]]) -> plots.Band:
    estimates = [over_seeds(group) for group in groups]
    return [e.value for e in estimates], [e.low for e in estimates], [e.high for e in estimates]


Masses = dict[tuple[tuple[float, ...], int, int], list[float]]


def _label(means: tuple[float, ...]) -> str:
    return "(" + ", ".join(f"{m:g}" for m in means) + ")"


def _size(run: Run, results: Results, config: Config, masses: Masses) -> None:
    sizes = sorted(config.train_sizes)
    lines = {}
    for means in (config.means, config.far_means):
        groups = [masses[means, size, config.timesteps] for size in sizes]
        lines[_label(means)] = _band(groups)
        name = "-".join(f"{m:g}" for m in means)
        results.claims.append(
            _below_one(
                f"size-{name}",
                f"More training data, less interpolation: mass at {sizes[-1]:,} over mass at {sizes[0]:,} training "
                f"samples, modes {_label(means)}, under 1",
                "falls (Figs. 9, 10)",
                groups[-1],
                groups[0],
            )
        )
    plots.curves(
        run.figure("size"), sizes, lines, x_label="training samples", y_label="off-support mass", log_x=True, log_y=True
    )
    results.figures["size"] = (
        "Exact off-support mass against the training size, 95 % intervals over seeds. Compare Figs. 9, 10."
    )


def _modes(run: Run, results: Results, config: Config, by_modes: dict[tuple[float, ...], list[float]]) -> None:
    ordered = sorted(by_modes, key=lambda m: (len(m), m))
    plots.curves(
        run.figure("modes"),
        range(len(ordered)),
        {"off-support mass": _band([by_modes[m] for m in ordered])},
        x_label="modes",
        y_label="off-support mass",
        log_y=True,
        ticks=[_label(m) for m in ordered],
    )
    results.figures["modes"] = "Exact off-support mass of mixtures with different modes. Compare Figs. 11, 12."
    for means in ordered:
        results.values["mass_modes_" + "_".join(f"{m:g}" for m in means)] = over_seeds(by_modes[means]).value


def _distance(run: Run, results: Results, config: Config, masses: Masses, measured: list[dict[str, Any]]) -> None:
    distances = sorted(config.distances)
    groups = [masses[(1.0, 1.0 + d), config.train_size, config.timesteps] for d in distances]
    results.claims.append(
        _below_one(
            "distance-two",
            f"Modes farther apart interpolate less: mass at distance {distances[-1]:g} over mass at {distances[0]:g}, "
            "two modes, under 1",
            "falls",
            groups[-1],
            groups[0],
        )
    )
    far = [
        row["between"]
        for row in measured
        if (tuple(row["means"]), row["train_size"], row["timesteps"])
        == (config.far_means, config.train_size, config.timesteps)
    ]
    if far and config.far_means == (1.0, 2.0, 4.0):
        results.claims.append(
            _below_one(
                "distance-gap",
                "In the mixture (1, 2, 4) the wide gap holds less mass than the narrow one: between 2 and 4 over "
                "between 1 and 2, under 1",
                "far fewer (Fig. 2)",
                [row["2-4"] for row in far],
                [row["1-2"] for row in far],
            )
        )
    plots.curves(
        run.figure("distance"),
        distances,
        {"two modes": _band(groups)},
        x_label="distance of the two modes",
        y_label="off-support mass",
        log_y=True,
    )
    results.figures["distance"] = "Exact off-support mass of two-mode mixtures against the distance of their modes."


def _timesteps(run: Run, results: Results, config: Config, masses: Masses, measured: list[dict[str, Any]]) -> None:
    counts = sorted(config.timestep_counts)
    trained = [masses[config.means, config.train_size, t] for t in counts]
    base = [
        row
        for row in measured
        if (tuple(row["means"]), row["train_size"], row["timesteps"])
        == (config.means, config.train_size, config.timesteps)
    ]
    steps = [*(t for t in counts if t < config.timesteps), config.timesteps]
    respaced = [[r["respaced"].get(str(t), r["mass"]) for r in base] for t in steps]
    results.claims.append(
        _below_one(
            "timesteps",
            f"The rate falls with T: mass at T = {counts[-1]} over mass at T = {counts[0]}, trained and sampled with "
            "T steps between the same betas, under 1",
            "v1: grows with T; v2: falls with T",
            trained[-1],
            trained[0],
        )
    )
    if len(steps) > 1:
        results.claims.append(
            _below_one(
                "respaced",
                f"The rate falls with the number of sampling steps: mass at {steps[-1]} over mass at {steps[0]} steps "
                "of one model, under 1",
                "v1: grows; v2: falls",
                respaced[-1],
                respaced[0],
            )
        )
    plots.curves(
        run.figure("timesteps"),
        counts,
        {"trained and sampled with T": _band(trained)},
        x_label="timesteps $T$",
        y_label="off-support mass",
        log_x=True,
        log_y=True,
    )
    results.figures["timesteps"] = "Exact off-support mass against T, the betas' ends kept."
    plots.curves(
        run.figure("respaced"),
        steps,
        {"one model, respaced": _band(respaced)},
        x_label=f"sampling steps of a model with $T={config.timesteps}$",
        y_label="off-support mass",
        log_x=True,
        log_y=True,
    )
    results.figures["respaced"] = "Exact off-support mass of one model sampled in fewer, respaced steps."


def _histograms(run: Run, results: Results, measured: list[dict[str, Any]]) -> None:
    """Figs. 9-12 proper, where samples were streamed: one histogram for each model of the first seed."""
    for row in measured:
        if "histogram" not in row or row["seed"] != min(r["seed"] for r in measured):
            continue
        settings: dict[str, Any] = {f.name: row[f.name] for f in fields(MixtureConfig)}
        model = MixtureConfig(**{**settings, "means": tuple(row["means"])})
        edges = _edges(model)
        centres = torch.from_numpy((edges[:-1] + edges[1:]) / 2)[:, None]
        fine = torch.linspace(edges[0], edges[-1], 4001, dtype=torch.float64)[:, None]
        plots.log_density(
            run.figure(row["name"]),
            edges,
            np.array(row["histogram"]) / np.diff(edges) / row["streamed"],
            fine[:, 0].numpy(),
            model.target.log_prob(fine).exp().numpy(),
            model.target.label(centres).hallucinated,
            title=f"{row['streamed']:,} samples; trained on {row['train_size']:,}, T = {row['timesteps']}",
        )
        results.figures[row["name"]] = f"Samples of the model {row['name']}. Compare Figs. 9-12."
