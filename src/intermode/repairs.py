r"""Selective repair: only the samples that a detector flags are restarted, until they pass.

A sample x with the score :math:`S(x) > \lambda` is noised to the level k by :math:`q(x_k \mid x)`, denoised again by
the sampler's steps (:mod:`intermode.restart`) and scored again, until :math:`S \le \lambda` or the tries are used up.
No sample is thrown away, no other one is touched, and only the flagged share costs restarts. Each sample ends either as
it was or as one that passes.

A restart mends what is decided under its level. What is decided above it, or lies too far outside (a chain that ran
away, numbers that are not finite), fails however often it is tried; it can be drawn afresh (``replace``).

The threshold is found without labels unless one is given: it flags the share of the samples with the highest scores. A
good sample that is flagged costs some evaluations and becomes another good one, so a share of a few times as many as
are bad loses nothing but time. A repair is no filter: a conformal threshold promises that a new good sample passes with
probability 1 - alpha, but of repaired samples, all of which pass because they were drawn until they did, it says
nothing. What holds of them is told beside the result: how many were touched, mended and given up.

A detector of finished samples has to look at all of them once. One that watches, which :func:`intermode.sample` alone
can have, costs nothing: it has scored each sample by the chain that made it, and scores a restart by its own steps,
which must pass through its whole window.

Random numbers belong to (seed, sample index, try); the scores are those of :func:`intermode.score` with the same seed.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar, TypeAlias

import numpy as np
import torch
from torch import Tensor

from intermode import sampling
from intermode.denoisers import Denoiser
from intermode.detect import Detector, descent_scored, describe, watches
from intermode.detect.lid import LID
from intermode.detect.registry import LID_TIMESTEPS, Setting, Where, resolve
from intermode.errors import InputError
from intermode.models import as_denoiser
from intermode.noise import NoiseStream
from intermode.progress import Progress, Silent
from intermode.restart import Level, Restart, check_level, timestep_of
from intermode.samplers import Ancestral, Sampler
from intermode.sampling import Drawing, as_condition, check_classes, diverged, even_chunk
from intermode.schedules import Schedule
from intermode.thresholds import Threshold
from intermode.treated import Treated
from intermode.values import as_whole
from intermode.verbs import as_samples, shown, strict

__all__ = ["Attempt", "Repair", "Repaired", "draw_repaired", "renewed", "repair", "repair_all"]

NOISES = 4
"""Of the detector that flags unless another is asked for: ``lid`` of 32 would cost more than all restarts."""
LEVELS = (3,), (100,)
"""Where restarts begin unless told otherwise, of 1000 timesteps: for samples of a few numbers and for images."""
WIDEST = 10.0
"""Images and latents are of size 1 or some; pixels of 0..255 are not."""


@dataclass(frozen=True)
class Repair:
    """How samples are repaired: the settings of :func:`repair`, for :func:`intermode.sample`.

    Raises:
        InputError: settings that are none.
    """

    detector: Any = None
    threshold: Threshold | float | None = None
    share: float = 0.02
    level: Level | None = None
    tries: int = 5
    replace: bool = False

    def __post_init__(self) -> None:
        as_whole("tries", self.tries, 1)
        if self.level is not None:
            check_level(self.level)
        if not 0 < self.share < 1:
            raise InputError(f"share: {self.share} of the samples cannot be flagged; must lie between 0 and 1")

    def flagging(self, shape: tuple[int, ...], schedule: Schedule, where: Where = "finished") -> Detector:
        """The one detector that flags.

        Args:
            where: what it is shown: finished samples, or the chain that makes them (``sample``).

        Raises:
            InputError: several, none, or one that cannot score these.
        """
        setting = Setting(shape, timesteps=len(schedule))
        usual = LID(setting.pick(*LID_TIMESTEPS), NOISES)
        found = resolve(usual if self.detector is None else self.detector, setting, where)
        if len(found) != 1:
            raise InputError(f"detector: {len(found)} are given; give the one whose threshold a sample has to pass")
        self.check_score(found[0].name)
        return found[0]

    def check_score(self, name: str) -> None:
        """Raise InputError if the threshold is one of another score."""
        if isinstance(self.threshold, Threshold) and self.threshold.score not in (None, name):
            raise InputError(f"threshold: is one of {self.threshold.score}, not of {name}")

    def limit(self, scores: np.ndarray, name: str) -> Threshold:
        """The threshold given, or that which flags the share of these scores (n,); those not finite are flagged anyway.

        Raises:
            InputError: no score that is finite.
        """
        if self.threshold is not None:
            given = self.threshold
            return replace(given, score=name) if isinstance(given, Threshold) else Threshold(float(given), score=name)
        finite = scores[np.isfinite(scores)]
        if not len(finite):
            raise InputError(f"x: no sample has a finite {name}, so that none can pass; give a threshold")
        return Threshold.quantile(finite, 1 - self.share, score=name)

    def timestep(self, detector: Detector, shape: tuple[int, ...], schedule: Schedule, sampler: Sampler) -> int:
        """Where restarts begin.

        Raises:
            InputError: a level that the schedule does not have, or under which a watching detector's window is not
                passed through.
        """
        level: Any = self.level
        window: Any = getattr(detector, "window", None) if watches(detector) else None
        if level is None and window is None:
            level = max(*Setting(shape, timesteps=len(schedule)).pick(*LEVELS), 1)
        t = timestep_of(window if level is None else level, schedule)
        if watches(detector):
            whole, again = sampler.timesteps(schedule), sampler.timesteps_from(schedule, t)
            detector.check(schedule, whole)
            if not descent_scored(detector, schedule, (whole, again)):
                raise InputError(
                    f"level: a restart from t = {t} does not pass through all of {detector.name}'s window "
                    f"{window or 'the whole chain'}, so that it cannot be scored; choose a higher level"
                )
        else:
            detector.check(schedule)
        return t

    def described(self, detector: Detector, t: int) -> dict[str, Any]:
        """What tells this repair from others, for the record."""
        limit = self.threshold
        limit = limit.value if isinstance(limit, Threshold) else limit
        return {
            "detector": f"{detector.name}: {describe(detector)}",
            "threshold": f"share {self.share:g}" if limit is None else repr(float(limit)),
            **{"level": t, "tries": self.tries, "replace": self.replace},
        }


@dataclass(frozen=True, repr=False)
class Repaired(Treated):
    """Samples after a repair; what is said of them is said of all n, in their order.

    Attributes:
        touched: (n,) bool, flagged by the detector; all others are bit for bit as they were.
        accepted: (n,) bool, pass: mended, or never flagged. What does not pass is as it was.
        fresh: (n,) bool, drawn anew from pure noise.
        evaluations: of the network in restarts and fresh draws, of all samples together.
        scoring: of the network to score the samples, and again those that were restarted.
        chain: network evaluations of a whole chain, for comparison.
        threshold: that a sample has to pass.
    """

    touched: np.ndarray
    accepted: np.ndarray
    fresh: np.ndarray
    flags: ClassVar = ("touched", "accepted", "fresh")

    @property
    def mended(self) -> np.ndarray:
        """(n,) bool, flagged before and passing now."""
        return self.touched & self.accepted

    @property
    def given_up(self) -> np.ndarray:
        """(n,) bool, flagged and left as it was, for no try passed."""
        return ~self.accepted

    def told(self) -> str:
        """What was done, in words."""
        drawn = f" ({int(self.fresh.sum()):,} drawn afresh)" if self.fresh.any() else ""
        return (
            f"{int(self.touched.sum()):,} of {len(self):,} touched, {int(self.mended.sum()):,} mended{drawn}, "
            f"{int(self.given_up.sum()):,} given up: {self.threshold}; {self.costs('restarts')}"
        )

    def __repr__(self) -> str:
        return f"{super().__repr__()}\n  repaired: {self.told()}"


Attempt: TypeAlias = Callable[[np.ndarray, Tensor], tuple[Tensor, np.ndarray]]
"""New samples (m, ...) and their scores (m,), of some rows (m,) and what they are now."""


def renewed(
    x: Tensor, rows: np.ndarray, attempts: Iterable[Attempt], threshold: Threshold
) -> Iterator[tuple[np.ndarray, Tensor, np.ndarray]]:
    """Renew samples x (m, ...), of these rows (m,), until they pass: the rows that do, their samples and scores.

    One after the other the attempts are shown what is left, as the last attempt made it.
    """
    for attempt in attempts:
        if not len(rows):
            return
        x, scores = attempt(rows, x)
        passed = np.asarray(threshold.keep(scores))
        yield rows[passed], x[torch.from_numpy(passed)], scores[passed]
        rows, x = rows[~passed], x[torch.from_numpy(~passed)]


class _Attempts:
    """Makes some of n samples anew, and scores them; counts the network's evaluations.

    Args:
        denoiser, sampler: the chain, and how a restart comes down.
        detector: gives the scores.
        t: where restarts begin.
        condition: passed to the denoiser; a tensor has a row for each of the n samples.
        seed: random numbers belong to (seed, sample index, number of the attempt).
        chunk: samples computed together.
        dtype: in which samples are kept, and so scored.
    """

    def __init__(
        self,
        denoiser: Denoiser,
        sampler: Sampler,
        detector: Detector,
        t: int,
        condition: Mapping[str, Any],
        seed: int,
        chunk: int,
        dtype: torch.dtype,
    ) -> None:
        self.dtype = dtype
        self.denoiser, self.detector, self.t, self.condition = denoiser, detector, t, condition
        # a sampler that restarts has used these random numbers
        self.sampler, self._used = (sampler.sampler, sampler.passes) if isinstance(sampler, Restart) else (sampler, 0)
        self.seed, self.chunk = seed, chunk
        self.evaluations = self.scored = 0

    def __call__(self, number: int, fresh: bool) -> Attempt:
        """The attempt of a number, from 1: a restart, or ``fresh`` from pure noise."""

        def made(rows: np.ndarray, x: Tensor) -> tuple[Tensor, np.ndarray]:
            parts = [
                self._made(part, x_part, number + self._used, fresh)
                for part, x_part in zip(_cut(rows, self.chunk), x.split(self.chunk), strict=True)
            ]
            return torch.cat([new for new, _ in parts]), torch.cat([scores for _, scores in parts]).numpy()

        return made

    @torch.no_grad()
    def _made(self, rows: np.ndarray, x: Tensor, number: int, fresh: bool) -> tuple[Tensor, Tensor]:
        device = self.denoiser.device
        index = torch.from_numpy(rows)
        own = {k: v[index].to(device) if isinstance(v, Tensor) else v for k, v in self.condition.items()}

        def stream(purpose: str, restart: int | None = None) -> NoiseStream:
            shape = x.shape[1:]
            return NoiseStream(
                self.seed, 0, len(rows), shape, purpose=purpose, device=device, rows=rows, restart=restart
            )

        noise, start = stream("restart", number), None if fresh else self.t
        x_t = noise() if fresh else self.denoiser.schedule.add_noise(x.to(device), noise(), self.t)
        new = x_t
        watching = self.detector if watches(self.detector) else None
        if watching is not None:
            watching.start(x_t.shape)
        for step in self.sampler(self.denoiser, x_t, noise, start=start, **own):
            self.evaluations += len(rows)
            new = step.x_next
            if watching is not None:
                watching.update(step)
        if watches(self.detector):
            return new.cpu(), self.detector.score().cpu()
        self.scored += len(rows)
        new = new.to(self.dtype).to(new.dtype)
        return new.cpu(), self.detector(self.denoiser, new, stream("renoise"), **own).cpu()


def _cut(rows: np.ndarray, chunk: int) -> list[np.ndarray]:
    return [rows[start : start + chunk] for start in range(0, len(rows), chunk)]


@strict
def repair(
    model: Denoiser | str | Path,
    x: Any,
    *,
    detector: Any = None,
    threshold: Threshold | float | None = None,
    share: float = 0.02,
    level: Level | None = None,
    tries: int = 5,
    replace: bool = False,
    sampler: Sampler | None = None,
    condition: Mapping[str, Any] | None = None,
    seed: int = 0,
    chunk: int | None = None,
    progress: Progress | bool | None = None,
) -> Repaired:
    """Restart what a detector flags of finished samples until it passes; all others stay bit for bit as they are.

    >>> repaired = intermode.repair("gaussian-1d", samples.x)
    >>> repaired.x, repaired.mended, repaired.given_up

    Args:
        model: a denoiser, or what :func:`intermode.load` takes.
        x: (n, *shape) samples from anywhere, an array, list or tensor; images in -1..1, or bytes.
        detector: of finished samples, an object or a name; unless given ``lid`` of 4 noises instead of 32.
        threshold: the largest score that passes, a number or a :class:`Threshold` of this score. Unless given that
            which flags ``share`` of the samples, and no label is needed: a good sample that is flagged becomes another
            good one, so it should be a few times the share that is bad.
        share: of the samples flagged, where no threshold is given.
        level: where restarts begin: a timestep, a share of T, or a window such as ``SNR(low, high)``. Unless given
            t = 3 of 1000 for samples of a few numbers, where mass between modes is made, and t = 100 for images, which
            mends what is malformed and not which things there are.
        tries: restarts of a sample, at most.
        replace: draw what still fails afresh, as many times at most.
        sampler: how restarts come down; ``Ancestral()`` unless given.
        condition: what the model is told, ``{"class_labels": ...}``: (n,) values, or one class for all.
        seed: random numbers belong to (seed, sample index, try); scores are those of :func:`intermode.score`.
        chunk: samples computed together; unless given as many as memory allows for samples of their size.
        progress: True shows a bar.

    Returns:
        the samples, and what became of each. One that is not finite has nothing to restart from: it is left, or drawn
        afresh with ``replace``, and counted as touched.

    Raises:
        InputError: samples of another shape or range than the model's, a level that its schedule does not have, no
            tries, a threshold of another score, or a model that is told classes without them.
    """
    settings = Repair(detector, threshold, share, level, tries, replace)
    denoiser = as_denoiser(model)
    samples = as_samples("x", x, denoiser.shape)
    if not len(samples):
        raise InputError("x: there are no samples to repair")
    _check_range(samples)
    told = as_condition(condition, len(samples), denoiser)
    check_classes(denoiser, told)
    return repair_all(
        denoiser,
        samples,
        settings,
        detector=settings.flagging(tuple(samples.shape[1:]), denoiser.schedule),
        sampler=sampler or Ancestral(),
        condition=told,
        seed=as_whole("seed", seed, 0),
        chunk=chunk,
        progress=shown(progress),
    )


def draw_repaired(drawing: Drawing, settings: Repair, detector: Detector) -> Repaired:
    """All samples of a plan, repaired; a detector that watches is among the drawing's own."""
    drawn, plan = drawing.all(), drawing.plan
    done = repair_all(
        drawing.denoiser,
        drawn.x,
        settings,
        detector=detector,
        scores=drawn.scores[detector.name] if watches(detector) else None,
        sampler=drawing.sampler,
        condition=drawing.condition,
        seed=plan.seed,
        chunk=plan.chunk,
        progress=drawing.progress,
    )
    return replace(done, scores={**drawn.scores, **done.scores}, seconds=drawn.seconds + done.seconds)


def _check_range(x: Tensor) -> None:
    """Raise InputError for images that are not in about -1..1."""
    if x.ndim != 4:
        return
    finite = x[torch.isfinite(x)]
    if len(finite) and (finite.min() >= 0 or x.flatten(1).abs().amax(1).nanmedian() > WIDEST):
        raise InputError(
            f"x: values of {finite.min():.3g}..{finite.max():.3g}; images must be in -1..1, or bytes (uint8) of 0..255"
        )


def repair_all(
    denoiser: Denoiser,
    x: Tensor,
    settings: Repair,
    *,
    detector: Detector,
    scores: np.ndarray | None = None,
    sampler: Sampler,
    condition: Mapping[str, Any],
    seed: int = 0,
    chunk: int | None = None,
    progress: Progress | None = None,
) -> Repaired:
    """:func:`repair` of samples (n, *shape) that fit the denoiser; a detector that watches brings their ``scores``."""
    begin, schedule, shape, progress = time.perf_counter(), denoiser.schedule, tuple(x.shape[1:]), progress or Silent()
    t = settings.timestep(detector, shape, schedule, sampler)
    size, work, device = even_chunk(len(x), shape, chunk), x.to(denoiser.dtype), str(denoiser.device)
    how: dict[str, Any] = {"seed": seed, "chunk": size, "device": device, "progress": progress, **condition}
    if scores is None:
        assert not watches(detector), "it has not seen these samples being made"
        scores = sampling.score(detector, denoiser, work, **how)
    scores = scores.copy()
    threshold = settings.limit(scores, detector.name)
    touched = ~np.asarray(threshold.keep(scores))
    if not touched.any():
        progress.notice(f"repair: no sample has a {detector.name} over {threshold.value:.4g}; nothing is touched")
    attempts = _Attempts(denoiser, sampler, detector, t, condition, seed, size, x.dtype)
    finite = torch.isfinite(work).flatten(1).all(1).numpy()
    result, fresh = x.clone(), np.zeros(len(x), dtype=bool)
    accepted, numbers = ~touched, range(1, settings.tries + 1)
    with progress.task("repairing", int(touched.sum()), 0, "samples") as task:
        for anew in (False, True) if settings.replace else (False,):
            rows = np.flatnonzero(~accepted & (finite | anew))
            tried = [attempts(number + anew * settings.tries, anew) for number in numbers]
            for passed, new, found in renewed(work[torch.from_numpy(rows)], rows, tried, threshold):
                result[torch.from_numpy(passed)] = new.to(x.dtype)
                scores[passed], accepted[passed], fresh[passed] = found, True, anew
                task.advance(len(passed))
        task.advance(int((~accepted).sum()))
    told = {name: value for name, value in condition.items() if isinstance(value, Tensor)}
    return Repaired(
        result,
        {detector.name: scores},
        diverged(result).numpy(),
        time.perf_counter() - begin,
        attempts.evaluations,
        0 if watches(detector) else (len(x) + attempts.scored) * detector.nfe,
        sampler.evaluations(schedule),
        threshold,
        touched,
        accepted,
        fresh,
        condition=told,
    )
