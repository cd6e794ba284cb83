r"""Mode interpolation on a square lattice of 25 Gaussians, axis-aligned and turned by 45°
(paper: sections 4.2, 5, A.1; Figs. 3, 5b, 6b).

For both lattices: train (or take the shipped model), sample, label, and judge Hal (variance per dimension, then
the mean) at the paper's two windows, t = 0..8 (A.1) and the last 20 steps (section 5), and at others. Which modes
are interpolated is asked of the exact law of the reverse chain: the off-support mass within 5σ of a segment
between nearest neighbours, and between second-nearest ones (the diagonals of the lattice; in the diamond they lie
along the axes), for each segment.

Sampling looks the network up in a coarse table for all but the last timesteps, where the network itself is asked.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from intermode import exact, plots, thresholds
from intermode.denoisers import NetworkDenoiser, TabulatedDenoiser
from intermode.detect.hal import Hal
from intermode.evaluation import detection, share
from intermode.experiments.model import ModelConfig, shipped_model
from intermode.experiments.windows import Windows, compare, detectors, from_zero
from intermode.files import read_json, write_json
from intermode.models import shipped
from intermode.run import Claim, Results, Run, at_least
from intermode.sampling import Samples, Plan, generate, predictions
from intermode.targets.gaussian import GaussianMixture, MixtureLabels
from intermode.targets.lattice import LATTICES, near_neighbours, neighbours

__all__ = ["REACH", "TIERS", "Config", "run"]

REACH = 5.5
"""The grids of table and density end there. N(0, I) leaves 4e-8 outside; at 4.5 it would be 7e-6 in each of the
many noisy steps, 0.4 % in all. The outermost modes lie at 2."""
PAPER_REMOVED = 0.96
"""Share of the hallucinations that the paper removes when it keeps 95 % of the in-support samples (section 5.2)."""
PAPER_WINDOWS = (8, 19)
"""Ends of the windows 0..end: "t = 0 to t = 8" (A.1) and "the last 20 steps" (section 5)."""
WINDOW_ENDS = (3, 5, 8, 10, 12, 15, 19, 30)


@dataclass(frozen=True)
class Config(ModelConfig):
    """Settings of ``gaussian-2d``.

    Attributes:
        pretrained: take the shipped models instead of training, half an hour each on one core.
        samples: to draw for each lattice.
        window: timesteps of Hal, both ends included; the paper's are 0 8 and 0 19.
        table_points: of the table per dimension, that stands for the network ...
        table_begin: ... from this timestep on.
        cells: of the coarser of two grids of the exact density, per standard deviation of a step's noise.
        watch_every: while training, compute the exact off-support mass every so many steps.
    """

    train_size: int = 100_000
    steps: int = 30_000
    batch: int = 4000
    pretrained: bool = True
    samples: int = 200_000
    window: tuple[int, int] = (0, 8)
    table_points: int = 96
    table_begin: int = 60
    cells: int = 1
    watch_every: int = 5000

    def check(self) -> None:
        super().check()
        Hal(*self.window).check(self.schedule, self.sampler.timesteps(self.schedule))
        _ = self.plan
        if self.pretrained:
            for name in LATTICES:
                shipped(name, self.schedule, name)

    @property
    def plan(self) -> Plan:
        return Plan(self.samples, (2,), self.seed, device=self.device)

    def table(self, denoiser: NetworkDenoiser) -> TabulatedDenoiser:
        """The denoiser that is sampled."""
        return TabulatedDenoiser(
            denoiser, -REACH, REACH, points=self.table_points, dimensions=2, begin=self.table_begin
        )


TIERS = {
    "smoke": Config(
        pretrained=False,
        train_size=5000,
        timesteps=200,
        beta_start=0.005,
        steps=300,
        batch=500,
        samples=5000,
        table_points=48,
        table_begin=20,
        watch_every=300,
    ),
    "quick": Config(),
    "paper": Config(
        pretrained=False,
        steps=100_000,
        batch=10_000,
        decay="none",
        samples=10_000_000,
        table_points=512,
        cells=2,
        watch_every=10_000,
        threads=4,
        device="cuda",
    ),
}


def run(run: Run, config: Config) -> Results:
    """Both lattices; see the module's docstring."""
    torch.set_num_threads(config.threads)
    results = Results()
    for name, make in LATTICES.items():
        _lattice(run, results, config, name, make())
        run.keep_time()
    _nearest_claims(results, "diamond")
    _nearest_claims(results, "grid")
    return results


def _model(run: Run, config: Config, name: str, target: GaussianMixture) -> tuple[NetworkDenoiser, list[Any]]:
    """The denoiser and the rows (step, mass) of its training curve."""
    if config.pretrained:
        curve = read_json(shipped(name, config.schedule, name) / "curve.json")
        return shipped_model(name, config.schedule, name, config.device), curve
    folder = run.path / name / "model"
    curve = folder / "curve.json"

    def watch(step: int, denoiser: NetworkDenoiser) -> None:
        rows = read_json(curve) if curve.exists() else []
        if step not in [row[0] for row in rows]:
            mass, _, _ = exact.mass_on_grid(denoiser, config.sampler, target, -REACH, REACH, cells=1)
            write_json(curve, [*rows, [step, mass]])

    data = target.sample(config.train_size, config.seed)
    trained = config.fit_to(data, folder, name, progress=run.progress, watch=watch, watch_every=config.watch_every)
    return trained, read_json(curve)


def _lattice(run: Run, results: Results, config: Config, name: str, target: GaussianMixture) -> None:
    denoiser, curve = _model(run, config, name, target)
    table = config.table(denoiser)
    folder = run.path / name
    if not (folder / "samples.safetensors").exists():
        table.prepare(config.sampler.timesteps(config.schedule), device=config.device, progress=run.progress)
    watching = [Hal(*config.window), *detectors(from_zero(WINDOW_ENDS), config.timesteps)]
    generated = generate(table, config.sampler, config.plan, watching, folder=folder, progress=run.progress)
    labels = target.label(generated.x)
    mass, law = exact.off_support(
        denoiser, config.sampler, target, -REACH, REACH, cells=config.cells, progress=run.progress
    )
    prefix = "" if name == "grid" else f"{name}_"
    bad = labels.hallucinated
    rate = share(int(bad.sum()), config.samples)
    results.values |= {
        f"{prefix}samples": config.samples,
        f"{prefix}hallucinated": int(bad.sum()),
        f"{prefix}diverged": int(generated.diverged.sum()),
        f"{prefix}hallucination_rate": rate.value,
        f"{prefix}hallucination_rate_low": rate.low,
        f"{prefix}hallucination_rate_high": rate.high,
        f"{prefix}exact_mass": mass.value,
        f"{prefix}exact_mass_error": mass.error,
        f"{prefix}exact_escaped": mass.escaped,
    }
    _segments(results, name, target, law)
    results.series[f"{name}_training"] = curve
    windows = _detection(results, config, name, generated, bad)
    _figures(run, results, config, name, target, table, generated, labels, windows)


def _segments(results: Results, name: str, target: GaussianMixture, law: exact.Outcome) -> None:
    """Off-support mass for each segment; also in the middle half of segments, away from the modes' own tails."""
    heavy = law.mass > 1e-14
    x, mass = law.x_0[heavy], law.mass[heavy]
    bad = target.label(x).hallucinated
    x, mass = x[bad], mass[bad]
    kind = near_neighbours(target, x)
    spacing = float(np.linalg.norm(np.subtract(*target.means[neighbours(target, 0)[0]])))
    away = target.label(x).distance * target.sigma.max() > spacing / 4
    for order, word in enumerate(("nearest", "second")):
        count = len(neighbours(target, order))
        results.values[f"{name}_{word}"] = float(mass[kind == order].sum()) / count
        results.values[f"{name}_{word}_middle"] = float(mass[(kind == order) & away].sum()) / count
    results.values[f"{name}_elsewhere"] = float(mass[kind < 0].sum())


def _nearest_claims(results: Results, name: str) -> None:
    along = "the x-axis and y-axis" if name == "diamond" else "the diagonals"
    for suffix, where in (("", ""), ("-middle", ", away from the modes (a quarter spacing)")):
        nearest, second = (
            results.values[f"{name}_{w}{suffix.replace('-', '_')}"] or 0.0 for w in ("nearest", "second")
        )
        ratio = nearest / second if second else None
        results.claims.append(
            Claim(
                f"{name}-nearest{suffix}",
                f"{name}: only nearest neighbours are interpolated, not along {along}: exact mass per segment, nearest "
                f"over second-nearest{where}, at least 20",
                "none on the latter (Fig. 3)",
                ratio,
                None,
                None,
                ratio is None or ratio >= 20,
            )
        )


def _detection(results: Results, config: Config, name: str, generated: Samples, bad: np.ndarray) -> Windows | None:
    prefix = "" if name == "grid" else f"{name}_"
    if min(bad.sum(), (~bad).sum()) < 10:
        results.notes.append(f"{name}: {int(bad.sum())} of {len(bad)} samples are hallucinated: too few to judge.")
        return None
    whole = detection(generated.scores["hal"], bad, seed=config.seed)
    results.values |= {
        f"{prefix}hal_auroc": whole.auroc.value,
        f"{prefix}hal_auroc_low": whole.auroc.low,
        f"{prefix}hal_auroc_high": whole.auroc.high,
        f"{prefix}hal_kept_at_95_removed": whole.kept_at_95_removed.value,
        f"{prefix}hal_removed_at_95_kept": whole.removed_at_95_kept.value,
        f"{prefix}hal_removed_at_98_kept": whole.removed_at_98_kept.value,
    }
    windows = compare(generated.scores, bad, config.seed, "removed_at_95_kept")
    if windows is None:
        return None
    results.series[f"{name}_windows"] = windows.rows
    results.values[f"{prefix}hal_best_window_end"] = windows.best[1]
    wanted = {str(end): ((0, end), f"t = 0..{end}") for end in PAPER_WINDOWS if (0, end) in windows.judged}
    wanted["best"] = windows.best, f"the best window t = 0..{windows.best[1]}, chosen on the other half"
    for key, (window, where) in wanted.items():
        removed = windows.judged[window].removed_at_95_kept
        results.claims.append(
            Claim(
                f"{name}-detection-{key}",
                f"{name}: Hal removes 96 % of the hallucinations and keeps 95 % of the in-support samples ({where})",
                "96 % removed",
                *removed.triple,
                at_least(removed, PAPER_REMOVED),
            )
        )
    return windows


def _figures(
    run: Run,
    results: Results,
    config: Config,
    name: str,
    target: GaussianMixture,
    table: TabulatedDenoiser,
    generated: Samples,
    labels: MixtureLabels,
    windows: Windows | None,
) -> None:
    bad = labels.hallucinated
    plots.scatter(
        run.figure(f"{name}-scatter"),
        target.sample(20_000, config.seed + 1).numpy(),
        generated.x[: min(config.samples, 100_000)].numpy(),
        bad[: min(config.samples, 100_000)],
    )
    results.figures[f"{name}-scatter"] = (
        f"{name}: samples of the data (orange) over generated samples (blue), off-support ones in red. Compare Fig. 3."
    )
    if windows is not None:
        rows = [int(row) for row in np.flatnonzero(bad & ~generated.diverged)[:10]]
        others = [int(row) for row in np.flatnonzero(~bad)[:10]]
        below = min(60, config.timesteps)
        timesteps, x0_hat = predictions(table, config.sampler, config.plan, [*rows, *others], below)
        plots.trajectories(
            run.figure(f"{name}-trajectories"),
            timesteps,
            x0_hat[:, : len(rows), 0],
            x0_hat[:, len(rows) :, 0],
            config.window,
            np.unique(target.means[:, 0].round(9)).tolist(),
        )
        results.figures[f"{name}-trajectories"] = (
            f"{name}: first coordinate of the predicted x0 along the last timesteps, hallucinated samples in red. "
            "Compare Fig. 5b."
        )
        scores = generated.scores["hal"]
        cuts = {
            "removes 96 % of the hallucinations": thresholds.Threshold.labelled(scores, bad, removed=0.96).value,
            "keeps 95 % of the in-support samples": thresholds.Threshold.labelled(scores, bad, kept=0.95).value,
        }
        window = f"Hal, t = {config.window[0]}..{config.window[1]}"
        plots.score_histogram(run.figure(f"{name}-hal"), scores, bad, cuts, window)
        results.figures[f"{name}-hal"] = f"{name}: Hal of hallucinated and in-support samples. Compare Fig. 6b."
        windows.draw(run.figure(f"{name}-windows"))
        results.figures[f"{name}-windows"] = f"{name}: detection against the end of the window, 95 % intervals."
    curve = results.series[f"{name}_training"]
    steps, mass = (list(column) for column in zip(*curve, strict=True))
    plots.curves(
        run.figure(f"{name}-training"),
        steps,
        {"exact mass": (mass, mass, mass)},
        x_label="optimiser steps",
        y_label="off-support mass",
        log_y=True,
    )
    results.figures[f"{name}-training"] = (
        f"{name}: off-support mass as training goes on (exact density on one coarse grid, good to some per cent)."
    )
