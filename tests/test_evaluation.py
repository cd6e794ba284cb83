"""Statistics of a score against scikit-learn, brute force and a plain bootstrap."""

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from scipy.stats import norm
from sklearn.metrics import roc_auc_score

from intermode.errors import InputError
from intermode.evaluation import (
    Estimate,
    detection,
    matched,
    over_seeds,
    precision,
    ratio_of,
    ratio_of_shares,
    ratio_over_seeds,
    ratio_to_share,
    share,
)
from intermode.thresholds import Threshold


def brute_force(scores, bad):
    """Tries every threshold: keep what is at most tau."""
    shares = {"95": 0.95, "98": 0.98, "99": 0.99, "99_9": 0.999}
    best = {"kept_at_95_removed": 0.0, **{f"removed_at_{words}_kept": 0.0 for words in shares}}
    for tau in [-np.inf, *np.unique(scores)]:
        kept, removed = np.mean(scores[~bad] <= tau), np.mean(scores[bad] > tau)
        if removed >= 0.95 - 1e-12:
            best["kept_at_95_removed"] = max(best["kept_at_95_removed"], kept)
        for words, target in shares.items():
            if kept >= target - 1e-12:
                name = f"removed_at_{words}_kept"
                best[name] = max(best[name], removed)
    return best


@given(
    good=st.lists(st.integers(0, 15), min_size=1, max_size=60),
    bad=st.lists(st.integers(0, 20), min_size=1, max_size=60),
)
def test_statistics_equal_brute_force_and_scikit_learn(good, bad):
    """Few distinct values: ties within and between the classes are everywhere."""
    scores = np.array(good + bad, dtype=float)
    hallucinated = np.arange(len(scores)) >= len(good)
    found = detection(scores, hallucinated, resamples=2)
    assert found.auroc.value == pytest.approx(roc_auc_score(hallucinated, scores), abs=1e-12)
    for name, value in brute_force(scores, hallucinated).items():
        assert getattr(found, name).value == pytest.approx(value, abs=1e-12), name


@given(seed=st.integers(0, 10_000), good=st.integers(1, 300), bad=st.integers(1, 60))
def test_statistics_equal_brute_force_without_ties(seed, good, bad):
    scores = np.random.default_rng(seed).standard_normal(good + bad)
    scores[good:] += 1.5
    hallucinated = np.arange(good + bad) >= good
    found = detection(scores, hallucinated, resamples=2)
    assert found.auroc.value == pytest.approx(roc_auc_score(hallucinated, scores), abs=1e-12)
    for name, value in brute_force(scores, hallucinated).items():
        assert getattr(found, name).value == pytest.approx(value, abs=1e-12), name


@given(seed=st.integers(0, 1000))
def test_operating_points_are_what_the_thresholds_do(seed):
    """The same numbers that :mod:`intermode.thresholds` reaches on these scores."""
    rng = np.random.default_rng(seed)
    scores = rng.integers(0, 30, 300) + 0.0
    hallucinated = rng.random(300) < 0.3
    assume(hallucinated.any() and not hallucinated.all())
    found = detection(scores, hallucinated, resamples=2)
    keep = Threshold.labelled(scores, hallucinated, removed=0.95).keep(scores)
    assert found.kept_at_95_removed.value == pytest.approx(keep[~hallucinated].mean())
    keep = Threshold.labelled(scores, hallucinated, kept=0.98).keep(scores)
    assert found.removed_at_98_kept.value == pytest.approx(1 - keep[hallucinated].mean())


def test_infinite_and_nan_scores_are_the_most_suspect():
    scores = np.array([0.0, 1.0, 2.0, np.inf, np.nan, 3.0])
    found = detection(scores, np.array([0, 0, 0, 1, 1, 0], dtype=bool), resamples=50)
    assert found.auroc.value == 1.0
    assert found.removed_at_98_kept.value == 1.0
    assert found.kept_at_95_removed.value == 1.0


# intervals


def overlapping_classes(decimals=2):
    """600 in-support and 150 hallucinated scores; fewer decimals, more ties."""
    rng = np.random.default_rng(0)
    scores = np.concatenate([rng.standard_normal(600), rng.standard_normal(150) + 1.3]).round(decimals)
    return scores, np.arange(750) >= 600


@pytest.mark.parametrize("decimals", [2, 0])
def test_auroc_interval_is_that_of_a_plain_bootstrap(decimals):
    """Both classes resampled with replacement, all pairs compared, ties counting half.

    From 8000 resamples a quantile of 2.5 % is known to 0.02 standard deviations, the difference of two to 0.0075
    of the interval's width: 0.06 is eight times that, and less than what a 90 % interval lacks.
    """
    scores, bad = overlapping_classes(decimals)
    pairs = (scores[bad][:, None] > scores[~bad]) + 0.5 * (scores[bad][:, None] == scores[~bad])
    rng = np.random.default_rng(1)
    often = [rng.multinomial(n, np.full(n, 1 / n), size=8000) for n in pairs.shape]
    plain = ((often[0] @ pairs) * often[1]).sum(1) / pairs.size
    low, high = np.quantile(plain, [0.025, 0.975])
    found = detection(scores, bad, resamples=8000).auroc
    assert found.low == pytest.approx(low, abs=0.06 * (high - low))
    assert found.high == pytest.approx(high, abs=0.06 * (high - low))


def test_intervals_of_operating_points_are_those_of_a_plain_bootstrap():
    """Both classes resampled with replacement, the statistics from the thresholds themselves.

    With 2000 resamples each, two quantiles of 2.5 % differ by 0.015 of the interval's width; the allowed 0.15 is
    ten times that, plus a step of the discrete statistics.
    """
    scores, bad = overlapping_classes()
    rng = np.random.default_rng(1)
    rows = []
    for _ in range(2000):
        good, hall = rng.choice(scores[~bad], 600), rng.choice(scores[bad], 150)
        both, labels = np.concatenate([good, hall]), np.arange(750) >= 600
        row = {"kept_at_95_removed": Threshold.labelled(both, labels, removed=0.95).keep(good).mean()}
        for percent in (95, 98):
            row[f"removed_at_{percent}_kept"] = (
                1 - Threshold.labelled(both, labels, kept=percent / 100).keep(hall).mean()
            )
        rows.append(row)
    found = detection(scores, bad, resamples=2000)
    for name in rows[0]:
        low, high = np.quantile([row[name] for row in rows], [0.025, 0.975])
        allowed = 0.15 * (high - low) + 1 / 150
        estimate = getattr(found, name)
        assert estimate.low == pytest.approx(low, abs=allowed), name
        assert estimate.high == pytest.approx(high, abs=allowed), name
        assert estimate.low < estimate.value < estimate.high, name


def test_auroc_interval_covers_the_truth():
    """Of 200 data sets, a 95 % interval misses more than 32 with p < 1e-6 if it misses 1 in 20."""
    truth = norm.cdf(1 / np.sqrt(2))  # P(N(1, 1) > N(0, 1))
    missed = 0
    for seed in range(200):
        rng = np.random.default_rng(seed)
        scores = np.concatenate([rng.standard_normal(300), rng.standard_normal(80) + 1])
        estimate = detection(scores, np.arange(380) >= 300, resamples=300).auroc
        missed += not estimate.low <= truth <= estimate.high
    assert 0 < missed <= 32


def test_bootstrap_belongs_to_its_seed():
    scores, bad = overlapping_classes()
    assert detection(scores, bad, seed=3) == detection(scores, bad, seed=3)
    assert detection(scores, bad, seed=3).auroc.low != detection(scores, bad, seed=4).auroc.low


def test_a_bootstrap_in_many_batches_is_a_bootstrap():
    """More hallucinations than fit one batch of resamples give the same kind of interval."""
    rng = np.random.default_rng(0)
    scores = np.concatenate([rng.standard_normal(2000), rng.standard_normal(20_000) + 1])
    bad = np.arange(22_000) >= 2000
    found = detection(scores, bad, resamples=200).auroc  # 66 resamples a batch
    # DeLong's standard error for large classes: the smaller one decides
    order = np.sort(scores[bad])
    placement = 1 - np.searchsorted(order, scores[~bad]) / len(order)
    placed = np.searchsorted(np.sort(scores[~bad]), scores[bad]) / 2000
    error = np.sqrt(placement.var() / 2000 + placed.var() / 20_000)
    # the width from 200 resamples is known to about 8 %: 6 times that
    assert found.high - found.low == pytest.approx(2 * 1.96 * error, rel=0.5)


def test_a_ratio_to_a_share_has_its_ends_from_wilson():
    exact = Estimate(0.002, 0.0019, 0.0021)
    found = ratio_to_share(exact, (4, 100_000))
    known = share(4, 100_000)
    assert found.value == pytest.approx(0.002 / (4.5 / 100_000), rel=1e-4)
    assert (found.low, found.high) == (0.0019 / known.high, 0.0021 / known.low)
    empty = ratio_to_share(exact, (0, 100_000))
    assert empty.low == pytest.approx(0.0019 / (1.96**2 / 100_000), rel=1e-3)
    assert empty.low < empty.value < empty.high < np.inf
    with pytest.raises(InputError, match="needs a positive one"):
        ratio_to_share(Estimate(0.0, 0.0, 0.1), (0, 5))


def test_perfect_separation_gets_wilsons_interval():
    """A bootstrap of data that always agree would have no width."""
    scores = np.concatenate([np.arange(100.0), 200 + np.arange(40.0)])
    found = detection(scores, np.arange(140) >= 100, resamples=50)
    assert found.kept_at_95_removed == share(100, 100)
    assert found.removed_at_98_kept == share(40, 40)
    assert found.auroc.value == found.auroc.high == 1.0


@pytest.mark.parametrize(("count", "total"), [(0, 20), (20, 20), (7, 20), (66, 100_000)])
def test_share_has_wilsons_interval(count, total):
    z, p = norm.ppf(0.975), count / total
    centre = (p + z**2 / (2 * total)) / (1 + z**2 / total)
    half = z / (1 + z**2 / total) * np.sqrt(p * (1 - p) / total + z**2 / (4 * total**2))
    estimate = share(count, total)
    assert estimate.value == p
    assert estimate.low == pytest.approx(centre - half, abs=1e-12)
    assert estimate.high == pytest.approx(centre + half, abs=1e-12)


def test_estimates_read_well():
    assert str(Estimate(0.98765, 0.9, 1.0)) == "0.9877 [0.9, 1]"


@pytest.mark.parametrize(("count", "total"), [(0, 0), (-1, 5), (6, 5)])
def test_impossible_shares_are_refused(count, total):
    with pytest.raises(InputError, match="count"):
        share(count, total)


@pytest.mark.parametrize("bad", [np.zeros(4, dtype=bool), np.ones(4, dtype=bool), np.zeros(3, dtype=bool)])
def test_labels_that_cannot_be_evaluated_are_refused(bad):
    with pytest.raises(InputError, match="labels"):
        detection(np.arange(4.0), bad)


def test_interval_over_seeds_is_students_on_the_logarithm():
    # logs 0, 1, 2: mean 1, standard error 1/sqrt(3), t(0.975, 2) = 4.302653
    found = over_seeds(np.exp([0.0, 1.0, 2.0]))
    reach = 4.302653 / np.sqrt(3)
    np.testing.assert_allclose(found.triple, np.exp([1, 1 - reach, 1 + reach]), rtol=1e-6)
    assert over_seeds([0.2]).triple == pytest.approx((0.2, 0.2, 0.2))  # one seed: no interval
    with pytest.raises(InputError, match="positive"):
        over_seeds([0.1, 0.0])


def test_pairing_by_seed_removes_what_seeds_share():
    """Seeds that differ by factors of 100 hide a ratio of 2 from Welch's interval, not from the paired one."""
    under = np.array([1e-5, 1e-3, 1e-1])
    over = 2 * under * np.exp([0.01, -0.01, 0.0])
    paired, welch = ratio_over_seeds(over, under, paired=True), ratio_over_seeds(over, under)
    assert paired.value == pytest.approx(2, rel=1e-6)
    assert welch.value == pytest.approx(2, rel=1e-6)
    assert 1.9 < paired.low < paired.high < 2.1
    assert welch.low < 1 < welch.high


def test_welch_interval_against_its_formula():
    over, under = np.exp([0.0, 1.0, 2.0]), np.exp([0.0, 0.5])
    a, b = 1 / 3, 0.125 / 2  # squared standard errors of the logarithms
    freedom = (a + b) ** 2 / (a**2 / 2 + b**2 / 1)
    from scipy.stats import t

    reach = t.ppf(0.975, freedom) * np.sqrt(a + b)
    np.testing.assert_allclose(
        ratio_over_seeds(over, under).triple, np.exp([0.75, 0.75 - reach, 0.75 + reach]), rtol=1e-9
    )


def test_ratio_of_shares_against_its_formula_and_by_hand():
    found = ratio_of_shares((30, 600), (60, 640))
    a, m, b, n = 30.5, 600.5, 60.5, 640.5
    reach = norm.ppf(0.975) * np.sqrt(1 / a - 1 / m + 1 / b - 1 / n)
    middle = np.log((a / m) / (b / n))
    np.testing.assert_allclose(found.triple, np.exp([middle, middle - reach, middle + reach]), rtol=1e-6)
    empty = ratio_of_shares((0, 100), (0, 100))
    assert empty.value == 1
    assert empty.low < 0.05
    assert empty.high > 20
    assert ratio_of_shares((40, 40), (30, 30)).method == ""  # a width of zero is no interval
    with pytest.raises(InputError, match="is no share"):
        ratio_of_shares((3, 2), (1, 2))


def test_ratio_of_shares_covers_the_true_ratio():
    # of 2,000 intervals 95 % should cover: fewer than 92 % has probability under 1e-8
    rng = np.random.default_rng(0)
    over, under = rng.binomial(600, 0.1, 2000), rng.binomial(500, 0.2, 2000)
    found = [ratio_of_shares((int(a), 600), (int(b), 500)) for a, b in zip(over, under, strict=True)]
    assert np.mean([e.low <= 0.5 <= e.high for e in found]) > 0.92


def test_ratio_of_estimates():
    found = ratio_of(Estimate(2.0, 1.9, 2.1), Estimate(4.0, 3.7, 4.3))
    reach = np.hypot(0.1 / 2, 0.3 / 4)
    np.testing.assert_allclose(found.triple, (0.5, 0.5 * np.exp(-reach), 0.5 * np.exp(reach)))
    exact = ratio_of(Estimate(3.0, 3.0, 3.0), Estimate(1.5, 1.5, 1.5))
    assert exact.triple == (2.0, 2.0, 2.0)
    with pytest.raises(InputError, match="positive"):
        ratio_of(Estimate(0.0, 0.0, 1.0), Estimate(1.0, 1.0, 1.0))


def test_estimates_say_what_they_were_measured_on_and_how():
    scores, bad = overlapping_classes()
    found = detection(scores, bad, resamples=50)
    told = {name: (e.n, e.method) for name, e in vars(found).items()}
    assert told == {
        "auroc": (750, "bootstrap"),
        "kept_at_95_removed": (600, "bootstrap"),
        **{f"removed_at_{k}_kept": (150, "bootstrap") for k in ("95", "98", "99", "99_9")},
    }
    assert (share(3, 20).n, share(3, 20).method) == (20, "Wilson")
    assert over_seeds([0.1, 0.2]).n == 2
    assert over_seeds([0.1, 0.2]).method.startswith("Student")
    assert ratio_over_seeds([1.0, 2.0], [1.0, 3.0, 2.0]).method.startswith("Welch")
    assert (ratio_of_shares((1, 20), (2, 30)).n, ratio_of_shares((1, 20), (2, 30)).method) == (50, "Katz")
    assert (ratio_of(share(1, 20), share(2, 30)).n, ratio_of(share(1, 20), share(2, 30)).method) == (50, "delta")
    # one seed has no interval, and says so
    assert (over_seeds([0.1]).n, over_seeds([0.1]).method) == (1, "")
    assert ratio_over_seeds([0.1], [0.2, 0.3]).method == ""


def test_a_detection_reads_as_a_table():
    scores, bad = overlapping_classes()
    found = detection(scores, bad, resamples=50)
    rows = str(found).splitlines()
    assert [row.split("  ")[0] for row in rows] == [
        "AUROC",
        "kept at 95 % removed",
        "removed at 95 % kept",
        "removed at 98 % kept",
        "removed at 99 % kept",
        "removed at 99.9 % kept",
    ]
    for row, estimate in zip(rows, vars(found).values(), strict=True):
        assert row.endswith(f" {estimate}")
    assert len({row.index("0.") for row in rows}) == 1  # one under the other


# precision


@given(seed=st.integers(0, 10_000))
def test_precision_is_the_share_of_hallucinations_among_what_is_removed(seed):
    rng = np.random.default_rng(seed)
    bad, gone = rng.random(200) < 0.3, rng.random(200) < 0.4
    assume(bad.any() and not bad.all() and gone.any())
    found = precision(gone[bad].mean(), (~gone[~bad]).mean(), bad.mean())
    assert found.value == pytest.approx(bad[gone].mean(), abs=1e-12)
    assert found.low == found.value == found.high
    assert found.method == ""  # no part has an interval


def test_precision_of_a_rare_hallucination():
    """523 of 1,000,000: at 96.5 % kept about 35,000 good samples go for 500 bad ones."""
    found = precision(0.95, Estimate(0.965, 0.96, 0.97, n=999_477, method="bootstrap"), 523e-6)
    for end, kept in zip(found.triple, (0.965, 0.96, 0.97), strict=True):
        assert end == pytest.approx(0.95 * 523 / (0.95 * 523 + (1 - kept) * 999_477))
    assert (found.n, found.method) == (999_477, "bootstrap")
    assert str(found) == "0.014 [0.01228, 0.0163]"


def test_precision_covers_where_every_part_is_measured():
    """Of 2,000 intervals at least 95 % should cover; fewer than 92 % has probability under 1e-8."""
    rng = np.random.default_rng(0)
    truth, covered = precision(0.9, 0.95, 0.02).value, 0
    for bad, removed, kept in zip(
        rng.binomial(20_000, 0.02, 2000), rng.binomial(300, 0.9, 2000), rng.binomial(2000, 0.95, 2000), strict=True
    ):
        found = precision(share(removed, 300), share(kept, 2000), share(bad, 20_000))
        covered += found.low <= truth <= found.high
        assert (found.n, found.method) == (300, "Wilson")
    assert covered / 2000 > 0.92


def test_precision_where_an_end_removes_nothing():
    found = precision(share(0, 20), share(19, 20), 0.1)
    assert found.value == found.low == 0
    assert 0 < found.high < 1
    found = precision(Estimate(0.5, 0.0, 1.0), 1.0, 0.1)
    assert found.triple == (1.0, 0.0, 1.0)
    with pytest.raises(InputError, match="removed: nothing is"):
        precision(0.0, 1.0, 0.1)
    with pytest.raises(InputError, match=r"rate: 2 \[2, 2\] is no share"):
        precision(0.5, 0.5, 2)


def test_at_matched_content_what_only_counts_content_is_at_chance():
    rng = np.random.default_rng(0)
    content = rng.integers(1, 4, 4000)
    bad = rng.random(4000) < np.array([0, 0.02, 0.1, 0.3])[content]
    counting = content + 0.0
    assert detection(counting, bad).auroc.value > 0.7
    assert matched(counting, bad, content).value == pytest.approx(0.5)
    knowing = rng.normal(size=4000) + 2 * bad
    found = matched(knowing, bad, content)
    # two normal distributions 2 apart: Phi(sqrt(2)) = 0.921
    assert found.low < 0.921 < found.high
    assert found.n == bad.sum()
    assert matched(counting, np.zeros(4000, dtype=bool), content) is None
