"""Numbers as a user has them: an array, a list, a tensor or a single number."""

from __future__ import annotations

from numbers import Integral
from typing import Any

import numpy as np

from intermode.errors import InputError

__all__ = ["as_flags", "as_numbers", "as_whole", "check_machine"]


def as_numbers(name: str, value: Any) -> np.ndarray:
    """A float64 array of its own of whatever holds numbers, on any device; a single number has the shape ().

    Raises:
        InputError: what holds no numbers, or rows of several lengths.
    """
    if hasattr(value, "detach"):  # a tensor, without importing torch
        value = value.detach().cpu().double().numpy()
    try:
        array = np.asarray(value)
    except (TypeError, ValueError):  # rows of several lengths
        array = np.array(None)
    if array.dtype.kind not in "iuf":
        text = repr(value)
        shown = text if len(text) <= 40 else f"{text[:37]}..."
        raise InputError(f"{name}: {shown} is not an array of numbers; give an array, a list or a tensor")
    return array.astype(np.float64)


def as_flags(name: str, value: Any) -> np.ndarray:
    """A bool array of whatever holds booleans, or zeros and ones.

    Raises:
        InputError: anything else.
    """
    array = np.asarray(value.detach().cpu() if hasattr(value, "detach") else value)
    if array.dtype != bool and not np.isin(array := as_numbers(name, array), (0, 1)).all():
        raise InputError(f"{name}: must be true or false, 1 or 0, for each sample")
    return array.astype(bool)


def as_whole(name: str, value: Any, least: int) -> int:
    """A whole number, at least ``least``.

    Raises:
        InputError: anything else.
    """
    if not isinstance(value, Integral) or isinstance(value, bool) or value < least:
        raise InputError(f"{name}: {value!r} must be a whole number, at least {least}")
    return int(value)


def check_machine(device: str, threads: int | None = None) -> None:
    """Raise InputError for a device that is not there, or less than one thread."""
    if threads is not None:
        as_whole("threads", threads, 1)
    if device == "cpu":
        return
    import torch

    count = torch.cuda.device_count()
    known = ["cpu", *(["cuda"] if count else []), *(f"cuda:{i}" for i in range(count))]
    if device not in known:
        raise InputError(f"device: {device} is not available; choose from {', '.join(known)}")
