"""Samples as a page shows them: images as small WebP files, decoded when they are looked at; or a few numbers each."""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from intermode.data import FITTING, Source, open_source
from intermode.errors import InputError

__all__ = ["Neighbours", "points", "sprite"]

SIDE = 128
"""Pixels of the longer side; larger images are made smaller, by areas."""
LOSSLESS = 32
"""Images up to this side are kept as they are: every pixel is seen."""
QUALITY = 90
ROWS = 65536


def sprite(picture: np.ndarray) -> str:
    """(H, W) or (H, W, 3) in [-1, 1] as WebP in base64."""
    image = Image.fromarray(_bytes(picture))
    image.thumbnail((SIDE, SIDE), Image.Resampling.BOX)
    written = io.BytesIO()
    image.save(written, "WEBP", lossless=max(image.size) <= LOSSLESS, quality=QUALITY, method=0)
    return base64.b64encode(written.getvalue()).decode()


def points(path: Path, column: str | None, rows: np.ndarray) -> np.ndarray | None:
    """(m, d) float32 of samples that are one or two numbers each; None for others."""
    for dimensions in (1, 2):
        try:
            blocks = open_source(path, (dimensions,), column=column).blocks(ROWS)
            found = [b.values[rows[(rows >= b.first) & (rows < b.first + len(b.values))] - b.first] for b in blocks]
        except InputError:  # of another shape
            continue
        return np.concatenate([part.numpy() for part in found])
    return None


class Neighbours:
    """The training images that are nearest to a sample, by the root mean square of the difference of their pixels.

    Args:
        path: of the data; its first images are searched.
        nearest: how many to find.

    Raises:
        InputError: no images, or images of several sizes.
    """

    def __init__(self, path: Path, nearest: int = 3) -> None:
        from sklearn.neighbors import NearestNeighbors

        self.source: Source = open_source(path)
        if not self.source.has_pictures:
            raise InputError(f"data: {path} holds no images; nearest ones are looked for among images")
        count = min(len(self.source), FITTING)
        found = self.source.pictures(range(count))
        self.rows = np.array([row for row, picture in enumerate(found) if picture is not None])
        seen = [picture for picture in found if picture is not None]
        self.size = seen[0].shape[:2] if seen else ()
        if len({picture.shape[:2] for picture in seen}) != 1:
            raise InputError(f"data: {path} holds images of several sizes, or none that can be read")
        self.colour = any(picture.ndim == 3 and np.ptp(picture, axis=-1).any() for picture in seen)
        self.nearest = min(nearest, len(seen))
        self._search = NearestNeighbors(n_neighbors=self.nearest, algorithm="brute").fit(self._flat(seen))

    def of(self, pictures: Sequence[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
        """Root mean square differences (B, nearest), rising, and the rows of these images in the data.

        Raises:
            InputError: images of another size.
        """
        if odd := [picture.shape[:2] for picture in pictures if picture.shape[:2] != self.size]:
            raise InputError(
                f"data: {self.source.path} holds images of {self.size[0]}×{self.size[1]}; the samples are "
                f"{odd[0][0]}×{odd[0][1]}"
            )
        flat = self._flat(pictures)
        distances, which = self._search.kneighbors(flat)
        return distances / np.sqrt(flat.shape[1]), self.rows[which]

    def _flat(self, pictures: Sequence[np.ndarray]) -> np.ndarray:
        """(B, pixels) float32, in colour if the data is."""
        if self.colour:
            return np.stack([(p if p.ndim == 3 else np.stack([p] * 3, -1)).ravel() for p in pictures])
        return np.stack([(p.mean(-1) if p.ndim == 3 else p).ravel() for p in pictures])


def _bytes(picture: np.ndarray) -> np.ndarray:
    return np.rint((picture + 1) * 127.5).clip(0, 255).astype(np.uint8)
