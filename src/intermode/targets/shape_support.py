r"""The support of Simple Shapes, written out: three rasters, their columns, and the nearest support image.

An image of 64×64 pixels has three columns of 21 pixels and one pixel of padding at the right. Column c holds
either nothing or the one raster :math:`R_c` (triangle, square, pentagon) at one integer place :math:`p` entirely
inside it (paper, section 1.1). The support is therefore finite, and the support image nearest to an image x is
found column by column, because columns share no pixel. With :math:`x_c` the strip of column c,

.. math::
    d_c^2 = \lVert x_c \rVert^2
        + \min\Bigl(0,\ \min_p \bigl(\lVert R_c \rVert^2 - 2 \langle x_c, R_c(p) \rangle\bigr)\Bigr),
    \qquad d^2 = \sum_c d_c^2 + \lVert x_{\text{pad}} \rVert^2,

where the inner products over all p are one correlation of the strip with the raster. The all-black image is not
in the support; where it would be nearest, the column in which presence costs least takes its shape.

A model may put a shape *between* the places. The best blend :math:`(1 - w) R_c(p) + w R_c(q)` of the nearest place p
with one of its up to eight neighbours q leaves, by projection on :math:`D = R_c(q) - R_c(p)`,

.. math::
    d_c^2 - \max_q \frac{g_q^2}{\lVert D \rVert^2}, \qquad w = \frac{g_q}{\lVert D \rVert^2} \le \tfrac12, \qquad
    g_q = \langle x_c, D \rangle + \tfrac12 \lVert D \rVert^2 \quad (g_q > 0),

which takes the inner products that are there already.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import numpy as np

__all__ = ["COLUMN", "KINDS", "SIZE", "NearestShapes", "around", "nearest", "places", "raster", "render"]

SIZE = 64
"""Side of an image in pixels."""

COLUMN = 21
"""Width of a column in pixels; column c begins at 21 c."""

KINDS = ("triangle", "square", "pentagon")
"""The shape of each column, from left to right."""

BATCH = 512
"""Images compared at a time: about 50 MB of working memory."""

_VERTICES = {
    "triangle": ((0, 9), (11, 9), (5.5, 0)),
    "square": ((0, 0), (7, 0), (7, 7), (0, 7)),
    "pentagon": ((5, 0), (10, 4), (8, 9), (2, 9), (0, 4)),
}
# (x, y) of pixel centres; Pillow fills the boundary too, which makes 65, 64 and 72 pixels


@dataclass(frozen=True)
class NearestShapes:
    """The nearest support image of each of n images, and how far it is.

    Distances are squared L2 distances with intensities in [0, 1]: about the number of wrong pixels. They are
    inf for an image that is not finite, which has no nearest one.

    Attributes:
        present: (n, 3) bool, the column holds its shape.
        row, column: (n, 3) int, top left pixel of the raster; -1 where it is absent.
        column_distance: (n, 3) float64, the share of each column.
        distance: (n,) float64, the whole, padding included.
        weight: (n, 3) float64, 0..1/2, of the neighbouring place in the best blend of two.
        blend_distance: (n, 3) float64, what that blend leaves of the column's distance.
    """

    present: np.ndarray
    row: np.ndarray
    column: np.ndarray
    column_distance: np.ndarray
    distance: np.ndarray
    weight: np.ndarray
    blend_distance: np.ndarray

    def render(self) -> np.ndarray:
        """(n, 64, 64) uint8, the nearest support images themselves."""
        return render(self.present, self.row, self.column)


@cache
def raster(kind: str) -> np.ndarray:
    """(h, w) bool, the raster that Pillow draws of ``kind``; read-only."""
    from PIL import Image, ImageDraw

    vertices = _VERTICES[kind]
    width = int(max(x for x, _ in vertices)) + 1
    height = int(max(y for _, y in vertices)) + 1
    image = Image.new("L", (width, height))
    ImageDraw.Draw(image).polygon(vertices, fill=255)
    pixels = np.array(image) > 0
    pixels.setflags(write=False)
    return pixels


def places(kind: str) -> tuple[int, int]:
    """How many rows and how many columns the raster's top left pixel can take inside its column of the image."""
    height, width = raster(kind).shape
    return SIZE - height + 1, COLUMN - width + 1


def render(present: np.ndarray, row: np.ndarray, column: np.ndarray) -> np.ndarray:
    """(n, 64, 64) uint8 images, 0 or 255, with the shapes of ``present`` (n, 3) at ``row``, ``column`` (n, 3)."""
    images = np.zeros((len(present), SIZE, SIZE), dtype=np.uint8)
    for kind, name in enumerate(KINDS):
        i = np.flatnonzero(present[:, kind])
        dy, dx = np.nonzero(raster(name))
        images[i[:, None], row[i, kind, None] + dy, column[i, kind, None] + dx] = 255
    return images


def around(
    x: np.ndarray, present: np.ndarray, row: np.ndarray, column: np.ndarray, *, keep_blank: bool = False
) -> tuple[np.ndarray, list[str]]:
    """(m, 64, 64) uint8, the support images that differ from one in a single column, and in what: in words.

    There a shape stands at one of the up to eight neighbouring places, or is not there. Where there is none, it is
    added where x is most like it.

    Args:
        x: (64, 64) intensities in [0, 1] of the image.
        present, row, column: (3,) of the support image, as :class:`NearestShapes` has them.
        keep_blank: the all-black image belongs to the support.
    """
    found, words = [], []
    for kind, name in enumerate(KINDS):
        down, across = places(name)
        if not present[kind]:
            strip = x[None, :, kind * COLUMN : (kind + 1) * COLUMN].astype(np.float64)
            y, left = np.divmod(int(_correlate(strip, raster(name)).argmax()), across)
            found.append((True, int(y), int(left), kind))
            words.append(f"a {name}")
            continue
        if keep_blank or present.sum() > 1:
            found.append((False, 0, 0, kind))
            words.append(f"no {name}")
        for dy, dx, _ in _steps(name):
            y, left = int(row[kind]) + dy, int(column[kind]) - kind * COLUMN + dx
            if 0 <= y < down and 0 <= left < across:
                found.append((True, y, left, kind))
                words.append(f"the {name} one place away")
    there, rows, columns = (np.repeat(part[None], len(found), 0) for part in (present, row, column))
    for k, (shown, top, left, kind) in enumerate(found):
        there[k, kind], rows[k, kind], columns[k, kind] = shown, top, left + kind * COLUMN
    return render(there, rows, columns), words


def _correlate(strip: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """(n, H-h+1, W-w+1) inner products of strips (n, H, W) with ``mask`` (h, w) at all places inside them.

    Row by row of the mask, each a product with the band matrix that holds that row at every place: faster than
    convolution in float64, which has no fast kernels, and in whole numbers exact.
    """
    across, down = strip.shape[2] - mask.shape[1] + 1, strip.shape[1] - mask.shape[0] + 1
    total = np.zeros((len(strip), down, across))
    for i, row in enumerate(mask):
        band = np.zeros((strip.shape[2], across))
        for place in range(across):
            band[place : place + len(row), place] = row
        total += strip[:, i : i + down] @ band
    return total


def nearest(x: np.ndarray, *, keep_blank: bool = False) -> NearestShapes:
    """The nearest support image of images (n, 64, 64) with intensities in [0, 1]; values outside count as they are.

    Exact up to float64 rounding. Of equally near ones an absent shape comes before a present one, then the
    topmost, then the leftmost.

    Args:
        x: (n, 64, 64) floats.
        keep_blank: the all-black image belongs to the support.
    """
    n, columns = len(x), len(KINDS)
    present, distance, pad = np.empty((n, columns), dtype=bool), np.empty((n, columns)), np.empty(n)
    row, column = np.empty((n, columns), dtype=int), np.empty((n, columns), dtype=int)
    weight, left = np.empty((n, columns)), np.empty((n, columns))
    found = present, row, column, distance, pad, weight, left
    for begin in range(0, n, BATCH):
        some = slice(begin, begin + BATCH)
        for whole, part in zip(found, _nearest_batch(x[some], keep_blank), strict=True):
            whole[some] = part
    return NearestShapes(present, row, column, distance, distance.sum(1) + pad, weight, left)


def _nearest_batch(x: np.ndarray, keep_blank: bool) -> tuple[np.ndarray, ...]:
    n, columns = len(x), len(KINDS)
    finite = np.isfinite(x).all((1, 2))
    pixels = np.where(finite[:, None, None], x, 0).astype(np.float64)
    empty, gain = np.empty((n, columns)), np.empty((n, columns))  # distance without shape, and what the shape adds
    row, column = np.empty((n, columns), dtype=int), np.empty((n, columns), dtype=int)
    weight, removed = np.empty((n, columns)), np.empty((n, columns))
    for kind, name in enumerate(KINDS):
        strip = pixels[..., kind * COLUMN : (kind + 1) * COLUMN]
        match = _correlate(strip, raster(name))
        best = match.reshape(n, -1).argmax(1)
        row[:, kind], column[:, kind] = np.divmod(best, places(name)[1])
        empty[:, kind] = np.square(strip).sum((1, 2))
        gain[:, kind] = raster(name).sum() - 2 * match.reshape(n, -1)[np.arange(n), best]
        weight[:, kind], removed[:, kind] = _blend(match, name, row[:, kind], column[:, kind])
        column[:, kind] += kind * COLUMN
    present = gain < 0
    if not keep_blank:
        blank = np.flatnonzero(~present.any(1))
        present[blank, gain[blank].argmin(1)] = True
    present[~finite] = False
    distance = np.where(present, empty + gain, empty).clip(0)
    distance[~finite] = np.inf
    pad = np.square(pixels[..., columns * COLUMN :]).sum((1, 2))
    left = np.where(present, (distance - removed).clip(0), distance)
    return (
        *(present, np.where(present, row, -1), np.where(present, column, -1), distance, pad),
        *(np.where(present, weight, 0), left),
    )


@cache
def _steps(kind: str) -> list[tuple[int, int, int]]:
    """(dy, dx) to each of the eight neighbouring places, and in how many pixels the raster then differs."""
    mask = np.pad(raster(kind), 1)
    steps = [(dy, dx) for dy in (-1, 0, 1) for dx in (-1, 0, 1) if dy or dx]
    return [(dy, dx, int((mask != np.roll(mask, (dy, dx), (0, 1))).sum())) for dy, dx in steps]


def _blend(match: np.ndarray, kind: str, row: np.ndarray, column: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(n,) weight of a neighbour in the best blend with the place (row, column), and the distance that it removes."""
    weight, removed = np.zeros((2, len(match)))
    around = np.pad(match, ((0, 0), (1, 1), (1, 1)), constant_values=-np.inf)
    images, here = np.arange(len(match)), match[np.arange(len(match)), row, column]
    for dy, dx, differing in _steps(kind):
        along = (around[images, row + 1 + dy, column + 1 + dx] - here + differing / 2).clip(0)
        better = along**2 / differing > removed
        weight[better] = along[better] / differing
        removed[better] = along[better] ** 2 / differing
    return weight, removed
