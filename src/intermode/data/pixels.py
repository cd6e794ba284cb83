r"""From pixels to what a model takes.

A diffusion model of images takes :math:`x = v / 127.5 - 1 \in [-1, 1]` for a pixel :math:`0 \le v \le 255` (Ho et al.
2020, section 3.3), in the order (channels, height, width).

* An image *file* is converted to as many channels as the model has: 1 is grey (a colour's luma, ITU-R 601), 3 is RGB
  (a grey value three times; transparency is dropped), 4 is RGBA. It is never resized. Only 8 bits a channel are read:
  what else there is has no range that everybody agrees on.
* Numbers of type *uint8* for a model of images are pixels too, and may also come as (H, W) or (H, W, C).
* All other numbers are taken as they are: the model's own, as its sampler makes them.
"""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import IO

import numpy as np
from PIL import Image, UnidentifiedImageError

from intermode.errors import InputError

__all__ = [
    "Unreadable",
    "arrange",
    "check_image_model",
    "decode",
    "image_size",
    "is_picture",
    "picture_of",
    "unit_range",
]

MODES = {1: "L", 3: "RGB", 4: "RGBA"}
EIGHT_BITS = ("1", "L", "LA", "P", "PA", "RGB", "RGBA", "RGBX", "CMYK", "YCbCr", "LAB", "HSV", "La", "RGBa")


class Unreadable(Exception):
    """An image that cannot be decoded; its message is a short reason."""


def _open(file: Path | IO[bytes]) -> Image.Image:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", Image.DecompressionBombWarning)
        return Image.open(file)


def _reason(error: Exception) -> Unreadable:
    if isinstance(error, UnidentifiedImageError):
        return Unreadable("no image")
    said = str(error).splitlines()[0] if str(error) else type(error).__name__
    return Unreadable(getattr(error, "strerror", None) or said)


def check_image_model(shape: tuple[int, ...], where: object) -> None:
    """Raise InputError unless samples of ``shape`` can be images from files; ``where`` these are."""
    if len(shape) != 3:
        raise InputError(f"data: {where} holds images; the model takes samples of shape {shape}")
    if shape[0] not in MODES:
        raise InputError(f"data: {where} holds images, of 1, 3 or 4 channels; the model takes {shape[0]}")


def image_size(path: Path) -> tuple[int, int]:
    """(H, W) as a file's header says.

    Raises:
        Unreadable: no header of an image.
    """
    try:
        with _open(path) as image:
            return image.height, image.width
    except MemoryError:
        raise
    except Exception as error:  # a damaged file can make a decoder raise nearly anything
        raise _reason(error) from None


def decode(file: Path | IO[bytes], channels: int | None = None) -> np.ndarray:
    """uint8 pixels (C, H, W); without ``channels``, (H, W, 3) to look at.

    Raises:
        Unreadable: truncated, no image, or more than 8 bits a channel.
    """
    try:
        with _open(file) as image:
            if image.mode not in EIGHT_BITS:
                raise Unreadable(f"mode {image.mode}, not 8 bits a channel")
            image.load()
            pixels = np.array(image.convert(MODES[3 if channels is None else channels]))
    except (MemoryError, Unreadable):
        raise
    except Exception as error:  # as above
        raise _reason(error) from None
    if channels is None:
        return pixels
    return pixels[None] if pixels.ndim == 2 else np.moveaxis(pixels, -1, 0)


def unit_range(pixels: np.ndarray) -> np.ndarray:
    """float32 in [-1, 1] from 0..255."""
    return pixels.astype(np.float32) / np.float32(127.5) - np.float32(1)


def is_picture(shape: tuple[int, ...], dtype: np.dtype) -> bool:
    """Whether rows of that shape can be looked at: (C, H, W) or, as uint8, also (H, W) and (H, W, C)."""
    colour = len(shape) == 3 and (shape[0] in (1, 3) or (dtype == np.uint8 and shape[2] in (1, 3)))
    return colour or (len(shape) == 2 and dtype == np.uint8)


def picture_of(row: np.ndarray) -> np.ndarray:
    """A row that :func:`is_picture` accepts as (H, W) or (H, W, 3) in [-1, 1]."""
    values = unit_range(row) if row.dtype == np.uint8 else np.nan_to_num(row.astype(np.float32))
    if values.ndim == 3 and values.shape[0] in (1, 3):
        values = np.moveaxis(values, 0, -1)
    values = values.clip(-1, 1)
    return values[..., 0] if values.ndim == 3 and values.shape[-1] == 1 else values


def arrange(rows: np.ndarray, shape: tuple[int, ...]) -> np.ndarray | None:
    """Numbers (B, ...) as float32 samples (B, *shape) by the rules above; None if they do not fit."""
    own = tuple(rows.shape[1:])
    pixels = rows.dtype == np.uint8 and len(shape) == 3
    if own != shape and pixels:
        if (*own, 1) == (*shape[1:], shape[0]):
            rows = rows[:, None]
        elif own == (*shape[1:], shape[0]):
            rows = np.moveaxis(rows, -1, 1)
    if tuple(rows.shape[1:]) != shape:
        return None
    with np.errstate(over="ignore"):  # what float32 cannot hold becomes infinite
        return unit_range(rows) if pixels else np.ascontiguousarray(rows, dtype=np.float32)
