"""Where a sample stands among others by its score."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

__all__ = ["Standing"]


@dataclass(frozen=True)
class Standing:
    """The score of a sample, and those of the others.

    Attributes:
        name: of the score; empty where it has none.
        value: of the sample.
        values: (n,) of all that were scored, the sample's among them; without NaN.
        computed: whether they were computed here, of some of the samples, for the data brought none.
    """

    name: str
    value: float
    values: np.ndarray
    computed: bool

    @property
    def lower(self) -> float:
        """Share of the others whose score is lower, 0..1."""
        others = len(self.values) - 1
        return float((self.values < self.value).sum() / others) if others else 0.0
