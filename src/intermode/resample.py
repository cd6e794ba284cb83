r"""Draw until n samples pass a threshold.

The samples kept are the first n, by sample index, whose score the threshold keeps: a property of (seed, sample
index) alone, whatever the number of processes and of chunks that they had in flight. With the n-th at index N - 1
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
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from scipy import stats

from intermode.chunks import Chunks, Joined, Part, Plan, SharedChunks, join
from intermode.denoisers import Denoiser
from intermode.detect import Detector
from intermode.errors import InputError
from intermode.evaluation import Estimate
from intermode.progress import Progress, Silent, Task
from intermode.ranks import Ranks, launched
from intermode.samplers import Sampler
from intermode.sampling import Samples, drawing, scores_of
from intermode.thresholds import Threshold

__all__ = ["KeptSamples", "acceptance", "generate_kept"]

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


def generate_kept(
    denoiser: Denoiser,
    sampler: Sampler,
    plan: Plan,
    detectors: Sequence[Detector],
    keep: Threshold,
    n: int,
    *,
    by: str | None = None,
    folder: Path | None = None,
    settings: Mapping[str, Any] | None = None,
    progress: Progress | None = None,
    ranks: Ranks | None = None,
    **condition: Any,
) -> KeptSamples:
    """The first ``n`` samples of a plan that a threshold keeps; no more chunks are drawn than it takes.

    Args:
        denoiser, sampler: the reverse chain.
        plan: what may be drawn, at most; its samples are those that ``generate`` draws by the same plan.
        detectors: as of ``generate``.
        keep: the threshold; it alone decides, so that a sample that diverged is kept if its score is.
        n: how many to keep.
        by: name of the detector that it is applied to; the only one unless given.
        folder: as of ``generate``; ``samples.safetensors`` then holds the kept samples and their ``index``.
        settings, progress, ranks: as of ``generate``.
        condition: passed to the denoiser; a tensor has a row for each of the ``plan.n`` samples that may be drawn, so
            that ``index`` tells which were kept. Where classes pass at different rates, so do they come out: to
            keep equally many of each, draw them one class at a time.

    Raises:
        InputError: no detector named ``by``, n outside 1..plan.n, a rate of acceptance too small for the plan, or what
            ``generate`` refuses.
    """
    progress, ranks = progress or Silent(), ranks or launched()
    names = [detector.name for detector in detectors]
    if by is None and len(names) == 1:
        by = names[0]
    if by not in names:
        raise InputError(f"by: no detector {by!r} to keep samples by; choose from {', '.join(names) or 'none'}")
    if not 1 <= n <= plan.n:
        raise InputError(f"n: {n} cannot be kept of at most {plan.n} draws; need 1..{plan.n}")
    draw, described = drawing(denoiser, sampler, plan, detectors, condition)

    def draw_kept(index: int, task: Task) -> Part:
        part = draw(index, task)
        rows = torch.from_numpy(np.flatnonzero(keep.keep(part[f"score.{by}"].numpy())))
        passed = {name: value[rows] if value.ndim else value for name, value in part.items()}
        return passed | {"index": index * plan.chunk + rows}

    label = f"sampling until {n:,} are kept"
    chunks = Chunks(plan, draw_kept, label, progress)
    if folder:
        described |= {**(settings or {}), "keep": {"value": repr(keep.value), "by": by, "samples": n}}
        chunks = SharedChunks(
            plan, draw_kept, label, progress, folder=folder, what="samples", settings=described, ranks=ranks
        )
    tensors, facts = chunks.finished() or _until_kept(chunks, plan, keep, n, ranks, progress)
    index = tensors["index"]
    return KeptSamples(
        tensors["samples"],
        scores_of(tensors),
        tensors["diverged"].numpy(),
        float(facts["seconds"]),
        index.numpy(),
        int(facts["drawn"]),
        condition={name: value[index] for name, value in condition.items() if isinstance(value, torch.Tensor)},
    )


def _until_kept(chunks: Chunks, plan: Plan, keep: Threshold, n: int, ranks: Ranks, progress: Progress) -> Joined:
    """Rounds of chunks, each as many as seem to be needed, until n samples are kept."""
    count = min(ranks.count, len(plan.chunks))
    looked = kept = drawn = 0

    def attempt() -> Joined | None:
        nonlocal looked, kept, drawn
        # in the order of the samples, so that it is the same for all numbers of chunks in a round
        while looked < count and kept < n:
            kept += len(chunks.part(looked)["index"])
            drawn += plan.rows(looked)
            looked += 1
            _refuse_hopeless(kept, drawn, n, plan, keep)
        if kept < n:
            return None
        tensors = join(map(chunks.part, range(looked)), n)
        facts = {"seconds": float(tensors.pop("seconds")), "drawn": int(tensors["index"][-1]) + 1}
        return tensors, {name: repr(value) for name, value in facts.items()}

    while True:
        chunks.fill(count)
        if (found := chunks.finish(attempt)) is not None:
            return found
        progress.notice(f"{kept:,} of {drawn:,} draws passed; {n:,} are needed")
        more = min((n - kept) * (drawn + 1) / (kept + 1), (GROWTH - 1) * drawn)
        rounds = math.ceil(more / (plan.chunk * ranks.count))  # of one chunk for each process
        count = min(count + rounds * ranks.count, len(plan.chunks))
