r"""What the benchmark's detectors look at: samples of one model, labelled, with Hal of their trajectories.

Hallucinations of a well-trained model are rare, so many samples are drawn, and all hallucinations (up to a limit)
are kept with a random part of the others. AUROC and shares within a class do not depend on how many of each class
are kept; the average precision does, and is that of the kept mixture.
"""

from __future__ import annotations

import json
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from intermode.denoisers import NetworkDenoiser, TabulatedDenoiser
from intermode.detect.hal import Hal
from intermode.detect.registry import Setting
from intermode.experiments.gaussian_1d import MixtureConfig
from intermode.experiments.model import fit
from intermode.experiments.windows import detectors
from intermode.files import load_tensors, save_tensors
from intermode.models import load_model, shipped
from intermode.noise import draws
from intermode.progress import Progress
from intermode.samplers import Ancestral
from intermode.sampling import Plan, generate
from intermode.schedules import Schedule, cosine, linear
from intermode.targets.gaussian import GaussianMixture, line
from intermode.targets.lattice import diamond, grid
from intermode.targets.shapes import Shapes
from intermode.training import TrainConfig

__all__ = ["CHAIN", "SOURCES", "Pool", "Source", "make_pool"]

CHAIN = 1000
"""Steps of the chain that costs are compared with, T of the paper's Gaussians and shapes."""
REAL = 6000
"""Samples of the data: for fitting detectors; half of the rest for conformal thresholds, half to check them."""
LOW_WINDOWS = ((0, 3), (0, 5), (0, 8), (0, 10), (0, 12), (0, 15), (0, 19), (0, 30))
OFF_SUPPORT = "hallucinated"
"""The label of samples that the data cannot have; every other label is one of its reasons."""
IMAGE_WINDOWS = (
    (0, 100),
    (50, 150),
    (100, 300),
    (200, 400),
    (300, 500),
    (400, 600),
    (500, 700),
    (600, 800),
    (700, 850),
)


@dataclass(frozen=True)
class Source:
    """A target with one model of it.

    Attributes:
        target: name of the target.
        model: ``well`` or ``under`` (trained for ``steps`` only).
        kind: which data: gaussian-1d, grid, diamond or shapes.
        label: which label counts: hallucinated (off the support) or duplicate (the paper's, for shapes).
        steps: optimiser steps of an undertrained model.
        draw: share of the config's ``draw`` that is enough here.
    """

    target: str
    model: str
    kind: str
    label: str = "hallucinated"
    steps: int = 0
    draw: float = 1.0

    @property
    def name(self) -> str:
        return f"{self.target}-{self.model}"

    @property
    def drawing(self) -> str:
        """Name of what is drawn for it; two labels of the same samples share it."""
        return f"{self.kind}-{self.model}"

    @property
    def image(self) -> bool:
        return self.kind == "shapes"

    @property
    def data(self) -> GaussianMixture | Shapes:
        if self.kind == "shapes":
            return Shapes()
        return {"gaussian-1d": lambda: line([1, 2, 3]), "grid": grid, "diamond": diamond}[self.kind]()

    @property
    def schedule(self) -> Schedule:
        return cosine(1000) if self.image else linear(1000, 0.001, 0.2)

    @property
    def trained_here(self) -> bool:
        """Models of images are shipped, undertrained ones too: training one takes longer than all the rest."""
        return self.model == "under" and not self.image

    @property
    def shipped(self) -> Path:
        """Folder of a model that is not trained here.

        Raises:
            InputError: it was trained with another schedule or on other data.
        """
        name = self.kind if self.model == "well" else f"{self.kind}-{self.model}"
        return shipped(name, self.schedule, MixtureConfig().target_name if self.kind == "gaussian-1d" else self.kind)

    @property
    def windows(self) -> tuple[tuple[int, int], ...]:
        """Of Hal, that are compared."""
        return IMAGE_WINDOWS if self.image else LOW_WINDOWS


SOURCES = {
    source.name: source
    for source in (
        Source("gaussian-1d", "well", "gaussian-1d"),
        Source("gaussian-1d", "under", "gaussian-1d", steps=400, draw=0.05),
        Source("grid", "well", "grid", draw=0.2),
        Source("grid", "under", "grid", steps=3000, draw=0.02),
        Source("diamond", "well", "diamond", draw=0.2),
        # hardly one image in a hundred is a duplicate, of either model: enough to judge by in the paper tier alone
        Source("shapes", "under", "shapes", "duplicate", steps=3000),
        Source("shapes-off-support", "under", "shapes", steps=3000),
        Source("shapes-off-support", "well", "shapes"),
    )
}


@dataclass(frozen=True)
class Pool:
    """Kept samples of one model, with one label.

    Attributes:
        source: where they come from.
        denoiser: the model.
        x: (n, *shape).
        bad: (n,) bool, hallucinated by this label.
        counted: (n,) bool, those that were kept for this label, or are in the support.
        hal: (n,) scores by window, from the trajectories.
        real: (REAL, *shape) data that no model was trained on.
        evaluation_s: seconds for one network evaluation of one sample.
        drawn: samples of which these were kept.
        hallucinated: how many of those drawn were, by this label.
    """

    source: Source
    denoiser: NetworkDenoiser
    x: Tensor
    bad: np.ndarray
    counted: np.ndarray
    hal: dict[str, np.ndarray]
    real: Tensor
    evaluation_s: float
    drawn: int
    hallucinated: int

    @property
    def setting(self) -> Setting:
        return Setting(tuple(self.x.shape[1:]), self.source.data)


def make_pool(source: Source, config: Any, path: Path, progress: Progress) -> Pool:
    """Draw and label, or read what was drawn.

    Args:
        source: which.
        config: the benchmark's.
        path: of the run.
        progress: shown to the user.
    """
    folder = path / source.drawing
    denoiser = _model(source, config, folder, progress)
    file = folder / "pool.safetensors"
    if not file.exists():
        _draw(source, config, denoiser, folder, progress)
    tensors, metadata = load_tensors(file)
    hal = {name: v.numpy() for name, v in tensors.items() if name.startswith("hal-")}
    real = source.data.sample(REAL, config.seed + 7)
    bad, off_support = tensors[source.label].numpy(), tensors[OFF_SUPPORT].numpy()
    counted = tensors[f"chosen-{source.label}"].numpy() | ~off_support
    facts = json.loads(metadata["facts"])
    return Pool(
        source,
        denoiser,
        tensors["x"],
        bad,
        counted,
        hal,
        real,
        facts["evaluation_s"],
        facts["drawn"],
        facts[source.label],
    )


def _model(source: Source, config: Any, folder: Path, progress: Progress) -> NetworkDenoiser:
    if not source.trained_here:
        return load_model(source.shipped)
    data = source.data.sample(50_000, config.seed)
    network = {"kind": "mlp", "dimensions": data.shape[1]}
    training = TrainConfig(steps=max(round(source.steps * config.undertraining), 1), batch=1000, seed=config.seed)
    place = folder / "model"
    return fit(
        place, network, source.schedule, data, training, target=source.kind, threads=config.threads, progress=progress
    )


def _draw(source: Source, config: Any, denoiser: NetworkDenoiser, folder: Path, progress: Progress) -> None:
    if source.image:
        sampler = Ancestral("small", config.image_steps)
        plan = Plan(config.images, source.data.shape, config.seed + 1, 32)
        sampled: Any = denoiser
    else:
        sampler = Ancestral("large")
        plan = Plan(max(int(config.draw * source.draw), 100), (denoiser.shape[0],), config.seed + 1)
        sampled = TabulatedDenoiser(denoiser, -5.5, 5.5, points=4096)
        if denoiser.shape[0] == 2:
            sampled = TabulatedDenoiser(denoiser, -5.5, 5.5, points=96, dimensions=2, begin=60)
        sampled.prepare(sampler.timesteps(source.schedule), device="cpu", progress=progress)
    visited = sampler.timesteps(source.schedule)
    windows = [w for w in source.windows if sum(w[0] <= t <= w[1] for t in visited) >= 2]
    watching: list[Hal] = detectors(windows, len(source.schedule))
    generated = generate(sampled, sampler, plan, watching, folder=folder / "drawn", progress=progress)
    labels = source.data.label(generated.x)
    names = {OFF_SUPPORT, *(other.label for other in SOURCES.values() if other.drawing == source.drawing)}
    found = {name: np.asarray(getattr(labels, name)) for name in sorted(names)}
    off_support = found[OFF_SUPPORT]
    most = (config.images_kept,) * 2 if source.image else (config.hallucinated, config.in_support)
    keep, chosen = _choose(found, off_support, *most, config.seed)
    tensors = {"x": generated.x[keep]}
    tensors |= {name: torch.from_numpy(label[keep]) for name, label in found.items()}
    tensors |= {f"chosen-{name}": torch.from_numpy(rows) for name, rows in chosen.items()}
    tensors |= {name: torch.from_numpy(score[keep]) for name, score in generated.scores.items()}
    facts = {"drawn": len(off_support), "evaluation_s": _evaluation_seconds(denoiser, source)}
    facts |= {name: int(label.sum()) for name, label in found.items()}
    save_tensors(folder / "pool.safetensors", tensors, {"facts": json.dumps(facts)})


def _choose(
    labels: dict[str, np.ndarray], off_support: np.ndarray, hallucinated: int, in_support: int, seed: int
) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """Rows kept, at most so many of each label and of the rest, in a random order, so that halves are alike.

    Returns:
        the rows, and of each label which of them were kept for it: another label's are a choice, no random part.
    """
    rng = draws(seed, "select")
    of = {name: rng.permutation(np.flatnonzero(label))[:hallucinated] for name, label in labels.items()}
    rest = rng.permutation(np.flatnonzero(~off_support))[:in_support]
    keep = rng.permutation(np.unique(np.concatenate([*of.values(), rest])))
    return keep, {name: np.isin(keep, rows) for name, rows in of.items()}


def _evaluation_seconds(denoiser: NetworkDenoiser, source: Source) -> float:
    """Of one sample in one network evaluation as samplers do it: a large batch at one timestep."""
    batch = 32 if source.image else 16384
    x = torch.randn(batch, *denoiser.shape, generator=torch.Generator().manual_seed(0))
    times = []
    with torch.no_grad():
        for _ in range(5):
            begin = time.perf_counter()
            denoiser(x, 10)
            times.append(time.perf_counter() - begin)
    return float(np.median(times)) / batch
