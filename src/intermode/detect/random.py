"""Random: a score that knows nothing, the lower end of the scale. It costs nothing and has an AUROC of 1/2."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import Tensor

from intermode.denoisers import Denoiser
from intermode.detect import as_scores
from intermode.schedules import Schedule

__all__ = ["Random"]


class Random:
    """A standard normal number for each sample, from its own noise."""

    name = "random"
    nfe = 0

    def check(self, schedule: Schedule) -> None:
        """Any schedule will do."""

    def __call__(self, denoiser: Denoiser, x: Tensor, noise: Callable[[], Tensor], **condition: Any) -> Tensor:
        return as_scores(noise().flatten(1)[:, 0], x)
