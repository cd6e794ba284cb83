r"""Draw until n samples pass a threshold.

The samples kept are the first n, by sample index, whose score the threshold keeps: a property of (seed, sample
index) alone, whatever the number of workers and of draws in a round. With the n-th at index N - 1
the acceptance rate is n / N, and since drawing stops there (inverse sampling: N is random, n is not) its exact
interval (Clopper & Pearson 1934, with a negative binomial in place of the binomial) has the ends

.. math::
    P(\mathrm{Bin}(N, p_{\mathrm{low}}) \ge n) = P(\mathrm{Bin}(N - 1, p_{\mathrm{high}}) < n) = 0.025.

Drawing is given up as hopeless where even the largest rate that k kept of N drawn leave possible, the p with
:math:`P(\mathrm{Bin}(N, p) \le k) = 10^{-6}`, would not yield the samples that are missing from the draws that are
left.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from scipy import stats
from torch import Tensor

from intermode.blocks import Plan, joined
from intermode.detect import Detector
from intermode.errors import InputError
from intermode.evaluation import Estimate
from intermode.sampling import Drawing, Samples, samples_of
from intermode.thresholds import Threshold

__all__ = ["KeptSamples", "acceptance", "check_by", "draw_kept"]

DOUBT = 1e-6
"""Chance that a look at the draws so far takes a rate for smaller than it is."""
GROWTH = 4
"""A round of drawing makes the draws at most this many times as many: the rate so far may be a bad guess."""


@dataclass(frozen=True, repr=False)
class KeptSamples(Samples):
    """The samples that passed.

    Attributes:
        index: (n,) int64, rising: which of the plan's samples they are.
        drawn: samples drawn until the last of them, N.
    """

    index: np.ndarray
    drawn: int

    @classmethod
    def of(cls, samples: Samples, index: np.ndarray, drawn: int) -> KeptSamples:
        """Samples with which of the plan's they are."""
        return cls(
            samples.x, samples.scores, samples.diverged, samples.seconds, index, drawn, condition=samples.condition
        )

    @property
    def acceptance(self) -> Estimate:
        """Share of the samples drawn that passed, with its 95 % interval."""
        return acceptance(len(self.index), self.drawn)

    def __repr__(self) -> str:
        return f"{super().__repr__()}\n  the first that passed of {self.drawn:,} drawn: {self.acceptance}"


def acceptance(n: int, drawn: int) -> Estimate:
    """The rate at which draws pass, when the n-th to pass was draw number ``drawn`` and the last.

    Raises:
        InputError: n < 1 or drawn < n.
    """
    if not 1 <= n <= drawn:
        raise InputError(f"n: {n} of {drawn} draws cannot have passed; need 1 <= n <= drawn")
    low = stats.beta.ppf(0.025, n, drawn - n + 1)
    high = stats.beta.ppf(0.975, n, drawn - n) if drawn > n else 1.0
    return Estimate(n / drawn, float(low), float(high))


def _refuse_hopeless(kept: int, drawn: int, n: int, plan: Plan, threshold: Threshold) -> None:
    rate = float(stats.beta.ppf(1 - DOUBT, kept + 1, drawn - kept)) if kept < drawn else 1.0
    if kept + rate * (plan.n - drawn) < n:
        raise InputError(
            f"keep: {kept:,} of {drawn:,} draws have a score of at most {threshold.value:.4g}; at a rate of at most "
            f"{rate:.3g}, {n:,} will not be found in {plan.n:,} draws; raise the threshold or the number of draws"
        )


def check_by(by: str | None, detectors: Sequence[Detector]) -> None:
    """Raise InputError unless one of the detectors has that name."""
    names = [detector.name for detector in detectors]
    if by not in names:
        raise InputError(f"by: no detector {by!r} to keep samples by; choose from {', '.join(names) or 'none'}")


def draw_kept(drawing: Drawing, keep: Threshold, n: int, by: str | None) -> KeptSamples:
    """The first ``n`` samples of a plan that a threshold keeps, in rounds of as many draws as seem to be needed.

    Args:
        drawing: draws the plan's samples, which are at most so many.
        keep: the threshold; it alone decides, so that a sample that diverged is kept if its score is.
        n: how many to keep.
        by: name of the detector that it is applied to.

    Where classes pass at different rates, so do they come out: to keep equally many of each, draw them one class at a
    time.

    Raises:
        InputError: no detector named ``by``, n outside 1..plan.n, or a rate of acceptance too small for the plan.
    """
    plan = drawing.plan
    check_by(by, drawing.detectors)
    if not 1 <= n <= plan.n:
        raise InputError(f"n: {n} cannot be kept of at most {plan.n} draws; need 1..{plan.n}")
    parts: list[dict[str, Tensor]] = []
    kept, drawn, more = 0, 0, float(n)
    while kept < n:
        last = min(drawn + math.ceil(more / plan.chunk) * plan.chunk, plan.n)
        part = drawing.rows(drawn, last)
        passed = torch.from_numpy(np.flatnonzero(keep.keep(part[f"score.{by}"].numpy())))
        rows = {name: value[passed] if value.ndim else value for name, value in part.items()}
        parts.append(rows | {"index": drawn + passed})
        kept, drawn = kept + len(passed), last
        if kept < n:
            _refuse_hopeless(kept, drawn, n, plan, keep)
            drawing.progress.notice(f"{kept:,} of {drawn:,} draws passed; {n:,} are needed")
            more = min((n - kept) * (drawn + 1) / (kept + 1), (GROWTH - 1) * drawn)
    whole = {name: value[:n] if value.ndim else value for name, value in joined(parts).items()}
    index = whole["index"]
    told = {name: value[index] for name, value in drawing.condition.items() if isinstance(value, Tensor)}
    return KeptSamples.of(samples_of(whole, told), index.numpy(), int(index[-1]) + 1)
