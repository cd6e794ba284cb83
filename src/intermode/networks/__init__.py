"""Networks, built from a plain description so that a model folder needs no code of its own."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from intermode.errors import InputError
from intermode.networks.mlp import ResidualMLP
from intermode.noise import draws

__all__ = ["ResidualMLP", "build"]


def build(config: dict[str, Any], seed: int = 0) -> nn.Module:
    """The network that ``config`` describes, with fresh weights that belong to ``seed``.

    Raises:
        InputError: an unknown kind, or settings that it does not have.
    """
    settings = dict(config)
    kind = settings.pop("kind", None)
    if kind != "mlp":
        raise InputError(f"network: unknown kind {kind!r}; choose mlp")
    with torch.random.fork_rng(devices=[]):  # torch initialises from the global generator: leave it as it was
        torch.manual_seed(int(draws(seed, "init").integers(2**63)))
        try:
            return ResidualMLP(**settings)
        except TypeError as error:
            raise InputError(f"network: settings of kind {kind} do not fit ({error})") from None
