r"""Classifier-free guidance (Ho & Salimans 2022, eq. 6), on the predicted data.

.. math::
    \hat x_0 = \hat x_0(x_t, t, \varnothing) + w \, \bigl(\hat x_0(x_t, t, c) - \hat x_0(x_t, t, \varnothing)\bigr)

:math:`\hat x_0` depends linearly on whatever a network predicts, so guiding it is guiding the noise. ``w`` = 1 is the
conditional model itself, 0 the unconditional one; the original paper's strength is w - 1. Both branches are one
call of the network on a batch twice as large.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from intermode.denoisers import Denoiser, NetworkDenoiser
from intermode.errors import InputError

__all__ = ["GuidedDenoiser"]


class GuidedDenoiser(Denoiser):
    """A class-conditional denoiser, guided towards the class.

    Args:
        denoiser: of a network that takes ``class_labels`` and was trained with some of them dropped
            (:func:`intermode.training.train`).
        scale: w; at 1 the network is asked once.

    Raises:
        InputError: a network without classes, or a scale that is not finite.
    """

    def __init__(self, denoiser: NetworkDenoiser, scale: float) -> None:
        description: dict[str, Any] = getattr(denoiser.network, "description", {})
        if not description.get("classes"):
            raise InputError("guidance: the network is told no classes")
        if not abs(scale) < float("inf"):
            raise InputError(f"scale: {scale} is not finite")
        self.inner, self.scale = denoiser, scale
        self.schedule = denoiser.schedule
        self.none_given = int(description["classes"])

    @property
    def dtype(self) -> torch.dtype:
        return self.inner.dtype

    @property
    def device(self) -> torch.device:
        return self.inner.device

    @property
    def shape(self) -> tuple[int, ...]:
        return self.inner.shape

    @property
    def classes(self) -> int | None:
        return self.inner.classes

    @property
    def identity(self) -> dict[str, str]:
        return self.inner.identity | {"guidance": repr(self.scale)}

    def __call__(self, x_t: Tensor, t: int | Tensor, **condition: Any) -> Tensor:
        """x0_hat (B, ...) from x_t (B, ...), t and ``class_labels`` (B,).

        Raises:
            InputError: no ``class_labels``.
        """
        if "class_labels" not in condition:
            raise InputError("class_labels: are missing; guidance needs the class of every sample")
        if self.scale == 1:
            return self.inner(x_t, t, **condition)
        labels = condition.pop("class_labels")
        both = torch.cat([labels, torch.full_like(labels, self.none_given)])
        twice = t if isinstance(t, int) or t.ndim == 0 else torch.cat([t, t])
        with_class, without = self.inner(torch.cat([x_t, x_t]), twice, class_labels=both, **condition).chunk(2)
        return torch.lerp(without, with_class, self.scale)
