r"""What there is to watch in one dimension: the exact law of a chain from noise to data, and on through restarts.

The laws of x_t under the learned and under the true score are carried by :mod:`intermode.exact`. Between modes that are
not yet apart no mass can be told to be between them, so what is counted at t is what is *decided* there: the mass off
the support that the finished samples would have if the true score took over at t. It grows from nothing to the mass of
the finished samples, most of it within the last steps; under the true score it stays what that leaves.

The two samples whose x0_hat is followed begin as draws of the learned law itself at a late t, so that no chain has to
be drawn from its beginning until one of its rare hallucinations is met.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any

import numpy as np
import torch
from torch import Tensor

from intermode.denoisers import Denoiser, MixtureDenoiser
from intermode.errors import InputError
from intermode.exact import Grid, Law, Outcome, propagate, start, weigh
from intermode.explaining.paths import levels_of
from intermode.noise import NoiseStream, draws
from intermode.progress import Progress
from intermode.restart import timestep_of
from intermode.samplers import Sampler
from intermode.schedules import CLEAN, Schedule
from intermode.targets.gaussian import GaussianMixture

__all__ = ["Film", "film"]

LATE = 10
"""The last steps, all of which are shown."""
COUNTED = 20
"""The last steps of which it is told what is decided."""
LEVEL, PASSES = 3, 5
"""Of the restarts, as :class:`intermode.restart.Restart` has them."""
FOLLOWED = 60
"""Timesteps under it are followed."""
CELLS, NEGLIGIBLE = 3.0, 1e-15
POINTS = 701
DRAWN, MOST = 16_384, 16
"""Samples that are followed to find a hallucinated one, and how often as many more."""


@dataclass(frozen=True)
class Film:
    """All that is shown, as arrays.

    Attributes:
        x: (G,) places.
        level, restart: (F,) int, timestep of each frame (``CLEAN`` for finished samples) and restarts before it.
        density: (F, 2, G) of x_t, under the learned score and the true one.
        when: (S,) int, timesteps of what is decided: the last ones, ``CLEAN``, and that after each restart.
        decided: (S, 2) masses.
        timesteps: (K,) of the followed samples, falling.
        x0_hat: (K, 2) of a hallucinated and a good sample; (0, 2) if no hallucinated one was met.
    """

    x: np.ndarray
    level: np.ndarray
    restart: np.ndarray
    density: np.ndarray
    when: np.ndarray
    decided: np.ndarray
    timesteps: np.ndarray
    x0_hat: np.ndarray

    @property
    def tensors(self) -> dict[str, Tensor]:
        """For a file."""
        return {each.name: torch.from_numpy(np.ascontiguousarray(getattr(self, each.name))) for each in fields(self)}

    @classmethod
    def of(cls, tensors: dict[str, Tensor]) -> Film:
        """What a file holds."""
        return cls(**{each.name: tensors[each.name].numpy() for each in fields(cls)})

    @property
    def finished(self) -> int:
        """Place of the finished samples, before restarts, among ``when``."""
        return int(np.flatnonzero(self.when == CLEAN)[0])


def film(learned: Denoiser, target: GaussianMixture, sampler: Sampler, *, seed: int = 0, progress: Progress) -> Film:
    """Carry the laws of a model of samples (1,), and of the true score, from noise to data and through restarts.

    Raises:
        InputError: samples of more numbers, or a sampler whose inner steps add no noise.
    """
    if tuple(target.shape) != (1,):
        raise InputError(f"target: is one of samples of shape {tuple(target.shape)}; a law is shown in one dimension")
    schedule, around = learned.schedule, Grid.around(target)
    grid = Grid(1, around.low, around.high, CELLS, negligible=NEGLIGIBLE)
    visited = sampler.timesteps(schedule)
    shown = _shown(schedule, visited)
    again = sampler.timesteps_from(schedule, min(timestep_of(LEVEL, schedule), visited[0]))
    x = np.linspace(min(around.low, -2.5), max(around.high, 2.5), POINTS)
    true = MixtureDenoiser(target, schedule)
    late = [t for t in visited[1:] if t <= COUNTED]
    total = 2 * (len(visited) + sum(len([v for v in visited if v < t]) for t in late) + PASSES * (len(again) + 1))
    columns: list[tuple[list[np.ndarray], list[float]]] = []
    labels: list[tuple[int, int]] = []
    followed: Law | None = None
    with progress.task("exact density", total, 0, "steps") as task:
        for denoiser in (learned, true):
            densities: list[np.ndarray] = []
            decided: list[float] = []
            labels = []

            def show(law: Law | Outcome, restart: int, densities: Any = densities, labels: Any = labels) -> None:
                densities.append(_density(law, x))
                labels.append((law.t, restart))

            def carried(law: Law | Outcome, denoiser: Denoiser, levels: Any) -> Law:
                found = propagate(law, denoiser, levels, sampler, task=task)
                assert isinstance(found, Law)
                return found

            law = start(schedule, grid, visited[0])
            show(law, 0)
            for u in visited[1:]:
                law = carried(law, denoiser, [u])
                if u in shown:
                    show(law, 0)
                if u in late:
                    rest = carried(law, true, [t for t in visited if t < u])
                    decided.append(weigh(rest, true, target, sampler).value)
                if denoiser is learned and (followed is None or u >= FOLLOWED):
                    followed = law
            mass = weigh(law, denoiser, target, sampler)
            show(mass.law, 0)
            decided.append(mass.value)
            for restart in range(1, PASSES + 1):
                law = carried(mass.law, denoiser, [again[0]])
                if restart == 1:
                    show(law, restart)
                for u in again[1:]:
                    law = carried(law, denoiser, [u])
                    if restart == 1:
                        show(law, restart)
                mass = weigh(law, denoiser, target, sampler)
                show(mass.law, restart)
                decided.append(mass.value)
            columns.append((densities, decided))
    when = [*late, CLEAN, *[CLEAN] * PASSES]
    assert followed is not None
    timesteps, x0_hat = _follow(followed, learned, target, sampler, seed)
    level, restart_of = np.array(labels).T
    density = np.stack([np.stack(one) for one, _ in columns], axis=1)
    masses = np.stack([np.array(one) for _, one in columns], axis=1)
    return Film(x, level, restart_of, density, np.array(when), masses, timesteps, x0_hat)


def _shown(schedule: Schedule, visited: tuple[int, ...]) -> set[int]:
    """Timesteps that get a frame: spread over the log of the signal-to-noise ratio, and all of the last ones."""
    timesteps = np.array(visited)
    spread = [int(timesteps[np.abs(timesteps - at).argmin()]) for at in levels_of(schedule) if at > LATE]
    return {*spread, *(t for t in visited if t <= LATE)}


def _density(law: Law | Outcome, x: np.ndarray) -> np.ndarray:
    if isinstance(law, Outcome):
        width = x[1] - x[0]
        edges = np.append(x - width / 2, x[-1] + width / 2)
        return law.histogram(edges) / width
    nodes, density = law.density(min(law.noise / 4, x[1] - x[0]))
    return np.interp(x, nodes, density, left=0.0, right=0.0)


@torch.no_grad()
def _follow(
    law: Law, denoiser: Denoiser, target: GaussianMixture, sampler: Sampler, seed: int
) -> tuple[np.ndarray, np.ndarray]:
    """x0_hat of the first hallucinated and the first good sample that begin as draws of a law at a late t."""
    timesteps = np.array(sampler.timesteps_from(denoiser.schedule, law.t))
    for part in range(MOST):
        generator = draws(seed, "select", part)
        mass = np.maximum(law.field, 0)
        nodes = generator.choice(law.nodes, DRAWN, p=mass / mass.sum())
        x_t = torch.from_numpy(nodes + law.std * generator.standard_normal(DRAWN))[:, None]
        noise = NoiseStream(seed, part * DRAWN, DRAWN, (1,), device=denoiser.device, dtype=denoiser.dtype)
        x, found = x_t.to(denoiser.device, denoiser.dtype), []
        for step in sampler(denoiser, x, noise, start=law.t):
            found.append(step.x0_hat[:, 0].cpu().numpy())
            x = step.x_next
        labels = target.label(x.cpu())
        bad = np.flatnonzero(labels.rule == "between")
        if len(bad):
            good = int(np.flatnonzero(~labels.hallucinated)[0])
            return timesteps, np.stack(found)[:, [int(bad[0]), good]].astype(np.float64)
    return timesteps[:0], np.empty((0, 2))
