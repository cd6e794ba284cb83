r"""Which detector is best: all of them on the same samples of the same models, where the truth is known.

Every detector's settings are chosen on a validation half of the kept samples, by AUROC, and judged on the other half.
Conformal thresholds are fitted on scores of data that no model was trained on, without a label of a hallucination.
Time and network evaluations are those of scoring a sample, relative to making it by a chain of T = 1000 steps.
"""

from __future__ import annotations

import itertools
import os
import re
import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property, partial
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import average_precision_score, roc_curve

from intermode import plots
from intermode.detect import watches
from intermode.detect.hal import Hal
from intermode.detect.registry import DEFAULTS, DETECTORS, Setting, make, resolve
from intermode.detect.window import CRITICAL, Critical
from intermode.errors import InputError
from intermode.evaluation import Estimate, detection, matched, ratio_over_seeds, share
from intermode.jobs import Job
from intermode.leaderboard import rank
from intermode.studies.bench_cells import (
    AUDIT,
    CHAIN,
    ENDS,
    OFF_SUPPORT,
    SOURCES,
    Kept,
    Source,
    auroc,
    candidates,
    fingerprint,
    finite,
    keep,
    kept_of,
    ranks_within,
    score_cell,
)
from intermode.studies.image_scores import FEWEST
from intermode.studies.shapes import made_of
from intermode.study import Bound, Claim, Found, Measured, Missing, Picture, Study, at_least, below
from intermode.study.configs import Pool, check_least
from intermode.study.steps import Tabulated, View, model_job, pool_job, windows_job
from intermode.thresholds import Threshold

__all__ = ["STUDY", "Config"]

CHEAP = 0.05
"""Network evaluations of a cheap detector, as a share of those of the chain."""
COMBINED = "combined"
ALPHAS = (0.01, 0.02, 0.05)
"""Shares of good samples that a conformal threshold may lose."""
AUDITED = 0.9
"""AUROC at equal content that is claimed of another model."""
APART = 1e-9
"""A difference of AUROCs that is one: two that are perfect are equal, and neither beats the other."""
MARGIN = 2
"""It is claimed to lose at most so many times what it may: that it loses no more at all, no number of samples shows."""
PARTS = {"real_kept": "unseen real data", "in_support_kept": "in-support samples of the model"}
STATISTICS = ("auroc", "kept_at_95_removed", *(f"removed_at_{share}_kept" for share in ("95", "98", "99", "99_9")))
Row: TypeAlias = dict[str, Any]


@dataclass(frozen=True)
class Config:
    """Settings of ``bench``.

    Attributes:
        targets: models to score samples of; target-well is trained to the end, target-under hardly.
        detectors: names of the registry, or module:Name of one's own.
        critical: names of those that are also asked in the model's critical windows, where no setting is chosen.
        audit: names of those that ask another model, too, where there is one, in its critical windows.
        draw: samples drawn of the best model of the 1-D mixture; fewer of those that hallucinate more.
        images: images drawn of each model.
        image_steps: respaced steps of the chain that draws them.
        hallucinated: most hallucinations that are kept of a model.
        in_support: most other samples that are kept.
        images_kept: most images that are kept of a label, and most others.
        fitting: samples of the data that detectors are fitted on.
        undertraining: steps of the undertrained models that are trained here, times this.
        seed: of everything.
    """

    targets: tuple[str, ...] = tuple(SOURCES)
    detectors: tuple[str, ...] = tuple(DETECTORS)
    critical: tuple[str, ...] = ("residual", "bias", "lid", "hal-renoise")
    audit: tuple[str, ...] = ("bias", "lid")
    draw: int = 1_000_000
    images: int = 768
    image_steps: int = 50
    hallucinated: int = 500
    in_support: int = 2000
    images_kept: int = 120
    fitting: int = 2000
    undertraining: float = 1.0
    seed: int = 0

    def __post_init__(self) -> None:
        if unknown := [word for word in self.targets if word not in SOURCES]:
            raise InputError(f"targets: unknown {unknown[0]!r}; choose from {', '.join(SOURCES)}")
        for name in ("targets", "detectors", "critical", "audit"):
            chosen = getattr(self, name)
            if (not chosen and name in ("targets", "detectors")) or len(set(chosen)) < len(chosen):
                raise InputError(f"{name}: {' '.join(chosen) or 'none'}; each at most once, and at least one")
        check_least(self, 1, "draw", "images", "image_steps", "hallucinated", "in_support", "images_kept", "fitting")
        check_least(self, 0, "seed")
        if not self.undertraining > 0:
            raise InputError(f"undertraining: {self.undertraining} must be > 0")
        _ = self.names

    @cached_property
    def names(self) -> dict[str, str]:
        """The detector of each name in tables: that of the registry, or the one that somebody else's has."""
        target = next(source for source in SOURCES.values() if source.image).trained().target.target  # all score images
        found = resolve(self.detectors, Setting(tuple(target.shape), target))
        if lacking := [word for word, d in zip(self.detectors, found, strict=True) if not hasattr(d, "nfe")]:
            raise InputError(f"detectors: {lacking[0]} has no nfe, its network evaluations for each sample")
        where = Setting(tuple(target.shape), target, window="critical")
        for field, name in (*(("critical", name) for name in self.critical), *(("audit", name) for name in self.audit)):
            if not isinstance(getattr(make(name, where), "window", None), Critical):
                raise InputError(f"{field}: {name} looks at no timesteps; choose lid, bias, residual or hal-renoise")
        own = {d.name if ":" in word else word: word for word, d in zip(self.detectors, found, strict=True)}
        more = *(f"{name}{CRITICAL}" for name in self.critical), *(f"{name}{AUDIT}" for name in self.audit)
        return own | {word: word for word in more}

    @property
    def drawings(self) -> dict[str, list[Source]]:
        """What is drawn once for several labels; images, which take longest, first."""
        found: dict[str, list[Source]] = {}
        for source in sorted((SOURCES[name] for name in self.targets), key=lambda source: not source.image):
            found.setdefault(source.drawing, []).append(source)
        return found

    def pool(self, source: Source) -> tuple[Pool, View | None]:
        """What is drawn, and how the chain sees the model."""
        if source.image:
            return Pool("small", self.image_steps, 32, self.images), None
        view = Tabulated(-5.5, 5.5) if source.kind == "gaussian-1d" else Tabulated(-5.5, 5.5, 96, 2, 60)
        return Pool(n=max(int(self.draw * source.draw), 100)), view


def jobs(config: Config) -> dict[str, Job]:
    if any(":" in word for word in config.detectors) and os.getcwd() not in sys.path:
        sys.path.append(os.getcwd())  # so that worker processes find one's own detectors too
    found: dict[str, Job] = {}
    for drawing, sources in config.drawings.items():
        found |= jobs_of(config, drawing, sources)
    return found


def jobs_of(config: Config, drawing: str, sources: Sequence[Source]) -> dict[str, Job]:
    """A model, a pool of its samples, and a cell for each detector, for all labels that are asked for."""
    source = sources[0]
    model = model_job(f"model-{drawing}", source.trained(config.seed, config.undertraining))
    target, (pool, view) = model.config.target, config.pool(source)
    setting = Setting(tuple(target.target.shape), target.target)
    visited = pool.sampler.timesteps(model.config.noise.schedule)

    def drawn(name: str, detectors: Sequence[Any]) -> Job:
        return replace(pool_job(name, model, pool, config.seed + 1, detectors, view), temporary=True)

    # all labels there are, so that samples do not depend on which are asked for
    labels = sorted({other.label for other in SOURCES.values() if other.drawing == drawing})
    most = (config.images_kept,) * 2 if source.image else (config.hallucinated, config.in_support)
    numbers = {"hallucinated": most[0], "in_support": most[1], "seed": config.seed}
    windows = [w for w in source.windows if sum(w[0] <= t <= w[1] for t in visited) >= 2]
    inputs = {
        "model": model,
        "drawn": drawn(f"drawn-{drawing}", [Hal(*w, name="hal-{}-{}".format(*w)) for w in windows]),
    }
    kept = Job(f"pool-{drawing}", keep, {"labels": labels, "target": target, **numbers}, inputs)
    found, critical = {model.name: model, kept.name: kept}, windows_job(f"windows-{drawing}", model)
    asked = {"labels": [one.label for one in sources], "target": target, "fitting": config.fitting, "seed": config.seed}
    for name, word in config.names.items():
        if not source.takes(word):
            continue
        cell, inputs = re.sub(r"[^\w.-]", "-", f"cell-{drawing}-{name}"), {"model": model, "pool": kept}
        if word != "hal" and watches(own := candidates(word, setting)[0]):
            inputs["watched"] = drawn(f"drawn-for-{cell}", [own])
        if word.endswith(CRITICAL):
            inputs["windows"] = critical
        elif word.endswith(AUDIT):
            of = next(one for one in SOURCES.values() if one.drawing == source.auditor)
            inputs["model"] = model_job(f"model-{of.drawing}", of.trained(config.seed, config.undertraining))
            inputs["windows"] = windows_job(f"windows-{of.drawing}", inputs["model"])
        found[f"cell-{drawing}-{name}"] = Job(cell, score_cell, {**fingerprint(word, setting), **asked}, inputs)
    return found


def leaderboard(config: Config, found: Found) -> Measured:
    """The rows of all models, what they say of the best detectors, and ranks over models."""
    measured = Measured(dict.fromkeys(claim.measure for claim in claims(config)))
    for name in config.targets:
        try:
            measure(config, found, SOURCES[name], measured)
        except Missing as error:
            measured.notes.append(f"{name}: {error}")
    ranks(config, measured)
    return measured


def measure(config: Config, found: Found, source: Source, measured: Measured) -> None:
    """The rows of one model, its best detectors, and what conformal thresholds keep."""
    kept, name = kept_of(found[f"pool-{source.drawing}"], source.label), source.name
    measured.values |= {f"{name}_drawn": kept.drawn, f"{name}_rate": share(kept.hallucinated, kept.drawn)}
    if source.image and source.label == OFF_SUPPORT:
        made = made_of(found[f"pool-{source.drawing}"].facts["rules"])
        measured.notes.append(f"{name}: off the support, of {kept.drawn} images: {made}.")
    if not kept.enough:
        few = f"{kept.hallucinated} of {kept.drawn} samples are hallucinated: too few to judge."
        measured.notes.append(f"{name}: {few}")
        return
    scores: dict[str, np.ndarray] = {}
    times: dict[str, Estimate] = {}
    rows: list[Row] = []
    for detector, word in config.names.items():
        if not source.takes(word):
            if not word.endswith(AUDIT):
                measured.notes.append(f"{name}: {detector} scores images alone.")
            continue
        try:
            record, parts = cell_of(found, source, detector)
        except Missing as error:
            measured.notes.append(f"{name}: {error}")
            continue
        scores[detector] = parts["scores"]
        times[detector] = relative_time(record["seconds"], kept.evaluation_s)
        cost: Row = {"nfe": record["nfe"], "relative_time": times[detector].value}
        cost["tuned"] = "no" if detector.endswith((CRITICAL, AUDIT)) else "on the validation half"
        rows.append(row_of(kept, source, config.seed, detector, record["settings"], cost, parts["scores"]))
        if "calibration" in parts:
            measured.series.setdefault("conformal", []).extend(conformal(source, detector, parts, kept))
    rows += combined(kept, source, config.seed, scores, rows)
    measured.rows += rows
    values = {**of_the_best(source, rows, times), **promises(source, rows, measured.series.get("conformal", []))}
    measured.values |= {f"{name}_{key}": value for key, value in values.items()}


def cell_of(found: Found, source: Source, detector: str) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """The record of a cell, and its scores: of the samples and of data."""
    cell, end = found[f"cell-{source.drawing}-{detector}"], f"-{source.label}"
    parts = {name.removesuffix(end): v.numpy() for name, v in cell.tensors().items() if name.endswith(end)}
    return cell.facts[source.label], parts


def relative_time(seconds: Sequence[float], evaluation_s: Sequence[float]) -> Estimate:
    """Of scoring a sample, over making it by the chain; 0 for what only watches the chain."""
    if not seconds:
        return Estimate(0.0, 0.0, 0.0, method="none is needed")
    found = ratio_over_seeds(seconds, [CHAIN * one for one in evaluation_s])
    return replace(found, method=found.method and "Welch, of logarithms of times")


def row_of(kept: Kept, source: Source, seed: int, name: str, settings: str, cost: Row, scores: np.ndarray) -> Row:
    """What a score can do on the test half."""
    scores, bad = scores[kept.test], kept.bad[kept.test]
    found = detection(scores, bad, seed=seed)
    row: Row = {"detector": name, "target": source.target, "model": source.model, "settings": settings}
    for key in STATISTICS:
        row.update(zip((key, f"{key}_low", f"{key}_high"), getattr(found, key).triple, strict=True))
        if key == "auroc":
            row["average_precision"] = float(average_precision_score(bad, finite(scores)))
    if kept.content is not None:
        equal = matched(scores, bad, kept.content[kept.test], seed=seed)
        ends = equal.triple if equal and (equal.n or 0) >= FEWEST else (None,) * 3
        row.update(zip(("matched_auroc", "matched_auroc_low", "matched_auroc_high"), ends, strict=True))
    return {**row, **cost, "hallucinated": int(bad.sum()), "in_support": int((~bad).sum())}


def rows_of(rows: Sequence[Row], source: Source) -> list[Row]:
    """Of one model, the best AUROC first; without the ends of the scale, and what asks another model."""
    here = [r for r in rows if (r["target"], r["model"]) == (source.target, source.model) and alone(r)]
    return sorted(here, key=lambda r: -r["auroc"])


def alone(row: Row) -> bool:
    """Whether it is a detector, and asks no other model."""
    return row["detector"] not in ENDS and not row["detector"].endswith(AUDIT)


def combined(kept: Kept, source: Source, seed: int, scores: dict[str, np.ndarray], rows: Sequence[Row]) -> list[Row]:
    """The best pair of cheap scores, by a logistic model of their ranks; chosen and fitted on the validation half."""
    half = kept.validation
    cheap = {r["detector"]: r for r in rows if r["nfe"] <= CHEAP * CHAIN and alone(r)}
    within = {name: ranks_within(scores[name], scores[name][half]) for name in cheap}
    best: tuple[float, str, tuple[str, ...], np.ndarray] = (-1.0, "", (), np.zeros(0))
    for pair in itertools.combinations(cheap, 2):
        both = np.stack([within[name] for name in pair], axis=1)
        fitted = LogisticRegression(C=100.0).fit(both[half], kept.bad[half])
        for how, score in (("rank average", both.mean(1)), ("logistic", fitted.decision_function(both))):
            quality = auroc(score[half], kept.bad[half])
            if quality > best[0]:
                best = quality, f"{how} of {' and '.join(pair)}", pair, score
    _, settings, chosen, score = best
    cost: Row = {key: sum(cheap[name][key] for name in chosen) for key in ("nfe", "relative_time")}
    cost["tuned"] = "on the validation half"
    return [row_of(kept, source, seed, COMBINED, settings, cost, score)] if chosen else []


def of_the_best(source: Source, rows: Sequence[Row], times: dict[str, Estimate]) -> dict[str, Estimate]:
    """The measures that say what the best detector, and the best two together, can do."""
    of = {r["detector"]: r for r in rows_of(rows, source)}
    single = [r for name, r in of.items() if name != COMBINED]
    if not single:
        return {}
    found, best = {}, single[0]
    if not source.image:
        best = max(single, key=lambda r: (r["removed_at_99_kept"], r["auroc"]))
        found["best_removed_at_99_kept"] = statistic(best, "removed_at_99_kept")
        found["best_removed_at_99_9_kept"] = statistic(
            max(single, key=lambda r: (r["removed_at_99_9_kept"], r["auroc"])), "removed_at_99_9_kept"
        )
    else:
        audits = [r for r in rows if r["detector"] == f"lid{AUDIT}" and r.get("matched_auroc") is not None]
        if audits:
            found["audit_matched_auroc"] = statistic(audits[0], "matched_auroc")
        if "hal" in of:
            found["auroc_over_hal"] = difference(best, of["hal"])
        if equal := [r for r in single if r.get("matched_auroc") is not None]:
            found["best_matched_auroc"] = statistic(max(equal, key=lambda r: r["matched_auroc"]), "matched_auroc")
    if COMBINED in of:
        found["auroc_of_two_over_one"] = difference(of[COMBINED], single[0])
    return {**found, "best_relative_time": times[best["detector"]]}


def statistic(row: Row, name: str) -> Estimate:
    """Of a row, with its interval."""
    return Estimate(*(row[f"{name}{end}"] for end in ("", "_low", "_high")), n=row["hallucinated"], method="bootstrap")


def difference(a: Row, b: Row) -> Estimate:
    """Of two AUROCs, from the ends of both intervals: they count as different only if these do not meet."""
    ends = a["auroc"] - b["auroc"], a["auroc_low"] - b["auroc_high"], a["auroc_high"] - b["auroc_low"]
    return Estimate(*ends, n=a["hallucinated"] + a["in_support"], method="ends of two bootstraps")


def conformal(source: Source, name: str, parts: dict[str, np.ndarray], kept: Kept) -> list[Row]:
    """What thresholds that were fitted on real data keep: of other real data, and of what the model draws well."""
    good, bad = (parts["scores"][kept.test & wanted] for wanted in (~kept.bad, kept.bad))
    rows = []
    for alpha in ALPHAS:
        try:
            cut = Threshold.conformal(parts["calibration"], alpha)
        except InputError:  # too few for so small a share
            continue
        row = {
            "real_kept": kept_share(cut, len(parts["calibration"]), parts["checking"]),
            "in_support_kept": kept_share(cut, len(parts["calibration"]), good),
            "removed": share(int((~cut.keep(bad)).sum()), len(bad)),
        }
        told = {"source": source.name, "detector": name, "alpha": alpha}
        rows.append({**told, **{key: estimate.triple for key, estimate in row.items()}})
    return rows


def kept_share(cut: Threshold, n: int, scores: np.ndarray) -> Estimate:
    """The share of scores that a threshold fitted on n others keeps.

    The promise is one over both samples, that which fits the threshold (n) and that which is looked at (m): the
    interval is that of a share of 1 / (1/n + 1/m) samples.
    """
    value, effective = float(cut.keep(scores).mean()), round(1 / (1 / n + 1 / len(scores)))
    around = share(round(value * effective), effective)
    return Estimate(value, min(value, around.low), max(value, around.high))


def promises(source: Source, rows: Sequence[Row], found: Sequence[Row]) -> dict[str, Estimate]:
    """What the default detector's thresholds keep, or where that was not run the best's, as measures."""
    names = [r["detector"] for r in rows_of(rows, source) if r["detector"] not in (COMBINED, "hal")]
    chosen = DEFAULTS["finished"] if DEFAULTS["finished"] in names else next(iter(names), None)
    return {
        f"{part}_{row['alpha']:g}": Estimate(*row[part], method="Wilson, of both samples")
        for row in found
        for part in PARTS
        if (row["source"], row["detector"]) == (source.name, chosen)
    }


def ranks(config: Config, measured: Measured) -> None:
    """Mean ranks over models, if there are some."""
    found = judged(config, measured)
    if len(found) < 2 or min(map(len, found.values())) < 2:
        return
    ranking = rank({name: {r["detector"]: r["auroc"] for r in rows} for name, rows in found.items()})
    measured.series["mean_rank"] = dict(ranking.mean_rank)
    first = next(iter(ranking.mean_rank))
    best, apart = ranking.mean_rank[first], ranking.critical_difference
    measured.values |= {"critical_difference": apart, "best_mean_rank": best}
    others = ", ".join(name for name in ranking.indistinct() if name != first) or "none of the others"
    measured.notes.append(
        f"Over {ranking.targets} models, {first} has the best mean rank by AUROC ({best:.2f}). Mean ranks {apart:.2f} "
        f"apart differ at the 5 % level (Nemenyi): it is not told apart from {others}."
    )


def judged(config: Config, measured: Measured) -> dict[str, list[Row]]:
    """The single detectors of each model that has rows, the best AUROC first."""
    found = {name: rows_of(measured.rows, SOURCES[name]) for name in config.targets}
    return {name: [r for r in rows if r["detector"] != COMBINED] for name, rows in found.items() if rows}


def claims(config: Config) -> list[Claim]:
    two = "two cheap scores together beat the best single one (AUROC less its, from the ends of both, over 0)"
    most = "the best detector removes 99.9 % of the hallucinations and keeps {} % of the others"
    more = "the best detector beats Hal (its AUROC less Hal's, from the ends of both intervals, over 0)"
    audited = (
        "another model (lid, in its critical windows) tells them from others with as many shapes: AUROC, at least "
    )
    audited += f"{AUDITED:g}"
    costs = f"the best detector costs under 5 % of generating the sample in {CHAIN} steps (measured time)"
    chosen = DEFAULTS["finished"] if DEFAULTS["finished"] in config.names else "the best detector"
    said: list[tuple[str, str, str, Bound, str]] = []
    for name in config.targets:
        if not SOURCES[name].image:
            said.append((name, "best", "best_removed_at_99_kept", at_least(0.999), most.format(99)))
            said.append((name, "best-999", "best_removed_at_99_9_kept", at_least(0.999), most.format(99.9)))
        elif "hal" in config.names:
            said.append((name, "better-than-hal", "auroc_over_hal", at_least(APART), more))
        if SOURCES[name].auditor and "lid" in config.audit:
            said.append((name, "audit", "audit_matched_auroc", at_least(AUDITED), audited))
        said.append((name, "cost", "best_relative_time", below(CHEAP), costs))
        said.append((name, "combined", "auroc_of_two_over_one", at_least(APART), two))
    for name, alpha, part in itertools.product(config.targets, ALPHAS, PARTS):
        least, end = 1 - MARGIN * alpha, f"conformal-{part.replace('_', '-')}-{alpha:g}"
        loses = f"a conformal threshold on {chosen} that may lose {alpha:.0%} of {PARTS[part]}"
        said.append((name, end, f"{part}_{alpha:g}", at_least(least), f"{loses} keeps at least {least:.0%}"))
    return [Claim(f"{of}-{end}", f"{of}_{key}", bound, f"{of}: {words}", "–") for of, end, key, bound, words in said]


def roc(config: Config, found: Found, measured: Measured, path: Path) -> str | None:
    curves: dict[str, dict[str, tuple[np.ndarray, np.ndarray]]] = {}
    for name, rows in judged(config, measured).items():
        kept = kept_of(found[f"pool-{SOURCES[name].drawing}"], SOURCES[name].label)
        shown = {r["detector"] for r in rows[:5]} | {"hal"}
        curves[name] = {}
        for detector in (r["detector"] for r in rows if r["detector"] in shown):
            scores = cell_of(found, SOURCES[name], detector)[1]["scores"][kept.test]
            curves[name][detector] = roc_curve(kept.bad[kept.test], finite(scores))[:2]
    if not curves:
        return None
    plots.roc(path, curves)
    return (
        "ROC on the test half: hallucinations removed against in-support samples lost; the best five of each model, "
        "and Hal. The axis of the samples lost is logarithmic."
    )


def cost(config: Config, found: Found, measured: Measured, path: Path) -> str | None:
    of = judged(config, measured)
    if not of:
        return None
    points = {name: {r["detector"]: (r["nfe"], 1 - r["auroc"]) for r in rows} for name, rows in of.items()}
    plots.cost_quality(path, points)
    return "Network evaluations for a sample's score against 1 - AUROC: the lower left is best."


def disagreement(source: Source, config: Config, found: Found, measured: Measured, path: Path) -> str | None:
    """The images of the test half on whose ranks the best detector and Hal differ most."""
    names = [r["detector"] for r in judged(config, measured).get(source.name, [])]
    if "hal" not in names or names[0] == "hal":
        return None
    kept = kept_of(found[f"pool-{source.drawing}"], source.label)
    where = np.flatnonzero(kept.test)
    scores = (cell_of(found, source, name)[1]["scores"][where] for name in (names[0], "hal"))
    of_best, of_hal = (ranks_within(values, values) for values in scores)
    order = np.argsort(of_best - of_hal)
    panels: list[Any] = []
    for title, chosen in ((f"suspect to {names[0]} alone", order[::-1][:8]), ("suspect to hal alone", order[:8])):
        rows = where[chosen]
        captions = ["hallucinated" if kept.bad[k] else "in-support" for k in rows]
        panels.append((title, kept.x[rows, 0].numpy(), [()] * len(rows), captions))
    plots.image_panels(path, panels, 4)
    return f"{source.name}: the images on which {names[0]} and Hal disagree most, with what the oracle says."


def pictures(config: Config) -> list[Picture]:
    images = [SOURCES[name] for name in config.targets if SOURCES[name].image]
    unlike = [Picture(f"{source.name}-disagreement", partial(disagreement, source)) for source in images]
    return [*unlike, Picture("roc", roc), Picture("cost", cost)]


# fmt: off
STUDY = Study(
    "bench",
    figures="–",
    summary="Which detector is best: all of them on the same samples, where the truth is known",
    tiers={
        "smoke": {
            "targets": ("gaussian-1d-under",), "detectors": ("hal", "residual", "lid", "knn", "random", "oracle"),
            "critical": (), "draw": 20_000, "hallucinated": 60, "in_support": 120, "fitting": 300,
            "undertraining": 0.5,
        },
        "quick": {},
        # so many that 99.9 % of half of the hallucinations can be told from all of them
        "long": {"draw": 20_000_000, "hallucinated": 10_000, "in_support": 20_000, "images": 4096, "images_kept": 500},
        "paper": {
            "draw": 20_000_000, "images": 7500, "image_steps": 250, "hallucinated": 5000, "in_support": 20_000,
            "images_kept": 5000,
        },
    },
    times={"smoke": "20 s", "quick": "35 min", "long": "~5 h", "paper": "~11 h"},
    config=Config, jobs=jobs, measures=(leaderboard,), claims=claims, pictures=pictures,
)
# fmt: on
