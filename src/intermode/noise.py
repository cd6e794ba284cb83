r"""Random numbers that belong to (seed, sample index).

Sample ``i`` of a run sees the same noise whatever the chunk size, the number and order of the workers, and
whatever was drawn before: Gaussian noise is drawn in *tiles* of consecutive sample indices, each from its own
generator whose state is hashed from (seed, purpose, tile) by numpy's ``SeedSequence``. How many samples share
a tile depends on the size of one sample alone, so that small samples do not pay for one generator each.

On a GPU the tiles come from the device's own generator, seeded by the same hash: reproducible there, but other
numbers than on a CPU.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

__all__ = ["TILE_NUMBERS", "NoiseStream", "draws", "tile_size"]

TILE_NUMBERS = 4096
"""Numbers in a tile: at about 5 ns each, the 3 µs that a call costs are lost in them."""

PURPOSES = {"sample": 0, "train": 1, "data": 2, "renoise": 3, "select": 4, "bootstrap": 5, "init": 6, "probe": 7}


def _sequence(seed: int, purpose: str, index: int) -> np.random.SeedSequence:
    return np.random.SeedSequence(seed, spawn_key=(PURPOSES[purpose], index))


def draws(seed: int, purpose: str, index: int = 0) -> np.random.Generator:
    """numpy's generator of (seed, purpose, index); ``purpose`` keeps streams of one seed apart."""
    return np.random.Generator(np.random.SFC64(_sequence(seed, purpose, index)))


def tile_size(shape: Sequence[int]) -> int:
    """Consecutive samples of ``shape`` (without batch) that share a generator."""
    return max(1, TILE_NUMBERS // math.prod(shape))


class NoiseStream:
    """Standard normal noise of samples ``start .. start + count - 1``, a new batch at each call.

    Args:
        seed: the run's seed.
        start: index of the first sample.
        count: samples in a batch.
        shape: shape of one sample.
        purpose: one of ``PURPOSES``.
        device, dtype: of the tensors returned.

    The k-th call returns the k-th noise of each of these samples, (count, *shape).
    """

    def __init__(
        self,
        seed: int,
        start: int,
        count: int,
        shape: Sequence[int],
        *,
        purpose: str = "sample",
        device: str | torch.device = "cpu",
        dtype: torch.dtype = torch.float32,
    ) -> None:
        self.shape = tuple(shape)
        self.start, self.count = start, count
        self.device, self.dtype = torch.device(device), dtype
        self._tile = tile_size(self.shape)
        first, last = start // self._tile, (start + count - 1) // self._tile
        self._skip = start - first * self._tile
        tiles = range(first, last + 1)
        if self.device.type == "cpu":
            self._generators: list[np.random.Generator] = [draws(seed, purpose, tile) for tile in tiles]
        else:
            self._device_generators = [
                torch.Generator(self.device).manual_seed(
                    int(_sequence(seed, purpose, tile).generate_state(1, np.uint64)[0] >> np.uint64(1))
                )
                for tile in tiles
            ]

    def __call__(self) -> Tensor:
        tiles = len(self._generators) if self.device.type == "cpu" else len(self._device_generators)
        batch = torch.empty((tiles, self._tile, *self.shape), dtype=self.dtype, device=self.device)
        if self.device.type == "cpu":
            for generator, rows in zip(self._generators, batch.numpy(), strict=True):
                generator.standard_normal(dtype=rows.dtype, out=rows)
        else:
            for device_generator, tile in zip(self._device_generators, batch, strict=True):
                tile.normal_(generator=device_generator)
        flat = batch.reshape(-1, *self.shape)
        return flat[self._skip : self._skip + self.count]
