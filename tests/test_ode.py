"""The deterministic path is DDIM forwards, the same equation backwards, and for a Gaussian a known map."""

import math

import pytest
import torch

from intermode.denoisers import MixtureDenoiser
from intermode.ode import decode, encode, follow
from intermode.samplers import DDIM
from intermode.schedules import CLEAN, linear
from intermode.targets.gaussian import line

PAPER = linear()


def gaussian(mean=1.5, sigma=0.05):
    return MixtureDenoiser(line([mean], sigma), PAPER)


def test_decoding_is_the_samplers_ddim(schedule, uneven):
    denoiser = MixtureDenoiser(uneven, schedule)
    x_T = torch.randn(50, 1, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    sampler = DDIM(steps=12)
    *_, last = sampler(denoiser, x_T, lambda: x_T)
    assert torch.equal(decode(denoiser, x_T, sampler.timesteps(schedule)[::-1]), last.x_next)


@pytest.mark.parametrize("rising", [True, False])
def test_a_step_keeps_x0_hat_and_eps_hat(schedule, uneven, rising):
    """x_u = a_u x0_hat + s_u eps_hat, whichever way it goes."""
    denoiser = MixtureDenoiser(uneven, schedule)
    x = torch.linspace(-2, 4, 30, dtype=torch.float64)[:, None]
    path = (3, 9, 20, 39) if rising else (39, 20, 9, 3, CLEAN)
    for step in follow(denoiser, x, path):
        u = path[step.index + 1]
        a, s = schedule.level(u)
        eps = denoiser.eps(step.x_t, step.t)
        assert torch.allclose(step.x_next, a * step.x0_hat + s * eps, rtol=1e-12, atol=1e-12)


def test_a_path_that_ends_where_it_was_only_predicts(schedule, uneven):
    denoiser = MixtureDenoiser(uneven, schedule)
    x = torch.linspace(-2, 4, 30, dtype=torch.float64)[:, None]
    (step,) = follow(denoiser, x, (7, 7))
    assert torch.allclose(step.x_next, x, rtol=1e-14, atol=1e-14)
    assert torch.equal(step.x0_hat, denoiser(x, 7))


def test_encoding_approaches_the_exact_map_of_a_gaussian_with_the_first_order_of_euler():
    """(x_t - a mu) / sqrt(v) is constant along the path; halving the steps halves the error."""
    mean, sigma, first, last = 1.5, 0.3, 4, 260
    x = torch.linspace(1.0, 2.0, 9, dtype=torch.float64)[:, None]

    def width(t):
        a, s = PAPER.level(t)
        return a, math.sqrt((a * sigma) ** 2 + s**2)

    (a, v), (a_last, v_last) = width(first), width(last)
    exact = a_last * mean + v_last / v * (a * x - a * mean)
    errors = []
    for gap in (8, 4, 2, 1):
        found = encode(gaussian(mean, sigma), x, range(first, last + 1, gap))
        errors.append(float((found - exact).abs().max()))
    order = [math.log2(errors[i] / errors[i + 1]) for i in range(3)]
    assert all(0.85 < p < 1.15 for p in order), order


def test_decoding_what_was_encoded_comes_back(schedule, uneven):
    """To the first order in the step: with every timestep far closer than with a tenth of them."""
    denoiser = MixtureDenoiser(line([1.5], 0.3), PAPER)
    x = torch.linspace(1.0, 2.0, 9, dtype=torch.float64)[:, None]
    gaps = []
    for timesteps in (range(10, 250, 1), range(10, 250, 10)):
        back = x
        for step in follow(denoiser, encode(denoiser, x, timesteps), tuple(timesteps)[::-1]):
            back = step.x_next
        gaps.append(float((back - PAPER.level(10)[0] * x).abs().max()))
    assert gaps[0] < 2e-2
    assert gaps[0] < gaps[1] / 5
