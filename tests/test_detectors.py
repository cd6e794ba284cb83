"""What every detector of the registry promises: the same score whatever the batch, and larger means more suspect."""

import numpy as np
import pytest
import torch
from torch import nn

from intermode.denoisers import MixtureDenoiser, NetworkDenoiser
from intermode.detect import describe
from intermode.detect.hal import Hal, HalRenoise
from intermode.detect.knn import KNN
from intermode.detect.lid import LID
from intermode.detect.posterior_variance import vector_jacobian
from intermode.detect.registry import DEFAULTS, DETECTORS, IMAGES_ALONE, Setting, make, resolve
from intermode.detect.white import white
from intermode.detect.window import SNR, Fraction, Window, as_window
from intermode.errors import InputError
from intermode.sampling import score
from intermode.schedules import cosine, linear
from intermode.targets.gaussian import line

SAMPLE_DETECTORS = [name for name in DETECTORS if name != "hal"]
FITTED = ["diffpath", "diffpath-6d", "bayesdiff", "generative-uncertainty", "knn", "realism"]
WITHOUT_TIMESTEPS = ["knn", "realism", "white", "random", "oracle"]
DERIVATIVES = ["posterior-variance", "posterior-variance-largest", "curvature"]


def counted(network, output):
    """The output, whose gradients count the samples that pass backwards."""

    def count(gradient):
        network.backwards += len(gradient)

    if output.requires_grad:
        output.register_hook(count)
    return output


class Numbers(nn.Module):
    """A network of one number, in float64 so that batches differ by nothing but rounding."""

    shape = (1,)

    def __init__(self):
        super().__init__()
        self.inner, self.outer, self.rows = nn.Linear(2, 8), nn.Linear(8, 1), 0
        self.backwards = 0

    def forward(self, x, t):
        self.rows += len(x)
        time = (t.to(x.dtype) / 1000).expand(len(x))[:, None]
        return counted(self, self.outer(torch.tanh(self.inner(torch.cat([x, time], 1)))))


class Pixels(nn.Module):
    """The same of small images."""

    shape = (1, 4, 4)

    def __init__(self):
        super().__init__()
        self.inner, self.outer, self.rows = nn.Conv2d(1, 4, 3, padding=1), nn.Conv2d(4, 1, 3, padding=1), 0
        self.backwards = 0

    def forward(self, x, t):
        self.rows += len(x)
        time = (t.to(x.dtype) / 1000).expand(len(x))[:, None, None, None]
        return counted(self, self.outer(torch.tanh(self.inner(x) + time)))


def of_shape(shape):
    """The detectors that score samples of this shape."""
    return [name for name in DETECTORS if len(shape) > 1 or name not in IMAGES_ALONE]


@pytest.fixture(params=[Numbers, Pixels], ids=["numbers", "pixels"])
def network(request):
    if request.node.callspec.params.get("name") not in [None, *of_shape(request.param.shape)]:
        pytest.skip("scores images alone")
    torch.manual_seed(2)
    return NetworkDenoiser(request.param().double(), linear() if request.param is Numbers else cosine())


class Centre:
    """A target whose support is what lies within 1 of the origin."""

    def label(self, x):
        from intermode.targets import Labels

        far = ~(x.flatten(1).norm(dim=1).numpy() < 1)
        return Labels(far, far.astype(str))


def fitted(name, denoiser, count=120):
    """The registry's detector, on training data near the origin."""
    shape = denoiser.network.shape
    detector = make(name, Setting(shape, Centre()))
    if hasattr(detector, "fit"):
        detector.fit(denoiser, data(count, shape, 7), seed=3)
    return detector


def data(count, shape, seed):
    return 0.3 * torch.randn(count, *shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@pytest.mark.parametrize("name", SAMPLE_DETECTORS)
def test_scores_do_not_depend_on_the_batch_and_repeat(network, name):
    """Nor on the processes before: a score belongs to the seed and the sample's index."""
    detector, x = fitted(name, network), data(21, network.network.shape, 1)
    whole = score(detector, network, x, seed=4, chunk=21)
    assert whole.dtype == np.float64
    assert np.isfinite(whole).all()
    assert np.allclose(score(detector, network, x, seed=4, chunk=8), whole, rtol=1e-7, atol=1e-12)
    assert np.array_equal(score(fitted(name, network), network, x, seed=4, chunk=21), whole)


@pytest.mark.parametrize("name", SAMPLE_DETECTORS)
def test_a_sample_that_is_not_finite_is_most_suspect(network, name):
    """Whatever is not finite about it, and without touching its neighbours."""
    detector, x = fitted(name, network), data(6, network.network.shape, 1)
    clean = score(detector, network, x, seed=4, chunk=6)
    for row, value in ((1, torch.nan), (3, torch.inf), (4, -torch.inf)):
        x[row].view(-1)[0] = value
    scores = score(detector, network, x, seed=4, chunk=6)
    assert np.flatnonzero(scores == np.inf).tolist() == [1, 3, 4]
    assert np.allclose(scores[[0, 2, 5]], clean[[0, 2, 5]], rtol=1e-9, atol=1e-14)


@pytest.mark.parametrize("name", SAMPLE_DETECTORS)
def test_nfe_is_what_the_network_is_asked(network, name):
    """Evaluations for each sample, and two more for each pass backwards."""
    detector, x = fitted(name, network), data(5, network.network.shape, 1)
    network.network.rows = network.network.backwards = 0
    score(detector, network, x, chunk=5)
    assert (network.network.backwards > 0) == (name in DERIVATIVES)
    assert network.network.rows / 5 + 2 * network.network.backwards / 5 == detector.nfe


@pytest.mark.parametrize("name", FITTED)
def test_fitting_is_asked_for_and_repeats(network, name):
    detector = make(name, Setting(network.network.shape))
    x = data(5, network.network.shape, 1)
    with pytest.raises(InputError, match=f"{name}: must be fitted"):
        score(detector, network, x)
    with pytest.raises(InputError, match="data: "):
        detector.fit(network, data(1, network.network.shape, 1)[:0])
    with pytest.raises(InputError, match="finite"):
        detector.fit(network, torch.full((200, *network.network.shape), torch.nan, dtype=torch.float64))
    scores = [score(fitted(name, network), network, x, chunk=5) for _ in range(2)]
    assert np.array_equal(*scores)


@pytest.mark.parametrize("name", SAMPLE_DETECTORS)
def test_gradients_of_the_weights_are_neither_needed_nor_left_behind(network, name):
    """A network fresh from training has weights that require them."""
    detector, x = fitted(name, network), data(3, network.network.shape, 1)
    found = detector(network, x, lambda: torch.zeros_like(x).add_(0.5))
    assert not found.requires_grad
    assert all(weight.grad is None for weight in network.network.parameters())


@pytest.mark.parametrize("name", [n for n in SAMPLE_DETECTORS if n not in WITHOUT_TIMESTEPS])
def test_a_schedule_without_the_timesteps_is_refused(network, name):
    detector = fitted(name, network)
    with pytest.raises(InputError, match=r"window|timesteps"):
        detector.check(linear(3, 0.1, 0.2))


@pytest.mark.parametrize("shape", [(1,), (7,), (1, 8, 8)])
def test_names_are_the_registrys(shape):
    for name in of_shape(shape):
        detector = make(name, Setting(shape, Centre()))
        assert detector.name == name
        assert detector.nfe >= 0


@pytest.mark.parametrize("timesteps", [20, 100, 500, 4000])
@pytest.mark.parametrize("shape", [(1,), (1, 8, 8)])
def test_the_registrys_settings_fit_every_length_of_schedule(shape, timesteps):
    schedule = linear(timesteps, 1e-4, 0.02)
    for name in of_shape(shape):
        detector = make(name, Setting(shape, Centre(), timesteps=timesteps))
        if not hasattr(detector, "fit") and not hasattr(detector, "update"):
            detector.check(schedule)
        elif hasattr(detector, "timesteps"):
            assert 0 <= min(detector.timesteps) < max(detector.timesteps) < timesteps
    assert make("lid", Setting((1, 8, 8), timesteps=500)).timesteps == (50, 100)
    assert make("lid", Setting((1, 8, 8))).timesteps == (100, 200)


def test_the_default_of_finished_samples_needs_no_data_and_that_of_a_chain_costs_nothing():
    for shape in ((1,), (7,), (1, 8, 8)):
        finished, made = (make(DEFAULTS[where], Setting(shape), where) for where in ("finished", "chain"))
        assert not hasattr(finished, "fit")
        assert not hasattr(finished, "update")
        assert made.nfe == 0


def test_unknown_names_and_an_oracle_without_a_target_are_refused():
    with pytest.raises(InputError, match=r"unknown 'lod'; did you mean lid\? \(choose from hal, .*realism"):
        make("lod", Setting((1,)))
    with pytest.raises(InputError, match=r"unknown 'zzzz'; \(?choose from hal, "):
        make("zzzz", Setting((1,)))
    with pytest.raises(InputError, match="target"):
        make("oracle", Setting((1,)))


def test_white_is_the_mean_of_an_image_in_the_range_of_grey():
    x = torch.full((3, 1, 4, 4), -1.0)
    x[1, 0, :2] = 1
    x[2, 0, 0, 0] = 7  # white already
    assert white(x).tolist() == [0, 0.5, 1 / 16]
    with pytest.raises(InputError, match=r"^white: samples of shape \(16,\) are no images"):
        white(x.flatten(1))
    with pytest.raises(InputError, match=r"^detector: white scores images alone, not samples of shape \(2,\)"):
        resolve("white", Setting((2,)))


# what is asked for


def test_detectors_are_objects_names_or_sequences_of_both():
    own = Hal(0, 5, name="own")
    for asked in ("hal", ["hal"], ("hal",), [own, "lid"], own):
        found = resolve(asked, Setting((1,)))
        listed = asked if isinstance(asked, list | tuple) else [asked]
        assert [d.name for d in found] == [one if isinstance(one, str) else one.name for one in listed]
    assert resolve([own, "lid"], Setting((1,)))[0] is own
    assert resolve([], Setting((1,))) == []


def test_hal_of_finished_samples_is_that_of_samples_noised_again(network):
    (finished,) = resolve("hal", Setting(network.shape), "finished")
    (made,) = resolve("hal", Setting(network.shape), "chain")
    assert isinstance(finished, HalRenoise)
    assert finished.name == made.name == "hal"
    assert "noised again" in describe(finished)
    x = data(5, network.shape, 1)
    by_name, own = (score(d, network, x, chunk=5) for d in (finished, make("hal-renoise", Setting(network.shape))))
    assert np.array_equal(by_name, own)


def test_what_cannot_be_done_says_what_can():
    with pytest.raises(InputError, match=r"^hal-renoise: scores finished images; use score$"):
        resolve(["hal", HalRenoise()], Setting((1,)), "chain")
    with pytest.raises(InputError, match=r"^hal: watches samples while they are made; .*HalRenoise scores finished"):
        resolve(Hal(0, 10), Setting((1,)), "finished")
    with pytest.raises(InputError, match="names hal, hal repeat"):
        resolve(["hal", Hal()], Setting((1,)))
    with pytest.raises(InputError, match="window: is of no use to knn"):
        resolve("knn", Setting((1,), window=(0, 5)))
    with pytest.raises(InputError, match="count: is of no use to hal;"):
        resolve("hal", Setting((1,), count=5))
    with pytest.raises(InputError, match="detector: dict has no name, check"):
        resolve({}, Setting((1,)))


FOREIGN = """
import torch

class Size:
    name, nfe = "size", 0

    def check(self, schedule):
        pass

    def __call__(self, denoiser, x, noise, **condition):
        return x.flatten(1).double().norm(dim=1)

class Lacking:
    name = "lacking"

class Asking(Size):
    def __init__(self, power):
        pass

ready = Size()
"""


def test_foreign_detectors_are_imported_from_where_one_works(network, tmp_path, monkeypatch):
    (tmp_path / "their_module.py").write_text(FOREIGN)
    monkeypatch.chdir(tmp_path)
    x = data(5, network.shape, 1)
    for name in ("their_module:Size", "their_module:ready"):
        (found,) = resolve(name, Setting(network.shape), "finished")
        assert np.allclose(score(found, network, x), x.flatten(1).norm(dim=1))
    for name, message in (
        ("their_modul:Size", "cannot import their_modul"),
        ("their_module:Siz", "has no Siz; did you mean Size"),
        ("their_module:Lacking", "has no check, __call__"),
        ("their_module:Asking", "cannot be made without arguments"),
    ):
        with pytest.raises(InputError, match=message):
            resolve(name, Setting(network.shape))


# windows


LOOKING = [name for name in SAMPLE_DETECTORS if name not in WITHOUT_TIMESTEPS]


@pytest.mark.parametrize("name", LOOKING)
def test_a_window_is_the_timesteps_spread_over_it(network, name):
    """A pair, the window of it, and the same range of signal-to-noise ratios: one score."""
    schedule, shape = network.schedule, network.shape
    ratio = schedule.alpha_bar / (1 - schedule.alpha_bar)
    found = {}
    for kind, window in (
        ("pair", (20, 90)),
        ("window", Window(20, 90)),
        ("snr", SNR(ratio[90] * 0.999, ratio[20] * 1.001)),
        ("fraction", Fraction(1 - 91 / 1000, 1 - 20 / 1000)),
    ):
        detector = make(name, Setting(shape, Centre(), window=window, count=3))
        assert detector.at(schedule) == (20, 55, 90)
        if hasattr(detector, "fit"):
            detector.fit(network, data(120, shape, 7), seed=3)
        network.network.rows = network.network.backwards = 0
        found[kind] = score(detector, network, data(4, shape, 1), seed=4, chunk=4)
        assert network.network.rows / 4 + 2 * network.network.backwards / 4 == detector.nfe
        assert str(detector.window) in describe(detector)
    assert all(np.array_equal(scores, found["pair"]) for scores in found.values())


def test_a_window_holds_what_is_asked_of_it_or_refuses():
    assert LID(window=(4, 5)).at(linear()) == (4, 5)  # two where three are usual
    assert HalRenoise(window=(3, 8), count=2).timesteps == (3, 8)
    assert LID(window=SNR(0.01, 100)).nfe == 32
    ratio = linear().alpha_bar / (1 - linear().alpha_bar)
    narrow = SNR(ratio[11] * 0.999, ratio[10] * 1.001)
    assert LID(window=narrow, count=2).at(linear()) == (10, 11)
    for make_one, message in (
        (lambda: LID((1, 2), window=(1, 2)), "window: timesteps are given too"),
        (lambda: LID(count=3), "count: .*give window too"),
        (lambda: LID(window=(4, 5), count=3), r"count: 3 is outside 1\.\.2"),
        (lambda: LID(window=(4, 5), count=0), r"count: 0 is outside 1\.\.2"),
        (lambda: HalRenoise(window=SNR(0.1, 1), count=1), "count: 1 is under 2"),
        (lambda: LID(window=narrow).check(linear()), "count: 3 timesteps are asked of SNR .*, which holds 2"),
        (lambda: LID(window=(990, 1000)).check(linear()), r"window: 990\.\.1000 is not inside 0\.\.999"),
        (lambda: LID((1000,)).check(linear()), r"timesteps: 1000 is not inside 0\.\.999"),
        (lambda: LID(()), "timesteps: none"),
        (lambda: LID((1, 1)), "timesteps: 1, 1; must be distinct"),
        (lambda: make("lmi", Setting((1,))).__class__(), "timesteps: give some, or a window"),
    ):
        with pytest.raises(InputError, match=message):
            make_one()


def test_windows_are_pairs_or_windows():
    assert as_window((3, 8)) == as_window([np.int64(3), 8]) == as_window(Window(3, 8)) == Window(3, 8)
    assert as_window(SNR(0.1, 1)) == SNR(0.1, 1)
    assert describe(Hal(window=(100, 700))) == describe(Hal(100, 700)) == "hal 100..700"
    for bad in ("ab", (0.1, 0.9), (1, 2, 3), 5, None, KNN()):
        with pytest.raises(InputError, match=r"window: .* is none; give a pair of timesteps \(low, high\), SNR"):
            as_window(bad)


# larger is more suspect


MODES = line([1, 2, 3])
BETWEEN = torch.cat([torch.linspace(1.36, 1.64, 60), torch.linspace(2.36, 2.64, 60)])[:, None].double()
FLOORS = {
    "hal-renoise": 0.97,
    "residual": 0.95,
    "lid": 0.99,
    "posterior-variance": 0.99,
    "posterior-variance-largest": 0.99,
    "aleatoric": 0.95,
    "curvature": 0.98,
    "diffpath": 0.95,
    "diffpath-6d": 0.98,
    "lmi": 0.95,
    "knn": 0.999,
    "realism": 0.999,
    "oracle": 1.0,
}


@pytest.mark.parametrize("name", FLOORS)
def test_between_the_modes_is_more_suspect_than_in_them(name):
    """Of a smoothed score: the ideal denoiser of modes twice as wide, as a network's is between them."""
    from sklearn.metrics import roc_auc_score

    denoiser = MixtureDenoiser(line([1, 2, 3], 0.1), linear())
    detector = make(name, Setting((1,), MODES))
    if hasattr(detector, "fit"):
        detector.fit(denoiser, MODES.sample(600, seed=1).double())
    x = torch.cat([MODES.sample(400, seed=2).double(), BETWEEN])
    scores = score(detector, denoiser, x, chunk=len(x))
    auroc = roc_auc_score(np.arange(len(x)) >= 400, scores)
    assert auroc >= FLOORS[name]


@pytest.mark.parametrize("name", ["bayesdiff", "generative-uncertainty"])
def test_away_from_the_training_data_is_more_uncertain(name):
    """The last layer's posterior knows less of features that it has not seen."""
    torch.manual_seed(2)
    denoiser = NetworkDenoiser(Numbers().double(), linear())
    detector = fitted(name, denoiser)
    near, far = data(40, (1,), 1), 3 + data(40, (1,), 2)
    assert score(detector, denoiser, far).min() > score(detector, denoiser, near).max()


def test_derivatives_pass_attention_and_group_norm_in_any_layout():
    """Where forward-mode derivatives are missing: against a finite difference."""

    class Attending(nn.Module):
        def forward(self, x, t):
            rows = x.reshape(len(x), 1, 4, 4).contiguous(memory_format=torch.channels_last)
            pair = rows.expand(-1, 2, 4, 4).contiguous(memory_format=torch.channels_last)
            normed = torch.nn.functional.group_norm(pair, 2)
            return torch.nn.functional.scaled_dot_product_attention(rows, normed[:, :1], rows).reshape(x.shape)

    denoiser = NetworkDenoiser(Attending(), linear(), "x0")
    x, v, w, step = data(3, (16,), 1), data(3, (16,), 2), data(3, (16,), 3), 1e-6
    difference = (denoiser(x + step * w, 5) - denoiser(x - step * w, 5)) / (2 * step)
    found = vector_jacobian(denoiser, x, 5, {})(v)
    assert torch.allclose((found * w).sum(1), (v * difference).sum(1), rtol=1e-6, atol=1e-9)
