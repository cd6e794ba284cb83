r"""A convolutional network of images whose field of view is a setting.

.. math::
    h \leftarrow h + W_1 \,\sigma\bigl(W_3 * (n(h)\,(1 + \gamma_t) + \beta_t)\bigr)

Patches of p×p pixels are folded into channels (Shi et al. 2016); n normalises each place by itself, over channels
alone, since statistics over the image would let every place see all of it; γ and β belong to the timestep. The
convolution W_3 of the first ``reach`` blocks is 3×3 patches wide and that of the others 1×1, so that networks of one
depth differ in what they see: a patch and ``reach`` others on each side, (2 reach + 1) p pixels in all. A learned
embedding tells each place where it is. One layer of self-attention in the middle, if it is asked for, sees everything.

A network that cannot see two places at once finishes a shape in both: see the study ``shapes-causes``. Kamb & Ganguli
2024 (arXiv 2412.20292) describe what local networks of equal treatment of all places make of their data.

The class is a `diffusers` model, as that of :mod:`intermode.networks.unet` is.
"""

from __future__ import annotations

from typing import Any, cast

import torch
from diffusers import ModelMixin
from diffusers.configuration_utils import ConfigMixin, register_to_config
from diffusers.models.embeddings import TimestepEmbedding, Timesteps
from diffusers.models.unets.unet_2d import UNet2DOutput
from torch import Tensor, nn
from torch.nn.functional import pixel_shuffle, pixel_unshuffle, silu

from intermode.errors import InputError

__all__ = ["LocalConvModel"]


class Places(nn.LayerNorm):
    """Normalises (B, C, H, W) over C at each place."""

    def forward(self, h: Tensor) -> Tensor:
        return super().forward(h.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)


class Block(nn.Module):
    """A residual block that sees ``size`` by ``size`` patches."""

    def __init__(self, width: int, size: int) -> None:
        super().__init__()
        self.norm = Places(width, elementwise_affine=False)
        self.time = nn.Linear(width, 2 * width)
        self.wide = nn.Conv2d(width, width, size, padding=size // 2)
        self.point = nn.Conv2d(width, width, 1)

    def forward(self, h: Tensor, time: Tensor) -> Tensor:
        """h (B, width, H, W) and time (B or 1, width)."""
        scale, shift = self.time(time)[:, :, None, None].chunk(2, 1)
        return h + cast(Tensor, self.point(silu(self.wide(self.norm(h) * (1 + scale) + shift))))


class Attention(nn.Module):
    """Self-attention of all places."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width)
        self.attention = nn.MultiheadAttention(width, width // 32, batch_first=True)

    def forward(self, h: Tensor) -> Tensor:
        """(B, width, H, W) of the same."""
        rows = self.norm(h.flatten(2).transpose(1, 2))
        seen = self.attention(rows, rows, rows, need_weights=False)[0]
        return h + seen.transpose(1, 2).unflatten(2, h.shape[2:])


class LocalConvModel(ModelMixin, ConfigMixin):
    """A network of images (B, in_channels, sample_size, sample_size) and timesteps.

    Args:
        sample_size: pixels along a side.
        in_channels: of an image.
        patch: side of the patches that are folded into channels.
        width: channels inside.
        blocks: residual blocks.
        reach: blocks that look at neighbouring patches.
        position: embed places.
        attention: look at everything, once.
        classes: number K of classes 0..K - 1 it is told; class K then means that none is given (Ho & Salimans 2022).

    Raises:
        InputError: patches that do not divide the image, a width that is no multiple of 32, or a reach outside
            0..blocks.
    """

    __module__ = "intermode"  # see intermode.networks.unet

    @register_to_config
    def __init__(
        self,
        sample_size: int = 64,
        in_channels: int = 1,
        patch: int = 4,
        width: int = 96,
        blocks: int = 4,
        reach: int = 4,
        position: bool = True,
        attention: bool = False,
        classes: int = 0,
    ) -> None:
        super().__init__()
        if patch < 1 or sample_size % patch:
            raise InputError(f"network: patches of {patch} do not divide {sample_size} pixels")
        if width < 32 or width % 32:
            raise InputError(f"network: width {width} must be a multiple of 32")
        if blocks < 1 or not 0 <= reach <= blocks:
            raise InputError(f"network: {blocks} blocks, of which {reach} look around; at least 1, and 0..blocks of it")
        folded, side = in_channels * patch**2, sample_size // patch
        self.frequencies = Timesteps(width, flip_sin_to_cos=True, downscale_freq_shift=0)
        self.time = TimestepEmbedding(width, width)
        self.told = nn.Embedding(classes + 1, width) if classes else None
        self.input = nn.Conv2d(folded, width, 1)
        self.where = nn.Parameter(torch.randn(1, width, side, side) * 0.02) if position else None
        self.body = nn.ModuleList(Block(width, 3 if k < reach else 1) for k in range(blocks))
        self.everywhere = Attention(width) if attention else None
        self.norm = Places(width)
        self.output = nn.Conv2d(width, folded, 1)

    @property
    def description(self) -> dict[str, Any]:
        """What :func:`intermode.networks.build` needs to make it again."""
        names = ("sample_size", "in_channels", "patch", "width", "blocks", "reach", "position", "attention", "classes")
        return {"kind": "local", **{name: self.config[name] for name in names}}

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of one sample, (in_channels, sample_size, sample_size)."""
        size = int(self.config["sample_size"])
        return int(self.config["in_channels"]), size, size

    def forward(
        self, sample: Tensor, timestep: Tensor | float, class_labels: Tensor | None = None, return_dict: bool = True
    ) -> UNet2DOutput | tuple[Any]:
        """(B, *shape) from ``sample`` of that shape, a () or (B,) timestep and (B,) classes, unless none is given."""
        t = torch.as_tensor(timestep, device=sample.device).reshape(-1)
        time = self.time(self.frequencies(t).to(sample.dtype))
        if self.told is not None:
            none_given = torch.tensor([self.config["classes"]], device=sample.device)
            time = time + self.told(none_given if class_labels is None else class_labels)
        time = silu(time)
        h = self.input(pixel_unshuffle(sample, self.config["patch"]).contiguous(memory_format=torch.channels_last))
        if self.where is not None:
            h = h + self.where
        for k, block in enumerate(self.body):
            if self.everywhere is not None and k == len(self.body) // 2:
                h = self.everywhere(h)
            h = block(h, time)
        output = pixel_shuffle(self.output(silu(self.norm(h))), self.config["patch"])
        return UNet2DOutput(sample=output) if return_dict else (output,)
