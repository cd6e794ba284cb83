"""Detectors: a score per sample, larger always meaning more suspect. A score never contains a threshold.

A *trajectory detector* watches the reverse chain: it is a fold over steps, O(1) in memory.
A *sample detector* looks at finished samples, wherever they come from, with the denoiser's help; a *fitted
detector* is one that must first see training data. All are listed in :mod:`intermode.detect.registry`.

What a score costs is counted in network evaluations for each sample, ``nfe``, beyond those that made it; a
backward pass counts as 2 of them, what it costs.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Protocol, TypeAlias

import torch
from torch import Tensor

from intermode.denoisers import Denoiser
from intermode.detect.window import IMAGE_WINDOW, SNR, Fraction, Levels, StepWindow, Window, as_window, places, spread
from intermode.errors import InputError
from intermode.samplers import Step
from intermode.schedules import Schedule

if TYPE_CHECKING:
    from typing_extensions import Self, TypeIs

__all__ = [
    "BACKWARD_NFE",
    "IMAGE_WINDOW",
    "SNR",
    "AtTimesteps",
    "Detector",
    "Features",
    "FittedDetector",
    "Fraction",
    "Levels",
    "SampleDetector",
    "StepWindow",
    "TrajectoryDetector",
    "Window",
    "as_scores",
    "descent_scored",
    "describe",
    "fit_batches",
    "flat",
    "refuse_unfitted",
    "watches",
]

BACKWARD_NFE = 2
"""Network evaluations that a backward pass costs as much as."""
FIT_NUMBERS = 65536
"""Numbers of training data that pass through the network at once while a detector is fitted."""

Features = Callable[[Tensor], Tensor]
"""A feature extractor: samples (B, ...) to vectors (B, F)."""


class TrajectoryDetector(Protocol):
    """A fold over the steps of a batch."""

    name: str
    nfe: int

    @property
    def description(self) -> str:
        """What tells this detector from others of its kind, for the record of a run."""

    def check(self, schedule: Levels, timesteps: Sequence[int]) -> None:
        """Raise InputError if these visited timesteps cannot be scored."""

    def start(self, shape: Sequence[int]) -> None:
        """Begin a batch of ``shape`` (B, ...)."""

    def update(self, step: Step) -> None:
        """Take in one step."""

    def score(self) -> Tensor:
        """(B,) float64 scores of the batch so far."""


class SampleDetector(Protocol):
    """A score of finished samples."""

    name: str

    @property
    def nfe(self) -> int:
        """Network evaluations for each sample."""

    def check(self, schedule: Schedule) -> None:
        """Raise InputError if this schedule cannot be scored."""

    def __call__(self, denoiser: Denoiser, x: Tensor, noise: Callable[[], Tensor], **condition: Any) -> Tensor:
        """(B,) float64 scores of samples (B, ...); ``noise()`` gives standard normal noise shaped like x."""


Detector: TypeAlias = TrajectoryDetector | SampleDetector


def watches(detector: Detector) -> TypeIs[TrajectoryDetector]:
    """Whether it looks at samples while they are made."""
    return hasattr(detector, "update")


def descent_scored(detector: TrajectoryDetector, schedule: Levels, descents: Sequence[Sequence[int]]) -> int:
    """Which descent of a chain that restarts a detector scores: the last that visits every timestep of its window.

    A window never mixes descents; a detector without one sees the chain before all restarts.
    """
    window = getattr(detector, "window", None)
    if window is None:
        return 0
    held = {place.t for place in places(schedule, descents[0]) if window.holds(place)}
    return max(k for k, descent in enumerate(descents) if held <= set(descent))


def describe(detector: Detector) -> str:
    """The settings of a detector in words: what tells it from others of its kind, for the record of a run."""
    told: Any = getattr(detector, "description", None)
    if told is not None:
        return str(told)
    public = {name: v for name, v in vars(detector).items() if not name.startswith("_") and name != "name"}
    shown = {name: v for name, v in public.items() if isinstance(v, int | float | tuple | str) and v != ()}
    words = [f"{name} {' '.join(map(str, v)) if isinstance(v, tuple) else v}" for name, v in shown.items()]
    return ", ".join([*(detector.within if isinstance(detector, AtTimesteps) else ()), *words])


class FittedDetector(SampleDetector, Protocol):
    """A sample detector that must see training data first; until then ``check`` refuses."""

    def fit(self, denoiser: Denoiser, data: Tensor, *, seed: int = 0, **condition: Any) -> None:
        """Learn from training data (n, ...); random numbers belong to (seed, index in the data)."""


def flat(x: Tensor) -> Tensor:
    """The sample itself as its features: (B, ...) to (B, d)."""
    return x.flatten(1)


def fit_batches(data: Tensor, least: int) -> tuple[Tensor, ...]:
    """Training data (n, ...) cut into what passes through a network at once.

    Raises:
        InputError: fewer than ``least`` samples, or some that are not finite.
    """
    if len(data) < least:
        raise InputError(f"data: {len(data)} training samples; must be at least {least}")
    if not torch.isfinite(data).all():
        raise InputError("data: training samples must be finite")
    return data.split(max(1, FIT_NUMBERS // data[0].numel()))


def refuse_unfitted(name: str) -> InputError:
    """The error of a detector that was asked before it saw training data."""
    return InputError(f"{name}: must be fitted on training data first; give some as fit")


class AtTimesteps:
    """What the detectors share that ask the denoiser at some timesteps.

    Attributes:
        timesteps: where, if a schedule need not tell: those given, or those spread over a window of timesteps.
        window: over which they are spread, if they are not given.
        count: how many there are.
    """

    def __init__(
        self,
        timesteps: Sequence[int] | None,
        window: Any,
        count: int | None,
        *,
        default: Sequence[int] | None = None,
        usual: int = 10,
        least: int = 1,
    ) -> None:
        """Takes note of where.

        Args:
            timesteps: given; ``default`` unless there is a window.
            window: see :func:`intermode.detect.window.as_window`.
            count: timesteps spread over the window; unless given as many as ``default`` has, or ``usual``, or as many
                as there are.
            least: fewer are refused.

        Raises:
            InputError: no timesteps, too few, one below 0, one that comes twice, or a window beside them.
        """
        self.timesteps: tuple[int, ...] = ()
        self.window: StepWindow | None = None
        if window is None:
            if count is not None:
                raise InputError("count: timesteps are spread over a window; give window too")
            if timesteps is None and default is None:
                raise InputError("timesteps: give some, or a window")
            self.timesteps = tuple(int(t) for t in (timesteps if timesteps is not None else default or ()))
            self._count = len(self.timesteps)
            if min(self.timesteps, default=-1) < 0 or len(set(self.timesteps)) < self._count:
                listed = ", ".join(map(str, self.timesteps)) or "none"
                raise InputError(f"timesteps: {listed}; must be distinct and at least 0")
            if self._count < least:
                raise InputError(f"timesteps: {self._count} is too few; must be at least {least}")
            return
        if timesteps is not None:
            raise InputError("window: timesteps are given too; choose one of them")
        self.window = as_window(window)
        held = self.window.high - self.window.low + 1 if isinstance(self.window, Window) else None
        wanted = usual if default is None else len(default)
        self._count = min(wanted, held or wanted) if count is None else count
        if self._count < least or (held is not None and self._count > held):
            allowed = f"outside {least}..{held}, the timesteps of the window" if held else f"under {least}"
            raise InputError(f"count: {self._count} is {allowed}")
        if held:
            self.timesteps = spread(self.window, None, self._count)

    @property
    def count(self) -> int:
        return self._count

    @property
    def within(self) -> tuple[str, ...]:
        """The window in words, if there is one."""
        if self.window is None:
            return ()
        return (f"t = {self.window}" if self.timesteps else f"{self.count} timesteps of {self.window}",)

    def moved(self, window: Window) -> Self:
        """The same in another window, at as many timesteps or as many as it has."""
        found = copy.copy(self)
        found.window, found._count = window, min(self._count, window.high - window.low + 1)
        found.timesteps = spread(window, None, found._count)
        return found

    def at(self, schedule: Schedule) -> tuple[int, ...]:
        """The timesteps of this schedule.

        Raises:
            InputError: the schedule does not have all of them.
        """
        if self.window is not None:
            return spread(self.window, schedule, self.count)
        if max(self.timesteps) >= len(schedule):
            raise InputError(f"timesteps: {max(self.timesteps)} is not inside 0..{len(schedule) - 1}, the schedule's")
        return self.timesteps

    def check(self, schedule: Schedule) -> None:
        """Raise InputError if this schedule does not have the timesteps."""
        self.at(schedule)


def as_scores(score: Tensor, x: Tensor) -> Tensor:
    """(B,) float64; inf where the score or the sample x (B, ...) is not finite, most suspect of all."""
    score = score.to(torch.float64)
    finite = torch.isfinite(score) & torch.isfinite(x).flatten(1).all(1)
    return torch.where(finite, score, torch.inf)
