r"""What a mitigation does to a model, as jobs: to the law of its samples, exactly, or to samples that are drawn.

Most mitigations leave the chain above a level as it is, so that what comes down to there is carried, or drawn, once for
all of them, and below it all have the same random numbers. What is said of finished samples, of a law and of draws
alike, is a *portrait*: the mass off the support and the part of it between the modes, the weights of the modes, and
their widths over the data's.

What a mitigation costs is counted in network evaluations, a gradient as two more, and measured in seconds of the
processor, beside the plain chain in the same job.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor

from intermode.blocks import Plan
from intermode.denoisers import Denoiser, TabulatedDenoiser
from intermode.detect import SampleDetector, TrajectoryDetector
from intermode.detect.lid import LID
from intermode.detect.registry import Setting, make
from intermode.detect.residual import Residual
from intermode.early_stop import EarlyStop, Stop
from intermode.exact import CELLS, COARSER, Grid, Law, inside_hull, propagate, start, weigh
from intermode.jobs import Job, Running
from intermode.mitigate import Clipped, Corrected, DynamicallyGuided, Quenched, Robust, Sharpened, modes_of
from intermode.noise import NoiseStream
from intermode.progress import Progress, Silent
from intermode.repairs import Repair, repair_all
from intermode.samplers import Ancestral, Sampler
from intermode.sampling import Drawing, even_chunk, score
from intermode.study.hal import choosing_half
from intermode.study.steps import denoiser_of, grid_range
from intermode.targets.gaussian import GaussianMixture

__all__ = ["Correction", "above_job", "divergence", "draw_job", "law_job", "repair_job", "resample_job", "stop_job"]

NEGLIGIBLE = {1: 1e-15, 2: 1e-11}
"""Mass that a step may drop."""
CHUNK = 16_384
"""Samples drawn together."""
TABLED = {1: 0, 2: 60}
"""Timesteps from which on a table stands for the network."""
POINTS = {1: 4096, 2: 96}
"""Of a table, in each dimension."""
CLIPPED = 5.0
"""Widths beyond the outermost modes at which predictions are clipped: nothing of the data lies there."""
TIMED, REPEATS = 512, 3
"""Samples of a timing, and how often it is taken: the shortest counts."""
DETECTORS: Mapping[str, SampleDetector] = {"residual": Residual(), "lid": LID(noises=4)}
"""That look at finished samples, all in their defaults but for the fewer noises; Hal is watched."""


@dataclass(frozen=True)
class Correction:
    """How a denoiser is corrected.

    Attributes:
        kind: sharpened, guided, quenched, clipped; score or curvature, the two directions of RODS.
        strength: see each.
        until: the noisiest timestep at which it is corrected.
        threshold: of RODS.
    """

    kind: str
    strength: float = 0.0
    until: int | None = None
    threshold: float = 0.0

    def of(self, denoiser: Denoiser, target: GaussianMixture) -> Corrected:
        """The corrected denoiser."""
        if self.kind == "sharpened":
            return Sharpened(denoiser, self.strength, until=self.until)
        if self.kind == "guided":
            return DynamicallyGuided(denoiser, modes_of(target, denoiser.schedule), self.strength, until=self.until)
        if self.kind == "quenched":
            return Quenched(denoiser, self.strength, nodes=3, until=self.until)
        if self.kind == "clipped":
            reach = CLIPPED * float(target.sigma.max())
            return Clipped(denoiser, float(target.means.min()) - reach, float(target.means.max()) + reach)
        direction: Any = self.kind
        return Robust(denoiser, direction, self.strength, threshold=self.threshold, until=self.until)


def portrait(target: GaussianMixture, x: np.ndarray, mass: np.ndarray) -> dict[str, Any]:
    """Of finished samples x (n, d) with masses (n,) that sum to 1."""
    labels, modes = target.label(x), len(target.means)
    bad = labels.hallucinated
    nearest, weight = labels.nearest[~bad], mass[~bad]
    weights = np.bincount(nearest, weight, modes)
    held = np.maximum(weights, np.finfo(float).tiny)
    variance = np.zeros(modes)
    for offset in (x[~bad] - target.means[nearest]).T:
        mean = np.bincount(nearest, weight * offset, modes) / held
        variance += np.bincount(nearest, weight * (offset - mean[nearest]) ** 2, modes) / held / x.shape[1]
    return {
        "value": float(mass[bad].sum()),
        "between": float(mass[bad][inside_hull(target, x[bad])].sum()),
        "weights": (weights / weights.sum()).tolist(),
        "widths": (np.sqrt(variance) / target.sigma).tolist(),
    }


def portraits(target: GaussianMixture, x: Tensor) -> dict[str, Any]:
    """Of draws (n, d), and of their two halves by themselves."""
    points = x.double().numpy()
    half = choosing_half(len(points))
    parts = {"all": points, "choose": points[half], "judge": points[~half]}
    found = {name: portrait(target, part, np.full(len(part), 1 / len(part))) for name, part in parts.items()}
    return {**found, "n": {name: len(part) for name, part in parts.items()}}


def divergence(after: Sequence[float], before: Sequence[float]) -> float:
    """Kullback-Leibler, of weights that sum to 1."""
    p, q = np.array(after), np.array(before)
    held = p > 0
    return float((p[held] * np.log(p[held] / np.maximum(q[held], np.finfo(float).tiny))).sum())


# what comes down to a level


def above_job(name: str, model: Job, level: int, n: int | None, seed: int) -> Job:
    """What comes down to a level: n samples, or for None the law."""
    what = {"target": model.config.target, "level": level, "n": n, "seed": seed}
    return Job(name, come_down, what, {"model": model})


def come_down(running: Running) -> None:
    """By the ancestral chain."""
    config, denoiser = running.config, denoiser_of(running.inputs["model"], running.device)
    target, level, n = config["target"].target, config["level"], config["n"]
    if n is not None:
        seen = tabled(denoiser, target, max(TABLED[target.shape[0]], level + 1))
        running.save({"x": drawn(seen, Ancestral(), n, config["seed"], running.progress, until=level)[0]})
        return
    tensors: dict[str, Tensor] = {}
    levels = range(len(denoiser.schedule) - 2, level - 1, -1)
    with running.progress.task("exact density", 2 * len(levels), 0, "steps") as task:
        for k, grid in enumerate(grids(target)):
            law = propagate(start(denoiser.schedule, grid), denoiser, levels, task=task)
            assert isinstance(law, Law)
            parts = {"nodes": law.nodes, "field": law.field, "points": law.points, "mass": law.mass}
            tensors |= {f"{part}-{k}": torch.from_numpy(value) for part, value in parts.items()}
            tensors[f"std-{k}"] = torch.tensor(law.std, dtype=torch.float64)
    running.save(tensors)


def grids(target: GaussianMixture) -> tuple[Grid, Grid]:
    """The finer and the coarser, whose difference is the error."""
    d = target.shape[0]
    fine = Grid.around(target, cells=CELLS[d], negligible=NEGLIGIBLE[d])
    return fine, replace(fine, cells=max(CELLS[d] / COARSER, 1.25), reach=fine.reach / 1.2)


def tabled(denoiser: Denoiser, target: GaussianMixture, begin: int) -> TabulatedDenoiser:
    """The denoiser with a table in its place from a timestep on."""
    d = target.shape[0]
    low, high = grid_range(target) if d == 1 else (-5.5, 5.5)
    return TabulatedDenoiser(denoiser, low, high, points=POINTS[d], dimensions=d, begin=begin)


def drawn(
    denoiser: Denoiser,
    sampler: Sampler,
    n: int,
    seed: int,
    progress: Progress,
    *,
    above: Tensor | None = None,
    level: int | None = None,
    until: int | None = None,
    watching: TrajectoryDetector | None = None,
) -> tuple[Tensor, Tensor]:
    """Samples (n, d) from pure noise, or from those ``above`` at a level; and their scores, if one watches.

    With ``until`` they are x_t there.
    """
    parts, scores = [], []
    with progress.task("sampling", n, 0, "samples") as task:
        for first in range(0, n, CHUNK):
            count = min(CHUNK, n - first)
            purpose = "sample" if above is None else "renoise"
            noise = NoiseStream(seed, first, count, denoiser.shape, purpose=purpose)
            x = noise() if above is None else above[first : first + count]
            if watching is not None:
                watching.start(x.shape)
            for step in sampler(denoiser, x, noise, start=level):
                if step.t == until:
                    break
                x = step.x_next
                if watching is not None:
                    watching.update(step)
            parts.append(x)
            if watching is not None:
                scores.append(watching.score())
            task.advance(count)
    return torch.cat(parts), torch.cat(scores) if scores else torch.empty(0)


# what a mitigation makes of it


def law_job(
    name: str, model: Job, sampler: Sampler, correction: Correction | None, level: int, above: Job | None
) -> Job:
    """The portrait of a chain's law; from pure noise unless it is told what is ``above``."""
    what = {"target": model.config.target, "sampler": sampler, "correction": correction, "level": level}
    return Job(name, carry, what, {"model": model} | ({} if above is None else {"above": above}))


def carry(running: Running) -> dict[str, Any]:
    """On the finer grid and the coarser one; and what it costs."""
    config, above = running.config, running.inputs.get("above")
    target, sampler = config["target"].target, config["sampler"]
    denoiser = corrected(running)
    levels, found = sampler.levels(denoiser.schedule), []
    if above is not None:
        levels = levels[levels.index(config["level"]) :]
    with running.progress.task("exact density", 2 * len(levels), 0, "steps") as task:
        for k, grid in enumerate(grids(target)):
            law = start(denoiser.schedule, grid, levels[0])
            if above is not None:
                told: dict[str, Any] = {
                    name.removesuffix(f"-{k}"): v.numpy() for name, v in above.tensors().items() if name[-1] == f"{k}"
                }
                law = Law(levels[0], grid, **told | {"std": float(told["std"])})
            last = propagate(law, denoiser, levels[1:], sampler, task=task)
            assert isinstance(last, Law)
            outcome = weigh(last, denoiser, target, sampler).law
            found.append(portrait(target, outcome.x_0, outcome.mass))
    return {"all": found[0], "coarser": found[1], **costs(running, denoiser)}


def draw_job(
    name: str, model: Job, sampler: Sampler, correction: Correction | None, level: int, above: Job | None,
    *, n: int, seed: int, hal: bool = False,
) -> Job:  # fmt: skip
    """The portrait of n samples; ``hal`` keeps them, with their scores."""
    what = {"target": model.config.target, "sampler": sampler, "correction": correction, "level": level}
    inputs = {"model": model} | ({} if above is None else {"above": above})
    return Job(name, draw, {**what, "n": n, "seed": seed, "hal": hal}, inputs)


def draw(running: Running) -> dict[str, Any]:
    """From pure noise, or from what is above; and what it costs."""
    config, above = running.config, running.inputs.get("above")
    target, denoiser = config["target"].target, corrected(running)
    watching: Any = hal_of(target, len(denoiser.schedule)) if config["hal"] else None
    begin: dict[str, Any] = {}
    seen = denoiser
    if above is not None:
        begin = {"above": above.tensors()["x"], "level": config["level"]}
    elif config["correction"] is None:
        seen = tabled(denoiser, target, TABLED[target.shape[0]])
    x, scores = drawn(
        seen, config["sampler"], config["n"], config["seed"], running.progress, watching=watching, **begin
    )
    if watching is not None:
        running.save({"x": x, "hal": scores})
    return {**portraits(target, x), **costs(running, denoiser)}


def hal_of(target: GaussianMixture, timesteps: int) -> Any:
    """Hal in the window that it has unless asked for another."""
    return make("hal", Setting(tuple(target.shape), target, timesteps=timesteps))


def corrected(running: Running) -> Denoiser:
    """The model's denoiser, corrected."""
    denoiser, correction = denoiser_of(running.inputs["model"], running.device), running.config["correction"]
    return denoiser if correction is None else correction.of(denoiser, running.config["target"].target)


def costs(running: Running, denoiser: Denoiser) -> dict[str, float]:
    """More network evaluations, and more time, than the ancestral chain of all timesteps: each over that chain's."""
    config, schedule = running.config, denoiser.schedule
    plain = denoiser_of(running.inputs["model"], running.device)
    visited = [t for descent in config["sampler"].descents(schedule) for t in descent]
    asked = sum(denoiser.evaluations(t) if isinstance(denoiser, Corrected) else 1 for t in visited)
    level, whole = config["level"], len(schedule)
    begin = level if "above" in running.inputs else None

    def chain(of: Denoiser, sampler: Sampler, start: int | None) -> Callable[[], None]:
        def run() -> None:
            noise = NoiseStream(0, 0, TIMED, of.shape)
            for _ in sampler(of, noise(), noise, start=start):
                pass

        return run

    reference = seconds(chain(plain, Ancestral(), level)) / (level + 1)
    taken = seconds(chain(denoiser, config["sampler"], begin), REPEATS if begin is not None else 1) / reference
    share = level + 1 if begin is not None else whole
    return {"more_evaluations": asked / whole - 1, "more_time": (taken - share) / whole}


def seconds(run: Callable[[], Any], repeats: int = REPEATS) -> float:
    """Of the processor."""
    taken = []
    for _ in range(repeats):
        begin = time.process_time()
        run()
        taken.append(time.process_time() - begin)
    return min(taken)


# what is done with finished samples


def resample_job(name: str, model: Job, drawn: Job, detector: str, share: float, seed: int) -> Job:
    """Only the ``share`` of the samples with the lowest scores is kept; the others are drawn again."""
    what = {"target": model.config.target, "detector": detector, "share": share, "seed": seed}
    return Job(name, resample, what, {"model": model, "drawn": drawn})


def resample(running: Running) -> dict[str, Any]:
    """The portrait of the samples that are kept."""
    config, tensors = running.config, running.inputs["drawn"].tensors()
    target, x = config["target"].target, tensors["x"]
    denoiser = denoiser_of(running.inputs["model"], running.device)
    begin, nfe = time.process_time(), 0
    if config["detector"] == "hal":
        scores = tensors["hal"].numpy()
    else:
        detector = DETECTORS[config["detector"]]
        scores, nfe = score(detector, denoiser, x, seed=config["seed"], progress=running.progress), detector.nfe
    scored = (time.process_time() - begin) / len(x) / evaluation_seconds(denoiser)
    kept = torch.from_numpy(scores <= np.quantile(scores, config["share"]))
    share, whole = float(kept.double().mean()), len(denoiser.schedule)
    cost = {"more_evaluations": (1 + nfe / whole) / share - 1, "more_time": (1 + scored / whole) / share - 1}
    return {**portraits(target, x[kept]), **cost, "thrown_away": 1 - share}


def repair_job(name: str, model: Job, drawn: Job, detector: str, share: float, level: int, seed: int) -> Job:
    """The ``share`` of the samples with the highest scores is restarted from a level until it passes."""
    what = {"target": model.config.target, "detector": detector, "share": share, "level": level, "seed": seed}
    return Job(name, mend, what, {"model": model, "drawn": drawn})


def mend(running: Running) -> dict[str, Any]:
    """The portrait of all samples, some of them repaired."""
    config, x = running.config, running.inputs["drawn"].tensors()["x"]
    denoiser = denoiser_of(running.inputs["model"], running.device)
    settings = Repair(share=config["share"], level=config["level"], replace=True)
    begin = time.process_time()
    done = repair_all(
        denoiser,
        x,
        settings,
        detector=DETECTORS[config["detector"]],
        sampler=Ancestral(),
        condition={},
        seed=config["seed"],
        progress=running.progress,
    )
    taken = (time.process_time() - begin) / evaluation_seconds(denoiser)
    chains = len(x) * len(denoiser.schedule)
    cost = {"more_evaluations": (done.evaluations + done.scoring) / chains, "more_time": taken / chains}
    return {**portraits(config["target"].target, done.x), **cost, "touched": float(done.touched.mean())}


def stop_job(name: str, model: Job, detector: str, share: float, t: int, n: int, seed: int) -> Job:
    """The portrait of n samples, the ``share`` of whose chains that look worst at a timestep is dropped there."""
    what = {"target": model.config.target, "detector": detector, "share": share, "t": t, "n": n, "seed": seed}
    return Job(name, stop_early, what, {"model": model})


def stop_early(running: Running) -> dict[str, Any]:
    """And what it costs."""
    config, denoiser = running.config, denoiser_of(running.inputs["model"], running.device)
    target, chain = config["target"].target, Ancestral()
    seen = tabled(denoiser, target, TABLED[target.shape[0]])
    asked = EarlyStop(DETECTORS[config["detector"]], config["t"], share=config["share"])
    stop = asked.ready(seen, chain, {}, running.progress)

    def drawn(of: Denoiser, n: int, stop: Stop | None, progress: Progress) -> Any:
        plan = Plan(n, denoiser.shape, config["seed"], min(CHUNK, n))
        return Drawing(of, chain, plan, (), {}, {}, 1, None, progress, stop).all()

    done = drawn(seen, config["n"], stop, running.progress)
    timed = [seconds(partial(drawn, denoiser, TIMED, how, Silent()), 1) for how in (stop, None)]
    more = (done.evaluations + done.scoring) / (len(done) * done.chain)
    cost = {"more_evaluations": more, "more_time": timed[0] / timed[1] - 1}
    return {**portraits(target, done.x), **cost, "stopped": float(done.stopped.mean())}


def evaluation_seconds(denoiser: Denoiser) -> float:
    """Of the processor, for one network evaluation of one sample."""
    count = even_chunk(TIMED, denoiser.shape)
    x = torch.randn(count, *denoiser.shape, generator=torch.Generator().manual_seed(0)).to(denoiser.device)
    with torch.no_grad():
        return seconds(lambda: [denoiser(x, t) for t in range(10)]) / (10 * count)
