r"""What a filter does to the pool of generation 0 of ``recursion-mnist``, before any training on what it keeps.

Which digits it keeps and rejects; how many of each class, with one threshold for all and with one for each (paper:
Fig. 13); and whether what it keeps lies nearer to real digits than random selections of as many do, for several windows
of Hal. So the effect of selecting is seen apart from that of training again.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch

from intermode import plots
from intermode.classifier import features, load_classifier
from intermode.detect.hal import HalRenoise
from intermode.distances import frechet, neighbourhoods
from intermode.evaluation import Estimate
from intermode.experiments import arms
from intermode.files import load_tensors, save_tensors
from intermode.models import load_model
from intermode.noise import draws
from intermode.recursion import select
from intermode.run import Results, Run, below
from intermode.sampling import Samples, score
from intermode.targets.digits import CLASSES

__all__ = ["analyse"]

SELECTORS = ("hal", "hal-per-class")
SHOWN = 40
"""Digits of a panel."""
WINDOWS = ((0.0, 0.1), (0.1, 0.2), (0.2, 0.3), (0.4, 0.5), (0.6, 0.7))
"""Of Hal, in shares of T, that are compared; the third is the paper's."""
PICKS = 40
"""Random selections that a filter's is compared with."""


def analyse(run: Run, results: Results, config: Any) -> None:
    """Claims, figures and rows of what is kept of generation 0's pool; ``config`` is that of ``recursion-mnist``."""
    folder = arms.generation_folder(run, config.seed, config.arms[0], 0)
    tensors, _ = load_tensors(folder / "samples.safetensors")
    usable = ~tensors["diverged"]
    labels = torch.arange(len(usable)) % CLASSES
    pool = Samples(
        tensors["samples"][usable],
        {"hal": load_tensors(folder / "scores.safetensors")[0]["hal"][usable].numpy()},
        np.zeros(int(usable.sum()), dtype=bool),
        0.0,
        condition={"class_labels": labels[usable]},
    )
    _extremes(run, results, pool)
    _classes(run, results, config, pool)
    scores = _scores_by_window(run, config, folder, tensors["samples"], labels)
    _windows(run, results, config, pool, {name: s[usable.numpy()] for name, s in scores.items()})


def _extremes(run: Run, results: Results, pool: Samples) -> None:
    """The digits with the lowest and the highest scores."""
    order = np.argsort(pool.scores["hal"])
    plots.image_panels(
        run.figure("kept-and-rejected"),
        [
            (title, pool.x[rows, 0].clamp(-1, 1).numpy(), [()] * len(rows), ())
            for title, rows in (("lowest Hal", order[:SHOWN].copy()), ("highest Hal", order[::-1][:SHOWN].copy()))
        ],
        8,
    )
    results.figures["kept-and-rejected"] = (
        "Digits of generation 0 with the lowest and the highest Hal. Compare Fig. 13."
    )


def _classes(run: Run, results: Results, config: Any, pool: Samples) -> None:
    """How many of each class are kept."""
    labels = pool.condition["class_labels"]
    counts = {"pool": np.bincount(labels, minlength=CLASSES)}
    for selector in SELECTORS:
        rows = select(selector, pool, config.train_size, config.seed, 1)
        counts[selector] = np.bincount(labels[torch.from_numpy(rows)], minlength=CLASSES)
    results.series["classes_kept"] = {name: count.tolist() for name, count in counts.items()}
    lines: dict[str, plots.Band] = {}
    for name, count in counts.items():
        shares = (count / count.sum()).tolist()
        lines[name] = (shares, shares, shares)
    plots.curves(run.figure("classes"), range(CLASSES), lines, x_label="class", y_label="share of the digits")
    results.figures["classes"] = "Classes of generation 0's pool, and of what is kept of it, with one threshold or ten."
    worst = counts["hal"].min() / (config.train_size / CLASSES)
    results.values["smallest_class_kept"] = float(worst)
    results.notes.append(
        f"One threshold for all classes leaves the class that suffers most {worst:.0%} of its share; with one for each "
        "class all keep theirs."
    )


def _windows(run: Run, results: Results, config: Any, pool: Samples, scores: dict[str, np.ndarray]) -> None:
    """How near to real digits lies what is kept, by window."""
    lenet = load_classifier()
    known = features(lenet, config.digits("train").take(slice(config.reference)).images)
    found = features(lenet, pool.x)
    chance = draws(config.seed, "select")
    picks = [chance.permutation(len(found))[: config.train_size] for _ in range(PICKS)]
    low, middle, high = np.quantile([frechet(known, found[rows]).value for rows in picks], (0.025, 0.5, 0.975)).tolist()
    rows: list[dict[str, Any]] = []
    for window, values in scores.items():
        scored = Samples(pool.x, {"hal": values}, pool.diverged, 0.0, condition=pool.condition)
        for selector in SELECTORS:
            kept = found[select(selector, scored, config.train_size, config.seed, 1)]
            near = neighbourhoods(known, kept)
            row = {"window": window, "selector": selector, "fid": frechet(known, kept).value}
            rows.append(row | {"precision": near.precision.value, "recall": near.recall.value})
    results.series["selection"] = rows
    by_chance = neighbourhoods(known, found[picks[0]])
    results.values |= {
        "random_selection_fid": middle,
        "random_selection_fid_low": low,
        "random_selection_fid_high": high,
        "random_selection_precision": by_chance.precision.value,
        "random_selection_recall": by_chance.recall.value,
    }
    for selector, how in (("hal", "one threshold for all classes"), ("hal-per-class", "one for each class")):
        wanted = _named(*config.window), selector
        ours = next(row["fid"] for row in rows if (row["window"], row["selector"]) == wanted)
        results.claims.append(
            below(
                f"selection-{selector}",
                f"Before any training: the digits of generation 0 that Hal keeps, with {how}, lie nearer to real ones "
                "than random selections of as many; Fréchet distance over theirs, under 1 (interval: 95 % of "
                f"{PICKS} selections)",
                "implied by Fig. 8c",
                Estimate(ours / middle, ours / high, ours / low),
                1.0,
            )
        )
    lines: dict[str, plots.Band] = {"random": ([middle] * len(scores), [low] * len(scores), [high] * len(scores))}
    for selector in SELECTORS:
        fids = [row["fid"] for row in rows if row["selector"] == selector]
        lines[selector] = (fids, fids, fids)
    plots.curves(
        run.figure("selection"),
        range(len(scores)),
        lines,
        x_label="window of Hal",
        y_label="Fréchet distance of what is kept",
        ticks=[window.removeprefix("t = ") for window in scores],
    )
    results.figures["selection"] = (
        "What selecting alone does: Fréchet distance from real digits of what is kept of generation 0's pool, by the "
        f"window of Hal, beside the middle and 95 % of {PICKS} random selections of as many."
    )


def _named(low: int, high: int) -> str:
    return f"t = {low}..{high}"


def _scores_by_window(
    run: Run, config: Any, folder: Path, samples: torch.Tensor, labels: torch.Tensor
) -> dict[str, np.ndarray]:
    """Hal of all samples for each window, the lowest first."""
    others = ((round(low * config.timesteps), round(high * config.timesteps)) for low, high in WINDOWS)
    windows = sorted({*others, tuple(config.window)})
    file = folder / "scores-by-window.safetensors"
    if not file.exists():
        denoiser = config.sampled(load_model(folder / "model"))
        tensors = {}
        for low, high in windows:
            values = score(
                HalRenoise(low, high, min(config.count, high - low + 1)),
                denoiser,
                samples,
                seed=config.seed,
                chunk=config.chunk,
                device=config.device,
                progress=run.progress,
                class_labels=labels,
            )
            tensors[_named(low, high)] = torch.from_numpy(values)
        save_tensors(file, tensors)
    tensors, _ = load_tensors(file)
    return {_named(*window): tensors[_named(*window)].numpy() for window in windows}
