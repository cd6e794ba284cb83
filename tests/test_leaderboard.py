"""Ranks over targets, against the numbers of Demšar's paper and scipy."""

import numpy as np
import pytest

from intermode.errors import InputError
from intermode.leaderboard import rank
from intermode.reports import leaderboard

# Demšar 2006, table 6: AUC of four classifiers on fourteen data sets
TABLE = """.763 .768 .771 .798
.599 .591 .590 .569
.954 .971 .968 .967
.628 .661 .654 .657
.882 .888 .886 .898
.936 .931 .916 .931
.661 .668 .609 .685
.583 .583 .563 .625
.775 .838 .866 .875
1.00 1.00 1.00 1.00
.940 .962 .965 .962
.619 .666 .614 .669
.972 .981 .9751 .975
.957 .978 .946 .970"""
NAMES = ("C4.5", "C4.5+m", "C4.5+cf", "C4.5+m+cf")


def test_ranks_and_critical_difference_of_the_literature():
    rows = [dict(zip(NAMES, map(float, line.split()), strict=True)) for line in TABLE.splitlines()]
    found = rank({str(k): row for k, row in enumerate(rows)})
    # the paper: 3.143, 2.000, 2.893, 1.964; critical difference 1.25
    assert [found.mean_rank[name] for name in NAMES] == pytest.approx([3.143, 2.0, 2.893, 1.964], abs=1e-3)
    assert found.critical_difference == pytest.approx(1.25, abs=0.01)
    assert list(found.mean_rank) == ["C4.5+m+cf", "C4.5+m", "C4.5+cf", "C4.5"]
    assert found.indistinct() == ["C4.5+m+cf", "C4.5+m", "C4.5+cf", "C4.5"]
    assert found.targets == 14


def test_a_clear_winner_stands_alone_when_targets_are_many():
    rng = np.random.default_rng(0)
    quality = {str(k): {"best": 0.99, **{f"d{i}": rng.uniform(0.5, 0.9) for i in range(3)}} for k in range(60)}
    assert rank(quality).indistinct() == ["best"]


def test_detectors_that_a_target_lacks_are_not_ranked():
    found = rank({"a": {"x": 1.0, "y": 0.5, "z": 0.7}, "b": {"y": 0.5, "x": 0.6}})
    assert set(found.mean_rank) == {"x", "y"}
    for quality in ({}, {"a": {"x": 1.0}}, {"a": {"x": 1.0, "y": 0.5}, "b": {"z": 0.5}}):
        with pytest.raises(InputError, match="at least 2"):
            rank(quality)


def test_rows_are_grouped_by_model_the_best_first():
    rows = [
        {"target": t, "model": m, "auroc": a}
        for t, m, a in (("b", "well", 0.7), ("a", "well", 0.6), ("b", "well", 0.9))
    ]
    found = leaderboard(rows)
    assert list(found) == ["a (well)", "b (well)"]
    assert [row["auroc"] for row in found["b (well)"]] == [0.9, 0.7]
