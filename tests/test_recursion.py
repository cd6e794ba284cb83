"""What trains a generation: what is selected, and with what it is mixed."""

import math

import numpy as np
import pytest
import torch

from intermode.errors import InputError
from intermode.recursion import Data, select, training_data
from intermode.sampling import Samples
from intermode.studies.recursion_2d import Occupancy
from intermode.study.configs import Lattice
from intermode.targets.lattice import grid
from intermode.thresholds import Threshold

KEEP = 40


def pool_of(samples, scores=None, diverged=None):
    n = len(samples)
    return Samples(
        torch.as_tensor(samples, dtype=torch.float32).reshape(n, -1),
        {"hal": np.arange(n, dtype=float) if scores is None else np.asarray(scores, dtype=float)},
        np.zeros(n, dtype=bool) if diverged is None else np.asarray(diverged),
        0.0,
    )


def real(n):
    """Whole numbers, and their class."""
    x = torch.arange(n, dtype=torch.float32)[:, None]
    return Data(x, x[:, 0].long() % 3)


def generated(k):
    """What was selected of generation k's pool: no whole numbers, of the same classes."""
    chosen = real(KEEP)
    return Data(chosen.x + 0.1 * (k + 1), chosen.labels)


def test_all_takes_the_first_samples_as_they_come():
    np.testing.assert_array_equal(select("all", pool_of(range(8)), 5, 0, 1), np.arange(5))


def test_random_belongs_to_seed_and_generation_and_is_no_prefix():
    pool = pool_of(range(1000))
    first = select("random", pool, 900, 3, 1)
    np.testing.assert_array_equal(first, select("random", pool, 900, 3, 1))
    assert len(np.unique(first)) == 900
    assert not np.array_equal(first, select("random", pool, 900, 3, 2))
    assert not np.array_equal(first, select("random", pool, 900, 4, 1))
    assert first.max() > 990  # a prefix of 900 would end at 899


def test_hal_takes_the_lowest_scores_and_never_one_that_is_not_finite():
    pool = pool_of(range(6), scores=[5.0, math.inf, 1.0, 3.0, 2.0, 4.0])
    np.testing.assert_array_equal(select("hal", pool, 3, 0, 1), [2, 3, 4])


def test_conformal_takes_the_first_that_pass_and_then_those_just_above():
    pool = pool_of(range(6), [5, 1, 9, 2, 7, 3], np.arange(6) == 3)
    cut = Threshold(5.0, "conformal: alpha 0.02", None)
    np.testing.assert_array_equal(select("hal-conformal", pool, 2, 0, 1, cut), [0, 1])
    np.testing.assert_array_equal(select("hal-conformal", pool, 4, 0, 1, cut), [0, 1, 4, 5])
    with pytest.raises(InputError, match="hal-conformal needs a threshold"):
        select("hal-conformal", pool, 2, 0, 1)


def test_per_class_takes_as_many_of_each_class():
    labels = torch.tensor([0, 0, 0, 0, 1, 1, 2, 2, 2, 2])
    # class 1 has the highest scores of all: one threshold would starve it
    pool = pool_of(range(10), scores=[4, 3, 2, 1, 90, 91, 5, 6, 7, 8])
    pool = Samples(pool.x, pool.scores, pool.diverged, 0.0, condition={"class_labels": labels})
    assert set(select("hal", pool, 6, 0, 1)) == {0, 1, 2, 3, 6, 7}
    assert list(select("hal-per-class", pool, 6, 0, 1)) == [2, 3, 4, 5, 6, 7]
    assert list(select("hal-per-class", pool, 4, 0, 1)) == [2, 3, 4, 6]  # the first class gets one more
    with pytest.raises(InputError, match="classes"):
        select("hal-per-class", pool_of(range(5)), 3, 0, 1)


@pytest.mark.parametrize("selector", ["all", "random", "hal"])
def test_no_selector_takes_a_diverged_sample(selector):
    # the diverged sample has the lowest score: only the rule for diverged samples keeps it out
    pool = pool_of(range(6), scores=np.arange(6), diverged=[True, False, False, True, False, False])
    assert set(select(selector, pool, 6, 0, 1)) == {1, 2, 4, 5}


def test_unknown_selector_is_refused_with_the_known_ones():
    with pytest.raises(InputError, match="selector: unknown 'lid'; choose all, random or hal"):
        select("lid", pool_of(range(3)), 2, 0, 1)


def test_the_last_selection_alone_trains_a_generation():
    past = [generated(0), generated(1)]
    data = training_data(past, KEEP, 2, lambda n: pytest.fail("no real data is needed"))
    assert torch.equal(data.x, past[1].x)
    assert torch.equal(data.labels, past[1].labels)


def test_fresh_data_is_new_and_has_its_share():
    first, second = (training_data([generated(0)], KEEP, g, real, fresh=0.25) for g in (1, 2))
    assert len(first) == len(second) == KEEP
    # none of it was seen by generation 0 or twice
    assert first.x[-10:].flatten().tolist() == list(range(KEEP, KEEP + 10))
    assert second.x[-10:].flatten().tolist() == list(range(KEEP + 10, KEEP + 20))
    assert torch.equal(first.x[:-10], generated(0).x[:-10])
    assert torch.equal(first.labels[-10:], first.x[-10:, 0].long() % 3)


def test_accumulation_keeps_the_data_of_all_generations():
    past = [generated(0), generated(1)]
    data = training_data(past, KEEP, 2, real, accumulate=True)
    assert torch.equal(data.x, torch.cat([real(KEEP).x, past[0].x, past[1].x]))
    assert len(data.labels) == 3 * KEEP
    mixed = training_data(past, KEEP, 2, real, accumulate=True, fresh=0.25)
    assert torch.equal(mixed.x[:-10], data.x[:-10])
    assert mixed.x[-10:].flatten().tolist() == list(range(KEEP + 10, KEEP + 20))


def test_kl_and_coverage_of_the_truth_and_of_a_collapse():
    """KL of the true mixture is (cells - 1) / 2n on average, that of a single mode log(modes)."""
    measure, target, n = Occupancy(Lattice(side=3)), grid(3), 90_000
    true = measure(pool_of(target.sample(n, 0)))
    # 2 n KL is chi-squared with 8 degrees of freedom: 60 is passed with probability 5e-10
    assert 2 * n * true["kl"] < 60
    assert true["modes_covered"] == 9
    one_mode = measure(pool_of(np.tile(target.means[0], (100, 1))))
    assert one_mode["kl"] == pytest.approx(math.log(9), rel=1e-6)
    assert one_mode["modes_covered"] == 1
    lost = measure(pool_of(np.full((100, 2), 50.0)))
    assert lost["hallucination_rate"] == 1
    assert lost["kl"] == pytest.approx(18, rel=1e-6)  # -log of the true mass outside, e^-18


def test_a_mode_counts_as_covered_from_a_tenth_of_its_share():
    measure, target = Occupancy(Lattice(side=3)), grid(3)
    rows = np.repeat(target.means, [100] * 8 + [8], axis=0)  # 8 of 808 is under 1/90, 10 of 810 over it
    assert measure(pool_of(rows))["modes_covered"] == 8
    rows = np.repeat(target.means, [100] * 8 + [10], axis=0)
    assert measure(pool_of(rows))["modes_covered"] == 9
