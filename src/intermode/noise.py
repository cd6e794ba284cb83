r"""Random numbers that belong to (seed, sample index).

Sample ``i`` of a run sees the same noise whatever the chunk size, the number and order of the workers, and
whatever was drawn before: Gaussian noise is drawn in *tiles* of consecutive sample indices, each from its own
generator whose state is hashed from (seed, purpose, tile) by numpy's ``SeedSequence``. How many samples share
a tile depends on the size of one sample alone, so that small samples do not pay for one generator each.

On a GPU the tiles come from the device's own generator, seeded by the same hash: reproducible there, but other
numbers than on a CPU.

What is drawn for a sample after it was finished, to restart it, belongs to (seed, sample index, restart): it does not
depend on how the sample was made. So do the chains that are begun in place of one that was stopped, by their number.
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

PURPOSES = {
    **{"sample": 0, "train": 1, "data": 2, "renoise": 3, "select": 4, "bootstrap": 5, "init": 6, "probe": 7},
    "restart": 8,
    "retry": 9,
}


def _sequence(seed: int, purpose: str, *place: int) -> np.random.SeedSequence:
    return np.random.SeedSequence(seed, spawn_key=(PURPOSES[purpose], *place))


def draws(seed: int, purpose: str, *place: int) -> np.random.Generator:
    """numpy's generator of (seed, purpose, place), an index say; ``purpose`` keeps streams of one seed apart."""
    return np.random.Generator(np.random.SFC64(_sequence(seed, purpose, *place or (0,))))


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
        rows: (n,) of these samples, rising, if not all of them are asked for.
        restart: number of the restart or try it is for, from 1; with a ``purpose`` of which there are several.

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
        rows: np.ndarray | None = None,
        restart: int | None = None,
    ) -> None:
        self.seed, self.shape = seed, tuple(shape)
        self.start, self.count, self.rows, self.restart = start, count, rows, restart
        self.device, self.dtype = torch.device(device), dtype
        size = tile_size(self.shape)
        self._tile = size
        self._picked: slice | Tensor
        if rows is None:
            tiles = np.arange(start // size, (start + count - 1) // size + 1)
            self._picked = slice(start - int(tiles[0]) * size, start - int(tiles[0]) * size + count)
        else:
            tiles, place = np.unique(rows // size, return_inverse=True)
            self._picked = torch.from_numpy(place * size + rows % size).to(self.device)
        places = [(int(tile), *(() if restart is None else (restart,))) for tile in tiles]
        if self.device.type == "cpu":
            self._generators: list[np.random.Generator] = [draws(seed, purpose, *place) for place in places]
        else:
            self._device_generators = [
                torch.Generator(self.device).manual_seed(
                    int(_sequence(seed, purpose, *place).generate_state(1, np.uint64)[0] >> np.uint64(1))
                )
                for place in places
            ]

    def restarted(self, restart: int) -> NoiseStream:
        """The stream of a restart of the same samples."""
        return self.of("restart", restart=restart)

    def of(self, purpose: str, *, rows: np.ndarray | None = None, restart: int | None = None) -> NoiseStream:
        """The stream of another purpose for the same samples, or for those in ``rows`` alone."""
        return NoiseStream(
            self.seed,
            self.start,
            self.count if rows is None else len(rows),
            self.shape,
            purpose=purpose,
            device=self.device,
            dtype=self.dtype,
            rows=self.rows if rows is None else rows,
            restart=restart,
        )

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
        return flat[self._picked]
