r"""Reading Simple Shapes images: which shapes, how many, where, and what is wrong with them.

The distance to the nearest support image (:mod:`~intermode.targets.shape_support`) is exact, but a model's good
samples are never exactly on the support: edges are grey, a corner pixel is off. This reading allows for that. For
intensities clipped to [0, 1]:

1. *Objects* are the 4-connected components of the pixels >= 1/2 with at least 5 of them.
2. An object is a *shape* if a template differs from it in few pixels, :math:`|M \mathbin\triangle T|`: at most 6 for
   the data's own three rasters, at most 3 for the same shapes as other rasterisers draw them (squares of 7 to 9
   pixels, triangles and pentagons up to 1.25 pixels smaller or larger each way, at any sub-pixel place, with the
   boundary filled, not filled or anti-aliased). The data's rasters go first.
3. An object that is no shape may be several that touch: it is cut at the borders of the columns, and if the parts
   are not all shapes of their columns' kinds, the data's rasters are peeled off it one by one. If something that is
   no shape is left over, the whole is *malformed*: merged, cut, torn, swollen, a blob.
4. A shape is *faint* if the mean intensity of its interior (its boundary pixels left out) is below 3/4.
5. A *ghost* is a place, more than 2 pixels from every object, where the mean of 3×3 pixels reaches 1/4.
6. A malformed object lies *between places* if, in every column that it is in, the best blend of two neighbouring
   places of the data's raster (:mod:`~intermode.targets.shape_support`) removes over two thirds of the squared
   distance to the nearer one, the other weighing over 0.15. To the eye it is a good shape half a pixel off the grid:
   edges of half brightness fall on either side of the threshold as the noise will have it, and no template fits.

So a shape counts as present from half brightness on, is clean from three quarters on, and as absent below one
quarter; whatever lies between present and absent is wrong. An image then is, the first that applies:
``diverged`` (not finite), ``duplicate`` (two or more shapes of one kind, the paper's rule, section 5), ``deformed``
(a malformed object that does not lie between places, a faint shape or a ghost), ``between-places`` (one that does),
``wrong-column`` (a shape that sticks out of its kind's column by more than one pixel), ``blank`` (no object; unless
blanks are kept) or ``in-support``.

Measured on 20,000 images of the data, intensities in [0, 1]: no false alarm under Gaussian noise of standard
deviation 0.12, nor under Gaussian blur of 1.1 pixels, nor under both at 0.05 and 0.75 pixels. Of images that other
rasterisers draw, with squares of 7 to 8.5 pixels, triangles and pentagons up to one pixel smaller or larger, all at
sub-pixel places, none in 10,000 is flagged, anti-aliased at most one. Two things that no reading can tell apart
are read in the image's favour: one disk in eight of 8.4 to 9.2 pixels passes for another rasteriser's pentagon (two
in a hundred of other sizes), and a triangle cut parallel to its base is a smaller triangle.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import NamedTuple

import numpy as np
from scipy import ndimage

from intermode.targets import Labels
from intermode.targets.shape_support import COLUMN, KINDS, SIZE, nearest, raster

__all__ = ["FoundShape", "ShapeLabels", "read"]

PRESENT, CLEAN, ABSENT = 0.5, 0.75, 0.25
"""Intensities from which a pixel belongs to an object, a shape is not faint, and dark ground is a ghost."""

SPECK = 5
"""Pixels of the smallest object."""

SMALLEST, LARGEST_GROUP = 40, 400
"""Pixels of the smallest shape, and of the most that is searched for several shapes that touch."""

OWN_TOLERANCE, OTHER_TOLERANCE = 6, 3
"""Pixels that may differ from the data's own raster, and from one that another rasteriser may have drawn."""

OVERHANG = 1
"""Pixels by which a shape may stick out of its column: another rasteriser's shape may be that much wider."""

PATCH, MARGIN, LARGEST = 18, 2, 16
"""Side of the window in which masks and templates are compared, its dark border, and the largest object in it."""

EXPLAINED, LEAST_WEIGHT = 2 / 3, 0.15
"""Share of the squared distance that a blend of two places must remove, and the weight that both must exceed."""

BATCH = 512
"""Images read at a time: about 100 MB of working memory."""

_PLANE = np.zeros((3, 3, 3), dtype=bool)  # neighbours in a stack of images: the four of the same image
_PLANE[1] = ndimage.generate_binary_structure(2, 1)


_BORDER = ((0, 0), (MARGIN, PATCH), (MARGIN, PATCH))  # around a stack, so that windows never leave it


class FoundShape(NamedTuple):
    """One object of an image.

    Attributes:
        kind: ``triangle``, ``square``, ``pentagon`` or ``malformed`` (no template fits; a ghost, too).
        row, column: top left pixel of the box around it; of the template for a shape, which may begin one pixel
            outside the image.
        height, width: of the box, in pixels.
        misfit: pixels that differ from the template; -1 if malformed.
        brightness: 0..1, mean intensity of the interior of a shape, or of all pixels of a malformed object.
        wrong: why the object is not in-support: ``duplicate``, ``deformed``, ``between-places``, ``wrong-column``, or
            empty if it is.
    """

    kind: str
    row: int
    column: int
    height: int
    width: int
    misfit: int
    brightness: float
    wrong: str


@dataclass(frozen=True)
class ShapeLabels(Labels):
    """Labels of Simple Shapes images.

    ``hallucinated`` means off the support, for whatever reason; ``rule`` is the first reason of ``diverged``,
    ``duplicate``, ``deformed``, ``between-places``, ``wrong-column``, ``blank``, else ``in-support``. The paper's own
    label, two or more shapes of one kind (section 5), is ``duplicate``. Reasons do not exclude each other: an image
    with two triangles and a torn square is both duplicate and deformed.

    Attributes:
        duplicate: (n,) bool, two or more shapes of one kind.
        deformed: (n,) bool, an object that is no shape, a faint shape, or a ghost.
        between_places: (n,) bool, an object that is no shape because it lies between two neighbouring places.
        wrong_column: (n,) bool, a shape outside its kind's column.
        counts_by_kind: (n, 3) int, triangles, squares and pentagons found, wherever they are.
        objects: of each image the objects found, from left to right; none if diverged.
        distance: (n,) float64, squared L2 distance to the exactly nearest support image (intensities 0..1, not
            clipped); inf if diverged. No rule uses it.
        weight: (n, 3) float64, 0..1/2, of the neighbouring place in the blend of two that explains the column; 0 where
            none does. In-support shapes have one, too: what is read as a shape may be as far between places as what
            is not.
    """

    duplicate: np.ndarray
    deformed: np.ndarray
    between_places: np.ndarray
    wrong_column: np.ndarray
    counts_by_kind: np.ndarray
    objects: tuple[tuple[FoundShape, ...], ...]
    distance: np.ndarray
    weight: np.ndarray

    @property
    def duplicate_rate(self) -> float:
        """Share of samples with two or more shapes of one kind, 0..1: the paper's rate."""
        return float(np.mean(self.duplicate))


@dataclass(frozen=True)
class _Templates:
    """T masks, each at nine shifts. The first 3 are the data's own rasters."""

    kind: np.ndarray  # (T,) int
    height: np.ndarray  # (T,) int
    width: np.ndarray  # (T,) int
    masks: np.ndarray  # (9 T, PATCH²) float32, shift-major
    interiors: np.ndarray  # (9 T, PATCH²) float32, the masks without their boundary
    area: np.ndarray  # (9 T,) float32, pixels of each mask
    own: np.ndarray  # (9 T,) int, where the data's own rasters are

    def kind_of(self, fit: np.ndarray) -> np.ndarray:
        """(k,) int, the kind of the masks in rows ``fit`` (k,); -1 where that is."""
        return np.where(fit >= 0, self.kind[fit % len(self.kind)], -1)


_SHIFTS = [(dy, dx) for dy in (0, -1, 1) for dx in (0, -1, 1)]


def _polygons(kind: str) -> list[np.ndarray]:
    """Masks of a triangle or pentagon as other rasterisers may draw it, at all sizes and sub-pixel places of a grid.

    A pixel belongs to it by one of three rules: its centre is inside the polygon; its centre is inside or nearer to
    an edge than half a pixel (as if the boundary were filled, too); half of it is covered (anti-aliased).
    """
    height, width = raster(kind).shape
    sides = 3 if kind == "triangle" else 5
    angle = 2 * np.pi * np.arange(sides) / sides
    unit = np.stack([np.sin(angle), -np.cos(angle)], axis=1)
    unit = (unit - unit.min(0)) / np.ptp(unit, axis=0)
    places = np.stack(np.meshgrid(*2 * [np.arange(4) / 4 + MARGIN], indexing="ij"), axis=-1).reshape(-1, 2)
    fine = (np.arange(4 * PATCH) - 1.5) / 4  # four sub-pixels to a pixel, whose centre is a whole number
    coarse = np.arange(PATCH)
    sizes = np.arange(-1.25, 1.3, 0.5)
    masks: dict[bytes, np.ndarray] = {}
    for dx, dy, place in ((dx, dy, place) for dx in sizes for dy in sizes if abs(dx - dy) <= 1 for place in places):
        size = np.array((width + dx, height + dy))
        covered = _depth(unit * size + place, fine) >= 0
        for mask in (
            _depth(unit * size + place, coarse) >= 0,
            _depth(unit * (size - 1) + place, coarse) >= -0.5,
            covered.reshape(PATCH, 4, PATCH, 4).mean((1, 3)) >= 0.5,
        ):
            box = mask[ndimage.find_objects(mask.astype(int))[0]]
            masks.setdefault(bytes(box.shape) + box.tobytes(), box)
    return list(masks.values())


def _depth(corners: np.ndarray, axis: np.ndarray) -> np.ndarray:
    """Distance into a convex polygon (s, 2), negative outside, of the grid of points ``axis`` × ``axis``."""
    along = np.roll(corners, -1, axis=0) - corners
    along /= np.linalg.norm(along, axis=1)[:, None]
    offset_x, offset_y = axis - corners[:, :1], axis - corners[:, 1:]
    return (along[:, :1, None] * offset_y[:, :, None] - along[:, 1:, None] * offset_x[:, None, :]).min(0) + 1e-9


@cache
def _templates() -> _Templates:
    squares = [np.ones((h, w), dtype=bool) for h in (7, 8, 9) for w in (7, 8, 9) if abs(h - w) <= 1]
    for mask in [square for square in squares if max(square.shape) == 9]:
        round_off = mask.copy()  # anti-aliased between two pixels: half bright at the sides, less at the corners
        round_off[[0, 0, -1, -1], [0, -1, 0, -1]] = False
        squares.append(round_off)
    shapes = [(kind, raster(name)) for kind, name in enumerate(KINDS)]
    shapes += [(1, mask) for mask in squares]
    shapes += [(kind, mask) for kind in (0, 2) for mask in _polygons(KINDS[kind])]
    masks = np.zeros((len(_SHIFTS), len(shapes), PATCH, PATCH), dtype=bool)
    for shift, (dy, dx) in enumerate(_SHIFTS):
        for index, (_, mask) in enumerate(shapes):
            h, w = mask.shape
            masks[shift, index, MARGIN + dy : MARGIN + dy + h, MARGIN + dx : MARGIN + dx + w] = mask
    flat = masks.reshape(-1, PATCH, PATCH)
    interiors = ndimage.binary_erosion(flat, np.ones((1, 3, 3), dtype=bool))
    return _Templates(
        kind=np.array([kind for kind, _ in shapes]),
        height=np.array([mask.shape[0] for _, mask in shapes]),
        width=np.array([mask.shape[1] for _, mask in shapes]),
        masks=flat.reshape(len(flat), -1).astype(np.float32),
        interiors=interiors.reshape(len(flat), -1).astype(np.float32),
        area=flat.sum((1, 2), dtype=np.float32),
        own=np.flatnonzero(np.tile(np.arange(len(shapes)) < len(KINDS), len(_SHIFTS))),
    )


class _Stack:
    """A stack of images in which every object has a number: ``numbers[i, y, x]`` is 0 outside of objects."""

    def __init__(self, x: np.ndarray) -> None:
        self.x = x
        everything, self.last = ndimage.label(x >= PRESENT, _PLANE)
        area = np.bincount(everything.ravel(), minlength=self.last + 1)
        area[0] = 0
        self.padded = np.pad(np.where(area[everything] >= SPECK, everything, 0), _BORDER)
        self.numbers = self.padded[:, MARGIN : MARGIN + SIZE, MARGIN : MARGIN + SIZE]
        self.objects = self._boxes(np.flatnonzero(area >= SPECK), ndimage.find_objects(everything))

    @staticmethod
    def _boxes(numbers: np.ndarray, boxes: list) -> np.ndarray:
        """(k, 6) int: number, image, row, column, height, width."""
        rows = [
            (number, i.start, y.start, x.start, y.stop - y.start, x.stop - x.start)
            for number, (i, y, x) in ((number, boxes[number - 1]) for number in numbers)
        ]
        return np.array(rows, dtype=int).reshape(-1, 6)

    def mask(self, one: np.ndarray) -> np.ndarray:
        """(height, width) bool, the pixels of an object in its box."""
        number, image, row, column, height, width = one
        return self.numbers[image, row : row + height, column : column + width] == number

    def divide(self, one: np.ndarray, parts: np.ndarray) -> np.ndarray:
        """Divide an object by ``parts`` (height, width) int, the same number for each part; drops specks."""
        _, image, row, column, height, width = one
        view = self.numbers[image, row : row + height, column : column + width]
        view[self.mask(one)] = 0
        found = []
        for number, box in enumerate(ndimage.find_objects(parts), start=1):
            if box is None or np.count_nonzero(parts[box] == number) < SPECK:
                continue
            self.last += 1
            view[parts == number] = self.last
            y, x = box
            place = (row + y.start, column + x.start, y.stop - y.start, x.stop - x.start)
            found.append((self.last, image, *place))
        return np.array(found, dtype=int).reshape(-1, 6)

    def restore(self, one: np.ndarray, mask: np.ndarray) -> None:
        """Undo the division of an object whose pixels were ``mask`` (height, width)."""
        number, image, row, column, height, width = one
        self.numbers[image, row : row + height, column : column + width][mask] = number

    def windows(self, padded: np.ndarray, objects: np.ndarray) -> np.ndarray:
        """(k, PATCH, PATCH) of a stack with border: each object's box begins at (MARGIN, MARGIN)."""
        reach = np.arange(PATCH)
        row, column = objects[:, 2, None] + reach, objects[:, 3, None] + reach
        return padded[objects[:, 1, None, None], row[:, :, None], column[:, None, :]]


def _match(stack: _Stack, objects: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(k,) int: the row of the templates' masks that fits each object, -1 if none does; and the misfit in pixels."""
    templates = _templates()
    fit, misfit = np.full(len(objects), -1), np.full(len(objects), -1)
    drawn = stack.windows(stack.padded, objects) == objects[:, 0, None, None]
    pixels = drawn.reshape(len(objects), PATCH**2).astype(np.float32)
    size = pixels.sum(1)
    small = (objects[:, 4:] <= LARGEST).all(1)
    for rows, tolerance in ((templates.own, OWN_TOLERANCE), (slice(None), OTHER_TOLERANCE)):
        masks, area = templates.masks[rows], templates.area[rows]
        todo = np.flatnonzero((fit < 0) & small & (size >= area.min() - tolerance) & (size <= area.max() + tolerance))
        for some in np.array_split(todo, len(todo) // BATCH + 1):
            apart = size[some, None] + area - 2 * pixels[some] @ masks.T
            best = apart.argmin(1)
            fits = apart.min(1) <= tolerance
            fit[some[fits]] = np.arange(len(templates.area))[rows][best[fits]]
            misfit[some[fits]] = apart.min(1)[fits]
    return fit, misfit


def _cut(mask: np.ndarray, column: int) -> np.ndarray | None:
    """Parts of an object ``mask`` (h, w), whose box begins at ``column``, in each column of the image it is in.

    They are numbered from 1; None if it is in one column only, or if a part is too small for a shape.
    """
    owner = (column + np.arange(mask.shape[1])) // COLUMN
    parts = np.where(mask, owner - owner[0] + 1, 0)
    pixels = np.bincount(parts.ravel())[1:]
    return parts if len(pixels) > 1 and pixels.min() >= SMALLEST else None


@cache
def _peelers() -> list[tuple[np.ndarray, np.ndarray]]:
    """Of each kind the raster with a border of one pixel, and (h w, 2) that mask and the ring around it, flat."""
    peelers = []
    for name in KINDS:
        mask = np.pad(raster(name), 1)
        ring = ndimage.binary_dilation(mask, np.ones((3, 3), dtype=bool)) & ~mask
        peelers.append((mask, np.stack([mask.ravel(), ring.ravel()], axis=1).astype(np.float32)))
    return peelers


def _peel(mask: np.ndarray, column: int) -> np.ndarray | None:
    """Parts of an object ``mask`` (h, w) after peeling off the data's rasters, numbered from 1; None if none fits.

    A raster fits where it misses at most OTHER_TOLERANCE pixels of the object and at most a third of the pixels
    around it are bright. The place with the greatest share of right pixels, those around it counting half, goes
    first. What is left is numbered by connected components.
    """
    left = np.pad(mask, 1)
    parts = np.zeros(left.shape, dtype=int)
    count = 0
    while left.sum() >= SMALLEST:
        best: tuple[float, int, int, np.ndarray] = (-np.inf, 0, 0, left)
        for shape, weights in _peelers():
            if left.shape[0] < shape.shape[0] or left.shape[1] < shape.shape[1]:
                continue
            windows = np.lib.stride_tricks.sliding_window_view(left.astype(np.float32), shape.shape)
            inside, outside = np.moveaxis(windows.reshape(*windows.shape[:2], -1) @ weights, -1, 0)
            area, around = weights.sum(0)
            fits = (area - inside <= OTHER_TOLERANCE) & (outside <= around / 3)
            share = np.where(fits, (2 * inside - outside / 2) / area, -np.inf)
            if share.max() > best[0]:
                best = (share.max(), *np.divmod(share.argmax(), share.shape[1]), shape)
        if best[0] == -np.inf:
            break
        _, row, column, shape = best
        view = np.s_[row : row + shape.shape[0], column : column + shape.shape[1]]
        count += 1
        parts[view][left[view] & shape] = count
        left[view] &= ~shape
    if not count:
        return None
    rest, _ = ndimage.label(left)
    return np.where(rest > 0, rest + count, parts)[1:-1, 1:-1]


def _resolve(stack: _Stack) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """All objects of a stack, those that are several shapes divided: (k, 6) objects, (k,) fit and misfit of each."""
    objects = stack.objects
    fit, misfit = _match(stack, objects)
    for divide in (_cut, _peel):
        area = np.bincount(stack.numbers.ravel(), minlength=stack.last + 1)[objects[:, 0]]
        several = np.flatnonzero((fit < 0) & (area >= 2 * SMALLEST) & (area <= LARGEST_GROUP))
        tried, divided = [], []
        for index in several:
            mask = stack.mask(objects[index])
            parts = divide(mask, objects[index, 3])
            if parts is not None:
                tried.append((index, mask))
                divided.append(stack.divide(objects[index], parts))
        if not tried:
            continue
        part_fit, part_misfit = _match(stack, np.concatenate(divided))
        owner = np.repeat(np.arange(len(tried)), [len(parts) for parts in divided])
        kind = _templates().kind_of(part_fit)
        # any rectangle of 14 pixels is two squares if cut in the right place: no cut but between columns' own shapes
        misread = kind != np.concatenate(divided)[:, 3] // COLUMN if divide is _cut else kind < 0
        good = np.bincount(owner, misread, minlength=len(tried)) == 0
        for (index, mask), fine in zip(tried, good, strict=True):
            if not fine:
                stack.restore(objects[index], mask)
        keep = np.ones(len(objects), dtype=bool)
        keep[[index for (index, _), fine in zip(tried, good, strict=True) if fine]] = False
        new = good[owner]
        objects = np.concatenate([objects[keep], np.concatenate(divided)[new]])
        fit, misfit = np.concatenate([fit[keep], part_fit[new]]), np.concatenate([misfit[keep], part_misfit[new]])
    return objects, fit, misfit


def _box_sum(x: np.ndarray, reach: int) -> np.ndarray:
    """(n, h, w) sums over the square of pixels within ``reach`` of each. Many times faster than ndimage's filters."""
    _, height, width = x.shape
    padded = np.pad(x, ((0, 0), (reach, reach), (reach, reach)))
    rows = padded[:, :, :width].copy()
    for shift in range(1, 2 * reach + 1):
        rows += padded[:, :, shift : shift + width]
    total = rows[:, :height].copy()
    for shift in range(1, 2 * reach + 1):
        total += rows[:, shift : shift + height]
    return total


def _ghosts(stack: _Stack) -> tuple[np.ndarray, np.ndarray]:
    """(g, 6) objects of brightness between absent and present, or too small; (g,) their greatest intensity."""
    near = _box_sum((stack.numbers > 0).astype(np.uint8), 2) > 0
    haze = _box_sum(np.where(near, 0, stack.x), 1) >= 9 * ABSENT
    if not haze.any():
        return np.empty((0, 6), dtype=int), np.empty(0)
    numbers, count = ndimage.label(haze, _PLANE)
    objects = stack._boxes(np.arange(1, count + 1), ndimage.find_objects(numbers))
    return objects, np.asarray(ndimage.maximum(stack.x, numbers, np.arange(1, count + 1)))


def _weights(x: np.ndarray) -> np.ndarray:
    """(n, 3) weight of a neighbouring place in the blend that explains each column of images (n, 64, 64), or 0."""
    found = nearest(x)
    explained = found.blend_distance < (1 - EXPLAINED) * found.column_distance
    return np.where(explained & (found.weight > LEAST_WEIGHT), found.weight, 0)


def _read_batch(x: np.ndarray, explained: np.ndarray) -> tuple[np.ndarray, np.ndarray, list[list[FoundShape]]]:
    """Read images (n, 64, 64) in [0, 1].

    Args:
        x: the images.
        explained: (n, 3) bool, a blend of two places explains the column.

    Returns:
        (n, 3) counts; (3, n) bool, deformed, between places and in a wrong column; and the objects.
    """
    templates = _templates()
    stack = _Stack(x)
    objects, fit, misfit = _resolve(stack)
    shaped = fit >= 0
    shift, template = np.divmod(fit, len(templates.kind))
    kind = templates.kind_of(fit)
    shifts = np.array(_SHIFTS)[np.where(shaped, shift, 0)]
    row, column = objects[:, 2] + shifts[:, 0], objects[:, 3] + shifts[:, 1]
    height = np.where(shaped, templates.height[template], objects[:, 4])
    width = np.where(shaped, templates.width[template], objects[:, 5])

    total = np.bincount(stack.numbers.ravel(), weights=x.ravel(), minlength=stack.last + 1)[objects[:, 0]]
    area = np.bincount(stack.numbers.ravel(), minlength=stack.last + 1)[objects[:, 0]]
    brightness = total / area
    interior = templates.interiors[fit[shaped]]
    pixels = stack.windows(np.pad(x, _BORDER), objects[shaped]).reshape(-1, PATCH**2)
    brightness[shaped] = (pixels * interior).sum(1) / interior.sum(1)

    outside = np.maximum(kind * COLUMN - column, column + width - (kind + 1) * COLUMN)
    astray = shaped & (outside > OVERHANG)
    bad = ~shaped | (brightness < CLEAN)
    ghosts, glow = _ghosts(stack)

    image = objects[:, 1]
    counts = np.zeros((len(x), len(KINDS)), dtype=int)
    np.add.at(counts, (image[shaped], kind[shaped]), 1)
    between = bad & (area >= SMALLEST)
    for one in range(len(KINDS)):
        within = (column < (one + 1) * COLUMN) & (column + width > one * COLUMN)
        between &= explained[image, one] | ~within
    reasons = np.zeros((3, len(x)), dtype=bool)
    for reason, rows in zip(reasons, (image[bad & ~between], image[between], image[astray]), strict=True):
        reason[rows] = True
    reasons[0, ghosts[:, 1]] = True

    found: list[list[FoundShape]] = [[] for _ in range(len(x))]
    for k in range(len(objects)):
        name = KINDS[kind[k]] if shaped[k] else "malformed"
        double = shaped[k] and counts[image[k], kind[k]] > 1
        spoilt = "between-places" if between[k] else "deformed" if bad[k] else ""
        wrong = "duplicate" if double else spoilt or ("wrong-column" if astray[k] else "")
        box = int(row[k]), int(column[k]), int(height[k]), int(width[k])
        found[image[k]].append(FoundShape(name, *box, int(misfit[k]), float(brightness[k]), wrong))
    for ghost, intensity in zip(ghosts, glow, strict=True):
        box = int(ghost[2]), int(ghost[3]), int(ghost[4]), int(ghost[5])
        found[ghost[1]].append(FoundShape("malformed", *box, -1, float(intensity), "deformed"))
    for objects_of_image in found:
        objects_of_image.sort(key=lambda one: (one.column, one.row))
    return counts, reasons, found


def read(x: np.ndarray, *, keep_blank: bool = False) -> ShapeLabels:
    """Labels of images.

    Args:
        x: (n, 64, 64) floats, black 0 and white 1; clipped to that for the reading, not for the distance.
        keep_blank: an image without objects is in-support.
    """
    n = len(x)
    finite = np.isfinite(x).all((1, 2))
    counts = np.zeros((n, len(KINDS)), dtype=int)
    reasons = np.zeros((3, n), dtype=bool)
    distance, weight = np.empty(n), np.empty((n, len(KINDS)))
    objects: list[list[FoundShape]] = []
    for begin in range(0, n, BATCH):
        rows = slice(begin, begin + BATCH)
        # comparing NaN is always false, so an image that is not finite is cleared to hold nothing
        clipped = np.where(finite[rows, None, None], x[rows], 0).clip(0, 1).astype(np.float32)
        weight[rows] = _weights(clipped)
        counts[rows], reasons[:, rows], found = _read_batch(clipped, weight[rows] > 0)
        objects += found
        distance[rows] = nearest(x[rows], keep_blank=keep_blank).distance
    duplicate = np.any(counts > 1, axis=1)
    blank = np.array([not found for found in objects], dtype=bool)
    deformed, between_places, wrong_column = reasons
    rule = np.full(n, "in-support", dtype="<U14")
    if not keep_blank:
        rule[blank] = "blank"
    rule[wrong_column] = "wrong-column"
    rule[between_places] = "between-places"
    rule[deformed] = "deformed"
    rule[duplicate] = "duplicate"
    rule[~finite] = "diverged"
    return ShapeLabels(
        hallucinated=rule != "in-support",
        rule=rule,
        duplicate=duplicate,
        deformed=deformed,
        between_places=between_places,
        wrong_column=wrong_column,
        counts_by_kind=counts,
        objects=tuple(tuple(found) for found in objects),
        distance=distance,
        weight=weight,
    )
