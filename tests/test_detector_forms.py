"""Every detector against a closed form: a Gaussian's, a mixture's, a linear network's, or numpy's."""

import math
from itertools import pairwise

import numpy as np
import pytest
import torch
from scipy import stats
from scipy.special import logsumexp
from torch import nn

from intermode.denoisers import MixtureDenoiser, NetworkDenoiser
from intermode.detect.aleatoric import Aleatoric
from intermode.detect.bayesdiff import BayesDiff
from intermode.detect.boundary import Boundary
from intermode.detect.curvature import Curvature
from intermode.detect.diffpath import DiffPath, path_statistics
from intermode.detect.generative_uncertainty import GenerativeUncertainty
from intermode.detect.knn import KNN, Realism
from intermode.detect.laplace import LastLayerLaplace
from intermode.detect.lid import LID
from intermode.detect.lmi import LMI
from intermode.detect.oracle import Oracle
from intermode.detect.posterior_variance import PosteriorVariance, _hutchinson, _power_iteration, vector_jacobian
from intermode.detect.random import Random
from intermode.detect.residual import Residual
from intermode.noise import NoiseStream
from intermode.sampling import score
from intermode.schedules import linear
from intermode.targets.gaussian import GaussianMixture, line

PAPER = linear()
MEAN, SIGMA = 1.5, 0.05


def gaussian(d, mean=MEAN, sigma=SIGMA):
    return GaussianMixture(np.full((1, d), mean), np.array([sigma]), np.ones(1))


def spread(d, count=25, seed=0):
    rng = np.random.default_rng(seed)
    return torch.from_numpy(MEAN + 3 * SIGMA * rng.standard_normal((count, d)))


def level(t, sigma=SIGMA):
    """a, s and the variance of x_t."""
    a, s = PAPER.level(t)
    return a, s, (a * sigma) ** 2 + s**2


def noises(count, shape, how_many, seed=0):
    stream = NoiseStream(seed, 0, count, shape, purpose="renoise")
    return [stream().double() for _ in range(how_many)]


# a single Gaussian


@pytest.mark.parametrize("d", [1, 3])
def test_residual_of_a_gaussian(d):
    """s²/v times the distance to the mean."""
    x = spread(d)
    factor = np.mean([s**2 / v for _, s, v in map(level, (1, 4))])
    expected = factor * (x - MEAN).norm(dim=1).numpy()
    assert np.allclose(score(Residual((1, 4)), MixtureDenoiser(gaussian(d), PAPER), x, chunk=25), expected, rtol=1e-9)


@pytest.mark.parametrize("d", [1, 3])
def test_lid_of_a_gaussian(d):
    """eps - eps_hat = (a²σ²/v) eps - (s a/v)(x - μ), with each sample's own noise, timestep by timestep in turn."""
    x = spread(d)
    expected = 0
    for k, eps in enumerate(noises(25, (d,), 5, seed=4)):
        a, s, v = level((1, 6)[k % 2])
        expected = expected + ((a * SIGMA) ** 2 / v * eps - s * a / v * (x - MEAN)).square().sum(1).numpy() / 5
    found = score(LID((1, 6), 5), MixtureDenoiser(gaussian(d), PAPER), x, seed=4, chunk=25)
    assert np.allclose(found, expected, rtol=1e-7)


def test_lid_tends_to_the_dimension_of_the_data():
    """A band in the plane, along which the noise is lost in the data, and across which it is all noise: energy 1."""
    means = np.stack([np.linspace(-3, 3, 121), np.zeros(121)], 1)
    band = GaussianMixture(means, np.full(121, 0.05), np.full(121, 1 / 121))
    x = torch.zeros((400, 2), dtype=torch.float64)
    found = score(LID((27,), 10), MixtureDenoiser(band, PAPER), x, chunk=400)
    # chi-squared of one degree, 4000 draws of variance 2: 6 standard errors; the band's own width adds 0.1 %
    assert abs(found.mean() - 1) < 6 * math.sqrt(2 / 4000) + 0.01


def test_aleatoric_of_a_gaussian():
    """The prediction changes by s²/v times the change of the noise."""
    x = spread(2)
    stream = iter(noises(25, (2,), 2 * 4, seed=2))
    expected = 0
    for t in (3, 9):
        a, s, v = level(t)
        eps_hat = s / v * (a * x + s * next(stream) - a * MEAN)
        for _ in range(3):
            expected = expected + (s**2 / v * (next(stream) - eps_hat)).square().mean(1).numpy() / 6
    found = score(Aleatoric((3, 9), 3), MixtureDenoiser(gaussian(2), PAPER), x, seed=2, chunk=25)
    assert np.allclose(found, expected, rtol=1e-6)


def test_lmi_of_a_gaussian():
    """The map is linear: the slope's square times the variance of the cloud."""
    timesteps, x = (2, 10, 40, 120), spread(2)
    slope = 1.0
    for t, u in zip(timesteps[::-1], (40, 10, 2, None), strict=True):
        a, s, v = level(t)
        a_u, s_u = (1.0, 0.0) if u is None else PAPER.level(u)
        slope *= s_u / s + (a_u - s_u / s * a) * a * SIGMA**2 / v
    cloud = 0.01 * np.stack([eps.numpy() for eps in noises(25, (2,), 6)])
    expected = slope**2 * cloud.var(axis=0).mean(axis=1)
    found = score(LMI(timesteps, 6, 0.01), MixtureDenoiser(gaussian(2), PAPER), x, chunk=25)
    assert np.allclose(found, expected, rtol=1e-6)


@pytest.mark.parametrize("d", [1, 2, 3])
def test_boundary_of_a_gaussian(d):
    """Its score points to the centre: the direction turns by the angle under which a step is seen."""
    denoiser, x, t = MixtureDenoiser(gaussian(d), PAPER), spread(d), 10
    a, s, _ = level(t)
    steps = iter(
        [torch.zeros_like(x), *torch.randn(4000, *x.shape, generator=torch.Generator().manual_seed(0), dtype=x.dtype)]
    )
    found = Boundary((t,), probes=4000, radius=1e-4)(denoiser, x, lambda: next(steps))
    distance = (a * (x - MEAN)).norm(dim=1)
    near = distance > 0.1 * s
    expected = s * np.sqrt(d - 1) / distance[near]
    # each probe's square is one of d - 1 degrees of freedom: 6 standard errors of the mean of 4,000
    assert torch.allclose(found[near], expected, rtol=6 * np.sqrt(2 / (d - 1) / 4000) if d > 1 else 0, atol=1e-9)


@pytest.mark.parametrize("d", [1, 2, 3])
def test_curvature_of_a_gaussian_is_zero(d):
    """The norm of its score is linear along every ray from the centre, on which the step lies."""
    x = spread(d)
    x = x[(x - MEAN).norm(dim=1) > 1e-3]
    curvature = score(Curvature((3, 10)), MixtureDenoiser(gaussian(d), PAPER), x, chunk=len(x))
    assert (curvature < 1e-9).all()


# a mixture


def planar(d):
    rng = np.random.default_rng(d)
    return GaussianMixture(rng.uniform(-0.5, 0.5, (4, d)), rng.uniform(0.05, 0.2, 4), rng.dirichlet(np.ones(4)))


def near(mixture, count=30):
    rng = np.random.default_rng(1)
    x = rng.uniform(-0.7, 0.7, (count, mixture.shape[0]))
    return torch.from_numpy(x)


def posterior(mixture, x, timesteps):
    """Mean over timesteps of the trace and the largest eigenvalue of Cov[x_0 | x_t = a x]."""
    traces, largest = [], []
    for t in timesteps:
        a, s = PAPER.level(t)
        covariance = mixture.posterior_covariance(a * x, a, s)
        traces.append(covariance.diagonal(dim1=1, dim2=2).sum(1).numpy())
        largest.append(torch.linalg.eigvalsh(covariance)[:, -1].numpy())
    return np.mean(traces, axis=0), np.mean(largest, axis=0)


@pytest.mark.parametrize("d", [1, 2, 4])
def test_posterior_variance_is_the_mixtures(d):
    mixture = planar(d)
    x, denoiser = near(mixture), MixtureDenoiser(mixture, PAPER)
    for statistic, expected in zip(("trace", "largest"), posterior(mixture, x, (5, 30)), strict=True):
        found = score(PosteriorVariance(statistic, (5, 30), d), denoiser, x, chunk=len(x))
        assert np.allclose(found, expected, rtol=1e-7), statistic


@pytest.mark.parametrize("statistic", ["trace", "largest"])
def test_a_jacobian_that_is_not_finite_is_most_suspect(statistic):
    """The decomposition of a matrix of NaN would stop the whole batch."""
    mixture = planar(3)
    x, denoiser = near(mixture, 6), MixtureDenoiser(mixture, PAPER)
    clean = score(PosteriorVariance(statistic, (5,), 3), denoiser, x, chunk=6)
    x[2, 1] = torch.nan
    found = score(PosteriorVariance(statistic, (5,), 3), denoiser, x, chunk=6)
    assert np.flatnonzero(np.isinf(found)).tolist() == [2]
    assert np.allclose(np.delete(found, 2), np.delete(clean, 2), rtol=1e-12)


def test_hutchinson_is_within_its_standard_error():
    """100 probes in 6 dimensions; 30 points within 6 standard errors of the exact trace (false alarm under 1e-7)."""
    mixture, probes = planar(6), 100
    x, denoiser, (a, s) = near(mixture), MixtureDenoiser(mixture, PAPER), PAPER.level(20)
    covariance = mixture.posterior_covariance(a * x, a, s)
    diagonal = covariance.diagonal(dim1=1, dim2=2)
    error = (2 / probes * (covariance.square().sum((1, 2)) - diagonal.square().sum(1))).sqrt().numpy()
    # with as many probes as dimensions the detector is exact: the estimate is asked for by its function
    stream = NoiseStream(3, 0, len(x), (6,), purpose="renoise")
    found = _hutchinson(vector_jacobian(denoiser, a * x, 20, {}), stream, probes)
    away = (s**2 / a * found - diagonal.sum(1)).numpy() / error
    assert (np.abs(away) < 6).all()
    assert np.std(away) > 0.5  # an error far smaller than stated would be another estimator


def test_fewer_probes_than_dimensions_estimate():
    """The mean over 500 samples at one place is within 6 standard errors of the exact trace, and they differ."""
    mixture = planar(6)
    x = near(mixture, 1).expand(500, 6).contiguous()
    found = score(PosteriorVariance("trace", (20,), 3), MixtureDenoiser(mixture, PAPER), x, chunk=500)
    exact = posterior(mixture, x[:1], (20,))[0].item()
    assert found.std() > 0
    assert abs(found.mean() - exact) < 6 * found.std() / math.sqrt(500)


def test_power_iteration_reaches_the_largest_eigenvalue_from_below():
    mixture = planar(6)
    x, denoiser = near(mixture), MixtureDenoiser(mixture, PAPER)
    exact = posterior(mixture, x, (20,))[1]

    a, s = PAPER.level(20)
    values = [
        (
            s**2
            / a
            * _power_iteration(
                vector_jacobian(denoiser, a * x, 20, {}),
                NoiseStream(3, 0, len(x), (6,), purpose="renoise"),
                products,
            )
        ).numpy()
        for products in (2, 5, 400)
    ]
    assert (values[0] <= values[1] * (1 + 1e-12)).all()
    assert (values[1] <= exact * (1 + 1e-9)).all()
    assert np.allclose(values[2], exact, rtol=1e-3)
    assert np.allclose(
        score(PosteriorVariance("largest", (20,), 5), denoiser, x, seed=3, chunk=len(x)), values[1], rtol=1e-6
    )


def test_curvature_in_one_dimension_is_the_change_of_the_scores_slope():
    """g = sign(s) s', and s' = a² Var[x_0 | x_t]/s⁴ - 1/s²."""
    modes, (t, radius) = line([1, 2, 3]), (12, 0.7)
    a, s = PAPER.level(t)
    x = torch.linspace(0.9, 3.1, 40, dtype=torch.float64)[:, None]

    def gradient(z):
        slope = a**2 * modes.posterior_covariance(z, a, s)[:, :, 0] / s**4 - 1 / s**2
        return torch.sign(modes.noised(a, s).score(z)) * slope

    here = gradient(a * x)
    there = gradient(a * x + radius * s * torch.sign(here))
    expected = s**2 * (there - here).abs()[:, 0].numpy()
    found = score(Curvature((t,), radius), MixtureDenoiser(modes, PAPER), x, chunk=len(x))
    assert np.allclose(found, expected, rtol=1e-6, atol=1e-9)


# the path of a Gaussian, and its density


def path(x, timesteps):
    """eps along the encoding of x (n, d), by hand: (K, n, d)."""
    found, x_t = [], PAPER.level(timesteps[0])[0] * x
    for t, u in zip(timesteps, (*timesteps[1:], None), strict=True):
        a, s, v = level(t)
        eps = s / v * (x_t - a * MEAN)
        found.append(eps)
        if u is not None:
            a_u, s_u = PAPER.level(u)
            x_t = a_u * (x_t - s * eps) / a + s_u * eps
    return np.stack(found)


TIMES = (0, 20, 60, 150)


def test_path_statistics_of_a_gaussian():
    x = spread(2)
    eps = path(x.numpy(), TIMES)
    rate = np.diff(eps, axis=0) * len(TIMES)
    expected = np.stack([(part**p).sum((0, 2)) for part in (eps, rate) for p in (1, 2, 3)], axis=1)
    found = path_statistics(MixtureDenoiser(gaussian(2), PAPER), x, TIMES).numpy()
    assert np.allclose(found, expected, rtol=1e-8, atol=1e-8)


def test_diffpath_is_the_kernel_density_of_the_rate_of_change():
    denoiser = MixtureDenoiser(gaussian(2), PAPER)
    train, x = spread(2, 300, seed=5), spread(2)
    detector = DiffPath(TIMES, 1)
    detector.fit(denoiser, train)

    def rate(z):
        return np.sqrt(path_statistics(denoiser, z, TIMES)[:, 4].numpy())

    centre, width = rate(train).mean(), rate(train).std()
    gap = ((rate(x)[:, None] - rate(train)[None]) / width) * 300**0.2  # Scott: bandwidth n^(-1/5)
    expected = -(logsumexp(stats.norm.logpdf(gap), axis=1) + math.log(300**0.2 / 300))
    assert np.allclose(score(detector, denoiser, x, chunk=25), expected, atol=1e-3)
    assert centre > 0


def test_diffpath_of_six_statistics_is_a_density_of_all_of_them():
    """One component is the Gaussian with the training statistics' mean and covariance."""
    denoiser = MixtureDenoiser(planar(2), PAPER)
    train, x = planar(2).sample(400, seed=1).double(), near(planar(2))
    detector = DiffPath(TIMES, 6, components=1)
    detector.fit(denoiser, train)
    found, seen = (path_statistics(denoiser, z, TIMES).numpy() for z in (x, train))
    scaled, of_train = ((part - seen.mean(0)) / seen.std(0) for part in (found, seen))
    law = stats.multivariate_normal(np.zeros(6), of_train.T @ of_train / 400 + 1e-6 * np.eye(6))
    assert np.allclose(score(detector, denoiser, x, chunk=len(x)), -law.logpdf(scaled), rtol=1e-6, atol=1e-6)


# a network that is linear in everything


class Linear(nn.Module):
    """eps_hat = w x + b."""

    def __init__(self):
        super().__init__()
        self.only = nn.Linear(1, 1)
        with torch.no_grad():
            self.only.weight.fill_(0.8)
            self.only.bias.fill_(-0.5)

    def forward(self, x, t):
        return self.only(x)


def moves(timesteps):
    """k and c of x_u = k x_t + c eps from the last timestep to the clean sample."""
    falling = timesteps[::-1]
    for t, u in zip(falling, (*falling[1:], -1), strict=True):
        a, s = PAPER.level(t)
        a_u, s_u = PAPER.level(u)
        yield a_u / a, s_u - a_u / a * s


def encoded(x, timesteps, w, b):
    x_t = PAPER.level(timesteps[0])[0] * x
    for t, u in pairwise(timesteps):
        (a, s), (a_u, s_u) = PAPER.level(t), PAPER.level(u)
        x_t = a_u / a * x_t + (s_u - a_u / a * s) * (w * x_t + b)
    return x_t


def linear_network():
    return NetworkDenoiser(Linear().double().requires_grad_(False), PAPER)


def test_bayesdiff_of_a_linear_network():
    """With draws std z of x_t, mean eps is off by w std z, and Cov[x, eps] = w Var z²; the rest is the recursion."""
    timesteps, train, x = (2, 10, 40, 80), spread(1, 200, seed=5), spread(1, 6)
    denoiser = linear_network()
    detector = BayesDiff(timesteps, probes=7)
    detector.fit(denoiser, train, seed=3)
    laplace = LastLayerLaplace(denoiser, train, seed=3)
    stream = iter(noises(6, (1,), 3 * 7, seed=9))
    mean, variance = encoded(x, timesteps, 0.8, -0.5), torch.zeros(6, 1, dtype=torch.float64)
    for (k, c), t in zip(moves(timesteps), timesteps[::-1], strict=True):
        z = torch.stack([torch.zeros(6, 1)] * 7 if t == 80 else [next(stream) for _ in range(7)])
        _, of_eps = laplace.eps_moments(mean, t)
        covariance = 0.8 * variance * z.square().mean(0)
        eps = 0.8 * (mean + variance.sqrt() * z.mean(0)) - 0.5
        mean, variance = k * mean + c * eps, k**2 * variance + 2 * k * c * covariance + c**2 * of_eps
    assert (variance > 0).all()
    assert np.allclose(score(detector, denoiser, x, seed=9, chunk=6), variance[:, 0].numpy(), rtol=1e-7)


def test_bayesdiff_adds_up_only_the_weights_uncertainty():
    """With a sharp prior there is none, and the score is zero."""
    denoiser, x = linear_network(), spread(1, 6)
    detector = BayesDiff((2, 10, 40), prior_precision=1e12)
    detector.fit(denoiser, spread(1, 50))
    assert (score(detector, denoiser, x, chunk=6) < 1e-10).all()


def test_generative_uncertainty_of_a_linear_network():
    """The entropy of a Gaussian with the variance over the drawn chains, of features that are not the sample itself."""
    timesteps, train, x = (2, 10, 40, 80), spread(1, 200, seed=5), spread(1, 6)
    denoiser, floor = linear_network(), 1e-4

    def features(z):
        return torch.cat([z, z**2], 1)

    detector = GenerativeUncertainty(timesteps, 4, features, floor)
    detector.fit(denoiser, train, seed=3)
    laplace = LastLayerLaplace(denoiser, train, seed=3)
    weights = [(0.8, -0.5)]
    for m in range(4):
        drawn = laplace.draw(m, 3).network.replaced
        weights.append((drawn["only.weight"].item(), drawn["only.bias"].item()))
    finished = []
    for w, b in weights:
        z = encoded(x, timesteps, 0.8, -0.5)
        for k, c in moves(timesteps):
            z = k * z + c * (w * z + b)
        finished.append(features(z).numpy())
    variance = np.var(finished, axis=0) + floor
    expected = 0.5 * np.log(2 * math.pi * math.e * variance).sum(1)
    assert np.allclose(score(detector, denoiser, x, chunk=6), expected, rtol=1e-7)
    assert variance.min() > 2 * floor  # the draws matter


# the training data alone


def test_knn_is_the_distance_to_the_kth_nearest():
    train, x = spread(2, 200, seed=5), spread(2)
    detector = KNN(4)
    detector.fit(MixtureDenoiser(gaussian(2), PAPER), train)
    distance = np.sort(np.linalg.norm(x.numpy()[:, None] - train.numpy()[None], axis=2), axis=1)
    assert np.allclose(score(detector, MixtureDenoiser(gaussian(2), PAPER), x, chunk=25), distance[:, 3], rtol=1e-12)


def test_realism_counts_radii_to_the_nearest_of_the_smaller_balls():
    train, x = spread(2, 101, seed=5).numpy(), spread(2)
    among = np.linalg.norm(train[:, None] - train[None], axis=2)
    radius = np.sort(among, axis=1)[:, 2]  # the sample itself comes first
    small = radius <= np.median(radius)
    away = np.linalg.norm(x.numpy()[:, None] - train[None], axis=2)
    detector = Realism(2)
    denoiser = MixtureDenoiser(gaussian(2), PAPER)
    detector.fit(denoiser, torch.from_numpy(train))
    expected = (away[:, small] / radius[small]).min(1)
    assert np.allclose(score(detector, denoiser, x, chunk=25), expected, rtol=1e-10)


def test_neighbours_are_sought_among_the_features():
    train, x = spread(2, 100, seed=5), spread(2)
    denoiser = MixtureDenoiser(gaussian(2), PAPER)
    for make in (KNN, Realism):
        whole, part = make(3, lambda z: z[:, :1]), make(3)
        whole.fit(denoiser, train)
        part.fit(denoiser, train[:, :1])
        assert np.array_equal(score(whole, denoiser, x, chunk=25), score(part, denoiser, x[:, :1], chunk=25))


# the ends of the scale


def test_random_is_normal_and_knows_nothing():
    """10,000 of them: Kolmogorov-Smirnov with a false alarm under 1e-6."""
    scores = score(Random(), MixtureDenoiser(gaussian(1), PAPER), torch.zeros(10000, 1), seed=2)
    assert stats.kstest(scores, "norm").pvalue > 1e-6
    assert len(np.unique(scores)) > 9990  # float32 repeats some


def test_oracle_is_the_label(modes):
    x = torch.tensor([[1.0], [1.5], [2.1], [9.0]])
    assert score(Oracle(modes), MixtureDenoiser(modes, PAPER), x).tolist() == [0, 1, 0, 1]
