"""Networks, built from a plain description so that a model folder needs no code of its own."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from intermode.errors import InputError
from intermode.noise import draws

__all__ = ["build"]


def build(config: dict[str, Any], seed: int = 0) -> nn.Module:
    """The network that ``config`` describes (its ``description``), with fresh weights that belong to ``seed``.

    Args:
        config: ``kind``, ``mlp`` (:class:`intermode.networks.mlp.ResidualMLP`), ``unet``
            (:class:`intermode.networks.unet.PatchUNet2DModel`), ``local``
            (:class:`intermode.networks.local.LocalConvModel`) or ``lenet`` (:class:`intermode.networks.lenet.LeNet`,
            a classifier), and the arguments of that class.
        seed: of the weights.

    Raises:
        InputError: an unknown kind, or settings that it does not have.
    """
    settings = dict(config)
    kind = settings.pop("kind", None)
    if kind not in ("mlp", "unet", "local", "lenet"):
        raise InputError(f"network: unknown kind {kind!r}; choose mlp, unet, local or lenet")
    make: type[nn.Module]
    if kind == "unet":  # imported here: diffusers takes seconds
        from intermode.networks.unet import PatchUNet2DModel as make
    elif kind == "local":
        from intermode.networks.local import LocalConvModel as make
    elif kind == "lenet":
        from intermode.networks.lenet import LeNet as make
    else:
        from intermode.networks.mlp import ResidualMLP as make
    with torch.random.fork_rng(devices=[]):  # torch initialises from the global generator: leave it as it was
        torch.manual_seed(int(draws(seed, "init").integers(2**63)))
        try:
            return make(**settings)
        except TypeError as error:
            raise InputError(f"network: settings of kind {kind} do not fit ({error})") from None
