"""What a network learns to predict: means in closed form, their limits, and trainings that are as reproducible."""

import dataclasses

import numpy as np
import pytest
import torch

from intermode.denoisers import MixtureDenoiser, NetworkDenoiser
from intermode.errors import InputError
from intermode.models import load
from intermode.networks import build
from intermode.schedules import cosine, linear
from intermode.targets.gaussian import GaussianMixture, line
from intermode.training import TrainConfig, default_network, fit, train
from intermode.training_targets import ReferenceMean, objective, reference_mean

PREDICTIONS = ["eps", "x0", "v", "flow"]
CONFIG = TrainConfig(steps=30, batch=64, seed=1, checkpoint_every=10)
STABLE = dataclasses.replace(CONFIG, targets="posterior", reference=50)


def noised(schedule, x_0, seed=0):
    rng = np.random.default_rng(seed)
    t = torch.from_numpy(rng.integers(0, len(schedule), len(x_0)))
    eps = torch.from_numpy(rng.standard_normal(tuple(x_0.shape))).to(x_0)
    a, s = schedule.level_like(t, x_0)
    return t, eps, a, s, a * x_0 + s * eps


def assert_equal(a, b):
    for (name, p), q in zip(a.network.named_parameters(), b.network.parameters(), strict=True):
        assert torch.equal(p, q), name


@pytest.mark.parametrize("dimensions", [1, 2, 7])
def test_over_the_whole_data_set_it_is_the_denoiser_of_its_points(dimensions):
    """Gaussians of hardly any width at the points: the two closed forms share no code. At every level of a schedule
    that ends where float32 has no signal left."""
    rng = np.random.default_rng(0)
    points = rng.normal(size=(300, dimensions))
    schedule = linear(1000, 0.001, 0.2)
    _, _, a, s, x_t = noised(schedule, torch.from_numpy(points))
    found = reference_mean(x_t, a, s, torch.from_numpy(points))
    mixture = GaussianMixture(points, 1e-9)
    for row in range(300):
        expected = mixture.posterior_mean(x_t[row : row + 1], float(a[row]), float(s[row]))
        assert torch.allclose(found[row : row + 1], expected, rtol=0, atol=1e-9), row
    assert (found - torch.from_numpy(points)).abs().max() > 0.5  # it is not the point that was drawn


def test_the_drawn_point_counts_as_one_of_the_reference():
    points = torch.from_numpy(np.random.default_rng(1).normal(size=(40, 3)))
    _, _, a, s, x_t = noised(linear(40, 0.01, 0.5), points)
    for row in (0, 7, 39):
        one = slice(row, row + 1)
        others = torch.cat([points[:row], points[row + 1 :]])
        beside = reference_mean(x_t[one], a[one], s[one], others, drawn=points[one])
        assert torch.allclose(beside, reference_mean(x_t[one], a[one], s[one], points), rtol=0, atol=1e-12)


def test_far_from_every_reference_point_the_drawn_one_is_left():
    """Where each weight but the drawn point's is under 1e-300: no 0 / 0."""
    x_0 = torch.tensor([[5.0], [-3.0]], dtype=torch.float64)
    a, s = torch.ones(2, 1).double(), torch.full((2, 1), 1e-3).double()
    found = reference_mean(x_0 + 1e-3, a, s, torch.tensor([[0.0], [1.0]]).double(), drawn=x_0)
    assert torch.equal(found, x_0)


def test_rows_do_not_depend_on_each_other(monkeypatch):
    points = torch.from_numpy(np.random.default_rng(2).normal(size=(100, 2)))
    _, _, a, s, x_t = noised(linear(40, 0.01, 0.5), points)
    whole = reference_mean(x_t, a, s, points)
    monkeypatch.setattr("intermode.training_targets.WEIGHTS", 300)  # three rows at a time
    assert torch.allclose(reference_mean(x_t, a, s, points), whole, rtol=1e-12, atol=0)


def test_points_of_other_classes_do_not_count():
    points = torch.from_numpy(np.random.default_rng(3).normal(size=(60, 2)))
    labels = torch.arange(60) % 3
    _, _, a, s, x_t = noised(linear(40, 0.01, 0.5), points)
    mean = ReferenceMean(points, 60, labels, none_given=3)
    told = torch.where(torch.arange(60) < 30, labels, 3)  # the second half is told none
    found = mean(np.random.default_rng(0), x_t, a, s, points, told)
    for c in range(3):
        rows = (torch.arange(60) < 30) & (labels == c)
        alone = reference_mean(x_t[rows], a[rows], s[rows], points[labels == c])
        assert torch.allclose(found[rows], alone, rtol=0, atol=1e-12)
    assert torch.allclose(found[30:], reference_mean(x_t[30:], a[30:], s[30:], points), rtol=0, atol=1e-12)


def test_a_reference_batch_takes_most_of_the_noise_away_and_leaves_hardly_a_bias():
    """Of 20,000 targets, mean and variance about the exact mean: a thousandth, and a tenth of the drawn noise's.

    The standard error of the mean of the drawn noise is 1 / sqrt(20,000) = 0.007, of the stable one a third of that: a
    bias of 0.02 is eight of them, at a chance of 1e-14.
    """
    target, schedule = line([1, 2, 3]), linear(1000, 0.001, 0.2)
    x_0 = target.sample(20_000, 0).double()
    t, eps, a, s, x_t = noised(schedule, x_0)
    ideal = MixtureDenoiser(target, schedule)(x_t, t)
    exact = eps + a / s * (x_0 - ideal)
    found = ReferenceMean(target.sample(50_000, 1).double(), 1000)(np.random.default_rng(4), x_t, a, s, x_0)
    stable = eps + a / s * (x_0 - found)
    assert (stable - exact).square().mean() < 0.1 * (eps - exact).square().mean()
    assert abs(float((stable - exact).mean())) < 0.02


@pytest.mark.parametrize("prediction", PREDICTIONS)
def test_every_prediction_of_the_means_is_the_mean_of_the_prediction(prediction):
    """By averaging over which of the points was drawn, weighted as it may have been."""
    points = torch.from_numpy(np.random.default_rng(5).normal(size=(25, 2)))
    _, eps, a, s, x_t = noised(linear(40, 0.01, 0.5), points)
    mean = reference_mean(x_t, a, s, points)
    found = objective(prediction, mean, eps + a / s * (points - mean), a, s)
    for row in range(25):
        by_point = (x_t[row] - a[row] * points) / s[row]  # the noise that it would have been
        weights = torch.softmax(-0.5 * by_point.square().sum(1), dim=0)
        expected = weights @ objective(prediction, points, by_point, a[row], s[row])
        assert torch.allclose(found[row], expected, rtol=0, atol=1e-9)


def test_a_level_for_each_sample_is_the_closed_form_at_each_level(uneven, schedule):
    t, _, _, _, x_t = noised(schedule, uneven.sample(500, 0).double())
    ideal = MixtureDenoiser(uneven, schedule)
    found = ideal(x_t, t)
    for value in range(len(schedule)):
        rows = t == value
        assert torch.allclose(found[rows], ideal(x_t[rows], value), rtol=1e-12, atol=1e-12)


# training


def learned(network, schedule, data, config, **how):
    return fit(network(), schedule, data, config, **how)


def test_the_loss_of_the_exact_mean_falls_to_what_the_network_cannot_do(schedule, modes, network):
    """Drawn noise leaves its variance in the loss; its mean does not."""
    config = TrainConfig(steps=400, batch=256, learning_rate=0.01, seed=0)
    data = modes.sample(2000, 0)
    drawn = learned(network, schedule, data, config)
    stable = learned(network, schedule, data, dataclasses.replace(config, targets="posterior"))
    exact = learned(network, schedule, data, config, ideal=MixtureDenoiser(modes, schedule))
    last = [float(trained.losses[-20:].mean()) for trained in (drawn, stable, exact)]
    assert last[1] < 0.5 * last[0]
    assert last[2] < 0.5 * last[0]
    # and all of them learn the same thing
    t, _, _, _, x_t = noised(schedule, modes.sample(2000, 1))
    ideal = MixtureDenoiser(modes, schedule).eps(x_t.double(), t)
    for trained in (drawn, stable, exact):
        assert (trained.eps(x_t, t) - ideal).square().mean() < 0.05


def test_a_reference_of_all_data_is_the_same_training_as_the_closed_form_of_its_points(schedule, network):
    data = line([1, 2, 3]).sample(40, 0)
    config = dataclasses.replace(CONFIG, targets="posterior", reference=40)
    stable = learned(network, schedule, data, config)
    points = MixtureDenoiser(GaussianMixture(data.double().numpy(), 1e-9), schedule)
    exact = learned(network, schedule, data, CONFIG, ideal=points)
    for p, q in zip(stable.network.parameters(), exact.network.parameters(), strict=True):
        assert torch.allclose(p, q, rtol=0, atol=1e-4)
    assert not np.allclose(stable.losses, learned(network, schedule, data, CONFIG).losses, rtol=0.01)


def test_a_target_gives_other_points_to_every_batch(schedule, modes, network):
    """Of 30 batches of 64 no point comes twice, and the seed says which they are."""
    seen = []

    class Noting:
        shape = (1,)

        def sample(self, n, seed):
            seen.append(modes.sample(n, seed))
            return seen[-1]

    first = learned(network, schedule, Noting(), CONFIG)
    batches = torch.cat([x for x in seen if len(x) == 64])
    assert len(batches) == 30 * 64
    assert len(batches.unique()) > 0.99 * len(batches)  # float32 has few numbers in a mode
    assert_equal(first, learned(network, schedule, modes, CONFIG))
    other = learned(network, schedule, modes, dataclasses.replace(CONFIG, seed=2))
    assert not torch.equal(next(first.network.parameters()), next(other.network.parameters()))


class Stop:
    """A progress that interrupts after so many steps."""

    def __init__(self, after):
        self.left = after

    def notice(self, text):
        pass

    def task(self, *args):
        return self

    def __enter__(self):
        return self

    def __exit__(self, *args):
        return None

    def advance(self, steps):
        self.left -= steps
        if self.left == 0:
            raise KeyboardInterrupt


@pytest.mark.parametrize("kind", ["posterior", "ideal", "fresh"])
def test_an_interrupted_training_goes_on_bit_for_bit(kind, schedule, modes, network, tmp_path):
    data = modes if kind == "fresh" else modes.sample(500, 0)
    config = STABLE if kind == "posterior" else CONFIG
    how = {"ideal": MixtureDenoiser(modes, schedule)} if kind == "ideal" else {}
    with pytest.raises(KeyboardInterrupt):
        learned(network, schedule, data, config, folder=tmp_path, progress=Stop(17), **how)
    resumed = learned(network, schedule, data, config, folder=tmp_path, **how)
    assert_equal(resumed, learned(network, schedule, data, config, **how))


def test_the_checkpoint_of_another_target_is_refused(schedule, modes, network, tmp_path):
    data = modes.sample(500, 0)
    with pytest.raises(KeyboardInterrupt):
        learned(network, schedule, data, STABLE, folder=tmp_path, progress=Stop(17))
    others = [
        ("targets", data, CONFIG, {}),
        ("reference", data, dataclasses.replace(STABLE, reference=51), {}),
        ("ideal", data, STABLE, {"ideal": MixtureDenoiser(modes, schedule)}),
        ("data", modes, CONFIG, {}),
    ]
    for named, given, config, how in others:
        with pytest.raises(InputError, match=rf"another training \({named}:"):
            learned(network, schedule, given, config, folder=tmp_path, **how)


def test_the_public_function_takes_it_for_numbers_and_for_images_of_classes(modes, tmp_path):
    data = modes.sample(300, 0)
    trained = train(data, targets="posterior", reference=20, steps=5, batch=16, out=tmp_path / "model")
    config = TrainConfig(steps=5, batch=16, targets="posterior", reference=20)
    assert_equal(trained, fit(build({"kind": "mlp", "dimensions": 1}), linear(), data, config))
    assert isinstance(load(tmp_path / "model"), NetworkDenoiser)
    with pytest.raises(InputError, match=r"targets is .*posterior.* there and .*noise.* here"):
        train(data, steps=5, batch=16, out=tmp_path / "model")

    images = torch.rand(20, 1, 8, 8, generator=torch.Generator().manual_seed(0)) * 2 - 1
    labels = torch.arange(20) % 2
    trained = train(images, labels=labels, targets="posterior", reference=10, steps=2, batch=4)
    config = TrainConfig(steps=2, batch=4, ema=0.999, targets="posterior", reference=10)
    network = build(default_network((1, 8, 8), 2))
    assert_equal(trained, fit(network, cosine(), images, config, prediction="v", labels=labels))


@pytest.mark.parametrize(
    ("settings", "message"),
    [({"targets": "exact"}, "targets: unknown 'exact'; choose noise or posterior"), ({"reference": 0}, "reference: 0")],
)
def test_impossible_settings_are_refused(settings, message):
    with pytest.raises(InputError, match=message):
        TrainConfig(**settings)


def test_points_drawn_anew_have_no_reference_batch(schedule, modes, network):
    with pytest.raises(InputError, match="data: points that are drawn anew"):
        fit(network(), schedule, modes, STABLE)
