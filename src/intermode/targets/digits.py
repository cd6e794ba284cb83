r"""MNIST and data of the same kind: 28×28 grey images of ten classes (LeCun et al. 1998).

Networks see pixels p of 0..255 as p / 127.5 − 1, so that black is −1 and white 1. Whatever looks at images goes
through :func:`scaled`: a distance between features of two scales means nothing, and nothing else would notice.

The support of handwritten digits is not known, so there is no ``label``: this is data, not a
:class:`~intermode.targets.Target` with an oracle.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from intermode.errors import InputError
from intermode.targets.idx import find, parse, unpacked

__all__ = ["CLASSES", "FILES", "SIZE", "Digits", "Range", "Split", "load", "scaled"]

SIZE = 28
CLASSES = 10
FAR = 10
"""Pixels beyond it, where black is -1 and white 1, come from another range: even pure noise stays within."""

Split = Literal["train", "test"]
Range = Literal["[-1,1]", "[0,1]"]
"""What black and white are in floating-point images."""

FILES: dict[Split, tuple[str, str]] = {
    "train": ("train-images-idx3-ubyte", "train-labels-idx1-ubyte"),
    "test": ("t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte"),
}
"""Images and classes of each split; each may be compressed and end in ``.gz``."""


@dataclass(frozen=True)
class Digits:
    """Images with their classes.

    Attributes:
        images: (n, 28, 28) uint8, 0 black.
        classes: (n,) integers, 0..9.

    Raises:
        InputError: other shapes or dtypes, a class outside 0..9, or no images.
    """

    images: np.ndarray
    classes: np.ndarray

    def __post_init__(self) -> None:
        _check(self.images, self.classes, "the images", "the labels")

    def __len__(self) -> int:
        return len(self.images)

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of one sample, (1, 28, 28)."""
        return (1, SIZE, SIZE)

    @property
    def x(self) -> Tensor:
        """(n, 1, 28, 28) float32, -1 black and 1 white."""
        return scaled(self.images)

    @property
    def y(self) -> Tensor:
        """(n,) int64 classes."""
        return torch.from_numpy(self.classes.astype(np.int64))

    def take(self, rows: np.ndarray | slice) -> Digits:
        """Some of the digits."""
        return Digits(self.images[rows], self.classes[rows])


def _check(images: np.ndarray, classes: np.ndarray, of_images: object, of_classes: object) -> None:
    if images.dtype != np.uint8 or not np.issubdtype(classes.dtype, np.integer):
        raise InputError(
            f"data: {of_images} are {images.dtype} and {of_classes} {classes.dtype}; must be uint8, integer"
        )
    if len(images) == 0 or images.shape[1:] != (SIZE, SIZE):
        sizes = "×".join(str(side) for side in images.shape[1:])
        raise InputError(f"data: {of_images} holds {len(images):,} images of {sizes} pixels; must be 28×28, 1 or more")
    if classes.shape != (len(images),):
        raise InputError(f"data: {of_classes} holds {len(classes):,} labels for the {len(images):,} of {of_images}")
    if wrong := np.flatnonzero((classes < 0) | (classes >= CLASSES)).tolist():
        raise InputError(f"data: {of_classes} has label {classes[wrong[0]]} at row {wrong[0]}; must be 0..9")


def load(folder: Path, split: Split = "train") -> Digits:
    """One split of a folder of idx files, with the names of :data:`FILES`.

    Anything in this format will do; whether it is MNIST itself is for :func:`intermode.targets.fetch.fetch` to say.

    Raises:
        InputError: a file that is missing, truncated or no idx file, images of another size, a label outside 0..9.
    """
    found = [find(folder, name) for name in FILES[split]]
    if missing := [name for name, path in zip(FILES[split], found, strict=True) if path is None]:
        raise InputError(f"data: {folder} lacks {' and '.join(missing)} (each may end in .gz)")
    (images, of_images), (classes, of_classes) = (
        (parse(unpacked(path), path, dimensions), path)
        for path, dimensions in zip(found, (3, 1), strict=True)
        if path is not None
    )
    _check(images, classes, of_images, of_classes)
    return Digits(images, classes)


def scaled(x: Tensor | np.ndarray, range: Range = "[-1,1]") -> Tensor:
    """Images as networks see them: (n, 1, 28, 28) float32 in [-1, 1].

    Args:
        x: (n, 28, 28) or (n, 1, 28, 28), uint8 (0..255) or floating; a model's output may lie a little outside
            ``range`` and is clipped, as it would be in an image file.
        range: black and white of floating images; uint8 images have their own.

    Raises:
        InputError: another shape or dtype, values that are not finite, or values of another range (0..255, say):
            more than one pixel in a hundred lies beyond :data:`FAR`.
    """
    pixels = torch.as_tensor(x)
    if pixels.shape[1:] not in ((SIZE, SIZE), (1, SIZE, SIZE)):
        raise InputError(f"images: shape {tuple(pixels.shape)} does not fit; must be (n, 28, 28) or (n, 1, 28, 28)")
    pixels = pixels.reshape(-1, 1, SIZE, SIZE)
    if pixels.dtype == torch.uint8:
        return pixels.float().div_(127.5).sub_(1)
    if not pixels.is_floating_point():
        raise InputError(f"images: dtype {pixels.dtype} does not fit; must be uint8 (0..255) or floating")
    if range not in ("[-1,1]", "[0,1]"):
        raise InputError(f"range: {range!r} is not known; must be '[-1,1]' or '[0,1]'")
    pixels = pixels.float() if range == "[-1,1]" else pixels.float() * 2 - 1
    if bad := int((~torch.isfinite(pixels).flatten(1).all(1)).sum()):
        raise InputError(f"images: {bad:,} of {len(pixels):,} hold values that are not finite; leave them out")
    if (pixels.abs() > FAR).sum() > pixels.numel() / 100:
        raise InputError(f"images: values from {float(x.min()):g} to {float(x.max()):g} do not fit the range {range}")
    return pixels.clamp(-1, 1)
