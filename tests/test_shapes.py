"""Simple Shapes: the data is what the paper says, and both oracles read it rightly.

Support images and hallucinations are drawn here from the pictures below, not with the package's own code.
"""

from __future__ import annotations

import time

import numpy as np
import pytest
import torch
from PIL import Image
from scipy import ndimage

from intermode.errors import InputError
from intermode.targets.shapes import Shapes, save_images

PICTURES = {
    "triangle": """
        .....#......
        ....###.....
        ....###.....
        ...#####....
        ...######...
        ..#######...
        ..########..
        .##########.
        .##########.
        ############""",
    "square": "########\n" * 8,
    "pentagon": """
        .....#.....
        ....###....
        ...#####...
        .#########.
        ###########
        ###########
        .#########.
        .#########.
        ..#######..
        ..#######..""",
}
MASKS = [np.array([[pixel == "#" for pixel in line] for line in picture.split()]) for picture in PICTURES.values()]
KINDS = list(PICTURES)
SIZES = [pytest.param(250, id="few"), pytest.param(5000, marks=pytest.mark.slow, id="many")]
SHAPES = Shapes()


# --- drawing -----------------------------------------------------------------------------------------------------


def paste(image, mask, row, column, value=1.0):
    h, w = mask.shape
    view = image[row : row + h, column : column + w]
    np.maximum(view, mask * value, out=view)


def anywhere(rng, mask):
    return rng.integers(0, 65 - mask.shape[0]), rng.integers(0, 65 - mask.shape[1])


def in_column(rng, kind):
    h, w = MASKS[kind].shape
    return rng.integers(0, 65 - h), 21 * kind + rng.integers(0, 22 - w)


def is_free(image, mask, row, column, gap):
    h, w = mask.shape
    return not image[max(0, row - gap) : row + h + gap, max(0, column - gap) : column + w + gap].any()


def add_others(rng, image, without=(), gap=1):
    """Each other shape in its own column with probability 1/2."""
    for kind in range(3):
        if kind in without or rng.random() < 0.5:
            continue
        for _ in range(20):
            place = in_column(rng, kind)
            if is_free(image, MASKS[kind], *place, gap):
                paste(image, MASKS[kind], *place)
                break
    return image


def draw_support(rng, gap=1):
    image = np.zeros((64, 64))
    while not image.any():
        for kind in np.flatnonzero(rng.random(3) < 0.5):
            paste(image, MASKS[kind], *in_column(rng, kind))
    return image


def draw_duplicate(rng, gap=1):
    """Two or three of one kind, half of the time one of them where it belongs."""
    image, kind, copies = np.zeros((64, 64)), rng.integers(3), rng.integers(2, 4)
    if rng.random() < 0.5:
        paste(image, MASKS[kind], *in_column(rng, kind))
        copies -= 1
    while copies:
        place = anywhere(rng, MASKS[kind])
        if is_free(image, MASKS[kind], *place, gap):
            paste(image, MASKS[kind], *place)
            copies -= 1
    return add_others(rng, image, (kind,), gap)


def draw_wrong_column(rng, gap=1):
    """One shape wholly or by two pixels at least outside its column."""
    image, kind = np.zeros((64, 64)), rng.integers(3)
    outside = 0
    while outside < 2:
        row, column = anywhere(rng, MASKS[kind])
        outside = max(21 * kind - column, column + MASKS[kind].shape[1] - 21 * (kind + 1))
    paste(image, MASKS[kind], row, column)
    return add_others(rng, image, (kind,), gap)


def beside_others(rng, mask):
    image = np.zeros((64, 64))
    paste(image, mask, *anywhere(rng, mask))
    return add_others(rng, image)


def draw_eroded(rng):
    return beside_others(rng, ndimage.binary_erosion(MASKS[rng.integers(3)]))


def draw_swollen(rng):
    return beside_others(rng, ndimage.binary_dilation(np.pad(MASKS[rng.integers(3)], 1)))


def draw_cut(rng):
    """40 to 60 % cut off along a straight line."""
    mask = MASKS[rng.integers(3)]
    y, x = np.nonzero(mask)
    part = np.zeros_like(mask)
    while not 0.4 <= 1 - part.sum() / mask.sum() <= 0.6:
        angle = rng.uniform(0, 2 * np.pi)
        along = np.cos(angle) * x + np.sin(angle) * y
        part = np.zeros_like(mask)
        part[y, x] = along > np.quantile(along, rng.uniform(0.4, 0.6))
    return beside_others(rng, part)


def draw_hole(rng):
    mask = MASKS[rng.integers(3)].copy()
    y, x = np.nonzero(ndimage.binary_erosion(mask, np.ones((3, 3))))
    i = rng.integers(len(y))
    mask[y[i] - 1 : y[i] + 2, x[i] - 1 : x[i] + 2] = False
    return beside_others(rng, mask)


def draw_bar(rng):
    mask = np.ones((rng.integers(2, 6), rng.integers(12, 24)), dtype=bool)
    return beside_others(rng, mask if rng.random() < 0.5 else mask.T)


def draw_disk(rng):
    y, x = np.mgrid[:17, :17] - 8
    return beside_others(rng, y**2 + x**2 <= rng.uniform(5.6, 8) ** 2)


def draw_blob(rng):
    """The largest piece of a level set of smooth noise."""
    y, x = np.mgrid[:24, :24] - 12
    while True:
        field = ndimage.gaussian_filter(rng.standard_normal((24, 24)), 2) * np.exp(-(y**2 + x**2) / 60)
        pieces, count = ndimage.label(field >= np.quantile(field, 1 - rng.uniform(20, 120) / 576))
        mask = pieces == 1 + np.argmax(ndimage.sum(pieces > 0, pieces, range(1, count + 1)))
        if mask.sum() >= 15:
            return beside_others(rng, mask)


def draw_merged(rng):
    """Two shapes of any kinds, 30 to 60 % of the smaller one overlapping."""
    share = 0.0
    while not 0.3 <= share <= 0.6:
        image, other = np.zeros((2, 64, 64))
        kinds, place = rng.integers(3, size=2), rng.integers(10, 40, 2)
        paste(image, MASKS[kinds[0]], *place)
        paste(other, MASKS[kinds[1]], *place + rng.integers(-9, 10, 2))
        share = (image * other).sum() / min(image.sum(), other.sum())
    return add_others(rng, np.maximum(image, other), kinds)


def draw_faint(rng):
    """A shape where it belongs, between absent and present."""
    image, kind = np.zeros((64, 64)), rng.integers(3)
    paste(image, MASKS[kind], *in_column(rng, kind), rng.uniform(0.3, 0.7))
    return add_others(rng, image, (kind,))


def draw_blank(rng):
    """Black, or with a little noise, or with a few bright pixels."""
    image, way = np.zeros((64, 64)), rng.integers(3)
    if way == 1:
        image += rng.uniform(0, 0.12) * rng.standard_normal(image.shape)
    elif way == 2:
        image.flat[rng.integers(0, 4096, rng.integers(1, 4))] = 1
    return image


def many(draw, n, seed=0, **options):
    rng = np.random.default_rng(seed)
    return np.stack([draw(rng, **options) for _ in range(n)])


HALLUCINATIONS = {
    "duplicate": [draw_duplicate],
    "wrong-column": [draw_wrong_column],
    "deformed": [
        *[draw_eroded, draw_swollen, draw_cut, draw_hole, draw_bar],
        *[draw_disk, draw_blob, draw_merged, draw_faint],
    ],
    "blank": [draw_blank],
}


# --- the data ----------------------------------------------------------------------------------------------------


def test_every_image_is_one_of_the_support_and_every_place_is_as_likely():
    images = SHAPES.images(20_000, seed=3)
    assert images.shape == (20_000, 64, 64)
    assert set(np.unique(images)) == {0, 255}
    assert not images[:, :, 63].any()
    present = np.stack([images[:, :, 21 * k : 21 * k + 21].any((1, 2)) for k in range(3)], axis=1)
    # without the blanks each of the seven patterns has probability 1/7; 5 standard errors
    patterns = np.bincount(present @ [1, 2, 4], minlength=8) / len(images)
    assert patterns[0] == 0
    np.testing.assert_allclose(patterns[1:], 1 / 7, atol=5 * np.sqrt(1 / 7 * 6 / 7 / len(images)))
    for kind, mask in enumerate(MASKS):
        some = images[present[:, kind], :, 21 * kind : 21 * kind + 21] > 0
        assert (some.sum((1, 2)) == mask.sum()).all()
        row, column = some.any(2).argmax(1), some.any(1).argmax(1)
        for i in range(200):
            np.testing.assert_array_equal(some[i, row[i] :, column[i] :][: mask.shape[0], : mask.shape[1]], mask)
        for place, free in ((row, 65 - mask.shape[0]), (column, 22 - mask.shape[1])):
            assert place.min() == 0
            assert place.max() == free - 1
            counts = np.bincount(place, minlength=free)
            assert ((counts - len(some) / free) ** 2 / (len(some) / free)).sum() < free + 6 * np.sqrt(2 * free)


def test_the_rasters_have_the_sizes_of_the_released_data():
    triangle, square, pentagon = (mask.sum() for mask in MASKS)
    assert square == 64
    assert abs(triangle - 65) <= 2
    assert abs(pentagon - 70) <= 2


def test_a_draw_is_the_start_of_a_longer_one_and_the_float_form_is_the_same():
    few, more = SHAPES.images(5000, seed=1), SHAPES.images(10_000, seed=1)
    np.testing.assert_array_equal(few, more[:5000])
    assert not np.array_equal(few, SHAPES.images(5000, seed=2))
    floats = SHAPES.sample(50, seed=1)
    assert floats.shape == (50, *SHAPES.shape)
    assert floats.dtype == torch.float32
    assert torch.equal(floats[:, 0], torch.from_numpy(np.where(few[:50] > 0, 1.0, -1.0).astype(np.float32)))


def test_blanks_are_kept_on_request():
    blank = ~Shapes(keep_blank=True).images(8000, seed=0).any((1, 2))
    assert abs(blank.mean() - 1 / 8) < 5 * np.sqrt(1 / 8 * 7 / 8 / 8000)


def test_drawing_takes_no_time():
    start = time.perf_counter()
    SHAPES.sample(5000, seed=0)
    assert time.perf_counter() - start < 5


def test_saved_images_are_the_images(tmp_path):
    images = SHAPES.images(5, seed=0)
    save_images(images, tmp_path / "set.npy")
    np.testing.assert_array_equal(np.load(tmp_path / "set.npy"), images)
    save_images(images, tmp_path / "deep" / "set")
    files = sorted((tmp_path / "deep" / "set").iterdir())
    assert [file.name for file in files] == [f"{i:06d}.png" for i in range(5)]
    np.testing.assert_array_equal(np.stack([np.asarray(Image.open(file)) for file in files]), images)
    with pytest.raises(InputError, match="is there already"):
        save_images(images, tmp_path / "deep" / "set")
    assert len(list((tmp_path / "deep").iterdir())) == 1, "a refused folder leaves nothing behind"


def test_a_folder_that_fails_halfway_never_appears(tmp_path, monkeypatch):
    monkeypatch.setattr(Image.Image, "save", lambda *_: (_ for _ in ()).throw(OSError("disk full")))
    with pytest.raises(OSError, match="disk full"):
        save_images(SHAPES.images(3, seed=0), tmp_path / "set")
    assert list(tmp_path.iterdir()) == []


# --- the nearest support image -----------------------------------------------------------------------------------


def brute_force(image, keep_blank):
    """Squared distance to the nearest of all support images, each column's candidates written out."""
    columns = []
    for kind, mask in enumerate(MASKS):
        strip = image[:, 21 * kind : 21 * kind + 21]
        placed = []
        for row in range(65 - mask.shape[0]):
            for column in range(22 - mask.shape[1]):
                candidate = np.zeros((64, 21))
                paste(candidate, mask, row, column)
                placed.append(((strip - candidate) ** 2).sum())
        columns.append(((strip**2).sum(), min(placed)))
    pad = (image[:, 63] ** 2).sum()
    choices = [
        pad + sum(columns[k][pattern >> k & 1] for k in range(3)) for pattern in range(0 if keep_blank else 1, 8)
    ]
    return min(choices)


@pytest.mark.parametrize("keep_blank", [False, True])
def test_nearest_is_the_minimum_over_all_support_images(keep_blank):
    rng = np.random.default_rng(0)
    images = [
        *many(draw_support, 2) + 0.3 * rng.standard_normal((2, 64, 64)),
        *many(draw_duplicate, 2),
        *many(draw_faint, 3),
        0.2 * rng.random((64, 64)),
        np.zeros((64, 64)),
    ]
    found = Shapes(keep_blank).nearest(np.stack(images), range="[0,1]")
    expected = [brute_force(image, keep_blank) for image in images]
    np.testing.assert_allclose(found.distance, expected, rtol=1e-12)
    np.testing.assert_allclose(((np.stack(images) - found.render() / 255) ** 2).sum((1, 2)), expected, rtol=1e-12)
    if keep_blank:
        assert not found.present[-1].any()
    else:
        # the square has the fewest pixels, so black is nearest to a lone square
        assert found.present[-1].tolist() == [False, True, False]
        assert found.distance[-1] == 64


def test_support_images_are_their_own_nearest():
    images = SHAPES.images(1000, seed=5)
    found = SHAPES.nearest(images)
    assert (found.distance == 0).all()
    np.testing.assert_array_equal(found.render(), images)


def test_the_distance_belongs_to_the_column_that_is_off():
    image = np.zeros((64, 64))
    paste(image, MASKS[1], 20, 25)
    image[30, 45] = 0.5
    image[0, 63] = 1
    found = SHAPES.nearest(image[None], range="[0,1]")
    np.testing.assert_array_equal(found.column_distance, [[0, 0, 0.25]])
    assert found.distance.tolist() == [1.25]
    assert (found.row[0].tolist(), found.column[0].tolist()) == ([-1, 20, -1], [-1, 25, -1])


# --- what is read off an image -----------------------------------------------------------------------------------


@pytest.mark.parametrize("n", [pytest.param(1000, id="few"), pytest.param(20_000, marks=pytest.mark.slow, id="many")])
def test_support_images_are_in_support_with_the_shapes_where_they_were_put(n):
    images = SHAPES.images(n, seed=8)
    labels = SHAPES.label(images)
    assert labels.counts() == {"in-support": n}
    assert labels.rate == labels.duplicate_rate == 0
    true = SHAPES.nearest(images)
    np.testing.assert_array_equal(labels.counts_by_kind, true.present.astype(int))
    for i in range(min(n, 1000)):
        found = [(one.kind, one.row, one.column, one.misfit, one.wrong) for one in labels.objects[i]]
        assert sorted(found, key=lambda one: KINDS.index(one[0])) == [
            (KINDS[k], true.row[i, k], true.column[i, k], 0, "") for k in np.flatnonzero(true.present[i])
        ]


def test_support_images_whose_shapes_touch_are_in_support():
    images = []
    for kind in (0, 1):
        for offset in range(-12, 13):
            image = np.zeros((64, 64))
            paste(image, MASKS[kind], 30, 21 * (kind + 1) - MASKS[kind].shape[1])
            paste(image, MASKS[kind + 1], 30 + offset, 21 * (kind + 1))
            images.append(image)
    images = np.stack(images)
    assert SHAPES.label(images, range="[0,1]").counts() == {"in-support": 50}
    blurred = ndimage.gaussian_filter(images, (0, 1, 1))
    assert SHAPES.label(blurred, range="[0,1]").counts() == {"in-support": 50}


@pytest.mark.parametrize("n", SIZES)
@pytest.mark.parametrize(("rule", "draw"), [(rule, draw) for rule, draws in HALLUCINATIONS.items() for draw in draws])
def test_hallucinations_are_flagged_with_their_kind(rule, draw, n):
    labels = SHAPES.label(many(draw, n), range="[0,1]")
    assert labels.counts() == {rule: n}
    assert labels.hallucinated.all()
    assert labels.duplicate.all() == (rule == "duplicate")
    assert labels.duplicate.any() == (rule == "duplicate")
    assert labels.wrong_column.all() or rule != "wrong-column"
    assert labels.deformed.all() == (rule == "deformed")
    assert not labels.between_places.any()
    assert all(any(one.wrong == rule for one in found) for found in labels.objects) or rule == "blank"


# --- between two neighbouring places -----------------------------------------------------------------------------

STEPS = [(dy, dx) for dy in (-1, 0, 1) for dx in (-1, 0, 1) if dy or dx]


def blend(kind, step, weight, row=30, column=4):
    """(64, 64) of one shape at two neighbouring places of its column, the second with ``weight``."""
    here, there = np.zeros((2, 64, 64))
    paste(here, MASKS[kind], row, 21 * kind + column)
    paste(there, MASKS[kind], row + step[0], 21 * kind + column + step[1])
    return (1 - weight) * here + weight * there


@pytest.mark.parametrize("weight", [0.2, 0.35, 0.45, 0.5])
@pytest.mark.parametrize("kind", range(3))
def test_the_weight_of_a_blend_is_found_whatever_the_image_is_read_as(kind, weight):
    labels = SHAPES.label(np.stack([blend(kind, step, weight) for step in STEPS]), range="[0,1]")
    expected = np.zeros((8, 3))
    expected[:, kind] = weight
    np.testing.assert_allclose(labels.weight, expected, atol=1e-6)
    assert set(labels.rule) <= {"in-support", "between-places"}
    assert not labels.deformed.any()


@pytest.mark.parametrize("step", STEPS)
@pytest.mark.parametrize("kind", range(3))
def test_half_way_shapes_that_no_template_fits_lie_between_places(kind, step):
    noise = np.random.default_rng(0).standard_normal((60, 64, 64))
    labels = SHAPES.label(blend(kind, step, 0.5) + 0.03 * noise, range="[0,1]")
    wrong = labels.rule == "between-places"
    # a square that is half bright at two sides is more often than not one of another rasteriser
    assert wrong.mean() > (0.2 if kind == 1 else 0.6)
    assert (labels.rule[~wrong] == "in-support").all()
    np.testing.assert_array_equal(labels.hallucinated, wrong)
    np.testing.assert_array_equal(labels.between_places, wrong)
    np.testing.assert_allclose(labels.weight[:, kind], 0.5, atol=0.06)
    said = {one.wrong for i in np.flatnonzero(wrong) for one in labels.objects[i]}
    assert said == {"between-places"}


def test_no_image_of_the_data_has_a_weight_noisy_or_blurred_or_not():
    x = SHAPES.images(500, seed=6) / 255
    noise = 0.1 * np.random.default_rng(6).standard_normal(x.shape)
    for images in (x, x + noise, ndimage.gaussian_filter(x, (0, 1, 1))):
        assert not SHAPES.label(images, range="[0,1]").weight.any()


def test_what_else_is_wrong_with_a_half_way_shape_counts_first():
    half = blend(2, (1, 1), 0.5)
    near, far, other, hazy = (half.copy() for _ in range(4))
    paste(near, np.ones((2, 3)), 10, 50, 0.55)
    paste(far, np.ones((5, 9)), 10, 50)
    paste(other, np.ones((4, 5)), 10, 5)
    paste(hazy, np.ones((3, 3)), 10, 50, 0.4)
    labels = SHAPES.label(np.stack([half, near, far, other, hazy]), range="[0,1]")
    assert labels.rule.tolist() == ["between-places", *4 * ["deformed"]]
    assert labels.deformed.tolist() == [False, *4 * [True]]
    # a large thing in the same column leaves nothing that a blend would explain
    assert labels.between_places.tolist() == [True, True, False, True, True]
    torn = blend(2, (1, 1), 0.5)
    torn[33:36, 48:51] = 0
    assert SHAPES.label(torn[None], range="[0,1]").rule.tolist() == ["deformed"]


def test_two_half_way_shapes_that_touch_lie_between_places_only_if_both_do():
    one = blend(0, (1, 0), 0.5, column=9)
    both = one + blend(1, (1, 0), 0.5, row=34, column=0)
    paste(one, MASKS[1][:4], 37, 21)
    noise = 0.03 * np.random.default_rng(1).standard_normal((50, 64, 64))
    labels = SHAPES.label(both + noise, range="[0,1]")
    assert set(labels.rule) <= {"between-places", "in-support"}
    assert labels.between_places.sum() > 40
    assert any(len(found) == 1 and found[0].wrong == "between-places" for found in labels.objects)
    assert SHAPES.label(one + noise, range="[0,1]").counts() == {"deformed": 50}


@pytest.mark.parametrize("kind", range(3))
def test_the_best_blend_is_the_nearest_point_on_the_way_to_a_neighbour(kind):
    rng = np.random.default_rng(kind)
    edge = [blend(kind, (0, 1), 0.3, row=0, column=0), blend(kind, (0, -1), 0.4, column=21 - MASKS[kind].shape[1])]
    images = np.stack([blend(kind, step, 0.3) for step in STEPS] + edge)
    images = images + 0.2 * rng.standard_normal(images.shape)
    found = SHAPES.nearest(images, range="[0,1]")
    for i, image in enumerate(images):
        strip, start = image[:, 21 * kind : 21 * kind + 21], np.zeros((64, 21))
        row, column = found.row[i, kind], found.column[i, kind] - 21 * kind
        paste(start, MASKS[kind], row, column)
        ways = []
        for dy, dx in STEPS:
            if 0 <= row + dy <= 64 - MASKS[kind].shape[0] and 0 <= column + dx <= 21 - MASKS[kind].shape[1]:
                end = np.zeros((64, 21))
                paste(end, MASKS[kind], row + dy, column + dx)
                weight = max(((strip - start) * (end - start)).sum() / ((end - start) ** 2).sum(), 0)
                ways.append((((strip - start - weight * (end - start)) ** 2).sum(), weight))
        assert (found.blend_distance[i, kind], found.weight[i, kind]) == pytest.approx(min(ways))


@pytest.mark.parametrize(("rule", "draw"), [("duplicate", draw_duplicate), ("wrong-column", draw_wrong_column)])
def test_hallucinated_shapes_may_touch(rule, draw):
    assert SHAPES.label(many(draw, 500, seed=1, gap=0), range="[0,1]").counts() == {rule: 500}


@pytest.mark.parametrize(
    ("height", "width", "column"),
    [
        pytest.param(8, 14, 14, id="cut at the column's border it would be two squares of 7 by 8"),
        pytest.param(16, 16, 24, id="tiled it would be four squares"),
    ],
)
def test_a_block_is_deformed_and_not_squares_side_by_side(height, width, column):
    image = np.zeros((64, 64))
    paste(image, np.ones((height, width)), 30, column)
    labels = SHAPES.label(image[None], range="[0,1]")
    assert labels.rule.tolist() == ["deformed"]
    assert [one[:5] for one in labels.objects[0]] == [("malformed", 30, column, height, width)]


def test_objects_say_what_is_where():
    image = np.zeros((64, 64))
    paste(image, MASKS[0], 5, 3)
    paste(image, MASKS[0], 40, 30)
    paste(image, MASKS[2], 20, 48, 0.6)
    paste(image, np.ones((4, 5)), 50, 5)
    paste(image, np.ones((6, 6)), 5, 50, 0.3)
    labels = SHAPES.label(image[None], range="[0,1]")
    found = [(one.kind, one.row, one.column, one.height, one.width, one.misfit, one.wrong) for one in labels.objects[0]]
    assert found == [
        ("triangle", 5, 3, 10, 12, 0, "duplicate"),
        ("malformed", 50, 5, 4, 5, -1, "deformed"),
        ("triangle", 40, 30, 10, 12, 0, "duplicate"),
        ("pentagon", 20, 48, 10, 11, 0, "deformed"),
        ("malformed", 6, 51, 4, 4, -1, "deformed"),
    ]
    assert [round(one.brightness, 3) for one in labels.objects[0]] == [1, 1, 1, 0.6, 0.3]
    assert labels.counts_by_kind.tolist() == [[2, 0, 1]]
    assert labels.rule.tolist() == ["duplicate"]
    assert labels.deformed.tolist() == [True]
    assert labels.wrong_column.tolist() == [True]


def test_a_shape_is_clean_absent_or_neither_by_its_brightness():
    image = np.zeros((5, 64, 64))
    for i, brightness in enumerate((0.2, 0.3, 0.6, 0.7, 0.8)):
        paste(image[i], MASKS[1], 20, 25)
        paste(image[i], MASKS[2], 40, 48, brightness)
    labels = SHAPES.label(image, range="[0,1]")
    assert labels.rule.tolist() == ["in-support", "deformed", "deformed", "deformed", "in-support"]
    assert labels.counts_by_kind[:, 2].tolist() == [0, 0, 1, 1, 1]


def test_one_pixel_beyond_the_column_is_tolerated():
    image = np.zeros((2, 64, 64))
    paste(image[0], MASKS[0], 20, 21 - 12 + 1)
    paste(image[1], MASKS[0], 20, 21 - 12 + 2)
    assert SHAPES.label(image, range="[0,1]").rule.tolist() == ["in-support", "wrong-column"]


@pytest.mark.parametrize("n", [pytest.param(1000, id="few"), pytest.param(20_000, marks=pytest.mark.slow, id="many")])
@pytest.mark.parametrize(("blur", "noise"), [(0, 0.12), (1.1, 0), (0.75, 0.05)])
def test_no_false_alarm_under_the_stated_blur_and_noise(blur, noise, n):
    x = SHAPES.images(n, seed=4) / np.float32(255)
    x = ndimage.gaussian_filter(x, (0, blur, blur))
    x += noise * np.random.default_rng(4).standard_normal(x.shape, dtype=np.float32)
    labels = SHAPES.label(2 * x - 1)
    assert labels.counts() == {"in-support": n}
    np.testing.assert_array_equal(labels.counts_by_kind, SHAPES.nearest(2 * x - 1).present.astype(int))


def cover(corners, samples):
    """(16, 16) share of each pixel that a convex polygon covers, of ``samples``² points."""
    y, x = (np.mgrid[: 16 * samples, : 16 * samples] + 0.5) / samples
    inside = np.ones(y.shape, dtype=bool)
    for (x0, y0), (x1, y1) in zip(corners, np.roll(corners, -1, axis=0), strict=True):
        inside &= (x1 - x0) * (y - y0) - (y1 - y0) * (x - x0) >= 0
    return inside.reshape(16, samples, 16, samples).mean((1, 3))


def draw_with_another_rasteriser(rng, samples):
    """Shapes of other sizes, at sub-pixel places in their columns; one sample a pixel is hard-edged, more are grey."""
    image = np.zeros((80, 80))
    for kind in range(3) if rng.random() < 0.3 else [rng.integers(3)]:
        sides = (3, 4, 5)[kind]
        turn = 2 * np.pi * np.arange(sides) / sides + (np.pi / 4 if sides == 4 else 0)
        corners = np.stack([np.sin(turn), -np.cos(turn)], axis=1)
        corners = (corners - corners.min(0)) / np.ptp(corners, axis=0)
        size = np.full(2, rng.uniform(7, 8.5)) if sides == 4 else np.add(MASKS[kind].shape[::-1], rng.uniform(-1, 1))
        x, y = rng.uniform(0, 21 - size[0]), rng.uniform(0, 64 - size[1])
        paste(image, cover(corners * size + (x % 1, y % 1), samples), int(y), 21 * kind + int(x))
    return image[:64, :64]


@pytest.mark.parametrize("n", SIZES)
def test_what_another_rasteriser_draws_is_recognised(n):
    labels = SHAPES.label(many(draw_with_another_rasteriser, n, samples=1), range="[0,1]")
    assert labels.counts() == {"in-support": n}
    grey = SHAPES.label(many(draw_with_another_rasteriser, n, samples=6), range="[0,1]")
    assert grey.rate <= 1e-3


@pytest.mark.parametrize("side", [7, 8, 9])
def test_squares_of_other_sides_are_squares(side):
    image = np.zeros((64, 64))
    paste(image, np.ones((side, side)), 20, 25)
    labels = SHAPES.label(image[None], range="[0,1]")
    assert labels.rule.tolist() == ["in-support"]
    assert labels.counts_by_kind.tolist() == [[0, 1, 0]]
    assert labels.objects[0][0][1:6] == (20, 25, side, side, 0)


@pytest.mark.parametrize("side", [6, 10])
def test_squares_far_from_the_data_are_deformed(side):
    image = np.zeros((64, 64))
    paste(image, np.ones((side, side)), 20, 25)
    assert SHAPES.label(image[None], range="[0,1]").rule.tolist() == ["deformed"]


# --- what it accepts ---------------------------------------------------------------------------------------------


def test_the_same_image_in_every_form_gets_the_same_labels():
    images = np.concatenate([SHAPES.images(20, seed=0), (many(draw_duplicate, 20) * 255).astype(np.uint8)])
    floats = images / 255
    forms = [
        (images, {}),
        (images[:, None], {}),
        (torch.from_numpy(images), {}),
        (floats, {"range": "[0,1]"}),
        (floats.astype(np.float16), {"range": "[0,1]"}),
        (2 * floats - 1, {}),
        (torch.from_numpy(2 * floats - 1)[:, None].bfloat16(), {"range": "[-1,1]"}),
        (torch.from_numpy(2 * floats - 1).float().requires_grad_(), {}),
    ]
    for x, options in forms:
        labels = SHAPES.label(x, **options)
        assert labels.rule.tolist() == ["in-support"] * 20 + ["duplicate"] * 20
        np.testing.assert_array_equal(labels.distance, SHAPES.label(images).distance)


def test_the_range_is_what_is_said_never_guessed():
    # black in [0, 1] is grey in [-1, 1]: grey everywhere
    assert SHAPES.label(np.zeros((1, 64, 64))).rule.tolist() == ["deformed"]
    assert SHAPES.label(np.zeros((1, 64, 64)), range="[0,1]").rule.tolist() == ["blank"]
    assert SHAPES.label(np.zeros((1, 64, 64), dtype=np.uint8)).rule.tolist() == ["blank"]
    assert SHAPES.label(-np.ones((1, 64, 64))).rule.tolist() == ["blank"]


def test_blank_is_in_support_where_blanks_are_kept():
    labels = Shapes(keep_blank=True).label(many(draw_blank, 30), range="[0,1]")
    assert labels.counts() == {"in-support": 30}
    assert Shapes(keep_blank=True).label(np.zeros((1, 64, 64), dtype=np.uint8)).distance.tolist() == [0]


def test_values_beyond_the_range_are_clipped_for_the_reading_only():
    x = SHAPES.sample(50, seed=0) * 1.2
    labels = SHAPES.label(x)
    assert labels.counts() == {"in-support": 50}
    np.testing.assert_allclose(labels.distance, 4096 * 0.1**2, rtol=1e-5)
    speck = SHAPES.images(1, seed=0) / 255
    speck[0, 0, 63] = 50
    assert SHAPES.label(speck, range="[0,1]").rule.tolist() == ["in-support"]


def test_images_that_are_not_finite_have_diverged():
    x = SHAPES.sample(4, seed=0).numpy()
    x[1, 0, 3, 3] = np.nan
    x[2, 0, 60, 63] = -np.inf
    labels = SHAPES.label(x)
    assert labels.rule.tolist() == ["in-support", "diverged", "diverged", "in-support"]
    assert labels.hallucinated.tolist() == [False, True, True, False]
    assert np.isinf(labels.distance).tolist() == [False, True, True, False]
    assert labels.objects[1] == ()
    assert labels.counts_by_kind[1].tolist() == [0, 0, 0]
    found = SHAPES.nearest(x)
    assert not found.present[1:3].any()
    assert np.isinf(found.distance[1:3]).all()


def test_no_images_have_no_labels():
    labels = SHAPES.label(np.zeros((0, 64, 64)))
    assert labels.rule.shape == labels.hallucinated.shape == labels.distance.shape == (0,)
    assert labels.objects == ()


@pytest.mark.parametrize(
    ("x", "options", "message"),
    [
        (np.zeros((64, 64)), {}, r"samples: shape \(64, 64\) .* \(n, 64, 64\) or \(n, 1, 64, 64\)"),
        (np.zeros((2, 3, 64, 64)), {}, r"samples: shape"),
        (np.zeros((2, 32, 32)), {}, r"samples: shape"),
        (np.zeros((2, 64, 64), dtype=np.int64), {}, r"samples: dtype int64 .* uint8 \(0..255\) or floating"),
        (torch.zeros(2, 64, 64, dtype=torch.bool), {}, r"samples: dtype bool"),
        (np.zeros((2, 64, 64)), {"range": "[0,255]"}, r"range: .* '\[-1,1\]' or '\[0,1\]'"),
    ],
)
def test_other_input_is_refused(x, options, message):
    for ask in (SHAPES.label, SHAPES.nearest):
        with pytest.raises(InputError, match=message) as error:
            ask(x, **options)
        assert "\n" not in str(error.value)


def test_numbers_of_samples_below_one_are_refused():
    with pytest.raises(InputError, match="n: 0"):
        SHAPES.sample(0, seed=0)


@pytest.mark.slow
def test_a_thousand_images_take_a_second():
    """On images as a model makes them: mostly good, some wrong. One thread; generous to a busy machine."""
    images = np.concatenate([SHAPES.images(3000, seed=0) / 255, many(draw_duplicate, 500), many(draw_cut, 500)])
    x = ndimage.gaussian_filter(images, (0, 0.5, 0.5)) + 0.05 * np.random.default_rng(0).standard_normal(images.shape)
    SHAPES.label(x[:1], range="[0,1]")
    start = time.process_time()
    SHAPES.label(x, range="[0,1]")
    assert time.process_time() - start < 4
