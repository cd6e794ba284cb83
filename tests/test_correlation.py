"""Rank correlation: what it is of, and whether its intervals hold."""

import numpy as np
import pytest

from intermode.correlation import rank_correlation, spearman


def test_rank_correlations_and_their_intervals():
    x = list(range(10))
    assert spearman(x, [v**3 for v in x]) == pytest.approx(1)
    assert spearman(x, [-v for v in x]) == pytest.approx(-1)
    assert np.isnan(spearman([1.0, 2.0], [1.0, 2.0]))
    assert np.isnan(spearman([1.0, 1.0, 1.0], [1.0, 2.0, 3.0]))
    rng = np.random.default_rng(0)
    noisy = np.arange(30) + rng.normal(0, 6, 30)
    found = rank_correlation(range(30), noisy)
    assert found.low < found.value == spearman(range(30), noisy) < found.high < 1
    assert found == rank_correlation(range(30), noisy)


def test_within_groups_what_tells_only_these_apart_is_no_correlation():
    rng = np.random.default_rng(1)
    groups = np.repeat([0, 1, 2], [50, 100, 250])
    x, y = (10 * groups + rng.normal(size=400) for _ in range(2))
    assert rank_correlation(x, y).low > 0.6
    within = rank_correlation(x, y, groups, resamples=400)
    assert within.low < 0 < within.high
    # the interval is as wide as chance: rank correlations of n independent pairs have a variance of 1 / (n - 1)
    assert (within.high - within.low) / 3.92 == pytest.approx(400**-0.5, rel=0.2)
    parts = [spearman(x[groups == g], y[groups == g]) for g in range(3)]
    assert within.value == pytest.approx(np.average(parts, weights=[50, 100, 250]))
