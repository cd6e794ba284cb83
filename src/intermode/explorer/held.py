"""Samples in memory as a page looks at them; their ids are their row numbers, from 0."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from intermode.data.pixels import is_picture, picture_of
from intermode.errors import InputError
from intermode.explorer.subject import MOST_CLASSES, Subject, most_first
from intermode.filtering import groups_of, scores_for
from intermode.values import as_numbers
from intermode.verbs import as_samples

__all__ = ["Held", "held_subject"]

CLASSES = "class_labels"


class Held:
    """(n, *shape) samples; those of the shape (C, H, W) are images in -1..1."""

    path = Path("samples")

    def __init__(self, x: np.ndarray) -> None:
        self.x = x

    @property
    def has_pictures(self) -> bool:
        return is_picture(self.x.shape[1:], self.x.dtype)

    def __len__(self) -> int:
        return len(self.x)

    def ids(self, first: int, stop: int) -> list[str]:
        return [str(row) for row in range(first, stop)]

    def pictures(self, indices: Sequence[int]) -> list[np.ndarray | None]:
        return [picture_of(self.x[row]) for row in indices]

    def points(self, rows: np.ndarray) -> np.ndarray | None:
        """(m, d) float32 of samples that are one or two numbers each; None for others."""
        return self.x[rows] if self.x.ndim == 2 and self.x.shape[1] <= 2 else None


def held_subject(samples: Any, *, scores: Any, labels: Any, within: Any) -> Subject:
    """What is known of samples in memory; see :func:`intermode.explore`.

    Raises:
        InputError: what :func:`intermode.filter` would refuse.
    """
    x = as_samples("samples", getattr(samples, "x", samples)).float().cpu().numpy()
    if not len(x):
        raise InputError("samples: there are none to look at")
    known = most_first(scores_for(samples, None, scores).columns) if _scored(samples, scores) else {}
    words = "samples" if scores is None else "samples, scores"
    classes, how = within, "within"
    if within is None:
        classes, how = getattr(samples, "condition", {}).get(CLASSES), f'samples.condition["{CLASSES}"]'
    return Subject(
        Held(x),
        scores=known,
        within=None if classes is None else _classes(classes, len(x), chosen=within is not None),
        hallucinated=None if labels is None else _flags(labels, len(x)),
        missing=() if known else ("scores: there are none; give some to see a threshold",),
        call=(f"intermode.filter({words}", f", within={how}"),
    )


def _scored(samples: Any, scores: Any) -> bool:
    return scores is not None or bool(getattr(samples, "scores", None))


def _classes(given: Any, n: int, chosen: bool) -> tuple[str, np.ndarray] | None:
    """Words of each sample; classes that samples were drawn as are left out where they are one, or too many."""
    words = np.empty(n, dtype=object)
    groups = groups_of(given, n, None)
    if not chosen and not 1 < len(groups) <= MOST_CLASSES:
        return None
    for label, rows in groups:
        words[rows] = label
    return "class", words.astype(str)


def _flags(labels: Any, n: int) -> np.ndarray:
    """(n,) 0 or 1, NaN where it is not known."""
    array = np.asarray(labels.detach().cpu() if hasattr(labels, "detach") else labels)
    flags = array.astype(float) if array.dtype == bool else as_numbers("labels", array)
    if flags.shape != (n,):
        raise InputError(f"labels: numbers of shape {flags.shape}; must be ({n},), one for each sample")
    if not np.isin(flags[~np.isnan(flags)], (0, 1)).all():
        raise InputError("labels: must be 1 for what is hallucinated, 0 for the others, NaN where it is not known")
    return flags
