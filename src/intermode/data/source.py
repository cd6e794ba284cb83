"""Samples that users bring, as a stream: what every form of data set can do.

A *source* is read block by block, so that memory does not grow with the number of samples, and writes any subset
of itself in its own form, as it is: files byte for byte, rows with all their columns, numbers in their own dtype.
A source never changes what it reads.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

import numpy as np
from torch import Tensor

__all__ = ["Block", "Source", "digest_of"]

SPREAD = 64
"""Files, and places in a file, whose bytes enter a digest."""
PLACE = 4096


@dataclass(frozen=True)
class Block:
    """Consecutive samples.

    Attributes:
        first: index of the first one.
        values: (B, *shape) float32; zeros where a sample could not be read.
        unread: why, for the index of each such sample.
    """

    first: int
    values: Tensor
    unread: Mapping[int, str] = field(default_factory=dict)


class Source(Protocol):
    """A data set of n samples, indexed 0 .. n - 1.

    It is opened with or without the shape of a model's samples; without it, it can be written but not read.
    """

    path: Path

    @property
    def form(self) -> str:
        """What it is, for the record."""

    @property
    def has_pictures(self) -> bool:
        """Whether its samples can be looked at."""

    def __len__(self) -> int:
        """n, at least 1."""

    def ids(self, first: int, stop: int) -> list[str]:
        """Names of samples ``first .. stop - 1``, the same whenever it is opened: of files or of rows."""

    def digest(self) -> str:
        """Tells this data set from another one; see :func:`digest_of`."""

    def blocks(self, size: int, first: int = 0) -> Iterator[Block]:
        """Samples from ``first`` on, ``size`` at a time (the last block may be shorter).

        Raises:
            InputError: samples that do not have the shape of the model's.
        """

    def pictures(self, indices: Sequence[int]) -> list[np.ndarray | None]:
        """Images (H, W) or (H, W, 3) in [-1, 1] to look at; None for one that cannot be read."""

    def column(self, name: str) -> np.ndarray:
        """(n,) words, what a column of that name says of each sample: its class, say.

        Raises:
            InputError: no such column.
        """

    def write(self, rows: np.ndarray, stem: Path) -> Path:
        """Write samples ``rows`` (rising indices) in the source's own form, at ``stem`` with its suffix: where."""


def digest_of(files: Sequence[tuple[str, Path]]) -> str:
    """The beginning of a SHA-256 over the name and size of every file, and over bytes spread over some of them.

    All bytes of a small file; of a large one 64 places, which differ between any two arrays of numbers that were drawn
    independently. Quick enough to be checked before every use of a large data set.
    """
    found = hashlib.sha256()
    sizes = [path.stat().st_size for _, path in files]
    for (name, _), size in zip(files, sizes, strict=True):
        found.update(f"{name}\0{size}\0".encode())
    for k in range(0, len(files), max(1, len(files) // SPREAD)):
        with files[k][1].open("rb") as file:
            if sizes[k] <= SPREAD * PLACE:
                found.update(file.read())
                continue
            for place in np.linspace(0, sizes[k] - PLACE, SPREAD).astype(np.int64):
                file.seek(int(place))
                found.update(file.read(PLACE))
    return found.hexdigest()[:16]
