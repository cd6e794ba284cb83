"""Steps that the studies share, as jobs: a trained model, a pool of its samples, its exact off-support mass."""

from __future__ import annotations

import copy
import shutil
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor

from intermode.blocks import Plan, joined, split
from intermode.critical import CriticalWindows
from intermode.denoisers import Denoiser, MixtureDenoiser, NetworkDenoiser, TabulatedDenoiser
from intermode.detect import Detector, SampleDetector, describe, watches
from intermode.detect.critical import in_critical_windows, remember, windows_of
from intermode.detect.window import asks_critical
from intermode.evaluation import Estimate
from intermode.exact import Outcome, off_support
from intermode.files import load_tensors
from intermode.guidance import GuidedDenoiser
from intermode.jobs import Done, Job, Running
from intermode.models import load_model, provenance_of, save_model, shipped
from intermode.networks import build
from intermode.provenance import provenance
from intermode.samplers import Sampler
from intermode.sampling import Samples, drawing, score, scores_of
from intermode.study.configs import Images, Lattice, Mixture, Model, Pool
from intermode.targets import Target
from intermode.targets.gaussian import GaussianMixture
from intermode.targets.shapes import Shapes
from intermode.training import fit

__all__ = [
    "Guided",
    "Tabulated",
    "View",
    "check_detectors",
    "class_labels",
    "count_job",
    "counts_of",
    "denoiser_of",
    "grid_range",
    "histogram_edges",
    "histogram_of",
    "label_job",
    "labelled",
    "mass_job",
    "mass_of",
    "model_job",
    "pool_job",
    "pool_of",
    "sampled",
    "score_job",
    "windows_job",
    "windows_known",
    "windows_told",
]


def model_job(name: str, model: Model, data: Job | None = None, start: Job | None = None) -> Job:
    """Train a model.

    Args:
        name: of the job.
        model: which.
        data: a job with the training data, tensors ``x`` and perhaps ``labels``; the model's own unless given.
        start: a model job whose weights training begins with.
    """
    inputs = {key: job for key, job in (("data", data), ("start", start)) if job is not None}
    return Job(name, train_model, model, inputs)


def train_model(
    running: Running, watch: Callable[[int, NetworkDenoiser], None] | None = None, watch_every: int = 0
) -> dict[str, Any]:
    """Train, or take the shipped model, into the folder ``model``; ``watch`` as in :func:`intermode.training.fit`."""
    model: Model = running.config
    place, schedule = running.folder / "model", model.noise.schedule
    if model.shipped is not None:
        shutil.copytree(shipped(model.shipped, schedule, model.words), place, dirs_exist_ok=True)
        record = provenance_of(place)
        return {"losses": record["losses"], "train_s": record["train_s"]}
    words = model.words
    x: Tensor | Target
    if "data" in running.inputs:
        given, words = running.inputs["data"].tensors(), f"{words}, generated"
        x, labels = given["x"], given.get("labels")
    elif (fresh := model.fresh()) is not None:
        x, labels = fresh, None
    else:
        x, labels = model.data()
    network = build(model.network.description(model.shape, model.classes), model.seed)
    if "start" in running.inputs:
        network.load_state_dict(denoiser_of(running.inputs["start"]).network.state_dict())
    config = model.training()
    trained = fit(
        network,
        schedule,
        x,
        config,
        prediction=model.prediction,
        labels=labels,
        ideal=model.ideal(),
        folder=running.folder,
        device=running.device,
        progress=running.progress,
        watch=watch,
        watch_every=watch_every,
    )
    facts = {"losses": [round(float(loss), 6) for loss in trained.losses], "train_s": trained.seconds}
    record = {**provenance(running.device, running.threads), "target": words, "training": asdict(config)}
    seen = len(x) if isinstance(x, Tensor) else config.steps * config.batch
    save_model(place, trained, {**record, "training_samples": seen, **facts})
    (running.folder / "checkpoint.safetensors").unlink(missing_ok=True)
    return facts


def denoiser_of(done: Done, device: str = "cpu") -> NetworkDenoiser:
    """The denoiser that a model job made; kept in memory for the jobs that come next."""
    return _loaded(done.folder / "model", device)


@lru_cache(maxsize=4)
def _loaded(folder: Path, device: str) -> NetworkDenoiser:
    denoiser = load_model(folder)
    denoiser.network.to(device)
    return denoiser


class View(Protocol):
    """How a pool's chain sees the denoiser: a frozen dataclass, since results depend on it."""

    def __hash__(self) -> int: ...

    def of(self, denoiser: NetworkDenoiser) -> Denoiser:
        """The denoiser as it is sampled."""


@dataclass(frozen=True)
class Tabulated:
    """By a table; see :class:`intermode.denoisers.TabulatedDenoiser`.

    Attributes:
        low, high: range in every dimension.
        points: per dimension.
        dimensions: 1 or 2.
        begin: timesteps under it are left to the network.
    """

    low: float
    high: float
    points: int = 4096
    dimensions: int = 1
    begin: int = 0

    def of(self, denoiser: NetworkDenoiser) -> TabulatedDenoiser:
        return TabulatedDenoiser(denoiser, **asdict(self))


@dataclass(frozen=True)
class Guided:
    """Class by class, guided; see :class:`intermode.guidance.GuidedDenoiser`.

    Attributes:
        scale: strength w.
    """

    scale: float

    def of(self, denoiser: NetworkDenoiser) -> GuidedDenoiser:
        return GuidedDenoiser(denoiser, self.scale)


@lru_cache(maxsize=2)
def _viewed(folder: Path, device: str, view: View | None, fast: tuple[str, bool]) -> Denoiser:
    """Kept in memory: the blocks of a pool share a table. ``fast`` is the precision, and whether to compile."""
    denoiser = _loaded(folder, device)
    precision, compiled = fast
    network: Any = denoiser.network
    if device.startswith("cuda") and len(denoiser.shape) == 3:
        network = network.to(memory_format=torch.channels_last)
    if precision == "bf16":
        network = copy.deepcopy(network).bfloat16()  # at `to` diffusers would warn of nothing
    if compiled:
        network = torch.compile(network)
    denoiser = NetworkDenoiser(network, denoiser.schedule, denoiser.prediction)
    return view.of(denoiser) if view is not None else denoiser


def sampled(done: Done, device: str = "cpu", view: View | None = None) -> Denoiser:
    """The denoiser that a model job made as pools are drawn with it: in its precision, through a view."""
    return _viewed(done.folder / "model", device, view, model_speed(done))


def class_labels(n: int, classes: int) -> Tensor:
    """(n,) int64, the class that each sample of a pool is drawn as: all in turn."""
    return torch.arange(n) % classes


def pool_job(
    name: str, model: Job | Model, pool: Pool, seed: int, detectors: Sequence[Detector] = (), view: View | None = None
) -> Job:
    """Draw a pool of a model's samples, with scores for each.

    Args:
        name: of the job.
        model: a model job; the samples of one with classes are drawn as all of them in turn. Or the config of a model:
            then the ideal denoiser of its target is sampled.
        pool: how many, and how.
        seed: noise belongs to (seed, sample index).
        detectors: score them.
        view: how the chain sees the model.

    Raises:
        InputError: a window that no step falls in.
    """
    said = {detector.name: describe(detector) for detector in detectors}
    what = {"sampler": pool.sampler, "seed": seed, "detectors": said, "view": view}
    if isinstance(model, Job):
        config, inputs = model.config, {"model": model}
    else:
        config, inputs = model, {}
        what |= {"target": config.target, "noise": config.noise}
    check_detectors(detectors, config, pool.sampler)
    return split(name, draw_block, what, pool.n, pool.chunk, inputs, {"detectors": list(detectors)})


def check_detectors(detectors: Iterable[Detector], model: Model, sampler: Sampler) -> None:
    """Raise InputError for one that cannot score the samples of a model: a window that no step falls in, say."""
    schedule = model.noise.schedule
    for detector in detectors:
        if asks_critical(detector):  # of a model that is not there yet
            continue
        if watches(detector):
            detector.check(schedule, sampler.timesteps(schedule))
        else:
            detector.check(schedule)


def draw_block(running: Running) -> None:
    """Some consecutive chunks of a pool."""
    config, classes, (first, last) = running.config, 0, running.config["rows"]
    if "model" in running.inputs:
        model = running.inputs["model"]
        denoiser = sampled(model, running.device, config["view"])
        classes = int(getattr(denoiser_of(model, running.device).network, "description", {}).get("classes", 0))
    else:
        denoiser = _seen(running)
    plan = Plan(last, denoiser.shape, config["seed"], config["chunk"], device=running.device)
    condition = {"class_labels": class_labels(last, classes)} if classes else {}
    if isinstance(denoiser, TabulatedDenoiser):
        denoiser.prepare(
            config["sampler"].timesteps(denoiser.schedule), device=running.device, progress=running.progress
        )
    draw = drawing(denoiser, config["sampler"], plan, running.given["detectors"], condition)
    with running.progress.task("sampling", last - first, 0, plan.unit) as task:
        parts = [draw(index, task) for index in plan.chunks[first // plan.chunk :]]
    running.save(joined(parts))


def score_job(
    name: str, model: Job, pool: Job, detectors: Sequence[SampleDetector], seed: int, windows: Job | None = None
) -> Job:
    """Score the finished samples of a pool, for :func:`intermode.sampling.scores_of`.

    Args:
        name: of the job.
        model: a model job, the pool's own or another; it is asked as it is, and told the classes that they were drawn
            as.
        pool: a pool job; its chunks are scored together.
        detectors: score them.
        seed: noise belongs to (seed, sample index).
        windows: a job that found the model's critical windows, for the detectors that ask for them.
    """
    for detector in detectors:
        if not asks_critical(detector):
            detector.check(model.config.noise.schedule)
    inputs = {"model": model, "pool": pool} | ({} if windows is None else {"windows": windows})
    what = {"seed": seed, "detectors": {detector.name: describe(detector) for detector in detectors}}
    n, chunk = pool.config["rows"][1], pool.config["chunk"]
    return split(name, score_block, what, n, chunk, inputs, {"detectors": list(detectors)})


def score_block(running: Running) -> None:
    """Some consecutive chunks of a pool, scored."""
    config, denoiser = running.config, sampled(running.inputs["model"], running.device)
    detectors = running.given["detectors"]
    if windows := running.inputs.get("windows"):
        detectors = [in_critical_windows(detector, denoiser, None, windows_told(windows)) for detector in detectors]
    first, last = config["rows"]
    x = running.inputs["pool"].tensors()["samples"][first:last]
    classes = denoiser.classes
    told: dict[str, Any] = {"first": first, "seed": config["seed"], "chunk": config["chunk"], "device": running.device}
    if classes:
        told["class_labels"] = class_labels(last, classes)[first:]
    scores = {}
    for detector in detectors:
        found = score(detector, denoiser, x, progress=running.progress, **told)
        scores[f"score.{detector.name}"] = torch.from_numpy(found)
    running.save(scores)


def model_speed(model: Done) -> tuple[str, bool]:
    """(precision, compiled) that a model was trained with, and is sampled with."""
    training = provenance_of(model.folder / "model").get("training", {})
    return training.get("precision", "no"), bool(training.get("compile", False))


def pool_of(done: Done, classes: int = 0) -> Samples:
    """The samples that a pool job drew, with their scores; kept in memory for the measures that come next."""
    return _pool(done.folder, classes, done.facts["seconds"])


@lru_cache(maxsize=2)
def _pool(folder: Path, classes: int, seconds: float) -> Samples:
    tensors = load_tensors(folder / "tensors.safetensors")[0]
    x = tensors["samples"]
    condition = {"class_labels": class_labels(len(x), classes)} if classes else {}
    return Samples(x, scores_of(tensors), tensors["diverged"].numpy(), seconds, condition=condition)


def labelled(done: Done, target: Mixture | Lattice | Images) -> Any:
    """What a target says of the samples that a pool job drew, said once for all measures."""
    return _labels(done.folder, done.facts["seconds"], target)


@lru_cache(maxsize=2)
def _labels(folder: Path, seconds: float, target: Mixture | Lattice | Images) -> Any:
    return target.target.label(_pool(folder, 0, seconds).x)


def label_job(name: str, pool: Job, target: Mixture | Lattice | Images) -> Job:
    """Keep what a target says of a pool's samples, for the page on which they are looked through.

    Args:
        name: of the job.
        pool: a pool job.
        target: labels its samples.
    """
    return Job(name, label_pool, {"target": target}, {"pool": pool})


def label_pool(running: Running) -> dict[str, Any]:
    """Which samples are hallucinated, and the rule that said so as an index of ``rules``."""
    labels = labelled(running.inputs["pool"], running.config["target"])
    rules, which = np.unique(labels.rule, return_inverse=True)
    running.save({"hallucinated": torch.from_numpy(labels.hallucinated), "rule": torch.from_numpy(which)})
    return {"rules": rules.tolist()}


def windows_job(name: str, model: Job, sampler: Sampler | None = None) -> Job:
    """Find the critical windows of a model without labels, once for all jobs that look there.

    Args:
        name: of the job.
        model: a model job.
        sampler: of a pool: then the windows are those of the model as that is drawn, by its sampler and in its
            precision.
    """
    return Job(name, find_windows, sampler, {"model": model})


def find_windows(running: Running) -> dict[str, Any]:
    """As :func:`windows_told` reads them."""
    sampler, model = running.config, running.inputs["model"]
    denoiser = denoiser_of(model, running.device) if sampler is None else sampled(model, running.device)
    found = windows_of(denoiser, running.progress, sampler)
    running.save({"x": found.x})
    told = asdict(replace(found, x=torch.empty(0), patches=None))
    return {key: told[key] for key in ("levels", "snr", "changed", "moved", "rises", "kinds", "evaluations")}


def windows_told(done: Done) -> CriticalWindows:
    """What a windows job found, with the samples that it looked at."""
    return replace(CriticalWindows.told(done.facts), x=done.tensors()["x"])


def windows_known(done: Done, denoiser: Denoiser) -> CriticalWindows:
    """The same, from here on known to the model's detectors with ``window="critical"``."""
    remember(denoiser, windows_told(done))
    return windows_of(denoiser)


def mass_job(name: str, sampler: Sampler, model: Job | Model, cells: float | None = None) -> Job:
    """The exact off-support mass of a model's samples, and their law.

    Args:
        name: of the job.
        sampler: of the reverse chain.
        model: a model job, or the config of a model: then the true score of its target is sampled.
        cells: of the finer of two grids; see :func:`intermode.off_support`.
    """
    config: Model = model.config if isinstance(model, Job) else model
    what = {"sampler": sampler, "target": config.target, "noise": config.noise, "cells": cells}
    return Job(name, find_mass, what, {"model": model} if isinstance(model, Job) else {})


def find_mass(running: Running) -> dict[str, Any]:
    """Exactly; of the true score, where there is no model."""
    config = running.config
    target, denoiser = config["target"].target, _seen(running)
    mass = off_support(denoiser, target, config["sampler"], cells=config["cells"], progress=running.progress)
    law = mass.law
    heavy = law.mass > 1e-14
    tensors = {"x_0": law.x_0[heavy], "mass": law.mass[heavy]}
    running.save({key: torch.from_numpy(value) for key, value in tensors.items()})
    return {key: getattr(mass, key) for key in ("value", "error", "escaped", "between", "beyond")}


def _seen(running: Running, view: View | None = None) -> Denoiser:
    """The model that a job reads, or the ideal denoiser of the target where it reads none."""
    config = running.config
    if "model" not in running.inputs:
        target, schedule = config["target"].target, config["noise"].schedule
        return target.denoiser(schedule) if isinstance(target, Shapes) else MixtureDenoiser(target, schedule)
    model = running.inputs["model"]
    return denoiser_of(model, running.device) if view is None else sampled(model, running.device, view)


def count_job(
    name: str, sampler: Sampler, model: Job | Model, n: int, seed: int, view: View | None = None, chunk: int = 16_384
) -> Job:
    """Draw samples of a 1-D model and count them, for numbers of samples that no disk holds.

    Args:
        name: of the job.
        sampler: of the reverse chain.
        model: a model job, or the config of a model: then the true score of its target is sampled.
        n: how many.
        seed: noise belongs to (seed, sample index).
        view: how the chain sees the model.
        chunk: samples drawn together.
    """
    config: Model = model.config if isinstance(model, Job) else model
    what = {"sampler": sampler, "target": config.target, "noise": config.noise, "seed": seed, "view": view}
    return split(name, count_block, what, n, chunk, {"model": model} if isinstance(model, Job) else {})


def count_block(running: Running) -> None:
    """How many samples of some consecutive chunks lie in each bin, and how many off the support."""
    config = running.config
    target, denoiser = config["target"].target, _seen(running, config["view"])
    first, last = config["rows"]
    plan = Plan(last, (1,), config["seed"], config["chunk"], device=running.device)
    draw = drawing(denoiser, config["sampler"], plan, (), {})
    edges = histogram_edges(target)
    counts = np.zeros(len(edges), dtype=np.int64)
    with running.progress.task("sampling", last - first, 0, plan.unit) as task:
        for index in plan.chunks[first // plan.chunk :]:
            x = draw(index, task)["samples"]
            counts[:-1] += np.histogram(x[:, 0].nan_to_num(torch.inf).numpy(), edges)[0]
            counts[-1] += target.label(x).hallucinated.sum()
    running.save({"counts": torch.from_numpy(counts)[None]})


def counts_of(done: Done) -> tuple[np.ndarray, int]:
    """How many samples lie in each bin of :func:`histogram_edges`, and how many off the support."""
    counts = done.tensors()["counts"].sum(0).numpy()
    return counts[:-1], int(counts[-1])


def mass_of(done: Done, part: str = "value") -> Estimate:
    """The off-support mass that a job found, between its error bounds; or its part ``between`` or ``beyond`` modes."""
    value, error = done.facts[part], done.facts["error"]
    return Estimate(value, max(value - error, 0.0), value + error, method="two grids")


def histogram_of(done: Done, edges: np.ndarray) -> np.ndarray:
    """(B,) mass of a 1-D law between neighbouring ``edges`` (B + 1,)."""
    law = done.tensors()
    return Outcome(law["x_0"].numpy(), law["mass"].numpy()).histogram(edges)


def histogram_edges(target: GaussianMixture) -> np.ndarray:
    """(401,) the bins of histograms of a 1-D mixture."""
    reach = 0.3 * (float(np.ptp(target.means)) or 1.0)
    return np.linspace(target.means.min() - reach, target.means.max() + reach, 401)


def grid_range(target: GaussianMixture) -> tuple[float, float]:
    """A range for tables that holds N(0, 1) up to 7σ and all modes of a 1-D mixture with room around them."""
    reach = 2.0 + 20 * float(target.sigma.max())
    return min(-7.0, float(target.means.min()) - reach), max(7.0, float(target.means.max()) + reach)
