"""What the benchmark measures, as jobs: pools of labelled samples of one model, and cells, a detector's scores of one.

Hallucinations of a well-trained model are rare, so many samples are drawn, and all hallucinations (up to a limit)
are kept with a random part of the others. AUROC and shares within a class do not depend on how many of each class
are kept; the average precision does, and is that of the kept mixture.

A cell chooses a detector's settings on one half of a pool, by AUROC, and scores the other half with them, as well as
data that no model was trained on. It also measures what that costs, and so does the pool for the chain.
"""

from __future__ import annotations

import hashlib
import sys
import time
import timeit
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import torch
from sklearn.metrics import roc_auc_score
from torch import Tensor

from intermode.denoisers import Denoiser
from intermode.detect import Detector, describe
from intermode.detect.aleatoric import Aleatoric
from intermode.detect.bayesdiff import BayesDiff
from intermode.detect.boundary import Boundary
from intermode.detect.critical import in_critical_windows
from intermode.detect.curvature import Curvature
from intermode.detect.generative_uncertainty import GenerativeUncertainty
from intermode.detect.hal import HalRenoise
from intermode.detect.knn import KNN, Realism
from intermode.detect.lid import LID
from intermode.detect.lmi import LMI
from intermode.detect.posterior_variance import PosteriorVariance
from intermode.detect.registry import IMAGES_ALONE, Setting, make
from intermode.detect.residual import Residual
from intermode.detect.window import CRITICAL
from intermode.jobs import Done, Running
from intermode.noise import draws
from intermode.sampling import score
from intermode.study.configs import Lattice, LatticeModel, LineModel, LocalShapesModel, Model, ShapesModel, Training
from intermode.study.steps import denoiser_of, pool_of, windows_known
from intermode.targets.shape_oracle import ShapeLabels

__all__ = [
    "AUDIT",
    "CHAIN",
    "ENDS",
    "SOURCES",
    "Kept",
    "Source",
    "candidates",
    "fingerprint",
    "keep",
    "kept_of",
    "score_cell",
]

CHAIN = 1000
"""Steps of the chain that costs are compared with, T of the paper's Gaussians and shapes."""
REAL = 6000
"""Samples of the data: for fitting detectors; half of the rest for conformal thresholds, half to check them."""
CONFORMAL_IMAGES = 120
"""Images of the data that are scored for conformal thresholds, and as many to check them."""
FITTING_IMAGES = 500
"""Images that detectors are fitted on."""
AUDIT = "-audit"
"""Ends the name of a detector that asks another model, in the critical windows of that one."""
ENDS = ("random", "white", "oracle")
"""Not detectors, but the ends of the scale, and of images what content alone tells."""
OFF_SUPPORT = "hallucinated"
"""The label of samples that the data cannot have; every other label is one of its reasons."""
LOW_WINDOWS = ((0, 3), (0, 5), (0, 8), (0, 10), (0, 12), (0, 15), (0, 19), (0, 30))
IMAGE_WINDOWS = (
    *((0, 100), (50, 150), (100, 300), (200, 400), (300, 500)),
    *((400, 600), (500, 700), (600, 800), (700, 850)),
)
LATTICES = {"grid": Lattice("grid"), "diamond": Lattice("diamond")}


@dataclass(frozen=True)
class Source:
    """A target with one model of it.

    Attributes:
        target: name of the target.
        model: ``well``, ``under`` (trained for ``steps`` only) or ``local`` (sees a part of the image only).
        kind: which data: gaussian-1d, grid, diamond or shapes.
        label: which label counts: hallucinated (off the support) or duplicate (the paper's, for shapes).
        steps: optimiser steps of an undertrained model.
        draw: share of the config's ``draw`` that is enough here.
        auditor: name of the drawing whose model scores these images, too.
    """

    target: str
    model: str
    kind: str
    label: str = OFF_SUPPORT
    steps: int = 0
    draw: float = 1.0
    auditor: str = ""

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
    def windows(self) -> tuple[tuple[int, int], ...]:
        """Of Hal, that are compared."""
        return IMAGE_WINDOWS if self.image else LOW_WINDOWS

    def takes(self, detector: str) -> bool:
        """Whether a detector can score its samples."""
        if detector.endswith(AUDIT):
            return bool(self.auditor)
        return self.image or detector not in IMAGES_ALONE

    def trained(self, seed: int = 0, undertraining: float = 1.0) -> Model:
        """The model; those of images are shipped: one takes longer than all the rest."""
        if self.image:
            return LocalShapesModel(shipped="shapes-local") if self.model == "local" else ShapesModel(shipped="shapes")
        model = LineModel() if self.kind == "gaussian-1d" else LatticeModel(target=LATTICES[self.kind])
        if self.model == "well":
            return replace(model, shipped=self.kind)
        training = Training(steps=max(round(self.steps * undertraining), 1), batch=1000)
        return replace(model, size=50_000, seed=seed, train=training)


SOURCES = {
    source.name: source
    for source in (
        Source("gaussian-1d", "well", "gaussian-1d"),
        Source("gaussian-1d", "under", "gaussian-1d", steps=400, draw=0.05),
        Source("grid", "well", "grid", draw=0.2),
        Source("grid", "under", "grid", steps=3000, draw=0.02),
        Source("diamond", "well", "diamond", draw=0.2),
        # of the network that sees all, hardly one image in a hundred has two of a kind: too few to judge by
        Source("shapes", "local", "shapes", "duplicate", auditor="shapes-well"),
        Source("shapes-off-support", "local", "shapes", auditor="shapes-well"),
        Source("shapes-off-support", "well", "shapes"),
    )
}


@dataclass(frozen=True)
class Kept:
    """Kept samples of one model, with one label.

    Attributes:
        x: (n, *shape), in random order.
        rows: (n,) which of those drawn they are.
        bad: (n,) bool, hallucinated by this label.
        validation, test: (n,) bool, the halves, of those that were kept for this label or are in the support.
        hal: (n,) scores by window, from the trajectories.
        evaluation_s: seconds for one network evaluation of one sample, measured some times.
        drawn, hallucinated: samples of which these were kept, and how many of them were hallucinated.
        content: (n,) how many shapes an image holds; None of samples that are no images.
    """

    x: Tensor
    rows: np.ndarray
    bad: np.ndarray
    validation: np.ndarray
    test: np.ndarray
    hal: Mapping[str, np.ndarray]
    evaluation_s: Sequence[float]
    drawn: int
    hallucinated: int
    content: np.ndarray | None = None

    @property
    def enough(self) -> bool:
        """Whether each half has five samples of both kinds."""
        halves = (self.bad[self.validation], self.bad[self.test])
        return all(min(bad.sum(), (~bad).sum()) >= 5 for bad in halves)


def kept_of(done: Done, label: str) -> Kept:
    """What a job kept, with that label."""
    x, facts = done.tensors(), done.facts
    found = {name: value.numpy() for name, value in x.items()}
    counted = found[f"chosen-{label}"] | ~found[OFF_SUPPORT]
    first = np.arange(len(counted)) < len(counted) // 2
    hal = {name: value for name, value in found.items() if name.startswith("hal-")}
    numbers = facts["evaluation_s"], facts["drawn"], facts["hallucinated"][label]
    halves = first & counted, ~first & counted
    return Kept(x["x"], found["rows"], found[label], *halves, hal, *numbers, found.get("content"))


def keep(running: Running) -> dict[str, Any]:
    """Label what was drawn, keep some of it, and measure what a network evaluation takes."""
    config, drawn = running.config, pool_of(running.inputs["drawn"])
    labels = config["target"].target.label(drawn.x)
    found = {name: np.asarray(getattr(labels, name)) for name in sorted({OFF_SUPPORT, *config["labels"]})}
    rows, chosen = choose_rows(found, config["hallucinated"], config["in_support"], config["seed"])
    kept = {"rows": rows, **{name: label[rows] for name, label in found.items()}}
    kept |= {f"chosen-{name}": mask for name, mask in chosen.items()}
    kept |= {name: scores[rows] for name, scores in drawn.scores.items()}
    if isinstance(labels, ShapeLabels):
        kept["content"] = labels.counts_by_kind.sum(1)[rows]
    running.save({"x": drawn.x[rows], **{name: torch.from_numpy(value) for name, value in kept.items()}})
    return {
        "drawn": len(drawn),
        "hallucinated": {name: int(label.sum()) for name, label in found.items()},
        "rules": labels.counts(),
        "evaluation_s": _evaluation_seconds(denoiser_of(running.inputs["model"], running.device), running.device),
    }


def choose_rows(
    labels: Mapping[str, np.ndarray], hallucinated: int, in_support: int, seed: int
) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """Rows kept, at most so many of each label and of the rest, in a random order, so that halves are alike.

    Returns:
        the rows, and of each label which of them were kept for it: another label's are a choice, no random part.
    """
    rng = draws(seed, "select")
    of = {name: rng.permutation(np.flatnonzero(label))[:hallucinated] for name, label in labels.items()}
    rest = rng.permutation(np.flatnonzero(~labels[OFF_SUPPORT]))[:in_support]
    rows = rng.permutation(np.unique(np.concatenate([*of.values(), rest])))
    return rows, {name: np.isin(rows, own) for name, own in of.items()}


def _evaluation_seconds(denoiser: Denoiser, device: str) -> list[float]:
    """Of one sample in one network evaluation as samplers do it: a large batch at one timestep."""
    batch = 32 if len(denoiser.shape) > 1 else 16384
    x = torch.randn(batch, *denoiser.shape, generator=torch.Generator().manual_seed(0)).to(device)
    with torch.no_grad():  # copied, which waits for a GPU
        return [second / batch for second in timeit.repeat(lambda: denoiser(x, 10).cpu(), number=1, repeat=5)]


def candidates(name: str, setting: Setting) -> list[Detector]:
    """The detector of that name in the settings that the benchmark chooses from; one as the registry makes it, if it is
    not listed here, or if it looks at the critical windows.

    Raises:
        InputError: a name that the registry does not know.
    """
    if name.endswith((CRITICAL, AUDIT)):
        return [make(name.removesuffix(CRITICAL).removesuffix(AUDIT), replace(setting, window="critical"))]
    image, features = setting.image, setting.features
    low: tuple[tuple[int, ...], ...] = ((0, 1), (1, 2, 3), (3, 5, 7, 10), (10, 15, 20))
    near = ((10, 20), (25, 50, 100), (100, 200), (200, 300, 400), (400, 500, 600)) if image else low
    far = ((25, 50), (100, 200), (300, 400)) if image else low
    renoised = ((50, 150), (100, 150), (200, 400), (400, 600)) if image else ((0, 9), (0, 15), (5, 20))
    probes = 4 if image else setting.shape[0]  # whole Jacobians in a few dimensions, as many products beyond
    listed: dict[str, list[Detector]] = {
        "hal-renoise": [HalRenoise(*window, 10) for window in renoised],
        "residual": [Residual(timesteps) for timesteps in near],
        "lid": [LID(timesteps, 32) for timesteps in near],
        "posterior-variance": [PosteriorVariance("trace", timesteps, probes) for timesteps in far],
        "posterior-variance-largest": [PosteriorVariance("largest", timesteps, probes) for timesteps in far],
        "aleatoric": [Aleatoric(timesteps, 5) for timesteps in near],
        "curvature": [Curvature(timesteps) for timesteps in near],
        "boundary": [
            Boundary(timesteps) for timesteps in ((*near, (700, 750, 800), (775, 800, 825)) if image else near)
        ],
        "knn": [KNN(k, features) for k in (1, 5)],
        "realism": [Realism(k, features) for k in (3, 5)],
    }
    if image:  # those that follow a sample through a chain would take most of the benchmark's time
        listed["lmi"] = [LMI(range(0, 1000, 100))]
        listed["bayesdiff"] = [BayesDiff(range(0, 1000, 125), probes=5)]
        listed["generative-uncertainty"] = [GenerativeUncertainty(range(0, 1000, 100), features=features)]
    return listed.get(name) or [make(name, setting)]


def fingerprint(name: str, setting: Setting) -> dict[str, Any]:
    """What a cell depends on besides its pool: the settings compared, and the code of somebody else's detector."""
    found = candidates(name, setting)
    said: dict[str, Any] = {"detector": name, "candidates": [describe(detector) for detector in found]}
    file = getattr(sys.modules.get(type(found[0]).__module__), "__file__", None)
    if ":" in name and file:
        said["code"] = hashlib.sha256(Path(file).read_bytes()).hexdigest()[:16]
    return said


Cell: TypeAlias = tuple[dict[str, Tensor], dict[str, Any]]
"""Scores, of the samples and of data for conformal thresholds; and settings, network evaluations and seconds."""


def score_cell(running: Running) -> dict[str, Any]:
    """One detector on the samples of one model: for each label, settings chosen on one half, then all scores."""
    config = running.config
    pools = [kept_of(running.inputs["pool"], label) for label in config["labels"]]
    target = config["target"].target
    found: list[Any] = candidates(config["detector"], Setting(tuple(target.shape), target))
    if config["detector"] == "hal":
        cells = [choose_window(kept, kept.hal) for kept in pools]
    elif "watched" in running.inputs:  # a detector of trajectories: all samples were drawn once more
        (scores,) = pool_of(running.inputs["watched"]).scores.values()
        cells = [choose_window(kept, {describe(found[0]): scores[kept.rows]}) for kept in pools]
    else:
        real = target.sample(REAL, config["seed"] + 7)
        denoiser = denoiser_of(running.inputs["model"], running.device)
        if "windows" in running.inputs:
            windows_known(running.inputs["windows"], denoiser)
            found = [in_critical_windows(detector, denoiser, None) for detector in found]
        cells = choose_settings(found, denoiser, pools, real, running)
    of = dict(zip(config["labels"], cells, strict=True))
    # clones, since two labels may have the same scores, and a file holds nothing twice
    running.save({f"{part}-{label}": x.clone() for label, (parts, _) in of.items() for part, x in parts.items()})
    return {label: record for label, (_, record) in of.items()}


def choose_window(kept: Kept, scores: Mapping[str, np.ndarray]) -> Cell:
    """The best of the windows that were watched while the samples were drawn, which cost nothing."""
    half = kept.validation
    window = max(scores, key=lambda name: auroc(scores[name][half], kept.bad[half]))
    words = "t = {}..{}".format(*window.removeprefix("hal-").split("-")) if window in kept.hal else window
    return {"scores": torch.from_numpy(scores[window])}, {"settings": words, "nfe": 0, "seconds": []}


def choose_settings(
    found: Sequence[Any], denoiser: Denoiser, pools: Sequence[Kept], real: Tensor, running: Running
) -> list[Cell]:
    """The best settings of a detector.

    Args:
        found: the detector with each.
        denoiser: the model.
        pools: the same samples of it with one label or more; settings are chosen for each.
        real: (REAL, *shape) data that no model was trained on.
        running: the job.
    """
    most, seed, x, image = running.config["fitting"], running.config["seed"], pools[0].x, real.ndim > 2
    fitting, calibration, checking = real[:most], *real[most:].tensor_split(2)
    if image:
        fitting = fitting[:FITTING_IMAGES]
        calibration, checking = calibration[:CONFORMAL_IMAGES], checking[:CONFORMAL_IMAGES]
    for detector in found:
        if hasattr(detector, "fit"):
            detector.fit(denoiser, fitting, seed=seed)
    chunk, half = 64 if image else 1024, len(x) // 2

    def scored(detector: Any, x: Tensor, own: int, first: int = 0) -> tuple[Tensor, list[float]]:
        """(n,) scores, and seconds for a sample by chunk, of which even a short one is computed whole."""
        parts, seconds = [], []
        with running.progress.task("scoring", len(x), 0, "samples") as task:
            for start in range(0, len(x), chunk):
                begin, rows = time.perf_counter(), x[start : start + chunk]
                where: dict[str, Any] = {"first": first + start, "chunk": chunk, "device": running.device}
                parts.append(score(detector, denoiser, rows, seed=seed + own, **where))
                seconds.append((time.perf_counter() - begin) / chunk)
                task.advance(len(rows))
        return torch.from_numpy(np.concatenate(parts)), seconds

    validation = [scored(detector, x[:half], 1)[0] for detector in found]

    @lru_cache
    def finished(best: int) -> Cell:
        detector = found[best]
        test, seconds = scored(detector, x[half:], 1, first=half)
        tensors = {"scores": torch.cat([validation[best], test])}
        if detector.name not in ENDS:
            for part, data in (("calibration", calibration), ("checking", checking)):
                tensors[part], more = scored(detector, data, 2)
                seconds += more
        return tensors, {"settings": describe(detector), "nfe": int(detector.nfe), "seconds": seconds}

    def quality(kept: Kept, scores: Tensor) -> float:
        counted = kept.validation[:half]
        return auroc(scores.numpy()[counted], kept.bad[:half][counted])

    return [finished(int(np.argmax([quality(kept, scores) for scores in validation]))) for kept in pools]


def finite(scores: np.ndarray) -> np.ndarray:
    """Scores for scikit-learn, which takes no infinity: the largest float keeps its place at the top."""
    return np.nan_to_num(scores, nan=np.finfo(float).max, posinf=np.finfo(float).max)


def auroc(scores: np.ndarray, bad: np.ndarray) -> float:
    return 0.5 if bad.all() or not bad.any() else float(roc_auc_score(bad, finite(scores)))


def ranks_within(scores: np.ndarray, reference: np.ndarray) -> np.ndarray:
    """The share of the reference below each score, 0..1."""
    ordered, s = np.sort(finite(reference)), finite(scores)
    return (np.searchsorted(ordered, s, "left") + np.searchsorted(ordered, s, "right")) / (2 * len(ordered))
