r"""Clipping: no prediction outside the data's range.

.. math::
    \tilde x_0 = \min(\max(\hat x_0,\; \text{low}),\; \text{high})

coordinate by coordinate, as in the code of DDPM (Ho et al. 2020) and in most samplers since. It ends runaways; what
lies between two modes lies in the range. Detectors that look at the chain then see the clipped prediction.
"""

from __future__ import annotations

from typing import Any

from torch import Tensor

from intermode.denoisers import Denoiser
from intermode.errors import InputError
from intermode.mitigate.corrected import Corrected

__all__ = ["Clipped"]


class Clipped(Corrected):
    """A denoiser whose predictions stay in a range.

    Args:
        denoiser: to clip.
        low, high: the range of the data, in every coordinate; infinite ends are none.
        until: the noisiest timestep at which it is clipped.

    Raises:
        InputError: an empty range.
    """

    def __init__(self, denoiser: Denoiser, low: float, high: float, *, until: int | None = None) -> None:
        super().__init__(denoiser, until)
        if not low < high:
            raise InputError(f"low: {low} must be under high {high}")
        self.low, self.high = low, high

    @property
    def cost(self) -> int:
        return 1

    def corrected(self, x_t: Tensor, t: int, **condition: Any) -> Tensor:
        return self.inner(x_t, t, **condition).clamp(self.low, self.high)
