"""Repairs: what is touched, what passes, whose random numbers they are, what is refused; in streams and files too."""

import csv
import json

import numpy as np
import pytest
import torch

import intermode
from intermode import cli
from intermode.denoisers import Denoiser, MixtureDenoiser, NetworkDenoiser
from intermode.detect.hal import Hal
from intermode.errors import InputError
from intermode.files import load_tensors
from intermode.noise import NoiseStream
from intermode.repairs import Repair, repair
from intermode.samplers import Ancestral
from intermode.schedules import linear
from intermode.targets.gaussian import line
from intermode.thresholds import Threshold

BETWEEN = torch.tensor([[1.5], [2.4], [1.45]])


@pytest.fixture(scope="module")
def modes():
    return line()


@pytest.fixture(scope="module")
def ideal(modes):
    """Its restarts lead what lies between two modes into one of them."""
    return MixtureDenoiser(modes, linear(100, 0.001, 0.3))


class Outside:
    """A score without noise: the distance to the nearest mode."""

    name, nfe = "outside", 1

    def check(self, schedule):
        pass

    def __call__(self, denoiser, x, noise, **condition):
        distance = (x.double() - torch.tensor([1.0, 2.0, 3.0], dtype=torch.float64)).abs().amin(1)
        return torch.where(torch.isfinite(distance), distance, torch.inf)


@pytest.fixture
def mixed(modes):
    """200 samples of the data, then 3 between its modes."""
    return torch.cat([modes.sample(200, 0), BETWEEN])


SETTINGS = {"detector": Outside(), "threshold": 0.3}


def test_what_is_flagged_passes_and_all_else_is_as_it_was(ideal, mixed):
    repaired = repair(ideal, mixed, **SETTINGS)
    assert np.flatnonzero(repaired.touched).tolist() == [200, 201, 202]
    assert repaired.accepted.all()
    assert np.array_equal(repaired.mended, repaired.touched)
    assert not repaired.given_up.any()
    assert torch.equal(repaired.x[:200], mixed[:200])
    assert (repaired.scores["outside"] <= 0.3).all()
    assert np.array_equal(repaired.scores["outside"], intermode.score(ideal, repaired.x, Outside())["outside"])
    assert repaired.threshold == Threshold(0.3, score="outside")
    assert torch.equal(mixed[200:], BETWEEN)  # what was given is left alone


def test_evaluations_are_counted(ideal, mixed):
    asked = []

    class Counted(MixtureDenoiser):
        def __call__(self, x_t, t, **condition):
            asked.append(len(x_t))
            return super().__call__(x_t, t, **condition)

    repaired = repair(Counted(ideal.mixture, ideal.schedule), mixed, **SETTINGS)
    assert repaired.evaluations == sum(asked)
    assert repaired.evaluations % 2 == 0  # t = 1 is the share 3 / 1000 of 100 timesteps: two evaluations a restart
    assert repaired.scoring == 203 + repaired.evaluations // 2
    assert repaired.chain == 100


@pytest.mark.parametrize("chunk", [1, 2, 203])
def test_random_numbers_belong_to_seed_sample_and_try(ideal, mixed, chunk):
    """Not to the chunk, nor to how many others are restarted beside it."""
    whole = repair(ideal, mixed, **SETTINGS, seed=4)
    assert torch.equal(repair(ideal, mixed, **SETTINGS, seed=4, chunk=chunk).x, whole.x)
    fewer = mixed.clone()
    fewer[200:202] = 1.0
    assert torch.equal(repair(ideal, fewer, **SETTINGS, seed=4).x[202], whole.x[202])
    assert not torch.equal(repair(ideal, mixed, **SETTINGS, seed=5).x[200:], whole.x[200:])


def test_the_first_try_is_a_pass_of_a_restart(ideal):
    """The same noise as of a sampler that restarts: those of (seed, index, 1)."""
    repaired = repair(ideal, BETWEEN, detector=Outside(), threshold=0.3, level=9, tries=1, seed=2)
    noise = NoiseStream(2, 0, 3, (1,)).restarted(1)
    x_k = ideal.schedule.add_noise(BETWEEN.double(), noise(), 9)
    *_, last = Ancestral()(ideal, x_k, noise, start=9)
    assert torch.equal(repaired.x[repaired.mended], last.x_next.float()[repaired.mended])


def test_tries_go_on_from_the_last_and_end(ideal):
    """Midway between two modes one restart from t = 1 rarely suffices, many do; what fails stays as it was."""
    x = torch.full((200, 1), 1.5)
    counts = []
    for tries in (1, 2, 30):
        repaired = repair(ideal, x, detector=Outside(), threshold=0.1, tries=tries, level=1)
        counts.append(int(repaired.mended.sum()))
        assert torch.equal(repaired.x[repaired.given_up], x[repaired.given_up])
        assert (repaired.scores["outside"][repaired.mended] <= 0.1).all()
        assert (repaired.scores["outside"][repaired.given_up] == 0.5).all()
    assert 0 < counts[0] < counts[1] < counts[2] == 200


# what a restart cannot mend


@pytest.fixture
def hopeless(mixed):
    x = mixed.clone()
    x[7] = torch.nan
    x[8] = torch.inf
    x[9] = 40.0
    return x


def test_what_no_restart_mends_is_told_and_never_dropped(ideal, hopeless):
    repaired = repair(ideal, hopeless, detector="residual", threshold=0.5)
    assert len(repaired) == len(hopeless)
    assert torch.equal(torch.isnan(repaired.x), torch.isnan(hopeless))
    assert np.flatnonzero(repaired.diverged).tolist() == [7, 8]
    assert {7, 8} <= set(np.flatnonzero(repaired.given_up).tolist())
    assert not np.isfinite(repaired.scores["residual"][[7, 8]]).any()


def test_it_is_drawn_afresh_if_asked(ideal, hopeless, modes):
    repaired = repair(ideal, hopeless, **SETTINGS, replace=True)
    assert repaired.accepted.all()
    assert np.flatnonzero(repaired.fresh & ~repaired.touched).size == 0
    assert {7, 8} <= set(np.flatnonzero(repaired.fresh).tolist())
    assert not modes.label(repaired.x[repaired.fresh]).hallucinated.any()
    assert "drawn afresh" in str(repaired)
    again = repair(ideal, hopeless, **SETTINGS, replace=True)
    assert torch.equal(again.x, repaired.x)
    # not the sample that a chain of the same seed has made at that index
    assert not torch.isin(repaired.x[[7, 8]], intermode.sample(ideal, 10, detectors=[]).x).any()


# thresholds


def test_unless_told_a_share_is_flagged_without_labels(ideal, modes):
    x = modes.sample(1000, 3)
    for share in (0.02, 0.1):
        repaired = repair(ideal, x, share=share)
        assert repaired.touched.sum() == 1000 * share
        assert repaired.threshold.rule == f"quantile: kept {1 - share:g}"
    assert repair(ideal, x).touched.sum() == 20


def test_numbers_that_are_not_finite_do_not_use_up_the_share(ideal, modes):
    x = modes.sample(1000, 3)
    x[:100] = torch.nan
    assert repair(ideal, x, share=0.1).touched.sum() == 100 + 90


def test_few_samples_of_which_none_is_flagged_are_told(ideal, modes, capsys):
    repaired = repair(ideal, modes.sample(10, 0), progress=True)
    assert not repaired.touched.any()
    assert repaired.evaluations == 0
    assert "nothing is touched" in capsys.readouterr().err


# forms of samples


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_samples_keep_their_precision(ideal, mixed, dtype):
    x = mixed.to(dtype) + (1e-12 if dtype is torch.float64 else 0)
    repaired = repair(ideal, x, **SETTINGS)
    assert repaired.x.dtype == dtype
    assert torch.equal(repaired.x[:200], x[:200])
    as_array = repair(ideal, x.numpy(), **SETTINGS)
    assert torch.equal(as_array.x, repaired.x)


class Halves(Denoiser):
    """Images of 2 by 2."""

    shape = (1, 2, 2)

    def __init__(self, schedule, classes=0):
        self.schedule, self._classes, self.told = schedule, classes, []

    @property
    def classes(self):
        return self._classes

    def __call__(self, x_t, t, **condition):
        self.told.append(condition)
        return 0.5 * x_t


class Largest(Outside):
    def __call__(self, denoiser, x, noise, **condition):
        return x.double().abs().flatten(1).amax(1)


def test_images_are_bytes_or_in_their_range(schedule):
    denoiser = Halves(schedule)
    pixels = torch.randint(0, 256, (6, 2, 2), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    repaired = repair(denoiser, pixels, detector=Largest(), threshold=0.9)
    assert torch.allclose(repaired.x[~repaired.touched, 0], pixels[~repaired.touched] / 127.5 - 1)
    for wrong in (pixels.float(), pixels.float() / 255):
        with pytest.raises(InputError, match=r"x: values of \S+\.\.\S+; images must be in -1\.\.1, or bytes"):
            repair(denoiser, wrong[:, None])


def test_each_sample_is_restarted_under_its_own_class(schedule):
    denoiser, x = Halves(schedule, classes=3), torch.linspace(-1, 1, 5)[:, None, None, None].expand(5, 1, 2, 2)
    labels = torch.tensor([2, 0, 1, 0, 1])
    repair(denoiser, x, detector=Largest(), threshold=0.6, condition={"class_labels": labels})
    assert next(told["class_labels"].tolist() for told in denoiser.told if told) == [2, 1]
    with pytest.raises(InputError, match="condition: the model is told a class; give"):
        repair(denoiser, x)


# while samples are drawn


@pytest.fixture
def small(network):
    return NetworkDenoiser(network(1), linear(40, 0.001, 0.4))


def test_in_one_stream_it_is_drawing_and_then_repairing(small):
    drawn = intermode.sample(small, 300, seed=3)
    done = intermode.sample(small, 300, seed=3, repair=True)
    apart = repair(small, drawn.x, seed=3)
    assert torch.equal(done.x, apart.x)
    assert np.array_equal(done.scores["lid"], apart.scores["lid"])
    assert np.array_equal(done.scores["hal"], drawn.scores["hal"])  # of the chain, before the repair
    assert done.touched.sum() == 6
    assert torch.equal(done.x[~done.touched], drawn.x[~done.touched])


def test_a_watching_detector_costs_nothing_and_scores_restarts_by_their_steps(small):
    settings = Repair(Hal(0, 5), share=0.1)
    done = intermode.sample(small, 300, seed=3, repair=settings)
    drawn = intermode.sample(small, 300, seed=3, detectors=Hal(0, 5))
    assert done.scoring == 0
    assert done.evaluations % 6 == 0  # from t = 5, where its window begins
    assert np.array_equal(done.touched, drawn.scores["hal"] > done.threshold.value)
    first = np.flatnonzero(done.touched)[0]
    noise = NoiseStream(3, first, 1, (1,)).restarted(1)
    hal = Hal(0, 5)
    hal.start((1, 1))
    for step in Ancestral()(small, small.schedule.add_noise(drawn.x[[first]], noise(), 5), noise, start=5):
        hal.update(step)
    if hal.score().item() <= done.threshold.value:
        assert done.x[first] == pytest.approx(step.x_next[0], rel=1e-4)
        assert done.scores["hal"][first] == pytest.approx(hal.score().item(), rel=1e-3)
    else:
        assert done.scores["hal"][first] != pytest.approx(hal.score().item())


def test_a_restart_that_does_not_pass_through_the_window_is_refused(small):
    with pytest.raises(InputError) as caught:
        intermode.sample(small, 10, repair=Repair(Hal(0, 5), level=3))
    assert str(caught.value) == (
        "level: a restart from t = 3 does not pass through all of hal's window 0..5, so that it cannot be scored; "
        "choose a higher level"
    )


def test_a_folder_holds_the_repair_and_is_found_again(tmp_path, small):
    settings = {"repair": Repair(share=0.1, tries=2), "seed": 1}
    made = intermode.sample(small, 60, out=tmp_path / "a", **settings)
    again = intermode.sample(small, 60, out=tmp_path / "a", **settings)
    assert torch.equal(again.x, made.x)
    for name in ("touched", "accepted", "fresh"):
        assert np.array_equal(getattr(again, name), getattr(made, name))
    assert again.told() == made.told()
    assert json.loads((tmp_path / "a" / "sampling.json").read_text())["repair"]["level"] == 1
    with pytest.raises(InputError, match="holds other samples"):
        intermode.sample(small, 60, out=tmp_path / "a", repair=Repair(share=0.2), seed=1)


def test_workers_change_nothing(tmp_path, small):
    one = intermode.sample(small, 40, repair=True, chunk=10)
    two = intermode.sample(small, 40, repair=True, chunk=10, workers=2)
    assert torch.equal(one.x, two.x)


# refusals


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"level": 0}, "level: 0 is no noise to restart from; must be a timestep, at least 1"),
        ({"level": 100}, "level: 100 is outside the timesteps 1..99 that a restart can begin at"),
        ({"level": 0.001}, "level: 0.001 is outside the timesteps 1..99 that a restart can begin at"),
        ({"tries": 0}, "tries: 0 must be a whole number, at least 1"),
        ({"share": 0.0}, "share: 0.0 of the samples cannot be flagged; must lie between 0 and 1"),
        ({"threshold": Threshold(1.0, score="hal")}, "threshold: is one of hal, not of lid"),
        ({"detector": ["residual", "lid"]}, "detector: 2 are given; give the one whose threshold a sample has to pass"),
        ({"detector": Hal()}, "hal: watches samples while they are made; use sample or watch; HalRenoise scores "),
        ({"detector": "residul"}, "detector: unknown 'residul'; did you mean residual?"),
        ({"detector": "knn"}, "knn: must be fitted on training data first; give some as fit"),
        ({"seed": -1}, "seed: -1 must be a whole number, at least 0"),
        ({"leve": 1}, "leve: is no argument of repair; did you mean level?"),
    ],
)
def test_impossible_settings_are_refused_in_a_line(ideal, mixed, settings, message):
    with pytest.raises(InputError) as caught:
        repair(ideal, mixed, **settings)
    assert str(caught.value).startswith(message)
    assert "\n" not in str(caught.value)


def test_samples_that_do_not_fit_are_refused(ideal, modes):
    for x, message in (
        (torch.zeros(5, 2), r"x: samples of shape \(2,\); must be \(1,\)"),
        (torch.zeros(0, 1), "x: there are no samples to repair"),
        (torch.full((3, 1), torch.nan), "x: no sample has a finite lid, so that none can pass; give a threshold"),
        ("gaussian", "x: must be an array of numbers"),
    ):
        with pytest.raises(InputError, match=message):
            repair(ideal, x)


def test_it_is_no_use_beside_keep(small):
    with pytest.raises(InputError, match="repair: cannot be combined with keep"):
        intermode.sample(small, 5, keep=1.0, repair=True)


# files


def run(capsys, *words):
    status = cli.main([str(word) for word in words])
    return status, capsys.readouterr()


def test_the_command_repairs_a_file_and_leaves_it_alone(tmp_path, capsys, modes):
    x = np.concatenate([modes.sample(300, 0).numpy(), BETWEEN.numpy(), [[np.nan]]])
    np.save(tmp_path / "x.npy", x)
    before = (tmp_path / "x.npy").read_bytes()
    status, told = run(capsys, "repair", "gaussian-1d", tmp_path / "x.npy", "--out", tmp_path / "a", "--share", 0.02)
    assert status == 0, told.err
    assert "of 304 touched" in told.out
    assert "1 given up" in told.out
    tensors, facts = load_tensors(tmp_path / "a" / "samples.safetensors")
    apart = repair("gaussian-1d", x)
    assert torch.equal(tensors["samples"].nan_to_num(), apart.x.nan_to_num())
    assert facts["evaluations"] == str(apart.evaluations)
    with (tmp_path / "a" / "repaired.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [int(row["touched"]) for row in rows] == apart.touched.astype(int).tolist()
    assert rows[-1] == {"id": "303", "lid": "inf", "touched": "1", "accepted": "0", "fresh": "0"}
    assert (tmp_path / "a" / "before-after.png").stat().st_size > 5000
    assert (tmp_path / "x.npy").read_bytes() == before


def test_a_folder_of_images_comes_back_with_the_mended_ones_in_their_places(tmp_path, capsys):
    """Of a network that says nothing yet: where the noise added is small, an image's score is hardly its own."""
    from PIL import Image

    from intermode.models import save_model
    from intermode.networks import build
    from intermode.schedules import cosine

    network = build({"kind": "unet", "sample_size": 8, "patch": 1, "channels": [32]}, 0)
    save_model(tmp_path / "model", NetworkDenoiser(network.eval(), cosine(100), "v"), {})
    (tmp_path / "x" / "b").mkdir(parents=True)
    generator = np.random.default_rng(0)
    for k in range(8):
        Image.fromarray(generator.integers(0, 256, (8, 8), dtype=np.uint8)).save(tmp_path / "x" / "b" / f"{k}.png")
    (tmp_path / "x" / "broken.png").write_bytes(b"no image")
    before = {path.name: path.read_bytes() for path in (tmp_path / "x").rglob("*.png")}
    words = ["repair", tmp_path / "model", tmp_path / "x", "--share", 0.5, "--level", 30, "--out", tmp_path / "a"]
    status, told = run(capsys, *words)
    assert status == 0, told.err
    with (tmp_path / "a" / "repaired.csv").open() as file:
        rows = {row["id"]: row for row in csv.DictReader(file)}
    assert rows["broken.png"] == {"id": "broken.png", "lid": "inf", "touched": "1", "accepted": "0", "fresh": "0"}
    mended = {name for name, row in rows.items() if row["touched"] == row["accepted"] == "1"}
    assert mended
    for name in rows:
        changed = (tmp_path / "a" / "images" / name).read_bytes() != before[name.rpartition("/")[2]]
        assert changed == (name in mended), name
    x = load_tensors(tmp_path / "a" / "samples.safetensors")[0]["samples"]
    for name in mended:
        pixels = np.asarray(Image.open(tmp_path / "a" / "images" / name)) / 127.5 - 1
        assert np.abs(pixels - x[list(rows).index(name), 0].clamp(-1, 1).numpy()).max() < 0.005
    assert {path.name: path.read_bytes() for path in (tmp_path / "x").rglob("*.png")} == before


def test_the_sample_command_repairs(tmp_path, capsys, small):
    from intermode.models import save_model

    save_model(tmp_path / "model", small, {})
    status, told = run(capsys, "sample", tmp_path / "model", "-n", 100, "--repair", "--out", tmp_path / "a")
    assert status == 0, told.err
    assert "2 of 100 touched" in told.out
    assert {"touched", "accepted", "score.lid"} <= load_tensors(tmp_path / "a" / "samples.safetensors")[0].keys()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--level", "0"], "error: level: 0 is no noise to restart from"),
        (["--level", "deep"], "error: level: deep is none; give a timestep, a share of T, or snr:LOW,HIGH"),
        (["--level", "snr:1e8,1e9"], "error: level: SNR 1e+08..1e+09 is outside the timesteps"),
        (["--tries", "0"], "error: tries: 0 must be a whole number, at least 1"),
        (["--threshold", "high"], "error: threshold: high is neither a number nor a threshold.json"),
    ],
)
def test_the_command_refuses_in_a_line_and_writes_nothing(tmp_path, capsys, modes, words, message):
    np.save(tmp_path / "x.npy", modes.sample(5, 0).numpy())
    status, told = run(capsys, "repair", "gaussian-1d", tmp_path / "x.npy", "--out", tmp_path / "a", *words)
    assert status == 2
    assert told.err.startswith(message)
    assert told.err.count("\n") == 1
    assert [path.name for path in tmp_path.iterdir()] == ["x.npy"]
