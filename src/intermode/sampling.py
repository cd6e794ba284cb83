"""Draws samples: drives a sampler over chunks, with seeds, devices, detectors, progress.

:func:`sample` is for everybody; :func:`generate` and what is beside it take a plan of chunks. What a chunk is, and how
blocks of them are shared and resumed, is said in :mod:`intermode.blocks`.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
import torch
from torch import Tensor

from intermode.blocks import LOW_DIMENSIONAL_CHUNK, Plan, joined, split
from intermode.denoisers import Denoiser, NetworkDenoiser
from intermode.detect import Detector, SampleDetector, descent_scored, describe, watches
from intermode.detect.registry import DEFAULTS, Detectors, Setting, resolve
from intermode.engines import do
from intermode.errors import InputError
from intermode.jobs import Running, digest
from intermode.models import as_denoiser
from intermode.noise import NoiseStream
from intermode.progress import Progress, Silent, Task
from intermode.samplers import Ancestral, Sampler, Step
from intermode.thresholds import Kept, Threshold, keep
from intermode.values import as_whole
from intermode.verbs import as_samples, shown, strict
from intermode.watched import Watched

if TYPE_CHECKING:
    from intermode.early_stop import EarlyStop, Stop
    from intermode.repairs import Repair

__all__ = [
    "LOW_DIMENSIONAL_CHUNK",
    "Drawing",
    "Plan",
    "Samples",
    "as_condition",
    "check_classes",
    "chunk_for",
    "diverged",
    "drawing",
    "even_chunk",
    "fit_detectors",
    "generate",
    "predictions",
    "replay",
    "sample",
    "score",
    "scores_of",
    "summary",
]


Part: TypeAlias = dict[str, Tensor]
"""What is known of a chunk: tensors with a row for each sample, and numbers to be summed over the chunks."""
Make: TypeAlias = Callable[[int, Task], Part]
"""Makes the chunk of an index and advances the task by its samples."""
CHUNK_NUMBERS = 2**18
"""Numbers in a chunk of large samples: a U-Net's activations are some thousand times as many bytes."""
GIVEN = ("denoiser", "sampler", "plan", "detectors", "condition", "stop")
"""What a drawing is made of, for its jobs."""
IMAGE_CHUNK = 64
"""Images in a chunk, at most: more are no faster on a CPU, and progress is told and kept by the chunk."""


@dataclass(frozen=True, repr=False)
class Samples:
    """Finished samples with what the detectors said.

    Attributes:
        x: (n, *shape).
        scores: a (n,) float64 array for each detector, larger = more suspect.
        diverged: (n,) bool, not finite or larger than the plan's limit; counted, never dropped.
        seconds: time spent sampling, over all runs and processes that made these samples.
        condition: the tensors that they were drawn with, (n, ...), by name.
    """

    x: Tensor
    scores: Mapping[str, np.ndarray]
    diverged: np.ndarray
    seconds: float
    condition: Mapping[str, Tensor] = field(default_factory=dict, kw_only=True)

    def __len__(self) -> int:
        return len(self.x)

    def keep(self, threshold: Threshold | float, by: str | None = None) -> Kept:
        """Which samples are kept: (n,) bool, to index ``x`` and the scores with; prints how many.

        Args:
            threshold: of the score, or the share (0, 1) of the samples to keep, those with the lowest scores.
            by: name of the score; the threshold's, or the first unless given.

        Raises:
            InputError: no such score, the threshold of another one, or a share outside (0, 1).
        """
        return keep(self.scores, threshold, by)

    def __repr__(self) -> str:
        shape = tuple(self.x.shape[1:])
        diverged = f", {int(self.diverged.sum()):,} diverged" if self.diverged.any() else ""
        made = f"{len(self):,} samples of shape {shape} in {self.seconds:.2g} s{diverged}"
        return "\n".join([made, *(summary(name, values) for name, values in self.scores.items())])


def summary(name: str, scores: np.ndarray) -> str:
    """The range of a score in words."""
    low, middle, high = np.quantile(scores, [0, 0.5, 1], method="nearest")
    return f"  {name}: lowest {low:.4g}, median {middle:.4g}, highest {high:.4g}"


def chunk_for(shape: Sequence[int]) -> int:
    """Samples of ``shape`` to compute together, so that memory stays bounded whatever their size."""
    most = LOW_DIMENSIONAL_CHUNK if len(shape) < 2 else IMAGE_CHUNK
    return max(1, min(most, CHUNK_NUMBERS // math.prod(shape)))


def even_chunk(n: int, shape: Sequence[int], chunk: int | None = None) -> int:
    """The chunk asked for, or one that cuts n samples evenly; never more than n, so that hardly a row is computed in
    vain."""
    if chunk is not None:
        return min(as_whole("chunk", chunk, 1), n)
    return math.ceil(n / math.ceil(n / chunk_for(shape)))


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
    stop: Stop | None = None,
) -> dict[str, Tensor]:
    """Samples, scores and divergence of one chunk, cut to the rows asked for."""
    watching = [detector for detector in detectors if watches(detector)]
    descents = sampler.descents(denoiser.schedule)
    scored = [descent_scored(watcher, denoiser.schedule, descents) for watcher in watching]
    steps = sum(map(len, descents)) + len(descents) - 1
    report_every = max(steps // 20, 1)  # often enough to watch, too seldom to cost time
    reported = 0
    noise = NoiseStream(plan.seed, index * plan.chunk, plan.chunk, plan.shape, device=plan.device)
    x_T = noise()
    watched = Watched(watching, scored, x_T.shape, denoiser)
    x, said = x_T, dict[str, Tensor]()
    own = _condition_of(condition, plan.n, index * plan.chunk, plan.chunk, plan.device)
    chain = sampler(denoiser, x_T, noise, **own)
    if stop is not None:
        chain = stop.steps(denoiser, sampler, x_T, noise, plan.rows(index), own, watched, said)
    for count, step in enumerate(chain, 1):
        watched.update(step)
        x = step.x_next
        if count % report_every == 0 or count == steps:
            done = plan.rows(index) * count // steps
            task.advance(done - reported)
            reported = done
    result = {"samples": x, "diverged": diverged(x, plan.limit), **said}
    seen = watched.score()
    for detector in detectors:
        if watches(detector):
            scores = seen[detector.name]
        else:
            renoise = NoiseStream(
                plan.seed, index * plan.chunk, plan.chunk, plan.shape, purpose="renoise", device=plan.device
            )
            scores = detector(denoiser, x, renoise, **own)
        result[f"score.{detector.name}"] = scores
    return {name: value[: plan.rows(index)].cpu() for name, value in result.items()}


def diverged(x: Tensor, limit: float = 1e3) -> Tensor:
    """(B,) bool, samples (B, ...) that are not finite or have a coordinate beyond the limit."""
    largest = x.flatten(1).abs().amax(1)
    return ~(torch.isfinite(largest) & (largest <= limit))


def replay(denoiser: Denoiser, sampler: Sampler, plan: Plan, chunk: int, **condition: Any) -> Iterator[Step]:
    """The steps of one chunk again, to look at flagged samples more closely (all ``plan.chunk`` rows)."""
    noise = NoiseStream(plan.seed, chunk * plan.chunk, plan.chunk, plan.shape, device=plan.device)
    own = _condition_of(condition, plan.n, chunk * plan.chunk, plan.chunk, plan.device)
    return sampler(denoiser, noise(), noise, **own)


def predictions(
    denoiser: Denoiser, sampler: Sampler, plan: Plan, rows: Sequence[int], below: int, **condition: Any
) -> tuple[np.ndarray, np.ndarray]:
    """x0_hat of chosen samples over the last timesteps before all restarts, by drawing their chunks again.

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
            if step.t < below and step.restart == 0:
                timesteps.append(step.t)
                for row in here:
                    found[row].append(step.x0_hat[row - chunk * plan.chunk].cpu().numpy())
    return np.array(timesteps), np.stack([np.stack(found[row]) for row in rows], axis=1)


def as_condition(condition: Mapping[str, Any] | None, n: int, denoiser: Denoiser) -> dict[str, Any]:
    """What a denoiser is told of n samples, as it takes it: arrays and lists as tensors, one class for all repeated.

    Raises:
        InputError: no mapping, no row for each sample, or classes that the denoiser does not have.
    """
    if condition is not None and not isinstance(condition, Mapping):
        raise InputError("condition: must be a mapping, {'class_labels': (n,) classes} say")
    told = dict(condition or {})
    for name, value in told.items():
        if name == "class_labels":
            value = torch.as_tensor(value)
            value = value.expand(n) if value.ndim == 0 else value
        told[name] = torch.as_tensor(np.asarray(value)) if isinstance(value, list | tuple | np.ndarray) else value
    _ = _condition_of(told, n, 0, 1, "cpu")  # has a row for each
    labels, classes = told.get("class_labels"), denoiser.classes
    if labels is None:
        return told
    if labels.is_floating_point() or labels.ndim != 1:
        raise InputError(f"class_labels: {labels.dtype} of shape {tuple(labels.shape)}; must be {n} whole numbers")
    plain = isinstance(denoiser, NetworkDenoiser) and hasattr(denoiser.network, "description")
    # a class beyond the last stands for none
    if (plain and classes == 0) or (classes and (labels.min() < 0 or labels.max() > classes)):
        raise InputError(f"class_labels: {int(labels.min())}..{int(labels.max())}; the model has {classes} classes")
    return told


def check_classes(denoiser: Denoiser, told: Mapping[str, Any]) -> None:
    """Raise InputError for a model that is told classes without them."""
    if denoiser.classes != 0 and "class_labels" not in told:
        raise InputError("condition: the model is told a class; give condition={'class_labels': (n,) classes, or one}")


def fit_detectors(detectors: Sequence[Detector], denoiser: Denoiser, data: Tensor, seed: int) -> None:
    """Show training data (n, *shape) to the detectors that learn from some.

    Raises:
        InputError: none that learns, or one that would have to know the classes of the data.
    """
    learning: list[Any] = [detector for detector in detectors if hasattr(detector, "fit")]
    if not learning:
        raise InputError(f"fit: is of no use to {', '.join(d.name for d in detectors)}, which see no training data")
    x = data.to(denoiser.device, denoiser.dtype)
    for detector in learning:
        if denoiser.classes != 0 and detector.nfe:
            raise InputError(f"{detector.name}: learns from no model that is told classes; choose knn, realism or lid")
        detector.fit(denoiser, x, seed=seed)


@strict
def sample(
    model: Denoiser | str | Path,
    n: int,
    *,
    sampler: Sampler | None = None,
    detectors: Detectors = (DEFAULTS["sample"],),
    condition: Mapping[str, Any] | None = None,
    keep: Threshold | float | None = None,
    by: str | None = None,
    draws: int | None = None,
    repair: Repair | bool | None = None,
    stop: EarlyStop | None = None,
    seed: int = 0,
    chunk: int | None = None,
    limit: float = 1e3,
    fit: Any = None,
    out: str | Path | None = None,
    workers: int = 1,
    on: str | None = None,
    progress: Progress | bool | None = None,
) -> Samples:
    """Draw n samples, with a score for each.

    Args:
        model: a denoiser, or what :func:`intermode.load` takes.
        n: how many.
        sampler: the reverse chain; ``Ancestral()`` unless given.
        detectors: objects, names, or a sequence of both; those that look at finished samples score them by the same
            model. Unless given ``hal``, which costs nothing.
        condition: what the model is told, ``{"class_labels": ...}``: (n,) values, or one class for all. With ``keep``
            a value for each of ``draws``.
        keep: a threshold, or the largest score to keep: samples are drawn until n pass; what is returned then also
            says which of the draws they were, and the rate at which draws pass.
        by: name of the score that ``keep`` is a threshold of; its own, or the first unless given.
        draws: most samples to draw for ``keep``; 100 n unless given.
        repair: what is flagged is restarted until it passes, once all are drawn (:func:`intermode.repair`, with the
            same sampler and seed); True for its defaults. What is returned then also says which samples were touched,
            mended and given up. Scores of a trajectory are those before the repair.
        stop: drops chains on their way whose sample is suspect already and begins others in their place
            (:class:`intermode.EarlyStop`). What is returned then also says how many chains were begun for each sample.
        seed: the noise of sample i belongs to (seed, i).
        chunk: samples computed together; unless given as many as memory allows for samples of their size, images 64 at
            most. Results of other chunk sizes agree to rounding.
        limit: a sample with a coordinate beyond it counts as diverged.
        fit: training data (m, *shape) for the detectors that learn from some: ``knn``, ``realism``, ``diffpath``, ...
        out: a folder for ``samples.safetensors``; a run that was interrupted goes on in it.
        workers: processes that share the work, each with as many threads as torch has here.
        on: ``ray``, or the address of a Ray cluster, that shares it.
        progress: True shows a bar.

    Raises:
        InputError: a model, detector or condition that cannot be used, a rate of acceptance too small for ``draws``, or
            a folder of another run.
    """
    denoiser, chain = as_denoiser(model), Ancestral() if sampler is None else sampler
    if isinstance(chain, type) or not hasattr(chain, "transition"):
        raise InputError(f"sampler: {chain!r} is none; give Ancestral(), DDIM() or an object of your own Sampler")
    n = as_whole("n", n, 1)
    if keep is not None and repair:
        raise InputError("repair: cannot be combined with keep; a repair draws again what does not pass, as keep does")
    if stop is not None and (keep is not None or repair):
        raise InputError("stop: cannot be combined with keep or repair; filter or repair what comes out")
    if stop is not None and not hasattr(stop, "ready"):
        raise InputError(f"stop: {stop!r} is none; give EarlyStop(detector, t)")
    for name, given in (("by", by), ("draws", draws)):
        if keep is None and given is not None:
            raise InputError(f"{name}: is of use only with keep")
    setting = Setting(denoiser.shape, timesteps=len(denoiser.schedule), model=denoiser, sampler=chain)
    found = resolve(detectors, setting, "sample")
    settings: dict[str, Any] = {"model": denoiser.identity}
    if fit is not None:
        seen = as_samples("fit", fit, denoiser.shape)
        fit_detectors(found, denoiser, seen, seed)
        settings["fit"] = digest(seen)
    most = n if keep is None else as_whole("draws", 100 * n if draws is None else draws, 1)
    if most < n:
        raise InputError(f"n: {n} cannot be kept of at most {most} draws; need 1..{most}")
    told = as_condition(condition, most, denoiser)
    check_classes(denoiser, told)
    size = even_chunk(n, denoiser.shape, chunk)
    plan = Plan(most, denoiser.shape, as_whole("seed", seed, 0), size, limit, str(denoiser.device))
    from intermode.places import Place
    from intermode.repairs import Repair, draw_repaired
    from intermode.resample import check_by, draw_kept

    mending = Repair() if repair is True else repair or None
    if mending is not None:  # refused before anything is drawn
        flagging = mending.flagging(denoiser.shape, denoiser.schedule, "sample")
        begin = mending.timestep(flagging, denoiser.shape, denoiser.schedule, chain)
        if watches(flagging):
            found = [*(detector for detector in found if detector.name != flagging.name), flagging]
    threshold = keep if keep is None or isinstance(keep, Threshold) else Threshold(float(keep))
    if threshold is not None:
        if threshold.score and by not in (None, threshold.score):
            raise InputError(f"by: the threshold is one of {threshold.score}, not of {by}")
        by = by or threshold.score or (found[0].name if found else None)
        check_by(by, found)
    tell, many = shown(progress), as_whole("workers", workers, 1)
    stopping = None if stop is None else stop.ready(denoiser, chain, told, tell)
    draw = Drawing(denoiser, chain, plan, found, told, settings, many, on, tell, stopping)

    def made() -> Samples:
        if threshold is not None:
            return draw_kept(draw, threshold, n, by)
        return draw.all() if mending is None else draw_repaired(draw, mending, flagging)

    if out is None and workers == 1 and on is None:
        return made()
    with Place(out) as place:
        draw.place = place.jobs
        asked = {**draw.described, "n": n, "chunk": size, "seed": plan.seed, "limit": limit, "draws": most}
        if threshold is not None:
            asked |= {"keep": repr(threshold.value), "by": by}
        if mending is not None:
            asked |= {"repair": mending.described(flagging, begin)}
        place.take(asked)
        if (earlier := place.finished()) is not None:
            return earlier
        return place.keep(made())


def drawing(
    denoiser: Denoiser,
    sampler: Sampler,
    plan: Plan,
    detectors: Sequence[Detector],
    condition: Mapping[str, Any],
    stop: Stop | None = None,
) -> Make:
    """What draws a chunk of the plan.

    Raises:
        InputError: a window that no step falls in, two detectors of one name, or a condition without a row for each
            sample.
    """
    names = [detector.name for detector in detectors]
    if len(set(names)) < len(names):
        raise InputError(f"detectors: the names {', '.join(names)} repeat; give each its own")
    visited, *_ = sampler.descents(denoiser.schedule)  # a level that there is not is refused, too
    for detector in detectors:
        if watches(detector):
            detector.check(denoiser.schedule, visited)
        else:
            detector.check(denoiser.schedule)
    _ = _condition_of(condition, plan.n, 0, 1, "cpu")  # refused before anything is written

    def draw(index: int, task: Task) -> Part:
        begin = time.perf_counter()
        part = _chunk(denoiser, sampler, plan, index, detectors, condition, task, stop)
        return part | {"seconds": torch.tensor(time.perf_counter() - begin, dtype=torch.float64)}

    return draw


def generate(
    denoiser: Denoiser,
    sampler: Sampler,
    plan: Plan,
    detectors: Sequence[Detector] = (),
    *,
    progress: Progress | None = None,
    **condition: Any,
) -> Samples:
    """Draw ``plan.n`` samples in this process.

    Args:
        denoiser, sampler: the reverse chain.
        plan: what to draw.
        detectors: those that watch the chain and those that look at what it made, by the same denoiser under the same
            condition, as :func:`score` does by the plan's seed; each name must be used once.
        progress: shown to the user.
        condition: passed to the denoiser; a tensor has a row for each sample, such as its class.

    Raises:
        InputError: a window that no step falls in, or a condition without a row for each sample.
    """
    return Drawing(denoiser, sampler, plan, detectors, condition, {}, 1, None, progress or Silent()).all()


class Drawing:
    """Draws ranges of a plan's samples: in this process and in memory, or as jobs in a folder, by many workers.

    Attributes:
        place: folder of the jobs; None draws in memory.
    """

    def __init__(
        self,
        denoiser: Denoiser,
        sampler: Sampler,
        plan: Plan,
        detectors: Sequence[Detector],
        condition: Mapping[str, Any],
        settings: Mapping[str, Any],
        workers: int,
        on: str | None,
        progress: Progress,
        stop: Stop | None = None,
    ) -> None:
        self.draw, self.stop = drawing(denoiser, sampler, plan, detectors, condition, stop), stop
        self.denoiser, self.sampler, self.plan, self.detectors = denoiser, sampler, plan, detectors
        self.condition, self.settings = condition, settings
        self.workers, self.on, self.progress = workers, on, progress
        self.place: Path | None = None

    @property
    def described(self) -> dict[str, Any]:
        """What tells these samples from others."""
        told = {
            name: digest(value) if isinstance(value, Tensor) else repr(value) for name, value in self.condition.items()
        }
        detectors = {detector.name: describe(detector) for detector in self.detectors}
        stopping = {} if self.stop is None else {"stop": self.stop.described}
        return {"sampler": repr(self.sampler), "detectors": detectors, "condition": told, **stopping, **self.settings}

    def rows(self, first: int, last: int) -> dict[str, Tensor]:
        """What is known of samples first .. last - 1, and the seconds that they took; ``first`` begins a chunk."""
        plan = self.plan
        if self.place is None:
            with self.progress.task("sampling", last - first, 0, plan.unit) as task:
                chunks = range(first // plan.chunk, math.ceil(last / plan.chunk))
                parts = joined([self.draw(index, task) for index in chunks])
            return {name: value[: last - first] if value.ndim else value for name, value in parts.items()}
        given = {name: getattr(self, name) for name in GIVEN}
        what = {**self.described, "seed": plan.seed, "limit": plan.limit, "n": plan.n}
        job = split(f"samples-{first}", draw_block, what, last - first, plan.chunk, given=given, first=first)
        done = do(job, self.place, workers=self.workers, on=self.on, device=plan.device, progress=self.progress)
        return {**done.tensors(), "seconds": torch.tensor(done.facts["seconds"], dtype=torch.float64)}

    def all(self) -> Samples:
        """The whole plan."""
        found = self.rows(0, self.plan.n)
        samples = samples_of(found, self.condition)
        if self.stop is None:
            return samples
        return self.stop.drawn(samples, found, self.sampler.evaluations(self.denoiser.schedule))


def draw_block(running: Running) -> None:
    """Some consecutive chunks of a plan, as a job."""
    first, last = running.config["rows"]
    plan = running.given["plan"]
    draw = drawing(**{name: value for name, value in running.given.items() if name != "plan"}, plan=plan)
    with running.progress.task("sampling", last - first, 0, plan.unit) as task:
        parts = joined([draw(index, task) for index in range(first // plan.chunk, math.ceil(last / plan.chunk))])
    running.save({name: value[: last - first] if value.ndim else value for name, value in parts.items()})


def samples_of(tensors: Mapping[str, Tensor], condition: Mapping[str, Any]) -> Samples:
    """Samples from what is known of them."""
    told = {name: value for name, value in condition.items() if isinstance(value, Tensor)}
    seconds = float(tensors["seconds"])
    return Samples(tensors["samples"], scores_of(tensors), tensors["diverged"].numpy(), seconds, condition=told)


def scores_of(tensors: Mapping[str, Tensor]) -> dict[str, np.ndarray]:
    """The (n,) scores of each detector among a file's tensors."""
    return {name.removeprefix("score."): v.numpy() for name, v in tensors.items() if name.startswith("score.")}


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

    Args:
        detector: gives the scores.
        denoiser: helps it.
        x: finished samples.
        seed: of the noise.
        first: index of x[0] among all samples, where x is a part of them.
        chunk: samples scored together.
        device: where to score.
        progress: shown to the user.
        condition: passed to the denoiser; a tensor has a row for each sample.

    Raises:
        InputError: no samples, a detector that cannot score this schedule, or a condition without a row for each.
    """
    if len(x) == 0:
        raise InputError("samples: there are none to score")
    detector.check(denoiser.schedule)
    plan = Plan(len(x), tuple(x.shape[1:]), seed, chunk, device=device)
    _ = _condition_of(condition, plan.n, 0, 1, "cpu")  # refused before anything is written

    scores = []
    with (progress or Silent()).task("scoring", len(x), 0, plan.unit) as task:
        for index in plan.chunks:
            start = index * chunk
            rows = x[start : start + chunk]
            missing = chunk - len(rows)  # a short chunk is computed whole and cut
            whole = torch.cat([rows, rows[:1].expand(missing, *plan.shape)]) if missing else rows
            noise = NoiseStream(seed, first + start, chunk, plan.shape, purpose="renoise", device=device)
            own = _condition_of(condition, plan.n, start, chunk, device)
            scores.append(detector(denoiser, whole.to(device), noise, **own)[: len(rows)].cpu())
            task.advance(len(rows))
    return torch.cat(scores).numpy()
