"""The picture of an explanation: score, blend, way and restarts, of images or of samples of a few numbers."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from matplotlib import rc_context
from matplotlib.figure import Figure

from intermode import style
from intermode.data.pixels import picture_of
from intermode.explaining.words import percent
from intermode.files import replacing
from intermode.style import BAD, BEST, CUT, GOOD, GUIDE, MENDED, OTHER, STYLE, shades
from intermode.targets.gaussian import GaussianMixture

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from intermode.explaining import Explanation

__all__ = ["draw"]

FRAMES, OUTCOMES = 10, 8
BARS, MANY = 60, 50
"""Of the histogram of scores, and counts from which its axis is logarithmic."""
SMALL: Any = {**STYLE, "axes.titlesize": 8, "font.size": 8, "legend.fontsize": 7}


@rc_context(SMALL)
def draw(path: Path, found: Explanation) -> None:
    """Write the picture as a PNG."""
    figure = Figure(figsize=(10, 6.4 if found.x.ndim > 1 else 6.0), layout="constrained")
    said = "" if found.hallucinated is None else ", off the support" if found.hallucinated else ", in the support"
    figure.suptitle(
        f"Sample {found.name}{said}: its {found.standing.name or 'score'} is higher than that of "
        f"{percent(found.standing.lower)} of the others",
        fontsize=11,
        x=0.01,
        ha="left",
    )
    (_images if found.x.ndim > 1 else _points)(figure, found)
    with replacing(path) as temporary:
        figure.savefig(temporary, dpi=150)


def _images(figure: Figure, found: Explanation) -> None:
    rows: Any = figure.subfigures(3, 1, height_ratios=(2.4, 1.25, 2.2))
    top, strip, bottom = rows
    shown: list[tuple[str, np.ndarray]] = [("the sample", found.x)]
    if (blend := found.blend) is not None:
        near, other = (f"{name}\n({d:.3g} away)" for name, d in zip(blend.names, blend.distances, strict=True))
        mixed = f"{percent(1 - blend.weight)} of the one and\n{percent(blend.weight)} of the other"
        shown += [(near, blend.anchors[0]), (mixed, blend.mix), (other, blend.anchors[1])]
        shown.append((f"what is left:\n{blend.residual:.3g} a pixel", found.x - blend.mix))
    axes = top.subplots(1, 1 + len(shown), width_ratios=[1.5, *[1.0] * len(shown)])
    _histogram(axes[0], found)
    for each, (title, pixels) in zip(axes[1:], shown, strict=True):
        style.image(each, picture_of(pixels), framed=bool(found.hallucinated) and title == "the sample")
        each.set_title(_lines(title), fontsize=7)
    path = found.path
    frames = np.unique(np.linspace(0, len(path.timesteps) - 1, FRAMES).round().astype(int))
    how = "recorded on its way" if path.recorded else "of the sample noised to t, one noise"
    strip.suptitle(rf"$\hat{{x}}_0$, {how}", fontsize=8, x=0.01, ha="left")
    moved = path.moved or (-1, -1)
    for each, k in zip(strip.subplots(1, len(frames)), frames, strict=True):
        style.image(each, picture_of(path.x0_hat[k, 0]))
        t = int(path.timesteps[k])
        each.set_title(f"$t={t}$", fontsize=7, fontweight="bold" if moved[0] <= t <= moved[1] else None)
    left, right = bottom.subfigures(1, 2, width_ratios=(1, 1.25))
    _away(left.subplots(), found)
    r = found.restarts
    right.suptitle(_restarts(found), fontsize=8, x=0.01, ha="left")
    panels = right.subplots(2, OUTCOMES // 2).ravel()
    for each, pixels, good in zip(panels, r.x, r.good, strict=False):
        style.image(each, picture_of(pixels), framed=not good)


def _lines(title: str, width: int = 24) -> str:
    """A long title in several lines."""
    import textwrap

    return "\n".join(line for part in title.split("\n") for line in textwrap.wrap(part, width) or [""])


def _points(figure: Figure, found: Explanation) -> None:
    (left, right), (low, last) = figure.subplots(2, 2)
    _histogram(left, found)
    (_line if len(found.x) == 1 else _plane)(right, found, found.data, "samples", GOOD)
    right.set_title(_blended(found))
    if len(found.x) == 1:
        _way(low, found)
    else:
        _away(low, found)
    r = found.restarts
    (_line if len(found.x) == 1 else _plane)(last, found, r.x, "restarts", MENDED)
    last.set_title(_restarts(found))


def _restarts(found: Explanation) -> str:
    r = found.restarts
    good = "in the support" if r.limit is None else f"with a {r.limit[0]} of at most {r.limit[1]:.3g}"
    frames = "; the others are framed" if found.x.ndim > 1 and not r.good.all() else ""
    return f"Restarted from t = {r.t}: {int(r.good.sum())} of {len(r.good)} end {good}{frames}"


def _blended(found: Explanation) -> str:
    if (blend := found.blend) is None:
        return "Where it lies; no modes and no training data are known"
    return (
        f"{percent(1 - blend.weight)} of {blend.names[0]} and {percent(blend.weight)} of {blend.names[1]}\n"
        f"come closest, and leave {round(blend.residual, 6):.3g}"
    )


def _histogram(axes: Axes, found: Explanation) -> None:
    s = found.standing
    values = s.values[np.isfinite(s.values)]
    if not len(values):
        axes.set_axis_off()
        return
    log = values.min() > 0 and values.max() > 20 * np.median(values)
    # diverged samples may score 1e30: they stand in the last bin
    top = max(float(np.quantile(values, 0.9999)), s.value if np.isfinite(s.value) else 0.0)
    ends = values.min(), max(top, values.min() + 1e-9 * abs(values.min()) + 1e-12)
    values = values.clip(*ends)
    edges = np.geomspace(*ends, BARS + 1) if log else np.linspace(*ends, BARS + 1)
    counts = np.histogram(values, edges)[0]
    axes.stairs(counts, edges, fill=True, color=GOOD, alpha=0.65)
    if np.isfinite(s.value):
        axes.axvline(s.value, color=CUT, lw=1.2)
    axes.set(xlabel=s.name or "score", ylabel="samples")
    if counts.max() > MANY:
        axes.set(yscale="log", ylim=(0.7, None))
    if log:
        axes.set_xscale("log")
    axes.set_title(
        f"{s.name or 'score'} {s.value:.4g}, higher than\n{percent(s.lower)} of {len(s.values) - 1:,} others"
    )


def _away(axes: Axes, found: Explanation) -> None:
    path, unit = found.path, "root mean square" if found.x.ndim > 1 else "units of the data"
    for each, colour, label in ((found.typical, GUIDE, "a typical sample"), (path, CUT, "this sample")):
        if each is not None:
            axes.plot(np.arange(len(each.timesteps)), each.away, color=colour, marker="o", ms=2.5, lw=1.2, label=label)
    _timesteps(axes, path.timesteps)
    axes.set(ylabel=r"distance of $\hat{x}_0$ from it" + f"\n({unit})", ylim=(0, None))
    axes.set_title(_moved(found))
    axes.legend(loc="upper right")


def _moved(found: Explanation) -> str:
    if (moved := found.path.moved) is None:
        return r"$\hat{x}_0$ does not move"
    beside = found.typical.moved if found.typical is not None else None
    typical = "" if beside is None else f"\n(that of a typical sample between {beside[0]} and {beside[1]})"
    how = "Recorded" if found.path.recorded else "Noised again"
    return rf"{how}: $\hat{{x}}_0$ moves between t = {moved[0]} and {moved[1]}{typical}"


def _timesteps(axes: Axes, timesteps: np.ndarray) -> None:
    """Ticks for places 0, 1, ... of some timesteps."""
    places = np.unique(np.linspace(0, len(timesteps) - 1, 8).round().astype(int))
    axes.set_xticks(places, [str(timesteps[k]) for k in places])
    axes.set_xlabel("timestep $t$ (the sample is finished at the right)")


def _way(axes: Axes, found: Explanation) -> None:
    """x0_hat of a sample of one number, all noises, over t."""
    path, places = found.path, np.arange(len(found.path.timesteps))
    for mean in _modes(found):
        axes.axhline(float(mean[0]), color=GUIDE, lw=0.6, ls="--")
    colour = BAD if found.hallucinated else GOOD
    count = path.x0_hat.shape[1]
    for k in range(count):
        shade = shades(colour)((k + 1) / count)
        label = f"of this sample ({count} noises)" if count > 1 else "of this sample"
        alpha = 1.0 if count == 1 else 0.35
        axes.plot(
            places, path.x0_hat[:, k, 0], color=shade, lw=0.9, alpha=alpha, label=label if k == count - 1 else None
        )
    axes.axhline(float(found.x[0]), color=CUT, lw=1.2, label="the sample")
    _timesteps(axes, path.timesteps)
    axes.set(ylabel=r"$\hat{x}_0$, in units of the data")
    axes.set_ylim(*_range(found))
    axes.set_title(_moved(found))
    axes.legend(loc="upper left", ncols=2)


def _modes(found: Explanation) -> np.ndarray:
    return found.target.means if isinstance(found.target, GaussianMixture) else np.empty((0, len(found.x)))


def _range(found: Explanation) -> tuple[float, float]:
    """Ends of an axis of one number, so that what ran away does not squeeze all else together."""
    data = found.data[:, 0] if found.data is not None else found.restarts.x[:, 0]
    low, high = np.quantile(data, [0.005, 0.995])
    low, high = min(low, found.x[0]), max(high, found.x[0])
    return low - 0.15 * (high - low), high + 0.15 * (high - low)


def _line(axes: Axes, found: Explanation, data: np.ndarray | None, label: str, colour: str) -> None:
    """Samples of one number in counts, the sample and its anchors marked."""
    low, high = _range(found)
    if data is not None:
        counts, edges = np.histogram(data[:, 0].clip(low, high), np.linspace(low, high, 121))
        axes.stairs(counts, edges, fill=True, color=colour, alpha=0.65, label=f"{label} ({len(data):,})")
    _marks(axes, found)
    top = 50 * max(counts.max() if data is not None else 1, 1)  # room for the legend
    axes.set(xlim=(low, high), yscale="log", ylim=(0.7, top), xlabel="$x$", ylabel="samples")
    axes.legend(loc="upper left", ncols=2)


def _marks(axes: Axes, found: Explanation) -> None:
    axes.axvline(float(found.x[0]), color=BAD if found.hallucinated else CUT, lw=1.4, label="the sample")
    if found.blend is not None:
        for k, anchor in enumerate(found.blend.anchors):
            axes.axvline(float(anchor[0]), color=BEST, lw=1.0, ls=("--", ":")[k], label=_lines(found.blend.names[k]))


def _plane(axes: Axes, found: Explanation, data: np.ndarray | None, label: str, colour: str) -> None:
    """Samples of two numbers around the sample; of more, their first two."""
    if (modes := _modes(found)).size:
        axes.scatter(modes[:, 0], modes[:, 1], s=30, marker="+", color=BEST, lw=0.8, label="modes")
    if data is not None:
        axes.scatter(data[:, 0], data[:, 1], s=5, color=colour, lw=0, label=f"{label} ({len(data):,})")
    if found.blend is not None:
        axes.plot(*found.blend.anchors[:, :2].T, color=OTHER, lw=1, label="the blend")
    axes.scatter(
        found.x[:1],
        found.x[1:2],
        s=40,
        marker="x",
        color=BAD if found.hallucinated else CUT,
        lw=1.5,
        label="the sample",
    )
    ends = found.x[None, :2] if found.blend is None else np.concatenate([found.blend.anchors[:, :2], found.x[None, :2]])
    middle, reach = ends.mean(0), 1.6 * max(float(np.ptp(ends, axis=0).max()), 1e-3)
    axes.set(xlim=(middle[0] - 1.6 * reach, middle[0] + 1.6 * reach), ylim=(middle[1] - reach, middle[1] + reach))
    axes.set(aspect="equal", xlabel="$x_1$", ylabel="$x_2$")
    axes.legend(loc="center left", bbox_to_anchor=(1.0, 0.5))
