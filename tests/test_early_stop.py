"""Early stop: which chains are dropped, whose random numbers the others have, what it costs, what is refused."""

import numpy as np
import pytest
import torch

import intermode
from intermode import cli
from intermode.denoisers import Denoiser, MixtureDenoiser, NetworkDenoiser
from intermode.detect.hal import Hal
from intermode.early_stop import EarlyStop, EarlyStopped
from intermode.errors import InputError
from intermode.files import load_tensors
from intermode.mitigate import Jump, Jumps
from intermode.models import save_model
from intermode.networks import build
from intermode.noise import NoiseStream
from intermode.restart import Restart
from intermode.samplers import DDIM, Ancestral
from intermode.sampling import sample
from intermode.schedules import linear
from intermode.targets.gaussian import line
from intermode.thresholds import Threshold

CHUNK = 32


class Height:
    """A score without noise that is easy to foresee: the prediction itself."""

    name, nfe = "height", 1

    def check(self, schedule):
        pass

    def __call__(self, denoiser, x, noise, **condition):
        return x.double()[:, 0]


class Halved(Denoiser):
    """No matrix product: samples are bit-equal whatever they are computed with."""

    shape = (1,)

    def __init__(self, schedule):
        self.schedule = schedule

    def __call__(self, x_t, t, **condition):
        return 0.5 * x_t


@pytest.fixture
def denoiser(schedule, network):
    return NetworkDenoiser(network(), schedule)


@pytest.fixture(scope="module")
def halved():
    return Halved(linear(40, 0.001, 0.4))


def drawn(model, n=100, stop=None, **settings):
    return sample(model, n, stop=stop, chunk=CHUNK, seed=5, **{"detectors": Hal(0, 15), **settings})


def test_chains_that_are_never_stopped_are_those_without_a_stop(denoiser):
    """Bit for bit, with their scores; the others are not."""
    plain = drawn(denoiser)
    found = drawn(denoiser, stop=EarlyStop(Height(), 20, threshold=float(np.median(plain.x)), tries=50))
    assert 10 < found.stopped.sum() < 90
    assert torch.equal(found.x[~found.stopped], plain.x[~found.stopped])
    assert np.array_equal(found.scores["hal"][~found.stopped], plain.scores["hal"][~found.stopped])
    assert not np.isin(found.x[found.stopped].numpy(), plain.x.numpy()).any()
    assert not np.isin(found.scores["hal"][found.stopped], plain.scores["hal"]).any()
    assert len(found) == 100


def test_a_stop_that_nothing_trips_changes_nothing(denoiser):
    for sampler in (Ancestral(), Ancestral("small", 10), DDIM(0.5), Restart(level=3, passes=2)):
        plain = drawn(denoiser, sampler=sampler, detectors=Hal(0, 3) if sampler.steps is None else ())
        found = drawn(
            denoiser,
            stop=EarlyStop(Height(), 20, threshold=1e9),
            sampler=sampler,
            detectors=Hal(0, 3) if sampler.steps is None else (),
        )
        assert torch.equal(found.x, plain.x)
        assert {k: v.tolist() for k, v in found.scores.items()} == {k: v.tolist() for k, v in plain.scores.items()}
        assert found.tries.tolist() == [1] * 100
        assert found.evaluations == 0


def by_hand(denoiser, row, threshold, tries, t):
    """One sample's chains, one after the other, by the sampler's own steps."""
    schedule, sampler = denoiser.schedule, Ancestral()
    rest = NoiseStream(5, 0, 100, (1,))
    whole = [rest() for _ in range(len(schedule))]
    for number in range(tries + 1):
        own = NoiseStream(5, 0, 1, (1,), purpose="retry", rows=np.array([row]), restart=number) if number else None
        x = own() if own else whole[0][row : row + 1]
        above = range(len(schedule) - 1, t - 1, -1)
        for k, u in enumerate(above):
            x0_hat = denoiser(x, u)
            c_x, c_0, std = sampler.transition(schedule, u, u - 1)
            x = c_x * x + c_0 * x0_hat + std * (own() if own else whole[k + 1][row : row + 1])
        if x0_hat <= threshold:
            break
    for u in range(t - 1, -1, -1):
        c_x, c_0, std = sampler.transition(schedule, u, u - 1)
        z = whole[len(schedule) - u][row : row + 1] if std else 0
        x = c_x * x + c_0 * denoiser(x, u) + std * z
    return x, number + 1, bool(x0_hat <= threshold)


def test_each_try_has_its_own_noise_above_the_timestep_and_the_samples_own_below(halved):
    threshold, t = 0.05, 12
    found = drawn(halved, 60, EarlyStop(Height(), t, threshold=threshold, tries=2), detectors=())
    assert {1, 2, 3} == set(found.tries)
    assert set(found.passed) == {True, False}
    for row in range(60):
        x, tries, passed = by_hand(halved, row, threshold, 2, t)
        assert found.x[row] == pytest.approx(x[0].numpy(), abs=1e-6)
        assert (found.tries[row], found.passed[row]) == (tries, passed)


def test_results_do_not_depend_on_the_chunk_nor_on_how_many_are_drawn(halved):
    stop = EarlyStop(Height(), 12, threshold=0.05)
    whole = sample(halved, 100, stop=stop, detectors=Hal(0, 15), chunk=100)
    for n, chunk in ((100, 32), (100, 7), (45, 32)):
        found = sample(halved, n, stop=stop, detectors=Hal(0, 15), chunk=chunk)
        assert torch.equal(found.x, whole.x[:n])
        assert np.array_equal(found.tries, whole.tries[:n])
        assert np.array_equal(found.scores["hal"], whole.scores["hal"][:n])


def test_scores_are_those_of_the_chain_that_came_to_its_end(halved):
    """Hal over the whole chain, of a chain drawn by itself."""
    found = drawn(halved, 60, EarlyStop(Height(), 12, threshold=0.05), detectors=Hal(0, 39))
    row = int(np.flatnonzero(found.tries == 2)[0])
    rest, own = (
        NoiseStream(5, 0, 100, (1,)),
        NoiseStream(5, 0, 1, (1,), purpose="retry", rows=np.array([row]), restart=1),
    )
    shared = [rest() for _ in range(40)]
    above = [own() for _ in range(29)]
    below = [z[row : row + 1] for z in shared[29:]]
    noise = iter([*above, *below])
    x0_hat = [step.x0_hat for step in Ancestral()(halved, next(noise), lambda: next(noise))]
    assert found.scores["hal"][row] == pytest.approx(float(torch.stack(x0_hat).var(0, correction=0)), rel=1e-5)


def test_costs_are_counted(halved):
    found = drawn(halved, stop=EarlyStop(Height(), 12, threshold=0.05), detectors=())
    dropped = int((found.tries - 1).sum())
    assert dropped > 20
    assert found.evaluations == dropped * (40 - 12)
    assert found.scoring == found.tries.sum()
    assert found.chain == 40
    assert f"{found.stopped.sum()} of 100 stopped" in repr(found)


def test_the_share_is_that_of_the_models_own_chains(halved):
    """2,000 new chains at a threshold of 1,000 others: within 6 standard errors of both."""
    found = sample(halved, 2000, stop=EarlyStop(Height(), 12, share=0.2), detectors=())
    assert found.stopped.mean() == pytest.approx(0.2, abs=6 * np.sqrt(0.16 * (1 / 2000 + 1 / 1000)))
    assert found.threshold.score == "height"


def test_what_a_score_suspects_is_replaced_by_what_else_there_is():
    """A model that has a fourth mode, and a score that knows the three: the others keep their weights, within 6
    standard errors, and what is left of the fourth comes from chains that were not yet there."""
    weights = np.array([0.2, 0.3, 0.3, 0.2])
    model = MixtureDenoiser(line([1, 1.5, 2, 3], 0.05, weights), linear(100, 0.001, 0.3))

    class Fourth(Height):
        def __call__(self, denoiser, x, noise, **condition):
            return -(x.double()[:, 0] - 1.5).abs()

    plain = sample(model, 3000, detectors=())
    found = sample(model, 3000, detectors=(), stop=EarlyStop(Fourth(), 1, threshold=-0.25, tries=20))
    before, after = (np.histogram(each.x, [0.75, 1.25, 1.75, 2.25, 4])[0] / 3000 for each in (plain, found))
    assert before == pytest.approx(weights, abs=6 * np.sqrt(0.25 / 3000))
    left = np.array([2, 0, 3, 2]) / 7
    assert after == pytest.approx(left, abs=6 * np.sqrt(0.25 / 3000))
    assert after[1] < 0.02
    assert found.passed.all()


def test_a_detector_that_watches_is_asked_for_what_it_has_seen(halved):
    """Free of scoring; the same chains are stopped as its scores of whole chains say."""
    hal = Hal(12, 30, name="early")
    plain = drawn(halved, detectors=hal)
    limit = float(np.quantile(plain.scores["early"], 0.7, method="lower"))
    found = drawn(halved, stop=EarlyStop(Hal(12, 30), 12, threshold=limit), detectors=())
    assert np.array_equal(found.stopped, plain.scores["early"] > limit)
    assert found.scoring == 0


def test_critical_windows_are_those_that_are_over(monkeypatch):
    from types import SimpleNamespace

    from intermode.detect.window import Window

    model = intermode.load("gaussian-1d")
    windows = SimpleNamespace(windows=(Window(0, 8), Window(20, 40)))
    monkeypatch.setattr("intermode.early_stop.windows_of", lambda denoiser: windows)
    stop = EarlyStop(t=15, threshold=1.0).ready(model, Ancestral(), {})
    assert stop.detector.name == "bias"
    assert stop.detector.windows == (Window(20, 40),)
    assert EarlyStop(threshold=1.0).ready(model, Ancestral(), {}).at == 20
    with pytest.raises(InputError, match=r"none of the critical windows 0..8, 20..40 is over at t = 25; stop later"):
        EarlyStop(t=25, threshold=1.0).ready(model, Ancestral(), {})


def test_classes_stay_those_of_the_samples(schedule):
    class Shifted(Denoiser):
        shape, classes = (1,), 2

        def __init__(self):
            self.schedule = schedule

        def __call__(self, x_t, t, *, class_labels):
            return 0.1 * x_t + class_labels[:, None].to(x_t.dtype)

    told = torch.arange(90) % 2
    stop = EarlyStop(Height(), 10, threshold=1.0)
    found = sample(Shifted(), 90, stop=stop, detectors=(), condition={"class_labels": told}, chunk=CHUNK)
    assert found.stopped[told == 1].sum() > 5
    assert found.stopped[told == 0].sum() == 0
    assert (found.x[:, 0] > 0.5).tolist() == (told == 1).tolist()


def test_workers_and_a_folder_give_the_same(tmp_path, denoiser):
    model = tmp_path / "model"
    save_model(model, denoiser, {})
    stop = EarlyStop("residual", 20, share=0.3)
    alone = sample(model, 70, stop=stop, chunk=16)
    shared = sample(model, 70, stop=stop, chunk=16, workers=2, out=tmp_path / "out")
    again = sample(model, 70, stop=stop, chunk=16, workers=2, out=tmp_path / "out")
    for found in (shared, again):
        assert isinstance(found, EarlyStopped)
        assert torch.equal(found.x, alone.x)
        assert np.array_equal(found.tries, alone.tries)
        assert np.array_equal(found.passed, alone.passed)
        assert np.array_equal(found.scores["hal"], alone.scores["hal"])
        assert (found.evaluations, found.scoring, found.chain) == (alone.evaluations, alone.scoring, alone.chain)
        assert found.threshold == alone.threshold
    with pytest.raises(InputError, match="holds other samples"):
        sample(model, 70, stop=EarlyStop("residual", 20, share=0.2), chunk=16, out=tmp_path / "out")


def test_the_command_stops_chains(tmp_path, capsys, monkeypatch):
    from types import SimpleNamespace

    from intermode.detect.window import Window

    found = SimpleNamespace(windows=(Window(0, 3),))
    model = NetworkDenoiser(build({"kind": "mlp", "dimensions": 1, "width": 8, "blocks": 1}, 0), linear(40, 0.001, 0.4))
    save_model(tmp_path / "model", model, {})
    words = ["sample", str(tmp_path / "model"), "-n", "50", "--stop", "0.5", "--out", str(tmp_path / "a")]
    monkeypatch.setattr("intermode.early_stop.windows_of", lambda denoiser: found)
    assert cli.main(words) == 2
    assert capsys.readouterr().err == ("error: t: none of the critical windows 0..3 is over at t = 20; stop later\n")
    assert not (tmp_path / "a").exists()
    found.windows, words[words.index("0.5")] = (Window(20, 30),), "auto"
    monkeypatch.setattr("intermode.detect.critical.windows_of", lambda denoiser: SimpleNamespace(x=torch.randn(40, 1)))
    assert cli.main(words) == 0
    assert "of 50 stopped and begun anew" in capsys.readouterr().out
    assert {"tries", "passed"} <= load_tensors(tmp_path / "a" / "samples.safetensors")[0].keys()


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"t": 0}, "t: 0 is no noise to restart from"),
        ({"t": 40}, "t: 40 is outside the timesteps 1..39"),
        ({"tries": 0}, "tries: 0 must be a whole number, at least 1"),
        ({"share": 1.0}, "share: 1.0 of the chains cannot be stopped"),
        ({"detector": Hal(0, 15), "t": 10}, "t: hal's window 0..15 is not over at t = 10; stop later"),
        ({"detector": ["lid", "residual"], "t": 10}, "detector: 2 are given"),
        ({"threshold": Threshold(1.0, score="hal"), "t": 10}, "threshold: is one of hal, not of height"),
    ],
)
def test_settings_that_do_not_fit_are_refused(halved, settings, message):
    with pytest.raises(InputError, match=message):
        drawn(halved, stop=EarlyStop(**{"detector": Height(), **settings}), detectors=())


def test_combinations_that_cannot_be_are_refused(halved):
    stop = EarlyStop(Height(), 12, threshold=0.05)
    with pytest.raises(InputError, match="stop: cannot be combined with keep or repair"):
        drawn(halved, stop=stop, repair=True)
    with pytest.raises(InputError, match="stop: cannot be combined with keep or repair"):
        drawn(halved, stop=stop, keep=1.0)
    with pytest.raises(InputError, match=r"stop: 5 is none; give EarlyStop\(detector, t\)"):
        drawn(halved, stop=5)
    with pytest.raises(InputError, match=r"t: the chain comes back to t = 15, above 12"):
        drawn(halved, stop=stop, sampler=Jumps((Jump(2, 15, 1),)), detectors=())
    with pytest.raises(InputError, match="t: 1 leaves nothing of a chain to stop"):
        drawn(halved, stop=EarlyStop(Height(), 1, threshold=0.0), sampler=Ancestral(steps=2), detectors=())
