"""Thresholds keep what they promise."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from intermode.errors import InputError
from intermode.thresholds import Threshold, keep

# few distinct values, so that ties are common; and shares with few digits, as people give them
SCORES = st.lists(st.integers(0, 12).map(float), min_size=1, max_size=60).map(np.array)
FINITE = st.floats(allow_nan=False, allow_infinity=False)
SHARE = st.integers(1, 999).map(lambda k: k / 1000)


def enough(count, share, total):
    """At least ``share`` of ``total``, up to the rounding of their product."""
    return count >= share * total - 1e-9


@given(scores=SCORES, kept=SHARE)
def test_quantile_keeps_its_share_with_the_lowest_possible_threshold(scores, kept):
    threshold = Threshold.quantile(scores, kept)
    assert enough(threshold.keep(scores).sum(), kept, len(scores))
    assert not enough((scores < threshold.value).sum(), kept, len(scores))
    assert threshold.value in scores


def test_quantile_of_round_shares_is_not_off_by_one():
    """0.07 * 100 is 7.000000000000001 in floating point, and must not ask for 8."""
    scores = np.random.default_rng(0).permutation(100).astype(float)
    for percent in range(1, 100):
        assert Threshold.quantile(scores, percent / 100).keep(scores).sum() == percent


@given(scores=SCORES, kept=SHARE, data=st.data())
def test_labelled_keeps_its_share_of_the_in_support(scores, kept, data):
    bad = np.array(data.draw(st.lists(st.booleans(), min_size=len(scores), max_size=len(scores))))
    if bad.all():
        return
    good = scores[~bad]
    threshold = Threshold.labelled(scores, bad, kept=kept)
    assert enough(threshold.keep(good).sum(), kept, len(good))
    assert not enough((good < threshold.value).sum(), kept, len(good))


@given(scores=SCORES, removed=SHARE, data=st.data())
def test_labelled_removes_its_share_and_keeps_all_it_can(scores, removed, data):
    bad = np.array(data.draw(st.lists(st.booleans(), min_size=len(scores), max_size=len(scores))))
    if not bad.any():
        return
    threshold = Threshold.labelled(scores, bad, removed=removed)
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
    assert Threshold.quantile(scores, 0.75).value == 3.0
    assert Threshold.labelled(scores, np.array([1, 1, 0, 0]), removed=0.5).keep(scores).tolist() == [
        False,
        True,
        True,
        True,
    ]


@pytest.mark.parametrize("fit", [lambda s: Threshold.quantile(s, 0.9), lambda s: Threshold.conformal(s, 0.1)])
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
        kept += Threshold.conformal(scores[:n], alpha).keep(scores[n:])[0]
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
        Threshold.conformal(np.arange(float(n)), alpha)
    assert Threshold.conformal(np.arange(float(need)), alpha).value == need - 1


# what is refused


@pytest.mark.parametrize("share", [0.0, 1.0, -0.1, 1.5, float("nan")])
def test_shares_outside_0_and_1_are_refused(share):
    scores, bad = np.arange(100.0), np.arange(100) > 50
    for fit in (
        lambda: Threshold.quantile(scores, share),
        lambda: Threshold.conformal(scores, share),
        lambda: Threshold.labelled(scores, bad, kept=share),
        lambda: Threshold.labelled(scores, bad, removed=share),
    ):
        with pytest.raises(InputError, match="strictly between 0 and 1"):
            fit()


@pytest.mark.parametrize("removed", [1e-10, 1 - 1e-10])
def test_extreme_shares_still_remove_at_least_one_and_at_most_all(removed):
    scores, bad = np.arange(6.0), np.array([0, 0, 0, 1, 1, 1], dtype=bool)
    assert Threshold.labelled(scores, bad, removed=removed).keep(scores).sum() == (5 if removed < 0.5 else 3)


def test_missing_classes_targets_and_scores_are_refused():
    scores = np.arange(4.0)
    everything, nothing = np.ones(4, dtype=bool), np.zeros(4, dtype=bool)
    with pytest.raises(InputError, match="hallucinated"):
        Threshold.labelled(scores, nothing, removed=0.9)
    with pytest.raises(InputError, match="in-support"):
        Threshold.labelled(scores, everything, kept=0.9)
    with pytest.raises(InputError, match="exactly one"):
        Threshold.labelled(scores, nothing)
    with pytest.raises(InputError, match="exactly one"):
        Threshold.labelled(scores, nothing, removed=0.9, kept=0.9)
    with pytest.raises(InputError, match="shape"):
        Threshold.labelled(scores, nothing[:3], kept=0.9)
    with pytest.raises(InputError, match="scores"):
        Threshold.quantile(np.array([]), 0.9)


@given(
    value=st.floats(allow_nan=False, allow_infinity=False), rule=st.text(max_size=20), name=st.none() | st.just("hal")
)
def test_a_threshold_is_read_as_it_was_saved(tmp_path_factory, value, rule, name):
    path = tmp_path_factory.getbasetemp() / "a folder" / "threshold.json"
    Threshold(value, rule, name).save(path)
    assert Threshold.load(str(path)) == Threshold(value, rule, name)
    assert [p.name for p in path.parent.iterdir()] == ["threshold.json"]  # nothing half-written beside it


def test_a_threshold_of_before_is_read(tmp_path):
    path = tmp_path / "threshold.json"
    path.write_text('{"value": 0.5, "rule": "quantile: kept 0.9", "score": "score", "samples": 9, "kept": 8}')
    assert Threshold.load(path) == Threshold(0.5, "quantile: kept 0.9", None)


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (None, "not found"),
        ("[]", "is no threshold; must hold a finite number as value"),
        ('{"value": "1"}', "must hold a finite number"),
        ('{"value": true}', "must hold a finite number"),
        ('{"value": NaN}', "must hold a finite number"),
        ('[{"value": 1}, {"value": 2}]', "holds a threshold for each of 2 labels"),
        ("{", "not valid JSON"),
    ],
)
def test_files_that_are_no_threshold_are_refused(tmp_path, content, expected):
    path = tmp_path / "threshold.json"
    if content is not None:
        path.write_text(content)
    with pytest.raises(InputError, match=expected):
        Threshold.load(path)


def test_thresholds_without_a_finite_value_are_not_saved(tmp_path):
    with pytest.raises(InputError, match="inf cannot be saved"):
        Threshold(math.inf).save(tmp_path / "x.json")
    with pytest.raises(InputError, match="nan is no threshold"):
        Threshold(math.nan)


# the mask


@given(scores=SCORES, share=SHARE)
@pytest.mark.filterwarnings("ignore:kept:UserWarning")
def test_a_share_keeps_what_its_quantile_keeps(scores, share):
    kept = keep(scores, share, "hal")
    assert np.array_equal(kept, scores <= Threshold.quantile(scores, share).value)
    assert kept.threshold == Threshold.quantile(scores, share, score="hal")
    assert np.array_equal(scores[kept], [s for s, good in zip(scores, kept.tolist(), strict=True) if good])


def test_a_mask_prints_what_it_keeps():
    kept = keep([0.0132, 5, 0.001, 0, 0, 0, 0, 0], 0.8, "hal")
    assert str(kept) == repr(kept) == "7 of 8 kept (87.5 %): hal up to 0.0132"
    assert str(keep(np.arange(8.0), Threshold(3.0))) == "4 of 8 kept (50 %): score up to 3"


def test_what_is_made_from_a_mask_is_a_plain_mask_or_number():
    kept = keep(np.arange(4.0), 0.5)
    assert str(~kept) == "[False False  True  True]"
    assert str(kept[:1]) == "[ True]"
    assert type(~kept) is np.ndarray
    assert isinstance(kept.sum(), np.integer)
    assert f"{kept.sum():,} {kept.mean():.2f}" == "2 0.50"


def test_a_share_that_keeps_all_is_told():
    with pytest.warns(UserWarning, match=r"a share of 0\.9 keeps all 8 samples"):
        assert keep(np.arange(8.0), 0.9).all()


@pytest.mark.filterwarnings("error")
def test_a_limit_that_keeps_all_was_asked_for():
    assert keep(np.arange(8.0), Threshold(100.0)).all()
    assert keep(np.arange(8.0), 0.8).sum() == 7


def test_scores_are_taken_in_many_forms():
    scores = [0.0, 2.0, 1.0]
    for form in (scores, tuple(scores), np.array(scores, np.float32), torch.tensor(scores, requires_grad=True)):
        assert keep(form, Threshold(1.0)).tolist() == [True, False, True]
        assert keep(form, 0.6).tolist() == [True, False, True]
        assert Threshold.labelled(form, torch.tensor([0, 1, 0]), removed=0.5).keep(form).tolist() == [True, False, True]


def test_one_of_several_scores_is_chosen_by_name():
    scores = {"lid": np.array([0.0, 1.0]), "hal": np.array([1.0, 0.0])}
    assert keep(scores, 0.5).tolist() == [True, False]  # the first
    assert str(keep(scores, 0.5, "hal")) == "1 of 2 kept (50 %): hal up to 0"
    assert keep(scores, Threshold(0.5, score="hal")).tolist() == [False, True]  # the threshold's own
    with pytest.raises(InputError, match="by: no score 'knn'; choose from lid, hal"):
        keep(scores, 0.5, "knn")
    with pytest.raises(InputError, match="by: the threshold is one of hal, not of lid"):
        keep(scores, Threshold(0.5, score="hal"), "lid")
    with pytest.raises(InputError, match="scores: there are none"):
        keep({}, 0.5)


@pytest.mark.parametrize("share", [0, 1, 98, -0.5, float("nan")])
def test_a_limit_is_not_taken_for_a_share(share):
    with pytest.raises(InputError, match=r"is no share, which lies strictly between 0 and 1; a limit is Threshold\("):
        keep(np.arange(4.0), share)


def test_a_threshold_says_how_it_was_found():
    scores, bad = np.arange(100.0), np.arange(100) > 50
    assert Threshold.quantile(scores, 0.9).rule == "quantile: kept 0.9"
    assert Threshold.labelled(scores, bad, removed=0.95).rule == "labelled: removed 0.95"
    assert Threshold.labelled(scores, bad, kept=0.98).rule == "labelled: kept 0.98"
    assert Threshold.conformal(scores, 0.05).rule == "conformal: alpha 0.05"
    assert str(Threshold.quantile(scores, 0.9, score="lid")) == "lid up to 89 (quantile: kept 0.9)"
    assert str(Threshold(0.5)) == "score up to 0.5 (given)"
