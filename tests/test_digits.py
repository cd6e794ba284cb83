"""MNIST's format, its pixels and the drawn stand-in; what is no idx file of digits is one line."""

import gzip
import struct

import numpy as np
import pytest
import torch

from intermode.errors import InputError
from intermode.targets.digits import FILES, Digits, load, scaled
from intermode.targets.drawn_digits import _render, drawn
from intermode.targets.fetch import DATASETS, cache_folder
from intermode.targets.idx import find, parse, unpacked


def idx(array):
    """An array as the bytes of an idx file."""
    return bytes([0, 0, 8, array.ndim]) + struct.pack(f">{array.ndim}I", *array.shape) + array.tobytes()


def write(folder, digits, split="train"):
    """Digits as the two files of a split; the images compressed."""
    folder.mkdir(exist_ok=True)
    of_images, of_classes = FILES[split]
    (folder / f"{of_images}.gz").write_bytes(gzip.compress(idx(digits.images)))
    (folder / of_classes).write_bytes(idx(digits.classes.astype(np.uint8)))


# the format


def test_an_idx_file_written_by_hand(tmp_path):
    content = bytes.fromhex("00000803 00000002 00000001 00000003") + bytes([1, 2, 3, 250, 251, 252])
    array = parse(content, tmp_path, 3)
    assert array.dtype == np.uint8
    np.testing.assert_array_equal(array, [[[1, 2, 3]], [[250, 251, 252]]])
    array += 1  # the caller may write to it


@pytest.mark.parametrize(
    ("damage", "expected"),
    [
        (lambda b: b[:-1], r"21 bytes; its header asks for 22, it may be truncated"),
        (lambda b: b + b"x", r"23 bytes; its header asks for 22"),
        (lambda b: b[:10], r"no idx file .* with 3 dimensions"),
        (lambda b: b"", r"begins with nothing; must be 00000803"),
        (lambda b: b[:2] + b"\x0d" + b[3:], r"begins with 00000d03; must be 00000803"),
        (lambda b: b[:3] + b"\x01" + b[4:], r"begins with 00000801; must be 00000803"),
        (lambda b: b"\x89PNG" + b[4:], r"begins with 89504e47; must be 00000803"),
    ],
)
def test_other_files_are_refused(tmp_path, damage, expected):
    content = bytes.fromhex("00000803 00000002 00000001 00000003") + bytes([1, 2, 3, 250, 251, 252])
    with pytest.raises(InputError, match=expected) as refused:
        parse(damage(content), tmp_path / "f", 3)
    assert str(tmp_path / "f") in str(refused.value)
    assert "\n" not in str(refused.value)


def test_gzip_is_known_by_its_content(tmp_path):
    (tmp_path / "plain").write_bytes(gzip.compress(b"abc"))
    assert unpacked(tmp_path / "plain") == b"abc"
    (tmp_path / "plain").write_bytes(b"abc")
    assert unpacked(tmp_path / "plain") == b"abc"


def test_damaged_gzip(tmp_path):
    whole = gzip.compress(bytes(range(256)) * 20)
    for content in (whole[:-9], whole[:5], whole[:60] + b"!!!!" + whole[64:], whole[:-8] + bytes(8)):
        (tmp_path / "f.gz").write_bytes(content)
        with pytest.raises(InputError, match=r"f\.gz is truncated or damaged gzip"):
            unpacked(tmp_path / "f.gz")


def test_a_plain_file_comes_before_a_compressed_one(tmp_path):
    assert find(tmp_path, "f") is None
    (tmp_path / "f.gz").touch()
    assert find(tmp_path, "f") == tmp_path / "f.gz"
    (tmp_path / "f").touch()
    assert find(tmp_path, "f") == tmp_path / "f"


# a folder of digits


def test_a_folder_gives_back_what_was_written(tmp_path):
    train, test = drawn(30, 1), drawn(20, 2)
    write(tmp_path, train)
    write(tmp_path, test, "test")
    for split, wanted in (("train", train), ("test", test)):
        found = load(tmp_path, split)
        np.testing.assert_array_equal(found.images, wanted.images)
        np.testing.assert_array_equal(found.classes, wanted.classes)


@pytest.mark.parametrize(
    ("name", "content", "expected"),
    [
        ("train-images-idx3-ubyte.gz", None, r"lacks train-images-idx3-ubyte \(each may end in \.gz\)"),
        ("train-labels-idx1-ubyte", None, r"lacks train-labels-idx1-ubyte "),
        (
            "train-images-idx3-ubyte.gz",
            idx(np.zeros((5, 27, 28), np.uint8)),
            r"5 images of 27×28 pixels; must be 28×28",
        ),
        ("train-images-idx3-ubyte.gz", idx(np.zeros((4, 28, 28), np.uint8)), r"holds 5 labels for the 4 of "),
        ("train-images-idx3-ubyte.gz", idx(np.zeros((0, 28, 28), np.uint8)), r"0 images of 28×28 pixels; .* 1 or more"),
        ("train-images-idx3-ubyte.gz", idx(np.zeros(5, np.uint8)), r"no idx file of bytes with 3 dimensions "),
        ("train-labels-idx1-ubyte", idx(np.array([0, 9, 10, 11, 1], np.uint8)), r"label 10 at row 2; must be 0\.\.9"),
        ("train-labels-idx1-ubyte", idx(np.zeros((5, 1), np.uint8)), r"no idx file of bytes with 1 dimension "),
        ("train-labels-idx1-ubyte", idx(np.zeros(5, np.uint8))[:-2], r"11 bytes; its header asks for 13"),
    ],
)
def test_a_folder_of_something_else(tmp_path, name, content, expected):
    write(tmp_path, drawn(5, 0))
    (tmp_path / name).unlink()
    if content is not None:
        (tmp_path / name.removesuffix(".gz")).write_bytes(content)
    with pytest.raises(InputError, match=expected) as refused:
        load(tmp_path)
    assert str(tmp_path) in str(refused.value)


def test_digits_made_by_hand_are_checked():
    images = np.zeros((3, 28, 28), np.uint8)
    for bad, expected in (
        ((images, np.array([0, -1, 2])), "label -1 at row 1"),
        ((images, np.array([0, 1, 2.0])), "the labels float64"),
        ((images.astype(np.float32), np.array([0, 1, 2])), "the images are float32"),
        ((images, np.array([[0, 1, 2]])), "1 labels for the 3"),
    ):
        with pytest.raises(InputError, match=expected):
            Digits(*bad)


def test_what_networks_see():
    images = np.zeros((2, 28, 28), np.uint8)
    images[0, 3, 4], images[1, 0, 0] = 255, 51
    digits = Digits(images, np.array([3, 7], np.uint8))
    x, y = digits.x, digits.y
    assert x.shape == (2, *digits.shape) == (2, 1, 28, 28)
    assert (x.dtype, y.dtype) == (torch.float32, torch.int64)
    assert (float(x[0, 0, 3, 4]), float(x[0, 0, 0, 0])) == (1.0, -1.0)
    assert float(x[1, 0, 0, 0]) == pytest.approx(51 / 127.5 - 1)
    assert y.tolist() == [3, 7]
    assert digits.take(np.array([1])).classes.tolist() == [7]
    assert len(digits.take(slice(0, 1))) == 1
    assert images.sum() == 255 + 51  # the images are not scaled in place


# pixels


def test_pixels_of_every_kind_are_scaled_alike():
    digits = drawn(8, 0)
    wanted = digits.x
    as_floats = digits.images / 255
    for x, range in (
        (digits.images, "[-1,1]"),
        (digits.images, "[0,1]"),  # bytes have their own range
        (as_floats, "[0,1]"),
        (torch.from_numpy(as_floats)[:, None].float(), "[0,1]"),
        (as_floats * 2 - 1, "[-1,1]"),
        (wanted, "[-1,1]"),
    ):
        found = scaled(x, range)
        assert (found.dtype, found.shape) == (torch.float32, (8, 1, 28, 28))
        torch.testing.assert_close(found, wanted, rtol=0, atol=1e-6)


def test_pure_noise_may_be_looked_at():
    noise = np.random.default_rng(0).normal(-1, 1, (50, 28, 28))  # on black
    np.testing.assert_allclose(scaled(noise)[:, 0], noise.clip(-1, 1), atol=1e-6)


def test_what_lies_a_little_outside_is_clipped_and_stays_as_it_is():
    x = torch.full((1, 1, 28, 28), -1.3)
    x[0, 0, 0, :7] = 2.5  # one pixel in a hundred may be anywhere
    x[0, 0, 1, :7] = 100
    before = x.clone()
    found = scaled(x)
    assert torch.equal(x, before)
    assert sorted(set(found.flatten().tolist())) == [-1.0, 1.0]
    assert int((found == 1).sum()) == 14


@pytest.mark.parametrize(
    ("x", "range", "expected"),
    [
        (np.arange(784).reshape(1, 28, 28) // 776 * 11.0, "[-1,1]", r"values from 0 to 11 do not fit"),  # 8 pixels
        (np.full((1, 28, 28), 255.0), "[-1,1]", r"values from 255 to 255 do not fit the range \[-1,1\]"),
        (drawn(4, 0).images.astype(np.float32), "[0,1]", r"values from 0 to 255 do not fit the range \[0,1\]"),
        (drawn(4, 0).images.astype(np.int64), "[-1,1]", r"dtype torch\.int64 does not fit"),
        (np.zeros((1, 28, 27)), "[-1,1]", r"shape \(1, 28, 27\) does not fit"),
        (np.zeros((1, 3, 28, 28)), "[-1,1]", r"shape \(1, 3, 28, 28\) does not fit"),
        (np.zeros((28, 28)), "[-1,1]", r"shape \(28, 28\) does not fit"),
        (np.zeros((1, 28, 28)), "0..1", r"range: '0\.\.1' is not known"),
        (np.pad([[[np.nan]]], ((0, 2), (0, 27), (0, 27))), "[-1,1]", r"1 of 3 hold values that are not finite"),
    ],
)
def test_pixels_that_cannot_be_used(x, range, expected):
    with pytest.raises(InputError, match=expected):
        scaled(x, range)


# the stand-in


def test_a_drawn_digit_depends_on_its_index_alone():
    long, short = drawn(150, 5), drawn(70, 5)
    np.testing.assert_array_equal(long.images[:70], short.images)
    np.testing.assert_array_equal(long.classes[:70], short.classes)
    assert (drawn(70, 6).images != short.images).any()
    with pytest.raises(InputError, match="at least 1"):
        drawn(0, 0)


def test_a_pixel_is_shaded_by_its_distance_to_the_stroke():
    # a level line through the middle, ends 5 and 23: rows 13 and 14 lie half a pixel from it, 12 and 15 one and a half
    image = _render(np.array([[[0, 0.5], [1, 0.5]]]), np.zeros(7))
    rows = np.zeros(28)
    rows[[12, 13, 14, 15]] = [round(0.15 * 255), 255, 255, round(0.15 * 255)]
    np.testing.assert_array_equal(image[:, 14], rows)
    np.testing.assert_array_equal(image, image[::-1])
    np.testing.assert_array_equal(image, image[:, ::-1])
    # the corner of its end: 1 pixel beyond it in x, 0.5 in y
    assert image[13, 3] == round((1.65 - np.hypot(1.5, 0.5)) * 255)
    assert image[13, 2] == 0


def test_chance_moves_turns_and_thickens():
    line = np.array([[[0, 0.5], [1, 0.5]]])
    moved = _render(line, np.array([0, 0, 0, 0, 0.5, -1, 0]))
    np.testing.assert_array_equal(moved, np.roll(_render(line, np.zeros(7)), (-2, 1), (0, 1)))
    assert _render(line, np.array([0, 0, 0, 0, 0, 0, 1])).sum() > _render(line, np.zeros(7)).sum()
    turned = _render(line, np.array([1.0, 0, 0, 0, 0, 0, 0])).astype(float)
    rows, columns = np.mgrid[:28, :28] + 0.5
    slope = ((rows - 14) * (columns - 14) * turned).sum() / ((columns - 14) ** 2 * turned).sum()
    assert slope == pytest.approx(np.tan(0.2), rel=0.04)


def test_drawn_classes_are_equally_likely_and_can_be_told_apart():
    digits = drawn(1000, 3)
    # each count is binomial (1000, 1/10), sd 9.5: 55 away has a probability under 1e-7; the seed is fixed
    assert np.abs(np.bincount(digits.classes, minlength=10) - 100).max() < 55
    means = np.stack([digits.images[digits.classes == c].mean(0) for c in range(10)])
    fresh = drawn(300, 4)
    distances = ((fresh.images[:, None] - means) ** 2).sum((2, 3))
    assert (distances.argmin(1) == fresh.classes).mean() > 0.8


# the real thing


@pytest.mark.parametrize("name", list(DATASETS))
def test_real_data(name):
    folder = cache_folder(name)
    if any(find(folder, file) is None for split in FILES.values() for file in split):
        pytest.skip(f"no {name} in {folder}; intermode data {name} fetches it")
    train, test = load(folder, "train"), load(folder, "test")
    assert (len(train), len(test)) == (60_000, 10_000)
    if name == "mnist":
        published = [5923, 6742, 5958, 6131, 5842, 5421, 5918, 6265, 5851, 5949]
        assert np.bincount(train.classes).tolist() == published
        # as the literature normalises MNIST: mean 0.1307, standard deviation 0.3081
        assert (train.images / 255).mean() == pytest.approx(0.1307, abs=1e-4)
        assert (train.images / 255).std() == pytest.approx(0.3081, abs=1e-4)
    else:
        assert np.bincount(train.classes).tolist() == [6000] * 10
