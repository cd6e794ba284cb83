r"""Restarts inside a pipeline of `diffusers`: the pipeline itself runs them, with its prompts, classes and guidance.

A pipeline goes through the timesteps that its scheduler lays out. If those below a level follow once more for each try,

.. math::
    t_1 > \dots > t_N, \quad t_j > \dots > t_N, \quad t_j > \dots > t_N, \quad \dots

then all that has to be done between them is to noise the finished samples, :math:`x \sim q(x_{t_j} \mid x_0)`. What was
not flagged, and what has passed, is put aside and handed back at the end, bit for bit. The network sees the whole batch
each time, whoever is restarted: so many steps more for every sample.

Only schedulers whose step depends on the timestep alone can go back (``DDPMScheduler``, ``DDIMScheduler``). With all
others, take :mod:`intermode.integrations.image_to_image`.
"""

from __future__ import annotations

import inspect
from dataclasses import dataclass, replace
from types import MethodType
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from intermode.detect import TrajectoryDetector
from intermode.detect.window import places
from intermode.errors import InputError
from intermode.integrations.recording import VisitedLevels
from intermode.integrations.schedulers import handling, plan
from intermode.noise import NoiseStream
from intermode.repairs import Repair
from intermode.restart import timestep_of
from intermode.schedules import from_diffusers
from intermode.thresholds import Threshold

if TYPE_CHECKING:
    from intermode.integrations.watching import Watch

__all__ = ["Mended", "Restarting"]

RETURNING = ("DDPMScheduler", "DDIMScheduler")


@dataclass(frozen=True)
class Mended:
    """What became of the images of a pipeline, in the order in which they were returned.

    Attributes:
        touched: (n,) bool, flagged and restarted; all others are bit for bit what they would have been.
        accepted: (n,) bool, pass: mended, or never flagged. What does not pass is as it was.
        threshold: that an image has to pass, of the last batch.
        steps: more of each batch, summed.
    """

    touched: np.ndarray
    accepted: np.ndarray
    threshold: Threshold
    steps: int

    @property
    def mended(self) -> np.ndarray:
        """(n,) bool, flagged before and passing now."""
        return self.touched & self.accepted

    def __str__(self) -> str:
        counts = f"{self.touched.sum():,} of {len(self.touched):,} touched, {self.mended.sum():,} mended"
        return f"{counts}, {(~self.accepted).sum():,} given up: {self.threshold}; {self.steps:,} steps more"


class Restarting:
    """Lays out a scheduler's restarts, and carries a batch through them.

    Random numbers of a restart belong to (0, index of the image in the block, try).

    Args:
        scheduler: of the pipeline.
        settings: of the repair.
        detector: that watches, whose score an image has to pass.

    Raises:
        InputError: a scheduler that cannot go back, or another detector's threshold.
    """

    def __init__(self, scheduler: Any, settings: Repair, detector: TrajectoryDetector) -> None:
        name = type(scheduler).__name__
        if name not in RETURNING:
            raise InputError(
                f"repair: {name} remembers its steps and cannot go back; take {' or '.join(RETURNING)}, or repair the "
                "images by an image-to-image pipeline of the same weights"
            )
        settings.check_score(detector.name)
        if settings.replace:
            raise InputError("repair: a pipeline's images cannot be drawn afresh inside it; leave replace out")
        self.scheduler, self.settings, self.detector = scheduler, settings, detector
        self._set_timesteps = scheduler.set_timesteps
        self._whole: Any = None
        self._again: list[int] = []
        self._calls = self._steps = 0
        self._shown = False
        self._batches: list[_Batch] = []

    @property
    def mended(self) -> Mended:
        """What became of all images so far.

        Raises:
            InputError: no batch has been finished.
        """
        if not self._batches:
            raise InputError("repair: no batch has been finished")
        flags = (np.concatenate([getattr(b, name) for b in self._batches]) for name in ("touched", "accepted"))
        touched, accepted = flags
        return Mended(touched, accepted, self._batches[-1].threshold, self._steps)

    def begin(self) -> None:
        """Lay out restarts whenever the pipeline asks for timesteps."""

        def laid_out(scheduler: Any, *args: Any, **kwargs: Any) -> None:
            self._set_timesteps(*args, **kwargs)
            whole = scheduler.timesteps
            again = whole[self._first(scheduler) :]
            self._whole, self._again, self._calls = whole, [int(t) for t in again], 0
            # what the pipeline goes through; the scheduler gets its own back when it steps
            scheduler.timesteps = torch.cat([whole, *[again] * self.settings.tries])

        # pipelines ask which arguments it takes
        laid_out.__signature__ = inspect.signature(type(self.scheduler).set_timesteps)  # type: ignore[attr-defined]
        vars(self.scheduler)["set_timesteps"] = MethodType(laid_out, self.scheduler)

    def end(self) -> None:
        """The scheduler is as it was."""
        del vars(self.scheduler)["set_timesteps"]
        if self._whole is not None:
            self.scheduler.timesteps = self._whole

    def before(self) -> None:
        """The scheduler is about to step."""
        if self._whole is None:
            raise InputError("repair: call set_timesteps inside the block, so that restarts are laid out")
        self.scheduler.timesteps = self._whole

    def _first(self, scheduler: Any) -> int:
        """The place of the first timestep of a restart."""
        calls, window = plan(scheduler, handling(scheduler)), getattr(self.detector, "window", None)
        assert calls.t is not None
        t = [int(each) for each in calls.t]
        visited = VisitedLevels(dict(zip(t, map(calls.level, range(len(t))), strict=True)), calls.total, "scheduler")
        held = [place.index for place in places(visited, t) if window is None or window.holds(place)]
        if not held:
            return 0  # refused in words when the detector is asked
        if self.settings.level is None:
            return held[0]
        level = timestep_of(self.settings.level, from_diffusers(scheduler))
        first = next((k for k, each in enumerate(t) if each <= level), None)
        if first is None:
            raise InputError(f"level: {level} is under the last of the pipeline's timesteps, {t[-1]}")
        if first > held[0]:
            raise InputError(
                f"level: a restart from t = {t[first]} does not pass through all of {self.detector.name}'s window "
                f"{window or 'the whole chain'}, so that it cannot be scored; choose a higher level"
            )
        return first

    def saw(self, watching: Watch, call: dict[str, Any], result: Any) -> Any:
        """Take in a finished call of ``step``; what the pipeline shall take for its result."""
        k, n, m = self._calls, len(self._whole), len(self._again)
        self._calls += 1
        if k < n:
            run = watching.take(self.scheduler, call, result)
            if k + 1 < n:
                return result
            self._run = run
            self._batch = _Batch(self.settings, self.detector.name, watching.last_scores(self.detector.name))
        done, j = divmod(k - n, m)
        rows = len(self._batch.touched)
        x_next = result.prev_sample if hasattr(result, "prev_sample") else result[0]
        if k >= n:
            self._steps += 1
            self._run.position = n - m + j
            step = watching.shown(self._run.step(self.scheduler, call, rows))
            if step is not None:
                if not self._shown:
                    self.detector.start(step.x0_hat.shape)
                self._shown = True
                self.detector.update(replace(step, x_next=x_next[:rows], restart=done + 1))
            if j + 1 < m:
                return result
        self._shown = False
        if k + 1 == n:
            self._batch.start(x_next[:rows])
        else:
            self._batch.judge(x_next[:rows], self.detector.score().cpu().numpy())
        tries = 0 if k + 1 == n else done + 1
        if tries < self.settings.tries:
            handed = self._noised(self._batch.current, tries + 1)
        else:
            handed = self._batch.finished
            self._batches.append(self._batch)
            watching.rescore(self.detector.name, self._batch.scores)
        if len(x_next) > rows:
            handed = torch.cat([handed, handed])
        if not hasattr(result, "prev_sample"):
            return (handed, *result[1:])
        result.prev_sample = handed
        return result

    def _noised(self, x: Tensor, number: int) -> Tensor:
        first = sum(len(batch.touched) for batch in self._batches)
        noise = NoiseStream(0, first, len(x), x.shape[1:], purpose="restart", restart=number)
        t = torch.full((len(x),), self._again[0], device=x.device)
        return self.scheduler.add_noise(x, noise().to(x.device, x.dtype), t)


class _Batch:
    """The images of a call: as they were, and as they are."""

    def __init__(self, settings: Repair, name: str, scores: np.ndarray) -> None:
        self.scores = scores.copy()
        self.threshold = settings.limit(scores, name)
        self.touched = ~np.asarray(self.threshold.keep(scores))
        self.accepted = ~self.touched

    def start(self, x: Tensor) -> None:
        """Of finished samples x (B, ...)."""
        self.finished, self.current = x.clone(), x.clone()

    def judge(self, x: Tensor, scores: np.ndarray) -> None:
        """Take what passes of restarted samples; the others go on from them."""
        waiting = torch.from_numpy(~self.accepted)
        self.current[waiting] = x[waiting]
        passed = ~self.accepted & np.asarray(self.threshold.keep(scores))
        self.finished[torch.from_numpy(passed)] = x[torch.from_numpy(passed)]
        self.scores[passed], self.accepted[passed] = scores[passed], True
