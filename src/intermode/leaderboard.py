r"""Comparing detectors over several targets: ranks, and how far apart two mean ranks must be (Demšar 2006).

On each of N targets the k detectors are ranked by AUROC, 1 for the best, ties sharing their mean rank. Two detectors
differ at the 5 % level if their mean ranks are at least the critical difference apart,

.. math::
    \mathrm{CD} = q_{0.05} \sqrt{\frac{k (k + 1)}{6 N}}

with q the studentized range of k groups over √2 (Nemenyi's test). With few targets it is wide: that is what the
numbers say.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from scipy import stats

from intermode.errors import InputError

__all__ = ["Ranking", "rank"]


@dataclass(frozen=True)
class Ranking:
    """Mean ranks.

    Attributes:
        mean_rank: of each detector, the best first.
        critical_difference: of two mean ranks, at the 5 % level.
        targets: N.
    """

    mean_rank: Mapping[str, float]
    critical_difference: float
    targets: int

    def indistinct(self) -> list[str]:
        """The detectors that the best one does not beat at the 5 % level, itself included."""
        best = min(self.mean_rank.values())
        return [name for name, value in self.mean_rank.items() if value - best < self.critical_difference]


def rank(quality: Mapping[str, Mapping[str, float]]) -> Ranking:
    """Rank detectors.

    Args:
        quality: by target, then by detector; larger is better. Only detectors that every target has are ranked.

    Raises:
        InputError: no targets, or fewer than two detectors that all of them have.
    """
    common = [name for name in next(iter(quality.values()), {}) if all(name in row for row in quality.values())]
    if len(common) < 2:
        raise InputError(f"ranks: {len(common)} detectors were run on all of {len(quality)} targets; need at least 2")
    ranks = np.array([stats.rankdata([-row[name] for name in common]) for row in quality.values()])
    mean = ranks.mean(0)
    k, n = len(common), len(quality)
    q = stats.studentized_range.ppf(0.95, k, np.inf) / np.sqrt(2)
    order = np.argsort(mean, kind="stable")
    return Ranking({common[i]: float(mean[i]) for i in order}, float(q * np.sqrt(k * (k + 1) / (6 * n))), len(quality))
