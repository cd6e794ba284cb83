"""Denoisers: what a network's output means, the closed form, and the table that stands in for either."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from diffusers import DDPMScheduler
from torch import nn

from intermode.denoisers import Denoiser, MixtureDenoiser, NetworkDenoiser, TabulatedDenoiser
from intermode.errors import InputError
from intermode.guidance import GuidedDenoiser
from intermode.networks import build
from intermode.schedules import Schedule, from_diffusers, linear
from intermode.targets.gaussian import GaussianMixture


class Answer(nn.Module):
    """A network that answers with a given tensor and remembers what it was asked."""

    def __init__(self, output, wrap=False):
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(1, dtype=torch.float64))
        self.output, self.wrap, self.asked = output, wrap, None

    def forward(self, x_t, t, **condition):
        self.asked = (x_t, t, condition)
        return SimpleNamespace(sample=self.output) if self.wrap else self.output


def normal(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def rectified_flow(timesteps):
    """a = 1 - sigma, s = sigma: a schedule that does not preserve variance."""
    sigma = np.linspace(0.01, 0.99, timesteps)
    return Schedule(1 - sigma, sigma)


@pytest.mark.parametrize("schedule", [linear(20, 0.01, 0.3), rectified_flow(20)], ids=["vp", "flow"])
@pytest.mark.parametrize("t", [0, 11, 19, torch.tensor([0, 5, 11, 19])], ids=["0", "11", "19", "per sample"])
def test_every_prediction_gives_back_x_0(schedule, t):
    x_0, eps = normal(4, 2, 3, seed=1), normal(4, 2, 3, seed=2)
    a, s = schedule.level_like(t, x_0)
    x_t = a * x_0 + s * eps
    outputs = {"eps": eps, "x0": x_0, "v": a * eps - s * x_0, "flow": eps - x_0}
    for prediction, output in outputs.items():
        denoiser = NetworkDenoiser(Answer(output), schedule, prediction)
        assert torch.allclose(denoiser(x_t, t), x_0, rtol=0, atol=1e-10), prediction
        assert torch.allclose(denoiser.eps(x_t, t), eps, rtol=0, atol=1e-10), prediction


def test_v_is_diffusers_velocity():
    scheduler = DDPMScheduler(50)
    x_0, eps = normal(5, 3, seed=1), normal(5, 3, seed=2)
    t = torch.tensor([0, 10, 20, 30, 49])
    velocity = scheduler.get_velocity(x_0, eps, t)
    denoiser = NetworkDenoiser(Answer(velocity), from_diffusers(scheduler), "v")
    assert torch.allclose(denoiser(scheduler.add_noise(x_0, eps, t), t), x_0, rtol=0, atol=1e-6)


def test_unknown_prediction_is_refused(schedule):
    with pytest.raises(InputError, match=r"score.*eps"):
        NetworkDenoiser(Answer(None), schedule, "score")


def test_network_gets_one_timestep_or_one_per_sample_and_the_condition(schedule):
    network = Answer(normal(4, 1))
    denoiser = NetworkDenoiser(network, schedule)
    denoiser(normal(4, 1), 7, label=3)
    assert network.asked[1].shape == ()
    assert network.asked[1].dtype == torch.int64
    assert network.asked[1].item() == 7
    assert network.asked[2] == {"label": 3}
    per_sample = torch.tensor([1, 2, 3, 4])
    denoiser(normal(4, 1), per_sample)
    assert torch.equal(network.asked[1], per_sample)


def test_output_of_a_diffusers_model_is_unwrapped(schedule):
    x_t, output = normal(4, 1), normal(4, 1, seed=1)
    plain, wrapped = (NetworkDenoiser(Answer(output, wrap), schedule) for wrap in (False, True))
    assert torch.equal(plain(x_t, 3), wrapped(x_t, 3))


def test_dtype_is_the_networks_and_at_least_float32(schedule, network):
    for own, works in ((torch.float16, torch.float32), (torch.float64, torch.float64)):
        assert NetworkDenoiser(network().to(own), schedule).dtype == works


@pytest.mark.parametrize("t", [0, 5, 20, 39])
def test_score_of_the_ideal_denoiser_is_the_noised_mixtures(schedule, uneven, t):
    x = torch.linspace(-3, 5, 41, dtype=torch.float64)[:, None]
    expected = uneven.noised(*schedule.level(t)).score(x)
    assert torch.allclose(MixtureDenoiser(uneven, schedule).score(x, t), expected, rtol=1e-9, atol=1e-9)


def test_mixture_denoiser_takes_a_timestep_per_sample(schedule, uneven):
    denoiser = MixtureDenoiser(uneven, schedule)
    x, t = normal(6, 1) + 2, torch.tensor([3, 0, 3, 39, 12, 0])
    rows = torch.cat([denoiser(x[i : i + 1], int(t[i])) for i in range(6)])
    assert torch.allclose(denoiser(x, t), rows, rtol=1e-14, atol=0)


# tables


@pytest.fixture(scope="module")
def plane():
    """Three modes of the plane with no symmetry, so that swapped axes show."""
    means = np.array([[0.5, -1.0], [-0.7, 0.2], [1.0, 1.4]])
    return GaussianMixture(means, np.array([0.3, 0.2, 0.4]), np.array([0.5, 0.2, 0.3]))


def table_error(mixture, schedule, t, points, inside=2.5, low=-3.0, high=4.0):
    """Largest error of the tabulated noise prediction well inside the grid."""
    dimensions = mixture.shape[0]
    truth = MixtureDenoiser(mixture, schedule)
    table = TabulatedDenoiser(truth, low, high, points=points, dimensions=dimensions)
    x = (2 * torch.rand(4000, dimensions, generator=torch.Generator().manual_seed(0), dtype=torch.float64) - 1) * inside
    return (table.eps(x, t) - truth.eps(x, t)).abs().max().item()


@pytest.mark.parametrize("t", [5, 20])
@pytest.mark.parametrize("dimensions", [1, 2])
def test_table_converges_with_second_order(schedule, modes, plane, dimensions, t):
    """Half the spacing, a quarter of the error."""
    mixture, counts = (modes, (801, 1601, 3201)) if dimensions == 1 else (plane, (101, 201, 401))
    errors = [table_error(mixture, schedule, t, points) for points in counts]
    orders = np.log2(np.array(errors[:-1]) / errors[1:])
    assert errors[-1] < 1e-2
    assert (orders > 1.8).all(), orders
    assert (orders < 2.2).all(), orders


@pytest.mark.parametrize("dimensions", [1, 2])
def test_table_is_exact_at_its_nodes(schedule, modes, plane, dimensions):
    truth = MixtureDenoiser(modes if dimensions == 1 else plane, schedule)
    table = TabulatedDenoiser(truth, -1.0, 3.0, points=9, dimensions=dimensions)
    axis = torch.linspace(-1, 3, 9, dtype=torch.float64)
    nodes = torch.cartesian_prod(*(axis,) * dimensions).reshape(-1, dimensions)
    assert torch.allclose(table(nodes, 10), truth(nodes, 10), rtol=0, atol=1e-12)


@pytest.mark.parametrize("dimensions", [1, 2])
@pytest.mark.parametrize("far", [100.0, -100.0, 1e30])
def test_beyond_the_grid_the_edge_value_holds_and_x_t_runs_on(schedule, modes, plane, dimensions, far):
    truth = MixtureDenoiser(modes if dimensions == 1 else plane, schedule)
    table = TabulatedDenoiser(truth, -4.0, 4.0, points=33, dimensions=dimensions)
    x = torch.full((1, dimensions), 0.5, dtype=torch.float64)
    x[0, -1] = far
    edge = x.clamp(-4, 4)
    a, s = schedule.level(10)
    assert torch.allclose(table(x, 10), (x - s * truth.eps(edge, 10)) / a, rtol=1e-12, atol=0)


@pytest.mark.parametrize("dimensions", [1, 2])
def test_a_runaway_sample_stays_one_and_disturbs_no_other(schedule, modes, plane, dimensions):
    truth = MixtureDenoiser(modes if dimensions == 1 else plane, schedule)
    table = TabulatedDenoiser(truth, -4.0, 4.0, points=65, dimensions=dimensions)
    x = torch.rand(6, dimensions, generator=torch.Generator().manual_seed(0))
    expected = table(x, 10)
    bad = x.clone()
    bad[1, -1], bad[2, -1], bad[4, -1] = torch.nan, torch.inf, -torch.inf
    result = table(bad, 10)
    assert torch.isnan(result[1, -1])
    assert result[2, -1] == torch.inf
    assert result[4, -1] == -torch.inf
    assert torch.equal(result[[0, 3, 5]], expected[[0, 3, 5]])


class Counting(Denoiser):
    """Counts the points it is asked for."""

    def __init__(self, inner):
        self.inner, self.schedule, self.points = inner, inner.schedule, 0

    def __call__(self, x_t, t, **condition):
        self.points += len(x_t)
        return self.inner(x_t, t)


def test_each_timestep_is_tabulated_once_whatever_is_sampled(schedule, modes):
    inner = Counting(MixtureDenoiser(modes, schedule))
    table = TabulatedDenoiser(inner, -4, 4, points=50, chunk=16)
    for t in (5, 4, 5, 4):
        table(torch.zeros(1000, 1), t)
    assert inner.points == 2 * 50


def test_prepared_tables_are_the_ones_that_sampling_uses(schedule, modes):
    inner = Counting(MixtureDenoiser(modes, schedule))
    table = TabulatedDenoiser(inner, -4, 4, points=50)
    table.prepare([5, 4])
    assert inner.points == 2 * 50
    expected = TabulatedDenoiser(inner.inner, -4, 4, points=50)
    x = torch.linspace(-3, 3, 100)[:, None]
    for t in (5, 4):
        assert torch.equal(table(x, t), expected(x, t))
    assert inner.points == 2 * 50


def test_table_follows_the_precision_of_the_samples(schedule, modes):
    table = TabulatedDenoiser(MixtureDenoiser(modes, schedule), -4, 4)
    x = torch.linspace(0, 3, 200, dtype=torch.float64)[:, None]
    assert table(x.float(), 10).dtype == torch.float32
    assert torch.allclose(table(x.float(), 10).double(), table(x, 10), rtol=0, atol=1e-3)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"low": 1.0, "high": 1.0}, "low"),
        ({"low": 2.0, "high": 1.0}, "low"),
        ({"low": 0.0, "high": 1.0, "dimensions": 3}, "dimensions"),
        ({"low": 0.0, "high": 1.0, "points": 1}, "points"),
    ],
)
def test_impossible_tables_are_refused(schedule, modes, settings, message):
    with pytest.raises(InputError, match=message):
        TabulatedDenoiser(MixtureDenoiser(modes, schedule), **settings)


def test_table_takes_no_condition_and_one_timestep(schedule, modes):
    table = TabulatedDenoiser(MixtureDenoiser(modes, schedule), -4, 4, points=10)
    with pytest.raises(InputError, match="condition"):
        table(torch.zeros(2, 1), 3, label=1)
    with pytest.raises(InputError, match="t:"):
        table(torch.zeros(2, 1), torch.tensor([1, 2]))


def test_table_refuses_samples_of_another_width(schedule, modes):
    """Two columns would otherwise both move by the first column's noise."""
    table = TabulatedDenoiser(MixtureDenoiser(modes, schedule), -4, 4, points=10)
    with pytest.raises(InputError):
        table(torch.zeros(3, 2), 3)


def test_a_network_that_does_not_say_its_size_is_refused():
    network = Answer(normal(1))
    network.config = SimpleNamespace(sample_size=None, in_channels=3)
    with pytest.raises(InputError, match="has no sample_size, so its samples' shape is unknown"):
        _ = NetworkDenoiser(network, linear(20)).shape


# what tells a denoiser from others


def test_an_identity_is_that_of_what_it_computes(schedule, network, modes, uneven):
    """Every change that changes its predictions, and no other, changes it."""
    classed = build({"kind": "unet", "sample_size": 8, "channels": [32], "classes": 2})
    other = linear(40, 0.001, 0.3)

    def made():
        ideal, net = MixtureDenoiser(modes, schedule), NetworkDenoiser(network(), schedule)
        return [
            ideal,
            MixtureDenoiser(uneven, schedule),
            MixtureDenoiser(modes, other),
            net,
            NetworkDenoiser(network(seed=4), schedule),
            NetworkDenoiser(network(), schedule, "v"),
            NetworkDenoiser(network(), other),
            TabulatedDenoiser(net, -4, 4),
            TabulatedDenoiser(net, -4, 5),
            TabulatedDenoiser(ideal, -4, 4),
            NetworkDenoiser(classed, schedule, "v"),
            GuidedDenoiser(NetworkDenoiser(classed, schedule, "v"), 2.0),
            GuidedDenoiser(NetworkDenoiser(classed, schedule, "v"), 3.0),
        ]

    first, again = ([denoiser.identity for denoiser in made()] for _ in range(2))
    assert first == again
    assert len({tuple(sorted(each.items())) for each in first}) == len(first)


def test_shapes_and_classes_are_what_the_parts_say(schedule, network, modes):
    plain = NetworkDenoiser(network(), schedule)
    assert [d.shape for d in (plain, MixtureDenoiser(modes, schedule), TabulatedDenoiser(plain, -4, 4))] == [(1,)] * 3
    classed = NetworkDenoiser(build({"kind": "unet", "sample_size": 8, "channels": [32], "classes": 5}), schedule, "v")
    assert (plain.classes, classed.classes, GuidedDenoiser(classed, 2.0).classes) == (0, 5, 5)
    assert GuidedDenoiser(classed, 2.0).shape == (1, 8, 8)
    for config, classes in (({"num_class_embeds": 7}, 7), ({"class_embed_type": "timestep"}, None), ({}, 0)):
        answer = Answer(normal(1))
        answer.config = config
        assert NetworkDenoiser(answer, schedule).classes == classes


def test_a_model_moves_with_its_network(schedule, network):
    model = NetworkDenoiser(network(), schedule)
    assert model.to("meta") is model
    assert model.device == torch.device("meta")
