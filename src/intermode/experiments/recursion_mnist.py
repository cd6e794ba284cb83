r"""Collapse on real digits, where nobody can label a hallucination (paper: section 6 and A.3; Figs. 8c, 13).

A class-conditional model, sampled with classifier-free guidance, is trained on its own digits. Every finished digit
is scored afterwards: noised to 10 timesteps in t = 100..150, predicted again, the variance of the ten predictions
(:class:`intermode.detect.hal.HalRenoise`; by the conditional model, without guidance). Arms: ``random``, ``hal`` (the
lowest scores of all), ``hal-per-class`` (of each class, since one threshold for all can starve a class) and ``all``.

Measured of every pool, on features of a LeNet trained on MNIST: the Fréchet distance from the real training digits,
improved precision and recall, density and coverage; the share of digits that the LeNet takes for the class they were
drawn as; and the accuracy on real test digits of a LeNet that was trained on the pool, which is what collapse costs
whoever trains on generated data.

The quick tier is a smaller problem: a narrow network, 2,500 digits, two generations; and from the first generation
on, training goes on from the weights of generation 0 for ``tuning_steps``.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch

from intermode import plots
from intermode.classifier import ClassifierConfig, accuracy, classify, features, fit, load_classifier
from intermode.detect.hal import HalRenoise
from intermode.distances import frechet, neighbourhoods
from intermode.errors import InputError
from intermode.evaluation import Estimate, over_seeds, ratio_of, ratio_over_seeds, share
from intermode.experiments import arms, selection
from intermode.experiments.image_model import ImageModelConfig
from intermode.files import load_tensors, save_tensors
from intermode.guidance import GuidedDenoiser
from intermode.models import load_model
from intermode.noise import draws
from intermode.progress import Progress
from intermode.recursion import Data, Setting
from intermode.run import Results, Run, below
from intermode.sampling import Samples, Plan, generate, score
from intermode.schedules import Schedule, linear
from intermode.targets.digits import CLASSES, SIZE, Digits, load
from intermode.targets.drawn_digits import drawn
from intermode.targets.fetch import cache_folder

__all__ = ["TIERS", "Config", "run"]

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


@dataclass(frozen=True)
class Config(ImageModelConfig):
    """Settings of ``recursion-mnist``; ``train_size`` digits train every generation.

    Attributes:
        source: mnist, fashion-mnist, or drawn: a stand-in that is made here.
        data: folder with the four idx files; unless given, where ``intermode data`` puts them.
        guidance: strength w; 1 is the conditional model alone.
        tuning_steps: optimiser steps of generations after 0, from its weights; 0 trains each from scratch.
        extra: digits of a pool beyond ``train_size``, left out by the selectors.
        arms: selectors: all, random, hal, hal-per-class.
        generations: the last generation of the selecting arms.
        unfiltered_generations: the last generation of the arm all.
        seeds: repetitions, with seeds seed, seed + 1, ...
        window: timesteps to which digits are noised, both ends included.
        count: how many of them.
        reference: real digits that pools are compared with.
        classifier_epochs: of the LeNet that is trained on a pool.
        fresh: share of each generation's training data that is new real data.
        accumulate: train on the data of all earlier generations as well.
        workers: arms followed at a time.
    """

    source: Literal["mnist", "fashion-mnist", "drawn"] = "mnist"
    data: Path | None = None
    guidance: float = 1.5
    tuning_steps: int = 400
    extra: int = 500
    arms: tuple[str, ...] = ("random", "hal")
    generations: int = 2
    unfiltered_generations: int = 2
    seeds: int = 1
    window: tuple[int, int] = (100, 150)
    count: int = 10
    reference: int = 10_000
    classifier_epochs: int = 5
    fresh: float = 0.0
    accumulate: bool = False
    workers: int = 2
    train_size: int = 2500
    timesteps: int = 500
    patch: int = 2
    channels: tuple[int, ...] = (32, 64)
    attention: tuple[int, ...] = (1,)
    steps: int = 2000
    sampling_steps: int = 25
    chunk: int = 64
    threads: int = 1

    @property
    def schedule(self) -> Schedule:
        """Linear, as for MNIST in the public code that the paper's model follows."""
        return linear(self.timesteps, 1e-4, 0.02)

    @property
    def detector(self) -> HalRenoise:
        return HalRenoise(*self.window, self.count)

    def digits(self, split: Literal["train", "test"]) -> Digits:
        """The real data.

        Raises:
            InputError: files that are missing or not what they should be.
        """
        if self.source == "drawn":
            return drawn(max(self.train_size, self.reference), 0 if split == "train" else 1)
        folder = self.data or cache_folder(self.source)
        try:
            return load(folder, split)
        except InputError as error:
            hint = "" if self.data else f"; intermode data {self.source} fetches it"
            raise InputError(f"{error}{hint}") from None

    def check(self) -> None:
        self.check_for((1, SIZE, SIZE))
        self.detector.check(self.schedule)
        arms.check(self)
        for name in ("reference", "classifier_epochs"):
            if getattr(self, name) < 1:
                raise InputError(f"{name}: {getattr(self, name)} must be at least 1")
        if self.tuning_steps < 0:
            raise InputError(f"tuning_steps: {self.tuning_steps} must be at least 0")
        available = len(self.digits("train"))
        if max(self.train_size, self.reference) > available:
            raise InputError(
                f"train_size and reference: {self.train_size} and {self.reference} of {available} real digits"
            )
        _ = self.digits("test")

    def setting(self, progress: Progress) -> Setting:
        return _Digits(self, progress)


TIERS = {
    "smoke": Config(
        source="drawn",
        train_size=60,
        extra=20,
        timesteps=40,
        channels=(32,),
        attention=(),
        patch=4,
        steps=10,
        tuning_steps=5,
        batch=8,
        sampling_steps=8,
        window=(8, 14),
        count=4,
        reference=100,
        arms=("random", "hal", "hal-per-class"),
        generations=1,
        classifier_epochs=1,
    ),
    "quick": Config(),
    "paper": Config(
        patch=1,
        channels=(256, 512),
        layers=2,
        attention=(1,),
        train_size=60_000,
        extra=5000,
        steps=5850,
        tuning_steps=0,
        batch=512,
        learning_rate=1e-4,
        ema=0.999,
        sampling_steps=500,
        chunk=1000,
        arms=("all", "random", "hal", "hal-per-class"),
        generations=5,
        unfiltered_generations=5,
        seeds=3,
        reference=60_000,
        classifier_epochs=10,
        precision="bf16",
        compile=True,
        workers=1,
        threads=4,
        device="cuda",
    ),
}


@dataclass(frozen=True)
class _Digits:
    """The setting that the recursion runs in."""

    config: Config
    progress: Progress

    def real(self, n: int, seed: int) -> Data:
        digits = self.config.digits("train")
        if n > len(digits):
            raise InputError(f"data: {n} real digits are asked for, there are {len(digits)}")
        chosen = digits.take(draws(seed, "data").permutation(len(digits))[:n])
        return Data(chosen.x, chosen.y)

    def fit_and_draw(self, data: Data, n: int, seed: int, folder: Path) -> Samples:
        config = replace(self.config, seed=seed)
        start = None
        first = folder.parents[1] / "generation-00" / "model"
        if config.tuning_steps and folder.name != "generation-00":
            start, config = load_model(first), replace(config, steps=config.tuning_steps)
        denoiser = config.fit_to(
            data.x,
            folder / "model",
            f"{config.source}, generated" if start else config.source,
            labels=data.labels,
            classes=CLASSES,
            start=start,
            progress=self.progress,
        )
        sampled = config.sampled(denoiser)
        plan = Plan(n, (1, SIZE, SIZE), seed, config.chunk, device=config.device)
        asked = torch.arange(n) % CLASSES
        guided = GuidedDenoiser(sampled, config.guidance)
        pool = generate(guided, config.sampler, plan, folder=folder, progress=self.progress, class_labels=asked)
        file = folder / "scores.safetensors"
        if not file.exists():
            scores = score(
                config.detector,
                sampled,
                pool.x,
                seed=seed,
                chunk=config.chunk,
                device=config.device,
                progress=self.progress,
                class_labels=asked,
            )
            save_tensors(file, {"hal": torch.from_numpy(scores)})
        return replace(pool, scores={"hal": load_tensors(file)[0]["hal"].numpy()})

    def measure(self, pool: Samples) -> dict[str, Any]:
        config, lenet = self.config, load_classifier()
        real = config.digits("train").take(slice(config.reference))
        usable = torch.from_numpy(~pool.diverged)
        samples, asked = pool.x[usable], pool.condition["class_labels"][usable]
        known, found = features(lenet, real.images), features(lenet, samples)
        near = neighbourhoods(known, found)
        measured = {"fid": frechet(known, found)}
        measured |= {name: getattr(near, name) for name in ("precision", "recall", "density", "coverage")}
        classes = classify(lenet, samples)
        measured["as_asked"] = share(int((classes == asked.numpy()).sum()), len(classes))
        images = ((samples[:, 0].clamp(-1, 1) + 1) * 127.5).round().to(torch.uint8).numpy()
        trained = fit(
            Digits(images, asked.numpy()), ClassifierConfig(epochs=config.classifier_epochs, seed=config.seed)
        )
        measured["usefulness"] = accuracy(trained, config.digits("test"))
        row: dict[str, Any] = {"samples": len(pool.x)}
        for name, value in measured.items():
            row |= {name: value.value, f"{name}_low": value.low, f"{name}_high": value.high}
        return {**row, "classes": np.bincount(classes, minlength=CLASSES).tolist()}


def run(run: Run, config: Config) -> Results:
    """Follow all arms of all seeds, then compare; see the module's docstring."""
    results = Results(series=dict(arms.follow(run, config)))
    _values(results, config)
    _claims(results, config)
    _curves(run, results, config)
    selection.analyse(run, results, config)
    return results


def _estimates(results: Results, selector: str, generation: int, name: str) -> list[Estimate]:
    """One for each seed."""
    rows = [row for row in results.series[selector] if row["generation"] == generation]
    return [Estimate(row[name], row[f"{name}_low"], row[f"{name}_high"]) for row in rows]


def _over_seeds(found: list[Estimate]) -> Estimate:
    """The estimate itself for one seed, else the mean over seeds."""
    return found[0] if len(found) == 1 else over_seeds([max(e.value, 1e-9) for e in found])


def _values(results: Results, config: Config) -> None:
    for selector in config.arms:
        last = arms.arm_of(config, selector).generations
        for generation in (0, last):
            for name in MEASURES:
                found = _over_seeds(_estimates(results, selector, generation, name))
                key = f"generation_0_{name}" if generation == 0 else f"{selector}_last_{name}"
                results.values |= {key: found.value, f"{key}_low": found.low, f"{key}_high": found.high}


def _claims(results: Results, config: Config) -> None:
    for selector in ("hal", "hal-per-class"):
        if not {"random", selector} <= set(config.arms):
            continue
        for generation in range(1, config.generations + 1):
            ours, others = (_estimates(results, arm, generation, "fid") for arm in (selector, "random"))
            if config.seeds == 1:
                ratio = ratio_of(ours[0], others[0])
            else:
                ratio = ratio_over_seeds([e.value for e in ours], [e.value for e in others], paired=True)
            results.claims.append(
                below(
                    f"fid-{selector}-{generation}",
                    f"Filtering by Hal afterwards beats random selection: Fréchet distance, {selector} over random, "
                    f"generation {generation}, under 1",
                    "in all generations (Fig. 8c)",
                    ratio,
                    1.0,
                )
            )


def _curves(run: Run, results: Results, config: Config) -> None:
    longest = max(arms.arm_of(config, selector).generations for selector in config.arms)
    for name, words in MEASURES.items():
        lines: dict[str, plots.Band] = {}
        for selector in config.arms:
            generations = range(arms.arm_of(config, selector).generations + 1)
            found = [_over_seeds(_estimates(results, selector, generation, name)) for generation in generations]
            lines[selector] = ([e.value for e in found], [e.low for e in found], [e.high for e in found])
        plots.curves(run.figure(name), range(longest + 1), lines, x_label="generation", y_label=words)
        figure = {"fid": " Compare Fig. 8c.", "precision": " Compare Fig. 13.", "recall": " Compare Fig. 13."}
        results.figures[name] = (
            f"{words[0].upper()}{words[1:]}, by generation; 95 % intervals of drawing the samples, or over seeds where "
            f"there are several.{figure.get(name, '')}"
        )
