"""Many samples as jobs: blocks of consecutive chunks, made by whoever is free, and joined.

A *chunk* is a fixed number of consecutive sample indices and the unit of computation: matrix products may differ in the
last bit between batch shapes, so results are bit-equal for one chunk size, and for another equal up to rounding. A
*block* is some consecutive chunks and the unit of resuming and of sharing: one job (:mod:`intermode.jobs`). How many
blocks there are depends on the number of chunks alone, never on that of the workers; so does the result.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from intermode.errors import InputError
from intermode.jobs import Job, Running

__all__ = ["LOW_DIMENSIONAL_CHUNK", "Plan", "blocks", "join_blocks", "joined", "split"]

LOW_DIMENSIONAL_CHUNK = 16384
BLOCKS = 32
"""Jobs that a set of samples is made by, at most: what a killed run loses is less than one of them for each worker."""


@dataclass(frozen=True)
class Plan:
    """Which samples to draw, and how they are cut into chunks.

    Args:
        n: samples.
        shape: shape of one sample.
        seed: noise belongs to (seed, sample index).
        chunk: samples computed together.
        limit: a sample with a coordinate beyond it counts as diverged. The final normalisation bounds a
            network's output, so a far-out x_t can run away; the default is far beyond normalised data.
        device: where to sample.

    Raises:
        InputError: n < 1, chunk < 1 or seed < 0.
    """

    n: int
    shape: tuple[int, ...]
    seed: int = 0
    chunk: int = LOW_DIMENSIONAL_CHUNK
    limit: float = 1e3
    device: str = "cpu"

    def __post_init__(self) -> None:
        if self.n < 1:
            raise InputError(f"n: {self.n} samples asked for; must be at least 1")
        if self.chunk < 1:
            raise InputError(f"chunk: {self.chunk} must be at least 1")
        if self.seed < 0:
            raise InputError(f"seed: {self.seed} must be at least 0")

    @property
    def chunks(self) -> range:
        """Indices of the chunks."""
        return range(math.ceil(self.n / self.chunk))

    @property
    def unit(self) -> str:
        """What samples are to the user, in progress bars."""
        return "images" if len(self.shape) == 3 else "samples"

    def rows(self, chunk: int) -> int:
        """How many of a chunk's samples are asked for (the last chunk is computed whole and cut)."""
        return min(self.chunk, self.n - chunk * self.chunk)


def blocks(chunks: int, most: int = BLOCKS) -> list[tuple[int, int]]:
    """(first, last) chunk of each block, the last one excluded: as equal as may be, at most so many."""
    each = max(math.ceil(chunks / most), 1)
    return [(first, min(first + each, chunks)) for first in range(0, chunks, each)]


def split(
    name: str,
    work: Callable[[Running], Mapping[str, Any] | None],
    config: Mapping[str, Any],
    n: int,
    chunk: int,
    inputs: Mapping[str, Job] | None = None,
    given: Mapping[str, Any] | None = None,
    *,
    first: int = 0,
    temporary: bool = False,
) -> Job:
    """A job that joins what the jobs of its blocks make.

    Args:
        name: of the job; its blocks are named after it.
        work: makes a block: it saves tensors with a row for each sample, and numbers to be summed. Its config is
            ``config`` with ``rows``, [first, last) of the samples.
        config: on which the samples depend.
        n: samples, from ``first`` on.
        chunk: samples computed together; blocks are cut between chunks.
        inputs, given: of each block.
        first: the first sample, a multiple of ``chunk``.
        temporary: of the joined job.
    """
    parts = {}
    for k, (begin, end) in enumerate(blocks(math.ceil(n / chunk))):
        rows = [first + begin * chunk, first + min(end * chunk, n)]
        what = {**config, "chunk": chunk, "rows": rows}
        parts[f"block-{k:02d}"] = Job(f"{name}-{k:02d}", work, what, inputs or {}, given or {}, temporary=True)
    return Job(name, join_blocks, {**config, "chunk": chunk, "rows": [first, first + n]}, parts, temporary=temporary)


def join_blocks(running: Running) -> dict[str, Any]:
    """All blocks, one after the other; their numbers, summed, are the facts."""
    whole = joined([running.inputs[key].tensors() for key in sorted(running.inputs)])
    running.save({key: value for key, value in whole.items() if value.ndim})
    return {key: float(value) for key, value in whole.items() if not value.ndim}


def joined(parts: Sequence[Mapping[str, Tensor]]) -> dict[str, Tensor]:
    """Rows one after the other, and numbers summed."""
    return {
        key: torch.stack([part[key] for part in parts]).sum(0)
        if value.ndim == 0
        else torch.cat([part[key] for part in parts])
        for key, value in parts[0].items()
    }
