r"""What the off-support mass depends on (paper: section 4.1, App. C, Figs. 9-12).

One factor at a time: training size, distance, width and number of the modes, T. A model is trained for each setting
and seed, and its off-support mass computed exactly (:mod:`intermode.exact`), so that no 10⁸ samples are needed to see
a mass of 10⁻⁵; they can be counted all the same (``stream_samples``). Models of one seed share initial weights, batches
and the beginning of their data, so ratios are taken seed by seed, with Student's interval of their logarithm.

* Training size is swept at equal optimiser steps and at equal epochs (the paper's), where more data trains longer.
* T is swept in three senses, since the paper's first version says that the rate grows with T and its second that it
  falls: models of T steps between the same first and last beta; the same with betas scaled so that all end at the same
  noise; and one model sampled in fewer, respaced steps.

Modes nearer than 12σ have no room between them that is off the support: they are shown, and not compared.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
from scipy.optimize import brentq

from intermode import plots
from intermode.errors import InputError
from intermode.evaluation import Estimate, over_seeds, ratio_over_seeds
from intermode.jobs import Done, Job
from intermode.samplers import Ancestral
from intermode.studies.gaussian_1d import gap_masses
from intermode.study import Claim, Found, Measured, Missing, Picture, Study, below
from intermode.study.configs import LinearNoise, LineModel, Mixture, Training, check_least
from intermode.study.steps import (
    Tabulated,
    count_job,
    counts_of,
    grid_range,
    histogram_edges,
    histogram_of,
    mass_job,
    model_job,
)

__all__ = ["STUDY", "Config", "name_of"]

Means = tuple[float, ...]


@dataclass(frozen=True)
class Config:
    """Settings of ``gaussian-1d-sweeps``.

    Attributes:
        model: whatever is not swept.
        train_sizes: training sizes, for the model's modes and for ``far_means``.
        epochs: train all sizes for so many epochs, too; 0 for not.
        far_means: the mixture with one mode moved away.
        mode_sets: mixtures of other numbers of modes.
        distances: of the two modes of a two-mode mixture, the first at 1.
        sigmas: standard deviations of the modes.
        timestep_counts: T, betas between the same ends; and steps to sample the model in.
        equal_noise: T, betas scaled so that all end at the same noise.
        variance: of the sampler.
        seeds: models of each setting, with seeds from the model's on.
        more, more_seeds: sweeps whose ends vary so much from seed to seed that they get so many models instead.
        stream_samples: count so many samples of each model, too; 0 for none.
        points: of the table that stands for the network while these are drawn.
    """

    model: LineModel = LineModel(train=Training(steps=2500))
    train_sizes: tuple[int, ...] = (1_000, 7_000, 50_000)
    epochs: int = 0
    far_means: Means = (1.0, 2.0, 4.0)
    mode_sets: tuple[Means, ...] = ((1.0, 2.0), (1.0, 2.0, 4.0, 5.0))
    distances: tuple[float, ...] = (0.5, 1.0, 2.0)
    sigmas: tuple[float, ...] = ()
    timestep_counts: tuple[int, ...] = (250, 500, 1000)
    equal_noise: tuple[int, ...] = ()
    variance: Literal["large", "small"] = "large"
    seeds: int = 2
    more: tuple[str, ...] = ()
    more_seeds: int = 0
    stream_samples: int = 0
    points: int = 4096

    def __post_init__(self) -> None:
        for name in ("train_sizes", "mode_sets", "distances", "timestep_counts"):
            if not getattr(self, name):
                raise InputError(f"{name}: must hold at least one value")
        if min(self.distances) <= 0:
            raise InputError(f"distances: {min(self.distances):g} must be > 0")
        check_least(self, 1, "seeds")
        check_least(self, 0, "stream_samples", "epochs", "more_seeds")
        check_least(self, 2, "points")
        _ = Ancestral(self.variance)
        if unknown := set(self.more) - {sweep.id for sweep in self.sweeps}:
            raise InputError(f"more: unknown sweep {min(unknown)}")

    @property
    def seed(self) -> int:
        return self.model.seed

    @cached_property
    def sweeps(self) -> list[Sweep]:
        """The most valuable first; found once, since every setting asks for them."""
        return sweeps_of(self)


class Setting(NamedTuple):
    """A model, of the first seed, and the steps that it is sampled in; all of its schedule for None."""

    model: LineModel
    steps: int | None = None

    def seeds(self, config: Config) -> int:
        """How many models there are of it."""
        ends = [sweep.settings[x] for sweep in config.sweeps if sweep.id in config.more for x in sweep.ends or ()]
        return max(config.seeds, config.more_seeds) if self in ends else config.seeds

    def names(self, config: Config) -> list[str]:
        """Of its models, seed by seed."""
        seeds = range(config.seed, config.seed + self.seeds(config))
        return [name_of(replace(self.model, seed=seed), config.model) for seed in seeds]

    def masses(self, config: Config) -> list[str]:
        """Names of their masses."""
        return [f"{name}_mass" + (f"-in-{self.steps}" if self.steps else "") for name in self.names(config)]

    @property
    def roomy(self) -> bool:
        """Whether there is room off the support between two modes."""
        target = self.model.target.target
        return bool(np.diff(np.sort(target.means[:, 0])).max() > 2 * target.beyond * target.sigma.max())


def name_of(model: LineModel, base: LineModel) -> str:
    """A model in a word, with what distinguishes it from the base."""
    name = f"means-{joined(model.target.means)}_n-{model.size}_T-{model.noise.timesteps}_seed-{model.seed}"
    name += f"_sigma-{model.target.sigma:g}" if model.target.sigma != base.target.sigma else ""
    name += f"_beta-{model.noise.beta_end:g}" if model.noise.beta_end != base.noise.beta_end else ""
    return name + (f"_steps-{model.train.steps}" if model.train.steps != base.train.steps else "")


def joined(means: Means, by: str = "-") -> str:
    return by.join(f"{m:g}" for m in means)


def label(x: Any) -> str:
    """What is swept, as it is shown."""
    return f"({joined(x, ', ')})" if isinstance(x, tuple) else f"{x:,}"


CLAIMS = {
    "distance": (
        "Modes farther apart interpolate less: mass at distance {1:g} over mass at {0:g}, two modes",
        "falls",
    ),
    "size": (
        "More training data, less interpolation: mass at {1:,} over mass at {0:,} training samples, modes {2}",
        "falls (Figs. 9, 10)",
    ),
    "timesteps": (
        "The rate falls with T: mass at T = {1} over mass at T = {0}, trained and sampled with T steps between the {2}",
        "v1: grows with T; v2: falls with T",
    ),
    "respaced": (
        "The rate falls with the number of sampling steps: mass at {1} over mass at {0} steps of one model",
        "v1: grows; v2: falls",
    ),
    "sigma": (
        "Narrower modes at the same places interpolate less: mass at σ = {1:g} over mass at σ = {0:g}",
        "depends on the variance",
    ),
}
"""By figure, of each line's ends: the mass at the second is divided by that at the first."""


class Sweep(NamedTuple):
    """One factor, everything else as it is: a line of a figure.

    Attributes:
        id: of the claim.
        figure, label: its line.
        settings: by what is swept; where less mass is expected comes last.
    """

    id: str
    figure: str
    label: str
    settings: Mapping[Any, Setting]

    @property
    def ends(self) -> tuple[Any, Any] | None:
        """What the claim compares, if it can compare anything."""
        roomy = [x for x, setting in self.settings.items() if setting.roomy]
        return (roomy[0], roomy[-1]) if self.figure in CLAIMS and len(roomy) > 1 else None

    @property
    def key(self) -> str:
        """Name of its measure."""
        return self.id.replace("-", "_")


def sweeps_of(config: Config) -> list[Sweep]:
    """For :attr:`Config.sweeps`."""
    base, noise, far = config.model, config.model.noise, config.far_means
    means, sigma, T = base.target.means, base.target.sigma, noise.timesteps

    def of(means: Means = means, sigma: float = sigma, **changes: Any) -> Setting:
        return Setting(replace(base, target=Mixture(means, sigma), **changes))

    def sizes(means: Means) -> dict[int, Setting]:
        return {n: of(means, size=n) for n in sorted(config.train_sizes)}

    def longer(means: Means) -> dict[int, Setting]:
        steps = {n: max(round(config.epochs * n / base.train.batch), 1) for n in sorted(config.train_sizes)}
        return {n: of(means, size=n, train=replace(base.train, steps=s)) for n, s in steps.items() if config.epochs}

    counts = sorted(config.timestep_counts)
    spans = {t: of(noise=replace(noise, timesteps=t)) for t in counts}
    fewer = {t: Setting(base, t) for t in counts if t < T} | {T: Setting(base)}
    numbers = sorted({*config.mode_sets, means}, key=lambda modes: (len(modes), modes))
    scaled = {t: of(noise=same_noise(noise, t)) for t in sorted(config.equal_noise)}
    epochs = f", {config.epochs} epochs each"
    return [
        Sweep("distance-two", "distance", "two modes", {d: of((1.0, 1.0 + d)) for d in sorted(config.distances)}),
        Sweep(f"size-{joined(means)}", "size", label(means), sizes(means)),
        Sweep("far", "far", "", {far: of(far)}),
        Sweep("timesteps", "timesteps", "same betas", spans),
        Sweep("respaced", "respaced", "one model", fewer),
        Sweep(f"size-{joined(far)}", "size", label(far), sizes(far)),
        Sweep("modes", "modes", "mixture", {modes: of(modes) for modes in numbers}),
        Sweep("sigma", "sigma", label(means), {s: of(sigma=s) for s in sorted(config.sigmas, reverse=True)}),
        Sweep("timesteps-equal-noise", "timesteps", "betas scaled to the same noise at the end", scaled),
        Sweep(f"size-{joined(means)}-equal-epochs", "size", label(means) + epochs, longer(means)),
        Sweep(f"size-{joined(far)}-equal-epochs", "size", label(far) + epochs, longer(far)),
    ]


def same_noise(noise: LinearNoise, timesteps: int) -> LinearNoise:
    """T steps with betas scaled by one factor so that they end at the same noise."""
    if timesteps == noise.timesteps:
        return noise
    betas, end = np.linspace(noise.beta_start, noise.beta_end, timesteps), 2 * math.log(noise.schedule.signal[-1])
    factor = brentq(lambda f: float(np.log1p(-f * betas).sum()) - end, 0.0, (1 - 1e-9) / noise.beta_end)
    start, stop = (round(beta * factor, 6) for beta in (noise.beta_start, noise.beta_end))
    return LinearNoise(timesteps, start, stop)


def jobs(config: Config) -> dict[str, Job]:
    """Seed by seed: the base, what the claims compare, and then all that lies between."""
    found: dict[str, Job] = {}
    compared = [s.settings[x] for s in config.sweeps for x in s.ends or (s.settings if s.figure == "far" else ())]
    others = [setting for sweep in config.sweeps for setting in sweep.settings.values()]
    for setting in dict.fromkeys([Setting(config.model), *compared, *others]):
        for k, (name, mass) in enumerate(zip(setting.names(config), setting.masses(config), strict=True)):
            sampler = Ancestral(config.variance, setting.steps)
            trained = found[name] = model_job(name, replace(setting.model, seed=config.seed + k))
            found[mass] = mass_job(mass, sampler, trained)
            if config.stream_samples and not setting.steps:
                view = Tabulated(*grid_range(setting.model.target.target), config.points)
                counted = f"{name}_samples"
                found[counted] = count_job(counted, sampler, trained, config.stream_samples, config.seed + k, view)
    return found


def masses(config: Config, found: Found, setting: Setting, part: str = "value") -> dict[int, float]:
    """By seed, all of it or the part ``between`` the modes, of the models of which it is known."""
    known = finished(found, setting.masses(config)).items()
    return {seed: done.facts[part] for seed, done in known if part in done.facts}


def finished(found: Found, names: list[str]) -> dict[int, Done]:
    """The jobs of these names, numbered, without those that failed or were not begun."""
    done = {}
    for seed, name in enumerate(names):
        with suppress(Missing):
            done[seed] = found[name]
    return done


def ratio(over: Mapping[int, float], under: Mapping[int, float]) -> Estimate | None:
    """Seed by seed; None where a mass is too small to be seen, or no seed has both."""
    pairs = [(over[seed], under[seed]) for seed in over if seed in under]
    if not pairs or min(map(min, pairs)) <= 0:
        return None
    return ratio_over_seeds(*map(list, zip(*pairs, strict=True)), paired=True)


def measure_of(figure: str) -> Callable[[Config, Found], Measured]:
    """Measures the sweeps of a figure."""

    def measure(config: Config, found: Found) -> Measured:
        measured = Measured(series={figure: []})
        for sweep in (sweep for sweep in config.sweeps if sweep.figure == figure):
            for x, setting in sweep.settings.items():
                by_seed = list(masses(config, found, setting).values())
                if len(by_seed) < (asked := setting.seeds(config)):
                    done = f"{len(by_seed)} of {asked} models are there"
                    measured.notes.append(f"{figure}, {sweep.label}, {label(x)}: {done}.")
                mean = over_seeds(by_seed) if by_seed else None
                if figure == "modes":
                    measured.values[f"mass_modes_{joined(x, '_')}"] = mean
                if mean is None:
                    continue
                row = {"line": sweep.label, "at": x, "mass": mean.triple, "by_seed": by_seed}
                measured.series[figure].append(row)
                if not setting.roomy:
                    measured.notes.append(
                        f"{figure} {x:g}: the modes are so near each other that nothing between them is off the "
                        "support. What is lies outside of all of them, and is compared with no other mass."
                    )
            if sweep.ends:
                low, high = (sweep.settings[x] for x in sweep.ends)
                for key, part in ((sweep.key, "value"), (f"{sweep.key}_between", "between")):
                    measured.values[key] = ratio(*(masses(config, found, s, part) for s in (high, low)))
        return measured

    measure.__name__ = figure
    return measure


def gaps(config: Config, found: Found) -> Measured:
    """The two gaps of the mixture with one mode moved away."""
    (far,) = (sweep.settings[config.far_means] for sweep in config.sweeps if sweep.id == "far")
    target = far.model.target.target
    laws = finished(found, far.masses(config))
    by_seed = {}
    for seed, done in laws.items():
        with suppress(Missing):  # the facts of a kept run are known, its laws are not
            by_seed[seed] = gap_masses(target, done.tensors())
    ends = list(itertools.pairwise(sorted(config.far_means)))
    narrow, wide = (pick(ends, key=lambda gap: gap[1] - gap[0]) for pick in (min, max))
    gap = ratio(*({seed: mass[one] for seed, mass in by_seed.items()} for one in (wide, narrow)))
    models = finished(found, [name for name in found if name.endswith("_mass")])
    shared = "Ratios are taken seed by seed: models of one seed share weights, batches and the beginning of their data."
    return Measured({"models": len(models), "distance_gap": gap}, notes=[shared])


def claims(config: Config) -> list[Claim]:
    found = []
    for sweep in config.sweeps:
        if sweep.ends:
            statement, paper = CLAIMS[sweep.figure]
            words = statement.format(*sweep.ends, sweep.label)
            found.append(Claim(sweep.id, sweep.key, below(1.0), f"{words}, under 1", paper))
    if config.far_means == (1.0, 2.0, 4.0):
        statement = "In the mixture (1, 2, 4) the wide gap holds less mass than the narrow one: between 2 and 4 over "
        statement += "between 1 and 2, under 1"
        found.append(Claim("distance-gap", "distance_gap", below(1.0), statement, "far fewer (Fig. 2)"))
    return found


def curve(figure: str) -> Picture:
    """The masses of a figure's sweeps, with intervals."""
    x_label, words = FIGURES[figure]

    def draw(config: Config, found: Found, measured: Measured, path: Path) -> str | None:
        lines: dict[str, Any] = {}
        for row in measured.series.get(figure, []):
            lines.setdefault(row["line"], {})[row["at"]] = row["mass"]
        if not lines:
            return None
        at: list[Any] = list(dict.fromkeys(x for line in lines.values() for x in line))
        bands: Any = {
            label: tuple(zip(*(line.get(x, (math.nan,) * 3) for x in at), strict=True)) for label, line in lines.items()
        }
        plots.curves(
            path,
            range(len(at)) if figure == "modes" else at,
            bands,
            x_label=x_label,
            y_label="off-support mass",
            log_x=figure in ("size", "timesteps", "respaced"),
            log_y=True,
            ticks=[label(means) for means in at] if figure == "modes" else None,
        )
        return f"Exact off-support mass {words}, 95 % intervals over seeds."

    return Picture(figure, draw)


def densities(figure: str) -> Picture:
    """Figs. 9-12 without sampling: exact laws."""

    def draw(config: Config, found: Found, measured: Measured, path: Path) -> str | None:
        rows: list[Any] = []
        for sweep in (sweep for sweep in config.sweeps if sweep.figure == figure and sweep.settings):
            rows.append([])
            for x, setting in sweep.settings.items():
                edges = histogram_edges(setting.model.target.target)
                for done in list(finished(found, setting.masses(config)).values())[:1]:
                    with suppress(Missing):
                        law = histogram_of(done, edges) / np.diff(edges)
                        rows[-1].append((f"{sweep.label}: {label(x)}", beside(setting, law)))
        if not any(rows):
            return None
        plots.log_densities(path, [row for row in rows if row])
        return "The exact law of one model of each setting over the density of the data. Compare Figs. 9-12."

    return Picture(f"{figure}-densities", draw)


def beside(setting: Setting, density: np.ndarray) -> dict[str, np.ndarray]:
    """A density of samples, and that of the data, for :func:`intermode.plots.log_density`."""
    target = setting.model.target.target
    edges = histogram_edges(target)
    fine = np.linspace(edges[0], edges[-1], 4001)
    return {
        "edges": edges,
        "samples": density,
        "true_x": fine,
        "true_density": target.log_prob(fine[:, None]).exp().numpy(),
        "off_support": target.label((edges[:-1, None] + edges[1:, None]) / 2).hallucinated,
    }


def histogram(config: Config, setting: Setting) -> Picture:
    """Counted samples of a model."""
    name, model = setting.names(config)[0], setting.model

    def draw(config: Config, found: Found, measured: Measured, path: Path) -> str:
        counts, _ = counts_of(found[f"{name}_samples"])
        density = counts / np.diff(histogram_edges(model.target.target)) / config.stream_samples
        title = f"{config.stream_samples:,} samples; trained on {model.size:,}, T = {model.noise.timesteps}"
        plots.log_density(path, **beside(setting, density), title=title)
        return f"Samples of the model {name}. Compare Figs. 9-12."

    return Picture(name, draw)


FIGURES = {
    "size": ("training samples", "against the training size (Figs. 9, 10)"),
    "modes": ("modes", "of mixtures with different modes (Figs. 11, 12)"),
    "distance": ("distance of the two modes", "of two-mode mixtures against the distance of their modes"),
    "sigma": ("standard deviation of the modes", "against the width of the modes"),
    "timesteps": ("timesteps $T$", "against T"),
    "respaced": ("sampling steps", "of one model sampled in fewer, respaced steps"),
}


def pictures(config: Config) -> list[Picture]:
    found = [picture for name in FIGURES for picture in (curve(name), densities(name))]
    if config.stream_samples:
        whole = (s for sweep in config.sweeps for s in sweep.settings.values() if not s.steps)
        found += [histogram(config, setting) for setting in dict.fromkeys(whole)]
    return found


# fmt: off
TIERS: dict[str, dict[str, Any]] = {
    "smoke": {
        "model.size": 5_000, "model.noise.timesteps": 300, "model.train.steps": 150, "model.train.batch": 256,
        "train_sizes": (500, 5_000), "mode_sets": ((1.0, 2.0),), "distances": (1.0, 2.0),
        "timestep_counts": (150, 300), "stream_samples": 2000, "points": 512,
    },
    "quick": {},
    "long": {
        "model.train.steps": 6_000, "model.train.batch": 5_000,
        "train_sizes": (1_000, 5_000, 25_000, 50_000, 100_000, 500_000), "epochs": 60,
        "mode_sets": ((1.0, 2.0), (1.0, 2.0, 4.0, 5.0), tuple(float(m) for m in range(1, 9))),
        "distances": (0.5, 1.0, 2.0, 4.0), "sigmas": (0.025, 0.05, 0.1), "equal_noise": (250, 500, 1000), "seeds": 5,
        "more": ("timesteps",), "more_seeds": 15,
    },
    "paper": {
        "model.train.steps": 50_000, "model.train.batch": 10_000, "model.train.decay": "none",
        "train_sizes": (25_000, 50_000, 100_000, 500_000), "seeds": 3, "stream_samples": 100_000_000,
    },
}
# fmt: on
"""What each tier differs in from the quick one, by dotted names."""

STUDY = Study(
    "gaussian-1d-sweeps",
    figures="Figs. 9-12",
    summary="The off-support mass against training size, number, distance and width of modes, and T",
    config=Config,
    tiers=TIERS,
    times={"smoke": "1 min", "quick": "20 min", "long": "~10 h", "paper": "hours, GPU"},
    jobs=jobs,
    measures=(*map(measure_of, FIGURES), gaps),
    claims=claims,
    pictures=pictures,
)
