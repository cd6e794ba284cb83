r"""Dynamic guidance: towards the class that is the most probable now.

.. math::
    \tilde\varepsilon = \hat\varepsilon - \lambda\, s_t\, \nabla \log p(y^* \mid x_t), \qquad
    y^* = \operatorname*{argmax}_y p(y \mid x_t)

(Triaridis et al. 2025, arXiv 2510.05356), with a classifier that knows noise, between two timesteps. Of a mixture the
classes are its modes and the classifier is known in closed form, so nothing is lost to its training: what guidance can
do at its best, told where the modes are. The published λ and timesteps are not known to us.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeAlias

import torch
from torch import Tensor

from intermode.denoisers import Denoiser
from intermode.errors import InputError
from intermode.mitigate.corrected import Corrected
from intermode.schedules import Schedule
from intermode.targets.gaussian import GaussianMixture

__all__ = ["Classifier", "DynamicallyGuided", "modes_of"]

Classifier: TypeAlias = Callable[[Tensor, int], Tensor]
"""(B, K) log-probabilities of the classes, up to a constant in each row, from x_t (B, ...) and t; differentiable."""


def modes_of(mixture: GaussianMixture, schedule: Schedule) -> Classifier:
    """The posterior of a mixture's modes given x_t, in closed form."""

    def logits(x_t: Tensor, t: int) -> Tensor:
        a, s = schedule.level(t)
        means, sigma, weights = (torch.from_numpy(part).to(x_t) for part in parts)
        variance = (a * sigma) ** 2 + s**2
        square = (x_t[:, None] - a * means).square().sum(2)
        return torch.log(weights) - 0.5 * (square / variance + x_t.shape[1] * torch.log(variance))

    parts = mixture.means, mixture.sigma, mixture.weights
    return logits


class DynamicallyGuided(Corrected):
    """A denoiser guided towards the class that its x_t most probably has.

    Args:
        denoiser: to guide.
        classifier: of noised samples.
        scale: λ; 0 is the denoiser itself.
        until: the noisiest timestep at which it is guided.

    Raises:
        InputError: a scale that is negative or not finite.
    """

    def __init__(self, denoiser: Denoiser, classifier: Classifier, scale: float, *, until: int | None = None) -> None:
        super().__init__(denoiser, until)
        if not 0 <= scale < float("inf"):
            raise InputError(f"scale: {scale} must be at least 0 and finite")
        self.classifier, self.scale = classifier, scale

    @property
    def cost(self) -> int:
        """The classifier is another network, and not counted."""
        return 1

    def corrected(self, x_t: Tensor, t: int, **condition: Any) -> Tensor:
        x0_hat = self.inner(x_t, t, **condition)
        if not self.scale:
            return x0_hat
        with torch.enable_grad():
            z = x_t.detach().requires_grad_()
            best = torch.log_softmax(self.classifier(z, t), dim=1).amax(1)
            gradient = torch.autograd.grad(best.sum(), z)[0]
        a, s = self.schedule.level(t)
        return torch.add(x0_hat, gradient, alpha=self.scale * s**2 / a)
