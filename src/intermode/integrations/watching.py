r"""Scores for the samples of any `diffusers` pipeline: ``with watch(pipe) as watched: images = pipe(...)``.

Pipelines show neither :math:`\hat x_0` nor, most of them, their steps. But all call their scheduler's ``step`` with
(output, timestep, sample), and from these :math:`\hat x_0` follows (:mod:`intermode.integrations.schedulers`). So
``step`` is wrapped on the scheduler object while the block runs; the pipeline and its results stay as they are. A
scheduler alone, in a loop of one's own, is watched in the same way.
"""

from __future__ import annotations

import inspect
import warnings
from dataclasses import dataclass, replace
from types import MethodType, TracebackType
from typing import Any

import numpy as np
import torch
from torch import Tensor

from intermode.detect import StepWindow, TrajectoryDetector
from intermode.detect.registry import DEFAULTS, Detectors
from intermode.detect.window import as_window, places
from intermode.errors import InputError
from intermode.integrations.recording import Recorder, VisitedLevels
from intermode.integrations.restarting import Mended, Restarting
from intermode.integrations.schedulers import Handling, Plan, handling, plan
from intermode.repairs import Repair
from intermode.samplers import Step
from intermode.thresholds import Kept, Threshold, keep
from intermode.verbs import strict

__all__ = ["Watch", "watch"]

REFUSED_PIPELINES = {
    "StableDiffusionPanoramaPipeline": "steps every view of a picture by itself",
    "TextToVideoSDPipeline": "steps the frames of a video as samples",
    "TextToVideoZeroPipeline": "steps the frames of a video as samples",
    "TextToVideoZeroSDXLPipeline": "steps the frames of a video as samples",
    "VideoToVideoSDPipeline": "steps the frames of a video as samples",
}


@strict
def watch(
    pipe_or_scheduler: Any,
    detectors: Detectors = DEFAULTS["chain"],
    *,
    decode: StepWindow | tuple[int, int] | None = None,
    repair: Repair | None = None,
) -> Watch:
    """Watch a `diffusers` pipeline, or a scheduler in a loop of your own, sample.

    Args:
        pipe_or_scheduler: used inside the ``with`` block as always, once or more often.
        detectors: a detector that watches samples while they are made, its name, or several of both; ``"hal"`` is
            ``Hal(window=IMAGE_WINDOW)``. Objects must not be in use elsewhere.
        decode: for latent models, the steps whose x0_hat the pipeline's VAE decodes to images, one image at a
            time. Detectors are then shown these steps only, with x0_hat (B, 3, H, W) in about -1..1. None shows
            all steps as they are, in latent space.
        repair: restarts the images that its detector flags, before the pipeline hands them out; with DDPM's and DDIM's
            scheduler alone (:mod:`intermode.integrations.restarting`). Its detector watches; unless given it is the
            first one, and the level unless given the noisiest timestep of its window.

    Raises:
        InputError: a pipeline without a scheduler, a scheduler that is not known or has no x0_hat, detectors
            that share a name or need finished images, or ``decode`` without a VAE that decodes images. In the block:
            a scheduler that the pipeline does not work with.
    """
    return Watch(pipe_or_scheduler, detectors, decode, repair)


class Watch:
    """A context manager; see :func:`watch`. Entered again, it begins with no rows."""

    def __init__(
        self, pipe_or_scheduler: Any, detectors: Detectors, decode: Any = None, repair: Repair | None = None
    ) -> None:
        self._pipe = pipe_or_scheduler
        self._bare = not hasattr(self._pipe, "scheduler") and hasattr(self._pipe, "step")
        if self._scheduler is None:
            raise InputError(f"pipe: {type(self._pipe).__name__} has no scheduler to watch, and is none")
        for name, why in REFUSED_PIPELINES.items():
            if _is_a(self._pipe, name):
                raise InputError(f"pipe: {name} {why}, so that scores would not match its results")
        handling(self._scheduler)
        if decode is not None:
            _check_vae(self._pipe)
        self._decode = None if decode is None else as_window(decode)
        if repair is not None and repair.detector is not None:
            detectors = repair.detector  # it alone is shown the restarts
        self._recorder = Recorder(detectors)
        self._repair = repair
        self._restarting: Restarting | None = None
        if repair is not None:
            _ = Restarting(self._scheduler, repair, self.detectors[0])
        self._tap: _Tap | None = None
        self._run: _Run | None = None

    @property
    def _scheduler(self) -> Any:
        return self._pipe if self._bare else getattr(self._pipe, "scheduler", None)

    @property
    def detectors(self) -> tuple[TrajectoryDetector, ...]:
        return self._recorder.detectors

    @property
    def repairs(self) -> bool:
        """Whether it restarts what is flagged."""
        return self._repair is not None

    @property
    def scores(self) -> dict[str, np.ndarray]:
        """A (n,) float64 array for each detector, row i belonging to the i-th image returned in the block.

        A call that was cut short (by an exception, ``denoising_end`` or an interrupt) leaves no rows.

        Raises:
            InputError: no call has been watched to its end.
        """
        return self._recorder.scores

    @property
    def mended(self) -> Mended:
        """What the repair did, row i belonging to the i-th image returned in the block.

        Raises:
            InputError: no repair was asked for, or no batch has been finished.
        """
        if self._restarting is None:
            raise InputError("repair: was not asked for; give watch one")
        return self._restarting.mended

    def keep(self, threshold: Threshold | float, by: str | None = None) -> Kept:
        """Which images to keep, in the order in which they were returned; prints how many that are.

        Args:
            threshold: or the share with the lowest scores; where that is all of few images, a warning says so.
            by: name of the score; None is the first detector's.

        Raises:
            InputError: a share outside (0, 1), a threshold of another score, or no call watched to its end.
        """
        return keep(self.scores, threshold, by)

    def __enter__(self) -> Watch:
        if self._tap is not None:
            raise InputError("watch: already watching; enter a watch of its own inside")
        scheduler = self._scheduler
        handling(scheduler)  # it may have been exchanged since
        self._recorder.clear()
        self._run = None
        self._tap = _Tap.on(scheduler)
        try:
            self._tap.add(self)
        except InputError:
            self._tap = None
            raise
        if self._repair is not None:
            self._restarting = Restarting(scheduler, self._repair, self.detectors[0])
            self._restarting.begin()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._tap is not None
        exchanged = self._scheduler is not self._tap.scheduler
        self._tap.remove(self)
        self._tap = None
        if self._restarting is not None:
            self._restarting.end()
        if kind is None:
            if exchanged:
                raise InputError("watch: the pipeline's scheduler was exchanged inside; exchange it before")
            self._drop_unfinished()
        self._run = None

    def _drop_unfinished(self) -> None:
        if self._run is not None:
            done, of = self._run.index, self._run.steps
            warnings.warn(
                f"watch: sampling stopped after {done} of {of} steps; these samples get no scores", stacklevel=4
            )
        self._run = None

    def before(self, scheduler: Any) -> None:
        """Look at a scheduler that is about to step: in sigma space, has the network's input been scaled?"""
        if self._restarting is not None:
            self._restarting.before()
        if not handling(scheduler).scales or scheduler.step_index is not None:  # scaling finds the index
            return
        name, pipe = type(scheduler).__name__, type(self._pipe).__name__
        if not self._bare:
            raise InputError(
                f"scheduler: {name} needs scale_model_input, which {pipe} does not call, so that its images and "
                "scores would be wrong; choose one that keeps x_t as the network sees it, such as DDIMScheduler"
            )
        warnings.warn(
            f"watch: {name} steps without scale_model_input; unless your loop scales the network's input itself, its "
            "samples and scores mean nothing",
            stacklevel=3,
        )

    @torch.no_grad()
    def saw(self, scheduler: Any, call: dict[str, Any], result: Any) -> Any:
        """Take in one finished call of ``step``; its result, which a repair may change."""
        if self._restarting is not None:
            return self._restarting.saw(self, call, result)
        self.take(scheduler, call, result)
        return result

    def take(self, scheduler: Any, call: dict[str, Any], result: Any) -> _Run:
        """Show a finished call of ``step`` to the detectors; the trajectory that it belongs to."""
        sample = call["sample"]
        if call.get("per_token_timesteps") is not None:
            raise InputError(f"scheduler: {type(scheduler).__name__} with a timestep for each token has no one x0_hat")
        run = self._run
        if run is not None and scheduler.timesteps is not run.timesteps:  # set_timesteps makes another tensor
            self._drop_unfinished()
            run = None
        position = _position(scheduler, call["timestep"], run)
        if run is None or position != run.position + 1:
            self._drop_unfinished()
            run = self._begin(scheduler, position, sample)
        run.position = position
        rows = len(sample) // 2 if run.doubled else len(sample)
        x_next = (result.prev_sample if hasattr(result, "prev_sample") else result[0])[:rows]
        if run.first[position]:
            run.pending = run.step(scheduler, call, rows)
        finished = position + 1 == len(run.first)
        if finished or run.first[position + 1]:
            assert run.pending is not None
            self._show(replace(run.pending, x_next=run.scaled(_exact(x_next), position + 1)))
            run.pending = None
            run.index += 1
        if finished:
            self._run = None
            self._recorder.finish()
        return run

    def last_scores(self, name: str) -> np.ndarray:
        """(B,) of the trajectory that was finished last."""
        return self._recorder.last(name)

    def rescore(self, name: str, scores: np.ndarray) -> None:
        """Put other scores (B,) in the place of those."""
        self._recorder.rescore(name, scores)

    def _begin(self, scheduler: Any, position: int, sample: Tensor) -> _Run:
        run = _Run.of(scheduler, position)
        # DiTPipeline alone steps the unconditional half of the batch too, and throws it away in the end
        halves = sample.chunk(2) if _is_a(self._pipe, "DiTPipeline") and len(sample) % 2 == 0 else ()
        run.doubled = len(halves) == 2 and torch.equal(*halves)
        levels: dict[int, tuple[float, float]] = {}
        for t, at in zip(run.t, run.positions, strict=True):
            levels.setdefault(t, run.plan.level(at))
        visited = VisitedLevels(levels, run.plan.total, type(scheduler).__name__)
        if self._decode is not None and not any(map(self._decode.holds, places(visited, run.t))):
            raise InputError(f"decode: {self._decode} holds none of the {run.steps} steps")
        self._recorder.begin(visited, run.t)
        self._run = run
        return run

    def _show(self, step: Step) -> None:
        if (shown := self.shown(step)) is not None:
            self._recorder.update(shown)

    def shown(self, step: Step) -> Step | None:
        """A step as detectors are shown it; None for one that is not decoded where others are."""
        if self._decode is None:
            return step
        return replace(step, x0_hat=_decoded(self._pipe.vae, step.x0_hat)) if self._decode.holds(step) else None


@dataclass
class _Run:
    """A trajectory under way.

    Attributes:
        timesteps: the scheduler's own tensor: ``set_timesteps`` makes another.
        plan, how: what is known of its calls.
        first: for each of the scheduler's calls, whether it begins a step.
        positions, t: of the calls that begin steps, from where this trajectory starts.
        position: of the last call.
        index: of the step under way.
        pending: the step under way, until its last call.
        doubled: the second half of the batch repeats the first.
    """

    timesteps: Any
    plan: Plan
    how: Handling
    first: list[bool]
    positions: list[int]
    t: list[int]
    position: int
    index: int = 0
    pending: Step | None = None
    doubled: bool = False

    @classmethod
    def of(cls, scheduler: Any, start: int) -> _Run:
        how = handling(scheduler)
        calls = plan(scheduler, how)
        total = len(calls.times)
        first = [False] * start + how.first_calls(scheduler, total - start)
        positions = [position for position in range(total) if first[position]]
        # without timesteps, steps are told apart by how many are left
        t = list(range(len(positions)))[::-1] if calls.t is None else [int(calls.t[position]) for position in positions]
        return cls(scheduler.timesteps, calls, how, first, positions, t, start)

    @property
    def steps(self) -> int:
        return len(self.positions)

    def step(self, scheduler: Any, call: dict[str, Any], rows: int) -> Step:
        """What a finished call at the position, of so many samples, says of its step, but for what comes after it."""
        x = _exact(call["sample"][:rows])
        x0_hat = call.get("pred_original_sample")  # a pipeline may have worked it out itself
        if x0_hat is None:
            x0_hat = self.x0_hat(scheduler, x, _exact(call["model_output"][:rows]))
        x_t, level = self.scaled(x, self.position), self.plan.level(self.position)
        index = self.positions.index(self.position)
        return Step(index, self.t[index], x_t, _exact(x0_hat[:rows]), x_t, self.steps, level)

    def scaled(self, x: Tensor, position: int) -> Tensor:
        """x_t of a sample at a call."""
        scale = float(self.plan.scale[position])
        return x if scale == 1 else x * scale

    def x0_hat(self, scheduler: Any, x: Tensor, output: Tensor) -> Tensor:
        if output.ndim > 1 and output.shape[1] == 2 * x.shape[1]:  # the second half is a learned variance
            output = output[:, : x.shape[1]]
        if output.shape != x.shape:
            raise InputError(f"pipe: the output has shape {tuple(output.shape)}, the sample {tuple(x.shape)}")
        signal, noise = float(self.plan.signal[self.position]), float(self.plan.noise[self.position])
        return self.how.x0_hat(scheduler, x, output, signal, noise)


def _is_a(pipe: Any, name: str) -> bool:
    return any(kind.__name__ == name for kind in type(pipe).__mro__)


def _exact(x: Tensor) -> Tensor:
    """At least float32: in half precision x - S o would lose x0_hat among the noise."""
    return x if x.dtype in (torch.float32, torch.float64) else x.float()


def _position(scheduler: Any, timestep: Any, run: _Run | None) -> int:
    """Which of the scheduler's calls has just been made."""
    if (run.how if run is not None else handling(scheduler)).indexed:
        return int(scheduler.step_index) - 1
    t = float(timestep.reshape(-1)[0]) if isinstance(timestep, Tensor) else float(timestep)
    if run is not None and run.position + 1 < len(run.plan.times) and run.plan.times[run.position + 1] == t:
        return run.position + 1  # PNDM visits one timestep twice
    times = scheduler.timesteps.tolist()
    if t not in times:
        raise InputError(f"timestep: {t:g} is not one of the scheduler's; call set_timesteps first")
    return times.index(t)


class _Tap:
    """What stands in the place of a scheduler's ``step``, and tells all watches of a call when it is done.

    It is bound to the scheduler as a method is, so that a deep copy of the scheduler, as some pipelines make, steps
    itself and not the original, unwatched.
    """

    def __init__(self, scheduler: Any) -> None:
        self.scheduler = scheduler
        self._own = vars(scheduler).get("step")  # somebody else's patch, to be put back
        self._step = scheduler.step
        self._watches: list[Watch] = []
        # pipelines ask which arguments step takes
        self.__signature__ = inspect.signature(type(scheduler).step)
        self._arguments = inspect.signature(MethodType(type(scheduler).step, scheduler))

    def __call__(self, scheduler: Any, *args: Any, **kwargs: Any) -> Any:
        if scheduler is not self.scheduler:
            return type(scheduler).step(scheduler, *args, **kwargs)
        for watching in tuple(self._watches):
            watching.before(scheduler)
        result = self._step(*args, **kwargs)
        call = self._arguments.bind(*args, **kwargs).arguments
        for watching in tuple(self._watches):
            result = watching.saw(scheduler, call, result)
        return result

    @classmethod
    def on(cls, scheduler: Any) -> _Tap:
        """The scheduler's tap, put there if there is none."""
        found = getattr(vars(scheduler).get("step"), "__func__", None)
        if isinstance(found, _Tap):
            return found
        return cls(scheduler)

    def add(self, watching: Watch) -> None:
        """Tell this watch too.

        Raises:
            InputError: it shares a detector with another one.
        """
        used = {id(detector) for other in self._watches for detector in other.detectors}
        if any(id(detector) in used for detector in watching.detectors):
            raise InputError("detectors: one is in use by another watch of this pipeline; give each its own")
        if self._watches and any(each.repairs for each in (*self._watches, watching)):
            raise InputError("repair: a pipeline that is repaired is watched once; give all detectors to one watch")
        if not self._watches:
            vars(self.scheduler)["step"] = MethodType(self, self.scheduler)
        self._watches.append(watching)

    def remove(self, watching: Watch) -> None:
        """Tell this watch no more; the last one gone, the scheduler is as it was."""
        self._watches.remove(watching)
        if not self._watches:
            if self._own is None:
                del vars(self.scheduler)["step"]
            else:
                vars(self.scheduler)["step"] = self._own


def _check_vae(pipe: Any) -> None:
    vae = getattr(pipe, "vae", None)
    if vae is None or not hasattr(vae, "decode") or getattr(vae.config, "latent_channels", None) is None:
        raise InputError(f"decode: {type(pipe).__name__} has no VAE to decode x0_hat with")


def _decoded(vae: Any, latents: Tensor) -> Tensor:
    """(B, 3, H, W) images of (B, C, h, w) latents, as the pipeline decodes its result; one at a time."""
    config = vae.config
    if latents.ndim != 4 or latents.shape[1] != config.latent_channels:
        raise InputError(f"decode: x0_hat of shape {tuple(latents.shape)} is no image's latents for this VAE")
    scaling = getattr(config, "scaling_factor", None) or 1.0
    mean, std = getattr(config, "latents_mean", None), getattr(config, "latents_std", None)
    if mean is not None and std is not None:
        mean, std = (latents.new_tensor(values).reshape(1, -1, 1, 1) for values in (mean, std))
        latents = latents * std / scaling + mean
    else:
        latents = latents / scaling + (getattr(config, "shift_factor", None) or 0.0)
    return torch.cat([vae.decode(one[None].to(vae.dtype)).sample.float() for one in latents])
