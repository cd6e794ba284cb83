"""Detectors over trajectories that somebody else steps through: one row of scores for each sample, in order."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from intermode.detect import watches
from intermode.detect.registry import Detectors, Setting, resolve
from intermode.errors import InputError
from intermode.samplers import Step

__all__ = ["Recorder", "VisitedLevels"]

IMAGES = Setting((3, 64, 64))
"""What detectors that are given by name are made for: images, of whatever size."""


class VisitedLevels:
    """The levels of the steps to come, by timestep: what a detector's ``check`` asks of a schedule.

    Args:
        levels: (a_t, s_t) of each timestep that will be visited.
        total: T; None if whoever samples does not count timesteps 0..T-1.
        owner: who samples, for the message.
    """

    def __init__(self, levels: Mapping[int, tuple[float, float]], total: int | None, owner: str) -> None:
        self._levels, self._total, self._owner = levels, total, owner

    def __len__(self) -> int:
        if self._total is None:
            raise InputError(
                f"window: {self._owner} does not count timesteps; give a window as a Fraction of the steps or as an SNR"
            )
        return self._total

    def level(self, t: int) -> tuple[float, float]:
        return self._levels[t]


class Recorder:
    """Detectors, and the rows of the trajectories that they have finished.

    Args:
        detectors: one that watches samples while they are made, its name, or several of both.

    Raises:
        InputError: no detector, a name used twice, or a detector of finished samples.
    """

    def __init__(self, detectors: Detectors) -> None:
        self.detectors = tuple(filter(watches, resolve(detectors, IMAGES, "chain")))
        if not self.detectors:
            raise InputError("detectors: there are none")
        self.clear()

    def clear(self) -> None:
        """Forget all rows."""
        self._rows: dict[str, list[np.ndarray]] = {detector.name: [] for detector in self.detectors}
        self._started = False

    def begin(self, levels: VisitedLevels, timesteps: Sequence[int]) -> None:
        """Begin a trajectory; what an unfinished one has shown is forgotten.

        Raises:
            InputError: these timesteps cannot be scored.
        """
        self._started = False
        for detector in self.detectors:
            detector.check(levels, timesteps)

    def update(self, step: Step) -> None:
        """Show a step to all detectors."""
        for detector in self.detectors:
            if not self._started:
                detector.start(step.x0_hat.shape)
            detector.update(step)
        self._started = True

    def finish(self) -> None:
        """End the trajectory: its scores become rows.

        Raises:
            InputError: a detector that cannot score what it was shown.
        """
        scores = {detector.name: detector.score().cpu().numpy() for detector in self.detectors}  # all or none
        for name, score in scores.items():
            self._rows[name].append(score)

    def last(self, name: str) -> np.ndarray:
        """(B,) scores of the trajectory that was finished last."""
        return self._rows[name][-1]

    def rescore(self, name: str, scores: np.ndarray) -> None:
        """Put other scores (B,) in the place of those of the trajectory that was finished last."""
        self._rows[name][-1] = scores

    @property
    def scores(self) -> dict[str, np.ndarray]:
        """A (n,) float64 array for each detector, n samples in the order in which they were finished.

        Raises:
            InputError: no trajectory has been finished.
        """
        if not all(self._rows.values()):
            raise InputError("scores: there are none, since no trajectory was watched to its end")
        return {name: np.concatenate(rows) for name, rows in self._rows.items()}
