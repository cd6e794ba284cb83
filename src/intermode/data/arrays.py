"""Arrays of samples: ``.npy``, ``.csv`` (numbers, comma-separated, no header) and ``.safetensors`` files.

Of a ``.safetensors`` file the samples are the tensor ``samples``, or the only one. A one-dimensional array is n samples
of one number. A ``.csv`` file is held in memory; of the others only the block that is being read is: a file mapped into
memory for as long as it is open would count as the process's own, page after page.
"""

from __future__ import annotations

import io
import json
import warnings
from collections.abc import Callable, Iterator, Sequence
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from intermode.data.pixels import arrange, is_picture, picture_of
from intermode.data.source import Block, digest_of
from intermode.errors import InputError
from intermode.files import replacing, write_text

__all__ = ["SUFFIXES", "ArrayFile", "load_samples", "save_array"]

SUFFIXES = (".npy", ".csv", ".safetensors")
PIECE = 2**20
"""Numbers, or bytes, copied at once."""


class _Npy:
    def __init__(self, path: Path) -> None:
        self._path = path
        array = self._map()
        if array.dtype.kind not in "fiub":
            raise ValueError(f"it holds {array.dtype}")
        self.shape, self.dtype = array.shape, array.dtype

    def _map(self) -> np.ndarray:
        return np.lib.format.open_memmap(self._path, mode="r")

    def rows(self, rows: slice | np.ndarray) -> np.ndarray:
        return np.array(self._map()[rows])

    def write(self, rows: np.ndarray, path: Path) -> None:
        header = {"descr": np.lib.format.dtype_to_descr(self.dtype), "fortran_order": False}
        piece = max(1, PIECE // max(1, int(np.prod(self.shape[1:]))))
        with replacing(path) as temporary, temporary.open("wb") as file:
            np.lib.format.write_array_header_1_0(file, header | {"shape": (len(rows), *self.shape[1:])})
            for start in range(0, len(rows), piece):
                file.write(self.rows(rows[start : start + piece]).tobytes())


class _Csv:
    def __init__(self, path: Path) -> None:
        self._path = path
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # an empty file is refused for its shape
            self._values = np.loadtxt(path, delimiter=",", ndmin=2)
        self.shape, self.dtype = self._values.shape, self._values.dtype

    def rows(self, rows: slice | np.ndarray) -> np.ndarray:
        return self._values[rows]

    def write(self, rows: np.ndarray, path: Path) -> None:
        chosen = set(rows.tolist())
        with (
            replacing(path) as temporary,
            temporary.open("w", encoding="utf-8") as copy,
            self._path.open(encoding="utf-8") as file,
        ):
            lines = (line.rstrip("\n") for line in file if line.partition("#")[0].strip())
            copy.writelines(f"{line}\n" for row, line in enumerate(lines) if row in chosen)


class _Safetensors:
    def __init__(self, path: Path) -> None:
        self._path = path
        with self._open() as file:
            names = list(file.keys())
            if "samples" not in names and len(names) != 1:
                raise InputError(f"{path} has no tensor named samples (found: {', '.join(sorted(names))})")
            self._name = "samples" if "samples" in names else names[0]
            part = file.get_slice(self._name)
            self.shape = tuple(part.get_shape())
            self.dtype = np.dtype(np.uint8 if part.get_dtype() == "U8" else np.float64)

    def _open(self) -> Any:
        from safetensors import SafetensorError, safe_open

        try:
            return safe_open(self._path, framework="pt")
        except SafetensorError:
            raise InputError(f"{self._path}: is truncated or no safetensors file (pickles are not loaded)") from None

    def rows(self, rows: slice | np.ndarray) -> np.ndarray:
        with self._open() as file:
            part = file.get_slice(self._name)
            wanted = [rows] if isinstance(rows, slice) else [slice(row, row + 1) for row in rows.tolist()]
            found = torch.cat([part[each] for each in wanted])
            found = found if found.dtype == torch.uint8 else found.double()
            return np.array(found.numpy())  # a copy: the file's own memory would stay mapped

    def column(self, name: str) -> np.ndarray | None:
        with self._open() as file:
            if name not in file.keys():  # noqa: SIM118 (no dict)
                return None
            values = file.get_tensor(name)
            return np.array(values.tolist()).astype(str) if values.shape == self.shape[:1] else None

    def write(self, rows: np.ndarray, path: Path) -> None:
        """Every tensor with as many rows as the samples is copied, a piece at a time."""
        n = self.shape[0]
        with self._open() as file:
            parts = {name: file.get_slice(name) for name in file.keys()}  # noqa: SIM118 (no dict)
            kinds = {name: (p.get_dtype(), p.get_shape()) for name, p in parts.items() if p.get_shape()[:1] == [n]}
            widths = {name: parts[name][:1].nbytes for name in kinds}  # bytes of a row
        header, end = {}, 0
        names = sorted(kinds, key=lambda name: (-widths[name] // max(1, prod(kinds[name][1][1:])), name))
        for name in names:  # those of the largest numbers first, so that all are aligned
            kind, shape = kinds[name]
            begin, end = end, end + len(rows) * widths[name]
            header[name] = {"dtype": kind, "shape": [len(rows), *shape[1:]], "data_offsets": [begin, end]}
        text = json.dumps(header).encode()
        text += b" " * (-len(text) % 8)
        with replacing(path) as temporary, temporary.open("wb") as copy:
            copy.write(len(text).to_bytes(8, "little") + text)
            for name in names:
                piece = max(1, PIECE // max(1, widths[name]))
                for start in range(0, n, piece):
                    here = rows[np.searchsorted(rows, start) : np.searchsorted(rows, start + piece)] - start
                    if len(here):
                        with self._open() as file:
                            block = file.get_slice(name)[start : start + piece][torch.from_numpy(here)]
                        flat = block.clone(memory_format=torch.contiguous_format).flatten()
                        copy.write(flat.view(torch.uint8).numpy().tobytes())


_READERS: dict[str, Callable[[Path], _Npy | _Csv | _Safetensors]] = {
    ".npy": _Npy,
    ".csv": _Csv,
    ".safetensors": _Safetensors,
}


class ArrayFile:
    """An array file as a :class:`intermode.data.source.Source`; its samples' ids are their row numbers, from 0.

    Args:
        path: ``.npy``, ``.csv`` or ``.safetensors``.
        shape: the shape that each sample must have, if known (:mod:`intermode.data.pixels` has the rules for uint8).
        field: what the file is to the user, for errors.

    Raises:
        InputError: a file that is missing, truncated, of another kind, empty, or of another shape.
    """

    def __init__(self, path: Path, shape: tuple[int, ...] | None = None, *, field: str = "data") -> None:
        if not path.is_file():
            raise InputError(f"{field}: {path} {'is not a file' if path.exists() else 'not found'}")
        if path.suffix not in SUFFIXES:
            raise InputError(f"{field}: {path} must end in .npy, .csv or .safetensors")
        self.path, self.shape = path, shape
        try:
            self._array = _READERS[path.suffix](path)
        except InputError as error:
            raise InputError(f"{field}: {error}") from None
        except (ValueError, EOFError, OSError) as error:
            reason = str(error).splitlines()[0].partition(";")[0]
            raise InputError(f"{field}: {path} cannot be read as numbers ({reason})") from None
        whole = self._array.shape
        if len(whole) < 1 or 0 in whole:
            raise InputError(f"{field}: {path} has shape {whole}; must be (n, ...) with n at least 1")
        self._row = whole[1:] or (1,)
        if shape is not None and arrange(np.empty((0, *self._row), self._array.dtype), shape) is None:
            raise InputError(f"{field}: each row of {path} has shape {self._row}; must be {shape}")

    @property
    def form(self) -> str:
        return f"array{self.path.suffix}"

    @property
    def has_pictures(self) -> bool:
        return is_picture(self._row, self._array.dtype)

    def __len__(self) -> int:
        return int(self._array.shape[0])

    def ids(self, first: int, stop: int) -> list[str]:
        return [str(row) for row in range(first, stop)]

    def digest(self) -> str:
        return digest_of([("", self.path)])

    def numbers(self, rows: slice | np.ndarray) -> np.ndarray:
        """(m, *shape) rows as they are: uint8, or whatever float the file holds."""
        return self._array.rows(rows).reshape(-1, *self._row)

    def blocks(self, size: int, first: int = 0) -> Iterator[Block]:
        assert self.shape is not None, "opened without a model's shape"
        for start in range(first, len(self), size):
            values = arrange(self.numbers(slice(start, min(start + size, len(self)))), self.shape)
            assert values is not None  # checked when it was opened
            yield Block(start, torch.from_numpy(values))

    def pictures(self, indices: Sequence[int]) -> list[np.ndarray | None]:
        return [picture_of(row) for row in self.numbers(np.asarray(indices, dtype=np.int64))]

    def column(self, name: str) -> np.ndarray:
        found = self._array.column(name) if isinstance(self._array, _Safetensors) else None
        if found is None:
            raise InputError(
                f"within: {self.path} has no column {name!r} of {len(self)} values, and no file is so named"
            )
        return found

    def write(self, rows: np.ndarray, stem: Path) -> Path:
        path = stem.with_name(stem.name + self.path.suffix)
        self._array.write(rows, path)
        return path


def load_samples(
    path: Path,
    shape: tuple[int, ...] | None = None,
    *,
    finite: bool = True,
    field: str = "data",
    dtype: type[np.floating] = np.float32,
) -> Tensor:
    """All samples (n, *shape) of an array file, as numbers.

    Args:
        path: see :class:`ArrayFile`.
        shape: the shape that each sample must have, if known.
        finite: refuse values that are not finite.
        field: what the file is to the user, for errors.
        dtype: of the result.

    Raises:
        InputError: a file that is missing, truncated, of another kind, empty, not finite or of another shape.
    """
    array = ArrayFile(path, field=field).numbers(slice(None))
    if shape is not None and array.shape[1:] != shape:
        raise InputError(f"{field}: each row of {path} has shape {array.shape[1:]}; must be {shape}")
    with np.errstate(over="ignore"):  # what float32 cannot hold becomes infinite
        samples = torch.from_numpy(np.ascontiguousarray(array, dtype=dtype))
    if finite and not torch.isfinite(samples).all():
        rows = torch.nonzero(~torch.isfinite(samples.flatten(1)).all(1))[:, 0]
        raise InputError(
            f"{field}: {path} holds NaN, infinity or numbers too large for float32 in {len(rows)} samples, the first "
            f"at row {int(rows[0])}; all must be finite"
        )
    return samples


def save_array(path: Path, values: np.ndarray) -> None:
    """Write numbers as ``.npy``, or one a line as ``.csv``."""
    if path.suffix == ".npy":
        buffer = io.BytesIO()  # numpy itself hides why a file could not be written
        np.save(buffer, values)
        with replacing(path) as temporary:
            temporary.write_bytes(buffer.getvalue())
    else:
        write_text(path, "".join(f"{value!r}\n" for value in values.tolist()))
