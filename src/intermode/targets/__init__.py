"""What the data is and what lies outside it.

A target draws training data and says of any sample whether it is a hallucination: a point of the set
{x : q(x) <= ε} (paper, eq. 3). Targets know nothing of models.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np
from torch import Tensor

__all__ = ["Labels", "Target"]


@dataclass(frozen=True)
class Labels:
    """What a target says of n samples.

    Attributes:
        hallucinated: (n,) bool, the sample is off the support of the data.
        rule: (n,) str, the rule that decided, e.g. ``in-support``, ``between`` or ``diverged``.
    """

    hallucinated: np.ndarray
    rule: np.ndarray

    @property
    def rate(self) -> float:
        """Share of hallucinated samples, 0..1."""
        return float(np.mean(self.hallucinated))

    def counts(self) -> dict[str, int]:
        """How many samples each rule decided."""
        rules, counts = np.unique(self.rule, return_counts=True)
        return {str(rule): int(count) for rule, count in zip(rules, counts, strict=True)}


class Target(Protocol):
    """A distribution with a known support."""

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of one sample."""

    def sample(self, n: int, seed: int) -> Tensor:
        """(n, *shape) float32 draws; sample i depends on (seed, i) alone."""

    def label(self, x: Tensor | np.ndarray) -> Labels:
        """Labels of samples (n, *shape)."""
