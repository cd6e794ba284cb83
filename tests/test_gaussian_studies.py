"""The studies of 1-D mixtures, smaller than their smoke tiers: what they say agrees with what lies in their jobs, and a
killed run ends the same."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import matplotlib.image
import numpy as np
import pytest
from scipy.stats import binom, norm

from intermode.errors import InputError
from intermode.evaluation import detection, over_seeds, share
from intermode.jobs import Done, Store
from intermode.studies import find
from intermode.studies.gaussian_1d_sweeps import masses, same_noise
from intermode.study import Found, Measured, configured, reproduce
from intermode.study.configs import LinearNoise
from intermode.study.steps import counts_of, pool_of
from intermode.targets.gaussian import line

MODEL: dict[str, Any] = {
    "model.size": 1000,
    "model.noise.timesteps": 60,
    "model.train.steps": 100,
    "model.train.batch": 200,
}
SETTINGS: dict[str, dict[str, Any]] = {
    "gaussian-1d": {**MODEL, "pool.n": 4000, "pool.chunk": 1000, "model.target.means": (1.0, 2.0, 4.0)},
    "score-field": {**MODEL, "samples": 2000, "seeds": 2},
    "gaussian-1d-sweeps": {
        "model.size": 400,
        "model.noise.timesteps": 40,
        "model.train.steps": 30,
        "model.train.batch": 100,
        "train_sizes": (100, 400),
        "distances": (0.5, 1.0, 2.0),
        "timestep_counts": (20, 40),
        "equal_noise": (20, 40),
        "sigmas": (0.025, 0.05),
        "epochs": 4,
        "stream_samples": 0,
    },
}
"""They differ from the smoke tier in these."""
TIMES = ("train_s", "sample_s")
KILL = """
import json, os, pathlib, signal, sys
from intermode.study import reproduce
left = int(sys.argv[1])
replace = pathlib.Path.replace
def counted(self, target):
    # the result that is never put in its place: a process killed between two writes
    global left
    left -= target.name == "result.json"
    if left < 0:
        os.kill(os.getpid(), signal.SIGKILL)
    return replace(self, target)
pathlib.Path.replace = counted
reproduce(sys.argv[2], "smoke", sys.argv[3], settings=json.loads(sys.argv[4]))
"""
Run = tuple[dict[str, Any], Found, Path]


@pytest.fixture(scope="module")
def unbroken(tmp_path_factory):
    """Finished runs by study, each made once: metrics, jobs and folder."""
    made: dict[str, Run] = {}

    def run(name: str) -> Run:
        if name not in made:
            out, settings = tmp_path_factory.mktemp("runs") / name, SETTINGS[name]
            metrics = reproduce(name, "smoke", out, settings=settings)
            jobs = find(name).jobs(configured(find(name), "smoke", settings))
            made[name] = metrics, Found(jobs, Store(out / "jobs"), {}), out
        return made[name]

    return run


def pretend(p: float, mass: float, error: float, count: int, total: int) -> bool:
    """Whether a count may come from a mass that is known up to an error: else a chance under ``p``."""
    low, high = max(mass - error, 0.0), min(mass + error, 1.0)
    return binom.cdf(count, total, low) > p / 2 and binom.sf(count - 1, total, high) > p / 2


def assert_figures(metrics: dict[str, Any], out: Path) -> None:
    assert metrics["missing"] == []
    drawn = sorted(path.stem for path in (out / "figures").glob("*.png"))
    assert drawn == sorted(metrics["figures"])
    for name, caption in metrics["figures"].items():
        pixels = matplotlib.image.imread(out / "figures" / f"{name}.png")
        assert pixels.shape[0] > 300
        assert pixels.shape[1] > 600
        assert pixels.std() > 0.02, f"{name} is blank"
        assert caption.endswith(".")


def claims_of(metrics: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """By id; each decided by its interval, or not."""
    for claim in metrics["claims"]:
        side, bound = claim["bound"].rsplit(" ", 1)
        if claim["low"] is None:
            assert claim["holds"] is None
            continue
        assert claim["low"] <= claim["measured"] <= claim["high"], claim
        above, under = claim["low"] >= float(bound), claim["high"] < float(bound)
        expected = None if not above and not under else above if side == "at least" else under
        assert claim["holds"] is expected, claim
    return {claim["id"]: claim for claim in metrics["claims"]}


def test_gaussian_1d_agrees_with_its_samples_and_with_itself(unbroken):
    metrics, found, out = unbroken("gaussian-1d")
    values, measures, claims = metrics["values"], metrics["measures"], claims_of(metrics)
    pool = pool_of(found["pool"])
    scores = pool.scores["hal"]
    bad = line([1, 2, 4]).label(pool.x).hallucinated
    nearest = np.abs(pool.x.double().numpy() - [1, 2, 4]).min(1)
    assert np.array_equal(bad, ~(nearest <= 6 * 0.05))
    rate, hal = share(int(bad.sum()), 4000), detection(scores, bad, seed=0)
    assert values["samples"] == len(pool.x) == 4000
    assert values["hallucinated"] == bad.sum() > 100
    assert values["diverged"] == pool.diverged.sum()
    assert (values["hallucination_rate"], measures["hallucination_rate"]["low"]) == (rate.value, rate.low)
    assert values["hal_auroc"] == hal.auroc.value
    assert values["hal_kept_at_95_removed"] == claims["detection"]["measured"] == hal.kept_at_95_removed.value
    assert values["hal_removed_at_98_kept"] == hal.removed_at_98_kept.value
    assert claims["interpolation"]["measured"] == rate.value
    assert claims["interpolation"]["holds"] is True

    # the exact law is that of the samples
    mass, error = values["exact_mass"], measures["exact_mass"]["high"] - values["exact_mass"]
    assert error < 0.1 * mass
    assert pretend(1e-6, mass, error, values["hallucinated"], values["samples"])
    assert not pretend(1e-6, 1.3 * mass, error, values["hallucinated"], values["samples"])  # that this can fail
    between = {pair: values[f"exact_mass_between_{pair}"] for pair in ("1_2", "2_4")}
    assert 0 < sum(between.values()) < mass + error
    assert claims["distance"]["measured"] == pytest.approx(between["2_4"] / between["1_2"])
    assert claims["distance"]["holds"] is None  # one model
    # the true score leaves what a Gaussian has beyond 6 sigma, up to the chain's own errors
    assert values["true_score_mass"] < 1e-3 * mass
    assert measures["true_score_mass"]["high"] > norm.sf(6)

    # the windows of the series are those of the scores on disk, on the half that did not choose
    judge = np.arange(4000) % 2 == 1
    for row in metrics["series"]["windows"]:
        again = detection(pool.scores[f"hal-0-{row['window'][1]}"][judge], bad[judge], seed=0)
        assert row["auroc"] == [again.auroc.value, again.auroc.low, again.auroc.high]
        assert row["kept_at_95_removed"][0] == again.kept_at_95_removed.value
    best = {row["window"][1]: row["kept_at_95_removed"][0] for row in metrics["series"]["windows"]}
    assert claims["detection-best"]["measured"] == best[values["hal_best_window_end"]]
    assert np.array_equal(scores, pool.scores["hal-0-15"])  # the asked window is one of them

    # the filter was fitted on one half and is judged on the other
    kept = scores[judge] <= values["filter_threshold"]
    assert values["filter_kept_in_support"] == pytest.approx(kept[~bad[judge]].mean())
    assert values["filter_removed_hallucinated"] == pytest.approx((~kept)[bad[judge]].mean())
    assert values["filtered_hallucination_rate"] == pytest.approx(bad[judge][kept].mean())
    assert set(metrics["figures"]) == {"density", "film", "trajectories", "hal", "windows", "loss"}
    assert_figures(metrics, out)


def test_score_field_compares_the_fields_and_runs_the_control(unbroken):
    metrics, found, out = unbroken("score-field")
    values, measures, claims = metrics["values"], metrics["measures"], claims_of(metrics)
    rows = metrics["series"]["steepest_slope"]
    assert [row["t"] for row in rows] == list(range(21))
    ratios = np.array([[slope / row["true"] for slope in row["by_seed"]] for row in rows])
    assert ratios.shape == (21, 2)
    for t in (0, 1, 2, 5, 10, 15, 20):
        expected = over_seeds(ratios[t])
        measure = measures[f"slope_ratio_t{t}"]
        assert (measure["low"], measure["n"]) == (pytest.approx(expected.low), 2)
    assert claims["smoothed-step"]["measured"] == pytest.approx(np.sqrt(ratios[0].prod()))
    assert claims["smoothed-all"]["measured"] == pytest.approx(np.sqrt(ratios.max(0).prod()))
    steeper = [t for t, ratio in enumerate(np.sqrt(ratios.prod(1))) if ratio >= 1]
    assert values["smoothed_until_t"] == (steeper[0] - 1 if steeper else 20)
    # halfway between two modes 1 apart: a s^2 / (4 v^2) from the jump, a sigma^2 / v from either mode,
    # with v = a^2 sigma^2 + s^2
    for row in rows[:3]:
        beta = np.linspace(0.001, 0.2, 60)
        a2 = np.prod(1 - beta[: row["t"] + 1])
        v = a2 * 0.05**2 + 1 - a2
        step = np.sqrt(a2) * (1 - a2) / v**2 / 4 + np.sqrt(a2) * 0.05**2 / v
        assert row["true"] == pytest.approx(step, rel=1e-3)
    counts, bad = counts_of(found["control"])
    assert values["true_score_hallucinated"] == bad
    assert 1990 < counts.sum() <= values["samples"] == 2000
    assert measures["true_score_rate"]["high"] == share(bad, 2000).high
    error = measures["true_score_mass"]["high"] - values["true_score_mass"]
    assert pretend(1e-6, values["true_score_mass"], error, bad, 2000)
    assert claims["control-mass"]["measured"] == values["true_score_mass"] < 1e-4
    assert claims["control-samples"]["holds"] is None  # 2,000 samples cannot show that it is under 1e-4
    assert set(metrics["figures"]) == {"fields", "slopes"}
    assert_figures(metrics, out)


def test_one_model_decides_nothing_about_networks(tmp_path):
    metrics = reproduce("score-field", "smoke", tmp_path / "run", settings={**SETTINGS["score-field"], "seeds": 1})
    claims = claims_of(metrics)
    assert claims["smoothed-step"]["holds"] is claims["smoothed-all"]["holds"] is None
    step = claims["smoothed-step"]
    assert step["measured"] == metrics["values"][step["measure"]] > 0
    assert step["low"] is None  # one network has no interval


@pytest.mark.slow
def test_sweeps_measure_every_setting_for_every_seed(unbroken):
    metrics, found, out = unbroken("gaussian-1d-sweeps")
    values, claims = metrics["values"], claims_of(metrics)
    a, b = "means-1-2-3_n-400_T-40", "means-1-2-4_n-400_T-40"
    beta = f"{same_noise(LinearNoise(40), 20).beta_end:g}"
    named = {name for name in found if "_mass" not in name}
    assert {name.replace("_seed-0", "") for name in named if "seed-0" in name} == {
        *(a, b, "means-1-2-3_n-100_T-40", "means-1-2-4_n-100_T-40"),
        *("means-1-1.5_n-400_T-40", "means-1-2_n-400_T-40", "means-1-3_n-400_T-40", "means-1-2-3_n-400_T-20"),
        *(f"{a}_sigma-0.025", f"means-1-2-3_n-400_T-20_beta-{beta}"),
        *(f"means-1-2-{last}_n-{n}_T-40_steps-{n * 4 // 100}" for last in (3, 4) for n in (100, 400)),
    }
    assert values["models"] == len(named) == 2 * len([name for name in named if "seed-0" in name])

    def facts(name: str) -> list[dict[str, Any]]:
        """Of both seeds; ``name`` has a place for the seed."""
        return [found[name.format(seed)].facts for seed in (0, 1)]

    def mean(name: str, key: str = "value") -> float:
        return float(np.exp(np.mean([np.log(one[key]) for one in facts(name)])))

    for name in named:
        mass = found[f"{name}_mass"].facts
        assert mass["value"] == pytest.approx(mass["between"] + mass["beyond"])
        assert 0 < mass["error"] < 0.01 * mass["value"]
    expected = {
        "size-1-2-3": ("means-1-2-3_n-400_T-40_seed-{}", "means-1-2-3_n-100_T-40_seed-{}"),
        "size-1-2-4": ("means-1-2-4_n-400_T-40_seed-{}", "means-1-2-4_n-100_T-40_seed-{}"),
        # nothing between modes at distance 0.5 is off the support: the claim compares 2 with 1
        "distance-two": ("means-1-3_n-400_T-40_seed-{}", "means-1-2_n-400_T-40_seed-{}"),
        "sigma": ("means-1-2-3_n-400_T-40_seed-{}_sigma-0.025", "means-1-2-3_n-400_T-40_seed-{}"),
        "timesteps": ("means-1-2-3_n-400_T-40_seed-{}", "means-1-2-3_n-400_T-20_seed-{}"),
        "timesteps-equal-noise": ("means-1-2-3_n-400_T-40_seed-{}", "means-1-2-3_n-400_T-20_seed-{}" + f"_beta-{beta}"),
        "size-1-2-3-equal-epochs": (
            "means-1-2-3_n-400_T-40_seed-{}_steps-16",
            "means-1-2-3_n-100_T-40_seed-{}_steps-4",
        ),
    }
    for name, (over, under) in expected.items():
        assert claims[name]["measured"] == pytest.approx(mean(f"{over}_mass") / mean(f"{under}_mass")), name
        key = f"{name.replace('-', '_')}_between"
        assert values[key] == pytest.approx(mean(f"{over}_mass", "between") / mean(f"{under}_mass", "between"))
    respaced = [
        whole["value"] / fewer["value"]
        for whole, fewer in zip(facts(f"{a}_seed-{{}}_mass"), facts(f"{a}_seed-{{}}_mass-in-20"), strict=True)
    ]
    assert claims["respaced"]["measured"] == pytest.approx(np.sqrt(np.prod(respaced)))
    assert claims["respaced"]["low"] == pytest.approx(over_seeds(respaced).low)  # seed by seed
    assert set(claims) == {*expected, "respaced", "distance-gap", "size-1-2-4-equal-epochs"}
    assert values["mass_modes_1_2_3"] == pytest.approx(mean(f"{a}_seed-{{}}_mass"))
    assert values["mass_modes_1_2"] == pytest.approx(mean("means-1-2_n-400_T-40_seed-{}_mass"))
    assert found["means-1-1.5_n-400_T-40_seed-0_mass"].facts["between"] == 0
    assert any(note.startswith("distance 0.5: the modes are so near") for note in metrics["notes"])
    curves = {"size", "modes", "distance", "sigma", "timesteps", "respaced"}
    densities = {f"{name}-densities" for name in curves}
    assert set(metrics["figures"]) == curves | densities
    assert_figures(metrics, out)


def test_the_ends_of_a_sweep_may_have_more_seeds_and_facts_may_lack_a_part():
    study = find("gaussian-1d-sweeps")
    # a list, as JSON has it
    settings = {**SETTINGS["gaussian-1d-sweeps"], "seeds": 1, "more": ["timesteps"], "more_seeds": 3}
    config = configured(study, "smoke", settings)
    seeds = {x: setting.seeds(config) for x, setting in {s.id: s for s in config.sweeps}["timesteps"].settings.items()}
    assert seeds == {20: 3, 40: 3}
    sizes = {s.id: s for s in config.sweeps}["size-1-2-3"].settings
    assert {x: setting.seeds(config) for x, setting in sizes.items()} == {
        100: 1,
        400: 3,
    }  # 400: the base, an end of both
    names = sizes[400].masses(config)
    assert len(set(names) & study.jobs(config).keys()) == 3
    kept = dict(zip(names, ({"value": 1.0, "between": 0.5}, {"value": 2.0}, {"value": 3.0}), strict=True))
    found: Any = {name: Done(Path(name), facts, {}) for name, facts in kept.items()}
    assert masses(config, found, sizes[400]) == {0: 1.0, 1: 2.0, 2: 3.0}
    assert masses(config, found, sizes[400], "between") == {0: 0.5}
    with pytest.raises(InputError, match="more: unknown sweep nose"):
        configured(study, "smoke", {"more": ("nose",)})


@pytest.mark.slow
def test_sweeps_say_what_the_models_that_are_there_can(unbroken, tmp_path):
    """Of a run that is not finished: ratios over the seeds that both ends have."""
    settings = {**SETTINGS["gaussian-1d-sweeps"], "seeds": 2}
    _, found, out = unbroken("gaussian-1d-sweeps")
    store = tmp_path / "jobs"
    shutil.copytree(out / "jobs", store)
    small, base = "means-1-2-3_n-100_T-40", "means-1-2-3_n-400_T-40"
    for gone in (f"{small}_seed-1_mass", "means-1-2_n-400_T-40_seed-0_mass", "means-1-2_n-400_T-40_seed-1_mass"):
        (store / found[gone].folder.name / "result.json").unlink()
    study, config = find("gaussian-1d-sweeps"), configured(find("gaussian-1d-sweeps"), "smoke", settings)
    rest = Found(study.jobs(config), Store(store), {})
    measured = Measured()
    for measure in study.measures:
        measured.add(measure(config, rest))
    one = found[f"{base}_seed-0_mass"].facts["value"] / found[f"{small}_seed-0_mass"].facts["value"]
    assert measured.values["size_1_2_3"].value == pytest.approx(one)
    assert measured.values["size_1_2_3"].n == 1
    assert measured.values["distance_two"] is None
    assert measured.values["mass_modes_1_2"] is None
    assert "size, (1, 2, 3), 100: 1 of 2 models are there." in measured.notes
    assert {claim.measure for claim in study.claims(config)} <= measured.values.keys()
    pictures = {picture.name: picture for picture in study.pictures(config)}
    assert pictures["distance"].draw(config, rest, measured, tmp_path / "distance.png")
    assert pictures["distance-densities"].draw(config, rest, measured, tmp_path / "densities.png")


def test_counted_samples_are_of_the_exact_law(tmp_path):
    """Figs. 9-12 proper: many samples, of which only counts are kept."""
    few = {"train_sizes": (400,), "distances": (1.0,), "timestep_counts": (40,), "equal_noise": (), "sigmas": ()}
    settings = {**SETTINGS["gaussian-1d-sweeps"], **few, "epochs": 0, "seeds": 1, "stream_samples": 20_000}
    metrics = reproduce("gaussian-1d-sweeps", "smoke", tmp_path / "run", settings=settings)
    study = find("gaussian-1d-sweeps")
    found = Found(study.jobs(configured(study, "smoke", settings)), Store(tmp_path / "run" / "jobs"), {})
    counted = [name for name in found if name.endswith("_samples")]
    assert len(counted) == 3
    for name in counted:
        mass = found[name.replace("_samples", "_mass")].facts
        counts, bad = counts_of(found[name])
        assert pretend(1e-6, mass["value"], mass["error"], bad, 20_000)
        assert not pretend(1e-6, 1.2 * mass["value"], mass["error"], bad, 20_000)  # that this can fail
        assert 15_000 < counts.sum() <= 20_000
        assert name.removesuffix("_samples") in metrics["figures"]
    assert_figures(metrics, tmp_path / "run")
    # one model of each setting decides nothing, and there is nothing to compare the only size with
    assert [claim["id"] for claim in metrics["claims"]] == ["distance-gap"]
    assert claims_of(metrics)["distance-gap"]["holds"] is None


def test_the_most_valuable_models_come_first():
    study = find("gaussian-1d-sweeps")
    names = [name for name in study.jobs(configured(study, "long")) if "_mass" not in name]
    base, T = "means-1-2-3_n-50000", "T-1000_seed"
    assert names[:5] == [f"{base}_{T}-{seed}" for seed in range(5)]
    order = [name for name in names if name.endswith("seed-0")]
    assert order[:8] == [
        f"{base}_{T}-0",
        *(f"means-{means}_n-50000_{T}-0" for means in ("1-2", "1-5")),
        *(f"means-1-2-3_n-{n}_{T}-0" for n in (1_000, 500_000)),
        f"means-1-2-4_n-50000_{T}-0",
        f"{base}_T-250_seed-0",
        f"means-1-2-4_n-1000_{T}-0",
    ]
    # 60 epochs of the largest set are the steps of all others: one model serves both readings
    assert "means-1-2-3_n-500000_T-1000_seed-0_steps-6000" not in names
    assert len(set(names)) == len(names)


@pytest.mark.parametrize("timesteps", [250, 500, 2000])
def test_scaled_betas_end_at_the_same_noise(timesteps):
    noise = LinearNoise()
    scaled = same_noise(noise, timesteps)
    assert scaled.schedule.signal[-1] == pytest.approx(noise.schedule.signal[-1], rel=1e-2)
    assert scaled.beta_end / scaled.beta_start == pytest.approx(200, rel=1e-2)
    assert same_noise(noise, 1000) == noise


def test_settings_that_share_a_model_train_it_once():
    config = configured(find("gaussian-1d-sweeps"), "quick")
    asked = [setting for sweep in config.sweeps for setting in sweep.settings.values() if not setting.steps]
    assert asked.count(asked[-1]) < len(asked) > len(set(asked)) == 12


@pytest.mark.parametrize(
    ("study", "settings", "message"),
    [
        ("gaussian-1d", {"window": (0, 90)}, "window"),
        ("gaussian-1d", {"model.target.means": (1.0, 1.0)}, "means: 1 1; at least two different modes are needed"),
        ("gaussian-1d", {"points": 1}, "points: 1 must be at least 2"),
        ("score-field", {"seeds": 0}, "seeds: 0 must be at least 1"),
        ("score-field", {"samples": 0}, "samples: 0 must be at least 1"),
        ("score-field", {"variance": "huge"}, "variance: unknown 'huge'; choose large or small"),
        ("gaussian-1d-sweeps", {"seeds": 0}, "seeds: 0 must be at least 1"),
        ("gaussian-1d-sweeps", {"stream_samples": -1}, "stream_samples: -1 must be at least 0"),
        ("gaussian-1d-sweeps", {"distances": ()}, "distances: must hold at least one value"),
        ("gaussian-1d-sweeps", {"distances": (0.0, 1.0)}, "distances: 0 must be > 0"),
        ("gaussian-1d-sweeps", {"train_sizes": (0,)}, "size: 0 must be at least 1"),
        ("gaussian-1d-sweeps", {"timestep_counts": (1,)}, "timesteps: 1 is too few"),
    ],
)
def test_settings_that_cannot_be_used_are_refused_before_anything_is_written(tmp_path, study, settings, message):
    with pytest.raises(InputError) as error:
        reproduce(study, "smoke", tmp_path / "run", settings={**SETTINGS[study], **settings})
    assert message in str(error.value)
    assert "\n" not in str(error.value)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("study", "results"),
    [
        ("gaussian-1d", [0, 3]),  # with the model trained and not told; with some blocks drawn
        ("score-field", [2]),  # with the models there, in the control
        pytest.param("gaussian-1d-sweeps", [0, 12], marks=pytest.mark.slow),  # some models there, one half made
    ],
)
def test_a_killed_run_ends_like_an_unbroken_one(study, results, unbroken, tmp_path):
    out, expected = tmp_path / "run", unbroken(study)[0]
    for count in results:
        before = len(list(out.glob("jobs/*/result.json")))
        ended = subprocess.run(
            [sys.executable, "-c", KILL, str(count), study, str(out), json.dumps(SETTINGS[study])],
            capture_output=True,
            text=True,
            check=False,
            env={**os.environ, "OMP_NUM_THREADS": "1"},
        )
        assert ended.returncode == -signal.SIGKILL, ended.stderr
        assert len(list(out.glob("jobs/*/result.json"))) - before == count
        assert not (out / "metrics.json").exists()
    metrics = reproduce(study, "smoke", out, settings=SETTINGS[study])
    for key in ("values", "measures", "claims", "series", "notes", "figures"):
        here, there = (
            {k: v for k, v in m[key].items() if k not in TIMES} if isinstance(m[key], dict) else m[key]
            for m in (metrics, expected)
        )
        assert here == there, key


@pytest.mark.slow
@pytest.mark.parametrize("study", SETTINGS)
def test_the_smoke_tier_itself(study, tmp_path):
    metrics = reproduce(study, "smoke", tmp_path / "run")
    assert claims_of(metrics)
    assert_figures(metrics, tmp_path / "run")
