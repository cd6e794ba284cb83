"""What the leaderboard claims: the best detector of each model, its cost, combinations, and conformal thresholds."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from intermode import thresholds
from intermode.detect.registry import DEFAULT
from intermode.errors import InputError
from intermode.evaluation import Estimate, share
from intermode.experiments.bench.pools import CHAIN, SOURCES
from intermode.experiments.bench.rows import CHEAP, COMBINED, rows_of
from intermode.run import Claim, Results, at_least

__all__ = ["best_claims", "conformal", "conformal_claims"]

ALPHAS = (0.01, 0.02, 0.05)
"""Shares of good samples that a conformal threshold may lose."""


def conformal(
    results: Results, source: str, name: str, real: dict[str, np.ndarray], good: np.ndarray, bad: np.ndarray
) -> None:
    """What a threshold that was fitted on real data keeps: of other real data, and of what the model draws well.

    The promise is one over both samples, that which fits the threshold (n) and that which is looked at (m): the
    intervals are those of a share of 1 / (1/n + 1/m) samples.
    """

    def kept(cut: thresholds.Threshold, scores: np.ndarray) -> Estimate:
        value, n, m = float(cut.keep(scores).mean()), len(real["calibration"]), len(scores)
        effective = round(1 / (1 / n + 1 / m))
        around = share(round(value * effective), effective)
        return Estimate(value, min(value, around.low), max(value, around.high))

    for alpha in ALPHAS:
        try:
            cut = thresholds.Threshold.conformal(real["calibration"], alpha)
        except InputError:
            continue
        removed = share(int((~cut.keep(bad)).sum()), len(bad))
        results.series.setdefault("conformal", []).append(
            {
                "source": source,
                "detector": name,
                "alpha": alpha,
                "real_kept": kept(cut, real["checking"]).triple,
                "in_support_kept": kept(cut, good).triple,
                "removed": removed.triple,
            }
        )


def best_claims(results: Results, source: str, rows: Sequence[dict[str, Any]]) -> None:
    single = [r for r in rows if r["detector"] != COMBINED]
    hal = next((r for r in single if r["detector"] == "hal"), None)
    if SOURCES[source].image:
        best = single[0]
        if hal is not None:
            results.claims.append(
                Claim(
                    f"{source}-better-than-hal",
                    f"{source}: the best detector ({best['detector']}) beats Hal: its AUROC, with the lower end over "
                    f"the upper end of Hal's, {hal['auroc_high']:.3f}",
                    "–",
                    best["auroc"],
                    best["auroc_low"],
                    best["auroc_high"],
                    bool(best["auroc_low"] > hal["auroc_high"]),
                )
            )
    else:
        best = max(single, key=lambda r: (r["removed_at_99_kept"], r["auroc"]))
        removed = Estimate(*(best[f"removed_at_99_kept{end}"] for end in ("", "_low", "_high")))
        results.claims.append(
            Claim(
                f"{source}-best",
                f"{source}: the best detector ({best['detector']}) removes 99.9 % of the hallucinations and keeps 99 % "
                "of the others",
                "–",
                *removed.triple,
                at_least(removed, 0.999),
            )
        )
    results.claims.append(
        Claim(
            f"{source}-cost",
            f"{source}: {best['detector']} costs at most 5 % of generating the sample in {CHAIN} steps (measured time)",
            "–",
            best["relative_time"],
            None,
            None,
            bool(best["relative_time"] <= CHEAP),
        )
    )
    combined = next((r for r in rows if r["detector"] == COMBINED), None)
    if combined is not None:
        top = max(single, key=lambda r: r["auroc"])
        results.claims.append(
            Claim(
                f"{source}-combined",
                f"{source}: two cheap scores together ({combined['settings']}) beat the best single one "
                f"({top['detector']}, AUROC up to {top['auroc_high']:.4f})",
                "–",
                combined["auroc"],
                combined["auroc_low"],
                combined["auroc_high"],
                bool(combined["auroc_low"] > top["auroc_high"]),
            )
        )


def conformal_claims(results: Results, config: Any) -> None:
    """Whether each promised share is kept, by the default detector, or where that was not run by the best."""
    for source in config.targets:
        names = [r["detector"] for r in rows_of(results, source) if r["detector"] not in (COMBINED, "hal")]
        if not names:
            continue
        chosen = DEFAULT if DEFAULT in names else names[0]
        for found in results.series.get("conformal", []):
            if (found["source"], found["detector"]) != (source, chosen):
                continue
            for key, what in (
                ("real_kept", "unseen real data"),
                ("in_support_kept", "in-support samples of the model"),
            ):
                value, low, high = found[key]
                promised = 1 - found["alpha"]
                results.claims.append(
                    Claim(
                        f"{source}-conformal-{key.replace('_', '-')}-{found['alpha']:g}",
                        f"{source}: a conformal threshold on {chosen} keeps {promised:.0%} of {what} "
                        f"(and removes {found['removed'][0]:.1%} of the hallucinations)",
                        "–",
                        value,
                        low,
                        high,
                        bool(high >= promised),
                    )
                )
