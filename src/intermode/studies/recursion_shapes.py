r"""Hallucination multiplies when a model of Simple Shapes trains on its own images (paper: section 6; Fig. 8b).

Arms: all images as they come (``all``), a random selection from a larger pool (``random``), and those with the lowest
Hal (``hal``). Measured of every generation's pool, by the oracle: the share of images with two or more shapes of one
kind (the paper's label), the share off the support, and what that is made of; and whether a filter does its work by
throwing content away: the mean number of shapes in an image, and the share of all shapes at all places that occur in as
many images as train a generation (:mod:`intermode.targets.shape_places`). The share of white pixels as a filter
(``white``) says what content alone does, the bias in each generation's critical windows (``bias-critical``) what a
score does that looks where two of a kind are decided, and ``oracle`` what the best filter could.

The quick tier is a smaller problem: every generation starts from the weights of the shipped model and is tuned to
its data in 600 steps, on 512 images, sampled in 50 steps; so generation 0 is the shipped model, tuned to 512 real
images. Its window, t = 100..300, was picked by looking at the windows that the quick run of the study ``shapes``
compares on off-support images of the same model. Ratios have the interval of drawing the samples, which does not know
how much trainings differ; seeds are pooled.

The long tier is a model that errs often, since it sees a part of the image only: generation 0 is trained on 5,000 real
images, of which blank ones are a part, and later ones start from its weights for ``tuning_steps``.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from intermode import plots
from intermode.evaluation import Estimate, Z, ratio_of, ratio_of_shares, share
from intermode.jobs import Job
from intermode.sampling import Samples
from intermode.studies.shapes import WORDS, boxes_of
from intermode.study import Claim, Found, Measured, Picture, Study
from intermode.study.arms import (
    Arms,
    Quantity,
    Recursion,
    Row,
    Rows,
    compared,
    curves,
    filter_claims,
    finished,
    growth_claims,
    key,
    recursion_jobs,
)
from intermode.study.configs import Drawing, Images, LocalShapesModel, ShapesModel, Training, check_least
from intermode.study.steps import pool_of
from intermode.targets.shape_places import contents, coverage, coverage_of_data
from intermode.targets.shape_support import KINDS

__all__ = ["STUDY", "Config", "Read"]

OTHERS = ("random", "white")
"""Arms that filters are compared with."""
SHOWN = 12
"""Images of each panel."""


@dataclass(frozen=True)
class Config(Recursion):
    """Settings of ``recursion-shapes``; the paper's window is 700 850.

    Attributes:
        tuning_steps: optimiser steps of generations after 0, from its weights; 0 trains each as generation 0.
        tuning_rate: learning rate of these, at the start.
    """

    model: ShapesModel = ShapesModel(size=512, shipped="shapes", train=Training(600, 32, 5e-4, ema=0.99))
    drawing: Drawing = Drawing("small", 50, 32)
    arms: Arms = Arms(generations=3, unfiltered_generations=3, extra=128)
    window: tuple[int, int] = (100, 300)
    tuning_steps: int = 0
    tuning_rate: float = 5e-4

    def __post_init__(self) -> None:
        super().__post_init__()
        check_least(self, 0, "tuning_steps")
        _ = self.tuned

    @property
    def tuned(self) -> ShapesModel | None:
        """The model of generations after 0, if these start from its weights."""
        if not self.tuning_steps:
            return None
        train = replace(self.model.train, steps=self.tuning_steps, learning_rate=self.tuning_rate)
        return replace(self.model, train=train)


@dataclass(frozen=True)
class Read:
    """Reads a pool's images: those that the oracle rejects, and why; how many shapes they hold, and where.

    Attributes:
        images: the data.
        n: images that coverage is compared at, or all of the pool but one if it has no more.
    """

    images: Images
    n: int

    def __call__(self, pool: Samples) -> dict[str, Any]:
        labels = self.images.target.label(pool.x)
        images, shapes = len(pool.x), labels.counts_by_kind.sum(1)
        around, reach = float(shapes.mean()), Z * float(shapes.std(ddof=1)) / math.sqrt(images)
        number = Estimate(around, max(around - reach, 0.0), around + reach, n=images, method="normal")
        return {
            "samples": len(pool.x),
            "rules": labels.counts(),
            "duplicates": int(labels.duplicate.sum()),
            "off_support": int(labels.hallucinated.sum()),
            "hallucination_rate": labels.duplicate_rate,
            "off_support_rate": labels.rate,
            "shapes": asdict(number),
            "coverage": asdict(coverage(contents(labels), images, min(self.n, images - 1))),
        }


def share_of(name: str, meaning: str, count: Callable[[Row], int]) -> Quantity:
    """The share of the images that are counted, over all seeds."""

    def counted(rows: Rows) -> tuple[int, int]:
        return sum(map(count, rows)), sum(row["samples"] for row in rows)

    return Quantity(
        name,
        f"share {meaning}",
        lambda rows: share(*counted(rows)),
        lambda over, under: ratio_of_shares(counted(over), counted(under)),
    )


SHARES = (
    share_of("duplicates", "two of a kind", lambda row: row["duplicates"]),
    share_of("off_support", "off the support", lambda row: row["off_support"]),
)


def share_by(rule: str) -> Quantity:
    """The share of the images that a rule of the oracle rejects."""
    return share_of(rule.replace("-", "_"), WORDS[rule], lambda row: row["rules"].get(rule, 0))


APART = tuple(share_by(rule) for rule in ("deformed", "between-places", "wrong-column", "blank"))
"""What is off the support, but has no two of a kind."""


def mean_of(name: str) -> Callable[[Rows], Estimate]:
    """The mean over seeds of what each pool's row holds; its interval from theirs."""

    def mean(rows: Rows) -> Estimate:
        found = [Estimate(**row[name]) for row in rows]
        value = float(np.mean([one.value for one in found]))
        reach = math.hypot(*((one.high - one.low) / 2 for one in found)) / len(found)
        return Estimate(value, value - reach, value + reach, n=sum(one.n or 0 for one in found), method=found[0].method)

    return mean


def amount(name: str, words: str) -> Quantity:
    """An amount that rows hold as an estimate; pools that have nothing of it are not compared."""
    mean = mean_of(name)

    def ratio(over: Rows, under: Rows) -> Estimate | None:
        both = mean(over), mean(under)
        return ratio_of(*both) if min(one.value for one in both) > 0 else None

    return Quantity(name, words, mean, ratio)


SHAPES = amount("shapes", "mean number of shapes in an image")
COVERAGE = amount("coverage", "share of all shapes at all places that occur")


def jobs(config: Config) -> dict[str, Job]:
    return recursion_jobs(config, Read(config.model.target, config.model.size), tuned=config.tuned)


def measure(config: Config, found: Found) -> Measured:
    """Generation by generation, arm by arm; and what the data holds."""
    (series, notes), target = finished(config, found), config.model.target.target
    measured = compared(config, series, (*SHARES, *APART, SHAPES, COVERAGE), OTHERS)
    n = min(config.model.size, config.model.size + config.arms.extra - 1)
    measured.values["data_shapes"] = target.presence * len(KINDS)
    measured.values["data_coverage"] = coverage_of_data(target.presence, n)
    measured.notes += notes
    measured.notes.append(
        f"An image of the data holds {target.presence * len(KINDS):.3g} shapes in the mean, and {n:,} of them show "
        f"{measured.values['data_coverage']:.1%} of all shapes at all places."
    )
    return measured


def claims(config: Config) -> list[Claim]:
    found = []
    for quantity in SHARES:
        slug = quantity.name.replace("_", "-")
        found += growth_claims(config, quantity, f"grows-{slug}", "grows steeply (Fig. 8b)")
        found += filter_claims(config, quantity, f"filter-{slug}", "in all generations (Fig. 8b)")
        does = "Filtering by Hal beats filtering by white pixels"
        found += filter_claims(config, quantity, f"over-white-{slug}", "–", over="white", does=does)
    return found + filter_claims(config, SHAPES, "empties", "–", does="Filtering by Hal empties the images")


def generations(config: Config, found: Found, measured: Measured, path: Path) -> str:
    """Images of the first and the last generation of each arm."""
    places = [("generation 0", key(config.seed, "", 0, "pool"))]
    for arm in config.arms.names:
        last = config.arms.last(arm)
        places.append((f"{arm}, generation {last}", key(config.seed, arm, last, "pool")))
    panels = []
    for title, place in places:
        x = pool_of(found[place]).x[:SHOWN]
        labels = config.model.target.target.label(x)
        panels.append((title, x[:, 0].numpy(), [boxes_of(labels, row) for row in range(len(x))], ()))
    plots.image_panels(path, panels, 3)
    return (
        f"The first images of generation 0 and of the last one of each arm, seed {config.seed}; red where something is "
        "wrong."
    )


def pictures(config: Config) -> list[Picture]:
    caption = "of generated images {}, by generation; 95 % intervals of the share. Compare Fig. 8b."
    return [
        *(curves(q.name, q.words, q.mean, f"Share {caption.format(q.words.removeprefix('share '))}") for q in SHARES),
        curves("shapes", SHAPES.words, SHAPES.mean, "Shapes in an image, by generation; 95 % intervals of the mean."),
        curves(
            "coverage",
            COVERAGE.words,
            COVERAGE.mean,
            "The share of all shapes at all places that occur in as many images as train a generation; 95 % intervals.",
        ),
        Picture("generations", generations),
    ]


# fmt: off
STUDY = Study(
    "recursion-shapes",
    figures="Fig. 8b",
    summary="Training on one's own images: hallucinations multiply, and how filtering slows it",
    tiers={
        "smoke": {
            "model.shipped": None, "model.size": 32, "model.noise.timesteps": 40, "model.network.channels": (32,),
            "model.network.attention": (), "model.network.patch": 8, "model.train.steps": 10, "model.train.batch": 8,
            "drawing.steps": 10, "drawing.chunk": 8, "arms.extra": 8, "arms.generations": 2,
            "arms.unfiltered_generations": 1, "window": (20, 34),
        },
        "quick": {},
        "long": {
            "model": LocalShapesModel(), "model.train.precision": "bf16", "tuning_steps": 600, "drawing.chunk": 64,
            "arms.names": ("all", "random", "hal", "white", "bias-critical", "oracle"), "arms.extra": 1250,
            "arms.generations": 4, "arms.unfiltered_generations": 4, "arms.seeds": 2,
        },
        "paper": {
            "model.shipped": None, "model.size": 5000, "model.network.patch": 1,
            "model.network.channels": (128, 256, 384, 512), "model.network.layers": 3,
            "model.network.attention": (1, 2, 3), "model.train.steps": 50_000, "model.train.batch": 64,
            "model.train.learning_rate": 1e-4, "model.train.ema": 0.9999, "model.train.precision": "bf16",
            "model.train.compile": True, "drawing.steps": 250, "drawing.chunk": 500, "arms.extra": 1250,
            "arms.generations": 5, "arms.unfiltered_generations": 5, "window": (700, 850),
        },
    },
    times={"smoke": "15 s", "quick": "50 min", "long": "~13 h on one core", "paper": "~40 h, GPU"},
    config=Config, jobs=jobs, measures=(measure,), claims=claims, pictures=pictures,
)
# fmt: on
