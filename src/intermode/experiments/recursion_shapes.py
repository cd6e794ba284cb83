r"""Hallucination multiplies when a model of Simple Shapes trains on its own images (paper: section 6; Fig. 8b).

Arms: all images as they come (``all``), a random selection from a larger pool (``random``), and those with the lowest
Hal (``hal``). Measured of every generation's pool, by the oracle: the share of images with two or more shapes of one
kind (the paper's label) and the share off the support, with how many images each rule of the oracle rejects.

The quick tier is a smaller problem: every generation starts from the weights of the shipped model and is tuned to
its data in 600 steps, on 512 images, sampled in 50 steps; so generation 0 is the shipped model, tuned to 512 real
images. Its window, t = 100..300, was picked by looking at the windows that the quick run of the experiment ``shapes``
compares on off-support images of the same model. Ratios of shares have the interval of drawing the samples, which does
not know how much trainings differ; seeds are pooled.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from intermode import plots
from intermode.detect.hal import Hal
from intermode.evaluation import ratio_of_shares, share
from intermode.experiments import arms
from intermode.experiments.image_model import ImageModelConfig
from intermode.experiments.shapes import boxes_of
from intermode.files import load_tensors
from intermode.models import shipped
from intermode.progress import Progress
from intermode.recursion import Data, Setting
from intermode.run import Results, Run, below
from intermode.sampling import Samples, Plan, generate
from intermode.targets.shapes import Shapes

__all__ = ["TIERS", "Config", "run"]

LABELS = {"duplicates": "two of a kind", "off_support": "off the support"}
"""The two labels that are counted, and what they mean."""
SHOWN = 12
"""Images of each panel."""


@dataclass(frozen=True)
class Config(ImageModelConfig):
    """Settings of ``recursion-shapes``; ``train_size`` images train every generation.

    Attributes:
        pretrained: every generation starts from the weights of the shipped model.
        extra: images of a pool beyond ``train_size``, left out by the selectors.
        arms: selectors: all, random, hal.
        generations: the last generation of the arms random and hal.
        unfiltered_generations: the last generation of the arm all.
        seeds: repetitions, with seeds seed, seed + 1, ...
        window: timesteps of Hal, both ends included.
        fresh: share of each generation's training data that is new real data.
        accumulate: train on the data of all earlier generations as well.
        workers: arms followed at a time.
    """

    pretrained: bool = True
    extra: int = 128
    arms: tuple[str, ...] = ("all", "random", "hal")
    generations: int = 3
    unfiltered_generations: int = 3
    seeds: int = 1
    window: tuple[int, int] = (700, 850)
    fresh: float = 0.0
    accumulate: bool = False
    workers: int = 3
    train_size: int = 512
    steps: int = 600
    learning_rate: float = 5e-4
    ema: float = 0.99
    sampling_steps: int = 50
    threads: int = 1

    @property
    def target(self) -> Shapes:
        return Shapes()

    def check(self) -> None:
        self.check_for(self.target.shape)
        Hal(*self.window).check(self.schedule, self.sampler.timesteps(self.schedule))
        arms.check(self)
        if self.pretrained:
            shipped("shapes", self.schedule, "shapes")

    def setting(self, progress: Progress) -> Setting:
        return _Images(self, progress)


TIERS = {
    "smoke": Config(
        pretrained=False,
        train_size=32,
        extra=8,
        timesteps=40,
        channels=(32,),
        attention=(),
        patch=8,
        steps=10,
        batch=8,
        sampling_steps=10,
        chunk=8,
        window=(20, 34),
        generations=2,
        unfiltered_generations=1,
    ),
    "quick": Config(window=(100, 300)),  # the paper's tells nothing about this model: see the experiment shapes
    "paper": Config(
        pretrained=False,
        patch=1,
        channels=(128, 256, 384, 512),
        layers=3,
        attention=(1, 2, 3),
        train_size=5000,
        extra=1250,
        steps=50_000,
        batch=64,
        learning_rate=1e-4,
        ema=0.9999,
        sampling_steps=250,
        chunk=500,
        generations=5,
        unfiltered_generations=5,
        precision="bf16",
        compile=True,
        workers=1,
        threads=4,
        device="cuda",
    ),
}


@dataclass(frozen=True)
class _Images:
    """The setting that the recursion runs in."""

    config: Config
    progress: Progress

    def real(self, n: int, seed: int) -> Data:
        return Data(self.config.target.sample(n, seed))

    def fit_and_draw(self, data: Data, n: int, seed: int, folder: Path) -> Samples:
        config = replace(self.config, seed=seed)
        start = config.shipped("shapes") if config.pretrained else None
        denoiser = config.fit_to(
            data.x, folder / "model", "shapes, generated", start=start, progress=self.progress
        )
        plan = Plan(n, config.target.shape, seed, config.chunk, device=config.device)
        detectors = [Hal(*config.window)]
        return generate(
            config.sampled(denoiser), config.sampler, plan, detectors, folder=folder, progress=self.progress
        )

    def measure(self, pool: Samples) -> dict[str, Any]:
        labels = self.config.target.label(pool.x)
        rules, counts = np.unique(np.asarray(labels.rule), return_counts=True)
        return {
            "samples": len(pool.x),
            "rules": dict(zip(rules.tolist(), counts.tolist(), strict=True)),
            "duplicates": int(labels.duplicate.sum()),
            "off_support": int(labels.hallucinated.sum()),
            "hallucination_rate": labels.duplicate_rate,
            "off_support_rate": labels.rate,
        }


def run(run: Run, config: Config) -> Results:
    """Follow all arms of all seeds, then compare; see the module's docstring."""
    results = Results(series=dict(arms.follow(run, config)))
    for label in LABELS:
        _claims(results, config, label)
    _curves(run, results, config)
    _pictures(run, results, config)
    return results


def _counts(results: Results, selector: str, generation: int, label: str) -> tuple[int, int]:
    """(count, total) over all seeds."""
    rows = [row for row in results.series[selector] if row["generation"] == generation]
    return sum(row[label] for row in rows), sum(row["samples"] for row in rows)


def _claims(results: Results, config: Config, label: str) -> None:
    meaning, slug = LABELS[label], label.replace("_", "-")
    start = share(*_counts(results, config.arms[0], 0, label))
    results.values |= {
        f"generation_0_{label}": start.value,
        f"generation_0_{label}_low": start.low,
        f"generation_0_{label}_high": start.high,
    }
    for selector in config.arms:
        last = arms.arm_of(config, selector).generations
        rate = share(*_counts(results, selector, last, label))
        results.values |= {f"{selector}_last_generation": last, f"{selector}_last_{label}": rate.value}
    if "all" in config.arms:
        last = config.unfiltered_generations
        growth = ratio_of_shares(_counts(results, "all", 0, label), _counts(results, "all", last, label))
        results.claims.append(
            below(
                f"grows-{slug}",
                f"Without a filter the share {meaning} grows: generation 0 over generation {last}, under 1",
                "grows steeply (Fig. 8b)",
                growth,
                1.0,
            )
        )
    if {"random", "hal"} <= set(config.arms):
        for generation in range(1, config.generations + 1):
            counts = [_counts(results, selector, generation, label) for selector in ("hal", "random")]
            results.claims.append(
                below(
                    f"filter-{slug}-{generation}",
                    f"Filtering by Hal beats random selection: share {meaning}, hal over random, generation "
                    f"{generation}, under 1",
                    "in all generations (Fig. 8b)",
                    ratio_of_shares(*counts),
                    1.0,
                )
            )


def _curves(run: Run, results: Results, config: Config) -> None:
    longest = max(arms.arm_of(config, selector).generations for selector in config.arms)
    for label, meaning in LABELS.items():
        lines: dict[str, plots.Band] = {}
        for selector in config.arms:
            generations = range(arms.arm_of(config, selector).generations + 1)
            found = [share(*_counts(results, selector, generation, label)) for generation in generations]
            lines[selector] = ([s.value for s in found], [s.low for s in found], [s.high for s in found])
        y_label = f"share {meaning}"
        plots.curves(run.figure(label), range(longest + 1), lines, x_label="generation", y_label=y_label)
        results.figures[label] = (
            f"Share of generated images {meaning}, by generation; 95 % intervals of the share. Compare Fig. 8b."
        )


def _pictures(run: Run, results: Results, config: Config) -> None:
    """Images of the first and the last generation of each arm."""
    places = [("generation 0", arms.generation_folder(run, config.seed, config.arms[0], 0))]
    for selector in config.arms:
        last = arms.arm_of(config, selector).generations
        places.append((f"{selector}, generation {last}", arms.generation_folder(run, config.seed, selector, last)))
    panels = []
    for title, place in places:
        samples = load_tensors(place / "samples.safetensors")[0]["samples"][:SHOWN]
        labels = config.target.label(samples)
        boxes = [boxes_of(labels, row) for row in range(len(samples))]
        panels.append((title, np.asarray(samples[:, 0]), boxes, ()))
    plots.image_panels(run.figure("generations"), panels, 3)
    results.figures["generations"] = (
        f"The first images of generation 0 and of the last one of each arm, seed {config.seed}; red where something "
        "is wrong."
    )
