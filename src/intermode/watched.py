"""The detectors that watch a chunk of chains while they are made, and those that join in for some of its rows."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import replace

from torch import Tensor

from intermode.denoisers import Denoiser
from intermode.detect import TrajectoryDetector
from intermode.samplers import Step
from intermode.schedules import CLEAN

__all__ = ["Watched", "copied"]


def copied(detector: TrajectoryDetector, denoiser: Denoiser) -> TrajectoryDetector:
    """Another one with the same settings; a denoiser that it holds stays the same one."""
    return copy.deepcopy(detector, {id(denoiser): denoiser})


class Watched:
    """The detectors that watch a chunk of chains, and those that have been begun within it.

    Args:
        detectors: watch all chains.
        descents: which descent each scores.
        shape: of the chunk.
        denoiser: which detectors may hold, and share.
    """

    def __init__(
        self,
        detectors: Sequence[TrajectoryDetector],
        descents: Sequence[int],
        shape: Sequence[int],
        denoiser: Denoiser,
    ) -> None:
        self._denoiser = denoiser
        self._detectors, self._descents, self._shape = detectors, descents, tuple(shape)
        self._groups: list[tuple[Tensor, Watched]] = []
        for detector in detectors:
            detector.start(self._shape)

    def join(self, rows: Tensor) -> Watched:
        """Watch other chains in some rows from their beginning; later steps of the chunk are theirs, too."""
        own = [copied(detector, self._denoiser) for detector in self._detectors]
        group = Watched(own, self._descents, (len(rows), *self._shape[1:]), self._denoiser)
        self._groups.append((rows, group))
        return group

    def update(self, step: Step) -> None:
        """Take in a step of the chunk."""
        for detector, descent in zip(self._detectors, self._descents, strict=True):
            if step.restart == descent and step.t != CLEAN:
                detector.update(step)
        for rows, group in self._groups:
            cut = {name: getattr(step, name)[rows] for name in ("x_t", "x0_hat", "x_next")}
            group.update(replace(step, **cut))

    def score(self) -> dict[str, Tensor]:
        """(B,) scores of each detector, of those chains that have come to their end."""
        found = {detector.name: detector.score() for detector in self._detectors}
        for rows, group in self._groups:
            for name, scores in group.score().items():
                found[name][rows] = scores
        return found
