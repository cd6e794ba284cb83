"""The reverse chain's law against closed forms, against samples, and against itself on other grids and levels."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import norm

import intermode
from intermode.denoisers import Denoiser, MixtureDenoiser, TabulatedDenoiser
from intermode.errors import InputError
from intermode.exact import Grid, Law, Mass, Outcome, mass_on_grid, off_support, propagate, start, weigh
from intermode.samplers import DDIM, Ancestral, Sampler
from intermode.schedules import CLEAN, linear
from intermode.targets import Labels
from intermode.targets.gaussian import GaussianMixture, line
from intermode.targets.lattice import grid

PAPER = linear()
SAMPLERS = [Ancestral("large"), Ancestral("small"), DDIM(1.0), Ancestral("large", steps=9)]
RESTART = [3, 2, 1, 0]


def gaussian(dimensions, sigma=0.3):
    """One Gaussian, off the centre and not alike in its dimensions."""
    return GaussianMixture(np.array([[0.8, -0.5]])[:, :dimensions], sigma)


def chain_law(mixture, schedule, sampler):
    """Mean (d,) and variance of the reverse chain of one Gaussian's ideal denoiser, which is affine in x_t."""
    mu, sigma = mixture.means[0], mixture.sigma[0]
    mean, variance = np.zeros_like(mu), 1.0
    visited = sampler.timesteps(schedule)
    for t, u in zip(visited, (*visited[1:], CLEAN), strict=True):
        a, s = schedule.level(t)
        slope = a * sigma**2 / ((a * sigma) ** 2 + s**2)  # x0_hat = mu + slope (x - a mu)
        c_x, c_0, std = sampler.transition(schedule, t, u)
        factor = c_x + c_0 * slope
        mean = factor * mean + c_0 * (1 - slope * a) * mu
        variance = factor**2 * variance + std**2
    return mean, variance


def outcome(denoiser, where, sampler=None):
    first, *rest = (sampler or Ancestral()).timesteps(denoiser.schedule)
    return propagate(start(denoiser.schedule, where, first), denoiser, [*rest, CLEAN], sampler)


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
    law = outcome(MixtureDenoiser(target, schedule), Grid(1, -1, 2.5, 8), sampler)
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
    law = outcome(MixtureDenoiser(target, brief), Grid(2, -2, 2.5, 4), sampler)
    mean, variance = chain_law(target, brief, sampler)
    m, v, fourth = moments(law)
    assert m == pytest.approx(mean, abs=1e-6)
    assert np.abs(v - variance * np.eye(2)).max() < 1e-5 * variance
    assert fourth == pytest.approx(np.full(2, 3 * variance**2), rel=1e-3)


def test_masses_far_in_the_tail_are_exact(schedule):
    """Down to 1e-10 to a few percent: far under what samples could ever show."""
    target = gaussian(1)
    mean, variance = chain_law(target, schedule, Ancestral())
    law = outcome(MixtureDenoiser(target, schedule), Grid(1, -1, 2.5, 16, negligible=1e-16))
    for sds in (1.0, 3.0, 5.0, 6.4):
        (tail,) = law.histogram(np.array([-9.0, mean[0] - sds * math.sqrt(variance)]))
        assert tail == pytest.approx(norm.sf(sds), rel=0.02), sds


def test_refining_the_grid_converges_with_fourth_order(schedule):
    """The B-spline's first error is in the fourth moment: half the cells, a sixteenth of the error."""
    target = gaussian(1)
    _, variance = chain_law(target, schedule, Ancestral())
    errors = []
    for cells in (1.25, 2.5, 5):
        _, v, fourth = moments(outcome(MixtureDenoiser(target, schedule), Grid(1, -1, 2.5, cells)))
        errors.append(abs(fourth[0] - 3 * variance**2))
        assert v[0, 0] == pytest.approx(variance, rel=1e-6)  # no error in the second
    orders = np.log2(np.array(errors[:-1]) / errors[1:])
    assert (orders > 3.5).all(), orders


@pytest.mark.parametrize("cells", [1.25, 2, 4])
@pytest.mark.parametrize(
    "target",
    [
        line([1, 2, 3]),
        line([1, 2, 4]),
        GaussianMixture([[-0.7, -0.7], [0.7, -0.7], [0.0, 0.9]], [0.2, 0.1, 0.3], [0.5, 0.3, 0.2]),
    ],
    ids=["1, 2, 3", "1, 2, 4", "plane"],
)
def test_mass_is_conserved_and_positive(brief, target, cells):
    law = outcome(MixtureDenoiser(target, brief), Grid.around(target, cells=cells))
    assert law.mass.sum() == pytest.approx(1, abs=1e-6)
    assert (law.mass >= 0).all()
    assert law.escaped < 1e-9


@pytest.mark.parametrize("beyond", [2.0, 2.3, 2.6, 3.0, 3.5, 4.0, 5.0])
def test_off_support_mass_of_one_gaussian_and_its_error_estimate(schedule, beyond):
    """In closed form; the estimate must hold for any place of the support's edge within a grid cell."""
    target = GaussianMixture([[0.8]], 0.1, beyond=beyond)
    mean, variance = chain_law(target, schedule, Ancestral())
    edges = 0.8 + beyond * 0.1 * np.array([-1, 1])
    exact = norm.cdf(edges[0], mean[0], math.sqrt(variance)) + norm.sf(edges[1], mean[0], math.sqrt(variance))
    mass = off_support(MixtureDenoiser(target, schedule), target)
    assert mass.value == pytest.approx(exact, rel=0.005)
    assert abs(mass.value - exact) <= 2 * mass.error


def test_off_support_mass_of_a_gaussian_in_the_plane(brief):
    """The distance from the mode is Rayleigh's; the edge of the support crosses many cells."""
    target = GaussianMixture([[0.3, -0.2]], 0.1, beyond=3.0)
    _, variance = chain_law(target, brief, Ancestral())
    exact = math.exp(-0.5 * 0.3**2 / variance)
    mean, _ = chain_law(target, brief, Ancestral())
    assert mean == pytest.approx(target.means[0], abs=1e-3)
    mass = off_support(MixtureDenoiser(target, brief), target, cells=3)
    assert mass.value == pytest.approx(exact, rel=0.005)
    assert abs(mass.value - exact) < 2 * mass.error < 0.04 * exact


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
    mass = off_support(denoiser, target, cells=6)
    law = mass.law
    labels = target.label(intermode.sample(denoiser, n, detectors=(), seed=1).x)
    assert mass.value > 3e-4  # enough hallucinations to compare
    assert mass.error < 0.01 * mass.value
    error = math.sqrt(mass.value * (1 - mass.value) / n)
    assert abs(labels.rate - mass.value) < 5.5 * error + mass.error
    # and every mode's share, by the nearest mode
    nearest = target.label(law.x_0).nearest
    for mode in range(len(target.means)):
        share = law.mass[nearest == mode].sum()
        assert abs((labels.nearest == mode).mean() - share) < 5.5 * math.sqrt(share * (1 - share) / n) + 1e-4


def test_off_support_mass_agrees_with_samples_in_the_plane(brief):
    """Within 5.5 standard errors (p = 4e-8)."""
    n = 100_000
    target = GaussianMixture([[-0.7, -0.7], [0.7, -0.7], [0.0, 0.9]], [0.08, 0.1, 0.1], [0.5, 0.3, 0.2], beyond=4.0)
    denoiser = MixtureDenoiser(stand_in(target, 1.5), brief)
    mass = off_support(denoiser, target, cells=3)
    rate = target.label(intermode.sample(denoiser, n, detectors=(), seed=1).x).rate
    assert mass.value > 1e-3
    assert abs(rate - mass.value) < 5.5 * math.sqrt(mass.value / n) + mass.error


@pytest.mark.parametrize("name", MIXTURES)
def test_error_estimate_covers_a_finer_grid(name, schedule):
    """Between modes x0_hat is steep, and few nodes carry the mass there."""
    target, widened = MIXTURES[name]
    denoiser = MixtureDenoiser(stand_in(target, widened), schedule)
    finest = off_support(denoiser, target, cells=12)
    for cells in (2, 3, 4):
        mass = off_support(denoiser, target, cells=cells)
        assert abs(mass.value - finest.value) <= 2 * (mass.error + finest.error), cells


# the shipped model, and the paper's control


@pytest.fixture(scope="module")
def learned():
    return off_support("gaussian-1d", line())


def test_mass_of_the_shipped_model(learned):
    """Frozen: grids of 4 and 8 cells gave 5.5582e-4 and 5.5588e-4. Of 1e6 samples 523 are off the support."""
    assert learned.value == pytest.approx(5.558e-4, rel=5e-4)
    assert abs(learned.value - 5.5588e-4) < 2 * learned.error < 0.002 * learned.value
    assert abs(learned.value - 523e-6) < 3 * math.sqrt(523) * 1e-6
    assert learned.between == pytest.approx(5.356e-4, rel=0.001)
    assert learned.beyond == pytest.approx(2.02e-5, rel=0.01)
    assert learned.escaped == pytest.approx(1.47e-5, rel=0.01)
    assert str(learned) == "5.558e-4 ± 0.002e-4"


@pytest.fixture(scope="module")
def true():
    return off_support(MixtureDenoiser(line(), PAPER), line())


def test_true_score_does_not_hallucinate(true):
    """The paper's control: 1000 steps with the mixture's own denoiser leave next to nothing off its support.

    Frozen: a grid of 12 cells gave 2.4640e-8.
    """
    assert true.value == pytest.approx(2.464e-8, rel=0.002)
    assert abs(true.value - 2.464e-8) < 2 * true.error
    assert true.escaped < 1e-12


@pytest.mark.slow
def test_mass_of_the_shipped_lattice():
    """Frozen: 1.8472e-3 on a grid of 2 cells with late steps twice as fine."""
    mass = off_support("grid", grid())
    assert mass.value == pytest.approx(1.847e-3, rel=0.001)
    assert mass.error < 0.005 * mass.value
    assert mass.between > 0.98 * mass.value


# laws carried on: mixed scores and restarts


def test_carrying_a_law_in_parts_is_carrying_it_at_once(schedule, modes):
    denoiser, where = MixtureDenoiser(modes, schedule), Grid.around(modes)
    whole = outcome(denoiser, where)
    law = start(schedule, where)
    for level in (*range(23, -1, -1), CLEAN):
        assert isinstance(law, Law)
        law = propagate(law, denoiser, [level])
        assert law.t == level
    assert np.array_equal(law.x_0, whole.x_0)
    assert np.array_equal(law.mass, whole.mass)


@pytest.mark.parametrize("above", [0, 7, 15])
def test_noise_is_added_as_the_forward_process_adds_it(schedule, modes, above):
    """The data's law noised from ``CLEAN``, in one step and in two, is the noised mixture."""
    x = np.linspace(0.4, 3.6, 3201)[:, None]
    mass = modes.log_prob(x).exp().numpy()
    clean = Outcome(x, mass / mass.sum(), grid=Grid.around(modes, cells=8))
    denoiser = MixtureDenoiser(modes, schedule)
    for levels in ([above], [above // 2, above]) if above else ([above],):
        law = propagate(clean, denoiser, levels)
        nodes, density = law.density(0.01)
        expected = modes.noised(*schedule.level(above)).log_prob(nodes).exp().numpy()
        assert np.abs(density - expected).max() < 1e-3 * expected.max(), levels


@pytest.fixture(scope="module")
def at_10():
    """The laws at t = 10 of the shipped model's chain and of the true one."""
    model, true = intermode.load("gaussian-1d"), MixtureDenoiser(line(), PAPER)
    where = Grid.around(line(), cells=3)
    laws = (propagate(start(PAPER, where), denoiser, range(998, 9, -1)) for denoiser in (model, true))
    return (model, true, *laws)


def test_interpolation_is_made_in_the_last_steps(at_10):
    """The true score for t <= 10 leaves what it makes itself between the modes, and the runaways of before; the learned
    one for t <= 10 alone makes three quarters of all."""
    model, true, learned_law, true_law = at_10
    mended = weigh(propagate(learned_law, true, range(9, -1, -1)), true, line())
    assert mended.between == pytest.approx(3.4e-8, rel=0.05)
    assert mended.beyond == pytest.approx(1.47e-5, rel=0.01)
    made = weigh(propagate(true_law, model, range(9, -1, -1)), model, line())
    assert made.value == pytest.approx(4.13e-4, rel=0.005)


def test_a_restart_with_the_true_score_leaves_the_law_as_it_is(true):
    denoiser, edges = MixtureDenoiser(line(), PAPER), np.array([0.5, 1.5, 2.5, 3.5])
    after = weigh(propagate(true.law, denoiser, RESTART), denoiser, line())
    assert after.value < 1e-6
    assert np.abs(after.law.histogram(edges) - true.law.histogram(edges)).max() < 1e-6


def test_late_restarts_mend_the_shipped_model(learned):
    """One from t = 3 divides the mass by 6; four divide what is between the modes by 200 and leave the runaways."""
    model, masses = intermode.load("gaussian-1d"), [learned]
    for _ in range(4):
        masses.append(weigh(propagate(masses[-1].law, model, RESTART), model, line()))
    assert learned.value / masses[1].value == pytest.approx(5.9, rel=0.02)
    assert learned.between / masses[4].between == pytest.approx(178, rel=0.05)
    assert masses[4].beyond > 0.95 * learned.escaped
    shares = [mass.law.histogram(np.array([0.5, 1.5, 2.5, 3.5])) for mass in (learned, masses[4])]
    assert shares[1] == pytest.approx(shares[0], abs=1e-3)


# what leaves the grid


class Pulls(Denoiser):
    """Sends everything to one place."""

    def __init__(self, schedule, *place):
        self.schedule, self.place = schedule, torch.tensor(place, dtype=torch.float64)

    def __call__(self, x_t, t, **condition):
        return self.place.expand_as(x_t)


def test_what_leaves_the_grid_is_followed_and_told(schedule):
    mass = off_support(Pulls(schedule, 20.0), line([1, 2]))
    assert mass.escaped == mass.value == mass.beyond
    assert 0 <= 1 - mass.value <= mass.error < 1e-4  # a ten-thousandth is negligible
    assert np.allclose(mass.law.x_0, 20.0)


def test_what_ends_where_no_number_reaches_is_off_the_support(schedule):
    mass = off_support(Pulls(schedule, math.nan), line([1, 2]))
    assert mass.value == mass.beyond == pytest.approx(1, abs=1e-4)


def test_a_range_too_small_is_widened_to_the_target(learned):
    """A grid over 0.5..2 loses the mode at 3, which is no hallucination."""
    mass = off_support("gaussian-1d", line(), low=0.5, high=2)
    assert mass.value == pytest.approx(learned.value, rel=0.002)
    assert Grid.around(line(), 0.5, 2).high > 3
    assert Grid.around(line(), -9, 9) == Grid(1, -9, 9)


@pytest.fixture
def found(monkeypatch):
    """Stands for the work on a grid: notes the grids, from which the more escapes the less they reach."""

    def prepare(settles):
        grids = []

        def work(denoiser, target, where, sampler, task):
            grids.append(where)
            escaped = max(settles - where.reach, 0) / 100
            law = Outcome(np.ones((1, 1)), np.ones(1), escaped, where)
            return Mass(0.3, 0.0, escaped, 0.3, 0.0, law)

        monkeypatch.setattr("intermode.exact.mass_on_grid", work)
        return grids

    return prepare


def test_a_grid_is_widened_while_its_range_decides_the_answer(schedule, modes, found):
    grids = found(settles=12.5)
    mass = off_support(MixtureDenoiser(modes, schedule), modes)
    assert mass.escaped == 0
    coarse, fine, wider_coarse, wider = grids
    assert (coarse.reach, fine.reach, wider_coarse.reach, wider.reach) == (10, 12, 15, 18)
    assert (wider.low, wider.high) == pytest.approx(
        (fine.low - (fine.high - fine.low) / 2, fine.high + (fine.high - fine.low) / 2)
    )


def test_an_answer_that_the_grids_range_decides_is_refused(schedule, modes, found):
    grids = found(settles=40)
    with pytest.raises(InputError, match=r"model: 0\.13 of its mass leaves the grid .* or 0\.17 on a narrower one"):
        off_support(MixtureDenoiser(modes, schedule), modes)
    assert len(grids) == 6


# inside and outside the hull


def test_mass_between_and_beyond_the_modes(brief):
    """A denoiser that sends everything to the middle of a lattice's cell, outside its hull, or far away."""
    target = GaussianMixture([[-1, -1], [-1, 1], [1, -1], [1, 1]], 0.05)
    for place, inside in (((0.0, 0.0), True), ((0.5, -0.9), True), ((1.5, 0.0), False), ((0.0, 9.0), False)):
        mass = mass_on_grid(Pulls(brief, *place), target, Grid.around(target))
        assert (mass.between, mass.beyond)[not inside] == pytest.approx(1, abs=1e-6), place
        assert (mass.between, mass.beyond)[inside] == 0, place


@pytest.mark.parametrize("place", [1.5, 2.5, 0.5, 3.5])
def test_between_on_a_line_is_between_the_outermost_modes(brief, place):
    mass = mass_on_grid(Pulls(brief, place), line(), Grid.around(line()))
    assert mass.value == pytest.approx(1, abs=1e-6)
    assert mass.between == pytest.approx(float(1 < place < 3), abs=1e-6)


class Ring:
    """An own target: the points of the plane at distance 0.8 to 1.2."""

    shape = (2,)

    def sample(self, n, seed):
        angle = torch.linspace(0, 2 * math.pi, n + 1)[:-1]
        return torch.stack([angle.cos(), angle.sin()], dim=1)

    def label(self, x):
        bad = np.abs(np.linalg.norm(np.asarray(x), axis=1) - 1) > 0.2
        return Labels(bad, np.where(bad, "off", "in-support"))


def test_an_own_target_needs_only_its_draws_and_labels(brief):
    mass = off_support(MixtureDenoiser(GaussianMixture([[0, 0]], 0.5), brief), Ring(), cells=3)
    _, variance = chain_law(GaussianMixture([[0, 0]], 0.5), brief, Ancestral())
    inner, outer = (math.exp(-0.5 * r**2 / variance) for r in (0.8, 1.2))
    assert mass.between == pytest.approx(1 - inner, rel=0.01)
    assert mass.beyond == pytest.approx(outer, rel=0.01)


def test_an_own_sampler_of_five_lines_is_carried_and_sampled(schedule, modes):
    class Louder(Sampler):
        steps = 12

        def transition(self, schedule, t, u):
            c_x, c_0, std = Ancestral().transition(schedule, t, u)
            return c_x, c_0, 1.1 * std

    denoiser, n = MixtureDenoiser(stand_in(modes, 1.5), schedule), 100_000
    mass = off_support(denoiser, modes, Louder())
    rate = modes.label(intermode.sample(denoiser, n, sampler=Louder(), detectors=(), seed=2).x).rate
    assert mass.value > 1e-3
    assert abs(rate - mass.value) < 5.5 * math.sqrt(mass.value / n) + mass.error
    assert mass.value != off_support(denoiser, modes, Ancestral(steps=12)).value


# how it prints, and what it is told


@pytest.mark.parametrize(
    ("value", "error", "text"),
    [
        (5.642e-4, 0.0213e-4, "5.64e-4 ± 0.03e-4"),
        (5.5588e-4, 1.1e-9, "5.55880e-4 ± 0.00002e-4"),
        (2.46e-8, 4e-12, "2.4600e-8 ± 0.0004e-8"),
        (0.2718, 0.0031, "0.272 ± 0.004"),
        (1.0, 0.0, "1.000000 ± 0.000000"),
        (3e-9, 1.4e-7, "0.0e-7 ± 1.4e-7"),
        (0.0, 0.0, "0"),
    ],
)
def test_a_mass_prints_with_the_digits_that_its_error_supports(value, error, text):
    law = Outcome(np.empty((0, 1)), np.empty(0))
    assert str(Mass(value, error, 0.0, value, 0.0, law)) == text
    assert repr(Mass(value, error, 0.0, value, 0.0, law)) == text


@given(value=st.floats(1e-12, 1), share=st.floats(1e-5, 2))
def test_the_printed_interval_holds_the_value(value, share):
    text = str(Mass(value, share * value, 0.0, value, 0.0, Outcome(np.empty((0, 1)), np.empty(0))))
    middle, error = map(float, text.split(" ± "))
    assert error >= 0.999 * min(share * value, 1)
    assert abs(middle - value) <= error


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
    off_support(MixtureDenoiser(modes, schedule), modes, Ancestral(steps=10), cells=2, progress=steps)
    assert steps.done == steps.total == 20


# what is refused


@pytest.mark.parametrize("sampler", [DDIM(0.0), DDIM(0.0, 5)], ids=str)
def test_a_chain_without_noise_is_refused(schedule, modes, sampler):
    with pytest.raises(InputError, match="sampler: every step but the last must add noise"):
        off_support(MixtureDenoiser(modes, schedule), modes, sampler)


def test_a_chain_with_next_to_no_noise_is_refused_before_it_fills_the_memory(brief):
    with pytest.raises(InputError, match=r"sampler: .* needs a grid of .* nodes"):
        off_support(MixtureDenoiser(grid(), brief), grid(), DDIM(1e-4))


def test_an_outcome_made_by_hand_has_no_grid(schedule, modes):
    with pytest.raises(InputError, match="law: an outcome made by hand"):
        propagate(Outcome(np.ones((1, 1)), np.ones(1)), MixtureDenoiser(modes, schedule), [3])


def test_a_last_step_with_noise_is_refused(schedule, modes):
    class Noisy(Ancestral):
        def transition(self, schedule, t, u):
            return 0.5, 0.5, 0.1

    with pytest.raises(InputError, match="the last step, to the clean data, must add no noise"):
        off_support(MixtureDenoiser(modes, schedule), modes, Noisy())


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((3, -7, 7), "dimensions: 3 cannot be carried on a grid; choose 1 or 2"),
        ((1, 7, -7), "low: 7 must be under high -7"),
        ((1, -math.inf, 7), "low: -inf must be under high 7, both finite"),
        ((1, -7, 7, 1), "cells: 1 must be at least 1.25"),
    ],
)
def test_impossible_grids_are_refused(arguments, message):
    with pytest.raises(InputError, match=message):
        Grid(*arguments)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"lo": 1}, "lo: is no argument of off_support; did you mean low?"),
        ({"low": "small"}, "low, high: 'small' is not an array of numbers"),
        ({"model": "gaussian-7d"}, "gaussian-7d"),
        ({"target": GaussianMixture([[0, 0, 0]], 1)}, "dimensions: 3"),
    ],
)
def test_what_does_not_fit_is_refused_at_once(given, message):
    with pytest.raises(InputError) as error:
        off_support(**{"model": "gaussian-1d", "target": line()} | given)
    assert message in str(error.value)
    assert "\n" not in str(error.value)
