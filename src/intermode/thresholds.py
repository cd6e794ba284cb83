r"""Thresholds: from a score to keep or reject.

Fitted on scores, applied to scores; a sample is kept while its score is at most ``value``.

* :func:`quantile`: keeps a given share of the scores it was fitted on.
* :func:`labelled`: from labelled scores, removes a given share of the hallucinations, or keeps a given share
  of the in-support samples.
* :func:`conformal`: from scores of samples known to be in-support (split conformal prediction, Vovk et al.
  2005). With n exchangeable scores and the k-th smallest as the threshold, k = ⌈(n + 1)(1 - α)⌉, a new
  in-support sample is kept with probability at least 1 - α, whatever the distribution of the scores.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from intermode.errors import InputError

__all__ = ["Threshold", "conformal", "labelled", "quantile"]


@dataclass(frozen=True)
class Threshold:
    """Keep a sample while its score is at most ``value``.

    Attributes:
        value: in the units of the score; inf keeps everything finite.
        rule: how it was found, for the record.
    """

    value: float
    rule: str

    def keep(self, scores: np.ndarray) -> np.ndarray:
        """(n,) bool; a score that is not finite is never kept."""
        return np.isfinite(scores) & (scores <= self.value)


def _share(name: str, value: float) -> float:
    if not 0 < value < 1:
        raise InputError(f"{name}: {value} must lie strictly between 0 and 1")
    return value


def _clean(scores: np.ndarray, what: str) -> np.ndarray:
    flat = np.asarray(scores, dtype=np.float64).ravel()
    if len(flat) == 0:
        raise InputError(f"scores: no {what} to fit a threshold on; need at least 1")
    return np.sort(np.where(np.isnan(flat), np.inf, flat))


def _at_rank(ordered: np.ndarray, rank: int) -> float:
    """The score of that rank, from 1; a threshold must be finite, since no other score is ever kept."""
    value = float(ordered[rank - 1])
    if not math.isfinite(value):
        finite = int(np.isfinite(ordered).sum())
        raise InputError(f"scores: {rank} must be kept, but only {finite} of {len(ordered)} are finite")
    return value


def _smallest(ordered: np.ndarray, share: float) -> float:
    """The smallest score at or below which at least ``share`` of the scores lie."""
    # the tiny slack keeps 0.95 * 100 = 95.00000000000001 from asking for 96
    return _at_rank(ordered, min(max(math.ceil(share * len(ordered) - 1e-9), 1), len(ordered)))


def quantile(scores: np.ndarray, kept: float) -> Threshold:
    """Keeps the share ``kept`` with the lowest scores.

    Raises:
        InputError: ``kept`` outside (0, 1), no scores, or too few that are finite.
    """
    return Threshold(_smallest(_clean(scores, "scores"), _share("kept", kept)), f"quantile: kept {kept:g}")


def labelled(
    scores: np.ndarray, hallucinated: np.ndarray, *, removed: float | None = None, kept: float | None = None
) -> Threshold:
    """Fitted on labels: removes at least ``removed`` of the hallucinations while keeping as much as possible,
    or keeps at least ``kept`` of the in-support samples while removing as much as possible.

    Args:
        scores: (n,).
        hallucinated: (n,) bool.
        removed, kept: exactly one of them, in (0, 1).

    Raises:
        InputError: both or none of the targets, one outside (0, 1), or a class without samples.
    """
    if (removed is None) == (kept is None):
        raise InputError("threshold: give exactly one of removed and kept")
    scores, hallucinated = np.asarray(scores, dtype=np.float64), np.asarray(hallucinated, dtype=bool)
    if scores.shape != hallucinated.shape:
        raise InputError(f"labels: shape {hallucinated.shape} does not fit the scores' {scores.shape}")
    if kept is not None:
        ordered = _clean(scores[~hallucinated], "in-support samples")
        return Threshold(_smallest(ordered, _share("kept", kept)), f"labelled: kept {kept:g}")
    assert removed is not None
    ordered = _clean(scores[hallucinated], "hallucinated samples")
    must_go = max(math.ceil(_share("removed", removed) * len(ordered) - 1e-9), 1)
    # strictly under the lowest score that has to go
    value = float(np.nextafter(ordered[len(ordered) - must_go], -np.inf))
    return Threshold(value, f"labelled: removed {removed:g}")


def conformal(in_support_scores: np.ndarray, alpha: float) -> Threshold:
    """Keeps a new in-support sample with probability at least 1 - ``alpha``, with no label of a hallucination.

    Args:
        in_support_scores: (n,) scores of samples known to be in-support, exchangeable with the in-support
            samples that the threshold will meet.
        alpha: in (0, 1), the share of in-support samples that may be lost.

    Raises:
        InputError: alpha outside (0, 1), or fewer than 1/alpha - 1 finite scores: no finite threshold satisfies it.
    """
    ordered = _clean(in_support_scores, "in-support scores")
    n = len(ordered)
    rank = math.ceil((n + 1) * (1 - _share("alpha", alpha)) - 1e-9)
    if rank > n:
        need = math.ceil(1 / alpha - 1 - 1e-9)
        raise InputError(f"alpha: {alpha:g} needs at least {need} in-support scores; there are {n}")
    return Threshold(_at_rank(ordered, rank), f"conformal: alpha {alpha:g}")
