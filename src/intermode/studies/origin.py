r"""Where, and why, the mass between the modes is made.

**Where.** The chain is carried with the true score at all t ≤ k and the learned one above, and the other way round: of
the mass that the learned score makes, which steps make it, and which can mend it? Exactly, by :mod:`intermode.exact`;
what both have above k is carried once.

**Why.** The same network, steps and seeds learn from four targets: noise that was drawn, on a finite set (*sampled*)
and on fresh points in every batch (*fresh*); the posterior mean :math:`\mathbb E[\varepsilon \mid x_t]` of the mixture
in closed form (*exact*); and that over a reference batch of the data, which is all that a user has (*stable*:
:mod:`intermode.training_targets`, Xu et al. 2023). Sampled against fresh is the finite data, sampled against exact is
the noise of the target, and what the exact one leaves is the network: so it is trained longer, and made wider, deeper
and otherwise.

**How much.** A network's step of :math:`\hat x_0` from one mode to the next is measured in several ways at the last
timesteps (:mod:`intermode.studies.learned_step`); which of them predicts the mass best is chosen on the models of even
seeds and judged on those of odd ones.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, get_args

import numpy as np
from scipy import stats

from intermode import plots
from intermode.correlation import rank_correlation, spearman
from intermode.errors import InputError
from intermode.evaluation import Estimate, over_seeds, ratio_over_seeds
from intermode.jobs import Job
from intermode.samplers import Ancestral
from intermode.studies.causes import Cause, Network, Variant, cost_job, learning
from intermode.studies.learned_step import PREDICTORS, learned_step
from intermode.studies.switching import BETWEEN, VALUE, switch_job
from intermode.study import Claim, Found, Measured, Missing, Picture, Study, at_least, below
from intermode.study.configs import LatticeModel, LineModel, Training, check_least
from intermode.study.steps import denoiser_of, mass_job, model_job

__all__ = ["STUDY", "Config"]

LAST = 9
"""The timestep at which the last ten steps begin."""


@dataclass(frozen=True)
class Config:
    """Settings of ``origin``.

    Attributes:
        model: whatever is not varied.
        reference: points of the reference batch of stable targets.
        seeds: models of each target, with seeds from the model's on.
        steps: longer and shorter trainings on sampled and exact targets.
        widths: of other networks, on sampled and exact targets.
        blocks: numbers of residual blocks of other networks.
        other_seeds: models of each training length and network.
        switches: k, in 1-D, up to which one score is taken and above it the other.
        lattice: a model in 2-D.
        lattice_switches: k, in 2-D.
    """

    model: LineModel = LineModel(train=Training(steps=1500))
    reference: int = 1000
    seeds: int = 3
    steps: tuple[int, ...] = (500,)
    widths: tuple[int, ...] = (32,)
    blocks: tuple[int, ...] = ()
    other_seeds: int = 3
    switches: tuple[int, ...] = (0, 1, 2, 3, 4, 5, 7, 9, 12, 15, 20, 25, 30)
    lattice: LatticeModel = LatticeModel(shipped="grid")
    lattice_switches: tuple[int, ...] = (9, 19)

    def __post_init__(self) -> None:
        check_least(self, 1, "seeds", "other_seeds", "reference")
        if self.other_seeds > self.seeds:
            raise InputError(f"other_seeds: {self.other_seeds} must be at most the seeds, {self.seeds}")
        for name, model in (("switches", self.model), ("lattice_switches", self.lattice)):
            found, last = getattr(self, name), model.noise.timesteps - 2
            if LAST not in found or min(found) < 0 or max(found) > last:
                raise InputError(f"{name}: must hold {LAST}, the last ten steps, and lie in 0..{last}")
        _ = variants(self)

    @property
    def seed(self) -> int:
        return self.model.seed


def variants(config: Config) -> dict[str, Variant]:
    """All models by name, the most valuable first."""
    base = config.model
    found = [Variant(cause, learning(cause, base, config.reference), config.seeds) for cause in get_args(Cause)]

    def add(name: str, model: LineModel, *causes: Cause) -> None:
        for cause in causes:
            found.append(Variant(f"{cause}_{name}", learning(cause, model, config.reference), config.other_seeds))

    for steps in sorted(set(config.steps) - {base.train.steps}):
        add(f"steps-{steps}", replace(base, train=replace(base.train, steps=steps)), "sampled", "exact")
    for width in sorted(set(config.widths) - {base.network.width}):
        add(f"width-{width}", replace(base, network=replace(base.network, width=width)), "sampled", "exact")
    for blocks in sorted(set(config.blocks) - {3}):
        add(f"blocks-{blocks}", replace(base, network=Network(base.network.width, blocks=blocks)), "sampled")
    add("no-final-norm", replace(base, network=Network(base.network.width, final_norm=False)), "sampled")
    add("tied-blocks", replace(base, network=replace(base.network, tied_blocks=True)), "sampled")
    return {variant.name: variant for variant in found}


def jobs(config: Config) -> dict[str, Job]:
    found: dict[str, Job] = {}
    for variant in variants(config).values():
        for (name, model), mass in zip(variant.models(), variant.masses(), strict=True):
            found[name] = model_job(name, model)
            found[mass] = mass_job(mass, Ancestral(), found[name])
            if variant.name == "sampled":
                found[f"{name}_switched"] = switch_job(f"{name}_switched", Ancestral(), found[name], config.switches)
    found["cost"] = cost_job("cost", {cause: variants(config)[cause].model for cause in ("sampled", "stable")})
    found["lattice"] = model_job("lattice", config.lattice)
    found["lattice_switched"] = switch_job("lattice_switched", Ancestral(), found["lattice"], config.lattice_switches)
    return found


def finished(config: Config, found: Found) -> dict[str, Variant]:
    """The variants whose models are all there: a long run can be looked at before its end."""
    there = {}
    for name, variant in variants(config).items():
        with suppress(Missing):
            _ = masses(found, variant)
            there[name] = variant
    return there


def masses(found: Found, variant: Variant, part: str = "value") -> list[float]:
    """Seed by seed: all of it, or the part ``between`` the modes or ``beyond`` them."""
    return [found[name].facts[part] for name in variant.masses()]


def mean_of(values: Sequence[float] | np.ndarray) -> Estimate:
    """Mean over seeds with Student's 95 % interval."""
    mean, n = float(np.mean(values)), len(values)
    if n == 1:
        return Estimate(mean, mean, mean, n=1)
    reach = float(stats.t.ppf(0.975, n - 1) * np.std(values, ddof=1) / np.sqrt(n))
    return Estimate(mean, mean - reach, mean + reach, n=n, method="Student, over seeds")


def _share(fact: Mapping[str, Any], kind: str, k: int, part: int = BETWEEN) -> float:
    return float(fact[kind][str(k)][part] / fact["learned"][part])


def when(config: Config, found: Found) -> Measured:
    """What the steps up to k make by themselves, and what the true score leaves there, in 1-D."""
    facts = [found[f"{name}_switched"].facts for name, _ in variants(config)["sampled"].models()]
    line = [
        {"k": k, **{kind: over_seeds([_share(fact, kind, k) for fact in facts]).triple for kind in ("made", "mended")}}
        for k in sorted(config.switches)
    ]
    values: dict[str, Estimate | float | int | str | None] = {
        "made_in_last_10_1d": mean_of([_share(fact, "made", LAST, VALUE) for fact in facts]),
        "made_in_last_10_1d_between": mean_of([_share(fact, "made", LAST) for fact in facts]),
        "left_by_true_last_10_1d_between": over_seeds([_share(fact, "mended", LAST) for fact in facts]),
    }
    return Measured(values, {"when": line})


def when_2d(config: Config, found: Found) -> Measured:
    """The same of the model in 2-D: one, so that there is no interval."""
    flat = found["lattice_switched"].facts
    plane = [
        {"k": k, **{kind: _share(flat, kind, k) for kind in ("made", "mended")}}
        for k in sorted(config.lattice_switches)
    ]
    values: dict[str, Estimate | float | int | str | None] = {
        "made_in_last_10_2d": _share(flat, "made", LAST, VALUE),
        "made_in_last_10_2d_between": _share(flat, "made", LAST),
        "left_by_true_last_10_2d_between": _share(flat, "mended", LAST),
    }
    return Measured(values, {"when_2d": plane})


def why(config: Config, found: Found) -> Measured:
    """The mass by target, and the ratios of the others to drawn noise, seed by seed."""
    measured = Measured(series={"why": []})
    by_part = {
        cause: {part: masses(found, variants(config)[cause], part) for part in ("value", "between", "beyond")}
        for cause in get_args(Cause)
    }
    for cause, parts in by_part.items():
        measured.series["why"].append({"target": cause, "mass": over_seeds(parts["value"]).triple, **parts})
        for part, here in parts.items():
            end, there = "" if part == "value" else f"_{part}", by_part["sampled"][part]
            if min(*here, *there) > 0:
                measured.values[f"mass_{cause}_target{end}"] = over_seeds(here)
                if cause != "sampled":
                    measured.values[f"{cause}_ratio{end}"] = ratio_over_seeds(here, there, paired=True)
    sampled, exact, stable = (np.array(by_part[cause]["value"]) for cause in ("sampled", "exact", "stable"))
    measured.values["stable_share_of_gain"] = mean_of((sampled - stable) / (sampled - exact))
    return measured


def growth(config: Config, found: Found) -> Measured:
    """The mass as training grows, and the exponents of its power law."""
    known, batch = finished(config, found), config.model.train.batch
    measured = Measured({"training_slope": None}, {"growth": []})
    for cause in ("sampled", "exact"):
        samples, by_seed = trainings(config, found, known, cause)
        for n, values in zip(samples, by_seed, strict=True):
            row = {"target": cause, "samples": n * batch, "mass": over_seeds(values).triple, "by_seed": values.tolist()}
            measured.series["growth"].append(row)
        at, logs = np.log(samples), np.log(by_seed)
        if len(at) > 1:
            end = "" if cause == "sampled" else f"_{cause}"
            measured.values[f"training_slope{end}"] = mean_of(np.polyfit(at, logs, 1)[0])
            measured.values[f"training_slope{end}_late"] = mean_of((logs[-1] - logs[-2]) / (at[-1] - at[-2]))
    return measured


def trainings(config: Config, found: Found, known: Mapping[str, Variant], cause: str) -> tuple[list[int], np.ndarray]:
    """Optimiser steps (L,) of the finished trainings on a target, and their masses (L, seeds)."""
    chosen = [v for name, v in known.items() if name == cause or name.startswith(f"{cause}_steps-")]
    chosen.sort(key=lambda variant: variant.model.train.steps)
    by_seed = [masses(found, variant)[: config.other_seeds] for variant in chosen]
    return [variant.model.train.steps for variant in chosen], np.array(by_seed)


def worth(config: Config, found: Found) -> Measured:
    """What stable targets cost, and what they are worth for their time."""
    known, seconds = finished(config, found), found["cost"].facts
    cost = ratio_over_seeds(seconds["stable"], seconds["sampled"], paired=True)
    cost = replace(cost, method="Student, of logarithms over repeats")
    measured = Measured({"stable_cost": cost, "stable_ratio_in_equal_time": None})
    steps, by_seed = trainings(config, found, known, "sampled")
    if len(steps) > 1 and "stable" in known:  # what drawn noise reaches in the time of the stable targets
        asked = np.log(config.model.train.steps * cost.value)
        reached = [float(np.exp(_along(asked, np.log(steps), column))) for column in np.log(by_seed).T]
        stable = masses(found, known["stable"])[: config.other_seeds]
        measured.values["stable_ratio_in_equal_time"] = ratio_over_seeds(stable, reached, paired=True)
    return measured


def _along(x: float, xs: np.ndarray, ys: np.ndarray) -> float:
    """Linear between points, and along the last two of them beyond."""
    if x <= xs[-1]:
        return float(np.interp(x, xs, ys))
    return float(ys[-1] + (x - xs[-1]) * (ys[-1] - ys[-2]) / (xs[-1] - xs[-2]))


def networks(config: Config, found: Found) -> Measured:
    """The mass of other networks, over that of the paper's on the same target."""
    known = finished(config, found)
    measured = Measured(series={"networks": []})
    for name, variant in known.items():
        cause, _, what = name.partition("_")
        if what.startswith("steps-"):
            continue
        row = {"target": cause, "network": what or "paper's", "mass": over_seeds(masses(found, variant)).triple}
        measured.series["networks"].append({**row, "by_seed": masses(found, variant)})
        if what and cause in known:
            base = masses(found, known[cause])[: variant.seeds]
            ratio = ratio_over_seeds(masses(found, variant), base, paired=True)
            measured.values[f"{name.replace('-', '_')}_ratio"] = ratio
    return measured


def law(config: Config, found: Found) -> Measured:
    """Which number of the learned step predicts the mass between the modes, over all models."""
    timesteps = range(min(6, config.model.noise.timesteps))
    rows: list[dict[str, Any]] = []
    for variant in finished(config, found).values():
        for (name, model), mass in zip(variant.models(), masses(found, variant, "between"), strict=True):
            denoiser = denoiser_of(found[name])
            steps = {t: learned_step(denoiser, model.target.target, t) for t in timesteps}
            numbers = {f"{p}_t{t}": step[p] for t, step in steps.items() for p in PREDICTORS}
            rows.append({"model": variant.name, "seed": model.seed, "mass": mass, **numbers})
    if not rows:
        raise Missing("no model is there")
    choose, judge = ([row for row in rows if (row["seed"] - config.seed) % 2 == odd] for odd in (0, 1))

    def pairs(rows: Sequence[Mapping[str, Any]], key: str) -> tuple[list[float], list[float]]:
        return [row[key] for row in rows], [row["mass"] for row in rows]

    correlations = {key: spearman(*pairs(choose, key)) for key in numbers}
    best = max(correlations, key=lambda key: abs(np.nan_to_num(correlations[key])))
    words = best.replace("_t", " at t = ")
    series: dict[str, Any] = {"law": rows, "law_of": {"best": best, "words": words, "spearman": correlations}}
    measured = Measured({"models": len(rows)}, series)
    if len(judge) > 2:
        sign, (numbers_of, masses_of) = np.sign(correlations[best]), pairs(judge, best)
        measured.values["best_predictor_spearman"] = rank_correlation(
            sign * np.array(numbers_of), masses_of, seed=config.seed
        )
    x, y = map(np.array, pairs(rows, best))
    if min(x.min(), y.min()) > 0:
        fitted = stats.linregress(np.log(x), np.log(y))
        reach = float(stats.t.ppf(0.975, len(x) - 2) * fitted.stderr)
        exponent = Estimate(fitted.slope, fitted.slope - reach, fitted.slope + reach, n=len(x), method="regression")
        measured.values |= {"law_exponent": exponent, "law_r_squared": fitted.rvalue**2}
        series["law_of"]["line"] = [fitted.slope, fitted.intercept]
    measured.notes.append(
        f"Of {len(correlations)} numbers of the learned step the one whose ranks agree best with those of the mass "
        f"between the modes is its {words}, chosen on the models of even seeds; its correlation is that of the others."
    )
    return measured


def claims(config: Config) -> list[Claim]:
    few = f"the last ten of {config.model.noise.timesteps:,} steps"
    seen = config.model.train.steps * config.model.train.batch
    rows = [
        ("late", "made_in_last_10_1d", at_least(0.5), f"Most of the mass is made in {few}: share, at least 0.5"),
        (
            "late-mends",
            "left_by_true_last_10_1d_between",
            below(0.01),
            f"The true score in {few} mends nearly all between the modes: share that is left, under 0.01",
        ),
        (
            "target-noise",
            "exact_ratio",
            below(0.5),
            f"Most of the mass after a training on {seen:,} samples is the noise of the target: mass learned from the "
            "exact mean over mass learned from drawn noise, under 0.5",
        ),
        (
            "finite-data",
            "fresh_ratio",
            at_least(0.5),
            f"It is not the finite data: mass with fresh points in every batch over mass with {config.model.size:,} "
            "points, at least 0.5",
        ),
        ("stable", "stable_ratio", below(1.0), "Stable targets help: mass over that of drawn noise, under 1"),
        (
            "predictor",
            "best_predictor_spearman",
            at_least(0.8),
            "One number of the learned step ranks models by their mass between the modes: Spearman's correlation, with "
            "the sign found when it was chosen, at least 0.8",
        ),
    ]
    if set(config.steps) - {config.model.train.steps}:
        rows += [
            (
                "longer",
                "training_slope",
                below(0.0),
                "The mass falls as training grows: exponent of the number of training samples, under 0",
            ),
            (
                "stable-in-equal-time",
                "stable_ratio_in_equal_time",
                below(1.0),
                "Stable targets pay: mass over that which drawn noise reaches in the same seconds, under 1",
            ),
        ]
    return [Claim(*row, "–") for row in rows]


WORDS: dict[str, str] = {
    "sampled": "drawn noise, {n:,} points",
    "fresh": "drawn noise, fresh points",
    "stable": "mean over {reference:,} of the points",
    "exact": "exact mean",
}


def origin(config: Config, found: Found, measured: Measured, path: Path) -> str | None:
    if not {"when", "why"} <= measured.series.keys():
        return None
    when, by_target = measured.series["when"], {row["target"]: row["mass"] for row in measured.series["why"]}
    shares = {
        "learned score at $t \\leq k$ alone": band_of(row["made"] for row in when),
        "true score at $t \\leq k$": band_of(row["mended"] for row in when),
    }
    late, factor = measured.values["made_in_last_10_1d_between"], by_target["sampled"][0] / by_target["exact"][0]
    assert isinstance(late, Estimate)
    where = f"Where: {100 * late.value:.0f} % is made in the last ten of {config.model.noise.timesteps:,} steps"
    why = f"Why: without noise in the target it is {factor:.2g} times less"
    words = [word.format(n=config.model.size, reference=config.reference) for word in WORDS.values()]
    masses_of = band_of(by_target[cause] for cause in WORDS)
    plots.where_and_why(path, (where, [row["k"] for row in when], shares), (why, masses_of, words))
    return (
        "Left: the exact mass between the modes when the learned score is used at the last timesteps alone, and when "
        "the true score is, over that of the learned score. Right: the exact off-support mass of the same network "
        f"trained on {config.model.train.steps * config.model.train.batch:,} samples of different targets. 95 % "
        f"intervals over {config.seeds} models."
    )


def band_of(triples: Iterable[Sequence[float]]) -> Any:
    """(values, low, high) of (value, low, high), one after the other."""
    return tuple(zip(*triples, strict=True))


def lengths(config: Config, found: Found, measured: Measured, path: Path) -> str | None:
    rows = measured.series.get("growth", [])
    if len({row["samples"] for row in rows}) < 2:
        return None
    lines: dict[str, Any] = {}
    for row in rows:
        lines.setdefault({"sampled": "drawn noise", "exact": "exact mean"}[row["target"]], []).append(row)
    at = [row["samples"] for row in next(iter(lines.values()))]
    bands = {label: band_of(row["mass"] for row in line) for label, line in lines.items()}
    plots.curves(path, at, bands, x_label="training samples", y_label="off-support mass", log_x=True, log_y=True)
    return f"Exact off-support mass against the length of training, 95 % intervals over {config.other_seeds} models."


def architectures(config: Config, found: Found, measured: Measured, path: Path) -> str | None:
    rows = {(row["target"], row["network"]): row["mass"] for row in measured.series.get("networks", [])}
    if not rows:
        return None
    names = list(dict.fromkeys(network for _, network in rows))
    groups = {
        label: band_of(rows.get((cause, name), (np.nan,) * 3) for name in names)
        for cause, label in (("sampled", "drawn noise"), ("exact", "exact mean"))
    }
    plots.bars(path, groups, [name.replace("-", " ") for name in names], "off-support mass")
    return f"Exact off-support mass of other networks, 95 % intervals over {config.other_seeds} models or more."


def prediction(config: Config, found: Found, measured: Measured, path: Path) -> str | None:
    if not (rows := measured.series.get("law")):
        return None
    law = measured.series["law_of"]
    rows = [row for row in rows if min(row["mass"], row[law["best"]]) > 0]
    points: dict[str, Any] = {}
    for row in rows:
        x, y = points.setdefault(row["model"].replace("_", ", "), ([], []))
        x.append(row[law["best"]])
        y.append(row["mass"])
    plots.points_by_kind(
        path, points, x_label=f"learned step of x0_hat: its {law['words']}", y_label="mass between the modes",
        line=law.get("line"),
    )  # fmt: skip
    return f"Each point is a model: its exact mass between the modes against the {law['words']} of its learned step."


# fmt: off
TIERS: dict[str, dict[str, Any]] = {
    "smoke": {
        "model.size": 2000, "model.noise.timesteps": 60, "model.train.steps": 60, "model.train.batch": 200,
        "reference": 100, "seeds": 2, "other_seeds": 2, "steps": (30,), "switches": (2, 9, 20),
        "lattice.shipped": None, "lattice.target.side": 2, "lattice.noise.timesteps": 30, "lattice.size": 2000,
        "lattice.train.steps": 60, "lattice.train.batch": 200, "lattice_switches": (9, 19),
    },
    "quick": {},
    "long": {
        "model.train.batch": 5000, "seeds": 5, "steps": (200, 600, 3000, 6000), "widths": (32, 64, 256),
        "blocks": (1, 2, 6), "switches": (*range(16), 18, 20, 25, 30), "lattice_switches": (4, 9, 14, 19, 29),
    },
    "paper": {
        "model.train.steps": 6000, "model.train.batch": 5000, "seeds": 5, "other_seeds": 5,
        "steps": (200, 600, 1500, 3000, 20_000), "widths": (32, 64, 256), "blocks": (1, 2, 6),
        "switches": tuple(range(31)), "lattice_switches": (4, 9, 14, 19, 29),
    },
}
# fmt: on
"""What each tier differs in from the quick one, by dotted names."""

STUDY = Study(
    "origin",
    figures="–",
    summary="Where between the modes mass comes from: which steps make it, and which cause",
    config=Config,
    tiers=TIERS,
    times={"smoke": "30 s", "quick": "20 min", "long": "~3 h", "paper": "hours, GPU"},
    jobs=jobs,
    measures=(when, when_2d, why, growth, worth, networks, law),
    claims=claims,
    pictures=lambda config: [Picture(f.__name__, f) for f in (origin, lengths, architectures, prediction)],
)
