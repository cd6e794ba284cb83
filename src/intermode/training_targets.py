r"""What a network learns to predict: what was drawn, or its mean given :math:`x_t`.

A squared error is least at the conditional mean, so all targets with the same :math:`\mathbb E[y \mid x_t]` lead to the
same network in the end; they differ in their noise on the way there. Drawn :math:`(x_0, \varepsilon)` are the usual
target. The mean takes their place by

.. math::
    \bar x = \sum_i w_i x_i, \qquad w_i \propto \exp\Bigl(-\frac{\|x_t - a_t x_i\|^2}{2 s_t^2}\Bigr), \qquad
    \bar\varepsilon = \frac{x_t - a_t \bar x}{s_t} = \varepsilon + \frac{a_t}{s_t} (x_0 - \bar x)

over the drawn point and a reference batch of other points of the data: the *stable target* of Xu, Tong & Jaakkola
(2023, arXiv 2302.00670), whose bias and variance fall as one over the number of points that could have become
:math:`x_t`. Over the whole data set it is the exact posterior mean of the empirical law. Every prediction is linear in
:math:`(x_0, \varepsilon)`, so one :math:`\bar x` serves them all.

Weights are float64, of :math:`\log w_i = \frac{a}{s^2} x_t \cdot x_i - \frac{a^2}{2 s^2} \|x_i\|^2` up to a constant:
a matrix product of n (d + 1) multiplications for each of the samples.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from intermode.denoisers import Prediction

__all__ = ["ReferenceMean", "objective", "reference_mean"]

WEIGHTS = 2**16
"""Computed at a time: half a megabyte stays in a processor's cache."""


def objective(prediction: Prediction, x_0: Tensor, eps: Tensor, a: Tensor, s: Tensor) -> Tensor:
    """What the network's output is compared with, (B, ...), from clean samples and noise, drawn or their means."""
    if prediction == "eps":
        return eps
    if prediction == "x0":
        return x_0
    if prediction == "v":
        return a * eps - s * x_0
    return eps - x_0


class ReferenceMean:
    """E[x_0 | x_t] over the drawn points and a reference batch that is drawn anew in each step.

    Args:
        data: (n, ...) to draw it from.
        size: points of it; the whole data set where it has no more.
        labels: (n,) classes; then points of a sample's own class count alone, and all for one told ``none_given``.
        none_given: the class that means that none is told.
    """

    def __init__(self, data: Tensor, size: int, labels: Tensor | None = None, none_given: int = 0) -> None:
        self.data, self.size, self.none_given = data, size, none_given
        self.labels = None if labels is None else labels.to(data.device)

    def __call__(
        self, rng: np.random.Generator, x_t: Tensor, a: Tensor, s: Tensor, x_0: Tensor, told: Tensor | None = None
    ) -> Tensor:
        """(B, ...) means for x_t (B, ...) that was made of x_0, told these classes (B,)."""
        if self.size >= len(self.data):
            reference, labels, drawn = self.data, self.labels, None
        else:
            rows = torch.from_numpy(rng.integers(0, len(self.data), self.size)).to(self.data.device)
            reference, labels, drawn = self.data[rows], None if self.labels is None else self.labels[rows], x_0
        alike = None
        if labels is not None and told is not None:
            alike = (told[:, None] == labels) | (told == self.none_given)[:, None]
        return reference_mean(x_t, a, s, reference, drawn=drawn, alike=alike)


def reference_mean(
    x_t: Tensor,
    a: Tensor,
    s: Tensor,
    reference: Tensor,
    *,
    drawn: Tensor | None = None,
    alike: Tensor | None = None,
) -> Tensor:
    """E[x_0 | x_t] where x_0 is any of some points with equal chance.

    Args:
        x_t: (B, ...) noised samples.
        a, s: their levels, shaped to multiply ``x_t``.
        reference: (n, ...) points for all of the batch.
        drawn: (B, ...) one more point for each, the one that became x_t; None if the reference holds it.
        alike: (B, n) bool, which points each may come from, such as those of its class; all unless given.

    Returns:
        (B, ...) of the dtype of ``x_t``.
    """
    signal, noise = (level.double().reshape(-1, 1) for level in (a, s))
    asked = torch.cat([x_t.flatten(1).double() * signal, signal**2], dim=1) / noise**2
    weighed, counted = _features(reference)
    if drawn is not None:
        own_weighed, own_counted = _features(drawn)
        own = (asked * own_weighed).sum(1, keepdim=True)
    means = []
    for rows in torch.arange(len(asked), device=x_t.device).split(max(WEIGHTS // len(reference), 1)):
        logs = asked[rows] @ weighed.T
        if alike is not None:
            logs.masked_fill_(~alike[rows], -torch.inf)
        top = logs.amax(1, keepdim=True)
        if drawn is not None:
            top = torch.maximum(top, own[rows])
        total = logs.sub_(top).exp_() @ counted
        if drawn is not None:
            total += (own[rows] - top).exp() * own_counted[rows]
        means.append(total[:, :-1] / total[:, -1:])
    return torch.cat(means).reshape(x_t.shape).to(x_t.dtype)


def _features(x: Tensor) -> tuple[Tensor, Tensor]:
    """Of points (n, ...): what their log weights are linear in, and what is averaged, with a one; (n, d + 1) each."""
    flat = x.flatten(1).double()
    return (
        torch.cat([flat, -0.5 * flat.square().sum(1, keepdim=True)], dim=1),
        torch.cat([flat, torch.ones_like(flat[:, :1])], dim=1),
    )
