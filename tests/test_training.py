"""Training: what it minimises, that it learns, and that a killed run goes on bit for bit."""

import dataclasses
import signal
import subprocess
import sys
from contextlib import contextmanager

import numpy as np
import pytest
import torch
from torch import nn

from intermode.denoisers import MixtureDenoiser, NetworkDenoiser
from intermode.errors import InputError
from intermode.models import load, provenance_of
from intermode.networks import build
from intermode.schedules import Schedule, cosine, linear
from intermode.targets.gaussian import GaussianMixture, line
from intermode.training import TrainConfig, Trained, default_network, fit, train

CONFIG = TrainConfig(steps=30, batch=64, seed=1, checkpoint_every=10)
PREDICTIONS = ["eps", "x0", "v", "flow"]


@pytest.fixture(scope="module")
def data():
    return line([1, 2, 3]).sample(500, seed=0)


def assert_equal(a, b):
    """Bit for bit, weights and losses."""
    for (name, p), q in zip(a.network.named_parameters(), b.network.parameters(), strict=True):
        assert torch.equal(p, q), name
    assert np.array_equal(a.losses, b.losses)


# what it minimises


class Affine(nn.Module):
    """A slope and an offset for each timestep: the ideal denoiser of one Gaussian is of this form."""

    def __init__(self, timesteps):
        super().__init__()
        self.slope, self.offset = (nn.Parameter(torch.zeros(timesteps)) for _ in range(2))

    def forward(self, x_t, t):
        return self.slope[t].reshape(-1, 1) * x_t + self.offset[t].reshape(-1, 1)


@pytest.mark.parametrize("prediction", PREDICTIONS)
def test_every_prediction_learns_the_posterior_mean(prediction):
    """On one Gaussian, where the answer is known in closed form and the network can express it exactly."""
    target, schedule = GaussianMixture(np.array([[0.7]]), np.array([0.5]), np.ones(1)), linear(5, 0.05, 0.6)
    config = TrainConfig(steps=700, batch=1000, learning_rate=0.05, seed=0)
    trained = fit(Affine(5), schedule, target.sample(100_000, 0), config, prediction=prediction)
    x = torch.linspace(-0.5, 1.5, 21)[:, None]
    for t in range(5):
        expected = MixtureDenoiser(target, schedule)(x.double(), t)
        assert torch.allclose(trained(x, t).double(), expected, rtol=0, atol=0.03), t


class Oracle(nn.Module):
    """Knows the one training sample, so it can answer exactly what training should ask for."""

    def __init__(self, x_0, schedule, prediction):
        super().__init__()
        self.unused = nn.Parameter(torch.zeros(1))
        self.x_0, self.schedule, self.prediction = x_0, schedule, prediction

    def forward(self, x_t, t):
        a, s = self.schedule.level_like(t, x_t)
        eps = (x_t - a * self.x_0) / s
        answers = {"eps": eps, "x0": self.x_0.expand_as(x_t), "v": a * eps - s * self.x_0, "flow": eps - self.x_0}
        return answers[self.prediction] + 0 * self.unused


@pytest.mark.parametrize("prediction", PREDICTIONS)
def test_objective_and_denoiser_mean_the_same(prediction, schedule):
    """A network with no loss is one whose denoiser returns the data."""
    x_0 = torch.tensor([[0.3, -1.2]])
    trained = fit(Oracle(x_0, schedule, prediction), schedule, x_0, CONFIG, prediction=prediction)
    assert trained.losses.max() < 1e-8
    x_t = schedule.add_noise(x_0.expand(3, 2), torch.ones(3, 2), torch.tensor([0, 10, 20]))
    assert torch.allclose(trained(x_t, torch.tensor([0, 10, 20])), x_0.expand(3, 2), atol=1e-5)


class Recorder(nn.Module):
    """Writes down what training feeds it."""

    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(1))
        self.x_t, self.t = [], []

    def forward(self, x_t, t):
        self.x_t.append(x_t.detach().clone())
        self.t.append(t.clone())
        return self.weight * x_t


def test_timesteps_are_uniform_and_samples_noised_to_their_own_level(schedule):
    """Each |z| < 6: p = 2e-9 for each of the 80 numbers, under 1e-6 together."""
    network = Recorder()
    x_0 = torch.full((10, 1), 2.0)
    fit(network, schedule, x_0, TrainConfig(steps=40, batch=2000))
    t, x_t = torch.cat(network.t).numpy(), torch.cat(network.x_t).double().numpy()[:, 0]
    expected = len(t) / 40
    counts = np.bincount(t, minlength=40)
    assert len(counts) == 40
    assert (np.abs(counts - expected) < 6 * np.sqrt(expected)).all()
    for level in (0, 7, 20, 39):
        z = (x_t[t == level] - 2 * schedule.signal[level]) / schedule.noise[level]
        assert abs(z.mean()) < 6 / np.sqrt(len(z))
        assert abs(z.var() - 1) < 6 * np.sqrt(2 / len(z))


def test_every_training_sample_is_used(schedule):
    """With weak noise, x_t tells the sample; 50 samples in 20,000 draws: one is missed with p < 1e-100."""
    network = Recorder()
    fit(network, linear(2, 1e-8, 1e-8), torch.arange(50.0)[:, None], TrainConfig(steps=20, batch=1000))
    assert set(torch.cat(network.x_t).round().flatten().tolist()) == set(range(50))


def test_no_step_repeats_the_batch_of_another(schedule, data):
    network = Recorder()
    fit(network, schedule, data, CONFIG)
    assert len({tuple(x.flatten().tolist()) for x in network.x_t}) == 30


# that it learns


def test_loss_falls_and_the_denoiser_improves(schedule, data, network):
    config = TrainConfig(steps=300, batch=256, learning_rate=3e-3)
    truth = MixtureDenoiser(line([1, 2, 3]), schedule)
    x = torch.linspace(0, 2, 50)[:, None]  # where most x_t of timestep 15 lie
    net = network(width=32)

    def error():
        with torch.no_grad():
            return (NetworkDenoiser(net, schedule)(x, 15) - truth(x, 15)).abs().mean().item()

    before = error()
    trained = fit(net, schedule, data, config)
    assert trained.losses[-20:].mean() < 0.5 * trained.losses[:5].mean()
    assert error() < 0.3 * before


def test_loss_points_are_means_over_equal_shares(schedule, data, network):
    """201 steps are 100 points of 2 and a last one of what is left."""
    fine = fit(network(), schedule, data, TrainConfig(steps=200, batch=8, decay="none")).losses
    coarse = fit(network(), schedule, data, TrainConfig(steps=201, batch=8, decay="none")).losses
    assert len(fine) == 200
    assert len(coarse) == 101
    assert coarse[:100] == pytest.approx(fine.reshape(100, 2).mean(1), rel=1e-6)


@pytest.mark.parametrize(("decay", "rates"), [("none", [1e-3, 1e-3, 1e-3]), ("cosine", [1e-3, 5e-4, 0.0])])
def test_learning_rate_of_each_step(decay, rates):
    config = TrainConfig(steps=100, decay=decay)
    assert [config.rate(step) for step in (0, 50, 100)] == pytest.approx(rates)


class Lone(nn.Module):
    """One weight whose gradient is always large: Adam moves it by the learning rate a step."""

    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(1, dtype=torch.float32))

    def forward(self, x_t, t):
        return 0 * x_t + 1e4 * (1 + self.weight)


@pytest.mark.parametrize("decay", ["none", "cosine"])
def test_the_optimiser_uses_the_rate_of_the_step(schedule, data, decay):
    config = TrainConfig(steps=20, batch=16, learning_rate=1e-3, decay=decay)
    net = Lone()
    fit(net, schedule, data, config)
    travelled = sum(config.rate(step) for step in range(20))
    assert net.weight.item() == pytest.approx(-travelled, rel=1e-2)


def test_training_belongs_to_its_seed(schedule, data, network):
    a, b = (fit(network(), schedule, data, CONFIG) for _ in range(2))
    assert_equal(a, b)
    other = fit(network(), schedule, data, dataclasses.replace(CONFIG, seed=2))
    assert not np.isclose(a.losses, other.losses).any()


def test_training_uses_no_global_generator(schedule, data, network):
    torch.manual_seed(0)
    a = fit(network(), schedule, data, CONFIG)
    torch.manual_seed(1)
    assert_equal(a, fit(network(), schedule, data, CONFIG))


def test_the_result_is_ready_for_use(schedule, data, network):
    trained = fit(network(), schedule, data, CONFIG, prediction="v")
    assert trained.prediction == "v"
    assert trained.schedule is schedule
    assert not trained.network.training
    assert not any(p.requires_grad for p in trained.network.parameters())
    assert trained.seconds > 0


# the moving average


def test_ema_is_the_average_of_the_weights_passed_through(schedule, data, network):
    """Weights after each step, taken from runs without EMA, averaged by its recursion."""
    seen = []
    net = network()
    config = TrainConfig(steps=12, batch=64, decay="none")

    def watch(step, denoiser):
        seen.append([p.detach().clone().double() for p in denoiser.network.parameters()])

    fit(net, schedule, data, config, watch=watch, watch_every=1)
    average = [p.detach().clone().double() for p in network().parameters()]
    for step, weights in enumerate(seen):
        decay = min(0.6, (1 + step) / (10 + step)) if step else 0.0  # diffusers lets the decay rise to its value
        average = [decay * a + (1 - decay) * w for a, w in zip(average, weights, strict=True)]
    trained = fit(network(), schedule, data, dataclasses.replace(config, ema=0.6))
    for expected, p in zip(average, trained.network.parameters(), strict=True):
        assert torch.allclose(p.double(), expected, rtol=1e-4, atol=1e-6)


def test_ema_is_smoother_than_the_last_weights(schedule, data, network):
    """It lies on the way behind the weights, and the losses do not change."""
    plain = fit(network(), schedule, data, CONFIG)
    averaged = fit(network(), schedule, data, dataclasses.replace(CONFIG, ema=0.9))
    assert np.array_equal(plain.losses, averaged.losses)
    start, end, mean = (
        torch.cat([p.flatten() for p in net.parameters()]) for net in (network(), plain.network, averaged.network)
    )
    assert 0 < (mean - start).norm() < (end - start).norm()


# watching


def test_watch_is_called_every_so_often_and_at_the_end(schedule, data, network):
    calls, net = [], network()

    def watch(step, denoiser):
        calls.append((step, denoiser.network.training))

    fit(net, schedule, data, CONFIG, watch=watch, watch_every=8)
    assert calls == [(8, False), (16, False), (24, False), (30, False)]


def test_watching_changes_nothing(schedule, data, network):
    watched = fit(network(), schedule, data, CONFIG, watch=lambda step, denoiser: None, watch_every=4)
    assert_equal(watched, fit(network(), schedule, data, CONFIG))


def test_watch_at_the_end_sees_the_denoiser_that_is_returned(schedule, data, network):
    """Also with a moving average: what is watched is what one gets."""
    x, last = torch.linspace(0, 3, 10)[:, None], []

    def watch(step, denoiser):
        with torch.no_grad():
            last.append(denoiser(x, 5).clone())

    config = dataclasses.replace(CONFIG, ema=0.9)
    trained = fit(network(), schedule, data, config, watch=watch, watch_every=10)
    assert torch.equal(last[-1], trained(x, 5))
    assert_equal(trained, fit(network(), schedule, data, config))  # and looking has not disturbed the training


def test_a_run_killed_while_it_is_watched_watches_that_step_again(schedule, data, network, tmp_path):
    """Nothing is missing from what a watch keeps: the checkpoint of a step comes after its watch."""
    seen, config = [], dataclasses.replace(CONFIG, checkpoint_every=5)

    def watch(step, denoiser):
        if step == 20 and 20 not in seen:
            seen.append(step)
            raise KeyboardInterrupt
        seen.append(step)

    with pytest.raises(KeyboardInterrupt):
        fit(network(), schedule, data, config, folder=tmp_path, watch=watch, watch_every=10)
    fit(network(), schedule, data, config, folder=tmp_path, watch=watch, watch_every=10)
    assert seen == [10, 20, 20, 30]


# resuming

CHILD = """
import os, signal, sys
from pathlib import Path
import torch
from intermode.networks import build
from intermode.schedules import linear
from intermode.targets.gaussian import line
from intermode.training import TrainConfig, fit

torch.set_num_threads(1)
class Mortal:
    def task(self, *args, **kwargs):
        return self
    def __enter__(self):
        return self
    def __exit__(self, *error):
        pass
    def notice(self, message):
        pass
    def advance(self, amount):
        self.steps = getattr(self, "steps", 0) + 1
        if self.steps == int(sys.argv[3]):
            os.kill(os.getpid(), signal.SIGKILL)

network = build({"kind": "mlp", "dimensions": 1, "width": 16, "blocks": 2}, 3)
config = TrainConfig(steps=230, batch=32, seed=1, checkpoint_every=15, ema=float(sys.argv[2]))
data = line([1, 2, 3]).sample(500, 0)
fit(network, linear(40, 0.001, 0.4), data, config, folder=Path(sys.argv[1]), progress=Mortal())
"""


class Watcher:
    """A progress that writes down what it is told."""

    def __init__(self, stop=None):
        self.tasks, self.notices, self.stop, self.advanced = [], [], stop, 0

    def notice(self, message):
        self.notices.append(message)

    @contextmanager
    def task(self, label, total, done=0, unit=""):
        self.tasks.append((total, done))
        yield self

    def advance(self, amount):
        self.advanced += amount
        if self.advanced == self.stop:
            raise KeyboardInterrupt


@pytest.mark.parametrize("ema", [0.0, 0.9])
def test_a_killed_training_goes_on_bit_for_bit(schedule, data, network, tmp_path, ema):
    """Killed after step 50, it goes on from step 45: in the middle of a loss point, a mean over two steps."""
    config = TrainConfig(steps=230, batch=32, seed=1, checkpoint_every=15, ema=ema)
    command = [sys.executable, "-c", CHILD, str(tmp_path), str(ema), "50"]
    child = subprocess.run(command, capture_output=True, check=False)
    assert child.returncode == -signal.SIGKILL, child.stderr.decode()
    watcher = Watcher()
    other_weights = network(seed=99)  # a rerun's fresh weights do not matter
    resumed = fit(other_weights, schedule, data, config, folder=tmp_path, progress=watcher)
    assert watcher.tasks == [(230, 45)]
    assert "45" in watcher.notices[0]
    assert_equal(resumed, fit(network(), schedule, data, config))


@pytest.mark.parametrize("ema", [0.0, 0.9])
def test_interrupted_again_and_again(schedule, data, network, tmp_path, ema):
    config = dataclasses.replace(CONFIG, ema=ema)
    for stop in (13, 9, 11):  # after 10; at 19; at 21
        with pytest.raises(KeyboardInterrupt):
            fit(network(), schedule, data, config, folder=tmp_path, progress=Watcher(stop))
    assert_equal(fit(network(), schedule, data, config, folder=tmp_path), fit(network(), schedule, data, config))


def test_a_finished_training_is_not_repeated(schedule, data, network, tmp_path):
    config = dataclasses.replace(CONFIG, ema=0.9)
    first = fit(network(), schedule, data, config, folder=tmp_path)
    watcher = Watcher()
    again = fit(network(), schedule, data, config, folder=tmp_path, progress=watcher)
    assert watcher.advanced == 0
    assert_equal(again, first)
    assert again.seconds == pytest.approx(first.seconds, rel=0.5)


def test_a_checkpoint_does_not_change_the_training(schedule, data, network, tmp_path):
    with_folder = fit(network(), schedule, data, CONFIG, folder=tmp_path)
    assert_equal(with_folder, fit(network(), schedule, data, CONFIG))


@pytest.mark.parametrize(
    ("named", "change"),
    [
        ("network", {"network": {"width": 8}}),
        ("schedule", {"schedule": linear(40, 0.001, 0.3)}),
        ("data", {"data": line([1, 2, 3]).sample(500, seed=1)}),
        ("data", {"data": line([1, 2, 3]).sample(499, seed=0)}),
        ("prediction", {"prediction": "v"}),
        *((name, {"config": {name: value}}) for name, value in [("steps", 40), ("batch", 65), ("seed", 2)]),
        *(
            (name, {"config": {name: value}})
            for name, value in [("learning_rate", 0.1), ("decay", "none"), ("ema", 0.9)]
        ),
    ],
)
def test_the_checkpoint_of_another_training_is_refused(schedule, data, network, tmp_path, named, change):
    """And named, with what is there and what was asked for."""
    with pytest.raises(KeyboardInterrupt):
        fit(network(), schedule, data, CONFIG, folder=tmp_path, progress=Watcher(15))
    before = (tmp_path / "checkpoint.safetensors").read_bytes()
    with pytest.raises(InputError, match=rf"another training \({named}: .* there, .* asked for\)") as caught:
        fit(
            network(**change.get("network", {})),
            change.get("schedule", schedule),
            change.get("data", data),
            dataclasses.replace(CONFIG, **change.get("config", {})),
            prediction=change.get("prediction", "eps"),
            folder=tmp_path,
        )
    assert "\n" not in str(caught.value)
    assert (tmp_path / "checkpoint.safetensors").read_bytes() == before


def test_other_checkpoint_times_are_no_other_training(schedule, data, network, tmp_path):
    with pytest.raises(KeyboardInterrupt):
        fit(network(), schedule, data, CONFIG, folder=tmp_path, progress=Watcher(15))
    config = dataclasses.replace(CONFIG, checkpoint_every=7)
    resumed = fit(network(), schedule, data, config, folder=tmp_path)
    assert_equal(resumed, fit(network(), schedule, data, CONFIG))


def test_a_truncated_checkpoint_is_refused(schedule, data, network, tmp_path):
    fit(network(), schedule, data, CONFIG, folder=tmp_path)
    path = tmp_path / "checkpoint.safetensors"
    path.write_bytes(path.read_bytes()[:1000])
    with pytest.raises(InputError, match="truncated"):
        fit(network(), schedule, data, CONFIG, folder=tmp_path)


# what is refused


@pytest.mark.parametrize(
    "settings",
    [
        {"steps": 0},
        {"batch": 0},
        {"checkpoint_every": 0},
        {"learning_rate": 0.0},
        {"learning_rate": float("nan")},
        {"ema": 1.0},
        {"ema": -0.1},
        {"decay": "linear"},
        {"seed": -1},
        {"precision": "fp8"},
    ],
    ids=str,
)
def test_impossible_settings_are_refused_by_name(settings):
    (name,) = settings
    with pytest.raises(InputError, match=name):
        TrainConfig(**settings)


@pytest.mark.parametrize("bad", [torch.empty(0, 1), torch.tensor([[1.0], [torch.nan]]), torch.tensor([[torch.inf]])])
def test_data_that_cannot_be_trained_on_is_refused(schedule, network, bad):
    with pytest.raises(InputError, match="data"):
        fit(network(), schedule, bad, CONFIG)


def test_an_unknown_prediction_is_refused(schedule, data, network):
    with pytest.raises(InputError, match="prediction"):
        fit(network(), schedule, data, CONFIG, prediction="score")


def test_a_loss_that_explodes_stops_the_training_and_leaves_no_checkpoint(schedule, data, network, tmp_path):
    """A checkpoint of weights that are not finite could only be resumed into the same failure."""
    config = TrainConfig(steps=1000, batch=16, learning_rate=1e30, checkpoint_every=1)  # 5 steps a loss point
    with pytest.raises(FloatingPointError, match="lower the learning rate"):
        fit(network(), schedule, data, config, folder=tmp_path)
    if (tmp_path / "checkpoint.safetensors").exists():
        from intermode.files import load_tensors

        tensors, _ = load_tensors(tmp_path / "checkpoint.safetensors")
        assert all(torch.isfinite(value).all() for value in tensors.values())


# the public function


QUICK = {"steps": 12, "batch": 16}


def images(count=20, side=8, channels=1):
    return torch.rand(count, channels, side, side, generator=torch.Generator().manual_seed(0)) * 2 - 1


def test_train_is_fit_with_what_the_data_suggests(data):
    """The paper's network and schedule for numbers: the same weights, bit for bit."""
    trained = train(data, seed=5, **QUICK)
    network = build({"kind": "mlp", "dimensions": 1}, 5)
    assert_equal(trained, fit(network, linear(), data, TrainConfig(seed=5, **QUICK)))
    assert (trained.prediction, trained.schedule.config) == ("eps", linear().config)
    assert isinstance(trained, NetworkDenoiser)
    assert "loss" in str(trained)


def test_train_of_images_makes_a_small_unet_that_predicts_v():
    x = images()
    trained = train(x, steps=2)
    network = build(default_network((1, 8, 8)), 0)
    assert_equal(trained, fit(network, cosine(), x, TrainConfig(steps=2, batch=32, ema=0.999), prediction="v"))
    assert (trained.shape, trained.prediction) == ((1, 8, 8), "v")


@pytest.mark.parametrize("side", [8, 12, 16, 28, 32, 33, 64])
def test_the_default_network_takes_any_square_image(side):
    network = build(default_network((3, side, side), 2))
    out = network(torch.zeros(2, 3, side, side), torch.tensor(3), torch.tensor([0, 2])).sample
    assert out.shape == (2, 3, side, side)


@pytest.mark.parametrize("form", [list, np.asarray, torch.Tensor.double, torch.Tensor.flatten])
def test_data_comes_in_any_form(data, form):
    x = data[:40]
    given = x.tolist() if form is list else form(x)
    assert_equal(train(given, **QUICK), train(x, **QUICK))


def test_bytes_are_pixels():
    pixels = torch.randint(0, 256, (20, 8, 8), generator=torch.Generator().manual_seed(1)).to(torch.uint8)
    expected = train(pixels[:, None].float() / 127.5 - 1, steps=2)
    for given in (pixels, pixels[:, None], pixels[..., None], pixels.numpy()):
        assert_equal(train(given, steps=2), expected)


def test_labels_make_the_default_network_of_images_a_conditional_one():
    labels = [0, 1, 2, 1] * 5
    trained = train(images(), labels=labels, steps=2, batch=4)
    assert trained.classes == 3
    description = default_network((1, 8, 8), 3)
    config = TrainConfig(steps=2, batch=4, ema=0.999)
    expected = fit(build(description), cosine(), images(), config, prediction="v", labels=torch.tensor(labels))
    assert_equal(trained, expected)


def test_a_model_folder_opens_again_and_is_not_trained_twice(data, tmp_path):
    out = tmp_path / "model"
    first = train(data, out=out, **QUICK)
    watcher = Watcher()
    again = train(data, out=str(out), progress=watcher, **QUICK)
    assert watcher.tasks == []
    assert isinstance(again, Trained)
    assert again.seconds == first.seconds
    assert np.allclose(again.losses, first.losses, atol=1e-6)
    assert load(out).identity == again.identity == first.identity
    assert provenance_of(out)["training_samples"] == 500
    assert not (out / "checkpoint.safetensors").exists()


def test_an_interrupted_training_goes_on_in_its_folder(data, tmp_path):
    settings = {"steps": 30, "batch": 16, "checkpoint_every": 10}
    with pytest.raises(KeyboardInterrupt):
        train(data, out=tmp_path, progress=Watcher(15), **settings)
    watcher = Watcher()
    resumed = train(data, out=tmp_path, progress=watcher, **settings)
    assert watcher.tasks == [(30, 10)]
    assert_equal(resumed, train(data, **settings))


def test_a_damaged_model_is_trained_again(data, tmp_path):
    first = train(data, out=tmp_path, **QUICK)
    (tmp_path / "model.safetensors").write_bytes(b"no")
    watcher = Watcher()
    assert_equal(train(data, out=tmp_path, progress=watcher, **QUICK), first)
    assert any("training it again" in notice for notice in watcher.notices)


def test_a_folder_of_something_else_is_refused_before_training(data, tmp_path):
    train(data, out=tmp_path / "model", **QUICK)
    with pytest.raises(InputError, match=r"out: .* holds another training \(steps is 12 there and 13 here\)"):
        train(data, out=tmp_path / "model", steps=13, batch=16)
    with pytest.raises(InputError, match="is not an empty folder"):
        train(data, out=tmp_path, **QUICK)
    by_hand = Schedule(cosine(9).signal, cosine(9).noise)
    with pytest.raises(InputError, match="schedule: was made by hand"):
        train(data, out=tmp_path / "new", schedule=by_hand, **QUICK)
    assert not (tmp_path / "new").exists()


@pytest.mark.parametrize(
    ("given", "settings", "message"),
    [
        ([[1.0], [2.0, 3.0]], {}, "data: must be an array of numbers"),
        ("words", {}, "data: must be an array of numbers"),
        ([], {}, "data: there are no training samples"),
        ([1.0, float("nan")], {}, "data: holds values that are not finite"),
        (np.zeros((3, 4, 5)), {}, r"data: samples of shape \(4, 5\); without a network"),
        (np.zeros((3, 1, 4, 5)), {}, r"data: samples of shape \(1, 4, 5\); without a network"),
        (np.zeros((3, 2)), {"labels": [0, 1, 1]}, "labels: the default network of flat samples"),
        (np.zeros((3, 2)), {"network": {"kind": "mlp", "dimensions": 2, "widht": 3}}, "network: settings of kind mlp"),
        ([1.0], {"stesp": 3}, r"stesp: is no argument of train; did you mean steps\?"),
    ],
)
def test_what_cannot_be_trained_with_is_refused(given, settings, message):
    with pytest.raises(InputError, match=message):
        train(given, **settings)
