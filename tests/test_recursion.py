"""The recursion with a setting that trains nothing: what is selected, mixed, kept and resumed."""

import math

import numpy as np
import pytest
import torch

from intermode.errors import InputError
from intermode.experiments.recursion_2d import TIERS, _Grid
from intermode.progress import Silent
from intermode.recursion import Arm, Data, Recursion, select
from intermode.sampling import Samples
from intermode.targets.lattice import grid

KEEP, EXTRA = 40, 10


def pool_of(samples, scores=None, diverged=None):
    n = len(samples)
    return Samples(
        torch.as_tensor(samples, dtype=torch.float32).reshape(n, -1),
        {"hal": np.arange(n, dtype=float) if scores is None else np.asarray(scores, dtype=float)},
        np.zeros(n, dtype=bool) if diverged is None else np.asarray(diverged),
        0.0,
    )


class Copying:
    """A 'model' that repeats its data, noised by its seed; every tenth sample is bad, and has the highest scores."""

    def __init__(self):
        self.fits = []

    def real(self, n, seed):
        return Data(torch.arange(n, dtype=torch.float32)[:, None] + 1e6 * seed)

    def fit_and_draw(self, data, n, seed, folder):
        data = data.x
        self.fits.append((folder.name, folder.parent.name, seed, data.clone()))
        rng = np.random.default_rng(seed)
        samples = data[torch.from_numpy(rng.integers(0, len(data), n))] + 0.5
        return pool_of(samples, scores=np.where(np.arange(n) % 10 == 0, 1.0, 0.0) + rng.random(n) * 1e-3)

    def measure(self, pool):
        return {"mean": float(pool.x.mean())}


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


def test_labels_stay_with_their_samples(tmp_path):
    class Labelled(Copying):
        def real(self, n, seed):
            x = super().real(n, seed).x
            return Data(x, x[:, 0].long() % 3)

        def fit_and_draw(self, data, n, seed, folder):
            assert torch.equal(data.x[:, 0].floor().long() % 3, data.labels)
            x = self.real(n, seed).x + 0.5
            pool = pool_of(x)
            return Samples(
                pool.x, pool.scores, pool.diverged, 0.0, condition={"class_labels": x[:, 0].long() % 3}
            )

    for settings in ({}, {"fresh": 0.25}, {"accumulate": True}):
        folder = tmp_path / str(len(settings)) / "-".join(settings)
        rows = Recursion(KEEP, EXTRA, **settings).run(Labelled(), [Arm("random", 2)], 0, folder)
        assert len(rows["random"]) == 3


@pytest.mark.parametrize("selector", ["all", "random", "hal"])
def test_no_selector_takes_a_diverged_sample(selector):
    # the diverged sample has the lowest score: only the rule for diverged samples keeps it out
    pool = pool_of(range(6), scores=np.arange(6), diverged=[True, False, False, True, False, False])
    assert set(select(selector, pool, 6, 0, 1)) == {1, 2, 4, 5}


def test_unknown_selector_is_refused_with_the_known_ones():
    with pytest.raises(InputError, match="selector: unknown 'lid'; choose all, random or hal"):
        select("lid", pool_of(range(3)), 2, 0, 1)


@pytest.mark.parametrize(
    ("change", "message"),
    [({"keep": 0}, "keep"), ({"extra": -1}, "pool would be smaller"), ({"fresh": 1.5}, "fresh")],
)
def test_settings_out_of_range_are_refused(change, message):
    with pytest.raises(InputError, match=message):
        Recursion(**{"keep": KEEP, "extra": EXTRA, **change})


def test_no_generations_are_refused(tmp_path):
    with pytest.raises(InputError, match="generations: 0"):
        Recursion(KEEP, EXTRA).run(Copying(), [Arm("all", 0)], 0, tmp_path)


def test_each_generation_trains_on_what_was_selected_from_the_one_before(tmp_path):
    setting = Copying()
    rows = Recursion(KEEP, EXTRA).run(setting, [Arm("hal", 2), Arm("random", 1)], 7, tmp_path)
    # generation 0 is made once, on real data, and shared
    assert [fit[:2] for fit in setting.fits] == [
        ("generation-00", tmp_path.name),
        ("generation-01", "hal"),
        ("generation-02", "hal"),
        ("generation-01", "random"),
    ]
    assert torch.equal(setting.fits[0][3], setting.real(KEEP, 7).x)
    pool = Copying().fit_and_draw(Data(setting.fits[0][3]), KEEP + EXTRA, setting.fits[0][2], tmp_path)
    chosen = torch.from_numpy(select("hal", pool, KEEP, 7, 0))
    assert torch.equal(setting.fits[1][3], pool.x[chosen])
    assert rows["hal"][0] == rows["random"][0]
    assert [row["generation"] for row in rows["hal"]] == [0, 1, 2]
    assert all(row["trained_on"] == KEEP for row in rows["hal"])


def test_generations_have_seeds_of_their_own(tmp_path):
    setting = Copying()
    Recursion(KEEP, EXTRA).run(setting, [Arm("all", 3)], 0, tmp_path)
    assert len({fit[2] for fit in setting.fits}) == 4


def test_fresh_data_is_new_and_has_its_share(tmp_path):
    setting = Copying()
    Recursion(KEEP, EXTRA, fresh=0.25).run(setting, [Arm("all", 2)], 0, tmp_path)
    first, second = setting.fits[1][3], setting.fits[2][3]
    assert len(first) == len(second) == KEEP
    # real data are whole numbers, generated ones are not; none of it was seen by generation 0 or twice
    assert first[-10:].flatten().tolist() == list(range(KEEP, KEEP + 10))
    assert second[-10:].flatten().tolist() == list(range(KEEP + 10, KEEP + 20))
    assert (first[:-10] % 1 != 0).all()


def test_accumulation_keeps_the_data_of_all_generations(tmp_path):
    setting = Copying()
    rows = Recursion(KEEP, EXTRA, accumulate=True).run(setting, [Arm("all", 2)], 0, tmp_path)
    assert [row["trained_on"] for row in rows["all"]] == [KEEP, 2 * KEEP, 3 * KEEP]
    assert torch.equal(setting.fits[2][3][: 2 * KEEP], setting.fits[1][3])


def test_a_damaged_row_is_measured_again_and_said(tmp_path):
    notices = []

    class Listening:
        def notice(self, message):
            notices.append(message)

    recursion, arms = Recursion(KEEP, EXTRA), [Arm("all", 1)]
    rows = recursion.run(Copying(), arms, 0, tmp_path)
    (tmp_path / "all" / "generation-01" / "row.json").write_text('{"generation": 1, "se')
    assert recursion.run(Copying(), arms, 0, tmp_path, progress=Listening()) == rows
    assert len(notices) == 1
    assert "measured again" in notices[0]


def test_kl_and_coverage_of_the_truth_and_of_a_collapse():
    """KL of the true mixture is (cells - 1) / 2n on average, that of a single mode log(modes)."""
    setting = _Grid(TIERS["quick"], Silent())
    target = grid(TIERS["quick"].side)
    n = 90_000
    true = setting.measure(pool_of(target.sample(n, 0)))
    # 2 n KL is chi-squared with 8 degrees of freedom: 60 is passed with probability 5e-10
    assert 2 * n * true["kl"] < 60
    assert true["modes_covered"] == 9
    one_mode = setting.measure(pool_of(np.tile(target.means[0], (100, 1))))
    assert one_mode["kl"] == pytest.approx(math.log(9), rel=1e-6)
    assert one_mode["modes_covered"] == 1
    lost = setting.measure(pool_of(np.full((100, 2), 50.0)))
    assert lost["hallucination_rate"] == 1
    assert lost["kl"] == pytest.approx(18, rel=1e-6)  # -log of the true mass outside, e^-18


def test_a_mode_counts_as_covered_from_a_tenth_of_its_share():
    setting, target = _Grid(TIERS["quick"], Silent()), grid(3)
    rows = np.repeat(target.means, [100] * 8 + [8], axis=0)  # 8 of 808 is under 1/90, 10 of 810 over it
    assert setting.measure(pool_of(rows))["modes_covered"] == 8
    rows = np.repeat(target.means, [100] * 8 + [10], axis=0)
    assert setting.measure(pool_of(rows))["modes_covered"] == 9
