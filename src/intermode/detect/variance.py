r"""The population variance of a stream of predictions, by Welford's update in float64.

.. math::
    \bar x_n = \bar x_{n-1} + \frac{x_n - \bar x_{n-1}}{n}, \qquad
    S_n = S_{n-1} + (x_n - \bar x_{n-1})(x_n - \bar x_n), \qquad \mathrm{Var}_n = S_n / n

With values near 1e3 and a variance near 1e-6 the textbook difference of squares would lose every digit.
"""

from __future__ import annotations

import torch
from torch import Tensor

__all__ = ["RunningVariance"]


class RunningVariance:
    """Variance of a stream of tensors (B, ...), in O(1) memory."""

    def __init__(self) -> None:
        self.count = 0
        self._mean: Tensor
        self._squares: Tensor

    def add(self, value: Tensor) -> None:
        """Take in one more value of every sample, (B, ...)."""
        value = value.to(torch.float64)
        if self.count == 0:
            self._mean, self._squares = torch.zeros_like(value), torch.zeros_like(value)
        self.count += 1
        deviation = value - self._mean
        self._mean += deviation / self.count
        self._squares += deviation * (value - self._mean)

    @property
    def value(self) -> Tensor:
        """(B, ...) float64, the variance so far."""
        return self._squares / self.count

    def per_sample(self) -> Tensor:
        """(B,) mean over dimensions; inf where a value was not finite, since that is most suspect of all."""
        return self.value.flatten(1).mean(1).nan_to_num(nan=torch.inf, posinf=torch.inf)
