"""The study of origin, smaller than its smoke tier: what it says agrees with its jobs, and its machinery with what is
known in closed form or found another way."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import matplotlib.image
import numpy as np
import pytest
import torch
from torch import Tensor

from intermode.correlation import spearman
from intermode.denoisers import Denoiser, MixtureDenoiser
from intermode.errors import InputError
from intermode.evaluation import over_seeds, ratio_over_seeds
from intermode.exact import Grid, mass_on_grid, off_support
from intermode.jobs import Store
from intermode.models import provenance_of
from intermode.schedules import linear
from intermode.studies import find
from intermode.studies.causes import Network, learning
from intermode.studies.learned_step import PREDICTORS, learned_step
from intermode.studies.origin import Config, variants
from intermode.study import Found, configured, reproduce
from intermode.study.configs import LineModel
from intermode.study.steps import denoiser_of
from intermode.targets.gaussian import line

SETTINGS: dict[str, Any] = {
    "model.size": 300,
    "model.noise.timesteps": 16,
    "model.train.steps": 40,
    "model.train.batch": 100,
    "reference": 30,
    "steps": (20,),
    "widths": (32,),
    "switches": (2, 9),
    "lattice.noise.timesteps": 12,
    "lattice.size": 300,
    "lattice.train.steps": 20,
    "lattice.train.batch": 100,
    "lattice_switches": (9,),
}
"""They differ from the smoke tier in these."""
Run = tuple[dict[str, Any], Found, Path]


@pytest.fixture(scope="module")
def run(tmp_path_factory) -> Run:
    """A finished run: metrics, jobs and folder."""
    out = tmp_path_factory.mktemp("runs") / "origin"
    metrics = reproduce("origin", "smoke", out, settings=SETTINGS)
    return metrics, Found(find("origin").jobs(config()), Store(out / "jobs"), {}), out


def config() -> Config:
    found: Config = configured(find("origin"), "smoke", SETTINGS)
    return found


def test_the_masses_and_ratios_are_those_of_the_jobs(run):
    metrics, found, _ = run
    values, measures = metrics["values"], metrics["measures"]
    facts = {
        (cause, part): [found[f"{cause}_seed-{seed}_mass"].facts[part] for seed in (0, 1)]
        for cause in ("sampled", "fresh", "exact", "stable")
        for part in ("value", "between", "beyond")
    }
    for (cause, part), by_seed in facts.items():
        name = "" if part == "value" else f"_{part}"
        assert values[f"mass_{cause}_target{name}"] == pytest.approx(over_seeds(by_seed).value)
        if cause != "sampled":
            ratio = ratio_over_seeds(by_seed, facts["sampled", part], paired=True)
            assert measures[f"{cause}_ratio{name}"]["low"] == pytest.approx(ratio.low)
    sampled, exact, stable = (np.array(facts[cause, "value"]) for cause in ("sampled", "exact", "stable"))
    gain = (sampled - stable) / (sampled - exact)
    assert values["stable_share_of_gain"] == pytest.approx(gain.mean())
    assert len({values[f"mass_{cause}_target"] for cause in ("sampled", "fresh", "exact", "stable")}) == 4
    # two lengths: the exponent is the slope between them
    shorter = np.array([found[f"sampled_steps-20_seed-{seed}_mass"].facts["value"] for seed in (0, 1)])
    exponents = np.log(sampled / shorter) / np.log(2)
    assert values["training_slope"] == pytest.approx(exponents.mean())
    assert measures["training_slope"]["low"] < exponents.min()
    assert measures["training_slope"]["n"] == 2
    assert values["training_slope_late"] == pytest.approx(exponents.mean())  # of the last two lengths, here all
    longer = np.log(exact / [found[f"exact_steps-20_seed-{seed}_mass"].facts["value"] for seed in (0, 1)]) / np.log(2)
    assert values["training_slope_exact"] == pytest.approx(longer.mean())
    tied = [found[f"sampled_tied-blocks_seed-{seed}_mass"].facts["value"] for seed in (0, 1)]
    assert values["sampled_tied_blocks_ratio"] == pytest.approx(np.sqrt(np.prod(np.array(tied) / sampled)))


def test_stable_targets_are_compared_with_what_drawn_noise_reaches_in_their_time(run):
    metrics, found, _ = run
    seconds = found["cost"].facts
    assert len(seconds["stable"]) == len(seconds["sampled"]) > 2
    assert min(*seconds["stable"], *seconds["sampled"]) > 0
    cost = np.exp(np.mean(np.log(seconds["stable"]) - np.log(seconds["sampled"])))
    assert metrics["values"]["stable_cost"] == pytest.approx(cost)
    ends = [
        np.array([found[f"{name}_seed-{s}_mass"].facts["value"] for s in (0, 1)])
        for name in ("sampled_steps-20", "sampled", "stable")
    ]
    # along the power law of the two lengths, 20 and 40 steps
    power = np.log(ends[1] / ends[0]) / np.log(2)
    reached = ends[1] * cost**power if cost >= 0.5 else ends[0]
    expected = np.sqrt(np.prod(ends[2] / reached))
    assert metrics["values"]["stable_ratio_in_equal_time"] == pytest.approx(expected)


def test_models_learn_what_their_names_say(run):
    """The records of the models, their data and targets: a study of causes must not train the same thing twice."""
    _, found, _ = run
    records = {cause: provenance_of(found[f"{cause}_seed-0"].folder / "model") for cause in ("sampled", "stable")}
    assert records["sampled"]["training"]["targets"] == "noise"
    assert (records["stable"]["training"]["targets"], records["stable"]["training"]["reference"]) == ("posterior", 30)
    assert provenance_of(found["fresh_seed-0"].folder / "model")["training_samples"] == 4000
    weights = {
        name: denoiser_of(found[f"{name}_seed-0"]).network.input.weight[0, 0].item()
        for name in ("sampled", "fresh", "exact", "stable", "sampled_steps-20", "sampled_no-final-norm")
    }
    assert len(set(weights.values())) == len(weights)
    assert len(denoiser_of(found["sampled_tied-blocks_seed-0"]).network.blocks) == 1
    assert denoiser_of(found["exact_width-32_seed-0"]).network.width == 32


class Mixed(Denoiser):
    """One denoiser at t <= k and another above."""

    def __init__(self, below: Denoiser, above: Denoiser, k: int) -> None:
        self.parts, self.k, self.schedule = (below, above), k, below.schedule

    def __call__(self, x_t: Tensor, t: int | Tensor, **condition: Any) -> Tensor:
        assert isinstance(t, int)
        part = self.parts[t > self.k]
        return part(x_t.to(part.dtype), t).double()


def test_a_switched_chain_is_that_of_a_mixed_denoiser(run):
    """Branches off a law that is carried once, against a whole chain for each k."""
    metrics, found, _ = run
    target, schedule = line([1, 2, 3]), linear(16, 0.001, 0.2)
    learned, true = denoiser_of(found["sampled_seed-1"]), MixtureDenoiser(target, schedule)
    facts = found["sampled_seed-1_switched"].facts
    grid = Grid.around(target, cells=3.0, negligible=1e-15)
    for k in (2, 9):
        for kind, below, above in (("made", learned, true), ("mended", true, learned)):
            mass = mass_on_grid(Mixed(below, above, k), target, grid)
            value, error, between = facts[kind][str(k)]
            # float32 in one, float64 in the other: the networks' own rounding
            assert value == pytest.approx(mass.value, rel=1e-5)
            assert between == pytest.approx(mass.between, rel=1e-5)
            assert error < 0.01 * value
    whole = off_support(learned, target)
    assert facts["learned"][0] == pytest.approx(whole.value, abs=2 * whole.error)
    by_seed = [found[f"sampled_seed-{s}_switched"].facts for s in (0, 1)]
    made = np.mean([f["made"]["9"][0] / f["learned"][0] for f in by_seed])
    assert metrics["values"]["made_in_last_10_1d"] == pytest.approx(made)
    flat = found["lattice_switched"].facts
    assert metrics["values"]["made_in_last_10_2d"] == pytest.approx(flat["made"]["9"][0] / flat["learned"][0])


def test_the_best_predictor_is_chosen_on_some_models_and_judged_on_others(run):
    metrics, _, _ = run
    rows, law = metrics["series"]["law"], metrics["series"]["law_of"]
    assert len(rows) == metrics["values"]["models"] == 2 * len(variants(config()))
    assert set(rows[0]) == {"model", "seed", "mass"} | {f"{p}_t{t}" for p in PREDICTORS for t in range(6)}
    columns = {odd: [row for row in rows if row["seed"] % 2 == odd] for odd in (0, 1)}
    for key, value in law["spearman"].items():
        expected = spearman([row[key] for row in columns[0]], [row["mass"] for row in columns[0]])
        assert value == pytest.approx(expected, nan_ok=True) or (value is None and np.isnan(expected))
    best = max(law["spearman"], key=lambda key: abs(law["spearman"][key] or 0))
    assert law["best"] == best
    judged = spearman([row[best] for row in columns[1]], [row["mass"] for row in columns[1]])
    expected = np.sign(law["spearman"][best]) * judged
    assert metrics["values"]["best_predictor_spearman"] == pytest.approx(expected)


def test_claims_name_what_is_measured_and_figures_are_drawn(run):
    metrics, _, out = run
    assert metrics["missing"] == []
    for claim in metrics["claims"]:
        measure = metrics["measures"][claim["measure"]]
        assert (claim["measured"], claim["low"], claim["high"]) == tuple(measure[k] for k in ("value", "low", "high"))
    drawn = {path.stem for path in (out / "figures").glob("*.png")}
    assert drawn == set(metrics["figures"]) == {"origin", "lengths", "architectures", "prediction"}
    for name in drawn:
        pixels = matplotlib.image.imread(out / "figures" / f"{name}.png")
        assert pixels.std() > 0.02, f"{name} is blank"


class Line(Denoiser):
    """x0_hat = x_t / a + shift."""

    def __init__(self, timesteps: int, shift: float) -> None:
        self.schedule, self.shift = linear(timesteps, 0.001, 0.2), shift

    def __call__(self, x_t: Tensor, t: int | Tensor, **condition: Any) -> Tensor:
        a, _ = self.schedule.level_like(t, x_t)
        return x_t / a + self.shift


@pytest.mark.parametrize("t", [0, 3, 5])
def test_the_learned_step_in_closed_form(t):
    target, schedule = line([1, 2, 3]), linear(1000, 0.001, 0.2)
    true = MixtureDenoiser(target, schedule)
    ideal = learned_step(true, target, t)
    assert (ideal["slope"], ideal["error"]) == (1.0, 0.0)
    a, s = schedule.level(t)
    # a straight line is off the support over both gaps of 1 - 12 sigma
    straight = learned_step(Line(1000, 0.0), target, t)
    assert straight["width"] == pytest.approx(0.8, abs=2e-3)
    noised = target.noised(a, s)
    x = torch.linspace(1.3 * a, 1.7 * a, 20_001, dtype=torch.float64)
    weight = 2 * float(torch.trapezoid(noised.log_prob(x).exp(), x))
    assert straight["weight"] == pytest.approx(weight, rel=0.02)
    # the error of a constant shift c of x0_hat is (a c / s)²
    errors = [learned_step(Shifted(true, shift), target, t)["error"] for shift in (0.01, -0.03)]
    assert errors == pytest.approx([(a * c / s) ** 2 for c in (0.01, 0.03)], rel=1e-4)
    steepest = torch.linspace(1.4 * a, 1.6 * a, 40_001, dtype=torch.float64)[:, None]
    rise = float(torch.diff(true(steepest, t)[:, 0]).max() / (steepest[1] - steepest[0]))
    assert straight["slope"] == pytest.approx(1 / a / rise, rel=2e-3)


class Shifted(Denoiser):
    def __init__(self, of: Denoiser, shift: float) -> None:
        self.of, self.shift, self.schedule = of, shift, of.schedule

    def __call__(self, x_t: Tensor, t: int | Tensor, **condition: Any) -> Tensor:
        return self.of(x_t, t) + self.shift


def test_other_models_differ_from_the_base_in_one_thing():
    base = LineModel()
    assert learning("sampled", base, 10) is base
    fresh, exact, stable = (learning(cause, base, 10) for cause in ("fresh", "exact", "stable"))
    assert fresh.fresh() == base.target.target
    assert exact.fresh() is stable.fresh() is base.fresh() is None
    assert fresh.ideal() is stable.ideal() is base.ideal() is None
    ideal, x = exact.ideal(), torch.linspace(0, 4, 9, dtype=torch.float64)[:, None]
    assert torch.equal(ideal(x, 3), MixtureDenoiser(base.target.target, base.noise.schedule)(x, 3))
    assert stable.training() == replace(base.training(), targets="posterior", reference=10)
    assert fresh.training() == exact.training() == base.training()
    assert len({model.words for model in (base, fresh, exact)}) == 3
    described = Network(64, blocks=2, final_norm=False).description((1,))
    assert {**described, "kind": "mlp"} == {
        **base.network.description((1,)),
        "width": 64,
        "blocks": 2,
        "final_norm": False,
    }


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"seeds": 0}, "seeds: 0 must be at least 1"),
        ({"seeds": 2, "other_seeds": 3}, "other_seeds: 3 must be at most the seeds, 2"),
        ({"switches": (1, 2)}, "switches: must hold 9"),
        ({"switches": (9, 999)}, "switches: must hold 9, the last ten steps, and lie in 0..998"),
        ({"lattice_switches": (9, -1)}, "lattice_switches: must hold 9"),
    ],
)
def test_impossible_settings_are_refused(settings, message):
    with pytest.raises(InputError, match=message):
        Config(**settings)
