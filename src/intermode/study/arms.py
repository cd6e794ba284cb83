r"""Recursions (:mod:`intermode.recursion`) as jobs: arms over generations and seeds, and what studies make of them.

A generation is a model, a pool of its samples and a row of measurements. Generation 0 is trained on real data and
shared by all arms of a seed; every later one on data that the arm's selector chose of the pool before::

    model ─▶ pool ─▶ row             generation 0
              └─▶ data ─▶ model ─▶ pool ─▶ row     generation 1 of an arm
                                    └─▶ data ─▶ ...

Networks and noise belong to seed + 1000 generation. An arm that follows a detector of finished samples has its pools
scored by jobs of their own, so that one arm more changes nothing for the others. So are the critical windows of each
generation's model, where an arm looks at these.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol, TypeAlias

import torch

from intermode import plots
from intermode.detect import Detector, describe, watches
from intermode.detect.hal import Hal
from intermode.detect.registry import DETECTORS, Setting, make
from intermode.detect.window import CRITICAL, asks_critical
from intermode.errors import InputError
from intermode.evaluation import Estimate
from intermode.jobs import Job, Running
from intermode.models import provenance_of
from intermode.recursion import CONFORMAL, PER_CLASS, REPAIR, UNSCORED, Data, repaired_pool, select, training_data
from intermode.sampling import Samples, score, scores_of
from intermode.study import Claim, Found, Measured, Missing, Picture, below
from intermode.study.configs import Drawing, Model, check_least
from intermode.study.steps import (
    View,
    check_detectors,
    denoiser_of,
    model_job,
    pool_job,
    pool_of,
    sampled,
    score_job,
    windows_job,
)
from intermode.thresholds import Threshold

__all__ = [
    "Arms",
    "Measure",
    "Quantity",
    "Recursion",
    "at",
    "compared",
    "curves",
    "filter_claims",
    "finished",
    "followed",
    "growth_claims",
    "key",
    "recursion_jobs",
]

ALPHA, UNSEEN = 0.02, 2000
"""Share of real data that a conformal arm may lose, and how many real samples its thresholds are fitted on."""


@dataclass(frozen=True)
class Arms:
    """Which arms are followed, and how far.

    Attributes:
        names: their selectors: all, random, repair, hal or another detector's name; with ``-critical`` behind it in the
            critical windows of each generation's model, with ``-per-class`` as many of each class, or with both; with
            ``-conformal`` what passes a threshold that loses 2 % of real data (see ``ALPHA``).
        generations: the last generation of the arms that select.
        unfiltered_generations: the last generation of the arm all.
        seeds: repetitions, with seeds seed, seed + 1, ...
        extra: samples of a pool beyond those that train a generation, left out by the selectors.
        fresh: share of each generation's training data that is new real data.
        accumulate: train on the data of all earlier generations as well.
    """

    names: tuple[str, ...] = ("all", "random", "hal")
    generations: int = 5
    unfiltered_generations: int = 5
    seeds: int = 1
    extra: int = 0
    fresh: float = 0.0
    accumulate: bool = False

    def __post_init__(self) -> None:
        check_least(self, 1, "generations", "unfiltered_generations", "seeds")
        if self.extra < 0:
            raise InputError(f"extra: {self.extra} must be at least 0; the pool would be smaller than what is kept")
        if not 0 <= self.fresh <= 1:
            raise InputError(f"fresh: {self.fresh} is outside 0..1")
        if not self.names or len(set(self.names)) < len(self.names):
            raise InputError(f"arms: {' '.join(self.names) or 'none'}; name at least one, each once")

    @property
    def unfiltered(self) -> str | None:
        """The arm that shows growth: all, or a random selection, which has the same law; None if there is neither."""
        return next((name for name in ("all", "random") if name in self.names), None)

    def last(self, name: str) -> int:
        """The last generation of an arm."""
        return self.unfiltered_generations if name == "all" else self.generations


@dataclass(frozen=True)
class Recursion:
    """What the configs of recursions have in common.

    Attributes:
        model: of every generation; so many samples train each. If it names a shipped model, every training begins
            with the weights of that.
        drawing: how pools are drawn.
        arms: which are followed.
        window: timesteps of Hal, both ends included.
    """

    model: Model
    drawing: Drawing
    arms: Arms
    window: tuple[int, int]

    def __post_init__(self) -> None:
        check_detectors(self.detectors.values(), self.model, self.drawing.sampler)

    @property
    def seed(self) -> int:
        return self.model.seed

    @property
    def hal(self) -> Detector:
        """Whose scores the arm hal selects by."""
        return Hal(*self.window)

    @property
    def detectors(self) -> dict[str, Detector]:
        """Hal, and the others whose scores the arms select by, as the registry makes them.

        Raises:
            InputError: an arm that is unknown, or cannot be followed with this model.
        """
        target = getattr(self.model.target, "target", None)
        setting = Setting(self.model.shape, target, timesteps=self.model.noise.timesteps)
        found = {"hal": self.hal}
        for arm in self.arms.names:
            name = score_of(arm)
            if arm in (*UNSCORED, REPAIR) or (name == "hal" and arm == name):
                continue
            if name.removesuffix(CRITICAL) not in DETECTORS:
                listed = ", ".join(dict.fromkeys([*UNSCORED, REPAIR, *DETECTORS]))
                raise InputError(f"arms: unknown {arm}; choose from {listed}")
            if arm.endswith(PER_CLASS) and not self.model.classes:
                raise InputError(f"arms: {arm} needs a model that is told classes; choose {name}")
            own = found.setdefault(name, _named(name, setting))
            if arm.endswith(CONFORMAL) and (watches(own) or asks_critical(own) or self.model.classes):
                known = "a detector of finished samples, outside the critical windows, of a model without classes"
                raise InputError(f"arms: {arm}: real data is scored by {known} alone; choose {name}")
        return found


def score_of(arm: str) -> str:
    """The name of the score that an arm selects by."""
    return arm.removesuffix(PER_CLASS).removesuffix(CONFORMAL)


def _named(name: str, setting: Setting) -> Detector:
    """The registry's detector, whose score has the whole name where that ends in ``-critical``."""
    if (own := name.removesuffix(CRITICAL)) == name:
        return make(name, setting)
    detector = make(own, replace(setting, window="critical"))
    if not asks_critical(detector) or watches(detector) or hasattr(detector, "fit"):
        known = ", ".join(f"{one}{CRITICAL}" for one in ("bias", "residual", "lid", "hal-renoise"))
        raise InputError(f"arms: {name} asks no model at timesteps, or watches, or needs data; choose {known}")
    detector.name = name
    return detector


class Measure(Protocol):
    """Measures a pool: a frozen dataclass, since results depend on it."""

    def __call__(self, pool: Samples) -> dict[str, Any]:
        """The numbers of a generation's row, as JSON."""


def key(seed: int, arm: str, generation: int, what: str) -> str:
    """The name of a generation's job: its model, pool, row, data or scores."""
    place = f"{arm}-generation-{generation:02d}" if generation else "generation-00"
    return f"seed-{seed}-{place}-{what}"


_Generation: TypeAlias = tuple[Job, Job]
"""A model and the pool of its samples."""


def recursion_jobs(
    config: Recursion, measure: Measure, *, view: View | None = None, tuned: Model | None = None
) -> dict[str, Job]:
    """Models, pools and rows of all generations of all arms and seeds; see :func:`key`.

    Args:
        config: of the recursion.
        measure: measures pools.
        view: how the chain sees the models; detectors of finished samples see them as they are.
        tuned: of the generations after 0, if their training begins with the weights of generation 0.
    """
    arms, detectors = config.arms, config.detectors
    pool = config.drawing.of(config.model.size + arms.extra)
    watching = [detector for detector in detectors.values() if watches(detector)]
    shipped = model_job("shipped", config.model) if config.model.shipped else None
    jobs: dict[str, Job] = {}

    def generation(seed: int, arm: str, g: int, model: Model, start: Job | None, data: Job | None) -> _Generation:
        model = replace(model, seed=seed + 1000 * g, shipped=None)
        made = model_job(key(seed, arm, g, "model"), model, data, start)
        drawn = pool_job(key(seed, arm, g, "pool"), made, pool, model.seed, watching, view)
        what = {"measure": measure, "classes": model.classes}
        row = Job(key(seed, arm, g, "row"), measure_row, what, {"model": made, "pool": drawn})
        jobs.update({job.name: job for job in (made, drawn, row)})
        return made, drawn

    for seed in range(config.seed, config.seed + arms.seeds):
        first = generation(seed, "", 0, config.model, shipped, None)
        later = (tuned, first[0]) if tuned is not None else (config.model, shipped)
        for arm in arms.names:
            past, own = [first], detectors.get(score_of(arm))
            for g in range(1, arms.last(arm) + 1):
                data = _data_job(arms, replace(config.model, seed=seed), arm, past, own)
                past.append(generation(seed, arm, g, *later, data))
    return jobs


def _data_job(arms: Arms, model: Model, arm: str, past: Sequence[_Generation], own: Detector | None) -> Job:
    """What trains the next generation, selected of the last pool, or of all; the arm's own detector scores them if it
    has not watched."""
    what = {
        "selector": arm,
        "keep": model.size,
        "seed": model.seed,
        "fresh": arms.fresh,
        "accumulate": arms.accumulate,
        "classes": model.classes,
        "real": model if arms.fresh or arms.accumulate else None,
    }
    inputs: dict[str, Job] = {}
    for g in range(0 if arms.accumulate else len(past) - 1, len(past)):
        inputs[f"pool-{g:02d}"] = past[g][1]
        if arm == REPAIR:
            name, seed = key(model.seed, arm, g, "repaired"), model.seed + 1000 * g
            of = dict(zip(("model", "pool"), past[g], strict=True))
            how = {each: past[g][1].config[each] for each in ("sampler", "view", "chunk")}
            inputs[f"repaired-{g:02d}"] = Job(name, repair_pool, {**how, "seed": seed, "classes": model.classes}, of)
        if own is not None and not watches(own):
            name, windows = key(model.seed, arm, g, f"scores-{own.name}"), None
            if asks_critical(own):
                windows = windows_job(key(model.seed, arm, g, "windows"), past[g][0], past[g][1].config["sampler"])
            inputs[f"scores-{g:02d}"] = score_job(name, *past[g], [own], model.seed + 1000 * g, windows)
            if arm.endswith(CONFORMAL):
                name, seen = key(model.seed, arm, g, f"threshold-{own.name}"), round(arms.fresh * model.size)
                asked: dict[str, Any] = {"detector": describe(own), "real": model, "n": UNSEEN, "alpha": ALPHA}
                asked |= {"seen": model.size + arms.last(arm) * seen, "seed": model.seed + 1000 * g}
                judge = Job(name, fit_threshold, asked, {"model": past[g][0]}, given={"detector": own})
                inputs[f"threshold-{g:02d}"] = judge
    return Job(key(model.seed, arm, len(past), "data"), select_data, what, inputs, temporary=True)


def repair_pool(running: Running) -> dict[str, Any]:
    """The pool of a generation, repaired by its model; what that took."""
    config, pool = running.config, pool_of(running.inputs["pool"], running.config["classes"])
    denoiser = sampled(running.inputs["model"], running.device, config["view"])
    how = {name: config[name] for name in ("sampler", "seed", "chunk")}
    done = repaired_pool(pool, denoiser, **how, progress=running.progress)
    running.save({"samples": done.x, "diverged": torch.from_numpy(done.diverged)})
    counts = {name: int(getattr(done, name).sum()) for name in ("touched", "mended", "given_up")}
    return counts | {"evaluations": done.evaluations, "scoring": done.scoring}


def fit_threshold(running: Running) -> dict[str, Any]:
    """The conformal threshold of a generation's model, on real data that trained no generation."""
    config = running.config
    unseen = replace(config["real"], size=config["seen"] + config["n"]).data()[0][config["seen"] :]
    denoiser = denoiser_of(running.inputs["model"], running.device)
    told: dict[str, Any] = {"seed": config["seed"], "device": running.device, "progress": running.progress}
    return Threshold.conformal(score(running.given["detector"], denoiser, unseen, **told), config["alpha"]).record


def select_data(running: Running) -> None:
    """What a generation is trained on: tensors ``x``, and ``labels`` if there are classes."""
    what, past, generation = running.config, [], 0
    for name in sorted(name for name in running.inputs if name.startswith("pool-")):
        pool, generation = pool_of(running.inputs[name], what["classes"]), int(name.removeprefix("pool-")) + 1
        if scored := running.inputs.get(name.replace("pool", "scores")):
            pool = replace(pool, scores={**pool.scores, **scores_of(scored.tensors())})
        if repaired := running.inputs.get(name.replace("pool", "repaired")):
            tensors = repaired.tensors()
            pool = replace(pool, x=tensors["samples"], diverged=tensors["diverged"].numpy())
        fitted = running.inputs.get(name.replace("pool", "threshold"))
        threshold = Threshold(**fitted.facts) if fitted else None
        rows = select(what["selector"], pool, what["keep"], what["seed"], generation, threshold)
        past.append(Data(pool.x, pool.condition.get("class_labels")).take(torch.from_numpy(rows)))

    def real(n: int) -> Data:
        return Data(*replace(what["real"], size=n).data())

    mixed = {name: what[name] for name in ("fresh", "accumulate")}
    data = training_data(past, what["keep"], generation, real, **mixed)
    running.save({"x": data.x} if data.labels is None else {"x": data.x, "labels": data.labels})


def measure_row(running: Running) -> dict[str, Any]:
    """A generation's row."""
    pool = pool_of(running.inputs["pool"], running.config["classes"])
    trained_on = provenance_of(running.inputs["model"].folder / "model")["training_samples"]
    return {"diverged": int(pool.diverged.sum()), "trained_on": trained_on, **running.config["measure"](pool)}


Row: TypeAlias = dict[str, Any]
"""The numbers of a generation."""
Rows: TypeAlias = Sequence[Row]
"""Those of a generation of several seeds."""


def followed(config: Recursion, found: Found) -> dict[str, list[Row]]:
    """The rows of each arm, seed after seed, generation 0 first.

    Raises:
        Missing: one of them is not finished.
    """
    return {arm: _rows(config, found, arm) for arm in config.arms.names}


def finished(config: Recursion, found: Found) -> tuple[dict[str, list[Row]], list[str]]:
    """The rows of the arms that are finished, and a note of each other one: a model may have no critical windows.

    Raises:
        Missing: none is finished.
    """
    series, notes = {}, []
    for arm in config.arms.names:
        try:
            series[arm] = _rows(config, found, arm)
        except Missing as error:
            notes.append(f"{arm} is left out: {error}.")
    if not series:
        raise Missing("; ".join(notes))
    return series, notes


def _rows(config: Recursion, found: Found, arm: str) -> list[Row]:
    return [
        {"generation": g, "seed": seed, **found[key(seed, arm, g, "row")].facts}
        for seed in range(config.seed, config.seed + config.arms.seeds)
        for g in range(config.arms.last(arm) + 1)
    ]


def at(rows: Rows, generation: int) -> list[Row]:
    """Those of a generation, one for each seed."""
    return [row for row in rows if row["generation"] == generation]


@dataclass(frozen=True)
class Quantity:
    """What is measured of generations and compared between arms.

    Attributes:
        name: in the names of values.
        words: in statements.
        mean: of a generation, from its rows.
        ratio: of the rows of one generation to those of another, if they are compared; None where there is none.
    """

    name: str
    words: str
    mean: Callable[[Rows], Estimate]
    ratio: Callable[[Rows, Rows], Estimate | None] | None = None


def compared(
    config: Recursion,
    series: Mapping[str, list[Row]],
    quantities: Sequence[Quantity],
    others: Sequence[str] = ("random",),
) -> Measured:
    """Each quantity of generation 0 and of each arm's last one, its growth, and filters over the ``others``; None of
    arms that have no rows."""
    arms = config.arms

    def mean(q: Quantity, arm: str, g: int) -> Estimate | None:
        return q.mean(at(series[arm], g)) if arm in series else None

    def ratio(q: Quantity, arm: str, g: int, other: str, h: int) -> Estimate | None:
        return q.ratio(at(series[arm], g), at(series[other], h)) if q.ratio and {arm, other} <= series.keys() else None

    measured = Measured({f"{arm}_last_generation": arms.last(arm) for arm in arms.names}, {**series})
    for q in quantities:
        values = {f"generation_0_{q.name}": mean(q, next(iter(series)), 0)}
        for arm in arms.names:
            values[f"{arm}_last_{q.name}"] = mean(q, arm, arms.last(arm))
            if q.ratio is not None and arm == arms.unfiltered:
                values[f"growth_{q.name}"] = ratio(q, arm, 0, arm, arms.last(arm))
            for other in others if arm not in UNSCORED else ():
                if q.ratio is None or other == arm or other not in arms.names:
                    continue
                for g in range(1, arms.generations + 1):
                    values[f"{arm}_over_{other}_{q.name}_{g}"] = ratio(q, arm, g, other, g)
        measured.values |= values
    return measured


def growth_claims(config: Recursion, quantity: Quantity, id: str, paper: str) -> list[Claim]:
    """That it grows without a filter, if there is an arm without one (see :class:`Arms`)."""
    if (arm := config.arms.unfiltered) is None:
        return []
    last = config.arms.last(arm)
    statement = f"Without a filter the {quantity.words} grows: generation 0 over generation {last}, under 1"
    return [Claim(id, f"growth_{quantity.name}", below(1.0), statement, paper)]


def filter_claims(
    config: Recursion,
    quantity: Quantity,
    id: str,
    paper: str,
    *,
    arm: str = "hal",
    over: str = "random",
    does: str = "Filtering by Hal beats random selection",
) -> list[Claim]:
    """That a filter leaves less of something than another arm, generation by generation, if there are both arms."""
    found = []
    for g in range(1, config.arms.generations + 1) if {over, arm} <= set(config.arms.names) else ():
        words = f"{does}: {quantity.words}, {arm} over {over}, generation {g}, under 1"
        found.append(Claim(f"{id}-{g}", f"{arm}_over_{over}_{quantity.name}_{g}", below(1.0), words, paper))
    return found


def curves(name: str, label: str, mean: Callable[[Rows], Estimate], caption: str, *, log_y: bool = False) -> Picture:
    """A picture of a quantity by generation, a line for each arm, of the rows of :func:`compared`."""

    def draw(config: Recursion, found: Found, measured: Measured, path: Path) -> str | None:
        arms = config.arms
        lines: dict[str, plots.Band] = {}
        for arm in (arm for arm in arms.names if arm in measured.series):
            means = [mean(at(measured.series[arm], g)) for g in range(arms.last(arm) + 1)]
            lines[arm] = [m.value for m in means], [m.low for m in means], [m.high for m in means]
        if not lines:
            return None
        generations = range(max(map(arms.last, lines)) + 1)
        plots.curves(path, generations, lines, x_label="generation", y_label=label, log_y=log_y)
        return caption

    return Picture(name, draw)
