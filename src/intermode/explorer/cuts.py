r"""What each threshold of a score would do: a table that a page looks things up in.

The thresholds are scores that samples have. A threshold v keeps the samples with a finite score :math:`s \le v`, and
``share`` is the shortest decimal q with which :meth:`intermode.thresholds.Threshold.quantile` finds v again: of n
scores in rising order it takes that of rank :math:`\lceil q n \rceil`, so any q in :math:`(r_- / n, r / n]` will do,
with :math:`r_-` scores under v and r at or under it.

Every share in thousandths is there, and each of the highest scores, where hallucinations are cut off.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from intermode.evaluation import Estimate, precision, share

__all__ = ["Axis", "Cuts", "Labelled", "cuts_of"]

FINEST = 1000
"""The highest scores, each of which is a threshold; and the number of shares below them."""
BINS = 64
FAR = {False: 10.0, True: 2.0}
"""Scores stand at the end of a linear and of a log axis that are as many times as far from the median as 99 % are."""


@dataclass(frozen=True)
class Axis:
    """Where scores stand on a page: log10 of them, or they themselves.

    Attributes:
        log: of positive scores that differ by orders of magnitude.
        low, high: ends, in the axis' units; scores beyond stand there.
    """

    log: bool
    low: float
    high: float

    @classmethod
    def of(cls, scores: np.ndarray) -> Axis:
        """For scores (n,) of which one at least is finite."""
        finite = scores[np.isfinite(scores)]
        log = bool(finite.min() > 0 and finite.max() > 30 * np.median(finite))
        low, least, middle, most, high = np.quantile(np.log10(finite) if log else finite, [0, 0.01, 0.5, 0.99, 1])
        far = FAR[log]  # a diverged sample may score 1e30
        low, high = max(low, middle - far * (middle - least)), min(high, middle + far * (most - middle))
        if not low < high:
            low, high = low - 0.5, high + 0.5
        return cls(log, float(low), float(high))

    def at(self, scores: Any) -> np.ndarray:
        """Where scores stand, in [low, high]; NaN for what is not finite."""
        scores = np.asarray(scores, dtype=np.float64)
        placed = np.full(scores.shape, np.nan)
        finite = np.isfinite(scores)
        if self.log:
            placed[finite] = np.log10(np.maximum(scores[finite], 10.0**self.low))
        else:
            placed[finite] = scores[finite]
        return np.clip(placed, self.low, self.high)

    def histogram(self, scores: np.ndarray) -> np.ndarray:
        """(BINS,) how many of the finite scores stand in each of as many equal parts of the axis."""
        return np.histogram(self.at(scores[np.isfinite(scores)]), BINS, (self.low, self.high))[0]


@dataclass(frozen=True)
class Labelled:
    """What a threshold does to samples whose truth is known, each a (C,) list.

    Attributes:
        hallucinated, others: how many there are of each.
        removed: hallucinations that go.
        lost: other samples that go.
        removed_share: of the hallucinations, those that go, with Wilson's interval.
        kept_share: of the others, those that stay.
        precision: share of hallucinations among what goes, at the base rate of these samples; None if nothing goes.
    """

    hallucinated: int
    others: int
    removed: list[int]
    lost: list[int]
    removed_share: list[Estimate]
    kept_share: list[Estimate]
    precision: list[Estimate | None]


@dataclass(frozen=True)
class Cuts:
    """C thresholds, rising.

    Attributes:
        samples: that the thresholds are asked of.
        unscored: of these, without a score (NaN); they are neither kept nor removed.
        infinite: with a score that is not finite; never kept.
        value: (C,) float64.
        kept: (C,) samples at or under it.
        removed: (C,) over it, or infinite.
        share: (C,) for ``filter --kept``, in words.
        labelled: where both kinds of samples are known.
    """

    samples: int
    unscored: int
    infinite: int
    value: np.ndarray
    kept: np.ndarray
    removed: np.ndarray
    share: list[str]
    labelled: Labelled | None


def cuts_of(scores: np.ndarray, hallucinated: np.ndarray | None = None) -> Cuts:
    """The table of a score.

    Args:
        scores: (n,) larger = more suspect; NaN for a sample that has none.
        hallucinated: (n,) 0 or 1, NaN where it is not known.
    """
    scored = ~np.isnan(scores)
    ordered = np.sort(scores[scored])
    n, finite = len(ordered), int(np.isfinite(ordered).sum())
    lowest = int((ordered == -np.inf).sum())  # never kept, yet they count as ranks
    wanted = np.ceil(np.arange(1, FINEST) / FINEST * n - 1e-9).astype(np.int64)
    ranks = np.concatenate([wanted, np.arange(n - FINEST + 1, n + 1)]).clip(lowest + 1, lowest + finite)
    value = np.unique(ordered[ranks - 1]) if finite else np.zeros(0)
    under, rank = (np.searchsorted(ordered, value, side) for side in ("left", "right"))
    return Cuts(
        samples=len(scores),
        unscored=len(scores) - n,
        infinite=n - finite,
        value=value,
        kept=rank - lowest,
        removed=n - (rank - lowest),
        share=[_shortest(int(below), int(to), n) for below, to in zip(under, rank, strict=True)],
        labelled=None if hallucinated is None else _labelled(scores[scored], hallucinated[scored], value),
    )


def _shortest(under: int, rank: int, n: int) -> str:
    """The decimal with the fewest digits for which a quantile of n scores is one of rank under + 1 .. rank."""
    for digits in range(1, 17):
        unit = 10**digits
        q = min(rank * unit // n, unit - 1)  # in units of the last digit, and no share is 1
        word = f"0.{q:0{digits}}"
        if under < max(math.ceil(float(word) * n - 1e-9), 1) <= rank and q:
            return word
    raise AssertionError(f"no decimal between {under} and {rank} of {n}")


def _labelled(scores: np.ndarray, hallucinated: np.ndarray, value: np.ndarray) -> Labelled | None:
    bad, good = (np.sort(scores[hallucinated == each]) for each in (1, 0))
    if not len(bad) or not len(good) or not len(value):
        return None
    removed = len(bad) - _at_or_under(bad, value)
    lost = len(good) - _at_or_under(good, value)
    rate = share(len(bad), len(bad) + len(good))
    removed_share = [share(int(count), len(bad)) for count in removed]
    kept_share = [share(len(good) - int(count), len(good)) for count in lost]
    found = [
        precision(r, k, rate) if gone else None
        for r, k, gone in zip(removed_share, kept_share, removed + lost, strict=True)
    ]
    return Labelled(len(bad), len(good), removed.tolist(), lost.tolist(), removed_share, kept_share, found)


def _at_or_under(ordered: np.ndarray, value: np.ndarray) -> np.ndarray:
    """How many finite scores are at or under each value."""
    return np.searchsorted(ordered, value, "right") - int((ordered == -np.inf).sum())
