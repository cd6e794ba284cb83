"""The frames of a film of images: x0_hat of a flagged sample beside that of a good one, from noise to data."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from matplotlib import rc_context
from matplotlib.figure import Figure

from intermode import style
from intermode.animating.film import Shot
from intermode.animating.shots import rendered
from intermode.data.pixels import picture_of
from intermode.denoisers import Denoiser
from intermode.detect.registry import Setting, resolve
from intermode.progress import Progress
from intermode.samplers import Ancestral, Sampler
from intermode.sampling import Plan, chunk_for, generate, predictions
from intermode.style import BAD, CUT, GOOD, STYLE

__all__ = ["STEPS", "Pair", "drawn_pair", "shots"]

STEPS = Ancestral("small", 50)
"""The chain, unless another is asked for."""
CHUNK = 16
"""Images drawn together: those of two chunks are drawn again."""
EACH, END = 0.14, 2.5
"""Seconds that a frame is shown, and the last one."""


@dataclass(frozen=True)
class Pair:
    """Two samples and x0_hat on their way.

    Attributes:
        words: what they are.
        timesteps: (K,) falling.
        x0_hat: (K, 2, *shape).
    """

    words: tuple[str, str]
    timesteps: np.ndarray
    x0_hat: np.ndarray


def drawn_pair(
    denoiser: Denoiser,
    n: int,
    *,
    target: Any,
    sampler: Sampler,
    condition: Mapping[str, Any],
    seed: int,
    progress: Progress,
) -> Pair:
    """Draw n images, choose two, and draw these again with x0_hat.

    With a target: the first image of two of a kind, or else the first that is off the support, and the first other one
    of several shapes. Without: those of the highest and of the middle Hal.
    """
    shape = denoiser.shape
    setting = Setting(shape, timesteps=len(denoiser.schedule), model=denoiser, sampler=sampler)
    plan = Plan(n, shape, seed, min(CHUNK, n, chunk_for(shape)), device=str(denoiser.device))
    hal = resolve("hal", setting, "sample")
    made = generate(denoiser, sampler, plan, hal, progress=progress, **condition)
    scores = made.scores["hal"]
    rows, words = _chosen(made.x, scores, target)
    timesteps, x0_hat = predictions(denoiser, sampler, plan, rows, len(denoiser.schedule), **condition)
    return Pair(words, timesteps, x0_hat)


def _chosen(x: Any, scores: np.ndarray, target: Any) -> tuple[list[int], tuple[str, str]]:
    order = np.argsort(np.nan_to_num(scores, nan=np.inf), kind="stable")
    if target is not None:
        labels = target.label(x)
        bad = labels.hallucinated
        worst = labels.duplicate if getattr(labels, "duplicate", bad).any() else bad
        several = getattr(labels, "counts_by_kind", np.full((len(x), 1), 2)).sum(1) > 1
        good = ~bad & several if (~bad & several).any() else ~bad
        if bad.any() and good.any():
            row = int(np.flatnonzero(worst)[0])
            rule = str(labels.rule[row])
            return [row, int(np.flatnonzero(good)[0])], (f"off the support ({rule})", "in the support")
    high, middle = int(order[-1]), int(order[len(order) // 2])
    return [high, middle], (f"highest Hal of {len(x)}: {scores[high]:.3g}", f"middle Hal: {scores[middle]:.3g}")


@rc_context(STYLE)
def shots(pair: Pair) -> list[Shot]:
    """The film."""
    found = []
    last = pair.x0_hat[-1]
    axes_of = tuple(range(2, pair.x0_hat.ndim))
    away = np.sqrt(((pair.x0_hat.astype(np.float64) - last) ** 2).mean(axes_of))
    for k, t in enumerate(pair.timesteps.tolist()):
        figure = Figure(figsize=(5.6, 4.6), layout="constrained")
        figure.suptitle(rf"$\hat{{x}}_0$ at $t = {t}$", fontsize=10, x=0.01, ha="left")
        grid = figure.add_gridspec(2, 2, height_ratios=(2.4, 1))
        for column, (word, colour) in enumerate(zip(pair.words, (BAD, GOOD), strict=True)):
            axes = figure.add_subplot(grid[0, column])
            style.image(axes, picture_of(pair.x0_hat[k, column]))
            for spine in axes.spines.values():
                spine.set(color=colour, linewidth=2)
            axes.set_title(word)
        below = figure.add_subplot(grid[1, :])
        for column, colour in enumerate((BAD, GOOD)):
            below.plot(pair.timesteps, away[:, column], color=colour, lw=0.8, alpha=0.3)
            below.plot(pair.timesteps[: k + 1], away[: k + 1, column], color=colour, lw=1.5)
        below.axvline(t, color=CUT, lw=0.8)
        below.set(xlim=(pair.timesteps[0], -1), ylim=(0, 1.05 * float(np.nanmax(away)) or 1), xlabel="timestep $t$")
        below.set_ylabel(r"$\hat{x}_0$ from its end" + "\n(root mean square)")
        final = k == len(pair.timesteps) - 1
        words = f"t = {t}: x0_hat is {away[k, 0]:.2g} a pixel from its end, and {away[k, 1]:.2g}"
        found.append(Shot(rendered(figure), END if final else EACH, words))
    return found
