"""Thresholds keep what they promise."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from intermode.errors import InputError
from intermode.thresholds import Threshold, conformal, labelled, quantile

# few distinct values, so that ties are common; and shares with few digits, as people give them
SCORES = st.lists(st.integers(0, 12).map(float), min_size=1, max_size=60).map(np.array)
SHARE = st.integers(1, 999).map(lambda k: k / 1000)


def enough(count, share, total):
    """At least ``share`` of ``total``, up to the rounding of their product."""
    return count >= share * total - 1e-9


@given(scores=SCORES, kept=SHARE)
def test_quantile_keeps_its_share_with_the_lowest_possible_threshold(scores, kept):
    threshold = quantile(scores, kept)
    assert enough(threshold.keep(scores).sum(), kept, len(scores))
    assert not enough((scores < threshold.value).sum(), kept, len(scores))
    assert threshold.value in scores


def test_quantile_of_round_shares_is_not_off_by_one():
    """0.07 * 100 is 7.000000000000001 in floating point, and must not ask for 8."""
    scores = np.random.default_rng(0).permutation(100).astype(float)
    for percent in range(1, 100):
        assert quantile(scores, percent / 100).keep(scores).sum() == percent


@given(scores=SCORES, kept=SHARE, data=st.data())
def test_labelled_keeps_its_share_of_the_in_support(scores, kept, data):
    bad = np.array(data.draw(st.lists(st.booleans(), min_size=len(scores), max_size=len(scores))))
    if bad.all():
        return
    good = scores[~bad]
    threshold = labelled(scores, bad, kept=kept)
    assert enough(threshold.keep(good).sum(), kept, len(good))
    assert not enough((good < threshold.value).sum(), kept, len(good))


@given(scores=SCORES, removed=SHARE, data=st.data())
def test_labelled_removes_its_share_and_keeps_all_it_can(scores, removed, data):
    bad = np.array(data.draw(st.lists(st.booleans(), min_size=len(scores), max_size=len(scores))))
    if not bad.any():
        return
    threshold = labelled(scores, bad, removed=removed)
    assert enough((~threshold.keep(scores[bad])).sum(), removed, bad.sum())
    # every threshold that keeps one distinct score more removes too little
    for higher in np.unique(scores[scores > threshold.value]):
        assert not enough((scores[bad] > higher).sum(), removed, bad.sum())


def test_a_sample_is_kept_at_the_threshold_and_not_above():
    keep = Threshold(2.0, "by hand").keep(np.array([1.0, 2.0, np.nextafter(2.0, 3.0), 3.0]))
    assert keep.tolist() == [True, True, False, False]


def test_scores_that_are_not_finite_are_never_kept():
    scores = np.array([0.0, np.nan, np.inf])
    for value in (1.0, np.inf):
        assert Threshold(value, "by hand").keep(scores).tolist() == [True, False, False]


def test_nan_counts_as_the_largest_score_when_fitting():
    scores = np.array([np.nan, 3.0, 1.0, 2.0])
    assert quantile(scores, 0.75).value == 3.0
    assert labelled(scores, np.array([1, 1, 0, 0]), removed=0.5).keep(scores).tolist() == [False, True, True, True]


@pytest.mark.parametrize("fit", [lambda s: quantile(s, 0.9), lambda s: conformal(s, 0.1)])
def test_a_share_that_only_non_finite_scores_could_fill_is_refused(fit):
    """Half the scores are never kept, so no threshold keeps 90 %: a guarantee must not be claimed."""
    scores = np.concatenate([np.arange(50.0), np.full(50, np.nan)])
    with pytest.raises(InputError, match="finite"):
        fit(scores)


# the conformal guarantee


def kept_share(n, alpha, trials, draw, seed):
    """Share of new in-support samples kept, each by a threshold fitted on n others."""
    rng = np.random.default_rng(seed)
    kept = 0
    for _ in range(trials):
        scores = draw(rng, n + 1)
        kept += conformal(scores[:n], alpha).keep(scores[n:])[0]
    return kept / trials


@pytest.mark.parametrize(("n", "alpha"), [(9, 0.1), (19, 0.1), (25, 0.1), (40, 0.05), (7, 0.5)])
def test_conformal_keeps_new_in_support_samples_as_often_as_promised(n, alpha):
    """Exactly k/(n + 1) >= 1 - alpha for scores without ties; 6 standard errors fail with p = 2e-9."""
    trials = 10_000
    expected = math.ceil((n + 1) * (1 - alpha) - 1e-9) / (n + 1)
    assert 1 - alpha <= expected <= 1 - alpha + 1 / (n + 1)
    error = math.sqrt(max(expected * (1 - expected), 1 / trials) / trials)
    measured = kept_share(n, alpha, trials, lambda rng, size: rng.standard_cauchy(size), seed=n)
    assert abs(measured - expected) < 6 * error


def test_conformal_guarantee_holds_with_ties():
    """Ties only add to what is kept; 6 standard errors under the promise fail with p = 1e-9."""
    trials, alpha = 10_000, 0.2
    measured = kept_share(14, alpha, trials, lambda rng, size: rng.integers(0, 3, size).astype(float), seed=0)
    assert measured > 1 - alpha - 6 * math.sqrt(alpha * (1 - alpha) / trials)


@pytest.mark.parametrize(("n", "alpha", "need"), [(18, 0.05, 19), (8, 0.1, 9), (0, 0.5, 1), (98, 0.01, 99)])
def test_conformal_says_how_many_scores_it_needs(n, alpha, need):
    with pytest.raises(InputError, match=f"need at least 1|at least {need} "):
        conformal(np.arange(float(n)), alpha)
    assert conformal(np.arange(float(need)), alpha).value == need - 1


# what is refused


@pytest.mark.parametrize("share", [0.0, 1.0, -0.1, 1.5, float("nan")])
def test_shares_outside_0_and_1_are_refused(share):
    scores, bad = np.arange(100.0), np.arange(100) > 50
    for fit in (
        lambda: quantile(scores, share),
        lambda: conformal(scores, share),
        lambda: labelled(scores, bad, kept=share),
        lambda: labelled(scores, bad, removed=share),
    ):
        with pytest.raises(InputError, match="strictly between 0 and 1"):
            fit()


@pytest.mark.parametrize("removed", [1e-10, 1 - 1e-10])
def test_extreme_shares_still_remove_at_least_one_and_at_most_all(removed):
    scores, bad = np.arange(6.0), np.array([0, 0, 0, 1, 1, 1], dtype=bool)
    assert labelled(scores, bad, removed=removed).keep(scores).sum() == (5 if removed < 0.5 else 3)


def test_missing_classes_targets_and_scores_are_refused():
    scores = np.arange(4.0)
    everything, nothing = np.ones(4, dtype=bool), np.zeros(4, dtype=bool)
    with pytest.raises(InputError, match="hallucinated"):
        labelled(scores, nothing, removed=0.9)
    with pytest.raises(InputError, match="in-support"):
        labelled(scores, everything, kept=0.9)
    with pytest.raises(InputError, match="exactly one"):
        labelled(scores, nothing)
    with pytest.raises(InputError, match="exactly one"):
        labelled(scores, nothing, removed=0.9, kept=0.9)
    with pytest.raises(InputError, match="shape"):
        labelled(scores, nothing[:3], kept=0.9)
    with pytest.raises(InputError, match="scores"):
        quantile(np.array([]), 0.9)


def test_a_threshold_says_how_it_was_found():
    scores, bad = np.arange(100.0), np.arange(100) > 50
    assert quantile(scores, 0.9).rule == "quantile: kept 0.9"
    assert labelled(scores, bad, removed=0.95).rule == "labelled: removed 0.95"
    assert labelled(scores, bad, kept=0.98).rule == "labelled: kept 0.98"
    assert conformal(scores, 0.05).rule == "conformal: alpha 0.05"
