"""The frames of a film in one dimension: two laws, what is decided between the modes, and two samples' x0_hat."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from matplotlib import rc_context
from matplotlib.figure import Figure

from intermode import style
from intermode.animating.film import Shot
from intermode.animating.laws import LATE, Film
from intermode.animating.shots import rendered
from intermode.schedules import CLEAN
from intermode.style import BAD, CUT, EXACT, GOOD, GUIDE, LEARNED, STYLE, TRUE
from intermode.targets.gaussian import GaussianMixture

__all__ = ["poster", "shots"]

FAINTEST, DENSEST = 1e-6, 20.0
"""Ends of the axis of densities: a ten-thousandth is seen."""
NOTHING = 1e-11
"""The lower end of the axis of masses."""
SIZE = (8.6, 5.4)
ROOM = {"left": 0.08, "right": 0.99, "top": 0.88, "bottom": 0.1, "wspace": 0.16, "hspace": 0.55}
"""Given, for it is the same in each frame; to look for it takes half of the time."""
EARLY, SLOW, END = 0.12, 0.8, 3.0
"""Seconds that a frame is shown: before the last steps, in them, and finished samples."""
NAMES = "learned score", "true score"


@rc_context(STYLE)
def shots(film: Film, target: GaussianMixture) -> list[Shot]:
    """The film."""
    found = []
    for k, level in enumerate(film.level.tolist()):
        figure = Figure(figsize=SIZE)
        _frame(figure, film, target, k)
        seconds = END if level == CLEAN else SLOW if level <= LATE else EARLY
        found.append(Shot(rendered(figure), seconds, _words(film, k)))
    return found


@rc_context(STYLE)
def poster(path: Path, film: Film, target: GaussianMixture) -> None:
    """The finished samples before all restarts as a figure, for where nothing moves."""
    figure = Figure(figsize=SIZE)
    _frame(figure, film, target, int(np.flatnonzero(film.level == CLEAN)[0]))
    style.save(figure, path)


def _place(film: Film, k: int) -> int | None:
    """The place among ``when`` of a frame; None before anything is counted."""
    level, restart = int(film.level[k]), int(film.restart[k])
    if restart:  # what is decided is told when a restart has ended
        return film.finished + restart - (level != CLEAN)
    found = np.flatnonzero(film.when[: film.finished + 1] == level)
    return int(found[0]) if len(found) else None


def _words(film: Film, k: int) -> str:
    level, restart, at = int(film.level[k]), int(film.restart[k]), _place(film, k)
    if level != CLEAN and (restart or at is None):
        return f"restart {restart}, at t = {level}" if restart else f"t = {level}"
    learned, true = film.decided[at]
    masses = f"{learned:.2g} by the learned score, {true:.1g} by the true one"
    if level != CLEAN:
        return f"t = {level}: decided to be off the support are {masses}"
    ended = f"after {restart} restart{'s' * (restart > 1)}" if restart else "finished samples"
    return f"{ended}: off the support are {masses}"


def _frame(figure: Figure, film: Film, target: GaussianMixture, k: int) -> None:
    level, restart, at = int(film.level[k]), int(film.restart[k]), _place(film, k)
    figure.suptitle(_words(film, k), fontsize=10, x=0.01, ha="left")
    top: Any = figure.subplots(2, 2, height_ratios=(1.5, 1))
    figure.subplots_adjust(**ROOM)
    reach = float(target.beyond * target.sigma.max())
    for column, (axes, colour) in enumerate(zip(top[0], (LEARNED, TRUE), strict=True)):
        density = np.maximum(film.density[k, column], FAINTEST / 10)
        axes.fill_between(film.x, FAINTEST / 10, density, color=colour, alpha=0.55, lw=0)
        axes.plot(film.x, density, color=colour, lw=1.2)
        for mean in target.means[:, 0]:
            axes.axvline(mean, color=GUIDE, lw=0.6, ls="--")
        ordered = np.sort(target.means[:, 0])
        for left, right in zip(ordered[:-1] + reach, ordered[1:] - reach, strict=True):
            if left < right:
                axes.axvspan(left, right, color=BAD, alpha=0.12, lw=0)
        axes.set(yscale="log", ylim=(FAINTEST, DENSEST), xlim=(film.x[0], film.x[-1]), xlabel="$x_t$")
        axes.minorticks_off()
        kind = "off the support" if level == CLEAN or restart else "decided to be off the support"
        told = "" if at is None else f": {film.decided[at, column]:.2g} {kind}"
        axes.set_title(f"{NAMES[column]}{told}")
    top[0, 0].set_ylabel("density (log)")
    _decided(top[1, 0], film, at)
    _followed(top[1, 1], film, target, level, restart)


def _decided(axes: Any, film: Film, at: int | None) -> None:
    places = np.arange(len(film.when))
    for column, (name, colour) in enumerate(zip(NAMES, (LEARNED, TRUE), strict=True)):
        values = np.maximum(film.decided[:, column], NOTHING)
        axes.plot(places, values, color=colour, lw=0.8, alpha=0.3)
        if at is not None:
            axes.plot(places[: at + 1], values[: at + 1], color=colour, marker="o", ms=2.5, lw=1.3, label=name)
            axes.plot(at, values[at], "o", ms=6, color=colour)
    axes.axvline(film.finished + 0.5, color=CUT, lw=0.8, ls=":")
    ticks = [k for k in places if film.when[k] % 5 == 0 and film.when[k] > 0] + [film.finished, int(places[-1])]
    words = [str(film.when[k]) for k in ticks[:-2]] + ["end", f"{places[-1] - film.finished} restarts"]
    axes.set_xticks(ticks, words)
    axes.set(yscale="log", ylim=(NOTHING, 1e-2), xlabel="timestep $t$, then restarts", ylabel="mass off the support")
    axes.minorticks_off()
    axes.set_title("decided by now, if the true score took over")


def _followed(axes: Any, film: Film, target: GaussianMixture, level: int, restart: int) -> None:
    for mean in target.means[:, 0]:
        axes.axhline(mean, color=GUIDE, lw=0.6, ls="--")
    if len(film.timesteps):
        done = (film.timesteps >= level) if not restart else np.ones(len(film.timesteps), dtype=bool)
        for column, (name, colour) in enumerate((("hallucinated", BAD), ("good", GOOD))):
            axes.plot(film.timesteps, film.x0_hat[:, column], color=colour, lw=0.8, alpha=0.25)
            axes.plot(film.timesteps[done], film.x0_hat[done, column], color=colour, lw=1.4, label=name)
        if not restart and 0 <= level <= film.timesteps[0]:
            axes.axvline(level, color=EXACT, lw=0.8)
        axes.set_xlim(film.timesteps[0], -1)
        axes.legend(loc="upper left", ncols=2)
    ends = target.means.min(), target.means.max()
    room = 0.45 * (ends[1] - ends[0] + 1)
    axes.set(ylim=(ends[0] - room / 2, ends[1] + room), xlabel="timestep $t$", ylabel=r"predicted $\hat{x}_0$")
    axes.set_title(r"$\hat{x}_0$ of two samples of the learned score")
