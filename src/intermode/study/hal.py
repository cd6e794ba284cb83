"""Hal on a labelled pool: what it can do at a study's own window and at others, and how it looks.

Of several windows the best one is chosen on half of the samples and judged on the other half.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
import torch

from intermode import plots
from intermode.detect.hal import Hal
from intermode.evaluation import Detection, Estimate, detection
from intermode.jobs import Done, Job, Running
from intermode.sampling import predictions
from intermode.study import Found, Measured, Picture
from intermode.study.configs import Lattice, Mixture, Pool
from intermode.study.steps import View, labelled, pool_of, sampled
from intermode.thresholds import Threshold

__all__ = [
    "Judged",
    "Windows",
    "choosing_half",
    "compare",
    "detection_values",
    "draw_hal",
    "draw_trajectories",
    "first",
    "follow_job",
    "loss_picture",
    "windows_picture",
]

LAST = 60
"""Timesteps under it are followed."""
Ends = tuple[int, int]
"""The first and the last timestep of a window, both included."""


@dataclass(frozen=True)
class Judged:
    """What configs of pools that Hal is judged on have in common.

    Attributes:
        model: whose samples they are.
        pool: samples to draw.
        window: timesteps of Hal, both ends included.
    """

    model: Any
    pool: Pool
    window: Ends

    def __post_init__(self) -> None:
        Hal(*self.window).check(self.model.noise.schedule, self.visited)

    @property
    def seed(self) -> int:
        return int(self.model.seed)

    @property
    def visited(self) -> Sequence[int]:
        """Timesteps of the chain."""
        return self.pool.sampler.timesteps(self.model.noise.schedule)

    def detectors(self, others: Iterable[Ends]) -> list[Hal]:
        """Hal at the own window, named ``hal``, and at each other window that the schedule has."""
        inside = [ends for ends in others if ends[1] < self.model.noise.timesteps]
        return [Hal(*self.window), *(Hal(*ends, name="hal-{}-{}".format(*ends)) for ends in inside)]


def first(mask: np.ndarray, count: int) -> list[int]:
    """The first rows where ``mask`` is true."""
    return [int(row) for row in np.flatnonzero(mask)[:count]]


def choosing_half(n: int) -> np.ndarray:
    """(n,) bool; the halves alternate, so that neither holds the start of the run alone."""
    return np.arange(n) % 2 == 0


def detection_values(found: Detection, prefix: str = "hal") -> dict[str, Estimate | float | int | None]:
    """Each statistic of a detector as a measure."""
    return {f"{prefix}_{f.name}": getattr(found, f.name) for f in fields(Detection)}


@dataclass(frozen=True)
class Windows:
    """What each window can do on the judging half.

    Attributes:
        judged: by window.
        best: the window that did best on the choosing half.
    """

    judged: Mapping[Ends, Detection]
    best: Ends

    @property
    def rows(self) -> list[dict[str, Any]]:
        """A row for each window, each statistic as value, low, high."""
        return [
            {"window": list(window), **{f.name: list(getattr(found, f.name).triple) for f in fields(Detection)}}
            for window, found in self.judged.items()
        ]


def compare(scores: Mapping[str, np.ndarray], bad: np.ndarray, seed: int, criterion: str) -> Windows | None:
    """Judge all windows of :meth:`Judged.detectors`.

    Args:
        scores: by detector name.
        bad: (n,) bool, hallucinated.
        seed: of the bootstrap.
        criterion: the statistic of :class:`intermode.evaluation.Detection` by which the best is chosen.

    Returns:
        None if a half has fewer than two samples of a class.
    """
    choose = choosing_half(len(bad))
    if min(bad[choose].sum(), bad[~choose].sum(), (~bad[choose]).sum(), (~bad[~choose]).sum()) < 2:
        return None
    # sorted: scores that were read back from a file come in another order
    found = ((re.fullmatch(r"hal-(\d+)-(\d+)", name), s) for name, s in scores.items())
    of = dict(sorted(((int(match[1]), int(match[2])), s) for match, s in found if match))
    quality = {w: getattr(detection(s[choose], bad[choose], resamples=1), criterion).value for w, s in of.items()}
    judged = {window: detection(s[~choose], bad[~choose], seed=seed) for window, s in of.items()}
    return Windows(judged, max(quality, key=lambda window: quality[window]))


def windows_picture(name: str, series: str, caption: str) -> Picture:
    """The statistics of :attr:`Windows.rows`, kept as a series, against the window: its end, where all begin at 0."""

    def draw(config: Any, found: Found, measured: Measured, path: Path) -> str | None:
        if not (rows := measured.series.get(series)):
            return None
        shown = {"AUROC": "auroc", "kept at 95 % removed": "kept_at_95_removed"}
        shown["removed at 95 % kept"] = "removed_at_95_kept"
        lines: Any = {label: tuple(zip(*(row[key] for row in rows), strict=True)) for label, key in shown.items()}
        top = max(rows, key=lambda row: row["auroc"][0])
        value, low, high = top["auroc"]
        best = f"AUROC is highest, {value:.3g} [{low:.3g}, {high:.3g}], at t = {top['window'][0]}..{top['window'][1]}"
        lows, ends = zip(*(row["window"] for row in rows), strict=True)
        if any(lows):
            ticks = ["{}\n{}".format(*row["window"]) for row in rows]
            plots.curves(
                path, ends, lines, x_label="window: first and last timestep", y_label="share", ticks=ticks, title=best
            )
        else:
            plots.curves(path, ends, lines, x_label="last timestep of the window from 0", y_label="share", title=best)
        return caption

    return Picture(name, draw)


def draw_hal(path: Path, scores: np.ndarray, bad: np.ndarray, window: Ends, removed: float, kept: float) -> None:
    """Scores of hallucinated and of other samples, with the cuts that remove and that keep such shares of them."""
    cuts = {
        f"removes {100 * removed:g} % of the hallucinations": Threshold.labelled(scores, bad, removed=removed).value,
        f"keeps {100 * kept:g} % of the others": Threshold.labelled(scores, bad, kept=kept).value,
    }
    plots.score_histogram(path, scores, bad, cuts, "Hal, t = {}..{}".format(*window))


def follow_job(
    name: str, model: Job, pool: Job, drawn: Pool, seed: int, target: Mixture | Lattice, view: View | None
) -> Job:
    """Record x0_hat of some samples of a pool.

    Args:
        name: of the job.
        model, pool: the pool's jobs.
        drawn, seed, view: how the pool was drawn.
        target: labels its samples.
    """
    what = {"pool": drawn, "seed": seed, "target": target, "view": view}
    return Job(name, follow, what, {"model": model, "pool": pool})


def follow(running: Running) -> dict[str, Any]:
    """x0_hat at the last timesteps, of ten hallucinated and then of ten other samples; none where one kind lacks."""
    config, pool = running.config, running.inputs["pool"]
    samples, bad = pool_of(pool), labelled(pool, config["target"]).hallucinated
    # the first ones: few chunks have to be drawn again
    rows, others = first(bad & ~samples.diverged, 10), first(~bad, 10)
    if not rows or not others:
        return {"rows": [], "hallucinated": 0}
    denoiser = sampled(running.inputs["model"], running.device, config["view"])
    plan = config["pool"].plan(tuple(samples.x.shape[1:]), config["seed"], running.device)
    timesteps, x0_hat = predictions(denoiser, config["pool"].sampler, plan, [*rows, *others], LAST)
    running.save({"timesteps": torch.from_numpy(timesteps), "x0_hat": torch.from_numpy(x0_hat)})
    return {"rows": [*rows, *others], "hallucinated": len(rows)}


def draw_trajectories(path: Path, followed: Done, window: Ends, means: np.ndarray) -> bool:
    """First coordinate of x0_hat that a job has followed; False if there is none."""
    if not followed.facts["rows"]:
        return False
    tensors, count = followed.tensors(), followed.facts["hallucinated"]
    timesteps, x0_hat = tensors["timesteps"].numpy(), tensors["x0_hat"].numpy()
    of_bad, of_others = x0_hat[:, :count, 0], x0_hat[:, count:, 0]
    plots.trajectories(path, timesteps, of_bad, of_others, window, np.unique(means[:, 0].round(9)).tolist())
    return True


def _loss(config: Any, found: Found, measured: Measured, path: Path) -> str:
    plots.loss(path, config.model.train.steps, np.array(found["model"].facts["losses"]))
    return "Training loss."


loss_picture = Picture("loss", _loss)
"""The loss curve of the job ``model``."""
