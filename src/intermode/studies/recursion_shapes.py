r"""Hallucination multiplies when a model of Simple Shapes trains on its own images (paper: section 6; Fig. 8b).

Arms: all images as they come (``all``), a random selection from a larger pool (``random``), and those with the lowest
Hal (``hal``). Measured of every generation's pool, by the oracle: the share of images with two or more shapes of one
kind (the paper's label), the share off the support, and what that is made of.

The quick tier is a smaller problem: every generation starts from the weights of the shipped model and is tuned to
its data in 600 steps, on 512 images, sampled in 50 steps; so generation 0 is the shipped model, tuned to 512 real
images. Its window, t = 100..300, was picked by looking at the windows that the quick run of the study ``shapes``
compares on off-support images of the same model. Ratios of shares have the interval of drawing the samples, which does
not know how much trainings differ; seeds are pooled.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from intermode import plots
from intermode.evaluation import ratio_of_shares, share
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
    followed,
    growth_claims,
    key,
    recursion_jobs,
)
from intermode.study.configs import Drawing, Images, ShapesModel, Training
from intermode.study.steps import pool_of

__all__ = ["STUDY", "Config", "Wrong"]

SHOWN = 12
"""Images of each panel."""


@dataclass(frozen=True)
class Config(Recursion):
    """Settings of ``recursion-shapes``; the paper's window is 700 850."""

    model: ShapesModel = ShapesModel(size=512, shipped="shapes", train=Training(600, 32, 5e-4, ema=0.99))
    drawing: Drawing = Drawing("small", 50, 32)
    arms: Arms = Arms(generations=3, unfiltered_generations=3, extra=128)
    window: tuple[int, int] = (100, 300)


@dataclass(frozen=True)
class Wrong:
    """Counts the images that the oracle rejects, and why."""

    images: Images

    def __call__(self, pool: Samples) -> dict[str, Any]:
        labels = self.images.target.label(pool.x)
        return {
            "samples": len(pool.x),
            "rules": labels.counts(),
            "duplicates": int(labels.duplicate.sum()),
            "off_support": int(labels.hallucinated.sum()),
            "hallucination_rate": labels.duplicate_rate,
            "off_support_rate": labels.rate,
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


def jobs(config: Config) -> dict[str, Job]:
    return recursion_jobs(config, Wrong(config.model.target))


def measure(config: Config, found: Found) -> Measured:
    """Generation by generation, arm by arm."""
    return compared(config, followed(config, found), (*SHARES, *APART))


def claims(config: Config) -> list[Claim]:
    found = []
    for quantity in SHARES:
        slug = quantity.name.replace("_", "-")
        found += growth_claims(config, quantity, f"grows-{slug}", "grows steeply (Fig. 8b)")
        found += filter_claims(config, quantity, f"filter-{slug}", "in all generations (Fig. 8b)")
    return found


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
            "model.size": 5000, "model.train.steps": 1500, "arms.extra": 1250, "arms.generations": 4,
            "arms.unfiltered_generations": 4, "arms.seeds": 2,
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
    times={"smoke": "15 s", "quick": "50 min", "long": "~6 h", "paper": "~40 h, GPU"},
    config=Config, jobs=jobs, measures=(measure,), claims=claims, pictures=pictures,
)
# fmt: on
