"""Data sets that users bring, whatever their form; :func:`open_source` finds the form out."""

from __future__ import annotations

from pathlib import Path

from intermode.data.arrays import SUFFIXES, ArrayFile, load_samples, save_array
from intermode.data.source import Block, Source
from intermode.errors import InputError
from intermode.progress import Progress

__all__ = ["Block", "Source", "load_samples", "open_source", "save_array"]


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
