"""Schedules against `diffusers` and against the formulas they stand for."""

import json

import numpy as np
import pytest
import torch
from diffusers import DDIMScheduler, DDPMScheduler
from diffusers.schedulers.scheduling_ddpm import betas_for_alpha_bar

from intermode.errors import InputError
from intermode.schedules import CLEAN, Schedule, cosine, from_config, from_diffusers, linear


def betas_of(schedule):
    """The betas that a schedule's alpha bars imply."""
    return 1 - schedule.alpha_bar / np.concatenate([[1.0], schedule.alpha_bar[:-1]])


def test_linear_is_diffusers_with_the_same_betas():
    reference = DDPMScheduler(100, trained_betas=np.linspace(0.001, 0.2, 100))
    assert np.allclose(linear(100).alpha_bar, reference.alphas_cumprod.numpy(), rtol=1e-5, atol=0)


def test_cosine_is_diffusers_squaredcos():
    assert np.allclose(betas_of(cosine(1000)), betas_for_alpha_bar(1000).numpy(), rtol=0, atol=1e-6)
    reference = DDPMScheduler(1000, beta_schedule="squaredcos_cap_v2").alphas_cumprod.numpy()
    assert np.allclose(cosine(1000).alpha_bar, reference, rtol=1e-4, atol=0)


def test_cosine_caps_its_betas():
    assert betas_of(cosine(50, max_beta=0.3)).max() == pytest.approx(0.3, rel=1e-12)


@pytest.mark.parametrize("scheduler", [DDPMScheduler(50), DDIMScheduler(50, beta_schedule="scaled_linear")])
def test_from_diffusers_takes_over_alphas_cumprod(scheduler):
    schedule = from_diffusers(scheduler)
    assert np.allclose(schedule.signal**2, scheduler.alphas_cumprod.double().numpy(), rtol=1e-14)
    assert np.allclose(schedule.noise**2, 1 - scheduler.alphas_cumprod.double().numpy(), rtol=1e-14)


def test_from_diffusers_refuses_a_scheduler_without_alphas():
    with pytest.raises(InputError, match="scheduler: object has no alphas_cumprod"):
        from_diffusers(object())


def test_paper_schedule_needs_and_has_float64():
    """Its last signal level is about 1e-23, whose square float32 cannot hold."""
    schedule = linear()
    assert schedule.signal.dtype == schedule.noise.dtype == np.float64
    log_alpha_bar = np.log1p(-np.linspace(0.001, 0.2, 1000)).sum()
    assert schedule.signal[-1] == pytest.approx(np.exp(log_alpha_bar / 2), rel=1e-10)
    assert 1e-24 < schedule.signal[-1] < 1e-22


@pytest.mark.parametrize("schedule", [linear(), cosine()])
def test_signal_and_noise_preserve_variance(schedule):
    assert np.allclose(schedule.signal**2 + schedule.noise**2, 1, rtol=0, atol=1e-14)


@pytest.mark.parametrize("schedule", [linear(30, 0.01, 0.3), cosine(30, 0.01, 0.9), from_diffusers(DDPMScheduler(30))])
def test_config_survives_json_and_builds_the_same_schedule(schedule):
    again = from_config(json.loads(json.dumps(schedule.config)))
    assert np.array_equal(again.signal, schedule.signal)
    assert np.array_equal(again.noise, schedule.noise)


def test_level_of_clean_data_is_no_noise(schedule):
    assert schedule.level(CLEAN) == (1.0, 0.0)
    assert schedule.level(7) == (schedule.signal[7], schedule.noise[7])


@pytest.mark.parametrize("t", [-2, 40])
def test_level_outside_the_timesteps_is_refused(schedule, t):
    with pytest.raises(InputError, match=r"0\.\.39"):
        schedule.level(t)


def test_add_noise_with_a_timestep_per_sample(schedule):
    """Each row gets its own level, whatever the shape of a sample."""
    generator = torch.Generator().manual_seed(0)
    x_0, eps = torch.randn(2, 5, 2, 3, generator=generator, dtype=torch.float64)
    t = torch.tensor([0, 39, 7, 7, 20])
    x_t = schedule.add_noise(x_0, eps, t)
    for row, at in enumerate(t.tolist()):
        expected = schedule.signal[at] * x_0[row] + schedule.noise[at] * eps[row]
        assert torch.allclose(x_t[row], expected, rtol=1e-14, atol=0)
        assert torch.equal(schedule.add_noise(x_0, eps, at)[row], x_t[row])


@pytest.mark.parametrize("t", [-2, 40])
def test_a_tensor_of_timesteps_is_checked_like_an_int(schedule, t):
    """A negative index would silently read the levels from the other end."""
    x = torch.ones(2, 1)
    with pytest.raises(InputError):
        schedule.add_noise(x, x, torch.tensor([0, t]))


def test_clean_in_a_tensor_of_timesteps_is_no_noise(schedule):
    x = torch.ones(2, 1)
    assert schedule.add_noise(x, x, torch.tensor([CLEAN, 39]))[0] == 1.0


@pytest.mark.parametrize("steps", [2, 3, 7, 39, 40])
def test_respaced_keeps_both_ends_and_spreads_evenly(schedule, steps):
    visited = schedule.respaced(steps)
    gaps = -np.diff(visited)
    assert len(visited) == steps
    assert (visited[0], visited[-1]) == (39, 0)
    assert gaps.min() >= 1
    assert gaps.max() - gaps.min() <= 1


def test_respaced_without_steps_visits_every_timestep(schedule):
    assert schedule.respaced(None) == tuple(range(39, -1, -1))


@pytest.mark.parametrize("steps", [0, 1, 41, 7.0, "7"])
def test_respaced_refuses_impossible_steps(schedule, steps):
    with pytest.raises(InputError, match=r"steps: .* 2\.\.40"):
        schedule.respaced(steps)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: linear(1), "timesteps"),
        (lambda: cosine(1), "timesteps"),
        (lambda: linear(10, 0.2, 0.1), "betas"),
        (lambda: linear(10, 0.0, 0.1), "betas"),
        (lambda: linear(10, 0.1, 1.0), "betas"),
        (lambda: Schedule(np.array([0.9]), np.array([0.1])), "timesteps"),
        (lambda: Schedule(np.array([0.9, 0.5]), np.array([0.1])), "length"),
        (lambda: Schedule(np.array([0.5, 0.9]), np.array([0.1, 0.2])), "fall"),
        (lambda: Schedule(np.array([0.9, 0.5]), np.array([0.2, 0.1])), "rise"),
        (lambda: Schedule(np.array([0.9, 0.0]), np.array([0.1, 1.0])), "positive"),
        (lambda: Schedule(np.array([0.9, np.nan]), np.array([0.1, 1.0])), "finite"),
        (lambda: from_config({"kind": "sigmoid"}), "sigmoid.*choose"),
    ],
)
def test_bad_schedules_are_refused(make, message):
    with pytest.raises(InputError, match=message):
        make()


def test_a_schedule_is_made_of_lists_and_tensors_too():
    made = [Schedule(of([0.9, 0.5]), of([0.1, 0.5])) for of in (list, np.array, torch.tensor)]
    assert [schedule.level(1) for schedule in made] == [(0.5, 0.5)] * 3
    with pytest.raises(InputError, match="signal: 'low' is not an array of numbers"):
        Schedule("low", [0.1])


def test_a_signal_that_float32_takes_for_zero_is_refused():
    """At T = 2000 the paper's betas end at 1e-47: every x0_hat there would be infinite."""
    linear(1000).check_float32()
    with pytest.raises(InputError, match="timesteps: the signal falls to 1e-47"):
        linear(2000).check_float32()
