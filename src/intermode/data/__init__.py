"""Data sets that users bring, whatever their form; :func:`open_source` finds the form out."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from intermode.data.arrays import SUFFIXES, ArrayFile, load_samples, save_array
from intermode.data.source import Block, Source
from intermode.errors import InputError
from intermode.progress import Progress

__all__ = ["Block", "Source", "first_samples", "load_data", "load_samples", "open_source", "save_array"]

FITTING = 5000
"""Samples that a detector is fitted on, the first ones."""


def open_source(
    path: Path,
    shape: tuple[int, ...] | None = None,
    *,
    column: str | None = None,
    progress: Progress | None = None,
) -> Source:
    """The data set at ``path``.

    Args:
        path: an array (``.npy``, ``.csv``, ``.safetensors``), a parquet file, a folder of images, or a folder written
            by `datasets`' ``save_to_disk``.
        shape: of a model's samples, if they are to be read.
        column: of a table, that holds the samples; found out unless given.
        progress: told while it is looked at.

    Raises:
        InputError: nothing there, or nothing that fits the model.
    """
    # a form is imported when it is met: Arrow takes a tenth of a second
    if path.is_dir():
        from intermode.data.images import ImageFolder
        from intermode.data.saved_dataset import SavedDataset, is_saved_dataset

        if is_saved_dataset(path):
            return SavedDataset(path, shape, column=column)
        source: Source = ImageFolder(path, shape, progress=progress)
    elif path.suffix == ".parquet" and path.exists():
        from intermode.data.parquet import ParquetFile

        return ParquetFile(path, shape, column=column)
    elif path.suffix in SUFFIXES or not path.exists():
        source = ArrayFile(path, shape)
    else:
        raise InputError(
            f"data: {path} must be a folder (of images, or written by datasets) or end in {', '.join(SUFFIXES)} or "
            ".parquet"
        )
    if column is not None:
        raise InputError(f"column: {path} is no table; only parquet files and datasets folders have columns")
    return source


def first_samples(path: Path, shape: tuple[int, ...], n: int = FITTING) -> Tensor:
    """Of the first n samples of a data set those that can be read, (m, *shape) float32."""
    return _read(next(open_source(path, shape).blocks(n)))


def load_data(path: Path) -> Tensor:
    """A whole data set in memory: (n, ...) float32, images in -1..1, or bytes as an array holds them.

    Images that cannot be read are left out.

    Raises:
        InputError: as :func:`open_source`, numbers that are not finite, or images of several sizes.
    """
    source = open_source(path)
    if isinstance(source, ArrayFile):
        whole = source.numbers(slice(None))
        return torch.from_numpy(whole) if whole.dtype == np.uint8 else load_samples(path)
    pictures = (source.pictures([row])[0] for row in range(len(source)))
    first = next((each for each in pictures if each is not None), None)
    if first is None:
        raise InputError(f"data: {path} holds no image that can be read; give numbers as .npy, .csv or .safetensors")
    shape = (1 if first.ndim == 2 else 3, *first.shape[:2])
    return torch.cat([_read(block) for block in open_source(path, shape).blocks(1024)])


def _read(block: Block) -> Tensor:
    return block.values[[row for row in range(len(block.values)) if block.first + row not in block.unread]]
