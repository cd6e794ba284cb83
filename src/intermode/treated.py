"""Samples to which something was done by a threshold, with what became of each, for a file too."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any, ClassVar

import torch
from torch import Tensor

from intermode.sampling import Samples
from intermode.thresholds import Threshold

if TYPE_CHECKING:
    from typing_extensions import Self

__all__ = ["Treated", "known"]


@dataclass(frozen=True, repr=False)
class Treated(Samples):
    """Samples after a treatment; what is said of them is said of all n, in their order.

    Attributes:
        evaluations: of the network in what was done, of all samples together.
        scoring: of the network to score samples.
        chain: network evaluations of a whole chain, for comparison.
        threshold: that a sample has to pass.
    """

    evaluations: int
    scoring: int
    chain: int
    threshold: Threshold
    flags: ClassVar[tuple[str, ...]] = ()
    """Names of the (n,) arrays that say what became of each."""
    counts: ClassVar[tuple[str, ...]] = ("evaluations", "scoring", "chain")

    @classmethod
    def of(cls, samples: Samples, tensors: Mapping[str, Tensor], facts: Mapping[str, str]) -> Self:
        """Samples with what a file says became of them; see :attr:`tensors` and :attr:`facts`."""
        told: dict[str, Any] = {name: tensors[name].numpy() for name in cls.flags}
        told |= {name: int(facts[name]) for name in cls.counts}
        return cls(**known(samples), **told, threshold=Threshold(*json.loads(facts["threshold"])))

    @property
    def tensors(self) -> dict[str, Tensor]:
        """What became of each, for a file."""
        return {name: torch.from_numpy(getattr(self, name)) for name in self.flags}

    @property
    def facts(self) -> dict[str, str]:
        """The rest, for a file."""
        limit = self.threshold
        told = {name: str(getattr(self, name)) for name in self.counts}
        return told | {"threshold": json.dumps([limit.value, limit.rule, limit.score])}

    def costs(self, what: str) -> str:
        """What it cost, in words."""
        n, more = len(self), (self.evaluations + self.scoring) / len(self)
        return (
            f"{self.evaluations / n:.3g} evaluations a sample more for {what} and {self.scoring / n:.3g} for scores "
            f"({100 * more / self.chain:.3g} % of a chain's {self.chain:,})"
        )


def known(samples: Samples) -> dict[str, Any]:
    """All that is known of samples to which nothing was done, by name."""
    return {each.name: getattr(samples, each.name) for each in fields(Samples)}
