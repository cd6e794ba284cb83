"""Detectors: a score per sample, larger always meaning more suspect. A score never contains a threshold.

A *trajectory detector* watches the reverse chain: it is a fold over steps, O(1) in memory.
A *sample detector* looks at finished samples, wherever they come from, with the denoiser's help.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from torch import Tensor

from intermode.denoiser import Denoiser
from intermode.errors import InputError
from intermode.sampler import Step
from intermode.schedule import Schedule

__all__ = ["SampleDetector", "TrajectoryDetector", "Window"]


@dataclass(frozen=True)
class Window:
    """The timesteps ``low .. high``, both included, as the paper writes them ("t = 0 to t = 15").

    Raises:
        InputError: an empty window, or one that starts below 0.
    """

    low: int
    high: int

    def __post_init__(self) -> None:
        if self.low < 0 or self.high < self.low:
            raise InputError(f"window: {self.low}..{self.high} is empty or starts below 0; need 0 <= low <= high")

    def __contains__(self, t: int) -> bool:
        return self.low <= t <= self.high

    def check(self, schedule: Schedule, timesteps: Sequence[int]) -> None:
        """Raise unless the window lies in [0, T) and at least two visited timesteps fall in it."""
        if self.high >= len(schedule):
            raise InputError(f"window: {self.low}..{self.high} is not inside 0..{len(schedule) - 1}, the timesteps")
        visited = sum(t in self for t in timesteps)
        if visited < 2:
            raise InputError(
                f"window: {self.low}..{self.high} holds {visited} of the {len(timesteps)} visited timesteps; "
                "a variance needs at least 2"
            )


class TrajectoryDetector(Protocol):
    """A fold over the steps of a batch."""

    name: str

    @property
    def description(self) -> str:
        """What tells this detector from others of its kind, for the record of a run."""

    def check(self, schedule: Schedule, timesteps: Sequence[int]) -> None:
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
