"""Arrays of samples that users bring: ``.npy``, ``.csv`` and ``.safetensors`` files."""

from __future__ import annotations

import io
import warnings
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from intermode.errors import InputError
from intermode.files import load_tensors, replacing, save_tensors, write_text

__all__ = ["copy_rows", "load_samples", "save_array"]


def load_samples(
    path: Path,
    shape: tuple[int, ...] | None = None,
    *,
    finite: bool = True,
    field: str = "data",
    dtype: type[np.floating] = np.float32,
) -> Tensor:
    """Samples (n, *shape) of a file; a one-dimensional array is n samples of one number.

    Args:
        path: ``.npy``; ``.csv`` (numbers, comma-separated, no header); or ``.safetensors`` with a tensor
            ``samples`` or a single tensor.
        shape: the shape that each sample must have, if known.
        finite: refuse values that are not finite.
        field: what the file is to the user, for errors.
        dtype: of the result.

    Raises:
        InputError: a file that is missing, truncated, of another kind, empty, not finite or of another shape.
    """
    if not path.is_file():
        raise InputError(f"{field}: {path} {'is not a file' if path.exists() else 'not found'}")
    try:
        array = _read(path)
    except InputError as error:
        raise InputError(f"{field}: {error}") from None
    if array.ndim == 1:
        array = array[:, None]
    if array.ndim < 2 or array.size == 0:
        raise InputError(f"{field}: {path} has shape {tuple(array.shape)}; must be (n, ...) with n at least 1")
    if shape is not None and tuple(array.shape[1:]) != shape:
        raise InputError(f"{field}: each row of {path} has shape {tuple(array.shape[1:])}; must be {shape}")
    with np.errstate(over="ignore"):  # what float32 cannot hold becomes infinite
        samples = torch.from_numpy(np.ascontiguousarray(array, dtype=dtype))
    if finite and not torch.isfinite(samples).all():
        rows = torch.nonzero(~torch.isfinite(samples.flatten(1)).all(1))[:, 0]
        raise InputError(
            f"{field}: {path} holds NaN, infinity or numbers too large for float32 in {len(rows)} samples, the first "
            f"at row {int(rows[0])}; all must be finite"
        )
    return samples


def _read(path: Path) -> np.ndarray:
    if path.suffix == ".safetensors":
        tensors, _ = load_tensors(path)
        if "samples" not in tensors and len(tensors) != 1:
            raise InputError(f"{path} has no tensor named samples (found: {', '.join(sorted(tensors))})")
        return np.asarray(tensors["samples" if "samples" in tensors else next(iter(tensors))].double())
    if path.suffix not in (".npy", ".csv"):
        raise InputError(f"{path} must end in .npy, .csv or .safetensors")
    try:
        if path.suffix == ".csv":
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", UserWarning)  # an empty file is refused for its shape
                return np.loadtxt(path, delimiter=",", ndmin=2)
        with path.open("rb") as file:
            array = np.lib.format.read_array(file, allow_pickle=False)
        if array.dtype.kind not in "fiub":
            raise ValueError(f"it holds {array.dtype}")
        return array.astype(np.float64)
    except (ValueError, EOFError, OSError) as error:
        reason = str(error).splitlines()[0].partition(";")[0]
        raise InputError(f"{path} cannot be read as numbers ({reason})") from None


def save_array(path: Path, values: np.ndarray) -> None:
    """Write numbers as ``.npy``, or one a line as ``.csv``."""
    if path.suffix == ".npy":
        buffer = io.BytesIO()  # numpy itself hides why a file could not be written
        np.save(buffer, values)
        with replacing(path) as temporary:
            temporary.write_bytes(buffer.getvalue())
    else:
        write_text(path, "".join(f"{value!r}\n" for value in values.tolist()))


def copy_rows(source: Path, rows: np.ndarray, path: Path) -> None:
    """Copy rows of a file that :func:`load_samples` takes, as they are: in their own dtype, digit for digit.

    Of a ``.safetensors`` file, every tensor with as many rows as the samples is copied.
    """
    if source.suffix == ".npy":
        save_array(path, np.load(source, allow_pickle=False)[rows])
    elif source.suffix == ".csv":
        lines = [line for line in source.read_text(encoding="utf-8").splitlines() if line.partition("#")[0].strip()]
        write_text(path, "".join(f"{lines[row]}\n" for row in rows))
    else:
        tensors, _ = load_tensors(source)
        n = len(tensors["samples"] if "samples" in tensors else next(iter(tensors.values())))
        save_tensors(path, {name: t[rows] for name, t in tensors.items() if t.ndim and len(t) == n})
