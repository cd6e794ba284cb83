"""Samples in a column of an Arrow table, as parquet files and `datasets` folders hold them.

Two kinds of column are samples: *images*, encoded files as `datasets` stores them (a struct of ``bytes`` and ``path``,
or plain binary), and *numbers*, lists of one length, nested or flat, each list a sample. Where lists are flat they are
read row by row into the model's shape. A sample that is null, or whose image cannot be decoded, is unread.
"""

from __future__ import annotations

import io
from collections.abc import Sequence
from math import prod
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import torch

from intermode.data.pixels import Unreadable, arrange, check_image_model, decode, is_picture, picture_of, unit_range
from intermode.data.source import Block
from intermode.errors import InputError

__all__ = ["SampleColumn"]

USUAL = ("image", "images", "samples", "sample", "pixel_values")
"""Names that settle which of several columns holds the samples."""


def _storage(kind: Any) -> Any:
    return kind.storage_type if isinstance(kind, pa.BaseExtensionType) else kind


def _is_list(kind: Any) -> bool:
    return bool(pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind))


def _is_binary(kind: Any) -> bool:
    return bool(pa.types.is_binary(kind) or pa.types.is_large_binary(kind))


def _holds_images(kind: Any) -> bool:
    if pa.types.is_struct(kind):
        return any(kind.field(k).name == "bytes" and _is_binary(kind.field(k).type) for k in range(kind.num_fields))
    return _is_binary(kind)


def _holds_numbers(kind: Any) -> bool:
    if not _is_list(kind):
        return False
    while _is_list(kind):
        kind = _storage(kind.value_type)
    return bool(pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_boolean(kind))


class SampleColumn:
    """The column that holds the samples.

    Args:
        schema: of the table.
        where: the file or folder, for errors.
        name: of the column; unless given, the only one that can hold samples, or the one with a usual name.

    Raises:
        InputError: no such column, several, or one that holds something else.
    """

    def __init__(self, schema: pa.Schema, where: object, name: str | None = None) -> None:
        kinds = {field.name: _storage(field.type) for field in schema}
        can = [each for each, kind in kinds.items() if _holds_images(kind) or _holds_numbers(kind)]
        if name is None:
            usual = [each for each in USUAL if each in can]
            if len(can) != 1 and not usual:
                found = f"several columns that can hold samples ({', '.join(can)}); give --column" if can else ""
                none = f"no column of images or of lists of numbers (found: {', '.join(kinds) or 'none'})"
                raise InputError(f"data: {where} has {found or none}")
            name = usual[0] if usual else can[0]
        elif name not in kinds:
            raise InputError(f"column: {where} has no {name!r}; choose from {', '.join(kinds)}")
        elif name not in can:
            raise InputError(f"column: {name} of {where} holds {kinds[name]}; must be images or lists of numbers")
        self.name, self._where = name, where
        self.images = _holds_images(kinds[name])

    def check(self, shape: tuple[int, ...]) -> None:
        """Raise InputError if a model of samples of ``shape`` cannot take them."""
        if self.images:
            check_image_model(shape, self._where)

    def block(self, table: pa.Table, first: int, shape: tuple[int, ...]) -> Block:
        """The rows of ``table``, which begins at sample ``first``."""
        column = table.column(self.name).combine_chunks()
        values = np.zeros((len(column), *shape), np.float32)
        unread: dict[int, str] = {}
        if self.images:
            for k, encoded in enumerate(self._encoded(column)):
                try:
                    pixels = decode(_stream(encoded), shape[0])
                except Unreadable as error:
                    unread[first + k] = str(error)
                    continue
                if pixels.shape != shape:
                    raise InputError(
                        f"data: row {first + k} of {self._where} is {pixels.shape[1]}×{pixels.shape[2]}; the model "
                        f"takes {shape[1]}×{shape[2]} alone, and no image is resized"
                    )
                values[k] = unit_range(pixels)
        else:
            valid = np.asarray(column.is_valid().to_numpy(zero_copy_only=False), dtype=bool)
            unread = {first + int(k): "null" for k in np.flatnonzero(~valid)}
            rows = self._numbers(column.filter(pa.array(valid)), first)
            if rows is not None:
                arranged = arrange(rows, shape)
                if arranged is None and rows.ndim == 2 and rows.shape[1] == prod(shape):
                    arranged = arrange(rows.reshape(-1, *shape), shape)
                if arranged is None:
                    raise InputError(f"data: each row of {self._where} has shape {rows.shape[1:]}; must be {shape}")
                values[valid] = arranged
        return Block(first, torch.from_numpy(values), unread)

    def picture(self, row: pa.Table) -> np.ndarray | None:
        """A table of one row to look at (see :meth:`intermode.data.source.Source.pictures`)."""
        column = row.column(self.name).combine_chunks()
        if self.images:
            try:
                return unit_range(decode(_stream(self._encoded(column)[0])))
            except Unreadable:
                return None
        numbers = self._numbers(column.drop_null(), 0)
        return picture_of(numbers[0]) if numbers is not None and is_picture(numbers.shape[1:], numbers.dtype) else None

    def _encoded(self, column: pa.Array) -> Sequence[Any]:
        if isinstance(column, pa.ExtensionArray):
            column = column.storage
        return pc.struct_field(column, "bytes") if pa.types.is_struct(column.type) else column

    def _numbers(self, column: pa.Array, first: int) -> np.ndarray | None:
        """(B, ...) in the column's own type; None for no rows."""
        if len(column) == 0:
            return None
        count, sizes = len(column), []
        while True:
            if isinstance(column, pa.ExtensionArray):
                column = column.storage
            if not _is_list(column.type):
                break
            lengths = pc.unique(pc.list_value_length(column))
            if len(lengths) != 1 or lengths[0].as_py() is None:
                raise InputError(
                    f"data: {self.name} of {self._where} holds lists of several lengths (among rows {first}.."
                    f"{first + count - 1})"
                )
            sizes.append(lengths[0].as_py())
            column = column.flatten()
        return np.asarray(column.to_numpy(zero_copy_only=False)).reshape(count, *sizes)


def _stream(encoded: Any) -> io.BytesIO:
    if not encoded.is_valid:
        raise Unreadable("holds no bytes")
    return io.BytesIO(encoded.as_buffer())
