"""From arrays to figures: one function for each kind of figure, drawn as the paper draws it.

Each function writes ``<path>.png`` and, for papers, ``<path>.pdf`` beside it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from matplotlib import colormaps, rc_context
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FuncFormatter, MaxNLocator
from scipy.integrate import trapezoid
from scipy.stats import spearmanr

from intermode import style
from intermode.files import replacing
from intermode.style import BAD, CUT, EXACT, GOOD, GUIDE, LEARNED, MENDED, OTHER, STYLE, TRUE, Box, colours_of, shades

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = [
    "Band",
    "Box",
    "bars",
    "before_after",
    "cost_quality",
    "curves",
    "fields",
    "film_strips",
    "image_panels",
    "levels",
    "log_densities",
    "log_density",
    "loss",
    "pareto",
    "points_by_kind",
    "roc",
    "scatter",
    "scatter_panels",
    "score_histogram",
    "sheet",
    "trajectories",
    "where_and_why",
]

FAINTEST = 1e-9
"""Densities under it are not drawn."""
Band = tuple[Sequence[float], Sequence[float], Sequence[float]]
"""Values of a curve with the lower and upper ends of their intervals."""


@rc_context(STYLE)
def log_density(
    path: Path,
    edges: np.ndarray,
    samples: np.ndarray,
    true_x: np.ndarray,
    true_density: np.ndarray,
    off_support: np.ndarray,
    *,
    exact: np.ndarray | None = None,
    title: str = "",
) -> None:
    """Fig. 2: histogram of the samples under the true density, on a log axis; its title says the mass off the support.

    Args:
        edges: (B + 1,) of the bins.
        samples: (B,) density of the samples in each bin.
        true_x, true_density: (G,) the true density.
        off_support: (B,) bool, the bins off the support, shaded and outlined.
        exact: (B,) density of the reverse chain itself, drawn as a thin line.
    """
    figure, (axes,) = style.figure(6.4, 3.2)
    _log_density(axes, edges, samples, true_x, true_density, off_support, exact)
    axes.set_xlabel("$x$")
    axes.set_ylabel("density")
    mass = float((samples * np.diff(edges))[off_support].sum())
    finding = f"{mass:.2g} of the samples lie off the support"
    axes.set_title(f"{title}: {finding}" if title else finding, fontsize=8)
    axes.legend(loc="upper center", bbox_to_anchor=(0.5, -0.18), ncols=4)
    style.save(figure, path)


def _log_density(
    axes: Axes,
    edges: np.ndarray,
    samples: np.ndarray,
    true_x: np.ndarray,
    true_density: np.ndarray,
    off_support: np.ndarray,
    exact: np.ndarray | None = None,
) -> None:
    floor = max(samples[samples > 0].min() / 3, FAINTEST) if (samples > 0).any() else FAINTEST
    centres = (edges[:-1] + edges[1:]) / 2
    axes.stairs(np.maximum(samples, floor), edges, baseline=floor, fill=True, color=GOOD, alpha=0.65, label="generated")
    axes.plot(true_x, np.maximum(true_density, floor * 1e-3), color=TRUE, lw=1.3, label="true density")
    if exact is not None:
        axes.plot(centres, np.maximum(exact, floor * 1e-3), color=EXACT, lw=0.7, label="exact law of the chain")
    changes = np.flatnonzero(np.diff(np.concatenate([[0], off_support.astype(int), [0]])))
    for k, (begin, end) in enumerate(changes.reshape(-1, 2)):
        label = "off the support" if k == 0 else None
        axes.axvspan(edges[begin], edges[end], facecolor=BAD, alpha=0.1, label=label)
        for edge in (edges[begin], edges[end]):
            axes.axvline(edge, color=BAD, lw=0.6, ls=":")
    axes.set_yscale("log")
    axes.set_ylim(floor, 3 * max(samples.max(), true_density.max()))
    axes.set_xlim(edges[0], edges[-1])


@rc_context(STYLE)
def log_densities(path: Path, rows: Sequence[Sequence[tuple[str, Mapping[str, np.ndarray]]]]) -> None:
    """Figs. 9-12: panels beside each other, each (title, arguments of :func:`log_density`), rows of any length."""
    columns = max(map(len, rows))
    figure, all_axes = style.figure(max(1.9 * columns + 0.6, 4.6), 1.6 * len(rows) + 0.4, columns, len(rows))
    for k, axes in enumerate(all_axes):
        row, column = divmod(k, columns)
        if column >= len(rows[row]):
            axes.set_axis_off()
            continue
        title, shown = rows[row][column]
        _log_density(axes, **shown)
        axes.set_title(title, fontsize=7)
        axes.tick_params(labelsize=6)
        if column == 0:
            axes.set_ylabel("density", fontsize=7)
        if row == len(rows) - 1 or column >= len(rows[row + 1]):
            axes.set_xlabel("$x$", fontsize=7)
    handles, labels = all_axes[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=4, fontsize=7)
    masses = {
        title: float((shown["samples"] * np.diff(shown["edges"]))[shown["off_support"]].sum())
        for row in rows
        for title, shown in row
    }
    least, most = min(masses, key=lambda t: masses[t]), max(masses, key=lambda t: masses[t])
    figure.suptitle(
        f"Share off the support: from {masses[least]:.2g} ({least}) to {masses[most]:.2g} ({most})", fontsize=9
    )
    style.save(figure, path)


@rc_context(STYLE)
def scatter(path: Path, real: np.ndarray, generated: np.ndarray, hallucinated: np.ndarray) -> None:
    """Fig. 3: real samples over generated ones, those off the support marked; the title says how many these are.

    Args:
        real: (m, 2).
        generated: (n, 2).
        hallucinated: (n,) bool.
    """
    figure, (axes,) = style.figure(4.6, 4.8)
    reach = 1.25 * np.abs(real).max()
    axes.scatter(
        generated[~hallucinated, 0],
        generated[~hallucinated, 1],
        color=GOOD,
        label="generated",
        s=1.5,
        lw=0,
        rasterized=True,
    )
    axes.scatter(real[:, 0], real[:, 1], color=TRUE, label="real", s=1.5, lw=0, rasterized=True)
    axes.scatter(
        generated[hallucinated, 0],
        generated[hallucinated, 1],
        color=BAD,
        label="generated, off the support",
        s=4,
        lw=0,
        rasterized=True,
    )
    axes.set(xlim=(-reach, reach), ylim=(-reach, reach), aspect="equal", xlabel="$x_1$", ylabel="$x_2$")
    axes.set_title(f"{hallucinated.sum():,} of {len(generated):,} samples lie off the support")
    axes.legend(loc="upper center", bbox_to_anchor=(0.5, -0.12), ncols=3, fontsize=8, markerscale=5)
    style.save(figure, path)


@rc_context(STYLE)
def scatter_panels(
    path: Path, panels: Sequence[tuple[str, np.ndarray, np.ndarray]], columns: int, reach: float
) -> None:
    """Fig. 7: one panel for each (title, samples (n, 2), hallucinated (n,)), in rows of ``columns``; axes end at
    -reach and reach."""
    rows = -(-len(panels) // columns)
    figure, all_axes = style.figure(2.0 * columns, 2.15 * rows, columns, rows, sharex=True, sharey=True)
    for axes, (title, samples, bad) in zip(all_axes, panels, strict=True):
        for mask, colour, size in ((~bad, GOOD, 1.0), (bad, BAD, 2.5)):
            axes.scatter(samples[mask, 0], samples[mask, 1], s=size, color=colour, lw=0, rasterized=True)
        axes.set(xlim=(-reach, reach), ylim=(-reach, reach), aspect="equal")
        axes.set_title(f"{title}\n{bad.sum():,} of {len(bad):,} off the support", fontsize=7)
    for k, axes in enumerate(all_axes):
        axes.set(xlabel="$x_1$" if k >= len(panels) - columns else "", ylabel="$x_2$" if k % columns == 0 else "")
    style.save(figure, path)


@rc_context(STYLE)
def trajectories(
    path: Path,
    timesteps: np.ndarray,
    hallucinated: np.ndarray,
    in_support: np.ndarray,
    window: tuple[int, int],
    modes: Sequence[float] = (),
) -> None:
    """Fig. 5: x0_hat along the last timesteps; the title says how much each kind still varies within the window.

    Args:
        timesteps: (K,).
        hallucinated, in_support: (K, n) predictions.
        window: of the detector, shaded.
        modes: marked by dashed lines.
    """
    figure, (axes,) = style.figure(5.2, 3.2)
    for values, colour, label in ((in_support, GOOD, "in-support"), (hallucinated, BAD, "hallucinated")):
        for k in range(values.shape[1]):
            shade = shades(colour)(0.3 + 0.7 * k / max(values.shape[1] - 1, 1))
            named = f"{label} ({values.shape[1]})" if k == 0 else None
            axes.plot(timesteps, values[:, k], color=shade, lw=0.9, label=named)
    axes.axvspan(*window, color=GUIDE, alpha=0.15, lw=0, label="Hal window")
    for mode in modes:
        axes.axhline(mode, color=GUIDE, lw=0.6, ls="--")
    axes.set_xlim(timesteps.max(), timesteps.min())
    if len(modes):
        margin = 0.35 * (max(modes) - min(modes) + 1)
        axes.set_ylim(min(modes) - margin, max(modes) + margin)
    axes.set_xlabel("timestep $t$ (the sample is finished at the right)")
    axes.set_ylabel(r"predicted $\hat{x}_0$, in units of the data")
    inside = (timesteps >= window[0]) & (timesteps <= window[1])
    if inside.sum() > 1:
        bad, good = (float(np.median(values[inside].std(0))) for values in (hallucinated, in_support))
        varies = (
            rf"Within the window $\hat{{x}}_0$ of hallucinated samples varies by {bad:.2g}, of others by {good:.2g}"
        )
        axes.set_title(varies, fontsize=8)
    axes.legend(loc="upper center", bbox_to_anchor=(0.5, -0.2), ncols=3)
    style.save(figure, path)


@rc_context(STYLE)
def score_histogram(
    path: Path, scores: np.ndarray, hallucinated: np.ndarray, thresholds: Mapping[str, float], name: str
) -> None:
    """Fig. 6: log scores of hallucinated and in-support samples, in counts, with thresholds; the title says what the
    first of these keeps.

    Args:
        scores: (n,); the few far above all others, and those that are not finite, stand in the last bin.
        hallucinated: (n,) bool.
        thresholds: by label.
        name: of the score.
    """
    figure, (axes,) = style.figure(5.2, 3.0)
    positive = scores[np.isfinite(scores) & (scores > 0)]
    # diverged samples may score 1e30: they must not squeeze all others into one bin
    top = max(np.quantile(positive, 0.9999), np.quantile(scores[hallucinated], 0.9, method="lower"))
    bounds = positive.min(), min(top, positive.max())
    low, high = np.log10(bounds)
    logs = np.log10(np.clip(np.nan_to_num(scores, nan=np.inf), *bounds))
    edges = np.linspace(low, high + 1e-9, 90)
    for mask, colour, label in ((~hallucinated, GOOD, "in-support"), (hallucinated, BAD, "hallucinated")):
        axes.hist(logs[mask], list(edges), color=colour, alpha=0.6, label=f"{label} ({mask.sum():,})")
    for (label, value), line in zip(thresholds.items(), ("-", "--", ":"), strict=False):
        if np.isfinite(value) and value > 0:
            axes.axvline(np.log10(value), color=CUT, lw=1, ls=line, label=label)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda v, _: f"$10^{{{v:g}}}$"))
    axes.set_xlabel(name)
    # as many as there are: a density would hide how few the hallucinated ones are
    axes.set_yscale("log")
    axes.set_ylabel("samples")
    label, value = next(iter(thresholds.items()))
    passing, all_passing = scores[~hallucinated] <= value, scores <= value
    axes.set_title(
        f"The cut that {label} keeps {100 * passing.mean():.3g} % of the others,\n"
        f"and {100 * hallucinated[~all_passing].mean() if (~all_passing).any() else 0:.3g} % of what it removes is "
        "hallucinated",
        fontsize=8,
    )
    axes.legend(loc="upper center", bbox_to_anchor=(0.5, -0.2), ncols=2)
    style.save(figure, path)


@rc_context(STYLE)
def loss(path: Path, steps: int, losses: np.ndarray) -> None:
    """The training loss, each point a mean over an equal share of the steps."""
    figure, (axes,) = style.figure(5.2, 2.4)
    axes.plot(np.linspace(0, steps, len(losses) + 1)[1:], losses, color=LEARNED, lw=1)
    axes.set_yscale("log")
    axes.set_xlabel("optimiser step")
    axes.set_ylabel("mean squared error")
    axes.set_title(f"The loss falls from {losses[0]:.3g} to {losses[-1]:.3g} in {steps:,} steps")
    style.save(figure, path)


@rc_context(STYLE)
def fields(
    path: Path,
    x: np.ndarray,
    panels: Sequence[tuple[str, str, Mapping[int, np.ndarray]]],
    modes: Sequence[float],
    limits: Mapping[str, tuple[float, float]],
) -> None:
    """Fig. 4: curves over x for several timesteps, one panel for each (title, quantity, {t: (G,) values}).

    Args:
        limits: range of the vertical axis by quantity.
    """
    columns = 2
    figure, all_axes = style.figure(7.0, 2.6 * (len(panels) // columns), columns, len(panels) // columns, sharex=True)
    for axes, (title, quantity, by_t) in zip(all_axes, panels, strict=True):
        for k, (t, values) in enumerate(sorted(by_t.items())):
            axes.plot(x, values, color=colormaps["viridis"](0.92 * k / max(len(by_t) - 1, 1)), lw=1, label=f"$t={t}$")
        for mode in modes:
            axes.axvline(mode, color=GUIDE, lw=0.5, ls="--")
        least = min(by_t)
        slope = float(np.abs(np.gradient(by_t[least], x)).max())
        axes.set_title(f"{title}: slope up to {slope:.2g} at t = {least}", fontsize=8)
        axes.set_ylabel(quantity)
        axes.set_ylim(*limits[quantity])
        axes.set_xlim(x[0], x[-1])
    for axes in all_axes[-columns:]:
        axes.set_xlabel("$x_t$")
    handles, labels = all_axes[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=len(labels))
    style.save(figure, path)


@rc_context(STYLE)
def curves(
    path: Path,
    x: Sequence[float],
    lines: Mapping[str, Band],
    *,
    x_label: str,
    y_label: str,
    log_x: bool = False,
    log_y: bool = False,
    ticks: Sequence[str] | None = None,
    title: str | None = None,
) -> None:
    """Values with their intervals against a setting, a line for each label.

    Args:
        title: what was found; unless given the values at the last setting, or where the first line is highest if the
            settings have names.
        ticks: names of the settings, where they are no numbers.
    """
    figure, (axes,) = style.figure(max(4.6, 0.42 * len(ticks or ())) + 1.6 * (len(lines) > 1), 3.0)  # room for names
    places = range(len(x)) if ticks else list(x)
    looks = colours_of(lines)
    for label, (values, low, high) in lines.items():
        errors = [np.subtract(values, low).clip(0), np.subtract(high, values).clip(0)]
        # a shorter line ends earlier
        axes.errorbar(
            places[: len(values)], values, errors, **looks[label], marker="o", ms=4, lw=1.2, capsize=3, label=label
        )
    if log_x and not ticks:
        axes.set_xscale("log")
        axes.set_xticks(list(x), [f"{v:g}" for v in x])
        axes.minorticks_off()
    if log_y:
        axes.set_yscale("log")
    if ticks:
        axes.set_xticks(list(places), list(ticks))
    elif not log_x and all(float(v).is_integer() for v in x):
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))  # there is no generation 0.5
    axes.set_xlabel(x_label)
    axes.set_ylabel(y_label)
    if len(lines) > 1:
        # beside the axes: inside, it would cover intervals
        axes.legend(loc="center left", bbox_to_anchor=(1.0, 0.5))
    axes.set_title(_found(x, lines, x_label, ticks) if title is None else title, fontsize=8, wrap=True)
    style.save(figure, path)


def _found(x: Sequence[float], lines: Mapping[str, Band], x_label: str, ticks: Sequence[str] | None) -> str:
    """What a plot of curves shows, in words."""
    if ticks:
        label, (values, low, high) = next(iter(lines.items()))
        best = int(np.nanargmax(values))
        at = " to ".join(ticks[best].split("\n"))
        return f"{label} is highest, {values[best]:.3g} [{low[best]:.3g}, {high[best]:.3g}], at {at}"
    last = max(len(values) for values, _, _ in lines.values()) - 1
    ends = [(label, values[last]) for label, (values, _, _) in lines.items() if len(values) > last]
    ends = sorted((end for end in ends if not np.isnan(end[1])), key=lambda end: end[1])
    told = ", ".join(f"{label} {value:.3g}" for label, value in ends) if len(lines) > 1 else None
    if told is None:
        ((values, _, _),) = lines.values()
        return f"From {values[0]:.3g} at {x_label} {x[0]:g} to {values[-1]:.3g} at {x[len(values) - 1]:g}"
    return f"At {x_label} {x[last]:g}: {told}"


@rc_context(STYLE)
def image_panels(
    path: Path,
    panels: Sequence[tuple[str, np.ndarray, Sequence[Sequence[Box]], Sequence[str]]],
    columns: int,
    cell: float = 0.72,
) -> None:
    """Figs. 1 and 14: grids of images, a panel for each (title, images (n, H, W) in [-1, 1], boxes of each, captions).

    Images with boxes have a frame, too. A panel without captions has an empty list of them.

    Args:
        cell: inches of an image; with captions a third more.
    """
    rows = [-(-len(images) // columns) for _, images, _, _ in panels]
    captioned = any(captions for *_, captions in panels)
    cell *= 1.32 if captioned else 1.0
    figure = Figure(figsize=(cell * columns * len(panels) + 0.2, (cell + 0.22 * captioned) * max(rows) + 0.3))
    parts: Any = figure.subfigures(1, len(panels), squeeze=False, wspace=0.03)
    for part, (title, images, boxes, captions) in zip(parts[0], panels, strict=True):
        part.suptitle(title, fontsize=9)
        all_axes = part.subplots(max(rows), columns, squeeze=False).ravel()
        part.subplots_adjust(0.02, 0.02, 0.98, 1 - 0.3 / figure.get_figheight(), 0.06, 0.3 if captioned else 0.06)
        for axes in all_axes[len(images) :]:
            axes.set_axis_off()
        for k, image in enumerate(images):
            style.image(all_axes[k], image, boxes[k], framed=len(boxes[k]) > 0)
            if captions:
                all_axes[k].set_title(captions[k], fontsize=5.5, pad=2)
    style.save(figure, path)


@rc_context(STYLE)
def sheet(path: Path, panels: Sequence[tuple[str, Sequence[np.ndarray], Sequence[str]]], columns: int) -> None:
    """Images to look through, beside each other: a panel for each (title, images, captions), ``path`` a PNG alone.

    Images are (H, W) or (H, W, 3) in [-1, 1], each of a size of its own.
    """
    rows = max(1, *(-(-len(images) // columns) for _, images, _ in panels))
    figure = Figure(figsize=(1.1 * columns * len(panels), 1.3 * rows + 0.4))
    parts: Any = figure.subfigures(1, len(panels), squeeze=False)
    for part, (title, images, captions) in zip(parts[0], panels, strict=True):
        part.suptitle(title, fontsize=9)
        all_axes = part.subplots(rows, columns, squeeze=False).ravel()
        part.subplots_adjust(0.02, 0.02, 0.98, 1 - 0.45 / figure.get_figheight(), 0.08, 0.25)
        for axes, image, caption in zip(all_axes, images, captions, strict=False):
            style.image(axes, image)
            axes.set_title(caption, fontsize=6, pad=2)
        for axes in all_axes[len(images) :]:
            axes.set_axis_off()
    with replacing(path) as temporary:
        figure.savefig(temporary, dpi=150)


@rc_context(STYLE)
def film_strips(
    path: Path, timesteps: Sequence[int], strips: Sequence[tuple[str, np.ndarray, Sequence[Box]]], window: Any
) -> None:
    """Figs. 15 and 16: x0_hat at some timesteps, a strip for each (title, (K, H, W), boxes on its last frame).

    Args:
        timesteps: (K,), falling; those in ``window`` are set in bold.
        strips: frames in [-1, 1]; values outside are shown as black or white.
        window: of the detector, first and last timestep.
    """
    figure, all_axes = style.figure(0.85 * len(timesteps) + 0.4, 1.05 * len(strips) + 0.2, len(timesteps), len(strips))
    for row, (title, frames, boxes) in enumerate(strips):
        for k, (t, frame) in enumerate(zip(timesteps, frames, strict=True)):
            axes = all_axes[row * len(timesteps) + k]
            last = k == len(timesteps) - 1
            style.image(axes, frame, boxes if last else (), framed=last and len(boxes) > 0)
            if row == 0:
                inside = window[0] <= t <= window[1]
                axes.set_title(f"$t={t}$", fontsize=7, fontweight="bold" if inside else None)
        all_axes[row * len(timesteps)].set_ylabel(title, fontsize=7)
    style.save(figure, path)


@rc_context(STYLE)
def roc(path: Path, curves: Mapping[str, Mapping[str, tuple[np.ndarray, np.ndarray]]]) -> None:
    """A panel for each target: share of hallucinations removed against share of the others lost, for each detector.

    Args:
        curves: by target, then by detector, (lost, removed), both rising.
    """
    columns = min(len(curves), 3)
    rows = -(-len(curves) // columns)
    figure, all_axes = style.figure(2.7 * columns, 2.6 * rows, columns, rows, sharey=True)
    names = sorted({name for by_name in curves.values() for name in by_name})
    looks = colours_of(names)
    for axes in all_axes[len(curves) :]:
        axes.set_axis_off()
    for axes, (title, by_name) in zip(all_axes, curves.items(), strict=False):
        for name, (lost, removed) in by_name.items():
            axes.step(lost, removed, where="post", lw=1.2, **looks[name])
        axes.set(xscale="log", xlim=(1e-3, 1), ylim=(0, 1.02), xlabel="share of the others lost")
        areas = {name: float(trapezoid(removed, lost)) for name, (lost, removed) in by_name.items()}
        best = max(areas, key=lambda name: areas[name])
        axes.set_title(f"{title}\nhighest AUROC: {best}, {areas[best]:.3f}", fontsize=8)
    for axes in all_axes[::columns]:
        axes.set_ylabel("hallucinations removed, share", fontsize=8)
    handles = [Line2D([], [], label=name, **looks[name]) for name in names]
    figure.legend(handles=handles, loc="outside lower center", ncols=min(len(names), 2 * columns), fontsize=7)
    style.save(figure, path)


@rc_context(STYLE)
def cost_quality(path: Path, points: Mapping[str, Mapping[str, tuple[float, float]]]) -> None:
    """A panel for each target: 1 - AUROC against network evaluations, a labelled point for each detector."""
    columns = min(len(points), 2)
    rows = -(-len(points) // columns)
    figure, all_axes = style.figure(3.6 * columns, 2.9 * rows, columns, rows)
    for axes in all_axes[len(points) :]:
        axes.set_axis_off()
    for axes, (title, by_name) in zip(all_axes, points.items(), strict=False):
        looks, best = colours_of(by_name), min(by_name, key=lambda name: by_name[name][1])
        for name, (cost, missed) in by_name.items():
            at = (max(cost, 0.5), max(missed, 1e-5))
            axes.plot(*at, "o", ms=3.5, color=looks[name]["color"])
            axes.annotate(name, at, xytext=(3, 2), textcoords="offset points", fontsize=5.5)
        axes.set(xscale="log", yscale="log", xlabel="network evaluations (0 drawn at 0.5)", ylabel="1 - AUROC")
        axes.set_title(f"{title}\nbest: {best}, {by_name[best][1]:.2g} at {by_name[best][0]:g} evaluations")
    style.save(figure, path)


@rc_context(STYLE)
def pareto(
    path: Path,
    panels: Mapping[str, Sequence[Mapping[str, Any]]],
    plain: str,
    resampling: str,
    known: Sequence[str] = (),
) -> None:
    """A panel for each model: mass off the support against more network evaluations, a point for each setting.

    Args:
        panels: by title, points with ``method``, ``off_support`` (value, low, high), ``more_evaluations`` (a share) and
            ``keeps``, which fills them.
        plain: method whose mass is a line.
        resampling: beginning of the names of methods through whose points lines are drawn.
        known: methods that look the same in all figures that are given these.
    """
    columns = min(len(panels), 3)
    rows = -(-len(panels) // columns)
    figure, all_axes = style.figure(max(3.4 * columns, 6.8), 2.9 * rows + 1.1, columns, rows)
    drawn = {point["method"] for points in panels.values() for point in points}
    every = [m for m in dict.fromkeys([*known, *sorted(drawn)]) if m != plain]
    methods = [m for m in every if m in drawn]
    colours = {m: look["color"] for m, look in colours_of(every).items()}
    marks: dict[str, Any] = {m: {"color": colours[m], "marker": "osD^vP"[k % 6]} for k, m in enumerate(every)}
    for axes in all_axes[len(panels) :]:
        axes.set_axis_off()
    for axes, (title, points) in zip(all_axes, panels.items(), strict=False):
        by_method: dict[str, list[Any]] = {}
        for point in points:
            by_method.setdefault(point["method"], []).append(point)
        for name, own in by_method.items():
            values = np.array([point["off_support"] for point in own])
            floor = np.maximum(values[:, 0], np.where(values[:, 0] > 0, 0, values[:, 2]))  # nothing seen: the upper end
            cost = np.maximum([100 * point["more_evaluations"] for point in own], 0.01)
            if name == plain:
                axes.axhline(floor[0], color=CUT, ls="--", lw=0.8)
                continue
            if name.startswith(resampling):
                axes.plot(cost, floor, color=colours[name], ls="--", lw=0.8)
            for x, y, low, high, point in zip(cost, floor, values[:, 1], values[:, 2], own, strict=True):
                colour = colours[name]
                axes.plot([x, x], [max(low, y / 30), high], color=colour, lw=0.6)
                axes.plot(x, y, ls="", ms=4.5, mfc=colour if point["keeps"] else "white", **marks[name])
        axes.set(xscale="log", yscale="log", xlabel="more evaluations, % (none: 0.01)")
        axes.set_title(title, fontsize=8)
    for axes in all_axes[::columns]:
        axes.set_ylabel("share off the support")
    handles = [Line2D([], [], ls="", ms=4.5, label=m, **marks[m]) for m in methods]
    handles.append(Line2D([], [], color=CUT, ls="--", lw=0.8, label=plain))
    figure.legend(handles=handles, loc="outside lower center", ncols=4, fontsize=6.5)
    style.save(figure, path)


@rc_context(STYLE)
def where_and_why(
    path: Path, where: tuple[str, Sequence[float], Mapping[str, Band]], why: tuple[str, Band, Sequence[str]]
) -> None:
    """Shares of a mass against the timestep at which a chain changes its score; and masses by what made them.

    Args:
        where: title, timesteps and shares by label.
        why: title, masses and their labels, from the top.
    """
    figure, (left, right) = style.figure(9.2, 3.3, 2)
    title, ks, shares = where
    for colour, (label, (share, low, high)) in zip((BAD, GOOD), shares.items(), strict=False):
        left.fill_between(ks, low, high, color=colour, alpha=0.2, lw=0)
        left.plot(ks, share, color=colour, marker="o", ms=3, lw=1.4, label=label)
    left.set(xlabel="timestep $k$", ylabel="share of the mass between the modes")
    left.set_ylim(-0.02, None)
    left.set_title(title)
    left.legend(fontsize=8, loc="center right")
    title, masses, labels = why
    _bars(right, {"": masses}, labels)
    right.set_xlabel("off-support mass")
    right.set_title(title)
    style.save(figure, path)


@rc_context(STYLE)
def bars(path: Path, groups: Mapping[str, Band], labels: Sequence[str], x_label: str) -> None:
    """Values with their intervals on a logarithmic axis, a colour for each group.

    Args:
        groups: for each label a value; NaN where a group has none.
        labels: from the top.
    """
    figure, (axes,) = style.figure(5.6, 0.9 + 0.2 * len(labels) * len(groups))
    _bars(axes, groups, labels)
    axes.set_xlabel(x_label)
    ends = [(v, label, group) for group, band in groups.items() for v, label in zip(band[0], labels, strict=True)]
    (least, *what), (most, *whose) = min(e for e in ends if e[0] == e[0]), max(e for e in ends if e[0] == e[0])
    named = [" ".join(part for part in words if part) for words in (what, whose)]
    figure.suptitle(f"From {least:.3g} ({named[0]}) to {most:.3g} ({named[1]})", fontsize=9)
    style.save(figure, path)


def _bars(axes: Axes, groups: Mapping[str, Band], labels: Sequence[str]) -> None:
    places, height = -np.arange(len(labels)), 0.75 / len(groups)
    for k, (colour, (group, band)) in enumerate(zip((BAD, GOOD), groups.items(), strict=False)):
        middle, low, high = map(np.asarray, band)
        errors = np.stack([middle - low, high - middle]).clip(0)
        axes.barh(
            places - (k - (len(groups) - 1) / 2) * height,
            middle,
            height,
            xerr=errors,
            color=colour,
            label=group,
            error_kw={"lw": 1, "capsize": 2},
        )
    ends = np.concatenate([np.asarray(band).ravel() for band in groups.values()])
    axes.set(xscale="log", xlim=(np.nanmin(ends) / 2, 1.5 * np.nanmax(ends)))
    axes.set_yticks(places, list(labels), fontsize=8)
    if len(groups) > 1:
        axes.legend(loc="lower center", bbox_to_anchor=(0.5, 1.0), ncols=2, fontsize=8)


@rc_context(STYLE)
def points_by_kind(
    path: Path,
    points: Mapping[str, tuple[Sequence[float], Sequence[float]]],
    *,
    x_label: str,
    y_label: str,
    line: tuple[float, float] | None = None,
) -> None:
    """Points (x, y) of several kinds on logarithmic axes; the title says how far their ranks agree.

    Args:
        line: exponent and logarithm of the factor of a power law, drawn through them.
    """
    figure, (axes,) = style.figure(5.4, 3.8)
    looks = colours_of(points)
    markers = dict(zip(("-", "--", ":", "-."), "osD^", strict=True))
    for label, (x, y) in points.items():
        look = looks[label]
        axes.plot(x, y, markers[look["ls"]], ms=4.5, color=look["color"], label=label, mew=0, alpha=0.85)
    if line is not None:
        all_x = [v for x, _ in points.values() for v in x]
        ends = np.array([min(all_x), max(all_x)])
        axes.plot(ends, np.exp(line[1]) * ends ** line[0], color=GUIDE, lw=1, zorder=0)
    axes.set(xscale="log", yscale="log", xlabel=x_label, ylabel=y_label)
    pairs = np.array([pair for x, y in points.values() for pair in zip(x, y, strict=True)])
    if len(pairs) > 2:
        rho = float(spearmanr(pairs[:, 0], pairs[:, 1]).statistic)
        axes.set_title(f"{len(pairs)} models, rank correlation {rho:.2f}")
    axes.legend(fontsize=7, loc="center left", bbox_to_anchor=(1.0, 0.5))
    style.save(figure, path)


@rc_context(STYLE)
def before_after(path: Path, before: np.ndarray, after: np.ndarray, touched: np.ndarray, given_up: np.ndarray) -> None:
    """Samples (n, 1) in counts, or (n, 2) as points, before and after some were changed; ``path`` a PNG alone.

    Args:
        touched: (n,) bool, marked among the points before.
        given_up: (n,) bool, marked among the points after.
    """
    finite = before[np.isfinite(before).all(1)]
    low, high = finite.min(0).min(), finite.max(0).max()
    # what ran away must not squeeze all others together
    middle, reach = np.median(finite), np.quantile(np.abs(finite - np.median(finite)), 0.999)
    low, high = max(low, middle - 1.5 * reach), min(high, middle + 1.5 * reach)
    if before.shape[1] == 1:
        figure, (axes,) = style.figure(5.6, 2.8)
        edges = np.linspace(low, high, 200)
        for values, colour, label in ((before, BAD, "before"), (after, MENDED, "after")):
            axes.stairs(np.histogram(values[:, 0], edges)[0], edges, color=colour, lw=1, label=label)
        axes.set(yscale="log", xlabel="$x$", ylabel="samples")
        axes.set_title(f"{touched.sum():,} of {len(touched):,} touched, {given_up.sum():,} given up")
        axes.legend(loc="center left", bbox_to_anchor=(1.0, 0.5))
    else:
        figure, all_axes = style.figure(6.4, 3.4, 2, sharex=True, sharey=True)
        panels = ((before, touched, "before: touched"), (after, given_up, "after: given up"))
        for axes, (values, marked, title) in zip(all_axes, panels, strict=True):
            for mask, colour, size in ((~marked, GOOD, 0.6), (marked, BAD, 2.0)):
                axes.scatter(values[mask, 0], values[mask, 1], s=size, color=colour, lw=0)
            axes.set(xlim=(low, high), ylim=(low, high), aspect="equal", xlabel="$x_1$")
            axes.set_title(f"{title}: {marked.sum():,} of {len(marked):,}", fontsize=8)
        all_axes[0].set_ylabel("$x_2$")
    with replacing(path) as temporary:
        figure.savefig(temporary, dpi=150)


@rc_context(STYLE)
def levels(
    path: Path,
    timesteps: Sequence[int],
    places: Sequence[float],
    panels: Sequence[tuple[str, Mapping[str, Band]]],
    shaded: Sequence[tuple[str, float, float]],
) -> None:
    """Curves over noise levels, a panel under the other for each (quantity, lines).

    Args:
        timesteps, places: (L,) of the levels, and where they stand; a shorter line ends earlier.
        shaded: (label, begin, end) of windows, in places.
    """
    figure, all_axes = style.figure(6.0, 2.3 * len(panels) + 0.6, rows=len(panels), sharex=True)
    for axes, (quantity, lines) in zip(all_axes, panels, strict=True):
        looks = colours_of(lines)
        for label, (values, low, high) in lines.items():
            errors = [np.subtract(values, low).clip(0), np.subtract(high, values).clip(0)]
            here = list(places[: len(values)])
            axes.errorbar(here, values, errors, **looks[label], marker="o", ms=3, lw=1.1, capsize=2, label=label)
        for (label, begin, end), colour in zip(shaded, (GUIDE, OTHER) * len(shaded), strict=False):
            axes.axvspan(begin, end, color=colour, alpha=0.18, lw=0, label=label if axes is all_axes[0] else None)
        axes.set_ylabel(quantity)
        axes.legend(loc="center left", bbox_to_anchor=(1.0, 0.5), fontsize=8)
    (label, (values, _, _)), *_ = panels[0][1].items()
    if len(values) > 1:
        k = int(np.argmax(np.diff(values)))
        all_axes[0].set_title(f"The share that is {label} rises most between t = {timesteps[k]} and {timesteps[k + 1]}")
    told = [0]  # labels that would overlap are left out
    for k, place in enumerate(places):
        if place - places[told[-1]] >= (places[-1] - places[0]) / 14:
            told.append(k)
    all_axes[-1].set_xticks([places[k] for k in told], [str(timesteps[k]) for k in told])
    all_axes[-1].set_xlabel("timestep $t$ restarted from, spaced by the log of the signal-to-noise ratio")
    style.save(figure, path)
