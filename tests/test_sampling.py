"""Generation: the same samples however they are cut, ordered, interrupted and resumed."""

from contextlib import contextmanager

import numpy as np
import pytest
import torch

import intermode
from intermode.denoisers import Denoiser, MixtureDenoiser, NetworkDenoiser, TabulatedDenoiser
from intermode.detect.hal import Hal, HalRenoise
from intermode.detect.knn import KNN
from intermode.detect.lid import LID
from intermode.errors import InputError
from intermode.models import save_model
from intermode.networks import build
from intermode.noise import NoiseStream
from intermode.samplers import DDIM, Ancestral
from intermode.sampling import Plan, Samples, generate, predictions, replay, score
from intermode.schedules import cosine, linear
from intermode.thresholds import Threshold

SAMPLER = Ancestral("large", steps=12)


@pytest.fixture
def denoiser(schedule, network):
    return NetworkDenoiser(network(), schedule)


def hal():
    return Hal(0, 15)


def assert_equal(a, b):
    """Bit for bit, samples and everything said of them."""
    assert torch.equal(a.x, b.x)
    assert np.array_equal(a.diverged, b.diverged)
    assert a.scores.keys() == b.scores.keys()
    assert all(np.array_equal(a.scores[name], b.scores[name]) for name in a.scores)


# chunks


@pytest.mark.parametrize("n", [1, 31, 32, 33, 64, 100])
def test_fewer_samples_are_the_first_of_more(denoiser, n):
    """Also where n is no multiple of the chunk: the last one is computed whole and cut."""
    more = generate(denoiser, SAMPLER, Plan(128, (1,), seed=4, chunk=32), [hal()])
    fewer = generate(denoiser, SAMPLER, Plan(n, (1,), seed=4, chunk=32), [hal()])
    assert torch.equal(fewer.x, more.x[:n])
    assert np.array_equal(fewer.scores["hal"], more.scores["hal"][:n])
    assert len(fewer.x) == len(fewer.scores["hal"]) == len(fewer.diverged) == n


def test_replay_gives_a_chunk_again_in_any_order(denoiser):
    plan = Plan(100, (1,), seed=4, chunk=32)
    detector = hal()
    whole = generate(denoiser, SAMPLER, plan, [hal()])
    for chunk in (3, 0, 2, 1):
        steps = list(replay(denoiser, SAMPLER, plan, chunk))
        detector.start(steps[0].x_t.shape)
        for step in steps:
            detector.update(step)
        rows = slice(chunk * 32, min(chunk * 32 + 32, 100))
        count = rows.stop - rows.start
        assert torch.equal(steps[-1].x_next[:count], whole.x[rows])
        assert np.array_equal(detector.score()[:count].numpy(), whole.scores["hal"][rows])


def test_predictions_are_those_of_the_run(denoiser):
    plan = Plan(100, (1,), seed=4, chunk=32)
    rows = [99, 3, 40, 3]
    timesteps, x0_hat = predictions(denoiser, SAMPLER, plan, rows, below=16)
    visited = [t for t in SAMPLER.timesteps(denoiser.schedule) if t < 16]
    assert timesteps.tolist() == visited
    stored = [[step for step in replay(denoiser, SAMPLER, plan, row // 32) if step.t < 16] for row in rows]
    for k in range(len(visited)):
        for i, row in enumerate(rows):
            assert x0_hat[k, i] == stored[i][k].x0_hat[row % 32].numpy()


@pytest.mark.parametrize("chunk", [1, 7, 100, 1000])
def test_other_chunk_sizes_give_equal_results_to_rounding(denoiser, chunk):
    reference = generate(denoiser, SAMPLER, Plan(60, (1,), seed=4, chunk=32), [hal()])
    other = generate(denoiser, SAMPLER, Plan(60, (1,), seed=4, chunk=chunk), [hal()])
    assert torch.allclose(other.x, reference.x, rtol=1e-4, atol=1e-4)
    assert np.allclose(other.scores["hal"], reference.scores["hal"], rtol=1e-3, atol=1e-8)


class Identity(Denoiser):
    """No matrix product: its samples are bit-equal for all chunk sizes if the noise is."""

    def __init__(self, schedule):
        self.schedule = schedule

    def __call__(self, x_t, t, **condition):
        return 0.5 * x_t


@pytest.mark.parametrize("chunk", [1, 13, 64])
def test_noise_does_not_depend_on_the_chunk_size(schedule, chunk):
    reference = generate(Identity(schedule), SAMPLER, Plan(100, (2,), seed=4, chunk=32)).x
    assert torch.equal(generate(Identity(schedule), SAMPLER, Plan(100, (2,), seed=4, chunk=chunk)).x, reference)


def test_seeds_give_other_samples(denoiser):
    a, b = (generate(denoiser, SAMPLER, Plan(32, (1,), seed=seed, chunk=32)).x for seed in (0, 1))
    assert not torch.isclose(a, b).any()


def test_deterministic_sampling_starts_from_the_samples_own_noise(schedule):
    """With DDIM at eta 0 only x_T is random: a scaled copy of the stream's first noise comes out."""
    samples = generate(Identity(schedule), DDIM(0.0), Plan(50, (1,), seed=9, chunk=16)).x
    x_T = NoiseStream(9, 0, 50, (1,))()
    assert torch.allclose(samples / x_T, (samples / x_T)[0].expand(50, 1), rtol=1e-5)


# diverged samples


class Runaway(Denoiser):
    """The last prediction of samples 0..4 of each chunk is NaN, inf, -inf, 2000 and exactly 1000."""

    def __init__(self, schedule):
        self.schedule = schedule

    def __call__(self, x_t, t, **condition):
        x0_hat = 0.5 * x_t
        if t == 0:
            x0_hat[:5, -1] = torch.tensor([torch.nan, torch.inf, -torch.inf, -2000.0, 1000.0])
        return x0_hat


def test_diverged_samples_are_counted_and_never_dropped(schedule):
    made = generate(Runaway(schedule), SAMPLER, Plan(25, (2,), chunk=10), [Hal(0, 39)])
    assert len(made.x) == 25
    assert np.flatnonzero(made.diverged).tolist() == [0, 1, 2, 3, 10, 11, 12, 13, 20, 21, 22, 23]
    assert np.isposinf(made.scores["hal"][[0, 1, 2, 10, 20]]).all()
    assert np.isfinite(made.scores["hal"][[3, 4, 5]]).all()


def test_the_limit_of_divergence_is_the_plans(schedule):
    made = generate(Runaway(schedule), SAMPLER, Plan(10, (2,), chunk=10, limit=999.0))
    assert np.flatnonzero(made.diverged).tolist() == [0, 1, 2, 3, 4]


# progress


class Watcher:
    """A progress that writes down what it is told."""

    def __init__(self):
        self.tasks = []

    def notice(self, message):
        pass

    @contextmanager
    def task(self, label, total, done=0, unit=""):
        self.tasks.append({"total": total, "done": done, "advanced": 0})
        yield self

    def advance(self, amount):
        self.tasks[-1]["advanced"] += amount


def test_progress_counts_the_samples_asked_for(denoiser):
    watcher = Watcher()
    generate(denoiser, SAMPLER, Plan(70, (1,), chunk=32), progress=watcher)
    assert watcher.tasks == [{"total": 70, "done": 0, "advanced": 70}]


# folders


# what is refused


@pytest.mark.parametrize(
    ("settings", "message"),
    [({"n": 0}, "n: 0"), ({"n": 1, "chunk": 0}, "chunk: 0"), ({"n": 1, "seed": -1}, "seed: -1")],
)
def test_impossible_plans_are_refused(settings, message):
    with pytest.raises(InputError, match=message):
        Plan(shape=(1,), **settings)


def test_windows_are_checked_before_sampling(denoiser):
    """Outside the timesteps, or with fewer than two respaced steps in it."""
    watcher = Watcher()
    for window in (Hal(0, 40), Hal(1, 2)):
        with pytest.raises(InputError, match="window"):
            generate(denoiser, SAMPLER, Plan(10, (1,)), [window], progress=watcher)
    assert watcher.tasks == []


@pytest.mark.parametrize("n", [32, 75])
def test_detectors_of_finished_samples_score_them_as_they_are_drawn(denoiser, n):
    plan = Plan(n, (1,), seed=4, chunk=32)
    drawn = generate(denoiser, SAMPLER, plan, [HalRenoise(0, 15, 4), hal(), LID((1, 2), 4)])
    for detector in (HalRenoise(0, 15, 4), LID((1, 2), 4)):
        after = score(detector, denoiser, drawn.x, seed=4, chunk=32)
        assert np.array_equal(drawn.scores[detector.name], after)
    alone = generate(denoiser, SAMPLER, plan, [hal()])
    assert torch.equal(alone.x, drawn.x)
    assert np.array_equal(alone.scores["hal"], drawn.scores["hal"])


def test_detectors_of_finished_samples_are_checked_before_sampling(denoiser):
    with pytest.raises(InputError, match="must be fitted"):
        generate(denoiser, SAMPLER, Plan(10, (1,)), [KNN()])


def test_two_detectors_of_one_name_are_refused(denoiser):
    """The scores of the second would overwrite the first's."""
    with pytest.raises(InputError, match="hal"):
        generate(denoiser, SAMPLER, Plan(10, (1,), chunk=10), [Hal(0, 15), Hal(0, 20)])


# scores of finished samples


def test_scores_do_not_depend_on_how_many_are_scored(denoiser):
    """Bit for bit, also where there are fewer than a chunk."""
    x = NoiseStream(1, 0, 200, (1,))()
    detector = HalRenoise(0, 20, 5)
    whole = score(detector, denoiser, x, seed=2, chunk=64)
    for n in (1, 5, 63, 64, 65, 130):
        assert np.array_equal(score(detector, denoiser, x[:n], seed=2, chunk=64), whole[:n]), n


def test_scores_of_other_chunk_sizes_are_equal_to_rounding(denoiser):
    x = NoiseStream(1, 0, 100, (1,))()
    a, b = (score(HalRenoise(0, 20, 5), denoiser, x, seed=2, chunk=chunk) for chunk in (64, 7))
    assert np.allclose(a, b, rtol=1e-3, atol=0)


def test_scoring_nothing_is_refused(denoiser):
    with pytest.raises(InputError, match="samples"):
        score(HalRenoise(), denoiser, torch.empty(0, 1))


def test_scoring_checks_the_window(denoiser):
    with pytest.raises(InputError, match="window"):
        score(HalRenoise(30, 45, 5), denoiser, torch.zeros(3, 1))


# the public function


class Watched(NetworkDenoiser):
    """Writes down how many rows it is asked for."""

    def __init__(self, network, schedule):
        super().__init__(network, schedule)
        self.rows = []

    def __call__(self, x_t, t, **condition):
        self.rows.append(len(x_t))
        return super().__call__(x_t, t, **condition)


def test_sample_is_generate_by_the_same_plan(denoiser, tmp_path):
    expected = generate(denoiser, SAMPLER, Plan(40, (1,), seed=4, chunk=16), [hal()])
    given = {"sampler": SAMPLER, "detectors": hal(), "seed": 4, "chunk": 16}
    assert_equal(intermode.sample(denoiser, 40, **given), expected)
    save_model(tmp_path / "model", denoiser, {})
    assert_equal(intermode.sample(str(tmp_path / "model"), 40, **given), expected)
    assert_equal(intermode.sample(denoiser, 40, out=tmp_path / "out", **given), expected)


def test_without_settings_the_whole_chain_is_ancestral_and_hal_watches(denoiser):
    made = intermode.sample(denoiser, 20)
    assert_equal(made, generate(denoiser, Ancestral(), Plan(20, (1,), chunk=20), [Hal(0, 15)]))
    assert intermode.sample(denoiser, 3, detectors=()).scores == {}


@pytest.mark.parametrize(("n", "rows"), [(2000, [2000]), (16384, [16384]), (16385, [8193, 8193])])
def test_hardly_a_row_is_computed_in_vain(schedule, network, n, rows):
    watched = Watched(network(), schedule)
    intermode.sample(watched, n, sampler=Ancestral(steps=3), detectors=())
    assert watched.rows[::3] == rows
    watched.rows.clear()
    intermode.sample(watched, 20, sampler=Ancestral(steps=3), chunk=500, detectors=())
    assert watched.rows == [20] * 3


def test_images_are_drawn_by_tens(schedule):
    watched = Watched(build({"kind": "unet", "sample_size": 8, "channels": [32], "patch": 4}), schedule)
    watched.network.requires_grad_(False)
    intermode.sample(watched, 70, sampler=DDIM(steps=2), detectors=())
    assert watched.rows == [35] * 4


def test_a_network_is_asked_itself_and_no_table_of_it(schedule, network):
    watched = Watched(network(), schedule)
    intermode.sample(watched, 5, sampler=SAMPLER, detectors=())
    assert watched.rows == [5] * 12


def test_every_denoiser_that_says_its_shape_can_be_sampled(schedule, modes):
    ideal = MixtureDenoiser(modes, schedule)
    for denoiser in (ideal, TabulatedDenoiser(ideal, -8, 8)):
        assert intermode.sample(denoiser, 4).x.shape == (4, 1)
    with pytest.raises(InputError, match="model: Identity does not say the shape of its samples"):
        intermode.sample(Identity(schedule), 4)


def test_samples_print_and_are_kept_by_threshold_or_share(denoiser):
    made = intermode.sample(denoiser, 200, sampler=SAMPLER, detectors=[hal(), "residual"])
    lines = str(made).splitlines()
    assert lines[0].startswith("200 samples of shape (1,) in ")
    assert "diverged" not in lines[0]
    values = np.sort(made.scores["hal"])
    assert f"hal: lowest {values[0]:.4g}, median" in lines[1]
    assert f"highest {values[-1]:.4g}" in lines[1]
    assert "residual" in lines[2]
    kept = made.keep(0.9)
    assert kept.sum() == 180
    assert np.array_equal(kept, made.scores["hal"] <= values[179])
    assert str(kept).startswith("180 of 200 kept (90 %): hal up to ")
    half = Threshold.quantile(made.scores["residual"], 0.5)
    assert np.array_equal(made.keep(0.5, by="residual"), made.keep(half, "residual"))
    assert made.x[kept].shape == (180, 1)
    assert len(made) == 200
    with pytest.warns(UserWarning, match="keeps all 200"):
        made.keep(0.999)
    with pytest.raises(InputError, match="by: no score 'lid'; choose from hal, residual"):
        made.keep(0.5, by="lid")


def test_diverged_samples_are_told(schedule):
    bad = Samples(torch.zeros(4, 2), {}, np.array([True, False, True, False]), 1.0)
    assert str(bad) == "4 samples of shape (2,) in 1 s, 2 diverged"


def test_sampling_until_n_pass_takes_a_threshold_or_a_limit(denoiser):
    settings = {"sampler": SAMPLER, "seed": 4, "chunk": 32}
    everything = intermode.sample(denoiser, 300, detectors=hal(), **settings)
    limit = float(np.quantile(everything.scores["hal"], 0.3))
    first = np.flatnonzero(everything.scores["hal"] <= limit)[:40]
    for keep in (limit, Threshold(limit), Threshold(limit, score="hal")):
        kept = intermode.sample(denoiser, 40, detectors=[hal(), LID((1, 2), 4)], keep=keep, **settings)
        assert kept.index.tolist() == first.tolist()
        assert torch.equal(kept.x, everything.x[first])
        assert kept.drawn == first[-1] + 1
        assert f"passed of {kept.drawn} drawn" in str(kept)
    by_lid = intermode.sample(denoiser, 5, detectors=[hal(), LID((1, 2), 4)], keep=1e9, by="lid", **settings)
    assert by_lid.index.tolist() == [0, 1, 2, 3, 4]
    with pytest.raises(InputError, match="by: the threshold is one of hal, not of lid"):
        intermode.sample(denoiser, 5, keep=Threshold(1.0, score="hal"), by="lid", **settings)
    with pytest.raises(InputError, match="will not be found in 100 draws"):
        intermode.sample(denoiser, 50, detectors=hal(), keep=limit / 1e9, draws=100, **settings)


@pytest.mark.parametrize("name", ["knn", "diffpath"])
def test_detectors_that_learn_are_shown_the_data_first(denoiser, name, modes):
    data = modes.sample(80, 0)
    made = intermode.sample(denoiser, 10, sampler=SAMPLER, detectors=["hal", name], fit=data.tolist())
    assert np.array_equal(made.scores[name], intermode.score(denoiser, made.x, name, fit=data)[name])
    with pytest.raises(InputError, match=f"{name}: must be fitted on training data first; give some as fit"):
        intermode.sample(denoiser, 10, sampler=SAMPLER, detectors=name)


CLASSED = {"kind": "unet", "sample_size": 8, "channels": [64], "patch": 4, "classes": 3}


def test_classes_come_in_one_mapping_one_for_each_or_one_for_all():
    network = build(CLASSED, 1).eval().requires_grad_(False)
    network.unet.class_embedding.weight *= 10  # fresh weights hardly listen to the class
    model, settings = NetworkDenoiser(network, cosine(20), "v"), {"sampler": DDIM(steps=3), "detectors": ()}
    labels = [0, 2, 1, 2, 2]
    expected = generate(model, DDIM(steps=3), Plan(5, (1, 8, 8), chunk=5), class_labels=torch.tensor(labels))
    for form in (labels, np.array(labels), torch.tensor(labels)):
        made = intermode.sample(model, 5, condition={"class_labels": form}, **settings)
        assert_equal(made, expected)
        assert made.condition["class_labels"].tolist() == labels
    for_all = intermode.sample(model, 5, condition={"class_labels": 2}, **settings)
    assert for_all.condition["class_labels"].tolist() == [2] * 5
    assert torch.equal(for_all.x[3], expected.x[3])
    assert not torch.allclose(for_all.x[0], expected.x[0])
    for condition, message in (
        (None, "condition: the model is told a class; give condition="),
        ({"class_labels": 5}, r"class_labels: 5\.\.5; the model has 3 classes"),
        ({"class_labels": [0, 1]}, "class_labels: shape .* does not fit 5 samples"),
    ):
        with pytest.raises(InputError, match=message):
            intermode.sample(model, 5, condition=condition, **settings)


def test_a_class_for_a_model_that_is_told_none_is_refused(denoiser):
    with pytest.raises(InputError, match="the model has 0 classes"):
        intermode.sample(denoiser, 3, condition={"class_labels": 0})


def test_another_models_folder_is_refused_and_one_of_other_things(denoiser, schedule, network, tmp_path):
    settings = {"sampler": SAMPLER, "detectors": hal(), "out": tmp_path / "out"}
    intermode.sample(denoiser, 5, **settings)
    for other in (NetworkDenoiser(network(seed=4), schedule), NetworkDenoiser(network(), linear(40, 0.001, 0.3))):
        with pytest.raises(InputError, match=r"holds other samples \(model: "):
            intermode.sample(other, 5, **settings)
    with pytest.raises(InputError, match="is not an empty folder"):
        intermode.sample(denoiser, 5, out=tmp_path)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"n": 0}, "n: 0 must be a whole number, at least 1"),
        ({"n": 2.5}, "n: 2.5 must be a whole number"),
        ({"chunk": 0}, "chunk: 0 must be a whole number"),
        ({"seed": -1}, "seed: -1 must be a whole number"),
        ({"sampler": "ddim"}, r"sampler: 'ddim' is none; give Ancestral\(\)"),
        ({"sampler": DDIM}, r"sampler: .* is none; give Ancestral\(\)"),
        ({"by": "hal"}, "by: is of use only with keep"),
        ({"draws": 5}, "draws: is of use only with keep"),
        ({"condition": [1]}, "condition: must be a mapping"),
        ({"detectors": "hall"}, r"unknown 'hall'; did you mean hal\?"),
        ({"model": "gausian-1d"}, "did you mean gaussian-1d"),
        ({"progres": True}, r"progres: is no argument of sample; did you mean progress\?"),
    ],
)
def test_what_cannot_be_sampled_is_refused(denoiser, settings, message):
    with pytest.raises(InputError, match=message):
        intermode.sample(**{"model": denoiser, "n": 3} | settings)
