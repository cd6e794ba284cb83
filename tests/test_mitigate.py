"""Mitigations: each has a limit in which it is the plain chain, and does on a known score what its formula says."""

import math
from itertools import pairwise

import numpy as np
import pytest
import torch

import intermode
from intermode.denoisers import Denoiser, MixtureDenoiser, NetworkDenoiser
from intermode.detect.lid import LID
from intermode.errors import InputError
from intermode.exact import Grid, mass_on_grid, off_support
from intermode.mitigate import (
    Clipped,
    DynamicallyGuided,
    Jump,
    Jumps,
    Quenched,
    Robust,
    Sharpened,
    StochasticTail,
    modes_of,
)
from intermode.noise import NoiseStream
from intermode.restart import Restart
from intermode.samplers import DDIM, Ancestral
from intermode.schedules import CLEAN, linear
from intermode.targets.gaussian import GaussianMixture, line


@pytest.fixture
def learned(network, schedule):
    return NetworkDenoiser(network(2), schedule)


@pytest.fixture
def plane():
    return GaussianMixture([[0.0, 0.0], [1.0, 0.5], [-1.0, 2.0]], [0.1, 0.2, 0.3], [0.2, 0.5, 0.3])


def corrections(denoiser, mixture, until=None, on=True):
    """Each of them, switched on or in the limit in which it is none."""
    inf = math.inf
    return {
        "sharpened": Sharpened(denoiser, 0.5 * on, until=until),
        "guided": DynamicallyGuided(denoiser, modes_of(mixture, denoiser.schedule), 0.5 * on, until=until),
        "sas": Robust(denoiser, "score", 0.5 * on, until=until),
        "cas": Robust(denoiser, "curvature", 0.5 * on, until=until),
        "rods": Robust(denoiser, "score", 0.5 * on, threshold=1e-3, until=until),
        "quenched": Quenched(denoiser, 0.5 * on, until=until),
        "clipped": Clipped(denoiser, *((-0.3, 0.3) if on else (-inf, inf)), until=until),
    }


NAMES = ("sampler", "sharpened", "guided", "sas", "cas", "rods", "quenched", "clipped")


def chain(denoiser, sampler=None, n=8, start=None):
    noise = NoiseStream(3, 0, n, (2,))
    return list((sampler or Ancestral())(denoiser, noise(), noise, start=start))


# denoisers


@pytest.mark.parametrize("name", NAMES[1:])
def test_each_has_a_limit_in_which_it_is_the_denoiser_itself(learned, plane, name):
    plain = chain(learned)[-1].x_next
    assert torch.equal(chain(corrections(learned, plane, on=False)[name])[-1].x_next, plain)
    assert corrections(learned, plane, on=False)[name].cost == 1
    assert not torch.equal(chain(corrections(learned, plane)[name])[-1].x_next, plain)


@pytest.mark.parametrize("name", NAMES[1:])
def test_each_acts_up_to_its_last_timestep_and_no_further(learned, plane, name):
    corrected = corrections(learned, plane, until=7)[name]
    x = torch.linspace(-2, 2, 8).reshape(4, 2)
    for t in (8, 39):
        assert torch.equal(corrected(x, t), learned(x, t))
        assert corrected.evaluations(t) == 1
    for t in (7, 0):
        assert not torch.equal(corrected(x, t), learned(x, t))
        assert corrected.evaluations(t) == corrected.cost
    assert corrected.identity != corrections(learned, plane, until=6)[name].identity != learned.identity


@pytest.mark.parametrize("name", NAMES[1:])
def test_its_cost_is_what_it_asks_of_the_network(learned, plane, name):
    """A call counts as one, and a call whose gradient is taken as three."""
    asked = []

    class Counted(Denoiser):
        schedule, shape = learned.schedule, (2,)

        def __call__(self, x_t, t, **condition):
            asked.append(3 if torch.is_grad_enabled() and x_t.requires_grad else 1)
            return learned(x_t, t, **condition)

    with torch.no_grad():
        corrected = corrections(Counted(), plane)[name]
        corrected(torch.randn(5, 2, generator=torch.Generator().manual_seed(0)), 3)
    assert sum(asked) == corrected.cost


class Power(Denoiser):
    """x0_hat = x^k, coordinate by coordinate."""

    def __init__(self, k, dimensions=2):
        self.k, self.schedule, self._shape = k, linear(40, 0.001, 0.4), (dimensions,)

    @property
    def shape(self):
        return self._shape

    def __call__(self, x_t, t, **condition):
        return x_t**self.k


def test_sharpening_takes_off_the_laplacian():
    """Exactly, of x^k for k <= 3, at any distance of the differences: the Laplacian is k (k - 1) x^(k - 2)."""
    x = torch.tensor([[0.3, -1.2], [2.0, 0.1]], dtype=torch.float64)
    for radius in (0.3, 1.0):
        for k, laplacian in ((1, 0 * x), (2, 2 + 0 * x), (3, 6 * x)):
            denoiser = Power(k)
            s = denoiser.schedule.level(5)[1]
            found = Sharpened(denoiser, 0.7, radius=radius)(x, 5)
            assert torch.allclose(found, x**k - 0.7 * s**2 * laplacian, rtol=1e-12)


def test_dynamic_guidance_follows_the_gradient_of_the_most_probable_mode(schedule, plane):
    """grad log p(y | x) = grad log p(x | y) - grad log p(x), from closed forms of another file."""
    true = MixtureDenoiser(plane, schedule)
    x, t, scale = torch.tensor([[0.2, 0.1], [0.9, 0.6], [-0.4, 1.1]], dtype=torch.float64), 3, 0.8
    a, s = schedule.level(t)
    noised = plane.noised(a, s)
    alone = [GaussianMixture(m[None], w) for m, w in zip(noised.means, noised.sigma, strict=True)]
    of_mode = torch.stack([one.log_prob(x) for one in alone], dim=1)
    best = (of_mode + torch.log(torch.from_numpy(plane.weights))).argmax(1)
    assert best.tolist() == [0, 1, 2]
    pull = torch.cat([alone[k].score(x[k : k + 1]) for k in best])
    expected = true(x, t) + scale * s**2 / a * (pull - noised.score(x))
    found = DynamicallyGuided(true, modes_of(plane, schedule), scale)(x, t)
    assert torch.allclose(found, expected, rtol=1e-10)


def test_at_full_scale_dynamic_guidance_is_the_denoiser_of_the_mode_alone(schedule, plane):
    x, t = torch.tensor([[0.2, 0.1], [0.9, 0.6], [-0.4, 1.1]], dtype=torch.float64), 3
    found = DynamicallyGuided(MixtureDenoiser(plane, schedule), modes_of(plane, schedule), 1.0)(x, t)
    for k, row in enumerate(found):
        alone = MixtureDenoiser(GaussianMixture(plane.means[k][None], plane.sigma[k]), schedule)
        assert torch.allclose(row, alone(x[k : k + 1], t)[0], rtol=1e-10)


@pytest.mark.parametrize("along", ["score", "curvature"])
def test_robust_looks_further_out_around_one_gaussian(schedule, along):
    """Around N(0, I) of 2 numbers, as it stays at every t, both directions lead outwards: the score -x becomes
    -x (1 + rho s / |x|)."""
    denoiser = MixtureDenoiser(GaussianMixture([[0.0, 0.0]], 1.0), schedule)
    x, t, radius = torch.tensor([[0.6, -0.8], [3.0, 4.0]], dtype=torch.float64), 4, 0.5
    s = schedule.level(t)[1]
    found = Robust(denoiser, along, radius).score(x, t)
    expected = -x * (1 + radius * s / x.norm(dim=1, keepdim=True))
    assert torch.allclose(found, expected, rtol=1e-9)


def test_robust_acts_where_the_landscape_bends(schedule):
    """Between two modes it does, in the middle of one it does not."""
    denoiser = MixtureDenoiser(line([-1, 1], 0.1), schedule)
    t = 3
    a, _ = schedule.level(t)
    x = torch.tensor([[1.02], [1.2], [0.05], [-0.05]], dtype=torch.float64) * a
    found = Robust(denoiser, "score", 0.5, threshold=0.5)(x, t)
    moved = (found != denoiser(x, t))[:, 0].tolist()
    assert moved == [False, False, True, True]
    everywhere = Robust(denoiser, "score", 0.5)(x, t)
    assert torch.equal(found[2:], everywhere[2:])


def test_quenching_goes_down_the_energy_of_one_gaussian(schedule):
    """Whose E is |x - mu|² (s a / v)² and a constant, x0_hat a straight line of slope a sigma² / v."""
    mu, sigma, k, t, strength = 0.4, 0.3, 3, 6, 0.7
    denoiser = MixtureDenoiser(line([mu], sigma), schedule)
    x = torch.tensor([[0.1], [1.4]], dtype=torch.float64)
    quenched = Quenched(denoiser, strength, level=k, nodes=3)
    a, s = schedule.level(k)
    v = (a * sigma) ** 2 + s**2
    at = denoiser(x, t)
    energy = (a**2 * sigma**2 / v) ** 2 + (s * a / v) ** 2 * (at[:, 0] - mu) ** 2
    assert torch.allclose(quenched.energy(at), energy, rtol=1e-10)
    a_t, s_t = schedule.level(t)
    slope = a_t * sigma**2 / ((a_t * sigma) ** 2 + s_t**2)
    expected = at - strength * s_t**2 / a_t * slope * 2 * (s * a / v) ** 2 * (at - mu)
    assert torch.allclose(quenched(x, t), expected, rtol=1e-10)


def test_the_energy_is_the_detectors(schedule, plane):
    """A sum over 25 nodes against a mean over 20,000 draws: within 6 standard errors."""
    denoiser = MixtureDenoiser(plane, schedule)
    x = torch.tensor([[0.1, 0.2], [0.5, 0.25]], dtype=torch.float64)
    exact = Quenched(denoiser, 1.0, level=3, nodes=15).energy(x)
    noise = NoiseStream(0, 0, 2, (2,), dtype=torch.float64)
    parts = np.stack([LID((3,), 100)(denoiser, x, noise).numpy() for _ in range(200)])
    assert np.abs(parts.mean(0) - exact.numpy()).max() < 6 * (parts.std(0) / np.sqrt(200)).max()


def test_clipping_ends_runaways_and_leaves_what_lies_between(modes):
    model = intermode.load("gaussian-1d")
    grid = Grid.around(modes, cells=1.5)
    low, high = (float(end) for end in (modes.means.min() - 0.25, modes.means.max() + 0.25))
    plain, clipped = (mass_on_grid(one, modes, grid) for one in (model, Clipped(model, low, high)))
    assert plain.beyond > 1e-5 > 1e-9 > clipped.beyond
    assert clipped.between == pytest.approx(plain.between, rel=0.02)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda d: Sharpened(d, -1.0), "strength: -1.0 must be at least 0"),
        (lambda d: Sharpened(d, 1.0, radius=0), "radius: 0 must be > 0"),
        (lambda d: DynamicallyGuided(d, None, math.inf), "scale: inf must be at least 0 and finite"),
        (lambda d: Robust(d, "noise", 1.0), "along: unknown 'noise'; choose score"),
        (lambda d: Robust(d, "score", -1.0), "radius, threshold: -1.0, 0.0 must be at least 0"),
        (lambda d: Quenched(d, float("nan")), "strength: nan must be at least 0"),
        (lambda d: Quenched(d, 1.0, nodes=1), "nodes: 1 must be a whole number, at least 2"),
        (lambda d: Quenched(Power(1, 3), 1.0), r"model: samples of shape \(3,\); the sum over noises"),
        (lambda d: Clipped(d, 1.0, 1.0), "low: 1.0 must be under high 1.0"),
        (lambda d: Clipped(d, 0.0, 1.0, until=-1), "until: -1 must be a whole number, at least 0"),
        (lambda d: Clipped(d, 0.0, 1.0)(torch.zeros(2, 2), torch.zeros(2)), "t: a corrected denoiser takes one int"),
    ],
)
def test_impossible_corrections_are_refused(learned, make, message):
    with pytest.raises(InputError, match=message):
        make(learned)


# samplers


@pytest.mark.parametrize("inner", [Ancestral(), Ancestral("small", 9), DDIM(0.0)], ids=str)
def test_without_jumps_the_chain_is_the_samplers_own(learned, inner):
    plain = chain(learned, inner)
    for none in (Jumps((), inner), Jumps(((0, 1, 0),), inner), Jumps.repaint(10, 1, 30, inner)):
        found = chain(learned, none)
        assert len(found) == len(plain)
        assert torch.equal(found[-1].x_next, plain[-1].x_next)
    start = 5 if inner.steps is None else 7
    down = [chain(learned, one, start=start) for one in (inner, Jumps(((10, 20, 3),), inner))]
    assert torch.equal(down[0][-1].x_next, down[1][-1].x_next)  # the jumps lie beyond the start


def test_jumps_go_where_they_are_told(learned):
    sampler = Jumps((Jump(3, 6, 2), Jump(1, 4)))
    whole = tuple(range(39, -1, -1))
    schedule = learned.schedule
    descents = [whole[: whole.index(3)], (6, 5, 4), (6, 5, 4, 3, 2), (4, 3, 2, 1, 0)]
    assert list(sampler.descents(schedule)) == descents
    steps = chain(learned, sampler)
    assert [step.t for step in steps if step.t != CLEAN] == [t for descent in descents for t in descent]
    assert sampler.evaluations(schedule) == sum(map(len, descents)) == sum(step.t != CLEAN for step in steps)
    assert sampler.levels(schedule) == (*descents[0], 3, 6, 5, 4, 3, 6, 5, 4, 3, 2, 1, 4, 3, 2, 1, 0)
    assert all(after.x_t is step.x_next for step, after in pairwise(steps))
    assert [step.restart for step in steps] == sorted(step.restart for step in steps)
    up = [step for step in steps if step.t == CLEAN]
    assert [(schedule.level(t), k + 1) for k, t in enumerate((3, 3, 1))] == [(s.level, s.restart) for s in up]


def test_repaints_timesteps_are_those_of_diffusers():
    from diffusers import RePaintScheduler

    scheduler = RePaintScheduler(num_train_timesteps=40)
    scheduler.set_timesteps(40, jump_length=5, jump_n_sample=3)
    climbs = scheduler.timesteps.tolist()
    ours = Jumps.repaint(5, 3, 40).levels(linear(40))
    # it climbs one timestep after the other, in which nothing is asked; ours goes up at once
    beside = zip([99, *climbs], climbs, [*climbs[1:], -1], strict=False)
    theirs = [t for before, t, after in beside if not before < t < after]
    assert list(ours) == theirs


@pytest.mark.parametrize("sampler", [Jumps(((5, 20, 2),)), Jumps.repaint(10, 3, 40)], ids=str)
def test_jumps_leave_the_law_of_one_gaussian_in_closed_form(sampler):
    """Its ideal denoiser is affine, so mean and variance go through every step, up and down; exact carries the same."""
    target, schedule = line([0.8], 0.3), linear(60, 0.01, 0.3)
    mean, variance = 0.0, 1.0
    levels = (*sampler.levels(schedule), CLEAN)
    for t, u in pairwise(levels):
        a, s = schedule.level(t)
        if u > t:
            up = schedule.level(u)[0] / a
            mean, variance = up * mean, up**2 * variance + schedule.level(u)[1] ** 2 - (up * s) ** 2
            continue
        slope = a * 0.3**2 / ((a * 0.3) ** 2 + s**2)
        c_x, c_0, std = sampler.transition(schedule, t, u)
        mean = (c_x + c_0 * slope) * mean + c_0 * 0.8 * (1 - slope * a)
        variance = (c_x + c_0 * slope) ** 2 * variance + std**2
    denoiser = MixtureDenoiser(target, schedule)
    law = off_support(denoiser, target, sampler, cells=6).law
    found = law.mass @ law.x_0[:, 0]
    assert found == pytest.approx(mean, rel=1e-6)
    assert law.mass @ (law.x_0[:, 0] - found) ** 2 == pytest.approx(variance, rel=1e-5)
    # and samples have it: 40,000 of them, within 6 standard errors
    n = 40_000
    noise = NoiseStream(1, 0, n, (1,), dtype=torch.float64)
    *_, last = sampler(denoiser, noise(), noise)
    assert float(last.x_next.mean()) == pytest.approx(mean, abs=6 * math.sqrt(variance / n))
    assert float(last.x_next.var()) == pytest.approx(variance, rel=6 * math.sqrt(2 / n))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Jumps(((5, 5),)), r"jumps: \(5, 5, 1\) must go up from a timestep, 0 times or more"),
        (lambda: Jumps(((CLEAN, 5),)), r"jumps: \(-1, 5, 1\) must go up"),
        (lambda: Jumps(((5, 9, -1),)), r"jumps: \(5, 9, -1\) must go up"),
        (lambda: Jumps(((5, 9), (5, 8))), "jumps: two of them begin at one level"),
        (lambda: Jumps((), Restart()), "sampler: Restart.* cannot jump"),
        (lambda: Jumps(((5, 9),), Ancestral(steps=9)).descents(linear(40)), "jumps: 9 is not among the timesteps"),
        (lambda: StochasticTail(-1), "level: -1 must be a whole number, at least 0"),
        (lambda: StochasticTail(5, -2), "length: -2 must be at least 0"),
    ],
)
def test_impossible_samplers_are_refused(make, message):
    with pytest.raises(InputError, match=message):
        make()


def test_a_tail_of_no_steps_is_ddim_and_one_of_all_is_ddpm(learned):
    for steps in (None, 9):
        ddim, ddpm = chain(learned, DDIM(0.0, steps))[-1].x_next, chain(learned, DDIM(1.0, steps))[-1].x_next
        assert torch.equal(chain(learned, StochasticTail(20, 0, steps))[-1].x_next, ddim)
        assert torch.equal(chain(learned, StochasticTail(39, None, steps))[-1].x_next, ddpm)
    schedule = learned.schedule
    noisy = [t for t in range(1, 40) if StochasticTail(20, 5).transition(schedule, t, t - 1).std > 0]
    assert noisy == [16, 17, 18, 19, 20]
    posterior = Ancestral("small").transition(schedule, 18, 17)
    assert StochasticTail(20, 5).transition(schedule, 18, 17) == pytest.approx(tuple(posterior))
