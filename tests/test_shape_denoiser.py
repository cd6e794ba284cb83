"""The ideal denoiser of Simple Shapes against a list of its support images, at both ends, and sampled."""

import itertools
import math
import time

import numpy as np
import pytest
import torch

import intermode
from intermode.noise import draws
from intermode.samplers import Ancestral
from intermode.schedules import cosine, linear
from intermode.targets.shape_denoiser import ShapesDenoiser
from intermode.targets.shape_support import COLUMN, KINDS, places, raster, render
from intermode.targets.shapes import Shapes

SCHEDULE = cosine()
SHAPES = Shapes()


def noised(x, t, schedule=SCHEDULE):
    eps = draws(0, "renoise").standard_normal(x.shape)
    return schedule.add_noise(x.double(), torch.from_numpy(eps), t)


def some_places(denoiser, rng, count=14):
    """Leave so many places of each shape, of unequal weight; all images they make (m, 64, 64) and their log weights."""
    kept = []
    prior = torch.full_like(denoiser.log_prior, -torch.inf)
    for kind, name in enumerate(KINDS):
        chosen = rng.choice(math.prod(places(name)), count, replace=False)
        row, column = np.divmod(chosen, places(name)[1])
        share = np.log(rng.dirichlet(np.ones(count)))
        prior[kind, row, column] = torch.from_numpy(share)
        kept.append([(None, None, 0.0), *zip(row, column + COLUMN * kind, share, strict=True)])
    denoiser.log_prior = prior
    images = list(itertools.product(*kept))[not denoiser.keep_blank :]  # the first is blank
    present = np.array([[place[0] is not None for place in one] for one in images])
    row, column = (np.array([[place[axis] or 0 for place in one] for one in images]) for axis in (0, 1))
    weights = np.array([sum(place[2] for place in one) for one in images])
    return torch.from_numpy(render(present, row, column) / 127.5 - 1)[:, None], torch.from_numpy(weights)


@pytest.mark.parametrize("keep_blank", [False, True])
@pytest.mark.parametrize("t", [0, 100, 600, 750, 850, 999])
def test_it_is_the_posterior_mean_over_all_support_images(t, keep_blank):
    rng = np.random.default_rng(t)
    denoiser = ShapesDenoiser(SCHEDULE, keep_blank=keep_blank)
    support, log_weight = some_places(denoiser, rng)
    assert len(support) == 15**3 - (not keep_blank)
    x_t = torch.cat(
        [
            noised(support[rng.integers(len(support), size=6)], t),
            noised(-torch.ones(2, 1, 64, 64), t),  # blank, and between all
            torch.from_numpy(rng.standard_normal((2, 1, 64, 64))),
            torch.from_numpy(2 * rng.random((2, 1, 64, 64)) - 1),
        ]
    )
    a, s = SCHEDULE.level(t)
    square = torch.cdist(x_t.flatten(1), a * support.flatten(1), compute_mode="donot_use_mm_for_euclid_dist") ** 2
    expected = torch.softmax(log_weight - square / (2 * s**2), dim=1) @ support.flatten(1)
    assert torch.allclose(denoiser(x_t, t).flatten(1), expected, rtol=0, atol=1e-7)


@pytest.mark.parametrize("keep_blank", [False, True])
def test_at_pure_noise_it_is_the_mean_of_the_support(keep_blank):
    present = 1 / 2 if keep_blank else 4 / 7
    assert Shapes(keep_blank).presence == pytest.approx(present)
    mean = np.zeros((64, 64))
    for kind, name in enumerate(KINDS):
        (down, across), mask = places(name), raster(name)
        for row, column in np.ndindex(down, across):
            left = COLUMN * kind + column
            mean[row : row + mask.shape[0], left : left + mask.shape[1]] += present / (down * across) * mask
    schedule = linear()  # ends at a signal of 6e-24
    x_t = torch.from_numpy(np.random.default_rng(0).standard_normal((4, 1, 64, 64)))
    x0_hat = Shapes(keep_blank).denoiser(schedule)(x_t, 999)
    np.testing.assert_allclose(x0_hat[:, 0], np.broadcast_to(2 * mean - 1, (4, 64, 64)), atol=1e-12)


@pytest.mark.parametrize("keep_blank", [False, True])
def test_almost_without_noise_it_is_the_nearest_support_image(keep_blank):
    target, schedule = Shapes(keep_blank), linear(10, beta_start=1e-10)
    rng = np.random.default_rng(0)
    twice = torch.maximum(SHAPES.sample(200, seed=2), SHAPES.sample(200, seed=3))  # some with two of a kind
    faint = 0.4 * target.sample(200, seed=4) - 0.6
    grey = torch.from_numpy(rng.uniform(-1, 1, (50, 1, 64, 64)))
    images = noised(torch.cat([target.sample(200, seed=1), twice, faint, grey]), 0, schedule)
    nearest = target.nearest(images).render() / 127.5 - 1
    found = target.denoiser(schedule)(images, 0)[:, 0].numpy()
    np.testing.assert_allclose(found, nearest, rtol=0, atol=1e-6)


def test_where_all_is_black_a_lone_square_anywhere_is_nearest():
    """The log odds of presence are far below the smallest float."""
    x0_hat = SHAPES.denoiser(SCHEDULE)(-torch.ones(1, 1, 64, 64), 0)[0, 0].double()
    assert ((x0_hat + 1) / 2).sum() == pytest.approx(64, abs=1e-3)
    assert (x0_hat[:, :COLUMN] == -1).all()
    assert (x0_hat[:, 2 * COLUMN :] == -1).all()
    assert (Shapes(keep_blank=True).denoiser(SCHEDULE)(-torch.ones(1, 1, 64, 64), 0) == -1).all()


def test_it_keeps_the_form_of_what_it_is_given():
    denoiser = SHAPES.denoiser(SCHEDULE)
    x_t = noised(SHAPES.sample(8, seed=0), 800)
    one_by_one = torch.cat([denoiser(x_t[i : i + 1], t) for i, t in enumerate(range(100, 900, 100))])
    assert torch.allclose(denoiser(x_t, torch.arange(100, 900, 100)), one_by_one, atol=1e-9)
    single = denoiser(x_t.float(), 800)
    assert single.dtype == torch.float32
    assert torch.allclose(single.double(), denoiser(x_t, 800), atol=1e-4)
    x_t[3, 0, 10, 10] = torch.nan
    assert torch.isfinite(denoiser(x_t, 800)).flatten(1).all(1).tolist() == [i != 3 for i in range(8)]


def test_others_have_another_identity():
    identities = [Shapes(keep_blank).denoiser(s).identity for keep_blank in (False, True) for s in (SCHEDULE, linear())]
    assert len({tuple(sorted(identity.items())) for identity in identities}) == 4


@pytest.mark.parametrize("keep_blank", [False, True])
def test_its_samples_are_on_the_support(keep_blank):
    target = Shapes(keep_blank)
    samples = intermode.sample(target.denoiser(SCHEDULE), 64, sampler=Ancestral("small", 50), detectors=(), seed=3)
    labels = target.label(samples.x)
    assert labels.counts() == {"in-support": 64}
    assert labels.distance.max() < 1e-6


@pytest.mark.slow
def test_drawn_in_all_steps_its_samples_are_the_data():
    """The patterns of presence are equally likely: chi square of 6 degrees of freedom, false alarm 1e-7.

    In 50 steps they are not: a Gaussian step is not the posterior, and there are too many images of a single shape.
    """
    samples = intermode.sample(SHAPES.denoiser(SCHEDULE), 128, detectors=(), seed=4)
    patterns = np.bincount(SHAPES.label(samples.x).counts_by_kind @ [1, 2, 4], minlength=8)
    assert patterns[0] == 0
    assert ((patterns[1:] - 128 / 7) ** 2 / (128 / 7)).sum() < 43.3


@pytest.mark.slow
def test_it_takes_five_milliseconds_an_image_at_most():
    denoiser, x_t = SHAPES.denoiser(SCHEDULE), noised(SHAPES.sample(64, seed=0), 500).float()
    denoiser(x_t, 500)
    start = time.process_time()
    for _ in range(5):
        denoiser(x_t, 500)
    assert 5 * 64 / (time.process_time() - start) > 200
