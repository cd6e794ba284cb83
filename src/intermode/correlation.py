"""Rank correlation (Spearman 1904): of two numbers of each sample, with the percentile bootstrap's interval."""

from __future__ import annotations

from typing import Any

import numpy as np
from scipy import stats

from intermode.evaluation import Estimate
from intermode.noise import draws

__all__ = ["rank_correlation", "spearman"]


def spearman(x: Any, y: Any) -> float:
    """The rank correlation of x and y (n,); NaN of fewer than three pairs, or where either is constant."""
    x, y = np.asarray(x), np.asarray(y)
    if len(x) < 3 or (x == x[0]).all() or (y == y[0]).all():
        return float("nan")
    return float(stats.spearmanr(x, y).statistic)


def rank_correlation(x: Any, y: Any, groups: Any = None, *, seed: int = 0, resamples: int = 1000) -> Estimate:
    """The same with a 95 % interval over pairs.

    Args:
        x, y: (n,) numbers.
        groups: (n,) of each pair; then pairs are ranked and drawn within their group, and the result is the mean over
            groups, weighted by their sizes.
        seed: of the bootstrap.
        resamples: how many.
    """
    x, y = np.asarray(x), np.asarray(y)
    groups = np.zeros(len(x)) if groups is None else np.asarray(groups)
    parts = [np.flatnonzero(groups == group) for group in np.unique(groups)]

    def mean(chosen: list[np.ndarray]) -> float:
        found = [spearman(x[rows], y[rows]) for rows in chosen]
        return float(np.average(found, weights=[len(rows) for rows in chosen]))

    rng = draws(seed, "bootstrap")
    drawn = [mean([rows[rng.integers(0, len(rows), len(rows))] for rows in parts]) for _ in range(resamples)]
    low, high = np.nanquantile(drawn, [0.025, 0.975]).tolist()
    return Estimate(mean(parts), low, high, n=len(x), method="bootstrap")
