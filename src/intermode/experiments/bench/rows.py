"""The rows of the leaderboard: what each detector, and the best pair of cheap ones, does on the test half."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import average_precision_score

from intermode.evaluation import detection
from intermode.experiments.bench.cells import ENDS, auroc, finite, halves, ranks_within
from intermode.experiments.bench.pools import CHAIN, SOURCES, Pool
from intermode.run import Results

__all__ = ["CHEAP", "COMBINED", "combine", "row_of", "rows_of"]

CHEAP = 0.05
"""Network evaluations of a cheap detector, as a share of those of the chain."""
COMBINED = "combined"


def row_of(pool: Pool, config: Any, name: str, record: dict[str, Any], scores: np.ndarray) -> dict[str, Any]:
    _, test = halves(pool)
    scores, bad = scores[test], pool.bad[test]
    found = detection(scores, bad, seed=config.seed)
    row: dict[str, Any] = {
        "detector": name,
        "target": pool.source.target,
        "model": pool.source.model,
        "settings": record["settings"],
        "auroc": found.auroc.value,
        "auroc_low": found.auroc.low,
        "auroc_high": found.auroc.high,
        "average_precision": float(average_precision_score(bad, finite(scores))),
    }
    for key in ("kept_at_95_removed", "removed_at_95_kept", "removed_at_98_kept", "removed_at_99_kept"):
        value = getattr(found, key)
        row |= {key: value.value, f"{key}_low": value.low, f"{key}_high": value.high}
    return row | {
        "nfe": record["nfe"],
        "relative_time": record["relative_time"],
        "hallucinated": int(bad.sum()),
        "in_support": int((~bad).sum()),
    }


def rows_of(results: Results, source: str) -> list[dict[str, Any]]:
    """Of one model, the best AUROC first; the ends of the scale left out."""
    wanted = SOURCES[source]
    here = [r for r in results.rows if (r["target"], r["model"]) == (wanted.target, wanted.model)]
    return sorted((r for r in here if r["detector"] not in ENDS), key=lambda r: -r["auroc"])


def combine(results: Results, pool: Pool, config: Any, scores: dict[str, np.ndarray]) -> None:
    """The best pair of cheap scores, by a logistic model of their ranks; chosen and fitted on the validation half."""
    validation, _ = halves(pool)
    here = [r for r in results.rows if r["target"] == pool.source.target and r["model"] == pool.source.model]
    cheap = [r["detector"] for r in here if r["nfe"] <= CHEAP * CHAIN and r["detector"] not in ENDS]
    if len(cheap) < 2:
        return
    ranks = {name: ranks_within(scores[name], scores[name][validation]) for name in cheap}
    best: tuple[float, str, np.ndarray] = (-1.0, "", np.zeros(0))
    for pair in itertools.combinations(cheap, 2):
        both = np.stack([ranks[name] for name in pair], axis=1)
        average = both.mean(1)
        fitted = LogisticRegression(C=100.0).fit(both[validation], pool.bad[validation])
        for how, combined in (("rank average", average), ("logistic", fitted.decision_function(both))):
            quality = auroc(combined[validation], pool.bad[validation])
            if quality > best[0]:
                best = quality, f"{how} of {' and '.join(pair)}", combined
    record = {"settings": best[1], "nfe": 0, "relative_time": 0.0}
    for name in cheap:
        if f" {name} " in f" {best[1]} ":
            row = next(r for r in here if r["detector"] == name)
            record["nfe"] += row["nfe"]
            record["relative_time"] += row["relative_time"]
    results.rows.append(row_of(pool, config, COMBINED, record, best[2]))
