"""Restarts: their steps, their random numbers, what detectors see of them, and that the true score's law stays."""

from itertools import pairwise

import numpy as np
import pytest
import torch

import intermode
from intermode.denoisers import Denoiser, MixtureDenoiser
from intermode.detect.hal import Hal
from intermode.errors import InputError
from intermode.exact import Grid, mass_on_grid, off_support
from intermode.noise import NoiseStream
from intermode.restart import Restart, timestep_of
from intermode.samplers import DDIM, Ancestral
from intermode.sampling import Plan, generate
from intermode.schedules import CLEAN, linear
from intermode.targets.gaussian import line


class Counted(Denoiser):
    """Elementwise, so that rows do not depend on their batch; counts its calls."""

    def __init__(self, schedule):
        self.schedule, self.asked = schedule, []

    def __call__(self, x_t, t, **condition):
        self.asked.append(t)
        return torch.tanh(3 * x_t)


def steps_of(sampler, schedule, n=6, first=0):
    noise = NoiseStream(3, first, n, (2,))
    return list(sampler(Counted(schedule), noise(), noise))


@pytest.mark.parametrize("inner", [Ancestral(), Ancestral("small", 9), DDIM(0.0, 5)], ids=str)
@pytest.mark.parametrize("level", [1, 12, 0.2])
def test_passes_come_one_after_the_other_and_the_first_are_those_of_fewer(schedule, inner, level):
    before = list(steps_of(inner, schedule))
    for passes in range(4):
        sampler = Restart(inner, level, passes)
        found = steps_of(sampler, schedule)
        assert len(found) == len(before) + (len(sampler.descents(schedule)[-1]) + 1 if passes else 0)
        for new, old in zip(found, before, strict=False):
            assert torch.equal(new.x_next, old.x_next)
            assert (new.t, new.index, new.steps, new.level, new.restart) == (
                *(old.t, old.index, old.steps, old.level, old.restart),
            )
        assert all(after.x_t is step.x_next for step, after in pairwise(found))
        assert {step.restart for step in found} == set(range(passes + 1))
        before = found


def test_a_re_noising_asks_no_network_and_evaluations_are_counted(schedule):
    sampler, denoiser, noise = Restart(Ancestral(steps=7), 9, 3), Counted(schedule), NoiseStream(0, 0, 4, (1,))
    steps = list(sampler(denoiser, noise(), noise))
    up = [step for step in steps if step.t == CLEAN]
    assert len(denoiser.asked) == sampler.evaluations(schedule) == len(steps) - len(up)
    assert denoiser.asked == [t for descent in sampler.descents(schedule) for t in descent]
    assert [step.restart for step in up] == [1, 2, 3]
    for step in up:
        own = NoiseStream(0, 0, 4, (1,)).restarted(step.restart)()
        assert torch.equal(step.x_next, schedule.add_noise(step.x_t, own, 9))
    assert all(step.level == schedule.level(step.t) for step in steps)


def test_noise_belongs_to_seed_sample_and_pass(schedule):
    """Neither the samples beside it, nor how it was made, changes what a restart draws for a sample."""
    sampler = Restart(Ancestral(), 5, 2)
    whole, part = steps_of(sampler, schedule), steps_of(sampler, schedule, n=2, first=3)
    assert torch.equal(whole[-1].x_next[3:5], part[-1].x_next)
    stream = NoiseStream(3, 0, 6, (2,))
    rows = NoiseStream(3, 0, 0, (2,), rows=np.array([1, 4]), purpose="restart", restart=2)
    again = stream.restarted(2)
    assert torch.equal(rows(), again()[[1, 4]])
    first, other = stream.restarted(1), stream.restarted(2)
    assert not torch.equal(first(), other())


def test_rows_of_many_tiles_are_those_of_the_whole():
    rows = np.array([0, 5, 4095, 4096, 9000])
    whole, part = NoiseStream(1, 0, 9001, (1,)), NoiseStream(1, 0, 0, (1,), rows=rows)
    for _ in range(2):
        assert torch.equal(part(), whole()[rows])


def test_of_noise_from_elsewhere_the_numbers_follow(schedule):
    generator = torch.Generator().manual_seed(0)
    steps = list(
        Restart(passes=1)(Counted(schedule), torch.zeros(3, 1), lambda: torch.randn(3, 1, generator=generator))
    )
    assert steps[-1].restart == 1
    assert torch.isfinite(steps[-1].x_next).all()


# what detectors see


@pytest.mark.parametrize(("window", "restart"), [((0, 5), 2), ((0, 9), 2), ((0, 10), 0), ((2, 12), 0)])
def test_a_detector_scores_the_last_pass_that_covers_its_window(schedule, window, restart):
    sampler, plan = Restart(Ancestral(), 9, 2), Plan(6, (2,), seed=3, chunk=6)
    scores = generate(Counted(schedule), sampler, plan, [Hal(*window)]).scores["hal"]
    steps = [s for s in steps_of(sampler, schedule) if s.restart == restart and window[0] <= s.t <= window[1]]
    assert len(steps) == window[1] - window[0] + 1
    by_hand = torch.stack([step.x0_hat for step in steps]).double().var(0, correction=0).mean(1)
    assert scores == pytest.approx(by_hand.numpy(), rel=1e-5)


def test_a_fraction_is_of_the_whole_chain(schedule):
    """The last eighth of 40 steps is t = 0..4, in a pass of 10 steps as well."""
    plan, sampler = Plan(6, (2,), seed=3, chunk=6), Restart(Ancestral(), 9, 1)
    detectors = [Hal(window=intermode.Fraction(0.875, 1), name="fraction"), Hal(0, 4)]
    scores = generate(Counted(schedule), sampler, plan, detectors).scores
    assert np.array_equal(scores["fraction"], scores["hal"])


def test_samples_are_the_same_for_all_chunks_and_in_a_folder(tmp_path, schedule, network):
    from intermode.denoisers import NetworkDenoiser

    denoiser = NetworkDenoiser(network(2), schedule)
    told = {"sampler": Restart(Ancestral(steps=9), 4, 2), "seed": 1}
    one = intermode.sample(denoiser, 50, chunk=50, **told)
    for chunk, out in ((7, None), (50, tmp_path / "a")):
        other = intermode.sample(denoiser, 50, chunk=chunk, out=out, **told)
        assert torch.allclose(other.x, one.x, rtol=1e-4, atol=1e-5)
    plain = intermode.sample(denoiser, 50, chunk=50, sampler=Ancestral(steps=9), seed=1)
    none = intermode.sample(denoiser, 50, chunk=50, sampler=Restart(Ancestral(steps=9), 4, 0), seed=1)
    assert torch.equal(none.x, plain.x)
    assert not torch.equal(one.x, plain.x)


# the law


def test_the_true_score_keeps_every_mass_as_it_is():
    """To 1e-6, between the modes and in each of them. (Within a mode the chain's own last step, which adds no noise,
    makes it a little narrower at each pass.)"""
    target, edges = line(), np.array([0.5, 1.5, 2.5, 3.5])
    denoiser = MixtureDenoiser(target, linear())
    chain, again = (
        mass_on_grid(denoiser, target, Grid.around(target, cells=2), sampler) for sampler in (Ancestral(), Restart())
    )
    assert np.abs(again.law.histogram(edges) - chain.law.histogram(edges)).max() < 1e-6
    assert again.value < 1e-6


@pytest.mark.parametrize("level", [2, 20])
def test_the_law_of_one_gaussian_follows_the_closed_form(level):
    """Its ideal denoiser is affine, so mean and variance go through every step, up and down, in closed form."""
    target, schedule, sampler = line([0.8], 0.3), linear(60, 0.01, 0.3), Restart(level=level, passes=3)
    mean, variance = 0.0, 1.0
    for k, descent in enumerate(sampler.descents(schedule)):
        if k:
            a, s = schedule.level(level)
            mean, variance = a * mean, a**2 * variance + s**2
        for t, u in pairwise((*descent, CLEAN)):
            a, s = schedule.level(t)
            slope = a * 0.3**2 / ((a * 0.3) ** 2 + s**2)  # x0_hat = 0.8 + slope (x - 0.8 a)
            c_x, c_0, std = sampler.transition(schedule, t, u)
            mean = (c_x + c_0 * slope) * mean + c_0 * 0.8 * (1 - slope * a)
            variance = (c_x + c_0 * slope) ** 2 * variance + std**2
    law = off_support(MixtureDenoiser(target, schedule), target, sampler, cells=6).law
    found = law.mass @ law.x_0[:, 0]
    assert found == pytest.approx(mean, rel=1e-6)
    assert law.mass @ (law.x_0[:, 0] - found) ** 2 == pytest.approx(variance, rel=1e-5)


def test_restarts_mend_the_shipped_model():
    """Frozen, and what the package promises: the mass between the modes over 100 times less, for 2 % more."""
    model, target, sampler = intermode.load("gaussian-1d"), line(), Restart()
    before, after = (mass_on_grid(model, target, Grid.around(target, cells=2), s) for s in (Ancestral(), sampler))
    assert before.between / after.between == pytest.approx(190, rel=0.05)
    assert sampler.evaluations(model.schedule) <= 1.02 * Ancestral().evaluations(model.schedule)
    assert after.beyond == pytest.approx(1.47e-5, rel=0.02)
    edges = np.array([0.5, 1.5, 2.5, 3.5])
    p, q = after.law.histogram(edges), before.law.histogram(edges)
    assert (p * np.log(p / q)).sum() - (p.sum() - q.sum()) < 1e-3


# levels


def test_levels_in_three_forms():
    schedule = linear()
    assert [timestep_of(level, schedule) for level in (3, 0.003, np.int64(3), np.float32(0.5))] == [3, 3, 3, 500]
    assert timestep_of(0.9999, schedule) == 999
    assert timestep_of(intermode.Window(0, 20), schedule) == 20
    ratio = [a**2 / s**2 for a, s in map(schedule.level, (30, 31))]
    assert timestep_of(intermode.SNR((ratio[0] + ratio[1]) / 2, 1e9), schedule) == 30


@pytest.mark.parametrize(
    ("level", "message"),
    [
        (0, "level: 0 is no noise to restart from; must be a timestep, at least 1"),
        (-4, "level: -4 is no noise to restart from; must be a timestep, at least 1"),
        (1.0, "level: 1.0 is no share of T, which lies strictly between 0 and 1"),
        (float("nan"), "level: nan is no share of T, which lies strictly between 0 and 1"),
        ("high", "level: 'high' is none; give a timestep, a share of T, or SNR(low, high)"),
        (True, "level: True is none; give a timestep, a share of T, or SNR(low, high)"),
        (40, "level: 40 is outside the timesteps 1..39 that a restart can begin at"),
        (0.01, "level: 0.01 is outside the timesteps 1..39 that a restart can begin at"),
        (
            intermode.SNR(1e8, 1e9),
            "level: SNR 1e+08..1e+09 is outside the timesteps 1..39 that a restart can begin at",
        ),
    ],
)
def test_impossible_levels_are_refused(schedule, level, message):
    with pytest.raises(InputError) as caught:
        Restart(level=level).descents(schedule)
    shown = (
        str(caught.value).replace(f"{level!r}", f"{level}") if isinstance(level, intermode.SNR) else str(caught.value)
    )
    assert shown == message


def test_an_impossible_level_is_refused_before_anything_is_written(tmp_path, schedule):
    with pytest.raises(InputError, match="level: 40 is outside"):
        intermode.sample(MixtureDenoiser(line(), schedule), 5, sampler=Restart(level=40), out=tmp_path / "a")
    assert not (tmp_path / "a").exists()


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Restart(passes=-1), "passes: -1 must be a whole number, at least 0"),
        (lambda: Restart(passes=1.5), "passes: 1.5 must be a whole number"),
        (lambda: Restart(Restart()), "sampler: Restart.* cannot be restarted"),
        (lambda: Restart(Ancestral), "sampler: .* cannot be restarted"),
    ],
)
def test_impossible_restarts_are_refused(make, message):
    with pytest.raises(InputError, match=message):
        make()
