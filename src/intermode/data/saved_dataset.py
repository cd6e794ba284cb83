"""A folder written by ``save_to_disk`` of `datasets`, with a column of images or of lists of numbers.

A sample's id is its row number, from 0. `datasets` maps its files into memory, where pages that were read stay for as
long as the data set is open: it is opened anew for each block, so that memory does not grow with what was read.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from intermode.data.source import Block, digest_of
from intermode.data.table import SampleColumn
from intermode.errors import InputError

__all__ = ["SavedDataset", "is_saved_dataset"]

ONE, SEVERAL = "state.json", "dataset_dict.json"


def is_saved_dataset(folder: Path) -> bool:
    """Whether `datasets` wrote it."""
    return (folder / ONE).is_file() or (folder / SEVERAL).is_file()


class SavedDataset:
    """A `datasets` folder as a :class:`intermode.data.source.Source`.

    Args:
        path: of the folder.
        shape: of a model's samples, if they are to be read.
        column: that holds the samples (:class:`intermode.data.table.SampleColumn`).

    Raises:
        InputError: `datasets` is missing, the folder has several splits or is damaged, no rows, or no column that fits.
    """

    form = "datasets folder"

    def __init__(self, path: Path, shape: tuple[int, ...] | None = None, *, column: str | None = None) -> None:
        self.path, self.shape, self._asked = path, shape, column
        if (path / SEVERAL).is_file():
            splits = sorted(each.parent.name for each in path.glob(f"*/{ONE}"))
            raise InputError(f"data: {path} holds several splits; give one of them: {path}/({'|'.join(splits)})")
        opened = self._open()
        self._schema, self._rows = opened.data.schema, len(opened)
        if self._rows == 0:
            raise InputError(f"data: {path} has no rows; must be at least 1")
        if shape is not None:
            self._column().check(shape)

    def _open(self) -> Any:
        try:
            import datasets
        except ImportError:
            raise InputError(
                f"data: reading {self.path} needs datasets; install it with: pip install 'intermode[datasets]'"
            ) from None
        try:
            return datasets.load_from_disk(str(self.path)).with_format("arrow")
        except (OSError, ValueError, KeyError, TypeError) as error:
            reason = next(iter(str(error).splitlines()), type(error).__name__)
            raise InputError(f"data: {self.path} cannot be opened by datasets ({reason})") from None

    def _column(self) -> SampleColumn:
        return SampleColumn(self._schema, self.path, self._asked)

    @property
    def has_pictures(self) -> bool:
        try:
            column = self._column()
        except InputError:
            return False
        return column.images or self.pictures([0])[0] is not None

    def __len__(self) -> int:
        return int(self._rows)

    def ids(self, first: int, stop: int) -> list[str]:
        return [str(row) for row in range(first, stop)]

    def digest(self) -> str:
        return digest_of([(file.name, file) for file in sorted(self.path.glob("*.arrow"))])

    def blocks(self, size: int, first: int = 0) -> Iterator[Block]:
        assert self.shape is not None, "opened without a model's shape"
        column = self._column()
        for start in range(first, len(self), size):
            table = self._open().select_columns(column.name)[start : min(start + size, len(self))]
            yield column.block(table, start, self.shape)

    def pictures(self, indices: Sequence[int]) -> list[np.ndarray | None]:
        column = self._column()
        opened = self._open().select_columns(column.name)
        return [column.picture(opened[index : index + 1]) for index in indices]

    def column(self, name: str) -> np.ndarray:
        if name not in self._schema.names:
            raise InputError(f"within: {self.path} has no column {name!r}; choose from {', '.join(self._schema.names)}")
        return np.array([str(value) for value in self._open().data.column(name).to_pylist()])

    def write(self, rows: np.ndarray, stem: Path) -> Path:
        import datasets

        shown = not datasets.are_progress_bars_disabled()
        datasets.disable_progress_bars()
        try:
            chosen = datasets.load_from_disk(str(self.path)).select(rows)
            # no rows make no file unless one is asked for, and then the folder cannot be opened again
            chosen.save_to_disk(str(stem), num_shards=None if len(rows) else 1)
        finally:
            if shown:
                datasets.enable_progress_bars()
        return stem
