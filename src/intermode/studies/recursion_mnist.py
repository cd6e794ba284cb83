r"""Collapse on real digits, where nobody can label a hallucination (paper: section 6 and A.3; Figs. 8c, 13).

A class-conditional model, sampled with classifier-free guidance, is trained on its own digits. Every finished digit
is scored afterwards: noised to 10 timesteps in t = 100..150, predicted again, the variance of the ten predictions
(:class:`intermode.detect.hal.HalRenoise`; by the conditional model, without guidance). Arms: ``random``, ``hal`` (the
lowest scores of all), ``hal-per-class`` (of each class, since one threshold for all can starve a class), ``white`` (the
least ink), ``bias-critical`` (the bias in the critical windows of each generation's model) and ``all``.

Measured of every pool, on features of a LeNet trained on MNIST: the Fréchet distance from the real training digits,
improved precision and recall, density and coverage; the share of digits that the LeNet takes for the class they were
drawn as; and the accuracy on real test digits of a LeNet that was trained on the pool, which is what collapse costs
whoever trains on generated data.

What selecting alone does, before any training on what is kept, is measured of generation 0's pool: which digits are
kept; how many of each class, with one threshold for all and with one for each (paper: Fig. 13); and whether they lie
nearer to real digits than random selections of as many do, for several windows of Hal. And how far Hal goes with the
ink of a digit, which says more of its class than of its quality: their rank correlation, over all and within classes.

The quick tier is a smaller problem: a narrow network, 2,500 digits, two generations; and from the first generation
on, training goes on from the weights of generation 0 for ``tuning_steps``. The long tier's network is the convolutional
one of :mod:`intermode.networks.local`, on patches of 4 by 4 and with attention, which draws four times as many digits
in a second as a U-Net on patches of 2 by 2.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np
import torch
from torch import Tensor

from intermode import plots
from intermode.classifier import ClassifierConfig, accuracy, classify, features, fit, load_classifier
from intermode.correlation import rank_correlation
from intermode.detect import Detector
from intermode.detect.hal import HalRenoise
from intermode.detect.white import white
from intermode.distances import frechet, neighbourhoods
from intermode.errors import InputError
from intermode.evaluation import Estimate, over_seeds, ratio_of, ratio_over_seeds, share
from intermode.jobs import Done, Job, Running
from intermode.noise import draws
from intermode.recursion import select
from intermode.sampling import Samples, scores_of
from intermode.study import Claim, Found, Measured, Picture, Study, below
from intermode.study.arms import (
    Arms,
    Quantity,
    Recursion,
    Rows,
    compared,
    curves,
    filter_claims,
    finished,
    key,
    recursion_jobs,
)
from intermode.study.configs import Drawing, ImageModel, LinearNoise, LocalConv, Training, UNet, check_least
from intermode.study.steps import Guided, pool_of, score_job
from intermode.targets.digits import CLASSES, SIZE, Digits, Split, load
from intermode.targets.drawn_digits import drawn
from intermode.targets.fetch import cache_folder

__all__ = ["MEASURES", "STUDY", "Config", "DigitsModel", "Judge", "Source"]

MEASURES = {
    "fid": "Fréchet distance from real digits",
    "precision": "precision",
    "recall": "recall",
    "density": "density",
    "coverage": "coverage",
    "as_asked": "share taken for the class asked for",
    "usefulness": "test accuracy of a LeNet trained on the pool",
}
"""What is measured of a pool, and what it is called; the first is better when smaller, the others when larger."""
SELECTORS = {"hal": "one threshold for all classes", "hal-per-class": "one for each class"}
"""Whose effect on generation 0's pool is looked at."""
WINDOWS = ((0.0, 0.1), (0.1, 0.2), (0.2, 0.3), (0.4, 0.5), (0.6, 0.7))
"""Of Hal, in shares of T, that are compared there; the third is the paper's."""
PICKS = 40
"""Random selections that a filter's is compared with."""
SHOWN = 40
"""Digits of a panel."""


@dataclass(frozen=True)
class Source:
    """Real digits.

    Attributes:
        kind: mnist, fashion-mnist, or drawn: a stand-in that is made here.
        folder: with the four idx files; unless given, where ``intermode data`` puts them.
        drawn: digits of each split, where they are drawn.
    """

    kind: Literal["mnist", "fashion-mnist", "drawn"] = "mnist"
    folder: Path | None = None
    drawn: int = 10_000

    def digits(self, split: Split) -> Digits:
        """The digits of a split.

        Raises:
            InputError: files that are missing or not what they should be.
        """
        if self.kind == "drawn":
            return drawn(self.drawn, 0 if split == "train" else 1)
        try:
            return load(self.folder or cache_folder(self.kind), split)
        except InputError as error:
            hint = "" if self.folder else f"; intermode data {self.kind} fetches it"
            raise InputError(f"{error}{hint}") from None

    @property
    def words(self) -> str:
        return self.kind


@dataclass(frozen=True)
class DigitsModel(ImageModel):
    """A model of digits that is told their classes."""

    classes: ClassVar[int] = CLASSES
    size: int = 2500
    target: Source = Source()
    noise: LinearNoise = LinearNoise(500, 1e-4, 0.02)  # as for MNIST in the public code that the paper's model follows
    network: UNet = UNet(2, (32, 64), attention=(1,))
    train: Training = Training(2000, 32, ema=0.999)

    @property
    def shape(self) -> tuple[int, ...]:
        return (1, SIZE, SIZE)

    def data(self) -> tuple[Tensor, Tensor | None]:
        digits = self.target.digits("train")
        if self.size > len(digits):
            raise InputError(f"data: {self.size} real digits are asked for, there are {len(digits)}")
        chosen = digits.take(draws(self.seed, "data").permutation(len(digits))[: self.size])
        return chosen.x, chosen.y


@dataclass(frozen=True)
class Config(Recursion):
    """Settings of ``recursion-mnist``.

    Attributes:
        window: timesteps to which digits are noised, both ends included.
        count: how many of them.
        guidance: strength w; 1 is the conditional model alone.
        tuning_steps: optimiser steps of generations after 0, from its weights; 0 trains each from scratch.
        reference: real digits that pools are compared with.
        classifier_epochs: of the LeNet that is trained on a pool.
    """

    model: DigitsModel = DigitsModel()
    drawing: Drawing = Drawing("small", 25, 64)
    arms: Arms = Arms(("random", "hal"), generations=2, unfiltered_generations=2, extra=500)
    window: tuple[int, int] = (100, 150)
    count: int = 10
    guidance: float = 1.5
    tuning_steps: int = 400
    reference: int = 10_000
    classifier_epochs: int = 5

    def __post_init__(self) -> None:
        super().__post_init__()
        check_least(self, 1, "reference", "classifier_epochs")
        check_least(self, 0, "tuning_steps")

    @property
    def hal(self) -> Detector:
        return HalRenoise(*self.window, self.count, name="hal")

    @property
    def windows(self) -> list[tuple[int, int]]:
        """The windows that are compared, the lowest first."""
        T = self.model.noise.timesteps
        return sorted({self.window, *((round(low * T), round(high * T)) for low, high in WINDOWS)})


def named(window: tuple[int, int]) -> str:
    """What a window is called."""
    return "t = {}..{}".format(*window)


@dataclass(frozen=True)
class Judge:
    """Compares digits with real ones.

    Attributes:
        source: of the real ones.
        reference: how many of them.
        epochs, seed: of the LeNet that is trained on a pool.
    """

    source: Source
    reference: int
    epochs: int
    seed: int

    def features(self) -> np.ndarray:
        """Of the real digits."""
        return features(load_classifier(), self.source.digits("train").take(slice(self.reference)).images)

    def __call__(self, pool: Samples) -> dict[str, Any]:
        lenet, usable = load_classifier(), torch.from_numpy(~pool.diverged)
        x, asked = pool.x[usable], pool.condition["class_labels"][usable].numpy()
        known, found = self.features(), features(lenet, x)
        classes = classify(lenet, x)
        measured = {"fid": frechet(known, found), **vars(neighbourhoods(known, found))}
        measured["as_asked"] = share(int((classes == asked).sum()), len(classes))
        images = ((x[:, 0].clamp(-1, 1) + 1) * 127.5).round().to(torch.uint8).numpy()
        trained = fit(Digits(images, asked), ClassifierConfig(epochs=self.epochs, seed=self.seed))
        measured["usefulness"] = accuracy(trained, self.source.digits("test"))
        row = {name: asdict(estimate) for name, estimate in measured.items()}
        return {"samples": len(pool.x), **row, "classes": np.bincount(classes, minlength=CLASSES).tolist()}


def jobs(config: Config) -> dict[str, Job]:
    model, source = config.model, config.model.target
    available = len(source.digits("train"))
    _ = source.digits("test")
    if max(model.size, config.reference) > available:
        raise InputError(f"model.size and reference: {model.size} and {config.reference} of {available} real digits")
    tuned = replace(model, train=replace(model.train, steps=config.tuning_steps)) if config.tuning_steps else None
    judge = Judge(source, config.reference, config.classifier_epochs, config.seed)
    found = recursion_jobs(config, judge, view=Guided(config.guidance), tuned=tuned)
    first, pool = (found[key(config.seed, "", 0, what)] for what in ("model", "pool"))
    others = [HalRenoise(*w, min(config.count, w[1] - w[0] + 1), name=named(w)) for w in config.windows]
    scores = score_job("windows", first, pool, others, config.seed)
    asked = {"judge": judge, "keep": model.size, "seed": config.seed}
    what = {**asked, "window": config.window, "windows": config.windows}
    both = {"pool": pool, "scores": scores}
    ink = Job("ink", correlate, {"window": config.window, "seed": config.seed}, both)
    return {**found, "windows": scores, "selection": Job("selection", analyse, what, both), "ink": ink}


def usable(pool: Done, scores: Done) -> Samples:
    """Generation 0's pool without what diverged, with the scores of all windows."""
    found = pool_of(pool, CLASSES)
    kept = ~found.diverged
    rows = torch.from_numpy(kept)
    by_window = {name: values[kept] for name, values in scores_of(scores.tensors()).items()}
    condition = {"class_labels": found.condition["class_labels"][rows]}
    return Samples(found.x[rows], by_window, found.diverged[kept], 0.0, condition=condition)


def analyse(running: Running) -> dict[str, Any]:
    """What selecting alone does to generation 0's pool."""
    what, pool = running.config, usable(running.inputs["pool"], running.inputs["scores"])
    known, found = what["judge"].features(), features(load_classifier(), pool.x)
    labels = pool.condition["class_labels"]

    def kept(selector: str, window: tuple[int, int]) -> np.ndarray:
        return select(selector.replace("hal", named(window)), pool, what["keep"], what["seed"], 1)

    classes = {"pool": labels} | {name: labels[torch.from_numpy(kept(name, what["window"]))] for name in SELECTORS}
    chance = draws(what["seed"], "select")
    picks = [chance.permutation(len(found))[: what["keep"]] for _ in range(PICKS)]
    rows = []
    for window in what["windows"]:
        for selector in SELECTORS:
            chosen = found[kept(selector, window)]
            near = neighbourhoods(known, chosen)
            row = {"window": named(window), "selector": selector, "fid": frechet(known, chosen).value}
            rows.append(row | {"precision": near.precision.value, "recall": near.recall.value})
    by_chance = neighbourhoods(known, found[picks[0]])
    return {
        "classes_kept": {name: np.bincount(each, minlength=CLASSES).tolist() for name, each in classes.items()},
        "selection": rows,
        "random_fids": [frechet(known, found[pick]).value for pick in picks],
        "random_precision": asdict(by_chance.precision),
        "random_recall": asdict(by_chance.recall),
    }


def correlate(running: Running) -> dict[str, Any]:
    """How Hal and the ink of generation 0's digits go together: over all of them, and within the classes asked for."""
    what, pool = running.config, usable(running.inputs["pool"], running.inputs["scores"])
    pair = pool.scores[named(what["window"])], white(pool.x).numpy()
    of = {"all": None, "within_class": pool.condition["class_labels"].numpy()}
    return {name: asdict(rank_correlation(*pair, groups, seed=what["seed"])) for name, groups in of.items()}


def mean_of(name: str) -> Callable[[Rows], Estimate]:
    """The estimate itself for one seed, else the mean over seeds."""

    def mean(rows: Rows) -> Estimate:
        found = [Estimate(**row[name]) for row in rows]
        return found[0] if len(found) == 1 else over_seeds([max(e.value, 1e-9) for e in found])

    return mean


def ratio_of_fids(over: Rows, under: Rows) -> Estimate:
    """The ratio of two distances for one seed, else of their means over seeds."""
    if len(over) == 1:
        return ratio_of(*(Estimate(**rows[0]["fid"]) for rows in (over, under)))
    return ratio_over_seeds(*([row["fid"]["value"] for row in rows] for rows in (over, under)), paired=True)


QUANTITIES = (
    Quantity("fid", "Fréchet distance", mean_of("fid"), ratio_of_fids),
    *(Quantity(name, words, mean_of(name)) for name, words in MEASURES.items() if name != "fid"),
)


def measure(config: Config, found: Found) -> Measured:
    """Generation by generation, arm by arm."""
    series, notes = finished(config, found)
    measured = compared(config, series, QUANTITIES, ("random", "white"))
    measured.notes += notes
    return measured


def selecting(config: Config, found: Found) -> Measured:
    """What is kept of generation 0's pool, and what a random selection of as many would be."""
    facts = found["selection"].facts
    method = f"95 % of {PICKS} selections"
    low, middle, high = np.quantile(facts["random_fids"], (0.025, 0.5, 0.975)).tolist()
    worst = min(facts["classes_kept"]["hal"]) / (config.model.size / CLASSES)
    values: dict[str, Any] = {
        "smallest_class_kept": worst,
        "random_selection_fid": Estimate(middle, low, high, n=PICKS, method=method),
        **{f"random_selection_{name}": Estimate(**facts[f"random_{name}"]) for name in ("precision", "recall")},
    }
    for row in facts["selection"]:
        if row["window"] == named(config.window):
            ratios = (row["fid"] / other for other in (middle, high, low))
            values[f"{row['selector']}_over_random_selection"] = Estimate(*ratios, n=PICKS, method=method)
    note = (
        f"One threshold for all classes leaves the class that suffers most {worst:.0%} of its share; with one for each "
        "class all keep theirs."
    )
    return Measured(values, {name: facts[name] for name in ("classes_kept", "selection")}, [note])


def content(config: Config, found: Found) -> Measured:
    """Whether Hal counts ink."""
    over_all, within = (Estimate(**found["ink"].facts[name]) for name in ("all", "within_class"))
    note = (
        f"Hal and the ink of generation 0's digits have a rank correlation of {over_all}, within classes of {within}: "
        "1 if a filter by Hal throws away the digits with the most ink, 0 if ink says nothing of it."
    )
    return Measured({"hal_ink_spearman": over_all, "hal_ink_spearman_within_class": within}, {}, [note])


def claims(config: Config) -> list[Claim]:
    found, paper = [], "in all generations (Fig. 8c)"
    for arm in SELECTORS:
        does = "Filtering by Hal afterwards beats random selection"
        found += filter_claims(config, QUANTITIES[0], f"fid-{arm}", paper, arm=arm, does=does)
    does = "Filtering by the bias in the critical windows beats random selection"
    found += filter_claims(config, QUANTITIES[0], "fid-bias-critical", "–", arm="bias-critical", does=does)
    does = "Filtering by Hal beats filtering by ink"
    found += filter_claims(config, QUANTITIES[0], "fid-over-white", "–", over="white", does=does)
    for arm, words in SELECTORS.items():
        statement = (
            f"Before any training: the digits of generation 0 that Hal keeps, with {words}, lie nearer to real ones "
            "than random selections of as many; Fréchet distance over theirs, under 1 (interval: 95 % of "
            f"{PICKS} selections)"
        )
        measure = f"{arm}_over_random_selection"
        found.append(Claim(f"selection-{arm}", measure, below(1.0), statement, "implied by Fig. 8c"))
    return found


def extremes(config: Config, found: Found, measured: Measured, path: Path) -> str:
    """The digits with the lowest and the highest scores."""
    pool = usable(found[key(config.seed, "", 0, "pool")], found["windows"])
    order, panels = np.argsort(pool.scores[named(config.window)]), []
    for title, rows in (("lowest Hal", order[:SHOWN]), ("highest Hal", order[::-1][:SHOWN])):
        panels.append((title, pool.x[rows.copy(), 0].clamp(-1, 1).numpy(), [()] * len(rows), ()))
    plots.image_panels(path, panels, 8)
    return "Digits of generation 0 with the lowest and the highest Hal. Compare Fig. 13."


def classes(config: Config, found: Found, measured: Measured, path: Path) -> str:
    """How many of each class are kept."""
    kept = found["selection"].facts["classes_kept"].items()
    lines: dict[str, plots.Band] = {name: ((np.array(n) / sum(n)).tolist(),) * 3 for name, n in kept}
    plots.curves(path, range(CLASSES), lines, x_label="class", y_label="share of the digits")
    return "Classes of generation 0's pool, and of what is kept of it, with one threshold or ten."


def selection(config: Config, found: Found, measured: Measured, path: Path) -> str | None:
    """How near to real digits lies what is kept, by window."""
    rows, chance = found["selection"].facts["selection"], measured.estimate("random_selection_fid")
    if chance is None:
        return None
    windows = [window.removeprefix("t = ") for window in dict.fromkeys(row["window"] for row in rows)]
    value, low, high = ([end] * len(windows) for end in chance.triple)
    lines: dict[str, plots.Band] = {"random": (value, low, high)}
    for selector in SELECTORS:
        lines[selector] = ([row["fid"] for row in rows if row["selector"] == selector],) * 3
    y_label = "Fréchet distance of what is kept"
    plots.curves(path, range(len(windows)), lines, x_label="window of Hal", y_label=y_label, ticks=windows)
    return (
        "What selecting alone does: Fréchet distance from real digits of what is kept of generation 0's pool, by the "
        f"window of Hal, beside the middle and 95 % of {PICKS} random selections of as many."
    )


def pictures(config: Config) -> list[Picture]:
    how = "by generation; 95 % intervals of drawing the samples, or over seeds where there are several."
    paper = {"fid": " Compare Fig. 8c.", "precision": " Compare Fig. 13.", "recall": " Compare Fig. 13."}
    found = [
        curves(name, words, mean_of(name), f"{words[0].upper()}{words[1:]}, {how}{paper.get(name, '')}")
        for name, words in MEASURES.items()
    ]
    others = {"kept-and-rejected": extremes, "classes": classes, "selection": selection}
    return [*found, *(Picture(name, draw) for name, draw in others.items())]


# fmt: off
STUDY = Study(
    "recursion-mnist",
    figures="Figs. 8c, 13",
    summary="Real digits: what filtering after the fact does to collapse, where nobody can label a hallucination",
    tiers={
        "smoke": {
            "model.size": 60, "model.target.kind": "drawn", "model.target.drawn": 100, "model.noise.timesteps": 40,
            "model.network.channels": (32,), "model.network.attention": (), "model.network.patch": 4,
            "model.train.steps": 10, "model.train.batch": 8, "tuning_steps": 5, "drawing.steps": 8,
            "arms.names": ("random", "hal", "hal-per-class"), "arms.extra": 20, "arms.generations": 1,
            "window": (8, 14), "count": 4, "reference": 100, "classifier_epochs": 1,
        },
        "quick": {},
        "long": {
            "model.size": 10_000, "model.network": LocalConv(4, 128, 6, 6, attention=True),
            "model.train": Training(8000, 64, ema=0.999, precision="bf16"), "tuning_steps": 1000,
            "drawing.chunk": 128, "arms.extra": 1000, "arms.generations": 4, "arms.seeds": 2,
            "arms.names": ("random", "hal", "hal-per-class", "bias-critical", "white"),
        },
        "paper": {
            "model.size": 60_000, "model.network.patch": 1, "model.network.channels": (256, 512),
            "model.network.layers": 2, "model.network.attention": (1,), "model.train.steps": 5850,
            "model.train.batch": 512, "model.train.learning_rate": 1e-4, "model.train.precision": "bf16",
            "model.train.compile": True, "tuning_steps": 0, "drawing.steps": 500, "drawing.chunk": 1000,
            "arms.names": ("all", "random", "hal", "hal-per-class"), "arms.extra": 5000, "arms.generations": 5,
            "arms.unfiltered_generations": 5, "arms.seeds": 3, "reference": 60_000, "classifier_epochs": 10,
        },
    },
    times={"smoke": "30 s", "quick": "40 min", "long": "~5 h on one core", "paper": "~60 h, GPU"},
    config=Config, jobs=jobs, measures=(measure, selecting, content), claims=claims, pictures=pictures,
)
# fmt: on
