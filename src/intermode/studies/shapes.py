"""Hallucination in images: a model of Simple Shapes draws two of a kind (paper: sections 1.1, 5, 6 and A.2; Figs. 1,
6c, 14-16).

Train a U-Net on 5,000 images (or take the shipped model), sample, and let the oracle of
:mod:`intermode.targets.shapes` read every image. Two labels are reported: the paper's, two or more shapes of one
kind, and the stricter one, anything that is off the support. Hal is judged against both, at the paper's window
t = 700..850 and at others; the best window is chosen on half of the samples and judged on the other half.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch

from intermode import plots
from intermode.detect.hal import Hal
from intermode.evaluation import detection, share
from intermode.jobs import Job, Running
from intermode.sampling import predictions
from intermode.studies.configs import Pool, ShapesModel
from intermode.studies.steps import (
    label_job,
    labels_of,
    losses_of,
    model_job,
    pool_job,
    pool_of,
    sampled,
)
from intermode.studies.study import Claim, Found, Measured, Picture, Study, at_least
from intermode.studies.windows import compare, detection_values, detectors, draw_windows
from intermode.targets.shape_oracle import ShapeLabels
from intermode.targets.shape_support import KINDS, SIZE
from intermode.thresholds import Threshold

__all__ = ["STUDY", "Config", "boxes_of"]

PAPER_REMOVED = 0.95
"""Share of the hallucinations that the paper removes when it keeps 95 % of the in-support samples (section 5.2)."""
WINDOWS = (
    *((0, 20), (0, 50), (0, 100), (50, 150), (100, 200), (100, 300), (200, 400), (300, 500), (400, 600)),
    *((500, 700), (600, 800), (700, 850), (750, 900), (850, 950), (100, 700), (400, 850)),
)
"""Windows that are compared, as thousandths of T."""
FRAMES = 12
"""Images of a film strip."""
SHOWN = 24
"""Images of a panel."""
FEWEST = 10
"""Samples of each class that a detector is judged on, at least."""
WORDS = {"duplicate": "with two of a kind", "wrong-column": "with a shape in a wrong column"}
"""Rules in words, where they are no adjectives."""


@dataclass(frozen=True)
class Config:
    """Settings of ``shapes``.

    Attributes:
        model: of the images; training one instead of taking the shipped one takes an hour on two cores.
        pool: images to draw.
        window: timesteps of Hal, both ends included; the paper's is 700 850.
    """

    model: ShapesModel = ShapesModel(shipped="shapes")
    pool: Pool = Pool(1024, "small", 250, 32)
    window: tuple[int, int] = (700, 850)

    def __post_init__(self) -> None:
        Hal(*self.window).check(self.model.noise.schedule, self.visited)

    @property
    def seed(self) -> int:
        return self.model.seed

    @property
    def visited(self) -> list[int]:
        """Timesteps of the chain."""
        return list(self.pool.sampler.timesteps(self.model.noise.schedule))

    @property
    def windows(self) -> list[tuple[int, int]]:
        """The windows compared, on this T; those that hold two visited timesteps."""
        scaled = [tuple(end * self.model.noise.timesteps // 1000 for end in window) for window in WINDOWS]
        return [(low, high) for low, high in scaled if sum(low <= t <= high for t in self.visited) >= 2]


class Label(NamedTuple):
    """A label that Hal is judged against.

    Attributes:
        id: begins the ids of its claims and the names of its figures.
        prefix: begins the names of its measures.
        meaning: in words.
        of: name in :class:`intermode.studies.steps.ImageLabels`.
    """

    id: str
    prefix: str
    meaning: str
    of: str


LABELS = (
    Label("duplicates", "", "with two of a kind", "duplicate"),
    Label("off-support", "off_support_", "that are off the support", "hallucinated"),
)


def jobs(config: Config) -> dict[str, Job]:
    model = model_job("model", config.model)
    watching = detectors(config.window, config.windows, config.model.noise.timesteps)
    pool = pool_job("pool", model, config.pool, config.seed, watching)
    labels = label_job("labels", pool, config.model.target)
    drawn = {"pool": config.pool, "seed": config.seed}
    strips = Job("film-strips", follow, drawn, {"model": model, "pool": pool, "labels": labels})
    return {"model": model, "pool": pool, "labels": labels, "film-strips": strips}


def first(mask: np.ndarray, count: int) -> list[int]:
    """The first rows where ``mask`` is true."""
    return [int(row) for row in np.flatnonzero(mask)[:count]]


def follow(running: Running) -> dict[str, Any]:
    """x0_hat of a hallucinated and of an in-support sample of the same chunk, which is drawn again."""
    pool, labels = running.config["pool"], labels_of(running.inputs["labels"])
    fine = ~pool_of(running.inputs["pool"]).diverged
    wrong = first(labels.duplicate & fine, 1) or first(labels.hallucinated & fine, 1)
    if not wrong:
        return {"rows": []}
    chunk = np.arange(pool.n) // pool.chunk == wrong[0] // pool.chunk
    rows = [*wrong, *first(chunk & ~labels.hallucinated & (labels.counts_by_kind.sum(1) > 1), 1)]
    denoiser = sampled(running.inputs["model"], running.device)
    plan = pool.plan(denoiser.shape, running.config["seed"], running.device)
    timesteps, x0_hat = predictions(denoiser, pool.sampler, plan, rows, len(denoiser.schedule))
    # dense where shapes are decided, from the middle of the chain on
    frames = np.unique(np.linspace(len(timesteps) // 20, len(timesteps) - 1, FRAMES).round().astype(int))
    shown = {"timesteps": timesteps[frames], "x0_hat": x0_hat[frames][:, :, 0]}
    running.save({key: torch.from_numpy(np.ascontiguousarray(value)) for key, value in shown.items()})
    return {"rows": rows}


def rates(config: Config, found: Found) -> Measured:
    """The rate at both labels, and how many images each rule rejects."""
    pool, labels = pool_of(found["pool"]), labels_of(found["labels"])
    rules, counts = np.unique(labels.rule, return_counts=True)
    return Measured(
        {
            "samples": config.pool.n,
            "diverged": int(pool.diverged.sum()),
            "images_per_second": config.pool.n / pool.seconds,
            "training_seconds": found["model"].facts["train_s"],
            "hallucination_rate": share(int(labels.duplicate.sum()), config.pool.n),
            "off_support_rate": share(int(labels.hallucinated.sum()), config.pool.n),
            "hallucinated": int(labels.duplicate.sum()),
        },
        {
            "rules": [[str(rule), int(count)] for rule, count in zip(rules, counts, strict=True)],
            "shapes_per_image": {
                kind: np.bincount(counts, minlength=4).tolist()
                for kind, counts in zip(KINDS, labels.counts_by_kind.T, strict=True)
            },
        },
    )


def judge(config: Config, found: Found) -> Measured:
    """Hal against both labels."""
    scores, labels, measured = pool_of(found["pool"]).scores, labels_of(found["labels"]), Measured()
    for label in LABELS:
        measured.add(against(label, scores, getattr(labels, label.of), config.seed))
    return measured


def against(label: Label, scores: Any, bad: np.ndarray, seed: int) -> Measured:
    """Hal against one label."""
    prefix = label.prefix
    claimed = (f"{prefix}hal_removed_at_95_kept", f"{prefix}best_window_removed_at_95_kept")
    measured = Measured(dict.fromkeys(claimed))
    if min(bad.sum(), (~bad).sum()) < FEWEST:
        measured.notes.append(
            f"Images {label.meaning}: {int(bad.sum())} of {len(bad)}: too few, of these or of others, to judge a "
            "detector."
        )
        return measured
    measured.values |= detection_values(detection(scores["hal"], bad, seed=seed), f"{prefix}hal")
    windows = compare(scores, bad, seed, "auroc")
    if windows is not None:
        best = windows.judged[windows.best]
        measured.series[f"{prefix}windows"] = windows.rows
        measured.values |= {
            f"{prefix}best_window_low": windows.best[0],
            f"{prefix}best_window_high": windows.best[1],
            f"{prefix}best_window_auroc": best.auroc,
            f"{prefix}best_window_removed_at_95_kept": best.removed_at_95_kept,
        }
    return measured


def claims(config: Config) -> list[Claim]:
    low, high = config.window
    places = {
        "paper": ("hal", f"t = {low}..{high}, all samples"),
        "best": ("best_window", "at the best window, chosen on the other half of the samples"),
    }
    return [
        Claim(
            "hallucinates",
            "hallucination_rate",
            at_least(0.01),
            "The model draws two or more shapes of one kind, which the data never has: share of samples, at least 1 %",
            "about 5 % (section 6)",
        ),
        *(
            Claim(
                f"{label.id}-{word}",
                f"{label.prefix}{measure}_removed_at_95_kept",
                at_least(PAPER_REMOVED),
                f"Hal removes 95 % of the samples {label.meaning} and keeps 95 % of the others ({where})",
                "95 % removed (section 5.2)",
            )
            for label in LABELS
            for word, (measure, where) in places.items()
        ),
    ]


def boxes_of(labels: ShapeLabels, row: int) -> list[plots.Box]:
    """Around what is wrong with an image: all of it, if it is blank."""
    if np.asarray(labels.rule)[row] == "blank":
        return [(2, 2, SIZE - 4, SIZE - 4)]
    return [(o.row, o.column, o.height, o.width) for o in labels.objects[row] if o.wrong]


def boxed(config: Config, found: Found, rows: list[int]) -> tuple[np.ndarray, list[list[plots.Box]]]:
    """The images of these rows, and what is wrong with each."""
    x = pool_of(found["pool"]).x[rows]
    labels = config.model.target.target.label(x)
    return x[:, 0].numpy(), [boxes_of(labels, k) for k in range(len(rows))]


def samples(config: Config, found: Found, measured: Measured, path: Path) -> str:
    real = config.model.target.target.sample(SHOWN, config.seed + 1)[:, 0].numpy()
    images, boxes = boxed(config, found, list(range(min(SHOWN, config.pool.n))))
    plots.image_panels(
        path, [("training data", real, [()] * len(real), []), ("generated", images, boxes, [])], columns=6
    )
    return "Images of the data and the first generated ones; red where something is wrong. Compare Fig. 1."


def hallucinated(config: Config, found: Found, measured: Measured, path: Path) -> str | None:
    labels = labels_of(found["labels"])
    wrong = first(labels.duplicate, SHOWN)
    fine = ~pool_of(found["pool"]).diverged
    wrong += first(labels.hallucinated & ~labels.duplicate & fine, SHOWN - len(wrong))
    if not wrong:
        return None
    images, boxes = boxed(config, found, wrong)
    plots.image_panels(path, [("generated, off the support", images, boxes, labels.rule[wrong].tolist())], columns=8)
    rules = labels.rule[wrong].tolist()
    by_rule = [f"{rules.count(rule)} {WORDS.get(rule, rule)}" for rule in dict.fromkeys(["duplicate", *rules])]
    return f"{len(wrong)} hallucinated images: {', '.join(by_rule)}. Boxes are around what is wrong. Compare Fig. 14."


def film_strips(config: Config, found: Found, measured: Measured, path: Path) -> str | None:
    rows = found["film-strips"].facts["rows"]
    if not rows:
        return None
    tensors = found["film-strips"].tensors()
    _, boxes = boxed(config, found, rows)
    titles = ["hallucinated", "in-support"]
    strips = [(titles[k], tensors["x0_hat"][:, k].numpy(), boxes[k]) for k in range(len(rows))]
    plots.film_strips(path, tensors["timesteps"].tolist(), strips, config.window)
    return (
        f"Predicted x0 along the trajectory, the finished image at the right; timesteps of the window t = "
        f"{config.window[0]}..{config.window[1]} in bold. Compare Figs. 15 and 16."
    )


def loss(config: Config, found: Found, measured: Measured, path: Path) -> str:
    plots.loss(path, config.model.train.steps, losses_of(found["model"]))
    return "Training loss."


def windows(label: Label, config: Config, found: Found, measured: Measured, path: Path) -> str | None:
    if f"{label.prefix}windows" not in measured.series:
        return None
    draw_windows(measured.series[f"{label.prefix}windows"], path)
    return f"Detection of samples {label.meaning} against Hal's window (first timestep above the last), 95 % intervals."


def histogram(label: Label, whose: str, config: Config, found: Found, measured: Measured, path: Path) -> str | None:
    ends: Any = [measured.values.get(f"{label.prefix}best_window_{end}") for end in ("low", "high")]
    name, (low, high) = ("hal", config.window) if whose == "paper" else ("hal-{}-{}".format(*ends), ends)
    if low is None or f"{label.prefix}hal_auroc" not in measured.values:
        return None
    scores, bad = pool_of(found["pool"]).scores[name], getattr(labels_of(found["labels"]), label.of)
    cuts = {
        "removes 95 %": Threshold.labelled(scores, bad, removed=0.95).value,
        "keeps 95 % of the others": Threshold.labelled(scores, bad, kept=0.95).value,
    }
    plots.score_histogram(path, scores, bad, cuts, f"Hal, t = {low}..{high}")
    where = "the paper's window" if whose == "paper" else "the best window"
    return f"Hal of samples {label.meaning} (orange) and of all others (blue), at {where}. Compare Fig. 6c."


def pictures(config: Config) -> list[Picture]:
    judged = [
        Picture(f"{label.id}-{name}", draw)
        for label in LABELS
        for name, draw in (
            ("windows", partial(windows, label)),
            ("hal-paper", partial(histogram, label, "paper")),
            ("hal-best", partial(histogram, label, "best")),
        )
    ]
    shown = [Picture("samples", samples), Picture("hallucinated", hallucinated), Picture("film-strips", film_strips)]
    return [*shown, *judged, Picture("loss", loss)]


# fmt: off
TIERS: dict[str, dict[str, Any]] = {
    "smoke": {
        "model.shipped": None, "model.size": 64, "model.noise.timesteps": 40, "model.network.patch": 8,
        "model.network.channels": (32,), "model.network.attention": (), "model.train.steps": 20,
        "model.train.batch": 8, "pool.steps": 20, "pool.n": 24, "pool.chunk": 8, "window": (28, 34),
    },
    "quick": {},
    "long": {"model.shipped": None, "model.train.steps": 32_000, "pool.steps": 50, "pool.n": 12_000},
    "paper": {
        "model.shipped": None, "model.network.patch": 1, "model.network.channels": (128, 256, 384, 512),
        "model.network.layers": 3, "model.network.attention": (1, 2, 3), "model.train.steps": 100_000,
        "model.train.batch": 64, "model.train.learning_rate": 1e-4, "model.train.ema": 0.9999,
        "model.train.precision": "bf16", "model.train.compile": True, "pool.n": 7500, "pool.chunk": 500,
    },
}
# fmt: on
"""What each tier differs in from the quick one, by dotted names."""

STUDY = Study(
    "shapes",
    figures="Figs. 1, 6c, 14-16",
    summary="A U-Net draws two shapes of a kind, which its data never has; an exact oracle and Hal find them",
    config=Config,
    tiers=TIERS,
    times={"smoke": "10 s", "quick": "12 min", "long": "~5 h", "paper": "~8 h, GPU"},
    jobs=jobs,
    measures=(rates, judge),
    claims=claims,
    pictures=pictures,
)
