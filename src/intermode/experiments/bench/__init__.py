r"""Which detector is best: all of them on the same samples of the same models, where the truth is known.

Every detector's settings are chosen on a validation half of the kept samples, by AUROC, and judged on the other half.
Conformal thresholds are fitted on scores of data that no model was trained on, without a label of a hallucination.
Time and network evaluations are those of scoring a sample, relative to making it by a chain of T = 1000 steps.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from intermode.detect.registry import DETECTORS
from intermode.errors import InputError
from intermode.evaluation import share
from intermode.experiments.bench.cells import halves, make_cell, record_file, scores_file
from intermode.experiments.bench.claims import best_claims, conformal, conformal_claims
from intermode.experiments.bench.figures import draw
from intermode.experiments.bench.pools import SOURCES, make_pool
from intermode.experiments.bench.rows import COMBINED, combine, row_of, rows_of
from intermode.experiments.parallel import run_jobs
from intermode.files import load_tensors, read_json
from intermode.leaderboard import Ranking, rank
from intermode.progress import Named, Progress
from intermode.run import Results, Run

__all__ = ["TIERS", "Config", "run"]


@dataclass(frozen=True)
class Config:
    """Settings of ``bench``.

    Attributes:
        targets: models to score samples of; target-well is trained to the end, target-under hardly.
        detectors: names of the registry.
        draw: samples drawn of the best model of the 1-D mixture; fewer of those that hallucinate more.
        images: images drawn of each model.
        image_steps: respaced steps of the chain that draws them.
        hallucinated: most hallucinations that are kept of a model.
        in_support: most other samples that are kept.
        images_kept: most images that are kept of a label, and most others.
        fitting: samples of the data that detectors are fitted on.
        undertraining: steps of the undertrained models that are trained here, times this.
        seed: of everything.
        workers: cells worked on at a time.
        threads: torch's, of each worker.
        device: cpu.
    """

    targets: tuple[str, ...] = tuple(SOURCES)
    detectors: tuple[str, ...] = tuple(DETECTORS)
    draw: int = 1_000_000
    images: int = 768
    image_steps: int = 50
    hallucinated: int = 500
    in_support: int = 2000
    images_kept: int = 120
    fitting: int = 2000
    undertraining: float = 1.0
    seed: int = 0
    workers: int = 2
    threads: int = 1
    device: str = "cpu"

    def check(self) -> None:
        """Raise InputError for values that cannot be used, before anything is written."""
        for name, chosen, known in (
            ("targets", self.targets, tuple(SOURCES)),
            ("detectors", self.detectors, tuple(DETECTORS)),
        ):
            if unknown := [word for word in chosen if word not in known]:
                raise InputError(f"{name}: unknown {unknown[0]!r}; choose from {', '.join(known)}")
            if not chosen or len(set(chosen)) < len(chosen):
                raise InputError(f"{name}: {' '.join(chosen) or 'none'}; each at most once, and at least one")
        for name in ("draw", "images", "hallucinated", "in_support", "images_kept", "fitting", "workers", "threads"):
            if getattr(self, name) < 1:
                raise InputError(f"{name}: {getattr(self, name)} must be at least 1")
        for source in (SOURCES[name] for name in self.targets):
            if not source.trained_here:
                _ = source.shipped
        if not self.undertraining > 0:
            raise InputError(f"undertraining: {self.undertraining} must be > 0")
        if self.device != "cpu":
            raise InputError(f"device: {self.device} is not available here; times are compared on a cpu")


TIERS = {
    "smoke": Config(
        targets=("gaussian-1d-under",),
        detectors=("hal", "residual", "lid", "knn", "random", "oracle"),
        draw=20_000,
        hallucinated=60,
        in_support=120,
        fitting=300,
        undertraining=0.5,
        workers=1,
    ),
    "quick": Config(),
    "paper": Config(
        draw=20_000_000, images=7500, image_steps=250, hallucinated=5000, in_support=20_000, images_kept=5000
    ),
}


def run(run: Run, config: Config) -> Results:
    """All cells, then the leaderboard; see the module's docstring."""
    torch.set_num_threads(config.threads)
    # what is drawn once for several labels is drawn before the others look at it
    drawings: dict[str, list[str]] = {}
    # images take longest: first, so that no worker is left with one of them at the end
    for name in sorted(config.targets, key=lambda name: not SOURCES[name].image):
        drawings.setdefault(SOURCES[name].drawing, []).append(name)

    def finished() -> int:
        return sum(1 for _ in run.path.glob("*/pool.safetensors")) + sum(1 for _ in run.path.glob("*/cells/*.json"))

    total = len(drawings) + len(config.targets) * len(config.detectors)
    with run.progress.task("cells", total, finished(), "cells") as task:
        for names in ((None,), config.detectors):
            jobs = [(config, run.path, tuple(labels), name) for labels in drawings.values() for name in names]
            run_jobs(_work, jobs, config.workers, run.progress, task, finished)
    results = Results()
    for source in config.targets:
        _target(run, results, config, source)
    _rank(results, config)
    draw(run, results, config)
    return results


def _work(job: tuple[Config, Path, tuple[str, ...], str | None], progress: Progress) -> None:
    """A drawing, or the cells of one detector on it, one for each label."""
    config, path, sources, name = job
    torch.set_num_threads(config.threads)
    named = Named(SOURCES[sources[0]].drawing, progress)
    pools = [make_pool(SOURCES[source], config, path, named) for source in sources]
    if name is not None and not all(record_file(path, source, name).exists() for source in sources):
        make_cell(pools, config, path, name)


def _target(run: Run, results: Results, config: Config, source: str) -> None:
    """The rows of one model."""
    pool = make_pool(SOURCES[source], config, run.path, run.progress)
    validation, test = halves(pool)
    drawn, bad = pool.drawn, pool.hallucinated
    rate = share(bad, drawn)
    results.values |= {f"{source}_drawn": drawn, f"{source}_rate": rate.value}
    if (
        min(pool.bad[validation].sum(), pool.bad[test].sum(), (~pool.bad[validation]).sum(), (~pool.bad[test]).sum())
        < 5
    ):
        results.notes.append(f"{source}: {bad} of {drawn} samples are hallucinated: too few to judge.")
        return
    scores: dict[str, np.ndarray] = {}
    for name in config.detectors:
        tensors, _ = load_tensors(scores_file(run.path, source, name))
        record = read_json(record_file(run.path, source, name))
        scores[name] = tensors["scores"].numpy()
        results.rows.append(row_of(pool, config, name, record, scores[name]))
        if "calibration" in tensors:
            kept = {part: tensors[part].numpy() for part in ("calibration", "checking")}
            conformal(results, source, name, kept, scores[name][test & ~pool.bad], scores[name][test & pool.bad])
    combine(results, pool, config, scores)


def _rank(results: Results, config: Config) -> None:
    """Claims, and ranks over targets."""
    quality: dict[str, dict[str, float]] = {}
    for source in config.targets:
        rows = rows_of(results, source)
        if not rows:
            continue
        quality[source] = {r["detector"]: r["auroc"] for r in rows if r["detector"] != COMBINED}
        best_claims(results, source, rows)
    conformal_claims(results, config)
    if len(quality) < 2 or min(map(len, quality.values())) < 2:
        return
    ranking: Ranking = rank(quality)
    results.series["mean_rank"] = dict(ranking.mean_rank)
    first = next(iter(ranking.mean_rank))
    results.values |= {"critical_difference": ranking.critical_difference, "best_mean_rank": ranking.mean_rank[first]}
    others = [name for name in ranking.indistinct() if name != first]
    results.notes.append(
        f"Over {ranking.targets} models, {first} has the best mean rank by AUROC ({ranking.mean_rank[first]:.2f}). "
        f"Mean ranks {ranking.critical_difference:.2f} apart differ at the 5 % level (Nemenyi): it is not told apart "
        f"from {', '.join(others) or 'none of the others'}."
    )
