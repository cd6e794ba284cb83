"""Windows choose the same steps by timestep, by place and by noise level, and say so when they choose too few."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from intermode.denoisers import MixtureDenoiser
from intermode.detect.hal import Hal
from intermode.detect.window import IMAGE_WINDOW, SNR, Fraction, Window, places
from intermode.errors import InputError
from intermode.noise import NoiseStream
from intermode.samplers import Ancestral, Step
from intermode.sampling import Plan, generate
from intermode.schedules import cosine, linear


def chosen(window, schedule, timesteps):
    return [place.t for place in places(schedule, timesteps) if window.holds(place)]


@given(steps=st.integers(2, 60), cut=st.integers(1, 9))
def test_fractions_that_touch_share_the_steps_out(steps, cut):
    schedule = linear(1000, 1e-4, 0.02)
    visited = schedule.respaced(steps)
    early, late = (chosen(window, schedule, visited) for window in (Fraction(0, cut / 10), Fraction(cut / 10, 1)))
    assert early + late == list(visited)
    assert abs(len(early) - steps * cut / 10) <= 0.5 + 1e-9


def test_the_last_tenth_of_fifty_steps_is_five():
    schedule = linear(1000, 1e-4, 0.02)
    visited = schedule.respaced(50)
    assert chosen(Fraction(0.9, 1), schedule, visited) == list(visited[-5:])


@pytest.mark.parametrize("schedule", [linear(1000, 1e-4, 0.02), cosine(1000)], ids=["linear", "cosine"])
def test_a_ratio_chooses_by_alpha_bar(schedule):
    visited = schedule.respaced(250)
    ratio = schedule.alpha_bar / (1 - schedule.alpha_bar)
    assert chosen(SNR(0.3, 2.0), schedule, visited) == [t for t in visited if 0.3 <= ratio[t] <= 2.0]
    assert chosen(SNR.of_sigma(0.5, 2.0), schedule, visited) == [t for t in visited if 0.25 <= ratio[t] <= 4.0]


def test_the_image_window_is_the_papers_in_the_cosine_schedule():
    found = chosen(IMAGE_WINDOW, cosine(1000), range(999, -1, -1))
    assert abs(found[0] - 850) <= 10
    assert abs(found[-1] - 700) <= 10


@pytest.mark.parametrize("window", [Window(3, 21), Fraction(0.45, 1.0), SNR(0.5, 400.0)])
def test_hal_over_any_window_is_numpys_var_over_the_steps_it_chooses(schedule, uneven, window):
    denoiser, sampler, stored = MixtureDenoiser(uneven, schedule), Ancestral(steps=30), {}
    noise = NoiseStream(0, 0, 50, (1,))
    for step in sampler(denoiser, noise(), noise):
        stored[step.t] = step.x0_hat.double().numpy()
    inside = chosen(window, schedule, sampler.timesteps(schedule))
    assert 2 < len(inside) < 30
    expected = np.var([stored[t] for t in inside], axis=0).mean(axis=1)
    found = generate(denoiser, sampler, Plan(50, (1,), chunk=50), [Hal(window=window)]).scores["hal"]
    assert np.allclose(found, expected, rtol=1e-6, atol=0)


def test_a_record_says_which_window():
    found = [Hal(3, 8), Hal(window=Fraction(0.5, 1)), Hal(window=SNR(0.05, 0.25))]
    assert [d.description for d in found] == ["hal 3..8", "hal 0.5..1 of the steps", "hal SNR 0.05..0.25"]


@pytest.mark.parametrize(
    "make",
    [
        lambda: Fraction(0.5, 0.5),
        lambda: Fraction(-0.1, 0.5),
        lambda: Fraction(0.5, 1.1),
        lambda: SNR(2, 1),
        lambda: SNR(-1, 1),
        lambda: SNR.of_sigma(0, 1),
        lambda: SNR.of_sigma(2, 1),
    ],
)
def test_bounds_out_of_order_are_refused(make):
    with pytest.raises(InputError, match="window"):
        make()


@pytest.mark.parametrize("window", [Window(0, 1), Fraction(0.95, 1), SNR(500, 1000)])
def test_a_window_of_fewer_than_two_steps_is_refused_before_sampling(window):
    schedule = linear(1000, 1e-4, 0.02)
    visited = schedule.respaced(20)
    assert len(chosen(window, schedule, visited)) < 2
    with pytest.raises(InputError, match="at least 2"):
        Hal(window=window).check(schedule, visited)


@pytest.mark.parametrize(("window", "misses"), [(Fraction(0, 1), "how many"), (SNR(0, 1), "level")])
def test_a_step_of_an_own_loop_must_say_what_the_window_needs(window, misses):
    x = torch.zeros(2, 1)
    detector = Hal(window=window)
    detector.start(x.shape)
    with pytest.raises(InputError, match=misses):
        detector.update(Step(0, 3, x, x, x))


def test_one_step_has_no_variance():
    x = torch.zeros(2, 1)
    detector = Hal(0, 3)
    detector.start(x.shape)
    detector.update(Step(0, 2, x, x, x))
    with pytest.raises(InputError, match="only one step"):
        detector.score()
