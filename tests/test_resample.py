"""Drawing until n pass: which samples are kept, how many are drawn, what is said of the rate, when it is given up."""

import json
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from intermode import cli
from intermode.denoisers import Denoiser, NetworkDenoiser
from intermode.detect.hal import Hal
from intermode.errors import InputError
from intermode.files import load_tensors
from intermode.models import save_model
from intermode.progress import Silent
from intermode.resample import acceptance, draw_kept
from intermode.samplers import DDIM, Ancestral
from intermode.sampling import Drawing, Plan, generate
from intermode.thresholds import Threshold

SAMPLER = DDIM(0.0, steps=3)
BUDGET = 2000


class Shift(Denoiser):
    """No matrix product: equal for all chunk sizes. Moves each sample by its condition, and counts its chunks."""

    def __init__(self, schedule):
        self.schedule, self.chunks = schedule, 0

    def __call__(self, x_t, t, shift=None):
        self.chunks += t == 0
        return 0.5 * x_t if shift is None else 0.5 * x_t + shift[:, None]


class Uniform:
    """A score that is uniform on 0..1 and belongs to the sample: the distribution function at its x_T."""

    description = "uniform"

    def __init__(self, name="uniform"):
        self.name = name

    def check(self, schedule, timesteps):
        pass

    def start(self, shape):
        self.first = None

    def update(self, step):
        if self.first is None:
            self.first = step.x_t[:, 0].double()

    def score(self):
        return torch.special.ndtr(self.first)


def below(rate):
    """A threshold that keeps this share of the draws."""
    return Threshold(rate, "test")


def kept(denoiser, rate, n, *, chunk=16, budget=BUDGET, detectors=None, by="uniform", **condition):
    plan = Plan(budget, (2,), seed=5, chunk=chunk)
    drawing = Drawing(denoiser, SAMPLER, plan, detectors or [Uniform()], condition, {}, 1, None, Silent())
    return draw_kept(drawing, below(rate), n, by)


def assert_equal(a, b):
    assert torch.equal(a.x, b.x)
    assert np.array_equal(a.index, b.index)
    assert a.drawn == b.drawn
    assert a.scores.keys() == b.scores.keys()
    assert all(np.array_equal(a.scores[name], b.scores[name]) for name in a.scores)


@pytest.fixture
def denoiser(schedule):
    return Shift(schedule)


# which samples


@pytest.mark.parametrize(("rate", "n"), [(0.05, 7), (0.3, 100), (0.8, 40), (0.8, 1), (math.inf, 33)])
@pytest.mark.parametrize("chunk", [16, 3000])
def test_the_first_n_that_pass_are_kept(denoiser, rate, n, chunk):
    made = kept(denoiser, rate, n, chunk=chunk)
    everything = generate(denoiser, SAMPLER, Plan(BUDGET, (2,), seed=5, chunk=chunk), [Uniform()])
    passing = np.flatnonzero(everything.scores["uniform"] <= rate)[:n]
    assert np.array_equal(made.index, passing)
    assert torch.equal(made.x, everything.x[passing])
    assert np.array_equal(made.scores["uniform"], everything.scores["uniform"][passing])
    assert np.array_equal(made.diverged, everything.diverged[passing])
    assert made.drawn == passing[-1] + 1
    assert made.seconds > 0


@pytest.mark.parametrize("rate", [0.1, 0.5])
def test_chunks_do_not_change_which_are_kept(denoiser, rate):
    """With larger ones more is drawn for nothing."""
    reference = kept(denoiser, rate, 50)
    for chunk in (7, 16, 64):
        assert_equal(kept(denoiser, rate, 50, chunk=chunk), reference)


@pytest.mark.parametrize(("rate", "n"), [(0.1, 100), (0.5, 300), (0.95, 1000)])
def test_hardly_more_is_drawn_than_it_takes(denoiser, rate, n):
    made = kept(denoiser, rate, n)
    assert made.drawn / 16 <= denoiser.chunks <= 1.34 * made.drawn / 16 + 1


def test_the_whole_budget_may_be_used(denoiser):
    """The last chunk of the plan is cut: 100 is no multiple of 16."""
    scores = generate(denoiser, SAMPLER, Plan(100, (2,), seed=5, chunk=16), [Uniform()]).scores["uniform"]
    made = kept(denoiser, float(scores.max()), 100, budget=100)
    assert made.drawn == 100
    assert np.array_equal(made.index, np.arange(100))
    with pytest.raises(InputError, match="draws"):
        kept(denoiser, float(np.nextafter(scores.max(), 0)), 100, budget=100)


def test_the_named_detector_decides(denoiser):
    """Another's scores are only carried along."""
    detectors = [Hal(0, 39), Uniform()]
    made = kept(denoiser, 0.3, 20, detectors=detectors)
    assert np.array_equal(made.index, kept(denoiser, 0.3, 20).index)
    assert (made.scores["uniform"] <= 0.3).all()
    assert made.scores["hal"].shape == (20,)
    for by in (None, "nobody"):
        with pytest.raises(InputError, match=r"by: no detector .*; choose from hal, uniform"):
            kept(denoiser, 0.3, 20, detectors=detectors, by=by)


def test_each_draw_has_its_own_condition(denoiser):
    shift = torch.linspace(-1, 1, BUDGET)
    made = kept(denoiser, 0.3, 50, shift=shift)
    everything = generate(denoiser, SAMPLER, Plan(BUDGET, (2,), seed=5, chunk=16), [Uniform()], shift=shift)
    assert torch.equal(made.x, everything.x[made.index])
    with pytest.raises(InputError, match=r"shift: shape \(50,\) does not fit 2000 samples"):
        kept(denoiser, 0.3, 50, shift=torch.zeros(50))


# the rate


@given(st.integers(1, 50), st.integers(0, 2000))
def test_the_intervals_ends_are_exact(n, failed):
    """By the distribution of the number of failures before the n-th success."""
    rate = acceptance(n, n + failed)
    assert rate.value == n / (n + failed)
    assert rate.low <= rate.value <= rate.high
    assert stats.nbinom.cdf(failed, n, rate.low) == pytest.approx(0.025, rel=1e-6)
    if failed:
        assert stats.nbinom.sf(failed - 1, n, rate.high) == pytest.approx(0.025, rel=1e-6)
    else:
        assert rate.high == 1


@pytest.mark.parametrize(("n", "drawn"), [(0, 5), (6, 5)])
def test_impossible_counts_have_no_rate(n, drawn):
    with pytest.raises(InputError, match=f"n: {n} of {drawn} draws"):
        acceptance(n, drawn)


def test_the_reported_rate_is_that_of_the_draws(denoiser):
    made = kept(denoiser, 0.3, 400)
    assert made.acceptance == acceptance(400, made.drawn)
    # with a false alarm rate under 1e-6: five standard deviations of 400 successes at 0.3
    assert abs(made.acceptance.value - 0.3) < 5 * 0.3 * math.sqrt(0.7 / 400)


# giving up


def test_a_hopeless_rate_is_given_up_early(denoiser):
    """None passes: after N draws the rate is at most 1 - 1e-6^(1/N), which suffices after 128 and not after 512."""
    with pytest.raises(InputError) as refused:
        kept(denoiser, -1.0, 120)
    assert str(refused.value) == (
        "keep: 0 of 512 draws have a score of at most -1; at a rate of at most 0.0266, 120 will not be found in 2,000 "
        "draws; raise the threshold or the number of draws"
    )
    left = [(1 - 1e-6 ** (1 / drawn)) * (2000 - drawn) for drawn in (128, 512)]
    assert left[0] > 120 > left[1]
    assert denoiser.chunks == 32


def test_a_rate_that_suffices_is_never_given_up(schedule):
    """At three times the rate that is needed. Even at twice that rate the draws of a seed would be given up, by the
    exact distribution of how many pass, with a chance of 5e-8."""
    for seed in range(20):
        plan = Plan(400, (1,), seed=seed, chunk=10)
        drawing = Drawing(Shift(schedule), SAMPLER, plan, [Uniform()], {}, {}, 1, None, Silent())
        made = draw_kept(drawing, below(0.3), 40, "uniform")
        assert len(made.x) == 40


@pytest.mark.parametrize("n", [0, -1, BUDGET + 1])
def test_impossible_numbers_are_refused(denoiser, n):
    with pytest.raises(InputError, match=f"n: {n} cannot be kept of at most 2000 draws"):
        kept(denoiser, 0.5, n)
    assert denoiser.chunks == 0


# the command line


@pytest.fixture
def sample(tmp_path, schedule, network, monkeypatch, capsys):
    """Runs ``intermode sample`` and returns its status and what it said."""
    monkeypatch.chdir(tmp_path)
    save_model(Path("model"), NetworkDenoiser(network(), schedule), {"target": "test"})

    def run(*more):
        status = cli.main(["sample", "model", "--chunk", "20", "--threads", "1", *map(str, more)])
        said = capsys.readouterr()
        return status, said.out if status == 0 else said.err

    return run


def test_sample_until_n_are_kept(sample):
    sample("--n", 200, "--out", "all")
    everything, _ = load_tensors(Path("all/samples.safetensors"))
    value = float(everything["score.hal"].quantile(0.4))
    passing = torch.nonzero(everything["score.hal"] <= value)[:30, 0]
    record = {"value": value, "rule": "quantile: kept 0.4"}
    Path("nameless.json").write_text(json.dumps({**record, "score": "score"}))
    Path("threshold.json").write_text(json.dumps({**record, "score": "hal"}))
    for word, by, out in (
        (value, ["--by", "hal"], "by value"),
        ("nameless.json", ["--by", "hal"], "by file"),
        ("threshold.json", [], "by the name in the file"),
        (value, ["--detectors", "hal"], "by the only one"),
    ):
        status, said = sample("--n", 30, "--keep-below", word, "--out", out, *by)
        assert status == 0
        drawn = int(passing[-1]) + 1
        assert said.startswith(f"samples: {out}/samples.safetensors\n30 samples of shape (1,) in ")
        assert said.endswith(f"the first that passed of {drawn} drawn: {acceptance(30, drawn)}\n")
        tensors, _ = load_tensors(Path(out) / "samples.safetensors")
        assert torch.equal(tensors["samples"], everything["samples"][passing])
        assert json.loads((Path(out) / "sampling.json").read_text())["draws"] == 3000
    status, said = sample("--n", 30, "--keep-below", "threshold.json", "--by", "lid", "--out", "none")
    assert (status, said) == (2, "error: by: the threshold is one of hal, not of lid\n")
    status, said = sample("--n", 30, "--keep-below", 1e-30, "--draws", 400, "--out", "none")
    assert status == 2
    assert said.endswith("30 will not be found in 400 draws; raise the threshold or the number of draws\n")


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ("--keep-below much", "keep-below: much is neither a number nor a threshold.json"),
        ("--keep-below nan", "keep-below: nan is neither a number"),
        ("--keep-below none.json", "none.json: not found"),
        ("--keep-below list.json", "list.json: holds a threshold for each of 1 labels; must be one"),
        ("--keep-below words.json", "words.json: is no threshold"),
        ("--keep-below 1 --draws 5", "n: 10 cannot be kept of at most 5 draws; need 1..5"),
        ("--keep-below 1 --n 0", "n: 0 must be a whole number, at least 1"),
        ("--draws 5", "draws: is of use only with keep"),
    ],
)
def test_unusable_thresholds_are_refused(sample, flags, message):
    Path("list.json").write_text("[1]")
    Path("words.json").write_text('{"value": "low"}')
    status, said = sample("--n", 10, "--out", "out", *flags.split())
    assert status == 2
    assert said.startswith(f"error: {message}")
    assert said.count("\n") == 1
    assert not Path("out").exists()


def test_ancestral_samples_are_kept_by_hal(schedule, network):
    """The usual way: no detector named, the noise of every step."""
    denoiser, plan = NetworkDenoiser(network(), schedule), Plan(300, (1,), seed=4, chunk=32)
    sampler = Ancestral("large", steps=12)
    everything = generate(denoiser, sampler, plan, [Hal(0, 15)])
    threshold = Threshold(float(np.median(everything.scores["hal"])), "test")
    made = draw_kept(Drawing(denoiser, sampler, plan, [Hal(0, 15)], {}, {}, 1, None, Silent()), threshold, 60, "hal")
    assert np.array_equal(made.index, np.flatnonzero(threshold.keep(everything.scores["hal"]))[:60])
    assert torch.equal(made.x, everything.x[made.index])
