"""A parquet file with a column of images or of lists of numbers; a sample's id is its row number, from 0.

Rows are read and copied in pieces of bounded size, whatever the size of the file's row groups. A subset has all columns
of its rows, the schema and its metadata (`datasets`' features) and the compression of each column.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from intermode.data.source import Block, digest_of
from intermode.data.table import SampleColumn
from intermode.errors import InputError
from intermode.files import replacing

__all__ = ["ParquetFile", "whole_blocks"]

READ_AHEAD = 2**20
"""Bytes of a column that are read at once; a row group may hold hundreds of times as many."""
ROWS = 1024
GROUP_BYTES = 2**25
"""Bytes collected for a row group that is written."""


def whole_blocks(batches: Iterator[pa.Table], size: int) -> Iterator[pa.Table]:
    """The rows of ``batches``, ``size`` at a time; the last block may be shorter."""
    held: list[pa.Table] = []
    rows = 0
    for batch in batches:
        held.append(batch)
        rows += len(batch)
        while rows >= size:
            table = pa.concat_tables(held)
            yield table.slice(0, size)
            held, rows = [table.slice(size)], rows - size
    if rows:
        yield pa.concat_tables(held)


class ParquetFile:
    """A parquet file as a :class:`intermode.data.source.Source`.

    Args:
        path: of the file.
        shape: of a model's samples, if they are to be read.
        column: that holds the samples (:class:`intermode.data.table.SampleColumn`).

    Raises:
        InputError: truncated, no parquet, no rows, or no column that fits.
    """

    form = "parquet"

    def __init__(self, path: Path, shape: tuple[int, ...] | None = None, *, column: str | None = None) -> None:
        self.path, self.shape, self._asked = path, shape, column
        try:
            with self._open() as file:
                self._schema, self._rows = file.schema_arrow, file.metadata.num_rows
        except (pa.ArrowException, OSError) as error:
            raise InputError(f"data: {path} cannot be read as parquet ({str(error).splitlines()[0]})") from None
        if self._rows == 0:
            raise InputError(f"data: {path} has no rows; must be at least 1")
        if shape is not None:
            self._column().check(shape)

    def _open(self) -> pq.ParquetFile:
        return pq.ParquetFile(self.path, buffer_size=READ_AHEAD, pre_buffer=False)

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
        return digest_of([("", self.path)])

    def _tables(self, rows: int, first: int = 0, columns: list[str] | None = None) -> Iterator[pa.Table]:
        """From row ``first`` on, up to ``rows`` rows at a time."""
        with self._open() as file:
            start = 0
            for group in range(file.num_row_groups):
                count = file.metadata.row_group(group).num_rows
                if start + count > first:
                    skip = max(first - start, 0)
                    for batch in file.iter_batches(rows, row_groups=[group], columns=columns):
                        if skip < len(batch):
                            yield pa.Table.from_batches([batch.slice(skip)])
                        skip = max(skip - len(batch), 0)
                start += count

    def blocks(self, size: int, first: int = 0) -> Iterator[Block]:
        assert self.shape is not None, "opened without a model's shape"
        column = self._column()
        for table in whole_blocks(self._tables(min(size, ROWS), first, [column.name]), size):
            yield column.block(table, first, self.shape)
            first += len(table)

    def pictures(self, indices: Sequence[int]) -> list[np.ndarray | None]:
        column = self._column()
        found: dict[int, np.ndarray | None] = {}
        start = 0
        for table in self._tables(ROWS, columns=[column.name]):  # one pass: any row group may hold them all
            for index in {index for index in indices if start <= index < start + len(table)}:
                found[index] = column.picture(table.slice(index - start, 1))
            start += len(table)
            if len(found) == len(set(indices)):
                break
        return [found[index] for index in indices]

    def column(self, name: str) -> np.ndarray:
        if name not in self._schema.names:
            raise InputError(f"within: {self.path} has no column {name!r}; choose from {', '.join(self._schema.names)}")
        return np.array([str(v) for table in self._tables(ROWS, columns=[name]) for v in table.column(0).to_pylist()])

    def write(self, rows: np.ndarray, stem: Path) -> Path:
        path = stem.with_name(f"{stem.name}.parquet")
        mask = np.zeros(len(self), bool)
        mask[rows] = True
        with self._open() as file:
            group = file.metadata.row_group(0)
            chunks = [group.column(k) for k in range(group.num_columns)]
        settings: dict[str, Any] = {
            "compression": {
                each.path_in_schema: each.compression.replace("UNCOMPRESSED", "NONE").lower() for each in chunks
            }
        }
        with (
            replacing(path) as temporary,
            pq.ParquetWriter(temporary, self._schema, **settings) as writer,
        ):
            held: list[pa.Table] = []
            start = 0
            for table in self._tables(ROWS):
                held.append(table.filter(pa.array(mask[start : start + len(table)])))
                start += len(table)
                if sum(each.nbytes for each in held) >= GROUP_BYTES:
                    writer.write_table(pa.concat_tables(held))
                    held = []
            if held:
                writer.write_table(pa.concat_tables(held))
        return path
