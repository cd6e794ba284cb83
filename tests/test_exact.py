"""The reverse chain's density against closed forms and against samples."""

import math

import numpy as np
import pytest
import torch
from scipy.stats import norm

from intermode.denoisers import Denoiser, MixtureDenoiser, TabulatedDenoiser
from intermode.errors import InputError
from intermode.exact import off_support, outcome
from intermode.samplers import DDIM, Ancestral
from intermode.sampling import Plan, generate
from intermode.schedules import linear
from intermode.targets.gaussian import GaussianMixture, line

SAMPLERS = [Ancestral("large"), Ancestral("small"), DDIM(1.0), Ancestral("large", steps=9)]


def gaussian(dimensions, sigma=0.3):
    """One Gaussian, off the centre and not alike in its dimensions."""
    mean = np.array([[0.8, -0.5]])[:, :dimensions]
    return GaussianMixture(mean, np.array([sigma]), np.ones(1))


def chain_law(mixture, schedule, sampler):
    """Mean (d,) and variance of the reverse chain of one Gaussian's ideal denoiser, which is affine in x_t."""
    mu, sigma = mixture.means[0], mixture.sigma[0]
    mean, variance = np.zeros_like(mu), 1.0
    visited = sampler.timesteps(schedule)
    for t, u in zip(visited, (*visited[1:], -1), strict=True):
        a, s = schedule.level(t)
        slope = a * sigma**2 / ((a * sigma) ** 2 + s**2)  # x0_hat = mu + slope (x - a mu)
        c_x, c_0, std = sampler.transition(schedule, t, u)
        factor = c_x + c_0 * slope
        mean = factor * mean + c_0 * (1 - slope * a) * mu
        variance = factor**2 * variance + std**2
    return mean, variance


def moments(law):
    mean = law.mass @ law.x_0
    centred = law.x_0 - mean
    return mean, (law.mass[:, None] * centred).T @ centred, law.mass @ centred**4


@pytest.fixture(scope="module")
def schedule():
    """Its last steps are noisier than the paper's, which keeps the grids small."""
    return linear(25, 0.01, 0.5)


@pytest.fixture(scope="module")
def brief():
    """Few and noisy steps, so that a plane's grid stays coarse."""
    return linear(12, 0.05, 0.7)


# closed forms


@pytest.mark.parametrize("sampler", SAMPLERS, ids=str)
def test_law_of_one_gaussian_on_a_line(schedule, sampler):
    """Mean, variance, fourth moment and the whole distribution function."""
    target = gaussian(1)
    law = outcome(MixtureDenoiser(target, schedule), sampler, 1, -7, 7)
    mean, variance = chain_law(target, schedule, sampler)
    m, v, fourth = moments(law)
    assert m == pytest.approx(mean, abs=1e-7)
    assert v[0, 0] == pytest.approx(variance, rel=1e-6)
    assert fourth[0] == pytest.approx(3 * variance**2, rel=1e-4)
    order = np.argsort(law.x_0[:, 0])
    x, below = law.x_0[order, 0], np.cumsum(law.mass[order]) - law.mass[order] / 2
    assert np.abs(below - norm.cdf(x, mean[0], math.sqrt(variance))).max() < 1e-4


@pytest.mark.parametrize("sampler", [Ancestral("large"), Ancestral("small", steps=7)], ids=str)
def test_law_of_one_gaussian_in_the_plane(brief, sampler):
    """Both means, equal variances and no correlation."""
    target = gaussian(2)
    law = outcome(MixtureDenoiser(target, brief), sampler, 2, -6, 6, cells=4)
    mean, variance = chain_law(target, brief, sampler)
    m, v, fourth = moments(law)
    assert m == pytest.approx(mean, abs=1e-6)
    assert np.abs(v - variance * np.eye(2)).max() < 1e-5 * variance
    assert fourth == pytest.approx(np.full(2, 3 * variance**2), rel=1e-3)


def test_masses_far_in_the_tail_are_exact(schedule):
    """Down to 1e-10 to a few percent: far under what samples could ever show."""
    target = gaussian(1)
    mean, variance = chain_law(target, schedule, Ancestral())
    law = outcome(MixtureDenoiser(target, schedule), Ancestral(), 1, -8, 8, cells=16)
    for sds in (1.0, 3.0, 5.0, 6.4):
        tail = law.mass[law.x_0[:, 0] > mean[0] + sds * math.sqrt(variance)].sum()
        assert tail == pytest.approx(norm.sf(sds), rel=0.02), sds


def test_refining_the_grid_converges_with_fourth_order(schedule):
    """The B-spline's first error is in the fourth moment: half the cells, a sixteenth of the error."""
    target = gaussian(1)
    _, variance = chain_law(target, schedule, Ancestral())
    errors = []
    for cells in (1, 2, 4):
        law = outcome(MixtureDenoiser(target, schedule), Ancestral(), 1, -7, 7, cells=cells)
        _, v, fourth = moments(law)
        errors.append(abs(fourth[0] - 3 * variance**2))
        assert cells == 1 or v[0, 0] == pytest.approx(variance, rel=1e-4)  # no error in the second
    orders = np.log2(np.array(errors[:-1]) / errors[1:])
    assert (orders > 3.5).all(), orders


@pytest.mark.parametrize("means", [(1, 2, 3), (1, 2, 4)])
def test_mass_is_conserved(schedule, means):
    for cells in (4, 8):
        law = outcome(MixtureDenoiser(line(means), schedule), Ancestral(), 1, -7, 9, cells=cells)
        assert abs(law.escaped) < 1e-4
        assert (law.mass >= 0).all()


def test_mass_is_conserved_in_the_plane(brief):
    means = np.array([[-0.7, -0.7], [0.7, -0.7], [0.0, 0.9]])
    mixture = GaussianMixture(means, np.array([0.2, 0.1, 0.3]), np.array([0.5, 0.3, 0.2]))
    law = outcome(MixtureDenoiser(mixture, brief), Ancestral(), 2, -6, 6, cells=3)
    assert abs(law.escaped) < 1e-4


class Pulls(Denoiser):
    """Sends everything to one place."""

    def __init__(self, schedule, place):
        self.schedule, self.place = schedule, place

    def __call__(self, x_t, t, **condition):
        return torch.full_like(x_t, self.place)


def test_mass_that_leaves_the_grid_is_reported_and_counts_as_off_support(schedule):
    mass, law = off_support(Pulls(schedule, 20.0), Ancestral(), line([1, 2]), -7, 7)
    assert law.escaped == pytest.approx(1, abs=1e-6)
    assert mass.value == pytest.approx(1, abs=1e-6)
    assert mass.escaped == law.escaped


# agreement with samples


def stand_in(target, widened):
    """A denoiser as a trained network's stand-in: of a mixture with wider modes, so that much lies off support."""
    return GaussianMixture(target.means, target.sigma * widened, target.weights)


MIXTURES = {
    "1, 2, 3": (line([1, 2, 3]), 1.9),
    "1, 2, 4": (line([1, 2, 4]), 1.9),
    "unequal": (line([1.0, 2.0, 3.5], [0.05, 0.1, 0.03], [0.2, 0.7, 0.1]), 1.9),
}


@pytest.mark.parametrize("name", MIXTURES)
def test_off_support_mass_agrees_with_samples(name):
    """Of 300,000 tabulated samples, within 5.5 standard errors (p = 4e-8) and their own grid's error."""
    target, widened = MIXTURES[name]
    schedule, n = linear(60, 0.004, 0.3), 300_000
    denoiser = TabulatedDenoiser(MixtureDenoiser(stand_in(target, widened), schedule), -7, 9)
    mass, law = off_support(denoiser, Ancestral(), target, -7, 9, cells=3)
    samples = generate(denoiser, Ancestral(), Plan(n, (1,), seed=1)).x
    labels = target.label(samples)
    assert mass.value > 3e-4  # enough hallucinations to compare
    assert mass.error < 0.05 * mass.value
    error = math.sqrt(mass.value * (1 - mass.value) / n)
    assert abs(labels.rate - mass.value) < 5.5 * error + mass.error
    # and every mode's share, by the nearest mode
    nearest = target.label(law.x_0).nearest
    for mode in range(len(target.means)):
        share = law.mass[nearest == mode].sum()
        assert abs((labels.nearest == mode).mean() - share) < 5.5 * math.sqrt(share * (1 - share) / n) + 1e-4


def test_off_support_mass_agrees_with_samples_in_the_plane(brief):
    """Within 5.5 standard errors (p = 4e-8)."""
    means, n = np.array([[-0.7, -0.7], [0.7, -0.7], [0.0, 0.9]]), 100_000
    target = GaussianMixture(means, np.array([0.08, 0.1, 0.1]), np.array([0.5, 0.3, 0.2]), beyond=4.0)
    denoiser = MixtureDenoiser(stand_in(target, 1.5), brief)
    mass, _ = off_support(denoiser, Ancestral(), target, -6, 6, cells=3)
    rate = target.label(generate(denoiser, Ancestral(), Plan(n, (2,), seed=1)).x).rate
    assert mass.value > 1e-3
    assert abs(rate - mass.value) < 5.5 * math.sqrt(mass.value / n) + mass.error


@pytest.mark.parametrize("beyond", [2.0, 2.3, 2.6, 3.0, 3.5, 4.0, 5.0])
def test_off_support_mass_of_one_gaussian_and_its_error_estimate(schedule, beyond):
    """In closed form; the estimate must hold for any place of the support's edge within a grid cell."""
    target = GaussianMixture(np.array([[0.8]]), np.array([0.1]), np.ones(1), beyond)
    mean, variance = chain_law(target, schedule, Ancestral())
    edges = 0.8 + beyond * 0.1 * np.array([-1, 1])
    exact = norm.cdf(edges[0], mean[0], math.sqrt(variance)) + norm.sf(edges[1], mean[0], math.sqrt(variance))
    mass, _ = off_support(MixtureDenoiser(target, schedule), Ancestral(), target, -7, 7)
    assert mass.value == pytest.approx(exact, rel=0.02)
    assert abs(mass.value - exact) <= 2 * mass.error


@pytest.mark.parametrize("name", MIXTURES)
def test_error_estimate_covers_a_finer_grid(name, schedule):
    """Between modes x0_hat is steep, and few nodes carry the mass there."""
    target, widened = MIXTURES[name]
    denoiser = MixtureDenoiser(stand_in(target, widened), schedule)
    finest, _ = off_support(denoiser, Ancestral(), target, -7, 9, cells=8)
    for cells in (2, 3, 4):
        mass, _ = off_support(denoiser, Ancestral(), target, -7, 9, cells=cells)
        assert abs(mass.value - finest.value) <= 2 * (mass.error + finest.error), cells


@pytest.mark.slow
def test_true_score_does_not_hallucinate(modes):
    """The paper's control: 1000 steps with the mixture's own denoiser leave next to nothing off its support."""
    mass, law = off_support(MixtureDenoiser(modes, linear()), Ancestral(), modes, -7, 9, cells=3)
    assert abs(law.escaped) < 1e-4
    assert 0 < mass.value < 1e-6


class Steps:
    """A progress that counts."""

    def __init__(self):
        self.total, self.done = 0, 0

    def notice(self, message):
        pass

    def task(self, label, total, done=0, unit=""):
        self.total = total
        return self

    def __enter__(self):
        return self

    def __exit__(self, *error):
        pass

    def advance(self, amount):
        self.done += amount


def test_progress_covers_both_grids(schedule, modes):
    steps = Steps()
    off_support(MixtureDenoiser(modes, schedule), Ancestral(steps=10), modes, -7, 9, cells=2, progress=steps)
    assert steps.done == steps.total == 20


# what is refused


@pytest.mark.parametrize("sampler", [DDIM(0.0), DDIM(0.0, 5)], ids=str)
def test_a_chain_without_noise_is_refused(schedule, modes, sampler):
    with pytest.raises(InputError, match="noise"):
        outcome(MixtureDenoiser(modes, schedule), sampler, 1, -7, 7)


@pytest.mark.parametrize(
    ("dimensions", "low", "high", "cells", "message"),
    [(3, -7, 7, 4, "dimensions"), (0, -7, 7, 4, "dimensions"), (1, 7, -7, 4, "low"), (1, -7, 7, 0, "cells")],
)
def test_impossible_grids_are_refused(schedule, modes, dimensions, low, high, cells, message):
    with pytest.raises(InputError, match=message):
        outcome(MixtureDenoiser(modes, schedule), Ancestral(), dimensions, low, high, cells=cells)
