r"""Hallucination in images: a model of Simple Shapes draws two of a kind (paper: sections 1.1, 5, 6 and A.2; Figs. 1,
6c, 14-16).

Train a U-Net on 5,000 images (or take the shipped model), sample, and let the oracle of
:mod:`intermode.targets.shapes` read every image. Two labels are reported: the paper's, two or more shapes of one
kind, and the stricter one, anything that is off the support. Hal is judged against both, at the paper's window
t = 700..850 and at others; the best window is chosen on half of the samples and judged on the other half.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

from intermode import plots, thresholds
from intermode.denoisers import NetworkDenoiser
from intermode.detect.hal import Hal
from intermode.evaluation import Estimate, detection, share
from intermode.experiments.image_model import ImageModelConfig
from intermode.experiments.windows import Windows, compare, detectors
from intermode.models import shipped
from intermode.run import Claim, Results, Run, at_least
from intermode.sampling import Samples, Plan, generate, predictions
from intermode.targets.shape_oracle import ShapeLabels
from intermode.targets.shape_support import KINDS, SIZE
from intermode.targets.shapes import Shapes

__all__ = ["TIERS", "Config", "boxes_of", "run"]

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


@dataclass(frozen=True)
class Config(ImageModelConfig):
    """Settings of ``shapes``.

    Attributes:
        pretrained: take the shipped model instead of training, an hour on two cores.
        samples: to draw.
        window: timesteps of Hal, both ends included; the paper's is 700 850.
    """

    pretrained: bool = True
    samples: int = 1024
    window: tuple[int, int] = (700, 850)

    @property
    def target(self) -> Shapes:
        return Shapes()

    @property
    def plan(self) -> Plan:
        return Plan(self.samples, self.target.shape, self.seed, self.chunk, device=self.device)

    @property
    def windows(self) -> list[tuple[int, int]]:
        """The windows compared, on this T; those that hold two visited timesteps."""
        visited = self.sampler.timesteps(self.schedule)
        scaled = [(low * self.timesteps // 1000, high * self.timesteps // 1000) for low, high in WINDOWS]
        return [(low, high) for low, high in scaled if sum(low <= t <= high for t in visited) >= 2]

    def check(self) -> None:
        self.check_for(self.target.shape)
        Hal(*self.window).check(self.schedule, self.sampler.timesteps(self.schedule))
        _ = self.plan
        if self.pretrained:
            shipped("shapes", self.schedule, "shapes")


TIERS = {
    "smoke": Config(
        pretrained=False,
        train_size=64,
        timesteps=40,
        channels=(32,),
        attention=(),
        patch=8,
        steps=20,
        batch=8,
        sampling_steps=20,
        samples=24,
        chunk=8,
        window=(28, 34),
        threads=1,
    ),
    "quick": Config(),
    "paper": Config(
        pretrained=False,
        patch=1,
        channels=(128, 256, 384, 512),
        layers=3,
        attention=(1, 2, 3),
        steps=100_000,
        batch=64,
        learning_rate=1e-4,
        ema=0.9999,
        samples=7500,
        chunk=500,
        precision="bf16",
        compile=True,
        threads=4,
        device="cuda",
    ),
}


def run(run: Run, config: Config) -> Results:
    """Train or load, sample, label, judge; see the module's docstring."""
    torch.set_num_threads(config.threads)
    results = Results()
    target = config.target
    if config.pretrained:
        trained = config.shipped("shapes")
    else:
        data = target.sample(config.train_size, config.seed)
        trained = config.fit_to(data, run.path / "model", "shapes", progress=run.progress)
        run.keep_time()
    denoiser = config.sampled(trained)
    watching = [Hal(*config.window), *detectors(config.windows, config.timesteps)]
    generated = generate(denoiser, config.sampler, config.plan, watching, folder=run.path, progress=run.progress)
    labels = target.label(generated.x)
    results.values |= {
        "samples": config.samples,
        "diverged": int(generated.diverged.sum()),
        "images_per_second": config.samples / generated.seconds,
        "training_seconds": trained.seconds,
    }
    _rates(results, labels)
    plots.loss(run.figure("loss"), config.steps, trained.losses)
    _images(run, results, config, generated, labels)
    _film_strips(run, results, config, denoiser, generated, labels)
    _judge(run, results, config, generated, "", "two of a kind", labels.duplicate)
    _judge(run, results, config, generated, "off_support_", "off the support", labels.hallucinated)
    results.figures["loss"] = "Training loss."
    return results


def _rates(results: Results, labels: ShapeLabels) -> None:
    """The rate at both labels, and how many images each rule rejects."""
    n = len(labels.hallucinated)
    for name, bad in (("hallucination_rate", labels.duplicate), ("off_support_rate", labels.hallucinated)):
        rate = share(int(bad.sum()), n)
        results.values |= {name: rate.value, f"{name}_low": rate.low, f"{name}_high": rate.high}
    results.values["hallucinated"] = int(labels.duplicate.sum())
    rules, counts = np.unique(np.asarray(labels.rule), return_counts=True)
    results.series["rules"] = [[str(rule), int(count)] for rule, count in zip(rules, counts, strict=True)]
    results.series["shapes_per_image"] = {
        kind: np.bincount(counts, minlength=4).tolist()
        for kind, counts in zip(KINDS, labels.counts_by_kind.T, strict=True)
    }
    rate = share(int(labels.duplicate.sum()), n)
    results.claims.append(
        Claim(
            "hallucinates",
            "The model draws two or more shapes of one kind, which the data never has: share of samples, at least 1 %",
            "about 5 % (section 6)",
            *rate.triple,
            at_least(rate, 0.01),
        )
    )


def boxes_of(labels: ShapeLabels, row: int) -> list[plots.Box]:
    """Around what is wrong with an image: all of it, if it is blank."""
    if np.asarray(labels.rule)[row] == "blank":
        return [(2, 2, SIZE - 4, SIZE - 4)]
    return [(o.row, o.column, o.height, o.width) for o in labels.objects[row] if o.wrong]


def _pick(mask: np.ndarray, count: int) -> list[int]:
    return [int(row) for row in np.flatnonzero(mask)[:count]]


def _images(run: Run, results: Results, config: Config, generated: Samples, labels: ShapeLabels) -> None:
    images = generated.x[:, 0].numpy()
    columns = 6
    real = config.target.sample(SHOWN, config.seed + 1)[:, 0].numpy()
    first = range(min(SHOWN, config.samples))
    plots.image_panels(
        run.figure("samples"),
        [
            ("training data", real, [()] * len(real), []),
            ("generated", images[first], [boxes_of(labels, k) for k in first], []),
        ],
        columns,
    )
    results.figures["samples"] = (
        "Images of the data and the first generated ones; red where something is wrong. Compare Fig. 1."
    )
    wrong = _pick(labels.duplicate, SHOWN)
    wrong += _pick(labels.hallucinated & ~labels.duplicate & ~generated.diverged, SHOWN - len(wrong))
    if wrong:
        plots.image_panels(
            run.figure("hallucinated"),
            [
                (
                    "generated, off the support",
                    images[wrong],
                    [boxes_of(labels, k) for k in wrong],
                    [str(np.asarray(labels.rule)[k]) for k in wrong],
                )
            ],
            8,
        )
        results.figures["hallucinated"] = (
            "Hallucinated images, those with two of a kind first, with boxes around what is wrong. Compare Fig. 14."
        )


def _film_strips(
    run: Run, results: Results, config: Config, denoiser: NetworkDenoiser, generated: Samples, labels: ShapeLabels
) -> None:
    """x0_hat of a hallucinated and of in-support samples of the same chunk, which is drawn again."""
    wrong = _pick(labels.duplicate & ~generated.diverged, 1) or _pick(labels.hallucinated & ~generated.diverged, 1)
    if not wrong:
        return
    chunk = np.arange(config.samples) // config.chunk == wrong[0] // config.chunk
    other = _pick(chunk & ~labels.hallucinated & (labels.counts_by_kind.sum(1) > 1), 1)
    rows = [*wrong, *other]
    timesteps, x0_hat = predictions(denoiser, config.sampler, config.plan, rows, config.timesteps)
    # dense where shapes are decided, from the middle of the chain on
    frames = np.unique(np.linspace(len(timesteps) // 20, len(timesteps) - 1, FRAMES).round().astype(int))
    titles = ["hallucinated", "in-support"]
    plots.film_strips(
        run.figure("film-strips"),
        timesteps[frames].tolist(),
        [(titles[k], x0_hat[frames, k, 0], boxes_of(labels, row)) for k, row in enumerate(rows)],
        config.window,
    )
    results.figures["film-strips"] = (
        f"Predicted x0 along the trajectory, the finished image at the right; timesteps of the window t = "
        f"{config.window[0]}..{config.window[1]} in bold. Compare Figs. 15 and 16."
    )


def _judge(
    run: Run, results: Results, config: Config, generated: Samples, prefix: str, meaning: str, bad: np.ndarray
) -> None:
    """Hal against one label."""
    if min(bad.sum(), (~bad).sum()) < 10:
        results.notes.append(f"{meaning}: {int(bad.sum())} of {len(bad)} samples: too few to judge a detector.")
        return
    scores = generated.scores["hal"]
    whole = detection(scores, bad, seed=config.seed)
    for name in ("auroc", "kept_at_95_removed", "removed_at_95_kept"):
        found: Estimate = getattr(whole, name)
        key = f"{prefix}hal_{name}"
        results.values |= {key: found.value, f"{key}_low": found.low, f"{key}_high": found.high}
    slug = prefix.removesuffix("_").replace("_", "-") or "duplicates"
    results.claims.append(_claim(f"{slug}-paper", meaning, whole.removed_at_95_kept, config.window, "all samples"))
    windows = compare(generated.scores, bad, config.seed, "auroc")
    if windows is not None:
        best = windows.judged[windows.best]
        results.series[f"{prefix}windows"] = windows.rows
        results.values |= {
            f"{prefix}best_window_low": windows.best[0],
            f"{prefix}best_window_high": windows.best[1],
            f"{prefix}best_window_auroc": best.auroc.value,
        }
        where = "the best window, chosen on the other half of the samples"
        results.claims.append(_claim(f"{slug}-best", meaning, best.removed_at_95_kept, windows.best, where))
        windows.draw(run.figure(f"{slug}-windows"))
        results.figures[f"{slug}-windows"] = (
            f"Detection of samples {meaning} against the window of Hal (first timestep above the last), 95 % intervals."
        )
    _histograms(run, results, config, generated, slug, meaning, bad, windows)


def _claim(name: str, meaning: str, removed: Estimate, window: tuple[int, int], where: str) -> Claim:
    return Claim(
        name,
        f"Hal removes 95 % of the samples with {meaning} and keeps 95 % of the others "
        f"(t = {window[0]}..{window[1]}, {where})".replace("with off", "that are off"),
        "95 % removed (section 5.2)",
        *removed.triple,
        at_least(removed, PAPER_REMOVED),
    )


def _histograms(
    run: Run,
    results: Results,
    config: Config,
    generated: Samples,
    slug: str,
    meaning: str,
    bad: np.ndarray,
    windows: Windows | None,
) -> None:
    shown = {"paper": ("hal", config.window)}
    if windows is not None:
        shown["best"] = "hal-{}-{}".format(*windows.best), windows.best
    for word, (name, window) in shown.items():
        scores = generated.scores[name]
        cuts = {
            "removes 95 %": thresholds.Threshold.labelled(scores, bad, removed=0.95).value,
            "keeps 95 % of the others": thresholds.Threshold.labelled(scores, bad, kept=0.95).value,
        }
        figure = f"{slug}-hal-{word}"
        plots.score_histogram(run.figure(figure), scores, bad, cuts, f"Hal, t = {window[0]}..{window[1]}")
        results.figures[figure] = (
            f"Hal of samples {meaning} (orange) and of all others (blue), at the {word}'s window. ".replace(
                "best's", "best"
            )
            + "Compare Fig. 6c."
        )
