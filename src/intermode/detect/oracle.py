"""Oracle: the target's own label, the upper end of the scale. Only where the support is known."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from intermode.denoisers import Denoiser
from intermode.detect import as_scores
from intermode.schedules import Schedule
from intermode.targets import Target

__all__ = ["Oracle"]


class Oracle:
    """1 for a hallucination, 0 for a sample in the support.

    Args:
        target: what knows.
    """

    name = "oracle"
    nfe = 0

    def __init__(self, target: Target) -> None:
        self.target = target

    def check(self, schedule: Schedule) -> None:
        """Any schedule will do."""

    def __call__(self, denoiser: Denoiser, x: Tensor, noise: Callable[[], Tensor], **condition: Any) -> Tensor:
        hallucinated = torch.from_numpy(self.target.label(x.cpu()).hallucinated)
        return as_scores(hallucinated.to(x.device), x)
