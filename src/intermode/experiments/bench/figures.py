"""The figures of the leaderboard."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from sklearn.metrics import roc_curve

from intermode import plots
from intermode.experiments.bench.cells import finite, halves, ranks_within, scores_of
from intermode.experiments.bench.pools import SOURCES, Pool, make_pool
from intermode.experiments.bench.rows import COMBINED, rows_of
from intermode.run import Results, Run

__all__ = ["draw"]


def draw(run: Run, results: Results, config: Any) -> None:
    curves: dict[str, dict[str, tuple[np.ndarray, np.ndarray]]] = {}
    for source in config.targets:
        rows = [r for r in rows_of(results, source) if r["detector"] != COMBINED]
        if not rows:
            continue
        shown = {r["detector"] for r in rows[:5]} | {"hal"}
        pool = make_pool(SOURCES[source], config, run.path, run.progress)
        _, test = halves(pool)
        for row in rows:
            if row["detector"] in shown:
                scores = scores_of(run.path, source, row["detector"])
                lost, removed, _ = roc_curve(pool.bad[test], finite(scores[test]))
                curves.setdefault(source, {})[row["detector"]] = lost, removed
        if SOURCES[source].image:
            _disagreement(run, results, pool, source, rows)
    if not curves:
        return
    plots.roc(run.figure("roc"), curves)
    results.figures["roc"] = (
        "ROC on the test half: hallucinations removed against in-support samples lost; the best five of each model, "
        "and Hal. The axis of the samples lost is logarithmic."
    )
    points = {
        source: {
            r["detector"]: (r["nfe"], 1 - r["auroc"]) for r in rows_of(results, source) if r["detector"] != COMBINED
        }
        for source in curves
    }
    plots.cost_quality(run.figure("cost"), points)
    results.figures["cost"] = "Network evaluations for a sample's score against 1 - AUROC: the lower left is best."


def _disagreement(run: Run, results: Results, pool: Pool, source: str, rows: Sequence[dict[str, Any]]) -> None:
    """The images of the test half on whose ranks the best detector and Hal differ most."""
    names = [r["detector"] for r in rows]
    if "hal" not in names or names[0] == "hal":
        return
    _, test = halves(pool)
    where = np.flatnonzero(test)
    found = (scores_of(run.path, source, name)[where] for name in (names[0], "hal"))
    ranks = [ranks_within(scores, scores) for scores in found]
    order = np.argsort(ranks[0] - ranks[1])
    panels = []
    for title, chosen in ((f"suspect to {names[0]} alone", order[::-1][:8]), ("suspect to hal alone", order[:8])):
        rows_of = where[chosen]
        captions = ["hallucinated" if pool.bad[k] else "in-support" for k in rows_of]
        panels.append((title, pool.x[rows_of, 0].numpy(), [()] * len(rows_of), captions))
    plots.image_panels(run.figure(f"{source}-disagreement"), panels, 4)
    results.figures[f"{source}-disagreement"] = (
        f"{source}: the images on which {names[0]} and Hal disagree most, with what the oracle says."
    )
