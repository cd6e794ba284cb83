"""Gaussian mixtures: closed forms against autograd and quadrature, draws, labels, and the lattices."""

import itertools
import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from intermode.errors import InputError
from intermode.targets.gaussian import GaussianMixture, line
from intermode.targets.lattice import diamond, grid


@st.composite
def mixtures(draw, dimensions=(1, 4)):
    """Random mixtures with unequal weights and widths."""
    d = draw(st.integers(*dimensions))
    modes = draw(st.integers(1, 5))
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    weights = rng.dirichlet(np.ones(modes))
    return GaussianMixture(rng.uniform(-3, 3, (modes, d)), rng.uniform(0.05, 1.0, modes), weights)


LEVELS = st.sampled_from([(1.0, 0.0), (0.99, 0.1), (0.8, 0.6), (0.3, 0.95), (1e-3, 1.0)])


def points(mixture, signal, noise, count=30):
    """Some from the noised mixture, where it is dense, and some far from it."""
    rng = np.random.default_rng(0)
    mode = rng.integers(0, len(mixture.means), count)
    spread = np.sqrt((signal * mixture.sigma[mode]) ** 2 + noise**2)[:, None]
    x = signal * mixture.means[mode] + spread * rng.standard_normal((count, mixture.shape[0]))
    x[: count // 3] += rng.uniform(-4, 4, (count // 3, mixture.shape[0]))
    return torch.from_numpy(x)


# closed forms


@given(mixture=mixtures(), level=LEVELS)
def test_score_of_the_noised_mixture_is_the_gradient_of_its_log_density(mixture, level):
    noised = mixture.noised(*level)
    x = points(mixture, *level).requires_grad_()
    (gradient,) = torch.autograd.grad(noised.log_prob(x).sum(), x)
    assert torch.allclose(noised.score(x.detach()), gradient, rtol=1e-6, atol=1e-6)


@given(mixture=mixtures(), level=LEVELS.filter(lambda level: level[1] > 0))
def test_posterior_mean_satisfies_tweedie(mixture, level):
    """a E[x_0 | x_t] = x_t + s² ∇ log p_t(x_t), with the score taken by autograd."""
    signal, noise = level
    x = points(mixture, signal, noise).requires_grad_()
    (score,) = torch.autograd.grad(mixture.noised(signal, noise).log_prob(x).sum(), x)
    x0_hat = mixture.posterior_mean(x.detach(), signal, noise)
    assert torch.allclose(signal * x0_hat, x.detach() + noise**2 * score, rtol=1e-9, atol=1e-9)


def test_posterior_mean_is_bayes_rule(uneven):
    """By quadrature over x_0, with no formula for Gaussians products."""
    signal, noise, x_t = 0.9, 0.4, torch.tensor([[0.3], [1.6], [3.0]], dtype=torch.float64)
    x_0 = torch.linspace(-1, 6, 70_001, dtype=torch.float64)
    prior = uneven.log_prob(x_0[:, None])
    joint = torch.softmax(prior - 0.5 * ((x_t - signal * x_0) / noise) ** 2, dim=1)
    expected = (joint * x_0).sum(1, keepdim=True)
    assert torch.allclose(uneven.posterior_mean(x_t, signal, noise), expected, rtol=0, atol=1e-9)


@given(mixture=mixtures(dimensions=(1, 1)), level=LEVELS)
def test_density_integrates_to_one_in_1d(mixture, level):
    noised = mixture.noised(*level)
    x = torch.linspace(-20, 20, 40_001, dtype=torch.float64)[:, None]
    assert torch.trapezoid(noised.log_prob(x).exp(), x[:, 0]).item() == pytest.approx(1, abs=1e-9)


@given(mixture=mixtures())
def test_density_is_scipys(mixture):
    x = points(mixture, 1.0, 0.0)
    expected = sum(
        w * stats.multivariate_normal(m, s**2).pdf(x.numpy())
        for w, m, s in zip(mixture.weights, mixture.means, mixture.sigma, strict=True)
    )
    assert np.allclose(mixture.log_prob(x).exp().numpy(), expected, rtol=1e-9, atol=1e-300)


def test_density_far_out_stays_exact():
    """1000 σ away the density underflows, its logarithm and gradient do not."""
    mixture = line([0.0, 1.0], 0.01)
    x = torch.tensor([[11.0]], dtype=torch.float64)
    assert mixture.log_prob(x).item() == pytest.approx(math.log(0.5) + stats.norm(1, 0.01).logpdf(11), rel=1e-12)
    assert mixture.score(x).item() == pytest.approx(-10 / 0.01**2, rel=1e-12)
    assert mixture.posterior_mean(x, 1.0, 0.01).item() == pytest.approx(6.0, rel=1e-12)


# draws


@pytest.mark.parametrize("n", [1, 100, 4096, 4097, 9000])
def test_a_draw_is_the_start_of_a_longer_one(uneven, n):
    assert torch.equal(uneven.sample(n, seed=1), uneven.sample(2 * n, seed=1)[:n])


def test_draws_differ_by_seed_and_never_repeat(uneven):
    a, b = uneven.sample(9000, seed=0), uneven.sample(9000, seed=1)
    assert not torch.equal(a, b)
    assert len(torch.unique(a)) > 8900  # a repeated block of the generator would halve it


@pytest.mark.parametrize(
    "mixture", [line([1, 2, 4]), line([1.0, 2.0, 3.5], [0.05, 0.1, 0.03], [0.2, 0.7, 0.1]), grid()]
)
def test_draws_have_the_mixtures_shares_centres_and_widths(mixture):
    """Each within 6 standard errors: p = 2e-9 each, under 1e-6 for the 150 of them together."""
    n, d = 100_000, mixture.shape[0]
    x = mixture.sample(n, seed=0).double().numpy()
    mode = mixture.label(x).nearest
    for k, (mean, sigma, weight) in enumerate(zip(mixture.means, mixture.sigma, mixture.weights, strict=True)):
        rows = x[mode == k]
        assert abs(len(rows) / n - weight) < 6 * np.sqrt(weight * (1 - weight) / n)
        assert (np.abs(rows.mean(0) - mean) < 6 * sigma / np.sqrt(len(rows))).all()
        assert abs(((rows - mean) ** 2).mean() / sigma**2 - 1) < 6 * np.sqrt(2 / (len(rows) * d))


def test_a_mode_without_weight_is_never_drawn_and_changes_nothing():
    with_ghost, without = line([1, 2, 9], weights=[0.5, 0.5, 0.0]), line([1, 2])
    x = with_ghost.sample(5000, seed=0)
    assert x.max() < 3
    assert torch.allclose(with_ghost.score(x.double()), without.score(x.double()), rtol=1e-12)


# labels


def test_distance_is_the_least_in_units_of_each_modes_own_sigma():
    """2.0 is nearer to the narrow mode in space, but within fewer σ of the wide one."""
    mixture = line([0.0, 3.0], [1.0, 0.1])
    labels = mixture.label(np.array([[2.0], [2.9], [-3.0]]))
    assert labels.nearest.tolist() == [0, 1, 0]
    assert labels.distance == pytest.approx([2.0, 1.0, 3.0])


def test_hallucinated_begins_beyond_k_sigma():
    for k in (3.0, 6.0):
        mixture = line([0.0, 10.0], 0.5, beyond=k)
        labels = mixture.label(np.array([[k * 0.5 - 1e-9], [k * 0.5 + 1e-9], [-k * 0.5 + 1e-9], [-k * 0.5 - 1e-9]]))
        assert labels.hallucinated.tolist() == [False, True, False, True]
        assert labels.rule.tolist() == ["in-support", "between", "in-support", "outside"]


def test_between_names_the_two_neighbouring_modes():
    labels = line([1, 2, 4]).label(np.array([[1.5], [3.0], [0.0], [4.5], [2.0]]))
    assert labels.between.tolist() == [[0, 1], [1, 2], [-1, -1], [-1, -1], [-1, -1]]
    assert labels.rule.tolist() == ["between", "between", "outside", "outside", "in-support"]
    assert labels.rate == 0.8
    assert labels.counts() == {"between": 2, "in-support": 1, "outside": 2}


def test_between_in_the_plane_is_a_tube_around_the_open_segment():
    mixture = GaussianMixture(np.array([[0.0, 0.0], [4.0, 0.0]]), np.array([0.1, 0.2]), np.array([0.5, 0.5]))
    inside = 6 * 0.2  # of the wider mode's σ
    x = np.array([[2.0, inside - 1e-9], [2.0, inside + 1e-9], [-1e-9, 0.7], [1e-9, 0.7], [4 + 1e-9, 1.2 + 1e-6]])
    labels = mixture.label(x)
    assert labels.rule.tolist() == ["between", "outside", "outside", "between", "outside"]


def test_of_several_segments_the_shortest_counts():
    """On a line, 1.5 lies between 1 and 2, and also between 1 and 3."""
    for means in itertools.permutations([1.0, 2.0, 3.0]):
        i, j = line(list(means)).label(np.array([[1.5]])).between[0]
        assert {means[i], means[j]} == {1.0, 2.0}


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("column", [0, 1])
def test_samples_that_are_not_finite_are_diverged(bad, column):
    x = np.zeros((3, 2))
    x[1, column] = bad
    labels = grid().label(torch.from_numpy(x))
    assert labels.rule.tolist() == ["in-support", "diverged", "in-support"]
    assert labels.hallucinated.tolist() == [False, True, False]
    assert labels.distance[1] == np.inf
    assert labels.nearest[1] == -1
    assert labels.between[1].tolist() == [-1, -1]


@pytest.mark.filterwarnings("ignore:overflow")
def test_huge_finite_samples_are_outside_not_lost():
    labels = line([1, 2]).label(np.array([[1e300], [-1e300]]))
    assert labels.rule.tolist() == ["outside", "outside"]


def test_labels_do_not_depend_on_the_batch():
    """More samples than are labelled at a time."""
    mixture, x = grid(), np.random.default_rng(0).uniform(-2, 2, (70_000, 2))
    labels = mixture.label(x)
    part = mixture.label(x[65_000:])
    for name in ("hallucinated", "rule", "nearest", "distance", "between"):
        assert np.array_equal(getattr(labels, name)[65_000:], getattr(part, name)), name


def test_in_support_draws_are_almost_never_called_hallucinated():
    """Beyond 6σ lie exp(-18) = 1.5e-8 of a Gaussian of the plane: two or more of 50,000 have p = 3e-7."""
    assert grid().label(grid().sample(50_000, seed=0)).hallucinated.sum() <= 1


@pytest.mark.parametrize("x", [np.zeros((3, 2)), np.zeros((3, 1, 1))])
def test_samples_of_another_width_are_refused(x):
    with pytest.raises(InputError, match=r"\(n, 1\)"):
        line([1, 2]).label(x)
    with pytest.raises(InputError, match=r"\(n, 1\)"):
        line([1, 2]).score(torch.from_numpy(x))
    with pytest.raises(InputError, match=r"\(n, 2\)"):
        grid().label(x.ravel())


# what a mixture is given as

FORMS = [
    lambda values: values.tolist(),
    lambda values: tuple(values.tolist()),
    torch.from_numpy,
    lambda values: torch.tensor(values.tolist(), requires_grad=True, dtype=torch.float64),
    lambda values: values,
]


@given(mixture=mixtures(dimensions=(1, 3)), forms=st.tuples(*[st.sampled_from(FORMS)] * 4))
def test_arrays_lists_and_tensors_make_equal_mixtures_with_equal_answers(mixture, forms):
    means, sigma, weights, x = forms
    same = GaussianMixture(means(mixture.means), sigma(mixture.sigma), weights(mixture.weights))
    assert same == mixture
    assert hash(same) == hash(mixture)
    place = points(mixture, 1.0, 0.0).numpy()
    given, rows = x(place), torch.from_numpy(place)
    assert torch.equal(same.log_prob(given), mixture.log_prob(rows))
    assert torch.equal(same.score(given), mixture.score(rows))
    assert torch.equal(same.posterior_mean(given, 0.8, 0.6), mixture.posterior_mean(rows, 0.8, 0.6))
    assert torch.equal(same.posterior_covariance(given, 0.8, 0.6), mixture.posterior_covariance(rows, 0.8, 0.6))
    assert np.array_equal(same.label(given).rule, mixture.label(place).rule)


def test_one_sigma_serves_all_modes_and_weights_are_equal_unless_given():
    assert GaussianMixture([[0.0], [1.0]], 0.05) == GaussianMixture([0, 1], [0.05, 0.05], [0.5, 0.5])
    assert GaussianMixture(np.array([0, 1]), np.float32(0.5)).means.shape == (2, 1)
    assert GaussianMixture(0.0, 1.0) == line([0.0], 1)
    assert line() == line(torch.tensor([1, 2, 3]), 0.05, beyond=6)
    assert line(2.0) == line([2.0])


def test_weights_in_float32_are_made_to_sum_to_1():
    weights = torch.tensor([0.2, 0.7, 0.1])
    assert abs(weights.double().sum().item() - 1) > 1e-9
    assert line([1, 2, 3], weights=weights).weights.sum() == pytest.approx(1, abs=1e-15)


def test_a_sample_on_a_line_may_be_a_number_or_a_row_of_them():
    assert line().label(1.5).rule.tolist() == ["between"]
    assert line().label([1.0, 1.5]).hallucinated.tolist() == [False, True]


@given(mixture=mixtures(dimensions=(1, 3)), change=st.sampled_from(["means", "sigma", "weights", "beyond"]))
def test_mixtures_of_other_numbers_are_unequal(mixture, change):
    parts = {"means": mixture.means, "sigma": mixture.sigma, "weights": mixture.weights, "beyond": mixture.beyond}
    if change == "weights":
        parts[change] = np.roll(np.append(parts[change] / 2, 0.5), 1)
        parts["means"] = np.append(mixture.means, mixture.means[:1], axis=0)
        parts["sigma"] = np.append(mixture.sigma, mixture.sigma[:1])
    else:
        parts[change] = parts[change] * 1.001
    assert GaussianMixture(**parts) != mixture
    assert mixture != "a mixture"


def test_a_mixture_keeps_its_numbers_when_what_it_was_made_of_changes():
    means = np.array([[1.0], [2.0]])
    mixture = GaussianMixture(means, 0.05)
    means[0] = 9.0
    assert mixture == line([1, 2])


@given(mixture=mixtures(dimensions=(1, 2)))
def test_a_small_mixture_prints_as_what_makes_it(mixture):
    mixture = GaussianMixture(mixture.means, mixture.sigma, mixture.weights, beyond=1 / 3)
    assert eval(repr(mixture)) == mixture


def test_a_large_mixture_prints_in_one_line():
    assert repr(grid()) == "<GaussianMixture of 25 modes in 2-D, sigma 0.0177, beyond 6>"
    assert repr(line()) == "GaussianMixture([[1.0], [2.0], [3.0]], 0.05, beyond=6.0)"


# the lattices


def test_grid_is_the_papers():
    """Modes at even coordinates -4..4 and σ 0.05, divided by sqrt(0.05² + 8)."""
    modes = {(round(x, 9), round(y, 9)) for x, y in grid().means * math.sqrt(0.05**2 + 8)}
    assert modes == set(itertools.product([-4.0, -2.0, 0.0, 2.0, 4.0], repeat=2))
    assert grid().sigma == pytest.approx(np.full(25, 0.01768), abs=1e-5)
    assert grid().weights == pytest.approx(np.full(25, 0.04))


@pytest.mark.parametrize("mixture", [grid(), diamond()], ids=["grid", "diamond"])
def test_lattices_have_unit_variance_and_the_papers_spacing(mixture):
    assert (mixture.means**2).mean(0) + mixture.sigma.mean() ** 2 == pytest.approx([1.0, 1.0])
    apart = np.linalg.norm(mixture.means[:, None] - mixture.means, axis=2)
    nearest = np.where(apart > 0, apart, np.inf).min(1)
    assert nearest == pytest.approx(np.full(25, 2 / math.sqrt(0.05**2 + 8)))  # 0.7070


def test_diamond_is_the_grid_turned_by_45_degrees():
    c = math.sqrt(0.5)
    turned = grid().means @ np.array([[c, c], [-c, c]])
    assert diamond().means == pytest.approx(turned, abs=1e-12)
    assert diamond().sigma == pytest.approx(grid().sigma)
    # its nearest neighbours lie on diagonals, its second-nearest along the axes, at the spacing times sqrt(2)
    step = diamond().means - diamond().means[12]
    second = step[np.isclose(np.linalg.norm(step, axis=1), 0.7071 * math.sqrt(2), atol=1e-3)]
    assert len(second) == 4
    assert np.abs(second).min(1) == pytest.approx(np.zeros(4), abs=1e-12)


def test_mode_numbers_of_the_grid_run_over_columns_then_rows():
    means = grid().means.reshape(5, 5, 2)
    assert (np.diff(means[:, :, 0], axis=0) > 0.7).all()
    assert (np.diff(means[:, :, 1], axis=1) > 0.7).all()


def test_middle_of_a_grid_cell_lies_between_diagonal_neighbours_and_of_an_edge_between_nearest():
    means = grid().means
    labels = grid().label(np.array([(means[0] + means[1]) / 2, (means[0] + means[6]) / 2]))
    assert labels.between[0].tolist() == [0, 1]
    assert labels.between[1].tolist() in ([0, 6], [1, 5])


# what is refused


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: line([]), "means"),
        (lambda: line([1, np.nan]), "means"),
        (lambda: line([1, 2], 0.0), "sigma: must be > 0"),
        (lambda: line([1, 2], -0.1), "sigma: must be > 0"),
        (lambda: line([1, 2], [0.1, np.nan]), "sigma"),
        (lambda: line([1, 2], [0.1, 0.1, 0.1]), "sigma"),
        (lambda: line([1, 2], weights=[0.5, 0.6]), "weights: sum to 1.1; they must sum to 1"),
        (lambda: line([1, 2], weights=[1.5, -0.5]), "weights"),
        (lambda: line([1, 2], weights=[np.nan, 1.0]), "weights"),
        (lambda: line([1, 2], weights=[1.0]), "weights"),
        (lambda: line([1, 2], beyond=0.0), "beyond"),
        (lambda: line([1, 2], beyond=np.nan), "beyond"),
        (lambda: line([1, 2]).sample(0, seed=0), "n: 0 must be a whole number, at least 1"),
        (lambda: line([1, 2]).sample(2.5, seed=0), "n: 2.5 must be a whole number"),
        (lambda: line([1, 2]).sample("many", seed=0), "n: 'many' must be a whole number"),
        (lambda: line("1 2 3"), "means: '1 2 3' is not an array of numbers; give an array, a list or a tensor"),
        (lambda: line([[1, 2], [3, 4]]), r"means: shape \(2, 2\); must be numbers on a line"),
        (lambda: GaussianMixture([[0, 1], [1]], 0.1), r"means: \[\[0, 1\], \[1\]\] is not an array of numbers"),
        (lambda: GaussianMixture(None, 0.1), "means: None"),
        (lambda: line([1, 2], "wide"), "sigma: 'wide'"),
        (lambda: line([1, 2], weights={"a": 1}), "weights: {'a': 1}"),
        (lambda: line([1, 2], beyond="far"), "beyond: 'far'"),
        (lambda: line([1, 2], beyond=[6, 6]), "beyond"),
        (lambda: line().label("here"), "samples: 'here'"),
        (lambda: line().label(["1"] * 99), r"samples: \['1', .*\.\.\. is not"),
    ],
)
def test_bad_mixtures_are_refused(make, message):
    with pytest.raises(InputError, match=message):
        make()


# posterior covariance


@given(mixtures(dimensions=(1, 3)), st.tuples(st.floats(0.3, 1.0), st.floats(0.05, 1.5)))
def test_posterior_covariance_is_tweedies_second_order_formula(mixture, level):
    """Cov[x_0 | x_t] = s²/a times the Jacobian of the posterior mean."""
    signal, noise = level
    x = points(mixture, signal, noise)
    jacobian = torch.stack(
        [
            torch.func.jvp(lambda z: mixture.posterior_mean(z, signal, noise), (x,), (unit.expand_as(x).contiguous(),))[
                1
            ]
            for unit in torch.eye(x.shape[1], dtype=x.dtype)
        ],
        dim=2,
    )
    covariance = mixture.posterior_covariance(x, signal, noise)
    size = float(covariance.abs().max())
    assert torch.allclose(covariance, noise**2 / signal * jacobian, rtol=1e-7, atol=1e-9 * size)


def test_posterior_covariance_is_bayes_rule(uneven):
    """The variance of x_0 over p(x_0) N(x_t; a x_0, s²), by quadrature."""
    a, s = 0.9, 0.3
    x_0 = np.linspace(-1, 6, 20001)
    prior = np.exp(uneven.log_prob(torch.from_numpy(x_0)[:, None]).numpy())
    for x_t in (0.5, 1.3, 1.9, 2.7, 3.3):
        weight = prior * np.exp(-0.5 * ((x_t - a * x_0) / s) ** 2)
        weight /= weight.sum()
        expected = weight @ (x_0 - weight @ x_0) ** 2
        found = uneven.posterior_covariance(torch.tensor([[x_t]], dtype=torch.float64), a, s)
        assert np.isclose(found.item(), expected, rtol=1e-6), x_t
