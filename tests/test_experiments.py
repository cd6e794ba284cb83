"""The 1-D experiments from the command line: what they say agrees with itself, and a killed run ends the same.

The settings are smaller than the smoke tier's; the slow test runs that tier itself.
"""

import json
import os
import shlex
import signal
import subprocess
import sys

import matplotlib.image
import numpy as np
import pytest
from scipy.stats import binom, norm

from intermode import cli
from intermode.detect.hal import Hal
from intermode.evaluation import detection, share
from intermode.experiments import EXPERIMENTS
from intermode.files import load_tensors
from intermode.run import at_least
from intermode.targets.gaussian import line

MODEL = "--tier smoke --timesteps 60 --steps 100 --batch 200 --train-size 1000 --grid-points 512"
COMMANDS = {
    "gaussian-1d": f"{MODEL} --samples 4000 --means 1 2 4",
    "score-field": f"{MODEL} --samples 2000",
    "gaussian-1d-sweeps": (
        "--tier smoke --timesteps 40 --steps 30 --batch 100 --train-sizes 100 400 --train-size 400 --distances 1 2 "
        "--mode-sets 1,2 --timestep-counts 20 40 --seeds 2 --workers 1 --stream-samples 1000 --grid-points 256"
    ),
}
TIMES = ("train_s", "sample_s")
KILL = """
import os, pathlib, signal, sys
left = int(sys.argv[1])
replace = pathlib.Path.replace
def counted(self, target):
    # the file that is never put in its place: a process killed between two writes
    global left
    left -= 1
    if left < 0:
        os.kill(os.getpid(), signal.SIGKILL)
    return replace(self, target)
pathlib.Path.replace = counted
from intermode.cli import main
main(sys.argv[2:])
"""


def words(experiment, out):
    return ["reproduce", experiment, *shlex.split(COMMANDS[experiment]), "--out", str(out)]


def metrics_of(folder):
    return json.loads((folder / "metrics.json").read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def unbroken(tmp_path_factory):
    """Finished runs: folder and metrics by experiment, each made once."""
    made = {}

    def run(experiment):
        if experiment not in made:
            folder = tmp_path_factory.mktemp("runs") / experiment
            assert cli.main(words(experiment, folder)) == 0
            made[experiment] = folder, metrics_of(folder)
        return made[experiment]

    return run


def pretend(p, mass, error, count, total):
    """Whether a count may come from a mass that is known up to an error: else a chance under ``p``."""
    low, high = max(mass - error, 0.0), min(mass + error, 1.0)
    return binom.cdf(count, total, low) > p / 2 and binom.sf(count - 1, total, high) > p / 2


def assert_figures(folder, metrics):
    drawn = sorted(path.stem for path in (folder / "figures").glob("*.png"))
    assert drawn == sorted(metrics["figures"])
    for name, caption in metrics["figures"].items():
        path = folder / "figures" / f"{name}.png"
        assert path.read_bytes()[:8] == b"\x89PNG\r\n\x1a\n"
        pixels = matplotlib.image.imread(path)
        assert pixels.shape[0] > 300
        assert pixels.shape[1] > 600
        assert pixels.std() > 0.02, f"{name} is blank"
        assert path.with_suffix(".pdf").stat().st_size > 1000
        assert caption.endswith(".")


def assert_claims(metrics):
    for claim in metrics["claims"]:
        if claim["low"] is not None:
            assert claim["low"] <= claim["measured"] <= claim["high"], claim
        assert claim["holds"] in (True, False, None)
        assert claim["statement"]
        assert claim["paper"]
    return {claim["id"]: claim for claim in metrics["claims"]}


@pytest.mark.parametrize("experiment", COMMANDS)
def test_the_table_and_the_report_are_all_that_is_printed(experiment, unbroken, capsys):
    folder, metrics = unbroken(experiment)
    capsys.readouterr()
    assert cli.main(words(experiment, folder)) == 0  # finished: read back, not made again
    said = capsys.readouterr()
    assert said.out.count(" yes ") >= sum(claim["holds"] is True for claim in metrics["claims"])
    last = said.out.splitlines()[-1]
    assert last == f"report: {folder / 'report.html'}"
    flat = "".join(said.out.split("│")).replace("\n", " ")
    for claim in metrics["claims"]:
        assert claim["statement"].split()[0] in flat
    assert {**metrics_of(folder), "commit": None} == {**metrics, "commit": None}


def test_gaussian_1d_agrees_with_its_samples_and_with_itself(unbroken):
    folder, metrics = unbroken("gaussian-1d")
    values, claims = metrics["values"], assert_claims(metrics)
    for name in (
        *("samples", "hallucinated", "diverged", "hallucination_rate", "exact_mass", "true_score_mass", "hal_auroc"),
        *("hal_kept_at_95_removed", "hal_removed_at_98_kept", "train_s", "sample_s"),
    ):
        assert isinstance(values[name], int | float), name

    # every number again from the samples on disk
    tensors, _ = load_tensors(folder / "samples.safetensors")
    samples, scores = tensors["samples"], tensors["score.hal"].numpy()
    bad = line([1, 2, 4]).label(samples).hallucinated
    nearest = np.abs(samples.double().numpy() - [1, 2, 4]).min(1)
    assert np.array_equal(bad, ~(nearest <= 6 * 0.05))
    rate = share(int(bad.sum()), 4000)
    assert values["samples"] == len(samples) == 4000
    assert values["hallucinated"] == bad.sum() > 100
    assert values["diverged"] == tensors["diverged"].sum()
    assert (values["hallucination_rate"], values["hallucination_rate_low"]) == (rate.value, rate.low)
    found = detection(scores, bad, seed=0)
    assert values["hal_auroc"] == found.auroc.value
    assert values["hal_kept_at_95_removed"] == found.kept_at_95_removed.value
    assert values["hal_removed_at_98_kept"] == found.removed_at_98_kept.value
    assert claims["detection"]["holds"] == at_least(found.kept_at_95_removed, 0.98)
    assert claims["interpolation"]["measured"] == rate.value
    assert claims["interpolation"]["holds"] is True

    # the exact law is that of the samples
    mass, error = values["exact_mass"], values["exact_mass_error"]
    assert error < 0.1 * mass
    assert pretend(1e-6, mass, error, values["hallucinated"], values["samples"])
    assert not pretend(1e-6, 1.3 * mass, error, values["hallucinated"], values["samples"])  # that this can fail
    between = {pair: values[f"exact_mass_between_{pair}"] for pair in ("1_2", "2_4")}
    assert 0 < sum(between.values()) < mass + error
    assert claims["distance"]["measured"] == pytest.approx(between["2_4"] / between["1_2"])
    # the true score leaves what a Gaussian has beyond 6 sigma, up to the chain's own errors
    assert values["true_score_mass"] < 1e-3 * mass
    assert values["true_score_mass"] + values["true_score_mass_error"] > 2 * norm.sf(6) / 2

    # the windows of the series are those of the scores on disk, on the half that did not choose
    judge = np.arange(4000) % 2 == 1
    for row in metrics["series"]["windows"]:
        again = detection(tensors[f"score.hal-0-{row['window'][1]}"].numpy()[judge], bad[judge], seed=0)
        assert row["auroc"] == [again.auroc.value, again.auroc.low, again.auroc.high]
        assert row["kept_at_95_removed"][0] == again.kept_at_95_removed.value
    best = {row["window"][1]: row["kept_at_95_removed"][0] for row in metrics["series"]["windows"]}
    assert values["hal_best_kept_at_95_removed"] == best[values["hal_best_window_end"]]
    assert np.array_equal(tensors["score.hal"], tensors["score.hal-0-15"])  # the asked window is one of them
    assert metrics["config"]["window"] == [0, 15]
    assert Hal().description == "hal 0..15"

    # the filter was fitted on one half and is judged on the other
    kept = scores[judge] <= values["filter_threshold"]
    assert values["filter_kept_in_support"] == pytest.approx(kept[~bad[judge]].mean())
    assert values["filter_removed_hallucinated"] == pytest.approx((~kept)[bad[judge]].mean())
    assert values["filtered_hallucination_rate"] == pytest.approx(bad[judge][kept].mean())
    assert {"density", "trajectories", "hal", "windows", "loss"} == set(metrics["figures"])
    assert_figures(folder, metrics)


def test_score_field_compares_the_fields_and_runs_the_control(unbroken):
    folder, metrics = unbroken("score-field")
    values, claims = metrics["values"], assert_claims(metrics)
    rows = metrics["series"]["steepest_slope"]
    assert [row["t"] for row in rows] == list(range(21))
    ratios = [row["learned"] / row["true"] for row in rows]
    for t in (0, 1, 2, 5, 10, 15, 20):
        assert values[f"slope_ratio_t{t}"] == pytest.approx(ratios[t])
    assert claims["smoothed-step"]["measured"] == pytest.approx(ratios[0])
    assert claims["smoothed-all"]["measured"] == pytest.approx(max(ratios))
    assert claims["smoothed-step"]["holds"] is (ratios[0] < 1)
    assert claims["smoothed-all"]["holds"] is (max(ratios) < 1)
    steeper = [t for t, ratio in enumerate(ratios) if ratio >= 1]
    assert values["smoothed_until_t"] == (steeper[0] - 1 if steeper else 20)
    # halfway between two modes 1 apart: a s^2 / (4 v^2) from the jump, a sigma^2 / v from either mode,
    # with v = a^2 sigma^2 + s^2
    for row in rows[:3]:
        beta = np.linspace(0.001, 0.2, 60)
        a2 = np.prod(1 - beta[: row["t"] + 1])
        v = a2 * 0.05**2 + 1 - a2
        step = np.sqrt(a2) * (1 - a2) / v**2 / 4 + np.sqrt(a2) * 0.05**2 / v
        assert row["true"] == pytest.approx(step, rel=1e-3)
    assert values["samples"] == 2000
    assert values["true_score_rate"] == values["true_score_hallucinated"] / 2000
    assert values["true_score_rate_high"] == share(values["true_score_hallucinated"], 2000).high
    assert pretend(
        1e-6, values["true_score_mass"], values["true_score_mass_error"], values["true_score_hallucinated"], 2000
    )
    assert values["true_score_mass"] < 1e-4
    assert claims["control-mass"]["measured"] == values["true_score_mass"]
    assert set(metrics["figures"]) == {"fields", "slopes"}
    assert_figures(folder, metrics)


def test_sweeps_measure_every_setting_for_every_seed(unbroken):
    folder, metrics = unbroken("gaussian-1d-sweeps")
    values, claims = metrics["values"], assert_claims(metrics)
    cells = {}
    for path in folder.rglob("mass.json"):
        row = json.loads(path.read_text())
        cells.setdefault((tuple(row["means"]), row["train_size"], row["timesteps"]), {})[row["seed"]] = row
    a, b = (1.0, 2.0, 3.0), (1.0, 2.0, 4.0)
    assert set(cells) == {
        *((means, size, 40) for means in (a, b) for size in (100, 400)),
        *(((1.0, 2.0), 400, 40), ((1.0, 3.0), 400, 40), (a, 400, 20)),
    }
    assert all(set(rows) == {0, 1} for rows in cells.values())
    for rows in cells.values():
        for row in rows.values():
            assert sum(row["between"].values()) <= row["mass"] + row["error"]
            assert row["streamed"] == 1000
            assert pretend(1e-6 / 14, row["mass"], row["error"], row["hallucinated"], 1000)
            assert 0 < sum(row["histogram"]) <= 1000

    def mean(key):
        return float(np.exp(np.mean([np.log(row["mass"]) for row in cells[key].values()])))

    expected = {
        "size-1-2-3": mean((a, 400, 40)) / mean((a, 100, 40)),
        "size-1-2-4": mean((b, 400, 40)) / mean((b, 100, 40)),
        "distance-two": mean(((1.0, 3.0), 400, 40)) / mean(((1.0, 2.0), 400, 40)),
        "timesteps": mean((a, 400, 40)) / mean((a, 400, 20)),
    }
    for name, ratio in expected.items():
        claim = claims[name]
        assert claim["measured"] == pytest.approx(ratio)
        decided = True if claim["high"] < 1 else False if claim["low"] > 1 else None
        assert claim["holds"] is decided
    base = cells[a, 400, 40].values()
    respaced = np.exp(np.mean([np.log(row["mass"]) - np.log(row["respaced"]["20"]) for row in base]))
    assert claims["respaced"]["measured"] == pytest.approx(respaced)
    assert values["mass_modes_1_2_3"] == pytest.approx(mean((a, 400, 40)))
    assert values["mass_modes_1_2"] == pytest.approx(mean(((1.0, 2.0), 400, 40)))
    assert {"size", "modes", "distance", "timesteps", "respaced"} < set(metrics["figures"])
    assert len(metrics["figures"]) == 5 + len(cells)  # and a histogram for each model of the first seed
    assert_figures(folder, metrics)


@pytest.mark.parametrize(
    ("experiment", "writes"),
    [
        ("gaussian-1d", [2, 3]),  # after the checkpoint; after the weights and with half of the model's config
        ("score-field", [4]),  # with the model there, in the control
        # some models there, one half made
        pytest.param("gaussian-1d-sweeps", [12], marks=pytest.mark.slow),
    ],
)
def test_a_killed_run_ends_like_an_unbroken_one(experiment, writes, unbroken, tmp_path):
    folder, expected = tmp_path / "run", unbroken(experiment)[1]
    for count in writes:
        ended = subprocess.run(
            [sys.executable, "-c", KILL, str(count), *words(experiment, folder)],
            capture_output=True,
            text=True,
            check=False,
            env={**os.environ, "OMP_NUM_THREADS": "1"},
        )
        assert ended.returncode == -signal.SIGKILL, ended.stderr
        assert (folder / "config.json").exists()
        assert not (folder / "metrics.json").exists()
    assert cli.main(words(experiment, folder)) == 0
    found = metrics_of(folder)
    for metrics in (found, expected := json.loads(json.dumps(expected))):
        for name in TIMES:
            metrics["values"].pop(name, None)
    assert found["values"] == expected["values"]
    assert found["claims"] == expected["claims"]
    assert found["series"] == expected["series"]


@pytest.mark.slow
@pytest.mark.parametrize("experiment", COMMANDS)
def test_the_smoke_tier_itself(experiment, tmp_path):
    folder = tmp_path / "run"
    assert cli.main(["reproduce", experiment, "--tier", "smoke", "--out", str(folder)]) == 0
    metrics = metrics_of(folder)
    assert metrics["config"] == json.loads(json.dumps(EXPERIMENTS[experiment].load().TIERS["smoke"].__dict__))
    assert_claims(metrics)
    assert_figures(folder, metrics)
