r"""A U-Net for images, made of `diffusers`' blocks, that may work on patches of pixels.

.. math::
    f(x_t, t) = \mathrm{shuffle}_p\bigl(\mathrm{UNet}(\mathrm{unshuffle}_p(x_t),\, t)\bigr)

Unshuffling by p folds each p×p patch into channels (Shi et al. 2016): (C, H, W) becomes (C p², H/p, W/p), nothing is
lost, and a convolution costs p² less. With p = 4 a 64×64 image is a 16×16 one of 16 channels, which makes training
affordable on a CPU; p = 1 is `diffusers`' ``UNet2DModel`` and nothing else.

The class is a `diffusers` model: a ``DDPMPipeline`` holds it, saves it and loads it again, once ``intermode`` has been
imported, for `diffusers` runs no other library's code unasked.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, cast

import torch
from diffusers import ModelMixin, UNet2DModel
from diffusers.configuration_utils import ConfigMixin, register_to_config
from diffusers.models.unets.unet_2d import UNet2DOutput
from torch import Tensor
from torch.nn.functional import pixel_shuffle, pixel_unshuffle

from intermode.errors import InputError

__all__ = ["PatchUNet2DModel"]


class PatchUNet2DModel(ModelMixin, ConfigMixin):
    """A network of images (B, in_channels, sample_size, sample_size) and timesteps.

    Args:
        sample_size: pixels along a side.
        in_channels: of an image.
        patch: side p of the patches that are folded into channels.
        channels: of each resolution, from the finest on; each is half as fine as the one before. At 32 a resolution
            sees neither timestep nor class: each of its 32 groups is one channel, and normalising takes away what is
            added to it.
        layers: residual blocks at a resolution.
        attention: the resolutions with self-attention, counted from the finest, 0.
        classes: number K of classes 0..K - 1 it is told; class K then means that none is given (Ho & Salimans 2022).

    Raises:
        InputError: a size that patches and halvings do not divide, or channels that are no multiple of 32.
    """

    # the name that a pipeline's folder gives it: `diffusers` looks there for the class, and for ModelMixin
    __module__ = "intermode"

    @register_to_config
    def __init__(
        self,
        sample_size: int = 64,
        in_channels: int = 1,
        patch: int = 4,
        channels: Sequence[int] = (64, 64, 128),
        layers: int = 1,
        attention: Sequence[int] = (),
        classes: int = 0,
    ) -> None:
        super().__init__()
        levels = range(len(channels))
        if patch < 1 or layers < 1 or not levels:
            raise InputError(f"network: patch {patch}, layers {layers} and {len(levels)} channels must be at least 1")
        if sample_size % (patch * 2 ** (len(levels) - 1)):
            raise InputError(
                f"network: patches of {patch} and {len(channels) - 1} halvings do not divide {sample_size} pixels"
            )
        if any(width < 32 or width % 32 for width in channels):
            raise InputError(f"network: channels {', '.join(map(str, channels))} must be multiples of 32")
        if not set(attention) <= set(levels):
            raise InputError(f"network: attention {', '.join(map(str, attention))} is outside 0..{len(levels) - 1}")
        folded = in_channels * patch**2
        self.unet = UNet2DModel(
            sample_size=sample_size // patch,
            in_channels=folded,
            out_channels=folded,
            block_out_channels=tuple(channels),
            layers_per_block=layers,
            down_block_types=tuple("AttnDownBlock2D" if k in attention else "DownBlock2D" for k in levels),
            up_block_types=tuple("AttnUpBlock2D" if k in attention else "UpBlock2D" for k in reversed(levels)),
            attention_head_dim=32,
            add_attention=len(attention) > 0,
            num_class_embeds=classes + 1 if classes else None,
        )

    @property
    def description(self) -> dict[str, Any]:
        """What :func:`intermode.networks.build` needs to make it again."""
        names = ("sample_size", "in_channels", "patch", "channels", "layers", "attention", "classes")
        found = {name: self.config[name] for name in names}
        return {"kind": "unet", **{k: list(v) if isinstance(v, tuple | list) else v for k, v in found.items()}}

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of one sample, (in_channels, sample_size, sample_size)."""
        size = int(self.config["sample_size"])
        return int(self.config["in_channels"]), size, size

    def forward(
        self,
        sample: Tensor,
        timestep: Tensor | float,
        class_labels: Tensor | None = None,
        return_dict: bool = True,
    ) -> UNet2DOutput | tuple[Any]:
        """(B, *shape) from ``sample`` of that shape, a () or (B,) timestep and (B,) classes: see ``UNet2DModel``."""
        patch, unet = int(self.config["patch"]), cast(Callable[..., UNet2DOutput], self.unet)
        # channels last: faster, on a CPU by a third
        folded = pixel_unshuffle(sample, patch).contiguous(memory_format=torch.channels_last)
        output = pixel_shuffle(unet(folded, timestep, class_labels).sample, patch)
        return UNet2DOutput(sample=output) if return_dict else (output,)
