"""From a folder of images to its best part, by the command line: the input stays, what is written is what was asked."""

import csv
import json
import shutil
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from intermode import cli
from intermode.denoisers import NetworkDenoiser
from intermode.models import save_model
from intermode.networks import build
from intermode.schedules import linear

SETTINGS = ["--detectors", "hal-renoise", "--window", "0", "9", "--count", "2"]
OTHER_SETTINGS = [*SETTINGS[:-1], "3"]


def tree(folder):
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


def listed(path):
    """Ids and scores of a list that filter wrote, NaN where there is none."""
    with path.open(newline="") as file:
        header, *rows = csv.reader(file)
    assert header == ["id", "hal-renoise"]
    return [row[0] for row in rows], np.array([float(row[1] or "nan") for row in rows])


@pytest.fixture(scope="module")
def prepared(tmp_path_factory):
    """A model of 8×8 colour images, 30 images of which one is truncated, with metadata, and their scores."""
    place = tmp_path_factory.mktemp("prepared")
    network = build({"kind": "unet", "sample_size": 8, "in_channels": 3, "patch": 4, "channels": [32]}, 1)
    save_model(place / "model", NetworkDenoiser(network, linear(20)), {"seed": 1})
    rng = np.random.default_rng(0)
    for k in range(30):
        path = place / "images" / f"class {k % 3}" / f"{k:02d}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(rng.integers(0, 1 + 8 * k, (8, 8, 3), dtype=np.uint8)).save(path)
    broken = place / "images" / "class 1" / "07.png"
    broken.write_bytes(broken.read_bytes()[:-30])
    names = [f"class {k % 3}/{k:02d}.png" for k in range(30)]
    (place / "images" / "metadata.csv").write_text("file_name,n\n" + "".join(f"{n},{k}\n" for k, n in enumerate(names)))
    args = ["score", "model", "images", "--out", "scores.parquet", *SETTINGS]
    with pytest.MonkeyPatch.context() as patched:
        patched.chdir(place)
        assert cli.main(args) == 0
    return place


@pytest.fixture
def here(prepared, tmp_path, monkeypatch):
    shutil.copytree(prepared, tmp_path / "here")
    monkeypatch.chdir(tmp_path / "here")
    return tmp_path / "here"


@pytest.fixture
def done(here, capsys):
    """Runs a command that must succeed and change nothing that was there; returns what it printed."""

    def run(*args):
        before = tree(here)
        status = cli.main([str(arg) for arg in args])
        said = capsys.readouterr()
        assert status == 0, said.err
        after = tree(here)
        assert {name: after[name] for name in before} == before
        return said.out

    return run


@pytest.fixture
def refused(here, capsys):
    """Runs a command that must be refused: one line, and not a byte changed; returns the line."""

    def run(*args):
        before = tree(here)
        assert cli.main([str(arg) for arg in args]) == 2
        said = capsys.readouterr()
        assert said.out == ""
        assert said.err.count("\n") == 1
        assert tree(here) == before
        return said.err

    return run


def scores_of(path="scores.parquet"):
    table = pq.read_table(path)
    return table.column("id").to_pylist(), table.column("hal-renoise").to_numpy()


def test_the_best_part_of_a_folder_is_one_with_its_metadata(done, here):
    ids, scores = scores_of()
    assert ids == sorted(f"class {k % 3}/{k:02d}.png" for k in range(30))
    assert [name for name, score in zip(ids, scores, strict=True) if np.isnan(score)] == ["class 1/07.png"]
    assert Path("scores.parquet.skipped.csv").read_text().startswith("id,reason\nclass 1/07.png,")
    said = done("filter", "images", "--scores", "scores.parquet", "--kept", "0.75", "--out", "out")
    assert said.startswith("kept: 22 of 30 in out")  # ceil(0.75 * 29), of those that could be read
    best = sorted(np.argsort(scores)[:22])
    original, kept, rejected = tree(here / "images"), tree(here / "out/kept"), tree(here / "out/rejected")
    assert sorted(kept) == [*sorted(ids[row] for row in best), "metadata.csv"]
    assert len(rejected) == 7 + 1
    for part in (kept, rejected):
        assert all(content == original[name] for name, content in part.items() if name != "metadata.csv")
        rows = part["metadata.csv"].decode().splitlines()[1:]
        assert sorted(row.split(",")[0] for row in rows) == sorted(part)[:-1]
        assert set(rows) <= set(original["metadata.csv"].decode().splitlines())
    names, values = listed(here / "out/kept_scores.csv")
    assert names == [ids[row] for row in best]
    assert np.array_equal(values, scores[best])
    names, values = listed(here / "out/rejected_scores.csv")
    worst = sorted(np.argsort(scores)[22:])  # NaN, which could not be read, among them
    assert names == [ids[row] for row in worst]
    assert np.array_equal(values, scores[worst], equal_nan=True)
    record = json.loads((here / "out/threshold.json").read_text())
    assert record["value"] == scores[best].max()
    assert (record["samples"], record["kept"], record["skipped"], record["score"]) == (30, 22, 1, "hal-renoise")
    with Image.open(here / "out/sheet.png") as sheet:
        assert min(sheet.size) > 300
    assert sorted(p.name for p in (here / "out").iterdir()) == sorted(
        ["kept", "rejected", "kept_scores.csv", "rejected_scores.csv", "threshold.json", "sheet.png"]
    )


def test_labels_by_name_may_be_of_some_images(done, here):
    ids, scores = scores_of()
    known = [row for row in range(0, 30, 2) if not np.isnan(scores[row])]
    bad = {ids[row]: int(scores[row] > np.nanmedian(scores)) for row in reversed(known)}
    lines = [f"{name},{label}" for name, label in bad.items()]
    Path("labels.csv").write_text("\n".join(["id,label", *lines, "class 1/07.png,1"]) + "\n")
    done("filter", "images", "--scores", "scores.parquet", "--labels", "labels.csv", "--removed", "1e-9", "--out", "a")
    done("filter", "images", "--scores", "scores.parquet", "--labels", "labels.csv", "--removed", "0.99", "--out", "b")
    largest, smallest = (pick(s for n, s in zip(ids, scores, strict=True) if bad.get(n)) for pick in (max, min))
    for folder, limit in (("a", largest), ("b", smallest)):
        assert json.loads(Path(folder, "threshold.json").read_text())["value"] == np.nextafter(limit, -np.inf)


def test_a_reference_may_be_a_file_of_scores(done, refused, here):
    _, scores = scores_of()
    args = ["filter", "images", "--scores", "scores.parquet", "--reference", "reference.parquet"]
    shutil.copy("scores.parquet", "reference.parquet")
    done(*args, "--alpha", "0.1", "--out", "out")
    # ceil(30 * 0.9) = 27th smallest of the 29 that could be read
    assert json.loads(Path("out/threshold.json").read_text())["value"] == np.sort(scores)[26]
    done("score", "model", "images", "--out", "reference.csv", *OTHER_SETTINGS)
    Path("reference.parquet").unlink()
    done("score", "model", "images", "--out", "reference.parquet", *OTHER_SETTINGS)
    said = refused(*args, "--out", "b")
    assert "was scored otherwise than scores.parquet" in said
    assert "timesteps 0 4 9 there and t = 0..9, timesteps 0 9 here" in said


def test_a_parquet_file_keeps_its_columns(done, here):
    images = [p.read_bytes() for p in sorted((here / "images").rglob("*.png"))]
    table = pa.table({"image": images, "text": [f"t{k}" for k in range(30)]})
    pq.write_table(table, "data.parquet")
    done("score", "model", "data.parquet", "--out", "own.csv", *SETTINGS)
    rows, scores = listed(here / "own.csv")
    assert rows == [str(k) for k in range(30)]
    assert np.allclose(scores, scores_of()[1], rtol=1e-5, equal_nan=True)  # the same images in the same order
    done("filter", "data.parquet", "--scores", "own.csv", "--kept", "0.5", "--out", "out")
    chosen = [int(name) for name in listed(here / "out/kept_scores.csv")[0]]
    assert pq.read_table("out/kept.parquet").equals(table.take(pa.array(chosen)))
    assert Path("out/sheet.png").exists()


def test_numbers_get_no_sheet_of_images(done, here):
    np.save("data.npy", np.arange(6.0))
    np.save("own.npy", np.arange(6.0))
    done("filter", "data.npy", "--scores", "own.npy", "--kept", "0.5", "--out", "out")
    assert not Path("out/sheet.png").exists()


def _other_model(here):
    network = build({"kind": "mlp", "dimensions": 2, "width": 8, "blocks": 1}, 1)
    save_model(here / "flat", NetworkDenoiser(network, linear(20)), {})


@pytest.mark.parametrize(
    ("args", "expected"),
    [
        ("score model images --out s.parquet --strict", "class 1/07.png of images cannot be read"),
        ("score flat images --out s.parquet", "data: images holds images; the model takes samples of shape (2,)"),
        ("score model odd --out s.parquet", "odd holds images of height × width: 1 of 9×8 (x.png say)"),
        ("score model images --out images/s.parquet", "out: images/s.parquet lies in the data's folder images"),
        ("score model images --out s.parquet --chunk 0", "chunk: 0 must be at least 1"),
        ("score model images --out s.parquet --device tpu", "device: tpu is not available"),
        ("score model images --out s.parquet --column x", "column: images is no table"),
        ("score model none --out s.parquet", "data: none not found"),
        ("filter images --scores scores.parquet --kept 0.5 --out images/new", "lies in the data's folder images"),
        ("filter images --scores scores.parquet --kept 0.5 --out odd", "out: odd is not an empty folder"),
        ("filter images --kept 0.5 --out o", "scores: images holds none; give --scores FILE"),
        ("filter odd --scores scores.parquet --kept 0.5 --out o", "scores: 30 for 1 samples; need one for each"),
        ("filter same --scores scores.parquet --kept 0.5 --out o", "holds scores of other data than same (digest"),
        ("filter images --scores scores.parquet --by x --kept 0.5 --out o", "has no column 'x'; choose from hal-ren"),
        ("filter images --scores scores.parquet --labels l.csv --out o", "labels: l.csv names 1 samples that images"),
        ("filter images --scores scores.parquet --labels m.csv --out o", "labels: m.csv must hold numbers, each 0 or"),
    ],
)
def test_bad_input_is_one_line_and_leaves_nothing(refused, here, args, expected):
    _other_model(here)
    Path("odd").mkdir()
    Image.new("RGB", (8, 9)).save("odd/x.png")
    shutil.copytree("images", "same")
    Path("same/class 0/00.png").write_bytes(Path("same/class 0/03.png").read_bytes())
    Path("l.csv").write_text("id,label\nclass 9/x.png,1\n")
    Path("m.csv").write_text("id,label\nclass 0/00.png,2\n")
    assert expected in refused(*args.split())
