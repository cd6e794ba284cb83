r"""Critical windows of a pipeline of `diffusers`, whatever it is told: the pipeline itself restarts its samples.

A pipeline goes through the timesteps that its scheduler lays out. If those up to a level follow once more,

.. math::
    t_1 > \dots > t_N, \quad t_j > \dots > t_N,

all that is to be done in between is to noise the finished samples by the scheduler's ``add_noise``. Each level is a
call of the pipeline of its own, with the same generators: it draws the same samples, and then restarts them. What is
compared are samples as the scheduler sees them, latents where the pipeline has some.
"""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from types import MethodType
from typing import Any

import torch
from torch import Tensor

from intermode.critical import CriticalWindows, Trial
from intermode.detect import Features
from intermode.errors import InputError
from intermode.integrations.restarting import RETURNING
from intermode.noise import NoiseStream, draws
from intermode.progress import Progress
from intermode.schedules import from_diffusers
from intermode.values import as_whole
from intermode.verbs import shown, strict

__all__ = ["pipeline_windows"]


@strict
def pipeline_windows(
    pipe: Any,
    n: int = 128,
    *,
    call: Mapping[str, Any] | None = None,
    levels: Sequence[int] | None = None,
    scale: float | None = None,
    features: Features | None = None,
    seed: int = 0,
    progress: Progress | bool | None = None,
) -> CriticalWindows:
    """Find the noise levels at which a pipeline decides what a sample is; see :func:`intermode.critical_windows`.

    Args:
        pipe: whose scheduler can go back: a ``DDPMScheduler`` or ``DDIMScheduler``.
        n: samples, drawn by as many calls as it takes.
        call: the pipeline's own arguments: ``prompt``, ``class_labels``, ``num_inference_steps``, ... A call draws as
            many samples as these say.
        levels: timesteps; each stands for the pipeline's own that comes next under it. Evaluations count each
            sample's steps, whether or not guidance doubles them.
        scale, features, seed, progress: see :func:`intermode.critical_windows`; features are of latents.

    Raises:
        InputError: another scheduler, fewer than 20 samples, or ``call`` with a generator.
    """
    scheduler = getattr(pipe, "scheduler", None)
    if type(scheduler).__name__ not in RETURNING:
        raise InputError(
            f"pipe: {type(scheduler).__name__} remembers its steps and cannot go back; take {' or '.join(RETURNING)}: "
            "pipe.scheduler = DDIMScheduler.from_config(pipe.scheduler.config)"
        )
    if as_whole("n", n, 1) < 20:
        raise InputError(f"n: {n} samples are too few to see a share rise; must be at least 20")
    given = dict(call or {})
    if "generator" in given:
        raise InputError("call: the generators are made from the seed; leave generator out")
    laps = _Laps(pipe, given, n, as_whole("seed", seed, 0), shown(progress))
    x, evaluations = laps.drawn()
    trial = Trial(from_diffusers(scheduler), x, laps, seed, scale, features)
    trial.evaluations += evaluations
    return trial.run(None if levels is None else sorted({as_whole("levels", t, 0) for t in levels}))


class _Laps:
    """A pipeline whose chain is followed by a restart of all its samples from a level."""

    def __init__(self, pipe: Any, call: Mapping[str, Any], n: int, seed: int, progress: Progress) -> None:
        self.pipe, self.call, self.n, self.seed, self.progress = pipe, call, n, seed, progress

    def drawn(self) -> tuple[Tensor, int]:
        """(n, *shape) samples, and the steps that they took."""
        return self._go(None)

    def __call__(self, t: int) -> tuple[Tensor, int]:
        """The same samples restarted from t, and the steps that all of it took."""
        return self._go(t)

    def _go(self, level: int | None) -> tuple[Tensor, int]:
        label = "sampling" if level is None else f"restarting from t = {level}"
        parts: list[Tensor] = []
        steps = 0
        with self.progress.task(label, self.n, 0, "samples") as task:
            while (first := sum(map(len, parts))) < self.n:
                generator = torch.Generator().manual_seed(int(draws(self.seed, "sample", first).integers(2**63)))
                with _Lap(self.pipe.scheduler, level, self.seed, first) as lap:
                    self.pipe(generator=generator, **self.call)
                if lap.result is None:
                    raise InputError("pipe: did not go through its scheduler's timesteps; it cannot be restarted")
                parts.append(lap.result.float().cpu())
                steps += len(lap.result) * lap.steps
                task.advance(min(len(lap.result), self.n - first))
        return torch.cat(parts)[: self.n], steps


class _Lap:
    """Lays out one call's restart, and catches what came of it.

    Attributes:
        result: (B, ...) the samples at the end; None until then.
        steps: that were made.
    """

    def __init__(self, scheduler: Any, level: int | None, seed: int, first: int) -> None:
        self.scheduler, self.level, self.seed, self.first = scheduler, level, seed, first
        self.result: Tensor | None = None
        self.steps = 0
        self._whole: Any = None

    def __enter__(self) -> _Lap:
        scheduler, kind = self.scheduler, type(self.scheduler)
        set_timesteps, step = scheduler.set_timesteps, scheduler.step
        arguments = inspect.signature(step)

        def laid_out(_: Any, *args: Any, **kwargs: Any) -> None:
            set_timesteps(*args, **kwargs)
            self._whole, again = scheduler.timesteps, scheduler.timesteps[:0]
            if self.level is not None:
                under = self._whole[self._whole <= self.level]
                again = under if len(under) else self._whole[-1:]
            self._again, self.steps = again, 0
            scheduler.timesteps = torch.cat([self._whole, again])

        def stepped(_: Any, *args: Any, **kwargs: Any) -> Any:
            if self._whole is None:
                return step(*args, **kwargs)
            laid, scheduler.timesteps = scheduler.timesteps, self._whole  # its own, to find the next one by
            result = step(*args, **kwargs)
            scheduler.timesteps = laid
            self.steps += 1
            x = result.prev_sample if hasattr(result, "prev_sample") else result[0]
            sample = arguments.bind(*args, **kwargs).arguments["sample"]
            if self.steps == len(self._whole) and len(self._again):
                x = self._noised(x, sample)
            elif self.steps == len(self._whole) + len(self._again):
                self.result = x[: self._rows(sample)]
            if hasattr(result, "prev_sample"):
                result.prev_sample = x
                return result
            return (x, *result[1:])

        # pipelines ask which arguments these take
        laid_out.__signature__ = inspect.signature(kind.set_timesteps)  # type: ignore[attr-defined]
        stepped.__signature__ = inspect.signature(kind.step)  # type: ignore[attr-defined]
        vars(scheduler)["set_timesteps"] = MethodType(laid_out, scheduler)
        vars(scheduler)["step"] = MethodType(stepped, scheduler)
        return self

    def __exit__(self, *_: object) -> None:
        for name in ("set_timesteps", "step"):
            del vars(self.scheduler)[name]
        if self._whole is not None:
            self.scheduler.timesteps = self._whole

    def _rows(self, sample: Tensor) -> int:
        """Of a batch: half, where the second half repeats the first (DiT steps both, for guidance)."""
        halves = sample.chunk(2) if len(sample) % 2 == 0 else ()
        return len(sample) // 2 if len(halves) == 2 and torch.equal(*halves) else len(sample)

    def _noised(self, x: Tensor, sample: Tensor) -> Tensor:
        rows = self._rows(sample)
        t = int(self._again[0])
        noise = NoiseStream(self.seed, self.first, rows, x.shape[1:], purpose="renoise", restart=t)()
        at = torch.full((rows,), t, device=x.device)
        x_t = self.scheduler.add_noise(x[:rows], noise.to(x.device, x.dtype), at)
        return torch.cat([x_t] * (len(x) // rows))
