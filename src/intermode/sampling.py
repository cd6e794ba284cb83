"""Drives a sampler over chunks: seeds, devices, ranks, detectors, progress, resume.

What a chunk is, and how processes share a folder of them, is said in :mod:`intermode.chunks`.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from intermode.chunks import LOW_DIMENSIONAL_CHUNK, Chunks, Joined, Make, Part, Plan, SharedChunks, join
from intermode.denoisers import Denoiser
from intermode.detect import Detector, SampleDetector, describe, watches
from intermode.errors import InputError
from intermode.files import load_tensors, save_tensors
from intermode.noise import NoiseStream
from intermode.progress import Progress, Silent, Task
from intermode.ranks import Ranks, launched
from intermode.samplers import Sampler, Step

__all__ = [
    "LOW_DIMENSIONAL_CHUNK",
    "Generated",
    "Plan",
    "drawing",
    "generate",
    "predictions",
    "replay",
    "score",
    "scores_of",
    "tally",
]


@dataclass(frozen=True)
class Generated:
    """Finished samples with what the detectors said.

    Attributes:
        samples: (n, *shape).
        scores: a (n,) float64 array for each detector.
        diverged: (n,) bool, not finite or larger than the plan's limit; counted, never dropped.
        seconds: time spent sampling, over all runs and processes that made these samples.
        condition: the tensors that they were drawn with, (n, ...), by name.
    """

    samples: Tensor
    scores: Mapping[str, np.ndarray]
    diverged: np.ndarray
    seconds: float
    condition: Mapping[str, Tensor] = field(default_factory=dict, kw_only=True)


def _condition_of(condition: Mapping[str, Any], n: int, start: int, chunk: int, device: str) -> dict[str, Any]:
    """The condition of samples start .. start + chunk - 1; beyond the last of the n, the first one's is repeated.

    Raises:
        InputError: a tensor that does not have a row for each sample.
    """
    cut = dict(condition)
    for name, value in condition.items():
        if isinstance(value, Tensor):
            if value.ndim == 0 or len(value) != n:
                raise InputError(f"{name}: shape {tuple(value.shape)} does not fit {n} samples; one row for each")
            rows = value[start : start + chunk]
            missing = chunk - len(rows)
            cut[name] = torch.cat([rows, value[:1].expand(missing, *value.shape[1:])]).to(device)
    return cut


def _chunk(
    denoiser: Denoiser,
    sampler: Sampler,
    plan: Plan,
    index: int,
    detectors: Sequence[Detector],
    condition: Mapping[str, Any],
    task: Task,
) -> dict[str, Tensor]:
    """Samples, scores and divergence of one chunk, cut to the rows asked for."""
    watching = [detector for detector in detectors if watches(detector)]
    steps = len(sampler.timesteps(denoiser.schedule))
    report_every = max(steps // 20, 1)  # often enough to watch, too seldom to cost time
    reported = 0
    noise = NoiseStream(plan.seed, index * plan.chunk, plan.chunk, plan.shape, device=plan.device)
    x_T = noise()
    for watcher in watching:
        watcher.start(x_T.shape)
    x = x_T
    own = _condition_of(condition, plan.n, index * plan.chunk, plan.chunk, plan.device)
    for step in sampler(denoiser, x_T, noise, **own):
        for watcher in watching:
            watcher.update(step)
        x = step.x_next
        if (step.index + 1) % report_every == 0 or step.index + 1 == steps:
            done = plan.rows(index) * (step.index + 1) // steps
            task.advance(done - reported)
            reported = done
    largest = x.flatten(1).abs().amax(1)
    result = {"samples": x, "diverged": ~(torch.isfinite(largest) & (largest <= plan.limit))}
    for detector in detectors:
        if watches(detector):
            scores = detector.score()
        else:
            renoise = NoiseStream(
                plan.seed, index * plan.chunk, plan.chunk, plan.shape, purpose="renoise", device=plan.device
            )
            scores = detector(denoiser, x, renoise, **own)
        result[f"score.{detector.name}"] = scores
    return {name: value[: plan.rows(index)].cpu() for name, value in result.items()}


def replay(denoiser: Denoiser, sampler: Sampler, plan: Plan, chunk: int, **condition: Any) -> Iterator[Step]:
    """The steps of one chunk again, to look at flagged samples more closely (all ``plan.chunk`` rows)."""
    noise = NoiseStream(plan.seed, chunk * plan.chunk, plan.chunk, plan.shape, device=plan.device)
    own = _condition_of(condition, plan.n, chunk * plan.chunk, plan.chunk, plan.device)
    return sampler(denoiser, noise(), noise, **own)


def predictions(
    denoiser: Denoiser, sampler: Sampler, plan: Plan, rows: Sequence[int], below: int, **condition: Any
) -> tuple[np.ndarray, np.ndarray]:
    """x0_hat of chosen samples over the last timesteps, by drawing their chunks again.

    Args:
        rows: sample indices, 0 <= row < plan.n.
        below: only timesteps under it are kept.

    Returns:
        the (K,) timesteps, falling, and (K, len(rows), *shape) predictions.
    """
    timesteps: list[int] = []
    found: dict[int, list[np.ndarray]] = {row: [] for row in rows}
    for chunk in sorted({row // plan.chunk for row in rows}):
        here = {row for row in rows if row // plan.chunk == chunk}
        timesteps = []
        for step in replay(denoiser, sampler, plan, chunk, **condition):
            if step.t < below:
                timesteps.append(step.t)
                for row in here:
                    found[row].append(step.x0_hat[row - chunk * plan.chunk].cpu().numpy())
    return np.array(timesteps), np.stack([np.stack(found[row]) for row in rows], axis=1)


def tally(
    denoiser: Denoiser,
    sampler: Sampler,
    plan: Plan,
    measure: Callable[[Tensor], np.ndarray],
    *,
    file: Path | None = None,
    progress: Progress | None = None,
    **condition: Any,
) -> np.ndarray:
    """The sum of ``measure`` over all samples, which are not kept: for counts over 1e8 samples and more.

    Args:
        measure: (B, *shape) samples to int64 counts of a fixed shape.
        file: where the sum so far is kept every half minute, so that a killed run goes on.
    """
    total, begin = np.zeros((), dtype=np.int64), 0
    if file and file.exists():
        tensors, metadata = load_tensors(file)
        total, begin = tensors["total"].numpy(), int(metadata["chunks"])
    with (progress or Silent()).task("sampling", plan.n, min(begin * plan.chunk, plan.n), "samples") as task:
        saved = time.monotonic()
        for index in plan.chunks[begin:]:
            total = total + measure(_chunk(denoiser, sampler, plan, index, (), condition, task)["samples"])
            if file and (time.monotonic() - saved > 30 or index == plan.chunks[-1]):
                save_tensors(file, {"total": torch.from_numpy(np.asarray(total))}, {"chunks": str(index + 1)})
                saved = time.monotonic()
    return total


def drawing(
    denoiser: Denoiser,
    sampler: Sampler,
    plan: Plan,
    detectors: Sequence[Detector],
    condition: Mapping[str, Any],
) -> tuple[Make, dict[str, Any]]:
    """What draws a chunk of the plan, and the record of what tells it from other drawings.

    Raises:
        InputError: a window that no step falls in, two detectors of one name, or a condition without a row for each
            sample.
    """
    names = [detector.name for detector in detectors]
    if len(set(names)) < len(names):
        raise InputError(f"detectors: the names {', '.join(names)} repeat; give each its own")
    visited = sampler.timesteps(denoiser.schedule)
    for detector in detectors:
        if watches(detector):
            detector.check(denoiser.schedule, visited)
        else:
            detector.check(denoiser.schedule)
    described: dict[str, Any] = {"sampler": repr(sampler), "detectors": {d.name: describe(d) for d in detectors}}
    _ = _condition_of(condition, plan.n, 0, 1, "cpu")  # refused before anything is written
    described |= {"condition": {name: _digest(value) for name, value in condition.items()}} if condition else {}

    def draw(index: int, task: Task) -> Part:
        begin = time.perf_counter()
        part = _chunk(denoiser, sampler, plan, index, detectors, condition, task)
        return part | {"seconds": torch.tensor(time.perf_counter() - begin, dtype=torch.float64)}

    return draw, described


def generate(
    denoiser: Denoiser,
    sampler: Sampler,
    plan: Plan,
    detectors: Sequence[Detector] = (),
    *,
    folder: Path | None = None,
    settings: Mapping[str, Any] | None = None,
    progress: Progress | None = None,
    ranks: Ranks | None = None,
    **condition: Any,
) -> Generated:
    """Draw ``plan.n`` samples.

    Args:
        denoiser, sampler: the reverse chain.
        plan: what to draw.
        detectors: those that watch the chain and those that look at what it made, by the same denoiser under the same
            condition, as :func:`score` does by the plan's seed; each name must be used once.
        folder: where finished chunks are kept, so that a killed run goes on where it was and many processes share
            the work, and where ``samples.safetensors`` lies in the end. None keeps everything in memory: then each
            process draws all samples.
        settings: recorded in the folder; another run's folder is refused.
        progress: shown to the user.
        ranks: this process among those that share the folder; as it was launched unless given.
        condition: passed to the denoiser; a tensor has a row for each sample, such as its class.

    Raises:
        InputError: a window that no step falls in, a condition without a row for each sample, or a folder of another
            run.
    """
    progress, ranks = progress or Silent(), ranks or launched()
    draw, described = drawing(denoiser, sampler, plan, detectors, condition)
    chunks = Chunks(plan, draw, "sampling", progress)
    if folder:
        described |= settings or {}
        chunks = SharedChunks(
            plan, draw, "sampling", progress, folder=folder, what="samples", settings=described, ranks=ranks
        )
    if (finished := chunks.finished()) is None:
        if folder and len(plan.chunks) < ranks.count:
            progress.notice(f"chunk: {plan.n} samples by {plan.chunk} leave some of the {ranks.count} processes idle")
        finished = _completed(chunks, plan)
    tensors, facts = finished
    told = {name: value for name, value in condition.items() if isinstance(value, Tensor)}
    return Generated(
        tensors["samples"], scores_of(tensors), tensors["diverged"].numpy(), float(facts["seconds"]), condition=told
    )


def _completed(chunks: Chunks, plan: Plan) -> Joined:
    """All chunks of a plan, made and joined."""
    chunks.fill(len(plan.chunks))

    def attempt() -> Joined:
        tensors = join(map(chunks.part, plan.chunks), plan.n)
        return tensors, {"seconds": repr(float(tensors.pop("seconds")))}

    return chunks.finish(attempt)


def scores_of(tensors: Mapping[str, Tensor]) -> dict[str, np.ndarray]:
    """The (n,) scores of each detector among a file's tensors."""
    return {name.removeprefix("score."): v.numpy() for name, v in tensors.items() if name.startswith("score.")}


def _digest(value: Any) -> str:
    """Tells one condition from another, for the record of a run."""
    if isinstance(value, Tensor):
        return hashlib.sha256(value.detach().cpu().contiguous().numpy().tobytes()).hexdigest()
    return repr(value)


def score(
    detector: SampleDetector,
    denoiser: Denoiser,
    x: Tensor,
    *,
    first: int = 0,
    seed: int = 0,
    chunk: int = LOW_DIMENSIONAL_CHUNK,
    device: str = "cpu",
    folder: Path | None = None,
    settings: Mapping[str, Any] | None = None,
    progress: Progress | None = None,
    ranks: Ranks | None = None,
    **condition: Any,
) -> np.ndarray:
    """(n,) float64 scores of finished samples x (n, *shape); the noise of x[i] belongs to (seed, first + i).

    Args:
        detector: gives the scores.
        denoiser: helps it.
        x: finished samples.
        seed: of the noise.
        first: index of x[0] among all samples, where x is a part of them.
        chunk: samples scored together.
        device: where to score.
        folder: where the scores of finished chunks are kept, so that a killed run goes on where it was and many
            processes share the work, and where ``scores.safetensors`` lies in the end. None keeps everything in
            memory: then each process scores all samples.
        settings: what tells this detector and this model from others; recorded in the folder, which is refused to
            others. A folder needs it.
        progress: shown to the user.
        ranks: this process among those that share the folder; as it was launched unless given.
        condition: passed to the denoiser; a tensor has a row for each sample.

    Raises:
        InputError: no samples, a detector that cannot score this schedule, a condition without a row for each, or a
            folder without settings or of another scoring.
    """
    if len(x) == 0:
        raise InputError("samples: there are none to score")
    if folder and not settings:
        raise InputError("settings: a folder needs some that tell this detector and model from others")
    detector.check(denoiser.schedule)
    plan = Plan(len(x), tuple(x.shape[1:]), seed, chunk, device=device)
    _ = _condition_of(condition, plan.n, 0, 1, "cpu")  # refused before anything is written

    def rate(index: int, task: Task) -> Part:
        begin, start = time.perf_counter(), index * chunk
        rows = x[start : start + chunk]
        missing = chunk - len(rows)  # a short chunk is computed whole and cut
        whole = torch.cat([rows, rows[:1].expand(missing, *plan.shape)]) if missing else rows
        noise = NoiseStream(seed, first + start, chunk, plan.shape, purpose="renoise", device=device)
        own = _condition_of(condition, plan.n, start, chunk, device)
        scores = detector(denoiser, whole.to(device), noise, **own)[: len(rows)].cpu()
        task.advance(len(rows))
        return {"scores": scores, "seconds": torch.tensor(time.perf_counter() - begin, dtype=torch.float64)}

    progress = progress or Silent()
    chunks = Chunks(plan, rate, "scoring", progress)
    if folder:
        described = {"detector": detector.name, "data": _digest(x), **(settings or {})}
        if condition:
            described["condition"] = {name: _digest(value) for name, value in condition.items()}
        chunks = SharedChunks(
            plan,
            rate,
            "scoring",
            progress,
            folder=folder,
            what="scores",
            settings=described,
            ranks=ranks or launched(),
        )
    tensors, _ = chunks.finished() or _completed(chunks, plan)
    return tensors["scores"].numpy()
