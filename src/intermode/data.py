"""Arrays of samples that users bring: ``.npy``, ``.csv`` and ``.safetensors`` files."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from intermode.errors import InputError
from intermode.files import load_tensors

__all__ = ["load_samples"]


def load_samples(path: Path, shape: tuple[int, ...] | None = None, *, finite: bool = True) -> Tensor:
    """Samples (n, *shape) float32 of a file; a one-dimensional array is n samples of one number.

    Args:
        path: ``.npy``; ``.csv`` (numbers, comma-separated, no header); or ``.safetensors`` with a tensor
            ``samples`` or a single tensor.
        shape: the shape that each sample must have, if known.
        finite: refuse values that are not finite.

    Raises:
        InputError: a file that is missing, truncated, of another kind, empty, not finite or of another shape.
    """
    if not path.is_file():
        raise InputError(f"data: {path} not found")
    array = _read(path)
    if array.ndim == 1:
        array = array[:, None]
    if array.ndim < 2 or len(array) == 0:
        raise InputError(f"data: {path} has shape {tuple(array.shape)}; must be (n, ...) with n at least 1")
    if shape is not None and tuple(array.shape[1:]) != shape:
        raise InputError(f"data: samples in {path} have shape {tuple(array.shape[1:])}; the model takes {shape}")
    samples = torch.from_numpy(np.ascontiguousarray(array, dtype=np.float32))
    if finite and not torch.isfinite(samples).all():
        rows = torch.nonzero(~torch.isfinite(samples.flatten(1)).all(1))[:, 0]
        raise InputError(f"data: {path} holds NaN or infinity in {len(rows)} samples, the first at row {int(rows[0])}")
    return samples


def _read(path: Path) -> np.ndarray:
    if path.suffix == ".safetensors":
        tensors, _ = load_tensors(path)
        if "samples" not in tensors and len(tensors) != 1:
            raise InputError(f"data: {path} has no tensor named samples (found: {', '.join(sorted(tensors))})")
        return np.asarray(tensors.get("samples", next(iter(tensors.values()))).float())
    if path.suffix not in (".npy", ".csv"):
        raise InputError(f"data: {path} must end in .npy, .csv or .safetensors")
    try:
        if path.suffix == ".csv":
            return np.loadtxt(path, delimiter=",", ndmin=2)
        return np.asarray(np.load(path, allow_pickle=False), dtype=np.float64)
    except (ValueError, EOFError, OSError) as error:
        reason = str(error).splitlines()[0]
        raise InputError(f"data: {path} cannot be read as numbers ({reason})") from None
