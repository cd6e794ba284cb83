"""Bias against its closed form, its place among residual and Hal, and the registry."""

import numpy as np
import pytest
import torch

import intermode
from intermode.denoisers import MixtureDenoiser
from intermode.detect.bias import Bias, parts
from intermode.detect.registry import DETECTORS, Setting, make
from intermode.errors import InputError
from intermode.noise import NoiseStream
from intermode.sampling import score
from intermode.schedules import linear
from intermode.targets.gaussian import GaussianMixture

SCHEDULE = linear(200)
SIGMA = 0.3
GAUSSIAN = MixtureDenoiser(GaussianMixture(np.array([[0.5, -1.0]]), np.array([SIGMA]), np.array([1.0])), SCHEDULE)


@pytest.mark.parametrize("t", [0, 5, 40])
def test_of_a_gaussian_it_has_the_expected_value_that_is_stated(t):
    n, noises = 200_000, 4
    mean = torch.tensor([0.5, -1.0], dtype=torch.float64)
    x = (mean + torch.tensor([0.7, 0.2])).expand(n, 2).contiguous()
    a, s = SCHEDULE.level(t)
    v = a**2 * SIGMA**2 + s**2
    expected = (s**2 / v) ** 2 * (0.7**2 + 0.2**2) + (a * SIGMA**2 * s / v) ** 2 * 2 / noises
    found = score(Bias((t,), noises), GAUSSIAN, x, seed=1)
    # 6 standard errors: a false alarm once in 5e8
    assert abs(found.mean() - expected) < 6 * found.std() / n**0.5
    assert found.std() / n**0.5 < 0.003 * expected


def test_residual_is_bias_and_the_variance_of_the_predictions():
    x = torch.randn(50, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    timesteps, noises = (3, 20), 6

    def noise():
        return NoiseStream(7, 0, 50, (2,), dtype=torch.float64)

    residual, bias = parts(GAUSSIAN, x, noise(), timesteps, noises)
    drawn = noise()
    ts = [timesteps[k % 2] for k in range(noises)]
    x0_hat = torch.stack([GAUSSIAN(SCHEDULE.add_noise(x, drawn(), t), t) for t in ts])
    variance = x0_hat.var(0, unbiased=False).sum(1)
    assert torch.allclose(residual, bias + variance, rtol=1e-12)
    assert torch.allclose(bias, (x0_hat.mean(0) - x).square().sum(1), rtol=1e-12)


def test_in_the_middle_of_two_modes_the_residual_tells_and_the_bias_does_not():
    mixture = GaussianMixture(np.array([[-1.0], [1.0]]), np.array([0.05] * 2), np.array([0.5] * 2))
    x, noises = torch.zeros(20_000, 1, dtype=torch.float64), 64
    noise = NoiseStream(0, 0, len(x), (1,), dtype=torch.float64)
    residual, bias = parts(MixtureDenoiser(mixture, SCHEDULE), x, noise, (5,), noises)
    assert residual.mean() > 0.7  # about the square of the way to either mode
    # all of the bias is the noise of so few; 6 standard errors
    assert abs(bias.mean() - residual.mean() / noises) < 6 * bias.std() / len(x) ** 0.5


def test_it_is_registered_and_costs_what_it_says():
    detector = make("bias", Setting((1,)))
    assert detector.name == "bias" in DETECTORS
    calls = []

    class Counted(MixtureDenoiser):
        def __call__(self, x_t, t, **condition):
            calls.append(t)
            return super().__call__(x_t, t, **condition)

    score(detector, Counted(intermode.line(), linear(1000)), torch.ones(3, 1, dtype=torch.float64))
    assert len(calls) == detector.nfe == 8
    assert set(calls) == {1, 2, 3}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"noises": 0}, "noises: 0 must be a whole number, at least 1"),
        ({"timesteps": ()}, "timesteps: none; must be distinct and at least 0"),
        ({"timesteps": (1,), "window": (2, 3)}, "window: timesteps are given too; choose one of them"),
    ],
)
def test_settings_that_are_none_are_refused_in_one_line(arguments, message):
    with pytest.raises(InputError) as caught:
        Bias(**arguments)
    assert str(caught.value) == message


def test_a_sample_that_is_not_finite_scores_inf():
    x = torch.tensor([[0.5, torch.nan], [0.5, -1.0]], dtype=torch.float64)
    found = score(Bias((2,)), GAUSSIAN, x)
    assert np.isinf(found[0])
    assert np.isfinite(found[1])
