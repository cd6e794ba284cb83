r"""Training on one's own output, generation after generation (paper: section 6).

Generation 0 is trained on real data. The model of generation g makes a pool of samples, a *selector* chooses those
that train generation g + 1, and so on:

    real ─▶ model 0 ─▶ pool 0 ─select─▶ model 1 ─▶ pool 1 ─select─▶ ...

An *arm* is a selector followed through all generations: ``all`` (the first samples as they come), ``random`` (as
many, from a larger pool), the name of a detector's score (those with the lowest scores of the same pool; the paper's is
``hal``, ``white`` looks at content alone, and ``oracle`` is the best there is; with ``-conformal`` behind it, those
that pass a threshold which loses a given share of real data), or ``repair`` (the first ones, after those with the
highest scores were restarted until they passed; :mod:`intermode.repairs`). All arms of a seed share generation 0. The
synthetic-only loop of the paper is the default; ``fresh`` mixes in new real data (Bertrand et al. 2023) and
``accumulate`` keeps the data of all earlier generations (Gerstgrasser et al. 2024).

Diverged samples cannot be trained on: no selector chooses them, and every generation counts them. Here is what trains
a generation; :mod:`intermode.study.arms` makes jobs of it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from intermode.denoisers import Denoiser
from intermode.errors import InputError
from intermode.noise import draws
from intermode.progress import Progress
from intermode.repairs import Repair, Repaired, repair_all
from intermode.samplers import Sampler
from intermode.sampling import Samples
from intermode.thresholds import Threshold

__all__ = ["CONFORMAL", "PER_CLASS", "REPAIR", "UNSCORED", "Data", "repaired_pool", "select", "training_data"]

UNSCORED = ("all", "random")
"""Selectors that look at no score."""
REPAIR = "repair"
"""The selector that throws nothing away: its pools are repaired."""
PER_CLASS = "-per-class"
"""Behind the name of a score: as many of each class, not the lowest of all."""
CONFORMAL = "-conformal"
"""Behind the name of a score: the first ones that pass a threshold, not the lowest of all."""


@dataclass(frozen=True)
class Data:
    """What a generation is trained on.

    Attributes:
        x: (n, *shape) samples.
        labels: (n,) their classes, if they have any.
    """

    x: Tensor
    labels: Tensor | None = None

    def __len__(self) -> int:
        return len(self.x)

    def take(self, rows: slice | Tensor) -> Data:
        """Some of the samples."""
        return Data(self.x[rows], None if self.labels is None else self.labels[rows])

    @staticmethod
    def join(parts: Sequence[Data]) -> Data:
        """All parts, one after the other; either all of them have labels or none."""
        labels = [part.labels for part in parts if part.labels is not None]
        return Data(torch.cat([part.x for part in parts]), torch.cat(labels) if labels else None)


def select(
    selector: str, pool: Samples, keep: int, seed: int, generation: int, threshold: Threshold | None = None
) -> np.ndarray:
    """(keep,) rows of the pool that train the next generation, in rising order; fewer if too many diverged.

    With ``-per-class``, each class of the pool gets an equal share, the first ones one more where that does not divide.
    With ``-conformal``, the first samples that pass the threshold; if they are too few, then those just above it.

    Raises:
        InputError: a selector that is neither ``all``, ``random`` nor a score of the pool, classes that are not known,
            or no threshold for a selector that needs one.
    """
    usable = np.flatnonzero(~pool.diverged)
    if selector in ("all", REPAIR):
        return usable[:keep]
    if selector == "random":
        order = draws(seed, "select", generation).permutation(len(usable))
        return np.sort(usable[order[:keep]])
    conformal = selector.endswith(CONFORMAL)
    name = selector.removesuffix(CONFORMAL if conformal else PER_CLASS)
    if name not in pool.scores:
        raise InputError(f"selector: unknown {selector!r}; choose all, random or {', '.join(pool.scores)}")
    scores = pool.scores[name][usable]
    if conformal:
        if threshold is None:
            raise InputError(f"selector: {selector} needs a threshold")
        scores = np.maximum(scores, threshold.value)  # all that pass are as good, and come in their order
    ordered = usable[np.argsort(scores, kind="stable")]
    if name == selector or conformal:
        return np.sort(ordered[:keep])
    if "class_labels" not in pool.condition:
        raise InputError(f"selector: {selector} needs the classes of the pool")
    labels = pool.condition["class_labels"].numpy()
    classes = np.unique(labels)
    quotas = [keep // len(classes) + (k < keep % len(classes)) for k in range(len(classes))]
    found = [ordered[labels[ordered] == c][:quota] for c, quota in zip(classes, quotas, strict=True)]
    return np.sort(np.concatenate(found))


def repaired_pool(
    pool: Samples, denoiser: Denoiser, sampler: Sampler, seed: int, chunk: int, progress: Progress
) -> Repaired:
    """A pool repaired by the model that made it, as :func:`intermode.repair` does unless told otherwise.

    Samples that no restart mends count as diverged, so that they are not trained on either.
    """
    settings, shape = Repair(), tuple(pool.x.shape[1:])
    repaired = repair_all(
        denoiser,
        pool.x,
        settings,
        detector=settings.flagging(shape, denoiser.schedule),
        sampler=sampler,
        condition=pool.condition,
        seed=seed,
        chunk=chunk,
        progress=progress,
    )
    return replace(repaired, diverged=repaired.diverged | repaired.given_up)


def training_data(
    past: Sequence[Data],
    keep: int,
    generation: int,
    real: Callable[[int], Data],
    *,
    fresh: float = 0.0,
    accumulate: bool = False,
) -> Data:
    """What a generation after 0 is trained on.

    Args:
        past: what was selected of the pools before, the last one last.
        keep: samples that generation 0 was trained on.
        generation: 1 or more.
        real: its first n samples, for n; the first ``keep`` trained generation 0.
        fresh: share that is real data which no generation has seen, in place of the end of the rest.
        accumulate: train on all of ``past`` and generation 0's real data, not on the last alone.
    """
    data = Data.join([real(keep), *past]) if accumulate else past[-1]
    count = round(fresh * keep)
    if count == 0:
        return data
    new = real(keep + generation * count).take(slice(-count, None))
    return Data.join([data.take(slice(len(data) - count)), new])
