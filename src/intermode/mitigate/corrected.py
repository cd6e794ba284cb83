r"""A denoiser that is corrected at the last timesteps.

Published mitigations change the score, :math:`\tilde s = s + \delta`, or the noise. In the terms of this package,
where everything is said of :math:`\hat x_0`, Tweedie's formula makes of that

.. math::
    \tilde x_0 = \hat x_0 + \frac{s_t^2}{a_t}\, \delta(x_t).
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from intermode.denoisers import Denoiser
from intermode.errors import InputError
from intermode.values import as_whole

__all__ = ["Corrected"]


class Corrected(Denoiser):
    """Base of the corrections: above the timestep ``until`` the denoiser is asked as it is.

    A subclass gives :meth:`corrected` and :attr:`cost`.

    Args:
        denoiser: to correct.
        until: the noisiest timestep at which it is corrected; None corrects it everywhere.

    Raises:
        InputError: a timestep below 0.
    """

    def __init__(self, denoiser: Denoiser, until: int | None) -> None:
        self.inner, self.until, self.schedule = denoiser, until, denoiser.schedule
        if until is not None:
            as_whole("until", until, 0)

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
        settings = {name: v for name, v in vars(self).items() if isinstance(v, int | float | str)}
        return self.inner.identity | {"corrected": f"{type(self).__name__} {settings}"}

    @property
    def cost(self) -> int:
        """Network evaluations for a sample where it is corrected; a gradient counts as two more."""
        raise NotImplementedError  # the contract; every subclass defines it

    def corrected(self, x_t: Tensor, t: int, **condition: Any) -> Tensor:
        """The corrected x0_hat (B, ...) at x_t (B, ...)."""
        raise NotImplementedError  # the contract; every subclass defines it

    def evaluations(self, t: int) -> int:
        """Network evaluations for a sample at a timestep."""
        return self.cost if self._acts(t) else 1

    def _acts(self, t: int) -> bool:
        return self.until is None or t <= self.until

    def __call__(self, x_t: Tensor, t: int | Tensor, **condition: Any) -> Tensor:
        """x0_hat (B, ...), all of it at one timestep.

        Raises:
            InputError: a timestep for each sample.
        """
        if not isinstance(t, int):
            raise InputError("t: a corrected denoiser takes one int for the whole batch")
        return self.corrected(x_t, t, **condition) if self._acts(t) else self.inner(x_t, t, **condition)
