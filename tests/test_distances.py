"""Distances of distributions: closed forms, straightforward computations in float64, intervals, memory."""

import math
import subprocess
import sys
import tracemalloc
from itertools import pairwise

import numpy as np
import pytest
import torch
from scipy.spatial.distance import cdist
from scipy.stats import t

from intermode import distances
from intermode.classifier import features, load_classifier
from intermode.distances import frechet, neighbourhoods
from intermode.errors import InputError
from intermode.evaluation import share
from intermode.targets.digits import FILES, load
from intermode.targets.drawn_digits import drawn
from intermode.targets.fetch import cache_folder
from intermode.targets.idx import find

FOUR = ("precision", "recall", "density", "coverage")


def normal(n, d=4, seed=0):
    return np.random.default_rng(seed).normal(size=(n, d))


def values(real, generated, k=5):
    found = neighbourhoods(real, generated, k)
    return np.array([getattr(found, name).value for name in FOUR])


def plain(real, generated, k=5):
    """The four figures by their definitions, over whole matrices."""
    a = np.sort(cdist(real, real), axis=1)[:, k]
    b = np.sort(cdist(generated, generated), axis=1)[:, k]
    between = cdist(real, generated)
    in_real = between <= a[:, None]
    return np.array(
        [in_real.any(0).mean(), (between <= b).any(1).mean(), in_real.sum(0).mean() / k, in_real.any(1).mean()]
    )


@pytest.fixture(scope="module")
def lenet_features():
    """Features by the shipped extractor of 1,500 digits in two halves, and of noisy versions of the second half.

    Real digits where they are at hand, drawn ones elsewhere.
    """
    folder = cache_folder("mnist")
    real = all(find(folder, name) for name in FILES["train"])
    digits = load(folder).take(slice(0, 1500)) if real else drawn(1500, 0)
    network = load_classifier()
    noise = torch.from_numpy(np.random.default_rng(0).normal(size=(750, 1, 28, 28))).float()
    noisy = [features(network, digits.x[750:] + level * noise) for level in (0, 0.1, 0.3, 0.6, 1)]
    return features(network, digits.images[:750]), noisy


# the Fréchet distance


def test_frechet_agrees_with_the_formula_in_float64(lenet_features):
    real, (_, _, noisy, *_) = lenet_features
    for a, b in ((real, noisy), (normal(300), normal(200, seed=1) * [1, 2, 3, 4] + [0, 0, 5, 0])):
        x, y = a.astype(np.float64), b.astype(np.float64)
        covariances = np.cov(x, rowvar=False), np.cov(y, rowvar=False)
        # dead units make the product singular; the root of A^(1/2) B A^(1/2) has the same trace and is symmetric
        sizes, axes = np.linalg.eigh(covariances[0])
        root = axes * np.sqrt(sizes.clip(0)) @ axes.T
        middle = np.linalg.eigvalsh(root @ covariances[1] @ root).clip(0)
        wanted = ((x.mean(0) - y.mean(0)) ** 2).sum() + np.trace(covariances[0] + covariances[1])
        wanted -= 2 * np.sqrt(middle).sum()
        assert frechet(a, b).value == pytest.approx(wanted, rel=1e-3, abs=1e-3)


def test_frechet_of_samples_that_are_moved_and_stretched():
    x = normal(500)
    assert frechet(x, x).value == pytest.approx(0, abs=1e-9)
    assert frechet(x, x + np.array([3, 0, 4, 0])).value == pytest.approx(25, rel=1e-9)
    # covariances that commute: (c - 1)² tr Σ
    stretched = x.mean(0) + 3 * (x - x.mean(0))
    assert frechet(x, stretched).value == pytest.approx(4 * np.cov(x, rowvar=False).trace(), rel=1e-9)
    assert frechet(stretched, x).value == pytest.approx(frechet(x, stretched).value, rel=1e-9)


def test_frechet_is_computed_in_float64_from_features_of_any_kind():
    x, y = normal(300) + 100, normal(300, seed=1) + 100
    wanted = frechet(x, y).value
    as_float32 = frechet(torch.from_numpy(x).float(), torch.from_numpy(y).float()).value
    assert as_float32 == pytest.approx(wanted, abs=1e-4)
    assert as_float32 != float(np.float32(as_float32))  # torchmetrics returns its input's precision


def test_frechet_of_halves_is_near_zero_and_grows_with_noise(lenet_features):
    real, noisy = lenet_features
    found = [frechet(real, features) for features in noisy]
    rising = [estimate.value for estimate in found]
    assert rising == sorted(rising)
    assert rising[0] < 0.02 * np.cov(real, rowvar=False).trace()
    assert rising[-1] > 30 * rising[0]
    for less, more in pairwise(found[1:]):
        assert less.high < more.low


def test_frechet_interval_is_as_wide_as_fresh_samples_differ():
    """Standard errors from one sample each, against the spread over 120 of them: whose deviation is known to 6.5 %."""
    real = normal(2000)
    found = [frechet(real, 1.2 * normal(300, seed=seed) + 0.1) for seed in range(1, 121)]
    spread = np.std([estimate.value for estimate in found], ddof=1)
    errors = [(e.high - e.value) / t.ppf(0.975, 19) for e in found]
    # the spread, known to 6.5 %, is the less certain: five standard deviations, false once in 2e6; fixed seeds
    assert np.sqrt(np.mean(np.square(errors))) == pytest.approx(spread, rel=0.33)


def test_frechet_interval_does_not_depend_on_the_order_of_the_classes():
    classes = np.arange(400) % 10
    samples = normal(400, 3) + 10 * np.stack([classes, classes**2 / 10, classes * 0], 1)
    widths = []
    for order in (np.argsort(classes, kind="stable"), np.arange(400), np.random.default_rng(1).permutation(400)):
        found = frechet(normal(500, 3, seed=1), samples[order])
        widths.append(found.high - found.value)
    assert max(widths) < 1.8 * min(widths)
    assert frechet(samples, samples, seed=1) == frechet(samples, samples, seed=1)


def test_frechet_interval_by_hand():
    real, generated = normal(40), normal(12, seed=1)
    block = distances.draws(3, "bootstrap").permutation(12) % 4
    without = [frechet(real, generated[block != b], blocks=2).value for b in range(4)]
    error = math.sqrt(3 / 4 * sum((v - np.mean(without)) ** 2 for v in without))
    found = frechet(real, generated, blocks=4, seed=3)
    assert found.high - found.value == pytest.approx(t.ppf(0.975, 3) * error)
    assert found.low == max(found.value - t.ppf(0.975, 3) * error, 0)


# neighbourhoods


@pytest.mark.parametrize("k", [1, 3, 5])
def test_neighbourhoods_agree_with_their_definitions(lenet_features, k):
    real, (_, noisy, *_) = lenet_features
    for a, b in ((real, noisy[:400]), (normal(200), 0.8 * normal(150, seed=1) + 0.3)):
        np.testing.assert_allclose(values(a, b, k), plain(a.astype(np.float64), b.astype(np.float64), k), atol=1e-3)


@pytest.mark.parametrize("k", [1, 3, 5])
def test_neighbourhoods_agree_with_the_published_code(lenet_features, k):
    prdc = pytest.importorskip("prdc")
    real, (_, noisy, *_) = lenet_features
    for a, b in ((real, noisy[:400]), (normal(200), 0.8 * normal(150, seed=1) + 0.3)):
        wanted = prdc.compute_prdc(a.astype(np.float64), b.astype(np.float64), k)
        np.testing.assert_allclose(values(a, b, k), [wanted[name] for name in FOUR], atol=1e-3)


def test_half_of_the_modes_and_half_of_nothing():
    """Integers, so that distances are exact: real squares at 0 and 1000, generated ones at 0 and -1000."""
    square = np.stack(np.meshgrid(np.arange(6), np.arange(6)), -1).reshape(-1, 2).astype(float)
    real = np.concatenate([square, square + 1000])
    near, far = square, square - 1000
    found = neighbourhoods(real, np.concatenate([near, far]), 3)
    assert (found.precision.value, found.recall.value, found.coverage.value) == (0.5, 0.5, 0.5)
    assert found.precision == found.recall == share(36, 72)
    assert values(real, near, 3).tolist() == [1, 0.5, values(square, square, 3)[2], 0.5]
    assert values(real, far, 3).tolist() == [0, 0, 0, 0]


def test_one_point_again_and_again_is_precise_and_recalls_nothing():
    real = np.arange(20.0)[:, None]
    collapsed = np.full((10, 1), 7.0)
    # with k = 1 the balls of 6, 7 and 8 hold it: three of twenty are covered; a ball of no width recalls 7 alone
    np.testing.assert_allclose(values(real, collapsed, 1), [1, 1 / 20, 3, 3 / 20])


def test_outliers_inflate_precision_but_not_density():
    real = np.concatenate([normal(300), [[50, 0, 0, 0]]])
    beside = normal(300, seed=1) + np.array([20, 0, 0, 0])
    found = neighbourhoods(real, beside)
    assert found.precision.value == 1
    assert found.density.value == pytest.approx(0.2)


def test_equal_distributions_have_the_known_expectations():
    """E density = 1 and E coverage = 1 - prod_i (n - i) / (n + m - i), i = 1..k (Naeem et al., section 4)."""
    n, m, k, repeats = 120, 80, 5, 60
    drawn_ = np.array([values(normal(n, seed=2 * i), normal(m, seed=2 * i + 1), k) for i in range(repeats)])
    coverage = 1 - math.prod((n - i) / (n + m - i) for i in range(1, k + 1))
    # means over independent repeats, normal by then: 5.5 standard errors are false once in 2e7
    errors = drawn_.std(0, ddof=1) / math.sqrt(repeats)
    assert abs(drawn_[:, 2].mean() - 1) < 5.5 * errors[2]
    assert abs(drawn_[:, 3].mean() - coverage) < 5.5 * errors[3]
    assert errors[3] < 0.005


def test_density_has_students_interval():
    real, generated = normal(100), normal(60, seed=1)
    counts = (cdist(real, generated) <= np.sort(cdist(real, real), axis=1)[:, 5][:, None]).sum(0) / 5
    reach = t.ppf(0.975, 59) * counts.std(ddof=1) / math.sqrt(60)
    found = neighbourhoods(real, generated).density
    assert found.triple == pytest.approx((counts.mean(), counts.mean() - reach, counts.mean() + reach))


def test_precision_and_recall_change_places_with_the_samples():
    a, b = normal(150), 0.7 * normal(120, seed=1)
    forth, back = neighbourhoods(a, b), neighbourhoods(b, a)
    assert forth.precision == back.recall
    assert forth.recall == back.precision


def test_memory_is_that_of_a_block_and_blocks_change_nothing(monkeypatch):
    real, generated = normal(3000, 8), normal(2500, 8, seed=1)
    wanted = values(real, generated)
    monkeypatch.setattr(distances, "BLOCK_MIB", 4)
    tracemalloc.start()
    try:
        found = values(real, generated)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    np.testing.assert_array_equal(found, wanted)
    assert peak < 12 * 2**20  # one matrix of distances would take 69 MiB


# what cannot be measured


@pytest.mark.parametrize("measure", [frechet, neighbourhoods])
@pytest.mark.parametrize(
    ("real", "generated", "expected"),
    [
        (normal(50), normal(50, 5), r"4 of each real sample, 5 of a generated one"),
        (normal(50)[0], normal(50), r"real: features have shape \(4,\)"),
        (normal(50), normal(50)[:0], r"generated: features have shape \(0, 4\)"),
        (
            normal(50),
            np.where(np.arange(50)[:, None] > 47, np.nan, 1) * normal(50),
            r"2 samples .*, the first at row 48",
        ),
        (normal(1), normal(50), r"real: 1 sample has no cov|k: 5 neighbours among 1 real and 50 generated"),
    ],
)
def test_features_that_cannot_be_used(measure, real, generated, expected):
    with pytest.raises(InputError, match=expected):
        measure(real, generated)


def test_too_few_samples():
    with pytest.raises(InputError, match=r"blocks: 20 of 39 samples"):
        frechet(normal(50), normal(39))
    with pytest.raises(InputError, match=r"blocks: 1 of 50 samples"):
        frechet(normal(50), normal(50), blocks=1)
    for k in (0, 5):
        with pytest.raises(InputError, match=rf"k: {k} neighbours among 50 real and 5 generated"):
            neighbourhoods(normal(50), normal(5), k)


def test_importing_it_is_quick():
    code = "import sys, intermode.distances; print({'torchmetrics', 'torchvision', 'diffusers'} & set(sys.modules))"
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ended.stdout.strip() == "set()"
