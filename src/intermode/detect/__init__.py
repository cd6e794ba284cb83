"""Detectors: a score per sample, larger always meaning more suspect. A score never contains a threshold.

A *trajectory detector* watches the reverse chain: it is a fold over steps, O(1) in memory.
A *sample detector* looks at finished samples, wherever they come from, with the denoiser's help; a *fitted
detector* is one that must first see training data. All are listed in :mod:`intermode.detect.registry`.

What a score costs is counted in network evaluations for each sample, ``nfe``, beyond those that made it; a
backward pass counts as 2 of them, what it costs.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Protocol, TypeAlias

import torch
from torch import Tensor

from intermode.denoisers import Denoiser
from intermode.detect.window import IMAGE_WINDOW, SNR, Fraction, Levels, StepWindow, Window
from intermode.errors import InputError
from intermode.samplers import Step
from intermode.schedules import Schedule

if TYPE_CHECKING:
    from typing_extensions import TypeIs

__all__ = [
    "BACKWARD_NFE",
    "IMAGE_WINDOW",
    "SNR",
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
    "check_timesteps",
    "chosen_timesteps",
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


def describe(detector: Detector) -> str:
    """The settings of a detector in words: what tells it from others of its kind, for the record of a run."""
    if watches(detector):
        return detector.description
    public = {name: v for name, v in vars(detector).items() if not name.startswith("_") and name != "name"}
    window: Any = public.get("window")
    shown = {name: v for name, v in public.items() if isinstance(v, int | float | tuple | str)}
    words = [f"{name} {' '.join(map(str, v)) if isinstance(v, tuple) else v}" for name, v in shown.items()]
    return ", ".join([*([f"t = {window.low}..{window.high}"] if window else []), *words])


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
    return InputError(f"{name}: must be fitted on training data first")


def chosen_timesteps(timesteps: Sequence[int]) -> tuple[int, ...]:
    """The timesteps that a detector evaluates at, as it keeps them.

    Raises:
        InputError: none, one below 0, or one that comes twice.
    """
    chosen = tuple(int(t) for t in timesteps)
    if not chosen or min(chosen) < 0 or len(set(chosen)) < len(chosen):
        raise InputError(f"timesteps: {', '.join(map(str, chosen)) or 'none'}; must be distinct and at least 0")
    return chosen


def check_timesteps(timesteps: Sequence[int], schedule: Schedule) -> None:
    """Raise InputError unless the schedule has all of them."""
    if max(timesteps) >= len(schedule):
        raise InputError(f"timesteps: {max(timesteps)} is not inside 0..{len(schedule) - 1}, the schedule's")


def as_scores(score: Tensor, x: Tensor) -> Tensor:
    """(B,) float64; inf where the score or the sample x (B, ...) is not finite, most suspect of all."""
    score = score.to(torch.float64)
    finite = torch.isfinite(score) & torch.isfinite(x).flatten(1).all(1)
    return torch.where(finite, score, torch.inf)
