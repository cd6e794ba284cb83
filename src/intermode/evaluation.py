r"""How well a score separates hallucinated from in-support samples, with intervals.

* AUROC: the probability that a hallucination scores higher than an in-support sample (ties count half).
* kept at r removed: the share of in-support samples kept by the threshold that removes r of the hallucinations.
* removed at k kept: the share of hallucinations removed by the threshold that keeps k of the in-support ones.
* precision: the share of hallucinations among what is removed, which needs to know how rare they are.
* all of them *at matched content*: among samples that hold equally much, averaged with the weights of the
  hallucinations there. A score that only counts what is in a sample is at chance then.

Intervals are 95 %: Wilson's for shares, the percentile bootstrap otherwise. All three statistics depend on the
in-support scores only through how many fall between two neighbouring hallucinated scores, so a bootstrap
resample is a multinomial draw over those bins: exact, and as cheap as the smaller class.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from scipy import stats
from sklearn.metrics import roc_auc_score

from intermode.errors import InputError
from intermode.noise import draws
from intermode.values import as_flags, as_numbers

__all__ = [
    "Detection",
    "Estimate",
    "detection",
    "matched",
    "over_seeds",
    "precision",
    "ratio_of",
    "ratio_of_shares",
    "ratio_over_seeds",
    "ratio_to_share",
    "share",
]

Z = float(stats.norm.ppf(0.975))


@dataclass(frozen=True)
class Estimate:
    """A measured value with its 95 % interval.

    Attributes:
        value: measured.
        low, high: ends of the interval; the value itself where there is none.
        n: number of samples, seeds or whatever else it was measured on, if there is one.
        method: where the interval comes from; empty where there is none.
    """

    value: float
    low: float
    high: float
    n: int | None = field(default=None, kw_only=True)
    method: str = field(default="", kw_only=True)

    @property
    def triple(self) -> tuple[float, float, float]:
        """(value, low, high)"""
        return self.value, self.low, self.high

    def __str__(self) -> str:
        return f"{self.value:.4g} [{self.low:.4g}, {self.high:.4g}]"


def share(count: int, total: int) -> Estimate:
    """``count`` of ``total`` with Wilson's interval.

    Raises:
        InputError: total < 1 or a count outside 0..total.
    """
    if total < 1 or not 0 <= count <= total:
        raise InputError(f"count: {count} of {total} is no share")
    # in closed form: scipy's binomtest also computes a p-value, a thousand times as long, for each point of a curve
    middle = (count + Z**2 / 2) / (total + Z**2)
    reach = Z * math.sqrt(count * (total - count) / total + Z**2 / 4) / (total + Z**2)
    low, high = middle - reach if count else 0.0, middle + reach if count < total else 1.0
    return Estimate(count / total, low, high, n=total, method="Wilson")


def over_seeds(values: Sequence[float]) -> Estimate:
    """Geometric mean of positive values over seeds, with Student's 95 % interval on the logarithm.

    One seed has no interval: its ends are the value itself.

    Raises:
        InputError: no values, or one that is not positive.
    """
    if len(values) == 0 or min(values) <= 0:
        raise InputError("values: a geometric mean needs at least one value, all positive")
    logs = np.log(values)
    middle = float(logs.mean())
    if len(logs) == 1:
        return Estimate(*[float(np.exp(middle))] * 3, n=1)
    reach = float(stats.t.ppf(0.975, len(logs) - 1) * logs.std(ddof=1) / np.sqrt(len(logs)))
    ends = float(np.exp(middle - reach)), float(np.exp(middle + reach))
    return Estimate(float(np.exp(middle)), *ends, n=len(logs), method="Student, of logarithms over seeds")


def ratio_over_seeds(over: Sequence[float], under: Sequence[float], *, paired: bool = False) -> Estimate:
    """Ratio of two geometric means over seeds, with Student's (``paired``: value by value) or Welch's interval.

    With one seed the interval's ends are the value itself.
    """
    if paired:
        return over_seeds([a / b for a, b in zip(over, under, strict=True)])
    middle = over_seeds(over).value / over_seeds(under).value
    if min(len(over), len(under)) < 2:
        return Estimate(middle, middle, middle, n=len(over) + len(under))
    interval = stats.ttest_ind(np.log(over), np.log(under), equal_var=False).confidence_interval(0.95)
    ends = float(np.exp(interval.low)), float(np.exp(interval.high))
    return Estimate(middle, *ends, n=len(over) + len(under), method="Welch, of logarithms over seeds")


def ratio_of_shares(over: tuple[int, int], under: tuple[int, int]) -> Estimate:
    """Ratio of two shares, each (count, total), with the 95 % interval of its logarithm (Katz et al. 1978).

    Half a count is added to each share's count and total, so that an empty one has a logarithm (Walter 1975). The
    interval is that of drawing the samples; it knows nothing of how much trainings differ. Two shares of 1 have none.

    Raises:
        InputError: a count that is no share of its total.
    """
    for count, total in (over, under):
        _ = share(count, total)
    (a, m), (b, n) = ((count + 0.5, total + 0.5) for count, total in (over, under))
    ratio = (a / m) / (b / n)
    reach = Z * np.sqrt(1 / a - 1 / m + 1 / b - 1 / n)
    total, method = over[1] + under[1], "Katz" if reach else ""
    return Estimate(ratio, float(ratio * np.exp(-reach)), float(ratio * np.exp(reach)), n=total, method=method)


def ratio_to_share(over: Estimate, under: tuple[int, int]) -> Estimate:
    """Ratio of what is known without drawing to a share (count, total); its ends from Wilson's interval of that.

    Half a count is added to the share, as in :func:`ratio_of_shares`; where nothing was counted, which bounds no ratio
    from above, the upper end is that of the half count.

    Raises:
        InputError: a count that is no share of its total, or a value that is not positive.
    """
    count, total = under
    known = share(count, total)
    if over.low <= 0:
        raise InputError(f"values: {over.low:g} over a share; a ratio needs a positive one")
    middle = over.value / ((count + 0.5) / (total + 0.5))
    high = over.high / known.low if count else middle * math.exp(Z * math.sqrt(2))
    return Estimate(middle, over.low / known.high, high, n=total, method="Wilson, of the share")


def ratio_of(over: Estimate, under: Estimate) -> Estimate:
    """Ratio of two independent positive estimates, the interval of its logarithm from those of both (delta method).

    Raises:
        InputError: a value that is not positive.
    """
    if min(over.value, under.value) <= 0:
        raise InputError(f"values: {over.value:g} over {under.value:g}; a ratio needs positive ones")
    middle = over.value / under.value
    reach = math.hypot(*((e.high - e.low) / (2 * e.value) for e in (over, under)))
    n = None if over.n is None or under.n is None else over.n + under.n
    return Estimate(middle, middle * math.exp(-reach), middle * math.exp(reach), n=n, method="delta")


def precision(removed: Estimate | float, kept: Estimate | float, rate: Estimate | float) -> Estimate:
    r"""The share of hallucinations among the samples that a threshold removes.

    .. math::
        \frac{\pi r}{\pi r + (1 - \pi)(1 - k)}

    for a share :math:`r` of the hallucinations removed, :math:`k` of the in-support samples kept, and a base rate
    :math:`\pi`. It rises with all three, so the interval is that of what comes out at their lower and upper ends: the
    right one if one of them has an interval, and a wider one if several have.

    Args:
        removed, kept, rate: shares in 0..1.

    Raises:
        InputError: one outside 0..1, or a threshold that removes nothing.
    """
    shares = {"removed": removed, "kept": kept, "rate": rate}
    known = {name: v if isinstance(v, Estimate) else Estimate(v, v, v) for name, v in shares.items()}
    for name, each in known.items():
        if not 0 <= each.low <= each.value <= each.high <= 1:
            raise InputError(f"{name}: {each} is no share; must lie in 0..1")

    def of(r: float, k: float, base: float) -> float | None:
        bad, good = base * r, (1 - base) * (1 - k)
        return bad / (bad + good) if bad + good else None

    value, low, high = (of(*ends) for ends in zip(*(each.triple for each in known.values()), strict=True))
    if value is None:
        raise InputError("removed: nothing is; precision needs a threshold that removes something")
    # where an end removes nothing, its precision may be anything
    measured = [each for each in known.values() if each.method]
    ns = [each.n for each in measured if each.n is not None]
    return Estimate(
        value,
        0.0 if low is None else low,
        1.0 if high is None else high,
        n=min(ns, default=None),
        method=", ".join(dict.fromkeys(each.method for each in measured)),
    )


@dataclass(frozen=True)
class Detection:
    """What a score can do, each with its 95 % interval.

    Attributes:
        auroc: 0.5 is chance, 1 perfect.
        kept_at_95_removed: in-support share kept when 95 % of the hallucinations are removed.
        removed_at_95_kept, removed_at_98_kept, removed_at_99_kept, removed_at_99_9_kept: share of hallucinations
            removed when 95 % (98 %, 99 %, 99.9 %) are kept.
    """

    auroc: Estimate
    kept_at_95_removed: Estimate
    removed_at_95_kept: Estimate
    removed_at_98_kept: Estimate
    removed_at_99_kept: Estimate
    removed_at_99_9_kept: Estimate

    def __str__(self) -> str:
        rows = {
            "AUROC": self.auroc,
            "kept at 95 % removed": self.kept_at_95_removed,
            "removed at 95 % kept": self.removed_at_95_kept,
            "removed at 98 % kept": self.removed_at_98_kept,
            "removed at 99 % kept": self.removed_at_99_kept,
            "removed at 99.9 % kept": self.removed_at_99_9_kept,
        }
        return "\n".join(f"{name:<24}{estimate}" for name, estimate in rows.items())


def _statistics(bad: np.ndarray, below: np.ndarray, tied: np.ndarray) -> np.ndarray:
    """The statistics of many resamples at once.

    Args:
        bad: (R, P) how often each of the P distinct hallucinated scores was drawn, in rising order.
        below: (R, P + 1) how many in-support scores lie strictly between neighbouring hallucinated scores
            (bin p lies under score p, the last one over all of them).
        tied: (R, P) how many in-support scores equal hallucinated score p.

    Returns:
        (R, 6): auroc, kept at 95 % removed, removed at 95 %, 98 %, 99 % and 99.9 % kept.
    """
    bads = bad.sum(1)
    goods = below.sum(1) + tied.sum(1)
    under = below[:, :-1].cumsum(1) + tied.cumsum(1) - tied  # in-support strictly under score p
    auroc = (bad * (under + tied / 2)).sum(1) / (bads * goods)
    # the highest cut (all scores >= score p are rejected) at which 95 % of the hallucinations go
    from_here = bad[:, ::-1].cumsum(1)[:, ::-1]
    p = (from_here >= np.ceil(0.95 * bads - 1e-9)[:, None]).sum(1) - 1
    kept = under[np.arange(len(p)), p] / goods
    columns = [auroc, kept]
    for kept_share in (0.95, 0.98, 0.99, 0.999):
        # the threshold is the smallest score that keeps enough; a hallucination goes if strictly over it
        need = np.ceil(kept_share * goods - 1e-9)[:, None]
        removed = (bad * (under >= need)).sum(1)
        columns.append(removed / bads)
    return np.stack(columns, axis=1)


def detection(scores: Any, hallucinated: Any, *, seed: int = 0, resamples: int = 1000) -> Detection:
    """AUROC and operating points of a score, each with its interval.

    Args:
        scores: (n,), larger = more suspect; inf is allowed, NaN is taken as inf.
        hallucinated: (n,) bool.
        seed: of the bootstrap.
        resamples: of the bootstrap.

    Raises:
        InputError: a class without samples, or shapes that do not fit.
    """
    scores, hallucinated = as_numbers("scores", scores), as_flags("labels", hallucinated)
    if scores.shape != hallucinated.shape or scores.ndim != 1:
        raise InputError(f"labels: shape {hallucinated.shape} does not fit the scores' {scores.shape}")
    # inf would break differences in the ROC; the largest float keeps its place at the top
    scores = np.nan_to_num(scores, nan=np.finfo(float).max, posinf=np.finfo(float).max)
    if not hallucinated.any() or hallucinated.all():
        raise InputError("labels: need at least one hallucinated and one in-support sample")
    values, bad = np.unique(scores[hallucinated], return_counts=True)
    good = np.sort(scores[~hallucinated])
    left, right = np.searchsorted(good, values, "left"), np.searchsorted(good, values, "right")
    tied = right - left
    below = np.diff(np.concatenate([[0], np.stack([left, right], 1).ravel(), [len(good)]]))[::2]
    point = _statistics(bad[None], below[None], tied[None])[0]
    point[0] = roc_auc_score(hallucinated, scores)

    rng = draws(seed, "bootstrap")
    bins = np.concatenate([below, tied]) / len(good)
    batch = max(1, 4_000_000 // (3 * len(values)))
    drawn = []
    for begin in range(0, resamples, batch):
        count = min(batch, resamples - begin)
        bads = rng.multinomial(bad.sum(), bad / bad.sum(), size=count)
        goods = rng.multinomial(len(good), bins / bins.sum(), size=count)
        drawn.append(_statistics(bads, goods[:, : len(below)], goods[:, len(below) :]))
    lows, highs = np.quantile(np.concatenate(drawn), [0.025, 0.975], axis=0)
    totals = [len(scores), len(good), *[int(bad.sum())] * 4]
    estimates = [
        Estimate(float(v), float(low), float(high), n=total, method="bootstrap")
        for v, low, high, total in zip(point, lows, highs, totals, strict=True)
    ]
    for column, total in list(enumerate(totals))[1:]:
        if point[column] in (0.0, 1.0):
            # every resample agrees and the bootstrap's interval has no width: Wilson's says more
            estimates[column] = share(round(point[column] * total), total)
    return Detection(*estimates)


def matched(scores: Any, hallucinated: Any, content: Any, *, of: str = "auroc", seed: int = 0) -> Estimate | None:
    """A statistic of :class:`Detection` among samples of equal content.

    Args:
        scores, hallucinated: (n,), as in :func:`detection`.
        content: (n,) whole numbers: how much a sample holds, such as its shapes.
        of: name of the statistic.
        seed: of the bootstrap.

    Returns:
        its mean over the contents that have two samples of each class, with the weights of the hallucinations; None
        if none has.
    """
    scores, hallucinated, content = map(np.asarray, (scores, hallucinated, content))
    total, square, weight = 0.0, 0.0, 0
    for value in np.unique(content[hallucinated]):
        here = content == value
        count = int(hallucinated[here].sum())
        if count >= 2 and (~hallucinated[here]).sum() >= 2:
            found: Estimate = getattr(detection(scores[here], hallucinated[here], seed=seed), of)
            total, weight = total + count * found.value, weight + count
            square += (count * (found.high - found.low) / (2 * Z)) ** 2
    if weight == 0:
        return None
    middle, reach = total / weight, Z * math.sqrt(square) / weight
    return Estimate(middle, max(middle - reach, 0.0), min(middle + reach, 1.0), n=weight, method="bootstrap by content")
