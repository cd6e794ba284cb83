"""Drives a sampler over chunks: seeds, devices, detectors, progress, resume.

A chunk is a fixed number of consecutive sample indices. It is the unit of computation (matrix products may
differ in the last bit between batch shapes, so a last short chunk is computed whole and cut), of resuming and
of distribution. With the same chunk size and thread count the results are bit-equal on a CPU whatever the
number and order of the chunks; across chunk sizes each sample sees equal noise and results agree to rounding.
"""

from __future__ import annotations

import hashlib
import json
import math
import shutil
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from intermode.denoiser import Denoiser
from intermode.detect import SampleDetector, TrajectoryDetector
from intermode.errors import InputError
from intermode.files import load_tensors, read_json, save_tensors, write_json
from intermode.noise import NoiseStream
from intermode.progress import Progress, Silent, Task
from intermode.sampler import Sampler, Step

__all__ = ["Generated", "Plan", "generate", "predictions", "replay", "score", "tally"]

LOW_DIMENSIONAL_CHUNK = 16384


@dataclass(frozen=True)
class Generated:
    """Finished samples with what the detectors said.

    Attributes:
        samples: (n, *shape).
        scores: a (n,) float64 array for each detector.
        diverged: (n,) bool, not finite or larger than the plan's limit; counted, never dropped.
        seconds: time spent sampling, over all runs that made these samples.
    """

    samples: Tensor
    scores: Mapping[str, np.ndarray]
    diverged: np.ndarray
    seconds: float


@dataclass(frozen=True)
class Plan:
    """Which samples to draw, and how they are cut into chunks.

    Args:
        n: samples.
        shape: shape of one sample.
        seed: noise belongs to (seed, sample index).
        chunk: samples computed together.
        limit: a sample with a coordinate beyond it counts as diverged. The final normalisation bounds a
            network's output, so a far-out x_t can run away; the default is far beyond normalised data.
        device: where to sample.

    Raises:
        InputError: n < 1, chunk < 1 or seed < 0.
    """

    n: int
    shape: tuple[int, ...]
    seed: int = 0
    chunk: int = LOW_DIMENSIONAL_CHUNK
    limit: float = 1e3
    device: str = "cpu"

    def __post_init__(self) -> None:
        if self.n < 1:
            raise InputError(f"n: {self.n} samples asked for; must be at least 1")
        if self.chunk < 1:
            raise InputError(f"chunk: {self.chunk} must be at least 1")
        if self.seed < 0:
            raise InputError(f"seed: {self.seed} must be at least 0")

    @property
    def chunks(self) -> range:
        """Indices of the chunks."""
        return range(math.ceil(self.n / self.chunk))

    def rows(self, chunk: int) -> int:
        """How many of a chunk's samples are asked for (the last chunk is computed whole and cut)."""
        return min(self.chunk, self.n - chunk * self.chunk)


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
    detectors: Sequence[TrajectoryDetector],
    condition: Mapping[str, Any],
    task: Task,
) -> dict[str, Tensor]:
    """Samples, scores and divergence of one chunk, cut to the rows asked for."""
    steps = len(sampler.timesteps(denoiser.schedule))
    report_every = max(steps // 20, 1)  # often enough to watch, too seldom to cost time
    reported = 0
    noise = NoiseStream(plan.seed, index * plan.chunk, plan.chunk, plan.shape, device=plan.device)
    x_T = noise()
    for detector in detectors:
        detector.start(x_T.shape)
    x = x_T
    own = _condition_of(condition, plan.n, index * plan.chunk, plan.chunk, plan.device)
    for step in sampler(denoiser, x_T, noise, **own):
        for detector in detectors:
            detector.update(step)
        x = step.x_next
        if (step.index + 1) % report_every == 0 or step.index + 1 == steps:
            done = plan.rows(index) * (step.index + 1) // steps
            task.advance(done - reported)
            reported = done
    largest = x.flatten(1).abs().amax(1)
    result = {"samples": x, "diverged": ~(torch.isfinite(largest) & (largest <= plan.limit))}
    for detector in detectors:
        result[f"score.{detector.name}"] = detector.score()
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


def generate(
    denoiser: Denoiser,
    sampler: Sampler,
    plan: Plan,
    detectors: Sequence[TrajectoryDetector] = (),
    *,
    folder: Path | None = None,
    settings: Mapping[str, Any] | None = None,
    progress: Progress | None = None,
    **condition: Any,
) -> Generated:
    """Draw ``plan.n`` samples.

    Args:
        denoiser, sampler: the reverse chain.
        plan: what to draw.
        detectors: trajectory detectors; each name must be used once.
        folder: where finished chunks are kept, so that a killed run goes on where it was, and where
            ``samples.safetensors`` lies in the end. None keeps everything in memory.
        settings: recorded in the folder; another run's folder is refused.
        progress: shown to the user.
        condition: passed to the denoiser; a tensor has a row for each sample, such as its class.

    Raises:
        InputError: a window that no step falls in, a condition without a row for each sample, or a folder of another
            run.
    """
    progress = progress or Silent()
    visited = sampler.timesteps(denoiser.schedule)
    names = [detector.name for detector in detectors]
    if len(set(names)) < len(names):
        raise InputError(f"detectors: the names {', '.join(names)} repeat; give each its own")
    for detector in detectors:
        detector.check(denoiser.schedule, visited)
    described: dict[str, Any] = {"sampler": repr(sampler), "detectors": {d.name: d.description for d in detectors}}
    _ = _condition_of(condition, plan.n, 0, 1, "cpu")  # refused before anything is written
    described |= {"condition": {name: _digest(value) for name, value in condition.items()}} if condition else {}
    store = _ChunkStore(folder, plan, {**described, **(settings or {})}, progress) if folder else None
    if store and (finished := store.finished()):
        return finished
    parts: dict[int, dict[str, Tensor]] = store.parts() if store else {}
    seconds = float(sum(part["seconds"] for part in parts.values()))
    done = sum(plan.rows(index) for index in parts)
    with progress.task("sampling", plan.n, done, "samples") as task:
        for index in plan.chunks:
            if index in parts:
                continue
            begin = time.perf_counter()
            parts[index] = _chunk(denoiser, sampler, plan, index, detectors, condition, task)
            spent = time.perf_counter() - begin
            seconds += spent
            parts[index]["seconds"] = torch.tensor(spent, dtype=torch.float64)
            if store:
                store.save(index, parts[index])
    kept = [name for name in parts[0] if name != "seconds"]
    merged = {name: torch.cat([parts[index][name] for index in plan.chunks]) for name in kept}
    if store:
        store.finish(merged, seconds)
    return _generated(merged, seconds)


def _digest(value: Any) -> str:
    """Tells one condition from another, for the record of a run."""
    if isinstance(value, Tensor):
        return hashlib.sha256(value.detach().cpu().contiguous().numpy().tobytes()).hexdigest()
    return repr(value)


def _generated(merged: Mapping[str, Tensor], seconds: float) -> Generated:
    scores = {name.removeprefix("score."): v.numpy() for name, v in merged.items() if name.startswith("score.")}
    return Generated(merged["samples"], scores, merged["diverged"].numpy(), seconds)


class _ChunkStore:
    """Finished chunks on disk, and in the end the merged file in their place."""

    def __init__(self, folder: Path, plan: Plan, settings: Mapping[str, Any], progress: Progress) -> None:
        self._folder, self._plan, self._progress = folder, plan, progress
        self._merged = folder / "samples.safetensors"
        record = folder / "sampling.json"
        # the plan last: settings must not hide it; through JSON, as it will be read back
        wanted = json.loads(json.dumps({**settings, **asdict(plan)}))
        if record.exists():
            found = read_json(record)
            if found != wanted:
                differing = sorted(k for k in {*found, *wanted} if found.get(k) != wanted.get(k))
                raise InputError(
                    f"{folder}: holds another run's samples "
                    + ", ".join(f"({k}: {found.get(k)} there, {wanted.get(k)} asked for)" for k in differing)
                )
        else:
            write_json(record, wanted)

    def _read(self, path: Path) -> tuple[dict[str, Tensor], dict[str, str]] | None:
        """A file's content; None where there is none, or where it is damaged: then it is drawn again."""
        if not path.exists():
            return None
        try:
            return load_tensors(path)
        except InputError as error:
            self._progress.notice(f"{error}; drawing it again")
            path.unlink()
            return None

    def finished(self) -> Generated | None:
        if (found := self._read(self._merged)) is None:
            return None
        merged, metadata = found
        return _generated(merged, float(metadata["seconds"]))

    def _path(self, index: int) -> Path:
        return self._folder / "chunks" / f"{index:06d}.safetensors"

    def parts(self) -> dict[int, dict[str, Tensor]]:
        read = {index: self._read(self._path(index)) for index in self._plan.chunks}
        return {index: found[0] for index, found in read.items() if found is not None}

    def save(self, index: int, part: Mapping[str, Tensor]) -> None:
        save_tensors(self._path(index), part)

    def finish(self, merged: Mapping[str, Tensor], seconds: float) -> None:
        save_tensors(self._merged, merged, {"seconds": repr(seconds)})
        # a process killed while it wrote a chunk leaves its temporary file behind
        shutil.rmtree(self._folder / "chunks", ignore_errors=True)


def score(
    detector: SampleDetector,
    denoiser: Denoiser,
    x: Tensor,
    *,
    first: int = 0,
    seed: int = 0,
    chunk: int = LOW_DIMENSIONAL_CHUNK,
    device: str = "cpu",
    progress: Progress | None = None,
    **condition: Any,
) -> np.ndarray:
    """(n,) float64 scores of finished samples x (n, *shape); the noise of x[i] belongs to (seed, first + i).

    A condition goes to the denoiser; a tensor has a row for each sample.

    Raises:
        InputError: no samples, a detector that cannot score this schedule, or a condition without a row for each.
    """
    if len(x) == 0:
        raise InputError("samples: there are none to score")
    detector.check(denoiser.schedule)
    shape = tuple(x.shape[1:])
    results = []
    with (progress or Silent()).task("scoring", len(x), 0, "samples") as task:
        for start in range(0, len(x), chunk):
            rows = x[start : start + chunk]
            whole = rows
            if len(rows) < chunk:  # a short chunk is computed whole and cut
                whole = torch.cat([rows, rows[:1].expand(chunk - len(rows), *shape)])
            noise = NoiseStream(seed, first + start, len(whole), shape, purpose="renoise", device=device)
            own = _condition_of(condition, len(x), start, len(whole), device)
            results.append(detector(denoiser, whole.to(device), noise, **own)[: len(rows)].cpu())
            task.advance(len(rows))
    return torch.cat(results).numpy()
