r"""What the same network is trained on, and what the network is: models that differ in one thing.

Four targets: noise that was drawn, on a finite set (*sampled*: a :class:`LineModel` as it is) and on fresh points in
every batch (*fresh*); the posterior mean :math:`\mathbb E[\varepsilon \mid x_t]` of the mixture in closed form
(*exact*); and that over a reference batch of the data (*stable*: :mod:`intermode.training_targets`).
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal

from intermode.denoisers import Denoiser, MixtureDenoiser
from intermode.jobs import Job, Running
from intermode.networks import build
from intermode.study.configs import MLP, LineModel
from intermode.targets import Target
from intermode.training import TrainConfig, fit

__all__ = ["Cause", "Network", "Variant", "cost_job", "learning"]

REPEATS, STEPS = 6, 15
"""Of each training that is timed, and the optimiser steps of one."""

Cause = Literal["sampled", "exact", "stable", "fresh"]


@dataclass(frozen=True)
class Fresh(LineModel):
    """Of points that are drawn anew in every batch."""

    @property
    def words(self) -> str:
        return f"{super().words}, drawn anew"

    def fresh(self) -> Target:
        return self.target.target


@dataclass(frozen=True)
class Exact(LineModel):
    """Learns the posterior mean in closed form."""

    @property
    def words(self) -> str:
        return f"{super().words}, learned from the posterior mean"

    def ideal(self) -> Denoiser:
        return MixtureDenoiser(self.target.target, self.noise.schedule)


@dataclass(frozen=True)
class Stable(LineModel):
    """Learns the posterior mean over a reference batch of its data.

    Attributes:
        reference: points of it.
    """

    reference: int = 1000

    def training(self) -> TrainConfig:
        return replace(super().training(), targets="posterior", reference=self.reference)


@dataclass(frozen=True)
class Network(MLP):
    """One with other parts than the paper's.

    Attributes:
        blocks: residual blocks.
        final_norm: whether a LayerNorm comes before the last layer.
    """

    blocks: int = 3
    final_norm: bool = True

    def description(self, shape: tuple[int, ...], classes: int = 0) -> dict[str, Any]:
        return {**super().description(shape), "blocks": self.blocks, "final_norm": self.final_norm}


def learning(cause: Cause, model: LineModel, reference: int) -> LineModel:
    """A model that learns from another target, with a reference batch of so many points where it is stable."""
    if cause == "sampled":
        return model
    kinds: dict[str, type[LineModel]] = {"fresh": Fresh, "exact": Exact, "stable": Stable}
    settings: dict[str, Any] = {"reference": reference} if cause == "stable" else {}
    settings |= {name: getattr(model, name) for name in ("size", "seed", "target", "noise", "network", "train")}
    return kinds[cause](**settings)


@dataclass(frozen=True)
class Variant:
    """A model that is trained with several seeds.

    Attributes:
        name: of it.
        model: of the first seed.
        seeds: how many.
    """

    name: str
    model: LineModel
    seeds: int

    def masses(self) -> list[str]:
        """Names of the jobs of their masses, seed by seed."""
        return [f"{name}_mass" for name, _ in self.models()]

    def models(self) -> Iterator[tuple[str, LineModel]]:
        """With the names of their jobs, seed by seed."""
        for k in range(self.seeds):
            seed = self.model.seed + k
            yield f"{self.name}_seed-{seed}", replace(self.model, seed=seed)


def cost_job(name: str, models: Mapping[str, LineModel]) -> Job:
    """Seconds of a few optimiser steps of each model, taken in turn; on a CPU of processor time, which does not depend
    on what else the machine does."""
    return Job(name, time_training, {"models": dict(models)})


def time_training(running: Running) -> dict[str, list[float]]:
    """Seconds of each model, repeat by repeat, after one that warms up."""
    clock = time.process_time if running.device == "cpu" else time.perf_counter
    found: dict[str, list[float]] = {name: [] for name in running.config["models"]}
    for repeat in range(REPEATS + 1):
        for name, model in running.config["models"].items():
            network = build(model.network.description(model.shape), model.seed)
            data, config = model.data()[0], replace(model.training(), steps=STEPS)
            begin = clock()
            fit(network, model.noise.schedule, data, config, device=running.device)
            if repeat:
                found[name].append(clock() - begin)
    return found
