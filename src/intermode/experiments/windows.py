"""Hal at several windows 0..end: the best one is chosen on half of the samples and judged on the other half."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np

from intermode import plots
from intermode.detect.hal import Hal
from intermode.evaluate import Detection, detection

__all__ = ["Windows", "choosing_half", "compare", "detectors"]


def detectors(ends: Iterable[int], timesteps: int) -> list[Hal]:
    """Hal at each window 0..end that the schedule has."""
    return [Hal(0, end, name=f"hal-0-{end}") for end in ends if end < timesteps]


def choosing_half(n: int) -> np.ndarray:
    """(n,) bool; the halves alternate, so that neither holds the start of the run alone."""
    return np.arange(n) % 2 == 0


@dataclass(frozen=True)
class Windows:
    """What each window can do on the judging half.

    Attributes:
        judged: by the window's end.
        best: the end that did best on the choosing half.
    """

    judged: Mapping[int, Detection]
    best: int

    @property
    def rows(self) -> list[dict[str, Any]]:
        """A row for each window, each statistic as value, low, high."""
        return [
            {"window": [0, end], **{f.name: list(getattr(found, f.name).triple) for f in fields(Detection)}}
            for end, found in self.judged.items()
        ]

    def draw(self, path: Path) -> None:
        """The statistics against the end of the window."""
        lines: dict[str, Any] = {
            label: tuple(zip(*(getattr(found, name).triple for found in self.judged.values()), strict=True))
            for label, name in (
                ("AUROC", "auroc"),
                ("kept at 95 % removed", "kept_at_95_removed"),
                ("removed at 95 % kept", "removed_at_95_kept"),
            )
        }
        plots.curves(path, list(self.judged), lines, x_label="last timestep of the window from 0", y_label="share")


def compare(scores: Mapping[str, np.ndarray], bad: np.ndarray, seed: int, criterion: str) -> Windows | None:
    """Judge all windows of :func:`detectors`.

    Args:
        scores: by detector name.
        bad: (n,) bool, hallucinated.
        seed: of the bootstrap.
        criterion: the statistic of :class:`intermode.evaluate.Detection` by which the best is chosen.

    Returns:
        None if a half has fewer than two samples of a class.
    """
    choose = choosing_half(len(bad))
    if min(bad[choose].sum(), bad[~choose].sum(), (~bad[choose]).sum(), (~bad[~choose]).sum()) < 2:
        return None
    # sorted: scores that were read back from a file come in another order
    by_end = dict(sorted((int(name.rsplit("-", 1)[1]), s) for name, s in scores.items() if name.startswith("hal-0-")))
    quality = {e: getattr(detection(s[choose], bad[choose], resamples=1), criterion).value for e, s in by_end.items()}
    judged = {end: detection(s[~choose], bad[~choose], seed=seed) for end, s in by_end.items()}
    return Windows(judged, max(quality, key=lambda end: quality[end]))
