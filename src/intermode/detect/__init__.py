"""Detectors: a score per sample, larger always meaning more suspect. A score never contains a threshold.

A *trajectory detector* watches the reverse chain: it is a fold over steps, O(1) in memory.
A *sample detector* looks at finished samples, wherever they come from, with the denoiser's help.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Protocol

from torch import Tensor

from intermode.denoiser import Denoiser
from intermode.detect.window import IMAGE_WINDOW, SNR, Fraction, Levels, StepWindow, Window
from intermode.sampler import Step
from intermode.schedule import Schedule

__all__ = [
    "IMAGE_WINDOW",
    "SNR",
    "Fraction",
    "Levels",
    "SampleDetector",
    "StepWindow",
    "TrajectoryDetector",
    "Window",
]


class TrajectoryDetector(Protocol):
    """A fold over the steps of a batch."""

    name: str

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

    def check(self, schedule: Schedule) -> None:
        """Raise InputError if this schedule cannot be scored."""

    def __call__(self, denoiser: Denoiser, x: Tensor, noise: Callable[[], Tensor], **condition: Any) -> Tensor:
        """(B,) float64 scores of samples (B, ...); ``noise()`` gives standard normal noise shaped like x."""
