r"""Which mitigation works: all of them on the same models, where the truth is known.

A chain whose steps have the form :math:`x_u = c_x x_t + c_0 \hat x_0 + \sigma z` has a law that is carried exactly
(:mod:`intermode.exact`), so that a mass of 1e-6 is measured as well as one of 1e-3; what is done with finished samples,
and chains without noise, are drawn. Beside the mass off the support stands what it costs: network evaluations, time,
samples thrown away, modes that gain or lose weight (their Kullback-Leibler divergence from those of the undisturbed
chain), and modes that become narrow.

Stable targets are another training of the same network, compared with one on drawn noise in as many steps; what they
cost is told by the study ``origin``.

No setting is free of labels unless the method has only one. Each is chosen, among those listed here, on the
well-trained model of the first target of its dimension, as that which leaves least off the support and keeps weights
and widths; there it is told as tuned, and by samples judged on the half that had no say. On all other models nothing is
chosen.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from intermode import plots
from intermode.errors import InputError
from intermode.evaluation import Estimate, ratio_of, ratio_of_shares, ratio_to_share, share
from intermode.jobs import Job
from intermode.mitigate import Jump, Jumps, StochasticTail
from intermode.restart import Restart
from intermode.samplers import DDIM, Ancestral, Sampler
from intermode.studies import mitigation_images
from intermode.studies.causes import learning
from intermode.studies.mitigation_cells import (
    DETECTORS,
    Correction,
    above_job,
    divergence,
    draw_job,
    law_job,
    repair_job,
    resample_job,
    stop_job,
)
from intermode.studies.mitigation_images import Images
from intermode.study import Claim, Found, Measured, Missing, Picture, Study, at_least, below
from intermode.study.configs import LatticeModel, LineModel, Mixture, Model, Training, UnevenMixture, check_least
from intermode.study.steps import model_job
from intermode.targets.lattice import LATTICES

__all__ = ["STUDY", "Config"]

PLAIN, DETERMINISTIC = "ancestral", "DDIM"
BUDGET = 0.02
"""More network evaluations that a cheap mitigation may ask for."""
KL, WIDTH = 1e-3, 0.1
"""How far weights and widths of the modes may be from those of the undisturbed chain."""
REPAIRED, REPAIR_BUDGET = 30, 0.001
"""What a selective repair is claimed to divide the mass by, and what it may ask for after all samples are scored."""
EARLY, LATE = 20, 5
"""Noisiest timesteps at which a denoiser is corrected."""
REFERENCE = 1000
"""Points of the reference batch of stable targets."""
HIGHEST = 40
"""Noisiest timestep to which a chain goes up again."""


@dataclass(frozen=True)
class Variant:
    """A method in one of its settings.

    Attributes:
        method: name of it.
        settings: in words.
        sampler, correction: the chain.
        whole: it differs above the level, too.
        noiseless: some steps add no noise, so that it has to be drawn.
        against: what it is compared with.
        detector, share, restart: of what is done with finished samples.
        stop: timestep at which the ``share`` of the chains that looks worst to the detector is dropped.
        stable: the network is trained anew, in as many steps, on stable targets (:mod:`intermode.training_targets`).
    """

    method: str
    settings: str = ""
    sampler: Sampler = Ancestral()
    correction: Correction | None = None
    whole: bool = False
    noiseless: bool = False
    against: str = PLAIN
    detector: str = ""
    share: float = 1.0
    restart: int | None = None
    stop: int | None = None
    stable: bool = False

    @property
    def key(self) -> str:
        """Its name among jobs."""
        words = f"{self.method} {self.settings}".replace("≥", "")
        return "".join(c if c.isalnum() or c in ".-" else "_" for c in words).strip("_")

    @property
    def drawn(self) -> bool:
        """It is measured by samples, not exactly."""
        return self.noiseless or bool(self.detector)


def corrections() -> Iterator[Variant]:
    def of(method: str, strength: float, until: int | None, kind: str, threshold: float = 0.0) -> Variant:
        bent = f", H ≥ {threshold:g}" if threshold else ""
        words = f"{strength:g}, t ≤ {until}{bent}"
        return Variant(method, words, correction=Correction(kind, strength, until, threshold))

    for until in (LATE, EARLY):
        yield from (of("Laplacian sharpening", strength, until, "sharpened") for strength in (0.25, 0.5, 1.0))
        yield of("intrinsic quenching", 0.3, until, "quenched")
    yield from (of("dynamic guidance, told the modes", scale, EARLY, "guided") for scale in (1.0, 4.0))
    for name, kind in (("RODS (SAS)", "score"), ("RODS (CAS)", "curvature")):
        yield from (of(name, radius, EARLY, kind, bend) for radius, bend in ((0.25, 0.0), (0.5, 0.5)))
    yield Variant("clipping", "5σ beyond the modes", correction=Correction("clipped"))


def chains(timesteps: int) -> Iterator[Variant]:
    yield Variant("posterior variance", sampler=Ancestral("small"), whole=True)
    for part in (2, 4):
        yield Variant("fewer steps", f"T / {part}", Ancestral(steps=timesteps // part), whole=True)
    for length, samples, end in ((2, 4, 13), (5, 4, 21), (10, 4, HIGHEST + 1)):
        words = f"j = {length}, r = {samples}, t < {end}"
        yield Variant("RePaint's jumps", words, Jumps.repaint(length, samples, end))
    for low, high, times in ((1, 5, 4), (2, 6, 4)):
        words = f"{low} to {high}, {times} times"
        yield Variant("Restart sampling, ancestral", words, Jumps((Jump(low, high, times),)))
    for k, passes in ((1, 10), (2, 6), (3, 4), (3, 5), (4, 4), (5, 3)):
        yield Variant("late restart", f"k = {k}, {passes} passes", Restart(level=k, passes=passes))


def deterministic() -> Iterator[Variant]:
    def of(method: str, settings: str, sampler: Sampler, against: str = DETERMINISTIC) -> Variant:
        return Variant(method, settings, sampler, whole=True, noiseless=True, against=against)

    yield of(DETERMINISTIC, "", DDIM(), PLAIN)
    for low, high, times in ((1, 5, 4), (5, 20, 3)):
        yield of("Restart sampling", f"{low} to {high}, {times} times", Jumps((Jump(low, high, times),), DDIM()))
    for level, length in ((15, 8), (15, None)):
        words = f"τ = {level}, z = {'all' if length is None else length}"
        yield of("stochastic tail", words, StochasticTail(level, length))


def finished() -> Iterator[Variant]:
    for detector in ("hal", "residual", "lid"):
        for kept in (0.98, 0.9):
            yield Variant(f"resample by {detector}", f"{kept:.0%} kept", detector=detector, share=kept)
    for detector in ("residual", "lid"):
        for flagged in (0.02, 0.005):
            words = f"{100 * flagged:g} % flagged, k = 3"
            yield Variant(f"selective repair by {detector}", words, detector=detector, share=flagged, restart=3)
    for t in (3, 10):
        yield Variant("early stop by lid", f"2 % stopped at t = {t}", detector="lid", share=0.02, stop=t)


def every(timesteps: int) -> list[Variant]:
    """All variants for a schedule, the undisturbed chain first."""
    retrained = Variant("stable-target training", f"mean over {REFERENCE:,} points", whole=True, stable=True)
    return [Variant(PLAIN), *corrections(), *chains(timesteps), *deterministic(), *finished(), retrained]


METHODS = tuple(dict.fromkeys(variant.method for variant in every(1000)))
RIVALS = (
    *("Laplacian sharpening", "intrinsic quenching", "RODS (SAS)", "RODS (CAS)", "RePaint's jumps"),
    "Restart sampling, ancestral",
)
"""Published mitigations that throw nothing away and are not told where the modes are, as far as they are exact."""


@dataclass(frozen=True)
class Config:
    """Settings of ``mitigations``.

    Attributes:
        line: model of the mixture that settings are chosen on in 1-D.
        other_line, uneven_line: models of mixtures that they are not chosen on; the second has modes of other weights.
        lattice: model of a lattice; those of the other kinds differ from it in their target alone.
        lattices: kinds of lattices; settings are chosen on the first.
        line_methods, uneven_methods, lattice_methods: that are measured; all if there are none.
        under_line, under_lattice: optimiser steps of the undertrained models.
        level: timestep up to which nothing but whole chains differs.
        samples: drawn of each model for what is not exact.
        images: models of images, and what is measured of them.
        seed: of the samples.
    """

    line: LineModel = LineModel(shipped="gaussian-1d")
    other_line: LineModel = LineModel(target=Mixture((1.0, 2.0, 4.0)))
    uneven_line: LineModel = LineModel(target=UnevenMixture((-1.0, 0.5, 2.0, 3.5), weights=(0.4, 0.1, 0.3, 0.2)))
    lattice: LatticeModel = LatticeModel(shipped="grid")
    lattices: tuple[str, ...] = ("grid",)
    line_methods: tuple[str, ...] = ()
    uneven_methods: tuple[str, ...] = (
        *("Laplacian sharpening", "RePaint's jumps", "Restart sampling, ancestral", "late restart", "clipping"),
        *("resample by lid", "resample by hal", "selective repair by residual", "selective repair by lid"),
        *("early stop by lid", "stable-target training"),
    )
    lattice_methods: tuple[str, ...] = (
        *("Laplacian sharpening", "RODS (CAS)", "RePaint's jumps", "Restart sampling, ancestral", "late restart"),
        *("resample by residual", "resample by hal", "selective repair by residual", "selective repair by lid"),
        "early stop by lid",
    )
    under_line: int = 400
    under_lattice: int = 3000
    level: int = 40
    samples: int = 200_000
    images: Images = Images(methods=tuple(m for m in mitigation_images.METHODS if not m.endswith(" steps")))
    seed: int = 0

    def __post_init__(self) -> None:
        check_least(self, 1, "under_line", "under_lattice", "samples")
        if unknown := set(self.lattices) - set(LATTICES):
            raise InputError(f"lattices: unknown {min(unknown)!r}; choose from {', '.join(LATTICES)}")
        for name in ("line_methods", "uneven_methods", "lattice_methods"):
            if unknown := set(getattr(self, name)) - set(METHODS):
                raise InputError(f"{name}: unknown {min(unknown)!r}; choose from {', '.join(METHODS)}")
        least = min(model.noise.timesteps for model in (self.line, self.other_line, self.uneven_line, self.lattice))
        if not HIGHEST <= self.level < least - 1:
            raise InputError(f"level: {self.level} must lie in {HIGHEST}..{least - 2}")


@dataclass(frozen=True)
class Subject:
    """A model of a target.

    Attributes:
        target: its name.
        trained: well or under.
        model: it.
        chooses: settings are chosen on it.
    """

    target: str
    trained: str
    model: Model
    chooses: bool = False

    @property
    def key(self) -> str:
        """Its name among jobs and values."""
        return f"{self.target}-{self.trained}"


def subjects(config: Config) -> list[Subject]:
    """All models, those that choose first."""
    targets: list[tuple[str, Model, int, bool]] = [
        ("1d", config.line, config.under_line, True),
        ("1d-other", config.other_line, config.under_line, False),
        ("1d-uneven", config.uneven_line, config.under_line, False),
    ]
    for k, name in enumerate(config.lattices):
        kind: Any = name
        lattice = replace(config.lattice.target, kind=kind)
        known = replace(config.lattice, target=lattice, shipped=config.lattice.shipped and kind)
        targets.append((f"2d-{name}" if k else "2d", known, config.under_lattice, k == 0))
    found = [Subject(name, "well", model, chooses) for name, model, _, chooses in targets]
    for name, model, steps, _ in targets:
        training = Training(steps=steps, batch=min(model.train.batch, 1000))
        found.append(Subject(name, "under", replace(model, shipped=None, size=min(model.size, 50_000), train=training)))
    return found


def variants(config: Config, subject: Subject) -> list[Variant]:
    """That are measured on a model."""
    known = every(subject.model.noise.timesteps)
    of_a_kind = {"1d-uneven": config.uneven_methods, "1d": config.line_methods, "1d-other": config.line_methods}
    asked = of_a_kind.get(subject.target, config.lattice_methods) or METHODS
    wanted = {name for variant in known if variant.method in asked for name in (variant.method, variant.against)}
    # a shipped model was trained in other steps, and stable targets are trained in 1-D alone
    trained = isinstance(subject.model, LineModel) and subject.model.shipped is None
    return [variant for variant in known if variant.method in wanted and (trained or not variant.stable)]


def jobs(config: Config) -> dict[str, Job]:
    found: dict[str, Job] = {}
    for subject in subjects(config):
        found |= jobs_of(config, subject)
    for how in config.images.models:
        found |= mitigation_images.jobs_of(config.images, how, config.seed)
    return found


def jobs_of(config: Config, subject: Subject) -> dict[str, Job]:
    """A model, what comes down to the level, and a job for each variant."""
    key, seed, n = subject.key, config.seed, config.samples
    model = model_job(f"model-{key}", subject.model)
    law, pool = (
        above_job(f"above-{key}-{how}", model, config.level, k, seed) for how, k in (("law", None), ("pool", n))
    )
    found = {model.name: model}

    def drawn(variant: Variant, hal: bool) -> Job:
        above = None if variant.whole else pool
        name = f"{key}-{variant.key}-drawn"
        how = variant.sampler, variant.correction, config.level, above
        return draw_job(name, model, *how, n=n, seed=seed, hal=hal)

    plain = drawn(Variant(PLAIN), True)
    for variant in variants(config, subject):
        name, above = f"{key}-{variant.key}", None if variant.whole else law
        if variant.stop is not None:
            found[name] = stop_job(name, model, variant.detector, variant.share, variant.stop, n, seed)
        elif variant.restart is not None:
            found[name] = repair_job(name, model, plain, variant.detector, variant.share, variant.restart, seed)
        elif variant.detector:
            found[name] = resample_job(name, model, plain, variant.detector, variant.share, seed)
        elif variant.noiseless:
            found[name] = drawn(variant, False)
        elif variant.stable:
            assert isinstance(subject.model, LineModel)
            again = model_job(f"model-{key}-stable", learning("stable", subject.model, REFERENCE))
            found |= {again.name: again}
            found[name] = law_job(name, again, variant.sampler, None, config.level, None)
        else:
            found[name] = law_job(name, model, variant.sampler, variant.correction, config.level, above)
    if any(variant.drawn for variant in variants(config, subject)):
        found[plain.name] = plain
    return found


# what was found


@dataclass(frozen=True)
class Outcome:
    """What a variant makes of a model, beside the chain that it is compared with.

    Attributes:
        variant: which.
        before, after: mass off the support.
        before_between, after_between: the part of it between the modes.
        ratio, between_ratio: before over after; None where nothing is left of an exact one.
        divergence: of the weights of the modes from those before.
        width: of the modes, root mean square over them, over the data's.
        width_change: of that mode whose width changes most, over the width before.
        cost: more_evaluations, more_time, thrown_away.
    """

    variant: Variant
    before: Estimate
    after: Estimate
    before_between: Estimate
    after_between: Estimate
    ratio: Estimate | None
    between_ratio: Estimate | None
    divergence: Estimate
    width: float
    width_change: Estimate
    cost: dict[str, float]

    @property
    def keeps(self) -> bool:
        """Weights and widths of the modes."""
        return self.divergence.value <= KL and abs(self.width_change.value) <= WIDTH


def change(after: Sequence[float], before: Sequence[float]) -> float:
    """The largest relative one, of modes that were there."""
    a, b = np.array(after), np.array(before)
    relative = (a[b > 0] / b[b > 0]) - 1
    return float(relative[np.abs(relative).argmax()])


def outcome(config: Config, found: Found, subject: Subject, variant: Variant, part: str = "all") -> Outcome:
    """Of a part of the samples, where it was drawn: all, choose or judge."""
    facts = found[f"{subject.key}-{variant.key}"].facts
    drawn = variant.drawn and variant.against == PLAIN
    before = found[f"{subject.key}-{variant.against}" + ("-drawn" if drawn else "")].facts
    cost = {name: round(facts.get(name, 0.0), 9) for name in ("more_evaluations", "more_time", "thrown_away")}
    if variant.drawn:
        here, there = facts[part], before[part]
        # what is mended of the undisturbed chain's samples is compared with its mass, which is known exactly
        exact = found[f"{subject.key}-{PLAIN}"].facts if drawn else None
        pairs: dict[str, tuple[Estimate, Estimate, Estimate | None]] = {}
        for name in ("value", "between"):
            counts = [(round(each[name] * n["n"][part]), n["n"][part]) for each, n in ((there, before), (here, facts))]
            if exact is None:
                pairs[name] = share(*counts[0]), share(*counts[1]), ratio_of_shares(*counts)
            else:
                mass = between_grids(exact["all"][name], exact["coarser"][name])
                pairs[name] = mass, share(*counts[1]), ratio_to_share(mass, counts[1]) if mass.low > 0 else None
        said = [
            Estimate(v, v, v)
            for v in (divergence(here["weights"], there["weights"]), change(here["widths"], there["widths"]))
        ]
    else:
        here, there = facts["all"], before["all"]
        grids = [(here, there), (facts["coarser"], before["coarser"])]
        pairs = {name: exact_pair(name, *grids) for name in ("value", "between")}
        said = [
            between_grids(*(of(a[name], b[name]) for a, b in grids))
            for of, name in ((divergence, "weights"), (change, "widths"))
        ]
    width = float(np.sqrt(np.average(np.square(here["widths"]), weights=here["weights"])))
    (b, a, ratio), (bb, ab, between) = pairs["value"], pairs["between"]
    return Outcome(variant, b, a, bb, ab, ratio, between, said[0], width, said[1], cost)


def between_grids(fine: float, coarse: float) -> Estimate:
    """A value with the difference of two grids as its error."""
    error = abs(fine - coarse)
    return Estimate(fine, fine - error, fine + error, method="two grids")


def exact_pair(name: str, fine: Any, coarse: Any) -> tuple[Estimate, Estimate, Estimate | None]:
    """A mass before and after, and their ratio."""
    after, before = (between_grids(f[name], c[name]) for f, c in zip(fine, coarse, strict=True))
    floor = [replace(each, low=max(each.low, 0.0)) for each in (before, after)]
    return floor[0], floor[1], ratio_of(before, after) if min(before.value, after.value) > 0 else None


def outcomes(config: Config, found: Found, subject: Subject, part: str = "all") -> dict[str, Outcome]:
    """Of all variants that are there, by their keys."""
    seen = {}
    for variant in variants(config, subject):
        try:
            seen[variant.key] = outcome(config, found, subject, variant, part)
        except Missing:
            continue
    return seen


def chosen(config: Config, found: Found, subject: Subject) -> dict[str, Variant]:
    """Of each method the settings that leave least off the support, if some keep weights and widths among those; the
    best method first."""
    best: dict[str, Variant] = {}
    found_here = outcomes(config, found, subject, "choose").values()
    for seen in sorted(found_here, key=lambda each: (not each.keeps, each.after.value)):
        best.setdefault(seen.variant.method, seen.variant)
    return best


def leaderboard(config: Config, found: Found) -> Measured:
    """The rows of all models."""
    measured = Measured(dict.fromkeys(claim.measure for claim in claims(config)))
    tuned: dict[tuple[int, ...], dict[str, Variant]] = {}
    for subject in subjects(config):
        if subject.chooses:
            tuned[subject.model.shape] = chosen(config, found, subject)
        if missing := measure(config, found, subject, tuned[subject.model.shape], measured):
            measured.notes.append(f"{subject.key}: {missing} settings are not measured yet.")
    mitigation_images.measure(config.images, found, measured)
    return measured


def measure(config: Config, found: Found, subject: Subject, tuned: dict[str, Variant], measured: Measured) -> int:
    """A row for each method on a model, all its settings as a series, and what is claimed of a well-trained one.

    Returns:
        how many settings are missing.
    """
    seen, every_one = outcomes(config, found, subject), variants(config, subject)
    measured.series[subject.key] = [point_of(each) for each in seen.values()]
    methods = [variant.method for variant in every_one]
    rows = []
    # what the model that chooses does not have has one setting
    for method, variant in (tuned | {v.method: v for v in every_one if v.method not in tuned}).items():
        several = methods.count(method) > 1
        judged = several and subject.chooses and variant.drawn
        where = ("here" if subject.chooses else "on another model") if several else "no"
        if variant.key in seen:
            if judged:
                seen[variant.key] = outcome(config, found, subject, variant, "judge")
            rows.append(row_of(config, subject, seen[variant.key], where, judged))
    measured.rows += sorted(rows, key=lambda row: row["after"])
    if subject.trained == "well":
        measured.values |= values_of(subject, seen, {m: v for m, v in tuned.items() if v.key in seen})
    return len(every_one) - len(seen)


def row_of(config: Config, subject: Subject, seen: Outcome, tuned: str, judged: bool) -> dict[str, Any]:
    """As it stands in the table; ``judged`` on half of the samples."""
    variant, n = seen.variant, config.samples // (2 if judged else 1)
    row: dict[str, Any] = {
        "target": subject.model.target.words,
        "model": subject.trained,
        "method": variant.method,
        "settings": variant.settings,
        "tuned": tuned,
        "measured": f"{n:,} samples" if variant.drawn else "exactly",
    }
    for name in ("before", "after", "before_between", "after_between", "ratio", "between_ratio"):
        triple = each.triple if (each := getattr(seen, name)) is not None else (None,) * 3
        row.update(zip((name, f"{name}_low", f"{name}_high"), triple, strict=True))
    row |= {"divergence": seen.divergence.value, "width": seen.width, "width_change": seen.width_change.value}
    return {**row, **seen.cost}


def point_of(seen: Outcome) -> dict[str, Any]:
    """As it stands in the figure."""
    told = {"method": seen.variant.method, "settings": seen.variant.settings, "off_support": seen.after.triple}
    return {**told, "between": seen.after_between.triple, "keeps": seen.keeps, **seen.cost}


def values_of(subject: Subject, seen: Mapping[str, Outcome], tuned: Mapping[str, Variant]) -> dict[str, Any]:
    """What is claimed of restarts and repairs, and what the best published mitigation leaves over a restart."""
    name = subject.target.replace("-", "_")
    values: dict[str, Any] = {}
    for variant in tuned.values():
        if variant.restart is not None:
            words = f"repair_{variant.detector}_{name}"
            more = seen[variant.key].cost["more_evaluations"]
            values |= {f"{words}_ratio": seen[variant.key].ratio, f"{words}_evaluations": more}
            if f"repair_{name}_ratio" not in values:  # the first was the best where it was chosen
                look = DETECTORS[variant.detector].nfe / subject.model.noise.timesteps
                values[f"repair_{name}_ratio"] = seen[variant.key].ratio
                values[f"repair_{name}_evaluations"] = Estimate(*(3 * (more - look,)), method="counted")
    if "late restart" not in tuned:
        return values
    restart = seen[tuned["late restart"].key]
    counted = restart.cost["more_evaluations"]
    values |= {
        f"restart_{name}_ratio": restart.between_ratio,
        f"restart_{name}_evaluations": Estimate(counted, counted, counted, method="counted"),
        f"restart_{name}_kl": restart.divergence,
        f"restart_{name}_width": widest(restart.width_change),
    }
    restarts = [each for each in seen.values() if each.variant.method == "late restart"]
    least = min(restarts, key=lambda each: each.after_between.value)
    values |= {
        f"restart_{name}_least_ratio": least.between_ratio,
        f"restart_{name}_least_width": widest(least.width_change),
    }
    rivals = [each for each in seen.values() if each.variant.method in RIVALS and each.keeps]
    left = [each.after_between for each in rivals if each.cost["more_evaluations"] <= BUDGET]
    best = min(left, key=lambda each: each.value, default=None)
    if best is not None and min(best.value, restart.after_between.value) > 0:
        values[f"published_over_restart_{name}"] = ratio_of(best, restart.after_between)
    return values


def widest(change: Estimate) -> Estimate:
    """The size of a change, with its interval."""
    ends = sorted(map(abs, (change.low, change.high)))
    return replace(change, value=abs(change.value), low=0.0 if change.low < 0 < change.high else ends[0], high=ends[1])


def claims(config: Config) -> list[Claim]:
    found = []
    for subject in subjects(config):
        if subject.trained != "well":
            continue
        name, words = subject.target.replace("-", "_"), subject.model.target.words
        least = 100 if subject.model.shape == (1,) else 50
        half = 0.5 / subject.model.noise.timesteps  # of an evaluation: they are whole
        restart, narrow = f"{words}: a late restart", f"{words}: one that may narrow the modes more"
        rows = [
            ("least-ratio", at_least(least), f"{narrow} leaves the mass between them at least {least} times less"),
            ("ratio", at_least(least), f"{restart} leaves the mass between the modes at least {least} times less"),
            ("evaluations", below(BUDGET + half), f"{restart} asks for at most {BUDGET:.0%} more network evaluations"),
            ("kl", below(KL), f"{restart} keeps the weights of the modes: their divergence, under {KL:g}"),
            ("width", below(WIDTH), f"{restart} keeps the widths of the modes: largest change, under {WIDTH:.0%}"),
        ]
        for end, bound, said in rows:
            found.append(
                Claim(f"{subject.target}-restart-{end}", f"restart_{name}_{end.replace('-', '_')}", bound, said, "–")
            )
        repair = f"{words}: selective repair by the detector that is best on the first target"
        limit = f"after its one look at every sample, it asks for under {REPAIR_BUDGET:.1%} more network evaluations"
        found += [
            Claim(
                f"{subject.target}-repair-ratio",
                f"repair_{name}_ratio",
                at_least(REPAIRED),
                f"{repair} leaves at least {REPAIRED} times less off the support",
                "–",
            ),
            Claim(
                f"{subject.target}-repair-evaluations",
                f"repair_{name}_evaluations",
                below(REPAIR_BUDGET),
                f"{repair}: {limit}",
                "–",
            ),
        ]
        rival = (
            f"{words}: no published mitigation that is not told the modes, and keeps their weights and widths, leaves "
            f"less between them at up to {BUDGET:.0%} more evaluations: least of theirs over a restart's, at least 1"
        )
        found.append(Claim(f"{subject.target}-rivals", f"published_over_restart_{name}", at_least(1.0), rival, "–"))
    return found + mitigation_images.claims(config.images)


def pareto(others: bool) -> Picture:
    """The front of the models on which settings are chosen, or of all others."""

    def draw(config: Config, found: Found, measured: Measured, path: Path) -> str | None:
        models = [
            (subject.key, f"{subject.model.target.words.split(' of ')[0]}, {subject.trained} trained", subject.chooses)
            for subject in subjects(config)
        ]
        models += [(f"shapes-{how}", f"images of shapes, {how} trained", how == "well") for how in config.images.models]
        panels = {
            title: measured.series[key]
            for key, title, chooses in models
            if chooses != others and measured.series.get(key)
        }
        if not panels:
            return None
        plots.pareto(path, panels, PLAIN, "resample", (*METHODS, *mitigation_images.METHODS))
        which = "models on which nothing is chosen" if others else "models on which settings are chosen"
        return (
            f"What is off the support against what it costs in network evaluations, for every setting, on {which}: the "
            "lower left is best. Dashed: the undisturbed chain and, through its points, drawing again what a detector "
            "flags. Hollow: the weights or the widths of the modes change too much; of images, the number of shapes."
        )

    return Picture("pareto-others" if others else "pareto", draw)


def repaired(config: Config, found: Found, measured: Measured, path: Path) -> str | None:
    return mitigation_images.repaired(config.images, found, measured, path)


# fmt: off
SMALL = {"noise.timesteps": 60, "size": 2000, "train.steps": 60, "train.batch": 200}
SMALL_IMAGES = {
    "shipped": None, "size": 64, "noise.timesteps": 40, "network.patch": 8, "network.channels": (32,),
    "network.attention": (), "train.steps": 20, "train.batch": 8,
}
TIERS: dict[str, dict[str, Any]] = {
    "smoke": {
        **{f"{of}.{name}": value for of in ("line", "other_line", "uneven_line", "lattice") for name, value in
           SMALL.items()},
        "line.shipped": None, "lattice.shipped": None, "lattice.target.side": 2, "under_line": 20,
        "under_lattice": 20, "samples": 2000,
        "line_methods": (
            *("Laplacian sharpening", "late restart", "stochastic tail", "resample by hal"),
            *("selective repair by residual", "early stop by lid", "stable-target training"),
        ),
        "uneven_methods": ("late restart",),
        "lattice_methods": ("late restart", "selective repair by residual"),
        **{f"images.shapes.{name}": value for name, value in SMALL_IMAGES.items()},
        "images.methods": (), "images.under": 5, "images.pool.steps": 20, "images.pool.n": 24, "images.pool.chunk": 8,
    },
    "quick": {},
    "long": {
        "lattices": ("grid", "diamond"), "lattice_methods": (), "other_line.train.steps": 20_000,
        "uneven_line.train.steps": 20_000, "uneven_methods": (), "samples": 1_000_000, "images.pool.n": 12_288,
        "images.methods": (),
    },
}
# fmt: on
"""What each tier differs in from the quick one, by dotted names."""

STUDY = Study(
    "mitigations",
    figures="–",
    summary="Which mitigation works: all of them on the same models, where the truth is known",
    config=Config,
    tiers=TIERS,
    times={"smoke": "2 min", "quick": "2 h", "long": "~9 h"},
    jobs=jobs,
    measures=(leaderboard,),
    claims=claims,
    pictures=lambda config: [pareto(others=False), pareto(others=True), Picture("shapes-repaired", repaired)],
)
