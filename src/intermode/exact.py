r"""The law of the reverse chain itself, in 1-D and 2-D, without sampling.

A step of the chain moves the density :math:`p_t` of :math:`x_t` to

.. math::
    p_u(y) = \int p_t(x)\, \mathcal N\bigl(y;\; m(x), \sigma^2 I\bigr)\, dx, \qquad
    m(x) = c_x x + c_0 \hat x_0(x, t)

(coefficients: :mod:`intermode.samplers`). On a grid this is done in two parts. The mass at each node is moved to
m(x) and deposited there with a cubic B-spline of spacing g: a kernel that adds the variance :math:`g^2 / 3`
wherever it lands, and no error before the fourth moment. What is left of the noise, a Gaussian of variance
:math:`\sigma^2 - g^2/3`, is then applied exactly, as a matrix per axis, straight onto the next step's grid. All
weights are positive, so masses are, down to the smallest; the grid is as fine as the step's noise demands, so
late steps are fine and early steps cheap.

The last step is deterministic: the result is a set of points :math:`x_0` with masses. Cells that the edge of the
support crosses are split, since a whole node more or less would be an error of first order. Mass outside the grid
is lost and reported as ``escaped``. The error is estimated from a second run with cells half as wide, and from
the mass of the split cells.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch

from intermode.denoisers import Denoiser
from intermode.errors import InputError
from intermode.progress import Progress, Silent, Task
from intermode.samplers import Sampler
from intermode.schedules import CLEAN
from intermode.targets import Target

__all__ = ["Mass", "Outcome", "mass_on_grid", "off_support", "outcome"]

NEGLIGIBLE = 1e-15
"""Nodes are dropped while all dropped mass of a step stays under this share."""
FINAL_REFINEMENT = {1: 4, 2: 1}
"""How much finer the last grid is: there the mass meets the sharp edge of the support."""
EDGE_POINTS = {1: 16, 2: 4}
"""Points per axis into which a cell is split that the edge of the support crosses."""


@dataclass(frozen=True)
class Outcome:
    """The law of the finished samples as weighted points.

    Attributes:
        x_0: (n, d) float64 points.
        mass: (n,) float64, at least 0; sums to 1 - escaped.
        nodes: (n, d) float64, the grid nodes before the last step that became ``x_0``.
        spacing: of the grid.
    """

    x_0: np.ndarray
    mass: np.ndarray
    nodes: np.ndarray
    spacing: float

    @property
    def escaped(self) -> float:
        """Mass that left the grid (or was gained by discretisation, if negative)."""
        return 1.0 - float(self.mass.sum())

    def histogram(self, edges: np.ndarray) -> np.ndarray:
        """(B,) mass between neighbouring ``edges`` (B + 1,), in 1-D: by interpolating the distribution function,
        since each point stands for the mass around it."""
        order = np.argsort(self.x_0[:, 0])
        mass = self.mass[order]
        return np.diff(np.interp(edges, self.x_0[order, 0], mass.cumsum() - mass / 2, left=0.0))


@dataclass(frozen=True)
class Mass:
    """A mass with an estimate of its error.

    Attributes:
        value: on the finer grid.
        error: difference between the finer and the coarser grid, and what the edge of the support leaves open.
        escaped: see :class:`Outcome`.
    """

    value: float
    error: float
    escaped: float


class _Axis:
    """A regular grid over [low, high], the same in every dimension."""

    def __init__(self, low: float, high: float, spacing: float) -> None:
        count = max(math.ceil((high - low) / spacing), 8)
        self.nodes = np.linspace(low, high, count + 1)
        self.spacing = (high - low) / count


def _deposit(axis: _Axis, y: np.ndarray, mass: np.ndarray) -> np.ndarray:
    """(N, ..., N) mass on the grid, each point spread over 4 nodes per axis; what lies outside is lost."""
    dimensions, count = y.shape[1], len(axis.nodes)
    place = (y - axis.nodes[0]) / axis.spacing
    inside = ((place >= 1) & (place < count - 2)).all(1)
    place, mass = place[inside], mass[inside]
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


def _blur(field: np.ndarray, source: _Axis, destination: _Axis, std: float) -> np.ndarray:
    """Density on ``destination`` of the masses ``field`` on ``source`` blurred by N(0, std² I)."""
    result, nodes = torch.from_numpy(field), torch.from_numpy(source.nodes)
    for _ in range(field.ndim):
        rows = []
        for part in torch.from_numpy(destination.nodes).split(2048):  # the whole kernel can be gigabytes
            kernel = torch.exp(-0.5 * ((part[:, None] - nodes) / std) ** 2) / (std * math.sqrt(2 * math.pi))
            rows.append(torch.tensordot(result, kernel, dims=([0], [1])))
        result = torch.cat(rows, dim=-1)  # the blurred axis comes last: after a full turn all are in order
    return result.numpy()


def _predict(denoiser: Denoiser, x: np.ndarray, t: int, chunk: int = 8192) -> np.ndarray:
    points = torch.from_numpy(x).to(denoiser.device, denoiser.dtype)
    with torch.no_grad():
        return torch.cat([denoiser(part, t) for part in points.split(chunk)]).double().cpu().numpy()


def outcome(
    denoiser: Denoiser,
    sampler: Sampler,
    dimensions: int,
    low: float,
    high: float,
    *,
    cells: int = 8,
    task: Task | None = None,
) -> Outcome:
    """Carry N(0, I) through the reverse chain.

    Args:
        denoiser: any, of samples of shape (dimensions,).
        sampler: any whose steps but the last add noise.
        dimensions: 1 or 2.
        low, high: range of the grid in every dimension; must hold N(0, I) and all samples.
        cells: grid cells per standard deviation of a step's noise.
        task: advanced once a step.

    Raises:
        InputError: a sampler whose inner steps add no noise, or more than two dimensions.
    """
    if dimensions not in (1, 2):
        raise InputError(f"dimensions: {dimensions} cannot be carried on a grid; choose 1 or 2")
    if not low < high:
        raise InputError(f"low: {low} must be under high {high}")
    if cells < 1:
        raise InputError(f"cells: {cells} must be at least 1")
    schedule = denoiser.schedule
    visited = sampler.timesteps(schedule)
    moves = list(zip(visited, (*visited[1:], CLEAN), strict=True))
    steps = [sampler.transition(schedule, t, u) for t, u in moves]
    if any(std <= 0 for _, _, std in steps[:-1]):
        raise InputError("sampler: every step but the last must add noise; use ancestral sampling or eta > 0")
    # a grid must resolve the noise that made its density and the noise that will move it
    noises = [1.0, *(std for _, _, std in steps[:-1])]
    spacings = [min(a, b) / cells for a, b in zip(noises, [*noises[1:], noises[-1]], strict=True)]
    spacings[-1] /= FINAL_REFINEMENT[dimensions]

    axis = _Axis(low, high, spacings[0])
    normal = np.exp(-0.5 * axis.nodes**2) / math.sqrt(2 * math.pi)
    density = normal if dimensions == 1 else np.multiply.outer(normal, normal)
    for index, ((t, u), (c_x, c_0, std)) in enumerate(zip(moves, steps, strict=True)):
        mass = density.ravel() * axis.spacing**dimensions
        kept = np.flatnonzero(mass > NEGLIGIBLE / mass.size)
        mesh = np.meshgrid(*(axis.nodes,) * dimensions, indexing="ij")
        x = np.stack([m.ravel()[kept] for m in mesh], axis=1)
        mass = mass[kept]
        y = c_x * x + c_0 * _predict(denoiser, x, t)
        if task:
            task.advance(1)
        if u == CLEAN:
            return Outcome(y, mass, x, axis.spacing)
        source = _Axis(low, high, std / cells)
        destination = _Axis(low, high, spacings[index + 1])
        left = math.sqrt(std**2 - source.spacing**2 / 3)
        density = _blur(_deposit(source, y, mass), source, destination, left)
        axis = destination
    raise AssertionError("the chain ends with a step to the clean data")


def off_support(
    denoiser: Denoiser,
    sampler: Sampler,
    target: Target,
    low: float,
    high: float,
    *,
    cells: int = 2,
    progress: Progress | None = None,
) -> tuple[Mass, Outcome]:
    """Mass of the finished samples that the target calls hallucinated, escaped mass included.

    Args:
        denoiser, sampler: the reverse chain.
        target: says what is hallucinated.
        cells: of the coarser of two grids; the result comes from ``2 * cells``.
        low, high, progress: as in :func:`outcome`.

    Returns:
        the mass, and the outcome on the finer grid.
    """
    count = 2 * len(sampler.timesteps(denoiser.schedule))
    with (progress or Silent()).task("exact density", count, 0, "steps") as task:
        coarse, _, _ = mass_on_grid(denoiser, sampler, target, low, high, cells=cells, task=task)
        fine, edge, law = mass_on_grid(denoiser, sampler, target, low, high, cells=2 * cells, task=task)
    return Mass(fine, abs(fine - coarse) + edge, law.escaped), law


def mass_on_grid(
    denoiser: Denoiser,
    sampler: Sampler,
    target: Target,
    low: float,
    high: float,
    *,
    cells: int,
    task: Task | None = None,
) -> tuple[float, float, Outcome]:
    """The off-support mass on one grid, what the edge of the support leaves open of it, and the outcome.

    Cheaper than :func:`off_support` and without its estimate of the error: for following a training.
    """
    law = outcome(denoiser, sampler, math.prod(target.shape), low, high, cells=cells, task=task)
    return *_hallucinated(denoiser, sampler, target, law), law


def _hallucinated(denoiser: Denoiser, sampler: Sampler, target: Target, law: Outcome) -> tuple[float, float]:
    """Hallucinated mass, and how much of it the split of the edge's cells leaves open."""
    bad = target.label(law.x_0).hallucinated
    if not len(bad):
        return max(law.escaped, 0.0), 0.0  # all mass left the grid
    edge = _edge(law, bad)
    dimensions = law.nodes.shape[1]
    points = EDGE_POINTS[dimensions]
    places = ((np.arange(points) + 0.5) / points - 0.5) * law.spacing
    offsets = np.stack(np.meshgrid(*(places,) * dimensions, indexing="ij"), axis=-1).reshape(-1, dimensions)
    split = (law.nodes[edge][:, None] + offsets).reshape(-1, dimensions)
    share = bad[edge].astype(float)
    if len(split):
        t = sampler.timesteps(denoiser.schedule)[-1]
        c_x, c_0, _ = sampler.transition(denoiser.schedule, t, CLEAN)
        x_0 = c_x * split + c_0 * _predict(denoiser, split, t)
        share = target.label(x_0).hallucinated.reshape(-1, len(offsets)).mean(1)
    value = float(law.mass[bad & ~edge].sum() + law.mass[edge] @ share) + max(law.escaped, 0.0)
    return value, float(law.mass[edge].sum()) / points


def _edge(law: Outcome, bad: np.ndarray) -> np.ndarray:
    """(n,) bool, nodes of which a neighbour is labelled otherwise."""
    index = np.rint((law.nodes - law.nodes.min(0)) / law.spacing).astype(np.int64) + 1
    field = np.full(index.max(0) + 2, -1, dtype=np.int8)
    field[tuple(index.T)] = bad
    edge = np.zeros(len(bad), dtype=bool)
    for axis in range(index.shape[1]):
        for shift in (-1, 1):
            beside = index.copy()
            beside[:, axis] += shift
            label = field[tuple(beside.T)]
            edge |= (label >= 0) & (label != bad)
    return edge
