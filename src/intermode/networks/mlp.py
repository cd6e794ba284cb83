r"""The paper's network for Gaussians (A.1): a residual MLP conditioned on the timestep.

.. math::
    h_0 = W_{in} x_t, \qquad
    h_{k+1} = h_k + W_2\, \phi(\mathrm{LN}(W_1\, \phi(\mathrm{LN}(h_k)) + W_t\, \phi(\tau(t)))), \qquad
    \hat\varepsilon = W_{out}\, \phi(\mathrm{LN}(h_3))

with LeakyReLU :math:`\phi` and a sinusoidal embedding followed by one layer as :math:`\tau`. The embedding is
computed once for every *distinct* timestep of the batch and looked up: once in a sampling step, at most T
times in a training step.
"""

from __future__ import annotations

import math
from itertools import repeat
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import embedding

from intermode.errors import InputError

__all__ = ["ResidualMLP"]

ROWS = 512
"""Samples at a time where no gradient is asked for: what is in between stays in the cache of a processor's core."""


def sinusoidal(t: Tensor, width: int) -> Tensor:
    """(B, width) sines and cosines of t (B,) at geometrically spaced frequencies (Vaswani et al. 2017)."""
    half = width // 2
    frequency = torch.exp(-math.log(10000.0) * torch.arange(half, device=t.device) / (half - 1))
    angle = t.to(torch.float32)[:, None] * frequency
    return torch.cat([angle.sin(), angle.cos()], dim=1)


class Block(nn.Module):
    """Two linear layers around the timestep's term, with a skip connection."""

    def __init__(self, width: int, slope: float) -> None:
        super().__init__()
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.linear1, self.linear2 = nn.Linear(width, width), nn.Linear(width, width)
        self.time = nn.Linear(width, width)
        self.act = nn.LeakyReLU(slope, inplace=True)

    def forward(self, h: Tensor, time: Tensor, inverse: Tensor | None) -> Tensor:
        """h (B, width); time (U, width) embeddings of the distinct timesteps; inverse (B,) rows of them."""
        shift = self.time(time)
        if inverse is not None:
            shift = embedding(inverse, shift)
        middle = self.linear1(self.act(self.norm1(h))).add_(shift)
        return self.linear2(self.act(self.norm2(middle))).add_(h)


class ResidualMLP(nn.Module):
    """ε(x_t, t) for samples of ``dimensions`` numbers.

    Args:
        dimensions: of a sample.
        width: of the hidden layers, even.
        blocks: residual blocks.
        slope: of the LeakyReLU.
        tied_blocks: use one block ``blocks`` times, as the authors' released code does; the paper's text
            has separate blocks.
        final_norm: normalise before the last layer, as the paper does; it bounds the output.

    Raises:
        InputError: dimensions or blocks under 1, or a width that is odd or under 4.
    """

    def __init__(
        self,
        dimensions: int,
        width: int = 128,
        blocks: int = 3,
        slope: float = 0.02,
        tied_blocks: bool = False,
        final_norm: bool = True,
    ) -> None:
        super().__init__()
        if dimensions < 1 or blocks < 1:
            raise InputError(f"dimensions and blocks: {dimensions} and {blocks} must be at least 1")
        if width < 4 or width % 2:
            raise InputError(f"width: {width} must be even and at least 4")
        self.description: dict[str, Any] = {
            "kind": "mlp",
            "dimensions": dimensions,
            "width": width,
            "blocks": blocks,
            "slope": slope,
            "tied_blocks": tied_blocks,
            "final_norm": final_norm,
        }
        self.width, self.repeat = width, blocks if tied_blocks else 1
        self.input = nn.Linear(dimensions, width)
        self.embed = nn.Sequential(nn.Linear(width, width), nn.LeakyReLU(slope))
        self.blocks = nn.ModuleList(Block(width, slope) for _ in range(1 if tied_blocks else blocks))
        norm = nn.LayerNorm(width) if final_norm else nn.Identity()
        self.output = nn.Sequential(norm, nn.LeakyReLU(slope), nn.Linear(width, dimensions))

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of one sample: (dimensions,)."""
        return (int(self.description["dimensions"]),)

    def forward(self, x_t: Tensor, t: Tensor) -> Tensor:
        """(B, dimensions) from x_t (B, dimensions) and t, () for the whole batch or (B,)."""
        distinct, inverse = torch.unique(t, return_inverse=True) if t.ndim else (t.reshape(1), None)
        time = self.embed(sinusoidal(distinct, self.width).to(x_t.dtype))
        if torch.is_grad_enabled() or x_t.device.type != "cpu":
            return self._rows(x_t, time, inverse)
        of = repeat(None) if inverse is None else inverse.split(ROWS)
        return torch.cat([self._rows(part, time, each) for part, each in zip(x_t.split(ROWS), of, strict=False)])

    def _rows(self, x_t: Tensor, time: Tensor, inverse: Tensor | None) -> Tensor:
        h = self.input(x_t)
        for _ in range(self.repeat):
            for block in self.blocks:
                h = block(h, time, inverse)
        return self.output(h)
