"""Data sets of every form: the same pixels read the same, a subset is what the original holds, nothing is changed."""

import io
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from PIL import Image

from intermode.data import open_source
from intermode.errors import InputError
from intermode.files import load_tensors, save_tensors

SHAPE = (3, 6, 5)


def tree(folder):
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


def encoded(image, kind="PNG"):
    file = io.BytesIO()
    Image.fromarray(image).save(file, kind)
    return file.getvalue()


@pytest.fixture(scope="module")
def pixels():
    """Seven colour images, no two rows, columns or channels alike."""
    return np.random.default_rng(0).integers(0, 256, (7, 6, 5, 3), dtype=np.uint8)


@pytest.fixture
def folder(tmp_path, pixels):
    """They as files, in folders, with metadata; and what is no sample."""
    place = tmp_path / "images"
    for k, image in enumerate(pixels):
        path = place / ("cats" if k < 3 else "dogs/big") / f"{k}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(encoded(image))
    (place / "notes.txt").write_text("no image")
    (place / ".hidden").mkdir()
    (place / ".hidden" / "x.png").write_bytes(encoded(pixels[0]))
    (place / "cats" / ".0.png").write_bytes(b"no sample either")
    (place / "metadata.csv").write_text(
        "label,file_name,text\r\n"
        + "".join(
            f'{k % 2},{"cats" if k < 3 else "./dogs/big"}/{k}.png,"line one\nof {k}, quoted"\r\n' for k in range(7)
        ),
        newline="",
    )
    lines = [json.dumps({"file_name": f"big/{k}.png", "é": k}, ensure_ascii=False) for k in range(3, 7)]
    (place / "dogs" / "metadata.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")
    return place


def _table(pixels, column):
    n = len(pixels)
    return pa.table(
        {
            "caption": [f"number {k}" for k in range(n)],
            "image": column,
            "score": pa.array(np.arange(n) / 3),
        }
    )


def _image_column(images):
    return pa.array(
        [{"bytes": image, "path": f"{k}.png"} for k, image in enumerate(images)],
        pa.struct([("bytes", pa.binary()), ("path", pa.string())]),
    )


def _flat(pixels):
    return pixels.transpose(0, 3, 1, 2).reshape(len(pixels), -1)


def _fixed(pixels):
    flat = _flat(pixels)
    return pa.FixedSizeListArray.from_arrays(pa.array(flat.ravel()), flat.shape[1])


def as_parquet(path, pixels, column, **settings):
    pq.write_table(_table(pixels, column), path, **settings)
    return path


def as_dataset(path, pixels):
    datasets = pytest.importorskip("datasets")
    datasets.disable_progress_bars()
    images = [{"bytes": encoded(image), "path": None} for image in pixels]
    features = datasets.Features({"n": datasets.Value("int64"), "image": datasets.Image()})
    data = datasets.Dataset.from_dict({"n": list(range(len(pixels))), "image": images}, features=features)
    data.save_to_disk(str(path), num_shards=2)
    return path


FORMS = {
    "uint8 (H, W, C)": lambda p, x: np.save(p / "x.npy", x) or p / "x.npy",
    "uint8 (C, H, W)": lambda p, x: np.save(p / "x.npy", x.transpose(0, 3, 1, 2)) or p / "x.npy",
    "Fortran order": lambda p, x: np.save(p / "x.npy", np.asfortranarray(x)) or p / "x.npy",
    "floats": lambda p, x: np.save(p / "x.npy", (x.transpose(0, 3, 1, 2) / 127.5 - 1)) or p / "x.npy",
    "safetensors": lambda p, x: (
        save_tensors(p / "x.safetensors", {"samples": torch.from_numpy(x), "n": torch.arange(7)}) or p / "x.safetensors"
    ),
    "parquet": lambda p, x: as_parquet(p / "x.parquet", x, _image_column(map(encoded, x)), row_group_size=3),
    "parquet binary": lambda p, x: as_parquet(p / "x.parquet", x, pa.array([encoded(image) for image in x])),
    "parquet flat lists": lambda p, x: as_parquet(p / "x.parquet", x, _fixed(x)),
    "parquet nested lists": lambda p, x: as_parquet(p / "x.parquet", x, pa.array(x.tolist(), NESTED_UINT8)),
    "datasets": lambda p, x: as_dataset(p / "x", x),
}
NESTED_UINT8 = pa.list_(pa.list_(pa.list_(pa.uint8())))


@pytest.mark.parametrize("form", FORMS)
def test_every_form_of_the_same_pixels_reads_the_same(tmp_path, pixels, form):
    source = open_source(FORMS[form](tmp_path, pixels), SHAPE)
    expected = torch.from_numpy(pixels.transpose(0, 3, 1, 2).astype(np.float64) / 127.5 - 1)
    assert len(source) == 7
    assert source.ids(2, 5) == ["2", "3", "4"]
    for size, first in ((1, 0), (3, 0), (4, 2), (10, 0), (2, 5)):
        blocks = list(source.blocks(size, first))
        assert [len(block.values) for block in blocks][:-1] == [size] * (len(blocks) - 1)
        assert [block.first for block in blocks] == list(range(first, 7, size))
        assert not any(block.unread for block in blocks)
        values = torch.cat([block.values for block in blocks])
        assert values.dtype == torch.float32
        assert values.shape == (7 - first, *SHAPE)
        assert (values.double() - expected[first:]).abs().max() < 1e-6
    assert source.has_pictures == (form != "parquet flat lists")
    if not source.has_pictures:
        return
    shown = source.pictures([6, 1])
    for picture, k in zip(shown, (6, 1), strict=True):
        assert np.abs(picture - (pixels[k] / 127.5 - 1)).max() < 1e-6


def test_a_folder_reads_its_images_in_the_order_of_their_paths(folder, pixels):
    source = open_source(folder, SHAPE)
    assert source.ids(0, 7) == [f"{'cats' if k < 3 else 'dogs/big'}/{k}.png" for k in range(7)]
    values = torch.cat([block.values for block in source.blocks(4, 1)])
    assert (values.double() - torch.from_numpy(pixels[1:].transpose(0, 3, 1, 2) / 127.5 - 1)).abs().max() < 1e-6


def test_channels_are_those_of_the_model(tmp_path, pixels):
    grey = pixels[0, ..., 0]
    kinds = {"a": pixels[0], "b": grey, "c": np.dstack([pixels[1], grey])}
    (tmp_path / "x").mkdir()
    for name, image in kinds.items():
        (tmp_path / "x" / f"{name}.png").write_bytes(encoded(image))
    (block,) = open_source(tmp_path / "x", (1, 6, 5)).blocks(9)
    luma = pixels[0].astype(float) @ [0.299, 0.587, 0.114]
    assert np.abs((block.values[0, 0].numpy() + 1) * 127.5 - luma).max() < 0.51
    assert np.abs((block.values[1, 0].numpy() + 1) * 127.5 - grey).max() < 1e-4
    (block,) = open_source(tmp_path / "x", SHAPE).blocks(9)
    assert torch.equal(block.values[1], block.values[1, :1].expand(SHAPE))
    assert np.abs((block.values[2].numpy() + 1) * 127.5 - pixels[1].transpose(2, 0, 1)).max() < 1e-4  # no matte
    np.save(tmp_path / "grey.npy", pixels[..., 0])
    (block,) = open_source(tmp_path / "grey.npy", (1, 6, 5)).blocks(9)
    assert np.abs((block.values[:, 0].numpy() + 1) * 127.5 - pixels[..., 0]).max() < 1e-4


def test_numbers_that_are_no_pixels_are_taken_as_they_are(tmp_path):
    values = np.random.default_rng(1).normal(size=(5, 4)) * 100
    np.save(tmp_path / "x.npy", values)
    np.save(tmp_path / "bytes.npy", np.arange(20, dtype=np.uint8).reshape(5, 4))
    pq.write_table(pa.table({"x": pa.array(values.tolist())}), tmp_path / "x.parquet")
    save_tensors(tmp_path / "x.safetensors", {"any": torch.from_numpy(values).bfloat16()})
    for name, expected in (
        ("x.npy", values.astype(np.float32)),
        ("x.parquet", values.astype(np.float32)),
        ("bytes.npy", np.arange(20, dtype=np.float32).reshape(5, 4)),
        ("x.safetensors", torch.from_numpy(values).bfloat16().float().numpy()),
    ):
        source = open_source(tmp_path / name, (4,))
        assert np.array_equal(torch.cat([block.values for block in source.blocks(2)]).numpy(), expected)
        assert not source.has_pictures


def test_what_cannot_be_decoded_is_named_and_leaves_the_others_alone(folder, tmp_path, pixels):
    whole = torch.cat([block.values for block in open_source(folder, SHAPE).blocks(9)])
    cut = encoded(pixels[1])[:-40]
    (folder / "cats" / "1.png").write_bytes(cut)
    (folder / "dogs" / "big" / "4.png").write_bytes(b"hello")
    (folder / "dogs" / "big" / "5.png").write_bytes(encoded(pixels[5, ..., 0].astype(np.uint16) * 256))
    (block,) = open_source(folder, SHAPE).blocks(9)
    assert set(block.unread) == {1, 4, 5}
    assert "truncated" in block.unread[1] or "broken" in block.unread[1]
    assert block.unread[4] == "no image"
    assert block.unread[5] == "mode I;16, not 8 bits a channel"
    good = [0, 2, 3, 6]
    assert torch.equal(block.values[good], whole[good])
    assert open_source(folder).pictures([4, 0])[0] is None

    images = [encoded(image) for image in pixels]
    images[1], images[4] = cut, None
    path = as_parquet(tmp_path / "x.parquet", pixels, _image_column(images))
    (block,) = open_source(path, SHAPE).blocks(9)
    assert set(block.unread) == {1, 4}
    assert block.unread[4] == "holds no bytes"
    assert torch.equal(block.values[[0, 2, 3, 5, 6]], whole[[0, 2, 3, 5, 6]])
    lists = [None if k == 2 else row for k, row in enumerate(_flat(pixels).tolist())]
    path = as_parquet(tmp_path / "y.parquet", pixels, pa.array(lists, pa.list_(pa.uint8())))
    blocks = list(open_source(path, SHAPE).blocks(2))
    assert [dict(block.unread) for block in blocks] == [{}, {2: "null"}, {}, {}]
    assert torch.equal(torch.cat([b.values for b in blocks])[[0, 1, 3, 4, 5, 6]], whole[[0, 1, 3, 4, 5, 6]])


# a subset in its own form

ROWS = np.array([0, 3, 4, 6])


def test_a_subset_of_a_folder_is_its_files_and_their_rows(folder, tmp_path):
    before = tree(folder)
    open_source(folder).write(ROWS, tmp_path / "kept")
    kept = tree(tmp_path / "kept")
    images = ["cats/0.png", "dogs/big/3.png", "dogs/big/4.png", "dogs/big/6.png"]
    assert sorted(kept) == [*images, "dogs/metadata.jsonl", "metadata.csv"]
    assert all(kept[name] == before[name] for name in images)
    header, *records = before["metadata.csv"].decode().split("\r\n")[:-1]
    assert kept["metadata.csv"].decode().split("\r\n")[:-1] == [header, *(records[row] for row in ROWS)]
    lines = before["dogs/metadata.jsonl"].decode().splitlines()
    assert kept["dogs/metadata.jsonl"].decode().splitlines() == [lines[0], lines[1], lines[3]]
    assert tree(folder) == before
    open_source(folder).write(np.array([1]), tmp_path / "cats alone")
    assert sorted(tree(tmp_path / "cats alone")) == ["cats/1.png", "metadata.csv"]


def test_metadata_without_file_names_is_not_lost_silently(folder, tmp_path):
    (folder / "metadata.csv").write_text("name,label\ncats/0.png,1\n")
    with pytest.raises(InputError, match=r"metadata\.csv is no metadata with a file_name in each row"):
        open_source(folder).write(ROWS, tmp_path / "kept")


@pytest.mark.parametrize("compression", ["snappy", "zstd", "none"])
def test_a_subset_of_a_parquet_file_has_every_column_and_the_schema(tmp_path, pixels, compression):
    table = _table(pixels, _image_column(map(encoded, pixels))).replace_schema_metadata({"huggingface": '{"info": 1}'})
    pq.write_table(table, tmp_path / "x.parquet", row_group_size=3, compression=compression)
    before = (tmp_path / "x.parquet").read_bytes()
    open_source(tmp_path / "x.parquet").write(ROWS, tmp_path / "kept.of.it")
    kept = pq.ParquetFile(tmp_path / "kept.of.it.parquet")
    assert kept.read().equals(table.take(pa.array(ROWS)), check_metadata=True)
    original = pq.ParquetFile(tmp_path / "x.parquet").metadata.row_group(0)
    columns = range(original.num_columns)
    assert {kept.metadata.row_group(0).column(k).compression for k in columns} == {
        original.column(k).compression for k in columns
    }
    open_source(tmp_path / "x.parquet").write(np.array([], dtype=np.int64), tmp_path / "none")
    assert pq.read_table(tmp_path / "none.parquet").equals(table.slice(0, 0), check_metadata=True)
    assert (tmp_path / "x.parquet").read_bytes() == before


def test_a_subset_of_a_datasets_folder_is_one(tmp_path, pixels):
    path = as_dataset(tmp_path / "x", pixels)
    import datasets

    before = tree(path)
    source = open_source(path)
    source.write(ROWS, tmp_path / "kept")
    source.write(np.array([], dtype=np.int64), tmp_path / "none")
    assert tree(path) == before
    whole, kept = (datasets.load_from_disk(str(p)) for p in (path, tmp_path / "kept"))
    assert kept.features == whole.features
    assert kept["n"][:] == ROWS.tolist()
    raw = [data.with_format("arrow")[:].column("image").to_pylist() for data in (whole, kept)]
    assert raw[1] == [raw[0][row] for row in ROWS]
    assert len(datasets.load_from_disk(str(tmp_path / "none"))) == 0


@pytest.mark.parametrize("order", ["C", "F"])
def test_a_subset_of_an_array_keeps_its_type(tmp_path, order):
    values = np.asarray(np.random.default_rng(2).normal(size=(7, 3, 2)), dtype=">f2", order=order)
    np.save(tmp_path / "x.npy", values)
    open_source(tmp_path / "x.npy").write(ROWS, tmp_path / "kept")
    kept = np.load(tmp_path / "kept.npy")
    assert kept.dtype == values.dtype
    assert np.array_equal(kept, values[ROWS])
    half = torch.from_numpy(values.astype(np.float32)).bfloat16()
    save_tensors(tmp_path / "x.safetensors", {"samples": half, "n": torch.arange(7), "other": torch.zeros(3)})
    open_source(tmp_path / "x.safetensors").write(ROWS, tmp_path / "kept")
    tensors, _ = load_tensors(tmp_path / "kept.safetensors")
    assert set(tensors) == {"samples", "n"}
    assert torch.equal(tensors["samples"], half[ROWS])
    (tmp_path / "x.csv").write_text("# a note\n" + "".join(f"{k}.50,  1e-3\n\n" for k in range(7)))
    open_source(tmp_path / "x.csv").write(ROWS, tmp_path / "kept")
    assert (tmp_path / "kept.csv").read_text() == "".join(f"{k}.50,  1e-3\n" for k in ROWS)


# which data it is


def test_a_digest_tells_data_sets_apart(folder, tmp_path, pixels):
    digests = [open_source(folder).digest()]
    assert open_source(folder, SHAPE).digest() == digests[0]
    (folder / "notes.txt").write_text("another")
    assert open_source(folder).digest() == digests[0]
    image = folder / "cats" / "0.png"
    image.write_bytes(image.read_bytes() + b"\0")
    digests.append(open_source(folder).digest())
    image.rename(folder / "cats" / "00.png")
    digests.append(open_source(folder).digest())
    for seed in (0, 1):  # arrays of one size, large enough to be read in places only
        np.save(tmp_path / "x.npy", np.random.default_rng(seed).normal(size=100_000))
        digests.append(open_source(tmp_path / "x.npy").digest())
        np.save(tmp_path / "small.npy", np.arange(5) + seed)
        digests.append(open_source(tmp_path / "small.npy").digest())
    assert len(set(digests)) == len(digests)


# what cannot be used


def _mixed(p, x):
    (p / "a").mkdir()
    for k in range(3):
        (p / "a" / f"{k}.png").write_bytes(encoded(x[k][: 6 - k // 2]))
    return p / "a"


def _empty(p, x):
    (p / "a").mkdir()
    return p / "a"


def _several(p, x):
    column = _fixed(x)
    pq.write_table(pa.table({"left": column, "right": column}), p / "x.parquet")
    return p / "x.parquet"


def _written(name, content):
    def write(p, x):
        (p / name).write_bytes(content)
        return p / name

    return write


@pytest.mark.parametrize(
    ("make", "shape", "expected"),
    [
        (_mixed, SHAPE, "holds images of height × width: 2 of 6×5, 1 of 5×5 (2.png say); the model takes 6×5 alone"),
        (_mixed, (3, 9, 9), "holds images of height × width: 2 of 6×5, 1 of 5×5 (0.png say); the model takes 9×9"),
        (_mixed, (2, 6, 5), "holds images, of 1, 3 or 4 channels; the model takes 2"),
        (_mixed, (4,), "holds images; the model takes samples of shape (4,)"),
        (_empty, None, "holds no images (.png, .jpg,"),
        (_written("x.txt", b"1"), None, "must be a folder (of images, or written by datasets) or end in .npy, .csv"),
        (_written("x.parquet", b"PAR1"), None, "cannot be read as parquet"),
        (lambda p, x: p / "none.parquet", None, "not found"),
        (FORMS["uint8 (C, H, W)"], (1, 6, 5), "each row of"),
        (FORMS["floats"], (3, 5, 6), "has shape (3, 6, 5); must be (3, 5, 6)"),
        (FORMS["parquet"], (4,), "holds images; the model takes samples of shape (4,)"),
        (FORMS["parquet"], (3, 5, 5), "row 0 of"),
        (FORMS["parquet flat lists"], (4,), "has shape (90,); must be (4,)"),
        (_several, SHAPE, "has several columns that can hold samples (left, right); give --column"),
        (
            lambda p, x: as_parquet(p / "x.parquet", x, pa.array([[1.0] * (2 + k // 6) for k in range(7)])),
            (2,),
            "image of",
        ),
        (
            lambda p, x: as_parquet(p / "x.parquet", x, pa.array(["a.png"] * 7)),
            SHAPE,
            "has no column of images or of lists of numbers (found: caption, image, score)",
        ),
    ],
)
def test_data_that_does_not_fit_is_refused_in_one_line(tmp_path, pixels, make, shape, expected):
    path = make(tmp_path, pixels)
    with pytest.raises(InputError) as refused:
        list(open_source(path, shape).blocks(4))
    assert expected in str(refused.value)
    assert str(refused.value).startswith("data: ")
    assert "\n" not in str(refused.value)


def test_a_column_is_chosen_by_name(tmp_path, pixels):
    flat = _flat(pixels)
    both = {"left": pa.array(flat.tolist(), pa.list_(pa.uint8())), "right": _fixed(255 - pixels)}
    pq.write_table(pa.table(both), tmp_path / "x.parquet")
    left, right = (next(open_source(tmp_path / "x.parquet", SHAPE, column=name).blocks(9)).values for name in both)
    assert torch.allclose(left, -right, atol=1e-6)
    for column, expected in (("none", "has no 'none'; choose from left, right"), ("n", "holds int64; must be images")):
        pq.write_table(pa.table(both | ({"n": np.arange(7)} if column == "n" else {})), tmp_path / "y.parquet")
        with pytest.raises(InputError, match=expected):
            open_source(tmp_path / "y.parquet", SHAPE, column=column)
    np.save(tmp_path / "x.npy", flat)
    with pytest.raises(InputError, match=r"column: .* is no table"):
        open_source(tmp_path / "x.npy", column="left")


def test_a_dataset_of_several_splits_asks_for_one(tmp_path, pixels):
    (tmp_path / "x").mkdir()
    (tmp_path / "x" / "dataset_dict.json").write_text('{"splits": ["train"]}')
    (tmp_path / "x" / "train").mkdir()
    (tmp_path / "x" / "train" / "state.json").write_text("{}")
    with pytest.raises(InputError, match=r"holds several splits; give one of them: .*x/\(train\)"):
        open_source(tmp_path / "x")


def test_without_datasets_its_extra_is_named(tmp_path, monkeypatch):
    Path(tmp_path / "state.json").write_text("{}")
    monkeypatch.setitem(sys.modules, "datasets", None)
    with pytest.raises(InputError, match=r"needs datasets; install it with: pip install 'intermode\[datasets\]'"):
        open_source(tmp_path)


# columns


def test_every_form_tells_its_columns(tmp_path, pixels, folder):
    parquet = open_source(as_parquet(tmp_path / "x.parquet", pixels, _image_column(map(encoded, pixels))))
    assert parquet.column("caption").tolist() == [f"number {k}" for k in range(7)]
    data = open_source(as_dataset(tmp_path / "x", pixels))
    assert data.column("n").tolist() == list(map(str, range(7)))
    save_tensors(tmp_path / "x.safetensors", {"samples": torch.zeros(7, 2), "class": torch.arange(7)})
    tensors = open_source(tmp_path / "x.safetensors")
    assert tensors.column("class").tolist() == list(map(str, range(7)))
    images = open_source(folder)
    assert images.column("label").tolist() == ["0", "1", "0", "1", "0", "1", "0"]  # of its metadata
    (folder / "metadata.csv").unlink()
    assert images.ids(0, 7) == open_source(folder).ids(0, 7)
    assert open_source(folder).column("label").tolist() == ["cats"] * 3 + ["dogs/big"] * 4
    (folder / "cats" / "metadata.csv").write_text("file_name,é\n0.png,10\n1.png,11\n2.png,12\n")
    assert open_source(folder).column("é").tolist() == ["10", "11", "12", "3", "4", "5", "6"]
    np.save(tmp_path / "x.npy", pixels)
    for source in (parquet, data, tensors, open_source(folder), open_source(tmp_path / "x.npy")):
        with pytest.raises(InputError, match=r"^within: .* has no (column )?'kind'"):
            source.column("kind")
    with pytest.raises(InputError, match="no column 'samples' of 7 values"):
        tensors.column("samples")


# writing in bounded memory


def test_tensors_of_every_kind_are_copied_bit_by_bit(tmp_path, monkeypatch):
    monkeypatch.setattr("intermode.data.arrays.PIECE", 40)  # a few rows at a time
    rng = np.random.default_rng(0)
    bits = torch.from_numpy(rng.integers(0, 256, (50, 3, 8), dtype=np.uint8))
    kinds = (torch.uint8, torch.int64, torch.float16, torch.bfloat16, torch.float32, torch.float64)
    tensors = {f"{kind}": bits.view(kind).clone() for kind in kinds}
    tensors |= {"flags": torch.from_numpy(rng.random(50) < 0.5), "a": torch.zeros(3)}
    save_tensors(tmp_path / "x.safetensors", tensors | {"samples": bits})
    source = open_source(tmp_path / "x.safetensors")
    rows = np.flatnonzero(rng.random(50) < 0.4)
    for chosen in (rows, np.arange(0), np.arange(50), np.array([49])):
        written = source.write(chosen, tmp_path / "part")
        assert written == tmp_path / "part.safetensors"
        found, _ = load_tensors(written)
        assert set(found) == {*tensors, "samples"} - {"a"}  # which has no row for each sample
        for name, tensor in found.items():
            whole = tensors.get(name, bits)
            assert tensor.dtype == whole.dtype
            assert tensor.shape == (len(chosen), *whole.shape[1:])
            if tensor.is_floating_point():  # NaN equals itself bit by bit
                as_bits = {2: torch.int16, 4: torch.int32, 8: torch.int64}[tensor.element_size()]
                tensor, whole = tensor.view(as_bits), whole.view(as_bits)
            assert torch.equal(tensor, whole[chosen])


def test_a_subset_of_a_large_file_takes_little_memory(tmp_path):
    """400 MB of tensors, of which half is written, in a process that may grow by 150 MB."""
    code = (
        "import resource, sys, numpy as np, torch\n"
        "from pathlib import Path\n"
        "from intermode.data import open_source\n"
        "from intermode.files import save_tensors\n"
        "source = open_source(Path('x.safetensors'))\n"
        "peak = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_maxrss\n"
        "source.write(np.arange(0, 10), Path('warm'))\n"
        "before = peak()\n"
        "source.write(np.arange(0, len(source), 2), Path('part'))\n"
        "print((peak() - before) / 1024)"
    )
    save_tensors(tmp_path / "x.safetensors", {"samples": torch.zeros(100_000, 1000), "score.hal": torch.zeros(100_000)})
    ended = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=True)
    assert float(ended.stdout) < 150
    assert load_tensors(tmp_path / "part.safetensors", lambda name: name == "score.hal")[0]["score.hal"].shape == (
        50_000,
    )
