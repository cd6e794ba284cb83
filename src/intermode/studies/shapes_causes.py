r"""What makes a model of shapes draw two of a kind: one thing changed at a time.

Two of a kind is an image between two modes, "the triangle is here" and "it is there". At high noise
:math:`\hat x_0` is their average (the closed form of :mod:`intermode.targets.shape_denoiser` shows it); a network that
does not see both places when they are decided finishes a shape in both. So the base is a network of small field of view
(:mod:`intermode.networks.local`), and beside it stand networks that see less, or everything, or are not told where
they are; other predictions; other amounts of data and of training; and targets without noise.

What an image is, the oracle of :mod:`intermode.targets.shape_oracle` says. The networks fold 4×4 pixels into channels,
which the paper's U-Net does not; it looks at single pixels and has attention. All are trained with activations in
bfloat16 and sampled in it, which takes a half and a third of the time on a processor that knows it; one that predicts
the noise loses most by it, since :math:`\hat x_0` divides its errors by the signal. The base is trained until nearly
all its shapes are well formed: before that, whoever draws fewer whole shapes draws fewer pairs, and nothing is learned
of causes.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import product
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from intermode import plots
from intermode.denoisers import Denoiser, Prediction
from intermode.errors import InputError
from intermode.evaluation import ratio_of_shares, share
from intermode.jobs import Job, Running
from intermode.study import Claim, Found, Measured, Missing, Picture, Study, at_least, below
from intermode.study.configs import Images, LocalShapesModel, Pool, check_least
from intermode.study.steps import labelled, model_job, pool_job
from intermode.targets import Target
from intermode.training import TrainConfig

__all__ = ["KINDS", "STUDY", "Config"]

KINDS = {
    "two-of-a-kind": "two of a kind",
    "between-places": "between two places",
    "deformed": "deformed",
    "blank": "blank",
    "off-support": "off the support",
}
"""What is counted, in words. An image may be of several kinds; blank is off the support where the data has none."""


@dataclass(frozen=True)
class Noise(LocalShapesModel):
    """Predicts the noise."""

    prediction: ClassVar[Prediction] = "eps"


@dataclass(frozen=True)
class Clean(LocalShapesModel):
    """Predicts the image."""

    prediction: ClassVar[Prediction] = "x0"


@dataclass(frozen=True)
class Fresh(LocalShapesModel):
    """Of images that are drawn anew in every batch."""

    def fresh(self) -> Target:
        return self.target.target


@dataclass(frozen=True)
class Ideal(LocalShapesModel):
    """Learns the posterior mean in closed form."""

    def ideal(self) -> Denoiser:
        return self.target.target.denoiser(self.noise.schedule)


@dataclass(frozen=True)
class Stable(LocalShapesModel):
    """Learns the posterior mean over a reference batch of its data."""

    def training(self) -> TrainConfig:
        return replace(super().training(), targets="posterior")


@dataclass(frozen=True)
class Config:
    """Settings of ``shapes-causes``.

    Attributes:
        model: whatever is not changed.
        shorter: optimiser steps of a shorter training.
        few: training images of one that sees few.
        names: the variants that are trained; all if there are none.
        pool: images drawn of each.
    """

    model: LocalShapesModel = LocalShapesModel()
    shorter: int = 4000
    few: int = 500
    names: tuple[str, ...] = ()
    pool: Pool = Pool("small", 50, 64, 4000)

    def __post_init__(self) -> None:
        check_least(self, 1, "shorter", "few")
        if unknown := set(self.names) - set(every(self)):
            raise InputError(f"names: unknown {min(unknown)!r}; choose from {', '.join(every(self))}")

    @property
    def seed(self) -> int:
        return self.model.seed


def every(config: Config) -> dict[str, LocalShapesModel]:
    """All variants by name, the base first."""
    base = config.model
    settings: dict[str, Any] = {name: getattr(base, name) for name in ("size", "seed", "target", "network", "train")}

    def seeing(**changes: Any) -> LocalShapesModel:
        return replace(base, network=replace(base.network, **changes))

    return {
        "base": base,
        "whole-image": seeing(attention=True),
        "sees-less": seeing(reach=base.network.reach // 2),
        "no-position": seeing(position=False),
        "shorter": replace(base, train=replace(base.train, steps=config.shorter)),
        "few-images": replace(base, size=config.few),
        "fresh-images": Fresh(**settings),
        "ideal-target": Ideal(**settings),
        "stable-target": Stable(**settings),
        "predicts-noise": Noise(**settings),
        "predicts-image": Clean(**settings),
        "no-blank": replace(base, target=Images()),
    }


def variants(config: Config) -> dict[str, LocalShapesModel]:
    """Those that are trained."""
    return {name: model for name, model in every(config).items() if name in (config.names or every(config))}


def words(config: Config, name: str) -> str:
    """What a variant is."""
    network = config.model.network
    pixels = {reach: (2 * reach + 1) * network.patch for reach in (network.reach, network.reach // 2)}
    steps = config.model.train.steps
    return {
        "base": f"sees {pixels[network.reach]} pixels",
        "whole-image": "sees all, by attention",
        "sees-less": f"sees {pixels[network.reach // 2]} pixels",
        "no-position": "not told where",
        "shorter": f"{config.shorter / steps:.2g} times as long",
        "few-images": f"{config.few} images, not {config.model.size}",
        "fresh-images": "new images in every batch",
        "ideal-target": "the ideal denoiser as target",
        "stable-target": "stable targets",
        "predicts-noise": "predicts the noise",
        "predicts-image": "predicts the image",
        "no-blank": "blank images not in the data",
    }[name]


def jobs(config: Config) -> dict[str, Job]:
    found: dict[str, Job] = {}
    for name, model in variants(config).items():
        made = found[f"{name}-model"] = model_job(f"{name}-model", model)
        pool = found[f"{name}-pool"] = pool_job(f"{name}-pool", made, config.pool, config.seed, [])
        found[f"{name}-counts"] = Job(f"{name}-counts", count, {"target": model.target}, {"pool": pool})
    return found


def count(running: Running) -> dict[str, Any]:
    """Images of each kind, and the mean number of shapes in one."""
    labels = labelled(running.inputs["pool"], running.config["target"])
    empty = labels.counts_by_kind.sum(1) == 0
    of = labels.duplicate, labels.between_places, labels.deformed, empty & (labels.deformed == 0), labels.hallucinated
    counts = {kind: int((marked > 0).sum()) for kind, marked in zip(KINDS, of, strict=True)}
    return {"images": len(empty), **counts, "shapes": float(labels.counts_by_kind.sum(1).mean())}


def measure(config: Config, found: Found) -> Measured:
    """Shares of each kind, and what each change makes of them."""
    measured = Measured(dict.fromkeys(claim.measure for claim in claims(config)), {"kinds": []})
    facts = {}
    for name in variants(config):
        try:
            facts[name] = found[f"{name}-counts"].facts
        except Missing as error:
            measured.notes.append(f"{words(config, name)}: {error}")
    for name, fact in facts.items():
        shares = {kind: share(fact[kind], fact["images"]) for kind in KINDS}
        measured.values |= {f"{name}_{kind}".replace("-", "_"): value for kind, value in shares.items()}
        row = {kind: value.triple for kind, value in shares.items()}
        measured.series["kinds"].append({"variant": name, "what": words(config, name), **row, "shapes": fact["shapes"]})
    base = facts.pop("base", None)
    if base is not None:
        for name, kind in product(facts, KINDS):
            both = [(each[kind], each["images"]) for each in (facts[name], base)]
            measured.values[f"{name}_over_base_{kind}".replace("-", "_")] = ratio_of_shares(*both)
    return measured


def claims(config: Config) -> list[Claim]:
    pixels = (2 * config.model.network.reach + 1) * config.model.network.patch
    two = "images with two of a kind"
    local = f"A network that sees {pixels} pixels draws {two}: share, at least 5 %"
    view = f"One that sees the whole image draws fewer {two}: share over that of {pixels} pixels, under half"
    data = f"Not for want of data: {two}, trained on new images in every batch over on a finite set, at least half"
    noise = (
        "The noise of the target makes a part of what is off the support: share, learned from the ideal denoiser over "
        "learned from drawn noise, under 1"
    )
    rows = [
        ("local", "base_two_of_a_kind", at_least(0.05), local),
        ("field-of-view", "whole_image_over_base_two_of_a_kind", below(0.5), view),
        ("finite-data", "fresh_images_over_base_two_of_a_kind", at_least(0.5), data),
        ("target-noise", "ideal_target_over_base_off_support", below(1.0), noise),
    ]
    there = {f"{name}_".replace("-", "_") for name in variants(config)}
    return [
        Claim(id, measure, bound, said, "–")
        for id, measure, bound, said in rows
        if any(measure.startswith(name) for name in there) and ("_over_" not in measure or "base_" in there)
    ]


def draw(config: Config, found: Found, measured: Measured, path: Path) -> str | None:
    rows = measured.series["kinds"]
    if not rows:
        return None
    least = 0.5 / config.pool.n  # a logarithmic axis has no zero
    groups = {}
    for kind in ("two-of-a-kind", "off-support"):
        middle, low, high = (
            np.maximum(ends, least).tolist() for ends in zip(*(row[kind] for row in rows), strict=True)
        )
        groups[KINDS[kind]] = middle, low, high
    plots.bars(path, groups, [row["what"] for row in rows], x_label=f"share of {config.pool.n:,} images")
    return "Errors of models that differ in one thing; 95 % intervals of drawing images, one training each."


# fmt: off
STUDY = Study(
    "shapes-causes",
    figures="–",
    summary="What makes a model of shapes draw two of a kind: one thing changed at a time",
    config=Config,
    tiers={
        "smoke": {
            "model.size": 64, "model.noise.timesteps": 40, "model.network.patch": 8, "model.network.width": 32,
            "model.network.blocks": 2, "model.network.reach": 2, "model.train.steps": 10, "model.train.batch": 8,
            "shorter": 5, "few": 8, "pool.steps": 10, "pool.n": 16, "pool.chunk": 8,
        },
        "quick": {
            "model.train.steps": 3000, "model.train.precision": "bf16", "pool.n": 1000,
            "names": ("base", "whole-image", "sees-less"),
        },
        "long": {"model.train.precision": "bf16"},
    },
    times={"smoke": "10 s", "quick": "25 min", "long": "~5 h"},
    jobs=jobs, measures=(measure,), claims=claims,
    pictures=lambda config: [Picture("causes", draw)],
)
# fmt: on
