r"""Laplace's approximation of the last layer: which other weights would have fitted the training data as well.

The last layer is linear in its weights, :math:`f = W \varphi`, and trained on a squared error. With the other layers
held fixed, with unit noise and the prior :math:`\mathcal N(W_{\mathrm{trained}}, \lambda^{-1} I)`, its posterior is
Gaussian, and with the generalised Gauss-Newton curvature

.. math::
    P = \lambda I + \sum_n \varphi_n \varphi_n^\top, \qquad w_r \sim \mathcal N(w_r^{\mathrm{trained}}, P^{-1}), \qquad
    \mathrm{Var}[f_r(x)] = \varphi(x)^\top P^{-1} \varphi(x)

for each output r, the same for all of them (MacKay 1992; Daxberger et al. 2021, "Laplace Redux"). A convolution is
linear in the patches that it sees: there :math:`\varphi` is a patch, one for each pixel, and the sum runs over pixels
too. The features of the bias are 1.

BayesDiff and generative uncertainty take the diagonal of P alone, from squared gradients (empirical Fisher), λ = 1 and
unit noise; here P is whole, which costs nothing at these widths. `laplace-torch` takes only networks of one input
whose last layer is an ``nn.Linear``; a denoiser has two inputs and a U-Net ends in a convolution.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from copy import copy
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn.functional import unfold

from intermode.denoisers import Denoiser, NetworkDenoiser
from intermode.detect import fit_batches
from intermode.errors import InputError
from intermode.noise import NoiseStream, draws

__all__ = ["LastLayerLaplace"]

GOLDEN = (5**0.5 - 1) / 2
"""Its multiples modulo 1 cover the unit interval evenly (Weyl): the training data's timesteps, without drawing them."""


class LastLayerLaplace:
    """The posterior of the last layer's weights, from noised training data.

    Args:
        denoiser: a network, whose last layer is an ``nn.Linear`` or an ``nn.Conv2d``; what follows it may only
            rearrange its outputs.
        data: (n, ...) training data; each sample is noised once, to a timestep of its own.
        prior_precision: λ.
        seed: the noise of sample i belongs to (seed, i).
        condition: passed to the network.

    Raises:
        InputError: a denoiser without a network, a last layer of another kind, no data, or λ that is not positive.
    """

    def __init__(
        self, denoiser: Denoiser, data: Tensor, *, prior_precision: float = 1.0, seed: int = 0, **condition: Any
    ) -> None:
        if not isinstance(denoiser, NetworkDenoiser):
            raise InputError(f"denoiser: {type(denoiser).__name__} has no last layer; only a network has weights")
        if not prior_precision > 0:
            raise InputError(f"prior_precision: {prior_precision} must be > 0")
        batches = fit_batches(data, 1)
        self.denoiser = denoiser
        self._name, self._layer = _last_layer(denoiser, data[:1].to(denoiser.device, denoiser.dtype), condition)
        precision, start = torch.zeros(()), 0
        for batch in batches:
            gram = self._gram(batch.to(denoiser.device, denoiser.dtype), start, seed, condition)
            precision, start = precision.to(gram.device) + gram, start + len(batch)
        precision = precision + prior_precision * torch.eye(len(precision), dtype=torch.float64, device=denoiser.device)
        self._root = torch.linalg.cholesky(precision)

    @torch.no_grad()
    def _gram(self, x: Tensor, start: int, seed: int, condition: dict[str, Any]) -> Tensor:
        """(F, F) sum of the features' squares over samples ``start``, ``start + 1``, ... of the data."""
        schedule = self.denoiser.schedule
        index = torch.arange(start, start + len(x), dtype=torch.float64)
        t = (((index + 0.5) * GOLDEN) % 1 * len(schedule)).long().to(x.device)
        noise = NoiseStream(seed, start, len(x), x.shape[1:], purpose="probe", device=x.device, dtype=x.dtype)
        with self._watched() as seen:
            self.denoiser.predict(schedule.add_noise(x, noise(), t), t, **condition)
        features = seen[0].flatten(0, 1)
        return features.T @ features

    @contextmanager
    def _watched(self) -> Iterator[list[Tensor]]:
        """Collects the features (B, positions, F) of the last layer in float64 at each evaluation."""
        seen: list[Tensor] = []
        handle = self._layer.register_forward_pre_hook(lambda layer, args: seen.append(_features(layer, args[0])))
        try:
            yield seen
        finally:
            handle.remove()

    @torch.no_grad()
    def eps_moments(self, x_t: Tensor, t: int, **condition: Any) -> tuple[Tensor, Tensor]:
        """Mean and variance of eps_hat under the posterior, each (B, ...), the variance float64; one evaluation."""

        def append_variance(layer: nn.Module, args: tuple[Tensor, ...], output: Tensor) -> Tensor:
            # as further rows of the batch the variances take the same way through what follows the layer
            return torch.cat([output, self._variance(_features(layer, args[0]), output)])

        handle = self._layer.register_forward_hook(append_variance)
        try:
            output, variance = self.denoiser.predict(x_t, t, **condition).chunk(2)
        finally:
            handle.remove()
        a, s = self.denoiser.schedule.level(t)
        eps = (x_t - a * self.denoiser.x0_of(output, x_t, t)) / s
        one = torch.ones((1, 1), dtype=torch.float64)
        gain = float(self.denoiser.x0_of(one, torch.zeros_like(one), t)) * a / s  # of the output on eps
        return eps, gain**2 * variance.to(torch.float64)

    def _variance(self, features: Tensor, like: Tensor) -> Tensor:
        """The features' (B, positions, F) predictive variance, one value for all channels, shaped as the output."""
        rows = features.flatten(0, 1)
        variance = torch.linalg.solve_triangular(self._root, rows.T, upper=False).square().sum(0)
        shape = (len(features), 1, *like.shape[2:]) if like.ndim > 2 else (len(features), 1)
        return variance.reshape(shape).expand_as(like).to(like.dtype)

    @torch.no_grad()
    def draw(self, index: int, seed: int = 0) -> NetworkDenoiser:
        """The denoiser with its last layer drawn from the posterior; draw ``index`` belongs to (seed, index)."""
        weight, bias = self._layer.weight, self._layer.bias
        outputs = weight.shape[0]
        normal = torch.from_numpy(draws(seed, "probe", index).standard_normal((outputs, len(self._root))))
        # rows z L^-1 have the covariance (L L^T)^-1
        change = torch.linalg.solve_triangular(self._root, normal.to(self._root.device), upper=False, left=False)
        change = change.to(weight.dtype)
        fan = weight[0].numel()
        drawn = {f"{self._name}.weight": weight + change[:, :fan].reshape(weight.shape)}
        if bias is not None:
            drawn[f"{self._name}.bias"] = bias + change[:, fan]
        denoiser = copy(self.denoiser)
        denoiser.network = _Redrawn(self.denoiser.network, drawn)
        return denoiser


class _Redrawn(nn.Module):
    """A network that is called with some of its weights replaced; it itself stays as it is."""

    def __init__(self, network: nn.Module, weights: dict[str, Tensor]) -> None:
        super().__init__()
        self.network, self.replaced = network, weights

    def forward(self, *args: Any, **condition: Any) -> Any:
        return functional_call(self.network, self.replaced, args, condition)


def _last_layer(denoiser: NetworkDenoiser, x: Tensor, condition: dict[str, Any]) -> tuple[str, Any]:
    """Name and module of the layer with weights that was called last."""
    called: list[tuple[str, nn.Module]] = []
    handles = [
        layer.register_forward_hook(lambda module, args, output, name=name: called.append((name, module)))
        for name, layer in denoiser.network.named_modules()
        if not any(True for _ in layer.children()) and any(True for _ in layer.parameters(recurse=False))
    ]
    try:
        with torch.no_grad():
            denoiser.predict(x, 0, **condition)
    finally:
        for handle in handles:
            handle.remove()
    name, layer = called[-1]
    plain = isinstance(layer, nn.Conv2d) and layer.groups == 1 and not isinstance(layer.padding, str)
    if not (isinstance(layer, nn.Linear) or plain):
        raise InputError(f"denoiser: its last layer, {name}, is a {type(layer).__name__}; must be Linear or Conv2d")
    return name, layer


def _features(layer: nn.Module, x: Tensor) -> Tensor:
    """(B, positions, F) float64, what the layer's weights are multiplied with; with a bias, 1 comes last."""
    if isinstance(layer, nn.Conv2d):
        patches = unfold(x, layer.kernel_size, layer.dilation, layer.padding, layer.stride).mT  # type: ignore[arg-type] # no str, see above
    else:
        patches = x[:, None]
    patches = patches.to(torch.float64)
    if layer.bias is None:
        return patches
    return torch.cat([patches, torch.ones_like(patches[..., :1])], dim=-1)
