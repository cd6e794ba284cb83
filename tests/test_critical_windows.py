"""The forward-backward experiment against closed forms on mixtures, its windows, and detectors that use them."""

import json

import diffusers
import numpy as np
import pytest
import tiny_pipelines
import torch
from sklearn.metrics import roc_auc_score

import intermode
from intermode import cli, critical
from intermode.critical import critical_windows
from intermode.denoisers import Denoiser, MixtureDenoiser
from intermode.detect import critical as detect_critical
from intermode.detect.bias import Bias
from intermode.detect.hal import Hal, HalRenoise
from intermode.detect.knn import KNN
from intermode.detect.lid import LID
from intermode.detect.residual import Residual
from intermode.detect.window import Window
from intermode.errors import InputError
from intermode.samplers import Ancestral
from intermode.schedules import linear
from intermode.targets.gaussian import GaussianMixture

SCHEDULE = linear(100, 0.001, 0.2)


def mixture(means, sigma=0.05, weights=None):
    means = np.array(means, dtype=float)[:, None] if np.ndim(means) == 1 else np.array(means, dtype=float)
    weights = np.ones(len(means)) / len(means) if weights is None else np.array(weights)
    return GaussianMixture(means, np.full(len(means), sigma), weights)


LINE = mixture((1.0, 2.0, 3.0))
EXACT = MixtureDenoiser(LINE, SCHEDULE)


class Remembering:
    """A target that remembers what it was asked about, and calls nothing bad."""

    def __init__(self):
        self.asked = []

    def label(self, x):
        self.asked.append(x.clone())
        return type("Labels", (), {"hallucinated": np.zeros(len(x), dtype=bool)})()


def modes(x, target):
    return (torch.as_tensor(x)[:, None] - torch.as_tensor(target.means)).square().sum(-1).argmin(1).numpy()


@pytest.fixture(scope="module")
def experiment():
    """Of the exact mixture: what was found, and the samples before and after the restarts from each level."""
    seen = Remembering()
    found = critical_windows(EXACT, n=1500, labels=seen, seed=3)
    *after, before = seen.asked
    # kinds are asked for last; restarts in the order in which they were made
    return found, before, after


@pytest.mark.parametrize(
    "target", [LINE, mixture([(i, j) for i in range(4) for j in range(4)], 0.06)], ids=["1-D", "2-D"]
)
def test_without_labels_it_counts_the_changes_of_mode(target, monkeypatch):
    seen, order = Remembering(), []
    restart = critical.Trial.restart
    monkeypatch.setattr(critical.Trial, "restart", lambda trial, t: (order.append(t), restart(trial, t))[1])
    found = critical_windows(MixtureDenoiser(target, SCHEDULE), n=1500, labels=seen, seed=3)
    *after, before = seen.asked
    assert sorted(order) == list(found.levels)
    moved = {t: (modes(y, target) != modes(before, target)).mean() for t, y in zip(order, after, strict=True)}
    for t, changed in zip(found.levels, found.changed, strict=True):
        assert abs(changed.value - moved[t]) <= 0.01, t
    assert max(moved.values()) > 0.6
    assert min(moved.values()) == 0.0


def test_the_mean_change_is_twice_the_posterior_variance(experiment):
    found, before, _ = experiment
    apart = 2 * before.double().var(0).sum()
    x = LINE.sample(200_000, seed=9).double()
    coarse = [(t, moved) for t, moved in zip(found.levels, found.moved, strict=True) if t > 5]
    assert len(coarse) > 8
    for t, moved in coarse:  # below, the last step counts, which adds no noise: y is x0_hat
        noise = torch.randn(x.shape, dtype=torch.float64, generator=torch.Generator().manual_seed(t))
        variance = (EXACT(SCHEDULE.add_noise(x, noise, t), t) - x).square().sum(1).mean()
        error = (moved.high - moved.low) / 3.92
        # at least 6 standard errors; the first steps of the chain are of finite size: 3 %
        assert abs(moved.value - 2 * variance / apart) < 6 * error + 0.03 * moved.value, t


def test_windows_lie_where_the_share_says(experiment):
    found, _, _ = experiment
    (rise,) = found.rises
    assert found.windows == (rise.below, rise.window)
    shares = np.array([e.value for e in found.changed])
    total = np.maximum.accumulate(shares)[-1]
    assert 0.05 * total < np.interp(rise.window.low, found.levels, shares) < 0.25 * total
    assert 0.35 * total < np.interp(rise.window.high, found.levels, shares) < 0.6 * total
    assert np.interp(rise.below.high, found.levels, shares) < 0.015
    assert rise.below.high < rise.window.low
    a, s = SCHEDULE.level(rise.below.high)
    b, r = SCHEDULE.level(rise.below.low)
    assert (b / r) ** 2 / (a / s) ** 2 < 16 * 2  # timesteps are coarse there
    for end in (rise.edge, rise.low, rise.high):
        assert end.low <= end.value <= end.high
        assert end.high > end.low


def test_each_kind_of_decision_has_a_rise_of_its_own():
    pairs = mixture((-3.1, -2.9, 2.9, 3.1), 0.01)  # far pairs of near modes
    found = critical_windows(MixtureDenoiser(pairs, linear(400, 1e-4, 0.08)), n=800, sampler=Ancestral("small"))
    near, far = found.rises
    assert near.window.high < far.below.low <= far.below.high < far.window.low
    shares = dict(zip(found.levels, (e.value for e in found.changed), strict=True))
    plateau = [v for t, v in shares.items() if near.window.high * 2 < t < far.below.high]
    assert plateau
    assert all(abs(v - 0.5) < 0.07 for v in plateau)  # within the pair either mode
    assert len(found.windows) == 4


def test_nothing_but_kinds_depends_on_labels():
    asked = {"n": 60, "levels": (0, 5, 20, 60), "seed": 1}
    blind, seeing = critical_windows(EXACT, **asked), critical_windows(EXACT, labels=LINE, **asked)
    assert blind.changed == seeing.changed
    assert blind.moved == seeing.moved
    assert blind.rises == seeing.rises
    assert not blind.kinds
    assert seeing.kinds["in-support"].count == 60


def test_kinds_say_what_stays_bad_and_what_turns_bad():
    good = LINE.sample(400, seed=1).double()
    between = torch.full((100, 1), 1.45, dtype=torch.float64)
    far = torch.full((50, 1), 60.0, dtype=torch.float64)
    found = critical_windows(EXACT, x=torch.cat([good, between, far]), labels=LINE, levels=(4, 20))
    assert {kind: each.count for kind, each in found.kinds.items()} == {
        "in-support": 400,
        "between": 100,
        "outside": 50,
    }
    # the true score mends whatever lies between, and turns nothing bad
    assert all(bad.value == 0 for bad in found.kinds["between"].bad)
    assert all(bad.value < 0.01 for bad in found.kinds["in-support"].bad)
    assert found.kinds["in-support"].bad[0].high > 0


@pytest.mark.parametrize("steps", [None, 20])
def test_evaluations_are_those_made_and_randomness_is_the_samples_own(steps):
    rows = []

    class Counted(MixtureDenoiser):
        def __call__(self, x_t, t, **condition):
            rows.append(len(x_t))
            return super().__call__(x_t, t, **condition)

    sampler = Ancestral(steps=steps)
    found = critical_windows(Counted(LINE, SCHEDULE), n=40, levels=(3, 50), sampler=sampler, seed=5)
    assert found.evaluations == sum(rows)
    fewer = critical_windows(EXACT, x=found.x[:25], levels=(50,), sampler=sampler, seed=5, scale=0.25)
    more = critical_windows(EXACT, x=found.x, levels=(3, 50), sampler=sampler, seed=5, scale=0.25)
    assert torch.equal(found.x, more.x)
    # the first 25 samples of both fared alike: sums differ by those of the others alone
    assert fewer.changed[0].value * 25 <= more.changed[1].value * 40 <= fewer.changed[0].value * 25 + 15


class FewImages(Denoiser):
    """The ideal denoiser of a few images."""

    def __init__(self, images, schedule):
        self.images, self.schedule = images, schedule

    @property
    def shape(self):
        return tuple(self.images.shape[1:])

    @property
    def identity(self):
        return super().identity | {"images": str(float(self.images.sum()))}

    def __call__(self, x_t, t, **condition):
        a, s = self.schedule.level(t)
        squares = (x_t[:, None] - a * self.images).flatten(2).square().sum(2)
        weights = torch.softmax(-squares / (2 * s**2), dim=1)
        return (weights @ self.images.flatten(1)).reshape(x_t.shape)


def test_of_images_it_tells_patches_features_and_other_images_by_scale():
    images = -torch.ones(4, 1, 16, 16, dtype=torch.float64)
    images[1, :, :2, :2] = images[3, :, :2, :2] = 1  # a small thing in one corner: decided late
    images[2, :, 8:, 8:] = images[3, :, 8:, 8:] = 1  # a large one in another: decided early
    denoiser = FewImages(images, SCHEDULE)
    found = critical_windows(denoiser, n=120, features=lambda x: x[:, 0, :2, :2].flatten(1), seed=2)
    moved = {name: np.array([e.value for e in getattr(found, name)]) for name in ("changed", "moved", "features")}
    begun = {name: np.flatnonzero(values > 0.2)[0] for name, values in moved.items()}
    assert begun["features"] < begun["moved"]
    assert begun["features"] < begun["changed"]
    corner, large, empty = found.patches[:, 0, 0], found.patches[:, -1, -1], found.patches[:, 0, -1]
    assert np.allclose(corner, moved["features"], atol=1e-6)
    assert np.flatnonzero(corner > 0.2)[0] < np.flatnonzero(large > 0.2)[0]
    assert np.abs(empty).max() < 1e-6
    # a scale under the small thing sees it
    fine = critical_windows(denoiser, n=120, scale=8.0, seed=2, levels=found.levels)
    assert all(a.value >= b.value for a, b in zip(fine.changed, found.changed, strict=True))
    assert np.flatnonzero([e.value > 0.2 for e in fine.changed])[0] < begun["changed"]


def test_a_folder_of_a_pipeline_is_a_model(tmp_path):
    pipe = diffusers.DDPMPipeline(tiny_pipelines.unet(), diffusers.DDPMScheduler())
    pipe.save_pretrained(tmp_path / "pipe")
    found = critical_windows(tmp_path / "pipe", n=20, sampler=Ancestral("small", 5), levels=(0, 400, 900))
    assert found.levels == (0, 400, 900)
    assert found.evaluations == 20 * (5 + 1 + 3 + 5)
    assert found.patches.shape == (3, 8, 8)


# the least AUROC: in the very middle between two modes neither residual nor bias sees anything
DETECTORS = {
    Residual(window="critical"): 0.97,
    LID(window="critical"): 0.99,
    Bias(window="critical"): 0.85,
    HalRenoise(window="critical"): 0.99,
}


@pytest.fixture
def forgotten(monkeypatch):
    monkeypatch.setattr(detect_critical, "_found", {})


@pytest.mark.usefixtures("forgotten")
@pytest.mark.parametrize(("detector", "least"), DETECTORS.items(), ids=[d.name for d in DETECTORS])
def test_in_critical_windows_detectors_find_mass_between_modes(detector, least):
    good = LINE.sample(1000, seed=4).double()
    bad = torch.from_numpy(np.random.default_rng(0).uniform(1.3, 1.7, (200, 1)))
    scores = intermode.score(EXACT, torch.cat([good, bad]), detector)[detector.name]
    assert roc_auc_score(np.repeat([0, 1], [1000, 200]), scores) > least
    # standardised on the model's own samples: a tenth of the good ones, of each window, begins at 1
    assert 0.05 < (scores[:1000] > 1).mean() < 0.3
    asked = intermode.score(EXACT, good[:20], detector.name)  # as a name it takes no window unless it is told one
    assert not np.allclose(asked[detector.name], scores[:20])


@pytest.mark.usefixtures("forgotten")
def test_windows_are_found_once_for_a_model(monkeypatch):
    asked = []
    find = detect_critical.critical_windows
    monkeypatch.setattr(detect_critical, "critical_windows", lambda *a, **k: (asked.append(1), find(*a, **k))[1])
    x = LINE.sample(10, seed=0).double()
    for detector in DETECTORS:
        intermode.score(EXACT, x, detector)
    intermode.score(MixtureDenoiser(LINE, SCHEDULE), x, Residual(window="critical"))  # another object, the same model
    assert len(asked) == 1
    intermode.score(MixtureDenoiser(mixture((1, 2)), SCHEDULE), x, Residual(window="critical"))
    assert len(asked) == 2


@pytest.mark.usefixtures("forgotten")
def test_another_model_is_the_auditor_of_what_the_own_one_believes():
    """What a model takes for a mode it cannot find; windows and scale are those of the model that scores."""
    wrong = MixtureDenoiser(mixture((1.0, 1.5, 2.0, 3.0)), SCHEDULE)
    x = wrong.mixture.sample(4000, seed=1).double()
    bad = ((x > 1.25) & (x < 1.75)).numpy()[:, 0]
    detector = LID(window="critical")
    own, audit = (roc_auc_score(bad, intermode.score(model, x, detector)["lid"]) for model in (wrong, EXACT))
    assert audit > 0.99
    assert own < 0.85


@pytest.mark.usefixtures("forgotten")
def test_hal_along_the_trajectory_takes_the_windows_too():
    samples = intermode.sample(EXACT, 200, detectors=Hal(window="critical"), seed=2)
    again = intermode.sample(EXACT, 200, detectors=Hal(window="critical"), seed=2, chunk=200)
    assert np.isfinite(samples.scores["hal"]).all()
    assert np.array_equal(samples.scores["hal"], again.scores["hal"])
    assert 0.05 < (samples.scores["hal"] > 1).mean() < 0.3
    plain = intermode.sample(EXACT, 200, detectors=Hal(0, 15), seed=2)
    assert torch.equal(plain.x, samples.x)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"n": 19}, "n: 19 samples are too few to see a share rise; must be at least 20"),
        ({"levels": (100,)}, "start: 100 is outside 0..99, the timesteps"),
        ({"levels": (-1,)}, "levels: -1 must be a whole number, at least 0"),
        ({"scale": 0}, "scale: 0 must be positive, a squared change in units of the data"),
        ({"x": np.zeros((30, 2))}, "x: samples of shape (2,); must be (1,)"),
        ({"x": [np.nan] * 25}, "x: 25 samples are not finite; leave them out"),
    ],
)
def test_what_cannot_be_used_is_refused_in_one_line(arguments, message):
    with pytest.raises(InputError) as caught:
        critical_windows(EXACT, **arguments)
    assert str(caught.value) == message


def test_a_critical_window_needs_a_model_and_a_detector_without_training_data():
    with pytest.raises(InputError, match="window: critical ones are found for a model"):
        Hal(window="critical").check(SCHEDULE, range(100))
    with pytest.raises(InputError, match="window: critical ones are found for a model"):
        Residual(window="critical").check(SCHEDULE)
    learning = KNN()
    learning.window = Residual(window="critical").window
    with pytest.raises(InputError, match="window: knn learns from training data"):
        detect_critical.in_critical_windows(learning, EXACT, None)
    with pytest.raises(InputError, match="window: residual cannot find the critical one without a model"):
        detect_critical.in_critical_windows(Residual(window="critical"), None, None)
    assert detect_critical.in_critical_windows(Residual(window=(1, 2)), None, None).window == Window(1, 2)


@pytest.mark.usefixtures("forgotten")
def test_a_model_that_never_changes_anything_has_no_window():
    class Fixed(MixtureDenoiser):
        def __call__(self, x_t, t, **condition):
            return torch.zeros_like(x_t)

    with pytest.raises(InputError, match=r"^window: the model has no critical one"):
        intermode.score(Fixed(LINE, SCHEDULE), LINE.sample(5, seed=0).double(), Residual(window="critical"))


def test_the_command_writes_the_windows_and_their_figure(tmp_path, capsys):
    intermode.train(LINE.sample(500, seed=0), steps=20, batch=50, schedule=SCHEDULE, out=tmp_path / "model")
    args = ["windows", str(tmp_path / "model"), "-n", "30", "--levels", "0", "9", "60", "--target", "line"]
    assert cli.main([*args, "--out", str(tmp_path / "found")]) == 0
    told = json.loads((tmp_path / "found" / "windows.json").read_text())
    assert told["levels"] == [0, 9, 60]
    assert len(told["changed"]) == 3
    assert told["samples"] == 30
    assert (tmp_path / "found" / "windows.png").stat().st_size > 1000
    assert "evaluations for 30 samples at 3 levels" in capsys.readouterr().out
    assert cli.main([*args, "--levels", "5000"]) == 2
    assert "error: start: 5000 is outside 0..99, the timesteps" in capsys.readouterr().err
