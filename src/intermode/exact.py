r"""The law of the reverse chain itself, in 1-D and 2-D, without sampling.

A step of the chain moves the law :math:`p_t` of :math:`x_t` to

.. math::
    p_u(y) = \int p_t(x)\, \mathcal N\bigl(y;\; m(x), \sigma^2 I\bigr)\, dx, \qquad
    m(x) = c_x x + c_0 \hat x_0(x, t)

(coefficients: :mod:`intermode.samplers`). On a grid this is done in two parts. The mass at each node is moved to
m(x) and deposited there with a cubic B-spline of spacing g: a kernel that adds the variance :math:`g^2 / 3`
wherever it lands, and no error before the fourth moment. What is left of the noise, a Gaussian of variance
:math:`\sigma^2 - g^2/3`, is then applied exactly, as a matrix per axis. So a :class:`Law` is a mixture of Gaussians
of one width at the nodes of a grid, which can be looked at on any other grid: the next step chooses one as fine as
the noise before and after it demands, so late steps are fine and early steps cheap. All weights are positive, so
masses are, down to the smallest.

The grid at t covers what the forward process makes of the range [low, high] of clean samples,
:math:`a_t [\text{low}, \text{high}] \pm 12 s_t`. What leaves it, a sample that runs away, is carried on as points that
follow m(x) without noise, so it is labelled like all others and never lost. :func:`start` and :func:`propagate` carry
a law over any levels, upwards too: a restart noises by :math:`q(x_u \mid x_t)`.

The last step is deterministic. There mass meets the sharp edge of the support: cells that it crosses are split again
and again (:func:`weigh`). The error is estimated from a second, coarser grid and from the last split.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from scipy import ndimage
from scipy.interpolate import CubicSpline

from intermode.denoisers import Denoiser
from intermode.errors import InputError
from intermode.models import as_denoiser
from intermode.progress import Progress, Task
from intermode.samplers import Ancestral, Sampler, noising
from intermode.schedules import CLEAN, Schedule
from intermode.targets import Target
from intermode.values import as_numbers
from intermode.verbs import shown, strict

__all__ = [
    "Grid",
    "Law",
    "Mass",
    "Outcome",
    "inside_hull",
    "mass_on_grid",
    "off_support",
    "propagate",
    "start",
    "weigh",
]

TAIL = 9.0
"""Standard deviations of a Gaussian beyond which nothing is left of it: 1e-19."""
FAR = 1e9
"""Points farther out, or not finite, are put there."""
LARGEST = 2**26
"""Nodes of a grid: half a gigabyte."""
LATE_REFINEMENT = {1: 16, 2: 1}
"""How much finer than the noise demands a grid may be where x0_hat is steeper than the noise is wide."""
FINAL_REFINEMENT = {1: 16, 2: 2}
"""How much finer the last grid is: there the mass meets the sharp edge of the support."""
SPLITS = {1: 7, 2: 2}
"""How often a cell that the edge of the support crosses is split, in 3 along each axis."""
CELLS = {1: 3.0, 2: 2.0}
"""Of the finer grid, per standard deviation of a step's noise."""
COARSER = 1.6
"""How much coarser the second grid is, whose difference is the error."""
COARSE_NEGLIGIBLE = {1: 1e-14, 2: 1e-11}
"""Mass that a step may drop there; the finer grid's follows from the answer and from TOLERANCE."""
TOLERANCE = 1e-4
"""Share of the answer that may be dropped as negligible mass, over all steps."""
UNSETTLED = 0.01
"""Share of the answer up to which it may depend on the grid's range how much runs away."""
DRAWS = 20_000
"""Of the target, that say where its support lies."""


@dataclass(frozen=True)
class Grid:
    """Where laws are carried, and how finely.

    Args:
        dimensions: 1 or 2.
        low, high: the range of clean samples, the same in every dimension.
        cells: per standard deviation of a step's noise.
        reach: standard deviations of the forward noise that are held beside that range.
        negligible: mass that a step may drop, in the lightest nodes.

    Raises:
        InputError: other dimensions, an empty range, under 1.25 cells, where masses would not add up.
    """

    dimensions: int
    low: float
    high: float
    cells: float = 2.0
    reach: float = 12.0
    negligible: float = 1e-12

    def __post_init__(self) -> None:
        if self.dimensions not in (1, 2):
            raise InputError(f"dimensions: {self.dimensions} cannot be carried on a grid; choose 1 or 2")
        if not -math.inf < self.low < self.high < math.inf:
            raise InputError(f"low: {self.low} must be under high {self.high}, both finite")
        if not 1.25 <= self.cells < math.inf:
            raise InputError(f"cells: {self.cells} must be at least 1.25")

    @classmethod
    def around(cls, target: Target, low: float | None = None, high: float | None = None, **settings: float) -> Grid:
        """A grid that holds all of the target's draws with half their extent beside them.

        Args:
            low, high: ends of the range instead; it is widened where draws of the target lie outside.
            settings: see :class:`Grid`.
        """
        draws = _draws(target)
        first, last = float(draws.min()), float(draws.max())
        beside = 0.5 * (last - first)
        low = first - beside if low is None else min(low, first)
        high = last + beside if high is None else max(high, last)
        return cls(draws.shape[1], low, high, **settings)


def _draws(target: Target) -> np.ndarray:
    return target.sample(DRAWS, 0).double().numpy().reshape(DRAWS, -1)


@dataclass(frozen=True, eq=False)
class Outcome:
    """The law of the finished samples as weighted points.

    Attributes:
        x_0: (n, d) float64 points.
        mass: (n,) float64, at least 0.
        escaped: the part of the mass that is outside the grid.
        grid: on which it was carried.
    """

    x_0: np.ndarray
    mass: np.ndarray
    escaped: float = 0.0
    grid: Grid | None = None

    @property
    def t(self) -> int:
        """``CLEAN``."""
        return CLEAN

    def histogram(self, edges: np.ndarray) -> np.ndarray:
        """(B,) mass between neighbouring ``edges`` (B + 1,), in 1-D: by interpolating the distribution function,
        since each point stands for the mass around it."""
        order = np.argsort(self.x_0[:, 0])
        mass = self.mass[order]
        return np.diff(np.interp(edges, self.x_0[order, 0], mass.cumsum() - mass / 2, left=0.0))


@dataclass(frozen=True, eq=False)
class Law:
    """The law of x_t: Gaussians of one width at the nodes of a grid, and points outside it.

    Attributes:
        t: the timestep.
        grid: on which it is carried.
        nodes: (N,) float64, along each axis.
        field: (N,) or (N, N) float64, the mass of the Gaussian at each node.
        std: of those Gaussians.
        points: (n, d) float64, what is outside the grid.
        mass: (n,) float64 of these points.
    """

    t: int
    grid: Grid
    nodes: np.ndarray
    field: np.ndarray
    std: float
    points: np.ndarray
    mass: np.ndarray

    @property
    def noise(self) -> float:
        """Standard deviation of the noise that made it: no detail is finer."""
        spacing = self.nodes[1] - self.nodes[0] if len(self.nodes) > 1 else 0.0
        return math.sqrt(self.std**2 + spacing**2 / 3)

    def density(self, spacing: float) -> tuple[np.ndarray, np.ndarray]:
        """Nodes (N,) along each axis of a grid at most so wide, and the density on it, (N,) or (N, N).

        Without what is outside the grid.
        """
        low, high = self.nodes[0] - TAIL * self.std, self.nodes[-1] + TAIL * self.std
        nodes = _axis(low, high, spacing, self.grid.dimensions)
        result, centres = torch.from_numpy(self.field), torch.from_numpy(self.nodes)
        for _ in range(self.field.ndim):
            rows = []
            for part in torch.from_numpy(nodes).split(2048):  # the whole kernel can be gigabytes
                kernel = torch.exp(-0.5 * ((part[:, None] - centres) / self.std) ** 2)
                rows.append(torch.tensordot(result, kernel, dims=([0], [1])))
            result = torch.cat(rows, dim=-1)  # the blurred axis comes last: after a full turn all are in order
        return nodes, result.numpy() / (self.std * math.sqrt(2 * math.pi)) ** self.field.ndim


def _axis(low: float, high: float, spacing: float, dimensions: int) -> np.ndarray:
    count = max(math.ceil((high - low) / spacing), 8) + 1
    if count**dimensions > LARGEST:
        raise InputError(
            f"sampler: a step with so little noise needs a grid of {count**dimensions:.1g} nodes; take one with more"
        )
    return np.linspace(low, high, count)


def _heavy(mass: np.ndarray, negligible: float) -> tuple[np.ndarray, np.ndarray]:
    """Indices (n, d) of the nodes of a field of masses, without light ones of that total, and their masses (n,)."""
    for power in range(20):
        kept = mass > negligible * 4.0**-power
        if mass.sum(where=~kept) <= negligible:
            break
    return np.argwhere(kept), mass[kept]


def _predict(denoiser: Denoiser, x: np.ndarray, t: int, chunk: int = 8192) -> np.ndarray:
    points = torch.from_numpy(x).to(denoiser.device, denoiser.dtype)
    with torch.no_grad():
        return torch.cat([denoiser(part, t) for part in points.split(chunk)]).double().cpu().numpy()


def _deposit(nodes: np.ndarray, y: np.ndarray, mass: np.ndarray) -> np.ndarray:
    """(N, ..., N) mass on the grid, each point spread over 4 nodes per axis."""
    dimensions, count = y.shape[1], len(nodes)
    place = (y - nodes[0]) / (nodes[1] - nodes[0])
    cell = place.astype(np.int64)
    f = place - cell
    weights = np.stack([(1 - f) ** 3, 3 * f**3 - 6 * f**2 + 4, -3 * f**3 + 3 * f**2 + 3 * f + 1, f**3]) / 6
    total = np.zeros(count**dimensions)
    for offset in np.ndindex(*(4,) * dimensions):
        index = np.zeros(len(cell), dtype=np.int64)
        weight = mass.copy()
        for d, o in enumerate(offset):
            index = index * count + cell[:, d] + (o - 1)
            weight *= weights[o, :, d]
        total += np.bincount(index, weight, count**dimensions)
    return total.reshape((count,) * dimensions)


def _gather(points: np.ndarray, mass: np.ndarray, negligible: float) -> tuple[np.ndarray, np.ndarray]:
    """Points that lie close to each other, as seen from the origin, as one; and none of negligible mass."""
    points = np.clip(np.nan_to_num(points, nan=FAR), -FAR, FAR)
    _, group = np.unique(np.floor(2 * np.arcsinh(points)), axis=0, return_inverse=True)
    group = group.reshape(-1)
    total = np.bincount(group, mass)
    centre = np.stack([np.bincount(group, mass * column) for column in points.T], axis=1) / total[:, None]
    heavy = total > negligible / max(len(total), 1)
    return centre[heavy], total[heavy]


def start(schedule: Schedule, grid: Grid, t: int | None = None) -> Law:
    """The law of x_T, N(0, I), at the timestep t (the last one for None)."""
    centre = np.ones((1,) * grid.dimensions)
    none = np.empty((0, grid.dimensions))
    return Law(len(schedule) - 1 if t is None else t, grid, np.zeros(1), centre, 1.0, none, none[:, 0])


def propagate(
    law: Law | Outcome,
    denoiser: Denoiser,
    levels: Iterable[int],
    sampler: Sampler | None = None,
    *,
    task: Task | None = None,
) -> Law | Outcome:
    """Carry a law on over ``levels``, timesteps in the order visited.

    A step down is the sampler's, with the denoiser. A step up, to more noise, is q(x_u | x_t) and asks no denoiser:
    from the finished samples (``CLEAN``) it is a restart.

    Args:
        law: of x_t at its ``t``.
        denoiser: of samples of shape (1,) or (2,).
        levels: after ``law.t``; ``CLEAN`` for the finished samples.
        sampler: by default ``Ancestral()``.
        task: advanced once a step.

    Returns:
        the law at the last of the levels: an :class:`Outcome` at ``CLEAN``.

    Raises:
        InputError: a step to another level than ``CLEAN`` that adds no noise.
    """
    sampler, schedule = sampler or Ancestral(), denoiser.schedule
    for u in levels:
        c_x, c_0, std = (noising if law.t < u else sampler.transition)(schedule, law.t, u)
        if std <= 0 and u != CLEAN:
            raise InputError("sampler: every step but the last must add noise; use ancestral sampling or eta > 0")
        law = _step(law, denoiser, u, c_x, c_0, std)
        if task:
            task.advance(1)
    return law


def _step(law: Law | Outcome, denoiser: Denoiser, u: int, c_x: float, c_0: float, std: float) -> Law | Outcome:
    grid = law.grid
    if grid is None:
        raise InputError("law: an outcome made by hand has no grid to be carried on")

    def move(x: np.ndarray) -> np.ndarray:
        return c_x * x + (c_0 * _predict(denoiser, x, law.t) if c_0 else 0.0)

    if isinstance(law, Outcome):
        y, mass, outside = move(law.x_0), law.mass, 0
    else:
        a, s = denoiser.schedule.level(law.t)
        # an ideal x0_hat turns from one mode to another within s²/a over their distance, about half the range
        steep = 2 * s**2 / (a * (grid.high - grid.low))
        spacing = (min(law.noise, std) if std > 0 else law.noise) / grid.cells
        refinement = (LATE_REFINEMENT if std > 0 else FINAL_REFINEMENT)[grid.dimensions]
        nodes, density = law.density(min(spacing, max(steep, spacing / refinement)))
        kept, mass = _heavy(density * (nodes[1] - nodes[0]) ** grid.dimensions, grid.negligible)
        y = _moved(move, nodes, kept, min(2 * steep, s) / grid.cells)
        y, mass = np.concatenate([y, move(law.points)]), np.concatenate([mass, law.mass])
        outside = len(law.points)
    if std <= 0:
        return Outcome(y, mass, float(mass[len(mass) - outside :].sum()), grid)
    a, s = denoiser.schedule.level(u)
    low, high = a * grid.low - grid.reach * s, a * grid.high + grid.reach * s
    nodes = _axis(low, high, std / grid.cells, grid.dimensions)
    spacing = nodes[1] - nodes[0]
    inside = ((y >= nodes[1]) & (y < nodes[-2])).all(1)
    points, weights = _gather(y[~inside], mass[~inside], grid.negligible)
    field = _deposit(nodes, y[inside], mass[inside])
    return Law(u, grid, nodes, field, math.sqrt(std**2 - spacing**2 / 3), points, weights)


def _moved(move: Callable[[np.ndarray], np.ndarray], nodes: np.ndarray, kept: np.ndarray, smooth: float) -> np.ndarray:
    """(n, d) the images of the nodes ``kept`` (n, d); from a coarser grid where that is much cheaper.

    Args:
        smooth: spacing at which a cubic spline through the images is as good as they are.
    """
    if not len(kept):
        return nodes[kept]
    dimensions, stride = kept.shape[1], smooth / (nodes[1] - nodes[0])
    low, high = kept.min(0), kept.max(0)
    counts = np.ceil((high - low) / stride).astype(int) + 1
    if (counts < 4).any() or counts.prod() > 0.7 * len(kept):
        return move(nodes[kept])
    ends = list(zip(nodes[low], nodes[high], counts, strict=True))
    coarse = [np.linspace(*end) for end in ends]
    field = move(np.stack(np.meshgrid(*coarse, indexing="ij"), axis=-1).reshape(-1, dimensions))
    field = field.reshape(*counts, dimensions)
    for axis, places in enumerate(coarse):  # cubic splines along each axis, as a matrix
        spline = CubicSpline(places, np.eye(len(places)))(nodes[low[axis] : high[axis] + 1])
        field = np.moveaxis(np.tensordot(spline, field, axes=([1], [axis])), 0, axis)
    return field[tuple((kept - low).T)]


@dataclass(frozen=True)
class Mass:
    """The off-support mass of the finished samples.

    Attributes:
        value: the mass.
        error: an estimate of its error.
        escaped: mass that left the grid, was followed without noise, and is counted as it is labelled at the end.
        between: the part inside the convex hull of the data: interpolation.
        beyond: the rest, extrapolation and runaways.
        law: of the finished samples.
    """

    value: float
    error: float
    escaped: float
    between: float
    beyond: float
    law: Outcome

    def __str__(self) -> str:
        """Value and error with one power of ten, and no digit that the error does not support."""
        size = max(self.value, self.error)
        if size == 0:
            return "0"
        power = min(math.floor(math.log10(size)) if size < 0.01 else 0, 0)
        error = self.error * 10.0**-power
        digits = min(max(-math.floor(math.log10(error)), 1), 6) if error > 0 else 6
        error = math.ceil(error * 10**digits * (1 - 1e-9)) / 10**digits
        unit = f"e{power}" if power else ""
        return f"{self.value * 10.0**-power:.{digits}f}{unit} ± {error:.{digits}f}{unit}"

    __repr__ = __str__


def weigh(law: Law, denoiser: Denoiser, target: Target, sampler: Sampler | None = None) -> Mass:
    """The off-support mass of what the last step, from ``law`` to the clean data, makes.

    A cell is split where the label changes from it to a neighbour, or to the point midway between their samples:
    between two nodes of which one goes to one mode and one to another, x0_hat passes all that lies between. The error
    is what the last split changed.
    """
    sampler = sampler or Ancestral()
    c_x, c_0, std = sampler.transition(denoiser.schedule, law.t, CLEAN)
    if std > 0:
        raise InputError("sampler: the last step, to the clean data, must add no noise")
    dimensions, grid = law.grid.dimensions, law.grid

    def finish(x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        x_0 = c_x * x + c_0 * _predict(denoiser, x, law.t)
        return x_0, target.label(x_0).hallucinated

    nodes, density = law.density(law.noise / grid.cells / FINAL_REFINEMENT[dimensions])
    spacing = nodes[1] - nodes[0]
    log_density = ndimage.spline_filter(np.log(np.maximum(density, 1e-300)))
    field = density * spacing**dimensions
    for axis in range(dimensions):  # the integral over a cell, to fourth order
        field = ndimage.convolve1d(field, np.array([1, 22, 1]) / 24, axis, mode="constant")
    cells, mass = _heavy(field, grid.negligible)
    x = nodes[cells]
    thirds = np.stack(np.meshgrid(*([-1, 0, 1],) * dimensions, indexing="ij"), axis=-1).reshape(-1, dimensions)
    settled = [(*finish(law.points), law.mass)] if len(law.mass) else []
    values: list[float] = []
    for split in range(SPLITS[dimensions] + 1):
        x_0, bad = finish(x)
        values.append(sum(float(m @ b) for _, b, m in [*settled, (x_0, bad, mass)]))
        mixed = _mixed(cells, x_0, bad, target) if split < SPLITS[dimensions] else np.zeros(len(bad), dtype=bool)
        settled.append((x_0[~mixed], bad[~mixed], mass[~mixed]))
        if not mixed.any():
            break
        cells = (3 * cells[mixed][:, None] + thirds).reshape(-1, dimensions)
        places = cells / 3.0 ** (split + 1)
        share = np.exp(ndimage.map_coordinates(log_density, places.T, prefilter=False)).reshape(-1, len(thirds))
        mass = (mass[mixed][:, None] * share / share.sum(1, keepdims=True)).reshape(-1)
        x = nodes[0] + spacing * places
    x_0, bad, mass = (np.concatenate(parts) for parts in zip(*settled, strict=True))
    escaped = float(law.mass.sum())
    inside = inside_hull(target, x_0[bad])
    between, beyond = (float(mass[bad][part].sum()) for part in (inside, ~inside))
    error = abs(values[-1] - values[-2]) if len(values) > 1 else 0.0
    return Mass(values[-1], error, escaped, between, beyond, Outcome(x_0, mass, escaped, grid))


def _mixed(cells: np.ndarray, x_0: np.ndarray, bad: np.ndarray, target: Target) -> np.ndarray:
    """(n,) bool, cells (n, d) of which a neighbour, or the point midway to its x_0, is labelled otherwise."""
    mixed = np.zeros(len(cells), dtype=bool)
    if not len(cells):
        return mixed
    sizes = cells.max(0) - cells.min(0) + 2
    strides = np.cumprod([1, *sizes[:0:-1]])[::-1]
    key = (cells - cells.min(0)) @ strides
    order = np.argsort(key)
    for stride in strides:
        place = np.searchsorted(key, key + stride, sorter=order)
        beside = order[np.minimum(place, len(order) - 1)]
        here = np.flatnonzero(key[beside] == key + stride)
        beside = beside[here]
        midway = target.label((x_0[here] + x_0[beside]) / 2).hallucinated
        differ = (bad[here] != bad[beside]) | (midway != bad[here])
        mixed[here[differ]] = mixed[beside[differ]] = True
    return mixed


def inside_hull(target: Target, x: np.ndarray) -> np.ndarray:
    """(n,) bool, points (n, d) inside the convex hull of draws of the target."""
    draws = _draws(target)
    angle = np.linspace(0, np.pi, 360, endpoint=False)
    directions = np.stack([np.cos(angle), np.sin(angle)]) if draws.shape[1] == 2 else np.ones((1, 1))
    inside = np.ones(len(x), dtype=bool)
    for direction in directions.T:
        along, extent = x @ direction, draws @ direction
        inside &= (along >= extent.min()) & (along <= extent.max())
    return inside


def mass_on_grid(
    denoiser: Denoiser, target: Target, grid: Grid, sampler: Sampler | None = None, *, task: Task | None = None
) -> Mass:
    """The off-support mass on one grid.

    Cheaper than :func:`off_support`, and its error is that of the edge of the support alone: for following a training.
    """
    sampler = sampler or Ancestral()
    first, *rest = sampler.levels(denoiser.schedule)
    law = propagate(start(denoiser.schedule, grid, first), denoiser, rest, sampler, task=task)
    assert isinstance(law, Law)
    mass = weigh(law, denoiser, target, sampler)
    if task:
        task.advance(1)
    return mass


@strict
def off_support(
    model: Denoiser | str | Path,
    target: Target,
    sampler: Sampler | None = None,
    low: float | None = None,
    high: float | None = None,
    *,
    cells: float | None = None,
    progress: Progress | bool | None = None,
) -> Mass:
    """The mass of a model's finished samples that the target calls hallucinated, without sampling.

    >>> print(intermode.off_support("gaussian-1d", intermode.line()))
    5.558e-4 ± 0.002e-4

    Args:
        model: a denoiser, the name of a shipped model, or a folder; of samples of shape (1,) or (2,).
        target: says what is hallucinated.
        sampler: the reverse chain, whose steps but the last add noise; ``Ancestral()`` by default.
        low, high: the range of clean samples that the grid holds; by default the target's with half its extent at
            either side, and never less than the target's own. Grids of noisier steps are wider by themselves.
        cells: of the finer of two grids, per standard deviation of a step's noise (default: 3 in 1-D, 2 in 2-D). In 2-D
            the sharp steps of a true score need 4 or more.
        progress: shows the steps, of both grids.

    Returns:
        the mass with an estimate of its error. What leaves the grid is followed, labelled like the rest and told as
        ``escaped``.

    Raises:
        InputError: samples of more dimensions, a sampler whose inner steps add no noise; a model whose samples leave
            the grid in such a way that the grid's range decides over more than a hundredth of the answer, even when the
            range is four times as wide.
    """
    denoiser, sampler = as_denoiser(model), sampler or Ancestral()
    grid = Grid.around(target, *(None if end is None else float(as_numbers("low, high", end)) for end in (low, high)))
    grid = replace(grid, cells=CELLS[grid.dimensions] if cells is None else cells)
    steps = len(sampler.levels(denoiser.schedule))
    for _ in range(3):
        with shown(progress).task("exact density", 2 * steps, 0, "steps") as task:
            coarser = replace(
                grid,
                cells=max(grid.cells / COARSER, 1.25),
                reach=grid.reach / 1.2,
                negligible=COARSE_NEGLIGIBLE[grid.dimensions],
            )
            coarse = mass_on_grid(denoiser, target, coarser, sampler, task=task)
            finer = replace(grid, negligible=max(TOLERANCE * coarse.value / steps, 1e-18))
            fine = mass_on_grid(denoiser, target, finer, sampler, task=task)
        lost = abs(1 - float(fine.law.mass.sum()))
        if abs(fine.escaped - coarse.escaped) <= UNSETTLED * fine.value + lost:
            return replace(fine, error=fine.error + abs(fine.value - coarse.value) + lost)
        middle, half = (grid.low + grid.high) / 2, grid.high - grid.low
        grid = replace(grid, low=middle - half, high=middle + half, reach=1.5 * grid.reach)
    raise InputError(
        f"model: {fine.escaped:.2g} of its mass leaves the grid {finer.low:.3g}..{finer.high:.3g}, or "
        f"{coarse.escaped:.2g} on a narrower one, against an answer of {fine.value:.2g}; give a wider low and high"
    )
