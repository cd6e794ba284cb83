"""Hal at several windows: the best one is chosen on half of the samples and judged on the other half."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np

from intermode import plots
from intermode.detect.hal import Hal
from intermode.evaluation import Detection, Estimate, detection

__all__ = ["Windows", "choosing_half", "compare", "detection_values", "detectors", "draw_windows", "from_zero"]

Ends = tuple[int, int]
"""The first and the last timestep of a window, both included."""


def from_zero(ends: Iterable[int]) -> list[Ends]:
    """The windows 0..end."""
    return [(0, end) for end in ends]


def detectors(own: Ends, others: Iterable[Ends], timesteps: int) -> list[Hal]:
    """Hal at the study's own window, named ``hal``, and at each other window that the schedule has."""
    return [Hal(*own), *(Hal(low, high, name=f"hal-{low}-{high}") for low, high in others if high < timesteps)]


def choosing_half(n: int) -> np.ndarray:
    """(n,) bool; the halves alternate, so that neither holds the start of the run alone."""
    return np.arange(n) % 2 == 0


def detection_values(found: Detection, prefix: str = "hal") -> dict[str, Estimate | float | int | None]:
    """Each statistic of a detector as a measure."""
    return {f"{prefix}_{f.name}": getattr(found, f.name) for f in fields(Detection)}


@dataclass(frozen=True)
class Windows:
    """What each window can do on the judging half.

    Attributes:
        judged: by window.
        best: the window that did best on the choosing half.
    """

    judged: Mapping[Ends, Detection]
    best: Ends

    @property
    def rows(self) -> list[dict[str, Any]]:
        """A row for each window, each statistic as value, low, high."""
        return [
            {"window": list(window), **{f.name: list(getattr(found, f.name).triple) for f in fields(Detection)}}
            for window, found in self.judged.items()
        ]


def draw_windows(rows: list[dict[str, Any]], path: Path) -> None:
    """The statistics of :attr:`Windows.rows` against the window: its end, where all begin at 0."""
    lines: dict[str, Any] = {
        label: tuple(zip(*(row[name] for row in rows), strict=True))
        for label, name in (
            ("AUROC", "auroc"),
            ("kept at 95 % removed", "kept_at_95_removed"),
            ("removed at 95 % kept", "removed_at_95_kept"),
        )
    }
    ends = [row["window"][1] for row in rows]
    if all(row["window"][0] == 0 for row in rows):
        plots.curves(path, ends, lines, x_label="last timestep of the window from 0", y_label="share")
    else:
        ticks = ["{}\n{}".format(*row["window"]) for row in rows]
        plots.curves(path, ends, lines, x_label="window: first and last timestep", y_label="share", ticks=ticks)


def compare(scores: Mapping[str, np.ndarray], bad: np.ndarray, seed: int, criterion: str) -> Windows | None:
    """Judge all windows of :func:`detectors`.

    Args:
        scores: by detector name.
        bad: (n,) bool, hallucinated.
        seed: of the bootstrap.
        criterion: the statistic of :class:`intermode.evaluation.Detection` by which the best is chosen.

    Returns:
        None if a half has fewer than two samples of a class.
    """
    choose = choosing_half(len(bad))
    if min(bad[choose].sum(), bad[~choose].sum(), (~bad[choose]).sum(), (~bad[~choose]).sum()) < 2:
        return None
    # sorted: scores that were read back from a file come in another order
    found = ((re.fullmatch(r"hal-(\d+)-(\d+)", name), s) for name, s in scores.items())
    of = dict(sorted(((int(match[1]), int(match[2])), s) for match, s in found if match))
    quality = {w: getattr(detection(s[choose], bad[choose], resamples=1), criterion).value for w, s in of.items()}
    judged = {window: detection(s[~choose], bad[~choose], seed=seed) for window, s in of.items()}
    return Windows(judged, max(quality, key=lambda window: quality[window]))
